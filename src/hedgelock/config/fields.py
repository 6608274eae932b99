"""How one setting is declared: its type, unit, example, and the policy field that it sets."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from hedgelock.domain.money import parse_decimal

_WHOLE = re.compile(r"[+-]?\d{1,18}\Z")
_SECRET_CHARS_MIN = 16
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class About(NamedTuple):
    """What the documentation and the policy mapping need to know about a setting.

    `to` names the field of the domain policy that it sets; a name in `_s` that sets one in `_ms`
    is multiplied by 1,000.
    """

    unit: str
    example: str
    to: str


def var(default: Any, help: str, *, unit: str = "", example: str = "", to: str = "") -> Any:
    """A setting: default, one sentence of help, and what `About` says."""
    return Field(default, description=help, json_schema_extra={"unit": unit, "example": example,
                                                               "to": to})


def about(model: type[BaseModel], name: str) -> About:
    """The declared unit, example and policy field of one setting."""
    extra = model.model_fields[name].json_schema_extra
    assert isinstance(extra, dict), f"{model.__name__}.{name} is not declared with var()"
    return About(str(extra["unit"]), str(extra["example"]), str(extra["to"]))


class Group(BaseModel):
    """Settings that share a prefix. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True,
                              hide_input_in_errors=True)


# ---------------------------------------------------------------- strict types


def _decimal(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    try:
        return parse_decimal(str(value))
    except ValueError:
        raise ValueError("must be a plain number") from None


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not _WHOLE.match(str(value)):
        raise ValueError("must be a whole number")
    return int(str(value))


def _truth(value: object) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise ValueError("must be true or false")
    return known[str(value).lower()]


def is_local(url: str) -> bool:
    """True when the address is this machine's own."""
    return urlsplit(url).hostname in _LOCAL_HOSTS


def _url(value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address") from None
    if parts.scheme not in schemes or not parts.hostname:
        starts = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be an address that starts with {starts}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    return value.rstrip("/")


def _http_url(value: str) -> str:
    return _url(value, ("https", "http"))


def _ws_url(value: str) -> str:
    return _url(value, ("wss", "ws"))


def _shaped(pattern: str, words: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def checked(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(checked)


def _long(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < _SECRET_CHARS_MIN:
        raise ValueError(f"must have at least {_SECRET_CHARS_MIN} characters")
    return value


_Decimal = Annotated[Decimal, BeforeValidator(_decimal)]
_Whole = Annotated[int, BeforeValidator(_whole)]

Positive = Annotated[_Decimal, Field(gt=0)]
NonNegative = Annotated[_Decimal, Field(ge=0)]
Fraction = Annotated[_Decimal, Field(gt=0, lt=1)]
FractionOrZero = Annotated[_Decimal, Field(ge=0, lt=1)]
Seconds = Annotated[_Decimal, Field(ge=0, le=2_592_000)]
Speed = Annotated[_Decimal, Field(gt=0, le=1000)]
Milliseconds = Annotated[_Whole, Field(ge=1, le=86_400_000)]
Count = Annotated[_Whole, Field(ge=1, le=1_000_000)]
Seed = Annotated[_Whole, Field(ge=0, le=2**63 - 1)]
Port = Annotated[_Whole, Field(ge=0, le=65_535)]
FixedPort = Annotated[_Whole, Field(ge=1, le=65_535)]
Truth = Annotated[bool, BeforeValidator(_truth)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
WsUrl = Annotated[str, AfterValidator(_ws_url)]
Name = Annotated[str, _shaped(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, . _ and -")]
Scenario = Annotated[
    str,
    _shaped(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}|[^\x00-\x1f]{1,400}\.toml", "a name, or a .toml file"),
]
Prefix = Annotated[str, _shaped(r"[A-Za-z0-9._-]{0,64}", "letters, digits, . _ and -")]
Coin = Annotated[str, _shaped(r"[A-Z0-9]{2,12}", "a coin in capitals")]
Instrument = Annotated[
    str, _shaped(r"(linear|inverse|spot):[A-Z0-9]{3,24}", "category:symbol, such as linear:BTCUSDT")
]
Host = Annotated[str, _shaped(r"[A-Za-z0-9.:_-]{1,253}", "an address to bind, such as 127.0.0.1")]
Servers = Annotated[
    str,
    _shaped(r"[A-Za-z0-9._-]+:\d{1,5}(,[A-Za-z0-9._-]+:\d{1,5})*", "host:port, separated by commas"),
]
Secret = SecretStr
LongSecret = Annotated[SecretStr, AfterValidator(_long)]

Points = tuple[tuple[Decimal, Decimal], ...]


def _points(value: object) -> Points:
    if isinstance(value, tuple):
        return value
    try:
        pairs = [pair.split(":") for pair in str(value).split(",")]
        return tuple((parse_decimal(x.strip()), parse_decimal(y.strip())) for x, y in pairs)
    except ValueError:
        raise ValueError("must be pairs apr:multiplier separated by commas") from None


PointList = Annotated[Points, BeforeValidator(_points)]
