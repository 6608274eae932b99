"""What the hedger remembers of one account, and how each message changes it.

`take` folds a message and says whether it brought anything; repeated and overtaken messages bring
nothing. `situation` turns memory and tables into the numbers of one decision, or says what is
missing.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from hedgelock.domain import account, protective_stop
from hedgelock.domain.account import AccountView
from hedgelock.domain.inflight import (
    FINISHED_MAX,
    NO_EFFECTS,
    NO_PAUSE,
    Effects,
    Finished,
    OrderWatch,
    Pause,
    Purpose,
    TreasuryWatch,
    after_fill,
    after_treasury,
    take_order,
    take_treasury,
)
from hedgelock.domain.message import Message
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import ForeignFill, OrderConfirmation, OrderStatus
from hedgelock.domain.policy import ExecutionPolicy, HedgePolicy, Policy
from hedgelock.domain.protective_stop import NO_STOPS, StopMemory
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.short_leg import ShortLeg
from hedgelock.domain.situation import HedgeReason
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryStage
from hedgelock.domain.volatility import Volatility, observe


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Balances of one moment at which nothing was under way. Coins; UPL of other contracts USDT."""

    instrument: str = ""
    cash: Decimal
    other_upl: Decimal
    hedge_qty: Decimal
    hedge_entry: Decimal
    coin_qty: Decimal
    coin_is_margin: bool
    """The venue counts the pocket's coins as collateral."""
    withdrawable: Decimal
    fund: Decimal
    debt: Decimal
    collateral_qty: Decimal


class HedgeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """State of the hedger for one account; JSON-encodable, small."""

    account: str = ""
    log_id: str = ""
    """The log that this state lives in; "" = it has not stepped yet."""
    view: AccountView = AccountView()
    risk: RiskAssessment | None = None
    orders: tuple[OrderWatch, ...] = ()
    treasury: TreasuryWatch | None = None
    finished: tuple[Finished, ...] = ()
    settled: Settled | None = None
    effects: Effects = NO_EFFECTS
    settle_after_ms: int = 0
    """Balances asked for at or before this moment (our clock) may miss something."""
    lost_after_ms: int = 0
    """A message about this account could not be read at this moment (our clock); 0 = never."""
    reopen_qty: Decimal = ZERO
    """Closed to realise a gain and not yet ordered back, coins."""
    realising: Decimal = ZERO
    """What is left of a realisation that was decided on settled money, USDT."""
    has_realised: bool = False
    """Gains were realised since the last treasury action."""
    order_pause: Pause = NO_PAUSE
    money_pause: Pause = NO_PAUSE
    stop: StopMemory = NO_STOPS
    differs: tuple[Decimal, Decimal] | None = None
    """(expected, found) position where they differ by what is not ours; told by this step."""
    leg: ShortLeg = ShortLeg()
    volatility: Volatility | None = None
    """Of the mark, where a strategy goes by it."""
    mode: SafetyMode = SafetyMode.ACTIVE
    reason: HedgeReason | None = None
    """The last one journaled."""


_replace = msgspec.structs.replace


def in_log(memory: HedgeMemory, log_id: str, now_ms: int) -> HedgeMemory:
    """`memory` in the log it steps in.

    One that was restored from a copy knows nothing of what happened since the copy was made, fresh as
    its readings look: nothing is opened until everything has been read anew.
    """
    if memory.log_id == log_id:
        return memory
    lost_ms = now_ms if memory.log_id else 0
    return _replace(
        memory, log_id=log_id, lost_after_ms=max(memory.lost_after_ms, lost_ms),
        settle_after_ms=max(memory.settle_after_ms, lost_ms),
    )


def _watch(memory: HedgeMemory, risk: RiskAssessment, policy: Policy | None) -> HedgeMemory:
    """The mark's volatility, for the strategies that go by it; the others carry none."""
    if policy is None or not policy.follows_volatility or not risk.mark_price:
        return memory
    seen = observe(memory.volatility, risk.mark_price, risk.assessed_ts_ms)
    return memory if seen is memory.volatility else _replace(memory, volatility=seen)


