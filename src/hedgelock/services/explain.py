"""Why did this happen? The chain tick → funding → risk → decision → order → fills, from the bus alone.

Every envelope names its causes, so the chain is walked, not guessed. Market rows are kept an hour; a
tick that is gone is taken from the journal of the step that read it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hedgelock.bus import codec
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import CancelOrders, OrderConfirmation, PlaceOrder
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus
from hedgelock.services.journal import JournalRow

_FORWARD = ("hedge_trades", "treasury_actions", "hedge_decisions", "trade_confirmations")
_BACKWARD = ("risk_state", "funding_context", "safety_state", "policies", "account_raw",
             "market_data", "funding_rates", "operator_commands")
_ORDER: tuple[tuple[type[Message], ...], ...] = (
    (MarketTick,), (FundingContext,), (Policy,), (SafetyState,), (RiskAssessment,),
    (PlaceOrder, TreasuryAction, CancelOrders), (OrderConfirmation, TreasuryConfirmation),
)
DEPTH_MAX = 3


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the chain."""

    topic: str
    envelope: codec.Envelope


def explain(bus: Bus, ident: str) -> list[Link]:
    """The chain around an order, intent, decision or message id; [] when nothing carries it.

    Sorted as things happened: inputs, assessment, decision, intent, confirmations.
    """
    start = _find(bus, _FORWARD, {ident})
    if not start:
        start = _find(bus, _BACKWARD, {ident})
    found = {link.envelope.id: link for link in start}
    intents = {_intent_of(link) for link in start} - {""}
    if intents:
        for link in _find(bus, _FORWARD, intents):
            found[link.envelope.id] = link
    wanted = _causes(found.values()) - found.keys()
    for _ in range(DEPTH_MAX):
        if not wanted:
            break
        links = _find(bus, (*_FORWARD, *_BACKWARD), wanted)
        missing = wanted - {link.envelope.id for link in links}
        links += _from_journal(bus, missing)
        for link in links:
            found[link.envelope.id] = link
        wanted = _causes(link for link in links if not isinstance(
            link.envelope.body, (OrderConfirmation, TreasuryConfirmation))) - found.keys()
    return sorted(found.values(), key=lambda link: (_rank(link), link.envelope.ts_ms))


def _rank(link: Link) -> int:
    for rank, kinds in enumerate(_ORDER):
        if isinstance(link.envelope.body, kinds):
            return rank
    return 4  # decisions and facts stand beside the assessment


def _intent_of(link: Link) -> str:
    return str(getattr(link.envelope.body, "intent_id", ""))


def _causes(links: Iterable[Link]) -> set[str]:
    return {
        cause for link in links for cause in link.envelope.causes if ":event:" not in cause
        and ":made:" not in cause
    }


def _find(bus: Bus, topics: Iterable[str], idents: set[str]) -> list[Link]:
    needles = [ident.encode() for ident in idents]
    found = []
    for topic in topics:
        for record in bus.read(topic):
            if not any(needle in record.value for needle in needles):
                continue
            try:
                envelope = codec.decode(record.value, topic)
            except BadMessage:
                continue  # it is in quarantine with its reason; it explains nothing here
            if _carries(envelope, idents):
                found.append(Link(topic=topic, envelope=envelope))
    return found


def _carries(envelope: codec.Envelope, idents: set[str]) -> bool:
    body = envelope.body
    names = {envelope.id, envelope.id.rpartition(".")[0]}
    for name in ("intent_id", "client_order_id", "venue_order_id", "command_id"):
        names.add(str(getattr(body, name, "")))
    names.add(str(getattr(body, "intent_id", "")).rpartition(".")[0])
    names.discard("")
    return bool(names & idents)


class _Entry(msgspec.Struct):
    rows: tuple[JournalRow, ...]


def _from_journal(bus: Bus, idents: set[str]) -> list[Link]:
    needles = {ident.encode(): ident for ident in idents}
    found: dict[str, Link] = {}
    if not needles:
        return []
    for record in bus.read("steps"):
        if not any(needle in record.value for needle in needles):
            continue
        for row in msgspec.json.decode(record.value, type=_Entry).rows:
            if not row.is_inline:
                continue
            envelope = codec.decode(bytes(row.value))
            if envelope.id in idents:
                found[envelope.id] = Link(topic=row.topic, envelope=envelope)
    return list(found.values())
