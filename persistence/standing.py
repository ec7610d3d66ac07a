"""What stood at a session: the newest rows that are not later, of the runs that can answer.

1. Runs that may answer are those asked for: a day's own, and those that passed through the session
   or ended before it (`_ranked`). One statement seeks the newest session of each.
2. The one with the newest session not after `as_of` answers; of equals a day's own comes first,
   then the run that began last.
3. A history takes each session from the day's own run, else from the newest run (`_places`).

Every statement goes through the key of its table: run, scope, session, entity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.listings import LISTINGS, MOST_RUNS, RARE, Filters, Listing
from persistence.tables import governance, operations, trading
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import REGIONS

Record = dict[str, Any]

MOST_DAYS = 200
"""Runs of days, one of each sleeve, that may answer."""
MOST_STATEMENTS = 128
"""Statements that are kept of each kind: they are asked for again and again."""


@dataclass(frozen=True)
class Standing:
    """Which rows stand: of a run, at a session. scope : what the key has between the two."""

    run_id: str
    scope: str | None
    session: date


def standing(
    database: Database,
    name: str,
    filters: Filters,
    *,
    columns: Sequence[str] | None = None,
    highest: str | None = None,
) -> tuple[Standing | None, list[Record]]:
    """Return the rows of a listing by run that stand at `filters.as_of`, and whose they are.

    Parameters
    ----------
    name : of a listing whose rows are found by run
    filters : `as_of` None is the newest session; `entity_id` and `limit` hold for the rows
    columns : None is all of the listing
    highest : the column whose highest values come first; None orders nothing
    """
    spec = LISTINGS[name]
    with database.reader() as connection:
        found = _best(connection, spec, filters)
        if found is None:
            return None, []
        wanted = [spec.table.c[column] for column in columns or spec.columns]
        query = sa.select(*wanted).where(*_of(spec, found)).limit(filters.limit)
        if filters.entity_id is not None:
            query = query.where(_entity(spec) == filters.entity_id)
        if highest is not None:
            query = query.order_by(spec.table.c[highest].desc().nulls_last(), _entity(spec))
        return found, [dict(row) for row in connection.execute(query).mappings()]


def counts(database: Database, name: str, found: Standing, column: str) -> dict[Any, int]:
    """Return how many of the rows that stand have each value of a column."""
    spec = LISTINGS[name]
    value = spec.table.c[column]
    query = sa.select(value, sa.func.count()).where(*_of(spec, found)).group_by(value)
    with database.reader() as connection:
        return {key: number for key, number in connection.execute(query)}


def history(
    database: Database, name: str, filters: Filters, columns: Sequence[str], sessions: int
) -> list[Record]:
    """Return columns of a listing at the newest sessions, newest first.

    Parameters
    ----------
    filters : `entity_id` chooses the row of a session where it has several
    sessions : at most so many
    """
    spec = LISTINGS[name]
    query = sa.select(*(spec.table.c[column] for column in columns))
    if filters.entity_id is not None:
        query = query.where(_entity(spec) == filters.entity_id)
    with database.reader() as connection:
        return _over(connection, spec, query, _places(connection, spec, filters, sessions))


def stability_means(database: Database, filters: Filters, parts: Sequence[str]) -> list[Record]:
    """Return means over the names of the newest sessions, newest first, at most `filters.limit`.

    Returns
    -------
    list of dict of `session`, `run_id`, `overall` and each of `parts`, components of the vectors
    """
    spec, vectors = LISTINGS["stability"], tables.stability_vectors.c
    means = [sa.func.avg(vectors.vector_components[part].as_float()).label(part) for part in parts]
    query = sa.select(sa.func.avg(vectors.overall_score).label("overall"), *means)
    grouped = query.group_by(vectors.run_id, vectors.as_of_date)
    with database.reader() as connection:
        places = _places(connection, spec, filters, filters.limit)
        return _over(connection, spec, grouped, places)


def universe_counts(database: Database, found: Standing) -> tuple[int, int]:
    """Return how many are in the universe that stands, and of how many."""
    counted = counts(database, "universe-members", found, "included")
    return counted.get(True, 0), sum(counted.values())


def universe_candidates(database: Database, found: Standing, limit: int) -> list[Record]:
    """Return the members of the universe that stands and then the others, the best first.

    Each with `overall_score` and `liquidity` of its stability at that session, None if unknown.
    """
    members, vectors = tables.universe_members.c, tables.stability_vectors.c
    same = sa.and_(
        vectors.run_id == members.run_id,
        vectors.entity_type == members.entity_type,
        vectors.as_of_date == members.as_of_date,
        vectors.entity_id == members.entity_id,
    )
    liquidity = vectors.vector_components["liquidity_score"].as_float().label("liquidity")
    joined = tables.universe_members.outerjoin(tables.stability_vectors, same)
    names = ("universe_id", "entity_id", "included", "tier", "score", "reasons")
    columns = (*(members[name] for name in names), vectors.overall_score, liquidity)
    query = sa.select(*columns).select_from(joined)
    query = query.where(*_of(LISTINGS["universe-members"], found))
    best = (members.included.desc(), members.score.desc().nulls_last(), members.entity_id)
    with database.reader() as connection:
        rows = connection.execute(query.order_by(*best).limit(limit)).mappings()
        return [dict(row) for row in rows]


def open_alerts(database: Database, most: int) -> list[Record]:
    """Return the alerts that are neither resolved nor acknowledged, newest first."""
    alert = trading.alerts.c
    query = sa.select(trading.alerts).order_by(alert.last_at.desc()).limit(most)
    waiting = query.where(alert.resolved_at.is_(None), alert.acknowledged_at.is_(None))
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(waiting).mappings()]


def _dated(spec: Listing) -> "sa.Column[Any]":
    return spec.table.c[spec.as_of_column or "as_of_date"]


def _entity(spec: Listing) -> "sa.Column[Any]":
    return spec.column("entity_id")


def _of(spec: Listing, found: Standing) -> list["sa.ColumnElement[bool]"]:
    """Return the conditions of the rows that stand, in the order of the key."""
    run, session = spec.table.c.run_id == found.run_id, _dated(spec) == found.session
    scope = [] if spec.scope is None else [spec.table.c[spec.scope] == found.scope]
    return [run, *scope, session]


@dataclass(frozen=True)
class _Places:
    """Where the newest sessions are found: each in a day's own run, or one of those of one run."""

    days: list[Standing]
    of_run: list[Standing]


