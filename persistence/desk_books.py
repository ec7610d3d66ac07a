"""What books stood at a session: the newest run of each sleeve, its equity, positions and orders.

1. `newest_runs` chooses whose books: of the most real mode that has any, never of two modes.
2. Their equity is summed by the database on the sessions that all have (`_book`), so that what is
   read is a year of sums and not the curves of every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.listings import MOST_RUNS, SESSIONS_OF_A_YEAR, Filters
from persistence.standing import Record, Standing, asked
from persistence.tables import runtime as tables
from prometheus_nt.domain.runs import Mode

MOST_REAL_FIRST = (Mode.LIVE, Mode.PAPER, Mode.BACKTEST)
MOST_SLEEVES = 20
DAYS_BEFORE_A_YEAR = 31
"""A session is among the days before any first of January, however long a market was closed."""

FACTS = "run_id sleeve_id portfolio_id strategy_id market_id mode status start_date end_date"


def newest_runs(database: Database, filters: Filters) -> list[Record]:
    """Return the newest run of each sleeve, of the most real mode that has any at `as_of`.

    Live comes before paper, paper before backtests: what is traded is not mixed with what is not.
    Of backtests only those of one strategy are taken together, the newest run's.
    """
    modes = [filters.mode] if filters.mode else [mode.value for mode in MOST_REAL_FIRST]
    with database.reader() as connection:
        for mode in modes:
            found = _newest_of_mode(connection, filters, mode)
            if found:
                return found
    return []


def _newest_of_mode(connection: Connection, filters: Filters, mode: str) -> list[Record]:
    runs = tables.backtest_runs.c
    of_mode = Filters(
        portfolio_id=filters.portfolio_id,
        strategy_id=filters.strategy_id,
        region=filters.region,
        as_of=filters.as_of,
        mode=mode,
    )
    columns = (runs[name] for name in FACTS.split())
    query = sa.select(*columns).where(*asked(of_mode)).order_by(runs.created_at.desc())
    found: dict[str, Record] = {}
    for row in connection.execute(query.limit(MOST_RUNS)).mappings():
        found.setdefault(row["sleeve_id"], dict(row))
    first = next(iter(found.values()), {})
    kept = [
        run
        for run in found.values()
        if mode != Mode.BACKTEST or run["strategy_id"] == first["strategy_id"]
    ]
    return sorted(kept[:MOST_SLEEVES], key=lambda run: str(run["sleeve_id"]))


def last_sessions(
    database: Database, run_ids: Sequence[str], as_of: date | None
) -> dict[str, date]:
    """Return the last session of each run's equity up to `as_of`; runs without one are absent."""
    days = tables.backtest_daily_equity.c
    newest = sa.select(days.date).order_by(days.date.desc()).limit(1)
    if as_of is not None:
        newest = newest.where(days.date <= as_of)
    with database.reader() as connection:
        # One seek for each: grouped, the days of all of them would be read.
        found = {
            run_id: connection.execute(newest.where(days.run_id == run_id)).scalar()
            for run_id in run_ids
        }
    return {run_id: day for run_id, day in found.items() if day is not None}


def book_curve(database: Database, run_ids: Sequence[str], last: date) -> list[Record]:
    """Return the summed equity and exposures of runs since before the year of `last`.

    Returns
    -------
    list of dict of `date`, `equity`, `net` and `gross` (USD), oldest first
    """
    book = _book(run_ids, last, last.replace(month=1, day=1) - timedelta(days=DAYS_BEFORE_A_YEAR))
    query = sa.select(book).order_by(book.c.date)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def max_drawdown(database: Database, run_ids: Sequence[str], last: date) -> float | None:
    """Return the deepest fall of the summed equity up to `last`, a fraction at most 0."""
    days = tables.backtest_daily_equity.c
    if len(run_ids) == 1:
        alone = sa.select(sa.func.min(days.drawdown)).where(days.run_id == run_ids[0])
        with database.reader() as connection:
            return connection.execute(alone.where(days.date <= last)).scalar()
    book = _book(run_ids, last)
    peak = sa.func.max(book.c.equity).over(order_by=book.c.date)
    fall = sa.select((book.c.equity / peak - 1.0).label("fall")).subquery()
    with database.reader() as connection:
        return connection.execute(sa.select(sa.func.min(fall.c.fall))).scalar()


@dataclass(frozen=True)
class Held:
    """What a run held at the close of a session. equity : USD. rows : of `positions_snapshots`."""

    session: date
    equity: float
    rows: list[Record]


def held_at(database: Database, run: Record, as_of: date | None) -> Held | None:
    """Return what a run held at its last session up to `as_of`; None before it had any.

    A book in cash has no rows. Where only sessions with a fill were written, the rows are of the
    newest of those, and say so.
    """
    return held_by(database, [run], as_of).get(run["run_id"])


