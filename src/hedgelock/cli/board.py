"""What the live view knows: a fold of the bus's records and of the simulator's state. No I/O, no clock.

Nothing is decided from it. Money and prices stay Decimal; times are milliseconds (UTC epoch).
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hedgelock.bus import codec
from hedgelock.cli import words
from hedgelock.domain import account
from hedgelock.domain.account import AccountView
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import OrderConfirmation, PlaceOrder
from hedgelock.domain.policy import Policy
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.risk_detail import RiskDetail
from hedgelock.domain.safety import SafetyState, stricter
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation, TreasuryKind
from hedgelock.errors import BadMessage
from hedgelock.ports import Record

TOPICS = (
    "risk_state", "risk_detail", "hedge_decisions", "hedge_trades", "treasury_actions", "trade_confirmations",
    "account_raw", "funding_context", "safety_state", "market_data", "quarantine", "policies",
)
"""What the live view follows."""

OURS, TWIN = "hedgelock-sim", "unprotected-sim"
"""The simulator's names of the account that HedgeLock watches and of the one nobody watches."""

KEPT = 50
"""Decisions and moves remembered."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One line of the decision list."""

    ts_ms: int
    ident: str
    ltv: Decimal | None
    text: str
    acted: bool
    reason: str = ""


@dataclass(slots=True)
class Move:
    """An order or treasury action and how far it came."""

    ts_ms: int
    text: str
    status: str = "decided"


@dataclass(frozen=True, slots=True)
class SimAccount:
    """One account as the simulator's auditor sees it. Coins, USD, fractions."""

    unified: dict[str, Decimal]
    fund: dict[str, Decimal]
    collateral: dict[str, Decimal]
    debt: dict[str, Decimal]
    ltv: Decimal
    ltv_max: Decimal
    equity: Decimal
    unrealised: Decimal
    liquidated_ms: int
    counts: dict[str, int]
    fees: Decimal

    @classmethod
    def of(cls, row: dict[str, Any]) -> SimAccount:
        """From one account of `/sim/state`."""
        pockets = {
            name: {coin: Decimal(text) for coin, text in row[name].items()}
            for name in ("unified", "fund", "collateral", "debt")
        }
        return cls(
            **pockets, ltv=Decimal(row["ltv"]), ltv_max=Decimal(row["ltv_max"]),
            equity=Decimal(row["equity_usd"]), unrealised=Decimal(row["unrealised_usd"]),
            liquidated_ms=row["loan_liquidated_ms"] or row["margin_liquidated_ms"],
            counts={name: row[name] for name in ("orders", "fills", "repayments", "borrows")},
            fees=Decimal(row["fees_usd"]),
        )


@dataclass(frozen=True, slots=True)
class SimState:
    """The simulator's state at one moment; script times in seconds."""

    scenario: str
    speed: float
    finished: bool
    script_s: float
    duration_s: float
    started_ms: int
    next_settlement_ms: int
    index: dict[str, Decimal]
    accounts: dict[str, SimAccount]

    @classmethod
    def of(cls, row: dict[str, Any]) -> SimState:
        """From the body of `/sim/state`; KeyError when it is something else."""
        return cls(
            scenario=row["scenario"], speed=float(row["speed"]), finished=bool(row["finished"]),
            script_s=float(row["script_s"]), duration_s=float(row["duration_s"]),
            started_ms=int(row["started_ms"]), next_settlement_ms=int(row["next_settlement_ms"]),
            index={base: Decimal(text) for base, text in row["index"].items()},
            accounts={name: SimAccount.of(a) for name, a in row["accounts"].items()},
        )

    def price(self, coin: str) -> Decimal:
        """USD per coin; dollars and their tokens count as 1."""
        return self.index.get(coin, Decimal(1))

    def hold_equity(self, start: SimAccount) -> Decimal:
        """Equity now of somebody who held `start`'s pockets, did nothing and was never liquidated."""
        held = (start.unified, start.fund, start.collateral)
        value = sum((qty * self.price(c) for p in held for c, qty in p.items()), Decimal(0))
        return value - sum((qty * self.price(c) for c, qty in start.debt.items()), Decimal(0))


@dataclass
class Counts:
    """What was done since this run started. Money in USDT."""

    orders: set[str] = field(default_factory=set)
    fills: set[str] = field(default_factory=set)
    repaid: dict[str, Decimal] = field(default_factory=dict)
    borrowed: dict[str, Decimal] = field(default_factory=dict)
    fees: Decimal = Decimal(0)
    unreadable: int = 0