def _over(
    connection: Connection, spec: Listing, query: "sa.Select[Any]", places: _Places
) -> list[Record]:
    """Return the rows of a query at several places, newest first, with `run_id` and `session`.

    Days are found by their runs and a run's sessions by their dates: for a list of pairs SQLite
    would read the whole table.
    """
    wanted = {(place.run_id, place.session) for place in (*places.days, *places.of_run)}
    query = query.add_columns(spec.table.c.run_id, _dated(spec).label("session"))
    rows = [
        dict(row)
        for found in (places.days, places.of_run)
        if found
        for row in connection.execute(query.where(*_at(spec, found))).mappings()
    ]
    kept = (row for row in rows if (row["run_id"], row["session"]) in wanted)
    return sorted(kept, key=lambda row: row["session"], reverse=True)


def _at(spec: Listing, places: Sequence[Standing]) -> list["sa.ColumnElement[bool]"]:
    """Return the conditions of the rows of days' runs, or of sessions of one run, by the key."""
    sessions, run_ids = [place.session for place in places], {place.run_id for place in places}
    conditions = [spec.table.c.run_id.in_(sorted(run_ids))]
    if spec.scope is not None:
        scopes = {place.scope or "" for place in places}
        conditions.append(spec.table.c[spec.scope].in_(sorted(scopes)))
    if len(run_ids) == 1:
        return [*conditions, _dated(spec).in_(sessions)]
    return [*conditions, _dated(spec) >= min(sessions), _dated(spec) <= max(sessions)]


def _best(connection: Connection, spec: Listing, filters: Filters) -> Standing | None:
    ranked = [*_ranked(connection, spec, filters, days=True)]
    ranked += _ranked(connection, spec, filters, days=False)
    # `max` keeps the first of equals.
    return max(ranked, key=lambda each: each.session, default=None)


def _places(connection: Connection, spec: Listing, filters: Filters, most: int) -> _Places:
    """Return where each of the newest sessions is found."""
    days: dict[date, Standing] = {}
    for each in _ranked(connection, spec, filters, days=True):
        days.setdefault(each.session, each)
    runs = _ranked(connection, spec, filters, days=False)
    of_run: dict[date, Standing] = {}
    if runs:
        newest = max(runs, key=lambda each: each.session)
        for session in _sessions(connection, spec, newest, most):
            of_run[session] = Standing(newest.run_id, newest.scope, session)
    chosen = sorted({*days, *of_run}, reverse=True)[:most]
    return _Places(
        days=[days[session] for session in chosen if session in days],
        of_run=[of_run[session] for session in chosen if session not in days],
    )


def _sessions(connection: Connection, spec: Listing, last: Standing, most: int) -> list[date]:
    """Return the sessions of a run up to `last`, newest first: one seek of the key for each."""
    given = {"run_id": last.run_id, "last": last.session, "most": most}
    if spec.scope is not None:
        given["scope"] = last.scope
    return list(connection.execute(_walk(spec), given).scalars())


