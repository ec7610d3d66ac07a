"""What the gateway wants done on its connections; the server does it, faults may change it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Send:
    """A message to a client; lost if that client is not connected."""

    client_id: int
    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Bytes to a client as they are; `half_of` is a message of which half is written."""

    client_id: int
    data: bytes = b""
    half_of: Send | None = None


@dataclass(frozen=True)
class Close:
    """The end of a client's connection; `reset` breaks it without a farewell."""

    client_id: int
    reset: bool = False


@dataclass(frozen=True)
class Mode:
    """How a connection behaves from now on: `bytewise`, `deaf`, `jitter` or `burst`.

    value : seconds of the last two; 0 ends the mode.
    """

    client_id: int
    name: str
    value: float = 1.0


@dataclass(frozen=True)
class Restart:
    """The gateway goes down and comes back after `seconds`; `keep` leaves connections alone."""

    seconds: float
    keep: bool = False


@dataclass(frozen=True)
class Later:
    """Actions after some wall seconds; what they are is asked for only then."""

    seconds: float
    actions: Callable[[], "list[Action]"]


Action = Send | Raw | Close | Mode | Restart | Later


def error(client_id: int, code: int, text: str, req_id: int = -1) -> Send:
    """Return an error message to a client."""
    return Send(client_id, "error", {"reqId": req_id, "code": code, "errorText": text})
