"""The risk-engine's step: the assessment first, and what stands behind it when the clock ticks.

A detail (`RiskDetail`) is published on a `Tick` alone, never with the assessment of a price, so that
no order waits for it: at the earliest a second after the last one when state, confidence, policy or
a quantity of the account changed or the index moved .25 %, at the latest a minute after it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from hedgelock.domain import risk
from hedgelock.domain.message import Tick
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk_detail import Detailed, OutlookMemory
from hedgelock.domain.scene import look
from hedgelock.domain.step import Hold, Now, Output, Step, Tables
from hedgelock.domain.volatility import observe
from hedgelock.forecast.risk_detail import Account, detail

AT_MOST_MS: Final = 1_000
AT_LEAST_MS: Final = 60_000
PRICE_STEP: Final = Decimal("0.0025")
"""A detail is due again once the index moved this fraction."""


def initial(account: str) -> OutlookMemory:
    """The memory of an account nothing is known of."""
    return OutlookMemory(account=account)


def step(
    memory: OutlookMemory, tables: Tables, message: object, now: Now
) -> Step[OutlookMemory]:
    """`risk.step`, and on a Tick the detail that is due; the hold ends no later than that."""
    assessed = risk.step(memory, tables, message, now)
    after = assessed.state
    assert isinstance(after, OutlookMemory), "risk.step keeps the kind of its memory"
    if not after.account or after.published is None:
        return Step(after, assessed.outputs, assessed.effects, assessed.hold)
    policy = tables.policy(after.account)
    price = _index_price(policy, tables, now.now_ms)
    after = _observed(after, price, now.now_ms)
    after = _due(memory, after, price, now.now_ms)
    outputs = assessed.outputs
    known = after.detailed
    assert known is not None, "a detail is due as soon as the account is known"
    if isinstance(message, Tick) and now.now_ms >= known.due_ms:
        outputs = (*outputs, _detail(after, policy, tables, now.now_ms))
        known = Detailed(now.now_ms, now.now_ms + AT_LEAST_MS, price)
        after = msgspec.structs.replace(after, detailed=known)
    until = assessed.hold.until_ms
    until = known.due_ms if until is None else min(until, known.due_ms)
    return Step(after, outputs, assessed.effects, Hold(assessed.hold.boxes, until))


def _index_price(policy: Policy | None, tables: Tables, now_ms: int) -> Decimal | None:
    """The hedged coin's price; None while it is too old to tell how much it moves."""
    if policy is None:
        return None
    tick = tables.market(policy.hedge.instrument)
    if tick is None or abs(now_ms - tick.ts_seen_ms) > policy.risk.market_age_max_ms:
        return None
    return tick.index_price


def _observed(memory: OutlookMemory, price: Decimal | None, now_ms: int) -> OutlookMemory:
    if price is None:
        return memory
    seen = observe(memory.volatility, price, now_ms)
    if seen is memory.volatility:
        return memory
    return msgspec.structs.replace(memory, volatility=seen)


def _due(
    before: OutlookMemory, after: OutlookMemory, price: Decimal | None, now_ms: int
) -> OutlookMemory:
    """When the next detail is due, given what this step changed."""
    known = after.detailed
    if known is None:
        return msgspec.structs.replace(after, detailed=Detailed(now_ms, now_ms, None))
    earliest = known.ts_ms + AT_MOST_MS
    if known.due_ms <= earliest or not (
        _has_changed(before.published, after.published) or _has_moved(known.index_price, price)
    ):
        return after
    return msgspec.structs.replace(after, detailed=msgspec.structs.replace(known, due_ms=earliest))


def _has_changed(last: risk.Published | None, fresh: risk.Published | None) -> bool:
    if last is None or fresh is None or fresh is last:
        return fresh is not last
    return (
        fresh.state is not last.state
        or fresh.confidence is not last.confidence
        or fresh.policy_version != last.policy_version
        or fresh.quantities != last.quantities
    )


def _has_moved(last: Decimal | None, price: Decimal | None) -> bool:
    if last is None or price is None:
        return price is not last
    return abs(price - last) >= last * PRICE_STEP


def _detail(
    memory: OutlookMemory, policy: Policy | None, tables: Tables, now_ms: int
) -> Output:
    last = memory.published
    assert last is not None, "an account with a name has been published"
    scene = look(memory.view, policy, tables, now_ms)
    account = Account(
        memory.account, memory.view, scene, last.state, last.confidence, memory.volatility
    )
    return Output("risk_detail", memory.account, detail(account, now_ms))