def take(memory: HedgeMemory, message: Message, policy: Policy | None) -> HedgeMemory | None:
    """`memory` with `message` folded in; None when a fact or confirmation brings nothing new."""
    match message:
        case RiskAssessment():
            known = memory.risk
            if known is not None and (
                message.assessed_ts_ms < known.assessed_ts_ms or message == known
            ):
                return None
            return _watch(_replace(memory, risk=message), message, policy)
        case (
            account.WalletRead() | account.PositionsRead() | account.PositionChanged()
            | account.FundRead() | account.LoanRead()
        ):
            return _take_fact(memory, message, policy)
        case OrderConfirmation():
            return _take_order(memory, message, policy)
        case TreasuryConfirmation():
            return _take_treasury(memory, message, policy)
        case ForeignFill():
            # The position tells how much; money and margin are taken as settled only when read anew.
            after = max(memory.settle_after_ms, message.ts_seen_ms)
            return _replace(memory, settle_after_ms=after)
        case Quarantined():
            # A lost message may have been money: nothing is opened until everything is read anew.
            lost = max(memory.settle_after_ms, message.ts_seen_ms)
            return _replace(memory, settle_after_ms=lost, lost_after_ms=lost)
        case _:
            return settle(memory, policy)


def _take_fact(
    memory: HedgeMemory, fact: account.Fact, policy: Policy | None
) -> HedgeMemory | None:
    view = account.fold(memory.view, fact)
    if view is memory.view:
        return None
    after = memory.settle_after_ms
    if policy is not None and not memory.orders and memory.view.positions is not None:
        name = policy.hedge.instrument
        if view.position_qty(name) != memory.view.position_qty(name):
            # Not ours (ADL, liquidation, a person): the wallet may not show it yet.
            after = max(after, fact.ts_seen_ms)
    return settle(_replace(memory, view=view, settle_after_ms=after), policy)


def _take_order(
    memory: HedgeMemory, message: OrderConfirmation, policy: Policy | None
) -> HedgeMemory | None:
    if message.is_stop:
        memory = _replace(memory, stop=protective_stop.told(memory.stop, message))
        if not message.fills:
            return memory
    news = take_order(memory.orders, memory.finished, message)
    if news is None:
        return None
    effects, reopen = memory.effects, memory.reopen_qty
    hedge = policy.hedge if policy is not None else HedgePolicy()
    for fill in news.fills:
        effects = after_fill(effects, fill, quote=hedge.quote, coin=hedge.coin)
        if news.watch.purpose is Purpose.REALISE:
            reopen += fill.qty
    others = tuple(w for w in memory.orders if w.intent_id != message.intent_id)
    after = memory.settle_after_ms
    if news.fills:
        after = max(after, message.ts_confirmed_ms)
    pause = memory.order_pause
    if message.is_terminal and not message.filled_qty:
        is_soft = message.status is not OrderStatus.REJECTED
        pause = _pause(policy, message.ts_confirmed_ms, is_soft=is_soft)
    return settle(
        _replace(
            memory, orders=(*others, news.watch), effects=effects, reopen_qty=reopen,
            settle_after_ms=after, order_pause=pause,
        ),
        policy,
    )


def _pause(policy: Policy | None, since_ms: int, *, is_soft: bool) -> Pause:
    ttl_ms = (policy.execution if policy is not None else ExecutionPolicy()).intent_ttl_ms
    return Pause(since_ms=since_ms, until_ms=since_ms + ttl_ms, is_soft=is_soft)


