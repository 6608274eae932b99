"""The exchange's edge without sockets or loop: signed requests, sessions, and timers by hand."""

import hashlib
import heapq
import hmac
import itertools
import json
from urllib.parse import urlencode

from hedgelock.simulator.faults import Faults
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.request import Request
from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.venue import Venue

T0 = 1_700_000_000_000
ME = "hedgelock-sim"
ORDER = {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market"}


def sign(secret, text):
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Line:
    """The client's end of a session: what came, and how it ended."""

    def __init__(self, counter, path, address):
        self.counter = counter
        self.frames = []
        self.ended = ""
        self.session = counter.gateway.session(path, self, address=address, now_ms=counter.now_ms)

    def put(self, frame):
        assert not self.ended
        self.frames.append(json.loads(frame))

    def cut(self):
        self.ended = "cut"

    def bye(self):
        self.ended = "bye"

    def send(self, **message):
        self.session.receive(json.dumps(message), self.counter.now_ms)

    def auth(self, key=ME):
        expires = self.counter.now_ms + 5000
        self.send(op="auth", args=[key, expires, sign(key, f"GET/realtime{expires}")])
        self.counter.wait(6)
        return self.frames.pop()

    def subscribe(self, *topics):
        self.send(op="subscribe", args=list(topics))
        self.counter.wait(11)
        assert self.frames.pop(0)["success"] is True
        return self

    def order(self, request_id, **params):
        body = {**ORDER, "qty": "0.01", **params}
        header = {"X-BAPI-TIMESTAMP": str(self.counter.now_ms)}
        self.send(reqId=request_id, op="order.create", header=header, args=[body])

    def of(self, topic):
        return [f for f in self.frames if f.get("topic") == topic]


class Counter:
    """Somebody at the exchange's counter; time passes only when asked to."""

    def __init__(self, *faults, scenario="calm", tick_ms=100, **options):
        self.now_ms = T0
        self.timers = []
        self.order_of = itertools.count()
        script = SCENARIOS[scenario] if isinstance(scenario, str) else scenario
        limits = options.get("limits_factor", 1)
        self.venue = Venue(script, now_ms=T0, limits_factor=limits, tick_ms=tick_ms)
        self.gateway = Gateway(self.venue, later=self.later, faults=Faults(faults), **options)

    def later(self, delay_s, action):
        due_ms = self.now_ms + delay_s * 1000
        heapq.heappush(self.timers, (due_ms, next(self.order_of), action))

    def wait(self, ms):
        """Let timers and the exchange's beats happen, each at its own instant."""
        until_ms = self.now_ms + ms
        while True:
            due_ms = self.timers[0][0] if self.timers else until_ms + 1
            beat_ms = self.gateway.next_ms()
            if min(due_ms, beat_ms) > until_ms:
                break
            self.now_ms = int(max(self.now_ms, min(due_ms, beat_ms)))
            if due_ms <= beat_ms:
                heapq.heappop(self.timers)[2]()
            else:
                self.gateway.beat(self.now_ms)
        self.now_ms = until_ms

    def line(self, path="/v5/private", address="127.0.0.1"):
        assert self.gateway.opens(path, address, self.now_ms) == 0
        return Line(self, path, address)

    def private(self, *topics):
        line = self.line()
        assert line.auth()["success"] is True
        return line.subscribe(*topics)

    def ask(self, method, path, *, key=ME, address="127.0.0.1", stamp_ms=None, **params):
        """The reply to a signed request, before its delay; its pushes are let go."""
        query = urlencode(params) if method == "GET" else ""
        body = json.dumps(params) if method == "POST" else ""
        headers = {}
        if key:
            stamp = str(self.now_ms if stamp_ms is None else stamp_ms)
            headers = {
                "X-BAPI-API-KEY": key, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "5000",
                "X-BAPI-SIGN": sign(key, stamp + key + "5000" + (body or query)),
            }  # fmt: skip
        target = f"/v5/{path}?{query}" if query else f"/v5/{path}"
        request = Request(method, target, headers, body.encode(), address)
        verdict = self.gateway.arrive(request, self.now_ms)
        if verdict is not None:
            self.now_ms += verdict.hold_ms
        reply = self.gateway.http(request, self.now_ms, verdict=verdict)
        if reply.batch is not None:
            self.gateway.release(reply.batch)
        return reply

    def get(self, path, **params):
        return json.loads(self.ask("GET", path, **params).body)

    def post(self, path, **params):
        return json.loads(self.ask("POST", path, **params).body)

    def sell(self, link="", **params):
        body = {**ORDER, "qty": "0.01", **params}
        return self.ask("POST", "order/create", **body, **({"orderLinkId": link} if link else {}))

    @property
    def account(self):
        return self.venue.exchange.accounts[ME]

    @property
    def links(self):
        return [order.link for order in self.account.orders]
