"""Jobs as rows: anybody inserts one, one worker at a time claims it and says how it ended.

Rules of the store:

- A claim is one statement, so that of any number of workers exactly one gets a job.
- A worker writes to a job only while it holds it: its name and the number of its attempt are part
  of every statement. One that slept past its heartbeat has lost the job and can write nothing.
- A job whose worker is silent for longer than the bound is tried again, or FAILED when its attempts
  are used up: nothing stays RUNNING. Attempts only grow, also through a retry.
- Of a job's log only the newest lines are kept.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.tables.governance import job_logs as logs
from persistence.tables.governance import jobs
from prometheus_nt.domain.errors import ConfigError, JobError, JobLost, UnknownJob
from prometheus_nt.domain.jobs import ENDED, JobPriority, JobStatus, require_move
from prometheus_nt.domain.record import content_hash

HEARTBEAT_BOUND = timedelta(seconds=60)
"""Silence after which a worker counts as dead; a lock may keep one from writing for half of it."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=30)
"""Before the second attempt, and at most; the wait doubles each time."""

MOST_LINES = 5_000
MOST_LISTED = 10_000
MOST_CHARACTERS = 2_000
"""Of a line of a log, and of the message of an error."""


@dataclass(frozen=True)
class NewJob:
    """A job to insert.

    Attributes
    ----------
    spec : plain values; whoever submits has validated them
    key : str or None
        Of one submitter and kind: the same key again finds the job that the first one made.
    not_before : None is now
    timeout_seconds : of running, None is no limit
    """

    kind: str
    spec: Mapping[str, Any]
    submitted_by: str
    priority: JobPriority = JobPriority.STANDARD
    max_attempts: int = 3
    timeout_seconds: float | None = None
    not_before: datetime | None = None
    key: str | None = None
    parent_id: str | None = None

    @property
    def job_id(self) -> str:
        """Return an id that is new, or that of the key."""
        if self.key is None:
            return f"{self.kind}_{uuid4().hex[:16]}"
        return f"{self.kind}_{content_hash([self.kind, self.submitted_by, self.key])}"


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes
    ----------
    progress : fraction in 0..1, None if nobody can tell
    error : type, message and remedy of the last attempt that failed
    """

    job_id: str
    kind: str
    spec: Mapping[str, Any]
    status: JobStatus
    priority: int
    progress: float | None
    message: str | None
    worker: str | None
    attempt: int
    max_attempts: int
    not_before: datetime
    timeout_seconds: float | None
    heartbeat_at: datetime | None
    cancel_requested: bool
    parent_id: str | None
    submitted_by: str
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def ended(self) -> bool:
        """Return whether nothing more will happen to it by itself."""
        return self.status in ENDED


@dataclass(frozen=True)
class JobFilters:
    """What a listing of jobs may ask for; None is no restriction.

    after : the job that ended the page before
    """

    status: str | None = None
    kind: str | None = None
    submitted_by: str | None = None
    parent_id: str | None = None
    after: str | None = None
    limit: int = 100


@dataclass(frozen=True)
class LogLine:
    """A line of a job's log; `sequence` counts from 1."""

    sequence: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True)
class Beat:
    """What a worker has to say about a job that it runs: lines are (at, level, message)."""

    progress: float | None = None
    message: str | None = None
    lines: Sequence[tuple[datetime, str, str]] = field(default=())


