"""Scenario files: market, accounts, deeds, faults and checks of one run, as readable TOML.

    script = read_script(Path("tests/simulation/scenarios/15_hedge_not_yet_visible.toml"))
    venue = Venue(script.scenario, now_ms=0, seed=script.seed)
    gateway = Gateway(venue, later=loop.call_later, faults=script.plan())

Tables: `[market]` (a named scenario as base; corner paths of prices and funding per coin),
`[[account]]`, `[[deed]]`, `[[fault]]`, `[[kill]]` (of the system under test), `[[check]]`.
Times are script seconds; amounts are text, so that they stay exact.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from hedgelock.errors import ConfigError
from hedgelock.simulator.check_kinds import Check, wrong
from hedgelock.simulator.fault_kinds import ALWAYS_S, Fault, problem
from hedgelock.simulator.faults import Faults
from hedgelock.simulator.generators import generated
from hedgelock.simulator.replay import Coin, replayed
from hedgelock.simulator.scenarios import SCENARIOS, Scenario
from hedgelock.simulator.tables import AccountTable, DeedTable

T = TypeVar("T")
Corners = tuple[tuple[float, float], ...]


class Kill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The system under test is killed (SIGKILL) at `at_s` and started again at `back_s`, if ever."""

    at_s: float
    back_s: float = ALWAYS_S


class ReplayTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files of one coin, beside the scenario file or absolute: see `replay.py` for their shapes."""

    prices: str
    perp: str | None = None
    funding: str | None = None


class MarketTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[market]`: one source, and what is changed of it.

    `base` = a built-in scenario; `generator` = a model of `generators.py`, over `days`; `replay` =
    recorded files per coin.
    """

    base: str = ""
    generator: str = ""
    days: float = 1.0
    replay: dict[str, ReplayTable] = {}
    gaps: Literal["refuse", "hold"] = "refuse"
    prices: dict[str, Corners] = {}
    funding: dict[str, Corners] = {}
    settlements_s: tuple[float, ...] | None = None
    funding_interval_h: int | None = None
    noise_bps: float | None = None


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    summary: str
    source: str = ""
    seed: int = 1
    duration_s: float | None = None
    market: MarketTable = MarketTable()
    account: tuple[AccountTable, ...] = ()
    deed: tuple[DeedTable, ...] = ()
    fault: tuple[Fault, ...] = ()
    kill: tuple[Kill, ...] = ()
    check: tuple[Check, ...] = ()


EXAMPLES = {
    "market": '[market]\nbase = "calm"\n[market.prices]\nBTC = [[0, 60000], [30, 54000]]',
    "account": '[[account]]\nkey = "mine"\nunified = { USDT = "6000" }\ndebt = { USDT = "33000" }',
    "deed": '[[deed]]\nat_s = 20\nkind = "price_gap"\ncoin = "BTC"\namount = "-0.2"',
    "fault": '[[fault]]\nkind = "slow_answer"\nfrom_s = 5\nuntil_s = 10\nms = 800\n'
    'match = { path = "/v5/order/create" }',
    "kill": "[[kill]]\nat_s = 20\nback_s = 25",
    "check": '[[check]]\nkind = "ltv_max"\nvalue = "0.9"',
    "": 'summary = "what this run shows"',
}


class BadScript(ConfigError):
    """A scenario file that cannot be played: file, place, problem, example."""

    def __init__(self, path: Path, place: str, why: str) -> None:
        example = EXAMPLES[place.partition(" ")[0].strip("[]")]
        where = f"{path.name}: {place}" if place else path.name
        super().__init__(f"{where}: {why}; for example\n{example}")


@dataclass(frozen=True, slots=True)
class Script:
    """One run: the world, what goes wrong in it, and what is demanded of who lives in it."""

    name: str
    summary: str
    source: str
    seed: int
    scenario: Scenario
    faults: tuple[Fault, ...]
    kills: tuple[Kill, ...]
    checks: tuple[Check, ...]

    @property
    def healed_s(self) -> float:
        """Script second from which nothing goes wrong any more; ALWAYS_S when never."""
        ends = [fault.until_s for fault in self.faults]
        return max([*ends, *(kill.back_s for kill in self.kills), 0.0])

    def plan(self) -> Faults:
        """The faults of a new run."""
        return Faults(self.faults, seed=self.seed)


