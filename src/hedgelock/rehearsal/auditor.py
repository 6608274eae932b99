"""The audit at the end of a rehearsal: the log against the exchange, to the last digit."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NamedTuple, TypeVar

import msgspec

from hedgelock import app
from hedgelock.bus import codec
from hedgelock.bus.memory import MemoryBus
from hedgelock.domain.account import AccountView
from hedgelock.domain.execution_fold import NOT_FILLS
from hedgelock.domain.execution_memory import ExecutionMemory, OrderIntent
from hedgelock.domain.hedge_memory import HedgeMemory
from hedgelock.domain.hedge_scene import situation
from hedgelock.domain.hedging import HedgeDecision, PositionDiffers
from hedgelock.domain.instrument import symbol_of
from hedgelock.domain.message import Message
from hedgelock.domain.order import ForeignFill, OrderStatus, Side
from hedgelock.domain.risk import Confidence, RiskAssessment, RiskState
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import HedgeReason
from hedgelock.domain.sizing import decide
from hedgelock.domain.step import Now
from hedgelock.rehearsal.books import (
    Books,
    audit_executions,
    audit_orders,
    audit_treasury,
    read_books,
)
from hedgelock.rehearsal.world import EPOCH_MS, World
from hedgelock.services.journal import replay
from hedgelock.services.tables import TableReader, TableRow
from hedgelock.simulator import loans
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.rows import order_row
from hedgelock.topics import partition_of

S = TypeVar("S")
ACCOUNT = "main"
_FORCED = 2
"""repayType of a liquidation."""


class Rule(enum.Enum):
    """What an audit asks."""

    ORDERS = "no duplicate, strange or unended order"
    EXECUTIONS = "every fill in the books, once"
    TREASURY = "every repayment, borrowing and transfer in the books, once"
    BALANCES = "our view equals the exchange's accounts"
    NOTICED = "what others did to the position is told, once, as not ours"
    LEDGER = "every line of the transaction log was published"
    SETTLED = "nothing is under way or in doubt"
    ON_TARGET = "the hedge is on target"
    RISK = "the risk state is that of the exchange's LTV"
    ALIVE = "not liquidated"
    RUNNING = "the engine runs"
    RESTING = "no order rests"
    REPLAY = "the journal replays to the same states"


class Finding(NamedTuple):
    """A rule that does not hold, and how."""

    rule: Rule
    text: str


class _Stored(msgspec.Struct):
    seq: int
    state: msgspec.Raw


def state_of(world: World, service: str, kind: type[S]) -> S | None:
    """A service's committed state of the account."""
    values = world.log.states.get((service, partition_of(ACCOUNT)), {})
    raw = values.get(ACCOUNT)
    if raw is None:
        return None
    return msgspec.json.decode(msgspec.json.decode(raw, type=_Stored).state, type=kind)


def audit(world: World, rules: Iterable[Rule] = tuple(Rule)) -> list[Finding]:
    """What is wrong by these rules; [] = the books are right and the system came to rest."""
    books = read_books(world.lives[-1].bus)
    return [Finding(rule, text) for rule in rules for text in _CHECKS[rule](world, books)]


# ---------------------------------------------------------------- what happened


BLIND_S = 5.0
BEFORE_S = 25.0


def is_excused(world: World) -> bool:
    """Liquidated, but hindered for at least `BLIND_S` of the `BEFORE_S` before: by faults or dead.

    A script falls in seconds as far as a market does in hours: whoever neither sees nor reaches
    the exchange for a quarter of its fall cannot always save the account.
    """
    account = world.account()
    at_ms = account.loan_liquidated_ms or account.margin_liquidated_ms
    if not at_ms:
        return False
    end_s = (at_ms - EPOCH_MS) / 1e3
    spans = [(fault.from_s, fault.until_s) for fault in world.faults]
    killed_s = [ms / 1e3 for ms, kind, _ in world.trace if kind == "kill"]
    booted_s = [ms / 1e3 for ms, kind, _ in world.trace if kind == "boot"][1:]
    spans += zip(killed_s, [*booted_s, end_s], strict=False)
    hindered_s = sum(
        max(0.0, min(until_s, end_s) - max(from_s, end_s - BEFORE_S)) for from_s, until_s in spans
    )
    return bool(hindered_s >= BLIND_S)


def _alive(world: World, _books: Books) -> Iterable[str]:
    account = world.account()
    if is_excused(world):
        return
    if account.loan_liquidated_ms:
        yield f"the loan was liquidated; LTV reached {account.ltv_max:.4f}"
    if account.margin_liquidated_ms:
        yield "the unified account was liquidated"


def _running(world: World, _books: Books) -> Iterable[str]:
    life = world.lives[-1]
    if world.died.is_set() or not life.task.done():
        return
    error = life.task.exception()
    yield f"engine {life.number} ended by itself: {error!r}"


