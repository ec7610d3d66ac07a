"""What an audit needs of the historical store: bars counted, faults counted, ingests followed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select, update

from persistence.database import Database, upsert
from persistence.historical import instruments_of, require_dataset
from persistence.tables import historical as tables
from prometheus_nt.domain.record import SessionArray


class HealthStore:
    """The health of datasets in one historical database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def holdings(self, dataset_id: str, as_of: date | None = None) -> list[dict[str, Any]]:
        """Return who each instrument is and its bars up to `as_of`, by instrument id.

        `first_date`, `last_date` and `row_count` are of the bars up to `as_of`, None and 0 where
        there is none; `listed_on` is the first bar of all, whenever it is.
        """
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            members = instruments_of(connection, dataset_id)
            counted = {} if as_of is None else _counted(connection, dataset_id, as_of)
        names, nothing = ("first_date", "last_date", "row_count"), (None, None, 0)
        rows = []
        for member in members:
            row = member | {"listed_on": member["first_date"]}
            if (
                as_of is not None
                and member["last_date"] is not None
                and member["last_date"] > as_of
            ):
                held = counted.get(member["instrument_id"], nothing)
                row |= dict(zip(names, held, strict=True))
            rows.append(row)
        return rows

    def sessions(self, dataset_id: str, instrument_id: str, as_of: date) -> SessionArray:
        """Return the sessions up to `as_of` of which a bar is stored, ascending."""
        bars = tables.prices_daily.c
        query = (
            select(bars.trade_date)
            .where(
                bars.dataset_id == dataset_id,
                bars.instrument_id == instrument_id,
                bars.trade_date <= as_of,
            )
            .order_by(bars.trade_date)
        )
        with self.database.reader() as connection:
            return np.array(connection.execute(query).scalars().all(), dtype="datetime64[D]")

    def open_findings(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return how many findings of each kind are open: instrument, finder, severity, rule."""
        events = tables.data_quality_events.c
        kind = (events.instrument_id, events.found_by, events.severity, events.rule)
        query = (
            select(*kind, func.count().label("findings"))
            .where(events.dataset_id == dataset_id, events.resolved_at.is_(None))
            .group_by(*kind)
        )
        with self.database.reader() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def remember_origin(self, dataset_id: str, origin: Mapping[str, Any]) -> None:
        """Store how a dataset was made; nothing happens where there is no such dataset."""
        table = tables.datasets
        change = update(table).where(table.c.dataset_id == dataset_id).values(origin=dict(origin))
        with self.database.writer() as connection:
            connection.execute(change)

    def ingestion_status(self, dataset_id: str, as_of: date) -> dict[str, Any] | None:
        """Return what was last recorded of the ingest of a session, if anything was."""
        table = tables.data_ingestion_status
        query = select(table).where(table.c.dataset_id == dataset_id, table.c.as_of_date == as_of)
        with self.database.reader() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else dict(row._mapping)

    def write_ingestion_status(self, status: Mapping[str, Any]) -> None:
        """Store the status of one session's ingest; `created_at` keeps its first time."""
        now = datetime.now(UTC)
        known = self.ingestion_status(status["dataset_id"], status["as_of_date"]) or {}
        row = dict(status) | {"created_at": known.get("created_at", now), "updated_at": now}
        columns: Sequence[str] = list(row)
        with self.database.writer() as connection:
            upsert(connection, tables.data_ingestion_status, columns, [tuple(row.values())])


def _counted(
    connection: Connection, dataset_id: str, as_of: date
) -> dict[str, tuple[date, date, int]]:
    """Return first session, last session and number of bars up to `as_of` of those with later ones.

    Of all others the writer of prices keeps them, and counting bars again takes a second.
    """
    bars, member = tables.prices_daily.c, tables.dataset_instruments.c
    later = select(member.instrument_id).where(
        member.dataset_id == dataset_id, member.last_date > as_of
    )
    query = (
        select(
            bars.instrument_id, func.min(bars.trade_date), func.max(bars.trade_date), func.count()
        )
        .where(
            bars.dataset_id == dataset_id,
            bars.instrument_id.in_(later),
            bars.trade_date <= as_of,
        )
        .group_by(bars.instrument_id)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in connection.execute(query)}
