"""From what the hedger remembers and the tables to the `Situation` that a decision looks at.

Or to the reason why no decision is possible: something was never read, a policy is senseless, a
message was lost. Missing is never taken for zero.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.domain.funding import FundingContext
from hedgelock.domain.headroom import Headroom
from hedgelock.domain.hedge_memory import HedgeMemory, Settled, is_read_after, is_settled
from hedgelock.domain.inflight import Purpose, exposure
from hedgelock.domain.instrument import CollateralTerms, Settlement, counted_qty
from hedgelock.domain.limits import near_settlement
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.order import Side
from hedgelock.domain.policy import HedgePolicy, Policy
from hedgelock.domain.refusal import Refusal
from hedgelock.domain.reserve import kept
from hedgelock.domain.risk import Confidence
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Balances, HedgeReason, ShortFunding, Situation
from hedgelock.domain.step import Now, Tables
from hedgelock.domain.strategies import with_leg
from hedgelock.domain.volatility import daily_sigma, variances

_DAY_H = Decimal(24)


def situation(memory: HedgeMemory, tables: Tables, now: Now) -> Situation | HedgeReason:
    """The numbers of one decision, or why none is possible."""
    policy = tables.policy(memory.account)
    if policy is None:
        return HedgeReason.NO_POLICY
    obstacle = _unknown(memory, policy) or _unreadable(memory, policy.hedge, tables)
    if obstacle is not None:
        return obstacle
    hedge, risk, settled = policy.hedge, memory.risk, memory.settled
    instrument, terms = tables.instrument(hedge.instrument), tables.terms(hedge.coin)
    assert risk and settled and instrument and terms
    mark, index, collateral = risk.mark_price, risk.index_price, settled.collateral_qty
    assert mark is not None and index is not None
    safety, names = tables.safety(memory.account), {w.instrument for w in memory.orders}
    oldest = min(risk.assessed_ts_ms, memory.view.oldest_seen_ms() or 0)
    is_old = now.now_ms - oldest > policy.risk.account_age_max_ms
    balances = _balances(memory, settled, mark=mark, index=index)
    in_reach = exposure(memory.view, memory.orders, instrument=hedge.instrument)
    counted = counted_qty(balances.coin_qty, terms.margin_tiers)
    cushion = counted * index * (ONE + hedge.stress_rise) if settled.coin_is_margin else ZERO
    position = memory.view.position_of(hedge.instrument)
    found = Situation(
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
        reserve=_reserve(policy, balances.debt, risk.counted_value),
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
        has_spot_order=hedge.spot_instrument in names,
        has_hedge_order=hedge.instrument in names,
        reopen_qty=memory.reopen_qty,
        realising=memory.realising,
        has_realised=memory.has_realised,
        may_order=not memory.order_pause.holds(now.now_ms, risk.assessed_ts_ms),
        may_move=not memory.money_pause.holds(now.now_ms, risk.assessed_ts_ms),
        is_hedge_pinned=safety is not None and safety.is_hedge_pinned(now.now_ms),
        is_repay_forbidden=safety is not None and safety.is_repay_forbidden(now.now_ms),
        sale_guard=_sale_guard(tables, policy, now),
        tactics=policy.tactics,
        funding=_short_funding(tables, policy, now),
        interest_hourly=_interest(memory, hedge),
        volatility_day=_volatility(memory, now), leg=memory.leg,
    )
    return with_leg(found, now.now_ms)


def turns_ms(tables: Tables, policy: Policy) -> tuple[int, ...]:
    """Instants at which time alone changes what funding allows: too old, guarded, settled."""
    funding = tables.funding(policy.hedge.instrument)
    if funding is None:
        return ()
    settled_ms = funding.funding_next_ts_ms
    return (
        funding.ts_seen_ms + policy.risk.funding_age_max_ms + 1,
        settled_ms - policy.execution.settlement_guard_ms, settled_ms,
    )


def _unknown(memory: HedgeMemory, policy: Policy) -> HedgeReason | None:
    """What the account itself does not tell yet."""
    if not _is_sane(policy):
        return HedgeReason.POLICY_INVALID
    risk, loan = memory.risk, memory.view.loan
    if risk is None:
        return HedgeReason.NO_ASSESSMENT
    if risk.confidence is Confidence.ABSENT or risk.mark_price is None or risk.index_price is None:
        return HedgeReason.INPUT_ABSENT
    if memory.settled is None:
        return HedgeReason.ACCOUNT_UNREAD
    if memory.lost_after_ms and not is_read_after(memory.view, memory.lost_after_ms):
        return HedgeReason.UNRECONCILED
    if loan is not None and any(d.qty and d.coin != policy.hedge.quote for d in loan.debts):
        return HedgeReason.FOREIGN_DEBT
    return None


def _unreadable(memory: HedgeMemory, hedge: HedgePolicy, tables: Tables) -> HedgeReason | None:
    """What the venue's terms do not tell, or tell in a way that cannot be true."""
    instrument, terms = tables.instrument(hedge.instrument), tables.terms(hedge.coin)
    if instrument is None or not instrument.tiers:
        return HedgeReason.NO_INSTRUMENT
    if instrument.settlement is not Settlement.LINEAR:
        return HedgeReason.UNSUPPORTED_INSTRUMENT
    if terms is None:
        return HedgeReason.NO_TERMS
    risk, settled = memory.risk, memory.settled
    assert risk is not None and settled is not None
    assert risk.mark_price is not None and risk.index_price is not None
    counts = _loan_ratio(terms, settled.collateral_qty)
    is_loan_odd = not risk.counted_value and (settled.debt or counts)
    if risk.mark_price <= 0 or risk.index_price <= 0 or is_loan_odd:
        # A debt without collateral, or collateral without value, is a read gone wrong: no exit on it.
        return HedgeReason.INPUT_ABSENT
    if hedge.reserve is None:
        return HedgeReason.RESERVE_UNSET
    return None


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


