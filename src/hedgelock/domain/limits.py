"""The account's own limits, held here and not by the strategy that might be the one at fault.

| limit | discretionary opening | protective opening | reducing | repay | borrow |
|---|---|---|---|---|---|
| short ≤ C + b | yes | yes, once C, b and positions are known | – | – | – |
| notional per order, orders per minute | yes | yes | per order only | – | – |
| notional per day | yes | yes | – | – | – |
| fees + slippage per day | yes | – | – | – | – |
| no payer 60 s before a settlement | yes | – | – | – | – |
| repayments per hour | – | – | – | yes | – |
| borrowing per day | – | – | – | – | yes |

An opening is an order on a contract that may enlarge a position; spot sales turn coins into the
quote coin that is owed, and are held by their size alone.

Why so: a runaway strategy calls its orders protective too, so what bounds *exposure* and *pace* (the
first three lines) holds for every opening. What bounds *cost* (the next two) never stops protection:
a liquidation costs more than any fee. Reducing ends at zero by itself, the venue holds it to the
position, so nothing but its size is limited. A repayment lowers risk and can only be asked for again
and again: its pace is limited, never its amount.
"""

from __future__ import annotations

from hedgelock.domain.funding import FundingContext
from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import PlaceOrder, Side
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.refusal import Check, Context, Refusal, notional
from hedgelock.domain.treasury import TreasuryAction, TreasuryKind

REPAYMENTS = frozenset({TreasuryKind.REPAY, TreasuryKind.REPAY_WITH_COLLATERAL})


def _is_contract(instrument: Instrument | None) -> bool:
    return instrument is not None and instrument.settlement is not Settlement.SPOT


def _short(intent: PlaceOrder, context: Context) -> Refusal | None:
    """short in reach + this sale ≤ short_ratio_max · (C + b), one lot forgiven.

    One lot, because hedger and executor read the same balances at two moments: a fee in coins
    between them must not shut out a hedge of exactly C + b.
    """
    policy, instrument = context.policy, context.instrument
    is_short = intent.side is Side.SELL and not intent.reduce_only
    if policy is None or instrument is None or not (is_short and _is_contract(instrument)):
        return None
    room = context.room
    if room is None:
        return None if intent.protective else Refusal.HOLDINGS_UNKNOWN
    inverse = instrument.settlement is Settlement.INVERSE
    size = intent.qty / intent.mark_price if inverse else intent.qty
    lot = ZERO if inverse else instrument.lot_size
    is_beyond = room.in_reach + size > policy.short_ratio_max * room.limit + lot
    return Refusal.SHORT_TOO_LARGE if is_beyond else None


def settlement_check(intent: PlaceOrder, context: Context) -> Refusal | None:
    """Nothing discretionary is opened `settlement_guard_ms` before a settlement that it would pay.

    + rate: longs pay. A schedule that has passed says nothing of the next one: refused as unknown.
    """
    policy = context.policy
    is_free = intent.protective or intent.reduce_only
    if policy is None or is_free or not _is_contract(context.instrument):
        return None
    return near_settlement(intent.side, context.funding, policy, now_ms=context.now_ms)


def near_settlement(
    side: Side, funding: FundingContext | None, policy: ExecutionPolicy, *, now_ms: int
) -> Refusal | None:
    """Why a discretionary opening on `side` waits for a settlement; None = it may go.

    It ends by itself: SETTLEMENT_NEAR at the settlement, FUNDING_UNKNOWN with the next context.
    """
    if funding is None or funding.funding_next_ts_ms <= now_ms:
        return Refusal.FUNDING_UNKNOWN
    pays = side.sign * funding.funding_rate > 0
    is_near = funding.funding_next_ts_ms - now_ms <= policy.settlement_guard_ms
    return Refusal.SETTLEMENT_NEAR if pays and is_near else None


def _day(intent: PlaceOrder, context: Context) -> Refusal | None:
    policy, instrument = context.policy, context.instrument
    if policy is None or instrument is None or intent.reduce_only or not _is_contract(instrument):
        return None
    value = notional(intent.qty, intent.mark_price, instrument)
    used = context.budget.turnover_day(context.now_ms) + context.open_notional
    if used + value > policy.notional_per_day_max:
        return Refusal.NOTIONAL_PER_DAY
    spent = context.budget.spend_day(context.now_ms)
    is_spent = spent >= policy.spend_per_day_max and not intent.protective
    return Refusal.SPEND_PER_DAY if is_spent else None


LIMIT_CHECKS: tuple[Check, ...] = (_short, settlement_check, _day)
"""Asked when an intent arrives; `settlement_check` again before every order of it."""


def refusal_of_amount(action: TreasuryAction, context: Context) -> Refusal | None:
    """Whether a treasury action exceeds the hour's repayments or the day's borrowing."""
    policy = context.policy
    if policy is None:
        return Refusal.POLICY_ABSENT if action.kind_of is TreasuryKind.BORROW else None
    if action.kind_of in REPAYMENTS:
        started = context.budget.repayments_hour(context.now_ms)
        is_full = started >= policy.repayments_per_hour_max
        return Refusal.REPAYMENTS_PER_HOUR if is_full else None
    if action.kind_of is TreasuryKind.BORROW:
        used = context.budget.borrowed_day(context.now_ms) + context.open_borrowing
        is_beyond = used + action.amount > policy.borrow_per_day_max
        return Refusal.BORROWING_PER_DAY if is_beyond else None
    return None
