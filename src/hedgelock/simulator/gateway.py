"""The exchange's edge without sockets: HTTP requests in, replies out, pushes to sessions.

Sockets (`server.py`) and the in-process transport (`inprocess.py`) carry the same `Gateway`, so
both see the same signatures, limits, envelopes, order of messages, and the same faults. The only
thing it asks of its carrier is `later`: call an action after so many seconds (`loop.call_later`).
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hedgelock.simulator import auth, control
from hedgelock.simulator.exposition import CONTENT_TYPE, exposition
from hedgelock.simulator.fault_kinds import IP_BAN_MS
from hedgelock.simulator.faults import Faults, Pushed, Seen, Verdict
from hedgelock.simulator.hub import ENCODE, Hub
from hedgelock.simulator.limits import IP_REQUESTS, IP_WINDOW_MS, Allowance, Limit, RateLimits
from hedgelock.simulator.record import Record, Served
from hedgelock.simulator.request import Batch, Reply, Request, request_params, route
from hedgelock.simulator.session import Session, Wire
from hedgelock.simulator.state import Account, Event, Refused, Row
from hedgelock.simulator.tampering import skewed, spoilt, tampered, without_items
from hedgelock.simulator.venue import Response, Venue, is_public

TICKS_KEPT = 20_000
SOCKETS_OPENED = Limit(500, 300_000)
"""New WebSocket connections of one address (fact sheet §1.6)."""
IDLE_MS, IDLE_SCAN_MS = 600_000, 30_000
"""A socket that says nothing for ten minutes is dropped (§1.1)."""
RESET_MS = 1_000
"""How far ahead the reset header of an injected 10006 lies: clients sleep until it."""

Later = Callable[[float, Callable[[], None]], Any]


class Gateway:
    """The exchange, who listens to it, and what is on its way between them."""

    def __init__(
        self, venue: Venue, *, later: Later, faults: Faults | None = None, limits_factor: int = 1,
        local_only: bool = True,
    ) -> None:  # fmt: skip
        self.venue = venue
        self.later = later
        self.faults = faults or Faults()
        self.hub = Hub(venue.streams, venue.exchange)
        self.local_only = local_only
        self.ticks: deque[Row] = deque(maxlen=TICKS_KEPT)
        self.record = Record()
        self._limits = RateLimits(factor=limits_factor)
        self._banned_ms: dict[str, int] = {}
        self._batches: deque[Batch] = deque()
        self._swapped: dict[str, list[Event]] = {}
        self._connections = itertools.count(1)
        self._scan_ms = 0

    # ------------------------------------------------------------ time

    def script_s(self) -> float:
        """Second of the script."""
        x = self.venue.exchange
        return x.market.script_ms(x.now_ms) / 1000

    def ahead_ms(self) -> int:
        """How far the exchange's clock runs ahead of the true time."""
        return 0 if self.faults.quiet else self.faults.skew_ms(self.script_s())

    def told_ms(self, now_ms: int) -> int:
        """The time that the exchange tells."""
        return now_ms + self.ahead_ms()

    def next_ms(self) -> int:
        """When `beat` has something to do."""
        return self.venue.next_event_ms()

    def beat(self, now_ms: int) -> None:
        """Let the exchange's time pass."""
        self.venue.advance(now_ms)
        self.release(self.collect())
        for account in list(self._swapped):  # nothing came that they could wait for
            for event in self._swapped.pop(account):
                self._deliver(event, self.ahead_ms())
        if not self.faults.quiet:
            self._break_sockets(now_ms)
        if now_ms >= self._scan_ms:
            self._scan_ms = now_ms + IDLE_SCAN_MS
            self._drop_keyless(now_ms)
            for session in self.hub.sessions:
                if now_ms - session.heard_ms >= IDLE_MS:
                    session.bye()

    def _break_sockets(self, now_ms: int) -> None:
        for match in self.faults.cuts(self.script_s()):
            for session in self.hub.sessions:
                if session.matches(match):
                    session.cut()
        self._drop_keyless(now_ms)

    def _drop_keyless(self, now_ms: int) -> None:
        """Drop the sockets whose key is no longer good."""
        for session in self.hub.sessions:
            if session.account and self.key_refusal(session.account, session.address, now_ms):
                session.cut()

    # ------------------------------------------------------------ sockets

    def opens(self, path: str, address: str, now_ms: int) -> int:
        """HTTP status with which a new socket is turned away; 0 = welcome."""
        self.record.sockets.append((now_ms, path))
        if self._limits.admit(address, "sockets", SOCKETS_OPENED, now_ms).refused:
            return 403
        if self.faults.quiet:
            return 0
        return 503 if self.faults.refuses_socket(path, script_s=self.script_s()) else 0

    def is_flooded(self, address: str, limit: Limit, now_ms: int) -> bool:
        """Whether a message on the trade socket is one too many for its address."""
        return self._limits.admit(address, "entry", limit, now_ms).refused

    def session(self, path: str, wire: Wire, *, address: str, now_ms: int) -> Session:
        """A new session on an open socket."""
        session = Session(self, path, wire, address=address)
        session.heard_ms = now_ms
        self.hub.join(session)
        return session

    def next_connection(self) -> int:
        """Number of the next connection."""
        return next(self._connections)

    def stream_account(
        self, key: str, *, expires: str, given: str, address: str, now_ms: int
    ) -> Account:
        """The account that authenticates a socket; else `Refused`."""
        account = auth.check_stream(
            self.venue.exchange.by_key, key=key, expires=expires, given=given,
            now_ms=self.told_ms(now_ms),
        )  # fmt: skip
        self._check_key(account, address, now_ms)
        return account

    def _check_key(self, account: Account, address: str, now_ms: int) -> None:
        refusal = self.key_refusal(account, address, now_ms)
        if refusal is not None:
            raise Refused(*refusal)

    def key_refusal(self, account: Account, address: str, now_ms: int) -> tuple[int, str] | None:
        """With what the key of an account is turned away now, if at all."""
        refusal = auth.key_refusal(account.terms, address=address, now_ms=now_ms)
        if refusal is None and not self.faults.quiet:
            refusal = self.faults.key_refusal(account.name, script_s=self.script_s())
        return refusal

    def denial(
        self, account: Account, method: str, path: str, params: Mapping[str, Any]
    ) -> tuple[int, str] | None:
        """With what a route is closed to a key, if it is."""
        lost: frozenset[str] = frozenset()
        if not self.faults.quiet:
            lost = self.faults.lost_permissions(account.name, script_s=self.script_s())
        return None if auth.may(account.terms, method, path, params, lost=lost) else auth.DENIED

    # ------------------------------------------------------------ pushes

    def collect(self) -> Batch:
        """Send the public events now; return the private ones, held in their order."""
        batch = Batch([])
        for event in self.venue.drain():
            if event.account:
                batch.events.append(event)
            else:
                self._note_tick(event)
                self._send(event)
        self._batches.append(batch)
        return batch

    def release(self, batch: Batch) -> None:
        """Let a batch go, and those that waited behind it."""
        batch.ready = True
        while self._batches and self._batches[0].ready:
            for event in self._batches.popleft().events:
                self._send(event)

    def _send(self, event: Event) -> None:
        if self.faults.quiet:
            self._deliver(event, 0)
            return
        fate = self.faults.push(_pushed(event), script_s=self.script_s())
        if fate.edits:
            event = replace(event, data=spoilt(event.data, fate.edits))
        if fate.swapped:
            self._swapped.setdefault(event.account, []).append(event)
            return
        ahead_ms = self.ahead_ms()
        for delay_ms in fate.delays_ms:
            if delay_ms:
                self.later(delay_ms / 1000, lambda: self._deliver(event, ahead_ms))
            else:
                self._deliver(event, ahead_ms)
        for late in self._swapped.pop(event.account, ()):
            self._deliver(late, ahead_ms)

    def _deliver(self, event: Event, ahead_ms: int) -> None:
        if event.account:
            self.hub.push(event, ahead_ms)
        else:
            self.hub.publish(event, ahead_ms)

    def _note_tick(self, event: Event) -> None:
        """Remember when a tick's first frame left, so that a bench can match orders to it."""
        if event.topic.startswith("tickers.") and (
            not self.ticks or self.ticks[-1]["id"] != event.sequence
        ):
            sent_ns = time.perf_counter_ns()
            self.ticks.append({"id": event.sequence, "ts": event.ts_ms, "ns": sent_ns})

    # ------------------------------------------------------------ HTTP

    def arrive(self, request: Request, now_ms: int) -> Verdict | None:
        """What will happen to a request; None = nothing unusual. Ask once per request."""
        if self.faults.quiet or "/v5/" not in request.target:
            return None
        path, query = route(request.target)
        try:
            params = request_params(request, query)
        except Refused:
            params = {}
        account = self.venue.exchange.by_key.get(request.headers.get("X-BAPI-API-KEY", ""))
        return self.verdict(
            Seen(
                request.method, path, "rest", account.name if account else "",
                str(params.get("symbol", "")), request.address, params,
            ),
            now_ms,
        )  # fmt: skip

    def verdict(self, seen: Seen, now_ms: int) -> Verdict:
        """What happens to a request that looks like this."""
        return self.faults.request(seen, script_s=self.script_s(), now_ms=now_ms)

    def http(
        self, request: Request, now_ms: int, *, received_ns: int = 0, verdict: Verdict | None = None
    ) -> Reply:
        """Serve a request."""
        path, _, query = request.target.partition("?")
        if path == "/metrics":
            return Reply(200, exposition(self.venue).encode(), CONTENT_TYPE)
        if path == "/healthz" or path.startswith("/sim/"):
            return control.answer(self, request, now_ms)
        if "/v5/" not in path:
            return self._refuse(Refused(10017, "Route not found."), now_ms)
        path, query = route(request.target)
        if verdict is not None and verdict.cut:
            return Reply(0, b"", lost=True)
        turned_away = self._turned_away(request.address, verdict, now_ms)
        if turned_away is not None:
            self._note(request, path, -1, now_ms)
            return turned_away
        try:
            if verdict is not None and verdict.code:
                raise Refused(verdict.code, verdict.message)
            reply = self._serve(
                request, path, query, now_ms=now_ms, received_ns=received_ns, verdict=verdict
            )
        except Refused as refusal:
            self._note(request, path, refusal.code, now_ms)
            return self._refuse(refusal, now_ms)
        answer = self._envelope(reply)
        answer.batch = self.collect()
        if verdict is not None:
            answer.delay_s, answer.lost = verdict.delay_ms / 1000, verdict.lost
        return answer

    def _turned_away(self, address: str, verdict: Verdict | None, now_ms: int) -> Reply | None:
        """The answer of what stands before the exchange: bans, and servers out of order."""
        if self._is_banned(address, now_ms):
            return Reply(403, b"access too frequent", "text/plain")
        if verdict is not None and verdict.status:
            return Reply(verdict.status, verdict.message.encode(), "text/plain")
        return None

    def _note(
        self, request: Request, path: str, code: int, now_ms: int, params: Row | None = None
    ) -> None:
        account = self.venue.exchange.by_key.get(request.headers.get("X-BAPI-API-KEY", ""))
        name = account.name if account else ""
        served = Served(now_ms, "rest", request.address, name, request.method, path, code)
        self.record.note(served, params)

    def _is_banned(self, address: str, now_ms: int) -> bool:
        """Count the request; an address above the limit is shut out for ten minutes."""
        if now_ms < self._banned_ms.get(address, 0):
            return True
        if self._limits.admit(address, "ip", Limit(IP_REQUESTS, IP_WINDOW_MS), now_ms).refused:
            self._banned_ms[address] = now_ms + IP_BAN_MS
            return True
        return False

    def _serve(
        self, request: Request, path: str, query: str, *, now_ms: int, received_ns: int,
        verdict: Verdict | None,
    ) -> Response:  # fmt: skip
        account = None
        signed = not is_public(path) and "X-BAPI-API-KEY" in request.headers
        signer = self._signer(request, query, now_ms) if signed else None
        params = request_params(request, query)
        if signer is not None:
            account = signer.name
            denial = self.denial(signer, request.method, path, params)
            if denial is not None:
                raise Refused(*denial)
        given = params
        if verdict is not None and verdict.items:
            given = without_items(params, verdict.items)
        if given.get("request") == [] and given is not params:  # nothing is left to serve
            reply = Response(0, "OK", {}, now_ms, Allowance(10, 9, now_ms))
        else:
            reply = self.venue.request(
                request.method, path, given, account=account, now_ms=now_ms, received_ns=received_ns
            )
        self._note(request, path, reply.code, now_ms, params)
        ahead_ms = self.ahead_ms()
        if ahead_ms:
            reply = skewed(reply, path, ahead_ms)
        return reply if verdict is None else tampered(reply, params, verdict)

    def _signer(self, request: Request, query: str, now_ms: int) -> Account:
        headers = request.headers
        given = auth.Credentials(
            headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-TIMESTAMP", ""),
            headers.get("X-BAPI-SIGN", ""), headers.get("X-BAPI-RECV-WINDOW", ""),
        )  # fmt: skip
        raw = request.body.decode("utf-8", "replace") if request.method == "POST" else query
        by_key = self.venue.exchange.by_key
        account = auth.check_request(by_key, given, raw=raw, now_ms=self.told_ms(now_ms))
        self._check_key(account, request.address, now_ms)
        return account

    def refusal_headers(self, code: int) -> dict[str, str]:
        """Headers of an order message that was not served."""
        told_ms = self.told_ms(self.venue.exchange.now_ms)
        return limit_headers(_refused_allowance(code, told_ms), told_ms)

    def _refuse(self, refusal: Refused, now_ms: int) -> Reply:
        told_ms = self.told_ms(now_ms)
        allowance = _refused_allowance(refusal.code, told_ms)
        return self._envelope(
            Response(refusal.code, refusal.message, {}, told_ms, allowance, refusal.ext)
        )

    def _envelope(self, reply: Response) -> Reply:
        body = ENCODE(reply.body())
        return Reply(200, body, headers=limit_headers(reply.allowance, reply.time_ms))


def _refused_allowance(code: int, told_ms: int) -> Allowance:
    limited = code == 10006
    return Allowance(600, 0 if limited else 599, told_ms + RESET_MS * limited)


def limit_headers(allowance: Allowance, now_ms: int) -> dict[str, str]:
    """The rate-limit headers of an answer."""
    return {
        "X-Bapi-Limit": str(allowance.limit), "X-Bapi-Limit-Status": str(allowance.left),
        "X-Bapi-Limit-Reset-Timestamp": str(allowance.reset_ms), "Timenow": str(now_ms),
    }  # fmt: skip


def _pushed(event: Event) -> Pushed:
    rows = event.data if isinstance(event.data, list) else [event.data]
    symbols = frozenset(str(r.get("symbol", r.get("s", ""))) for r in rows if isinstance(r, dict))
    filled = event.topic == "order" and any(r.get("orderStatus") == "Filled" for r in rows)
    return Pushed(event.topic, event.account, symbols, filled)
