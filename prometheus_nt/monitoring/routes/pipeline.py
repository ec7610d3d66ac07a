"""How far a market's day has come, and what the market is doing now."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from fastapi import APIRouter

from persistence.pipeline import newest_jobs, newest_phases
from persistence.standing import Record
from prometheus_nt.domain.calendar import REGIONS, MarketCalendar
from prometheus_nt.domain.daily_jobs import DEFAULT_RULES, JobKind, JobStatus, starts_at
from prometheus_nt.domain.market_state import MarketState, market_view
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.monitoring.answers import Answer, AsOf, Name, Part
from prometheus_nt.monitoring.desk import OurDesk
from prometheus_nt.monitoring.routes.common import reasons

router = APIRouter(prefix="/api/status", tags=["status"])

WORK_OF_PHASE: Mapping[str, JobKind] = {
    RunPhase.WAITING_FOR_DATA: JobKind.CHECK_DATA,
    RunPhase.DATA_READY: JobKind.RUN_SIGNALS,
    RunPhase.SIGNALS_DONE: JobKind.RUN_UNIVERSES,
    RunPhase.UNIVERSES_DONE: JobKind.RUN_BOOKS,
}
"""Phase -> the job that leads out of it."""


class JobNow(Part):
    """A job of a market's day, or a phase of a run of it.

    latency_ms : how long it took, or has been at work; null before it began.
    slo_ms : how long it may take by the default rules; null where nothing is asked of it.
    next_run : when it is next begun, in UTC; null if nobody will.
    """

    job_name: str
    as_of_date: date
    last_run_status: str
    last_run_time: datetime | None
    latency_ms: float | None
    slo_ms: float | None
    next_run: datetime | None


class Pipeline(Answer):
    """What a market does now, and the jobs of its newest day."""

    market_id: str
    market_state: MarketState
    next_state: MarketState
    next_state_at: datetime
    as_of_date: date | None
    jobs: list[JobNow]


@router.get("/pipeline")
def pipeline(desk: OurDesk, market_id: Name, as_of: AsOf = None) -> Pipeline:
    """Return the state of a market, the jobs of its newest day, and the phases of its runs."""
    now = datetime.now(UTC)
    view, calendar = market_view(market_id, now), MarketCalendar.of(market_id)
    region = next(region for region, market in REGIONS.items() if market == market_id)
    database = desk.stores.runtime.database
    jobs = [_job(row, calendar, now) for row in newest_jobs(database, market_id, as_of)]
    jobs += [_phase(row, calendar, now) for row in newest_phases(database, region, as_of)]
    newest = {"as_of_date": max((job.as_of_date for job in jobs), default=None)}
    return Pipeline(
        market_id=market_id,
        market_state=view.state,
        next_state=view.next_state,
        next_state_at=view.next_at,
        jobs=jobs,
        unknown=reasons(newest, "no day of this market has been recorded up to this session"),
        **newest,
    )


def _job(row: Record, calendar: MarketCalendar, now: datetime) -> JobNow:
    return JobNow(
        job_name=row["job_id"],
        as_of_date=row["as_of_date"],
        last_run_status=row["status"],
        last_run_time=row["started_at"],
        latency_ms=_milliseconds(row["started_at"], row["completed_at"], now),
        slo_ms=_allowed(row["job_type"]),
        next_run=_next_of_job(row, calendar),
    )


def _phase(row: Record, calendar: MarketCalendar, now: datetime) -> JobNow:
    work = WORK_OF_PHASE.get(row["phase"])
    return JobNow(
        job_name=f"{row['run_id']} {row['phase']}",
        as_of_date=row["as_of_date"],
        last_run_status=row["status"],
        last_run_time=row["started_at"],
        latency_ms=_milliseconds(row["started_at"], row["ended_at"], now),
        slo_ms=_allowed(work),
        next_run=row["next_attempt_at"] or _in_next_session(work, row["as_of_date"], calendar),
    )


def _milliseconds(begun: datetime | None, ended: datetime | None, now: datetime) -> float | None:
    return None if begun is None else 1e3 * ((ended or now) - begun).total_seconds()


def _allowed(kind: str | None) -> float | None:
    rule = DEFAULT_RULES.get(JobKind(kind)) if kind in set(JobKind) else None
    return None if rule is None else 1e3 * rule.timeout_seconds


def _next_of_job(row: Record, calendar: MarketCalendar) -> datetime | None:
    if row["status"] == JobStatus.FAILED or row["next_attempt_at"] is not None:
        again: datetime | None = row["next_attempt_at"]
        return again
    if row["status"] == JobStatus.PENDING:
        return _start(row["job_type"], row["as_of_date"], calendar)
    return _in_next_session(row["job_type"], row["as_of_date"], calendar)


def _in_next_session(kind: str | None, session: date, calendar: MarketCalendar) -> datetime | None:
    return _start(kind, calendar.next_session(session), calendar)


def _start(kind: str | None, session: date, calendar: MarketCalendar) -> datetime | None:
    rule = DEFAULT_RULES.get(JobKind(kind)) if kind in set(JobKind) else None
    return None if rule is None else starts_at(rule, session, calendar)
