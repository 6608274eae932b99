"""A WebSocket session without a socket: frames and the time go in, frames and timers come out.

Authentication, subscriptions, pings and order entry. What is sent leaves through a `Wire`; what
must wait (acknowledgements, late pushes) goes to the gateway's `later`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from hedgelock.simulator.auth import is_time
from hedgelock.simulator.entry import PATHS, EntrySession
from hedgelock.simulator.fault_kinds import Match
from hedgelock.simulator.faults import Seen, Verdict, like
from hedgelock.simulator.hub import ENCODE
from hedgelock.simulator.limits import Limit
from hedgelock.simulator.record import Served
from hedgelock.simulator.state import Account, Refused, Row
from hedgelock.simulator.streams import PRIVATE_TOPICS
from hedgelock.simulator.tampering import spoilt, with_failures, without_items

if TYPE_CHECKING:
    from hedgelock.simulator.gateway import Gateway

ACK_DELAY_S = 0.005  # clients register their callbacks only after sending (fact sheet §10.5)
DATA_DELAY_S = 0.010
STAMP = "X-BAPI-TIMESTAMP"
SPOT_ARGS_MAX = 10  # topics in one request (§3)
ARGS_CHARS_MAX = 21_000  # of all topics of a connection (§3)
ENTRIES = Limit(3_000)
"""Messages per address and second on the trade socket (§1.6)."""
DIVIDED = frozenset({"order", "execution", "position"})
"""Topics that exist by category, too; a request names them in one way or the other (§6)."""
MIXED = DIVIDED | {f"{t}.{c}" for t in DIVIDED for c in ("linear", "inverse", "spot")}


class Wire(Protocol):
    """The other end's side of a session."""

    def put(self, frame: bytes) -> None:
        """Send a frame, in order."""

    def cut(self) -> None:
        """End the connection without a close frame."""

    def bye(self) -> None:
        """Close in order."""


