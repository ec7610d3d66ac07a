"""How far the newest day of a market has come: its daemon's jobs, and the phases of its runs."""

from datetime import date
from typing import Any

import sqlalchemy as sa

from persistence.database import Database
from persistence.standing import Record
from persistence.tables.governance import job_executions as executions
from persistence.tables.operations import engine_run_attempts as attempts
from persistence.tables.operations import engine_runs as runs

MOST_JOBS = 1_000


def newest_jobs(database: Database, market_id: str, as_of: date | None) -> list[Record]:
    """Return the jobs of a market's newest day up to `as_of`, by job id."""
    newest = sa.select(executions.c.as_of_date).where(executions.c.market_id == market_id)
    if as_of is not None:
        newest = newest.where(executions.c.as_of_date <= as_of)
    names = "job_id job_type as_of_date status started_at completed_at next_attempt_at"
    query = sa.select(*(executions.c[name] for name in names.split()))
    of_market = query.where(executions.c.market_id == market_id).order_by(executions.c.job_id)
    return _of_newest(database, newest, of_market, executions.c.as_of_date)


def newest_phases(database: Database, region: str, as_of: date | None) -> list[Record]:
    """Return the last attempt at each phase of the runs of a region's newest day up to `as_of`."""
    newest = sa.select(runs.c.as_of_date).where(runs.c.region == region)
    if as_of is not None:
        newest = newest.where(runs.c.as_of_date <= as_of)
    columns = (
        *(runs.c.run_id, runs.c.as_of_date, runs.c.next_attempt_at),
        *(attempts.c.phase, attempts.c.attempt, attempts.c.status),
        *(attempts.c.started_at, attempts.c.ended_at),
    )
    query = sa.select(*columns).where(attempts.c.run_id == runs.c.run_id, runs.c.region == region)
    ordered = query.order_by(attempts.c.started_at, attempts.c.attempt)
    rows = _of_newest(database, newest, ordered, runs.c.as_of_date)
    last = {(row["run_id"], row["phase"]): row for row in rows}
    return list(last.values())


def _of_newest(
    database: Database,
    newest: "sa.Select[Any]",
    query: "sa.Select[Any]",
    dated: "sa.Column[Any]",
) -> list[Record]:
    with database.reader() as connection:
        session = connection.execute(newest.order_by(dated.desc()).limit(1)).scalar()
        if session is None:
            return []
        rows = connection.execute(query.where(dated == session).limit(MOST_JOBS)).mappings()
        return [dict(row) for row in rows]