def is_file(scenario: str) -> bool:
    """Whether the setting names a scenario file rather than a built-in scenario."""
    return scenario.endswith(".toml")


def read_script(path: Path) -> Script:
    """Read and check a scenario file. Raises BadScript."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadScript(path, "", f"cannot be read: {error}") from error
    return parse_script(path, tables)


def parse_script(path: Path, tables: Mapping[str, Any]) -> Script:
    """The script of a file's tables. Raises BadScript."""
    try:
        file = msgspec.convert(tables, File)
    except msgspec.ValidationError as error:
        place, why = _place(str(error))
        raise BadScript(path, place, why) from error
    _check(path, "[account]", file.account, lambda table: _refusal(table.setup))
    _check(path, "[deed]", file.deed, lambda table: _refusal(table.deed))
    _check(path, "[fault]", file.fault, problem)
    _check(path, "[check]", file.check, wrong)
    return Script(
        path.stem, file.summary, file.source, file.seed, _scenario(path, file), file.fault,
        file.kill, file.check,
    )  # fmt: skip


def _scenario(path: Path, file: File) -> Scenario:
    market = file.market
    try:
        base = _source(path, file)
    except (ValueError, OSError) as error:
        raise BadScript(path, "[market]", str(error)) from error
    for coin, corners in (*market.prices.items(), *market.funding.items()):
        times = [at_s for at_s, _ in corners]
        if not times or times != sorted(set(times)) or times[0] < 0:
            raise BadScript(path, "[market]", f"{coin}: corner times must rise from 0 s on")
    if any(value <= 0 for corners in market.prices.values() for _, value in corners):
        raise BadScript(path, "[market]", "a price is not above 0")
    prices = {**base.prices, **market.prices}
    corner_s = max((corners[-1][0] for corners in market.prices.values()), default=0.0)
    given: dict[str, Any] = {
        "name": path.stem, "summary": file.summary, "prices": prices,
        "funding": {**base.funding, **market.funding},
        "duration_s": file.duration_s or corner_s or base.duration_s,
        "deeds": tuple(table.deed() for table in file.deed),
    }  # fmt: skip
    for name in ("settlements_s", "funding_interval_h", "noise_bps"):
        value = getattr(market, name)
        if value is not None:
            given[name] = value
    if file.account:
        given["accounts"] = tuple(table.setup() for table in file.account)
    return replace(base, **given)


def _source(path: Path, file: File) -> Scenario:
    """The market that the file starts from. Raises ValueError or OSError."""
    market = file.market
    if sum(map(bool, (market.base, market.generator, market.replay))) > 1:
        raise ValueError("base, generator and replay exclude each other")
    if market.generator:
        return generated(market.generator, seed=file.seed, days=market.days)
    if market.replay:
        folder = path.parent
        coins = {
            coin: Coin(
                folder / files.prices,
                perp=folder / files.perp if files.perp else None,
                funding=folder / files.funding if files.funding else None,
            )
            for coin, files in market.replay.items()
        }
        return replayed(coins, gaps=market.gaps)
    base = market.base or "calm"
    if base not in SCENARIOS:
        known = ", ".join(sorted(SCENARIOS))
        raise ValueError(f"base {base!r} is unknown: choose one of {known}")
    return SCENARIOS[base]


def _check(path: Path, table: str, rows: Sequence[T], why: Callable[[T], str]) -> None:
    for number, row in enumerate(rows, 1):
        words = why(row)
        if words:
            raise BadScript(path, f"{table} {number}", words)


def _refusal(make: Callable[[], object]) -> str:
    try:
        make()
    except ValueError as error:
        return str(error)
    return ""


def _place(words: str) -> tuple[str, str]:
    """Table and problem of a validation error: `… - at `$.fault[0].ms`` → `[fault] 1`, `ms: …`."""
    why, _, path = words.partition(" - at `$")
    steps = path.rstrip("`").lstrip(".").replace("[", ".").replace("]", "").split(".")
    table, *rest = steps
    if table not in EXAMPLES:
        return "", f"{path.rstrip('`').lstrip('.')}: {why}" if path else why
    number = ""
    if rest and rest[0].isdigit():
        number, rest = f" {int(rest[0]) + 1}", rest[1:]
    key = ".".join(rest)
    return f"[{table}]{number}", f"{key}: {why}" if key else why
