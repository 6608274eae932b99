"""Situations for the hedger's decisions: the demo account, changed as a test needs, or drawn."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hedge_world import D, instrument, policy
from hypothesis import strategies as st

from hedgelock.domain.headroom import Headroom
from hedgelock.domain.inflight import Exposure
from hedgelock.domain.policy import ExecutionPolicy, HedgePolicy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Balances, HedgeReason, Situation

SPOT_FEE_INSTRUMENT = "spot:BTCUSDT"


def held(short: str | Decimal, *, high: str | None = None, low: str | None = None) -> Exposure:
    """A short that is seen; `high` and `low` as with open orders."""
    qty = D(short)
    return Exposure(qty, qty, D(high) if high else qty, D(low) if low else qty)


def situation(
    price: str | Decimal = "60000", *, short: str | Decimal = "0", entry: str | None = None,
    equity: str | Decimal = "6000", cash: str | Decimal | None = None,
    withdrawable: str | Decimal | None = None, fund: str | Decimal = "0",
    debt: str | Decimal = "36600", coins: str | Decimal = "0.1",
    collateral: str | Decimal = "1", hedge: HedgePolicy | None = None, **changes: Any,
) -> Situation:
    """The demo account at a price, settled and fresh."""
    at, hedge = D(price), hedge or policy().hedge
    money = D(cash) if cash is not None else D(equity)
    perp = changes.pop("instrument", instrument())
    fields: dict[str, Any] = {
        "policy": hedge, "execution": ExecutionPolicy(), "instrument": perp,
        "spot": instrument(SPOT_FEE_INSTRUMENT), "mode": SafetyMode.ACTIVE,
        "confidence": Confidence.FRESH, "risk_state": RiskState.NORMAL, "mark_price": at,
        "index_price": at, "counted_value": D(collateral) * at, "loan_ratio": D(1),
        "reserve": D(6000), "multiplier": D(1),
        "balances": Balances(
            equity=D(equity), cash=money,
            withdrawable=max(D(0), money) if withdrawable is None else D(withdrawable),
            fund=D(fund), debt=D(debt), coin_qty=D(coins), collateral_qty=D(collateral),
        ),
        "exposure": held(short), "entry_price": D(entry) if entry else None,
        "headroom": Headroom(
            at, hedge.stress_rise, D(coins) * D("0.95") * at * (1 + hedge.stress_rise), D(1),
            hedge.borrow_margin_rate, perp,
        ),
        "is_settled": True, "has_treasury": False, "has_spot_order": False,
        "has_hedge_order": False, "reopen_qty": D(0), "realising": D(0), "has_realised": False, "may_order": True, "may_move": True,
        "is_hedge_pinned": False, "is_repay_forbidden": False,
    }
    return Situation(**(fields | changes))


def amounts(low: str, high: str, places: int = 3) -> st.SearchStrategy[Decimal]:
    """A number in [low, high]."""
    return st.decimals(min_value=D(low), max_value=D(high), places=places)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Likely accounts, well and unwell, in every mode and confidence."""
    short = draw(amounts("0", "1.3"))
    entry = draw(amounts("20000", "90000", 1)) if short else None
    equity = draw(amounts("-3000", "30000", 2))
    high = short + draw(st.sampled_from([D(0), D("0.05")]))
    low = short - draw(st.sampled_from([D(0), min(short, D("0.05"))]))
    return situation(
        draw(amounts("20000", "90000", 1)), short=short, entry=str(entry) if entry else None,
        equity=equity, cash=draw(st.just(equity) | amounts("-3000", "30000", 2)),
        withdrawable=draw(amounts("0", "20000", 2)), fund=draw(amounts("0", "4000", 2)),
        debt=draw(amounts("0", "60000", 2)), coins=draw(amounts("0", "0.3")),
        collateral=draw(amounts("0.2", "1.2")),
        exposure=Exposure(short, short, high, low),
        confidence=draw(st.sampled_from([Confidence.FRESH, Confidence.FRESH, Confidence.STALE])),
        mode=draw(st.sampled_from([SafetyMode.ACTIVE, SafetyMode.ACTIVE, SafetyMode.REDUCING, SafetyMode.HALTED])),
        risk_state=draw(st.sampled_from(list(RiskState))),
        multiplier=draw(st.none() | amounts("0", "1")),
        hedge=draw(st.sampled_from([policy().hedge, LADDER])),
        is_settled=draw(st.booleans()), has_treasury=draw(st.booleans()),
        reopen_qty=draw(st.sampled_from([D(0), D("0.05")])),
        realising=draw(st.sampled_from([D(0), D(500)])),
        has_realised=draw(st.booleans()),
        has_hedge_order=high != low, may_order=draw(st.sampled_from([True, True, False])),
        may_move=draw(st.sampled_from([True, True, False])),
        is_hedge_pinned=draw(st.sampled_from([False, False, True])),
        is_repay_forbidden=draw(st.sampled_from([False, False, True])),
        sale_guard=draw(st.sampled_from([None, None, HedgeReason.SETTLEMENT_NEAR])),
    )


def _ladder() -> HedgePolicy:
    from hedgelock.domain.policy import Strategy

    return policy(strategy=Strategy.LADDER, caution_size=D("0.1")).hedge


LADDER = _ladder()
