"""The configuration: what is accepted, what is refused and how the refusal reads."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from hedgelock.config import Mode, Settings, describe, env_example, load, reference_page
from hedgelock.config.checks import check
from hedgelock.config.load import variables
from hedgelock.domain.policy import Policy, Strategy
from hedgelock.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
KEYS = {"BYBIT__API_KEY": "the-key", "BYBIT__API_SECRET": "the-secret"}
NAMED = {"ACCOUNTS__main__API_KEY": "the-key", "ACCOUNTS__main__API_SECRET": "the-secret"}
OPERATOR = {"OPERATOR__KEY": "0123456789abcdef"}


def loaded(**environ: str) -> Settings:
    return load(environ, env_file=None)


def refused(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ, env_file=None)
    return str(caught.value)


# ---------------------------------------------------------------- defaults and policy


def test_without_anything_it_simulates() -> None:
    """No keys and no settings mean the built-in simulator with its own well-known key."""
    settings = loaded()
    endpoint = settings.endpoint("main")
    assert settings.trading_mode is Mode.SIM
    assert settings.account_names() == ("main",)
    assert endpoint.api_key.get_secret_value() == "hedgelock-sim"
    assert endpoint.rest_url == "http://127.0.0.1:8010"
    assert endpoint.ws_public_url == "ws://127.0.0.1:8010/v5/public"


def test_the_simulator_may_be_elsewhere() -> None:
    """In containers the simulator has a name of its own; real modes never look there."""
    assert loaded(SIM__SERVER="simulator").endpoint("main").rest_url == "http://simulator:8010"
    real = loaded(MODE="demo", SIM__SERVER="simulator", **KEYS, **OPERATOR).endpoint("main")
    assert "simulator" not in repr(real)


def test_default_policy_is_the_domains() -> None:
    """With nothing set the policy equals the domain's own defaults, so no threshold exists twice."""
    assert loaded(SIM__SCENARIO="calm").policy("main") == Policy(account="main", version=1)


def test_every_policy_field_has_a_variable() -> None:
    """A threshold that cannot be configured is either a mistake or listed here with its reason."""
    policy = Policy(account="a", version=1)
    for name in ("risk", "funding", "hedge", "execution", "tactics"):
        part = getattr(policy, name)
        group = Settings.model_fields[
            {"hedge": "hedger", "execution": "executor"}.get(name, name)
        ].annotation
        mapped = {field.json_schema_extra["to"] for field in group.model_fields.values()}
        assert mapped == {field.name for field in msgspec.structs.fields(type(part))}


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("RISK__LTV_CAUTION_THRESHOLD", "0.6", lambda p: p.risk.ltv_caution == Decimal("0.6")),
        ("RISK__LTV_DANGER_THRESHOLD", "0.7", lambda p: p.risk.ltv_danger == Decimal("0.7")),
        ("RISK__LTV_CRITICAL_THRESHOLD", "0.85", lambda p: p.risk.ltv_critical == Decimal("0.85")),
        ("RISK__DWELL_S", "1.25", lambda p: p.risk.dwell_ms == 1250),
        ("HEDGER__CAUTION_HEDGE_SIZE_BTC", "0.03", lambda p: p.hedge.caution_size == Decimal("0.03")),
        ("HEDGER__MAX_POSITION_SIZE_BTC", "10.0", lambda p: p.hedge.position_size_max == 10),
        ("HEDGER__STRATEGY", "ladder", lambda p: p.hedge.strategy is Strategy.LADDER),
        ("HEDGER__RESERVE_USDT", "6000", lambda p: p.hedge.reserve == 6000),
        ("EXECUTOR__INTENT_TTL_MS", "100", lambda p: p.execution.intent_ttl_ms == 100),
        (
            "FUNDING__MULTIPLIER_POINTS", "0:1, 2:0",
            lambda p: p.funding.multiplier_points == ((0, 1), (2, 0)),
        ),
    ],
)
def test_variables_reach_the_policy(name: str, value: str, read: object) -> None:
    """Each documented name sets the policy field that it promises, in the policy's unit."""
    assert read(loaded(**{name: value}).policy("main"))


