"""Ask for work and see what becomes of it: what a command line and an API call.

Each function takes the open stores and returns plain records; `jobs.worker` does the work.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from persistence.job_queue import Job, JobFilters, JobQueue, LogLine, NewJob
from prometheus_nt.campaign_config import load_campaign
from prometheus_nt.config import Applied, load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.jobs import JobPriority
from prometheus_nt.jobs.kinds import KINDS, CampaignJob, JobSpec, Kind, NodeJob
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.yaml_models import validated

__all__ = [
    "KINDS",
    "Job",
    "JobFilters",
    "LogLine",
    "Terms",
    "all_logs",
    "cancel",
    "find",
    "kind_of",
    "list_kinds",
    "listing",
    "logs",
    "priority_of",
    "read_spec",
    "retry",
    "submit",
    "with_files",
]


@dataclass(frozen=True)
class Terms:
    """How a job is run; what is None follows its kind.

    key : of whoever submits: the same key again is the same job, so that a request may be repeated.
    not_before : begin no earlier.
    timeout_seconds : of running.
    """

    priority: JobPriority = JobPriority.STANDARD
    key: str | None = None
    not_before: datetime | None = None
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    parent_id: str | None = None


def submit(
    stores: Stores, kind: str, spec: Mapping[str, Any], by: str, terms: Terms | None = None
) -> Job:
    """Insert a job that waits for a worker; return it.

    Parameters
    ----------
    spec : plain values, checked against the kind's model
    by : who asks for it

    Raises
    ------
    ConfigError
        If the kind is unknown, or with a line for each mistake in the spec.
    JobError
        If the key stands for another spec.
    """
    known, terms = kind_of(kind), terms or Terms()
    settled = read_spec(kind, spec).settled(stores.settings).found(stores)
    new = NewJob(
        kind=kind,
        spec=settled.model_dump(mode="json", exclude_unset=True),
        submitted_by=by,
        priority=terms.priority,
        max_attempts=terms.max_attempts or known.attempts,
        timeout_seconds=terms.timeout_seconds or known.timeout_seconds,
        not_before=terms.not_before,
        key=terms.key,
        parent_id=terms.parent_id,
    )
    return _queue(stores).insert(new)


def cancel(stores: Stores, job_id: str) -> Job:
    """Cancel a job that waits; ask the worker of one that runs to stop it.

    Raises
    ------
    JobError
        If it has ended; `UnknownJob` if it is not there.
    """
    return _queue(stores).cancel(job_id)


def retry(stores: Stores, job_id: str) -> Job:
    """Let a job that failed or was cancelled wait again, with all the attempts of its kind.

    Raises
    ------
    JobError
        If it has not ended, or its work is done; `UnknownJob` if it is not there.
    """
    queue = _queue(stores)
    known = KINDS.get(queue.job(job_id).kind)
    return queue.retry(job_id, known.attempts if known else 1)


def find(stores: Stores, name: str) -> Job:
    """Return the job whose id is or begins with `name`; `latest` is the newest.

    Raises
    ------
    UnknownJob
        If there is none, or more than one.
    """
    return _queue(stores).find(name)


def listing(stores: Stores, filters: JobFilters | None = None) -> list[Job]:
    """Return a page of jobs, the newest first; `filters.after` is the last of the page before."""
    return _queue(stores).listing(filters or JobFilters())


def logs(stores: Stores, job_id: str, after: int = 0, limit: int = 1_000) -> list[LogLine]:
    """Return the lines of a job's log after a sequence number, oldest first."""
    return _queue(stores).logs(job_id, after, limit)


def all_logs(stores: Stores, job_id: str, after: int = 0) -> Iterator[LogLine]:
    """Yield every line that a job has logged after a sequence number, oldest first."""
    while page := logs(stores, job_id, after):
        yield from page
        after = page[-1].sequence


def list_kinds() -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of the kinds of jobs: what each does, and its spec's fields."""
    rows = [
        (name, (kind.spec.__doc__ or "").partition("\n")[0], ", ".join(kind.spec.model_fields))
        for name, kind in KINDS.items()
    ]
    return ("kind", "does", "spec"), rows


def priority_of(name: str) -> JobPriority:
    """Return a priority by its name.

    Raises
    ------
    ConfigError
        If there is no such priority.
    """
    if name.upper() not in JobPriority.__members__:
        known = ", ".join(JobPriority.__members__)
        raise ConfigError(f"priority: unknown priority {name!r}; known: {known}")
    return JobPriority[name.upper()]


def with_files(
    kind: str, spec: Mapping[str, Any], paths: Sequence[Path], applied: Applied | None = None
) -> dict[str, Any]:
    """Return a spec that holds what files on this machine say: a node's, or a campaign's.

    Parameters
    ----------
    applied : function, optional
        What was applied to a node's strategy by proposals; by default nothing.

    Raises
    ------
    ConfigError
        If a file has a mistake, or this kind of job takes none.
    """
    if not paths:
        return dict(spec)
    model = kind_of(kind).spec
    if issubclass(model, NodeJob):
        node = load_config(paths, mode="backtest", applied=applied)
        return {**spec, "node": node.model_dump(mode="json", exclude_unset=True)}
    if issubclass(model, CampaignJob) and len(paths) == 1:
        return {**spec, "plan": load_campaign(paths[0]).document()}
    takes = "one file, the campaign's" if issubclass(model, CampaignJob) else "no files"
    raise ConfigError(f"-c: a job of kind {kind!r} takes {takes}; found {len(paths)}")


def kind_of(name: str, registry: Mapping[str, Kind] = KINDS) -> Kind:
    """Return a kind of job.

    Raises
    ------
    ConfigError
        If there is no such kind; the message names the nearest, or all.
    """
    if name in registry:
        return registry[name]
    close = difflib.get_close_matches(name, registry, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(registry)}"
    raise ConfigError(f"kind: unknown kind of job {name!r}; {hint}")


def read_spec(name: str, spec: Mapping[str, Any], registry: Mapping[str, Kind] = KINDS) -> JobSpec:
    """Return the spec of a job, checked.

    Raises
    ------
    ConfigError
        With a line for each mistake: the field, what was found and what expected.
    """
    model = kind_of(name, registry).spec
    try:
        return validated(model, spec, name)
    except ConfigError as mistakes:
        # A spec is no file, where a mistake belongs to no one field of it.
        raise ConfigError(str(mistakes).replace(": the file: ", ": ")) from None


def _queue(stores: Stores) -> JobQueue:
    return JobQueue(stores.runtime.database)
