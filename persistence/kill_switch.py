"""How each kill switch was moved: a sealed stream of events for each scope, and a brake file.

The stream is the truth that every process of a database shares, and survives them all. A brake is a
file in the home folder: it works while the database does not answer, and stops this machine alone.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from persistence import events
from prometheus_nt.domain.errors import TradingHalted
from prometheus_nt.domain.safety import HaltCause, SwitchState, TradingState

STREAM = "safety:"
"""How the names of the streams begin; the scope follows."""

MOVED = "SWITCH_MOVED"
"""Kind of the entries."""


def move(connection: Connection, moved: SwitchState) -> SwitchState:
    """Record in the caller's transaction that a switch was moved; return it with its time."""
    done = SwitchState(
        moved.scope, moved.state, moved.cause, moved.reason, moved.by, datetime.now(UTC)
    )
    events.append(connection, f"{STREAM}{moved.scope}", [(MOVED, _document(done))])
    return done


def history(connection: Connection, scope: str) -> list[SwitchState]:
    """Return every state that a switch was moved to, oldest first.

    Raises
    ------
    TradingHalted
        If the stream is not what was written: whoever changed it may have armed the switch.
    """
    stream = f"{STREAM}{scope}"
    breach = events.verify(connection, stream)
    if breach is not None:
        raise TradingHalted(
            f"{stream}: entry {breach.sequence} is not what was recorded: {breach.reason}; "
            "restore the database from a backup"
        )
    return [_state(scope, found) for found in events.payloads(connection, stream, MOVED)]


def scopes(connection: Connection) -> list[str]:
    """Return the scopes whose switch was ever moved, sorted."""
    return [
        name.removeprefix(STREAM) for name in events.streams(connection) if name.startswith(STREAM)
    ]


class Brake:
    """The brake file of one scope; while it is there, nothing leaves."""

    def __init__(self, home: Path, scope: str) -> None:
        self.path = home / "safety" / f"{scope}.halt"
        self._scope = scope

    def pull(self, moved: SwitchState) -> None:
        """Write the file.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(_document(moved)), encoding="utf-8")

    def release(self) -> None:
        """Remove the file, if it is there."""
        self.path.unlink(missing_ok=True)

    def read(self) -> SwitchState | None:
        """Return what the file says; None without one. What cannot be read stops trading too."""
        try:
            return _state(self._scope, json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as unreadable:
            reason = f"{self.path}: cannot be read: {unreadable}"
            cause, now = HaltCause.RECORD, datetime.now(UTC)
            return SwitchState(self._scope, TradingState.HALTED, cause, reason, "brake", now)


def _document(state: SwitchState) -> dict[str, str | None]:
    return {
        "state": state.state.value,
        "cause": None if state.cause is None else state.cause.value,
        "reason": state.reason,
        "by": state.by,
        "at": None if state.at is None else state.at.isoformat(),
    }


def _state(scope: str, said: dict[str, Any]) -> SwitchState:
    cause = said["cause"]
    return SwitchState(
        scope=scope,
        state=TradingState(said["state"]),
        cause=None if cause is None else HaltCause(cause),
        reason=said["reason"],
        by=said["by"],
        at=datetime.fromisoformat(said["at"]),
    )
