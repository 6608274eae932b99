"""The seam for failures: requests can be refused before they are served, pushes can be lost."""

from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.state import Refused
from hedgelock.simulator.venue import Venue

ME = "hedgelock-sim"


class BadDay:
    """Order entry is down and the wallet topic is silent."""

    def before(self, account, method, path, params):
        if path == "/v5/order/create" and params.get("orderLinkId") == "unlucky":
            raise Refused(10016, "Server error.")

    def pushed(self, events):
        return [e for e in events if e.topic != "wallet"]


def test_faults_refuse_requests_and_lose_pushes():
    venue = Venue(SCENARIOS["calm"], now_ms=0, faults=BadDay())
    order = {
        "category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market",
        "qty": "0.01", "orderLinkId": "unlucky",
    }  # fmt: skip

    def place(link):
        body = {**order, "orderLinkId": link}
        return venue.request("POST", "/v5/order/create", body, account=ME, now_ms=0).code

    assert place("unlucky") == 10016
    assert venue.exchange.accounts[ME].orders == []
    assert place("lucky") == 0
    assert {e.topic for e in venue.drain() if e.account} == {"order", "execution", "position"}
