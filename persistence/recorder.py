"""The record of a run that trades: every phase on the disk before the next one may begin.

1. `RunRecorder.open` writes what a crash or an outage left in the spool, takes the lease of the run
   and reads the events that are recorded.
2. While there are recorded events, `commit` verifies: a restarted node runs its sessions again, and
   each event must be the one that was recorded.
3. From then on `commit` writes: a phase's rows and its events in one durable transaction, known by
   the number of its first event, so that writing it twice changes nothing.
4. If the database does not answer, the phase goes to the spool, and so does every later one until
   the spool has been written, in its order. If the spool cannot be written either, trading halts.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence import events
from persistence.alerts import Alert, raise_alert, resolve
from persistence.blocks import JsonText, Row
from persistence.database import Database, Statement, upsert
from persistence.executions import record_executions
from persistence.leases import Lease
from persistence.live_mirror import Phase
from persistence.spool import Spool
from persistence.tables.columns import RUNTIME, written
from persistence.tables.runtime import backtest_runs
from persistence.tables.trading import executions
from persistence.tables.types import UtcDateTime
from prometheus_nt.domain.errors import DeterminismError, StoreUnavailable, TradingHalted

OUTAGE = "database_unavailable"
"""The rule of the alert that is raised while phases go to the spool."""

RETRY_SECONDS = 1.0

_REACHED = Statement(
    sa.update(backtest_runs)
    .where(backtest_runs.c.run_id == sa.bindparam("of"))
    .values(end_date=sa.bindparam("end_date"))
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Batch:
    """A phase as it is written: `first` is the number of its first event in the run's stream."""

    first: int
    session: date
    tables: list[tuple[str, Sequence[Row]]]
    entries: list[tuple[str, events.Payload]]
    alert: Alert | None = None

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1


class RunRecorder:
    """Verifies and writes the phases of one run.

    Parameters
    ----------
    database : Database
    spool : Spool
        Held by this process alone.
    lease : Lease
    clock : callable, optional
        Seconds that only ever grow.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        lease: Lease,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.run_id = lease.run_id
        self._database, self._spool, self._lease = database, spool, lease
        self._clock, self._tried_at = clock, 0.0
        self._recorded: list[tuple[int, str, str]] = []
        self._next = 1

    def open(self) -> None:
        """Become the one who trades the run, and read what is recorded of it.

        Raises
        ------
        PhaseError
            If another process trades it.
        StoreError
            If the database does not answer.
        TradingHalted
            If the record was tampered with.
        """
        with self._database.durable_writer() as connection:
            self._lease.take(connection)
        if not self.drain(force=True):
            raise StoreUnavailable(f"{self.run_id}: the database went away; start again")
        with self._database.reader() as connection:
            breach = events.verify(connection, self.run_id)
            self._recorded = events.read(connection, self.run_id)
        if breach is not None:
            raise TradingHalted(
                f"{self.run_id}: event {breach.sequence} is not what was recorded:"
                f" {breach.reason}; restore the database from a backup"
            )

    def close(self) -> None:
        """Give the lease back."""
        with self._database.durable_writer() as connection:
            self._lease.give_back(connection)

    @property
    def verifying(self) -> bool:
        """Whether recorded events are left that the node has not produced again."""
        return self._next <= len(self._recorded)

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the spool that the database does not have yet."""
        return len(self._spool)

    def commit(self, phase: Phase) -> None:
        """Verify a phase against the record, or add it.

        Raises
        ------
        DeterminismError
            If an event differs from the recorded one; the message names the first.
        TradingHalted
            If the phase can be recorded nowhere, or the lease is lost.
        StoreError
            If the database refuses the phase.
        """
        if not phase.events:
            return
        if self.verifying:
            for kind, payload in phase.events:
                self._verify(phase.session, kind, payload)
            return
        batch = _Batch(
            first=self._next,
            session=phase.session,
            tables=[(table.name, rows) for table, rows in phase.batches],
            entries=list(phase.events),
        )
        self._write(batch)
        self._next = batch.last + 1

    def idle(self) -> None:
        """Use a moment without work: write what waits, and keep the lease."""
        if not self.drain() or len(self._spool):
            return
        try:
            with self._database.durable_writer() as connection:
                self._lease.renew(connection)
        except StoreUnavailable:
            log.warning("run=%s lease not renewed: the database does not answer", self.run_id)

    def drain(self, *, force: bool = False) -> bool:
        """Write what waits in the spool, oldest first; return whether nothing is left.

        Parameters
        ----------
        force : bool
            Ask the database even if it was just found absent.
        """
        if not len(self._spool):
            return True
        if not force and self._clock() - self._tried_at < RETRY_SECONDS:
            return False
        self._tried_at = self._clock()
        written = 0
        try:
            for record in self._spool.records():
                self._put(_decoded(record))
                written += 1
            with self._database.durable_writer() as connection:
                resolve(connection, OUTAGE, self.run_id)
        except StoreUnavailable:
            return False
        self._spool.clear()
        log.warning("run=%s phases=%d written from the spool", self.run_id, written)
        return True

    def _verify(self, session: date, kind: str, payload: events.Payload) -> None:
        sequence = self._next
        if not self.verifying:
            raise DeterminismError(f"{self.run_id}: {session}: more events than were recorded")
        _, known_kind, known = self._recorded[sequence - 1]
        found = events.canonical(payload)
        if (kind, found) != (known_kind, known):
            said = _difference(known_kind, known, kind, found)
            raise DeterminismError(
                f"{self.run_id}: event {sequence}, of {session}, is not the recorded one: {said}; "
                "the data, the code or the settings have changed, trading halts"
            )
        self._next += 1

    def _write(self, batch: _Batch) -> None:
        alert = None
        if not len(self._spool):
            try:
                self._put(batch)
            except StoreUnavailable as outage:
                alert = self._outage(batch, outage)
            else:
                return
        self._spool.append(_encoded(batch, alert))
        self.drain()

    def _outage(self, batch: _Batch, outage: StoreUnavailable) -> Alert:
        log.error("run=%s session=%s to the spool: %s", self.run_id, batch.session, outage)
        self._tried_at = self._clock()
        details = {"session": str(batch.session), "spool": str(self._spool.path)}
        return Alert(OUTAGE, "CRITICAL", self.run_id, str(outage), details, datetime.now(UTC))

    def _put(self, batch: _Batch) -> None:
        with self._database.durable_writer() as connection:
            self._lease.renew(connection)
            if batch.alert is not None:
                raise_alert(connection, batch.alert)
            recorded, seal = events.position(connection, self.run_id)
            if recorded >= batch.last:
                return
            if recorded != batch.first - 1:
                raise TradingHalted(
                    f"{self.run_id}: event {batch.first} is to follow {recorded}: events are "
                    "missing; restore the database from a backup"
                )
            _insert(connection, batch)
            # The lease that was just prolonged keeps every other writer out.
            events.extend(connection, self.run_id, (recorded, seal), batch.entries)
            if batch.entries[-1][0] == "CLOSE":
                _REACHED.change(connection, {"of": self.run_id, "end_date": batch.session})


