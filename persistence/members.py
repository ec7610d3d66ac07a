"""The instruments of a dataset: their series keys, and what a panel says of them, by revision."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from persistence.database import upsert
from persistence.revisions import Writer, begin_revision, lock_dataset, supersede
from persistence.tables import historical as tables

MEMBERS = (tables.dataset_instruments, tables.dataset_instruments_history)


def members_of(
    connection: Connection, dataset_id: str, instrument_ids: Sequence[str]
) -> dict[str, Row[Any]]:
    """Return the stored rows of some instruments of a dataset, by instrument id."""
    member = tables.dataset_instruments
    query = select(member).where(
        member.c.dataset_id == dataset_id, member.c.instrument_id.in_(instrument_ids)
    )
    return {row.instrument_id: row for row in connection.execute(query)}


def add_members(
    connection: Connection,
    dataset_id: str,
    instruments: Sequence[Mapping[str, Any]],
    writer: Writer,
) -> None:
    """Make instruments part of a dataset; those that are part of it stay as they are."""
    ids = list(dict.fromkeys(str(fact["instrument_id"]) for fact in instruments))
    known = members_of(connection, dataset_id, ids)
    new = [instrument_id for instrument_id in ids if instrument_id not in known]
    if not new:
        return
    lock_dataset(connection, dataset_id)
    revision = begin_revision(connection, dataset_id, writer)
    newest = select(func.coalesce(func.max(tables.dataset_instruments.c.series_id), 0))
    first = 1 + int(connection.execute(newest).scalar_one())
    rows = [
        (dataset_id, instrument_id, series_id, revision)
        for series_id, instrument_id in enumerate(new, start=first)
    ]
    columns = ("dataset_id", "instrument_id", "series_id", "revision")
    upsert(connection, tables.dataset_instruments, columns, rows, update=False)


def follow_issuers(connection: Connection, writer: Writer) -> None:
    """Copy the asset class and sector of instruments to every dataset whose members differ.

    A panel shows both, so each dataset concerned gets a revision.
    """
    member, instrument, issuer = tables.dataset_instruments, tables.instruments, tables.issuers
    query = (
        select(
            member.c.dataset_id, member.c.instrument_id, instrument.c.asset_class, issuer.c.sector
        )
        .join(instrument, instrument.c.instrument_id == member.c.instrument_id)
        .join(issuer, issuer.c.issuer_id == instrument.c.issuer_id)
        .where(
            or_(
                member.c.asset_class.is_distinct_from(instrument.c.asset_class),
                member.c.sector.is_distinct_from(issuer.c.sector),
            )
        )
        .order_by(member.c.dataset_id)
    )
    rows: list[Row[Any]] = list(connection.execute(query))
    for dataset_id, changed in groupby(rows, key=lambda row: str(row.dataset_id)):
        _reclassify(connection, dataset_id, list(changed), writer)


def _reclassify(
    connection: Connection, dataset_id: str, rows: Sequence[Row[Any]], writer: Writer
) -> None:
    member = tables.dataset_instruments
    lock_dataset(connection, dataset_id)
    newest = begin_revision(connection, dataset_id, writer)
    ids = [row.instrument_id for row in rows]
    chosen = (member.c.dataset_id == dataset_id) & member.c.instrument_id.in_(ids)
    supersede(connection, MEMBERS, chosen, newest)
    columns = ("dataset_id", "instrument_id", "asset_class", "sector", "revision")
    upsert(connection, member, columns, [(*row, newest) for row in rows])


def cover(
    connection: Connection,
    dataset_id: str,
    rows: Sequence[tuple[Any, ...]],
    revision: int,
) -> None:
    """Store what bars there are of members.

    Parameters
    ----------
    rows : tuples of instrument id, first date, last date, number of bars, currency, ingested at
    """
    member = tables.dataset_instruments
    ids = [row[0] for row in rows]
    chosen = (member.c.dataset_id == dataset_id) & member.c.instrument_id.in_(ids)
    supersede(connection, MEMBERS, chosen, revision)
    columns = ("first_date", "last_date", "row_count", "currency", "ingested_at")
    written = ("dataset_id", "instrument_id", *columns, "revision")
    upsert(connection, member, written, [(dataset_id, *row, revision) for row in rows])
