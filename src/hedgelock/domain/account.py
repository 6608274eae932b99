"""The two pockets of an account, folded from the facts that the collector read.

The loan's collateral is locked with the loan; the hedge lives in the unified trading account with
margin of its own; FUND is the wallet between them. Facts carry `ts_requested_ms`, our clock before
the request left: a fact is newer than another of its kind when it was *asked for* later.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar

import msgspec

from hedgelock.domain.message import Message, Value


class CoinBalance(Value, frozen=True, kw_only=True):
    """One coin of the unified account, in coins. `wallet_qty` < 0 means it is owed."""

    non_negative: ClassVar = ("borrowed_qty", "accrued_interest")

    coin: str
    wallet_qty: Decimal
    borrowed_qty: Decimal
    accrued_interest: Decimal
    upl: Decimal
    locked_qty: Decimal
    is_collateral: bool


class WithdrawableQty(Value, frozen=True, kw_only=True):
    """How much of a coin the venue lets out of the unified account now (never unrealised profit)."""

    non_negative: ClassVar = ("qty",)

    coin: str
    qty: Decimal


class WalletRead(Message, frozen=True, kw_only=True):
    """The unified trading account. `margin_ratio` is the venue's accountMMRate (None = it sent "")."""

    account: str
    coins: tuple[CoinBalance, ...]
    withdrawable: tuple[WithdrawableQty, ...]
    margin_balance: Decimal | None
    maintenance_margin: Decimal | None
    margin_ratio: Decimal | None
    ts_requested_ms: int
    ts_event_ms: int
    ts_seen_ms: int


class Position(Value, frozen=True, kw_only=True):
    """One derivative position, one-way mode. `position_qty`: base units (inverse: USD), + = long.

    `seq` orders it against executions of the same instrument; −1 = never traded.
    """

    non_negative: ClassVar = ("entry_price",)

    instrument: str
    position_qty: Decimal
    entry_price: Decimal
    upl: Decimal
    liquidation_price: Decimal | None
    leverage: Decimal | None
    status: str
    adl_rank: int
    seq: int


class PositionsRead(Message, frozen=True, kw_only=True):
    """All derivative positions by one complete read; an instrument not listed is flat."""

    account: str
    positions: tuple[Position, ...]
    ts_requested_ms: int
    ts_event_ms: int
    ts_seen_ms: int


class PositionChanged(Message, frozen=True, kw_only=True):
    """A push of one position. Never replaces a position of higher `seq`."""

    account: str
    position: Position
    ts_event_ms: int
    ts_seen_ms: int


class FundBalance(Value, frozen=True, kw_only=True):
    """One coin in the funding wallet."""

    non_negative: ClassVar = ("qty", "transferable_qty")

    coin: str
    qty: Decimal
    transferable_qty: Decimal


class FundRead(Message, frozen=True, kw_only=True):
    """The funding wallet (FUND): loans are paid out to it and repaid from it."""

    account: str
    balances: tuple[FundBalance, ...]
    ts_requested_ms: int
    ts_event_ms: int
    ts_seen_ms: int


class LoanDebt(Value, frozen=True, kw_only=True):
    """What is owed of one coin, principal and interest together, in coins (≥ 0)."""

    non_negative: ClassVar = ("qty", "hourly_rate")

    coin: str
    qty: Decimal
    hourly_rate: Decimal


class LoanCollateral(Value, frozen=True, kw_only=True):
    """Coins locked with the loan."""

    non_negative: ClassVar = ("qty",)

    coin: str
    qty: Decimal


class LoanRead(Message, frozen=True, kw_only=True):
    """The crypto loan. `ltv` is the venue's figure (None = it sent none).

    `collateral_state`: 0 normal, 1 near the platform's limit, 2 adding collateral is refused.
    """

    account: str
    debts: tuple[LoanDebt, ...]
    collateral: tuple[LoanCollateral, ...]
    ltv: Decimal | None
    collateral_state: int
    ts_requested_ms: int
    ts_event_ms: int
    ts_seen_ms: int


class LedgerLine(Message, frozen=True, kw_only=True):
    """One line of the venue's transaction log: change = cash_flow + funding − fee, in `coin`.

    `funding` + = received; `fee` + = paid. `line_id` is the venue's and unique.
    """

    account: str
    line_id: str
    line_type: str
    coin: str
    instrument: str
    side: str
    qty: Decimal
    price: Decimal | None
    cash_flow: Decimal
    funding: Decimal
    fee: Decimal
    change: Decimal
    balance: Decimal
    client_order_id: str
    trade_id: str
    ts_event_ms: int
    ts_seen_ms: int


