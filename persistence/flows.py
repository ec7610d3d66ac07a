"""The ledger of a flow: each step is told before it is begun and after it has ended, and sealed.

A flow has one writer at a time: whoever holds its lock. The lock dies with its process.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persistence import events
from persistence.database import Database
from prometheus_nt.domain.errors import StoreError

PREFIX = "flow:"
"""How the streams of flows are called."""


@dataclass(frozen=True)
class Entry:
    """One entry of a flow's ledger."""

    sequence: int
    kind: str
    payload: Mapping[str, Any]


class FlowLedger:
    """What flows did, in the sealed streams of the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(self, flow_id: str, kind: str, payload: Mapping[str, Any]) -> None:
        """Seal an entry; it is durable when this returns."""
        with self.database.durable_writer() as connection:
            events.append(connection, PREFIX + flow_id, [(kind, payload)])

    def entries(self, flow_id: str) -> list[Entry]:
        """Return the entries of a flow, oldest first; none if there is no such flow.

        Raises
        ------
        StoreError
            If the stream is not what was written.
        """
        with self.database.reader() as connection:
            breach = events.verify(connection, PREFIX + flow_id)
            rows = events.read(connection, PREFIX + flow_id)
        if breach is not None:
            raise StoreError(
                f"{flow_id}: entry {breach.sequence} of its ledger: {breach.reason}; "
                "nothing goes on from a ledger that was altered"
            )
        return [Entry(number, kind, json.loads(text)) for number, kind, text in rows]

    def known(self) -> list[str]:
        """Return the ids of all flows, sorted."""
        with self.database.reader() as connection:
            names = events.streams(connection)
        return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]

    def lines(self, flow_id: str) -> list[str]:
        """Return a flow's ledger as lines that prove themselves."""
        with self.database.reader() as connection:
            return events.exported(connection, PREFIX + flow_id)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file: no other process works on the flow meanwhile.

    Raises
    ------
    StoreError
        If it cannot be made, or another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as refused:
        raise StoreError(f"{path}: cannot be made: {refused}") from refused
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            raise StoreError(
                f"{path}: another process works on this flow; `prometheus flow status` follows it"
            ) from held
        yield
