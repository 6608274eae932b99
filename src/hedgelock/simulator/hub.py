"""Who listens to what: fan-out of public and private events to sessions, each encoded once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from hedgelock.simulator import dcp
from hedgelock.simulator.state import Event, Exchange
from hedgelock.simulator.streams import Streams, private_frame, public_frame

if TYPE_CHECKING:
    from hedgelock.simulator.session import Session

ENCODE = msgspec.json.Encoder().encode


class Hub:
    """Sessions and their subscriptions. Sessions are kept in the order in which they came."""

    def __init__(self, streams: Streams, x: Exchange) -> None:
        self._streams = streams
        self._x = x
        self._public: dict[tuple[str, str], dict[Session, None]] = {}
        self._private: dict[str, dict[Session, None]] = {}
        self._sessions: dict[Session, None] = {}
        self._pushes = itertools.count(0x592324)

    @property
    def sessions(self) -> list[Session]:
        """Every open session."""
        return list(self._sessions)

    def join(self, session: Session) -> None:
        """Know a session."""
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        """Forget a session and its subscriptions."""
        self._sessions.pop(session, None)
        for topic in list(session.topics):
            self.unsubscribe(session, topic)
        for audience in self._private.values():
            audience.pop(session, None)

    def subscribe(self, session: Session, topic: str) -> None:
        """Add a subscription; public topics send their snapshot first."""
        fresh = topic not in session.topics
        session.topics.add(topic)
        if session.account is not None:
            self._private.setdefault(session.account.name, {})[session] = None
            if fresh and topic in dcp.TOPICS:
                self._x.dcp.connected(session.account.name, topic, self._x.now_ms)
            return
        first = self._streams.subscribe(session.category, topic)
        if first is not None:
            session.data(ENCODE(public_frame(first)), topic)
        self._public.setdefault((session.category, topic), {})[session] = None

    def unsubscribe(self, session: Session, topic: str) -> None:
        """Drop a subscription; topics without audience are no longer rendered."""
        if session.account is not None and topic in session.topics and topic in dcp.TOPICS:
            self._x.dcp.disconnected(session.account.name, topic, self._x.now_ms)
        session.topics.discard(topic)
        audience = self._public.get((session.category, topic))
        if audience is None:
            return
        audience.pop(session, None)
        if not audience:
            del self._public[session.category, topic]
            self._streams.unsubscribe(session.category, topic)

    def listeners(self, account: str) -> Iterable[Session]:
        """Sessions with private subscriptions of an account."""
        return self._private.get(account, ())

    def publish(self, event: Event, ahead_ms: int = 0) -> None:
        """Send a public event to its audience, encoded once; `ahead_ms` = the clock's skew."""
        audience = self._public.get((event.category, event.topic))
        if audience:
            frame = public_frame(event)
            if ahead_ms:
                frame["ts"] += ahead_ms
            encoded = ENCODE(frame)
            for session in audience:
                session.data(encoded, event.topic)

    def push(self, event: Event, ahead_ms: int = 0) -> None:
        """Send a private event to the account's sessions."""
        audience = self._private.get(event.account)
        if not audience:
            return
        number = next(self._pushes)
        encoded: dict[str, bytes] = {}
        for session in audience:
            for topic in sorted(session.topics):
                if topic.partition(".")[0] != event.topic:
                    continue
                if topic not in encoded:
                    encoded[topic] = _private(event, topic, number, ahead_ms)
                if encoded[topic]:
                    session.data(encoded[topic], event.topic)


def _private(event: Event, topic: str, number: int, ahead_ms: int) -> bytes:
    """A private push for a subscription to `topic`; empty when nothing of it fits."""
    frame = private_frame(event, topic, number)
    if frame is None:
        return b""
    if ahead_ms:
        frame["creationTime"] += ahead_ms
    return ENCODE(frame)
