"""The jobs of a market's day: what each needs, when it may start, what becomes of its failures.

::

    PENDING -> RUNNING -> SUCCESS
       |  ^       |`----> SKIPPED <- PENDING, when what it needs will never be
       |  `-------'`----> FAILED  -> RUNNING, when its wait is over and it has attempts left
       `--> a job that found nothing to do yet waits again, and no attempt is counted

1. `rules_of` lays the changes of a configuration over `DEFAULT_RULES`, and refuses needs that go
   in a circle.
2. `startable` returns what may begin now, `never` what cannot any more, `late` what should have
   ended, and `next_moment` when to look again.

All of it is pure: a plan, how its jobs stand, and a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Literal

from pydantic import Field

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, PhaseError
from prometheus_nt.domain.market_state import DEFAULT_CLOCK, ClockParams
from prometheus_nt.domain.record import Params, content_hash

LONGEST_WAIT = timedelta(hours=1)
"""Between two attempts at a job, however often it has failed."""
JITTER = 0.25
"""Share of a wait by which it may be longer or shorter, so that not everybody asks at once."""


class JobStatus(StrEnum):
    """How a job of a day stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


MOVES: Mapping[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.PENDING: (JobStatus.RUNNING, JobStatus.SKIPPED),
    JobStatus.RUNNING: (
        JobStatus.PENDING,
        JobStatus.SUCCESS,
        JobStatus.FAILED,
        JobStatus.SKIPPED,
    ),
    JobStatus.FAILED: (JobStatus.RUNNING, JobStatus.PENDING),
    JobStatus.SKIPPED: (JobStatus.PENDING,),
    JobStatus.SUCCESS: (),
}
"""From each status to those that may follow; FAILED and SKIPPED go back to PENDING by a person."""


class JobKind(StrEnum):
    """What a job does."""

    INGEST_PRICES = "ingest_prices"
    CHECK_DATA = "check_data"
    AUDIT_DATA = "audit_data"
    DERIVE_DATA = "derive_data"
    RUN_SIGNALS = "run_signals"
    RUN_UNIVERSES = "run_universes"
    RUN_BOOKS = "run_books"
    UPDATE_OUTCOMES = "update_outcomes"


OF_DATASETS = (JobKind.INGEST_PRICES, JobKind.AUDIT_DATA, JobKind.DERIVE_DATA)
"""Jobs that are done once for a dataset; the others once for each strategy."""


class JobPriority(IntEnum):
    """Who goes first when several jobs may start."""

    CRITICAL = 1
    STANDARD = 2
    OPTIONAL = 3


class JobRule(Params):
    """When a job may start, how long it may take, and what becomes of its failures.

    Attributes
    ----------
    needs : kinds of jobs of the same session that must be over
    mandatory : its final failure fails the day, and what needs it is skipped
    starts, delay_minutes : state of the market, of the job's own session, that has to have begun
        so many minutes ago
    max_attempts, retry_seconds : the wait between two of them doubles each time
    poll_seconds : until it looks again, where what it waits for has not come yet
    late_after_minutes : after the session's close, when somebody is told that it is not over
    """

    needs: tuple[JobKind, ...] = ()
    priority: JobPriority = JobPriority.STANDARD
    mandatory: bool = True
    enabled: bool = True
    starts: Literal["PRE_OPEN", "SESSION", "POST_CLOSE"] = "POST_CLOSE"
    delay_minutes: float = Field(0.0, ge=0, le=24 * 60)
    timeout_seconds: float = Field(3600.0, gt=0)
    max_attempts: int = Field(4, ge=1)
    retry_seconds: float = Field(300.0, gt=0)
    poll_seconds: float = Field(300.0, gt=0)
    late_after_minutes: float | None = Field(None, gt=0)


Rules = Mapping[JobKind, JobRule]