def _insert(connection: Connection, batch: _Batch) -> None:
    for name, rows in batch.tables:
        table = RUNTIME.tables[name]
        columns = written(table)
        if table is executions:
            record_executions(connection, [dict(zip(columns, row, strict=True)) for row in rows])
        else:
            upsert(connection, table, columns, rows, update=MAY_CHANGE.get(name, True))


MAY_CHANGE = {
    "orders": ("updated_at", "quantity", "filled_quantity", "status", "metadata"),
}
"""Tables whose rows are written again as they go on, and what of them can be another by then."""


def _difference(known_kind: str, known: str, kind: str, found: str) -> str:
    """Return the first thing in which two events differ, as words."""
    if kind != known_kind:
        return f"a {known_kind} was recorded, a {kind} is produced: {found}"
    before, after = json.loads(known), json.loads(found)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            return f"{kind}.{name} was {before.get(name)!r} and is {after.get(name)!r} ({found})"
    return f"{known} and {found}"


def _encoded(batch: _Batch, alert: Alert | None) -> bytes:
    document = {
        "first": batch.first,
        "session": batch.session.isoformat(),
        "tables": [(name, [_plain(name, row) for row in rows]) for name, rows in batch.tables],
        "entries": [(kind, events.canonical(payload)) for kind, payload in batch.entries],
        "alert": None if alert is None else asdict(alert) | {"at": alert.at.isoformat()},
    }
    return json.dumps(document, default=_as_json).encode()


def _decoded(record: bytes) -> _Batch:
    document = json.loads(record)
    alert = document["alert"]
    if alert is not None:
        alert = Alert(**alert | {"at": datetime.fromisoformat(alert["at"])})
    return _Batch(
        first=document["first"],
        session=date.fromisoformat(document["session"]),
        tables=[(name, [_typed(name, row) for row in rows]) for name, rows in document["tables"]],
        entries=[(kind, JsonText(payload)) for kind, payload in document["entries"]],
        alert=alert,
    )


def _written_columns(table: str) -> list[sa.Column[Any]]:
    columns = RUNTIME.tables[table].columns
    return [columns[name] for name in written(RUNTIME.tables[table])]


def _plain(table: str, row: Row) -> list[Any]:
    """Return a row whose documents are text: what is JSON already must not become a string."""
    columns = _written_columns(table)
    return [
        json.dumps(value, default=_as_json)
        if isinstance(column.type, sa.JSON)
        and value is not None
        and not isinstance(value, JsonText)
        else value
        for column, value in zip(columns, row, strict=True)
    ]


def _typed(table: str, row: list[Any]) -> Row:
    columns = _written_columns(table)
    return tuple(
        None if value is None else _of_type(column.type, value)
        for column, value in zip(columns, row, strict=True)
    )


def _of_type(kind: Any, value: Any) -> Any:
    if isinstance(kind, sa.JSON):
        return json.loads(value)
    if isinstance(kind, UtcDateTime):
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if isinstance(kind, sa.Date) else value


def _as_json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return value.item()
