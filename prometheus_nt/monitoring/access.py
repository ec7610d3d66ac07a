"""Who may ask for what.

1. Without a token the server listens on loopback alone, and whoever can reach it may do everything.
2. Any other address needs tokens; each has a name, for the record, and a role.
3. Tokens come from the environment and are kept as hashes: no log, error or repr can show one.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from prometheus_nt.domain.errors import ConfigError

TOKENS = "PROMETHEUS_API_TOKENS"
SHORTEST_TOKEN = 16
_EXPECTED = f"expected name:role:token, separated by commas, in {TOKENS}"


class Role(IntEnum):
    """What somebody may do; each role includes those before it.

    READ : see everything. OPERATE : submit and cancel jobs, decide on proposals. TRADE : halt,
    flatten and arm what trades.
    """

    READ = 1
    OPERATE = 2
    TRADE = 3


@dataclass(frozen=True)
class Caller:
    """Who asks, as the record names them."""

    name: str
    role: Role


@dataclass(frozen=True)
class Access:
    """Where the server listens, and whom it knows.

    Parameters
    ----------
    host : address to listen on
    port : 0 is any free one
    callers : SHA-256 of a token -> who has it; empty on loopback means no token is asked for

    Raises
    ------
    ConfigError
        If another address than loopback has no tokens.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    callers: Mapping[str, Caller] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse to listen where strangers are without knowing anybody."""
        if not self.callers and not is_loopback(self.host):
            raise ConfigError(
                f"--host: {self.host} can be reached from elsewhere, so it needs tokens; "
                f"{_EXPECTED}"
            )

    @classmethod
    def of_tokens(cls, host: str, port: int, tokens: str) -> "Access":
        """Return the access that `name:role:token,...` gives, as the environment has it."""
        return cls(host, port, _callers(tokens))

    @property
    def open_to_all(self) -> bool:
        """Whether no token is asked for."""
        return not self.callers

    def caller(self, authorization: str | None) -> Caller | None:
        """Return who sends an `Authorization: Bearer` header; None is nobody known."""
        if self.open_to_all:
            return Caller("local", Role.TRADE)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hash_of(token.strip())
        # Every hash is compared in full, so that time tells nothing.
        found = [who for known, who in self.callers.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def hash_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _callers(text: str) -> dict[str, Caller]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return dict(_caller(number, part) for number, part in enumerate(parts, start=1))


def _caller(number: int, part: str) -> tuple[str, Caller]:
    name, role, token = [*part.split(":", 2), "", ""][:3]
    if role.upper() not in Role.__members__:
        known = ", ".join(one.name.lower() for one in Role)
        raise ConfigError(f"{TOKENS}: entry {number}: unknown role; known: {known}; {_EXPECTED}")
    if not name or len(token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"{TOKENS}: entry {number}: no name, or a token of fewer than {SHORTEST_TOKEN} "
            f"characters; {_EXPECTED}"
        )
    return hash_of(token), Caller(name, Role[role.upper()])
