"""The simulated exchange without I/O: requests and time go in, responses and events come out.

    venue = Venue(SCENARIOS["demo"], now_ms=0)
    venue.advance(45_000)
    reply = venue.request("GET", "/v5/market/time", {}, account=None, now_ms=45_000)
    events = venue.drain()

Same scenario, seed, start and requests → same responses and the same events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hedgelock.simulator import (
    api_account,
    api_asset,
    api_borrow,
    api_custody,
    api_dcp,
    api_fixed_loan,
    api_loan,
    api_market,
    api_modes,
    api_rates,
    api_reference,
    api_trade,
    borrowing,
    conditional,
    funding,
    loans,
    premium,
    price_limit,
    retention,
)
from hedgelock.simulator.deeds import Agenda
from hedgelock.simulator.instruments import listed
from hedgelock.simulator.limits import Allowance, Limit, RateLimits
from hedgelock.simulator.live_feed import Fed
from hedgelock.simulator.market import HOUR_MS, NEVER_MS, Market
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.open_interest import open_interest
from hedgelock.simulator.params import Params
from hedgelock.simulator.routes import Batched, Envelope, PublicHandler, PublicRoute, Route
from hedgelock.simulator.scenarios import Scenario
from hedgelock.simulator.state import Account, Event, Exchange, Refused, Row
from hedgelock.simulator.streams import Streams
from hedgelock.simulator.tape import print_trade
from hedgelock.simulator.trading import fill_maker
from hedgelock.simulator.watch import Watch

TICK_MS = 100
LEAST_TRADE = Decimal("0.001")
INTEREST_MINUTE_MS = 5 * 60_000  # unified borrowings pay at mm:05


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `code` 0 is success."""

    code: int
    message: str
    result: Row
    time_ms: int
    allowance: Allowance
    ext: Row = field(default_factory=dict)
    envelope: Envelope = Envelope.FULL

    def body(self) -> Row:
        """The JSON object that goes over the wire."""
        whole: Row = {"retCode": self.code, "retMsg": self.message, "result": self.result}
        if self.envelope is Envelope.BARE:
            return whole
        if self.envelope is Envelope.FLAT:
            rest = dict(self.result)
            return {**whole, "result": rest.pop("list"), **rest}
        ext: Any = "{}" if self.envelope is Envelope.EXT_TEXT else self.ext
        return {**whole, "retExtInfo": ext, "time": self.time_ms}


PUBLIC: dict[str, PublicHandler] = {
    **api_market.PUBLIC, **api_reference.PUBLIC, **api_rates.PUBLIC, **api_fixed_loan.PUBLIC,
    **api_trade.PUBLIC,
}  # fmt: skip
PUBLIC_ODD: dict[str, PublicRoute] = {**api_reference.ODD, **api_rates.ODD, **api_fixed_loan.ODD}
PRIVATE: dict[tuple[str, str], Route] = {
    **api_account.PRIVATE, **api_asset.PRIVATE, **api_trade.PRIVATE, **api_loan.PRIVATE,
    **api_borrow.PRIVATE, **api_fixed_loan.PRIVATE, **api_custody.PRIVATE, **api_modes.PRIVATE,
}  # fmt: skip
SPOT_ORDER_LIMIT = Limit(20)


def is_public(path: str) -> bool:
    """Whether a path is served without a signature."""
    return path in PUBLIC