@dataclass
class Board:
    """Everything that one screen shows of one account. Records before `since_ms` are not counted."""

    account: str
    mode: str
    since_ms: int
    policy: Policy
    risk: RiskAssessment | None = None
    risk_seen_ms: int = 0
    detail: RiskDetail | None = None
    funding: FundingContext | None = None
    tick: MarketTick | None = None
    first_price: Decimal | None = None
    price_min: Decimal | None = None
    """The lowest index price seen."""
    view: AccountView = field(default_factory=AccountView)
    decision: HedgeDecision | None = None
    own_safety: SafetyState | None = None
    house_safety: SafetyState | None = None
    decisions: collections.deque[Decided] = field(
        default_factory=lambda: collections.deque(maxlen=KEPT)
    )
    moves: collections.OrderedDict[str, Move] = field(default_factory=collections.OrderedDict)
    said: dict[str, str] = field(default_factory=dict)
    """How far intents came whose order itself was not seen yet: topics are followed side by side."""
    counts: Counts = field(default_factory=Counts)
    pays_since_ms: int = 0
    """When the hedge began to pay funding; 0 = it does not."""
    sim: SimState | None = None
    sim_first: SimState | None = None
    trouble: str = ""
    """What the reader of the bus or the simulator last failed with."""

    # ---------------------------------------------------------------- taking in

    def take(self, record: Record) -> codec.Envelope | None:
        """Fold one record in; the envelope, or None when it is unreadable or another account's."""
        try:
            envelope = codec.decode(record.value, record.topic)
        except BadMessage:
            self.counts.unreadable += record.ts_ms >= self.since_ms
            return None
        body = envelope.body
        if getattr(body, "account", self.account) not in (self.account, "*"):
            return None
        self._take(body, envelope, record.ts_ms)
        return envelope

    def take_sim(self, row: dict[str, Any]) -> None:
        """Take in the simulator's state."""
        self.sim = SimState.of(row)
        if self.sim_first is None:
            self.sim_first = self.sim
        self._note_price()

    def _take(self, body: Message, envelope: codec.Envelope, ts_ms: int) -> None:
        counted = ts_ms >= self.since_ms
        match body:
            case RiskAssessment():
                self.risk, self.risk_seen_ms = body, ts_ms
            case RiskDetail():
                self.detail = body
            case HedgeDecision():
                self._take_decision(body, envelope)
            case PlaceOrder() | TreasuryAction():
                self._move(body.intent_id, envelope.ts_ms, describe_move(body))
            case OrderConfirmation():
                self._take_order(body, counted=counted)
            case TreasuryConfirmation():
                self._take_treasury(body, counted=counted)
            case Quarantined():
                self.counts.unreadable += counted
            case _:
                self._take_table(body, envelope.ts_ms)

    def _take_table(self, body: Message, ts_ms: int) -> None:
        """What replaces what was known before; other facts are not shown here."""
        match body:
            case FundingContext():
                if body.instrument == self.policy.hedge.instrument:
                    self.funding = body
                    self._note_payer(ts_ms)
            case MarketTick():
                if body.instrument == self.policy.hedge.instrument:
                    self.tick = body
                    self.first_price = self.first_price or body.index_price
                    self._note_price()
            case SafetyState():
                if body.account == self.account:
                    self.own_safety = body
                else:
                    self.house_safety = body
            case Policy():
                if body.account == self.account:
                    self.policy = body
            case (
                account.WalletRead() | account.PositionsRead() | account.PositionChanged()
                | account.FundRead() | account.LoanRead()
            ):
                self.view = account.fold(self.view, body)
                self._note_payer(ts_ms)

    def _note_price(self) -> None:
        price = self.index_price
        if price is not None and (self.price_min is None or price < self.price_min):
            self.price_min = price

    def _note_payer(self, ts_ms: int) -> None:
        """Shorts pay at a negative rate."""
        if self.funding is None or not self.funding.apr < 0 < self.short_held:
            self.pays_since_ms = 0
        elif not self.pays_since_ms:
            self.pays_since_ms = ts_ms

    def _take_decision(self, body: HedgeDecision, envelope: codec.Envelope) -> None:
        self.decision = body
        said = Decided(
            envelope.ts_ms, envelope.id.rpartition(".")[0] or envelope.id, body.ltv,
            describe_decision(body), bool(body.actions), body.reason,
        )
        # Every action stays in the list; of the waits between them only the present one is news.
        if self.decisions and not self.decisions[-1].acted:
            self.decisions.pop()
        self.decisions.append(said)

    def _take_order(self, body: OrderConfirmation, *, counted: bool) -> None:
        self._came(body.intent_id, _order_status(body))
        if not counted:
            return
        if body.venue_order_id:
            self.counts.orders.add(body.intent_id)
        for fill in body.fills:
            if fill.exec_id not in self.counts.fills:
                self.counts.fills.add(fill.exec_id)
                # A spot purchase pays its fee in coins.
                in_quote = fill.fee_coin in (self.policy.hedge.quote, "USD", "USDC")
                self.counts.fees += fill.fee * (1 if in_quote else fill.price)

    def _take_treasury(self, body: TreasuryConfirmation, *, counted: bool) -> None:
        unknown = "; outcome not known yet" if body.is_unknown else ""
        self._came(body.intent_id, body.stage.value.replace("_", " ") + unknown)
        if counted and body.loan_amount:
            borrows = body.kind_of is TreasuryKind.BORROW
            totals = self.counts.borrowed if borrows else self.counts.repaid
            totals[body.intent_id] = body.loan_amount

    def _move(self, intent: str, ts_ms: int, text: str) -> None:
        self.moves[intent] = Move(ts_ms, text, self.said.pop(intent, "decided"))
        while len(self.moves) > KEPT:
            self.moves.popitem(last=False)

    def _came(self, intent: str, status: str) -> None:
        """How far an intent came; it may be heard of before the intent itself."""
        move = self.moves.get(intent)
        if move is not None:
            move.status = status
            return
        self.said[intent] = status
        while len(self.said) > KEPT:
            self.said.pop(next(iter(self.said)))

    # ---------------------------------------------------------------- what the screen asks

    @property
    def safety(self) -> SafetyState | None:
        """What binds the account: safety's word on it, or on the house."""
        return stricter(self.own_safety, self.house_safety)

    @property
    def ours(self) -> SimAccount | None:
        """Our account as the simulator sees it; None against a real exchange."""
        return self.sim.accounts.get(OURS) if self.sim else None

    @property
    def twin(self) -> SimAccount | None:
        """The account that nobody watches; None against a real exchange."""
        return self.sim.accounts.get(TWIN) if self.sim else None

    @property
    def short_held(self) -> Decimal:
        """The hedge at the exchange, in coins, + = short."""
        return -self.view.position_qty(self.policy.hedge.instrument)

    @property
    def equity(self) -> Decimal | None:
        """Collateral + FUND + trading pocket − debt, without haircut, USDT; None before it is known.

        The simulator's audit where there is one, else from the venue's last reads.
        """
        if self.ours is not None:
            return self.ours.equity
        wallet = self.view.wallet
        if wallet is None or wallet.margin_balance is None or self.risk is None:
            return None
        fund = self.view.fund_qty(self.policy.hedge.quote)
        return self.risk.collateral_value + fund + wallet.margin_balance - self.risk.debt_value

    @property
    def index_price(self) -> Decimal | None:
        """USD per coin of the collateral."""
        if self.sim is not None:
            return self.sim.index.get(self.policy.hedge.coin)
        return self.tick.index_price if self.tick else None

    @property
    def moved(self) -> Decimal | None:
        """The price's change since the start, a fraction; None before both are known."""
        first = self.sim_first.index.get(self.policy.hedge.coin) if self.sim_first else (
            self.first_price)
        price = self.index_price
        return None if price is None or not first else price / first - 1


