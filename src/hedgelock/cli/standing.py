"""How an account stands, in a few lines: what it may do and why, and how safe it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hedgelock.bus import codec
from hedgelock.cli import words
from hedgelock.domain.policy import HOUSE
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState, stricter
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus

HISTORY = 2_000
"""Records per partition looked through for the account's latest words."""


class Standing(NamedTuple):
    """The latest words about an account; None = none yet."""

    account: str
    safety: SafetyState | None
    risk: RiskAssessment | None

    @property
    def is_active(self) -> bool:
        """The policy is in charge."""
        return self.safety is not None and self.safety.mode is SafetyMode.ACTIVE


def read(bus: Bus, account: str) -> Standing:
    """What binds the account now, and its latest assessment on the bus."""
    safety: SafetyState | None = None
    house: SafetyState | None = None
    risk: RiskAssessment | None = None
    for topic in ("safety_state", "risk_state"):
        for record in bus.read(topic, start=-HISTORY):
            if record.key not in (account, HOUSE):
                continue
            try:
                body = codec.decode(record.value, topic).body
            except BadMessage:
                continue  # in quarantine with its reason
            if isinstance(body, SafetyState) and record.key == HOUSE:
                house = body
            elif isinstance(body, SafetyState):
                safety = body
            elif isinstance(body, RiskAssessment):
                risk = body
    return Standing(account, stricter(safety, house), risk)


def lines(standing: Standing) -> Iterator[str]:
    """Plain text, a line each: mode and reason, what to do, figures."""
    account, safety, risk = standing
    if safety is None:
        yield f"{account}: safety has not spoken yet; nothing is opened"
    else:
        yield (f"{account} is {safety.mode.name} since {words.moment(safety.since_ts_ms)}: "
               f"{words.reason(safety.reason)}")
        if safety.text:
            yield f"  {safety.text}"
        for name in safety.breakers:
            yield f"  breaker: {words.reason(name)}"
        for name in safety.warnings:
            yield f"  warning: near auto-deleveraging: {name.partition(':')[2]}"
        if safety.hedge_pinned_until_ms is not None:
            yield f"  the hedge stays as it is until {words.moment(safety.hedge_pinned_until_ms)}"
        if safety.repay_forbidden_until_ms is not None:
            yield f"  nothing is repaid until {words.moment(safety.repay_forbidden_until_ms)}"
        if safety.mode is not SafetyMode.ACTIVE:
            yield f"  do: {_todo(safety.reason)}"
    if risk is None:
        yield "  not assessed yet"
        return
    yield (f"  LTV {words.percent(risk.ltv)}, {risk.state.name}, inputs {risk.confidence.name}: "
           f"{words.reason(risk.reason)}")


def _todo(reason: SafetyReason) -> str:
    if reason is SafetyReason.UNEXPLAINED_ORDER:
        return ("find out who uses this key, cancel what rests at the exchange's own site, then hedgelock"
                " operator resume")
    return "hedgelock operator resume, when the policy should be in charge again"
