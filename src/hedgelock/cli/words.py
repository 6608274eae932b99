"""Messages in plain words: numbers with units and signs, reasons as sentences.

Nothing here decides anything, and nobody parses what it says. It knows every message by its class;
for a class or reason that it does not know it falls back to the names of the fields.
"""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal

from hedgelock.domain import (
    account,
    command,
    funding,
    hedging,
    instrument,
    market,
    order,
    policy,
    registry,
    risk,
    risk_detail,
    safety,
    treasury,
)
from hedgelock.domain.message import Message

_PAST_DAY_MS = 86_400_000

REASONS: dict[str, str] = {
    # risk
    "within_limits": "every figure is within its limits",
    "ltv_above_caution": "LTV is above the CAUTION threshold",
    "ltv_above_danger": "LTV is above the DANGER threshold",
    "ltv_above_critical": "LTV is above the CRITICAL threshold",
    "held_by_hysteresis": "LTV fell, but not yet far enough below the threshold to step down",
    "held_by_dwell": "LTV fell far enough, but not yet for long enough to step down",
    "no_collateral": "there is debt and no collateral",
    "input_absent": "something was never read, so nothing can be called safe",
    "input_stale": "something is older than allowed: protective actions only",
    # hedger: it acted
    "hedge_raised": "more hedge: the stressed loan would breach its limit",
    "hedge_lowered": "less hedge: the stressed loan is safe with a smaller one",
    "margin_lowered": "less hedge: the trading pocket could not carry it through a rally",
    "harvest_repay": "repay the loan from the hedge's gains",
    "urgent_repay": "repay the loan at once, before the reserve",
    "harvest_realise": "close a slice of the hedge to realise its gain",
    "harvest_reopen": "reopen the slice that was closed to realise its gain",
    "collateral_repay": "last resort: repay the loan with collateral",
    "refill": "borrow the trading pocket's reserve back",
    "fund_return": "bring idle cash back to the trading pocket",
    "quote_covered": "cover negative USDT at once from the pocket's own coins",
    "safety_cancel": "safety stopped the account: cancel what rests",
    "operator_flatten": "the operator ordered the hedge closed",
    # hedger: it did not
    "within_band": "nothing to do: the hedge is within its band",
    "killed": "killed: nothing more is done until the operator resumes",
    "order_in_flight": "wait: an order is under way",
    "settling": "wait: balances are not settled after the last fill or transfer",
    "treasury_in_flight": "wait: a transfer or loan action is under way",
    "capped_by_margin": "no more hedge: the trading pocket's margin allows no more",
    "below_minimum": "wait: what is wanted is below the smallest amount",
    "halted": "halted by the operator: protective actions only",
    "funding_unknown": "discretionary size stays: funding is not known now",
    "lowering_first": "wait: the hedge must shrink before cash may leave the pocket",
    "nothing_to_repay_with": "repayment wanted, but there is no cash to repay with",
    "no_assessment": "no decision: no risk assessment yet",
    "no_policy": "no decision: the account has no policy yet",
    "policy_invalid": "no decision: the policy contradicts itself",
    "no_instrument": "no decision: the contract's terms are not known yet",
    "no_terms": "no decision: the collateral's terms are not known yet",
    "account_unread": "no decision: the account was not read completely yet",
    "reserve_unset": "no decision: the reserve is not set yet",
    "unsupported_instrument": "no decision: only linear contracts can hedge",
    # funding
    "first_rate": "the first rate seen",
    "regime_raised": "the regime rose",
    "regime_lowered": "the regime fell, after its dwell",
    "interval_changed": "the exchange changed the funding interval",
    "settlement_changed": "the next settlement moved",
    "payer_changed": "the paying side changed",
    "multiplier_changed": "the multiplier of discretionary size changed",
    "apr_moved": "the yearly rate moved",
    "seen_again": "the same rate, seen anew after a silence",
    "still_so": "nothing changed; said again so that silence can be told from calm",
    # safety
    "started": "HedgeLock started",
    "operator_halt": "the operator halted the account",
    "operator_reduce": "the operator wants no new risk",
    "operator_silent": "the operator has not been heard of",
    "breaker": "a circuit breaker holds",
    "operator_resume": "the operator resumed the account",
    "operator_kill": "the operator killed the account",
    "unexplained_order": "an order at the exchange is not ours",
    "quarantined_money_message": "a message that moves money could not be read",
    "daily_loss": "the day's loss is too large",
    "drawdown": "the account is too far below its peak",
    "funding_cost": "funding cost too much today",
    "volatility": "the market moves too much",
    "losing_hedges": "too many closings in a row lost money",
    "stale_input": "the account cannot be seen",
    "rejects": "the exchange refuses our orders",
    # executor
    "expired": "its deadline passed before it was sent",
    "policy_absent": "refused: no policy is known",
    "safety_absent": "refused: safety has not said that the account is active",
    "reducing": "refused: no new discretionary exposure now",
    "account_frozen": "refused: the account is frozen until it is reconciled",
    "too_many_orders": "refused: too many orders in the last minute",
    "short_too_large": "refused: the short would exceed collateral plus pocket coins",
    "holdings_unknown": "refused: the executor has not read the account yet",
    "settlement_near": "wait: a funding settlement that it would pay is near",
    "notional_per_day": "refused: the day's notional is used up",
    "spend_per_day": "refused: the day's fees and slippage are used up",
    "repayments_per_hour": "refused: too many repayments in the last hour",
    "borrowing_per_day": "refused: the day's borrowing is used up",
    "reconciling": "refused: open orders are being compared after a start",
    "price_outside_bound": "cancelled: the exchange held it at a worse price",
    "stop_placed": "a stop waits at the exchange for a rally that endangers margin",
    "stop_resized": "the stop follows the size of the hedge",
    "stop_moved": "the stop follows the margin cliff",
    "stop_removed": "no short is left to stop",
    "backing_off": "wait: the last attempt failed, the next comes later",
}
"""Reason on the wire -> a sentence without its full stop."""