class Venue:
    """One exchange with its market, accounts and clock."""

    def __init__(
        self, scenario: Scenario, *, now_ms: int, seed: int = 1, speed: float = 1.0,
        wait: bool = False, tick_ms: int = TICK_MS, limits_factor: int = 1,
    ) -> None:  # fmt: skip
        market = Market(
            scenario, listed(scenario.prices), seed, speed, None if wait else now_ms, tick_ms
        )  # fmt: skip
        market.open(now_ms)
        self.exchange = Exchange(scenario, market, now_ms=now_ms)
        self.streams = Streams(self.exchange)
        self._limits = RateLimits(factor=limits_factor)
        self._tick_ms = tick_ms
        self._next_tick_ms = now_ms + tick_ms
        self._next_hour_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
        shifted = (now_ms - INTEREST_MINUTE_MS) // HOUR_MS + 1
        self._next_interest_ms = shifted * HOUR_MS + INTEREST_MINUTE_MS
        self._sample_ms = max(tick_ms, round(premium.SAMPLE_MS / speed))
        self._next_sample_ms = (now_ms // self._sample_ms + 1) * self._sample_ms
        for setup in scenario.accounts:
            self.exchange.add_account(setup)
        self.watch = Watch(self.exchange)
        self.agenda = Agenda(self.exchange, self._place)
        for deed in scenario.deeds:
            self.agenda.add(deed)
        self._recentre_books()
        self._trade_among_others()

    def start(self, now_ms: int) -> None:
        """Start a script that waits."""
        self.advance(now_ms)
        self.exchange.market.start(now_ms)

    def feed(self, rows: list[Fed], now_ms: int) -> None:
        """Let a real market move the prices."""
        self.advance(now_ms)
        self.exchange.market.feed(rows, now_ms)

    def next_event_ms(self) -> int:
        """When `advance` will next have something to do."""
        market, jobs = self.exchange.market, self.exchange.jobs
        return min(
            self._next_tick_ms, self._next_hour_ms, self._next_interest_ms, market.due_ms,
            self.agenda.next_ms(), jobs.next_ms() or NEVER_MS, self.exchange.dcp.next_ms(),
        )

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due by `now_ms`, each at its own instant."""
        x = self.exchange
        while (at_ms := self.next_event_ms()) <= now_ms:
            x.now_ms = max(x.now_ms, at_ms)  # a deed added late may lie in the past
            x.jobs.run(x.now_ms)
            if self.agenda.waiting and self.agenda.run():
                self.watch.reset()
            if x.market.due_ms <= at_ms:
                funding.settle_funding(x, x.market.settle(at_ms))
            if at_ms >= self._next_hour_ms:
                self._next_hour_ms += HOUR_MS
                loans.charge_interest(x)
                x.pools.record()
                x.market.roll_day(at_ms)
                retention.forget(x)
            if at_ms >= self._next_interest_ms:
                self._next_interest_ms += HOUR_MS
                borrowing.charge_interest(x)
            if at_ms >= x.dcp.next_ms():
                api_dcp.cancel_disconnected(x)
            if at_ms >= self._next_tick_ms:
                self._next_tick_ms += self._tick_ms
                self._tick()
        x.now_ms = max(x.now_ms, now_ms)

    def request(
        self, method: str, path: str, params: Params, *, account: str | None, now_ms: int,
        received_ns: int = 0,
    ) -> Response:  # fmt: skip
        """Serve one request of `account` (None = unsigned)."""
        self.advance(now_ms)
        x = self.exchange
        x.received_ns = received_ns
        free = Allowance(600, 599, x.now_ms)
        public = PUBLIC.get(path) if method == "GET" else None
        route = PRIVATE.get((method, path))
        owner = x.accounts.get(account or "")
        if public is None and route is None:
            return self._refuse(Refused(10017, "Route not found."), free)
        try:
            if method == "POST" and path.startswith("/v5/order/") and x.market.is_silent(x.now_ms):
                raise Refused(10016, "No prices from the real market.")
            if public is not None:
                odd = PUBLIC_ODD.get(path, PublicRoute())
                result = public(x, params)
                return Response(0, odd.message, result, x.now_ms, free, envelope=odd.envelope)
            if owner is None or route is None:
                raise Refused(10003, "API key is invalid.")
            if method == "POST" and x.conditions.maintenance:
                raise Refused(10016, "Service is restarting, please try again later.")
            limit, pool = route.limit, path
            if path.startswith("/v5/order/") and params.get("category") == "spot":
                limit, pool = max(limit, SPOT_ORDER_LIMIT, key=lambda m: m.count), f"{path}:spot"
            raised = owner.terms.limits_factor
            free = self._limits.admit(owner.name, pool, limit, x.now_ms, factor=raised)
            if free.refused:
                raise Refused(10006, "Too many visits. Exceeded the API Rate Limit.")
            x.admitted = 1
            for _ in range(1, route.weight(params) if route.weight else 1):
                more = self._limits.admit(owner.name, pool, limit, x.now_ms)
                if more.refused:
                    break
                x.admitted, free = x.admitted + 1, more
            answer = route.handler(x, owner, params)
            conditional.fire(x)
            result, ext = (
                (answer.result, answer.ext) if isinstance(answer, Batched) else (answer, {})
            )
            return Response(0, route.message, result, x.now_ms, free, ext, route.envelope)
        except Refused as refusal:
            wrap = route.envelope if route is not None else Envelope.FULL
            return self._refuse(refusal, free, wrap)

    def drain(self) -> list[Event]:
        """Take the events that have happened since the last call."""
        events, self.exchange.outbox = self.exchange.outbox, []
        return events

    def _refuse(
        self, refusal: Refused, allowance: Allowance, envelope: Envelope = Envelope.FULL
    ) -> Response:
        return Response(
            refusal.code, refusal.message, refusal.result, self.exchange.now_ms, allowance,
            refusal.ext, envelope,
        )  # fmt: skip

    def _place(self, account: Account, path: str, params: Params) -> str:
        """Serve a POST made in the exchange's own app, unlimited; returns why it was refused."""
        try:
            PRIVATE["POST", path].handler(self.exchange, account, params)
        except Refused as refusal:
            return f"{refusal.code} {refusal.message}"
        return ""

    def _recentre_books(self) -> None:
        x = self.exchange
        for key, line in x.market.lines.items():
            c, quote = line.contract, line.quote
            per_lot = c.lot if c.is_inverse else c.lot * quote.index
            book = x.books[key]
            best_lots = int(book.shape.level_notional / per_lot)
            book.recentre(mid_ticks=quote.mid_ticks, best_lots=best_lots)

    def _tick(self) -> None:
        x = self.exchange
        if x.market.is_silent(x.now_ms):
            return
        x.market.tick(x.now_ms)
        self._recentre_books()
        for key, c in x.contracts.items():
            for match in x.books[key].sweep():
                maker = fill_maker(x, c, match)
                taker = SELL if maker is not None and maker.side == BUY else BUY
                print_trade(x, c, side=taker, price=c.price(match.ticks), qty=c.qty(match.lots))
        conditional.fire(x)
        self._trade_among_others()
        if x.now_ms >= self._next_sample_ms:
            self._next_sample_ms = (x.now_ms // self._sample_ms + 1) * self._sample_ms
            premium.sample(x)
        x.interest.note(x.now_ms, lambda c: open_interest(x, c))
        self.watch.tick()
        self.streams.tick()
        if x.wanted and not self.streams.ticks % price_limit.PUBLISH_TICKS:
            price_limit.publish(x)

    def _trade_among_others(self) -> None:
        """One trade per contract and tick that concerns no account, so that the tape lives."""
        x = self.exchange
        step = x.now_ms // self._tick_ms * 7919
        for line in x.market.lines.values():
            c, quote = line.contract, line.quote
            side = BUY if quote.tick_direction.startswith("Plus") else SELL
            lots = 1 + (step + quote.mid_ticks) % 97
            print_trade(x, c, side=side, price=quote.last, qty=max(c.lot, LEAST_TRADE) * lots)
