"""The control API (`/sim/...`): script, faults, accounts, and what an audit needs. Loopback only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from hedgelock.simulator import deeds, live_feed, loans
from hedgelock.simulator.fault_kinds import KINDS, Fault
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.request import Reply, Request
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import Account, Exchange, Row
from hedgelock.simulator.tables import AccountTable, DeedTable, TermsTable
from hedgelock.simulator.venue import Venue

if TYPE_CHECKING:
    from hedgelock.simulator.gateway import Gateway

SPEED_MAX = 1000.0
LOOPBACK = frozenset({"127.0.0.1", "::1"})
CENT = Decimal("0.000001")


class Told(NamedTuple):
    """A control request: its query, its body and the time."""

    query: Mapping[str, str]
    body: bytes
    now_ms: int


def answer(gateway: Gateway, request: Request, now_ms: int) -> Reply:
    """Serve a control request; 400 with what is wrong, 404 with the routes there are."""
    path, _, query = request.target.partition("?")
    if path == "/healthz":
        return _json({"status": "ok", "scenario": gateway.venue.exchange.scenario.name})
    if gateway.local_only and request.address not in LOOPBACK:
        return _json({"error": "loopback only"}, status=403)
    route = ROUTES.get((request.method, path))
    if route is None:
        known = [f"{method} {path}" for method, path in ROUTES]
        return _json({"error": f"no such control route: {', '.join(known)}"}, status=404)
    told = Told({k: v[-1] for k, v in parse_qs(query).items()}, request.body, now_ms)
    try:
        return _json(route(gateway, told))
    except LookupError as error:
        return _json({"error": str(error.args[0])}, status=404)
    except (ValueError, msgspec.DecodeError) as error:
        return _json({"error": str(error)}, status=400)


def _json(body: Row, *, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _start(gateway: Gateway, told: Told) -> Row:
    gateway.venue.start(told.now_ms)
    return state(gateway.venue)


def _state(gateway: Gateway, told: Told) -> Row:
    gateway.venue.advance(told.now_ms)
    return state(gateway.venue)


def _speed(gateway: Gateway, told: Told) -> Row:
    """Play faster or slower from here on; the script goes on where it is."""
    speed = msgspec.json.decode(told.body, type=dict[str, float]).get("speed", 0.0)
    if not 0 < speed <= SPEED_MAX:
        raise ValueError(f"speed {speed} is not in (0, {SPEED_MAX}]")
    gateway.venue.advance(told.now_ms)
    gateway.venue.exchange.market.play_at(speed, told.now_ms)
    return state(gateway.venue)


def _account(gateway: Gateway, name: str) -> Account:
    account = gateway.venue.exchange.accounts.get(name)
    if account is None:
        raise LookupError(f"no account {name!r}")
    return account


def _orders(gateway: Gateway, told: Told) -> Row:
    account = _account(gateway, told.query.get("account", ""))
    rows = [order_row(o, pushed=True) | {"received_ns": o.received_ns} for o in account.orders]
    return {"account": account.name, "orders": rows}


def _ticks(gateway: Gateway, told: Told) -> Row:
    return {"ticks": list(gateway.ticks)}


def _requests(gateway: Gateway, told: Told) -> Row:
    name = told.query.get("account")
    rows = [
        {**row._asdict(), "params": dict(row.params), "link": row.link}
        for row in gateway.record.served
        if name in {None, row.account}
    ]
    return {"requests": rows}


def _faults(gateway: Gateway, told: Told) -> Row:
    return {"faults": gateway.faults.listing(), "seed": gateway.faults.seed}


def _kinds(gateway: Gateway, told: Told) -> Row:
    return {"kinds": {name: {"stage": k.stage.value, "doc": k.doc} for name, k in KINDS.items()}}


def _add_fault(gateway: Gateway, told: Told) -> Row:
    """Plan a fault. `for_s` beside its fields: from now on, so many script seconds."""
    given = msgspec.json.decode(told.body, type=dict[str, Any])
    for_s = given.pop("for_s", None)
    if for_s is not None:
        now_s = gateway.script_s()
        given |= {"from_s": now_s, "until_s": now_s + msgspec.convert(for_s, float)}
    return {"id": gateway.faults.add(msgspec.convert(given, Fault))}


def _drop_faults(gateway: Gateway, told: Told) -> Row:
    number = told.query.get("id")
    if number is None:
        gateway.faults.clear()
    elif not number.isdigit() or not gateway.faults.remove(int(number)):
        raise LookupError(f"no fault {number}")
    return _faults(gateway, told)


def _add_deed(gateway: Gateway, told: Told) -> Row:
    """Put a deed on the agenda; `at_s` absent = now."""
    given = {"at_s": gateway.script_s()} | msgspec.json.decode(told.body, type=dict[str, Any])
    deed = msgspec.convert(given, DeedTable).deed()
    gateway.venue.agenda.add(deed)
    return {"at_s": deed.at_s, "kind": deed.kind}


def _deed_kinds(gateway: Gateway, told: Told) -> Row:
    return {
        "kinds": {
            name: {"says": kind.says, "needs": kind.needs, "ends": kind.ends}
            for name, kind in deeds.KINDS.items()
        }
    }


def _add_account(gateway: Gateway, told: Told) -> Row:
    setup = msgspec.json.decode(told.body, type=AccountTable).setup()
    x = gateway.venue.exchange
    if setup.key in x.by_key:
        raise ValueError(f"there is an account {setup.key!r} already")
    return {"name": x.add_account(setup).name, "secret": setup.secret}


def _set_terms(gateway: Gateway, told: Told) -> Row:
    """Change what a key may do: `key` and the fields of its terms that change."""
    change = msgspec.json.decode(told.body, type=TermsTable)
    account = _account(gateway, change.key)
    account.terms = change.terms(account.terms)
    return {"name": account.name, "terms": msgspec.to_builtins(account.terms)}


def _wanted(gateway: Gateway, told: Told) -> Row:
    """Which contracts want prices from a real market; 400 for one that plays a script."""
    market = gateway.venue.exchange.market
    if not market.is_live:
        raise ValueError("this market plays a script; serve it live to feed it")
    return {"contracts": list(market.contracts)}


def _feed(gateway: Gateway, told: Told) -> Row:
    """A real market's prices, all or none of them taken."""
    market = gateway.venue.exchange.market
    _wanted(gateway, told)
    rows = live_feed.parse(told.body, market.contracts)
    gateway.venue.feed(rows, told.now_ms)
    return {"fed": len(rows), "waiting": market.started_ms is None}


