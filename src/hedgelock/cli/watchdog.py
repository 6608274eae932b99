"""`python -m hedgelock.cli.watchdog`: the engine is gone; what it left resting must not fill unwatched.

The supervisor runs it once when the engine cannot be brought back. It holds each account's key lock
while it acts: an engine that lives is never interfered with.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

import structlog

from hedgelock import app
from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.errors import ConfigError, VenueError
from hedgelock.telemetry import log

if TYPE_CHECKING:
    from hedgelock.config import Settings

_log = structlog.get_logger("watchdog")

TIMEOUT_S: Final = 30.0
DONE, LEFT, USAGE = 0, 1, 2


class Canceller(Protocol):
    """A venue that can take back what opens."""

    async def cancel_opening_orders(self) -> tuple[list[str], list[str]]:
        """(cancelled, failed) client order ids."""

    async def close(self) -> None:
        """Release connections."""


async def sweep(settings: Settings) -> int:
    """Every account whose engine is gone; LEFT when something may still rest."""
    clock = SystemClock()
    guards = app.make_guards(settings, clock)
    status = DONE
    for account in settings.account_names():
        lock = app.key_lock(settings, account)
        try:
            lock.acquire("watchdog", now_ms=clock.now_ms())
        except ConfigError as error:
            _log.info("engine_lives", account=account, reason=str(error))
            continue
        exchange = cast(Canceller, app.make_exchange(settings, account, clock, guards=guards))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                cancelled, failed = await exchange.cancel_opening_orders()
        except (VenueError, TimeoutError) as error:
            _log.critical("orders_may_rest", account=account, reason=str(error) or "no answer")
            status = LEFT
        else:
            _log.warning("opening_orders_cancelled", account=account, orders=cancelled)
            if failed:
                _log.critical("orders_may_rest", account=account, orders=failed)
                status = LEFT
        finally:
            await exchange.close()
            lock.release()
    return status


def main() -> int:
    """0 = nothing of ours that opens rests any more."""
    try:
        settings = load()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    app.prepare()
    log.configure(settings.log_level, secrets=settings.secrets())
    return asyncio.run(sweep(settings))


if __name__ == "__main__":
    sys.exit(main())
