"""All settings together: the mode, the accounts and where to reach them, the policy they describe."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec
from pydantic import Field, PrivateAttr, SecretStr

from hedgelock.config.breakers import SafetySettings
from hedgelock.config.fields import Group, about, var
from hedgelock.config.funding import FundingSettings
from hedgelock.config.groups import (
    AccountSettings,
    BybitSettings,
    ExecutorSettings,
    HedgerSettings,
    KafkaSettings,
    RiskSettings,
)
from hedgelock.config.machine import HttpSettings, OperatorSettings, SimSettings
from hedgelock.config.tactics import TacticsSettings
from hedgelock.domain.policy import (
    ExecutionPolicy,
    FundingPolicy,
    HedgePolicy,
    Policy,
    RiskPolicy,
    SafetyPolicy,
    TacticsPolicy,
)

P = TypeVar("P", bound=msgspec.Struct)

SIM_KEY = "hedgelock-sim"
"""Key and secret of the watched account in the built-in simulator; no secret."""
SIM_OPERATOR_KEY = "hedgelock-sim-operator"
"""Signs operator commands where no real money is at stake; no secret."""


class Mode(enum.Enum):
    """What HedgeLock trades against."""

    SIM = "sim"
    PAPER = "paper"
    DEMO = "demo"
    TESTNET = "testnet"
    LIVE = "live"

    @property
    def needs_keys(self) -> bool:
        """True when orders leave this machine."""
        return self in (Mode.DEMO, Mode.TESTNET, Mode.LIVE)


class Endpoint(NamedTuple):
    """One account: its key and where to use it. `ws_trade_url` "" = no trade socket there."""

    account: str
    api_key: SecretStr
    api_secret: SecretStr
    rest_url: str
    ws_public_url: str
    ws_private_url: str
    ws_trade_url: str


class Settings(Group):
    """All settings, checked. Made by `load` only."""

    mode: Mode | None = var(
        None,
        "sim, paper, demo, testnet or live; unset = sim; with keys and BYBIT__TESTNET=true testnet.",
        example="sim",
    )
    data_dir: Path = var(Path("data"), "Folder of the embedded log and its lock.")
    shared_dir: Path | None = var(
        None,
        "Folder that every HedgeLock of this machine shares: the budget of requests, stand-offs and key"
        " locks; unset = ~/.local/state/hedgelock, and DATA_DIR for the simulator.",
        example="/var/lib/hedgelock",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = var(
        "INFO", "DEBUG, INFO, WARNING or ERROR."
    )
    kafka: KafkaSettings = KafkaSettings()
    bybit: BybitSettings = BybitSettings()
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    risk: RiskSettings = RiskSettings()
    funding: FundingSettings = FundingSettings()
    hedger: HedgerSettings = HedgerSettings()
    tactics: TacticsSettings = TacticsSettings()
    executor: ExecutorSettings = ExecutorSettings()
    safety: SafetySettings = SafetySettings()
    operator: OperatorSettings = OperatorSettings()
    sim: SimSettings = SimSettings()
    http: HttpSettings = HttpSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def trading_mode(self) -> Mode:
        """The mode in force."""
        if self.mode is not None:
            return self.mode
        return Mode.TESTNET if self.bybit.testnet and self.has_keys else Mode.SIM

    @property
    def has_keys(self) -> bool:
        """True when a key of any account is configured, complete or not."""
        return bool(self.bybit.api_key or self.bybit.api_secret or self.accounts)

    @property
    def operator_key(self) -> SecretStr:
        """The key that signs operator commands; the simulator has a well-known one."""
        return self.operator.key or SecretStr(SIM_OPERATOR_KEY)

    def machine_dir(self) -> Path:
        """Where the HedgeLocks of this machine meet; a simulated exchange has no neighbours."""
        if self.shared_dir is not None:
            return self.shared_dir
        if not self.trading_mode.needs_keys:
            return self.data_dir
        return Path("~/.local/state/hedgelock").expanduser()

    def secrets(self) -> tuple[str, ...]:
        """Every configured secret in clear, for the log's redaction and nothing else."""
        holders: list[Group] = [self.bybit, self.operator, *self.accounts.values()]
        return tuple(
            value.get_secret_value()
            for holder in holders
            for _, value in holder
            if isinstance(value, SecretStr)
        )

    def origin(self, name: str) -> str:
        """Where a variable's value comes from: environment, .env, scenario or default."""
        return self._origins.get(name, "default")

    def policy(self, account: str, *, version: int = 1) -> Policy:
        """The account's limits as configured."""
        return Policy(
            account=account,
            version=version,
            risk=_mapped(self.risk, RiskPolicy),
            funding=_mapped(self.funding, FundingPolicy),
            hedge=_mapped(self.hedger, HedgePolicy),
            execution=_mapped(self.executor, ExecutionPolicy),
            safety=_mapped(self.safety, SafetyPolicy),
            tactics=_mapped(self.tactics, TacticsPolicy),
        )

    def account_names(self) -> tuple[str, ...]:
        """The accounts to keep alive; `main` unless ACCOUNTS names them."""
        return tuple(sorted(self._accounts()))

    def endpoint(self, account: str) -> Endpoint:
        """Key and addresses of an account; KeyError for one that is not configured."""
        own = self._accounts()[account]
        rest, public, private, trade = addresses(
            self.trading_mode, f"{self.sim.server}:{self.sim.port}"
        )
        simulated = self.trading_mode in (Mode.SIM, Mode.PAPER)
        return Endpoint(
            account=account,
            api_key=own.api_key or SecretStr(SIM_KEY if simulated else ""),
            api_secret=own.api_secret or SecretStr(SIM_KEY if simulated else ""),
            rest_url=own.rest_url or self.bybit.rest_url or rest,
            ws_public_url=own.ws_public_url or self.bybit.ws_public_url or public,
            ws_private_url=own.ws_private_url or self.bybit.ws_private_url or private,
            ws_trade_url=own.ws_trade_url or self.bybit.ws_trade_url or trade,
        )

    def _accounts(self) -> dict[str, AccountSettings]:
        if self.accounts:
            return self.accounts
        if self.trading_mode.needs_keys:
            return {
                "main": AccountSettings(
                    api_key=self.bybit.api_key, api_secret=self.bybit.api_secret
                )
            }
        return {"main": AccountSettings()}


