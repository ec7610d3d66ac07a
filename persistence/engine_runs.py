"""Days of a region and how far they have come: one row a day, one worker at a time.

Rules of the store:

- A worker claims a run before it works on it. The claim is a lease: it ends by itself, so a worker
  that died holds nobody up, and a worker that lost it can no longer move the run. A long phase
  renews it; on the worker's own machine it ends with its process.
- A day of a strategy is one run in each mode, whatever id it was given.
- Every claim is an attempt with a row of its own; an attempt that never ended is ABANDONED.
- A failure records the phase, what went wrong and when to try again; the wait doubles each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.owners import is_gone
from persistence.tables.operations import engine_run_attempts as attempts
from persistence.tables.operations import engine_runs as runs
from prometheus_nt.domain.errors import ConfigError, PhaseError, StoreError
from prometheus_nt.domain.phases import TERMINAL, RunPhase, require_move

LEASE = timedelta(minutes=15)
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class EngineRun:
    """A day of a region: where it stands and who works on it."""

    run_id: str
    as_of: date
    region: str
    strategy_id: str
    mode: str
    phase: RunPhase
    attempt: int
    failed_phase: RunPhase | None
    error: Mapping[str, Any] | None
    next_attempt_at: datetime | None
    owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True)
class RunFilters:
    """What a listing of days may ask for; None is no restriction."""

    as_of: date | None = None
    region: str | None = None
    phase: str | None = None
    active: bool = False
    limit: int | None = 100


class EngineRunStore:
    """Reads and moves the days' runs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def ensure(self, as_of: date, region: str, strategy_id: str, mode: str) -> EngineRun:
        """Return the run of a day, making one that waits for its data if there is none."""
        now = datetime.now(UTC)
        run_id = f"{strategy_id}-{region}-{mode}-{as_of:%Y%m%d}"
        row = {
            "run_id": run_id,
            "as_of_date": as_of,
            "region": region,
            "mode": mode,
            "strategy_id": strategy_id,
            "phase": RunPhase.WAITING_FOR_DATA.value,
            "attempt": 0,
            "created_at": now,
            "updated_at": now,
        }
        natural = ("as_of_date", "region", "strategy_id", "mode")
        same = sa.and_(*(runs.c[name] == row[name] for name in natural))
        with self.database.writer() as connection:
            # Found by what it is: runs of earlier versions have no mode in their ids.
            found = connection.execute(sa.select(runs.c.run_id).where(same)).scalar()
            if found is None:
                upsert(connection, runs, tuple(row), [tuple(row.values())], update=False)
            return _read(connection, found or run_id)

    def run(self, run_id: str) -> EngineRun:
        """Return one run, or raise `StoreError`."""
        with self.database.reader() as connection:
            return _read(connection, run_id)

    def listing(self, filters: RunFilters) -> list[EngineRun]:
        """Return the runs asked for, the newest day first.

        Raises
        ------
        ConfigError
            If there is no such phase.
        """
        query = sa.select(runs).where(*_conditions(filters))
        query = query.order_by(runs.c.as_of_date.desc(), runs.c.run_id).limit(filters.limit)
        with self.database.reader() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def claim(self, run_id: str, owner: str, *, now: datetime | None = None) -> EngineRun | None:
        """Take the lease of a run for its present phase; None if there is nothing to take.

        Somebody else holds it, or has brought it to its end since the caller looked.
        """
        now = now or datetime.now(UTC)
        with self.database.writer() as connection:
            found = _read(connection, run_id, lock=True)
            if found.phase in TERMINAL or _is_held(found, now):
                return None
            if found.owner is not None:
                _end_attempt(connection, found, "ABANDONED", now)
            attempt = found.attempt + 1
            _change(
                connection,
                run_id,
                {"owner": owner, "lease_until": now + LEASE, "attempt": attempt},
                {"phase_started_at": now, "phase_completed_at": None, "updated_at": now},
            )
            begun = (run_id, found.phase.value, attempt, owner, "RUNNING", now)
            columns = ("run_id", "phase", "attempt", "owner", "status", "started_at")
            upsert(connection, attempts, columns, [begun])
            return _read(connection, run_id)

    def renew(self, held: EngineRun, *, now: datetime | None = None) -> bool:
        """Prolong the lease of a claimed run; return False if it was lost."""
        until = (now or datetime.now(UTC)) + LEASE
        mine = (
            (runs.c.run_id == held.run_id)
            & (runs.c.owner == held.owner)
            & (runs.c.attempt == held.attempt)
            & (runs.c.phase == held.phase.value)
        )
        with self.database.writer() as connection:
            renewed = connection.execute(sa.update(runs).where(mine).values(lease_until=until))
            return renewed.rowcount == 1

    def complete_phase(
        self, held: EngineRun, after: RunPhase, coverage: Mapping[str, Any] | None = None
    ) -> EngineRun:
        """Move a claimed run on, and give its lease back.

        Raises
        ------
        PhaseError
            If the move is not legal, or the lease was lost to somebody else.
        """
        now = datetime.now(UTC)
        with self.database.writer() as connection:
            found = _require_held(connection, held)
            require_move(found.phase, after)
            _end_attempt(connection, found, "COMPLETED", now, coverage=coverage)
            moved = {"phase": after.value, "attempt": 0, "error": None, "next_attempt_at": None}
            _change(connection, held.run_id, moved, _given_back(now))
            return _read(connection, held.run_id)

    def release(self, held: EngineRun) -> None:
        """Give the lease of a run back without having done its phase: it waits for something."""
        now = datetime.now(UTC)
        with self.database.writer() as connection:
            found = _require_held(connection, held)
            _end_attempt(connection, found, "WAITING", now)
            _change(connection, held.run_id, {"attempt": found.attempt - 1}, _given_back(now))

    def fail(self, held: EngineRun, error: Mapping[str, Any]) -> EngineRun:
        """Mark a claimed run FAILED, with what went wrong and when to try again."""
        now = datetime.now(UTC)
        wait = min(FIRST_WAIT * 2 ** (held.attempt - 1), LONGEST_WAIT)
        with self.database.writer() as connection:
            found = _require_held(connection, held)
            require_move(found.phase, RunPhase.FAILED)
            _end_attempt(connection, found, "FAILED", now, error=error)
            failed = {
                "phase": RunPhase.FAILED.value,
                "failed_phase": found.phase.value,
                "error": dict(error),
                "next_attempt_at": now + wait,
            }
            _change(connection, held.run_id, failed, _given_back(now))
            return _read(connection, held.run_id)

    def retry(self, run_id: str) -> EngineRun:
        """Return a FAILED run to the phase it failed in.

        Raises
        ------
        PhaseError
            If it has not failed.
        """
        with self.database.writer() as connection:
            found = _read(connection, run_id, lock=True)
            if found.phase is not RunPhase.FAILED or found.failed_phase is None:
                raise PhaseError(f"{run_id}: is {found.phase}; only a FAILED run can be retried")
            require_move(found.phase, found.failed_phase, found.failed_phase)
            back = {"phase": found.failed_phase.value, "failed_phase": None}
            now = datetime.now(UTC)
            _change(connection, run_id, back, {"next_attempt_at": None, "updated_at": now})
            return _read(connection, run_id)

    def due(self, now: datetime, most_attempts: int) -> list[EngineRun]:
        """Return the FAILED runs whose wait is over and that have attempts left, oldest first."""
        query = (
            sa.select(runs)
            .where(runs.c.phase == RunPhase.FAILED.value)
            .where(runs.c.next_attempt_at <= now, runs.c.attempt < most_attempts)
            .order_by(runs.c.as_of_date, runs.c.run_id)
        )
        with self.database.reader() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def _conditions(filters: RunFilters) -> list[sa.ColumnElement[bool]]:
    if filters.phase is not None and filters.phase not in list(RunPhase):
        raise ConfigError(f"--phase: unknown phase {filters.phase!r}; known: {', '.join(RunPhase)}")
    found = [
        runs.c[name] == value
        for name, value in (
            ("as_of_date", filters.as_of),
            ("region", filters.region),
            ("phase", filters.phase),
        )
        if value is not None
    ]
    if filters.active:
        found.append(runs.c.phase.not_in([phase.value for phase in TERMINAL]))
    return found


