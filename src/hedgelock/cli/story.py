"""The chain behind a decision as a tree in words: what was seen, what it meant, what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec
from rich.markup import escape
from rich.tree import Tree

from hedgelock.bus import codec
from hedgelock.cli import outlook, words
from hedgelock.domain.command import OperatorCommand
from hedgelock.domain.funding import FundingContext, FundingRate
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import CancelOrders, OrderConfirmation, PlaceOrder
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.risk_detail import RiskDetail
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus
from hedgelock.services.explain import Link, explain

_CONFIRMATIONS = (OrderConfirmation, TreasuryConfirmation)
_INTENTS = (PlaceOrder, TreasuryAction, CancelOrders)
_RULES = (Policy, SafetyState, OperatorCommand)
_STATES = (MarketTick, FundingContext, FundingRate, RiskAssessment, RiskDetail, Policy, SafetyState)
"""Kinds of which the newest replaces all before."""

_BPS = 10_000


class _Said(msgspec.Struct):
    """When an envelope was made."""

    ts_ms: int


_when_said = msgspec.json.Decoder(_Said)


def chain(bus: Bus, ident: str) -> list[Link]:
    """Everything around `ident`: of an intent also the decision it came from, and what that saw.

    A decision that a balance or a fill triggered names no assessment among its causes; it used the
    latest one it knew, and says which.
    """
    decision, _, number = ident.rpartition(".")
    links = explain(bus, ident)
    if number.isdecimal():
        links = _joined(links, explain(bus, decision))
    assessed = {x.envelope.body.assessed_ts_ms for x in links
                if isinstance(x.envelope.body, RiskAssessment)}
    for link in list(links):
        body = link.envelope.body
        if isinstance(body, HedgeDecision) and body.risk_assessed_ts_ms not in (None, *assessed):
            used = _assessment(bus, body)
            links = _joined(links, explain(bus, used) if used else [])
    return _joined(links, _detail(bus, links))


def _joined(links: list[Link], more: list[Link]) -> list[Link]:
    known = {link.envelope.id for link in links}
    return [*links, *(link for link in more if link.envelope.id not in known)]


def _assessment(bus: Bus, decision: HedgeDecision) -> str:
    """Id of the assessment that a decision used; "" when it is no longer kept."""
    needle = str(decision.risk_assessed_ts_ms).encode()
    for record in bus.read("risk_state"):
        if record.key != decision.account or needle not in record.value:
            continue
        try:
            envelope = codec.decode(record.value, "risk_state")
        except BadMessage:
            continue  # in quarantine with its reason
        if envelope.body.assessed_ts_ms == decision.risk_assessed_ts_ms:
            return envelope.id
    return ""


def _detail(bus: Bus, links: Sequence[Link]) -> list[Link]:
    """The newest detail of the account that was published before the chain's last assessment."""
    assessed = [x.envelope for x in links if isinstance(x.envelope.body, RiskAssessment)]
    if not assessed:
        return []
    last = max(assessed, key=lambda envelope: envelope.ts_ms)
    newest = b""
    for record in bus.read("risk_detail"):
        if record.key != last.body.account:
            continue
        try:
            # Many are passed by: only their time is read, and of the last one everything.
            if _when_said.decode(record.value).ts_ms > last.ts_ms:
                break
        except msgspec.DecodeError:
            continue  # in quarantine with its reason
        newest = record.value
    try:
        return [Link(topic="risk_detail", envelope=codec.decode(newest, "risk_detail"))]
    except BadMessage:
        return []


def tell(ident: str, links: Sequence[Link]) -> Tree:
    """The tree around `ident`; `links` is not empty and sorted as things happened."""
    links = _newest(links)
    start_ms = _start_ms(links)
    tree = Tree(f"[bold]{escape(ident)}[/]  [dim]times are UTC, + is after the price that led "
                f"to it ({words.moment(start_ms)})[/]")
    for title, members in _chapters(links):
        if members:
            chapter = tree.add(f"[bold]{title}[/]")
            for link in members:
                _add(chapter, link, start_ms, links)
    return tree


