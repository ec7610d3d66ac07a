"""The jobs of markets' days and how they stand: one row a job, one daemon at a time for each.

Rules of the store:

- A job is named by its market, kind, subject and session, and its row by the job: planned twice,
  there is one row.
- Who starts a job claims it, in the transaction that counts the attempt. Of two daemons one gets
  it. The claim is a lease that its owner renews; it ends by itself, and on the owner's own machine
  with its process.
- Only the owner of the attempt says how it ended; who lost the lease can write nothing any more.
- A failure keeps what went wrong and when to try again; no time means that nobody will.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.owners import is_gone
from persistence.tables.governance import job_executions as executions
from prometheus_nt.domain.daily_jobs import Job, JobStatus, Standing, require_status_move
from prometheus_nt.domain.errors import PhaseError, StoreError
from prometheus_nt.domain.record import content_hash

LEASE = timedelta(seconds=60)
MOST_MESSAGE = 512


@dataclass(frozen=True)
class JobExecution:
    """How a job stands, who works on it, and what went wrong last."""

    job_id: str
    dag_id: str
    job_type: str
    market_id: str
    as_of: date
    status: JobStatus
    attempt: int
    started_at: datetime | None
    completed_at: datetime | None
    next_attempt_at: datetime | None
    owner: str | None
    lease_until: datetime | None
    message: str | None
    failures: tuple[Mapping[str, Any], ...]

    @property
    def standing(self) -> Standing:
        """What decides when the job is next begun."""
        return Standing(self.status, self.attempt, self.next_attempt_at)

    def is_stale(self, now: datetime) -> bool:
        """Return whether it runs by the hand of somebody who is gone."""
        if self.status is not JobStatus.RUNNING:
            return False
        expired = self.lease_until is None or self.lease_until <= now
        return expired or self.owner is None or is_gone(self.owner)


@dataclass(frozen=True)
class Ended:
    """How an attempt at a job ended.

    status : PENDING where it found nothing to do yet, or was stopped.
    counts : False takes the attempt back: it was none.
    next_attempt_at : None with FAILED says that it was the last.
    """

    status: JobStatus
    message: str | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None
    counts: bool = True


class JobExecutionStore:
    """Reads and moves the jobs of days, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def plan(self, jobs: Sequence[Job], market_id: str, now: datetime) -> None:
        """Write jobs that wait; those that are there stay as they are."""
        columns = (
            *("execution_id", "job_id", "job_type", "dag_id", "market_id", "as_of_date"),
            *("status", "attempt_number", "created_at", "updated_at"),
        )
        rows = [
            (
                *(_execution_id(job.job_id), job.job_id, job.kind.value, job.dag_id),
                *(market_id, job.session, JobStatus.PENDING.value, 0, now, now),
            )
            for job in jobs
        ]
        with self.database.writer() as connection:
            upsert(connection, executions, columns, rows, update=False)

    def of_dags(self, dag_ids: Collection[str]) -> dict[str, JobExecution]:
        """Return the jobs of these days, by job id."""
        query = sa.select(executions).where(executions.c.dag_id.in_(sorted(dag_ids)))
        with self.database.reader() as connection:
            found = [_record(row) for row in connection.execute(query).mappings()]
        return {each.job_id: each for each in found}

    def first_session(self, market_id: str) -> date | None:
        """Return the first session of which a job of the market was ever planned."""
        query = sa.select(sa.func.min(executions.c.as_of_date))
        with self.database.reader() as connection:
            first: date | None = connection.execute(
                query.where(executions.c.market_id == market_id)
            ).scalar()
        return first

    def claim(self, job_id: str, owner: str, now: datetime) -> JobExecution | None:
        """Begin an attempt at a job; None if somebody else has, or it may not begin any more."""
        with self.database.writer() as connection:
            found = _read(connection, job_id, lock=True)
            if found.status not in (JobStatus.PENDING, JobStatus.FAILED) or found.standing.over:
                return None
            if found.next_attempt_at is not None and found.next_attempt_at > now:
                return None
            require_status_move(found.status, JobStatus.RUNNING)
            begun = {
                "status": JobStatus.RUNNING.value,
                "attempt_number": found.attempt + 1,
                "started_at": now,
                "completed_at": None,
                "next_attempt_at": None,
                "owner": owner,
                "lease_until": now + LEASE,
                "updated_at": now,
            }
            _change(connection, job_id, begun)
            return _read(connection, job_id)

    def renew(self, held: JobExecution, now: datetime) -> bool:
        """Prolong the lease of a job that runs; return False if it was lost."""
        table = executions.c
        mine = (
            (table.execution_id == _execution_id(held.job_id))
            & (table.owner == held.owner)
            & (table.attempt_number == held.attempt)
            & (table.status == JobStatus.RUNNING.value)
        )
        renewed = sa.update(executions).where(mine).values(lease_until=now + LEASE)
        with self.database.writer() as connection:
            return connection.execute(renewed).rowcount == 1

    def settle(self, held: JobExecution, ended: Ended, now: datetime) -> JobExecution:
        """Record how an attempt ended.

        Raises
        ------
        PhaseError
            If the move is not legal, or somebody else has the job by now.
        """
        with self.database.writer() as connection:
            found = _read(connection, held.job_id, lock=True)
            if (found.owner, found.attempt) != (held.owner, held.attempt):
                raise PhaseError(
                    f"{held.job_id}: attempt {held.attempt} of {held.owner} was taken over by "
                    f"{found.owner or 'nobody'}; it is {found.status} after {found.attempt}"
                )
            require_status_move(found.status, ended.status)
            failures = list(found.failures)
            if ended.error is not None:
                failures.append(_failure(found, ended, now))
            changed = {
                "status": ended.status.value,
                "attempt_number": found.attempt - (not ended.counts),
                "completed_at": None if ended.status is JobStatus.PENDING else now,
                "next_attempt_at": ended.next_attempt_at,
                "owner": None,
                "lease_until": None,
                "error_message": _cut(ended.message),
                "error_details": {"failures": failures} if failures else None,
                "updated_at": now,
            }
            _change(connection, held.job_id, changed)
            return _read(connection, held.job_id)

    def skip(self, job_id: str, reason: str, now: datetime) -> bool:
        """Record that a waiting job will not be done; return False if it waits no more."""
        with self.database.writer() as connection:
            found = _read(connection, job_id, lock=True)
            if found.status is not JobStatus.PENDING:
                return False
            skipped = {"status": JobStatus.SKIPPED.value, "error_message": _cut(reason)}
            _change(connection, job_id, skipped | {"completed_at": now, "updated_at": now})
            return True

    def reopen(self, dag_ids: Collection[str], now: datetime) -> list[str]:
        """Let jobs that finally failed, or were skipped for it, begin anew; return their ids."""
        with self.database.writer() as connection:
            query = sa.select(executions).where(executions.c.dag_id.in_(sorted(dag_ids)))
            rows = [_record(row) for row in connection.execute(query).mappings()]
            lost = [each for each in rows if each.status is JobStatus.SKIPPED]
            lost += [
                each
                for each in rows
                if each.status is JobStatus.FAILED and each.next_attempt_at is None
            ]
            waits = {"status": JobStatus.PENDING.value, "attempt_number": 0, "completed_at": None}
            for each in lost:
                require_status_move(each.status, JobStatus.PENDING)
                _change(connection, each.job_id, waits | {"updated_at": now})
        return sorted(each.job_id for each in lost)