@lru_cache(maxsize=MOST_STATEMENTS)
def _walk(spec: Listing) -> "sa.Select[Any]":
    """Return the statement of a run's sessions, from the parameter `last` back."""
    dated, last = _dated(spec), sa.bindparam("last", type_=sa.Date)
    of_run = [spec.table.c.run_id == sa.bindparam("run_id")]
    if spec.scope is not None:
        of_run.append(spec.table.c[spec.scope] == sa.bindparam("scope"))
    walk = sa.select(last.label("session")).cte("walk", recursive=True)
    earlier = sa.select(sa.func.max(dated)).where(*of_run, dated < walk.c.session)
    step = sa.select(earlier.scalar_subquery()).where(walk.c.session.is_not(None))
    walked = walk.union_all(step)
    query = sa.select(walked.c.session).where(walked.c.session.is_not(None))
    return query.limit(sa.bindparam("most", type_=sa.Integer))


def _ranked(
    connection: Connection, spec: Listing, filters: Filters, *, days: bool
) -> list[Standing]:
    """Return the newest session of each run that may answer, those that answer first in front."""
    if filters.run_id is not None and days:
        return []
    # What chooses rows chooses no runs.
    query = _candidates(spec, replace(filters, entity_id=None, limit=0), days)
    return [Standing(*row) for row in connection.execute(query) if row[2] is not None]


@lru_cache(maxsize=MOST_STATEMENTS)
def _candidates(spec: Listing, filters: Filters, days: bool) -> "sa.Select[Any]":
    """Return the statement of the runs that may answer, each with its scope and newest session.

    To build it costs several times what it costs to run it.
    """
    if filters.run_id is not None:
        run_id, place = sa.literal(filters.run_id), sa.literal(0)
        owners = sa.select(run_id.label("run_id"), place.label("place")).subquery()
    else:
        owners = (_days(filters) if days else _runs(filters)).subquery()
    newest = _newest(spec, filters, owners).scalar_subquery()
    query = sa.select(owners.c.run_id, _scope(spec, filters, owners), newest)
    return query.order_by(owners.c.place.desc())


def _scope(spec: Listing, filters: Filters, owners: "sa.Subquery") -> "sa.ColumnElement[Any]":
    """Return the scope that answers of a run: the one asked for, else its last."""
    if spec.scope is None:
        return sa.null()
    if spec.scope == "region" and filters.region is not None:
        return sa.literal(filters.region)
    other = spec.table.alias()
    last = sa.select(sa.func.max(other.c[spec.scope])).where(other.c.run_id == owners.c.run_id)
    return last.correlate(owners).scalar_subquery()


def _newest(spec: Listing, filters: Filters, owners: "sa.Subquery") -> "sa.Select[Any]":
    table, dated = spec.table, _dated(spec)
    query = sa.select(sa.func.max(dated)).where(table.c.run_id == owners.c.run_id)
    if spec.scope is not None:
        query = query.where(table.c[spec.scope] == _scope(spec, filters, owners))
    if filters.as_of is not None:
        query = query.where(dated <= filters.as_of)
    return query.correlate(owners)


def _runs(filters: Filters) -> "sa.Select[Any]":
    runs = tables.backtest_runs.c
    query = sa.select(runs.run_id, runs.created_at.label("place")).where(*asked(filters))
    return query.order_by(runs.created_at.desc()).limit(MOST_RUNS)


def asked(filters: Filters) -> list["sa.ColumnElement[bool]"]:
    """Return the conditions of the runs that filters ask for; none of them has failed."""
    runs = tables.backtest_runs.c
    wanted: list[sa.ColumnElement[bool]] = [runs.status != "FAILED"]
    if filters.mode is not None:
        wanted.append(runs.mode == filters.mode)
        if filters.mode != "BACKTEST":
            # Written out, so that both engines see that the index of rare modes covers it.
            wanted.append(sa.text(RARE))  # type: ignore[arg-type]
    if filters.strategy_id is not None:
        wanted.append(runs.strategy_id == filters.strategy_id)
    if filters.region is not None:
        wanted.append(runs.market_id == REGIONS.get(filters.region, filters.region))
    if filters.portfolio_id is not None:
        names = (runs.portfolio_id, runs.sleeve_id, runs.strategy_id)
        wanted.append(sa.or_(*(name == filters.portfolio_id for name in names)))
    if filters.as_of is not None:
        wanted.append(runs.start_date <= filters.as_of)
    return wanted


def _days(filters: Filters) -> "sa.Select[Any]":
    days, known = operations.engine_runs.c, governance.portfolios.c
    # As `day_run_id` names them.
    run_id = (days.run_id + ":" + known.sleeve_id).label("run_id")
    query = sa.select(run_id, days.as_of_date.label("place"))
    query = query.where(known.strategy_id == days.strategy_id)
    chosen = (
        *((days.strategy_id, filters.strategy_id), (days.mode, filters.mode)),
        (days.region, filters.region),
    )
    query = query.where(*(column == value for column, value in chosen if value is not None))
    if filters.as_of is not None:
        query = query.where(days.as_of_date <= filters.as_of)
    if filters.portfolio_id is not None:
        names = (known.portfolio_id, known.sleeve_id, known.strategy_id)
        query = query.where(sa.or_(*(name == filters.portfolio_id for name in names)))
    return query.order_by(days.as_of_date.desc()).limit(MOST_DAYS)
