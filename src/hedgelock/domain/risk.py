"""How near the cliffs are: LTV, margin, delta, today and after a stress, with reasons.

**States.** A ladder of latches (`hysteresis`): taken at once, given up only when LTV was below the
leaving line without a break for the whole dwell. With the house policy:

    state      taken at       given up when 300 s below     reason while LTV is between
    NORMAL     -              -                             WITHIN_LIMITS
    CAUTION    LTV ≥ .65      .63                           HELD_BY_HYSTERESIS, then HELD_BY_DWELL
    DANGER     LTV ≥ .80      .78                           likewise
    CRITICAL   LTV ≥ .90      .88                           likewise

Debt without counted collateral is CRITICAL at once (NO_COLLATERAL), whatever else is known; no debt
is LTV 0.

**Confidence.** What cannot be seen is never called safe, and never a reason to panic:

    FRESH    every input is there and young       the table above
    STALE    an input is old, or no funding yet   the state may rise by what is known, never fall;
                                                  an account never seen FRESH is at least CAUTION
    ABSENT   a fact, price, contract, ratio or    likewise, but an account never seen FRESH is
             the policy was never read            CRITICAL; figures may be None

Blind time does not count as dwell. Read `confidence` before `state`: a CRITICAL that is ABSENT means
"we do not know", and nothing may be done about it but to look.

**Publishing.** When state, confidence, reason, funding regime, policy or a quantity of the account
changed, LTV moved `publish_ltv_step` or a price `publish_price_step`, and every ten seconds at least.
`hold` is the region in which none of this can happen.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar, NamedTuple

import msgspec

from hedgelock.domain.account import (
    AccountView,
    FundRead,
    LoanRead,
    PositionChanged,
    PositionsRead,
    WalletRead,
    fold,
)
from hedgelock.domain.funding import FundingRegime
from hedgelock.domain.hysteresis import Latch, Rungs, advance, advance_blindly
from hedgelock.domain.margin import margin_ratio
from hedgelock.domain.message import Message, Value
from hedgelock.domain.money import ZERO, saturate
from hedgelock.domain.policy import RiskPolicy
from hedgelock.domain.region import EMPTY_BOX, Anchor, LtvLimits, price_boxes
from hedgelock.domain.scene import Scene, equity_value, look, ltv_net_fall, net_delta, next_turn
from hedgelock.domain.step import Hold, Now, Output, Step, Tables

HEARTBEAT_MS = 10_000
"""Publish at least this often, so that silence can be told from calm."""


class RiskState(enum.Enum):
    """Labels by LTV; the policy acts earlier."""

    NORMAL = "normal"
    CAUTION = "caution"
    DANGER = "danger"
    CRITICAL = "critical"


class Confidence(enum.Enum):
    """Whether the inputs can be trusted now."""

    FRESH = "fresh"
    STALE = "stale"
    """Something is older than allowed: protective actions only."""
    ABSENT = "absent"
    """Something was never read: no assessment of safety is possible."""


class RiskReason(enum.Enum):
    """Why the assessment says what it says."""

    WITHIN_LIMITS = "within_limits"
    LTV_ABOVE_CAUTION = "ltv_above_caution"
    LTV_ABOVE_DANGER = "ltv_above_danger"
    LTV_ABOVE_CRITICAL = "ltv_above_critical"
    HELD_BY_HYSTERESIS = "held_by_hysteresis"
    HELD_BY_DWELL = "held_by_dwell"
    NO_COLLATERAL = "no_collateral"
    INPUT_ABSENT = "input_absent"
    INPUT_STALE = "input_stale"


class InputAge(Value, frozen=True, kw_only=True):
    """How old an input was when it was used; `age_ms` None = never seen."""

    name: str
    age_ms: int | None
    age_max_ms: int


class RiskAssessment(Message, frozen=True, kw_only=True):
    """One account, re-marked at one moment. Money in USDT, fractions without suffix.

    `ltv` None = infinite (debt without collateral) or not computable (see `confidence`).
    `ltv_exchange` is the venue's own, as last read. `ltv_net_fall` is the net LTV after the policy's
    fall, hedge gain counted; `margin_ratio_rise` is accountMMRate after its rally (None = no equity
    is left: infinite). `collateral_value` is naive, for display; `counted_value` is V.
    `equity_value`: the whole account at the index, no haircut (None = something is not seen).
    """

    account: str
    policy_version: int
    state: RiskState
    confidence: Confidence
    reason: RiskReason
    ltv: Decimal | None
    ltv_exchange: Decimal | None
    ltv_net_fall: Decimal | None
    margin_ratio: Decimal | None
    margin_ratio_rise: Decimal | None
    margin_ratio_fall: Decimal | None
    debt_value: Decimal
    counted_value: Decimal
    collateral_value: Decimal
    net_delta: Decimal
    mark_price: Decimal | None
    index_price: Decimal | None
    funding_apr: Decimal | None
    inputs: tuple[InputAge, ...]
    since_ts_ms: int
    assessed_ts_ms: int
    market_ts_event_ms: int | None
    equity_value: Decimal | None = None

    non_negative: ClassVar = ("ltv", "counted_value", "debt_value")


# ---------------------------------------------------------------- memory


Quantities = tuple[tuple[str, Decimal, Decimal], ...]


class Published(msgspec.Struct, frozen=True):
    """What the last assessment was made of: whatever differs from it is worth publishing."""

    ts_ms: int
    policy_version: int
    state: RiskState
    confidence: Confidence
    reason: RiskReason
    regime: FundingRegime | None
    ltv: Decimal | None
    prices: Quantities
    """(instrument, mark, index)."""
    quantities: tuple[Quantities, ...]
    """Loan (coin, debt, counted), pocket (coin, wallet, counted), positions (…, qty, entry), FUND."""


class RiskMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the risk-engine remembers of one account. `account` "" = not yet known.

    `latch` is None until the first FRESH assessment; `state` is what was last said, since `since_ms`.
    """

    account: str = ""
    view: AccountView = AccountView()
    latch: Latch | None = None
    state: RiskState | None = None
    since_ms: int = 0
    published: Published | None = None


