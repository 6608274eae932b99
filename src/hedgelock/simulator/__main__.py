"""`python -m hedgelock.simulator`: the exchange as a child of `hedgelock run`, script held.

Apart from the engine's code on purpose: it loads no service, no bus and no client library.
"""

from __future__ import annotations

import sys

from hedgelock.config import Mode, load
from hedgelock.errors import ConfigError
from hedgelock.simulator import server
from hedgelock.telemetry import log


def main() -> int:
    """Serve the configured scenario until SIGTERM; 2 when the configuration or port is wrong."""
    try:
        settings = load()
        sim = settings.sim
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log.configure()
    try:
        server.run(
            sim.scenario,
            port=sim.port,
            speed=float(sim.speed),
            wait=True,
            seed=sim.seed,
            host=sim.host,
            live=settings.trading_mode is Mode.PAPER,
        )
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (OSError, ValueError) as error:
        sys.stderr.write(
            f"the simulator cannot listen on {sim.host}:{sim.port}: {error}; "
            f"stop what uses the port or set SIM__PORT\n"
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
