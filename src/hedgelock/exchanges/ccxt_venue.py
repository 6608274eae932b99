"""What ccxt unifies about venues: signing, addresses, the meaning of error codes.

ccxt signs a request and says which URL it belongs to; the bytes it signed are sent as they are
through our own `Transport`, and the venue's raw answer is read, not ccxt's unified fields. Nothing
here retries a request that could move money. The clock is injected; ccxt never asks for the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from hedgelock.errors import (
    BadMessage,
    OutcomeUnknown,
    VenueBusy,
    VenueError,
    VenueForbidden,
    VenueRefused,
)
from hedgelock.exchanges.address import STAND_OFF_MS, Address, Guard
from hedgelock.exchanges.fields import Row, decode_json
from hedgelock.exchanges.pace import Paces
from hedgelock.exchanges.transport import HttpAnswer, Transport, TransportFailed
from hedgelock.ports import Clock

CLOCK_SAMPLES = 5
STAMP_SAFETY_MS = 100
"""Requests are stamped this much earlier: 1 s ahead is refused, 5 s behind is not."""
OFFSET_ABSURD_MS = 86_400_000
"""A day: whatever says so is no clock, and must not stamp requests."""
REQUEST_TIMEOUT_S = 5.0
RECV_WINDOW_MS = 2_000
"""A request that takes longer is refused: "not there" must soon be final, for a loan action that was
in doubt is repeated then (ExecutionPolicy.query_after_ms is no shorter)."""

LOGIN_LIFE_MS = 10_000
RESET_MAX_MS = 600_000
"""A reset further away than this is no schedule."""
WAIT_MAX_MS = 5_000
"""A read waits this long for room; then, and for what moves money at once, the venue is busy."""
BUSY_DELAY_MS = 1_000

STAND_OFF_TEXT = (
    "this network address asked too often (HTTP 403) and stands off; sockets go on, orders over the"
    " trade socket too"
)

OnLimits = Callable[[str, int, int, int], None]
"""(endpoint as `order/create`, limit, remaining, reset in ms of *our* clock), after every answer."""


class Credentials(NamedTuple):
    """An API key; never printed."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "Credentials(***)"


class Answer(NamedTuple):
    """A successful answer: the venue's result and the three times."""

    result: Row
    ts_requested_ms: int
    ts_event_ms: int
    ts_seen_ms: int


class Dialect(Protocol):
    """How one venue words success, failure, time and limits."""

    def refusal(self, body: Row, exact: Mapping[str, type[Exception]]) -> VenueError | None:
        """None = success. `exact`: ccxt's reading of the codes, for those we do not know."""

    def result(self, body: Row) -> Row:
        """The part that matters of a successful answer."""

    def event_ms(self, body: Row) -> int | None:
        """The venue's time of the answer, None when it says none."""

    def limits(self, headers: Mapping[str, str]) -> tuple[int, int, int] | None:
        """(limit, remaining, reset_ms) from the headers."""

    async def venue_ms(self, venue: CcxtVenue) -> int:
        """The venue's clock, by one cheap request."""


def ccxt_class(venue: str) -> Any:
    """The asynchronous ccxt class of one venue without importing the other hundred.

    `import ccxt` loads every venue (3 s, 82 MB over this). The packages are replaced by empty
    shells while one venue's module loads, then taken away: a later `import ccxt` is unaffected.
    """
    name = f"ccxt.async_support.{venue}"
    if name in sys.modules or "ccxt" in sys.modules:
        return getattr(importlib.import_module(name), venue)
    spec = importlib.util.find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("ccxt is not installed")
    root = spec.submodule_search_locations[0]
    shells = {"ccxt": root, "ccxt.async_support": f"{root}/async_support"}
    for shell, path in shells.items():
        module = types.ModuleType(shell)
        module.__path__ = [path]
        sys.modules[shell] = module
    try:
        errors = importlib.import_module("ccxt.base.errors")
        for label, kind in vars(errors).items():
            if isinstance(kind, type):
                setattr(sys.modules["ccxt"], label, kind)
        base = importlib.import_module("ccxt.base.exchange")
        sys.modules["ccxt"].Exchange = base.Exchange  # type: ignore[attr-defined]
        return getattr(importlib.import_module(name), venue)
    finally:
        for shell in shells:
            sys.modules.pop(shell, None)


