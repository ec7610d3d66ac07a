"""Revisions of a dataset: who writes one, when it is closed, and what a later one replaced.

1. The first transaction of an ingest that really changes something opens a revision
   (`begin_revision`); later ones of the same writer add to it while it is the newest and open.
2. Whoever reads a panel closes the newest revision first (`close_revision`): from then on it never
   changes, and a writer who goes on opens the next one. So an ingest is one revision unless
   somebody reads in between, and every revision that was read can be read again.
3. Rows say since which revision they are valid; what is replaced moves to a history table together
   with the revision that replaced it (`supersede`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    insert,
    literal,
    select,
    union_all,
    update,
)

from persistence.database import Database
from persistence.tables import historical as tables
from prometheus_nt.domain.errors import StoreError

FINGERPRINT_DIGITS = 16

_REVISIONS = tables.dataset_revisions


@dataclass(frozen=True)
class Revision:
    """One state of a dataset.

    Attributes
    ----------
    rows_changed : int
        Bars and actions that it added, replaced or removed.
    closed_at : datetime or None
        Since when it cannot change any more.
    fingerprint : str or None
        Of its panel; None until somebody has loaded it.
    """

    dataset_id: str
    revision: int
    source: str
    writer: str
    rows_changed: int
    ingested_at: datetime
    closed_at: datetime | None
    fingerprint: str | None


@dataclass(frozen=True)
class Writer:
    """Whose changes make one revision: those of one ingest, from one source.

    Attributes
    ----------
    once : bool
        True if it writes one transaction only, whose revision is closed at once.
    """

    source: str
    token: str
    once: bool = False

    @classmethod
    def of(cls, source: str, *, once: bool = False) -> "Writer":
        """Return a writer nobody else is."""
        return cls(source, uuid4().hex, once)


def newest_revision(connection: Connection, dataset_id: str) -> Revision | None:
    """Return the newest revision, or None while nothing was written."""
    query = _of(dataset_id).order_by(_REVISIONS.c.revision.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Revision(*row)


def all_revisions(connection: Connection, dataset_id: str) -> list[Revision]:
    """Return every revision, the newest first."""
    query = _of(dataset_id).order_by(_REVISIONS.c.revision.desc())
    return [Revision(*row) for row in connection.execute(query)]


def require_revision(
    connection: Connection, dataset: dict[str, Any], wanted: int | str
) -> Revision:
    """Return the revision of a number, or the newest of a panel's fingerprint.

    Raises
    ------
    StoreError
        If there is none, or what it held was overwritten before revisions were kept.
    """
    dataset_id, oldest = dataset["dataset_id"], dataset["oldest_revision"]
    column = _REVISIONS.c.fingerprint if isinstance(wanted, str) else _REVISIONS.c.revision
    query = _of(dataset_id).where(column == wanted).order_by(_REVISIONS.c.revision.desc())
    # A number that no database can hold is not asked of one.
    beyond = not isinstance(wanted, str) and wanted > dataset["revision"]
    row = None if beyond else connection.execute(query.limit(1)).one_or_none()
    if row is None:
        what = "fingerprint" if isinstance(wanted, str) else "revision"
        raise StoreError(
            f"dataset {dataset_id}: no {what} {wanted}; it has revisions {oldest} to"
            f" {dataset['revision']}, see `prometheus data revisions {dataset_id}`"
        )
    found = Revision(*row)
    if found.revision < oldest:
        raise StoreError(
            f"dataset {dataset_id}: revision {found.revision} was overwritten before revisions"
            f" were kept; the oldest that can be read is {oldest}"
        )
    return found


def begin_revision(connection: Connection, dataset_id: str, writer: Writer) -> int:
    """Return the revision to write into: the writer's own if it is still open, else a new one."""
    newest = newest_revision(connection, dataset_id)
    is_own = newest is not None and newest.writer == writer.token
    # Who writes once has closed it already, but not committed: the same transaction may go on.
    if newest is not None and is_own and (writer.once or newest.closed_at is None):
        return newest.revision
    now = datetime.now(UTC)
    number = 1 + int(connection.execute(_revision_of(dataset_id)).scalar_one())
    bumped = update(tables.datasets).where(tables.datasets.c.dataset_id == dataset_id)
    connection.execute(bumped.values(revision=number, updated_at=now))
    connection.execute(
        insert(_REVISIONS).values(
            dataset_id=dataset_id,
            revision=number,
            source=writer.source,
            writer=writer.token,
            rows_changed=0,
            ingested_at=now,
            closed_at=now if writer.once else None,
        )
    )
    return number


