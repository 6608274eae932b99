"""The control API (`/sim/...`): starting the script, and what an audit needs. Loopback only."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from hedgelock.simulator import loans
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.request import Reply, Request
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import Account, Exchange, Row
from hedgelock.simulator.venue import Venue

if TYPE_CHECKING:
    from hedgelock.simulator.gateway import Gateway

LOOPBACK = frozenset({"127.0.0.1", "::1"})
CENT = Decimal("0.000001")


def answer(gateway: Gateway, request: Request, now_ms: int) -> Reply:
    """Serve a control request."""
    venue = gateway.venue
    path, _, query = request.target.partition("?")
    wanted = parse_qs(query)
    if path == "/healthz":
        return _json({"status": "ok", "scenario": venue.exchange.scenario.name})
    if gateway.local_only and request.address not in LOOPBACK:
        return _json({"error": "loopback only"}, status=403)
    if path == "/sim/start" and request.method == "POST":
        venue.start(now_ms)
        return _json(state(venue))
    if path == "/sim/state":
        venue.advance(now_ms)
        return _json(state(venue))
    if path == "/sim/orders":
        return _orders(venue, wanted.get("account", [""])[0])
    if path == "/sim/ticks":
        return _json({"ticks": list(gateway.ticks)})
    return _json({"error": "no such control route"}, status=404)


def _json(body: Row, *, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _orders(venue: Venue, name: str) -> Reply:
    account = venue.exchange.accounts.get(name)
    if account is None:
        return _json({"error": f"no account {name!r}"}, status=404)
    rows = [order_row(o, pushed=True) | {"received_ns": o.received_ns} for o in account.orders]
    return _json({"account": name, "orders": rows})


def state(venue: Venue) -> Row:
    """Script time and every account, money as text."""
    x = venue.exchange
    market = x.market
    return {
        "scenario": x.scenario.name,
        "seed": market.seed,
        "speed": market.speed,
        "waiting": market.started_ms is None,
        "finished": market.finished(x.now_ms),
        "script_s": market.script_ms(x.now_ms) / 1000,
        "duration_s": x.scenario.duration_s,
        "now_ms": x.now_ms,
        "started_ms": market.started_ms or 0,
        "next_settlement_ms": market.next_settlement_ms(x.now_ms),
        "tick": venue.streams.ticks,
        "index": {base: text(price) for base, price in market.index.items()},
        "funding_rate": {base: text(rate) for base, rate in market.rates.items()},
        "accounts": {name: account_state(x, a) for name, a in x.accounts.items()},
    }


def equity_usd(x: Exchange, account: Account) -> Decimal:
    """Loan collateral + FUND + unified with unrealised profit − debts, without haircut, in USD."""
    pockets = (account.pledged, account.fund)
    held = sum(
        (v * x.price(c) for pocket in pockets for c, v in x.ledger.coins(pocket).items()), ZERO
    )
    return held + x.report(account).equity - loans.debt_usd(x, account)


def account_state(x: Exchange, account: Account) -> Row:
    """One account as an auditor sees it."""
    report = x.report(account)
    return {
        "unified": {c: text(v) for c, v in x.ledger.coins(account.unified).items()},
        "fund": {c: text(v) for c, v in x.ledger.coins(account.fund).items()},
        "collateral": {c: text(v) for c, v in x.ledger.coins(account.pledged).items()},
        "debt": {c: text(d.total) for c, d in account.debts.items()},
        "positions": {
            key: {
                "size": text(p.size), "entry": text(p.average.quantize(CENT)), "seq": p.seq,
            }
            for key, p in sorted(account.positions.items())
        },
        "ltv": text(loans.ltv(x, account).quantize(CENT)),
        "ltv_max": text(account.ltv_max.quantize(CENT)),
        "equity_usd": text(equity_usd(x, account).quantize(CENT)),
        "unified_equity_usd": text(report.equity.quantize(CENT)),
        "unrealised_usd": text(report.upl.quantize(CENT)),
        "mm_rate": text(report.mm_rate.quantize(CENT)),
        "liquidated": bool(account.loan_liquidated_ms or account.margin_liquidated_ms),
        "loan_liquidated_ms": account.loan_liquidated_ms,
        "margin_liquidated_ms": account.margin_liquidated_ms,
        "orders": len(account.orders),
        "open_orders": len(account.open_orders),
        "fills": account.fills,
        "fees_usd": text(account.fees_usd.quantize(CENT)),
        "repayments": len(account.repayments),
        "borrows": len(account.borrows),
        "transfers": len(account.transfers),
    }  # fmt: skip
