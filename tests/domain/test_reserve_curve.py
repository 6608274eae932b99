"""The seed's deployment curve: what of the reserve is kept back at which LTV."""

from __future__ import annotations

import msgspec
import pytest
from hedge_world import D, World, policy

from hedgelock.domain.policy import TacticsPolicy
from hedgelock.domain.reserve import kept

SEED = ((D("0.65"), D("0.25")), (D("0.75"), D("0.5")), (D("0.85"), D(1)))


@pytest.mark.parametrize(("ltv", "left"), [
    ("0", "8000"), ("0.649", "8000"), ("0.65", "6000"), ("0.75", "4000"), ("0.849", "4000"),
    ("0.85", "0"), ("2", "0"),
])
def test_the_curve_deploys_in_steps(ltv: str, left: str) -> None:
    """A quarter from .65, a half from .75, all from .85."""
    assert kept(D(8000), D(ltv), SEED) == D(left)


def test_without_a_curve_all_is_kept_and_senseless_shares_stay_within_it() -> None:
    """The reference policy keeps all of R; a share beyond 0..1 counts as its bound."""
    assert kept(D(8000), D("0.9"), ()) == 8000
    assert kept(D(8000), D("0.9"), ((D("0.1"), D(7)),)) == 0
    assert kept(D(8000), D("0.9"), ((D("0.1"), D(-7)),)) == 8000


def test_what_is_deployed_asks_for_a_smaller_hedge() -> None:
    """N holds R: with half of it deployed at .75 the stressed need is smaller, and so is the short."""
    sizes = []
    for curve in ((), SEED):
        world = World(price=D(48_000))
        world.tables.policy_row = msgspec.structs.replace(
            policy(), tactics=TacticsPolicy(reserve_curve=curve)
        )
        world.deliver(*world.facts())
        world.tick(D(48_000))
        sizes.append(-world.position)
    assert 0 < sizes[1] < sizes[0]
