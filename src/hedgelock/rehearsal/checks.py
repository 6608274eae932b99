"""Answers the engine-side checks of a scenario file from HedgeLock's own messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from hedgelock.bus import codec
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.order import OrderConfirmation, PlaceOrder, is_alarm
from hedgelock.domain.risk import Confidence, RiskAssessment
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.rehearsal.auditor import Rule, Standing, audit
from hedgelock.rehearsal.world import EPOCH_MS, World
from hedgelock.simulator.check_kinds import CHECKS, Check, Side
from hedgelock.simulator.checks import failures as exchange_failures

ALARMING = ("error", "critical")
"""Levels of the log that a person is told of."""


class Sample(NamedTuple):
    """How the hedge stood at an instant; None = no decision was possible or no engine ran."""

    at_s: float
    standing: Standing | None


class Evidence(NamedTuple):
    """A run that is over, and one question about it."""

    world: World
    samples: tuple[Sample, ...]
    check: Check

    def said(self, topic: str) -> Iterator[tuple[float, Any]]:
        """(script second, message) of a topic, oldest first."""
        for record in self.world.lives[-1].bus.read(topic):
            yield (record.ts_ms - EPOCH_MS) / 1e3, codec.decode(record.value).body


def failures(world: World, samples: Iterable[Sample], checks: Iterable[Check]) -> list[str]:
    """Every check of a scenario that does not hold, the exchange's side and ours."""
    asked, taken = tuple(checks), tuple(samples)
    found = exchange_failures(world.gateway, asked)
    for check in asked:
        kind = CHECKS[check.kind]
        if kind.side is Side.ENGINE:
            why = _ANSWERS[check.kind](Evidence(world, taken, check))
            if why:
                found.append(f"{check.kind}: {why} ({kind.doc})")
    return found


def _audited(*rules: Rule) -> Callable[[Evidence], str]:
    def answer(e: Evidence) -> str:
        return "; ".join(f.text for f in audit(e.world, rules))

    return answer


def _funding_booked_once(e: Evidence) -> str:
    """Settlements at the exchange against SETTLEMENT lines on the bus, by id and amount."""
    there = {
        (row["id"], Decimal(row["funding"])) for row in e.world.account().log
        if row["type"] == "SETTLEMENT"
    }
    lines = {
        (line.line_id, line.coin, line.trade_id): line for _, line in e.said("account_ledger")
        if line.line_type == "SETTLEMENT"
    }
    here = Counter((line.line_id, line.funding) for line in lines.values())
    wrong = [f"{i} {amount} is not in the ledger" for i, amount in there if not here[i, amount]]
    wrong += [f"{i} {amount} is in the ledger {n} times" for (i, amount), n in here.items()
              if n > 1 or (i, amount) not in there]
    return "; ".join(wrong)


def _hedge_within_band(e: Evidence) -> str:
    start_s, end_s = e.check.at_s, e.check.at_s + e.check.within_s
    seen = [s for s in e.samples if start_s <= s.at_s <= end_s]
    if any(s.standing is not None and s.standing.is_on_target for s in seen):
        return ""
    last = next((s.standing for s in reversed(seen) if s.standing is not None), None)
    return "no decision was possible" if last is None else str(last)


def alarms(world: World) -> Iterator[tuple[float, str]]:
    """(script second, words) of everything that a person is told of at once."""
    for ms, level, what in world.trace:
        if level in ALARMING:
            yield ms / 1e3, str(what)
    for record in world.lives[-1].bus.read("trade_confirmations"):
        body = codec.decode(record.value).body
        if isinstance(body, OrderConfirmation) and is_alarm(body):
            yield (record.ts_ms - EPOCH_MS) / 1e3, body.text
    for record in world.lives[-1].bus.read("safety_state"):
        state: SafetyState = codec.decode(record.value).body
        if state.mode is not SafetyMode.ACTIVE:
            yield (record.ts_ms - EPOCH_MS) / 1e3, f"{state.mode.value}: {state.reason.value}"


def _alarm_raised(e: Evidence) -> str:
    start_s, end_s = e.check.at_s, e.check.at_s + e.check.within_s
    named = [s for s, words in alarms(e.world) if e.check.reason.lower() in words.lower()]
    if any(start_s <= s <= end_s for s in named):
        return ""
    return f"raised at {[round(s, 1) for s in named]} s" if named else "never raised"


def _no_alarm(e: Evidence) -> str:
    named = [
        f"{s:.1f} s: {words}" for s, words in alarms(e.world)
        if e.check.reason.lower() in words.lower() and e.check.from_s <= s < e.check.until_s
    ]
    return "; ".join(named[:3])


def _no_panic_exit(e: Evidence) -> str:
    """Hedges closed by more than they should be: below what the policy wanted at that decision."""
    wanted: Decimal | None = None
    decided = sorted(
        [*e.said("hedge_decisions"), *e.said("hedge_trades")], key=lambda pair: pair[0]
    )
    for at_s, message in decided:
        if isinstance(message, HedgeDecision) and message.target is not None:
            wanted = message.target
        if not isinstance(message, PlaceOrder) or not message.reduce_only:
            continue
        if e.check.from_s <= at_s < e.check.until_s and wanted is not None and wanted <= 0:
            return f"{message.intent_id} closes {message.qty} at {at_s:.1f} s ({message.reason})"
    return ""


def _not_fresh(e: Evidence) -> str:
    """Judged by what was said: after the grace, nothing FRESH until the end of the window."""
    start_s = e.check.at_s + e.check.within_s
    state = Confidence.FRESH
    for at_s, said in e.said("risk_state"):
        assessment: RiskAssessment = said
        if at_s <= start_s:
            state = assessment.confidence
        elif at_s < e.check.until_s and assessment.confidence is Confidence.FRESH:
            return f"called fresh at {at_s:.1f} s"
    return "still fresh when the grace was over" if state is Confidence.FRESH else ""


def _funding_apr(e: Evidence) -> str:
    instrument = e.check.symbol.replace(".", ":")
    before: FundingContext | None = None
    for at_s, said in e.said("funding_context"):
        context: FundingContext = said
        if context.instrument != instrument or at_s >= e.check.until_s:
            continue
        if at_s <= e.check.from_s:
            before = context
            continue
        if not _is_within(context.apr, e.check):
            return f"{context.apr} at {at_s:.1f} s"
    if before is None:
        return "never published before the window"
    return "" if _is_within(before.apr, e.check) else f"{before.apr} when the window began"


def _is_within(value: Decimal, check: Check) -> bool:
    least, most = check.least, check.most
    return (least is None or value >= least) and (most is None or value <= most)


_ANSWERS: dict[str, Callable[[Evidence], str]] = {
    "books_equal": _audited(Rule.BALANCES, Rule.TREASURY, Rule.LEDGER),
    "one_decision_per_order": _audited(Rule.ORDERS, Rule.EXECUTIONS),
    "funding_booked_once": _funding_booked_once,
    "hedge_within_band": _hedge_within_band,
    "alarm_raised": _alarm_raised,
    "no_alarm": _no_alarm,
    "no_panic_exit": _no_panic_exit,
    "not_fresh": _not_fresh,
    "funding_apr": _funding_apr,
    "nothing_in_flight": _audited(Rule.SETTLED),
    "replay_equal": _audited(Rule.REPLAY),
}
