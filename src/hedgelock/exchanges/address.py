"""What all users of one network address share towards one venue: room for requests, and a stand-off.

Bybit allows 600 HTTP requests per 5 s and address, over all accounts and processes, and answers
HTTP 403 beyond: whoever goes on asking is kept out for longer. Every process of this machine keeps the
same book, a small SQLite file; a restart does not forget a stand-off. Where the book cannot be written
each process takes a fixed share.

Orders over the trade socket are counted apart, as Bybit does: 3,000 a second and address. A stand-off
does not concern them, nor any socket that is open.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from hedgelock.exchanges.pace import Paces, Rate, Window
from hedgelock.ports import Clock

_log = structlog.get_logger("address")

WINDOW_MS: Final = 5_000
LIMIT: Final = 540
"""Of the venue's 600: others may use the address too."""
READS_LIMIT: Final = 420
"""Reads stop here, so that orders always find room."""
SHARE: Final = 120
"""What a process allows itself when it cannot see the others."""
SOCKET_LIMIT: Final = 2_700
"""Of the 3,000 requests a second that the venue takes over trade sockets from one address. Where the
book is shared it holds for WINDOW_MS, which is stricter: five hundred orders a second, all day."""
SOCKET_SHARE: Final = 300
"""What a process allows itself of them when it cannot see the others, in one second."""
LEASE: Final = 8
LEASE_MS: Final = 1_000
"""Room is taken in leases: one write per eight requests or second. A lease counts as spent late."""
STAND_OFF_MS: Final = 600_000
"""HTTP 403 for too many requests lasts ten minutes, and longer for those who go on."""
FILE: Final = "address.db"


class Book(Protocol):
    """Where the processes of one machine meet."""

    def lease(self, host: str, now_ms: int, *, limit: int) -> int:
        """Take LEASE requests' room; 0 = taken, else ms to wait."""

    def ban(self, host: str, until_ms: int) -> None:
        """Nobody asks `host` before `until_ms`."""

    def banned_until_ms(self, host: str) -> int:
        """Until when nobody may ask; 0 = now."""


class SharedBook:
    """The book as an SQLite file; opened at first use, on one thread. Times are UTC in ms."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._db: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = sqlite3.connect(self.path, timeout=0.25, isolation_level=None)
            # Nothing here outlives ten minutes of interest: a lost write after a power cut is fine.
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("CREATE TABLE IF NOT EXISTS lease (host TEXT, at_ms INTEGER, n INTEGER)")
            db.execute("CREATE TABLE IF NOT EXISTS standoff (host TEXT PRIMARY KEY, until_ms INTEGER)")
            self._db = db
        return self._db

    def lease(self, host: str, now_ms: int, *, limit: int) -> int:
        """One transaction: forget what is over, count, take."""
        db = self._open()
        with db:
            db.execute("BEGIN IMMEDIATE")
            # A clock that was set back must not leave leases from the future for ever.
            db.execute("DELETE FROM lease WHERE at_ms <= ? OR at_ms > ?",
                       (now_ms - WINDOW_MS, now_ms + WINDOW_MS))
            spent, oldest_ms = db.execute(
                "SELECT COALESCE(SUM(n), 0), MIN(at_ms) FROM lease WHERE host = ?", (host,)
            ).fetchone()
            if spent + LEASE > limit:
                return max(1, int(oldest_ms) + WINDOW_MS - now_ms)
            db.execute("INSERT INTO lease VALUES (?, ?, ?)", (host, now_ms + LEASE_MS, LEASE))
        return 0

    def ban(self, host: str, until_ms: int) -> None:
        """Write the stand-off; a later one stays."""
        with self._open() as db:
            db.execute(
                "INSERT INTO standoff VALUES (?, ?) ON CONFLICT (host) DO UPDATE"
                " SET until_ms = MAX(until_ms, excluded.until_ms)", (host, until_ms),
            )

    def banned_until_ms(self, host: str) -> int:
        """Read the stand-off."""
        row = self._open().execute(
            "SELECT until_ms FROM standoff WHERE host = ?", (host,)).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Release the file."""
        if self._db is not None:
            self._db.close()
            self._db = None


