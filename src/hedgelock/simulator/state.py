"""State of the simulated exchange: accounts, positions, orders, and what all operations share."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hedgelock.simulator.assessment import Assessments
from hedgelock.simulator.conditions import Conditions
from hedgelock.simulator.dcp import DisconnectProtection
from hedgelock.simulator.debts import Debt, FixedLoan
from hedgelock.simulator.history import History
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.insurance import Pools
from hedgelock.simulator.interest import InterestNotes
from hedgelock.simulator.jobs import Jobs
from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.margin import Exposure, MarginReport
from hedgelock.simulator.market import Market
from hedgelock.simulator.matching import BUY, Book
from hedgelock.simulator.money import ONE, OUTSIDE, ZERO, Ledger, fund, pledged, text, unified
from hedgelock.simulator.orders import OPEN_STATUSES, OpenOrders, Order
from hedgelock.simulator.prints import Prints
from hedgelock.simulator.scenarios import AccountSetup, Scenario
from hedgelock.simulator.stops import Stops

__all__ = [
    "OPEN_STATUSES", "Account", "Debt", "Event", "Exchange", "Order", "Position", "Refused", "Row",
]  # fmt: skip

Row = dict[str, Any]
CLOSED_KEPT = 500  # recently closed orders that order/realtime still knows


class Refused(Exception):
    """A request that the exchange answers with an error code; nothing was changed."""

    def __init__(
        self, code: int, message: str, *, ext: Row | None = None, result: Row | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.ext = ext or {}
        self.result = result or {}


@dataclass(frozen=True, slots=True)
class Event:
    """Something pushed: rows for a private topic of `account`, or a public frame (account "")."""

    topic: str
    account: str
    category: str
    ts_ms: int
    data: Any
    kind: str = ""  # public frames: snapshot or delta
    sequence: int = 0


@dataclass(slots=True)
class Position:
    """A one-way position; `entry_value` as in `margin.Exposure`."""

    contract: Contract
    size: Decimal = ZERO
    entry_value: Decimal = ZERO
    realised: Decimal = ZERO  # of the position now open, net of fees and funding
    realised_total: Decimal = ZERO
    leverage: Decimal = ONE
    created_ms: int = 0
    updated_ms: int = 0
    open_ms: int = 0
    seq: int = -1
    status: str = "Normal"
    open_fees: Decimal = ZERO  # paid for opening what is held now, in settle coin
    take_profit: Order | None = None  # conditional orders that close all of it
    stop_loss: Order | None = None
    trailing: Order | None = None

    @property
    def average(self) -> Decimal:
        """Entry price: arithmetic (linear) or harmonic (inverse) mean; 0 when flat."""
        if not self.size:
            return ZERO
        held = abs(self.size)
        if self.contract.is_inverse:
            return held / self.entry_value
        return self.entry_value / held


@dataclass(slots=True)
class Account:
    """One account; balances live in the ledger under its pockets' names."""

    name: str
    key: str
    secret: str
    uid: int
    terms: KeyTerms = field(default_factory=KeyTerms)
    positions: dict[str, Position] = field(default_factory=dict)
    orders: History[Order] = field(default_factory=History)
    by_id: dict[str, Order] = field(default_factory=dict)
    by_link: dict[tuple[bool, str], Order] = field(default_factory=dict)
    links: set[tuple[bool, str]] = field(default_factory=set)  # used, for ever
    open_orders: OpenOrders = field(default_factory=OpenOrders)
    closed_recently: deque[str] = field(default_factory=lambda: deque(maxlen=CLOSED_KEPT))
    closed_pnl: History[Row] = field(default_factory=History)
    closing: dict[str, Row] = field(default_factory=dict)  # closed_pnl by order id
    price_action: dict[str, bool] = field(default_factory=dict)  # category → clip (else refuse)
    assessments: Assessments = field(default_factory=Assessments)
    executions: History[Row] = field(default_factory=History)
    log: History[Row] = field(default_factory=History)
    transfers: dict[str, Row] = field(default_factory=dict)
    debts: dict[str, Debt] = field(default_factory=dict)
    borrows: list[Row] = field(default_factory=list)
    repayments: list[Row] = field(default_factory=list)
    adjustments: list[Row] = field(default_factory=list)
    uta_interest: dict[str, Decimal] = field(default_factory=dict)
    owed: dict[str, Decimal] = field(default_factory=dict)  # borrowed by hand, unified pocket
    borrow_hours: History[Row] = field(default_factory=History)  # rows of account/borrow-history
    idle: set[str] = field(default_factory=set)  # coins switched off as collateral
    auto_repay: dict[str, str] = field(default_factory=dict)  # mode per coin, "1" = on
    auto_repay_due: bool = False  # a repayment at the next half hour is scheduled
    spot_margin: bool = True
    spot_leverage: Decimal = Decimal(10)
    fixed_loans: list[FixedLoan] = field(default_factory=list)
    fixed_orders: list[Row] = field(default_factory=list)
    fixed_repayments: list[Row] = field(default_factory=list)
    fixed_renewals: list[Row] = field(default_factory=list)
    loan_busy: bool = False  # a loan action is being processed
    fees_usd: Decimal = ZERO
    fills: int = 0
    ltv_max: Decimal = ZERO
    margin_called_ms: int = 0  # since when the loan's LTV is at or above the margin call
    delayed_since_ms: int = 0  # since when it is at or above the delayed level
    loan_liquidated_ms: int = 0
    margin_liquidated_ms: int = 0

    @property
    def unified(self) -> str:
        """Ledger holder of the trading pocket."""
        return unified(self.name)

    @property
    def fund(self) -> str:
        """Ledger holder of the funding pocket."""
        return fund(self.name)

    @property
    def pledged(self) -> str:
        """Ledger holder of the loan's collateral."""
        return pledged(self.name)

    @property
    def transit(self) -> str:
        """Ledger holder of what is on its way between the pockets."""
        return f"{self.name}/TRANSIT"


