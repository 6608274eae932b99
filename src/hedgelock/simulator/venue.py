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
    api_fixed_loan,
    api_loan,
    api_market,
    api_rates,
    api_reference,
    api_trade,
    borrowing,
    funding,
    liquidation,
    loans,
)
from hedgelock.simulator.instruments import listed
from hedgelock.simulator.limits import Allowance, Limit, RateLimits
from hedgelock.simulator.market import HOUR_MS, Market
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.params import Params
from hedgelock.simulator.routes import Envelope, PublicHandler, PublicRoute, Route
from hedgelock.simulator.scenarios import Scenario
from hedgelock.simulator.state import Event, Exchange, Refused, Row
from hedgelock.simulator.streams import Streams
from hedgelock.simulator.tape import print_trade
from hedgelock.simulator.trading import fill_maker

TICK_MS = 100
INTEREST_MINUTE_MS = 5 * 60_000  # unified borrowings pay at mm:05
NEVER_MS = 2**62


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
}  # fmt: skip
PUBLIC_ODD: dict[str, PublicRoute] = {**api_reference.ODD, **api_rates.ODD, **api_fixed_loan.ODD}
PRIVATE: dict[tuple[str, str], Route] = {
    **api_account.PRIVATE, **api_asset.PRIVATE, **api_trade.PRIVATE, **api_loan.PRIVATE,
    **api_borrow.PRIVATE, **api_fixed_loan.PRIVATE,
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
        market = Market(scenario, listed(scenario.prices), seed, speed, None if wait else now_ms)
        market.open(now_ms)
        self.exchange = Exchange(scenario, market, now_ms=now_ms)
        self.streams = Streams(self.exchange)
        self._limits = RateLimits(factor=limits_factor)
        self._tick_ms = tick_ms
        self._next_tick_ms = now_ms + tick_ms
        self._next_hour_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
        shifted = (now_ms - INTEREST_MINUTE_MS) // HOUR_MS + 1
        self._next_interest_ms = shifted * HOUR_MS + INTEREST_MINUTE_MS
        for setup in scenario.accounts:
            self.exchange.add_account(setup)
        self._recentre_books()
        self._trade_among_others()

    def start(self, now_ms: int) -> None:
        """Start a script that waits."""
        self.advance(now_ms)
        self.exchange.market.start(now_ms)

    def next_event_ms(self) -> int:
        """When `advance` will next have something to do."""
        market, now_ms = self.exchange.market, self.exchange.now_ms
        waiting = market.started_ms is None
        settlement_ms = NEVER_MS if waiting else market.next_settlement_ms(now_ms)
        job_ms = self.exchange.jobs.next_ms() or NEVER_MS
        return min(
            self._next_tick_ms, self._next_hour_ms, self._next_interest_ms, settlement_ms, job_ms
        )

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due by `now_ms`, each at its own instant."""
        x = self.exchange
        while (at_ms := self.next_event_ms()) <= now_ms:
            x.now_ms = at_ms
            x.jobs.run(at_ms)
            if x.market.settlement_due(at_ms):
                funding.settle_funding(x, x.market.settle(at_ms))
            if at_ms >= self._next_hour_ms:
                self._next_hour_ms += HOUR_MS
                loans.charge_interest(x)
            if at_ms >= self._next_interest_ms:
                self._next_interest_ms += HOUR_MS
                borrowing.charge_interest(x)
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
            if public is not None:
                odd = PUBLIC_ODD.get(path, PublicRoute())
                result = public(x, params)
                return Response(0, odd.message, result, x.now_ms, free, envelope=odd.envelope)
            if owner is None or route is None:
                raise Refused(10003, "API key is invalid.")
            limit, pool = route.limit, path
            if path.startswith("/v5/order/") and params.get("category") == "spot":
                limit, pool = max(limit, SPOT_ORDER_LIMIT, key=lambda m: m.count), f"{path}:spot"
            raised = owner.terms.limits_factor
            free = self._limits.admit(owner.name, pool, limit, x.now_ms, factor=raised)
            if free.refused:
                raise Refused(10006, "Too many visits. Exceeded the API Rate Limit.")
            result = route.handler(x, owner, params)
            return Response(0, route.message, result, x.now_ms, free, envelope=route.envelope)
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

    def _recentre_books(self) -> None:
        x = self.exchange
        for key, c in x.contracts.items():
            quote, notional = x.market.quotes[key], x.scenario.book.level_notional
            per_lot = c.lot if c.is_inverse else c.lot * quote.index
            x.books[key].recentre(mid_ticks=quote.mid_ticks, best_lots=int(notional / per_lot))

    def _tick(self) -> None:
        x = self.exchange
        x.market.tick(x.now_ms)
        self._recentre_books()
        for key, c in x.contracts.items():
            for match in x.books[key].sweep():
                fill_maker(x, c, match)
                taker = SELL if match.maker in _buyers(x) else BUY
                print_trade(x, c, side=taker, price=c.price(match.ticks), qty=c.qty(match.lots))
        self._trade_among_others()
        for account in x.accounts.values():
            loans.liquidate(x, account)
            liquidation.liquidate_margin(x, account)
        self.streams.tick()

    def _trade_among_others(self) -> None:
        """One trade per contract and tick that concerns no account, so that the tape lives."""
        x = self.exchange
        for key, c in x.contracts.items():
            quote = x.market.quotes[key]
            side = BUY if quote.tick_direction.startswith("Plus") else SELL
            lots = 1 + (x.now_ms // self._tick_ms * 7919 + quote.mid_ticks) % 97
            lot = max(c.lot, Decimal("0.001"))
            print_trade(x, c, side=side, price=quote.last, qty=lot * lots)


def _buyers(x: Exchange) -> set[str]:
    return {o.order_id for a in x.accounts.values() for o in a.orders[-50:] if o.side == BUY}
