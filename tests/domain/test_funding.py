"""Funding: sign, interval, payer; regimes that do not flap; when a context is published."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LINEAR, T0, Rows, amounts, funding_rate, now, policy, structs, tick

from hedgelock.domain.funding import (
    FundingMemory,
    FundingRate,
    FundingReason,
    FundingRegime,
    annualise,
    initial,
    multiplier,
    rungs_of,
    step,
)
from hedgelock.domain.message import Restored, Tick
from hedgelock.domain.policy import FundingPolicy

HOUSE = Rows().having(policy("*"))
BANDS = FundingPolicy()
HOUR = 3_600_000
REGIMES = list(FundingRegime)


def rate_for(apr, at_ms=0, **fields):
    """An hourly rate that is `apr` a year, exactly."""
    hourly = D(apr) / 8760
    return funding_rate(round(hourly, 27), at_ms, interval_h="1", **fields)


def fold(*messages, memory=None, tables=HOUSE, at=None):
    """Fold messages at their own event times (or `at`); the last step."""
    memory = memory or initial(LINEAR)
    result = None
    for message in messages:
        at_ms = at if at is not None else message.ts_event_ms - T0
        result = step(memory, tables, message, now(at_ms))
        memory = result.state
    return result


def said(result):
    """The published context; None when nothing was."""
    assert len(result.outputs) <= 1
    return result.outputs[0].message if result.outputs else None


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("rate", "interval_h", "apr"),
    [("0.0001", "8", "0.1095"), ("-0.0001", "8", "-0.1095"), ("0.0005", "1", "4.38"),
     ("0.0005", "8", "0.5475"), ("0", "4", "0")],
)
def test_apr_is_signed_and_knows_its_interval(rate, interval_h, apr):
    """0.05 % per hour is 438 % a year, not 54.75 %: the interval decides, the sign stays."""
    assert annualise(D(rate), D(interval_h)) == D(apr)


@pytest.mark.parametrize(
    ("paid", "scale"),
    [("-5", "1"), ("0", "1"), ("0.05", "0.95"), ("0.1", "0.9"), ("0.3", "0.75"), ("0.5", "0.6"),
     ("0.75", "0.45"), ("1", "0.3"), ("2", "0.15"), ("3", "0"), ("99", "0")],
)
def test_the_multiplier_runs_through_its_points(paid, scale):
    """Linear between (0, 1) (.1, .9) (.5, .6) (1, .3) (3, 0); a receiver gets 1."""
    assert multiplier(D(paid), BANDS) == D(scale)


@given(amounts("-4", "4"), amounts("-4", "4"))
def test_whoever_pays_more_is_allowed_less(left, right):
    """The multiplier falls with the APR paid and stays within 0..1."""
    low, high = sorted((left, right))
    assert 0 <= multiplier(high, BANDS) <= multiplier(low, BANDS) <= 1


@pytest.mark.parametrize(
    ("points", "paid", "scale"),
    [
        ((), "0.1", "0"), ((), "0", "1"),
        (((D(1), D("0.5")), (D(1), D("0.2"))), "1", "0.5"),
        (((D(1), D("0.5")), (D(1), D("0.2"))), "2", "0.2"),
        (((D(0), D("0.4")), (D(0), D("0.3"))), "0.5", "0.3"),
        (((D(1), D(7)),), "1", "1"), (((D(1), D(-7)),), "1", "0"),
        (((D(2), D("0.5")), (D(1), D("0.2"))), "1", "0.75"),
        (((D(-1), D("0.5")),), "1", "0.5"),
    ],
)
def test_odd_points_never_raise_nor_leave_the_range(points, paid, scale):
    """No points allow nothing to a payer; steps, disorder and absurd values stay within 0..1."""
    assert multiplier(D(paid), FundingPolicy(multiplier_points=points)) == D(scale)


# ---------------------------------------------------------------- regimes

LEVELS = {
    # |APR|: (regime entered, highest regime not left)
    "0.05": (0, 0), "0.085": (0, 1), "0.10": (1, 1), "0.42": (1, 1), "0.425": (1, 2),
    "0.50": (2, 2), "0.85": (2, 3), "1.00": (3, 3), "2.55": (3, 4), "3.00": (4, 4), "50": (4, 4),
}
ENTRY = ("0.01", "0.10", "0.50", "1.00", "3.00")


@pytest.mark.parametrize(
    ("held", "apr", "sign"), list(product(range(5), LEVELS, (1, -1)))
)
def test_every_regime_at_every_level(held, apr, sign):
    """Up at once; down after one hour below .85 × the lower edge; the sign plays no part."""
    entered, kept = LEVELS[apr]
    tables = Rows().having(policy("*", funding=FundingPolicy(dwell_ms=HOUR)))
    memory = fold(big(ENTRY[held], 0, sign), tables=tables).state
    first = fold(big(apr, 10, sign), memory=memory, tables=tables)
    assert first.state.published.regime is REGIMES[max(held, entered)]
    early = fold(big(apr, HOUR + 9, sign), memory=first.state, tables=tables)
    assert early.state.published.regime is REGIMES[max(held, entered)]
    late = fold(big(apr, HOUR + 10, sign), memory=early.state, tables=tables)
    assert late.state.published.regime is REGIMES[max(entered, min(held, kept))]


def big(apr, at_ms, sign=1):
    """A rate whose APR is exact: an interval of 8760 h makes rate and APR the same number."""
    return funding_rate(sign * D(apr), at_ms, interval_h="8760")


def test_the_resting_rate_of_the_market_does_not_flap():
    """0.01 %/8 h is 10.95 %, on the edge of NORMAL: a day of noise around it changes no regime."""
    memory, seen = initial(LINEAR), set()
    for minute in range(24 * 60):
        noise = D((minute + 3) % 7 - 3) * D("0.000006")
        result = fold(funding_rate(D("0.0001") + noise, minute * 60_000), memory=memory)
        memory = result.state
        seen.add(memory.published.regime)
    assert seen == {FundingRegime.NORMAL}
    assert memory.published.since_ts_ms == T0


def test_the_dwell_fires_by_the_clock_alone():
    """When the feed falls silent the regime is still left on time: until_ms asks for the Tick."""
    result = fold(big("0.6", 0), big("0.2", 60_000))
    assert result.state.published.regime is FundingRegime.HEATED
    moment = 60_000 + HOUR
    for at_ms in range(120_000, moment, 60_000):
        assert result.hold.until_ms == T0 + at_ms
        result = fold(Tick(now_ms=T0 + at_ms), memory=result.state, at=at_ms)
        assert said(result).reason == FundingReason.STILL_SO.value
    result = fold(Tick(now_ms=T0 + moment), memory=result.state, at=moment)
    assert said(result).regime is FundingRegime.NORMAL
    assert said(result).reason == FundingReason.REGIME_LOWERED.value
    assert said(result).since_ts_ms == T0 + moment


def test_a_rate_seen_after_a_silence_is_published_at_once():
    """An hour without rates: the first one ends the staleness, not the next heartbeat."""
    memory = fold(funding_rate("0.0001", 0)).state
    for at_ms in range(60_000, HOUR + 1, 60_000):
        result = fold(Tick(now_ms=T0 + at_ms), memory=memory, at=at_ms)
        memory = result.state
        assert said(result).ts_seen_ms == T0, "a heartbeat makes nothing fresher than it is"
    result = fold(funding_rate("0.0001", HOUR + 4_000), memory=memory)
    assert said(result).reason == FundingReason.SEEN_AGAIN.value
    assert said(result).ts_seen_ms == T0 + HOUR + 4_000
    again = fold(funding_rate("0.0001", HOUR + 14_000), memory=result.state)
    assert said(again) is None


def test_the_bands_come_from_the_policy():
    """The leaving lines are the edges times the leave factor."""
    rungs = rungs_of(BANDS)
    assert rungs.enter == (D("0.10"), D("0.50"), D("1.00"), D("3.00"))
    assert rungs.leave == (D("0.085"), D("0.425"), D("0.85"), D("2.55"))


# ---------------------------------------------------------------- publishing


def test_the_first_rate_is_published_whole():
    """Longs pay at a positive rate: their multiplier shrinks, the shorts' stays 1."""
    context = said(fold(funding_rate("0.0001")))
    assert (context.apr, context.regime) == (D("0.1095"), FundingRegime.NORMAL)
    assert context.multiplier_long == D("0.9") - D("0.3") * D("0.0095") / D("0.4")
    assert context.multiplier_short == 1
    assert context.reason == "first_rate"
    assert (context.since_ts_ms, context.ts_seen_ms) == (T0, T0)


