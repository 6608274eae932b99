"""config, topics, peek: what is in force and what stands in the log."""

from __future__ import annotations

import json

import pytest

from cli.cli_story import BTC, Cli, Log, risk, tick
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.cli.show import _follow
from hedgelock.clock import SystemClock


def test_config_shows_value_unit_and_origin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed setting stands with its value, unit and where it came from."""
    monkeypatch.setenv("RISK__LTV_CAUTION_THRESHOLD", "0.6")
    said = cli("config", "--changed", "ltv_caution")
    assert "0.6" in said.out and "fraction" in said.out and "environment" in said.out


def test_config_never_shows_a_secret(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are (set) or (not set), in text and in JSON."""
    monkeypatch.setenv("OPERATOR__KEY", "a-very-secret-operator-key")
    for argv in (("config",), ("config", "--json")):
        said = cli(*argv)
        assert "a-very-secret" not in said.out + said.err
        assert "(set)" in said.out


def test_topics_counts_records_and_lag(cli: Cli, story: Log) -> None:
    """Each topic shows what it holds, and each reader how far it is behind."""
    story.bus.open(service="hedger", instance="0", inputs=("risk_state",), tables=())
    rows = {row["topic"]: row for row in map(json.loads, cli("topics", "--json").out.splitlines())}
    assert rows["risk_state"]["records"] == 1
    assert rows["hedge_trades"]["records"] == 1
    assert rows["quarantine"]["records"] == 0
    text = cli("topics").out
    assert "risk_state" in text and "risk-engine → hedger" in text


def test_topics_shows_how_far_a_group_is_behind(cli: Cli, log: Log) -> None:
    """A group that took in one of three records is two behind."""
    session = log.bus.open(service="hedger", instance="0", inputs=("risk_state",), tables=())
    for number in range(3):
        log.put("risk_state", "main", risk(), f"r:{number}")
    first = next(iter(session.poll(1.0).records), None) or next(iter(session.poll(1.0).records))
    session.commit([], {("risk_state", first.partition): first.offset + 1})
    (row,) = [r for r in map(json.loads, cli("topics", "--json").out.splitlines())
              if r["topic"] == "risk_state"]
    assert row["lag"]["hedger"] == 2


def test_peek_shows_words_numbers_and_ids(cli: Cli, story: Log) -> None:
    """A message is shown in words, with its id and its fields."""
    said = cli("peek", "risk_state")
    assert said.code == 0
    assert "risk: CAUTION, LTV 72.00 %, inputs FRESH" in said.out
    assert "risk-engine:main:3.0" in said.out
    assert "debt_value=36000" in said.out


def test_peek_shows_only_the_newest(cli: Cli, log: Log) -> None:
    """`-n 2` shows the last two, oldest first."""
    for price in ("1", "2", "3"):
        log.put("market_data", BTC, tick(price), f"t:{price}")
    out = cli("peek", "market_data", "-n", "2").out
    assert "mark 1.00" not in out
    assert out.index("mark 2.00") < out.index("mark 3.00")


def test_peek_filters_by_key(cli: Cli, log: Log) -> None:
    """`--key` finds an account's newest record however far back it lies."""
    log.put("risk_state", "main", risk(), "r:main")
    for number in range(30):
        log.put("risk_state", "other", risk(), f"r:{number}")
    said = cli("peek", "risk_state", "--key", "main", "-n", "1", "--json")
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["r:main"]


@pytest.mark.parametrize("value", [b"{", b'{"v":1}', b"\xff\xfe\x00", b""])
def test_peek_shows_bad_records_as_bad(cli: Cli, log: Log, value: bytes) -> None:
    """A record that does not decode is shown as unreadable, with the reason, and the next one too."""
    log.put_raw("risk_state", "main", value)
    log.put("risk_state", "main", risk(), "r:good")
    said = cli("peek", "risk_state")
    assert said.code == 0
    assert "unreadable" in said.out and "why:" in said.out and "r:good" in said.out
    lines = [json.loads(line) for line in cli("peek", "risk_state", "--json").out.splitlines()]
    assert "error" in lines[0] and "error" not in lines[1]


def test_peek_corrects_a_topic(cli: Cli) -> None:
    """A misspelt topic gets the nearest name and the list, code 2."""
    said = cli("peek", "risk_sate")
    assert said.code == 2
    assert "did you mean risk_state?" in said.err and "hedge_trades" in said.err


def test_peek_without_a_log_says_what_to_start(cli: Cli) -> None:
    """Where nothing ever ran, the command says so and what to start."""
    said = cli("peek", "risk_state")
    assert said.code == 1
    assert "hedgelock run" in said.err


def test_peek_says_when_there_is_nothing(cli: Cli, log: Log) -> None:
    """An empty topic is no error and no silence."""
    said = cli("peek", "quarantine")
    assert (said.code, said.out) == (0, "")
    assert "nothing on quarantine" in said.err


def test_follow_goes_on_where_the_tail_ended(log: Log) -> None:
    """Following shows what arrives after the tail, once, and ends when the bus closes."""
    log.put("risk_state", "main", risk(), "r:1")
    bus = EmbeddedBus(log.bus.path, clock=SystemClock(), read_only=True)
    news = _follow(bus, "risk_state", "main", bus.ends("risk_state"))
    log.put("risk_state", "other", risk(), "r:2")
    log.put("risk_state", "main", risk(), "r:3")
    assert b'"r:3"' in next(news).value
    bus.close()
    assert list(news) == []


def test_peek_shows_the_journal_as_it_is(cli: Cli, log: Log) -> None:
    """Steps have no envelope: they are shown as JSON and are not called unreadable."""
    log.put_raw("steps", "hedger/main", b'{"service":"hedger"}')
    assert '{"service":"hedger"}' in cli("peek", "steps").out
    assert json.loads(cli("peek", "steps", "--json").out)["value"] == {"service": "hedger"}
