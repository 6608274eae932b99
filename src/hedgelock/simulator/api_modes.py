"""Routes that only other kinds of account may use; each is refused with its reason.

Isolated margin's own answer 110015 in cross margin; those of the account before unification answer
100028. Source: fact sheet §1.5, §4.4.
"""

from __future__ import annotations

from typing import NoReturn

from hedgelock.simulator.api_market import perpetual
from hedgelock.simulator.params import Params, need
from hedgelock.simulator.routes import WRITE, Route
from hedgelock.simulator.state import Account, Exchange, Refused


def isolated_only(x: Exchange, a: Account, params: Params) -> NoReturn:
    """POST position/add-margin and position/set-auto-add-margin."""
    need(params, "category")
    perpetual(x, params)
    raise Refused(110015, "Position is in cross margin mode")


def confirm_risk_limit(x: Exchange, a: Account, params: Params) -> NoReturn:
    """POST position/confirm-pending-mmr: for positions that may only be reduced; none is here."""
    need(params, "category")
    perpetual(x, params)
    raise Refused(10001, "params error: position is not reduce-only")


def before_unification(x: Exchange, a: Account, params: Params) -> NoReturn:
    """POST position/switch-isolated, set-tpsl-mode and set-risk-limit."""
    raise Refused(100028, "The API cannot be accessed by unified account users.")


PRIVATE: dict[tuple[str, str], Route] = {
    ("POST", "/v5/position/add-margin"): Route(isolated_only, WRITE),
    ("POST", "/v5/position/set-auto-add-margin"): Route(isolated_only, WRITE),
    ("POST", "/v5/position/confirm-pending-mmr"): Route(confirm_risk_limit, WRITE),
    ("POST", "/v5/position/switch-isolated"): Route(before_unification, WRITE),
    ("POST", "/v5/position/set-tpsl-mode"): Route(before_unification, WRITE),
    ("POST", "/v5/position/set-risk-limit"): Route(before_unification, WRITE),
}
