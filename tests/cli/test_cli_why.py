"""why and replay: the story behind a decision, and the proof that it follows from its inputs."""

from __future__ import annotations

import json
from decimal import Decimal as D

import msgspec

from cli.cli_story import BTC, NOW, Cli, Log, decision, place, repay, risk, tick
from hedgelock.bus.codec import Envelope
from hedgelock.cli import story as stories
from hedgelock.clock import SystemClock
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.policy import Policy
from hedgelock.services import funding_engine
from hedgelock.services.explain import Link
from hedgelock.services.runner import Runner


def test_why_tells_the_whole_story(cli: Cli, story: Log) -> None:
    """An order's id leads to tick, funding, risk, decision, order and fill, with numbers and times."""
    said = cli("why", "hedger:main:7.0")
    assert said.code == 0
    for words in (
        "mark 50,000.00", "-164.0 % a year, shorts pay longs", "debt 36,000.00", "LTV 72.00 %",
        "sell 0.3 linear:BTCUSDT market", "filled 0.3 at 49,990.00, fee 8.25 USDT",
        "2.0 bps worse than the mark", "(+18 ms)", "market 4 ms (limit 5.0 s)", "hlabc",
    ):
        assert words in said.out, words
    assert said.out.index("the price it saw") < said.out.index("5. risk") < said.out.index("filled")


def test_why_finds_a_decision_by_its_short_id(cli: Cli, story: Log) -> None:
    """The id that the live view shows is enough."""
    said = cli("why", "hedger:main:7")
    assert "6. the decision" in said.out and "8. what came of it" in said.out


def test_why_finds_an_order_by_the_exchange_ids(cli: Cli, story: Log) -> None:
    """Our id at the exchange and the exchange's own both lead to the order."""
    for ident in ("hlabc", "v-1"):
        assert "sell 0.3" in cli("why", ident).out


def test_why_as_json(cli: Cli, story: Log) -> None:
    """Machines get every message of the chain."""
    lines = [json.loads(line) for line in cli("why", "hedger:main:7", "--json").out.splitlines()]
    assert {"risk_state", "hedge_trades", "trade_confirmations"} <= {x["topic"] for x in lines}


def test_unknown_id_says_what_ids_look_like(cli: Cli, story: Log) -> None:
    """An id that nothing carries: the shapes, the newest real ones, and what to type."""
    said = cli("why", "order-17")
    assert said.code == 1
    assert "hedger:ACCOUNT:NUMBER" in said.err and "hedger:main:7.0" in said.err


def test_unknown_id_in_an_empty_log(cli: Cli, log: Log) -> None:
    """Where no decision was made yet, that is said."""
    said = cli("why", "order-17")
    assert said.code == 1 and "no decision yet" in said.err


def test_a_repayment_is_told_by_its_last_word() -> None:
    """Of several confirmations only the latest counts; amounts stand in words."""
    action, done = repay()
    links = [
        Link(topic=topic, envelope=Envelope(id=str(n), trace="", causes=(), ts_ms=NOW + n, v=1,
                                            body=body))
        for n, (topic, body) in enumerate(
            (("treasury_actions", action), ("trade_confirmations", done))
        )
    ]
    tree = stories.tell("x", links)
    labels = [str(chapter.label) for chapter in tree.children]
    assert labels == ["[bold]7. what was ordered[/]", "[bold]8. what came of it[/]"]
    assert "repay 2,500.00 USDT of the loan – done" in str(tree.children[1].children[0].label)


def _fold_funding(log: Log) -> None:
    """A few steps of the funding-engine in the journal."""
    log.put("policies", "*", Policy(account="*", version=1), "app:policy")
    for number, rate in enumerate(("0.0001", "-0.0015", "-0.0016")):
        log.put("funding_rates", BTC, FundingRate(
            instrument=BTC, funding_rate=D(rate), funding_interval_h=D(8),
            funding_next_ts_ms=NOW + 1000, ts_event_ms=NOW + number, ts_seen_ms=NOW + number,
        ), f"collector:f:{number}")
    service = funding_engine.SERVICE
    session = log.bus.open(service=service.name, instance="0", inputs=service.inputs,
                           tables=service.tables)
    runner = Runner(service, session, clock=SystemClock())
    for _ in range(5):
        runner.run_once(0)
    session.close()


def test_replay_proves_a_journal(cli: Cli, log: Log) -> None:
    """Steps folded again give the same bytes: code 0."""
    _fold_funding(log)
    said = cli("replay")
    assert said.code == 0
    assert "same" in said.out and " 0 steps" not in f" {said.out}"


def test_replay_finds_a_difference(cli: Cli, log: Log) -> None:
    """A journal whose outputs are not what the rules give: named, code 1."""
    _fold_funding(log)
    (first, *_) = list(log.bus.read("steps"))
    entry = json.loads(first.value)
    log.put_raw("steps", first.key, json.dumps(
        entry | {"outputs": "0" * 32}, separators=(",", ":"), ensure_ascii=False).encode())
    said = cli("replay", "--service", "funding-engine")
    assert said.code == 1
    assert "differs: funding-engine" in said.out
    figures = json.loads(cli("replay", "--json").out)
    assert len(figures["differences"]) == 1


def test_replay_of_an_unknown_service(cli: Cli, log: Log) -> None:
    """A service that keeps no journal is the caller's mistake."""
    said = cli("replay", "--service", "collector")
    assert said.code == 2 and "hedger" in said.err


def test_a_decision_on_a_balance_still_shows_its_assessment(cli: Cli, story: Log) -> None:
    """A decision that a fact triggered leads to the assessment it used, by its time."""
    body = msgspec.structs.replace(decision(), risk_assessed_ts_ms=NOW + 1)
    story.put("risk_state", "main", risk(ltv="0.60"), "risk-engine:main:9.0", ts_ms=NOW + 900)
    story.put("hedge_decisions", "main", body, "hedger:main:20.1", ts_ms=NOW + 500,
              causes=("collector:pos:1",))
    said = cli("why", "hedger:main:20.1")
    assert "LTV 72.00 %" in said.out and "mark 50,000.00" in said.out
    assert "positions: -0.3" in said.out


def test_only_the_newest_state_is_told(cli: Cli, story: Log) -> None:
    """Older prices behind the newest led to it, not to the decision: --json alone has them."""
    story.put("market_data", BTC, tick("51000"), "collector:tick:0", ts_ms=NOW - 900)
    story.put("hedge_trades", "main", place("hedger:main:8.0"), "hedger:main:8.0", ts_ms=NOW + 3,
              causes=("collector:tick:0", "collector:tick:1"))
    assert "51,000" not in cli("why", "hedger:main:8").out
    assert "51000" in cli("why", "hedger:main:8", "--json").out