class Session:
    """One session of kind public, private or trade."""

    def __init__(self, gateway: Gateway, path: str, wire: Wire, *, address: str) -> None:
        self._gateway = gateway
        self._wire = wire
        self.path = path
        self.address = address
        self._kind = path.split("/")[2]
        self.category = path.rpartition("/")[2] if self._kind == "public" else ""
        self.account: Account | None = None
        self.topics: set[str] = set()
        self.heard_ms = 0
        self._entry = EntrySession(gateway.venue)
        self._id = f"sim{gateway.next_connection():08x}"
        self._open = True
        self._acks: deque[Callable[[], None]] = deque()

    # ------------------------------------------------------------ out

    def data(self, frame: bytes, topic: str) -> None:
        """Send a push of `topic`."""
        if self._gateway.faults.quiet or not self._swallowed(topic):
            self._wire.put(frame)

    def _swallowed(self, topic: str) -> bool:
        account = self.account.name if self.account else ""
        gateway = self._gateway
        return gateway.faults.silent(self.path, account, topic, script_s=gateway.script_s())

    def _answer(self, frame: bytes) -> None:
        if self._open and (self._gateway.faults.quiet or not self._swallowed("")):
            self._wire.put(frame)

    def _reply(self, body: Row) -> None:
        frame = ENCODE(body)
        self._soon(lambda: self._answer(frame))

    def _soon(self, action: Callable[[], None]) -> None:
        """Act after the delay of an acknowledgement; actions keep their order."""
        self._acks.append(action)
        self._gateway.later(ACK_DELAY_S, self._next_ack)

    def _next_ack(self) -> None:
        self._acks.popleft()()

    def matches(self, match: Match) -> bool:
        """Whether a fault of sockets means this one."""
        account = self.account.name if self.account else ""
        return like(match.path, self.path) and match.account in {"", account}

    def cut(self) -> None:
        """End the connection without a close frame."""
        self.end()
        self._wire.cut()

    def bye(self) -> None:
        """Close in order."""
        self.end()
        self._wire.bye()

    def end(self) -> None:
        """The connection is over; nothing more is sent."""
        self._open = False
        self._gateway.hub.leave(self)

    # ------------------------------------------------------------ in

    def receive(self, text: str | bytes, now_ms: int) -> None:
        """Take a frame; one that comes after the end is lost."""
        if not self._open:
            return
        self.heard_ms = now_ms
        gateway = self._gateway
        if not gateway.faults.quiet:
            account = self.account.name if self.account else ""
            if gateway.faults.deaf(self.path, account, script_s=gateway.script_s()):
                return
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            self._reply({"success": False, "ret_msg": "Invalid request", "conn_id": self._id})
            return
        op, request_id = message["op"], message.get("req_id", message.get("reqId"))
        if isinstance(request_id, int):  # echoed as text
            request_id = message["req_id"] = str(request_id)
        if op == "ping":
            self._pong(request_id, gateway.told_ms(now_ms))
        elif op == "auth":
            self._authenticate(message, now_ms)
        elif self._kind == "trade":
            self._trade(message, now_ms)
        elif op in {"subscribe", "unsubscribe"}:
            self._subscribe(op, message)
        else:
            self._ack(op, request_id, error=f"error:unknown op {op}")

    def _pong(self, request_id: Any, told_ms: int) -> None:
        now = str(told_ms)
        if self._kind == "public":
            body: Row = {"success": True, "ret_msg": "pong", "conn_id": self._id, "op": "ping"}
            body["req_id"] = request_id or ""
        elif self._kind == "private":
            body = {"req_id": request_id or "", "op": "pong", "args": [now], "conn_id": self._id}
        else:
            body = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [now], "connId": self._id}
        self._reply(body)

    def _authenticate(self, message: Row, now_ms: int) -> None:
        arguments = message.get("args")
        error: Refused | None = None
        try:
            if not isinstance(arguments, list) or len(arguments) != 3:
                raise Refused(10001, "Params error")
            if self._kind == "trade" and self.account is not None:
                raise Refused(20001, "Repeat auth")
            key, expires, given = (str(a) for a in arguments)
            self.account = self._gateway.stream_account(
                key, expires=expires, given=given, address=self.address, now_ms=now_ms
            )
        except Refused as refusal:
            error = refusal
        if self._kind == "trade":
            code, text = (error.code, error.message) if error else (0, "OK")
            body: Row = {"retCode": code, "retMsg": text, "op": "auth", "connId": self._id}
            if "reqId" in message:
                body["reqId"] = message["reqId"]
            self._reply(body)
        else:
            self._ack("auth", message.get("req_id"), error=error.message if error else "")

    def _ack(self, op: str, request_id: Any, *, error: str = "") -> None:
        body: Row = {"success": not error, "ret_msg": error, "conn_id": self._id, "op": op}
        if request_id is not None:
            body["req_id"] = request_id
        elif op != "auth":
            body["req_id"] = ""
        self._reply(body)

    def _subscribe(self, op: str, message: Row) -> None:
        topics, request_id = message.get("args"), message.get("req_id")
        if not isinstance(topics, list) or not all(isinstance(t, str) for t in topics):
            self._ack(op, request_id, error="error:args invalid")
            return
        error = self._refusal(topics) if op == "subscribe" else ""
        self._ack(op, request_id, error=error)
        if error:
            return
        hub, listening = self._gateway.hub, op == "subscribe"
        change = hub.subscribe if listening else hub.unsubscribe

        def apply() -> None:
            if self._open:
                for topic in topics:
                    change(self, topic)

        self._gateway.later(DATA_DELAY_S, apply)

    def _refusal(self, topics: list[str]) -> str:
        if self.category == "spot" and len(topics) > SPOT_ARGS_MAX:
            return f"error:args size > {SPOT_ARGS_MAX}"
        if sum(map(len, [*self.topics, *topics])) > ARGS_CHARS_MAX:
            return f"error:args length > {ARGS_CHARS_MAX}"
        if self._kind == "private" and len({t in DIVIDED for t in topics if t in MIXED}) > 1:
            return f"Invalid topic: {','.join(topics)}"
        for topic in topics:
            if topic in self.topics:
                return f"error:already subscribed,topic:{topic}"
            if self._kind == "private":
                if self.account is None:
                    return "Request not authorized"
                if topic not in PRIVATE_TOPICS:
                    return f"Invalid topic: {topic}"
            elif not self._gateway.venue.streams.known(self.category, topic):
                return f"error:handler not found,topic:{topic}"
        return ""

    # ------------------------------------------------------------ order entry

    def _trade(self, message: Row, now_ms: int) -> None:
        """Enter an order: execute at once, acknowledge, then let the pushes go."""
        gateway, seen = self._gateway, self._seen(message)
        if gateway.is_flooded(self.address, ENTRIES, now_ms):
            body = self._refused(message, 10403, "Exceeds IP rate limit.")
            self._note(seen, body, now_ms)
            self._acknowledge(body)
            return
        if gateway.faults.quiet:
            closed = self._closed(seen, now_ms)
            if closed is None:
                body = self._entry.enter(self.account, message, now_ms=now_ms)
            else:
                body = self._refused(message, *closed)
            self._note(seen, body, now_ms)
            self._acknowledge(body)
            return
        verdict = gateway.verdict(seen, now_ms)
        if verdict.cut:
            self.cut()
        elif verdict.hold_ms:
            held_ms = now_ms + verdict.hold_ms
            gateway.later(
                verdict.hold_ms / 1000, lambda: self._entered(message, seen, verdict, held_ms)
            )
        else:
            self._entered(message, seen, verdict, now_ms)

    def _closed(self, seen: Seen, now_ms: int) -> tuple[int, str] | None:
        """With what the key is refused this operation, if it is."""
        account = self.account
        if account is None:
            return None  # order entry says so itself
        refusal = self._gateway.key_refusal(account, self.address, now_ms)
        return refusal or self._gateway.denial(account, "POST", seen.path, seen.params)

    def _seen(self, message: Row) -> Seen:
        arguments = message.get("args")
        first = arguments[0] if isinstance(arguments, list) and arguments else {}
        params = first if isinstance(first, dict) else {}
        op = message["op"]
        return Seen(
            "POST", PATHS.get(op, f"/v5/{op}"), "socket",
            self.account.name if self.account else "", str(params.get("symbol", "")),
            self.address, params,
        )  # fmt: skip

    def _entered(self, message: Row, seen: Seen, verdict: Verdict, now_ms: int) -> None:
        """Enter an order that something may happen to."""
        if not self._open:
            return
        code, words = verdict.code, verdict.message
        if verdict.status:
            code = {403: 10403, 429: 10429}.get(verdict.status, 10016)
        code, words = self._closed(seen, now_ms) or (code, words)
        if code:
            body = self._refused(message, code, words)
            self._note(seen, body, now_ms)
        else:
            given = _unskewed(_without(message, verdict), self._gateway.ahead_ms())
            if verdict.items and given.get("args") == [{**seen.params, "request": []}]:
                body = self._refused(message, 0, "OK")  # nothing is left to serve
            else:
                body = self._entry.enter(self.account, given, now_ms=now_ms)
            self._note(seen, body, now_ms)
            _tamper(body, message, verdict)
        if not verdict.lost:
            self._acknowledge(body, verdict.delay_ms / 1000)
            return
        self._gateway.release(self._gateway.collect())
        if not verdict.delay_ms:
            self.cut()

    def _note(self, seen: Seen, body: Row, now_ms: int) -> None:
        code = body["retCode"]
        served = Served(now_ms, "socket", seen.address, seen.account, "POST", seen.path, code)
        self._gateway.record.note(served, seen.params)

    def _refused(self, message: Row, code: int, words: str) -> Row:
        """The answer of an exchange that has not served an order message."""
        header = self._gateway.refusal_headers(code)
        body: Row = {"retCode": code, "retMsg": words, "op": message["op"], "data": {}}
        body |= {"retExtInfo": {}, "header": header}
        if "reqId" in message:
            body["reqId"] = message["reqId"]
        return body

    def _acknowledge(self, body: Row, delay_s: float = 0.0) -> None:
        gateway = self._gateway
        batch = gateway.collect()
        body["connId"] = self._id
        frame = ENCODE(body)
        if delay_s:  # a slow answer does not hold the pushes
            gateway.release(batch)
            gateway.later(ACK_DELAY_S + delay_s, lambda: self._answer(frame))
            return

        def acknowledge() -> None:
            self._answer(frame)
            gateway.release(batch)

        self._soon(acknowledge)