BRIEF: dict[str, str] = {
    "hedge_raised": "more hedge: the fall would breach",
    "hedge_lowered": "less hedge: safe with less",
    "margin_lowered": "less hedge: a rally would drain us",
    "harvest_repay": "repay from the hedge's gains",
    "urgent_repay": "repay at once, before the reserve",
    "harvest_realise": "close a slice to realise its gain",
    "harvest_reopen": "reopen the slice that was closed",
    "collateral_repay": "repay with collateral: last resort",
    "refill": "borrow the reserve back",
    "fund_return": "bring idle cash back",
    "quote_covered": "sell spare coins: USDT is negative",
    "within_band": "nothing to do: hedge within its band",
    "settling": "wait for settled balances",
    "treasury_in_flight": "wait: a money move is under way",
    "capped_by_margin": "no more hedge: margin allows no more",
    "below_minimum": "wait: below the smallest amount",
    "lowering_first": "wait: the hedge must shrink first",
    "nothing_to_repay_with": "would repay, but there is no cash",
    "funding_unknown": "optional size stays: funding unknown",
    "killed": "killed: waits for the operator",
    "halted": "halted: protective actions only",
    "pinned": "the operator pinned the hedge",
    "backing_off": "wait: the last attempt failed",
    "safety_absent": "safety has not spoken",
    "too_many_orders": "too many orders per minute",
    "expired": "deadline passed",
}
"""The same for a line of a list: at most 36 signs."""


# ---------------------------------------------------------------- numbers


def money(value: Decimal | None, places: int = 0) -> str:
    """`36,600` of 36600; – when unknown."""
    return "–" if value is None else f"{value:,.{places}f}"


def coins(value: Decimal | None) -> str:
    """Coins to four places: `0.4120`."""
    return "–" if value is None else f"{value:,.4f}"


def percent(value: Decimal | None, places: int = 1) -> str:
    """`68.4 %` of 0.684; – when unknown."""
    return "–" if value is None else f"{value * 100:,.{places}f} %"