def _take_treasury(
    memory: HedgeMemory, message: TreasuryConfirmation, policy: Policy | None
) -> HedgeMemory | None:
    watch = take_treasury(memory.treasury, memory.finished, message)
    if watch is None:
        return None
    known = memory.treasury
    is_same = known is not None and known.intent_id == watch.intent_id
    moved_before = known.moved_amount if known is not None and is_same else ZERO
    loan_before = known.loan_amount if known is not None and is_same else ZERO
    effects = after_treasury(
        memory.effects, watch.kind_of,
        moved=watch.moved_amount - moved_before, repaid=watch.loan_amount - loan_before,
    )
    pause = memory.money_pause
    if message.stage is TreasuryStage.FAILED:
        pause = _pause(policy, message.ts_confirmed_ms, is_soft=False)
    left: TreasuryWatch | None = watch
    finished = memory.finished
    if message.is_terminal:
        left = None
        finished = _remember(finished, Finished(watch.intent_id, watch.revision))
    if not is_same and known is not None:
        # An action that we do not remember never hides the one that we do.
        left = known
    return settle(
        _replace(
            memory, treasury=left, finished=finished, effects=effects,
            settle_after_ms=max(memory.settle_after_ms, message.ts_confirmed_ms),
            money_pause=pause,
        ),
        policy,
    )


def _remember(finished: tuple[Finished, ...], new: Finished) -> tuple[Finished, ...]:
    kept = tuple(f for f in finished if f.intent_id != new.intent_id)
    return (*kept, new)[-FINISHED_MAX:]


def is_settled(memory: HedgeMemory) -> bool:
    """Nothing is under way and all four kinds were read by requests sent after the last news."""
    view = memory.view
    if memory.treasury is not None or memory.orders:
        return False
    return is_read_after(view, memory.settle_after_ms)


def is_read_after(view: AccountView, ts_ms: int) -> bool:
    """All four facts were asked for after a moment."""
    reads = (view.wallet, view.positions, view.fund, view.loan)
    return all(read is not None and read.ts_requested_ms > ts_ms for read in reads)


def settle(memory: HedgeMemory, policy: Policy | None) -> HedgeMemory:
    """Forget orders that are over and seen; where nothing is under way, take balances as read."""
    orders, finished = memory.orders, memory.finished
    for order in orders:
        if order.is_terminal and not order.unseen_qty(memory.view):
            ids = tuple(fill.exec_id for fill in order.fills)
            finished = _remember(finished, Finished(order.intent_id, order.revision, ids))
            orders = tuple(w for w in orders if w is not order)
    if orders is not memory.orders:
        memory = _replace(memory, orders=orders, finished=finished)
    if policy is None or not is_settled(memory):
        return memory
    settled = _read(memory.view, policy.hedge)
    return _replace(
        memory, settled=settled, effects=NO_EFFECTS, differs=_difference(memory, settled)
    )


def _difference(memory: HedgeMemory, found: Settled) -> tuple[Decimal, Decimal] | None:
    """The position that our own fills explain against the one that was read; None = the same."""
    before = memory.settled
    if before is None or before.instrument != found.instrument:
        return memory.differs
    expected = before.hedge_qty + memory.effects.hedge_qty
    return memory.differs if expected == found.hedge_qty else (expected, found.hedge_qty)


def _read(view: AccountView, policy: HedgePolicy) -> Settled:
    wallet = view.wallet_of(policy.quote)
    coin = view.wallet_of(policy.coin)
    position = view.position_of(policy.instrument)
    others = view.positions.positions if view.positions is not None else ()
    upl = sum(
        (
            p.upl for p in others
            if p.instrument.startswith("linear:") and p.instrument != policy.instrument
        ),
        ZERO,
    )
    return Settled(
        instrument=policy.instrument,
        cash=wallet.wallet_qty if wallet else ZERO,
        other_upl=upl,
        hedge_qty=position.position_qty if position else ZERO,
        hedge_entry=position.entry_price if position else ZERO,
        coin_qty=max(ZERO, coin.wallet_qty) if coin else ZERO,
        coin_is_margin=coin is not None and coin.is_collateral,
        withdrawable=view.withdrawable_qty(policy.quote),
        fund=view.fund_qty(policy.quote),
        debt=view.debt_of(policy.quote),
        collateral_qty=view.collateral_of(policy.coin),
    )