class Exchange:
    """What every operation of the exchange reads and changes. No I/O, no clock of its own."""

    def __init__(self, scenario: Scenario, market: Market, *, now_ms: int) -> None:
        self.scenario = scenario
        self.market = market
        self.now_ms = now_ms
        self.received_ns = 0
        self.admitted = 1  # orders of the request being served that its rate limit lets through
        self.born = f"{scenario.name}:{market.seed}:{now_ms}"
        self.ledger = Ledger()
        self.conditions = Conditions()
        self.pools = Pools(self.ledger, market.index, market.contracts)
        self.pools.open(scenario.insurance)
        self.interest = InterestNotes(market.contracts, seed=self.born, now_ms=now_ms)
        self.accounts: dict[str, Account] = {}
        self.by_key: dict[str, Account] = {}
        self.contracts: Mapping[str, Contract] = market.contracts
        self.books = {key: Book(scenario.books.get(key, scenario.book)) for key in self.contracts}
        self.trades = {key: Prints(c.symbol, c.symbol_id) for key, c in self.contracts.items()}
        self.outbox: list[Event] = []
        self.wanted: set[tuple[str, str]] = set()  # public (category, topic) with an audience
        self.resting: dict[str, Order] = {}  # orders in any book, by id
        self.stops = Stops()
        self.dcp = DisconnectProtection(lambda name: self.accounts[name].terms.dcp)
        self.visibility_lag_ms = 0  # how long a new order is missing from order queries
        self.sequence = 1_000_000
        self.loan_pool: dict[str, Decimal] = {}  # coins left to lend; absent = no limit
        self.loan_processing_ms = 0  # loan actions stay "processing" for so long
        self.transfer_processing_ms = 0  # transfers stay PENDING for so long
        self._serial = 0
        self.jobs = Jobs()

    def serial(self) -> int:
        """Next serial number."""
        self._serial += 1
        return self._serial

    def new_id(self, kind: str) -> str:
        """A deterministic id in the shape of a UUID, unique per run of the exchange."""
        digest = hashlib.blake2b(f"{self.born}:{kind}:{self.serial()}".encode(), digest_size=16)
        h = digest.hexdigest()
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def next_sequence(self) -> int:
        """Next cross sequence; orders fills against positions."""
        self.sequence += 1
        return self.sequence

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run `action` in `delay_ms` of exchange time; at once for 0."""
        self.jobs.add(self.now_ms, delay_ms, action)

    def add_account(self, setup: AccountSetup) -> Account:
        """Open an account and deposit its pockets."""
        account = Account(setup.key, setup.key, setup.secret, uid=592_324 + len(self.accounts))
        account.terms = setup.terms
        self.accounts[account.name] = self.by_key[account.key] = account
        for holder, coins in (
            (account.unified, setup.unified),
            (account.fund, setup.fund),
            (account.pledged, setup.collateral),
        ):
            for coin, amount in coins.items():
                self.ledger.move(coin, amount, source=OUTSIDE, target=holder)
        for coin, amount in setup.debt.items():
            account.debts[coin] = Debt(principal=amount)
        return account

    def price(self, coin: str) -> Decimal:
        """USD per coin; dollars and their tokens count as 1."""
        return self.market.index.get(coin, ONE)

    @property
    def coins(self) -> list[str]:
        """Every coin that can be held, by name."""
        return sorted({"USDC", "USDT", *self.market.index})

    def prices(self) -> dict[str, Decimal]:
        """USD per coin for every coin that can be held."""
        return {"USDT": ONE, "USDC": ONE, "USD": ONE, **self.market.index}

    def position(self, account: Account, contract: Contract) -> Position:
        """The account's position, created flat when it has none."""
        position = account.positions.get(contract.key)
        if position is None:
            position = Position(contract, leverage=self.scenario.margin.leverage_default)
            account.positions[contract.key] = position
        return position

    def exposures(self, account: Account, extra: Order | None = None) -> list[Exposure]:
        """Positions and open derivative orders, with `extra` as if it were open."""
        crowds = account.open_orders.by_contract
        adding = extra is not None and not extra.contract.is_spot and not extra.only_reduces
        keys = {*account.positions, *(k for k, c in crowds.items() if c.buying or c.selling)}
        if extra is not None and adding:
            keys.add(extra.contract.key)
        found = []
        for key in sorted(keys):
            contract = self.contracts[key]
            position = self.position(account, contract)
            crowd = crowds.get(key)
            buying, selling = (crowd.buying, crowd.selling) if crowd else (0, 0)
            if extra is not None and adding and extra.contract is contract:
                more = extra.lots - extra.filled_lots
                buying, selling = (
                    (buying + more, selling) if extra.side == BUY else (buying, selling + more)
                )
            if position.size or buying or selling:
                found.append(
                    Exposure(
                        contract, position.size, position.entry_value,
                        self.market.quotes[key].mark, position.leverage,
                        contract.qty(buying), contract.qty(selling),
                    )
                )  # fmt: skip
        return found

    def report(self, account: Account, extra: Order | None = None) -> MarginReport:
        """Margin state of the unified pocket now."""
        return account.assessments.assess(
            self.ledger.coins(account.unified),
            self.exposures(account, extra),
            prices=self.prices(),
            terms=self.scenario.margin,
            owed=account.owed,
            idle=account.idle,
        )

    def emit(self, topic: str, account: Account, rows: list[Row]) -> None:
        """Queue a private push."""
        if rows:
            self.outbox.append(Event(topic, account.name, "", self.now_ms, rows))

    def book(self, account: Account, kind: str, coin: str, **fields: Any) -> None:
        """Append to the transaction log; amounts signed as in §4.2 of the fact sheet."""
        amounts = {name: fields.pop(name, ZERO) for name in ("cash_flow", "funding", "fee")}
        change = amounts["cash_flow"] + amounts["funding"] - amounts["fee"]
        account.log.append(
            {
                "id": f"{account.uid}_{coin}_{self.serial()}", "symbol": "", "category": "",
                "side": "None", "transactionTime": str(self.now_ms), "type": kind,
                "transSubType": "", "qty": "0", "size": "0", "currency": coin, "tradePrice": "0",
                "funding": text(amounts["funding"]) if kind == "SETTLEMENT" else "",
                "fee": text(amounts["fee"]), "cashFlow": text(amounts["cash_flow"]),
                "change": text(change),
                "cashBalance": text(self.ledger.balance(account.unified, coin)),
                "feeRate": "0", "bonusChange": "", "tradeId": "", "orderId": "",
                "orderLinkId": "", "extraFees": "", **fields,
            }
        )  # fmt: skip
