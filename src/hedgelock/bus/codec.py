"""Bytes to messages and back: the envelope, the schema versions, which topic may carry what.

JSON on the wire, so that people can read payloads with any Kafka tool. Undecodable bytes raise
`BadMessage` and go to quarantine; a version newer than ours raises `SchemaTooNew` and stops us.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from hedgelock.domain import (
    account,
    command,
    effect,
    funding,
    hedging,
    instrument,
    market,
    message,
    order,
    policy,
    registry,
    risk,
    risk_detail,
    safety,
    treasury,
)
from hedgelock.domain.message import Message
from hedgelock.errors import BadMessage, SchemaTooNew

CARRIES: dict[str, tuple[type[Message], ...]] = {
    "market_data": (market.MarketTick,),
    "instruments": (instrument.Instrument, instrument.CollateralTerms),
    "funding_rates": (funding.FundingRate,),
    "account_raw": (
        account.WalletRead, account.PositionsRead, account.PositionChanged, account.FundRead,
        account.LoanRead,
    ),
    "account_ledger": (account.LedgerLine,),
    "funding_context": (funding.FundingContext,),
    "risk_state": (risk.RiskAssessment,),
    "risk_detail": (risk_detail.RiskDetail,),
    "hedge_trades": (order.PlaceOrder, order.CancelOrders),
    "hedge_decisions": (hedging.HedgeDecision, hedging.PositionDiffers),
    "treasury_actions": (treasury.TreasuryAction,),
    "trade_confirmations": (
        order.OrderConfirmation, order.ForeignFill, treasury.TreasuryConfirmation,
    ),
    "operator_commands": (command.OperatorCommand,),
    "safety_state": (safety.SafetyState,),
    "policies": (policy.Policy,),
    "accounts": (registry.AccountSpec,),
    "symbols": (registry.SymbolSpec,),
    "quarantine": (registry.Quarantined,),
}
"""Topic -> kinds of message it may carry."""

_INTERNAL: tuple[type[Message], ...] = (
    effect.OpenOrders, effect.OrderAnswer, effect.OrderReport, effect.OrderFacts,
    effect.ExecutionReport, effect.TransferAnswer, effect.LoanAnswer, effect.StreamReset, message.Tick,
    message.Restored,
)
"""Recorded in the journal as inputs of the executor, never on a topic."""

KINDS: tuple[type[Message], ...] = (
    *dict.fromkeys(kind for kinds in CARRIES.values() for kind in kinds), *_INTERNAL,
)
"""Every kind that is ever encoded."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its identity and origin.

    `id` is unique in the log; `trace` a W3C traceparent that runs from the exchange's event to the
    fill; `causes` are the ids of the messages and table rows it was made from; `ts_ms` is when it
    was made (our clock); `v` its schema version.
    """

    id: str
    trace: str
    causes: tuple[str, ...]
    ts_ms: int
    v: int
    body: Any


_UNION: Any = None
for _kind in KINDS:
    _UNION = _kind if _UNION is None else _UNION | _kind


class _Typed(Envelope, frozen=True, kw_only=True):
    body: _UNION


_decoder = msgspec.json.Decoder(_Typed)
_body_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_UNION)
_encoder = msgspec.json.Encoder()


class _Version(msgspec.Struct):
    v: int = 0


_version_decoder = msgspec.json.Decoder(_Version)


def schema_of(kind: type[Message]) -> int:
    """Schema version of a kind: its `schema` class variable, 1 where it has none."""
    return int(getattr(kind, "schema", 1))


def encode(
    body: Message, *, id: str, trace: str, causes: tuple[str, ...], ts_ms: int
) -> bytes:
    """An envelope as JSON bytes."""
    return encode_envelope(
        Envelope(
            id=id, trace=trace, causes=causes, ts_ms=ts_ms, v=schema_of(type(body)), body=body
        )
    )


def encode_envelope(envelope: Envelope, body: bytes | None = None) -> bytes:
    """A ready envelope as JSON bytes; `body` is its body where that is encoded already."""
    if body is not None:
        envelope = msgspec.structs.replace(envelope, body=msgspec.Raw(body))
    return _encoder.encode(envelope)


def decode(value: bytes, topic: str | None = None) -> Envelope:
    """The envelope in `value`.

    Raises BadMessage (says what and where) when it does not decode, holds an impossible value or
    does not belong on `topic`; SchemaTooNew when a newer version wrote it.
    """
    try:
        envelope = _decoder.decode(value)
    except (msgspec.DecodeError, ValueError) as error:
        if _is_newer(value):
            raise SchemaTooNew(f"written by a newer HedgeLock: {error}") from error
        raise BadMessage(str(error)) from error
    kind = type(envelope.body)
    if envelope.v > schema_of(kind):
        raise SchemaTooNew(f"{kind.__name__} v{envelope.v}, this HedgeLock knows {schema_of(kind)}")
    if topic is not None and kind not in CARRIES[topic]:
        raise BadMessage(f"{kind.__name__} does not belong on {topic}")
    return envelope


def decode_body(value: bytes) -> Message:
    """A bare message, as the journal keeps them; raises BadMessage."""
    try:
        body: Message = _body_decoder.decode(value)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadMessage(str(error)) from error
    return body


def _is_newer(value: bytes) -> bool:
    try:
        return _version_decoder.decode(value).v > max(schema_of(kind) for kind in KINDS)
    except msgspec.DecodeError:
        return False


def new_trace(seed: str) -> str:
    """A W3C traceparent derived from a unique seed."""
    digest = hashlib.blake2b(seed.encode(), digest_size=24).hexdigest()
    return f"00-{digest[:32]}-{digest[32:]}-01"


def child_trace(parent: str, seed: str) -> str:
    """The same trace, one span further."""
    span = hashlib.blake2b(seed.encode(), digest_size=8).hexdigest()
    return f"{parent[:36]}{span}-01"
