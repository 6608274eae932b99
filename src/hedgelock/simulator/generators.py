"""Seeded markets by name: jump diffusions whose volatility and premium change together.

    generated("mania", seed=7)              # a day of BTC and ETH
    generated("storm", seed=7, days=30, bases=("BTC",))

Funding follows from the premium by the exchange's formula, and settles on the UTC grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from hedgelock.simulator.paths import Course, Diffusion, Drawn, Following, Regime
from hedgelock.simulator.scenarios import (
    LOAN_TERMS,
    MARGIN_TERMS,
    AccountSetup,
    Scenario,
    twins,
)

DAY_S = 86_400.0
QUIET = Regime(volatility=0.35, premium=0.00003, stay_h=72)
USUAL = Regime(volatility=0.60, premium=0.0003, jumps_per_day=0.3, jump_size=0.01, stay_h=48)
EUPHORIA = Regime(
    volatility=0.95, drift=1.5, premium=0.0024, jumps_per_day=1.0, jump_size=0.015, stay_h=36
)
PANIC = Regime(
    volatility=1.6, drift=-3.0, premium=-0.0016, jumps_per_day=5.0, jump_size=0.025, stay_h=12
)
MODELS: dict[str, tuple[Regime, ...]] = {
    "still": (QUIET,),
    "usual": (USUAL, QUIET, EUPHORIA, PANIC),
    "mania": (EUPHORIA, USUAL),
    "storm": (PANIC, USUAL, EUPHORIA),
}
"""Regimes by name; a market starts in the first one."""
STARTS = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "XRP": 0.6}
BETAS = {"ETH": 1.2, "SOL": 1.6, "XRP": 1.3}
OWN_VOLATILITY = 0.3  # of what a coin does apart from its leader, per √year


def generated(
    name: str, *, seed: int, days: float = 1.0, bases: Sequence[str] = ("BTC", "ETH"),
    accounts: tuple[AccountSetup, ...] | None = None,
) -> Scenario:  # fmt: skip
    """A market of the named model; the first base leads, the others follow with their beta.

    The same name and seed give the same paths, whatever the tick and whatever is asked first.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; known: {', '.join(MODELS)}")
    unknown = [base for base in bases if base not in STARTS]
    if unknown or not bases:
        raise ValueError(f"no start price of {unknown or 'any coin'}; known: {', '.join(STARTS)}")
    leader, *followers = bases
    drawn = Drawn(Diffusion(STARTS[leader], MODELS[name]), f"{seed}:{name}:{leader}")
    prices: dict[str, Course] = {leader: drawn.price}
    premium: dict[str, Course] = {leader: drawn.premium}
    for base in followers:
        own = Diffusion(STARTS[base], (Regime(volatility=OWN_VOLATILITY),))
        apart = Drawn(own, f"{seed}:{name}:{base}")
        prices[base] = Following(drawn.price, apart.price, BETAS.get(base, 1.0))
        premium[base] = drawn.premium
    return Scenario(
        name=f"{name}-{seed}",
        summary=f"{days:g} days of {', '.join(bases)}, model {name}, seed {seed}",
        duration_s=days * DAY_S,
        prices=prices,
        funding={},
        settlements_s=(),
        accounts=twins("33000") if accounts is None else accounts,
        loan=LOAN_TERMS,
        margin=MARGIN_TERMS,
        noise_bps=0.0,
        premium=premium,
    )