class JobQueue:
    """Reads and moves jobs, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def insert(self, new: NewJob) -> Job:
        """Write a job that waits; return it, or the one that its key made before.

        Raises
        ------
        JobError
            If the key stands for another spec.
        """
        now, new_id = datetime.now(UTC), new.job_id
        row = {
            "job_id": new_id,
            "kind": new.kind,
            "spec": dict(new.spec),
            "status": JobStatus.PENDING.value,
            "attempt": 0,
            "max_attempts": new.max_attempts,
            "cancel_requested": False,
            "parent_id": new.parent_id,
            "created_at": now,
            "updated_at": now,
            "priority": int(new.priority),
            "not_before": new.not_before or now,
            "timeout_seconds": new.timeout_seconds,
            "submitted_by": new.submitted_by,
        }
        with self.database.durable_writer() as connection:
            upsert(connection, jobs, tuple(row), [tuple(row.values())], update=False)
            found = _read(connection, new_id)
        if found.spec != row["spec"]:
            raise JobError(
                f"key {new.key!r}: {found.job_id} was submitted with it and another spec; "
                "use another key"
            )
        return found

    def job(self, job_id: str) -> Job:
        """Return one job, or raise `UnknownJob`."""
        with self.database.reader() as connection:
            return _read(connection, job_id)

    def find(self, name: str) -> Job:
        """Return the one job whose id is or begins with `name`; `latest` is the newest.

        Raises
        ------
        UnknownJob
            If there is none, or more than one.
        """
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(2)
        if name == "latest":
            query = query.limit(1)
        else:
            query = query.where(jobs.c.job_id.startswith(name, autoescape=True))
        with self.database.reader() as connection:
            found = [_record(row) for row in connection.execute(query).mappings()]
        exact = [job for job in found if job.job_id == name]
        if not exact and len(found) != 1:
            problem = "more than one job" if found else "no job"
            raise UnknownJob(f"{problem} matches {name!r}; `prometheus jobs list` lists them")
        return (exact or found)[0]

    def listing(self, filters: JobFilters) -> list[Job]:
        """Return a page of the jobs asked for, the newest first.

        Raises
        ------
        ConfigError
            If there is no such status, or the page is too long.
        UnknownJob
            If the page is to follow a job that is not there.
        """
        _require_possible(filters)
        with self.database.reader() as connection:
            query = sa.select(jobs).where(*_conditions(connection, filters))
            query = query.order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc())
            rows = connection.execute(query.limit(filters.limit)).mappings()
            return [_record(row) for row in rows]

    def logs(self, job_id: str, after: int = 0, limit: int = 1_000) -> list[LogLine]:
        """Return the lines of a job after a sequence number, oldest first.

        Raises
        ------
        UnknownJob
            If there is no such job.
        """
        query = (
            sa.select(logs.c.sequence, logs.c.at, logs.c.level, logs.c.message)
            .where(logs.c.job_id == job_id, logs.c.sequence > after)
            .order_by(logs.c.sequence)
            .limit(limit)
        )
        with self.database.reader() as connection:
            _read(connection, job_id)
            return [LogLine(*row) for row in connection.execute(query)]

    def claim(
        self, worker: str, kinds: Collection[str] | None = None, *, now: datetime | None = None
    ) -> Job | None:
        """Take the job that is first in line; None if none waits.

        Parameters
        ----------
        worker : a name that no other worker has
        kinds : those that the worker runs; None is all
        """
        now = now or datetime.now(UTC)
        first = (
            sa.select(jobs.c.job_id)
            .where(jobs.c.status == JobStatus.PENDING.value, jobs.c.not_before <= now)
            .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.job_id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if kinds is not None:
            first = first.where(jobs.c.kind.in_(sorted(kinds)))
        begun = {
            "status": JobStatus.RUNNING.value,
            "worker": worker,
            "attempt": jobs.c.attempt + 1,
            **dict.fromkeys(("heartbeat_at", "started_at", "updated_at"), now),
            **dict.fromkeys(("progress", "message", "completed_at")),
        }
        claimed = (
            sa.update(jobs)
            .where(jobs.c.job_id == first.scalar_subquery())
            .where(jobs.c.status == JobStatus.PENDING.value)
            .values(**begun)
            .returning(jobs)
        )
        with self.database.writer() as connection:
            row = connection.execute(claimed).mappings().first()
            return None if row is None else _record(row)

    def beat(self, held: Job, beat: Beat) -> bool:
        """Say that a job is alive and how far it is; return whether somebody wants it cancelled.

        Raises
        ------
        JobLost
            If the worker does not hold it any more.
        """
        now = datetime.now(UTC)
        said = {"progress": beat.progress, "message": _short(beat.message, 512)}
        with self.database.writer() as connection:
            _require_held(connection, held)
            _change(connection, held.job_id, heartbeat_at=now, updated_at=now, **said)
            _append(connection, held.job_id, beat.lines)
            return _read(connection, held.job_id).cancel_requested

    def complete(self, held: Job, result: Mapping[str, Any], beat: Beat | None = None) -> Job:
        """Record what a job came to."""
        done = {"result": dict(result), "progress": 1.0, "error": None}
        return self._leave(held, JobStatus.COMPLETED, beat or Beat(), **done)

    def fail(
        self, held: Job, error: Mapping[str, Any], beat: Beat | None = None, *, again: bool = False
    ) -> Job:
        """Record why a job failed; with `again` it waits for its next attempt, if it has one."""
        error = {name: _short(text, MOST_CHARACTERS) for name, text in error.items()}
        if again and held.attempt < held.max_attempts:
            later = datetime.now(UTC) + _wait(held.attempt)
            waiting = {"error": error, "not_before": later}
            return self._leave(held, JobStatus.PENDING, beat or Beat(), **waiting)
        return self._leave(held, JobStatus.FAILED, beat or Beat(), error=error)

    def end_cancelled(self, held: Job, beat: Beat | None = None) -> Job:
        """Record that a job was stopped because somebody wanted that."""
        return self._leave(held, JobStatus.CANCELLED, beat or Beat())

    def give_back(self, held: Job, until: datetime | None = None, beat: Beat | None = None) -> Job:
        """Let a job wait again through no fault of its own: the attempt does not count."""
        waiting = {"not_before": until or datetime.now(UTC), "max_attempts": held.max_attempts + 1}
        return self._leave(held, JobStatus.PENDING, beat or Beat(), **waiting)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits; ask the worker of one that runs to stop it.

        Raises
        ------
        JobError
            If it has ended, or is not there.
        """
        now = datetime.now(UTC)
        with self.database.durable_writer() as connection:
            found = _read(connection, job_id, lock=True)
            require_move(job_id, found.status, JobStatus.CANCELLED)
            if found.status is JobStatus.RUNNING:
                _change(connection, job_id, cancel_requested=True, updated_at=now)
            else:
                ended = {"status": JobStatus.CANCELLED.value, "completed_at": now}
                _change(connection, job_id, updated_at=now, cancel_requested=True, **ended)
            return _read(connection, job_id)

    def retry(self, job_id: str, attempts: int = 1) -> Job:
        """Let a job that failed or was cancelled wait again, for so many attempts more.

        Raises
        ------
        JobError
            If it has not ended, or its work is done.
        """
        now = datetime.now(UTC)
        with self.database.durable_writer() as connection:
            found = _read(connection, job_id, lock=True)
            if found.status is JobStatus.RUNNING:
                raise JobError(f"{job_id}: is RUNNING; cancel it first, or wait for it")
            require_move(job_id, found.status, JobStatus.PENDING)
            _change(
                connection,
                job_id,
                status=JobStatus.PENDING.value,
                max_attempts=found.attempt + attempts,
                cancel_requested=False,
                **dict.fromkeys(("not_before", "updated_at"), now),
                **dict.fromkeys(("worker", "heartbeat_at", "completed_at", "progress", "message")),
            )
            return _read(connection, job_id)

    def recover(
        self,
        bound: timedelta = HEARTBEAT_BOUND,
        *,
        is_gone: Callable[[str], bool] = lambda _: False,
        now: datetime | None = None,
    ) -> list[Job]:
        """Take running jobs from workers that died or fell silent; return them as they are then.

        Each waits for its next attempt, is FAILED if it has none, or CANCELLED if that was wanted.

        Parameters
        ----------
        is_gone : function of the name of a worker
            Returns whether it is known to have died, however short its silence is.
        """
        now = now or datetime.now(UTC)
        running = (
            sa.select(jobs)
            .where(jobs.c.status == JobStatus.RUNNING.value)
            .order_by(jobs.c.job_id)
            .with_for_update(skip_locked=True)
        )
        with self.database.writer() as connection:
            every = [_record(row) for row in connection.execute(running).mappings()]
            found = [job for job in every if _silent(job, now - bound) or is_gone(job.worker or "")]
            for job in found:
                _change(connection, job.job_id, **_abandoned(job, now))
                _append(connection, job.job_id, [(now, "WARNING", _silence(job))])
            return [_read(connection, job.job_id) for job in found]

    def _leave(self, held: Job, status: JobStatus, beat: Beat, **values: Any) -> Job:
        """Move a job that is held on, and give it up."""
        now = datetime.now(UTC)
        waits = status is JobStatus.PENDING
        said = {} if beat.message is None else {"message": _short(beat.message, 512)}
        with self.database.durable_writer() as connection:
            found = _require_held(connection, held)
            if waits and found.cancel_requested:
                status, waits, values = JobStatus.CANCELLED, False, {}
            require_move(held.job_id, found.status, status)
            left = {"worker": None, "progress": None} if waits else {"completed_at": now}
            moved = {"status": status.value, "updated_at": now, **left, **said, **values}
            _change(connection, held.job_id, **moved)
            _append(connection, held.job_id, beat.lines)
            return _read(connection, held.job_id)