def _read(connection: Connection, run_id: str, *, lock: bool = False) -> EngineRun:
    query = sa.select(runs).where(runs.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise StoreError(f"no engine run {run_id!r}; `prometheus day status` lists them")
    return _record(row)


def _record(row: sa.RowMapping) -> EngineRun:
    failed = row["failed_phase"]
    return EngineRun(
        run_id=row["run_id"],
        as_of=row["as_of_date"],
        region=row["region"],
        strategy_id=row["strategy_id"],
        mode=row["mode"],
        phase=RunPhase(row["phase"]),
        attempt=row["attempt"],
        failed_phase=None if failed is None else RunPhase(failed),
        error=row["error"],
        next_attempt_at=row["next_attempt_at"],
        owner=row["owner"],
        lease_until=row["lease_until"],
    )


def _is_held(run: EngineRun, now: datetime) -> bool:
    if run.owner is None or run.lease_until is None:
        return False
    return run.lease_until > now and not is_gone(run.owner)


def _require_held(connection: Connection, held: EngineRun) -> EngineRun:
    found = _read(connection, held.run_id, lock=True)
    if (found.owner, found.attempt, found.phase) != (held.owner, held.attempt, held.phase):
        raise PhaseError(
            f"{held.run_id}: the lease of {held.owner} for {held.phase} was lost to"
            f" {found.owner or 'nobody'}; the run is at {found.phase}"
        )
    return found


def _given_back(now: datetime) -> dict[str, Any]:
    return {"owner": None, "lease_until": None, "phase_completed_at": now, "updated_at": now}


def _change(connection: Connection, run_id: str, *values: Mapping[str, Any]) -> None:
    merged = {name: value for part in values for name, value in part.items()}
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(merged))


def _end_attempt(
    connection: Connection,
    run: EngineRun,
    status: str,
    now: datetime,
    *,
    error: Mapping[str, Any] | None = None,
    coverage: Mapping[str, Any] | None = None,
) -> None:
    this = (
        (attempts.c.run_id == run.run_id)
        & (attempts.c.phase == run.phase.value)
        & (attempts.c.attempt == run.attempt)
    )
    ended = {"status": status, "ended_at": now, "error": error, "coverage": coverage}
    connection.execute(sa.update(attempts).where(this).values(ended))
