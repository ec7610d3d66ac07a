"""Every table of both databases, as stored."""

import json
import math
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query

from persistence import browse
from persistence.database import Database
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.monitoring.answers import DEFAULT_ROWS, Answer, Limit, Name, Part
from prometheus_nt.monitoring.desk import Desk, OurDesk

router = APIRouter(prefix="/api/db", tags=["db"])

MOST_SKIPPED = 10_000
Skipped = Annotated[
    int, Query(ge=0, le=MOST_SKIPPED, description="Rows to skip; deeper, use `after`.")
]
After = Annotated[
    str | None, Query(max_length=1_000, description="`next_after` of the page before.")
]


class Branch(StrEnum):
    """One of the two databases."""

    RUNTIME = "runtime"
    HISTORICAL = "historical"


class Tables(Answer):
    """The tables of a database."""

    branch: Branch
    tables: list[str]


class TableColumn(Part):
    """A column. kind : text, integer, number, boolean, date, moment, document or bytes."""

    name: str
    kind: str
    in_key: bool


class TablePage(Answer):
    """Rows in the order of the key.

    Documents and long texts are cut to 2,000 characters; bytes are told by how many there are.
    next_offset, next_after : where the next page begins; null on the last one. Beyond the largest
        offset only `next_after` goes on.
    """

    branch: Branch
    table_name: str
    columns: list[TableColumn]
    rows: list[list[Any]]
    offset: int
    next_offset: int | None
    next_after: str | None


@router.get("/{branch}")
def tables(branch: Branch) -> Tables:
    """Return the tables of a database."""
    return Tables(branch=branch, tables=browse.table_names(branch))


@router.get("/{branch}/{table}")
def rows(
    desk: OurDesk,
    branch: Branch,
    table: Name,
    limit: Limit = DEFAULT_ROWS,
    offset: Skipped = 0,
    after: After = None,
) -> TablePage:
    """Return rows of a table."""
    columns = browse.columns_of(branch, table)
    key = None if after is None else _key(branch, table, after)
    found = browse.page(
        _database(desk, branch), branch, table, limit=limit + 1, offset=offset, after=key
    )
    more = len(found) > limit
    last = browse.key_of(branch, table, found[limit - 1]) if more else None
    following = offset + limit if more and offset + limit <= MOST_SKIPPED else None
    return TablePage(
        branch=branch,
        table_name=table,
        columns=[TableColumn(**vars(column)) for column in columns],
        rows=[[_plain(value) for value in row] for row in found[:limit]],
        offset=offset,
        next_offset=following,
        next_after=None if last is None else json.dumps(last),
    )


def _database(desk: Desk, branch: Branch) -> Database:
    store = desk.stores.runtime if branch is Branch.RUNTIME else desk.stores.historical
    return store.database


def _key(branch: Branch, table: str, after: str) -> list[Any]:
    try:
        values = json.loads(after)
    except (ValueError, RecursionError):
        values = None
    if not browse.is_key(branch, table, values):
        raise ConfigError(f"after: {after[:100]!r} is no key of {table}; send a page's next_after")
    found: list[Any] = values
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value