_FIELDS = tuple(each.name for each in fields(Job))


def _record(row: sa.RowMapping) -> Job:
    values = {name: row[name] for name in _FIELDS}
    return Job(**values | {"status": JobStatus(row["status"])})


def _read(connection: Connection, job_id: str, *, lock: bool = False) -> Job:
    query = sa.select(jobs).where(jobs.c.job_id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise UnknownJob(f"no job {job_id!r}; `prometheus jobs list` lists them")
    return _record(row)


def _require_held(connection: Connection, held: Job) -> Job:
    found = _read(connection, held.job_id, lock=True)
    same = (found.worker, found.attempt) == (held.worker, held.attempt)
    if found.status is not JobStatus.RUNNING or not same:
        raise JobLost(
            f"{held.job_id}: attempt {held.attempt} of {held.worker} holds it no more; it is "
            f"{found.status}, attempt {found.attempt}; what this attempt found is dropped"
        )
    return found


def _change(connection: Connection, job_id: str, **values: Any) -> None:
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**values))


def _append(
    connection: Connection, job_id: str, lines: Sequence[tuple[datetime, str, str]]
) -> None:
    """Add lines to a job's log, and drop those that are too many."""
    if not lines:
        return
    newest = sa.select(sa.func.max(logs.c.sequence)).where(logs.c.job_id == job_id)
    last = connection.execute(newest).scalar() or 0
    rows = [
        (job_id, sequence, at, level[:16], _short(message, MOST_CHARACTERS))
        for sequence, (at, level, message) in enumerate(lines[-MOST_LINES:], start=last + 1)
    ]
    upsert(connection, logs, logs.columns.keys(), rows)
    kept_from = rows[-1][1] - MOST_LINES
    dropped = sa.delete(logs).where(logs.c.job_id == job_id, logs.c.sequence <= kept_from)
    connection.execute(dropped)