def initial(account: str) -> RiskMemory:
    """The memory of an account nothing is known of."""
    return RiskMemory(account=account)


_FACTS = (WalletRead, PositionsRead, PositionChanged, FundRead, LoanRead)
_STATES = tuple(RiskState)
_REASONS = (
    RiskReason.WITHIN_LIMITS, RiskReason.LTV_ABOVE_CAUTION, RiskReason.LTV_ABOVE_DANGER,
    RiskReason.LTV_ABOVE_CRITICAL,
)
_INFINITE = Decimal("Infinity")


# ---------------------------------------------------------------- judging


class _Verdict(NamedTuple):
    latch: Latch | None
    confidence: Confidence
    state: RiskState
    reason: RiskReason


def rungs_of(policy: RiskPolicy) -> Rungs:
    """The states' lines of LTV: rung 1 = CAUTION, 2 = DANGER, 3 = CRITICAL."""
    enter = (policy.ltv_caution, policy.ltv_danger, policy.ltv_critical)
    return Rungs(enter, tuple([line - policy.ltv_leave_below for line in enter]))


def confidence_in(scene: Scene) -> Confidence:
    """How far the inputs of `scene` can be trusted; funding alone is no reason not to see LTV."""
    if not scene.is_complete:
        return Confidence.ABSENT
    if scene.stale or scene.funding is None:
        return Confidence.STALE
    return Confidence.FRESH


def _judge(latch: Latch | None, scene: Scene, rungs: Rungs, now_ms: int) -> _Verdict:
    """The tables of the module's docstring."""
    confidence = confidence_in(scene)
    value = _INFINITE if scene.loan.is_uncovered else scene.ltv
    if confidence is Confidence.FRESH:
        assert value is not None, "a loan that is seen whole has an LTV"
        latch = advance(
            latch or Latch(), value, rungs=rungs, dwell_ms=scene.policy.risk.dwell_ms, now_ms=now_ms,
        )
        level = latch.level
    elif latch is not None:
        latch = advance_blindly(latch, value, rungs)
        level = latch.level
    elif confidence is Confidence.ABSENT or value is None:
        level = len(_STATES) - 1
    else:
        level = max(1, rungs.reached(value))
    if scene.loan.is_uncovered:
        reason = RiskReason.NO_COLLATERAL
    elif confidence is Confidence.ABSENT or value is None:
        reason = RiskReason.INPUT_ABSENT
    elif confidence is Confidence.STALE:
        reason = RiskReason.INPUT_STALE
    elif level == rungs.reached(value):
        reason = _REASONS[level]
    elif value < rungs.leave[level - 1]:
        reason = RiskReason.HELD_BY_DWELL
    else:
        reason = RiskReason.HELD_BY_HYSTERESIS
    return _Verdict(latch, confidence, _STATES[level], reason)