def describe_move(body: PlaceOrder | TreasuryAction) -> str:
    """An order or treasury action in few words."""
    if isinstance(body, TreasuryAction):
        return words.headline(body).partition(": ")[2]
    market, _, symbol = body.instrument.partition(":")
    spot = "spot " if market == "spot" else ""
    only = " reduce-only" if body.reduce_only else ""
    if body.trigger_price is not None:
        only = f" stop at {words.money(body.trigger_price)}"
    return f"{body.side.value} {words.plain(body.qty)} {spot}{symbol}{only}"


def _order_status(body: OrderConfirmation) -> str:
    if body.filled_qty and body.fills:
        qty = sum((f.qty for f in body.fills), Decimal(0))
        price = sum((f.qty * f.price for f in body.fills), Decimal(0)) / qty
        part = "" if body.filled_qty == body.qty else f" {words.plain(body.filled_qty)}"
        return f"filled{part} at {words.money(price)}"
    if body.is_unknown:
        return "outcome not known yet"
    return body.status.value + (f": {words.brief(body.text)}" if body.text else "")


_QUIET = frozenset({"within_band", "killed", "halted", "input_stale"})
"""Reasons for doing nothing."""


def describe_decision(body: HedgeDecision) -> str:
    """What was decided and why, with the number that matters, in few words."""
    text = words.brief(body.reason)
    if body.actions and body.reason in _QUIET:
        # What was done (a cancel by safety, say) is not what the reason speaks of.
        return f"{body.actions[0]}; {text}"
    if body.target is not None and body.reason in ("hedge_raised", "hedge_lowered", "margin_lowered"):
        head, _, tail = text.partition(":")
        return f"{head} {body.target:.3f}:{tail}"
    if body.repay_wanted and body.actions and body.reason.endswith("_repay"):
        return f"{text} ({words.money(body.repay_wanted)} wanted)"
    return text
