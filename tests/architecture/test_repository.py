"""The repository around the code: no addresses of registries or machines, commands and links that exist."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
_SKIPPED = {".git", ".venv", ".cache", "__pycache__", "data", "node_modules", "htmlcov", "build", "dist"}
_TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".lock", ".txt", ".cfg", ".example", ""}
_PLANTED = Path(__file__).name

_REGISTRY = re.compile(
    "|".join(["py" + r"pi\.org", r"files\.python" + "hosted", r"registry\.npm" + "js", r"repo\d*\.maven",
              r"index-" + "url", r"gh" + r"cr\.io", r"/simple/?\s*$"])
)
_MACHINE = re.compile(r"(?<![\w.])/(home|Users|root|work|mnt)/[A-Za-z]|[A-Z]:\\\\")


def texts() -> Iterator[Path]:
    """Every text file of the tree that git would keep, as far as names tell."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in _SKIPPED and not name.endswith("_cache")
            and name != ".hypothesis"
        ]
        for name in names:
            path = Path(folder) / name
            hidden = name.startswith((".coverage", ".env.")) or name in (".env", ".git")
            if path.suffix in _TEXT and not hidden:
                yield path


def unwanted(text: str) -> list[str]:
    """Addresses of registries and paths of one machine in a text."""
    return [
        line.strip()
        for line in text.splitlines()
        if _REGISTRY.search(line) or _MACHINE.search(line)
    ]


def test_no_registry_address_and_no_machine_path() -> None:
    """The tree builds anywhere: it names no package registry and no folder of one machine."""
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in texts()
        if path.name != _PLANTED
        for line in unwanted(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "--index-" + "url x",
        "https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages/x",
        "cd /home" + "/me/hedgelock",
        "/work" + "/main/.venv/bin/python",
    ],
)
def test_a_planted_address_is_noticed(line: str) -> None:
    """The guard finds what it is for."""
    assert unwanted(line)


def test_lock_files_hold_hashes_and_no_address() -> None:
    """Every locked package has a hash, and no lock names where it came from."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        packages = re.findall(r"^[a-z0-9][\w.-]*==", text, re.MULTILINE)
        assert len(packages) > 20
        assert "://" not in text
        blocks = re.split(r"^(?=[a-z0-9][\w.-]*==)", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in blocks)


def test_both_locks_agree() -> None:
    """What users run is what was tested: every runtime pin is in the development lock too."""
    pin = re.compile(r"^([a-z0-9][\w.-]*==\S+)", re.MULTILINE)
    runtime = set(pin.findall((ROOT / "requirements.lock").read_text("utf-8")))
    developed = set(pin.findall((ROOT / "requirements-dev.lock").read_text("utf-8")))
    assert runtime <= developed


def test_locks_cover_the_declared_dependencies() -> None:
    """A dependency added to pyproject.toml without `make lock` is noticed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    developed = (ROOT / "requirements-dev.lock").read_text("utf-8")
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")
        assert re.search(rf"^{re.escape(name)}==", developed, re.MULTILINE), requirement


def _targets() -> set[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


def test_the_promised_targets_exist() -> None:
    """`make run` and `make test` and the others that the documents promise."""
    promised = {"run", "test", "test-core", "soak", "bench", "lint", "types", "docker-build", "clean", "help"}
    assert promised <= _targets()


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/decisions",
             "docs/operating"]
)
def test_links_and_commands_in_documents_exist(name: str) -> None:
    """Every relative link, make target and script that a document names is there."""
    start = ROOT / name
    assert start.exists(), name
    for page in [start] if start.is_file() else sorted(start.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
        for target in re.findall(r"\bmake ([a-z][a-z-]*)`", text):
            assert target in _targets(), f"{page.name}: make {target}"
        for script in re.findall(r"(?:\./)?((?:scripts/|run_)[\w-]+\.sh)", text):
            assert (ROOT / script).exists(), f"{page.name}: {script}"


def test_readme_names_commands_that_exist() -> None:
    """Every `hedgelock COMMAND` of the README is a command, and every command is in the README."""
    import typer

    from hedgelock.cli import app

    group = typer.main.get_command(app)
    commands: dict[str, object] = getattr(group, "commands", {})
    text = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"`hedgelock ([a-z]+)", text))
    # The image's own check; nobody types it.
    assert named == commands.keys() - {"healthcheck"}


def test_readme_names_variables_that_exist() -> None:
    """Every variable in the README's table is a setting, with the default it has."""
    from hedgelock.config.load import show, variables

    known = {variable.name: variable for variable in variables()}
    rows = re.findall(
        r"^\| `([A-Z]+__[A-Z_]+|[A-Z_]+)`[^|]*\| ([^|]+) \|", (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) > 8
    for name, cell in rows:
        variable = known[name]
        default = show(variable.model.model_fields[variable.field].default)
        shown = cell.strip().strip("`").replace("–", "")
        if name == "MODE":
            default = "sim"
        same = shown == default or (shown and float(shown) == float(default))
        assert same, f"{name}: README says {shown}, default is {default}"


def test_readme_is_short() -> None:
    """What nobody reads helps nobody."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_scripts_parse_and_may_be_run() -> None:
    """Every script is valid bash, and executable unless it is only sourced."""
    scripts = [*ROOT.glob("*.sh"), *(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 6
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert os.access(script, os.X_OK) or script.name == "packages.sh", script


def test_the_soak_script_refuses_nonsense() -> None:
    """A duration that is none is refused before anything is set up."""
    done = subprocess.run(
        [str(ROOT / "scripts" / "run_collector_soak_test.sh"), "soon"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 2
    assert "for example 90s, 5m or 1h" in done.stderr


def test_missing_packages_are_named_with_the_one_command() -> None:
    """Who may not install gets the command to type and a failure, never a skip."""
    done = subprocess.run(
        ["bash", "-c", 'id() { echo 1000; }; . scripts/packages.sh; need_packages "Java 17" jre maven'],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1
    assert "sudo apt-get install -y --no-install-recommends jre maven" in done.stderr
    assert "Java 17 is missing" in done.stderr


def test_ci_runs_the_same_targets() -> None:
    """The workflow and `.ci/run` call make, so that a green machine means a green desk."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    called = set(re.findall(r"run: (?:sudo .*)?make ([a-z-]+)", workflow))
    assert {"lint", "types", "test", "test-containers"} <= called <= _targets()
    uses = re.findall(r"uses: (\S+)", workflow)
    assert uses
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in uses)
    assert "make --no-print-directory test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_group_of_tests_is_in_make_test() -> None:
    """`make test` runs the whole folder and deselects nothing but the soak tests."""
    make = shutil.which("make")
    assert make is not None, "make is missing: apt-get install -y make"
    done = subprocess.run(
        [make, "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "scripts/run_tests.sh" in done.stdout
    script = (ROOT / "scripts" / "run_tests.sh").read_text("utf-8")
    lots = re.findall(r'"([a-z ]+ not soak)"', script)
    # Every test that is no soak test is in exactly one lot, whatever marks it has.
    for timed, kafka in itertools.product((False, True), repeat=2):
        marks = {"timed": timed, "kafka": kafka, "soak": False}
        assert [eval(lot, {}, marks) for lot in lots].count(True) == 1, (marks, lots)
    assert "-m pytest tests" not in script
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "-m 'not soak'" in project["tool"]["pytest"]["ini_options"]["addopts"]
    assert "check_coverage.py" in done.stdout