# ---------------------------------------------------------------- the step


def step(memory: RiskMemory, tables: Tables, message: object, now: Now) -> Step[RiskMemory]:
    """Take in an account fact (or look again: prices, tables, time) and publish what is new.

    Everything but the account's facts is read from the tables, so any other message means "look".
    """
    memory = _take_in(memory, message)
    if not memory.account:
        return Step(memory)
    scene = look(memory.view, tables.policy(memory.account), tables, now.now_ms)
    rungs = rungs_of(scene.policy.risk)
    verdict = _judge(memory.latch, scene, rungs, now.now_ms)
    if verdict.latch is not memory.latch or verdict.state is not memory.state:
        same = verdict.state is memory.state
        memory = msgspec.structs.replace(
            memory, latch=verdict.latch, state=verdict.state,
            since_ms=memory.since_ms if same else now.now_ms,
        )
    fresh = _published(scene, verdict, memory.view, now.now_ms)
    outputs: tuple[Output, ...] = ()
    if _is_news(fresh, memory.published, scene.policy.risk):
        memory = msgspec.structs.replace(memory, published=fresh)
        assessment = _assess(memory, scene, verdict, now.now_ms)
        outputs = (Output("risk_state", memory.account, assessment),)
    return Step(memory, outputs, hold=_hold(memory, scene, rungs, now.now_ms))


def _take_in(memory: RiskMemory, message: object) -> RiskMemory:
    if not isinstance(message, _FACTS):
        return memory
    if memory.account and message.account != memory.account:
        return memory
    view = fold(memory.view, message)
    if view is memory.view and memory.account:
        return memory
    return msgspec.structs.replace(memory, account=message.account, view=view)


def _published(scene: Scene, verdict: _Verdict, view: AccountView, now_ms: int) -> Published:
    hedge, fund = scene.policy.hedge, view.fund
    return Published(
        now_ms, scene.policy.version, verdict.state, verdict.confidence, verdict.reason,
        scene.funding.regime if scene.funding else None,
        scene.ltv,
        tuple([
            (name, tick.mark_price, tick.index_price)
            for name, tick in scene.sources.markets.items() if tick is not None
        ]),
        (
            tuple([(line.coin, line.debt_qty, line.counted_qty) for line in scene.loan.lines]),
            tuple([(line.coin, line.wallet_qty, line.counted_qty) for line in scene.book.coins]),
            tuple([
                (line.instrument, line.position_qty, line.entry_price)
                for line in scene.book.positions
            ]),
            ((hedge.quote, view.fund_qty(hedge.quote), view.fund_qty(hedge.coin)),)
            if fund is not None else (),
        ),
    )


def _has_moved(value: Decimal | None, last: Decimal | None, least: Decimal) -> bool:
    if value is None or last is None:
        return value is not last
    return abs(value - last) >= least


def _is_news(fresh: Published, last: Published | None, limits: RiskPolicy) -> bool:
    if (
        last is None
        or fresh.state is not last.state
        or fresh.confidence is not last.confidence
        or fresh.reason is not last.reason
        or fresh.regime is not last.regime
        or fresh.policy_version != last.policy_version
        or fresh.quantities != last.quantities
        or fresh.ts_ms - last.ts_ms >= HEARTBEAT_MS
        or len(fresh.prices) != len(last.prices)
        or _has_moved(fresh.ltv, last.ltv, limits.publish_ltv_step)
    ):
        return True
    share = limits.publish_price_step
    for (name, mark, index), (name_last, mark_last, index_last) in zip(
        fresh.prices, last.prices, strict=True
    ):
        if (
            name != name_last
            or abs(mark - mark_last) >= mark_last * share
            or abs(index - index_last) >= index_last * share
        ):
            return True
    return False


