"""Reading the environment and `.env`, and refusing everything that is not certainly meant.

Order of strength: command line, environment, `.env`, the scenario's own settings (simulation only), defaults. An
empty value counts as unset. Every problem is collected; one `ConfigError` lists them all.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError

from hedgelock.config.checks import Problem, check
from hedgelock.config.fields import Group, about
from hedgelock.config.groups import AccountSettings
from hedgelock.config.settings import Mode, Settings
from hedgelock.errors import ConfigError

_SCENARIO_DWELL_S: Mapping[str, Mapping[str, Decimal]] = {
    "demo": {"RISK__DWELL_S": Decimal(5), "FUNDING__DWELL_S": Decimal(5)},
}
"""Settings in script seconds that a scenario needs to be shown in minutes; the speed divides them."""


_SCENARIO_MS: Mapping[str, Mapping[str, int]] = {
    "demo": {
        "EXECUTOR__REST_MS": 500, "EXECUTOR__REPRICE_MS": 250,
        "EXECUTOR__SETTLEMENT_GUARD_MS": 2_000,
    },
}
"""The same in whole script milliseconds."""

_SLIPPAGE_MOST = Decimal("0.05")
"""The simulator, like Bybit, bounds a market order at 5 % itself."""


class Variable(NamedTuple):
    """Where one environment variable belongs; `group` None = top level."""

    name: str
    group: str | None
    field: str
    model: type[Group]

    @property
    def secret(self) -> bool:
        """True when its value must never be shown."""
        return SecretStr.__name__ in str(self.model.model_fields[self.field])

    @property
    def example(self) -> str:
        """A value that would do."""
        return about(self.model, self.field).example or show(
            self.model.model_fields[self.field].default
        )


class _Found(NamedTuple):
    value: str
    origin: str


def load(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = Path(".env"),
    overrides: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from the environment (or the mapping given) and an `.env` file if there is one.

    `overrides` come from the command line and beat both.
    Raises ConfigError, one line per problem, each with name, what is wrong and a good value.
    """
    problems: list[Problem] = []
    found = _collect(os.environ if environ is None else environ, env_file, problems)
    _add(found, (overrides or {}).items(), "command line", problems)
    settings, invalid = _build(found, problems)
    scenario = _scenario(settings, found)
    if scenario:
        found |= scenario
        settings, invalid = _build(found, [])
    problems += [p for p in check(settings) if not invalid.intersection(p.about)]
    if problems:
        raise ConfigError(_report(problems))
    settings._origins.update({name: item.origin for name, item in found.items()})  # noqa: SLF001
    return settings


def variables() -> Iterator[Variable]:
    """Every variable with a fixed name, in the order of the documentation."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if name == "accounts":
            continue
        if isinstance(kind, type) and issubclass(kind, Group):
            for inner in kind.model_fields:
                yield Variable(f"{name}__{inner}".upper(), name, inner, kind)
        else:
            yield Variable(name.upper(), None, name, Settings)


def account_variables(account: str) -> Iterator[Variable]:
    """The variables of one named account."""
    for inner in AccountSettings.model_fields:
        yield Variable(f"ACCOUNTS__{account}__{inner.upper()}", "accounts", inner, AccountSettings)


def show(value: object) -> str:
    """A value as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, tuple):
        return ",".join(f"{show(x)}:{show(y)}" for x, y in value)
    return str(getattr(value, "value", value))


# ---------------------------------------------------------------- collecting


_KNOWN = {variable.name: variable for variable in variables()}
_GROUPS = tuple(sorted({f"{v.group}__".upper() for v in _KNOWN.values() if v.group}))
_SIMILAR = 0.85


def _collect(
    environ: Mapping[str, str], env_file: Path | None, problems: list[Problem]
) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    if env_file is not None and env_file.exists():
        _add(found, _read_file(env_file, problems), env_file.name, problems)
        _check_permissions(env_file, found, problems)
    _add(found, environ.items(), "environment", problems)
    return found


def _add(
    found: dict[str, _Found], pairs: Iterable[tuple[str, str]], origin: str,
    problems: list[Problem],
) -> None:
    """Put our variables of one source into `found`; name the ones that only look like ours."""
    seen: dict[str, str] = {}
    for raw, value in pairs:
        name = _canonical(raw)
        if name is None:
            unknown = _unknown(raw)
            if unknown is not None:
                problems.append(unknown)
            continue
        if name in seen:
            problems.append(Problem((name,), f"{name} is set twice ({seen[name]} and {raw}); keep one"))
        seen[name] = raw
        if value.strip():
            found[name] = _Found(value.strip(), origin)