def test_the_demo_brings_its_own_dwell() -> None:
    """`demo` shows minutes of market: it shortens the dwell, divided by the speed, and says so."""
    settings = loaded(SIM__SPEED="4")
    assert settings.policy("main").risk.dwell_ms == 1250
    assert settings.origin("RISK__DWELL_S") == "scenario demo"
    assert settings.policy("main").execution.slippage_max == Decimal("0.02")
    assert loaded(EXECUTOR__SLIPPAGE_MAX="0.001", SIM__SPEED="4").policy(
        "main").execution.slippage_max == Decimal("0.001")
    assert loaded().policy("main").execution.slippage_max == Decimal("0.005")
    assert loaded(RISK__DWELL_S="7").policy("main").risk.dwell_ms == 7000
    fast = settings.policy("main").execution
    assert (fast.rest_ms, fast.reprice_ms, fast.settlement_guard_ms) == (125, 62, 500)
    assert fast.slippage_brisk == fast.slippage_max == Decimal("0.02")
    assert loaded().policy("main").execution.slippage_brisk == Decimal("0.005")
    calm = loaded(SIM__SCENARIO="calm").policy("main").execution
    assert (calm.rest_ms, calm.reprice_ms, calm.settlement_guard_ms) == (10_000, 1_000, 60_000)
    assert calm.slippage_brisk == Decimal("0.001")
    assert loaded(MODE="testnet", **KEYS, **OPERATOR).policy("main").risk.dwell_ms == 300_000


# ---------------------------------------------------------------- refusals


def test_all_problems_come_at_once() -> None:
    """One error lists every problem with name, what is wrong and a good value."""
    text = refused(
        RISK__LTV_CAUTION_THRESHOLD="abc",
        RISK__LTV_DANGR_THRESHOLD="0.8",
        SIM__SPEED="0",
        HTTP__SAFETY_PORT="8001",
        LOG_LEVEL="loud",
    )
    assert "5 problems" in text
    assert "RISK__LTV_CAUTION_THRESHOLD='abc' must be a plain number; for example" in text
    assert "RISK__LTV_DANGR_THRESHOLD is not a setting; did you mean RISK__LTV_DANGER_THRESHOLD?" in text
    assert "HTTP__SAFETY_PORT=8001 is taken by HTTP__COLLECTOR_PORT; for example" in text
    assert "LOG_LEVEL='loud' should be" in text
    assert "SIM__SPEED='0'" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RISK__LTV_DANGER_THRESHOLD", "NaN"),
        ("RISK__LTV_DANGER_THRESHOLD", "Infinity"),
        ("RISK__LTV_DANGER_THRESHOLD", "-0.8"),
        ("RISK__LTV_DANGER_THRESHOLD", "80"),
        ("RISK__LTV_DANGER_THRESHOLD", "0,8"),
        ("HEDGER__MAX_POSITION_SIZE_BTC", "1_0"),
        ("EXECUTOR__INTENT_TTL_MS", "5e3"),
        ("EXECUTOR__INTENT_TTL_MS", "5_000"),
        ("HTTP__COLLECTOR_PORT", "70000"),
        ("BYBIT__TESTNET", "maybe"),
        ("BYBIT__REST_URL", "http://user:pass@127.0.0.1:1"),
        ("BYBIT__REST_URL", "http://127.0.0.1:x"),
        ("BYBIT__REST_URL", "127.0.0.1:8010"),
        ("KAFKA__BOOTSTRAP_SERVERS", "broker"),
        ("KAFKA__PREFIX", "a b"),
        ("HEDGER__INSTRUMENT", "BTCUSDT"),
        ("FUNDING__MULTIPLIER_POINTS", "0:1,1"),
        ("ACCOUNTS__main__REST_URL", "ftp://127.0.0.1"),
        ("OPERATOR__KEY", "short"),
        ("MODE", "production"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: str) -> None:
    """A value outside its type or range stops the start and is named; nothing falls back silently."""
    assert name in refused(**{name: value})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RISK__LTV_DANGER_THRESHOLD": "0.6"}, "RISK__LTV_CAUTION_THRESHOLD=0.65 must be below"),
        ({"RISK__LTV_CRITICAL_THRESHOLD": "0.96"}, "must be below RISK__LTV_LIQUIDATION"),
        ({"RISK__LTV_MARGIN_CALL": "0.95"}, "must be below RISK__LTV_LIQUIDATION"),
        ({"FUNDING__APR_HEATED": "0.05"}, "FUNDING__APR_NORMAL=0.10 must be below"),
        ({"HEDGER__HARVEST_TO": "0.75"}, "must be below HEDGER__HARVEST_AT"),
        ({"HEDGER__CAUTION_HEDGE_SIZE_BTC": "11"}, "must be below HEDGER__MAX_POSITION_SIZE_BTC"),
        ({"FUNDING__MULTIPLIER_POINTS": "0:1,1:1.5"}, "fall within 1..0"),
        ({"FUNDING__MULTIPLIER_POINTS": "1:1,0:0"}, "rise in APR"),
        ({"FUNDING__MULTIPLIER_POINTS": "0.1:1,1:0"}, "start at APR 0"),
    ],
)
def test_thresholds_must_be_in_order(environ: dict[str, str], expected: str) -> None:
    """Thresholds that cross would disable a state; they are refused with both names."""
    assert expected in refused(**environ)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA__BOOTSTRAP_SERVER", "KAFKA__BOOTSTRAP_SERVERS"),
        ("RSK__LTV_DANGER_THRESHOLD", "RISK__LTV_DANGER_THRESHOLD"),
        ("kafka__prefxi", "KAFKA__PREFIX"),
        ("ACCOUNTS__main__KEY", "API_KEY"),
        ("ACCOUNTS__API_KEY", "ACCOUNTS__name__"),
    ],
)
def test_unknown_variables_are_refused(name: str, meant: str) -> None:
    """A misspelt name in our groups is refused with the name that was probably meant."""
    text = refused(**{name: "x"})
    assert name in text
    assert meant in text


