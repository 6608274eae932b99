"""Order entry over the trade socket: one message in, its acknowledgement out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hedgelock.simulator import auth
from hedgelock.simulator.limits import Allowance
from hedgelock.simulator.state import Account, Refused, Row
from hedgelock.simulator.venue import Venue

PATHS = {
    f"order.{verb}": f"/v5/order/{verb}"
    for verb in ("create", "amend", "cancel", "create-batch", "amend-batch", "cancel-batch")
}
REQUEST_IDS_MAX = 100_000  # remembered per connection


@dataclass(slots=True)
class EntrySession:
    """What one connection must remember: the request ids it has used."""

    venue: Venue
    seen: set[str] = field(default_factory=set)

    def enter(self, account: Account | None, message: Row, *, now_ms: int) -> Row:
        """Execute an order message and return its acknowledgement without `connId`."""
        received_ns = time.perf_counter_ns()
        request_id, op = message.get("reqId"), message["op"]
        body: Row = {"retCode": 0, "retMsg": "OK", "op": op, "data": {}, "retExtInfo": {}}
        if request_id is not None:
            body["reqId"] = request_id
        try:
            order = self._checked(account, message, request_id, now_ms=now_ms)
            reply = self.venue.request(
                "POST", PATHS[op], order, account=account.name if account else None,
                now_ms=now_ms, received_ns=received_ns,
            )  # fmt: skip
        except Refused as refusal:
            body |= {"retCode": refusal.code, "retMsg": refusal.message}
            body["header"] = self._header(Allowance(10, 9, now_ms), now_ms)
            return body
        body |= {
            "retCode": reply.code, "retMsg": reply.message, "data": reply.result,
            "retExtInfo": reply.ext, "header": self._header(reply.allowance, now_ms),
        }  # fmt: skip
        return body

    def _checked(
        self, account: Account | None, message: Row, request_id: Any, *, now_ms: int
    ) -> Row:
        if account is None:
            raise Refused(10003, "Not authorized")
        if message["op"] not in PATHS:
            raise Refused(10404, "op type is not found or category is not correct")
        if request_id is not None:
            if not isinstance(request_id, str) or len(request_id) > 36:
                raise Refused(10001, "reqId invalid")
            if request_id in self.seen:
                raise Refused(20006, "reqId is duplicated")
            if len(self.seen) >= REQUEST_IDS_MAX:
                self.seen.clear()
            self.seen.add(request_id)
        header, args = message.get("header"), message.get("args")
        if not isinstance(header, dict) or not isinstance(args, list) or len(args) != 1:
            raise Refused(10001, "Params error")
        window = str(header.get("X-BAPI-RECV-WINDOW", auth.RECV_WINDOW_DEFAULT))
        auth.check_time(str(header.get("X-BAPI-TIMESTAMP", "")), window, now_ms=now_ms)
        if not isinstance(args[0], dict):
            raise Refused(10001, "Params error")
        return args[0]

    @staticmethod
    def _header(allowance: Allowance, now_ms: int) -> Row:
        return {
            "X-Bapi-Limit": str(allowance.limit), "X-Bapi-Limit-Status": str(allowance.left),
            "X-Bapi-Limit-Reset-Timestamp": str(allowance.reset_ms),
            "Traceid": f"{now_ms:032x}", "Timenow": str(now_ms),
        }  # fmt: skip
