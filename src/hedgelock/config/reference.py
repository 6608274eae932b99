"""The settings as documents: `hedgelock config`, `.env.example` and `docs/reference/config.md`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from pydantic import SecretStr

from hedgelock.config.fields import about
from hedgelock.config.load import Variable, account_variables, show, variables
from hedgelock.config.settings import Settings

_TOP = "General"


class Row(NamedTuple):
    """One setting, ready to print; `value` is redacted where it is a secret."""

    name: str
    value: str
    unit: str
    default: str
    help: str
    origin: str


def describe(settings: Settings) -> list[Row]:
    """Every setting in force, secrets redacted, and where its value comes from."""
    rows = [_row(settings, variable) for variable in variables()]
    for name, account in settings.accounts.items():
        for variable in account_variables(name):
            value = getattr(account, variable.field)
            rows.append(_as_row(variable, value, settings.origin(variable.name)))
    return rows


def env_example() -> str:
    """The text of `.env.example`: every setting, commented out, at its default or an example."""
    lines = [
        "# HedgeLock's settings. Copy to .env, uncomment what you change; then: chmod 600 .env",
        "# Generated: make config-docs. An empty value counts as unset. Without keys: simulation.",
    ]
    for group, members in _groups():
        lines += ["", f"# --- {group}"]
        for variable in members:
            unit = about(variable.model, variable.field).unit
            note = f" [{unit}]" if unit else ""
            lines += [f"# {_help(variable)}{note}", f"#{variable.name}={_sample(variable)}"]
    lines += ["", "# --- ACCOUNTS: named accounts instead of BYBIT's one; required by MODE=live"]
    for variable in account_variables("main"):
        lines += [f"# {_help(variable)}", f"#{variable.name}={_sample(variable)}"]
    return "\n".join(lines) + "\n"


def reference_page() -> str:
    """The text of `docs/reference/config.md`."""
    lines = [
        "# Configuration", "",
        "Generated from `src/hedgelock/config/` by `make config-docs`; do not edit.", "",
        "Settings come from the environment, then from `.env`, then from these defaults. An empty",
        "value counts as unset. `hedgelock config` shows what is in force and where it comes from.",
        "Unknown names in these groups are refused at start. Fractions are 0..1.",
    ]
    for group, members in _groups():
        lines += ["", f"## {group}", "", *_table(members)]
    lines += ["", "## ACCOUNTS", "", "`main` stands for any name; each named account is kept alive.",
              "", *_table(account_variables("main"))]
    return "\n".join(lines) + "\n"


def _groups() -> Iterator[tuple[str, Iterator[Variable]]]:
    for group, members in groupby(variables(), key=lambda variable: variable.group):
        yield (group or _TOP).upper() if group else _TOP, members


def _table(members: Iterator[Variable]) -> Iterator[str]:
    yield "| variable | default | unit | meaning |"
    yield "|---|---|---|---|"
    for variable in members:
        unit = about(variable.model, variable.field).unit
        default = f"`{_default(variable)}`" if _default(variable) else "–"
        # A bar inside a cell would end it.
        help_text = _help(variable).replace("|", "\\|")
        yield f"| `{variable.name}` | {default} | {unit or '–'} | {help_text} |"


def _row(settings: Settings, variable: Variable) -> Row:
    holder = getattr(settings, variable.group) if variable.group else settings
    value = getattr(holder, variable.field)
    if variable.name == "MODE":
        value = settings.trading_mode
    return _as_row(variable, value, settings.origin(variable.name))


def _as_row(variable: Variable, value: object, origin: str) -> Row:
    if variable.secret:
        shown = "(set)" if isinstance(value, SecretStr) else "(not set)"
    else:
        shown = show(value)
    unit = about(variable.model, variable.field).unit
    return Row(variable.name, shown, unit, _default(variable), _help(variable), origin)


def _default(variable: Variable) -> str:
    return show(variable.model.model_fields[variable.field].default)


def _sample(variable: Variable) -> str:
    if variable.secret:
        return ""
    return _default(variable) or variable.example


def _help(variable: Variable) -> str:
    return variable.model.model_fields[variable.field].description or ""