def test_shorts_pay_a_negative_rate():
    """The sign is kept and turns the payer round."""
    context = said(fold(funding_rate("-0.0001")))
    assert context.apr == D("-0.1095")
    assert context.multiplier_long == 1 and context.multiplier_short < D("0.9")


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (funding_rate("0.0001", 10), None),
        (funding_rate("0.000104", 10), None),
        (funding_rate("0.0001", 10, interval_h="1"), "regime_raised"),
        (funding_rate("0.00005", 10, interval_h="4"), "interval_changed"),
        (funding_rate("0.0001", 10, next_ms=7_200_000), "settlement_changed"),
        (funding_rate("-0.0001", 10), "payer_changed"),
        (funding_rate("0.00011", 10), "multiplier_changed"),
        (funding_rate("0.0001045", 60_000), "still_so"),
        (funding_rate("0.005", 10), "regime_raised"),
    ],
)
def test_what_is_news(later, reason):
    """Regime, interval, settlement, payer, multiplier, APR, or a minute of silence."""
    context = said(fold(funding_rate("0.0001"), later))
    assert (context.reason if context else None) == reason


def test_the_apr_is_news_where_the_multiplier_is_flat():
    """Beyond the last point the multiplier stays 0 and the APR alone tells."""
    context = said(fold(big("4", 0), big("4.005", 10)))
    assert context.reason == "apr_moved"
    assert said(fold(big("4", 0), big("4.0049", 10))) is None


