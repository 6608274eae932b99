"""run: what the screen shows, what the JSON lines say, and how a run begins and ends."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.cli_story import (
    BTC,
    NOW,
    Cli,
    Log,
    confirm,
    decision,
    funding,
    place,
    positions,
    repay,
    risk,
    tick,
)
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.cli import logfile, summary
from hedgelock.cli.board import Board
from hedgelock.cli.caption import trouble
from hedgelock.cli.events import Events
from hedgelock.cli.feed import Feed
from hedgelock.cli.live import last_errors
from hedgelock.cli.screen import ASCII, Screen
from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.ports import Record


def account_row(**changed: Any) -> dict[str, Any]:
    """One account of `/sim/state`."""
    return {
        "unified": {"USDT": "6000", "BTC": "0.1"}, "fund": {}, "collateral": {"BTC": "1"},
        "debt": {"USDT": "36600"}, "ltv": "0.72", "ltv_max": "0.74", "equity_usd": "24300",
        "unrealised_usd": "0", "loan_liquidated_ms": 0, "margin_liquidated_ms": 0, "orders": 0,
        "fills": 0, "fees_usd": "0", "repayments": 0, "borrows": 0, **changed,
    }


def sim_row(*, price: str = "50000", finished: bool = False, **twin: Any) -> dict[str, Any]:
    """The simulator's state, 30 s into the demo."""
    return {
        "scenario": "demo", "speed": 1.0, "finished": finished, "script_s": 30.0,
        "duration_s": 120.0, "started_ms": NOW - 30_000, "next_settlement_ms": NOW + 15_000,
        "index": {"BTC": price},
        "accounts": {"hedgelock-sim": account_row(orders=12, repayments=2, fees_usd="31.5"),
                     "unprotected-sim": account_row(**twin)},
    }


def board() -> Board:
    """An empty board of the account main."""
    return Board(account="main", mode="sim", since_ms=NOW - 1000,
                 policy=Policy(account="main", version=1))


def fill(seen: Board, log: Log) -> Board:
    """Let a board read a whole log."""
    for topic in ("market_data", "funding_context", "account_raw", "risk_state", "hedge_trades",
                  "hedge_decisions", "treasury_actions", "trade_confirmations", "safety_state"):
        for record in log.bus.read(topic):
            seen.take(record)
    return seen


def render(seen: Board, width: int = 80, height: int = 24, **how: Any) -> str:
    """The screen as text, as a terminal would show it."""
    console = Console(file=io.StringIO(), record=True, width=width, height=height,
                      force_terminal=True)
    console.print(Screen(width, height, **how).render(seen, NOW + 50))
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
@pytest.mark.parametrize("finished", [False, True])
def test_the_screen_fits(story: Log, width: int, height: int, finished: bool) -> None:
    """From 80 × 24 upwards the screen has exactly its lines, none wider than the terminal."""
    seen = fill(board(), story)
    seen.take_sim(sim_row(finished=finished))
    lines = render(seen, width, height).splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), [(79, 24), (60, 18), (80, 10), (20, 4), (8, 1)])
@pytest.mark.parametrize("finished", [False, True])
def test_a_small_window_says_the_most_important(
    story: Log, width: int, height: int, finished: bool
) -> None:
    """Below 80 × 24 nothing breaks: LTV, state, twin and hedge are shown, and what size shows all."""
    seen = fill(board(), story)
    seen.take_sim(sim_row(finished=finished))
    text = render(seen, width, height)
    assert len(text.splitlines()) <= height
    assert max(map(len, text.splitlines())) <= width
    if (width, height) == (60, 18):
        for words in ("LTV 72.0 % CAUTION !", "twin 72.0 %", "hedge 0.3000", "80 x 24"):
            assert words in text
    render(board(), width, height)


def test_the_screen_says_what_matters(story: Log) -> None:
    """LTV of both, state in words, hedge, pockets, who pays, why, what next."""
    action, done = repay()
    story.put("treasury_actions", "main", action, "hedger:main:9.0")
    story.put("trade_confirmations", "main", done, "trade-executor:main:6.0")
    seen = fill(board(), story)
    seen.take_sim(sim_row(ltv="0.81"))
    text = render(seen)
    for words in (
        "demo ×1", "00:30/02:00", "BTC 50,000", "with HedgeLock  72.0 %", "CAUTION !",
        "without (twin)  81.0 %", "DANGER !!", "held             0.3000", "margin allows    0.6000",
        "-164.0 % a year", "shorts pay longs", "our hedge PAYS", "MANIA", "optional size × 0.20",
        "protective size × 1", "hedger:main:7 LTV 72.0 % more hedge 0.300", "sell 0.3 BTCUSDT",
        "filled at 49,990", "repay 2,500.00 USDT of the loan", "1 order, 1 fill, 1 repayment (2,500",
        "fees 8.25", "hedgelock why hedger:main:7",
    ):
        assert words in text, words