def count_changes(connection: Connection, dataset_id: str, revision: int, rows: int) -> None:
    """Add to the number of rows that a revision changed."""
    counted = update(_REVISIONS).where(_is(dataset_id, revision))
    connection.execute(counted.values(rows_changed=_REVISIONS.c.rows_changed + rows))


def close_revision(database: Database, dataset_id: str, revision: int) -> None:
    """Make a revision final; closing it again changes nothing."""
    is_open = _is(dataset_id, revision) & _REVISIONS.c.closed_at.is_(None)
    with database.writer() as connection:
        # The writers' lock: none of them may be half way through adding to it.
        lock_dataset(connection, dataset_id)
        connection.execute(update(_REVISIONS).where(is_open).values(closed_at=datetime.now(UTC)))


def close_writer(database: Database, dataset_id: str, writer: Writer) -> None:
    """Make final what a writer has left open."""
    is_open = (_REVISIONS.c.writer == writer.token) & _REVISIONS.c.closed_at.is_(None)
    with database.writer() as connection:
        change = update(_REVISIONS).where(_REVISIONS.c.dataset_id == dataset_id, is_open)
        connection.execute(change.values(closed_at=datetime.now(UTC)))


def record_fingerprint(database: Database, revision: Revision, fingerprint: str) -> None:
    """Store the fingerprint of the panel of a closed revision, if it is news."""
    if revision.fingerprint != fingerprint:
        same = _is(revision.dataset_id, revision.revision)
        with database.writer() as connection:
            connection.execute(update(_REVISIONS).where(same).values(fingerprint=fingerprint))


def lock_dataset(connection: Connection, dataset_id: str) -> None:
    """Let no other writer of the dataset in before this transaction ends."""
    # SQLite's writers are alone already; there this is a plain read.
    connection.execute(_revision_of(dataset_id).with_for_update())


def lock_identities(connection: Connection) -> None:
    """Let nobody else say who is who, or take a series key, before this transaction ends."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7072617)")


def supersede(
    connection: Connection,
    pair: tuple[Table, Table],
    chosen: ColumnElement[bool],
    revision: int,
    *,
    remove: bool = False,
) -> None:
    """Copy the chosen rows to the history as replaced by `revision`; `remove` deletes them too.

    What `revision` itself wrote has no place in the history: nobody can have read it.
    """
    table, history = pair
    columns = [column.name for column in history.columns if column.name != "superseded"]
    older = select(*(table.c[name] for name in columns), literal(revision)).where(
        chosen, table.c.revision < revision
    )
    connection.execute(insert(history).from_select([*columns, "superseded"], older))
    if remove:
        connection.execute(delete(table).where(chosen))


def valid_at(
    pair: tuple[Table, Table], columns: Sequence[str], dataset_id: str, revision: int
) -> Select[Any]:
    """Return the query of the rows of a dataset that were valid at `revision`."""
    table, history = pair
    now = select(*(table.c[name] for name in columns)).where(
        table.c.dataset_id == dataset_id, table.c.revision <= revision
    )
    then = select(*(history.c[name] for name in columns)).where(
        history.c.dataset_id == dataset_id,
        history.c.revision <= revision,
        history.c.superseded > revision,
    )
    both = union_all(now, then).subquery()
    return select(*(both.c[name] for name in columns))


def _of(dataset_id: str) -> Select[Any]:
    names = Revision.__dataclass_fields__
    return select(*(_REVISIONS.c[name] for name in names)).where(
        _REVISIONS.c.dataset_id == dataset_id
    )


def _is(dataset_id: str, revision: int) -> ColumnElement[bool]:
    return and_(_REVISIONS.c.dataset_id == dataset_id, _REVISIONS.c.revision == revision)


def _revision_of(dataset_id: str) -> Select[Any]:
    return select(tables.datasets.c.revision).where(tables.datasets.c.dataset_id == dataset_id)
