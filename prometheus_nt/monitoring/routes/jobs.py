"""Jobs: ask for work, see how it goes, cancel it and try it again."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from persistence.job_queue import Job, JobQueue
from persistence.pages import page_of_jobs
from prometheus_nt.domain.jobs import JobStatus
from prometheus_nt.jobs import queue
from prometheus_nt.jobs.queue import KINDS, Terms, priority_of
from prometheus_nt.monitoring.access import Caller, Role
from prometheus_nt.monitoring.answers import (
    DEFAULT_ROWS,
    Answer,
    Limit,
    Name,
    Offset,
    Page,
    Part,
    page_of,
)
from prometheus_nt.monitoring.desk import Asking, Desk, OurDesk, needs

router = APIRouter(prefix="/api", tags=["jobs"])
OPERATE = [Depends(needs(Role.OPERATE))]

LATEST_LINE = 2**53
BEFORE_IT_BEGAN = "not before a worker has begun it"
BEFORE_IT_ENDED = "not before it has ended"


class JobRow(Part):
    """A job in a list. progress : a fraction, null if nobody can tell."""

    job_id: str
    kind: str
    status: JobStatus
    progress: float | None
    message: str | None
    priority: int
    attempt: int
    max_attempts: int
    worker: str | None
    submitted_by: str
    parent_id: str | None
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime
    not_before: datetime
    started_at: datetime | None
    completed_at: datetime | None
    heartbeat_at: datetime | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None


class JobDetail(Answer):
    """A job as it stands; the names at the top are those of the mission's documents.

    progress_pct : 0 to 100.
    """

    job_id: str
    type: str
    kind: str
    status: JobStatus
    progress: float | None
    progress_pct: float | None
    message: str | None
    attempt: int
    max_attempts: int
    worker: str | None
    submitted_by: str
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    heartbeat_at: datetime | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    spec: dict[str, Any]


class Submitted(Answer):
    """A job that was asked for."""

    job_id: str
    status: str
    message: str


class KindRow(Part):
    """A kind of job: what it does, and the schema of its spec."""

    kind: str
    does: str
    attempts: int
    timeout_seconds: float | None
    spec: dict[str, Any]


class Kinds(Answer):
    """The kinds of jobs that this server knows."""

    kinds: list[KindRow]


class Line(Part):
    """A line of a log."""

    sequence: int
    at: datetime
    level: str
    message: str


class Lines(Answer):
    """Lines of a job's log. after : of the last line, to ask for those that follow."""

    job_id: str
    lines: list[Line]
    after: int


class Asked(BaseModel):
    """A job to submit. key : the same again is the same job, so that a call may be repeated."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[str, Field(min_length=1, max_length=64)]
    spec: dict[str, Any] = Field(default_factory=dict)
    priority: Annotated[str, Field(max_length=16)] = "STANDARD"
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


@router.get("/jobs")
def jobs(
    desk: OurDesk,
    status: JobStatus | None = None,
    kind: Name | None = None,
    submitted_by: Name | None = None,
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[JobRow]:
    """Return jobs, the newest first."""
    if kind is not None:
        queue.kind_of(kind)
    wanted = {"status": status, "kind": kind, "submitted_by": submitted_by}
    rows = page_of_jobs(desk.stores.runtime.database, wanted, offset, limit + 1)
    return page_of([JobRow(**row) for row in rows], offset, limit)


@router.get("/jobs/kinds")
def job_kinds(desk: OurDesk) -> Kinds:
    """Return what may be asked for."""
    return desk.memo.get("kinds", _kinds)


def _kinds() -> Kinds:
    return Kinds(
        kinds=[
            KindRow(
                kind=name,
                does=(kind.spec.__doc__ or "").partition("\n")[0],
                attempts=kind.attempts,
                timeout_seconds=kind.timeout_seconds,
                spec=kind.spec.model_json_schema(),
            )
            for name, kind in KINDS.items()
        ]
    )


@router.post("/jobs", status_code=202, dependencies=OPERATE)
def submit_job(desk: OurDesk, who: Asking, asked: Asked) -> Submitted:
    """Ask for work; a worker does it. What is wrong with it is told before anything is kept."""
    terms = Terms(priority=priority_of(asked.priority), key=asked.key)
    return submitted(desk, who, asked.kind, asked.spec, terms)


@router.get("/jobs/{job_id}")
def job(desk: OurDesk, job_id: Name) -> JobDetail:
    """Return a job as it stands."""
    return detail(desk, job_id)


@router.get("/jobs/{job_id}/logs")
def job_logs(
    desk: OurDesk,
    job_id: Name,
    after: Annotated[int, Query(ge=0, le=LATEST_LINE)] = 0,
    limit: Limit = 1_000,
) -> Lines:
    """Return the lines that a job has logged after one, oldest first."""
    found = queue.logs(desk.stores, job_id, after, limit)
    return Lines(
        job_id=job_id,
        lines=[Line(**asdict(line)) for line in found],
        after=found[-1].sequence if found else after,
    )


@router.post("/jobs/{job_id}/cancel", dependencies=OPERATE)
def cancel_job(desk: OurDesk, job_id: Name) -> Submitted:
    """Cancel a job that waits; ask the worker of one that runs to stop it."""
    found = queue.cancel(desk.stores, job_id)
    stops = "cancelled" if found.ended else "its worker stops it within seconds"
    return Submitted(job_id=found.job_id, status=found.status, message=stops)


@router.post("/jobs/{job_id}/retry", dependencies=OPERATE)
def retry_job(desk: OurDesk, job_id: Name) -> Submitted:
    """Let a job that failed or was cancelled wait for a worker again."""
    return _waits(queue.retry(desk.stores, job_id))


def submitted(
    desk: Desk, who: Caller, kind: str, spec: dict[str, Any], terms: Terms | None = None
) -> Submitted:
    """Insert a job in the name of a caller; what has a `by` of its own is by nobody else."""
    known = queue.kind_of(kind)
    if "by" in known.spec.model_fields:
        spec = {**spec, "by": who.name}
    return _waits(queue.submit(desk.stores, kind, spec, who.name, terms))


def detail(desk: Desk, job_id: str) -> JobDetail:
    """Return a job as it stands, under our names and the mission's."""
    found = JobQueue(desk.stores.runtime.database).job(job_id)
    fields = {
        name: value for name, value in asdict(found).items() if name in JobDetail.model_fields
    }
    percent = None if found.progress is None else 100.0 * found.progress
    return JobDetail(**fields, type=found.kind, progress_pct=percent, unknown=_unknown(found))


def _waits(job: Job) -> Submitted:
    waits = "waits for a worker" if job.status is JobStatus.PENDING else f"is {job.status}"
    message = f"{job.kind}: {waits}; GET /api/jobs/{job.job_id} tells how it goes"
    return Submitted(job_id=job.job_id, status=job.status, message=message)


def _unknown(job: Job) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if job.progress is None:
        reasons |= dict.fromkeys(("progress", "progress_pct"), "it has not told how far it is")
    for name in ("started_at", "heartbeat_at", "worker"):
        if getattr(job, name) is None:
            reasons[name] = BEFORE_IT_BEGAN
    for name in ("completed_at", "result"):
        if getattr(job, name) is None:
            reasons[name] = BEFORE_IT_ENDED if not job.ended else f"it is {job.status}"
    return reasons
