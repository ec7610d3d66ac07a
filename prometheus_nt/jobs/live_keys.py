"""The two keys of live trading: a configuration that says so, and an environment that knows which.

The second key names the account and the sleeves. It is made for one set of sleeves on one account:
add a sleeve, or point the node at another account, and the old key opens nothing.
"""

import hashlib
import hmac
from collections.abc import Iterable

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.settings import IB_VARIABLES, Settings

ACCOUNT_VARIABLE = f"{IB_VARIABLES}ACCOUNT"
KEY_VARIABLE = "PROMETHEUS_LIVE_KEY"


def live_key(account: str, sleeves: Iterable[str]) -> str:
    """Return the key under which these sleeves may trade this account: 16 hexadecimal digits."""
    said = "\n".join(["prometheus live", account, *sorted(sleeves)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def key_of(config: NodeConfig, settings: Settings) -> str:
    """Return the key that a live node needs.

    Raises
    ------
    ConfigError
        If the configuration is not of a live node, or the environment names no account.
    """
    if config.mode != "live":
        raise ConfigError(
            f"mode: {config.mode} is not live; the first key is the line `mode: live` in the "
            "node's own file"
        )
    account = config.ib.account or settings.ib.get(ACCOUNT_VARIABLE, "")
    if not account:
        raise ConfigError(f"{ACCOUNT_VARIABLE}: not set; it names the account that is traded")
    return live_key(account, (sleeve.sleeve_id for sleeve in config.sleeves))


def require_two_keys(config: NodeConfig, settings: Settings) -> None:
    """Require both keys of live trading.

    Raises
    ------
    ConfigError
        If one is missing, or the second is of another account or other sleeves.
    """
    expected = key_of(config, settings)
    if hmac.compare_digest(settings.live_key.encode(), expected.encode()):
        return
    sleeves = ", ".join(sleeve.sleeve_id for sleeve in config.sleeves)
    problem = "is not the key of" if settings.live_key else "is not set: it must be the key of"
    raise ConfigError(
        f"{KEY_VARIABLE}: {problem} this account with {sleeves}; this trades real money: read the "
        "node's file once more, then `prometheus live FILE --show-key` prints the key"
    )
