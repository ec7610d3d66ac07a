"""Facts that rules of alerts are judged on, read from the newest rows that indexes begin with."""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.tables import governance, operations, trading
from persistence.tables import runtime as tables
from prometheus_nt.domain.phases import TERMINAL
from prometheus_nt.domain.runs import day_run_id

Record = dict[str, Any]

TRADED = ("PAPER", "LIVE")
MOST = 200
"""Rows of a kind that a check looks at: the newest."""


def open_days(database: Database) -> list[Record]:
    """Return the days that are neither completed nor given up, newest session first."""
    days = operations.engine_runs
    ended = [phase.value for phase in TERMINAL]
    query = sa.select(days).where(days.c.phase.not_in(ended))
    return _rows(database, query.order_by(days.c.as_of_date.desc()))


def failed_days(database: Database, since: datetime) -> list[Record]:
    """Return the days that failed since a moment."""
    days = operations.engine_runs
    query = sa.select(days).where(days.c.phase == "FAILED", days.c.updated_at >= since)
    return _rows(database, query.order_by(days.c.as_of_date.desc()))


def unfinished_runs(database: Database, before: datetime) -> list[Record]:
    """Return backtests that began before a moment and never ended."""
    runs = tables.backtest_runs.c
    query = sa.select(runs.run_id, runs.sleeve_id, runs.created_at).where(
        runs.status == "RUNNING", runs.mode == "BACKTEST", runs.created_at < before
    )
    return _rows(database, query.order_by(runs.created_at.desc()))


def traded_books(database: Database) -> list[Record]:
    """Return the newest account of each open run on paper or live, with its run's settings."""
    runs, states = tables.backtest_runs.c, trading.account_states
    query = sa.select(runs.run_id, runs.sleeve_id, runs.mode, runs.status, runs.config_json)
    query = (
        query.where(runs.mode.in_(TRADED), runs.status != "FINISHED")
        .order_by(runs.created_at.desc())
        .limit(MOST)
    )
    found = []
    with database.reader() as connection:
        for run in connection.execute(query).mappings().all():
            newest = sa.select(states).where(states.c.run_id == run["run_id"])
            ordered = newest.order_by(states.c.as_of_date.desc(), states.c.timestamp.desc())
            state = connection.execute(ordered.limit(1)).mappings().first()
            if state is not None:
                found.append({**run, **state})
    return found


def regime_changes(database: Database, since: date) -> list[Record]:
    """Return changes of regime that days and traded runs recorded since a session."""
    changes = tables.regime_transitions
    with database.reader() as connection:
        runs = _runs_of_today(connection, since)
        query = sa.select(changes).where(changes.c.run_id.in_(runs), changes.c.as_of_date >= since)
        rows = connection.execute(query).mappings().all()
    newest = {(row["region"], row["as_of_date"]): dict(row) for row in rows}
    return list(newest.values())


def class_counts(database: Database, since: date) -> list[Record]:
    """Return how many names of each stability class days found since a session, by run."""
    classes = tables.soft_target_classes.c
    columns = (classes.run_id, classes.as_of_date, classes.soft_target_class)
    with database.reader() as connection:
        runs = _runs_of_today(connection, since)
        query = sa.select(*columns, sa.func.count().label("names")).group_by(*columns)
        query = query.where(classes.run_id.in_(runs), classes.as_of_date >= since)
        return [dict(row) for row in connection.execute(query).mappings()]


def newest_day(database: Database) -> date | None:
    """Return the newest session for which a day was begun."""
    query = sa.select(sa.func.max(operations.engine_runs.c.as_of_date))
    with database.reader() as connection:
        return connection.execute(query).scalar()


def silent_jobs(database: Database, before: datetime) -> list[Record]:
    """Return jobs that are said to run and have not been heard of since a moment."""
    jobs = governance.jobs.c
    query = sa.select(jobs.job_id, jobs.kind, jobs.worker, jobs.heartbeat_at).where(
        jobs.status == "RUNNING", sa.func.coalesce(jobs.heartbeat_at, jobs.created_at) < before
    )
    return _rows(database, query)


def failed_jobs(database: Database, since: datetime) -> list[Record]:
    """Return jobs that failed for good since a moment."""
    jobs = governance.jobs.c
    query = sa.select(jobs.job_id, jobs.kind, jobs.message, jobs.completed_at).where(
        jobs.status == "FAILED", jobs.created_at >= since
    )
    return _rows(database, query.order_by(jobs.created_at.desc()))


def alert_rows(
    database: Database, *, only_open: bool, offset: int = 0, limit: int = MOST
) -> list[Record]:
    """Return alerts, newest first; open ones are neither resolved nor acknowledged."""
    alert = trading.alerts.c
    query = sa.select(trading.alerts).order_by(alert.last_at.desc(), alert.alert_id)
    if only_open:
        query = query.where(alert.resolved_at.is_(None), alert.acknowledged_at.is_(None))
    with database.reader() as connection:
        page = connection.execute(query.offset(offset).limit(limit))
        return [dict(row) for row in page.mappings()]


def unresolved_of(connection: Connection, rules: tuple[str, ...]) -> list[Record]:
    """Return the rule and subject of every alert of these rules that is not resolved."""
    alert = trading.alerts.c
    query = sa.select(alert.rule, alert.subject).where(
        alert.rule.in_(rules), alert.resolved_at.is_(None)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def undelivered(database: Database, channel: str, since: datetime) -> list[Record]:
    """Return alerts raised since a moment that a channel has not taken yet, oldest first."""
    alert = trading.alerts.c
    query = sa.select(trading.alerts).where(alert.first_at >= since, alert.last_at >= since)
    rows = _rows(database, query.order_by(alert.first_at))
    return [row for row in rows if channel not in (row["delivered"] or {})]


def note_delivery(database: Database, alert_id: str, channel: str, at: datetime) -> None:
    """Record that a channel has taken an alert."""
    alert = trading.alerts.c
    with database.writer() as connection:
        query = sa.select(alert.delivered).where(alert.alert_id == alert_id)
        known = connection.execute(query).scalar() or {}
        noted = {**known, channel: at.isoformat()}
        change = sa.update(trading.alerts).where(alert.alert_id == alert_id)
        connection.execute(change.values(delivered=noted))


def _rows(database: Database, query: "sa.Select[Any]") -> list[Record]:
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query.limit(MOST)).mappings()]


def _runs_of_today(connection: Connection, since: date) -> list[str]:
    """Return the ids under which days since a session, and runs that trade, write their rows."""
    days, known, runs = operations.engine_runs.c, governance.portfolios.c, tables.backtest_runs.c
    query = sa.select(days.run_id, known.sleeve_id).where(
        known.strategy_id == days.strategy_id, days.as_of_date >= since
    )
    of_days = [day_run_id(day, sleeve) for day, sleeve in connection.execute(query.limit(MOST))]
    trading_now = sa.select(runs.run_id).where(runs.mode.in_(TRADED), runs.status == "RUNNING")
    return [*of_days, *connection.execute(trading_now.limit(MOST)).scalars()]
