"""A small two-pocket world for the hedger's tests: prices in, fills and balances out.

It obeys every intent at mark with the taker fee and re-reads all four facts after each action. Not
the exchange simulator: this is the independent study's model, in a page.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from hedgelock.domain.account import (
    CoinBalance,
    FundBalance,
    FundRead,
    LoanCollateral,
    LoanDebt,
    LoanRead,
    Position,
    PositionsRead,
    WalletRead,
    WithdrawableQty,
)
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.hedging import HedgeDecision, HedgeMemory, step
from hedgelock.domain.instrument import (
    CollateralTerms,
    CollateralTier,
    Instrument,
    MarginTier,
    Settlement,
)
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.money import saturate
from hedgelock.domain.order import (
    CancelOrders,
    Fill,
    OrderConfirmation,
    OrderStatus,
    PlaceOrder,
    Side,
)
from hedgelock.domain.policy import HedgePolicy, Policy
from hedgelock.domain.risk import Confidence, RiskAssessment, RiskReason, RiskState
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.step import Now, Output, Step
from hedgelock.domain.treasury import (
    TreasuryAction,
    TreasuryConfirmation,
    TreasuryKind,
    TreasuryStage,
)

D = Decimal
ACCOUNT = "main"
PERP = "linear:BTCUSDT"
SPOT = "spot:BTCUSDT"
FEE = D("0.00055")
SPOT_FEE = D("0.001")
ZERO = D(0)


def instrument(name: str = PERP, **changes: object) -> Instrument:
    """BTCUSDT as the venue lists it, first two tiers."""
    base: dict[str, object] = {
        "instrument": name,
        "settlement": Settlement.LINEAR if name.startswith("linear") else Settlement.SPOT,
        "base": "BTC", "quote": "USDT", "settle": "USDT",
        "tick_size": D("0.1"), "lot_size": D("0.001"), "qty_min": D("0.001"),
        "notional_min": D(5),
        "taker_fee": FEE if name.startswith("linear") else SPOT_FEE, "maker_fee": D("0.0002"),
        "tiers": (
            MarginTier(notional_max=D(2_000_000), initial_rate=D("0.01"),
                       maintenance_rate=D("0.005"), deduction=ZERO),
            MarginTier(notional_max=D(2_600_000), initial_rate=D("0.0111"),
                       maintenance_rate=D("0.0056"), deduction=D(1200)),
        ),
        "ts_seen_ms": 0,
    }
    return Instrument(**(base | changes))  # type: ignore[arg-type]


def terms(loan: str = "1", margin: str = "0.95") -> CollateralTerms:
    """One ratio for any amount."""
    def flat(ratio: str) -> tuple[CollateralTier, ...]:
        return (CollateralTier(qty_min=ZERO, qty_max=None, ratio=D(ratio)),)

    return CollateralTerms(
        coin="BTC", loan_tiers=flat(loan), margin_tiers=flat(margin), ts_seen_ms=0
    )


def policy(*, reserve: Decimal | None = D(6000), version: int = 1, **changes: object) -> Policy:
    """The defaults with a reserve."""
    hedge = HedgePolicy(reserve=reserve, **changes)  # type: ignore[arg-type]
    return Policy(account=ACCOUNT, version=version, hedge=hedge)


@dataclass
class TableRows:
    """Tables for one account, changed by hand."""

    policy_row: Policy | None = field(default_factory=policy)
    safety_row: SafetyState | None = None
    funding_row: FundingContext | None = None
    terms_row: CollateralTerms | None = field(default_factory=terms)
    instruments: dict[str, Instrument] = field(
        default_factory=lambda: {PERP: instrument(), SPOT: instrument(SPOT)}
    )
    markets: dict[str, MarketTick] = field(default_factory=dict)

    def market(self, instrument: str) -> MarketTick | None:
        """Latest prices."""
        return self.markets.get(instrument)

    def instrument(self, instrument: str) -> Instrument | None:
        """Contract terms."""
        return self.instruments.get(instrument)

    def terms(self, coin: str) -> CollateralTerms | None:
        """Collateral ratios."""
        return self.terms_row

    def funding(self, instrument: str) -> FundingContext | None:
        """Funding context."""
        return self.funding_row

    def policy(self, account: str) -> Policy | None:
        """Limits."""
        return self.policy_row

    def safety(self, account: str) -> SafetyState | None:
        """Safety's word."""
        return self.safety_row