DEFAULT_RULES: Rules = {
    JobKind.INGEST_PRICES: JobRule(
        priority=JobPriority.CRITICAL, mandatory=False, delay_minutes=15, max_attempts=6
    ),
    JobKind.CHECK_DATA: JobRule(
        needs=(JobKind.INGEST_PRICES,),
        priority=JobPriority.CRITICAL,
        timeout_seconds=600,
        late_after_minutes=180,
    ),
    JobKind.RUN_SIGNALS: JobRule(
        needs=(JobKind.CHECK_DATA,), priority=JobPriority.CRITICAL, timeout_seconds=7200
    ),
    JobKind.RUN_UNIVERSES: JobRule(
        needs=(JobKind.RUN_SIGNALS,), priority=JobPriority.CRITICAL, timeout_seconds=7200
    ),
    JobKind.RUN_BOOKS: JobRule(
        needs=(JobKind.RUN_UNIVERSES,),
        priority=JobPriority.CRITICAL,
        timeout_seconds=7200,
        late_after_minutes=360,
    ),
    JobKind.AUDIT_DATA: JobRule(
        needs=(JobKind.CHECK_DATA,), priority=JobPriority.OPTIONAL, mandatory=False, max_attempts=2
    ),
    JobKind.DERIVE_DATA: JobRule(
        needs=(JobKind.CHECK_DATA,), priority=JobPriority.OPTIONAL, mandatory=False, max_attempts=2
    ),
    JobKind.UPDATE_OUTCOMES: JobRule(
        needs=(JobKind.RUN_BOOKS,), priority=JobPriority.OPTIONAL, mandatory=False, max_attempts=2
    ),
}


@dataclass(frozen=True)
class Job:
    """One job of one session.

    Attributes
    ----------
    subject : what it is done for: a dataset, or a strategy and its mode
    needs : ids of the jobs that must be over
    starts_at, late_at : instants in UTC
    """

    job_id: str
    dag_id: str
    kind: JobKind
    session: date
    subject: str
    rule: JobRule
    needs: tuple[str, ...]
    starts_at: datetime
    late_at: datetime | None


@dataclass(frozen=True)
class Standing:
    """How a job stands: attempts begun so far, and when the next is due; None is at once."""

    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    next_attempt_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        if self.status is JobStatus.FAILED:
            return self.next_attempt_at is None
        return self.status in (JobStatus.SUCCESS, JobStatus.SKIPPED)


Standings = Mapping[str, Standing]
"""How jobs stand, by id; who is not there has not begun."""


def rules_of(changes: Mapping[JobKind, JobRule]) -> Rules:
    """Return the rules of the jobs that are done: the defaults with what `changes` set of them.

    Raises
    ------
    ConfigError
        If a job needs itself, by way of others perhaps, or one without which the day cannot be
        done is disabled.
    """
    rules = {kind: _changed(rule, changes.get(kind)) for kind, rule in DEFAULT_RULES.items()}
    for kind, rule in rules.items():
        if not rule.enabled and rule.mandatory:
            raise ConfigError(
                f"{kind}: is mandatory and cannot be disabled; set mandatory: false as well"
            )
    require_no_circle({kind: rule.needs for kind, rule in rules.items()})
    return {kind: rule for kind, rule in rules.items() if rule.enabled}


def require_no_circle(needs: Mapping[str, Sequence[str]]) -> None:
    """Raise `ConfigError` if a job needs one that there is not, or goes round to itself."""
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = " -> ".join((*way[way.index(name) :], name))
            raise ConfigError(f"{circle}: is a circle of needs; take one of them away")
        if name in done:
            return
        for need in needs[name]:
            if need not in needs:
                raise ConfigError(
                    f"{name}: needs {need}, which is no job; known: {', '.join(needs)}"
                )
            walk(need, (*way, name))
        done.add(name)

    for name in needs:
        walk(name, ())


def starts_at(
    rule: JobRule, session: date, calendar: MarketCalendar, clock: ClockParams = DEFAULT_CLOCK
) -> datetime:
    """Return the instant in UTC from which a job of `session` may start."""
    opens = _instant(calendar.open_ns(session))
    moments = {
        "PRE_OPEN": opens - timedelta(minutes=clock.pre_open_minutes),
        "SESSION": opens,
        "POST_CLOSE": _instant(calendar.close_ns(session)),
    }
    return moments[rule.starts] + timedelta(minutes=rule.delay_minutes)


def late_at(rule: JobRule, session: date, calendar: MarketCalendar) -> datetime | None:
    """Return when a job of `session` that is not over is late; None is never."""
    if rule.late_after_minutes is None:
        return None
    return _instant(calendar.close_ns(session)) + timedelta(minutes=rule.late_after_minutes)


def require_status_move(before: JobStatus, after: JobStatus) -> None:
    """Raise `PhaseError` unless a job may go from `before` to `after`."""
    if after not in MOVES[before]:
        following = ", ".join(MOVES[before]) or "nothing"
        raise PhaseError(
            f"job {before} -> {after}: no such move; {before} is followed by {following}"
        )