def held_by(
    database: Database, runs: Sequence[Record], as_of: date | None, name: str | None = None
) -> dict[str, Held]:
    """Return what `held_at` does of each run that had any, by run.

    Parameters
    ----------
    name : of one instrument; None is all
    """
    with database.reader() as connection:
        found = {run["run_id"]: _held(connection, run, as_of, name) for run in runs}
    return {run_id: held for run_id, held in found.items() if held is not None}


def _held(connection: Connection, run: Record, as_of: date | None, name: str | None) -> Held | None:
    held, days = tables.positions_snapshots.c, tables.backtest_daily_equity.c
    columns = (days.date, days.equity_curve_value, days.gross_exposure)
    newest = sa.select(*columns).where(days.run_id == run["run_id"]).order_by(days.date.desc())
    if as_of is not None:
        newest = newest.where(days.date <= as_of)
    query = sa.select(tables.positions_snapshots).where(
        held.portfolio_id == run["portfolio_id"], held.run_id == run["run_id"]
    )
    if name is not None:
        query = query.where(held.instrument_id == name)
    last = connection.execute(newest.limit(1)).first()
    if last is None:
        return None
    rows = _rows_at(connection, query, last.date)
    if not rows and name is None and last.gross_exposure > 0:
        recent = connection.execute(newest.limit(SESSIONS_OF_A_YEAR)).all()
        written = query.where(held.as_of_date.in_([day.date for day in recent]))
        dated = sa.select(sa.func.max(written.subquery().c.as_of_date))
        rows = _rows_at(connection, query, connection.execute(dated).scalar())
    return Held(last.date, last.equity_curve_value, rows)


def _rows_at(connection: Connection, query: "sa.Select[Any]", session: date | None) -> list[Record]:
    held = tables.positions_snapshots.c
    of_session = query.where(held.as_of_date == session).order_by(held.instrument_id)
    return [dict(row) for row in connection.execute(of_session).mappings()]


def newest_orders(
    database: Database, run_ids: Sequence[str], as_of: date | None, limit: int
) -> list[Record]:
    """Return the newest orders of runs, newest first."""
    return _newest(database, tables.orders, run_ids, as_of, limit)


def newest_fills(
    database: Database, run_ids: Sequence[str], as_of: date | None, limit: int
) -> list[Record]:
    """Return the newest fills of runs, newest first."""
    return _newest(database, tables.fills, run_ids, as_of, limit)


def newest_risk_actions(database: Database, filters: Filters) -> list[Record]:
    """Return what the risk stage changed up to `filters.as_of`, newest first."""
    done = tables.risk_actions.c
    query = sa.select(tables.risk_actions).where(done.strategy_id == filters.strategy_id)
    if filters.as_of is not None:
        query = query.where(done.as_of_date <= filters.as_of)
    if filters.mode is not None:
        query = query.where(done.mode == filters.mode)
    query = query.order_by(done.as_of_date.desc(), done.action_id.desc()).limit(filters.limit)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def fragility_classes(database: Database, found: Standing, names: Sequence[str]) -> dict[str, str]:
    """Return the fragility class of instruments where one stands."""
    measured = tables.fragility_measures.c
    query = sa.select(measured.entity_id, measured.fragility_class).where(
        measured.run_id == found.run_id,
        measured.entity_type == found.scope,
        measured.as_of_date == found.session,
        measured.entity_id.in_(names),
    )
    with database.reader() as connection:
        return {name: label for name, label in connection.execute(query) if label is not None}


def _newest(
    database: Database, table: sa.Table, run_ids: Sequence[str], as_of: date | None, limit: int
) -> list[Record]:
    """Return the newest rows of runs: of each run an index gives its newest."""
    found: list[Record] = []
    with database.reader() as connection:
        for run_id in run_ids:
            query = sa.select(table).where(table.c.run_id == run_id)
            if as_of is not None:
                query = query.where(table.c.timestamp < _end_of(as_of))
            newest = query.order_by(table.c.timestamp.desc()).limit(limit)
            found += [dict(row) for row in connection.execute(newest).mappings()]
    return sorted(found, key=lambda row: row["timestamp"], reverse=True)[:limit]


def _book(run_ids: Sequence[str], last: date, since: date = date.min) -> "sa.Subquery":
    """Return the sums of runs on the sessions that all of them have, from `since` to `last`."""
    days = tables.backtest_daily_equity.c
    equity = days.equity_curve_value
    sums: list[Any] = [
        sa.func.sum(equity).label("equity"),
        sa.func.sum(equity * days.net_exposure).label("net"),
        sa.func.sum(equity * days.gross_exposure).label("gross"),
    ]
    query = sa.select(days.date, *sums).where(days.run_id.in_(run_ids))
    query = query.where(days.date >= since, days.date <= last)
    return query.group_by(days.date).having(sa.func.count() == len(run_ids)).subquery()


def _end_of(session: date) -> datetime:
    return datetime.combine(session + timedelta(days=1), time(), UTC)