def test_an_unlikely_name_in_our_group_is_refused_too() -> None:
    """Where nothing is similar, the message says where the list is."""
    assert "`hedgelock config` lists" in refused(SIM__QQQQQQQQQQQQQQQQQQQ="1")


def test_foreign_variables_are_left_alone() -> None:
    """Other programs' variables are no business of ours."""
    loaded(PATH="/bin", KAFKA_HOME="/opt", SOME__THING="1", PYTHONPATH="")


def test_a_bad_threshold_is_reported_once() -> None:
    """A value that is not a number is not also reported as out of order."""
    assert "1 problem:" in refused(RISK__LTV_DANGER_THRESHOLD="x")


def test_the_same_name_in_two_cases_is_refused() -> None:
    """Names ignore case, so two spellings of one name are a contradiction, not a choice."""
    assert "set twice" in refused(LOG_LEVEL="INFO", log_level="DEBUG")


def test_empty_means_unset_and_blanks_are_trimmed() -> None:
    """Compose passes unset variables as empty ones."""
    settings = loaded(BYBIT__API_KEY="", KAFKA__BOOTSTRAP_SERVERS=" ", LOG_LEVEL=" DEBUG ")
    assert settings.kafka.bootstrap_servers is None
    assert settings.log_level == "DEBUG"


# ---------------------------------------------------------------- modes and keys


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (KEYS, "MODE is not set, but keys are"),
        (KEYS | {"BYBIT__TESTNET": "false"}, "MODE is not set, but keys are"),
        (NAMED, "MODE is not set, but keys are"),
        ({"MODE": "paper", "BYBIT__REST_URL": "https://api.bybit.com"}, "is an exchange's"),
        ({"MODE": "live"} | OPERATOR, "MODE=live needs its account by name"),
        (KEYS | {"MODE": "live"} | OPERATOR, "MODE=live needs its account by name"),
        (NAMED | {"MODE": "live"}, "MODE=live needs OPERATOR__KEY"),
        (NAMED | {"MODE": "live", "BYBIT__TESTNET": "true"} | OPERATOR, "contradicts"),
        (KEYS | {"MODE": "testnet", "BYBIT__TESTNET": "false"} | OPERATOR, "contradicts"),
        ({"MODE": "testnet"} | OPERATOR, "MODE=testnet needs BYBIT__API_KEY"),
        ({"BYBIT__API_KEY": "k", "MODE": "sim"}, "one is missing"),
        ({"ACCOUNTS__a__API_KEY": "k", "MODE": "sim"}, "belong together"),
        ({"ACCOUNTS__a__REST_URL": "https://127.0.0.1", "MODE": "live"} | OPERATOR, "belong together"),
        (KEYS | NAMED | {"MODE": "demo"} | OPERATOR, "are both set"),
        ({"ACCOUNTS__a b__API_KEY": "k", "ACCOUNTS__a b__API_SECRET": "s", "MODE": "sim"}, "letters"),
        ({"BYBIT__REST_URL": "https://api.bybit.com"}, "but MODE=sim"),
        (KEYS | {"MODE": "demo", "BYBIT__REST_URL": "http://example.org"} | OPERATOR, "unencrypted"),
        (NAMED | {"MODE": "live", "ACCOUNTS__main__WS_PRIVATE_URL": "ws://example.org"} | OPERATOR,
         "unencrypted"),
    ],
)
def test_unsafe_combinations_are_refused(environ: dict[str, str], expected: str) -> None:
    """Keys alone never trade, live needs everything spelt out, and nothing travels in clear."""
    assert expected in refused(**environ)


