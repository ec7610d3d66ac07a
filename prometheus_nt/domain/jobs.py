"""The states of a job that somebody asked for, and the moves between them.

::

    PENDING -> RUNNING -> COMPLETED
       |          |-----> FAILED ----.
       |          |-----> CANCELLED -+-> PENDING, by a retry
       |          `-----> PENDING, given back or tried again
       `----------------> CANCELLED
"""

from enum import IntEnum, StrEnum

from prometheus_nt.domain.errors import JobError


class JobStatus(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class JobPriority(IntEnum):
    """Who goes first among the jobs that wait; the lower number does."""

    CRITICAL = 1
    STANDARD = 2
    OPTIONAL = 3


ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)

MOVES: dict[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.PENDING: (JobStatus.RUNNING, JobStatus.CANCELLED),
    JobStatus.RUNNING: (*ENDED, JobStatus.PENDING),
    JobStatus.COMPLETED: (),
    JobStatus.FAILED: (JobStatus.PENDING,),
    JobStatus.CANCELLED: (JobStatus.PENDING,),
}

_REMEDIES = {
    JobStatus.PENDING: "it waits for a worker, `prometheus worker` runs one",
    JobStatus.RUNNING: "cancel it first, or wait for it",
    JobStatus.COMPLETED: "its work is done, submit another",
    JobStatus.FAILED: "retry it first",
    JobStatus.CANCELLED: "retry it first",
}


def require_move(job_id: str, before: JobStatus, after: JobStatus) -> None:
    """Raise `JobError` unless a job may move from `before` to `after`."""
    if after not in MOVES[before]:
        raise JobError(f"{job_id}: is {before}, cannot become {after}; {_REMEDIES[before]}")