def _orders(world: World, books: Books) -> Iterable[str]:
    return audit_orders(books, [order_row(o, pushed=True) for o in world.account().orders])


def _executions(world: World, books: Books) -> Iterable[str]:
    return audit_executions(books, world.account().executions)


def _noticed(world: World, _books: Books) -> Iterable[str]:
    """Executions of others: each told at most once, and their sum found in the position, to the lot.

    A stream that is down tells nothing; the position that is read does.
    """
    bus = world.lives[-1].bus
    told = Counter(
        body.fill.exec_id for body in _bodies(bus, "trade_confirmations")
        if isinstance(body, ForeignFill)
    )
    by_others = {
        row["execId"]: row for row in world.account().executions
        if not row["orderLinkId"] and row["execType"] not in NOT_FILLS
    }
    yield from (f"execution {i} was told {n} times" for i, n in told.items() if n > 1)
    yield from (f"execution {i} of others is not at the exchange" for i in told if i not in by_others)
    found, known_ms = ZERO, None
    for body in _bodies(bus, "hedge_decisions"):
        if isinstance(body, PositionDiffers):
            found += body.found_qty - body.expected_qty
        elif isinstance(body, HedgeDecision) and known_ms is None and body.is_settled:
            known_ms = body.decided_ts_ms
    hedge = symbol_of(world.settings.policy(ACCOUNT).hedge.instrument)
    moved = sum((
        Decimal(row["execQty"]) * Side(row["side"].lower()).sign for row in by_others.values()
        if row["category"] == "linear" and row["symbol"] == hedge
        and known_ms is not None and int(row["execTime"]) > known_ms
    ), ZERO)
    if moved != found:
        yield f"others moved the position by {moved}, we found {found}"


def _bodies(bus: MemoryBus, topic: str) -> Iterable[Message]:
    return (codec.decode(record.value).body for record in bus.read(topic))


def _treasury(world: World, books: Books) -> Iterable[str]:
    account, by_hand = world.account(), world.venue.agenda.by_hand
    return audit_treasury(
        books,
        [Decimal(r["repayAmount"]) for r in account.repayments
         if r["repayType"] != _FORCED and r["repayId"] not in by_hand],
        [Decimal(r["initialLoanAmount"]) for r in account.borrows],
        [Decimal(r["amount"]) for name, r in account.transfers.items()
         if r["status"] == "SUCCESS" and name not in by_hand],
    )


def _ledger(world: World, _books: Books) -> Iterable[str]:
    published = {
        (body.line_id, body.coin)
        for record in world.lives[-1].bus.read("account_ledger")
        for body in (codec.decode(record.value).body,)
    }
    for row in world.account().log:
        if (row["id"], row["currency"]) not in published:
            yield f"line {row['id']} ({row['type']} {row['change']} {row['currency']}) is missing"


def _replay(world: World, _books: Books) -> Iterable[str]:
    bus = world.lives[-1].bus
    rows = {record.key: record.value for record in bus.read("step_rows")}
    result = replay((r.value for r in bus.read("steps")), rows, app.folded(world.settings))
    for difference in result.differences[:3]:
        yield f"{difference.service} step {difference.seq}: {difference.what}"
    if result.skipped:
        yield f"{result.skipped} steps could not be folded again"


# ---------------------------------------------------------------- how it stands


def rests_as_stop(order: OrderIntent) -> bool:
    """The protective stop: it stays at the exchange, known to be there, until it is moved."""
    is_known = bool(order.attempts) and order.attempts[-1].status is OrderStatus.NEW
    return order.intent.trigger_price is not None and is_known


def _settled(world: World, _books: Books) -> Iterable[str]:
    executor = state_of(world, "trade-executor", ExecutionMemory)
    hedger = state_of(world, "hedger", HedgeMemory)
    if executor is None or hedger is None:
        yield "executor or hedger has no state"
        return
    for order in executor.orders.values():
        if not order.is_terminal and not rests_as_stop(order):
            yield f"order intent {order.intent.intent_id} is open"
    for action in executor.actions.values():
        if not action.is_terminal:
            yield f"treasury intent {action.action.intent_id} is open"
    if executor.frozen:
        yield f"the executor opens nothing: {executor.frozen}"
    if hedger.orders or hedger.treasury:
        yield f"the hedger waits for {[o.intent_id for o in hedger.orders]} {hedger.treasury}"
    if hedger.mode in (SafetyMode.HALTED, SafetyMode.KILLED):
        yield f"safety says {hedger.mode.value}"
    for record in world.lives[-1].bus.read("quarantine"):
        body = codec.decode(record.value).body
        if body.moves_money:
            yield f"quarantined: {body.reason}"


def _resting(world: World, _books: Books) -> Iterable[str]:
    return [
        f"{order.side} {order.open_lots} lots of {order.contract.symbol} rest at the exchange"
        for order in world.account().open_orders.values() if not order.reduce_only
    ]