# ---------------------------------------------------------------- the figures


def _assess(
    memory: RiskMemory, scene: Scene, verdict: _Verdict, now_ms: int
) -> RiskAssessment:
    policy, loan, tick, funding = scene.policy, scene.loan, scene.tick, scene.funding
    hedge, book, view = policy.hedge, scene.book, memory.view
    margin = [
        margin_ratio(book, move) if book.is_whole else None
        for move in (ZERO, hedge.stress_rise, -hedge.stress_fall)
    ]
    return RiskAssessment(
        account=memory.account, policy_version=policy.version,
        state=verdict.state, confidence=verdict.confidence, reason=verdict.reason,
        ltv=scene.ltv, ltv_exchange=view.loan.ltv if view.loan else None,
        ltv_net_fall=ltv_net_fall(scene, view),
        margin_ratio=margin[0], margin_ratio_rise=margin[1], margin_ratio_fall=margin[2],
        debt_value=saturate(loan.debt_value), counted_value=saturate(loan.counted_value),
        collateral_value=saturate(loan.collateral_value),
        net_delta=saturate(net_delta(view, book, hedge.coin)),
        mark_price=tick.mark_price if tick else None,
        index_price=tick.index_price if tick else None,
        funding_apr=funding.apr if funding else None,
        inputs=_inputs(scene, now_ms), since_ts_ms=memory.since_ms, assessed_ts_ms=now_ms,
        market_ts_event_ms=tick.ts_event_ms if tick else None,
        equity_value=equity_value(scene, view),
    )


def _inputs(scene: Scene, now_ms: int) -> tuple[InputAge, ...]:
    markets = scene.sources.markets
    ages = [
        InputAge(
            name=f"market:{name}" if name in markets else name,
            age_ms=None if ts_ms is None else now_ms - ts_ms, age_max_ms=age_max_ms,
        )
        for name, ts_ms, age_max_ms in scene.seen
    ]
    ages += [
        InputAge(name=name, age_ms=None, age_max_ms=0)
        for name in scene.sources.missing if not name.startswith("market:")
    ]
    return tuple(ages)


# ---------------------------------------------------------------- the hold


def _hold(memory: RiskMemory, scene: Scene, rungs: Rungs, now_ms: int) -> Hold:
    """Where nothing of `_is_news` can become true, and until when."""
    last, limits = memory.published, scene.policy.risk
    assert last is not None, "an account with a name has been published"
    turns = [next_turn(ts_ms, now_ms, age_max_ms) for _, ts_ms, age_max_ms in scene.seen]
    if memory.latch is not None:
        turns.append(memory.latch.expires_ms(limits.dwell_ms))
    until = min([last.ts_ms + HEARTBEAT_MS, *[turn for turn in turns if turn is not None]])
    steps = min(limits.publish_price_step, limits.publish_ltv_step)
    markets = scene.sources.markets
    anchors = {} if steps <= 0 else {
        name: Anchor(mark, index, tick.index_price)
        for name, mark, index in last.prices
        # A tick that ends staleness must step, at whatever price.
        if name not in scene.stale and (tick := markets.get(name)) is not None
    }
    boxes = price_boxes(
        anchors, limits.publish_price_step, loan=scene.loan,
        limits=_ltv_limits(last.ltv, scene, rungs),
    )
    for name in markets:
        if name not in boxes:
            boxes[name] = EMPTY_BOX
    return Hold(boxes, until)


def _ltv_limits(ltv_last: Decimal | None, scene: Scene, rungs: Rungs) -> LtvLimits | None:
    """The nearest lines around LTV: of the states, to enter and to leave, and of publishing."""
    ltv = scene.ltv
    if ltv is None or ltv_last is None or not scene.loan.debt_value:
        return None
    step_size = scene.policy.risk.publish_ltv_step
    low, high = ltv_last - step_size, ltv_last + step_size
    for line in (*rungs.enter, *rungs.leave):
        if line > ltv:
            high = min(high, line)
        else:
            low = max(low, line)
    return LtvLimits(low, high)
