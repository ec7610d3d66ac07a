"""Where things are kept and how the outside is reached: read from the environment alone.

Secrets (passwords, keys, tokens) are part of no file, no hash and no printout.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args
from urllib.parse import unquote, urlsplit

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.runs import ExecutorKind

IB_VARIABLES = "PROMETHEUS_IB_"
"""How the environment's names begin that are about Interactive Brokers."""


@dataclass(frozen=True)
class Settings:
    """Where things are kept, and the key of a data vendor.

    Database URLs may hold passwords; they and the key are never shown.
    """

    home: Path
    historical_url: str = field(repr=False)
    runtime_url: str = field(repr=False)
    eodhd_key: str | None = field(default=None, repr=False)
    eodhd_url: str | None = field(default=None, repr=False)
    eodhd_per_minute: int = 600
    ib: Mapping[str, str] = field(default_factory=dict, repr=False)
    ib_ingest_client_id: int = 99
    ib_requests_per_ten_minutes: int = 55
    log: str | None = None
    config_dir: Path = Path("configs")
    data_folders: Mapping[str, Path] = field(default_factory=dict)
    api_tokens: str = field(default="", repr=False)
    alert_webhook: str | None = field(default=None, repr=False)
    alert_mail: str | None = field(default=None, repr=False)
    live_key: str = field(default="", repr=False)
    executor: ExecutorKind | None = None
    ray_address: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables named below.

        PROMETHEUS_HOME, PROMETHEUS_HISTORICAL_URL and PROMETHEUS_RUNTIME_URL say where things are;
        EODHD_API_KEY, PROMETHEUS_EODHD_URL and PROMETHEUS_EODHD_PER_MINUTE how EODHD is asked;
        PROMETHEUS_IB_... where Interactive Brokers' gateway is (`adapters.ib.config`), and how
        history is asked of it: INGEST_CLIENT_ID, of a connection besides the one that trades, and
        REQUESTS_PER_10_MINUTES; PROMETHEUS_LOG=json logs to a file. Jobs know configuration files
        only by their names in PROMETHEUS_CONFIG_DIR, and folders of data only by those of
        PROMETHEUS_DATA_FOLDERS, `name=/path,other=/path`. PROMETHEUS_API_TOKENS,
        `name:role:token,...`, says who may ask the server. PROMETHEUS_EXECUTOR says where the
        variants of a campaign run unless a command does, PROMETHEUS_RAY_ADDRESS on which cluster.
        Alerts are told to PROMETHEUS_ALERT_WEBHOOK, an address, and PROMETHEUS_ALERT_MAIL,
        `smtp://user:password@host:port/?from=a@b&to=c@d`.
        """
        home = Path(environment.get("PROMETHEUS_HOME", "var"))
        return cls(
            home=home,
            historical_url=environment.get(
                "PROMETHEUS_HISTORICAL_URL", f"sqlite:///{home / 'historical.db'}"
            ),
            runtime_url=environment.get(
                "PROMETHEUS_RUNTIME_URL", f"sqlite:///{home / 'runtime.db'}"
            ),
            eodhd_key=environment.get("EODHD_API_KEY"),
            eodhd_url=environment.get("PROMETHEUS_EODHD_URL"),
            eodhd_per_minute=_whole_number(environment, "PROMETHEUS_EODHD_PER_MINUTE", 600),
            ib={
                name: value for name, value in environment.items() if name.startswith(IB_VARIABLES)
            },
            ib_ingest_client_id=_whole_number(environment, f"{IB_VARIABLES}INGEST_CLIENT_ID", 99),
            ib_requests_per_ten_minutes=_whole_number(
                environment, f"{IB_VARIABLES}REQUESTS_PER_10_MINUTES", 55
            ),
            log=environment.get("PROMETHEUS_LOG"),
            config_dir=Path(environment.get("PROMETHEUS_CONFIG_DIR", "configs")),
            data_folders=_folders(environment, "PROMETHEUS_DATA_FOLDERS"),
            api_tokens=environment.get("PROMETHEUS_API_TOKENS", ""),
            alert_webhook=environment.get("PROMETHEUS_ALERT_WEBHOOK"),
            alert_mail=environment.get("PROMETHEUS_ALERT_MAIL"),
            live_key=environment.get("PROMETHEUS_LIVE_KEY", ""),
            executor=_executor(environment),
            ray_address=environment.get("PROMETHEUS_RAY_ADDRESS"),
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may appear in no message: passwords, the keys of a vendor and live, the tokens."""
        urls = (self.historical_url, self.runtime_url, self.alert_mail or "")
        passwords = (urlsplit(url).password for url in urls)
        found = [unquote(password) for password in passwords if password]
        tokens = (entry.split(":", 2)[-1].strip() for entry in self.api_tokens.split(","))
        keys = (key for key in (self.eodhd_key, self.alert_webhook, self.live_key, *tokens) if key)
        return tuple(sorted({*found, *keys}))

    def absolute(self) -> "Settings":
        """Return the same places, named so that they do not depend on the working folder."""
        return replace(
            self,
            home=self.home.resolve(),
            historical_url=_absolute_url(self.historical_url),
            runtime_url=_absolute_url(self.runtime_url),
            config_dir=self.config_dir.resolve(),
            data_folders={name: path.resolve() for name, path in self.data_folders.items()},
        )

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def cache_dir(self) -> Path:
        return self.home / "cache"

    @property
    def engine_outputs_dir(self) -> Path:
        return self.home / "engine_outputs"


def _whole_number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name}: expected a whole number of at least 1, found {text!r}")
    return int(text)


def _executor(environment: Mapping[str, str]) -> ExecutorKind | None:
    found = environment.get("PROMETHEUS_EXECUTOR")
    if found is not None and found not in get_args(ExecutorKind):
        known = ", ".join(get_args(ExecutorKind))
        raise ConfigError(f"PROMETHEUS_EXECUTOR: {found!r} is none of {known}")
    return cast(ExecutorKind | None, found)


def _absolute_url(url: str) -> str:
    prefix = "sqlite:///"
    return f"{prefix}{Path(url[len(prefix) :]).resolve()}" if url.startswith(prefix) else url


def set_in_environment(values: Mapping[str, str]) -> None:
    """Set what is not set yet, for a library that hears of its settings in no other way."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _folders(environment: Mapping[str, str], name: str) -> dict[str, Path]:
    folders = {}
    for item in filter(None, environment.get(name, "").split(",")):
        known_as, separator, path = item.partition("=")
        if not (separator and known_as.strip() and path.strip()):
            raise ConfigError(f"{name}: expected name=/path,other=/path, found {item!r}")
        folders[known_as.strip()] = Path(path.strip())
    return folders
