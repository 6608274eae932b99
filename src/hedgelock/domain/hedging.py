"""The hedger: how large the short should be, what must move, and why (not).

`sizing.decide(situation)` is the whole policy as a pure function; `step` folds messages into
`HedgeMemory` around it, obeys safety and gives actions their identity. Where to look:

    strategies  how large the short should be       headroom  h_cap(U) and its inverse
    sizing      decide: band, lots, caps, reasons   harvest   repay, realise, refill, last resort
    situation   the numbers of one decision         inflight  what is ordered and not yet seen
    hedge_memory  the fold of facts and confirmations

An intent without confirmation stays in flight: nothing is ever issued again on a timer. KILLED
forbids everything but what the operator confirmed.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain import protective_stop
from hedgelock.domain.hedge_memory import HedgeMemory, in_log, settle, take
from hedgelock.domain.hedge_scene import situation, turns_ms
from hedgelock.domain.inflight import OrderWatch, Purpose, TreasuryWatch, exposure
from hedgelock.domain.message import Message
from hedgelock.domain.money import ZERO, floor_to, saturate
from hedgelock.domain.order import CancelOrders, PlaceOrder, Side, Urgency
from hedgelock.domain.order_style import urgency_of
from hedgelock.domain.policy import Policy
from hedgelock.domain.protective_stop import StopDecision, StopReason
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import (
    Action,
    CancelAction,
    HedgeReason,
    MoneyAction,
    OrderAction,
    Situation,
    stressed_ltv,
)
from hedgelock.domain.sizing import Decision, decide
from hedgelock.domain.step import Hold, Now, Output, Step, Tables
from hedgelock.domain.treasury import TreasuryAction

_replace = msgspec.structs.replace


class HedgeDecision(Message, frozen=True, kw_only=True):
    """What was decided and on which numbers; published when it acted or the reason changed.

    h in coins short, money in USDT. `ltv_net_fall` is ltv_net(−s) of the short held, None =
    infinite. Every number is None where no decision was possible.
    """

    account: str
    reason: str
    actions: tuple[str, ...]
    target: Decimal | None = None
    held: Decimal | None = None
    in_flight: Decimal | None = None
    h_cap: Decimal | None = None
    ltv: Decimal | None = None
    ltv_net_fall: Decimal | None = None
    debt: Decimal | None = None
    equity: Decimal | None = None
    fund: Decimal | None = None
    counted_value: Decimal | None = None
    repay_wanted: Decimal | None = None
    multiplier: Decimal | None = None
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    is_settled: bool | None = None
    policy_version: int | None = None
    risk_assessed_ts_ms: int | None = None
    decided_ts_ms: int


class DifferenceReason(enum.Enum):
    """Why a position is not what our own fills make it."""

    NOT_OURS = "not_ours"
    """ADL, a liquidation, a person or another program; booked as found, and decided anew."""


class PositionDiffers(Message, frozen=True, kw_only=True):
    """The hedge that was read differs from the last one plus our fills; base units, + = long."""

    account: str
    instrument: str
    reason: DifferenceReason
    expected_qty: Decimal
    found_qty: Decimal
    found_ts_ms: int


# ---------------------------------------------------------------- the fold


def step(
    memory: HedgeMemory, tables: Tables, message: Message, now: Now
) -> Step[HedgeMemory]:
    """Fold one message and decide. Repeated and overtaken facts decide nothing."""
    account = getattr(message, "account", None)
    if not memory.account and isinstance(account, str):
        memory = _replace(memory, account=account)
    if not memory.account:
        return Step(memory)
    memory = in_log(memory, now.log_id, now.now_ms)
    policy = tables.policy(memory.account)
    folded = take(memory, message, policy)
    if folded is None:
        return Step(memory, hold=_hold(memory, tables, policy, now))
    memory = settle(folded, policy) if folded.settled is None else folded
    safety = tables.safety(memory.account)
    mode = safety.mode if safety is not None else SafetyMode.ACTIVE
    actions: tuple[Action, ...] = ()
    if mode is not memory.mode:
        memory = _replace(memory, mode=mode)
        if mode in (SafetyMode.HALTED, SafetyMode.KILLED):
            actions = (CancelAction(HedgeReason.SAFETY_CANCEL),)
    decision: Decision | None = None
    now_is: Situation | None = None
    if mode is SafetyMode.KILLED:
        flat = _flatten(memory, tables, policy, now) if safety and safety.flatten else None
        reason = HedgeReason.KILLED if flat is None else flat.reason
        actions += () if flat is None else (flat,)
    else:
        seen = situation(memory, tables, now)
        if isinstance(seen, HedgeReason):
            reason = seen
        else:
            now_is, decision = seen, decide(seen)
            reason = decision.reason
            actions += decision.actions
    published = _publish(memory, actions, policy=policy, now=now, why=Why(reason, now_is, decision))
    return published._replace(hold=_hold(published.state, tables, policy, now))


def _flatten(
    memory: HedgeMemory, tables: Tables, policy: Policy | None, now: Now
) -> OrderAction | None:
    """Close the hedge reduce-only, whatever its sign, as the operator confirmed."""
    instrument = tables.instrument(policy.hedge.instrument) if policy is not None else None
    risk = memory.risk
    if instrument is None or risk is None or risk.mark_price is None or risk.mark_price <= 0:
        return None
    if memory.order_pause.holds(now.now_ms, risk.assessed_ts_ms):
        return None
    in_reach = exposure(memory.view, memory.orders, instrument=instrument.instrument)
    short = in_reach.low if in_reach.held > 0 else in_reach.high
    limits = (instrument.qty_max, instrument.qty_market_max)
    qty = min((abs(short), *(x for x in limits if x is not None)))
    qty = floor_to(qty, instrument.lot_size)
    if qty < instrument.qty_min or (short > 0) is not (in_reach.held > 0):
        return None
    return OrderAction(
        Side.BUY if short > 0 else Side.SELL, qty, reduce_only=True, protective=False,
        purpose=Purpose.FLATTEN, reason=HedgeReason.OPERATOR_FLATTEN,
    )


class Why(NamedTuple):
    """The reason of a step, with the situation and decision behind it where there was one."""

    reason: HedgeReason
    situation: Situation | None = None
    decision: Decision | None = None


def _publish(
    memory: HedgeMemory, actions: tuple[Action, ...], *, policy: Policy | None, now: Now, why: Why
) -> Step[HedgeMemory]:
    """Actions with their identity, remembered as in flight; the decision where it is news."""
    outputs: list[Output] = []
    orders, treasury = memory.orders, memory.treasury
    for i, action in enumerate(actions):
        intent_id = f"{now.decision}.{i}"
        message: Message
        match action:
            case OrderAction():
                message = _order(memory, action, policy=policy, now=now, intent_id=intent_id)
                orders += (
                    OrderWatch(
                        intent_id=intent_id, instrument=message.instrument, side=action.side,
                        qty=action.qty, purpose=action.purpose,
                    ),
                )
            case MoneyAction():
                message = _money(memory, action, policy=policy, now=now, intent_id=intent_id)
                treasury = TreasuryWatch(
                    intent_id=intent_id, kind_of=action.kind_of,
                    transfer_amount=action.transfer_amount,
                )
            case _:
                message = CancelOrders(
                    account=memory.account, intent_id=intent_id, instrument=None,
                    reason=action.reason.value, decided_ts_ms=now.now_ms,
                    keep_stops=memory.mode is not SafetyMode.KILLED,
                )
        topic = "treasury_actions" if isinstance(action, MoneyAction) else "hedge_trades"
        outputs.append(Output(topic, memory.account, message))
    stop = _keep_stop(memory, actions, now=now, why=why)
    # An intent and the message that carries it have one identity: the place among the outputs.
    intent_id = f"{now.decision}.{len(outputs)}"
    outputs += _stop_outputs(memory, stop, now=now, why=why, intent_id=intent_id)
    outputs += _difference(memory, policy, now)
    if actions or why.reason is not memory.reason:
        journal = _journal(memory, actions, policy=policy, now=now, why=why)
        outputs.append(Output("hedge_decisions", memory.account, journal))
    # What a slice closed was ordered back by this decision, or is no longer wanted.
    reopen = memory.reopen_qty if why.decision is None else ZERO
    rest, has_realised = _realised(memory, actions, why)
    memory = _replace(
        memory, orders=orders, treasury=treasury, reason=why.reason, reopen_qty=reopen,
        realising=rest, has_realised=has_realised, differs=None,
        leg=memory.leg if why.situation is None else why.situation.leg,
        stop=protective_stop.after(
            memory.stop, stop, intent_id=intent_id, now_ms=now.now_ms
        ),
    )
    return Step(memory, tuple(outputs))


def _keep_stop(
    memory: HedgeMemory, actions: tuple[Action, ...], *, now: Now, why: Why
) -> StopDecision:
    """What the stop at the exchange should be after this decision."""
    if why.situation is None:
        return StopDecision(StopReason.BUSY)
    is_ordering = any(
        isinstance(action, OrderAction) and action.purpose is not Purpose.COVER
        for action in actions
    )
    return protective_stop.decide(
        memory.stop, why.situation, now_ms=now.now_ms, is_ordering=is_ordering
    )


def _stop_outputs(
    memory: HedgeMemory, stop: StopDecision, *, now: Now, why: Why, intent_id: str
) -> list[Output]:
    s = why.situation
    message: Message
    if s is not None and stop.place > 0:
        message = PlaceOrder(
            account=memory.account, intent_id=intent_id, instrument=s.policy.instrument,
            side=Side.BUY, qty=stop.place, reduce_only=True, protective=True,
            reason=f"stop_{stop.reason.value}", mark_price=s.mark_price,
            slippage_max=s.execution.slippage_max, decided_ts_ms=now.now_ms,
            expires_ts_ms=now.now_ms + s.execution.intent_ttl_ms,
            trigger_price=stop.trigger_price, replaces=stop.replaces,
        )
    elif stop.remove:
        message = CancelOrders(
            account=memory.account, intent_id=intent_id, instrument=None,
            reason=f"stop_{stop.reason.value}", decided_ts_ms=now.now_ms, intents=stop.remove,
        )
    else:
        return []
    return [Output("hedge_trades", memory.account, message)]


def _difference(memory: HedgeMemory, policy: Policy | None, now: Now) -> list[Output]:
    if memory.differs is None or policy is None:
        return []
    expected, found = memory.differs
    differs = PositionDiffers(
        account=memory.account, instrument=policy.hedge.instrument,
        reason=DifferenceReason.NOT_OURS, expected_qty=expected, found_qty=found,
        found_ts_ms=now.now_ms,
    )
    return [Output("hedge_decisions", memory.account, differs)]


def _realised(
    memory: HedgeMemory, actions: tuple[Action, ...], why: Why
) -> tuple[Decimal, bool]:
    """What a realisation has still to bring (over once money is settled), and whether there was one."""
    for action in actions:
        if isinstance(action, OrderAction) and action.purpose is Purpose.REALISE:
            return action.realise_rest, True
    is_over = why.situation is None or why.situation.is_settled
    has_paid = any(isinstance(action, MoneyAction) for action in actions)
    no_claim = why.decision is not None and why.decision.numbers.repay_wanted <= ZERO
    rest = ZERO if is_over else memory.realising
    return rest, memory.has_realised and not (has_paid or no_claim)


def _order(
    memory: HedgeMemory, action: OrderAction, *, policy: Policy | None, now: Now, intent_id: str
) -> PlaceOrder:
    assert policy is not None and memory.risk is not None and memory.risk.mark_price is not None
    is_spot = action.purpose is Purpose.COVER
    urgency = urgency_of(memory.risk.state, protective=is_pressing(action))
    patience_ms = policy.execution.rest_ms if urgency is Urgency.PATIENT else 0
    return PlaceOrder(
        account=memory.account,
        intent_id=intent_id,
        instrument=policy.hedge.spot_instrument if is_spot else policy.hedge.instrument,
        side=action.side,
        qty=action.qty,
        reduce_only=action.reduce_only,
        protective=action.protective,
        reason=action.reason.value,
        mark_price=memory.risk.mark_price,
        slippage_max=policy.execution.slippage_max,
        decided_ts_ms=now.now_ms,
        expires_ts_ms=now.now_ms + policy.execution.intent_ttl_ms + patience_ms,
        urgency=urgency,
    )


def is_pressing(action: OrderAction) -> bool:
    """It protects, obeys the operator, or restores what a slice has just closed."""
    return (
        action.protective or action.purpose is Purpose.FLATTEN
        or action.reason is HedgeReason.HARVEST_REOPEN
    )


def _money(
    memory: HedgeMemory, action: MoneyAction, *, policy: Policy | None, now: Now, intent_id: str
) -> TreasuryAction:
    assert policy is not None and memory.settled is not None
    return TreasuryAction(
        account=memory.account,
        intent_id=intent_id,
        kind_of=action.kind_of,
        coin=policy.hedge.quote,
        amount=action.amount,
        transfer_amount=action.transfer_amount,
        collateral_coin=policy.hedge.coin,
        debt_before=memory.settled.debt,
        reason=action.reason.value,
        decided_ts_ms=now.now_ms,
        expires_ts_ms=now.now_ms + policy.execution.intent_ttl_ms,
    )


def _journal(
    memory: HedgeMemory, actions: tuple[Action, ...], *, policy: Policy | None, now: Now, why: Why
) -> HedgeDecision:
    risk = memory.risk
    bare = HedgeDecision(
        account=memory.account,
        reason=why.reason.value,
        actions=tuple(_words(action) for action in actions),
        policy_version=policy.version if policy is not None else None,
        risk_assessed_ts_ms=risk.assessed_ts_ms if risk is not None else None,
        decided_ts_ms=now.now_ms,
    )
    s, decision = why.situation, why.decision
    if s is None or decision is None:
        return bare
    held = s.balances
    figures = {
        "target": decision.numbers.target,
        "held": s.exposure.held,
        "in_flight": s.exposure.high + s.exposure.low - s.exposure.booked - s.exposure.held,
        "h_cap": decision.numbers.h_cap,
        "ltv": held.debt / s.counted_value if s.counted_value else None,
        "ltv_net_fall": stressed_ltv(s, s.exposure.booked),
        "debt": held.debt,
        "equity": held.equity,
        "fund": held.fund,
        "counted_value": s.counted_value,
        "repay_wanted": decision.numbers.repay_wanted,
        "multiplier": s.multiplier,
        "mark_price": s.mark_price,
        "index_price": s.index_price,
    }
    usable = {name: None if x is None else saturate(x) for name, x in figures.items()}
    return _replace(bare, is_settled=s.is_settled, **usable)


def _words(action: Action) -> str:
    match action:
        case OrderAction():
            only = " reduce-only" if action.reduce_only else ""
            return f"{action.side.value} {action.qty}{only} ({action.reason.value})"
        case MoneyAction():
            return f"{action.kind_of.value} {action.amount} ({action.reason.value})"
    return f"cancel all ({action.reason.value})"


def _hold(memory: HedgeMemory, tables: Tables, policy: Policy | None, now: Now) -> Hold:
    """Until an input grows too old, a pause or a guard ends; prices come through assessments only."""
    if policy is None or memory.risk is None:
        return Hold()
    oldest = min(memory.risk.assessed_ts_ms, memory.view.oldest_seen_ms() or 0)
    deadlines = (
        oldest + policy.risk.account_age_max_ms + 1,
        memory.order_pause.until_ms,
        memory.money_pause.until_ms,
        *turns_ms(tables, policy),
    )
    ahead = [deadline for deadline in deadlines if deadline > now.now_ms]
    return Hold(until_ms=min(ahead, default=None))
