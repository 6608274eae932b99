"""What the hedger remembers of one account, and how each message changes it.

`take` folds a message and says whether it brought anything; repeated and overtaken messages bring
nothing. `situation` turns memory and tables into the numbers of one decision, or says what is
missing.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from hedgelock.domain import account
from hedgelock.domain.account import AccountView
from hedgelock.domain.headroom import Headroom
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
    exposure,
    take_order,
    take_treasury,
)
from hedgelock.domain.instrument import CollateralTerms, Settlement, counted_qty
from hedgelock.domain.message import Message
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.order import OrderConfirmation, OrderStatus, Side
from hedgelock.domain.policy import ExecutionPolicy, HedgePolicy, Policy
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.risk import Confidence, RiskAssessment
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Balances, HedgeReason, Situation
from hedgelock.domain.step import Now, Tables
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryStage


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Balances of one moment at which nothing was under way. Coins; UPL of other contracts USDT."""

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
    mode: SafetyMode = SafetyMode.ACTIVE
    reason: HedgeReason | None = None
    """The last one journaled."""


_replace = msgspec.structs.replace


def take(memory: HedgeMemory, message: Message, policy: Policy | None) -> HedgeMemory | None:
    """`memory` with `message` folded in; None when a fact or confirmation brings nothing new."""
    match message:
        case RiskAssessment():
            known = memory.risk
            if known is not None and (
                message.assessed_ts_ms < known.assessed_ts_ms or message == known
            ):
                return None
            return _replace(memory, risk=message)
        case (
            account.WalletRead() | account.PositionsRead() | account.PositionChanged()
            | account.FundRead() | account.LoanRead()
        ):
            return _take_fact(memory, message, policy)
        case OrderConfirmation():
            return _take_order(memory, message, policy)
        case TreasuryConfirmation():
            return _take_treasury(memory, message, policy)
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
    return _is_read_after(view, memory.settle_after_ms)


def _is_read_after(view: AccountView, ts_ms: int) -> bool:
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
    return _replace(memory, settled=_read(memory.view, policy.hedge), effects=NO_EFFECTS)


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


# ---------------------------------------------------------------- memory and tables to numbers


def situation(memory: HedgeMemory, tables: Tables, now: Now) -> Situation | HedgeReason:
    """The numbers of one decision, or which input is missing."""
    policy = tables.policy(memory.account)
    if policy is None:
        return HedgeReason.NO_POLICY
    hedge = policy.hedge
    if not _is_sane(policy):
        return HedgeReason.POLICY_INVALID
    risk = memory.risk
    if risk is None:
        return HedgeReason.NO_ASSESSMENT
    mark, index = risk.mark_price, risk.index_price
    if risk.confidence is Confidence.ABSENT or mark is None or index is None:
        return HedgeReason.INPUT_ABSENT
    settled = memory.settled
    if settled is None:
        return HedgeReason.ACCOUNT_UNREAD
    instrument = tables.instrument(hedge.instrument)
    if instrument is None or not instrument.tiers:
        return HedgeReason.NO_INSTRUMENT
    if instrument.settlement is not Settlement.LINEAR:
        return HedgeReason.UNSUPPORTED_INSTRUMENT
    terms = tables.terms(hedge.coin)
    if terms is None:
        return HedgeReason.NO_TERMS
    collateral = settled.collateral_qty
    is_loan_odd = not risk.counted_value and (settled.debt or _loan_ratio(terms, collateral))
    if mark <= 0 or index <= 0 or is_loan_odd:
        # A debt without collateral, or collateral without value, is a read gone wrong: no exit on it.
        return HedgeReason.INPUT_ABSENT
    if hedge.reserve is None:
        return HedgeReason.RESERVE_UNSET
    loan = memory.view.loan
    if loan is not None and any(debt.qty and debt.coin != hedge.quote for debt in loan.debts):
        return HedgeReason.FOREIGN_DEBT
    if memory.lost_after_ms and not _is_read_after(memory.view, memory.lost_after_ms):
        return HedgeReason.UNRECONCILED
    safety = tables.safety(memory.account)
    oldest = min(risk.assessed_ts_ms, memory.view.oldest_seen_ms() or 0)
    is_old = now.now_ms - oldest > policy.risk.account_age_max_ms
    balances = _balances(memory, settled, mark=mark, index=index)
    in_reach = exposure(memory.view, memory.orders, instrument=hedge.instrument)
    counted = counted_qty(balances.coin_qty, terms.margin_tiers)
    cushion = counted * index * (ONE + hedge.stress_rise) if settled.coin_is_margin else ZERO
    position = memory.view.position_of(hedge.instrument)
    return Situation(
        policy=hedge,
        execution=policy.execution,
        instrument=instrument,
        spot=tables.instrument(hedge.spot_instrument),
        mode=safety.mode if safety is not None else SafetyMode.ACTIVE,
        confidence=Confidence.STALE if is_old else risk.confidence,
        risk_state=risk.state,
        mark_price=mark,
        index_price=index,
        counted_value=risk.counted_value,
        loan_ratio=_loan_ratio(terms, collateral),
        reserve=hedge.reserve,
        multiplier=_multiplier(tables, policy, now),
        balances=balances,
        exposure=in_reach,
        entry_price=position.entry_price if position and position.position_qty < 0 else None,
        headroom=Headroom(
            mark, hedge.stress_rise, cushion, policy.risk.margin_ratio_max,
            hedge.borrow_margin_rate, instrument,
        ),
        is_settled=is_settled(memory),
        has_treasury=memory.treasury is not None,
        has_spot_order=any(w.instrument == hedge.spot_instrument for w in memory.orders),
        has_hedge_order=any(w.instrument == hedge.instrument for w in memory.orders),
        reopen_qty=memory.reopen_qty,
        realising=memory.realising,
        has_realised=memory.has_realised,
        may_order=not memory.order_pause.holds(now.now_ms, risk.assessed_ts_ms),
        may_move=not memory.money_pause.holds(now.now_ms, risk.assessed_ts_ms),
    )


