"""An API key and its account: what they may do, what is wrong with them, what deserves a warning.

A key that may withdraw can empty the account if it leaks, and HedgeLock never needs it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hedgelock.errors import VenueError
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.fields import Row
from hedgelock.ports import Capabilities

EXPIRY_WARN_DAYS: Final = 14
ANY_ADDRESS: Final = "*"
DCP_PRODUCT: Final = "DERIVATIVES"
DCP_WINDOW_S: Final = 30
"""Long enough for a reconnection, short enough to matter: Bybit takes 3 to 300 s."""
_NOT_THERE: Final = frozenset({"10005", "10017", "http-404"})
UNIFIED_2: Final = frozenset({5, 6})


class KeyTerms(NamedTuple):
    """What the venue says of a key. `addresses` ("*",) = usable from anywhere."""

    is_read_only: bool
    may: frozenset[tuple[str, str]]
    """(group, permission), as the venue names them."""
    addresses: tuple[str, ...]
    days_left: int | None
    """Days until it expires; None = the venue states none (bound keys do not expire)."""


def parse_key(key: Row) -> KeyTerms:
    """user/query-api. `Wallet` must be there: without it nobody knows whether it may withdraw."""
    permissions = key.row("permissions")
    permissions.texts("Wallet")
    return KeyTerms(
        is_read_only=key.integer("readOnly") != 0,
        may=frozenset(
            (group, name) for group in permissions.names() for name in permissions.texts(group)
        ),
        addresses=tuple(filter(None, key.texts("ips") if "ips" in key else ())) or (ANY_ADDRESS,),
        days_left=key.integer("deadlineDay") if "deadlineDay" in key else None,
    )


def key_problems(
    key: KeyTerms, *, capabilities: Capabilities, refuse_withdrawal: bool
) -> list[str]:
    """What is wrong with an API key, each with what to do; [] = fit for use."""
    problems = []
    if key.is_read_only:
        problems.append("the key is read-only: make one that may trade")
    needed = [("ContractTrade", "Order"), ("ContractTrade", "Position")]
    if capabilities.loans or capabilities.spot:
        needed.append(("Spot", "SpotTrade"))
    if capabilities.transfers:
        needed.append(("Wallet", "AccountTransfer"))
    problems += [
        f"the key lacks {group} {name}: add that permission"
        for group, name in needed
        if (group, name) not in key.may
    ]
    if refuse_withdrawal and any("withdraw" in name.lower() for _, name in key.may):
        problems.append("the key may withdraw: take that permission away")
    return problems


def key_warnings(key: KeyTerms) -> list[str]:
    """What does not stop HedgeLock but should be mended soon, each with what to do."""
    found = []
    if ANY_ADDRESS in key.addresses:
        found.append(
            "the key works from every address: bind it to this machine's at Bybit (a bound key also"
            " does not expire after 90 days)"
        )
    if key.days_left is not None and 0 <= key.days_left < EXPIRY_WARN_DAYS:
        found.append(
            f"the key expires in {key.days_left} days: make a new one, or bind it to this machine's"
            " address"
        )
    return found


def account_problems(info: Row) -> list[str]:
    """What is wrong with the account itself, each with what to do; [] = fit for use."""
    if info.integer("unifiedMarginStatus") not in UNIFIED_2:
        return ["the account is not a unified trading account 2.0: upgrade it at Bybit"]
    mode = info.text("marginMode")
    if mode != "REGULAR_MARGIN":
        return [f"margin mode is {mode}: switch the account to cross margin (REGULAR_MARGIN)"]
    return []


# ---------------------------------------------------------------- disconnected-cancel-all


def parse_dcp(result: Row) -> int | None:
    """query-dcp-info: the window in seconds for derivatives; None = not enabled for this account."""
    for row in result.rows("dcpInfos"):
        if row.text("product") == DCP_PRODUCT:
            return row.integer("timeWindow") if row.text("dcpStatus") == "ON" else None
    return None


async def arm_dcp(venue: CcxtVenue, window_s: int) -> int | None:
    """Bring the account's disconnected-cancel-all to `window_s`; the window in force, None = none.

    Bybit enables it for institutions only; for everybody else this changes nothing.
    """
    try:
        known_s = parse_dcp((await venue.get("/v5/account/query-dcp-info")).result)
        if known_s is not None and known_s != window_s:
            await venue.call(
                "POST", "/v5/order/disconnected-cancel-all",
                {"product": DCP_PRODUCT, "timeWindow": window_s},
            )
            known_s = window_s
    except VenueError as error:
        if error.code in _NOT_THERE:
            return None
        raise
    return known_s