def _balances(world: World, _books: Books) -> Iterable[str]:
    hedger = state_of(world, "hedger", HedgeMemory)
    view = hedger.view if hedger is not None else AccountView()
    if view.wallet is None or view.fund is None or view.loan is None or view.positions is None:
        yield "the account was never read whole"
        return
    x, account = world.venue.exchange, world.account()
    seen = {
        "unified": {c.coin: c.wallet_qty for c in view.wallet.coins},
        "fund": {b.coin: b.qty for b in view.fund.balances},
        "collateral": {c.coin: c.qty for c in view.loan.collateral},
        "debt": {d.coin: d.qty for d in view.loan.debts},
        "position": {
            p.instrument.replace(":", "."): p.position_qty for p in view.positions.positions
        },
    }
    there = {
        "unified": x.ledger.coins(account.unified), "fund": x.ledger.coins(account.fund),
        "collateral": x.ledger.coins(account.pledged),
        "debt": {coin: debt.total for coin, debt in account.debts.items()},
        "position": {key: p.size for key, p in account.positions.items()},
    }
    for kind, held in there.items():
        for name in sorted({*held, *seen[kind]}):
            mine, theirs = seen[kind].get(name, ZERO), held.get(name, ZERO)
            if mine != theirs:
                yield f"{kind} {name}: we say {mine}, the exchange {theirs}"


def tables_of(world: World) -> TableReader:
    """Every table as the log ends now."""
    tables: dict[str, dict[str, TableRow]] = {}
    for topic in ("market_data", "instruments", "funding_context", "policies", "safety_state"):
        tables[topic] = {
            r.key: TableRow.of(r.value, topic) for r in world.lives[-1].bus.read(topic)
        }
    return TableReader(tables)


class Standing(NamedTuple):
    """The short at the exchange against what the policy wants now, coins."""

    held: Decimal
    target: Decimal
    h_cap: Decimal
    band: Decimal
    reason: HedgeReason
    is_settled: bool

    @property
    def is_on_target(self) -> bool:
        """Within the band; where margin binds, the policy stays half a band inside the cap."""
        least = min(self.target, self.h_cap - self.band / 2) - self.band
        return least <= self.held <= self.target + self.band

    def __str__(self) -> str:
        return f"short {self.held}, the policy wants {self.target:.4f} ({self.reason.value})"


def standing(world: World) -> Standing | HedgeReason:
    """How the hedge stands, or why no decision is possible."""
    hedger = state_of(world, "hedger", HedgeMemory)
    if hedger is None:
        return HedgeReason.NO_ASSESSMENT
    tables = tables_of(world)
    seen = situation(hedger, tables, Now(world.clock.now_ms(), "audit", world.log.log_id))
    if isinstance(seen, HedgeReason):
        return seen
    wanted = decide(seen)
    position = world.account().positions.get(seen.policy.instrument.replace(":", "."))
    held = -position.size if position is not None else ZERO
    band = seen.policy.no_trade_band + seen.instrument.lot_size
    return Standing(held, wanted.numbers.target, wanted.numbers.h_cap, band, wanted.reason,
                    seen.is_settled)


def _on_target(world: World, _books: Books) -> Iterable[str]:
    found = standing(world)
    if isinstance(found, HedgeReason):
        yield f"no decision is possible: {found.value}"
        return
    if not found.is_on_target:
        yield str(found)
    if not found.is_settled:
        yield "money has not settled"


def _risk(world: World, _books: Books) -> Iterable[str]:
    last: RiskAssessment | None = None
    for record in world.lives[-1].bus.read("risk_state"):
        last = codec.decode(record.value).body
    if last is None:
        yield "never assessed"
        return
    if last.confidence is not Confidence.FRESH:
        yield f"confidence is {last.confidence.value}"
    policy = world.settings.policy(ACCOUNT).risk
    truth = loans.ltv(world.venue.exchange, world.account())
    levels = (policy.ltv_caution, policy.ltv_danger, policy.ltv_critical)
    least = sum(truth >= level for level in levels)
    if tuple(RiskState).index(last.state) < least:
        yield f"we say {last.state.value}, the exchange's LTV is {truth:.4f}"


_CHECKS: dict[Rule, Callable[[World, Books], Iterable[str]]] = {
    Rule.ALIVE: _alive, Rule.RUNNING: _running, Rule.ORDERS: _orders, Rule.EXECUTIONS: _executions,
    Rule.TREASURY: _treasury, Rule.NOTICED: _noticed, Rule.SETTLED: _settled, Rule.RESTING: _resting,
    Rule.BALANCES: _balances, Rule.LEDGER: _ledger, Rule.ON_TARGET: _on_target,
    Rule.RISK: _risk, Rule.REPLAY: _replay,
}
