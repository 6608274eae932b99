"""Signatures and timestamps on the raw bytes as received, and what a key may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from hedgelock.simulator.keys import ANYWHERE, KeyTerms
from hedgelock.simulator.state import Account, Refused

AHEAD_MS = 1000  # a timestamp this far ahead of the exchange is refused
RECV_WINDOW_DEFAULT = "5000"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The X-BAPI headers of a request."""

    key: str
    timestamp: str
    sign: str
    recv_window: str


def sign(secret: str, payload: str) -> str:
    """Lower-case hex HMAC-SHA256."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def same(expected: str, given: str) -> bool:
    """Compare signatures in constant time; whatever was given, in either case of letters."""
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "replace"))


def is_time(text: str) -> bool:
    """Whether a text is a number of milliseconds: ASCII digits, no more than a time can have."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def check_request(
    accounts: Mapping[str, Account], given: Credentials, *, raw: str, now_ms: int
) -> Account:
    """The account that signed `raw` (query string or body as received); else `Refused`."""
    account = accounts.get(given.key)
    if account is None:
        raise Refused(10003, "API key is invalid.")
    window = given.recv_window or RECV_WINDOW_DEFAULT
    check_time(given.timestamp, window, now_ms=now_ms)
    origin = given.timestamp + given.key + window + raw
    if not same(sign(account.secret, origin), given.sign):
        raise Refused(10004, f"error sign! origin_string[{origin}]")
    return account


def check_time(timestamp: str, window: str, *, now_ms: int) -> None:
    """Refuse a timestamp outside (now − window, now + 1 s), in the exchange's own words."""
    fresh = is_time(timestamp) and is_time(window)
    if fresh:
        fresh = now_ms - int(window) <= int(timestamp) < now_ms + AHEAD_MS
    if not fresh:
        raise Refused(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{timestamp}],server_timestamp[{now_ms}],recv_window[{window}]",
        )


def check_stream(
    accounts: Mapping[str, Account], *, key: str, expires: str, given: str, now_ms: int
) -> Account:
    """The account that authenticates a private or trade socket; `expires` in ms as text."""
    account = accounts.get(key)
    if account is None:
        raise Refused(10003, "API key is invalid.")
    if not is_time(expires) or int(expires) <= now_ms:
        raise Refused(10002, "Params expires has expired")
    if not same(sign(account.secret, f"GET/realtime{expires}"), given):
        raise Refused(10004, "Params sign error")
    return account


EXPIRED = (33004, "Your api key has expired.")
WRONG_ADDRESS = (10010, "Unmatched IP, please check your API key's bound IP addresses.")
DENIED = (10005, "Permission denied, please check your API key permissions.")


def key_refusal(terms: KeyTerms, *, address: str, now_ms: int) -> tuple[int, str] | None:
    """Code and words for a key that has expired or is used from a foreign address."""
    if terms.expires_ms is not None and now_ms >= terms.expires_ms:
        return EXPIRED
    if terms.ips != ANYWHERE and address not in terms.ips:
        return WRONG_ADDRESS
    return None


def may(
    terms: KeyTerms, method: str, path: str, params: Mapping[str, Any], *,
    lost: AbstractSet[str] = frozenset(),
) -> bool:  # fmt: skip
    """Whether a key may use a route; `lost` = permissions taken from it meanwhile.

    Reading needs none; a write needs one permission of `needed` and a key that is not read-only.
    """
    if method == "GET":
        return True
    if terms.read_only:
        return False
    return any(
        kind in terms.permissions.get(group, ()) and not {group, kind} & lost
        for group, kind in needed(path, params)
    )


def needed(path: str, params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Permissions of which one opens a route for writing, as (group, kind) of user/query-api.

    Loans ask for spot trading (fact sheet §7.1).
    """
    if path.startswith("/v5/asset/"):
        return (("Wallet", "AccountTransfer"),)
    if path.startswith("/v5/position/"):
        return (("ContractTrade", "Position"),)
    if path.startswith("/v5/order/") and params.get("category") != "spot":
        return (("ContractTrade", "Order"),)
    if path.startswith(("/v5/order/", "/v5/crypto-loan", "/v5/spot-margin")):
        return (("Spot", "SpotTrade"),)
    return (("ContractTrade", "Order"), ("Spot", "SpotTrade"))