def test_an_empty_board_is_no_all_clear() -> None:
    """Before the first assessment nothing looks like a state; later the silence is said."""
    text = render(board())
    assert "no news yet" in text and "NORMAL" not in text
    assert "no assessment after" in trouble(board(), NOW + 20_000)


@pytest.mark.parametrize("confidence", [Confidence.STALE, Confidence.ABSENT])
def test_old_inputs_never_look_fresh(log: Log, confidence: Confidence) -> None:
    """An assessment of stale or absent inputs shows that instead of its state."""
    log.put("risk_state", "main", risk(RiskState.NORMAL, "0.5", confidence), "r:1", ts_ms=NOW)
    text = render(fill(board(), log))
    assert f"{confidence.name} inputs" in text and "NORMAL" not in text


@pytest.mark.parametrize(("state", "words"), [
    (RiskState.NORMAL, "NORMAL"), (RiskState.CAUTION, "CAUTION !"),
    (RiskState.DANGER, "DANGER !!"), (RiskState.CRITICAL, "CRITICAL !!!"),
])
def test_states_differ_without_colour(log: Log, state: RiskState, words: str) -> None:
    """Every state is a word of its own with its own number of exclamation marks."""
    log.put("risk_state", "main", risk(state), "r:1")
    assert words in render(fill(board(), log))


def test_plain_signs_for_plain_terminals(story: Log) -> None:
    """A terminal without Unicode gets bars of plain signs."""
    seen = fill(board(), story)
    seen.take_sim(sim_row())
    text = render(seen, glyphs=ASCII)
    assert "#####" in text and "█" not in text and "▒" not in text


def test_the_liquidated_twin(story: Log) -> None:
    """A liquidated twin is said in words, with when and what is left."""
    seen = fill(board(), story)
    seen.take_sim(sim_row())
    seen.take_sim(sim_row(loan_liquidated_ms=NOW - 1000, collateral={}, fund={"BTC": "0.0312"}))
    assert "LIQUIDATED at 00:29: of 1 BTC collateral 0.0312 is left" in render(seen)


def test_the_end_compares_with_a_hold(story: Log) -> None:
    """1.1 BTC at 52,000 + 6,000 − 36,600 = 26,600: the hold that nobody can have."""
    seen = fill(board(), story)
    seen.take_sim(sim_row())
    seen.take_sim(sim_row(price="52000", finished=True, loan_liquidated_ms=1))
    figures = summary.compare(seen)
    assert figures["hold"]["equity"] == D(26600)
    assert figures["twin"]["liquidated"] and not figures["ours"]["liquidated"]
    text = render(seen)
    assert "The script has ended" in text and "26,600" in text and "12 / 2" in text


def test_against_a_real_exchange_there_is_no_twin(story: Log) -> None:
    """Without a simulator the screen has one column of money and the account's name."""
    seen = fill(board(), story)
    seen.mode = "testnet"
    text = render(seen)
    assert "testnet, account main" in text and "twin" not in text


def test_silence_of_the_engine_is_said(story: Log) -> None:
    """Figures that are not renewed are called old."""
    seen = fill(board(), story)
    assert trouble(seen, seen.risk_seen_ms + 1000) == ""
    assert "silent for 9.0 s" in trouble(seen, seen.risk_seen_ms + 9_000)


def test_a_halt_stands_on_the_screen(story: Log) -> None:
    """While the account is halted the foot says so and what to type."""
    story.put("safety_state", "main", SafetyState(
        account="main", version=1, mode=SafetyMode.HALTED, reason=SafetyReason.OPERATOR_HALT,
        flatten=False, command_id="", text="", since_ts_ms=1), "s:1")
    assert "account HALTED" in render(fill(board(), story))


def test_waits_between_actions_leave_the_list(log: Log) -> None:
    """The list keeps every action and only the present one of the waits."""
    for number, (reason, actions) in enumerate(
        (("hedge_raised", ("sell",)), ("order_in_flight", ()), ("within_band", ()),
         ("hedge_lowered", ("buy",)), ("within_band", ()))
    ):
        log.put("hedge_decisions", "main", decision(reason, actions), f"hedger:main:{number}.0")
    seen = fill(board(), log)
    assert [d.ident for d in seen.decisions] == ["hedger:main:0", "hedger:main:3", "hedger:main:4"]
    assert [d.acted for d in seen.decisions] == [True, True, False]


