"""`hedgelock run` off a terminal: one JSON line per decision, order and change of state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hedgelock.cli import words
from hedgelock.cli.console import print_json
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.risk import RiskAssessment

if TYPE_CHECKING:
    from hedgelock.bus.codec import Envelope
    from hedgelock.domain.message import Message
    from hedgelock.ports import Record

_NAMES = {
    "hedge_decisions": "decision", "hedge_trades": "order", "treasury_actions": "money_move",
    "trade_confirmations": "confirmation", "safety_state": "safety", "risk_state": "risk",
    "funding_context": "funding",
}
"""Topic -> name of the event."""


class Events:
    """Prints what a reader of the run should hear of; records before `since_ms` are history."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._states: dict[str, object] = {}

    def listen(self, record: Record, envelope: Envelope | None) -> None:
        """Take one record of the feed."""
        if record.ts_ms < self._since_ms or record.topic not in _NAMES or envelope is None:
            return
        if not self._is_news(envelope.body):
            return
        print_json({
            "ts": words.moment(record.ts_ms), "event": _NAMES[record.topic], "id": envelope.id,
            "account": record.key, "says": words.headline(envelope.body), "body": envelope.body,
        })

    def _is_news(self, body: Message) -> bool:
        """Assessments and rates come all the time: only a change of state is news."""
        state: tuple[object, ...]
        match body:
            case RiskAssessment():
                key, state = f"risk:{body.account}", (body.state, body.confidence)
            case FundingContext():
                key, state = f"funding:{body.instrument}", (body.regime,)
            case _:
                return True
        changed = self._states.get(key) != state
        self._states[key] = state
        return changed
