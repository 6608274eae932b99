"""A log on disk and the messages of a small story: a tick that led to a filled hedge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal as D
from pathlib import Path
from typing import NamedTuple

from hedgelock.bus import codec
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.domain.account import Position, PositionsRead
from hedgelock.domain.funding import FundingContext, FundingRegime
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import Fill, OrderConfirmation, OrderStatus, PlaceOrder, Side
from hedgelock.domain.risk import Confidence, InputAge, RiskAssessment, RiskReason, RiskState
from hedgelock.domain.treasury import (
    TreasuryAction,
    TreasuryConfirmation,
    TreasuryKind,
    TreasuryStage,
)
from hedgelock.ports import Outgoing

BTC = "linear:BTCUSDT"
NOW = 1_763_800_000_000
SERVICES = ("COLLECTOR", "RISK_ENGINE", "HEDGER", "TRADE_EXECUTOR", "FUNDING_ENGINE", "SAFETY")


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


class Log:
    """A log on disk with a publisher."""

    def __init__(self, path: Path) -> None:
        self.bus = EmbeddedBus(path, clock=SystemClock(), upkeep=False)
        self._out = self.bus.publisher("test")

    def put(
        self, topic: str, key: str, body: Message, ident: str, *, causes: Sequence[str] = (),
        ts_ms: int = NOW,
    ) -> None:
        """Append one message."""
        value = codec.encode(body, id=ident, trace=codec.new_trace(ident), causes=tuple(causes),
                             ts_ms=ts_ms)
        self.put_raw(topic, key, value)

    def put_raw(self, topic: str, key: str, value: bytes) -> None:
        """Append bytes as they are."""
        self._out.publish([Outgoing(topic, key, value)])
        self._out.flush(5)


# ---------------------------------------------------------------- a small story


def tick(price: str = "50000") -> MarketTick:
    """A price, 4 ms on its way."""
    return MarketTick(instrument=BTC, mark_price=D(price), index_price=D(price),
                      ts_event_ms=NOW - 4, ts_seen_ms=NOW)


def funding(apr: str = "-1.64") -> FundingContext:
    """Shorts pay."""
    return FundingContext(
        instrument=BTC, apr=D(apr), regime=FundingRegime.MANIA, since_ts_ms=NOW,
        multiplier_long=D(1), multiplier_short=D("0.2"), funding_rate=D("-0.0015"),
        funding_interval_h=D(8), funding_next_ts_ms=NOW + 90_000, reason="regime_raised",
        ts_event_ms=NOW, ts_seen_ms=NOW,
    )


def risk(
    state: RiskState = RiskState.CAUTION, ltv: str = "0.72",
    confidence: Confidence = Confidence.FRESH,
) -> RiskAssessment:
    """An assessment at 50,000 USDT."""
    return RiskAssessment(
        account="main", policy_version=1, state=state, confidence=confidence,
        reason=RiskReason.LTV_ABOVE_CAUTION, ltv=D(ltv), ltv_exchange=D("0.71"),
        ltv_net_fall=D("0.85"), margin_ratio=D("0.03"), margin_ratio_rise=D("0.4"),
        margin_ratio_fall=D("0.01"), debt_value=D(36000), counted_value=D(50000),
        collateral_value=D(50000), net_delta=D("0.8"), mark_price=D(50000),
        index_price=D(50000), funding_apr=D("-1.64"),
        inputs=(InputAge(name="market", age_ms=4, age_max_ms=5000),), since_ts_ms=NOW,
        assessed_ts_ms=NOW + 1, market_ts_event_ms=NOW - 4,
    )


def decision(reason: str = "hedge_raised", actions: tuple[str, ...] = ("sell 0.300",)) -> HedgeDecision:
    """More hedge."""
    return HedgeDecision(
        account="main", reason=reason, actions=actions, target=D("0.3"), held=D(0),
        in_flight=D(0), h_cap=D("0.6"), ltv=D("0.72"), ltv_net_fall=D("0.93"), debt=D(36000),
        equity=D(6000), fund=D(0), counted_value=D(50000), repay_wanted=D(2500),
        mark_price=D(50000), index_price=D(50000), decided_ts_ms=NOW + 2,
    )


def place(intent: str = "hedger:main:7.0") -> PlaceOrder:
    """Sell 0.3 at market."""
    return PlaceOrder(
        account="main", intent_id=intent, instrument=BTC, side=Side.SELL, qty=D("0.3"),
        reduce_only=False, protective=True, reason="hedge_raised", mark_price=D(50000),
        slippage_max=D("0.005"), decided_ts_ms=NOW + 2, expires_ts_ms=NOW + 5_002,
    )


def confirm(intent: str = "hedger:main:7.0") -> OrderConfirmation:
    """Filled 10 USDT below the mark."""
    fill = Fill(exec_id="e1", instrument=BTC, side=Side.SELL, qty=D("0.3"), price=D(49990),
                fee=D("8.25"), fee_coin="USDT", pnl=D(0), is_maker=False, seq=5, ts_ms=NOW + 12)
    return OrderConfirmation(
        account="main", intent_id=intent, client_order_id="hlabc", venue_order_id="v-1",
        instrument=BTC, side=Side.SELL, qty=D("0.3"), filled_qty=D("0.3"), fills=(fill,),
        status=OrderStatus.FILLED, is_terminal=True, is_unknown=False, reduce_only=False,
        text="", revision=2, ts_confirmed_ms=NOW + 14,
    )


def repay(intent: str = "hedger:main:9.0") -> tuple[TreasuryAction, TreasuryConfirmation]:
    """Repay 2,500 and its end."""
    action = TreasuryAction(
        account="main", intent_id=intent, kind_of=TreasuryKind.REPAY, coin="USDT",
        amount=D(2500), transfer_amount=D(2500), collateral_coin="BTC", debt_before=D(36000),
        reason="harvest_repay", decided_ts_ms=NOW, expires_ts_ms=NOW + 5000,
    )
    done = TreasuryConfirmation(
        account="main", intent_id=intent, kind_of=TreasuryKind.REPAY, coin="USDT",
        amount=D(2500), stage=TreasuryStage.DONE, moved_amount=D(2500), loan_amount=D(2500),
        is_terminal=True, is_unknown=False, text="", revision=3, ts_confirmed_ms=NOW + 60,
    )
    return action, done


def positions(qty: str = "-0.3") -> PositionsRead:
    """One short."""
    held = Position(instrument=BTC, position_qty=D(qty), entry_price=D(49990), upl=D(120),
                    liquidation_price=None, leverage=None, status="Normal", adl_rank=0, seq=5)
    return PositionsRead(account="main", positions=(held,), ts_requested_ms=NOW,
                         ts_event_ms=NOW, ts_seen_ms=NOW)