def signed_percent(value: Decimal | None, places: int = 1) -> str:
    """`+12.0 %` of 0.12."""
    return "–" if value is None else f"{value * 100:+,.{places}f} %"


def plain(value: object) -> str:
    """Any field's value, short: decimals without trailing zeros, enums by value."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, enum.Enum):
        return str(value.value)
    return "–" if value is None else str(value)


def clock(ts_ms: int) -> str:
    """`12:03:04.567` UTC."""
    moment = dt.datetime.fromtimestamp(ts_ms / 1000, tz=dt.UTC)
    return moment.strftime("%H:%M:%S.") + f"{ts_ms % 1000:03d}"


def moment(ts_ms: int) -> str:
    """`2025-11-22 12:03:04.567 UTC`."""
    day = dt.datetime.fromtimestamp(ts_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d ")
    return f"{day}{clock(ts_ms)} UTC"


def duration(ms: float) -> str:
    """`0.4 ms`, `12 ms`, `3.2 s`, `4 min`, `5 h`, `2 d`."""
    for limit, unit, size, places in (
        (10, "ms", 1, 1), (1_000, "ms", 1, 0), (60_000, "s", 1_000, 1),
        (3_600_000, "min", 60_000, 0), (2 * _PAST_DAY_MS, "h", 3_600_000, 0),
    ):
        if abs(ms) < limit:
            return f"{ms / size:.{0 if float(ms).is_integer() and size == 1 else places}f} {unit}"
    return f"{ms / _PAST_DAY_MS:.0f} d"


def size_of(count: float) -> str:
    """Bytes: `3.1 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


# ---------------------------------------------------------------- reasons and payers


def reason(value: object) -> str:
    """A reason as a sentence; an unknown one as its words."""
    text = plain(value)
    return REASONS.get(text.lower(), text.replace("_", " "))


def brief(value: object) -> str:
    """A reason in few words, for a line of a list."""
    return BRIEF.get(plain(value).lower(), reason(value))


def payer(apr: Decimal | None) -> str:
    """Who pays whom at this funding."""
    if apr is None:
        return "unknown"
    if apr == 0:
        return "nobody pays"
    return "longs pay shorts" if apr > 0 else "shorts pay longs"


# ---------------------------------------------------------------- one line per message


def headline(body: Message) -> str:
    """What a message says, in one line."""
    match body:
        case market.MarketTick():
            return (f"price of {body.instrument}: mark {money(body.mark_price, 2)}, index "
                    f"{money(body.index_price, 2)}")
        case funding.FundingRate():
            return (f"funding of {body.instrument}: {signed_percent(body.funding_rate, 4)} per "
                    f"{plain(body.funding_interval_h)} h")
        case funding.FundingContext():
            return (f"funding of {body.instrument}: {signed_percent(body.apr)} a year, "
                    f"{payer(body.apr)}, regime {body.regime.name}")
        case risk.RiskAssessment():
            ltv = percent(body.ltv, 2) if body.ltv is not None else "infinite or unknown"
            return f"risk: {body.state.name}, LTV {ltv}, inputs {body.confidence.name}"
        case risk_detail.RiskDetail():
            return f"risk score {body.score:.0f} of 100, driven by {body.parts.driver}"
        case hedging.HedgeDecision():
            did = f" → {', '.join(body.actions)}" if body.actions else ""
            return f"decision: {reason(body.reason)}{did}"
        case safety.SafetyState():
            held = ", ".join(reason(name) for name in body.breakers)
            said = "; ".join(part for part in (held, body.text) if part)
            return f"safety: {body.mode.name} – {reason(body.reason)}{f' ({said})' if said else ''}"
        case command.OperatorCommand():
            return f"operator: {body.action.value} {body.account}{' and flatten' * body.flatten}"
        case _:
            return _request(body)


def _request(body: Message) -> str:
    """Orders, treasury actions and what came of them."""
    match body:
        case order.PlaceOrder():
            kind = "market" if body.price is None else f"limit {money(body.price, 2)}"
            if body.trigger_price is not None:
                kind = f"stop at {money(body.trigger_price, 2)}"
            return (f"order: {body.side.value} {plain(body.qty)} {body.instrument} {kind}"
                    f"{', reduce-only' if body.reduce_only else ''}")
        case order.CancelOrders():
            return f"cancel: every open order of {body.instrument or 'the account'}"
        case order.OrderConfirmation():
            return _order_confirmation(body)
        case treasury.TreasuryAction():
            return f"treasury: {_treasury(body.kind_of, body.amount, body.coin)}"
        case treasury.TreasuryConfirmation():
            return (f"treasury: {_treasury(body.kind_of, body.amount, body.coin)} – "
                    f"{body.stage.value.replace('_', ' ')}"
                    f"{', outcome not known yet' if body.is_unknown else ''}")
        case policy.Policy():
            return f"policy of {body.account}, version {body.version}"
        case registry.Quarantined():
            return f"UNREADABLE on {body.topic}: {body.reason}"
        case _:
            return _fact(body)


def _order_confirmation(body: order.OrderConfirmation) -> str:
    text = f"{body.side.value} {plain(body.qty)} {body.instrument}: {body.status.value}"
    if body.filled_qty:
        value = sum((f.qty * f.price for f in body.fills), Decimal(0))
        qty = sum((f.qty for f in body.fills), Decimal(0))
        at = f" at {money(value / qty, 2)}" if qty else ""
        text += f", {plain(body.filled_qty)} filled{at}"
    return text + (", outcome not known yet" if body.is_unknown else "")


_TREASURY_VERBS = {
    treasury.TreasuryKind.REPAY: "repay {} of the loan",
    treasury.TreasuryKind.BORROW: "borrow {} on the loan",
    treasury.TreasuryKind.REPAY_WITH_COLLATERAL: "sell collateral to repay {}",
    treasury.TreasuryKind.TRANSFER_TO_FUND: "move {} to the funding wallet",
    treasury.TreasuryKind.TRANSFER_TO_UNIFIED: "move {} to the trading pocket",
}


def _treasury(kind: treasury.TreasuryKind, amount: Decimal, coin: str) -> str:
    return _TREASURY_VERBS[kind].format(f"{money(amount, 2)} {coin}")


def _fact(body: Message) -> str:
    match body:
        case account.WalletRead():
            held = ", ".join(f"{plain(c.wallet_qty)} {c.coin}" for c in body.coins)
            return f"trading pocket: {held or 'empty'}"
        case account.PositionsRead():
            held = ", ".join(f"{plain(p.position_qty)} {p.instrument}" for p in body.positions)
            return f"positions: {held or 'none'}"
        case account.PositionChanged():
            return f"position: {plain(body.position.position_qty)} {body.position.instrument}"
        case account.FundRead():
            held = ", ".join(f"{plain(b.qty)} {b.coin}" for b in body.balances)
            return f"funding wallet: {held or 'empty'}"
        case account.LoanRead():
            owed = ", ".join(f"{plain(d.qty)} {d.coin}" for d in body.debts)
            locked = ", ".join(f"{plain(c.qty)} {c.coin}" for c in body.collateral)
            return f"loan: owes {owed or 'nothing'} against {locked or 'nothing'}"
        case account.LedgerLine():
            return f"ledger: {body.line_type} {plain(body.change)} {body.coin}"
        case instrument.Instrument() | instrument.CollateralTerms():
            name = getattr(body, "instrument", getattr(body, "coin", ""))
            return f"terms of {name}"
        case _:
            return f"{type(body).__name__}: {_fields(body)}"


def _fields(body: Message) -> str:
    """The short fields of a message that nobody described here."""
    said = []
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if isinstance(value, (Decimal, enum.Enum, bool)) or (isinstance(value, str) and value):
            said.append(f"{name.replace('_', ' ')} {plain(value)}")
    return ", ".join(said)
