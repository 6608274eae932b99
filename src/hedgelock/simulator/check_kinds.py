"""What a scenario file may demand of the system under test: named checks, one line each.

Checks of the exchange's side are answered by `checks.py` from the exchange alone, for any bot;
those of the engine's side need HedgeLock's own messages and are answered where it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import msgspec

from hedgelock.simulator.fault_kinds import ALWAYS_S


class Side(Enum):
    """Whose records answer a check."""

    EXCHANGE = "exchange"
    ENGINE = "engine"


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One demand; which fields a kind takes is in `CHECKS`. Times are script seconds."""

    kind: str
    account: str = ""
    """"" = the first account."""
    symbol: str = ""
    """Contract key, `linear.BTCUSDT`."""
    from_s: float = 0.0
    until_s: float = ALWAYS_S
    at_s: float = 0.0
    within_s: float = 0.0
    value: Decimal | None = None
    least: Decimal | None = None
    most: Decimal | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CheckKind:
    """What a check demands, which fields it needs and which it may take."""

    side: Side
    doc: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


EXCHANGE, ENGINE = Side.EXCHANGE, Side.ENGINE
WINDOW = ("from_s", "until_s")
DEFAULTS = {f.name: f.default for f in msgspec.structs.fields(Check) if not f.required}

CHECKS: dict[str, CheckKind] = {
    # the exchange's records
    "unliquidated": CheckKind(EXCHANGE, "neither loan nor margin is ever liquidated"),
    "ltv_max": CheckKind(EXCHANGE, "the loan's LTV never exceeds `value`", ("value",)),
    "no_repeated_order": CheckKind(
        EXCHANGE, "no orderLinkId is sent with two bodies, and no two orders share one"
    ),
    "no_opening_orders": CheckKind(
        EXCHANGE, "no order that could open exposure is accepted in the window", (), WINDOW
    ),
    "orders_between": CheckKind(
        EXCHANGE, "`least` to `most` orders are accepted in the window", (), (*WINDOW, "least", "most")
    ),
    "refusals_at_most": CheckKind(
        EXCHANGE, "at most `value` orders are refused in the window", ("value",), WINDOW
    ),
    "position_between": CheckKind(
        EXCHANGE, "the position in `symbol` stays within `least`..`most` coins through the window",
        ("symbol",), (*WINDOW, "least", "most"),
    ),
    "position_reaches": CheckKind(
        EXCHANGE, "the position is within `least`..`most` at some instant from `at_s` on, `within_s`",
        ("symbol", "within_s"), ("at_s", "least", "most"),
    ),
    "repayments_between": CheckKind(
        EXCHANGE, "`least` to `most` repayments are made in the window", (), (*WINDOW, "least", "most")
    ),
    "requests_at_most": CheckKind(
        EXCHANGE, "an address never sends more than `value` requests in any `within_s`",
        ("value", "within_s"), WINDOW,
    ),
    "sockets_at_most": CheckKind(
        EXCHANGE, "at most `value` sockets are opened in the window", ("value",), WINDOW
    ),
    "nothing_resting": CheckKind(
        EXCHANGE, "no order that could open exposure rests at the end"
    ),
    # HedgeLock's own messages
    "books_equal": CheckKind(
        ENGINE, "at the end wallet, FUND, loan and positions equal the exchange's to the last digit"
    ),
    "one_decision_per_order": CheckKind(
        ENGINE, "every order at the exchange comes from exactly one decision, and every fill is booked once"
    ),
    "funding_booked_once": CheckKind(
        ENGINE, "the ledger holds every funding settlement of the exchange once, with its amount"
    ),
    "hedge_within_band": CheckKind(
        ENGINE, "within `within_s` of `at_s` the hedge is inside the band around its target",
        ("within_s",), ("at_s",),
    ),
    "alarm_raised": CheckKind(
        ENGINE, "an alarm or halt that names `reason` is published within `within_s` of `at_s`",
        ("reason", "within_s"), ("at_s",),
    ),
    "no_alarm": CheckKind(ENGINE, "no alarm that names `reason` in the window", ("reason",), WINDOW),
    "no_panic_exit": CheckKind(
        ENGINE, "no decision in the window closes a protective hedge without an operator", (), WINDOW
    ),
    "not_fresh": CheckKind(
        ENGINE, "from `within_s` after `at_s` until `until_s` no decision calls its inputs FRESH",
        ("within_s",), ("at_s", "until_s"),
    ),
    "funding_apr": CheckKind(
        ENGINE, "the published APR of `symbol` lies within `least`..`most` through the window",
        ("symbol", "least", "most"), WINDOW,
    ),
    "nothing_in_flight": CheckKind(
        ENGINE, "at the end no intent is open and none is unknown"
    ),
    "replay_equal": CheckKind(ENGINE, "the journal, replayed, decides the same"),
}  # fmt: skip


def wrong(check: Check) -> str:
    """Why a check makes no sense; "" when it does."""
    kind = CHECKS.get(check.kind)
    if kind is None:
        return f"kind {check.kind!r} is unknown: choose one of {', '.join(sorted(CHECKS))}"
    takes = {"account", *kind.needs, *kind.takes}
    for name, default in DEFAULTS.items():
        given = getattr(check, name) != default
        if given and name not in takes:
            return f"{check.kind} takes no {name}: it takes {', '.join(sorted(takes))}"
        if not given and name in kind.needs:
            return f"{check.kind} needs {name}"
    if {"least", "most"} & {*kind.needs, *kind.takes} and check.least is None and check.most is None:
        return f"{check.kind} needs least, most or both"
    if check.from_s > check.until_s:
        return f"from_s {check.from_s} is after until_s {check.until_s}"
    return ""