class CcxtVenue:
    """One signed connection to one venue for one account."""

    def __init__(
        self, venue: str, credentials: Credentials, *, base_url: str, dialect: Dialect,
        transport: Transport, clock: Clock, on_limits: OnLimits | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`guard`: shared with every other user of the address and of the key."""
        self._guard = guard or Guard(Address(base_url, clock), Paces())
        self._ccxt = ccxt_class(venue)(
            {
                "apiKey": credentials.api_key, "secret": credentials.api_secret,
                "urls": {"api": {"public": base_url, "private": base_url}},
                "enableRateLimit": False,
                "options": {"recvWindow": RECV_WINDOW_MS},
            }
        )
        self._ccxt.nonce = self.stamp_ms
        self._exact: Mapping[str, type[Exception]] = self._ccxt.exceptions["exact"]
        self._dialect = dialect
        self._transport = transport
        self._clock = clock
        self._on_limits = on_limits
        self._resync = asyncio.Lock()
        self._resyncing: asyncio.Task[Any] | None = None
        self._synced_at_ms = -1e18
        self.offset_ms = 0
        """Venue clock minus ours."""

    def stamp_ms(self) -> int:
        """The venue's time as far as we know, minus a safety."""
        return self._clock.now_ms() + self.offset_ms - STAMP_SAFETY_MS

    def hmac_hex(self, payload: str) -> str:
        """HMAC-SHA256 of `payload` with the secret, or the RSA signature where the key is one."""
        ccxt = self._ccxt
        if "PRIVATE KEY" in ccxt.secret:
            return str(ccxt.rsa(payload, ccxt.secret, "sha256"))
        return str(ccxt.hmac(payload.encode(), ccxt.secret.encode(), hashlib.sha256))

    def login(self) -> list[Any]:
        """What a socket's login takes: key, expiry in ms of the venue's clock, signature."""
        expires_ms = self.stamp_ms() + LOGIN_LIFE_MS
        signature = self.hmac_hex(f"GET/realtime{expires_ms}")
        return [str(self._ccxt.apiKey), expires_ms, signature]

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, signed: bool = True
    ) -> Answer:
        """A read; a timestamp that was refused is stamped anew once, after measuring the clock."""
        try:
            return await self.call("GET", path, params, signed=signed)
        except VenueBusy as error:
            if error.code not in _STAMP_CODES:
                raise
            return await self.call("GET", path, params, signed=signed)

    async def call(
        self, method: str, path: str, params: Mapping[str, Any] | None = None, *,
        signed: bool = True,
    ) -> Answer:
        """One request, sent once. Raises VenueError: OutcomeUnknown means it may have happened."""
        await self._admit(method, path)
        signed_request = self._sign(method, path, dict(params or {}), signed=signed)
        ts_requested_ms = self._clock.now_ms()
        body = signed_request["body"]
        try:
            answer = await self._transport.request(
                method, signed_request["url"], headers=signed_request["headers"] or {},
                body=body.encode() if body else None, timeout_s=REQUEST_TIMEOUT_S,
            )
        except TransportFailed as error:
            raise OutcomeUnknown(str(error), code=error.kind) from error
        ts_seen_ms = self._clock.now_ms()
        self.note_limits(path, answer.headers)
        try:
            row = await self._read(answer)
            event_ms = self._dialect.event_ms(row)
            result = self._dialect.result(row)
        except BadMessage as error:
            raise OutcomeUnknown(f"unreadable answer: {error}", code="unreadable") from error
        if event_ms is None:
            event_ms = (ts_requested_ms + ts_seen_ms) // 2 + self.offset_ms
        return Answer(result, ts_requested_ms, event_ms, ts_seen_ms)

    async def _admit(self, method: str, path: str) -> None:
        """Wait for room in the key's and the address's windows. VenueBusy = not sent."""
        guard, is_urgent = self._guard, method != "GET"
        endpoint = path.removeprefix("/v5/")
        takes: tuple[Callable[[], float], ...] = (
            guard.address.stand_off_ms,
            lambda: guard.paces.take(method, endpoint, self._clock.monotonic_ms()),
            lambda: guard.address.take(is_urgent=is_urgent),
        )
        waited_ms = 0.0
        for take in takes:
            while wait_ms := take():
                if left_ms := guard.address.stand_off_ms():
                    raise self._busy(STAND_OFF_TEXT, "http-403", int(left_ms))
                waited_ms += wait_ms
                if is_urgent or waited_ms > WAIT_MAX_MS:
                    raise self._busy(f"no room for {endpoint}", "paced", int(wait_ms) + 1)
                await asyncio.sleep(wait_ms / 1000)

    def admit_to_socket(self, path: str) -> None:
        """Count a request over a trade socket. VenueBusy = there is no room, and it must not leave.

        Its endpoint's window is the one of REST; the address has another for its trade sockets.
        """
        guard, endpoint = self._guard, path.removeprefix("/v5/")
        wait_ms = (
            guard.paces.take("POST", endpoint, self._clock.monotonic_ms())
            or guard.address.take_socket()
        )
        if wait_ms:
            raise self._busy(f"no room for {endpoint}", "paced", int(wait_ms) + 1)

    def _sign(
        self, method: str, path: str, params: dict[str, Any], *, signed: bool
    ) -> dict[str, Any]:
        if signed and not (self._ccxt.apiKey and self._ccxt.secret):
            raise VenueForbidden("this request needs an API key and its secret", code="no-key")
        api = ["private" if signed else "public"]
        request: dict[str, Any] = self._ccxt.sign(path.lstrip("/"), api, method, params)
        return request

    def note_limits(self, path: str, headers: Mapping[str, str]) -> None:
        """Tell what an answer says about the limits of `path`; header names in lower case."""
        limits = self._dialect.limits(headers)
        if limits is None:
            return
        limit, remaining, reset_ms = limits
        endpoint, reset_ms = path.removeprefix("/v5/"), reset_ms - self.offset_ms
        self._guard.paces.correct(
            endpoint, (limit, remaining, reset_ms - self._clock.now_ms()),
            self._clock.monotonic_ms(),
        )
        if self._on_limits is not None:
            self._on_limits(endpoint, limit, remaining, reset_ms)

    async def _read(self, answer: HttpAnswer) -> Row:
        status = answer.status
        if status == 403:
            raise self._forbidden_or_banned(answer)
        if status == 429:
            raise self._busy("the venue protects itself", "http-429", BUSY_DELAY_MS)
        if status >= 500:
            raise OutcomeUnknown("server error", code=f"http-{status}")
        if status == 401:
            raise VenueForbidden("wrong key or authentication headers missing", code="http-401")
        try:
            row = Row(decode_json(answer.body))
        except BadMessage:
            if status == 404:
                raise VenueForbidden("no such path at this address", code="http-404") from None
            if 400 <= status < 500:
                raise VenueRefused(_excerpt(answer.body), code=f"http-{status}") from None
            raise
        await self.check(row, answer.headers)
        if status != 200:
            raise OutcomeUnknown("a success with an error status", code=f"http-{status}")
        return row

    async def check(self, body: Row, headers: Mapping[str, str]) -> None:
        """Raise the VenueError that a body tells; return when it tells success.

        A refused timestamp measures the clock first.
        """
        refusal = self._dialect.refusal(body, self._exact)
        if refusal is None:
            return
        if refusal.code in _STAMP_CODES:
            await self.resync()
        if isinstance(refusal, VenueBusy):
            refusal = self._with_retry(refusal, headers)
        raise refusal

    def _forbidden_or_banned(self, answer: HttpAnswer) -> VenueError:
        text = _excerpt(answer.body)
        if "country" in text or "region" in text:
            return VenueForbidden(f"refused for this location: {text}", code="http-403")
        self._guard.address.ban()
        return self._busy(f"too many requests from this IP: {text}", "http-403", STAND_OFF_MS)

    def _busy(self, text: str, code: str, delay_ms: int) -> VenueBusy:
        retry_at_ms = self._clock.now_ms() + self.offset_ms + delay_ms
        return VenueBusy(text, code=code, retry_at_ms=retry_at_ms)

    def _with_retry(self, refusal: VenueBusy, headers: Mapping[str, str]) -> VenueBusy:
        """When to come back: at the header's reset, at once after a resync, else in a second."""
        venue_ms = self._clock.now_ms() + self.offset_ms
        if refusal.code in _STAMP_CODES:
            retry_at_ms = venue_ms
        else:
            limits = self._dialect.limits(headers)
            reset_ms = limits[2] if limits else 0
            # A reset in the past, or far away, is no schedule.
            near = venue_ms < reset_ms <= venue_ms + RESET_MAX_MS
            retry_at_ms = reset_ms if near else venue_ms + BUSY_DELAY_MS
        return VenueBusy(refusal.text, code=refusal.code, retry_at_ms=retry_at_ms)

    # ------------------------------------------------------------ clock

    async def sync_clock(self, samples: int = CLOCK_SAMPLES) -> int:
        """Measure venue minus ours: the median of a few midpoints. Raises VenueError."""
        offsets = []
        for _ in range(samples):
            before_ms = self._clock.now_ms()
            try:
                venue_ms = await self._dialect.venue_ms(self)
            except BadMessage as error:
                raise OutcomeUnknown(f"unreadable answer: {error}", code="unreadable") from error
            after_ms = self._clock.now_ms()
            offset_ms = venue_ms - (before_ms + after_ms) // 2
            if abs(offset_ms) > OFFSET_ABSURD_MS:
                raise VenueError(f"its clock is {offset_ms} ms from ours: not believed", code="clock")
            offsets.append(offset_ms)
        self.offset_ms = sorted(offsets)[len(offsets) // 2]
        self._synced_at_ms = self._clock.monotonic_ms()
        return self.offset_ms

    async def resync(self) -> None:
        """Measure the clock anew after a refused timestamp; many refusals measure once."""
        if self._resyncing is asyncio.current_task():
            return  # the request for the time itself was refused for its timestamp
        asked_ms = self._clock.monotonic_ms()
        async with self._resync:
            if self._synced_at_ms >= asked_ms:
                return
            self._resyncing = asyncio.current_task()
            try:
                await self.sync_clock(samples=3)
            except VenueError:
                return  # the refusal that brought us here is what the caller must hear
            finally:
                self._resyncing = None

    async def close(self) -> None:
        """ccxt holds no connection of its own; the transport belongs to whoever made it."""


_STAMP_CODES = frozenset({"10002", "-1"})
_EXCERPT_MAX = 200


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT_MAX].decode("utf-8", "replace")