class _Lease:
    """Room that this process has taken under a name, and not used up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = 0
        self._ends_ms = 0.0

    def use(self, now_ms: float) -> bool:
        """One request of what was taken; False = nothing is left of it, or its time is over."""
        if not self._left or now_ms >= self._ends_ms:
            return False
        self._left -= 1
        return True

    def renew(self, book: Book, clock: Clock, *, limit: int) -> float:
        """Take room and use one request of it: 0; else ms to wait. Raises what the book raises."""
        wait_ms = book.lease(self._name, clock.now_ms(), limit=limit)
        if not wait_ms:
            self._left, self._ends_ms = LEASE - 1, clock.monotonic_ms() + LEASE_MS
        return wait_ms

    def drop(self) -> None:
        """What is left is not used."""
        self._left = 0


class Address:
    """One venue as seen from this machine's network address; shared by every account here.

    `book` None = nobody else is there (the simulator). Use on one loop.
    """

    def __init__(self, url: str, clock: Clock, book: Book | None = None) -> None:
        self.host = urlsplit(url).netloc
        self._clock = clock
        self._book = book
        self._own = Window(Rate(LIMIT, WINDOW_MS))
        self._share = Window(Rate(SHARE, WINDOW_MS))
        self._lease = _Lease(self.host)
        self._own_socket = Window(Rate(SOCKET_LIMIT))
        self._socket_share = Window(Rate(SOCKET_SHARE))
        self._socket_lease = _Lease(f"{self.host} trade")
        self._banned_until_ms = 0.0
        """Monotonic: a clock that is set must not end a stand-off."""
        self._is_known = False

    def take(self, *, is_urgent: bool) -> float:
        """ms to wait before a request may leave; 0 = it is counted."""
        now_ms = self._clock.monotonic_ms()
        wait_ms = self.stand_off_ms()
        if wait_ms > 0:
            return wait_ms
        if self._book is None:
            self._own.requests = LIMIT if is_urgent else READS_LIMIT
            return self._own.take(now_ms)
        if self._lease.use(now_ms):
            return 0.0
        limit = LIMIT if is_urgent else READS_LIMIT
        try:
            self._learn(self._book)
            return self.stand_off_ms() or self._lease.renew(self._book, self._clock, limit=limit)
        except (sqlite3.Error, OSError) as error:
            _log.warning("address_book_unusable", host=self.host, error=str(error), share=SHARE)
            return self._share.take(now_ms)

    def take_socket(self) -> float:
        """ms to wait before a request may leave over a trade socket; 0 = it is counted."""
        now_ms = self._clock.monotonic_ms()
        if self._book is None:
            return self._own_socket.take(now_ms)
        if self._socket_lease.use(now_ms):
            return 0.0
        try:
            return self._socket_lease.renew(self._book, self._clock, limit=SOCKET_LIMIT)
        except (sqlite3.Error, OSError) as error:
            _log.warning(
                "address_book_unusable", host=self.host, error=str(error), share=SOCKET_SHARE
            )
            return self._socket_share.take(now_ms)

    def stand_off_ms(self) -> float:
        """How long nobody here may ask; 0 = one may. The book is looked at once, at the start."""
        if not self._is_known and self._book is not None:
            self._is_known = True
            try:
                self._learn(self._book)
            except (sqlite3.Error, OSError) as error:
                _log.warning("address_book_unusable", host=self.host, error=str(error), share=SHARE)
        return max(0.0, self._banned_until_ms - self._clock.monotonic_ms())

    def ban(self) -> None:
        """HTTP 403: everybody here stands off, in this process at once, elsewhere within a second."""
        self._banned_until_ms = self._clock.monotonic_ms() + STAND_OFF_MS
        self._lease.drop()
        _log.critical("venue_stand_off", host=self.host, seconds=STAND_OFF_MS // 1000)
        if self._book is not None:
            try:
                self._book.ban(self.host, self._clock.now_ms() + STAND_OFF_MS)
            except (sqlite3.Error, OSError) as error:
                _log.error("stand_off_not_shared", host=self.host, error=str(error))

    def _learn(self, book: Book) -> None:
        """Take over a stand-off of others. No longer than one lasts: a set clock must not add years."""
        left_ms = min(STAND_OFF_MS, book.banned_until_ms(self.host) - self._clock.now_ms())
        if left_ms > 0:
            self._banned_until_ms = max(
                self._banned_until_ms, self._clock.monotonic_ms() + left_ms
            )


class Guard(NamedTuple):
    """What one account's connection asks before a request leaves."""

    address: Address
    paces: Paces


class Guards:
    """One `Address` per venue and one set of windows per key, for everybody in this process."""

    def __init__(self, clock: Clock, book: Book | None = None) -> None:
        self._clock = clock
        self._book = book
        self._addresses: dict[str, Address] = {}
        self._paces: dict[tuple[str, str], Paces] = {}

    def of(self, url: str, api_key: str) -> Guard:
        """The guard of one key at one venue."""
        host = urlsplit(url).netloc
        address = self._addresses.get(host)
        if address is None:
            address = self._addresses[host] = Address(url, self._clock, self._book)
        return Guard(address, self._paces.setdefault((host, api_key), Paces()))