def test_live_with_a_named_account_and_keys() -> None:
    """MODE=live, a named account and an operator key: the exchange's own addresses."""
    settings = loaded(MODE="live", **NAMED, **OPERATOR)
    endpoint = settings.endpoint("main")
    assert endpoint.rest_url == "https://api.bybit.com"
    assert endpoint.ws_trade_url == "wss://stream.bybit.com/v5/trade"
    assert endpoint.api_secret.get_secret_value() == "the-secret"


def test_testnet_as_the_seed_named_it() -> None:
    """BYBIT__TESTNET=true with keys selects testnet; without keys it simulates."""
    settings = loaded(BYBIT__TESTNET="true", **KEYS, **OPERATOR)
    assert settings.trading_mode is Mode.TESTNET
    assert settings.endpoint("main").rest_url == "https://api-testnet.bybit.com"
    assert loaded(BYBIT__TESTNET="true").trading_mode is Mode.SIM


def test_demo_has_no_trade_socket() -> None:
    """The exchange's demo takes market data from mainnet and orders over REST only."""
    endpoint = loaded(MODE="demo", **KEYS, **OPERATOR).endpoint("main")
    assert endpoint.ws_public_url == "wss://stream.bybit.com/v5/public"
    assert endpoint.ws_private_url == "wss://stream-demo.bybit.com/v5/private"
    assert endpoint.ws_trade_url == ""


def test_real_keys_never_go_to_the_simulator() -> None:
    """MODE=sim ignores BYBIT's key: the simulator gets its own."""
    endpoint = loaded(MODE="sim", **KEYS).endpoint("main")
    assert endpoint.api_key.get_secret_value() == "hedgelock-sim"


def test_account_names_ignore_case_and_override_addresses() -> None:
    """Each named account has its own key and may have its own address."""
    settings = loaded(
        MODE="sim",
        ACCOUNTS__Desk1__API_KEY="k", ACCOUNTS__desk1__API_SECRET="s",
        ACCOUNTS__DESK1__REST_URL="http://127.0.0.1:9/",
        BYBIT__WS_PRIVATE_URL="ws://simulator:8010/v5/private",
    )
    endpoint = settings.endpoint("desk1")
    assert settings.account_names() == ("desk1",)
    assert endpoint.rest_url == "http://127.0.0.1:9"
    assert endpoint.ws_private_url == "ws://simulator:8010/v5/private"
    assert endpoint.api_key.get_secret_value() == "k"


def test_operator_key_is_well_known_in_simulation_only() -> None:
    """Every mode that trades must set OPERATOR__KEY; the simulation has a public one."""
    assert loaded().operator_key.get_secret_value() == "hedgelock-sim-operator"
    assert loaded(**OPERATOR).operator_key.get_secret_value() == "0123456789abcdef"


def test_service_ports() -> None:
    """Every service has an HTTP and a metrics port, as in the design."""
    http = loaded(HTTP__SAFETY_PORT="0", HTTP__HEDGER_PORT="0").http
    assert http.ports("risk-engine") == (8002, 9096)
    assert http.ports("safety") == (0, 9098)
    assert http.variables("risk-engine") == (
        "HTTP__RISK_ENGINE_PORT", "HTTP__RISK_ENGINE_METRICS_PORT",
    )
    with pytest.raises(KeyError):
        http.ports("nobody")


# ---------------------------------------------------------------- .env