def _chapters(links: Sequence[Link]) -> Iterator[tuple[str, list[Link]]]:
    def of(*kinds: type[Message]) -> list[Link]:
        return [link for link in links if isinstance(link.envelope.body, kinds)]

    named = (MarketTick, FundingContext, FundingRate, RiskAssessment, RiskDetail, *_RULES, *_INTENTS,
             *_CONFIRMATIONS)
    rest = [link for link in links if not isinstance(link.envelope.body, named)]
    decisions = [link for link in rest if link.topic == "hedge_decisions"]
    yield "1. the price it saw", of(MarketTick)
    yield "2. funding", of(FundingContext, FundingRate)
    yield "3. the account", [link for link in rest if link not in decisions]
    yield "4. rules in force", of(*_RULES)
    yield "5. risk", of(RiskAssessment, RiskDetail)
    yield "6. the decision", decisions
    yield "7. what was ordered", of(*_INTENTS)
    yield "8. what came of it", _last_words(of(*_CONFIRMATIONS))


def _newest(links: Sequence[Link]) -> list[Link]:
    """Of prices, rates, assessments and rules only the newest of each subject: the one that counted.

    Those behind them led to them, not to this; --json has them.
    """
    latest: dict[tuple[str, str], Link] = {}
    for link in links:
        body = link.envelope.body
        if isinstance(body, _STATES):
            subject = getattr(body, "instrument", "") or getattr(body, "account", "")
            known = latest.get((type(body).__name__, subject))
            if known is None or link.envelope.ts_ms >= known.envelope.ts_ms:
                latest[type(body).__name__, subject] = link
    kept = {link.envelope.id for link in latest.values()}
    return [link for link in links
            if not isinstance(link.envelope.body, _STATES) or link.envelope.id in kept]


def _last_words(links: list[Link]) -> list[Link]:
    """The latest confirmation of each intent: it replaces all before."""
    latest: dict[str, Link] = {}
    for link in links:
        intent = link.envelope.body.intent_id
        known = latest.get(intent)
        if known is None or link.envelope.body.revision >= known.envelope.body.revision:
            latest[intent] = link
    return list(latest.values())


def _start_ms(links: Sequence[Link]) -> int:
    """The exchange's time of the newest price in the chain; the first message where there is none."""
    ticks = [x.envelope.body.ts_event_ms for x in links if isinstance(x.envelope.body, MarketTick)]
    return max(ticks) if ticks else min(link.envelope.ts_ms for link in links)


def _when(ts_ms: int, start_ms: int) -> str:
    delta = ts_ms - start_ms
    return f"{words.clock(ts_ms)} ({'+' if delta >= 0 else '−'}{words.duration(abs(delta))})"


def _add(chapter: Tree, link: Link, start_ms: int, links: Sequence[Link]) -> None:
    body = link.envelope.body
    at = body.ts_event_ms if isinstance(body, MarketTick) else link.envelope.ts_ms
    branch = chapter.add(f"[dim]{_when(at, start_ms)}[/]  {escape(words.headline(body))}")
    for line in details(body, links, start_ms):
        branch.add(escape(line))
    branch.add(f"[dim]id {escape(link.envelope.id)}[/]")


def details(body: Message, links: Sequence[Link], start_ms: int) -> Iterator[str]:
    """The numbers and reasons behind a message, line by line."""
    match body:
        case MarketTick():
            yield (f"reached HedgeLock {words.duration(body.ts_seen_ms - body.ts_event_ms)} after "
                   "the exchange sent it")
        case FundingContext():
            yield f"why: {words.reason(body.reason)}"
            yield (f"discretionary size × {words.plain(body.multiplier_short)} for shorts, × "
                   f"{words.plain(body.multiplier_long)} for longs; protective size is never scaled")
        case RiskAssessment() | RiskDetail():
            yield from _risk(body)
        case SafetyState():
            yield f"since {words.moment(body.since_ts_ms)}"
        case Policy():
            hedge = body.hedge
            yield (f"{hedge.strategy.value}: outlive a fall of {words.percent(hedge.stress_fall, 0)} "
                   f"below LTV {words.percent(hedge.ltv_max, 0)}; harvest at "
                   f"{words.percent(hedge.harvest_at, 0)}, refill below "
                   f"{words.percent(hedge.refill_below, 0)}")
        case PlaceOrder():
            yield f"why: {words.reason(body.reason)}"
            yield (f"{'protective' if body.protective else 'discretionary'}; decided at mark "
                   f"{words.money(body.mark_price, 2)}, worst accepted "
                   f"{words.percent(body.slippage_max, 2)} away; void "
                   f"{words.duration(body.expires_ts_ms - body.decided_ts_ms)} later")
        case TreasuryAction():
            yield f"why: {words.reason(body.reason)}"
            yield f"debt then: {words.money(body.debt_before, 2)} {body.coin}"
        case OrderConfirmation():
            yield from _fills(body, links, start_ms)
        case TreasuryConfirmation():
            yield (f"arrived in the other pocket: {words.money(body.moved_amount, 2)} {body.coin}; "
                   f"repaid or borrowed: {words.money(body.loan_amount, 2)} {body.coin}")
            if body.text:
                yield f"the exchange said: {body.text}"
        case HedgeDecision():
            yield from _decision(body)
        case _:
            yield from _numbers(body)


