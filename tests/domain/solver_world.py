"""Accounts for the solver: the demo account with terms, limits and cells, changed as a test needs."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from hedgelock.domain.actions import ActionKind, Holdings, Limits, Perp, Terms, Tier, converted
from hedgelock.domain.money import ceil_to, floor_to
from hedgelock.domain.solver_problem import Case, Rounding
from hedgelock.domain.stress import NOTHING, SHOCKS

D = Decimal
EXACT = Rounding(floor_to, ceil_to)
QUICK = Rounding(
    lambda value, step: math.floor(value / step + 1e-9) * step,
    lambda value, step: math.ceil(value / step - 1e-9) * step,
)
CELLS = ((None, NOTHING), *SHOCKS)
EVERYTHING = frozenset(ActionKind)
LINEAR = Perp(
    cost=D("0.001"), taker_fee=D("0.00055"), funding=D("-0.0009"), funding_day_rate=D("0.01125"),
    lot=D("0.001"), qty_min=D("0.001"),
    tiers=(Tier(D(2_000_000), D("0.005"), D(0)), Tier(D(2_600_000), D("0.0056"), D(1_200))),
)
INVERSE = Perp(
    cost=D("0.001"), taker_fee=D("0.00055"), funding=D("-0.0009"), funding_day_rate=D("0.01125"),
    lot=D(1), qty_min=D(1), tiers=(Tier(D(150), D("0.005"), D(0)),),
)
LIMITS: Limits[Decimal] = Limits(
    ltv_max=D("0.85"), margin_max=D(1), harvest_at=D("0.75"), harvest_to=D("0.70"),
    urgent_at=D("0.80"), urgent_to=D("0.75"), refill_below=D("0.65"), reserve=D(6000),
    amount_min=D(600), borrow_max=D(250_000), size_max=D(10), band=D("0.05"), aim=D("0.02"),
    saving_min=D(30), cells_fall=D("0.25"), cells_rise=D("0.25"),
)


def terms(price: str | Decimal = "60000", **changes: Any) -> Terms[Decimal]:
    """The terms at a price; `linear` and `inverse` may be given as changes of the contract."""
    linear = LINEAR._replace(**changes.pop("linear", {}))
    inverse = INVERSE._replace(**changes.pop("inverse", {}))
    at = D(price)
    fields: dict[str, Any] = {
        "index_price": at, "mark_price": at, "loan_ratio": D(1), "loan_ratio_next": D("0.98"),
        "margin_ratio": D("0.95"), "margin_ratio_next": D("0.9"), "linear": linear,
        "inverse": inverse, "spot_cost": D("0.0015"), "collateral_cost": D("0.0025"), "sale_premium": D("0.02"),
        "realise_cost": D("0.005"), "released": D(10**9), "interest": D("0.0006"),
        "borrow_margin_rate": D("0.04"), "cent": D("0.01"), "coin_step": D("0.00000001"),
    }
    return Terms(**(fields | changes))


def holdings(**changes: Any) -> Holdings[Decimal]:
    """1 BTC pledged for 36,600 USDT; 6,000 USDT and .1 BTC in the pocket."""
    fields = {
        "debt": "36600", "fund": "0", "equity": "6000", "coins": "0.1", "collateral": "1",
        "short": "0", "inverse": "0",
    }
    return Holdings(**{name: D(value) for name, value in (fields | changes).items()})


def case(
    price: str | Decimal = "60000", *, limits: Limits[Decimal] = LIMITS,
    available: frozenset[ActionKind] = EVERYTHING, offer: Terms[Decimal] | None = None,
    **held: Any,
) -> Case[Decimal]:
    """The question at a price."""
    return Case(holdings(**held), offer or terms(price), limits, CELLS, available, EXACT)


def in_floats(exact: Case[Decimal]) -> Case[float]:
    """The same question in floats."""
    parts = converted((exact.held, exact.terms, exact.limits, exact.cells), float)
    return Case(*parts, exact.available, QUICK)


def amounts(low: str, high: str, places: int = 3) -> st.SearchStrategy[Decimal]:
    """A number in [low, high]."""
    return st.decimals(min_value=D(low), max_value=D(high), places=places)


@st.composite
def cases(draw: st.DrawFn) -> Case[Decimal]:
    """Accounts well and unwell, funding of either sign, some actions not available."""
    price = draw(amounts("20000", "100000", 1))
    funding = draw(amounts("-0.03", "0.03", 4))
    offer = terms(
        price, linear={"funding": funding}, inverse={"funding": draw(amounts("-0.03", "0.03", 4))},
        released=draw(st.sampled_from([D(10**9), D(0), D(2000)])),
        interest=draw(amounts("0", "0.003", 4)),
    )
    has_short = draw(st.booleans())
    available = EVERYTHING - frozenset(
        draw(st.lists(st.sampled_from([k for k in ActionKind if k is not ActionKind.WAIT])))
    )
    return case(
        offer=offer, available=available,
        debt=draw(amounts("0", "70000", 2)), fund=draw(st.just(D(0)) | amounts("0", "8000", 2)),
        equity=draw(amounts("-1000", "20000", 2)), coins=draw(amounts("0", "0.3")),
        collateral=draw(amounts("0.3", "1.2")),
        short=draw(amounts("0", "1.2")) if has_short else D(0),
        inverse=draw(st.just(D(0)) | amounts("0", "20000", 0)),
    )
