"""Running one effect at Bybit and saying what is known afterwards. Never raises but cancellation.

Doubt stays doubt: whatever may have happened is DOUBTFUL, a query that did not work is QUERY_FAILED,
and ABSENT is said only when every place that could know was asked and answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from hedgelock.domain.effect import (
    CancelOrder,
    Effect,
    ExecutionReport,
    ListOrders,
    LoanAnswer,
    OpenOrders,
    OrderAnswer,
    OrderFacts,
    OrderReport,
    Outcome,
    QueryLoanAction,
    QueryOrder,
    QueryTransfer,
    SendLoanAction,
    SendOrder,
    SendTransfer,
    TransferAnswer,
    VenueEvent,
)
from hedgelock.domain.instrument import category_of, symbol_of
from hedgelock.domain.treasury import Pocket, TreasuryKind
from hedgelock.errors import (
    BadMessage,
    OutcomeUnknown,
    VenueBusy,
    VenueError,
)
from hedgelock.exchanges.bybit_dialect import ORDER_DUPLICATE, TRANSFER_DUPLICATE
from hedgelock.exchanges.bybit_loan import (
    BORROWINGS,
    HISTORY_SLACK_MS,
    REPAYMENTS,
    loan_request,
    outcome_in_history,
    plain,
)
from hedgelock.exchanges.bybit_order import order_body
from hedgelock.exchanges.bybit_parse import Seen, parse_execution, parse_order
from hedgelock.exchanges.bybit_reads import pages
from hedgelock.exchanges.bybit_trade import TradeChannel
from hedgelock.exchanges.ccxt_venue import Answer, CcxtVenue
from hedgelock.exchanges.fields import Row
from hedgelock.ports import Capabilities, Clock

_OPEN_LISTS: tuple[dict[str, Any], ...] = (
    {"category": "linear", "settleCoin": "USDT", "limit": 50},
    {"category": "linear", "settleCoin": "USDC", "limit": 50},
    {"category": "inverse", "limit": 50},
    {"category": "spot", "limit": 50},
)
"""Where open orders may be; linear asks for a symbol or a coin."""
_POCKETS = {Pocket.UNIFIED: "UNIFIED", Pocket.FUND: "FUND"}
_TRANSFER_OUTCOMES = {
    "SUCCESS": Outcome.DONE, "PENDING": Outcome.ACCEPTED, "FAILED": Outcome.REFUSED,
    "STATUS_UNKNOWN": Outcome.DOUBTFUL,
}
class BybitEffects:
    """The executor's hands."""

    def __init__(
        self, venue: CcxtVenue, *, account: str, clock: Clock, capabilities: Capabilities,
        trade: TradeChannel | None = None,
    ) -> None:
        """`trade`: the trade socket's channel where the mode has one; orders prefer it."""
        self._venue = venue
        self._trade = trade
        self._account = account
        self._clock = clock
        self._can = capabilities

    async def perform(self, effect: Effect) -> VenueEvent:
        """Run one effect; refusal, doubt and limits are events too."""
        match effect:
            case SendOrder():
                return await self._send_order(effect)
            case QueryOrder():
                return await self._query_order(effect)
            case CancelOrder():
                return await self._cancel_order(effect)
            case ListOrders():
                return await self._list_orders()
            case SendTransfer():
                return await self._send_transfer(effect)
            case QueryTransfer():
                return await self._query_transfer(effect)
            case SendLoanAction():
                return await self._send_loan_action(effect)
            case QueryLoanAction():
                return await self._query_loan_action(effect)

    # ------------------------------------------------------------ what an error means

    def _failure(self, error: VenueError | BadMessage, duplicate: frozenset[str]) -> dict[str, Any]:
        """Fields of an answer to a request that did not succeed."""
        if isinstance(error, BadMessage):
            outcome, code, text = Outcome.DOUBTFUL, "unreadable", str(error)
        else:
            code, text = error.code, error.text
            if isinstance(error, OutcomeUnknown):
                outcome = Outcome.DOUBTFUL
            elif isinstance(error, VenueBusy):
                outcome = Outcome.BUSY
            else:
                outcome = Outcome.DUPLICATE if code in duplicate else Outcome.REFUSED
        fields: dict[str, Any] = {
            "outcome": outcome, "code": code, "text": text, "ts_seen_ms": self._clock.now_ms(),
        }
        if isinstance(error, VenueBusy):
            fields["retry_at_ms"] = error.retry_at_ms - self._venue.offset_ms
        return fields

    def _query_failure(self, error: VenueError | BadMessage) -> dict[str, Any]:
        fields = self._failure(error, frozenset())
        if fields["outcome"] is not Outcome.BUSY:
            fields["outcome"] = Outcome.QUERY_FAILED
        return fields

    def _refused(self, code: str, text: str) -> dict[str, Any]:
        return {
            "outcome": Outcome.REFUSED, "code": code, "text": text,
            "ts_seen_ms": self._clock.now_ms(),
        }

    # ------------------------------------------------------------ orders

    async def _enter(self, path: str, body: dict[str, Any]) -> Answer:
        """An order request, over the trade socket while it is open, else by REST; never by both."""
        if self._trade is not None and self._trade.is_open:
            return await self._trade.call(path, body)
        return await self._venue.call("POST", path, body)

    async def _send_order(self, effect: SendOrder) -> VenueEvent:
        ids: dict[str, Any] = {"account": self._account, "client_order_id": effect.client_order_id}
        category = category_of(effect.instrument)
        if category == "spot" and not self._can.spot:
            return OrderAnswer(**ids, **self._refused("capability", "no spot trading in this mode"))
        if effect.trigger_price is not None and not self._can.stops:
            return OrderAnswer(**ids, **self._refused("capability", "no stops in this mode"))
        if self._clock.now_ms() > effect.expires_ts_ms:
            # Waiting for the connection or a limit may have taken long; nothing has left yet.
            return OrderAnswer(**ids, **self._refused("expired", "not sent: its time is over"))
        try:
            answer = await self._enter("/v5/order/create", order_body(effect))
            venue_order_id = answer.result.name("orderId")
        except (VenueError, BadMessage) as error:
            return OrderAnswer(**ids, **self._failure(error, ORDER_DUPLICATE))
        return OrderAnswer(
            **ids, outcome=Outcome.ACCEPTED, venue_order_id=venue_order_id,
            ts_seen_ms=answer.ts_seen_ms,
        )

    async def _cancel_order(self, effect: CancelOrder) -> VenueEvent:
        ids: dict[str, Any] = {"account": self._account, "client_order_id": effect.client_order_id}
        body = {
            "category": category_of(effect.instrument), "symbol": symbol_of(effect.instrument),
            "orderLinkId": effect.client_order_id,
        }
        try:
            answer = await self._enter("/v5/order/cancel", body)
        except (VenueError, BadMessage) as error:
            return OrderAnswer(**ids, is_cancel=True, **self._failure(error, frozenset()))
        return OrderAnswer(
            **ids, is_cancel=True, outcome=Outcome.ACCEPTED,
            venue_order_id=answer.result.text_or("orderId"), ts_seen_ms=answer.ts_seen_ms,
        )

    async def _query_order(self, effect: QueryOrder) -> VenueEvent:
        ids: dict[str, Any] = {"account": self._account, "client_order_id": effect.client_order_id}
        try:
            report = await self._order_row(effect)
            executions, filled = await self._executions(effect)
            if report is None and not executions:
                # An ack may come before the row can be seen: look once more at what is open.
                report = await self._order_row(effect)
        except (VenueError, BadMessage) as error:
            return OrderAnswer(**ids, **self._query_failure(error))
        seen_ms = self._clock.now_ms()
        if report is None:
            if executions:
                return OrderAnswer(
                    **ids, outcome=Outcome.QUERY_FAILED, code="incomplete",
                    text="executions without an order row", ts_seen_ms=seen_ms,
                )
            return OrderAnswer(**ids, outcome=Outcome.ABSENT, ts_seen_ms=seen_ms)
        if filled != report.filled_qty:
            return OrderAnswer(
                **ids, outcome=Outcome.QUERY_FAILED, code="incomplete", ts_seen_ms=seen_ms,
                text=f"row says {report.filled_qty} filled, executions say {filled}",
            )
        return OrderFacts(
            account=self._account, report=report, executions=executions, ts_seen_ms=seen_ms
        )

    async def _list_orders(self) -> VenueEvent:
        """Every open order of every category; anything less than all of them is no answer."""
        reports: list[OrderReport] = []
        try:
            for query in _OPEN_LISTS if self._can.spot else _OPEN_LISTS[:-1]:
                reports += [
                    parse_order(row, category=query["category"], seen=self._seen(answer))
                    async for row, answer in self._paged("/v5/order/realtime", query)
                ]
        except (VenueError, BadMessage) as error:
            failure = self._query_failure(error)
            del failure["code"]
            return OpenOrders(account=self._account, **failure)
        seen_ms, found = self._clock.now_ms(), tuple(reports)
        return OpenOrders(
            account=self._account, outcome=Outcome.DONE, reports=found, ts_seen_ms=seen_ms
        )

    async def _order_row(self, effect: QueryOrder) -> OrderReport | None:
        """The row, from open orders, then from history; None when both answered without it."""
        category = category_of(effect.instrument)
        query = {
            "category": category, "symbol": symbol_of(effect.instrument),
            "orderLinkId": effect.client_order_id,
        }
        for path in ("/v5/order/realtime", "/v5/order/history"):
            answer = await self._venue.get(path, query)
            for row in answer.result.rows("list"):
                if row.text("orderLinkId") == effect.client_order_id:
                    return parse_order(row, category=category, seen=self._seen(answer))
        return None

    async def _executions(
        self, effect: QueryOrder
    ) -> tuple[tuple[ExecutionReport, ...], Decimal]:
        category = category_of(effect.instrument)
        query = {
            "category": category, "symbol": symbol_of(effect.instrument),
            "orderLinkId": effect.client_order_id, "limit": 100,
        }
        found: dict[str, ExecutionReport] = {}
        async for row, answer in self._paged("/v5/execution/list", query):
            if row.text("orderLinkId") != effect.client_order_id:
                continue
            pnl = await self._realised(row, category)
            report = parse_execution(row, category=category, seen=self._seen(answer), pnl=pnl)
            found[report.fill.exec_id] = report
        executions = tuple(sorted(found.values(), key=lambda e: (e.fill.seq, e.fill.exec_id)))
        return executions, sum((e.fill.qty for e in executions), Decimal(0))

    async def _realised(self, row: Row, category: str) -> Decimal | None:
        """Profit of a fill whose row does not say: the transaction log's cash flow of that trade.

        None = the row says it itself, or the fill closed nothing.
        """
        if category == "spot" or row.maybe("execPnl") is not None or not row.decimal("closedSize"):
            return None
        exec_id, at_ms = row.name("execId"), row.ts_ms("execTime")
        query = {
            "accountType": "UNIFIED", "category": category, "type": "TRADE",
            "startTime": at_ms - HISTORY_SLACK_MS, "endTime": at_ms + 60_000, "limit": 50,
        }
        async for line, _ in self._paged("/v5/account/transaction-log", query):
            if line.text_or("tradeId") == exec_id:
                return line.decimal("cashFlow")
        raise BadMessage(f"the transaction log does not know trade {exec_id} yet")

    async def _paged(
        self, path: str, query: dict[str, Any]
    ) -> AsyncIterator[tuple[Row, Answer]]:
        """Every row of a list."""
        async for answer in pages(self._venue, path, query):
            for row in answer.result.rows("list"):
                yield row, answer

    # ------------------------------------------------------------ transfers

    async def _send_transfer(self, effect: SendTransfer) -> VenueEvent:
        ids: dict[str, Any] = {
            "account": self._account, "intent_id": effect.intent_id,
            "transfer_id": effect.transfer_id,
        }
        if not self._can.transfers:
            return TransferAnswer(**ids, **self._refused("capability", "no transfers in this mode"))
        body = {
            "transferId": effect.transfer_id, "coin": effect.coin, "amount": plain(effect.amount),
            "fromAccountType": _POCKETS[effect.source], "toAccountType": _POCKETS[effect.target],
        }
        try:
            answer = await self._venue.call("POST", "/v5/asset/transfer/inter-transfer", body)
            outcome = answer.result.one_of("status", _TRANSFER_OUTCOMES)
        except (VenueError, BadMessage) as error:
            return TransferAnswer(**ids, **self._failure(error, TRANSFER_DUPLICATE))
        return TransferAnswer(**ids, outcome=outcome, ts_seen_ms=answer.ts_seen_ms)

    async def _query_transfer(self, effect: QueryTransfer) -> VenueEvent:
        ids: dict[str, Any] = {
            "account": self._account, "intent_id": effect.intent_id,
            "transfer_id": effect.transfer_id,
        }
        path = "/v5/asset/transfer/query-inter-transfer-list"
        try:
            answer = await self._venue.get(path, {"transferId": effect.transfer_id})
            outcome = Outcome.ABSENT
            for row in answer.result.rows("list"):
                if row.text("transferId") == effect.transfer_id:
                    outcome = row.one_of("status", _TRANSFER_OUTCOMES)
        except (VenueError, BadMessage) as error:
            return TransferAnswer(**ids, **self._query_failure(error))
        return TransferAnswer(**ids, outcome=outcome, ts_seen_ms=answer.ts_seen_ms)

    # ------------------------------------------------------------ loan

    async def _send_loan_action(self, effect: SendLoanAction) -> VenueEvent:
        ids: dict[str, Any] = {"account": self._account, "intent_id": effect.intent_id}
        if not self._can.loans:
            return LoanAnswer(**ids, **self._refused("capability", "no loans in this mode"))
        request = loan_request(effect)
        if request is None:
            return LoanAnswer(**ids, **self._refused("kind", f"{effect.kind_of} is no loan action"))
        path, body, table = request
        sent_ms = self._clock.now_ms()
        try:
            answer = await self._venue.call("POST", path, body)
        except (VenueError, BadMessage) as error:
            return LoanAnswer(**ids, **self._failure(error, frozenset()))
        reference = answer.result.text_or(table.key) if table.key in answer.result else ""
        accepted = LoanAnswer(
            **ids, outcome=Outcome.ACCEPTED, reference=reference, ts_seen_ms=answer.ts_seen_ms
        )
        # The venue took it; the history says whether it is through already.
        try:
            found = await outcome_in_history(
                self._venue, table, effect, since_ms=sent_ms, reference=reference
            )
        except (VenueError, BadMessage):
            return accepted
        if found is None:
            return accepted
        outcome, known = found
        return LoanAnswer(
            **ids, outcome=outcome, reference=known, ts_seen_ms=self._clock.now_ms(),
            text="failed at the venue" if outcome is Outcome.REFUSED else "",
        )

    async def _query_loan_action(self, effect: QueryLoanAction) -> VenueEvent:
        ids: dict[str, Any] = {"account": self._account, "intent_id": effect.intent_id}
        table = BORROWINGS if effect.kind_of is TreasuryKind.BORROW else REPAYMENTS
        try:
            found = await outcome_in_history(
                self._venue, table, effect, since_ms=effect.since_ts_ms
            )
        except (VenueError, BadMessage) as error:
            return LoanAnswer(**ids, **self._query_failure(error))
        seen_ms = self._clock.now_ms()
        if found is None:
            return LoanAnswer(**ids, outcome=Outcome.ABSENT, ts_seen_ms=seen_ms)
        return LoanAnswer(**ids, outcome=found[0], reference=found[1], ts_seen_ms=seen_ms)

    def _seen(self, answer: Answer) -> Seen:
        return Seen(self._account, answer.ts_event_ms, answer.ts_seen_ms)
