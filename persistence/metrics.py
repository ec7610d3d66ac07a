"""Numbers about the stores that cost little to count: of small tables, or from an index alone."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import sqlalchemy as sa

from persistence.database import Database
from persistence.tables import governance, historical, operations
from persistence.tables import runtime as tables

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the number."""


def runtime_counts(database: Database) -> dict[str, list[Sample]]:
    """Return how many runs, days, attempts, trials, jobs and jobs of days there are, by state."""
    runs = tables.backtest_runs.c
    days, attempts = operations.engine_runs.c, operations.engine_run_attempts.c
    trials, jobs = operations.trials.c, governance.jobs.c
    daily = governance.job_executions.c
    newest = sa.select(runs.sleeve_id, sa.func.max(runs.created_at)).group_by(runs.sleeve_id)
    with database.reader() as connection:
        return {
            "runs": _counted(connection, (runs.status, runs.mode)),
            "engine_runs": _counted(connection, (days.region, days.phase)),
            "engine_run_attempts": _counted(connection, (attempts.phase, attempts.status)),
            "trials": _counted(connection, (trials.family, trials.status)),
            "jobs": _counted(connection, (jobs.kind, jobs.status)),
            "job_executions": _counted(connection, (daily.job_type, daily.status)),
            "newest_run": [
                ((sleeve,), moment.timestamp()) for sleeve, moment in connection.execute(newest)
            ],
        }


def dataset_counts(database: Database) -> dict[str, list[Sample]]:
    """Return, by dataset, its last session, its instruments, its bars and its open findings."""
    members, events = historical.dataset_instruments.c, historical.data_quality_events.c
    held = sa.select(
        members.dataset_id,
        sa.func.max(members.last_date),
        sa.func.count(),
        sa.func.sum(members.row_count),
    ).group_by(members.dataset_id)
    unresolved = events.resolved_at.is_(None)
    with database.reader() as connection:
        rows = connection.execute(held.order_by(members.dataset_id)).all()
        findings = _counted(connection, (events.dataset_id, events.severity), unresolved)
    return {
        "last_session": [((name,), _seconds(last)) for name, last, _, _ in rows if last],
        "instruments": [((name,), float(count)) for name, _, count, _ in rows],
        "bars": [((name,), float(bars or 0)) for name, _, _, bars in rows],
        "findings": findings,
    }


def _counted(
    connection: sa.Connection,
    columns: Sequence[sa.Column[str]],
    *conditions: sa.ColumnElement[bool],
) -> list[Sample]:
    query = sa.select(*columns, sa.func.count()).where(*conditions)
    rows = connection.execute(query.group_by(*columns).order_by(*columns))
    return [(tuple(row[:-1]), float(row[-1])) for row in rows]


def _seconds(session: date) -> float:
    return datetime(session.year, session.month, session.day, tzinfo=UTC).timestamp()
