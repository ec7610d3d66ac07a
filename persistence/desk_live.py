"""What trades now: the newest run of each sleeve on paper or live, its account and its owner."""

from collections.abc import Sequence
from datetime import date, timedelta

import sqlalchemy as sa

from persistence.database import Database
from persistence.desk_books import FACTS, MOST_SLEEVES
from persistence.listings import MOST_RUNS, RARE
from persistence.standing import Record
from persistence.tables import runtime as tables
from persistence.tables import trading
from persistence.tables.trading import OPEN_STATUSES

OPEN_FOR = timedelta(days=14)
"""Orders wait for the next open, so that none of a session so long ago still does."""


def traded_runs(database: Database) -> list[Record]:
    """Return the newest run of each sleeve and mode that trades, by sleeve."""
    runs = tables.backtest_runs.c
    columns = [runs[name] for name in (*FACTS.split(), "created_at")]
    # Written out, so that both engines see that the index of rare modes covers it.
    query = sa.select(*columns).where(runs.mode.in_(("LIVE", "PAPER")), sa.text(RARE))
    newest = query.order_by(runs.created_at.desc()).limit(MOST_RUNS)
    found: dict[tuple[str, str], Record] = {}
    with database.reader() as connection:
        for row in connection.execute(newest).mappings():
            found.setdefault((row["sleeve_id"], row["mode"]), dict(row))
    return [found[name] for name in sorted(found)[:MOST_SLEEVES]]


def traded_run(database: Database, run_id: str) -> Record | None:
    """Return a run on paper or live; None if there is none of this id."""
    runs = tables.backtest_runs.c
    columns = [runs[name] for name in (*FACTS.split(), "created_at")]
    query = sa.select(*columns).where(runs.run_id == run_id, runs.mode != "BACKTEST")
    with database.reader() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def accounts_of(
    database: Database, run_ids: Sequence[str], as_of: date | None = None
) -> dict[str, Record]:
    """Return the newest account of each run up to `as_of`; runs without one are absent."""
    states = trading.account_states
    newest = sa.select(states).order_by(states.c.as_of_date.desc(), states.c.timestamp.desc())
    if as_of is not None:
        newest = newest.where(states.c.as_of_date <= as_of)
    found = {}
    with database.reader() as connection:
        for run_id in run_ids:
            query = newest.where(states.c.run_id == run_id).limit(1)
            row = connection.execute(query).mappings().first()
            if row is not None:
                found[run_id] = dict(row)
    return found


def leases_of(database: Database, run_ids: Sequence[str]) -> dict[str, Record]:
    """Return who trades each run, and until when; runs that nobody ever traded are absent."""
    leases = trading.trading_leases
    query = sa.select(leases).where(leases.c.run_id.in_(run_ids))
    with database.reader() as connection:
        return {row["run_id"]: dict(row) for row in connection.execute(query).mappings()}


def open_orders_of(database: Database, run_id: str, limit: int) -> list[Record]:
    """Return the orders of a run that may still fill, newest first."""
    orders = tables.orders.c
    last = sa.select(orders.timestamp).where(orders.run_id == run_id)
    query = sa.select(tables.orders).where(orders.run_id == run_id)
    with database.reader() as connection:
        newest = connection.execute(last.order_by(orders.timestamp.desc()).limit(1)).scalar()
        if newest is None:
            return []
        recent = query.where(
            orders.timestamp >= newest - OPEN_FOR, orders.status.in_(OPEN_STATUSES)
        )
        ordered = recent.order_by(orders.timestamp.desc(), orders.order_id).limit(limit)
        return [dict(row) for row in connection.execute(ordered).mappings()]
