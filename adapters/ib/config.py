"""Settings of a connection to Interactive Brokers, and the guards between paper and live.

Three facts must agree before anything is sent: the mode, the port, and the account, which must also
be one that the gateway manages. Live needs a second key besides: the environment has to name the
account once more.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from enum import IntEnum
from ipaddress import ip_address
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator, model_validator

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params

PREFIX = "PROMETHEUS_IB_"
ENVIRONMENT = (
    *("account", "mode", "host", "port", "client_id", "time_zone", "market_data_type"),
    *("also_ports", "also_hosts"),
)
"""Settings that the environment may give, in capitals behind the prefix."""

LIVE_KEY_VARIABLE = f"{PREFIX}LIVE_ACCOUNT"
"""Environment variable that must repeat the account's number before a live connection is made."""

PAPER_PORTS, LIVE_PORTS = (4002, 7497), (4001, 7496)
"""Of the gateway and of the workstation."""

PAPER_ACCOUNT, LIVE_ACCOUNT = re.compile(r"D[UF]\d+"), re.compile(r"[UF]\d+")

Mode = Literal["paper", "live"]


class MarketDataType(IntEnum):
    """What the gateway may answer a request for quotes with, as the wire numbers it."""

    LIVE = 1
    FROZEN = 2
    DELAYED = 3
    DELAYED_FROZEN = 4


class QuietWindow(Params):
    """A time of day at which the gateway is expected to go away, such as its nightly restart."""

    start: time
    minutes: int = Field(30, ge=1, le=720)

    def contains(self, moment: datetime) -> bool:
        """Return whether a moment, on the window's own clock, is inside."""
        begun = moment.replace(hour=self.start.hour, minute=self.start.minute, second=0)
        length = timedelta(minutes=self.minutes)
        return any(
            timedelta(0) <= moment - day < length for day in (begun, begun - timedelta(days=1))
        )


class Backoff(Params):
    """Seconds between attempts to connect: they double from `first` to `most`, less a jitter."""

    first_seconds: float = Field(0.5, gt=0)
    most_seconds: float = Field(30.0, gt=0)
    client_id_seconds: float = Field(5.0, gt=0)
    jitter: float = Field(0.2, ge=0, lt=1)

    def seconds(self, attempt: int, chance: float) -> float:
        """Return the wait before attempt 1, 2, ..., for a `chance` between 0 and 1."""
        # 2**20 times anything is beyond `most`, and does not overflow in a long night.
        doubled = self.first_seconds * 2.0 ** min(attempt - 1, 20)
        return min(doubled, self.most_seconds) * (1.0 - self.jitter * chance)


class LinkParams(Params):
    """One connection to a gateway or workstation; it holds no password, the gateway's login does.

    Attributes
    ----------
    client_id : orders belong to it, so it must stay the same over restarts
    also_ports : ports besides the usual ones of the mode, for a forwarded or simulated gateway
    also_hosts : hosts besides this machine's own
    time_zone : of the gateway's clock, for times that come without one
    quiet : times on that clock at which the link may go without anybody being alarmed
    messages_per_second : sent at most, in any second; the gateway's own limit is 50
    lines : quotes that may be subscribed to at once; the gateway's own limit is 100
    """

    mode: Mode = "paper"
    host: str = "127.0.0.1"
    port: int = Field(4002, ge=1, le=65535)
    client_id: int = Field(1, ge=1)
    account: str
    also_ports: tuple[int, ...] = ()
    also_hosts: tuple[str, ...] = ()
    market_data_type: MarketDataType = MarketDataType.LIVE
    time_zone: str = "America/New_York"
    quiet: tuple[QuietWindow, ...] = (
        QuietWindow(start=time(23, 40), minutes=40),
        QuietWindow(start=time(1, 0), minutes=30),
    )
    connect_timeout_seconds: float = Field(10.0, gt=0)
    start_timeout_seconds: float = Field(60.0, gt=0)
    request_timeout_seconds: float = Field(30.0, gt=0)
    heartbeat_seconds: float = Field(10.0, gt=0)
    heartbeat_timeout_seconds: float = Field(5.0, gt=0)
    backoff: Backoff = Backoff()
    messages_per_second: int = Field(45, ge=1, le=45)
    slow_seconds: float = Field(60.0, ge=0)
    lines: int = Field(90, ge=1, le=100)

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{name!r} is no time zone; expected one like US/Eastern") from None
        return name

    @model_validator(mode="after")
    def _agree(self) -> Self:
        require_consistent(self)
        return self

    def is_quiet(self, moment: datetime) -> bool:
        """Return whether the gateway is expected to be away at an aware moment."""
        local = moment.astimezone(ZoneInfo(self.time_zone))
        return any(window.contains(local) for window in self.quiet)


