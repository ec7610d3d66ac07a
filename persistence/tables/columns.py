"""Columns that tables of the runtime database share, and the metadata they belong to."""

from functools import lru_cache

import sqlalchemy as sa

from persistence.tables.types import JSON, NAMING_CONVENTION

RUNTIME = sa.MetaData(naming_convention=NAMING_CONVENTION)


def run_columns() -> list[sa.Column[str]]:
    """Return the columns that say whose row it is: run (part of the key), mode, strategy."""
    return [
        sa.Column("run_id", sa.String(96), primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("strategy_id", sa.String(64), nullable=False),
    ]


def session(name: str = "as_of_date") -> "sa.Column[object]":
    """Return the session of a row, part of its key."""
    return sa.Column(name, sa.Date, primary_key=True)


def key(name: str, length: int = 64) -> sa.Column[str]:
    """Return a text that is part of the key."""
    return sa.Column(name, sa.String(length), primary_key=True)


def text(name: str, length: int = 64, *, nullable: bool = False) -> sa.Column[str]:
    """Return a text column."""
    return sa.Column(name, sa.String(length), nullable=nullable)


def number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    """Return a float column."""
    return sa.Column(name, sa.Double, nullable=nullable)


def document(name: str) -> "sa.Column[object]":
    """Return a column for a small document; None is NULL."""
    return sa.Column(name, JSON, nullable=True)


def table(name: str, *columns: "sa.schema.SchemaItem") -> sa.Table:
    """Return a table of the runtime database that is stored by its key."""
    return sa.Table(name, RUNTIME, *columns, sqlite_with_rowid=False)


def traded_index(name: str, *columns: str) -> sa.Index:
    """Return an index of the rows that no backtest wrote.

    They are few among many and asked for by mode; backtests, which write most, do not pay for it.
    """
    rare = sa.text("mode <> 'BACKTEST'")
    return sa.Index(name, *columns, sqlite_where=rare, postgresql_where=rare)


@lru_cache(maxsize=256)
def written(table_: sa.Table) -> tuple[str, ...]:
    """Return the names of the columns that are written: the database computes the others."""
    return tuple(column.name for column in table_.columns if column.computed is None)