def risk_state(ltv: Decimal | None) -> RiskState:
    """The label of an LTV, without hysteresis."""
    if ltv is None or ltv >= D("0.9"):
        return RiskState.CRITICAL
    if ltv >= D("0.8"):
        return RiskState.DANGER
    return RiskState.CAUTION if ltv >= D("0.65") else RiskState.NORMAL


@dataclass
class World:
    """Pockets, loan and venue. Amounts in coins and USDT; `position` + long."""

    price: Decimal = D(60_000)
    cash: Decimal = D(6_000)
    coins: Decimal = D("0.1")
    fund: Decimal = ZERO
    debt: Decimal = D(36_600)
    collateral: Decimal = D(1)
    position: Decimal = ZERO
    entry: Decimal = ZERO
    leverage: Decimal = D(10)
    now_ms: int = 1_000_000
    seq: int = 0
    fees: Decimal = ZERO
    tables: TableRows = field(default_factory=TableRows)
    memory: HedgeMemory = field(default_factory=HedgeMemory)
    decisions: int = 0
    read_at_ms: int = 0
    log_id: str = "00"
    confidence: Confidence = Confidence.FRESH
    orders: list[tuple[PlaceOrder, Fill]] = field(default_factory=list)
    money: list[TreasuryAction] = field(default_factory=list)
    cancels: list[CancelOrders] = field(default_factory=list)
    stops: dict[str, PlaceOrder] = field(default_factory=dict)
    journal: list[HedgeDecision] = field(default_factory=list)
    ltv_max: Decimal = ZERO

    # ------------------------------------------------------------ the venue

    @property
    def upl(self) -> Decimal:
        """Unrealised profit at the price."""
        return self.position * (self.price - self.entry)

    @property
    def equity(self) -> Decimal:
        """U: the pocket's USDT."""
        return self.cash + self.upl

    @property
    def ltv(self) -> Decimal:
        """Debt over collateral, ratio 1."""
        return self.debt / (self.collateral * self.price)

    @property
    def total(self) -> Decimal:
        """Everything owned less everything owed, no haircut."""
        own = (self.collateral + self.coins) * self.price + self.equity + self.fund
        return own - self.debt

    def withdrawable(self) -> Decimal:
        """Realised money that margin does not need."""
        balance = D("0.95") * self.coins * self.price + self.equity
        free = balance - abs(self.position) * self.price / self.leverage
        return max(ZERO, min(self.cash, free))

    def facts(self) -> list[Message]:
        """All four, asked for now."""
        self.now_ms += 1
        at = self.read_at_ms = self.now_ms
        stamp = {"account": ACCOUNT, "ts_requested_ms": at, "ts_event_ms": at, "ts_seen_ms": at}
        position = Position(
            instrument=PERP, position_qty=self.position, entry_price=self.entry,
            upl=saturate(self.upl),
            liquidation_price=None, leverage=self.leverage, status="Normal", adl_rank=0,
            seq=self.seq,
        )
        def coin(name: str, qty: Decimal) -> CoinBalance:
            return CoinBalance(
                coin=name, wallet_qty=qty, borrowed_qty=ZERO, accrued_interest=ZERO, upl=ZERO,
                locked_qty=ZERO, is_collateral=True,
            )

        return [
            WalletRead(
                coins=(coin("BTC", self.coins), coin("USDT", self.cash)),
                withdrawable=(WithdrawableQty(coin="USDT", qty=saturate(self.withdrawable())),),
                margin_balance=None, maintenance_margin=None, margin_ratio=None, **stamp,
            ),
            PositionsRead(positions=(position,) if self.position else (), **stamp),
            FundRead(
                balances=(FundBalance(coin="USDT", qty=self.fund, transferable_qty=self.fund),),
                **stamp,
            ),
            LoanRead(
                debts=(LoanDebt(coin="USDT", qty=self.debt, hourly_rate=ZERO),),
                collateral=(LoanCollateral(coin="BTC", qty=self.collateral),),
                ltv=None, collateral_state=0, **stamp,
            ),
        ]

    def fill(self, order: PlaceOrder) -> OrderConfirmation:
        """Fill a market order whole, at mark."""
        self.now_ms += 1
        self.seq += 1
        price, signed, pnl = self.price, order.qty * order.side.sign, ZERO
        if order.instrument == SPOT:
            fee = order.qty * price * SPOT_FEE
            self.coins += signed
            self.cash -= signed * price + fee
        else:
            fee = order.qty * price * FEE
            if self.position * signed < 0:
                closed = min(abs(self.position), order.qty)
                pnl = closed * (price - self.entry) * (1 if self.position > 0 else -1)
            else:
                held = abs(self.position)
                self.entry = (held * self.entry + order.qty * price) / (held + order.qty)
            self.position += signed
            self.cash += pnl - fee
        self.fees += fee
        fill = Fill(
            exec_id=f"x{self.seq}", instrument=order.instrument, side=order.side, qty=order.qty,
            price=price, fee=fee, fee_coin="USDT", pnl=pnl, is_maker=False, seq=self.seq,
            ts_ms=self.now_ms,
        )
        self.orders.append((order, fill))
        return confirmation(order, fills=(fill,), at_ms=self.now_ms)

    def pay(self, action: TreasuryAction) -> TreasuryConfirmation:
        """Carry out a treasury action whole."""
        self.now_ms += 1
        moved, loan = action.transfer_amount, action.amount
        match action.kind_of:
            case TreasuryKind.REPAY:
                assert moved <= self.withdrawable() + D("0.01"), "the venue would refuse"
                self.cash -= moved
                self.fund += moved - loan
                self.debt -= loan
            case TreasuryKind.BORROW:
                self.debt += loan
                self.fund += loan - moved
                self.cash += moved
            case TreasuryKind.REPAY_WITH_COLLATERAL:
                self.debt -= loan
                self.collateral -= loan / self.price
            case TreasuryKind.TRANSFER_TO_UNIFIED:
                self.fund -= moved
                self.cash += moved
                loan = ZERO
            case TreasuryKind.TRANSFER_TO_FUND:
                raise AssertionError("the policy never moves money to FUND for its own sake")
        assert self.fund >= 0
        assert self.debt >= 0
        self.money.append(action)
        return TreasuryConfirmation(
            account=ACCOUNT, intent_id=action.intent_id, kind_of=action.kind_of, coin="USDT",
            amount=action.amount, stage=TreasuryStage.DONE, moved_amount=moved, loan_amount=loan,
            is_terminal=True, is_unknown=False, text="", revision=1, ts_confirmed_ms=self.now_ms,
        )

    # ------------------------------------------------------------ the hedger on it

    def assessment(self, **changes: object) -> RiskAssessment:
        """What the risk-engine would say at this price."""
        value = self.collateral * self.price
        ltv = self.debt / value if value else None
        base: dict[str, object] = {
            "account": ACCOUNT, "policy_version": 1, "state": risk_state(ltv),
            "confidence": self.confidence, "reason": RiskReason.WITHIN_LIMITS, "ltv": ltv,
            "ltv_exchange": None, "ltv_net_fall": None, "margin_ratio": None,
            "margin_ratio_rise": None, "margin_ratio_fall": None, "debt_value": self.debt,
            "counted_value": value, "collateral_value": value, "net_delta": ZERO,
            "mark_price": self.price, "index_price": self.price, "funding_apr": None,
            "inputs": (), "since_ts_ms": 0, "assessed_ts_ms": self.now_ms,
            "market_ts_event_ms": self.now_ms,
        }
        return RiskAssessment(**(base | changes))  # type: ignore[arg-type]

    def step(self, message: Message) -> Step[HedgeMemory]:
        """Fold one message."""
        self.decisions += 1
        done = step(
            self.memory, self.tables, message,
            Now(self.now_ms, f"hedger:{ACCOUNT}:{self.decisions}", self.log_id),
        )
        self.memory = done.state
        return done

    def deliver(self, *messages: Message) -> None:
        """Fold messages and everything they lead to, until the world is quiet."""
        waiting = deque(messages)
        for _ in range(2_000):
            if not waiting:
                return
            done = self.step(waiting.popleft())
            for output in done.outputs:
                waiting.extend(self.obey(output))
        raise AssertionError("the hedger never comes to rest")

    def obey(self, output: Output) -> list[Message]:
        """Carry out one output; what it leads to."""
        match output.message:
            case PlaceOrder() as order if order.trigger_price is not None:
                return self.rest(order)
            case PlaceOrder() as order:
                return [self.fill(order), *self.facts()]
            case TreasuryAction() as action:
                return [self.pay(action), *self.facts()]
            case HedgeDecision() as decision:
                self.journal.append(decision)
            case CancelOrders() as cancel if cancel.intents is not None:
                gone = [self.stops.pop(name) for name in cancel.intents if name in self.stops]
                return [self.stop_word(stop, OrderStatus.CANCELLED) for stop in gone]
            case CancelOrders() as cancel:
                self.cancels.append(cancel)
        return []

    def rest(self, stop: PlaceOrder) -> list[Message]:
        """A stop waits at the venue; the one that it replaces is taken away."""
        self.now_ms += 1
        told: list[Message] = [self.stop_word(stop, OrderStatus.NEW)]
        if stop.replaces:
            told.append(self.stop_word(self.stops.pop(stop.replaces), OrderStatus.CANCELLED))
        self.stops[stop.intent_id] = stop
        return told

    def stop_word(self, stop: PlaceOrder, status: OrderStatus) -> OrderConfirmation:
        """What the executor says of a stop."""
        is_over = status is not OrderStatus.NEW
        word = confirmation(
            stop, at_ms=self.now_ms, status=status, is_terminal=is_over, revision=2 if is_over else 1
        )
        return msgspec.structs.replace(word, is_stop=True, venue_order_id="v" + stop.intent_id)

    def tick(self, price: Decimal) -> None:
        """A new price, its assessment and all that follows."""
        self.now_ms += 250
        self.price = price
        self.ltv_max = max(self.ltv_max, self.ltv)
        if self.now_ms - self.read_at_ms >= 5_000:
            self.deliver(*self.facts())
        self.deliver(self.assessment())

    def reasons(self) -> Counter[str]:
        """How often each reason led to an order."""
        return Counter(order.reason for order, _ in self.orders)


