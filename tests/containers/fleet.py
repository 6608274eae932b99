"""docker-compose.yml's own services as podman containers, beside a Kafka from the Maven jars.

Every key of a service is translated or named as left out here; an unknown one fails, so that the file
cannot say something that no container was started with. `scripts/test_containers.sh` prepares podman,
the image and a network namespace of our own, in which this runs.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORK, GATEWAY, SUBNET = "hedgelock", "10.89.77.1", "10.89.77.0/24"
KAFKA = f"{GATEWAY}:9092"
OURS = ("collector", "funding-engine", "risk-engine", "hedger", "trade-executor", "safety")
POLL_S = 0.5

_ELSEWHERE = {
    "build": "scripts/test_containers.sh builds the image",
    "env_file": "--env-file, where a test gives one",
    "depends_on": "the order in which Fleet.up starts them",
}


def podman(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run podman; its outcome, whatever it was."""
    return subprocess.run(["podman", *arguments], text=True, capture_output=True, check=False,
                          timeout=timeout_s, stdin=subprocess.DEVNULL)


def must(*arguments: str, timeout_s: float = 60) -> str:
    """Run podman; stdout. Fails with stderr."""
    done = podman(*arguments, timeout_s=timeout_s)
    assert done.returncode == 0, f"podman {arguments[0]}: {done.stderr[-2000:]}"
    return done.stdout.strip()


def options(service: Mapping[str, Any]) -> list[str]:
    """The options of `podman run` that say what the compose file says of a service."""
    found: list[str] = []
    for key, value in service.items():
        if key == "environment":
            found += [f"--env={name}={text}" for name, text in value.items()]
        elif key == "ports":
            found += [f"--publish={port}" for port in value]
        elif key == "cap_drop":
            found += [f"--cap-drop={name}" for name in value]
        elif key == "security_opt":
            found += [f"--security-opt={text.removesuffix(':true')}" for text in value]
        elif key == "tmpfs":
            found += [f"--tmpfs={path}" for path in value]
        elif key in ("init", "read_only"):
            found += [f"--{key.replace('_', '-')}"] if value else []
        elif key == "restart":
            found.append(f"--restart={value}")
        elif key == "stop_grace_period":
            found.append(f"--stop-timeout={value.removesuffix('s')}")
        elif key == "healthcheck":
            found.append("--no-healthcheck")  # `is_healthy` runs it: a timer needs systemd
        elif key not in ("image", "command", *_ELSEWHERE):
            raise AssertionError(f"docker-compose.yml has {key}, which is not translated here")
    return found


class Fleet:
    """All containers of one run, on a network of their own."""

    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        file = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
        self._services: dict[str, dict[str, Any]] = file["services"]
        self._folder = folder
        self._env_file = folder / "env"
        self._env_file.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        self._kafka_pid = 0
        self.seconds: dict[str, float] = {}

    def run(self, name: str) -> None:
        """Start one service under its name in the compose file."""
        service = self._services[name]
        must("run", "--detach", "--name", name, "--network", NETWORK, "--pull=never",
             f"--add-host=kafka:{GATEWAY}", f"--env-file={self._env_file}", *options(service),
             service["image"], *service["command"])

    def up(self) -> None:
        """The simulator, the broker, then every service; returns when all are healthy."""
        must("network", "create", "--subnet", SUBNET, "--gateway", GATEWAY, NETWORK)
        began = time.monotonic()
        self.run("simulator")  # the first container brings the network's bridge up
        self._start_kafka()
        for name in OURS:
            self.run(name)
        for name in ("simulator", *OURS):
            self.until(lambda name=name: self.is_healthy(name), f"{name} to be healthy", 60)
        self.seconds["up"] = time.monotonic() - began

    def _start_kafka(self) -> None:
        script = ROOT / "scripts" / "kafka-broker.sh"
        done = subprocess.run([str(script), str(self._folder / "kafka"), "9092", GATEWAY], text=True,
                              capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        self._kafka_pid = int(done.stdout.split()[-1])

    def is_healthy(self, name: str) -> bool:
        """What the service's healthcheck of the compose file says now."""
        kind, *command = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD", f"{name}: {kind} is not run here"
        return podman("exec", name, *command).returncode == 0

    def until(self, is_so: Callable[[], object], what: str, timeout_s: float) -> Any:
        """Poll until it is so and return that; fails with every container's last words."""
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while not (answer := is_so()):
            assert time.monotonic() < deadline, f"waited for {what}\n{self.logs()}"
            pause.wait(POLL_S)
        return answer

    def inside(self, name: str, *command: str) -> str:
        """What a command says in a running container; fails when it fails."""
        return must("exec", name, *command)

    def sim(self, path: str) -> Any:
        """A page of the simulator, asked for where its control is open: in its own container."""
        ask = "import sys,urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
        return json.loads(self.inside("simulator", "python", "-c", ask,
                                      f"http://127.0.0.1:8010{path}"))

    def state(self, name: str) -> dict[str, Any]:
        """What podman knows of a container now."""
        found: dict[str, Any] = json.loads(must("inspect", name))[0]["State"]
        return found

    def stop(self, name: str) -> int:
        """SIGTERM, within the service's own grace period; the exit status."""
        must("stop", name)
        return int(self.state(name)["ExitCode"])

    def logs(self) -> str:
        """The end of what every container said."""
        names = must("ps", "--all", "--format", "{{.Names}}").split()
        said = {name: podman("logs", "--tail", "4", name) for name in names}
        return "\n".join(f"== {name}\n{x.stdout}{x.stderr}" for name, x in said.items())

    def down(self) -> None:
        """Remove everything, whatever happened."""
        podman("rm", "--all", "--force", "--time=0")
        podman("network", "rm", "--force", NETWORK)
        if self._kafka_pid:
            from kafka_broker import stop_broker

            stop_broker(self._kafka_pid)