def _failure(found: JobExecution, ended: Ended, now: datetime) -> dict[str, Any]:
    return {
        "attempt": found.attempt,
        "at": now.isoformat(),
        "error": ended.error,
        "message": _cut(ended.message),
    }


def _cut(message: str | None) -> str | None:
    return None if message is None else message[:MOST_MESSAGE]


def _execution_id(job_id: str) -> str:
    return content_hash([job_id])


def _change(connection: Connection, job_id: str, values: Mapping[str, Any]) -> None:
    this = executions.c.execution_id == _execution_id(job_id)
    connection.execute(sa.update(executions).where(this).values(dict(values)))


def _read(connection: Connection, job_id: str, *, lock: bool = False) -> JobExecution:
    query = sa.select(executions).where(executions.c.execution_id == _execution_id(job_id))
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise StoreError(
            f"no job {job_id!r} was planned; `prometheus day dag` lists those of a day"
        )
    return _record(row)


def _record(row: sa.RowMapping) -> JobExecution:
    same = ("job_id", "dag_id", "job_type", "market_id", "started_at", "completed_at")
    return JobExecution(
        **{name: row[name] for name in (*same, "next_attempt_at", "owner", "lease_until")},
        as_of=row["as_of_date"],
        status=JobStatus(row["status"]),
        attempt=row["attempt_number"],
        message=row["error_message"],
        failures=tuple((row["error_details"] or {}).get("failures", ())),
    )