def test_a_fill_is_counted_once(log: Log) -> None:
    """Confirmations repeat their fills: fee and fill count once; history does not count."""
    log.put("hedge_trades", "main", place(), "hedger:main:7.0")
    for number in range(3):
        log.put("trade_confirmations", "main", confirm(), f"x:{number}")
    seen = fill(board(), log)
    assert (len(seen.counts.fills), seen.counts.fees) == (1, D("8.25"))
    later = Board(account="main", mode="sim", since_ms=SystemClock().now_ms() + 10_000,
                  policy=Policy(account="main", version=1))
    assert len(fill(later, log).counts.fills) == 0


def test_a_short_receives_when_longs_pay(log: Log) -> None:
    """The sign of funding against the sign of the hedge: + APR pays a short."""
    log.put("account_raw", "main", positions("-0.3"), "p:1")
    log.put("funding_context", BTC, funding("0.2"), "f:1")
    assert "our hedge receives" in render(fill(board(), log))
    log.put("funding_context", BTC, funding("-0.2"), "f:2")
    assert "our hedge PAYS" in render(fill(board(), log))


def test_another_account_is_not_ours(log: Log) -> None:
    """A screen of one account takes nothing from another's messages."""
    log.put("risk_state", "other", risk(), "r:1")
    seen = Board(account="spare", mode="sim", since_ms=NOW, policy=Policy(account="spare", version=1))
    assert fill(seen, log).risk is None


# ---------------------------------------------------------------- JSON lines


def test_json_lines_say_changes_only(capsys: pytest.CaptureFixture[str], log: Log) -> None:
    """Assessments come all the time: one line per change of state, one per decision and order."""
    log.put("risk_state", "main", risk(), "r:1")
    log.put("risk_state", "main", risk(ltv="0.73"), "r:2")
    log.put("risk_state", "main", risk(RiskState.DANGER, "0.81"), "r:3")
    log.put("hedge_trades", "main", place(), "hedger:main:7.0")
    log.put("market_data", BTC, tick(), "t:1")
    log.put_raw("hedge_trades", "main", b"{")
    events, seen = Events(0), board()
    for topic in ("risk_state", "hedge_trades", "market_data"):
        for record in log.bus.read(topic):
            events.listen(record, seen.take(record))
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in said] == ["risk", "risk", "order"]
    assert said[2]["says"] == "order: sell 0.3 linear:BTCUSDT market"
    assert seen.counts.unreadable == 1


def test_json_lines_leave_history_out(capsys: pytest.CaptureFixture[str]) -> None:
    """What stood in the log before the run began is no event of the run."""
    Events(NOW).listen(Record("risk_state", 0, 0, "main", b"", NOW - 1), None)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- the feed


def test_the_feed_waits_for_the_log_and_follows(tmp_path: Path, ports: dict[str, int]) -> None:
    """Started before the engine made its log, the feed picks up what is there and what comes."""
    path = tmp_path / "hedgelock.db"
    arrived: list[str] = []
    news = threading.Semaphore(0)

    def listen(record: Record, _envelope: object) -> None:
        arrived.append(record.topic)
        news.release()

    feed = Feed(board(), load({"SIM__PORT": str(ports["SIM__PORT"])}, env_file=None),
                lambda: EmbeddedBus(path, clock=SystemClock(), read_only=True), listen=listen)
    feed.start()
    log = Log(path)
    try:
        log.put("risk_state", "main", risk(), "r:1")
        assert news.acquire(timeout=10)
        log.put("hedge_trades", "main", place(), "hedger:main:7.0")
        assert news.acquire(timeout=10)
    finally:
        feed.stop()
        log.bus.close()
    assert sorted(arrived) == ["hedge_trades", "risk_state"]
    assert feed.board.risk is not None


# ---------------------------------------------------------------- before and after a run


def settings(tmp_path: Path, mode: str = "sim") -> Any:
    """Settings of a mode with a data folder of its own."""
    keys = {} if mode == "sim" else {
        "BYBIT__API_KEY": "k" * 18, "BYBIT__API_SECRET": "s" * 36, "OPERATOR__KEY": "o" * 32,
    }
    return load({"MODE": mode, "DATA_DIR": str(tmp_path), **keys}, env_file=None)


def made_log(folder: Path) -> Path:
    """A closed log with one record."""
    log = Log(folder / logfile.NAME)
    log.put("risk_state", "main", risk(), "r:1")
    log.bus.close()
    return folder / logfile.NAME


def old_logs(folder: Path) -> list[Path]:
    """Logs that were moved aside."""
    return sorted((folder / logfile.OLD).glob("*.db"))