def test_an_interval_switch_is_annualised_anew_at_once():
    """The same rate per interval is eight times the APR when the interval drops from 8 h to 1 h."""
    context = said(fold(funding_rate("0.0005"), funding_rate("0.0005", 10, interval_h="1")))
    assert context.apr == D("4.38")
    assert context.regime is FundingRegime.EXTREME
    assert context.funding_interval_h == 1


def test_an_older_rate_never_replaces_a_newer():
    """Order is by the venue's clock, whatever came first."""
    memory = fold(funding_rate("0.0001", 100)).state
    late = fold(funding_rate("0.0009", 99), memory=memory, at=200)
    assert late.state is memory and late.outputs == ()
    same_time = fold(funding_rate("0.0009", 100), memory=memory, at=200)
    assert same_time.state is memory and same_time.outputs == ()


def test_another_instruments_rate_is_not_taken():
    """A memory belongs to one instrument; one without a name takes the first it sees."""
    memory = fold(funding_rate()).state
    assert fold(funding_rate("0.01", 5, instrument="linear:ETHUSDT"), memory=memory).state is memory
    assert fold(funding_rate(), memory=FundingMemory()).state.instrument == LINEAR


def test_without_a_house_policy_nothing_is_published():
    """No bands, no regime: the rate is kept, and a second later somebody looks again."""
    result = fold(funding_rate(), tables=Rows())
    assert result.outputs == () and result.hold.until_ms == T0 + 1_000
    assert said(fold(Tick(now_ms=T0), memory=result.state, at=1_000)).reason == "first_rate"


def test_without_a_rate_there_is_nothing_to_say():
    """Ticks, restores and prices before the first rate leave the memory empty."""
    for message in (Tick(now_ms=T0), Restored(now_ms=T0), tick()):
        result = step(initial(LINEAR), HOUSE, message, now())
        assert result.state == initial(LINEAR) and result.outputs == ()


@pytest.mark.no_cover
@given(st.lists(structs(FundingRate, instrument=LINEAR), max_size=6), structs(FundingPolicy))
def test_any_rates_and_any_policy_fold_without_error(rates, bands):
    """Absurd rates and senseless policies give a context that encodes, and repeats give nothing."""
    tables = Rows().having(policy("*", funding=bands))
    memory = initial(LINEAR)
    for at_ms, rate in enumerate(rates):
        result = step(memory, tables, rate, now(at_ms))
        memory = result.state
        assert msgspec.json.decode(msgspec.json.encode(memory), type=FundingMemory) == memory
        for output in result.outputs:
            assert (output.topic, output.key) == ("funding_context", LINEAR)
            assert 0 <= output.message.multiplier_long <= 1
            assert 1 in (output.message.multiplier_long, output.message.multiplier_short)
        again = step(memory, tables, rate, now(at_ms))
        assert again.state == memory and again.outputs == ()