def _canonical(raw: str) -> str | None:
    """The variable's name as documented, or None when it is not one of ours. Case is ignored."""
    name = raw.upper()
    if name in _KNOWN:
        return name
    parts = name.split("__")
    if parts[0] != "ACCOUNTS" or len(parts) != len(("group", "name", "field")) or not parts[1]:
        return None
    known = parts[2].lower() in AccountSettings.model_fields
    return f"ACCOUNTS__{parts[1].lower()}__{parts[2]}" if known else None


def _unknown(raw: str) -> Problem | None:
    name = raw.upper()
    if name.startswith("ACCOUNTS__"):
        fields = ", ".join(field.upper() for field in AccountSettings.model_fields)
        return Problem((raw,), f"{raw} is not a setting; ACCOUNTS__name__ is followed by one of {fields}")
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.6 if _ours(name) else _SIMILAR)
    if not _ours(name) and not ("__" in name and near):
        return None
    hint = f"did you mean {near[0]}?" if near else "`hedgelock config` lists all settings"
    return Problem((raw,), f"{raw} is not a setting; {hint}")


def _ours(name: str) -> bool:
    return name.startswith(_GROUPS)


def _read_file(path: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem((str(path),), f"{path} cannot be read: {error}"))
        return pairs
    for binding in bindings:
        line = binding.original.line
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(
                Problem((str(path),), f"{path} line {line} is not NAME=value; for example MODE=sim")
            )
        elif binding.key is not None and binding.value is not None:
            pairs.append((binding.key, binding.value))
    return pairs


def _check_permissions(
    path: Path, found: Mapping[str, _Found], problems: list[Problem]
) -> None:
    """Refuse a file that holds a secret and that its group or others may read."""
    secrets = sorted(name for name in found if _variable(name).secret)
    if secrets and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        problems.append(
            Problem(
                (str(path),),
                f"{path} holds a secret ({', '.join(secrets)}) and others can read it; "
                f"type: chmod 600 {path}",
            )
        )


def _variable(name: str) -> Variable:
    if name in _KNOWN:
        return _KNOWN[name]
    _, account, field = name.split("__")
    return Variable(name, f"accounts__{account}", field.lower(), AccountSettings)


# ---------------------------------------------------------------- building


def _build(found: Mapping[str, _Found], problems: list[Problem]) -> tuple[Settings, set[str]]:
    """Settings of every valid variable; invalid ones become problems and keep their default."""
    nested: dict[str, Any] = {}
    for name, item in found.items():
        *path, last = name.split("__")
        inner = nested
        for part in path:
            inner = inner.setdefault(part.lower(), {})
        inner[last.lower()] = item.value
    try:
        return Settings.model_validate(nested), set()
    except ValidationError as error:
        messages = {_name_of(detail["loc"]): detail["msg"] for detail in error.errors()}
    problems += [_invalid(name, found[name].value, text) for name, text in messages.items()]
    rest = {name: item for name, item in found.items() if name not in messages}
    return _build(rest, problems)[0], set(messages)


def _name_of(location: tuple[int | str, ...]) -> str:
    name = str(location[0]).upper()
    if len(location) > 1:
        name += f"__{location[1]}" if name == "ACCOUNTS" else f"__{str(location[1]).upper()}"
    if name.startswith("ACCOUNTS__"):
        name += f"__{str(location[2]).upper()}"
    return name


def _invalid(name: str, value: str, message: str) -> Problem:
    variable = _variable(name)
    text = message.removeprefix("Value error, ").replace("Input should", "should")
    shown = "(hidden)" if variable.secret else repr(value)
    example = "" if variable.secret else f"; for example {name}={variable.example}"
    return Problem((name,), f"{name}={shown} {text}{example}")


def _scenario(settings: Settings, found: Mapping[str, _Found]) -> dict[str, _Found]:
    """What the played scenario sets where nobody else did."""
    if settings.trading_mode is not Mode.SIM:
        return {}
    speed = settings.sim.speed
    values = {
        name: seconds / speed
        for name, seconds in _SCENARIO_DWELL_S.get(settings.sim.scenario, {}).items()
    }
    for name, ms in _SCENARIO_MS.get(settings.sim.scenario, {}).items():
        values[name] = Decimal(max(1, int(ms / speed)))
    if values:
        # A script moves the price faster than any market, played fast as much faster still: the bound
        # keeps its script seconds, and a gentle first try inside a part of it would only cost time.
        bound = min(settings.executor.slippage_max * max(speed, Decimal(1)), _SLIPPAGE_MOST)
        values["EXECUTOR__SLIPPAGE_BRISK"] = bound
        if speed > 1:
            values["EXECUTOR__SLIPPAGE_MAX"] = bound
    origin = f"scenario {settings.sim.scenario}"
    return {
        name: _Found(format(value, "f"), origin)
        for name, value in values.items() if name not in found
    }


def _report(problems: list[Problem]) -> str:
    lines = [f"  - {problem.text}" for problem in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return "\n".join([f"the configuration has {count}:", *lines])
