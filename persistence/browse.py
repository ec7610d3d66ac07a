"""Reading any table of either database as it is stored, page by page in the order of its key.

1. A page begins after the key of the row before it: however deep, it costs one seek.
2. Documents come as their text, cut to a length; of bytes only how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from persistence.database import Database
from persistence.schema import metadata_of
from persistence.tables.types import UtcDateTime
from prometheus_nt.domain.errors import DataError

LONGEST_TEXT = 2_000
KINDS: tuple[tuple[Any, str], ...] = (
    (sa.Boolean, "boolean"),
    (sa.Integer, "integer"),
    ((sa.Numeric, sa.Float), "number"),
    (sa.Date, "date"),
    (UtcDateTime, "moment"),
    (sa.JSON, "document"),
    (sa.LargeBinary, "bytes"),
)


@dataclass(frozen=True)
class TableColumn:
    """A column. kind : `text`, or one of `KINDS`."""

    name: str
    kind: str
    in_key: bool


def table_names(branch: str) -> list[str]:
    """Return the tables of a database."""
    return sorted(metadata_of(branch).tables)


def references(branch: str) -> list[tuple[str, str, str]]:
    """Return every reference of a database as table, column, and the table that it refers to."""
    return sorted(
        (table.name, key.parent.name, key.column.table.name)
        for table in metadata_of(branch).tables.values()
        for key in table.foreign_keys
    )


def columns_of(branch: str, name: str) -> list[TableColumn]:
    """Return the columns of a table.

    Raises
    ------
    DataError
        If the database has no such table.
    """
    table = _table(branch, name)
    return [TableColumn(each.name, _kind(each), each.primary_key) for each in table.columns]


def page(
    database: Database,
    branch: str,
    name: str,
    *,
    limit: int,
    offset: int = 0,
    after: Sequence[Any] | None = None,
) -> list[tuple[Any, ...]]:
    """Return rows of a table in the order of its key.

    Parameters
    ----------
    after : key of the row before the first, as `key_of` gave it; None is from the beginning
    """
    table = _table(branch, name)
    key = list(table.primary_key)
    query = sa.select(*(_shown(each) for each in table.columns)).order_by(*key)
    if after is not None:
        bound = (_bound(each, value) for each, value in zip(key, after, strict=True))
        query = query.where(sa.tuple_(*key) > sa.tuple_(*bound))
    with database.reader() as connection:
        return [tuple(row) for row in connection.execute(query.limit(limit).offset(offset))]


def key_of(branch: str, name: str, row: Sequence[Any]) -> list[Any]:
    """Return the key of a row as plain values, for `after` of the page that follows."""
    columns = _table(branch, name).columns
    values = (value for each, value in zip(columns, row, strict=True) if each.primary_key)
    return [value.isoformat() if isinstance(value, date) else value for value in values]


def is_key(branch: str, name: str, values: Any) -> bool:
    """Return whether values are a key as `key_of` gives it."""
    key = list(_table(branch, name).primary_key)
    if not isinstance(values, list) or len(values) != len(key):
        return False
    try:
        return all(_value(each, value) is not None for each, value in zip(key, values, strict=True))
    except (TypeError, ValueError):
        return False


def _table(branch: str, name: str) -> sa.Table:
    found: sa.Table | None = metadata_of(branch).tables.get(name)
    if found is None:
        raise DataError(f"{branch}: has no table {name!r}; see /api/db/{branch}")
    return found


def _kind(column: "sa.Column[Any]") -> str:
    return next((name for kind, name in KINDS if isinstance(column.type, kind)), "text")


def _shown(column: "sa.Column[Any]") -> "sa.ColumnElement[Any]":
    kind = _kind(column)
    if kind == "bytes":
        return sa.func.length(column).label(column.name)
    if kind == "document":
        text = sa.func.substr(sa.cast(column, sa.Text), 1, LONGEST_TEXT)
        return sa.type_coerce(text, sa.Text).label(column.name)
    if isinstance(column.type, sa.Text):
        return sa.func.substr(column, 1, LONGEST_TEXT).label(column.name)
    return column


def _bound(column: "sa.Column[Any]", value: Any) -> "sa.ColumnElement[Any]":
    return sa.literal(_value(column, value), column.type)


def _value(column: "sa.Column[Any]", value: Any) -> Any:
    """Return a value of a key as its column takes it; raise if it cannot be one."""
    kind = _kind(column)
    if kind == "date":
        return date.fromisoformat(value)
    if kind == "moment":
        return datetime.fromisoformat(value)
    if kind == "integer":
        return _integer(value)
    if not isinstance(value, str) or "\x00" in value:
        raise TypeError(value)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise TypeError(value)
    return value
