"""What must hold between settings: orders of thresholds, mode and keys, ports, addresses."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from hedgelock.config.fields import is_local
from hedgelock.config.groups import AccountSettings, BybitSettings
from hedgelock.config.settings import Mode, Settings


class Problem(NamedTuple):
    """One thing wrong: the variables that it is about, and the line to print."""

    about: tuple[str, ...]
    text: str


def check(settings: Settings) -> list[Problem]:
    """Every contradiction between settings that are valid one by one."""
    return [
        *_orders(settings),
        *_multiplier(settings),
        *_mode(settings),
        *_accounts(settings),
        *_addresses(settings),
        *_ports(settings),
    ]


_ASCENDING = (
    "RISK__LTV_CAUTION_THRESHOLD RISK__LTV_DANGER_THRESHOLD RISK__LTV_CRITICAL_THRESHOLD",
    "RISK__LTV_CRITICAL_THRESHOLD RISK__LTV_LIQUIDATION",
    "RISK__LTV_LEAVE_BELOW RISK__LTV_CAUTION_THRESHOLD",
    "RISK__LTV_MARGIN_CALL RISK__LTV_LIQUIDATION",
    "FUNDING__APR_NORMAL FUNDING__APR_HEATED FUNDING__APR_MANIA FUNDING__APR_EXTREME",
    "HEDGER__REFILL_BELOW HEDGER__HARVEST_TO HEDGER__HARVEST_AT HEDGER__URGENT_AT",
    "HEDGER__URGENT_AT RISK__LTV_LIQUIDATION",
    "HEDGER__URGENT_TO HEDGER__URGENT_AT",
    "HEDGER__LTV_MAX RISK__LTV_LIQUIDATION",
    "HEDGER__CAUTION_HEDGE_SIZE_BTC HEDGER__MAX_POSITION_SIZE_BTC",
)
"""In each line every value must be below the next."""


def _orders(settings: Settings) -> Iterator[Problem]:
    for line in _ASCENDING:
        for low, high in pairwise(line.split()):
            below, above = _decimal(settings, low), _decimal(settings, high)
            if below >= above:
                yield Problem(
                    (low, high),
                    f"{low}={below} must be below {high}={above}; for example"
                    f" {low}={_default(low)} with {high}={_default(high)}",
                )


def _decimal(settings: Settings, name: str) -> Decimal:
    group, field = name.lower().split("__")
    value = getattr(getattr(settings, group), field)
    assert isinstance(value, Decimal), name
    return value


def _default(name: str) -> Decimal:
    return _decimal(Settings(), name)


def _multiplier(settings: Settings) -> Iterator[Problem]:
    points = settings.funding.multiplier_points
    aprs = [apr for apr, _ in points]
    sizes = [size for _, size in points]
    rising = all(low < high for low, high in pairwise(aprs))
    falling = all(high >= low for high, low in pairwise(sizes))
    if not (points and rising and falling and aprs[0] == 0 and sizes[0] <= 1 and sizes[-1] >= 0):
        yield Problem(
            ("FUNDING__MULTIPLIER_POINTS",),
            "FUNDING__MULTIPLIER_POINTS must start at APR 0, rise in APR and fall within 1..0 in the"
            " multiplier; for example 0:1,0.1:0.9,0.5:0.6,1:0.3,3:0",
        )


def _mode(settings: Settings) -> Iterator[Problem]:
    mode, bybit = settings.trading_mode, settings.bybit
    names = ("MODE", "BYBIT__TESTNET")
    if bybit.testnet and mode in (Mode.LIVE, Mode.DEMO):
        yield Problem(
            names, f"MODE={mode.value} contradicts BYBIT__TESTNET=true; remove one of the two"
        )
    if bybit.testnet is False and settings.mode is Mode.TESTNET:
        yield Problem(names, "MODE=testnet contradicts BYBIT__TESTNET=false; remove one of the two")
    if settings.mode is None and settings.has_keys and not bybit.testnet:
        yield Problem(
            ("MODE",),
            "MODE is not set, but keys are; say what is meant: MODE=sim, MODE=demo, MODE=testnet, or"
            " MODE=live for real money",
        )
    if mode.needs_keys and settings.operator.key is None:
        yield Problem(
            ("OPERATOR__KEY",),
            f"MODE={mode.value} needs OPERATOR__KEY, which signs halt, resume and kill; for example"
            " OPERATOR__KEY=$(openssl rand -hex 32)",
        )


def _accounts(settings: Settings) -> Iterator[Problem]:
    mode, bybit = settings.trading_mode, settings.bybit
    pair = ("BYBIT__API_KEY", "BYBIT__API_SECRET")
    if bool(bybit.api_key) is not bool(bybit.api_secret):
        yield Problem(pair, "BYBIT__API_KEY and BYBIT__API_SECRET belong together; one is missing")
    if settings.accounts and bybit.api_key and mode.needs_keys:
        yield Problem(
            pair, "BYBIT__API_KEY and ACCOUNTS__name__API_KEY are both set; keep the named account"
        )
    if mode is Mode.LIVE and not settings.accounts:
        yield Problem(
            ("ACCOUNTS",),
            "MODE=live needs its account by name; for example ACCOUNTS__main__API_KEY=… and"
            " ACCOUNTS__main__API_SECRET=…",
        )
    elif mode.needs_keys and not settings.accounts and not bybit.api_key:
        yield Problem(pair, f"MODE={mode.value} needs BYBIT__API_KEY and BYBIT__API_SECRET")
    for name, account in settings.accounts.items():
        names = (f"ACCOUNTS__{name}__API_KEY", f"ACCOUNTS__{name}__API_SECRET")
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            yield Problem(names, f"account {name!r} must be letters, digits, - and _; for example main")
        missing = bool(account.api_key) is not bool(account.api_secret)
        if missing or (mode.needs_keys and not account.api_key):
            yield Problem(names, f"{names[0]} and {names[1]} belong together; set both")


def _addresses(settings: Settings) -> Iterator[Problem]:
    """Keys and orders travel encrypted; a simulation never leaves for the exchange."""
    mode = settings.trading_mode
    holders: list[tuple[str, BybitSettings | AccountSettings]] = [("BYBIT", settings.bybit)]
    holders += [(f"ACCOUNTS__{name}", account) for name, account in settings.accounts.items()]
    for prefix, holder in holders:
        for field in ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url"):
            url = getattr(holder, field)
            if url is None:
                continue
            name = f"{prefix}__{field.upper()}"
            plain = url.startswith(("http://", "ws://"))
            if mode.needs_keys and plain and not is_local(url):
                yield Problem(
                    (name,), f"{name}={url} would send keys unencrypted; use https:// or wss://"
                )
            if not mode.needs_keys and not plain:
                yield Problem(
                    (name,),
                    f"{name}={url} is an exchange's, but MODE={mode.value}; leave it unset, or say"
                    " which MODE is meant",
                )


def _ports(settings: Settings) -> Iterator[Problem]:
    owners = {settings.sim.port: "SIM__PORT"}
    for field, port in settings.http:
        if not field.endswith("_port") or port == 0:
            continue
        name = f"HTTP__{field.upper()}"
        if port in owners:
            yield Problem(
                (name, owners[port]),
                f"{name}={port} is taken by {owners[port]}; for example {name}={_free(settings)}",
            )
        owners.setdefault(port, name)


def _free(settings: Settings) -> int:
    taken = {port for field, port in settings.http if field.endswith("_port")}
    return next(port for port in range(8001, 65_536) if port not in {*taken, settings.sim.port})