def test_a_simulation_starts_afresh_and_keeps_the_old_log(tmp_path: Path) -> None:
    """The simulator begins a new exchange: its old log is moved aside whole, never deleted."""
    logfile.prepare(settings(tmp_path), fresh=None, yes=False)
    made_log(tmp_path)
    logfile.prepare(settings(tmp_path), fresh=None, yes=False)
    assert not (tmp_path / logfile.NAME).exists()
    (old,) = old_logs(tmp_path)
    bus = EmbeddedBus(old, clock=SystemClock(), read_only=True)
    assert len(list(bus.read("risk_state"))) == 1
    bus.close()


def test_keep_goes_on(tmp_path: Path) -> None:
    """`--keep` leaves a simulation's log where it is."""
    logfile.prepare(settings(tmp_path), fresh=None, yes=False)
    path = made_log(tmp_path)
    logfile.prepare(settings(tmp_path), fresh=False, yes=False)
    assert path.exists()


def test_a_real_account_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Against an exchange the log holds what is under way: it stays."""
    logfile.prepare(settings(tmp_path, "testnet"), fresh=None, yes=False)
    path = made_log(tmp_path)
    logfile.prepare(settings(tmp_path, "testnet"), fresh=None, yes=False)
    assert path.exists()


@pytest.mark.parametrize(("first", "second"), [("testnet", "sim"), ("sim", "testnet")])
def test_a_log_of_another_mode_is_refused(
    tmp_path: Path, first: str, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one exchange did must never steer orders on another, nor be put away by a simulation."""
    logfile.prepare(settings(tmp_path, first), fresh=None, yes=False)
    path = made_log(tmp_path)
    with pytest.raises(Exception, match="2"):
        logfile.prepare(settings(tmp_path, second), fresh=None, yes=False)
    assert path.exists() and old_logs(tmp_path) == []
    assert f"belongs to mode {first}" in capsys.readouterr().err


def test_fresh_on_a_real_account_needs_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off a terminal --fresh on a real account's log is refused without --yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    logfile.prepare(settings(tmp_path, "testnet"), fresh=None, yes=False)
    path = made_log(tmp_path)
    with pytest.raises(Exception, match="2"):
        logfile.prepare(settings(tmp_path, "testnet"), fresh=True, yes=False)
    assert path.exists()
    logfile.prepare(settings(tmp_path, "testnet"), fresh=True, yes=True)
    assert len(old_logs(tmp_path)) == 1


def test_a_log_in_use_is_never_moved(cli: Cli, log: Log) -> None:
    """While an engine writes the log, a second run is refused with the engine's pid."""
    said = cli("run")
    assert said.code == 1
    assert "another engine (pid" in said.err
    assert log.bus.path.exists()


def test_an_impossible_folder(cli: Cli, tmp_path: Path) -> None:
    """A data folder that cannot be made is said before anything starts."""
    (tmp_path / "file").write_text("")
    said = cli("run", "--data-dir", str(tmp_path / "file" / "data"))
    assert said.code == 1 and "--data-dir" in said.err


@pytest.fixture
def taken(ports: dict[str, int]) -> Iterator[int]:
    """The simulator's port, taken by a program that says nothing."""
    with socket.create_server(("127.0.0.1", ports["SIM__PORT"])) as server:
        thread = threading.Thread(target=_hang_up, args=(server,), daemon=True)
        thread.start()
        yield ports["SIM__PORT"]
    thread.join(5)


def _hang_up(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.close()


def test_a_busy_port_is_said_at_once(cli: Cli, taken: int) -> None:
    """A port that is taken ends the run before it starts, with the variable to set."""
    said = cli("run")
    assert said.code == 2
    assert f"port {taken}" in said.err and f"SIM__PORT={taken + 100}" in said.err


def test_script_options_need_a_simulation(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real market has no script: --speed on testnet is a mistake, not ignored."""
    for name, value in (("MODE", "testnet"), ("BYBIT__API_KEY", "k" * 18),
                        ("BYBIT__API_SECRET", "s" * 36), ("OPERATOR__KEY", "o" * 32)):
        monkeypatch.setenv(name, value)
    said = cli("run", "--speed", "4")
    assert said.code == 2 and "MODE=testnet" in said.err


def test_unknown_account_to_show(cli: Cli) -> None:
    """Only a configured account can be shown."""
    assert cli("run", "--account", "spare").code == 2


def test_last_errors_are_short(tmp_path: Path) -> None:
    """Of a log of JSON lines the last errors are told; a traceback by its last line."""
    path = tmp_path / "hedgelock.log"
    path.write_text(
        '{"event": "started", "level": "info"}\n'
        '{"event": "configuration", "level": "critical", "error": "port 8001 is taken"}\n'
        'Traceback (most recent call last):\n  File "x.py"\nValueError: oh\n'
    )
    assert last_errors(path) == ["configuration: error port 8001 is taken", "ValueError: oh"]
    assert last_errors(tmp_path / "none") == []