def _balances(
    memory: HedgeMemory, settled: Settled, *, mark: Decimal, index: Decimal
) -> Balances:
    """Settled values plus known effects, re-marked. U = cash + UPL − what is ordered to leave."""
    effects = memory.effects
    outgoing = memory.treasury.outgoing() if memory.treasury is not None else ZERO
    upl = settled.hedge_qty * (mark - settled.hedge_entry) + settled.other_upl
    traded = effects.hedge_qty * mark - effects.hedge_cost
    base = settled.cash + effects.moved - effects.fees
    return Balances(
        equity=base + upl + traded - outgoing,
        cash=base + effects.pnl - outgoing,
        withdrawable=settled.withdrawable,
        fund=max(ZERO, settled.fund + effects.fund + outgoing),
        debt=max(ZERO, settled.debt + effects.debt),
        coin_qty=max(ZERO, settled.coin_qty + effects.coin_qty - _selling(memory)),
        collateral_qty=max(ZERO, settled.collateral_qty - effects.sold_collateral / index),
    )


def _selling(memory: HedgeMemory) -> Decimal:
    """Pocket coins that open spot orders may still sell."""
    return sum(
        (
            w.open_qty() for w in memory.orders
            if w.purpose is Purpose.COVER and w.side is Side.SELL
        ),
        ZERO,
    )


def _loan_ratio(terms: CollateralTerms, collateral_qty: Decimal) -> Decimal:
    if collateral_qty <= 0:
        return ZERO
    return counted_qty(collateral_qty, terms.loan_tiers) / collateral_qty


def _multiplier(tables: Tables, policy: Policy, now: Now) -> Decimal | None:
    context = tables.funding(policy.hedge.instrument)
    if context is None or now.now_ms - context.ts_seen_ms > policy.risk.funding_age_max_ms:
        return None
    return min(ONE, context.multiplier_short)


def _is_sane(policy: Policy) -> bool:
    """The formulas hold: no division by zero, no sign turned round."""
    hedge = policy.hedge
    left = ONE - hedge.stress_fall
    return (
        ZERO < left < ONE
        and hedge.stress_rise >= 0
        and ZERO <= hedge.cost_rate * left < hedge.stress_fall
        and hedge.ltv_max > 0
        and hedge.no_trade_band > 0
        and hedge.borrow_margin_rate >= 0
        and policy.risk.margin_ratio_max > 0
        and ZERO <= hedge.refill_below <= hedge.harvest_to <= hedge.harvest_at <= hedge.urgent_at
        and hedge.harvest_to <= hedge.urgent_to <= hedge.urgent_at
        and hedge.action_fraction_min >= 0
        and hedge.caution_size >= 0
        and hedge.position_size_max >= 0
    )