def dotenv(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """The environment is stronger than `.env`, which is stronger than defaults; origins are kept."""
    path = dotenv(tmp_path, "LOG_LEVEL=DEBUG\nexport SIM__SEED=7  # a comment\n\n# another\n")
    settings = load({"LOG_LEVEL": "ERROR"}, env_file=path, overrides={"SIM__PORT": "9000"})
    assert settings.origin("SIM__PORT") == "command line"
    assert (settings.log_level, settings.sim.seed) == ("ERROR", 7)
    assert settings.origin("LOG_LEVEL") == "environment"
    assert settings.origin("SIM__SEED") == ".env"
    assert settings.origin("MODE") == "default"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_readable_secret_is_refused_with_the_chmod(tmp_path: Path, mode: int) -> None:
    """A secret that group or others can read is refused, with the command that repairs it."""
    path = dotenv(tmp_path, "OPERATOR__KEY=0123456789abcdef\n", mode)
    with pytest.raises(ConfigError, match=re.escape(f"chmod 600 {path}")) as caught:
        load({}, env_file=path)
    assert "0123456789abcdef" not in str(caught.value)


def test_a_readable_file_without_secrets_is_fine(tmp_path: Path) -> None:
    """Only secrets need to be hidden; an empty one is none."""
    path = dotenv(tmp_path, "LOG_LEVEL=DEBUG\nBYBIT__API_KEY=\n", 0o644)
    assert load({}, env_file=path).log_level == "DEBUG"


@pytest.mark.parametrize("text", ["LOG_LEVEL\n", "what is this\n", "LOG_LEVEL='DEBUG\n"])
def test_a_broken_line_is_refused(tmp_path: Path, text: str) -> None:
    """A line that does not parse is never skipped: it may have been a limit."""
    with pytest.raises(ConfigError, match="line 1 is not NAME=value"):
        load({}, env_file=dotenv(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Bytes that are no text, or a folder, stop the start."""
    path = tmp_path / ".env"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load({}, env_file=path)


def test_a_missing_file_is_fine(tmp_path: Path) -> None:
    """Nobody needs an `.env`."""
    assert load({}, env_file=tmp_path / ".env").trading_mode is Mode.SIM


def test_the_real_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's environment counts."""
    monkeypatch.setenv("SIM__SEED", "11")
    assert load(env_file=None).sim.seed == 11


# ---------------------------------------------------------------- documents


def test_secrets_appear_nowhere() -> None:
    """Neither the table nor repr nor an error shows a secret."""
    secret = "very-secret-value"
    environ = {"MODE": "live", "ACCOUNTS__a__API_KEY": secret, "ACCOUNTS__a__API_SECRET": secret,
               "OPERATOR__KEY": secret}
    settings = load(environ, env_file=None)
    text = repr(settings) + repr(describe(settings)) + refused(**environ, SIM__SEED="x")
    assert secret not in text
    assert settings.secrets() == (secret, secret, secret)
    rows = {row.name: row for row in describe(settings)}
    assert rows["ACCOUNTS__a__API_KEY"].value == "(set)"
    assert rows["BYBIT__API_KEY"].value == "(not set)"


def test_describe_shows_what_is_in_force() -> None:
    """Each row has the value in force, its unit, its default and where it comes from."""
    rows = {row.name: row for row in describe(loaded(HEDGER__STRATEGY="ladder"))}
    assert rows["MODE"].value == "sim"
    assert rows["HEDGER__STRATEGY"][1:4] == ("ladder", "", "ltv_target")
    assert rows["HEDGER__STRATEGY"].origin == "environment"
    assert rows["RISK__LTV_DANGER_THRESHOLD"].unit == "fraction"
    assert rows["BYBIT__TESTNET"].value == ""
    assert {row.value for row in describe(loaded(BYBIT__TESTNET="no"))} >= {"false"}


def test_every_setting_says_what_it_is() -> None:
    """Help for all; a unit for every number that is no port, seed or code."""
    rows = describe(loaded())
    assert all(row.help.endswith(".") for row in rows)
    unitless = {r.name for r in rows if re.fullmatch(r"\d+(\.\d+)?", r.default) and not r.unit}
    assert {name for name in unitless if not name.endswith(("_PORT", "__PORT", "SEED"))} == set()


def test_committed_documents_are_the_generated_ones() -> None:
    """`.env.example` and the reference page are generated: `make config-docs` brings them back."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()
    assert (ROOT / "docs/reference/config.md").read_text(encoding="utf-8") == reference_page()


def test_the_example_file_is_valid_when_uncommented(tmp_path: Path) -> None:
    """Uncommenting every line of `.env.example` (with a mode for the addresses) starts."""
    text = re.sub(r"^#(?=[A-Za-z_]+=)", "", env_example(), flags=re.MULTILINE)
    text = re.sub(r"^#(?=[A-Z]+__)", "", text, flags=re.MULTILINE)
    settings = load({}, env_file=dotenv(tmp_path, text))
    assert check(settings) == []
    set_here = {line.split("=")[0] for line in text.splitlines() if re.match(r"[A-Z]", line)}
    assert {v.name for v in variables()} <= set_here
