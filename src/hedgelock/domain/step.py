"""What every folded service returns, and what it may look at.

`step(state, tables, message, now) -> Step`: no clock, no I/O, no logging, no randomness.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from hedgelock.domain.message import Message

if TYPE_CHECKING:
    from hedgelock.domain.funding import FundingContext
    from hedgelock.domain.instrument import CollateralTerms, Instrument
    from hedgelock.domain.market import MarketTick
    from hedgelock.domain.policy import Policy
    from hedgelock.domain.safety import SafetyState

S = TypeVar("S")


class Now(NamedTuple):
    """The moment and identity of a step.

    `decision` names it (service, account, sequence): `hedger:main:42`. `log_id` belongs to the log.
    """

    now_ms: int
    decision: str
    log_id: str


class Tables(Protocol):
    """Latest message per key of each table; None = never seen. Reads are recorded by the runner."""

    def market(self, instrument: str) -> MarketTick | None:
        """Latest prices."""

    def instrument(self, instrument: str) -> Instrument | None:
        """Contract terms."""

    def terms(self, coin: str) -> CollateralTerms | None:
        """Collateral ratios of a coin."""

    def funding(self, instrument: str) -> FundingContext | None:
        """Latest funding context."""

    def policy(self, account: str) -> Policy | None:
        """The account's limits."""

    def safety(self, account: str) -> SafetyState | None:
        """Safety's latest word."""


class PriceBox(NamedTuple):
    """Inside [low, high] of mark *and* index the outputs cannot change. Quote per base."""

    mark_low: Decimal
    mark_high: Decimal
    index_low: Decimal
    index_high: Decimal


class Hold(msgspec.Struct, frozen=True):
    """Where the outputs cannot change: price boxes per instrument, and until when.

    A tick of an instrument that has no box does not concern the account. `until_ms` None = for ever
    while prices stay inside. Facts, policies, safety, funding context and terms always step.
    """

    boxes: dict[str, PriceBox] = {}
    until_ms: int | None = None

    def contains(self, instrument: str, mark: Decimal, index: Decimal) -> bool:
        """True when a tick at these prices needs no step."""
        box = self.boxes.get(instrument)
        if box is None:
            return True
        return box.mark_low <= mark <= box.mark_high and box.index_low <= index <= box.index_high


class Output(NamedTuple):
    """A message for a topic; the key is the account unless given."""

    topic: str
    key: str
    message: Message


class Step(NamedTuple, Generic[S]):
    """A decision: the new state, what to say, what to do in the world, and how long it holds."""

    state: S
    outputs: tuple[Output, ...] = ()
    effects: tuple[Any, ...] = ()
    hold: Hold = Hold()
