"""What an exchange may send by mistake or malice: each is counted and kept, nothing stops or becomes 0."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tamper import Tamper
from trial import OURS, Trial, trial

from hedgelock.domain.account import LoanRead, PositionsRead, WalletRead
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.risk import Confidence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def ticker(**data: Any) -> str:
    """A delta of the hedge's ticker."""
    return json.dumps({"topic": "tickers.BTCUSDT", "type": "delta", "ts": 1_700_000_000_000, "cs": 1,
                       "data": {"symbol": "BTCUSDT", **data}})


def private(topic: str, **row: Any) -> str:
    """A private push with one row."""
    return json.dumps({"topic": topic, "id": "1", "creationTime": 1_700_000_000_000, "data": [row]})


ORDER = {
    "category": "linear", "symbol": "BTCUSDT", "orderId": "1", "orderLinkId": "", "side": "Sell",
    "orderType": "Market", "qty": "0.1", "price": "", "avgPrice": "", "cumExecQty": "0",
    "cumExecFee": "0", "leavesQty": "0.1", "orderStatus": "New", "reduceOnly": False,
    "timeInForce": "IOC", "rejectReason": "EC_NoError", "createdTime": "1", "updatedTime": "1",
}
POSITION = {
    "category": "linear", "symbol": "BTCUSDT", "side": "Sell", "size": "0.1", "entryPrice": "60000",
    "markPrice": "60000", "positionIdx": 0, "positionValue": "6000", "unrealisedPnl": "0",
    "leverage": "10", "liqPrice": "", "seq": 1, "positionStatus": "Normal",
    "adlRankIndicator": 0, "curRealisedPnl": "0", "positionIM": "0", "positionMM": "0",
}

