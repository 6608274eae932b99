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
    after, last = assessed.state, assessed.state.published
    assert isinstance(after, OutlookMemory), "risk.step keeps the kind of its memory"
    if last is None:
        return Step(after, assessed.outputs, assessed.effects, assessed.hold)
    known, outputs = after.detailed, assessed.outputs
    if known is None:
        known = Detailed(now.now_ms, now.now_ms, None)
    elif last is not memory.published:
        known = _sooner(known, memory.published, last)
    if isinstance(message, Tick):
        after = _observed(after, tables, now.now_ms)
        if now.now_ms >= known.due_ms:
            outputs = (*outputs, _detail(after, tables, now.now_ms))
            known = Detailed(now.now_ms, now.now_ms + AT_LEAST_MS, _index_price(last))
    if known is not after.detailed:
        after = msgspec.structs.replace(after, detailed=known)
    hold = assessed.hold
    if hold.until_ms is None or hold.until_ms > known.due_ms:
        hold = Hold(hold.boxes, known.due_ms)
    return Step(after, outputs, assessed.effects, hold)


def _observed(memory: OutlookMemory, tables: Tables, now_ms: int) -> OutlookMemory:
    """With the price taken into the volatility, unless it is too old to tell how much it moves."""
    policy = tables.policy(memory.account)
    tick = tables.market(policy.hedge.instrument) if policy is not None else None
    if policy is None or tick is None:
        return memory
    if abs(now_ms - tick.ts_seen_ms) > policy.risk.market_age_max_ms:
        return memory
    seen = observe(memory.volatility, tick.index_price, now_ms)
    if seen is memory.volatility:
        return memory
    return msgspec.structs.replace(memory, volatility=seen)


def _index_price(published: risk.Published) -> Decimal | None:
    """The index that was last published, the hedge's first; None = none was known."""
    return published.prices[0][2] if published.prices else None


def _sooner(known: Detailed, last: risk.Published | None, fresh: risk.Published) -> Detailed:
    """When the next detail is due, now that something new was published."""
    earliest = known.ts_ms + AT_MOST_MS
    if known.due_ms <= earliest or not (
        _has_moved(known.index_price, _index_price(fresh)) or _has_changed(last, fresh)
    ):
        return known
    return Detailed(known.ts_ms, earliest, known.index_price)


def _has_changed(last: risk.Published | None, fresh: risk.Published) -> bool:
    return last is None or (
        fresh.state is not last.state
        or fresh.confidence is not last.confidence
        or fresh.policy_version != last.policy_version
        or fresh.quantities != last.quantities
    )


def _has_moved(last: Decimal | None, price: Decimal | None) -> bool:
    if last is None or price is None:
        return price is not last
    return abs(price - last) >= last * PRICE_STEP


def _detail(memory: OutlookMemory, tables: Tables, now_ms: int) -> Output:
    last = memory.published
    assert last is not None, "an account with a name has been published"
    scene = look(memory.view, tables.policy(memory.account), tables, now_ms)
    account = Account(
        memory.account, memory.view, scene, last.state, last.confidence, memory.volatility
    )
    return Output("risk_detail", memory.account, detail(account, now_ms))