def _without(message: Row, verdict: Verdict) -> Row:
    """The message without the orders of a batch that are to fail."""
    arguments = message.get("args")
    if not verdict.items or not isinstance(arguments, list) or len(arguments) != 1:
        return message
    if not isinstance(arguments[0], dict):
        return message
    return {**message, "args": [without_items(arguments[0], verdict.items)]}


def _unskewed(message: Row, ahead_ms: int) -> Row:
    """The message as an exchange sees it whose clock runs ahead: stamped so much earlier."""
    header = message.get("header")
    if not ahead_ms or not isinstance(header, dict):
        return message
    stamp = str(header.get(STAMP, ""))
    if not is_time(stamp):
        return message
    return {**message, "header": {**header, STAMP: str(max(0, int(stamp) - ahead_ms))}}


def _tamper(body: Row, message: Row, verdict: Verdict) -> None:
    if verdict.items and not body["retCode"]:  # so its argument is one object
        body["data"], body["retExtInfo"] = with_failures(
            message["args"][0], body["data"], body["retExtInfo"], verdict.items
        )
    if verdict.after_code:
        body |= {"retCode": verdict.after_code, "retMsg": verdict.message, "data": {}}
    if verdict.edits:
        body["data"] = spoilt(body["data"], verdict.edits)