Fact = WalletRead | PositionsRead | PositionChanged | FundRead | LoanRead


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest fact of each kind; None = never read.

    `positions` is the newest complete read with what later pushes changed; `pushed` the newest push
    per instrument, which a read that was already on its way must not undo.
    """

    wallet: WalletRead | None = None
    positions: PositionsRead | None = None
    fund: FundRead | None = None
    loan: LoanRead | None = None
    pushed: tuple[PositionChanged, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Every kind was read at least once."""
        return None not in (self.wallet, self.positions, self.fund, self.loan)

    def oldest_seen_ms(self) -> int | None:
        """Our clock at the oldest of the four facts; None while one is missing."""
        parts = (self.wallet, self.positions, self.fund, self.loan)
        seen = [part.ts_seen_ms for part in parts if part is not None]
        return min(seen) if len(seen) == len(parts) else None

    def position_of(self, instrument: str) -> Position | None:
        """The position of one instrument; None = flat or not read."""
        if self.positions is None:
            return None
        for position in self.positions.positions:
            if position.instrument == instrument:
                return position
        return None

    def position_qty(self, instrument: str) -> Decimal:
        """Signed size of one instrument, 0 when flat."""
        position = self.position_of(instrument)
        return position.position_qty if position else Decimal(0)

    def debt_of(self, coin: str) -> Decimal:
        """Crypto-loan debt of a coin, in coins."""
        loan = self.loan
        return sum((d.qty for d in loan.debts if d.coin == coin), Decimal(0)) if loan else Decimal(0)

    def collateral_of(self, coin: str) -> Decimal:
        """Coins locked with the loan."""
        loan = self.loan
        if loan is None:
            return Decimal(0)
        return sum((c.qty for c in loan.collateral if c.coin == coin), Decimal(0))

    def wallet_of(self, coin: str) -> CoinBalance | None:
        """One coin of the unified account; None = the venue lists no such coin (0)."""
        if self.wallet is None:
            return None
        return next((c for c in self.wallet.coins if c.coin == coin), None)

    def fund_qty(self, coin: str) -> Decimal:
        """Coins in FUND."""
        if self.fund is None:
            return Decimal(0)
        return sum((b.qty for b in self.fund.balances if b.coin == coin), Decimal(0))

    def withdrawable_qty(self, coin: str) -> Decimal:
        """Coins the venue lets out of the unified account; 0 when it did not say."""
        if self.wallet is None:
            return Decimal(0)
        return sum((w.qty for w in self.wallet.withdrawable if w.coin == coin), Decimal(0))


def fold(view: AccountView, fact: Fact) -> AccountView:
    """`view` with `fact` taken in; the same view when the fact brings nothing newer.

    Folding a fact twice, or an older one late, changes nothing.
    """
    match fact:
        case WalletRead():
            if view.wallet and fact.ts_requested_ms <= view.wallet.ts_requested_ms:
                return view
            return msgspec.structs.replace(view, wallet=fact)
        case FundRead():
            if view.fund and fact.ts_requested_ms <= view.fund.ts_requested_ms:
                return view
            return msgspec.structs.replace(view, fund=fact)
        case LoanRead():
            if view.loan and fact.ts_requested_ms <= view.loan.ts_requested_ms:
                return view
            return msgspec.structs.replace(view, loan=fact)
        case PositionsRead():
            return _fold_positions(view, fact)
    return _fold_position(view, fact)


def _fold_positions(view: AccountView, fact: PositionsRead) -> AccountView:
    known = view.positions
    if known is not None and fact.ts_requested_ms <= known.ts_requested_ms:
        return view
    merged = {position.instrument: position for position in fact.positions}
    for push in view.pushed:
        name, pushed = push.position.instrument, push.position
        read = merged.get(name)
        # A push may have overtaken a read that was already on its way. Where the read lists the
        # instrument, the higher seq is later; where it does not, only the time of asking can tell.
        if read.seq < pushed.seq if read is not None else push.ts_seen_ms >= fact.ts_requested_ms:
            merged[name] = pushed
    return msgspec.structs.replace(view, positions=_with_positions(fact, merged.values()))


def _fold_position(view: AccountView, fact: PositionChanged) -> AccountView:
    known, new = view.positions, fact.position
    for push in view.pushed:
        if push.position.instrument == new.instrument and new.seq <= push.position.seq:
            return view
    old = view.position_of(new.instrument)
    if old is not None and new.seq <= old.seq:
        return view
    if known is not None and old is None and fact.ts_seen_ms < known.ts_requested_ms:
        # Seen before that read was asked for, and the read says flat.
        return view
    others = tuple(p for p in view.pushed if p.position.instrument != new.instrument)
    view = msgspec.structs.replace(view, pushed=(*others, fact))
    if known is None:
        # One push is no complete read; it waits for one rather than let the rest pass for flat.
        return view
    kept = [p for p in known.positions if p.instrument != new.instrument]
    return msgspec.structs.replace(view, positions=_with_positions(known, [*kept, new]))


def _with_positions(read: PositionsRead, positions: Iterable[Position]) -> PositionsRead:
    return msgspec.structs.replace(
        read, positions=tuple(sorted(positions, key=lambda p: p.instrument))
    )
