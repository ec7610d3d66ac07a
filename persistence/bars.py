"""Daily bars in and out of the database as arrays: no Python object stands for a row.

A bar is valid from the revision that wrote it. What a later one replaces moves to `bars_history`
with the revision that replaced it, so that the newest state is a plain table, and an older one the
rows of both that were valid then.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import cast

import numpy as np
import psycopg2.extensions
from psycopg2.extras import execute_values
from sqlalchemy import Connection

from persistence.arrow import arrow_csv, pa
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray

NUMBERS = ("open", "high", "low", "close", "adjusted_close", "volume")

NULLABLE = ("adjusted_close", "volume")

ROWS_PER_STATEMENT = 64
"""One statement for many rows: starting one costs as much as writing two rows."""

SERIES_PER_QUERY = 100
"""Bounds the memory of one answer, about 250,000 bars of ten years."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars of several instruments, row by row.

    Attributes
    ----------
    series, days : (n,) int arrays
        Key of the instrument in its dataset; days since 1970-01-01.
    values : (n, 6) array
        In the order of `NUMBERS`, NaN where unknown.
    known_at : (n,) int array
        Seconds since 1970-01-01 UTC.
    """

    series: IntArray
    days: IntArray
    values: FloatArray
    known_at: IntArray

    def __len__(self) -> int:
        return len(self.days)

    @classmethod
    def together(cls, parts: Sequence["Bars"]) -> "Bars":
        """Return the bars of `parts`, in their order; there must be one at least."""
        names = ("series", "days", "values", "known_at")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


Valid = tuple[IntArray, IntArray, FloatArray]
"""Series, days and numbers of a batch of bars."""


def read_bars(
    connection: Connection,
    series: Sequence[int],
    names: Sequence[str] = NUMBERS,
    revision: int | None = None,
) -> Iterator[Valid]:
    """Yield the bars of `series` in batches, by series and day; those of `revision` if given."""
    current, replaced = "TRUE", None
    if revision is not None:
        current = f"revision <= {revision:d}"
        replaced = f"{current} AND superseded > {revision:d}"
    yield from _read(connection, series, names, current, replaced)


def read_bars_between(
    connection: Connection, series: Sequence[int], low: int, high: int
) -> tuple[list[Valid], list[Valid]]:
    """Return the bars valid at revision `low` but not at `high`, and those valid the other way."""
    came = f"revision > {low:d} AND revision <= {high:d}"
    gone = f"revision <= {low:d} AND superseded > {low:d} AND superseded <= {high:d}"
    return (
        list(_read(connection, series, NUMBERS, "FALSE", gone)),
        list(_read(connection, series, NUMBERS, came, f"{came} AND superseded > {high:d}")),
    )


def insert_bars(connection: Connection, bars: Bars, revision: int) -> None:
    """Store bars that are not there yet."""
    if not len(bars):
        return
    insert = _insert_sqlite if connection.dialect.name == "sqlite" else _insert_postgres
    insert(connection, bars, revision)


def supersede_bars(connection: Connection, series: IntArray, days: IntArray, revision: int) -> None:
    """Move the bars of these keys to the history, replaced by `revision`.

    What `revision` itself wrote is dropped: nobody can have seen a revision that is still written.
    """
    if not len(days):
        return
    columns = f"series_id, day, {', '.join(NUMBERS)}, known_at, revision"
    keep = (
        f"INSERT INTO bars_history ({columns}, superseded)"
        f" SELECT {columns}, {revision:d} FROM bars WHERE revision < {revision:d} AND "
    )
    keys = list(zip(series.tolist(), days.tolist(), strict=True))
    if connection.dialect.name == "sqlite":
        sqlite = _sqlite(connection)
        sqlite.executemany(keep + "series_id = ? AND day = ?", keys).close()
        sqlite.executemany("DELETE FROM bars WHERE series_id = ? AND day = ?", keys).close()
        return
    with _postgres(connection).cursor() as cursor:
        listed = "(series_id, day) IN (VALUES %s)"
        execute_values(cursor, keep + listed, keys, page_size=10_000)
        execute_values(cursor, f"DELETE FROM bars WHERE {listed}", keys, page_size=10_000)


def _read(
    connection: Connection,
    series: Sequence[int],
    names: Sequence[str],
    current: str,
    replaced: str | None,
) -> Iterator[Valid]:
    """Yield bars that meet the condition `current`, and replaced ones that meet the other."""
    fetch, columns = _read_postgres, ["series_id", "day", *names]
    if connection.dialect.name == "sqlite":
        # numpy reads the text, and would stumble over a None.
        fetch = _read_sqlite
        columns = [f"ifnull({name}, 'nan')" if name in NULLABLE else name for name in columns]
    # Ascending keys: the rows come in the order of the table.
    ordered = sorted(series)
    for start in range(0, len(ordered), SERIES_PER_QUERY):
        some = ", ".join(str(int(key)) for key in ordered[start : start + SERIES_PER_QUERY])
        what = f"SELECT {', '.join(columns)} FROM"
        query = f"{what} bars WHERE series_id IN ({some}) AND {current}"
        if replaced is not None:
            query += f" UNION ALL {what} bars_history WHERE series_id IN ({some}) AND {replaced}"
        yield from fetch(connection, query, 2 + len(names))


def _read_sqlite(connection: Connection, query: str, width: int) -> Iterator[Valid]:
    # Straight from the driver's tuples to one matrix: whole numbers below 2**53 survive as floats.
    cells = np.fromiter(chain.from_iterable(_sqlite(connection).execute(query)), np.float64)
    rows = cells.reshape(-1, width)
    if len(rows):
        yield rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2:]


def _read_postgres(connection: Connection, query: str, width: int) -> Iterator[Valid]:
    buffer = BytesIO()
    with _postgres(connection).cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv)", buffer)
    if not buffer.tell():
        return
    buffer.seek(0)
    names = [str(number) for number in range(width)]
    types = {name: pa.int64() if name in ("0", "1") else pa.float64() for name in names}
    table = arrow_csv.read_csv(
        buffer,
        arrow_csv.ReadOptions(column_names=names),
        convert_options=arrow_csv.ConvertOptions(column_types=types),
    )
    for batch in table.to_batches():
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        yield columns[0], columns[1], np.column_stack(columns[2:])


def _insert_sqlite(connection: Connection, bars: Bars, revision: int) -> None:
    # Floats throughout: the columns' affinity makes the keys whole again, and NaN becomes NULL.
    cells = np.column_stack([bars.series, bars.days, bars.values, bars.known_at])
    width, whole = cells.shape[1], len(cells) - len(cells) % ROWS_PER_STATEMENT
    columns = f"series_id, day, {', '.join(NUMBERS)}, known_at, revision"
    row = f"({', '.join('?' * width)}, {revision:d})"
    insert = f"INSERT INTO bars ({columns}) VALUES "
    many = cells[:whole].reshape(-1, width * ROWS_PER_STATEMENT)
    driver = _sqlite(connection)
    driver.executemany(insert + ", ".join([row] * ROWS_PER_STATEMENT), _lists(many)).close()
    driver.executemany(insert + row, _lists(cells[whole:])).close()


def _lists(matrix: FloatArray) -> Iterator[list[float]]:
    return (row.tolist() for row in matrix)


def _insert_postgres(connection: Connection, bars: Bars, revision: int) -> None:
    # Binary: the server need not read numbers from text, which costs it more than storing them.
    unknown = np.isnan(bars.values)
    patterns = unknown @ (1 << np.arange(len(NUMBERS)))
    parts = [
        _records(bars, revision, np.flatnonzero(patterns == pattern), unknown)
        for pattern in np.unique(patterns)
    ]
    columns = f"series_id, day, known_at, revision, {', '.join(NUMBERS)}"
    stream = BytesIO(b"".join([_COPY_HEADER, *parts, _COPY_TRAILER]))
    with _postgres(connection).cursor() as cursor:
        cursor.copy_expert(f"COPY bars ({columns}) FROM STDIN (FORMAT binary)", stream)


def _records(bars: Bars, revision: int, rows: IntArray, unknown: BoolArray) -> bytes:
    """Return rows in which the same numbers are unknown as records of the binary COPY format."""
    given: list[tuple[str, IntArray | FloatArray | int]] = [
        (">i4", bars.series[rows]),
        (">i4", bars.days[rows]),
        (">i8", bars.known_at[rows]),
        (">i8", revision),
    ]
    numbers = [(">f8", bars.values[rows, place]) for place in range(len(NUMBERS))]
    fields = [*given, *numbers]
    absent = [False] * len(given) + unknown[rows[0]].tolist()
    layout = [("fields", ">i2")]
    for place, ((kind, _), is_absent) in enumerate(zip(fields, absent, strict=True)):
        layout.append((f"length{place}", ">i4"))
        if not is_absent:
            layout.append((f"value{place}", kind))
    records = np.empty(len(rows), dtype=np.dtype(layout))
    records["fields"] = len(fields)
    for place, ((kind, values), is_absent) in enumerate(zip(fields, absent, strict=True)):
        records[f"length{place}"] = -1 if is_absent else np.dtype(kind).itemsize
        if not is_absent:
            records[f"value{place}"] = values
    return records.tobytes()


_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"


def _sqlite(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _postgres(connection: Connection) -> psycopg2.extensions.connection:
    return cast(psycopg2.extensions.connection, connection.connection.driver_connection)
