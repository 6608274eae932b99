"""Image, compose file and Prometheus configuration fit each other and the settings."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

from hedgelock.config import load
from hedgelock.config.load import variables
from hedgelock.config.machine import HttpSettings

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = ("collector", "funding-engine", "risk-engine", "hedger", "trade-executor", "safety")


@pytest.fixture
def file() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return parsed


def test_compose_file_is_valid(file: dict[str, Any]) -> None:
    """Only keys we know, published on this machine only, no dangling reference."""
    assert list(compose.problems(file)) == []


def test_every_service_is_a_container(file: dict[str, Any]) -> None:
    """One container per service from the one image, with its own two ports and healthcheck."""
    http = HttpSettings()
    for name in SERVICES:
        service = file["services"][name]
        ports = http.ports(name)
        assert service["image"] == "hedgelock:latest"
        assert service["command"] == ["service", name]
        assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
        assert service["healthcheck"]["test"] == ["CMD", "hedgelock", "healthcheck", name]
    assert {"kafka", "kafka-ui", "prometheus", "simulator"} <= file["services"].keys()
    assert file["services"]["kafka-ui"]["ports"] == ["127.0.0.1:8080:8080"]


def test_containers_get_settings_that_exist(file: dict[str, Any]) -> None:
    """Every variable given to a container is a setting, and together they are accepted."""
    known = {variable.name for variable in variables()}
    for name in (*SERVICES, "simulator"):
        environment = file["services"][name]["environment"]
        assert environment.keys() <= known
        settings = load(environment, env_file=None)
        assert settings.endpoint("main").rest_url == "http://simulator:8010"
        assert settings.kafka.bootstrap_servers == "kafka:9092"


def _change(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(file: dict[str, Any]) -> None:
        inner = file
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    "plant",
    [
        _change("sevices", value={}),
        _change("services", "hedger", "healtcheck", value={}),
        _change("services", "hedger", "ports", value=["8003:8003"]),
        _change("services", "hedger", "ports", value=["0.0.0.0:8003:8003"]),
        _change("services", "hedger", "ports", value=["127.0.0.1:8001:8001"]),
        _change("services", "hedger", "image", value="hedgelock"),
        _change("services", "kafka", "image", value="apache/kafka:latest"),
        _change("services", "hedger", "depends_on", value={"kafak": {"condition": "service_started"}}),
        _change("services", "hedger", "depends_on", value={"kafka": {"condition": "ready"}}),
        _change("services", "hedger", "depends_on", value={"kafka-ui": {"condition": "service_healthy"}}),
        _change("services", "kafka", "volumes", value=["lost:/data"]),
        _change("services", "kafka", "environment", "KAFKA_NODE_ID", value=1),
        _change("services", "hedger", "healthcheck", "test", value=["CMD", "hedgelock healthcheck"]),
        _change("services", "hedger", "healthcheck", "interval", value="10"),
        _change("services", "hedger", "healthcheck", "intervall", value="10s"),
    ],
)
def test_a_planted_mistake_is_noticed(
    file: dict[str, Any], plant: Callable[[dict[str, Any]], None]
) -> None:
    """Every kind of mistake that the check is for is found when planted."""
    changed = copy.deepcopy(file)
    plant(changed)
    assert list(compose.problems(changed))


def test_prometheus_scrapes_every_service() -> None:
    """One job per service, on the metrics port that the settings say, named like the service."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
    assert config.keys() == {"global", "scrape_configs"}
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    http = HttpSettings()
    expected = {name: [f"{name}:{http.ports(name).metrics}"] for name in SERVICES}
    assert jobs == expected | {"simulator": ["simulator:8010"]}
    assert all(re.fullmatch(r"\d+s", value) for value in config["global"].values())


def test_the_image_is_small_and_without_rights() -> None:
    """Several stages, a slim base, hashes checked, a user without rights, a healthcheck."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    instructions = [line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert instructions.count("FROM") == 2
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11-slim-bookworm"}
    assert "--require-hashes" in text
    assert 'CMD ["hedgelock", "healthcheck"]' in text
    assert instructions.index("USER") > instructions.index("RUN")
    assert re.search(r"^USER 10001$", text, re.MULTILINE)


def test_only_what_is_needed_enters_the_image() -> None:
    """`.dockerignore` starts from nothing, so that no `.env`, key or log can be baked in."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "src",
    }


def test_containers_are_tested_as_root_or_not_at_all(tmp_path: Path) -> None:
    """Who may not make a network gets the command to type and a failure, before anything is built."""
    someone = tmp_path / "id"
    someone.write_text("#!/bin/sh\necho 1000\n")
    someone.chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "scripts" / "test_containers.sh")], capture_output=True, text=True, check=False,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HEDGELOCK_IMAGES": str(tmp_path / "images")},
    )
    assert done.returncode == 1
    assert "sudo make test-containers" in done.stderr
    assert not (tmp_path / "images").exists()


def test_our_image_is_known_as_a_container() -> None:
    """The simulator binds all addresses only where it knows that it is in a container."""
    from hedgelock.cli.start import _CONTAINER_MARKS

    (touched,) = re.findall(r"touch (\S+)", (ROOT / "Dockerfile").read_text("utf-8"))
    assert touched in _CONTAINER_MARKS