def _interest(memory: HedgeMemory, hedge: HedgePolicy) -> Decimal | None:
    """The dearest rate that is paid on the quote coin."""
    loan = memory.view.loan
    rates = [d.hourly_rate for d in loan.debts if d.coin == hedge.quote] if loan else []
    return max(rates, default=None)


def _reserve(policy: Policy, debt: Decimal, value: Decimal) -> Decimal:
    """R, less what the curve has deployed at this LTV."""
    reserve = policy.hedge.reserve
    assert reserve is not None
    curve = policy.tactics.reserve_curve
    return kept(reserve, debt / value, curve) if curve and value > 0 else reserve


def _volatility(memory: HedgeMemory, now: Now) -> Decimal | None:
    """σ expected of the next day; None where nobody goes by it."""
    known = memory.volatility
    return None if known is None else daily_sigma(variances(known, now.now_ms).over(_DAY_H))


def _funding(tables: Tables, policy: Policy, now: Now) -> FundingContext | None:
    context = tables.funding(policy.hedge.instrument)
    if context is None or now.now_ms - context.ts_seen_ms > policy.risk.funding_age_max_ms:
        return None
    return context


def _multiplier(tables: Tables, policy: Policy, now: Now) -> Decimal | None:
    context = _funding(tables, policy, now)
    return None if context is None else min(ONE, context.multiplier_short)


def _sale_guard(tables: Tables, policy: Policy, now: Now) -> HedgeReason | None:
    """What the executor would answer to a discretionary sale: asking again and again is no use."""
    context = _funding(tables, policy, now)
    refusal = near_settlement(Side.SELL, context, policy.execution, now_ms=now.now_ms)
    if refusal is None:
        return None
    is_near = refusal is Refusal.SETTLEMENT_NEAR
    return HedgeReason.SETTLEMENT_NEAR if is_near else HedgeReason.FUNDING_UNKNOWN


def _short_funding(tables: Tables, policy: Policy, now: Now) -> ShortFunding | None:
    """A positive rate is what the short receives, and what a long is expected to pay."""
    context = _funding(tables, policy, now)
    if context is None:
        return None
    return ShortFunding(context.apr, context.costs[-1].expected_bps if context.costs else None)


def _is_sane(policy: Policy) -> bool:
    """The formulas hold: no division by zero, no sign turned round."""
    hedge, tactics = policy.hedge, policy.tactics
    left = ONE - hedge.stress_fall
    return (
        ZERO < tactics.fall_min <= tactics.fall_max < ONE
        and hedge.cost_rate < tactics.fall_min
        and tactics.carry_margin_max > 0
        and ZERO <= tactics.solver_aim < ONE
        and ZERO < left < ONE
        and hedge.stress_rise >= 0
        and ZERO <= hedge.cost_rate * left < hedge.stress_fall
        and hedge.ltv_max > 0
        and hedge.no_trade_band > 0
        and hedge.borrow_margin_rate >= 0
        and policy.risk.margin_ratio_max > 0
        and ZERO <= hedge.refill_below <= hedge.harvest_to <= hedge.harvest_at <= hedge.urgent_at
        and hedge.harvest_to <= hedge.urgent_to <= hedge.urgent_at
        and hedge.action_fraction_min >= 0
        and hedge.cover_fraction >= 0
        and hedge.caution_size >= 0
        and hedge.position_size_max >= 0
    )