def startable(plan: Sequence[Job], standings: Standings, now: datetime) -> list[Job]:
    """Return the jobs that may start now, those to begin first in front.

    What has not been tried yet comes before what has failed, so that an old session which goes on
    failing starves no new one; then the older session, then the higher priority. Of one kind and
    subject only one session is at work at a time.
    """
    busy = {_place(job) for job in plan if _of(standings, job).status is JobStatus.RUNNING}
    by_id = {job.job_id: job for job in plan}
    ready = [job for job in plan if _may_start(job, by_id, standings, now)]
    ready.sort(key=lambda job: _urgency(job, _of(standings, job)))
    chosen = []
    for job in ready:
        if _place(job) not in busy:
            busy.add(_place(job))
            chosen.append(job)
    return chosen


def never(plan: Sequence[Job], standings: Standings) -> dict[str, str]:
    """Return the waiting jobs that cannot begin any more, and why, by id.

    They need a mandatory job that has finally failed or was skipped, or one that cannot begin.
    """
    by_id = {job.job_id: job for job in plan}
    found: dict[str, str] = {}
    waiting = [job for job in plan if _of(standings, job).status is JobStatus.PENDING]
    # The plan is in no order: go round until nothing new is lost.
    while True:
        lost = {
            job.job_id: f"needs {need}, which is {_why(need, standings, found)}"
            for job in waiting
            if job.job_id not in found
            for need in job.needs
            if by_id[need].rule.mandatory and (need in found or _is_lost(by_id[need], standings))
        }
        if not lost:
            return found
        found |= lost


def late(
    plan: Sequence[Job], standings: Standings, now: datetime, since: Mapping[str, datetime]
) -> list[Job]:
    """Return the jobs that should be over by now and are not.

    Parameters
    ----------
    since : mapping of job id to instant
        When somebody took the job up: one who comes late is given as long as if he had not.
    """
    return [
        job
        for job in plan
        if job.late_at is not None
        and max(job.late_at, since[job.job_id] + (job.late_at - job.starts_at)) <= now
        and not _of(standings, job).over
    ]


def next_moment(plan: Sequence[Job], standings: Standings, now: datetime) -> datetime | None:
    """Return the first instant after `now` at which time alone lets something happen."""
    moments = []
    for job in plan:
        standing = _of(standings, job)
        if not standing.over:
            moments += [job.starts_at, job.late_at, standing.next_attempt_at]
    return min((moment for moment in moments if moment is not None and moment > now), default=None)


def wait_after(job: Job, attempt: int) -> timedelta:
    """Return how long to wait after the `attempt`-th failure of a job; the same each time."""
    # A wait that long is cut anyway; a larger power would be no number.
    seconds = job.rule.retry_seconds * 2.0 ** min(attempt - 1, 30)
    share = int(content_hash([job.job_id, attempt])[:8], 16) / 0xFFFFFFFF
    longer = 1.0 + JITTER * (2.0 * share - 1.0)
    return timedelta(seconds=min(seconds, LONGEST_WAIT.total_seconds()) * longer)


def _may_start(job: Job, by_id: Mapping[str, Job], standings: Standings, now: datetime) -> bool:
    standing = _of(standings, job)
    if standing.over or standing.status is JobStatus.RUNNING or job.starts_at > now:
        return False
    if standing.next_attempt_at is not None and standing.next_attempt_at > now:
        return False
    return all(_is_met(by_id[need], standings) for need in job.needs)


def _is_met(need: Job, standings: Standings) -> bool:
    standing = _of(standings, need)
    if need.rule.mandatory:
        return standing.status is JobStatus.SUCCESS
    return standing.over


def _is_lost(need: Job, standings: Standings) -> bool:
    standing = _of(standings, need)
    return standing.over and standing.status is not JobStatus.SUCCESS


def _why(need: str, standings: Standings, lost: Mapping[str, str]) -> str:
    return JobStatus.SKIPPED if need in lost else standings[need].status


def _urgency(job: Job, standing: Standing) -> tuple[bool, date, int, str]:
    return standing.status is JobStatus.FAILED, job.session, job.rule.priority, job.job_id


def _place(job: Job) -> tuple[JobKind, str]:
    return job.kind, job.subject


def _of(standings: Standings, job: Job) -> Standing:
    return standings.get(job.job_id, Standing())


def _changed(rule: JobRule, change: JobRule | None) -> JobRule:
    if change is None:
        return rule
    return rule.model_copy(update={name: getattr(change, name) for name in change.model_fields_set})


def _instant(nanoseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