def confirmation(
    order: PlaceOrder, *, fills: tuple[Fill, ...] = (), at_ms: int, revision: int = 1,
    is_terminal: bool = True, is_unknown: bool = False,
    status: OrderStatus = OrderStatus.FILLED,
) -> OrderConfirmation:
    """What the executor says of an order."""
    return OrderConfirmation(
        account=order.account, intent_id=order.intent_id, client_order_id="hl" + order.intent_id,
        venue_order_id="", instrument=order.instrument, side=order.side, qty=order.qty,
        filled_qty=sum((f.qty for f in fills), ZERO), fills=fills, status=status,
        is_terminal=is_terminal, is_unknown=is_unknown, reduce_only=order.reduce_only, text="",
        revision=revision, ts_confirmed_ms=at_ms,
    )


def fill_of(
    order: PlaceOrder, *, qty: Decimal | None = None, seq: int = 1, price: Decimal | None = None,
    pnl: Decimal = ZERO, fee: Decimal = ZERO,
) -> Fill:
    """One fill of an order."""
    return Fill(
        exec_id=f"x{seq}", instrument=order.instrument, side=order.side, qty=qty or order.qty,
        price=price or order.mark_price, fee=fee, fee_coin="USDT", pnl=pnl, is_maker=False,
        seq=seq, ts_ms=0,
    )


__all__ = ["ACCOUNT", "PERP", "SPOT", "D", "Side", "TableRows", "World", "confirmation",
           "fill_of", "instrument", "policy", "risk_state", "terms"]