@given(st.lists(amounts("-4", "4"), min_size=1, max_size=5), st.integers(0, 2 * HOUR))
def test_hold_is_honest(aprs, later):
    """Before until_ms a step that brings no new rate says nothing and remembers nothing new."""
    result = fold(*(big(apr, at * 1_000) for at, apr in enumerate(aprs)))
    at_ms = len(aprs) * 1_000 + later
    if T0 + at_ms >= result.hold.until_ms:
        return
    again = fold(Tick(now_ms=T0 + at_ms), memory=result.state, at=at_ms)
    assert again.outputs == () and again.state == result.state


# ---------------------------------------------------------------- outlook


def test_what_was_predicted_just_before_a_settlement_is_what_was_settled():
    """The last rate seen before the schedule moves on becomes history, with its own interval."""
    before = funding_rate("0.0002", 0, next_ms=60_000)
    after = funding_rate("0.0001", 61_000, next_ms=60_000 + 8 * HOUR)
    memory = fold(before, after).state
    assert [(s.rate, s.interval_h, s.ts_ms) for s in memory.history] == [(D("0.0002"), 8, T0 + 60_000)]


@pytest.mark.parametrize(
    ("seen_ms", "next_ms", "at_ms"),
    [(0, 8 * HOUR, 8 * HOUR + 1), (0, 60_000, 50_000), (70_000, 60_000, 80_000)],
)
def test_what_was_not_seen_to_settle_is_not_history(seen_ms, next_ms, at_ms):
    """Seen too long before, merely rescheduled, or only seen after it: no figure is better."""
    before = funding_rate("0.0002", seen_ms, next_ms=next_ms)
    after = funding_rate("0.0001", at_ms, next_ms=next_ms + HOUR, interval_h="1")
    assert fold(before, after).state.history == ()


def test_the_context_says_what_holding_costs_and_the_means():
    """A published context carries costs for 8, 24 and 72 h and means weighted by time."""
    context = said(fold(funding_rate("0.0002", 0, next_ms=60_000)))
    assert [cost.horizon_h for cost in context.costs] == [8, 24, 72]
    assert context.costs[1].expected_bps == D(6)
    assert context.mean_apr_day is None
    after = funding_rate("0.0001", 61_000, next_ms=60_000 + 8 * HOUR)
    settled = said(fold(funding_rate("0.0002", 0, next_ms=60_000), after))
    assert settled.mean_apr_day == settled.mean_apr_week == D("0.219")


def test_a_switch_of_the_interval_is_noticed_at_once_and_annualised_anew():
    """The same rate paid every hour instead of every eight is eight times the APR, said at once."""
    first = funding_rate("0.0005", 0)
    context = said(fold(first, funding_rate("0.0005", 1, interval_h="1", next_ms=60_000)))
    assert context.apr == D("4.38")
    assert context.reason == FundingReason.REGIME_RAISED.value


def test_an_extreme_payer_is_told_to_leave_and_gets_nothing_until_it_may_return():
    """Out at 400 % for a long, multiplier 0; the receiving short keeps 1; back under re-entry."""
    out = fold(rate_for("4"))
    context = said(out)
    assert (context.exit_long, context.exit_short) == ("exit", "receives")
    assert (context.multiplier_long, context.multiplier_short) == (0, 1)
    high = said(fold(rate_for("1.5", HOUR), memory=out.state))
    assert (high.exit_long, high.multiplier_long) == ("stays_out", 0)
    receives = said(fold(rate_for("-0.1", HOUR), memory=out.state))
    assert (receives.exit_long, receives.multiplier_long) == ("stays_out", 1)
    back = said(fold(rate_for("0.5", 5 * HOUR), memory=out.state))
    assert (back.exit_long, round(back.multiplier_long, 9)) == ("reenter", D("0.6"))