PUBLIC: list[tuple[str | bytes, str]] = [
    ("{not json", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    ("[1, 2]", "expected an object"),
    ("{}", "$.topic: missing"),
    (json.dumps({"topic": "tickers.DOGEUSDT", "type": "snapshot", "data": {}}), "not subscribed"),
    (json.dumps({"topic": "tickers.BTCUSDT", "type": "delta", "ts": 1, "data": "x"}), "$.data"),
    (json.dumps({"topic": "tickers.BTCUSDT", "type": "delta", "ts": -1, "data": {}}), "$.ts"),
    (ticker(markPrice="NaN"), "$.data.markPrice"),
    (ticker(indexPrice="Infinity"), "$.data.indexPrice"),
    (ticker(markPrice="-60000"), "must be > 0"),
    (ticker(indexPrice="0"), "must be > 0"),
    (ticker(markPrice=""), "no mark or index price"),
    (ticker(markPrice=60000), "expected a number as text"),
    (ticker(markPrice="1E+999"), "$.data.markPrice"),
    (ticker(symbol="ETHUSDT", markPrice="3000"), "not linear:BTCUSDT"),
    (ticker(fundingRate="nan"), "$.data.fundingRate"),
    (ticker(fundingIntervalHour="0", fundingRate="0.0002"), "must be > 0"),
    (ticker(nextFundingTime="soon"), "$.data.nextFundingTime"),
]
PRIVATE: list[tuple[str | bytes, str]] = [
    ("nonsense", "not JSON"),
    (json.dumps({"topic": "order", "data": []}), "$.creationTime"),
    (private("order", **{**ORDER, "side": "Short"}), "$.data[0].side: unknown value"),
    (private("order", **{**ORDER, "orderStatus": "Dreaming"}), "$.data[0].orderStatus: unknown value"),
    (private("order", **{**ORDER, "cumExecQty": "NaN"}), "$.data[0].cumExecQty"),
    (private("order", **{**ORDER, "category": "swap"}), "$.data[0].category: unknown value"),
    (private("position", **{**POSITION, "size": "-1"}), "$.data[0]"),
    (private("position", **{**POSITION, "side": "Both"}), "$.data[0].side"),
    (private("position", **{**POSITION, "size": True}), "$.data[0].size"),
    (private("gossip", category="linear"), "unknown topic gossip"),
]


def changed(**fields: Any) -> Any:
    """A spoiler that sets fields of the first object that has them, at any depth."""

    def put(node: Any) -> bool:
        if isinstance(node, dict):
            for name, value in fields.items():
                if name in node:
                    node[name] = value
                    return True
            return any(put(inner) for inner in node.values())
        return isinstance(node, list) and any(put(inner) for inner in node)

    def spoil(body: bytes) -> bytes:
        document = json.loads(body)
        assert put(document), (fields, body[:300])
        return json.dumps(document).encode()

    return spoil


WALLET, POSITIONS = "/v5/account/wallet-balance", "/v5/position/list"
LOAN, FUND = "/v5/crypto-loan-common/position", "/v5/asset/transfer/query-account-coins-balance"
REST: list[tuple[str, Any]] = [
    (WALLET, lambda body: body[:-20]),
    (LOAN, lambda _: b"<html>maintenance</html>"),
    (FUND, lambda _: b""),
    (WALLET, changed(walletBalance="NaN")),
    (LOAN, changed(flexibleTotalDebt="")),
    (FUND, changed(balance=[{"coin": "USDT", "walletBalance": "Infinity", "transferBalance": "0"}])),
    (WALLET, changed(walletBalance="")),
    (LOAN, changed(flexibleTotalDebt="-5")),
    (WALLET, changed(list="nothing")),
    (LOAN, changed(result=[])),
    (POSITIONS, changed(list=[{"symbol": "BTCUSDT", "side": "Sell", "size": "x"}])),
    (POSITIONS, changed(list=None)),
    (WALLET, changed(marginCollateral="yes")),
    (LOAN, changed(amount="-1")),
]


def spoil_streams(run: Trial, proxy: Tamper) -> None:
    """Push every bad frame; both readers of the private stream count theirs."""
    before = run.metric("collector", "bad_input_total", source="exchange")
    executor_before = run.metric("trade-executor", "bad_input_total", source="exchange")
    for frame, _ in PUBLIC:
        assert proxy.inject("/public/linear", frame) == 1
    listeners = 2
    for frame, _ in PRIVATE:
        assert proxy.inject("/private", frame) == listeners
    run.await_that(
        "counting the bad frames",
        lambda: run.metric("collector", "bad_input_total", source="exchange") - before
        >= len(PUBLIC) + len(PRIVATE)
        and run.metric("trade-executor", "bad_input_total", source="exchange") - executor_before
        >= len(PRIVATE), 10,
    )


def spoil_reads(run: Trial, proxy: Tamper) -> None:
    """Spoil one answer after the other; a wallet push asks for the next reads at once."""
    for path, spoiler in REST:
        failures = run.metric("collector", "read_failures_total")
        proxy.spoil(path, spoiler)
        proxy.inject("/private", json.dumps(
            {"topic": "wallet", "creationTime": 1_700_000_000_000, "data": []}))
        run.await_that(
            f"a failed read of {path}",
            lambda before=failures: not proxy.pending()
            and run.metric("collector", "read_failures_total") > before, 15,
        )


def check_quarantine(run: Trial) -> None:
    """Every bad frame is kept whole, with its reason."""
    kept = [body for body in run.bodies("quarantine") if isinstance(body, Quarantined)]
    for frame, reason in (*PUBLIC, *PRIVATE):
        raw = frame.decode(errors="replace") if isinstance(frame, bytes) else frame
        assert any(q.value == raw and reason in q.reason for q in kept), (
            raw, reason, [q.reason for q in kept if q.value == raw])


def check_nothing_became_zero(run: Trial) -> None:
    """No price, debt, collateral or balance on the bus was ever 0 or negative for a bad answer."""
    for tick in run.bodies("market_data"):
        assert Decimal(36_000) < tick.mark_price < Decimal(61_000)
        assert Decimal(36_000) < tick.index_price < Decimal(61_000)
    facts = run.bodies("account_raw")
    for fact in facts:
        if isinstance(fact, LoanRead):
            assert [debt.qty > 30_000 for debt in fact.debts] == [True]
            assert [held.qty for held in fact.collateral] == [Decimal(1)]
        if isinstance(fact, WalletRead):
            assert {coin.coin for coin in fact.coins} >= {"USDT", "BTC"}
    assert any(isinstance(fact, PositionsRead) for fact in facts)
    for risk in run.bodies("risk_state"):
        if risk.confidence is Confidence.FRESH:
            assert risk.debt_value > 30_000
            assert risk.ltv > Decimal("0.6")


def test_nothing_that_the_exchange_sends_stops_it_or_becomes_zero(tmp_path: Path) -> None:
    """Bad frames and answers are counted and quarantined; the process lives and then hedges."""
    with trial(tmp_path, SIM__SPEED="8") as run, Tamper(run.sim) as proxy:
        run.env |= proxy.environment()
        run.start_simulator()
        run.start_engine()
        pid = run.processes["engine"].pid
        spoil_streams(run, proxy)
        spoil_reads(run, proxy)
        check_quarantine(run)
        assert run.metric("collector", "quarantined_total", topic="exchange") >= len(PUBLIC)
        assert run.look().ours["orders"] == 0
        run.start_script()
        run.await_that("a hedge", lambda: run.look().ours["orders"] > 0, 20)
        check_nothing_became_zero(run)
        assert run.processes["engine"].poll() is None
        assert run.processes["engine"].pid == pid
        assert run.stop() == {"simulator": 0, "engine": 0}
        assert OURS not in (tmp_path / "engine.log").read_text(), "a key stands in the log"
