"""What a day did and when: its attempts at each phase, and the decisions of its engines."""

from datetime import date

import sqlalchemy as sa

from persistence.database import Database
from persistence.standing import Record
from persistence.tables import governance, operations
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.runs import day_run_id

MOST_EVENTS = 1_000


def days(
    database: Database,
    *,
    region: str | None = None,
    mode: str | None = None,
    as_of: date | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Record]:
    """Return days, the newest session first, with when the first attempt began and the last ended.

    Returns
    -------
    list of dict of `run_id`, `region`, `mode`, `strategy_id`, `as_of_date`, `phase`, `market_id`,
    `began` and `ended`; the last two None before there was one
    """
    of_day = operations.engine_runs.c
    names = (*("run_id", "region", "mode", "strategy_id", "as_of_date", "phase"),)
    query = sa.select(*(of_day[name] for name in names))
    chosen = ((of_day.region, region), (of_day.mode, mode))
    query = query.where(*(column == value for column, value in chosen if value is not None))
    if as_of is not None:
        query = query.where(of_day.as_of_date <= as_of)
    ordered = query.order_by(of_day.as_of_date.desc(), of_day.run_id).offset(offset).limit(limit)
    with database.reader() as connection:
        found = [dict(row) for row in connection.execute(ordered).mappings()]
    times = _times(database, [row["run_id"] for row in found])
    for row in found:
        row["began"], row["ended"] = times.get(row["run_id"], (None, None))
        row["market_id"] = REGIONS.get(row["region"], row["region"])
    return found


def day(database: Database, run_id: str) -> Record | None:
    """Return a day; None if there is none of this id."""
    of_day = operations.engine_runs
    query = sa.select(of_day).where(of_day.c.run_id == run_id)
    with database.reader() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def attempts_of(database: Database, run_id: str) -> list[Record]:
    """Return the attempts of a day at its phases, in the order in which they began."""
    tried = operations.engine_run_attempts
    query = sa.select(tried).where(tried.c.run_id == run_id)
    ordered = query.order_by(tried.c.started_at, tried.c.attempt).limit(MOST_EVENTS)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(ordered).mappings()]


def decisions_of(database: Database, found: Record) -> list[Record]:
    """Return what engines decided for a day, by sleeve and engine."""
    made, known = tables.engine_decisions.c, governance.portfolios.c
    sleeves = sa.select(known.sleeve_id).where(known.strategy_id == found["strategy_id"])
    with database.reader() as connection:
        names = connection.execute(sleeves.order_by(known.sleeve_id)).scalars().all()
        query = sa.select(tables.engine_decisions).where(
            made.run_id.in_([day_run_id(found["run_id"], name) for name in names]),
            made.as_of_date == found["as_of_date"],
        )
        ordered = query.order_by(made.run_id, made.decision_id).limit(MOST_EVENTS)
        return [dict(row) for row in connection.execute(ordered).mappings()]


def _times(database: Database, run_ids: list[str]) -> dict[str, tuple[object, object]]:
    tried = operations.engine_run_attempts.c
    query = sa.select(tried.run_id, sa.func.min(tried.started_at), sa.func.max(tried.ended_at))
    with database.reader() as connection:
        rows = connection.execute(query.where(tried.run_id.in_(run_ids)).group_by(tried.run_id))
        return {run_id: (began, ended) for run_id, began, ended in rows}
