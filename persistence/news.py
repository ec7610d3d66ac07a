"""What is new in the runtime database: what moved lately, of every kind that people watch.

1. Each source is found by an index, bounded in rows, and leaves out large documents.
2. A writer takes its time before it commits: who asks again goes back a little (`OVERLAP`) and
   tells by `Moved.content` what it has seen already.
3. Rows that carry a market's time, and those whose state moves without a time, are the few that no
   backtest wrote: the newest of them are always among what is returned.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.tables import governance, operations, trading
from persistence.tables import runtime as tables

OVERLAP = timedelta(seconds=60)
"""Longest time between what a row says of when it moved, and its commit."""

MOST_ROWS = 500
MOST_DAYS = 50
"""Newest days whose attempts are told one by one."""

MOST_TRADED = 100
"""Newest rows of each mode that trades."""

TRADED = ("PAPER", "LIVE")
NOT_NEWS = ("updated_at", "heartbeat_at", "lease_until", "last_at")
"""Columns that move while nothing happens."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Moved:
    """A row that was written or changed.

    Attributes
    ----------
    topic : `jobs`, `runs`, `fills`, `alerts` or `steps`
    key : names the row within its topic
    at : when it moved, as the row says
    """

    topic: str
    key: str
    at: datetime
    row: Mapping[str, Any]

    @property
    def content(self) -> tuple[Any, ...]:
        """What is different if something happened to the row."""
        return tuple(repr(value) for name, value in self.row.items() if name not in NOT_NEWS)


def moved_since(database: Database, since: datetime, topics: Collection[str]) -> list[Moved]:
    """Return the rows of these topics that moved after a moment, the oldest move first."""
    with database.reader() as connection:
        found = [
            moved
            for topic in sorted(topics)
            for source in SOURCES[topic]
            for moved in source(connection, topic, since)
        ]
    unique = {(moved.topic, moved.key): moved for moved in found}
    return sorted(unique.values(), key=lambda moved: (moved.at, moved.topic, moved.key))


Source = Callable[[Connection, str, datetime], list[Moved]]


def _table(
    table: sa.Table, named: str, stamps: tuple[str, ...], without: tuple[str, ...] = ()
) -> Source:
    """Return a source of a table's rows, by columns that say when they moved."""
    columns = [column for column in table.columns if column.name not in without]

    def read(connection: Connection, topic: str, since: datetime) -> list[Moved]:
        found: list[Moved] = []
        for stamp in stamps:
            moved = table.c[stamp]
            query = sa.select(*columns).where(moved > since).order_by(moved.desc())
            rows = connection.execute(query.limit(MOST_ROWS)).mappings()
            found += [_moved(topic, named, stamps, dict(row)) for row in rows]
        return found

    return read


def _traded(table: sa.Table, named: str, stamps: tuple[str, ...], by: str) -> Source:
    """Return a source of the newest rows that no backtest wrote, whatever their time."""
    columns = [column for column in table.columns if column.name not in LARGE]
    rare = sa.text("mode <> 'BACKTEST'")

    def read(connection: Connection, topic: str, _since: datetime) -> list[Moved]:
        found: list[Moved] = []
        for mode in TRADED:
            query = sa.select(*columns).where(table.c.mode == mode, rare)
            query = query.order_by(table.c[by].desc()).limit(MOST_TRADED)
            rows = connection.execute(query).mappings()
            found += [_moved(topic, named, stamps, dict(row)) for row in rows]
        return found

    return read


def _attempts(connection: Connection, topic: str, since: datetime) -> list[Moved]:
    """Return the attempts at phases of the days that moved: a day may pass several at once."""
    days, tried = operations.engine_runs.c, operations.engine_run_attempts
    newest = sa.select(days.run_id).where(days.updated_at > since).order_by(days.updated_at.desc())
    columns = [column for column in tried.columns if column.name not in (*LARGE, "coverage")]
    query = sa.select(*columns).where(tried.c.run_id.in_(newest.limit(MOST_DAYS)))
    ordered = query.order_by(tried.c.started_at.desc()).limit(MOST_ROWS)
    found = []
    for row in connection.execute(ordered).mappings():
        named = f"attempt:{row['run_id']}:{row['phase']}:{row['attempt']}"
        found.append(Moved(topic, named, row["ended_at"] or row["started_at"], dict(row)))
    return found


def _moved(topic: str, named: str, stamps: tuple[str, ...], row: dict[str, Any]) -> Moved:
    at = max((row[stamp] for stamp in stamps if row[stamp] is not None), default=EPOCH)
    return Moved(topic, f"{named}:{row[named]}", at, row)


LARGE = ("config_json", "metrics_json", "metadata", "spec", "details", "error_details", "error")

SOURCES: Mapping[str, tuple[Source, ...]] = {
    "jobs": (_table(governance.jobs, "job_id", ("updated_at",), ("spec",)),),
    "runs": (
        _table(tables.backtest_runs, "run_id", ("created_at", "completed_at"), LARGE),
        _traded(tables.backtest_runs, "run_id", ("created_at", "completed_at"), "created_at"),
    ),
    "fills": (_traded(tables.fills, "fill_id", ("timestamp",), "timestamp"),),
    "alerts": (
        _table(
            trading.alerts, "alert_id", ("last_at", "acknowledged_at", "resolved_at"), ("details",)
        ),
    ),
    "steps": (
        _table(governance.job_executions, "execution_id", ("updated_at",), LARGE),
        _table(operations.engine_runs, "run_id", ("updated_at",), LARGE),
        _attempts,
    ),
}
"""Topic -> where its rows come from."""
