"""How Bybit v5 words success, failure, time and limits; which code means what to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hedgelock.errors import (
    OutcomeUnknown,
    VenueBusy,
    VenueError,
    VenueForbidden,
    VenueRefused,
)
from hedgelock.exchanges.fields import Row

if TYPE_CHECKING:
    from hedgelock.exchanges.ccxt_venue import CcxtVenue

ORDER_DUPLICATE = frozenset({"110072", "170141"})
TRANSFER_DUPLICATE = frozenset({"131214"})

DOUBT = frozenset({"10000", "10014", "10016", "10019", "170146"})
"""The venue itself does not know, or says that an equal request is under way."""

BUSY = frozenset(
    {"-1", "10002", "10006", "10018", "10403", "10429", "20003", "20006", "110063", "110079",
     "148019", "148021", "170222"}
)
"""Nothing happened; the same request may be sent again later."""

FORBIDDEN = {
    "10003": "the key is unknown here: check BYBIT__API_KEY and that it belongs to this environment"
             " (live, testnet and demo keys differ)",
    "10004": "the signature is wrong: check BYBIT__API_SECRET",
    "10005": "the key lacks a permission: it needs Contract orders and positions, Spot trade (for"
             " loans) and Wallet account transfer, and must not withdraw",
    "10007": "authentication failed: check key and secret",
    "10008": "the account is banned: talk to Bybit",
    "10009": "this IP address is banned: talk to Bybit",
    "10010": "the key is bound to other IP addresses: add this machine's address to the key",
    "10017": "this address has no such route: check the REST address of the mode",
    "10024": "compliance rules of your region forbid this: talk to Bybit",
    "10027": "trading is banned for this account: talk to Bybit",
    "10028": "the account is not a unified trading account: upgrade it",
    "10029": "the symbol is not on the key's white list",
    "33004": "the key has expired: make a new one",
    "100028": "the account is a unified one and this call is not for those",
}
"""Code -> what a person has to do."""

_CCXT_FORBIDDEN = frozenset({"AuthenticationError", "PermissionDenied", "AccountSuspended"})
_CCXT_BUSY = frozenset({"RateLimitExceeded", "DDoSProtection"})
_CCXT_DOUBT = frozenset({"RequestTimeout"})


class BybitDialect:
    """Bybit v5's envelope: retCode, retMsg, result, time."""

    def refusal(self, body: Row, exact: Mapping[str, type[Exception]]) -> VenueError | None:
        """retCode 0 is success whatever retMsg says; a body without retCode is unreadable."""
        code = str(body.integer("retCode"))
        if code == "0":
            return None
        text = body.text_or("retMsg")
        if code in FORBIDDEN:
            return VenueForbidden(f"{FORBIDDEN[code]} ({text})", code=code)
        if code in BUSY:
            return VenueBusy(text, code=code)
        if code in DOUBT or "timeout" in text.lower():
            return OutcomeUnknown(text, code=code)
        kind = exact.get(code)
        names = {base.__name__ for base in kind.__mro__} if kind else set()
        if names & _CCXT_FORBIDDEN:
            return VenueForbidden(text, code=code)
        if names & _CCXT_BUSY:
            return VenueBusy(text, code=code)
        if names & _CCXT_DOUBT:
            return OutcomeUnknown(text, code=code)
        return VenueRefused(text, code=code)

    def result(self, body: Row) -> Row:
        """The `result` object."""
        return body.row("result")

    def event_ms(self, body: Row) -> int | None:
        """The envelope's time; a few answers have none."""
        return body.ts_ms("time") if "time" in body else None

    def limits(self, headers: Mapping[str, str]) -> tuple[int, int, int] | None:
        """X-Bapi-Limit, -Status (remaining) and -Reset-Timestamp; None unless all are numbers."""
        texts = [
            headers.get(name, "")
            for name in (
                "x-bapi-limit", "x-bapi-limit-status", "x-bapi-limit-reset-timestamp"
            )
        ]
        if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in texts):
            return None
        limit, remaining, reset_ms = (int(text) for text in texts)
        return limit, remaining, reset_ms

    async def venue_ms(self, venue: CcxtVenue) -> int:
        """market/time, to the millisecond."""
        answer = await venue.call("GET", "/v5/market/time", signed=False)
        return answer.result.integer("timeNano") // 1_000_000