def _abandoned(job: Job, now: datetime) -> dict[str, Any]:
    """Return how a job goes on whose worker is silent."""
    error = {
        "type": "WorkerLost",
        "message": _silence(job),
        "remedy": f"see that a worker stays alive, then `prometheus jobs retry {job.job_id}`",
    }
    if job.cancel_requested:
        status, later = JobStatus.CANCELLED, job.not_before
    elif job.attempt < job.max_attempts:
        status, later = JobStatus.PENDING, now + _wait(job.attempt)
    else:
        status, later = JobStatus.FAILED, job.not_before
    ended = None if status is JobStatus.PENDING else now
    moved = {"status": status.value, "not_before": later, "completed_at": ended}
    return {**moved, "worker": None, "error": error, "updated_at": now}


def _silent(job: Job, since: datetime) -> bool:
    return job.heartbeat_at is None or job.heartbeat_at < since


def _silence(job: Job) -> str:
    return (
        f"attempt {job.attempt}: worker {job.worker} gave no sign of life since "
        f"{job.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
    )


def _wait(attempt: int) -> timedelta:
    # Bounded before it is raised: a job may be retried by hand more often than a power can bear.
    doublings: int = 2 ** min(attempt - 1, 16)
    return min(FIRST_WAIT * doublings, LONGEST_WAIT)


def _short(text: Any, most: int) -> Any:
    return text[:most] if isinstance(text, str) else text


def _require_possible(filters: JobFilters) -> None:
    if filters.status is not None and filters.status not in list(JobStatus):
        known = ", ".join(JobStatus)
        raise ConfigError(f"status: unknown status {filters.status!r}; known: {known}")
    if not 1 <= filters.limit <= MOST_LISTED:
        raise ConfigError(f"limit: expected 1 to {MOST_LISTED:,} jobs, found {filters.limit}")


def _conditions(connection: Connection, filters: JobFilters) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [
        jobs.c[name] == value
        for name in ("status", "kind", "submitted_by", "parent_id")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.after is not None:
        at = _read(connection, filters.after).created_at
        same = sa.and_(jobs.c.created_at == at, jobs.c.job_id >= filters.after)
        # The first condition bounds the walk of the index, the second breaks ties.
        found += [jobs.c.created_at <= at, sa.not_(same)]
    return found