def addresses(mode: Mode, simulator: str) -> tuple[str, str, str, str]:
    """REST, public, private and trade addresses of a mode (fact sheet §1.1); "" = there is none."""
    if mode is Mode.LIVE:
        stream = "wss://stream.bybit.com/v5"
        return "https://api.bybit.com", f"{stream}/public", f"{stream}/private", f"{stream}/trade"
    if mode is Mode.TESTNET:
        stream = "wss://stream-testnet.bybit.com/v5"
        return (
            "https://api-testnet.bybit.com",
            f"{stream}/public",
            f"{stream}/private",
            f"{stream}/trade",
        )
    if mode is Mode.DEMO:
        return (
            "https://api-demo.bybit.com",
            "wss://stream.bybit.com/v5/public",
            "wss://stream-demo.bybit.com/v5/private",
            "",
        )
    stream = f"ws://{simulator}/v5"
    return f"http://{simulator}", f"{stream}/public", f"{stream}/private", f"{stream}/trade"


def _mapped(group: Group, policy: type[P]) -> P:
    """A policy with every field that the group's settings name in `to`."""
    values: dict[str, object] = {}
    for name, value in group:
        to = about(type(group), name).to
        seconds_to_ms = name.endswith("_s") and to.endswith("_ms")
        values[to] = int(value * 1000) if seconds_to_ms else value
    return policy(**values)