Route = Callable[["Gateway", Told], Row]
ROUTES: dict[tuple[str, str], Route] = {
    ("POST", "/sim/start"): _start,
    ("POST", "/sim/speed"): _speed,
    ("GET", "/sim/state"): _state,
    ("GET", "/sim/orders"): _orders,
    ("GET", "/sim/ticks"): _ticks,
    ("GET", "/sim/feed"): _wanted,
    ("POST", "/sim/feed"): _feed,
    ("GET", "/sim/requests"): _requests,
    ("GET", "/sim/faults"): _faults,
    ("POST", "/sim/faults"): _add_fault,
    ("DELETE", "/sim/faults"): _drop_faults,
    ("GET", "/sim/faults/kinds"): _kinds,
    ("POST", "/sim/deeds"): _add_deed,
    ("GET", "/sim/deeds/kinds"): _deed_kinds,
    ("POST", "/sim/accounts"): _add_account,
    ("POST", "/sim/accounts/terms"): _set_terms,
}


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
        "funding_rate": {base: text(rate) for base, rate in market.rates(x.now_ms).items()},
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
        "orders": account.orders.total,
        "open_orders": len(account.open_orders),
        "fills": account.fills,
        "fees_usd": text(account.fees_usd.quantize(CENT)),
        "repayments": len(account.repayments),
        "borrows": len(account.borrows),
        "transfers": len(account.transfers),
    }  # fmt: skip
