"""The adapter against the built-in simulator, over real sockets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from exchanges.bybit_stub import Make
from exchanges.test_bybit_effects import QUERY, REPAY, SEND, TRANSFER
from hedgelock.clock import SystemClock
from hedgelock.domain.account import PositionChanged
from hedgelock.domain.effect import (
    ExecutionReport,
    LoanAnswer,
    OrderAnswer,
    OrderFacts,
    Outcome,
    QueryLoanAction,
    StreamReset,
    TransferAnswer,
)
from hedgelock.domain.market import MarketTick
from hedgelock.domain.order import OrderStatus, Side
from hedgelock.domain.treasury import TreasuryKind
from hedgelock.errors import VenueForbidden
from hedgelock.exchanges.bybit import BybitSettings
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.simulator.server import RunningServer

SELL = msgspec.structs.replace(SEND, price=Decimal(50000), reduce_only=False)


async def until(stream: AsyncIterator[Any], kind: type) -> Any:
    """The next message of a kind, within five seconds."""
    async with asyncio.timeout(5):
        while True:
            message = await anext(stream)
            if isinstance(message, kind):
                return message


async def test_the_account_is_read_as_the_scenario_set_it(
    simulator: RunningServer, make: Make
) -> None:
    """Demo: 1 BTC against 36,600 USDT; 6,000 USDT and 0.1 BTC in the trading account; FUND empty."""
    exchange = make(simulator.port)
    await exchange.connect()
    wallet, positions = await exchange.read_wallet(), await exchange.read_positions()
    fund, loan = await exchange.read_fund(), await exchange.read_loan()
    coins = {c.coin: c.wallet_qty for c in wallet.coins}
    assert coins == {"USDT": 6000, "BTC": Decimal("0.1")}
    assert all(p.position_qty == 0 for p in positions.positions)
    assert sum(b.qty for b in fund.balances) == 0
    assert {d.coin: d.qty for d in loan.debts} == {"USDT": 36600}
    assert {c.coin: c.qty for c in loan.collateral} == {"BTC": 1}
    assert wallet.ts_requested_ms <= wallet.ts_seen_ms


async def test_terms_are_complete(simulator: RunningServer, make: Make) -> None:
    """Steps, tiers, fees and both collateral ladders come with what the hedger needs."""
    exchange = make(simulator.port)
    (linear,) = await exchange.read_instruments(["linear:BTCUSDT"])
    assert (linear.lot_size, linear.taker_fee) == (Decimal("0.001"), Decimal("0.00055"))
    assert len(linear.tiers) > 1
    (terms,) = await exchange.read_collateral_terms(["BTC"])
    assert terms.loan_tiers[0].ratio == 1
    assert terms.margin_tiers[0].ratio == Decimal("0.95")


async def test_an_order_from_send_to_facts(simulator: RunningServer, make: Make) -> None:
    """Sent once it is accepted, sent twice it is a duplicate; the query brings row and fills."""
    exchange = make(simulator.port)
    stream = exchange.private_stream()
    await until(stream, StreamReset)
    first, second = await exchange.perform(SELL), await exchange.perform(SELL)
    assert isinstance(first, OrderAnswer)
    assert isinstance(second, OrderAnswer)
    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.DUPLICATE)
    pushed = await until(stream, ExecutionReport)
    moved = await until(stream, PositionChanged)
    facts = await exchange.perform(QUERY)
    assert isinstance(facts, OrderFacts)
    assert facts.report.status is OrderStatus.FILLED
    assert facts.report.venue_order_id == first.venue_order_id
    assert facts.executions[0].fill == pushed.fill
    assert moved.position.position_qty == Decimal("-0.010")
    positions = await exchange.read_positions()
    assert [p.position_qty for p in positions.positions] == [Decimal("-0.010")]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_closing_fill_is_the_same_by_push_and_by_query(
    simulator: RunningServer, make: Make
) -> None:
    """Realised profit by REST equals the pushed execPnl."""
    exchange = make(simulator.port)
    stream = exchange.private_stream()
    await until(stream, StreamReset)
    await exchange.perform(SELL)
    await until(stream, ExecutionReport)
    close = msgspec.structs.replace(
        SELL, client_order_id="hl2", side=Side.BUY, price=Decimal(70000), reduce_only=True
    )
    await exchange.perform(close)
    pushed = await until(stream, ExecutionReport)
    facts = await exchange.perform(msgspec.structs.replace(QUERY, client_order_id="hl2"))
    assert isinstance(facts, OrderFacts)
    assert facts.executions[0].fill == pushed.fill
    await stream.aclose()  # type: ignore[attr-defined]


async def test_money_moves_once_and_the_loan_shrinks(simulator: RunningServer, make: Make) -> None:
    """Transfer, the same again, repay, and the history that proves it; borrow goes back."""
    exchange = make(simulator.port)
    since_ms = SystemClock().now_ms()
    move = msgspec.structs.replace(TRANSFER, transfer_id=str(uuid.uuid4()), amount=Decimal(1500))
    first, again = await exchange.perform(move), await exchange.perform(move)
    assert isinstance(first, TransferAnswer)
    assert isinstance(again, TransferAnswer)
    assert (first.outcome, again.outcome) == (Outcome.DONE, Outcome.DUPLICATE)
    repaid = await exchange.perform(REPAY)
    assert isinstance(repaid, LoanAnswer)
    assert repaid.outcome is Outcome.DONE
    loan = await exchange.read_loan()
    assert Decimal(35600) <= loan.debts[0].qty < Decimal(35601)
    for amount, outcome in ((Decimal(1000), Outcome.DONE), (Decimal(999), Outcome.ABSENT)):
        found = await exchange.perform(
            QueryLoanAction(
                account="main", intent_id="i", kind_of=TreasuryKind.REPAY, coin="USDT",
                amount=amount, since_ts_ms=since_ms,
            )
        )
        assert isinstance(found, LoanAnswer)
        assert found.outcome is outcome
    borrow = msgspec.structs.replace(REPAY, kind_of=TreasuryKind.BORROW, amount=Decimal(200))
    borrowed = await exchange.perform(borrow)
    assert isinstance(borrowed, LoanAnswer)
    assert borrowed.outcome is Outcome.DONE


async def test_the_ledger_closes_to_zero(simulator: RunningServer, make: Make) -> None:
    """Every line of the log sums up; a trade of ours carries our order id."""
    bad: list[Any] = []
    exchange = make(simulator.port, on_bad=lambda *args: bad.append(args))
    await exchange.perform(SELL)
    lines = await exchange.read_ledger(SystemClock().now_ms() - 60_000)
    assert [line.client_order_id for line in lines if line.line_type == "TRADE"] == ["hl1"]
    assert bad == []


async def test_streams_survive_a_server_that_drops_them(
    simulator: RunningServer, make: Make
) -> None:
    """The simulator closes every socket: prices go on, and the private stream says reset."""
    exchange = make(simulator.port, settings=BybitSettings())
    market, private = exchange.market_stream(["linear:BTCUSDT"]), exchange.private_stream()
    await until(market, MarketTick)
    await until(private, StreamReset)
    await simulator.drop_sockets()
    await until(private, StreamReset)
    while exchange.sockets[0].stats.connects < 2:
        await until(market, MarketTick)
    await market.aclose()  # type: ignore[attr-defined]
    await private.aclose()  # type: ignore[attr-defined]


async def test_wrong_keys_are_named(simulator: RunningServer, make: Make) -> None:
    """An unknown key or a wrong secret is VenueForbidden with what to check."""
    for keys in (Credentials("nobody", "x"), Credentials("hedgelock-sim", "wrong")):
        with pytest.raises(VenueForbidden, match="BYBIT__API"):
            await make(simulator.port, credentials=keys).connect()