class DeskParams(Params):
    """How patient the desk is; seconds.

    tick_seconds : between looks at what is waited for.
    answer_seconds : after which an order, a change or a cancel without an answer is looked up.
    apart_seconds : between the two rounds of lists that prove that an order never arrived.
    resync_seconds : between resyncs when nothing is unclear.
    retry_seconds : between attempts at a resync that failed.
    """

    tick_seconds: float = Field(0.1, gt=0)
    answer_seconds: float = Field(10.0, gt=0)
    apart_seconds: float = Field(10.0, gt=0)
    resync_seconds: float = Field(60.0, gt=0)
    retry_seconds: float = Field(1.0, gt=0)


def link_params(environment: Mapping[str, str], **changed: Any) -> LinkParams:
    """Return the settings that PROMETHEUS_IB_... of the environment make, with others changed.

    ACCOUNT, MODE, HOST, PORT, CLIENT_ID, TIME_ZONE, MARKET_DATA_TYPE, and ALSO_PORTS and ALSO_HOSTS
    with commas between. A live connection needs LIVE_ACCOUNT as well.

    Raises
    ------
    ConfigError
        If a value is missing, cannot be read, or contradicts another.
    """
    found: dict[str, Any] = {
        name: environment[f"{PREFIX}{name.upper()}"]
        for name in ENVIRONMENT
        if f"{PREFIX}{name.upper()}" in environment
    }
    for name in ("also_ports", "also_hosts"):
        if name in found:
            found[name] = tuple(part.strip() for part in found[name].split(","))
    if "account" not in found | changed:
        raise ConfigError(
            f"ib: no account; set {PREFIX}ACCOUNT to the number of your account, DU and digits of "
            "a paper account"
        )
    try:
        params = LinkParams.model_validate(found | changed)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = str(first["loc"][0])
        raise ConfigError(f"{PREFIX}{name.upper()}: {first['msg']}") from invalid
    require_live_key(params, environment)
    return params


def require_consistent(params: LinkParams) -> None:
    """Raise `ConfigError` unless mode, port, host and account tell the same story."""
    _require_port(params)
    _require_host(params)
    wanted = PAPER_ACCOUNT if params.mode == "paper" else LIVE_ACCOUNT
    if wanted.fullmatch(params.account) is None:
        spelled = "DU or DF" if params.mode == "paper" else "U or F"
        raise ConfigError(
            f"ib.account: {masked(params.account)} is no {params.mode} account; expected {spelled} "
            "and digits; correct the account, or the mode if you mean the other kind of account"
        )


def require_live_key(params: LinkParams, environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` if a live connection has no second key in the environment."""
    if params.mode == "live" and environment.get(LIVE_KEY_VARIABLE, "") != params.account:
        raise ConfigError(
            f"ib: mode is live, which trades real money: the environment variable "
            f"{LIVE_KEY_VARIABLE} must repeat the account's number, and does not; set it where "
            "live trading is meant to run, and nowhere else"
        )


def require_managed(params: LinkParams, managed: Sequence[str]) -> None:
    """Raise `ConfigError` if the gateway's login does not manage the account of the settings."""
    if params.account not in managed:
        found = ", ".join(masked(account) for account in managed) or "none"
        raise ConfigError(
            f"ib.account: the gateway at {params.host}:{params.port} does not manage "
            f"{masked(params.account)}; it manages {found}; it is logged in as somebody else, or "
            "the port is another gateway's"
        )


def masked(account: str) -> str:
    """Return an account as a log may show it: how it begins and how it ends."""
    return account if len(account) <= 5 else f"{account[:2]}...{account[-3:]}"


def _require_port(params: LinkParams) -> None:
    usual, others = PAPER_PORTS, LIVE_PORTS
    if params.mode == "live":
        usual, others = LIVE_PORTS, PAPER_PORTS
    if params.port in others:
        raise ConfigError(
            f"ib.port: {params.port} is the port of the other kind of account, and mode is "
            f"{params.mode}; expected {_or(usual)}"
        )
    if params.port not in (*usual, *params.also_ports):
        raise ConfigError(
            f"ib.port: {params.port} is no {params.mode} port; expected {_or(usual)}; if your "
            "gateway listens elsewhere, add the port to ib.also_ports"
        )


def _require_host(params: LinkParams) -> None:
    if params.host not in params.also_hosts and not _is_loopback(params.host):
        raise ConfigError(
            f"ib.host: {params.host} is another machine, and the gateway's protocol has no "
            "password; expected 127.0.0.1; if the network between is yours, add it to "
            "ib.also_hosts"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _or(ports: Sequence[int]) -> str:
    return " or ".join(map(str, ports))