def _risk(body: RiskAssessment | RiskDetail) -> Iterator[str]:
    if isinstance(body, RiskDetail):
        yield from outlook.lines(body)
        return
    yield f"why {body.state.name}: {words.reason(body.reason)}"
    yield (f"debt {words.money(body.debt_value, 2)} ÷ counted collateral "
           f"{words.money(body.counted_value, 2)} = LTV {words.percent(body.ltv, 2)}; the exchange "
           f"last said {words.percent(body.ltv_exchange, 2)}")
    yield (f"after the policy's fall, hedge counted: LTV {words.percent(body.ltv_net_fall, 2)}; "
           f"trading pocket's margin in use: now {words.percent(body.margin_ratio, 1)}, after the "
           f"policy's rally {words.percent(body.margin_ratio_rise, 1)} (100 % liquidates)")
    yield f"net exposure: {words.coins(body.net_delta)} coins (+ gains when the price rises)"
    ages = ", ".join(
        f"{i.name} {'never seen' if i.age_ms is None else words.duration(i.age_ms)} "
        f"(limit {words.duration(i.age_max_ms)})" for i in body.inputs
    )
    yield f"inputs {body.confidence.name}: {ages or 'none listed'}"


def _fills(body: OrderConfirmation, links: Sequence[Link], start_ms: int) -> Iterator[str]:
    placed = [x.envelope.body for x in links if isinstance(x.envelope.body, PlaceOrder)]
    mark = next((p.mark_price for p in placed if p.intent_id == body.intent_id), None)
    for fill in body.fills:
        said = (f"{_when(fill.ts_ms, start_ms)} filled {words.plain(fill.qty)} at "
                f"{words.money(fill.price, 2)}, fee {words.plain(fill.fee)} {fill.fee_coin}")
        if mark:
            worse = (fill.price / mark - 1) * fill.side.sign * _BPS
            said += f", {abs(worse):.1f} bps {'worse' if worse > 0 else 'better'} than the mark"
        if fill.pnl:
            said += f", realised {fill.pnl:+,.2f}"
        yield said
    yield f"at the exchange: {body.client_order_id} (ours), {body.venue_order_id or '–'} (theirs)"
    if body.text:
        yield f"the exchange said: {body.text}"


def _decision(body: HedgeDecision) -> Iterator[str]:
    """Why, and the numbers of it; hedge in coins short, money in USDT."""
    yield f"why: {words.reason(body.reason)}"
    if body.target is None:
        return
    yield (f"hedge: held {words.coins(body.held)}, under way {words.coins(body.in_flight)}, wanted "
           f"{words.coins(body.target)}; the pocket's margin allows {words.coins(body.h_cap)}")
    yield (f"debt {words.money(body.debt, 2)}, counted collateral "
           f"{words.money(body.counted_value, 2)}, trading pocket {words.money(body.equity, 2)}, "
           f"funding wallet {words.money(body.fund, 2)}")
    yield (f"LTV {words.percent(body.ltv, 2)}; after the policy's fall with the hedge held "
           f"{words.percent(body.ltv_net_fall, 2)}")
    if body.repay_wanted:
        yield f"repayment wanted: {words.money(body.repay_wanted, 2)}"
    if body.multiplier is None:
        yield "funding is not known now: discretionary size stays as it is"
    if body.is_settled is False:
        yield "balances not settled: last settled values plus known effects"


def _numbers(body: Message) -> Iterator[str]:
    """A fact's reason and its numbers by name."""
    why = getattr(body, "reason", None)
    if why is not None:
        yield f"why: {words.reason(why)}"
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if isinstance(value, Decimal):
            yield f"{name.replace('_', ' ')}: {words.plain(round(value, 8))}"
