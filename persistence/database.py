"""Open the databases: one writer and one reader per URL, SQLite or PostgreSQL."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from io import BytesIO
from math import isnan
from pathlib import Path
from threading import Lock
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import psycopg2.extensions
from psycopg2.extras import execute_values
from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    ClauseElement,
    Connection,
    Date,
    DateTime,
    Dialect,
    Engine,
    Float,
    Integer,
    LargeBinary,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator, TypeEngine

from persistence.arrow import arrow_csv, pa
from persistence.blocks import Block, JsonText, JsonTexts
from persistence.tables.types import utc
from prometheus_nt.domain.errors import ConfigError, StoreError, StoreUnavailable
from prometheus_nt.domain.record import FloatArray

BUSY_TIMEOUT_MS = 30_000
BATCH_ROWS = 100_000
"""Rows per statement: bounds the memory of one upsert."""
FEW_ROWS = 32
"""Up to here plain Python turns a column into numbers sooner than an array does."""
COPY_FROM_ROWS = 200
"""From here on COPY wins; below, its staging table costs more than it saves."""

DRIVER_ERRORS = (SQLAlchemyError, sqlite3.Error, psycopg2.Error)

OUTAGES = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""No connection, a lost one, a server that stops: nothing is wrong with what was asked."""
SQLITE_OUTAGES = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
)

# A row that a foreign key watches may be taken back alone, from a journal of its own: in a file
# that costs half of a fill's writing.
_WRITING = ("journal_mode=WAL", "foreign_keys=ON", "temp_store=MEMORY")
_WRITER_PRAGMAS = (*_WRITING, "synchronous=NORMAL")
_DURABLE_PRAGMAS = (*_WRITING, "synchronous=FULL")
_READER_PRAGMAS = ("query_only=ON",)
# A table is altered by copying it, which no foreign key may watch: checked afterwards instead.
# Nor any view: one that names a table which is being copied would stop the renaming.
_MIGRATION_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=NORMAL"),
    *("foreign_keys=OFF", "legacy_alter_table=ON"),
)
_PRAGMAS = {
    "writer": _WRITER_PRAGMAS,
    "durable": _DURABLE_PRAGMAS,
    "migration": _MIGRATION_PRAGMAS,
}

Row = tuple[Any, ...]


class Database:
    """One database by URL: transactions that write, and transactions that cannot.

    - A writer is one transaction: it commits when the block ends, rolls back if it raises.
    - On SQLite a writer takes the write lock at once (BEGIN IMMEDIATE), so that a transaction that
      reads first cannot fail later because somebody else wrote in between.
    - A durable writer has also reached the disk when it returns: on SQLite an ordinary one survives
      the process, and not always the machine.
    - A reader sees one snapshot and cannot write.
    - Errors of the drivers leave as `StoreError`, those that may pass as `StoreUnavailable`; no
      message and no repr shows a password.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.dialect = url.get_backend_name()
        self.safe_url = url.render_as_string(hide_password=True)
        self._path = Path(url.database or "") if self.dialect == "sqlite" else None
        self._engines: dict[str, Engine] = {}
        self._opening = Lock()
        self._watching: sqlite3.Connection | None = None
        self._marking = Lock()

    @classmethod
    def open(cls, url: str) -> "Database":
        """Return the database at `url`; connections are made when first needed.

        Raises
        ------
        ConfigError
            If `url` is neither `sqlite:///path` nor `postgresql://...`.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as malformed:
            raise ConfigError(f"database url: {_EXPECTED}") from malformed
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg2")
        if parsed.drivername not in ("sqlite", "postgresql+psycopg2"):
            raise ConfigError(f"database url: {_EXPECTED}, found {parsed.drivername!r}")
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigError(f"database url: {_EXPECTED}, found no file or database name")
        return cls(parsed)

    def __repr__(self) -> str:
        return f"Database({self.safe_url!r})"

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """Yield the connection of one transaction that may write."""
        with self._translated(), self._engine("writer").begin() as connection:
            yield connection

    @contextmanager
    def durable_writer(self) -> Iterator[Connection]:
        """Yield the connection of one transaction that is on the disk when the block has ended."""
        with self._translated(), self._engine("durable").begin() as connection:
            if self._path is None:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO on")
            yield connection

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Yield the connection of one snapshot that cannot write."""
        if self._path is not None and not self._path.exists():
            raise StoreError(f"{self._path}: no such database; run `prometheus db upgrade`")
        with self._translated(), self._engine("reader").begin() as connection:
            if self._path is None:
                connection.exec_driver_sql(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                )
            yield connection

    def ping(self) -> None:
        """Require that the database answers; `StoreError` if it does not."""
        asked = "SELECT 1" if self._path is None else "PRAGMA schema_version"
        with self.reader() as connection:
            connection.exec_driver_sql(asked)

    def commit_mark(self) -> object:
        """Return what differs from what it was before as soon as anybody has committed since."""
        if self._path is None:
            with self._translated(), self._engine("mark").connect() as connection:
                return connection.exec_driver_sql(_SNAPSHOT).scalar_one()
        # Of SQLite's it only says something beside another of the same connection.
        with self._translated(), self._marking, closing(self._watched().cursor()) as cursor:
            return cursor.execute("PRAGMA data_version").fetchone()[0]

    def schema_mark(self) -> object:
        """Return what differs if a table, a column or an index was made, changed or dropped."""
        asked = _SCHEMA if self._path is None else "PRAGMA schema_version"
        with self.reader() as connection:
            return connection.exec_driver_sql(asked).scalar_one()

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """Yield the connection of one transaction that may change the schema, alone."""
        with self._translated(), self._engine("migration").begin() as connection:
            if self._path is None:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7072616)")
            yield connection
            if self._path is not None:
                self._require_whole_references(connection)

    @property
    def exists(self) -> bool:
        """Whether a file is there; of a server, whoever asks it will see."""
        return self._path is None or self._path.exists()

    def close(self) -> None:
        """Close every pooled connection; the next use opens new ones."""
        with self._marking:
            if self._watching is not None:
                self._watching.close()
                self._watching = None
        # The last to leave a file puts its journal into it, which one who only reads cannot.
        for role in sorted(self._engines, key=lambda role: role != "reader"):
            self._engines[role].dispose()
        self._engines.clear()

    def _engine(self, role: str) -> Engine:
        with self._opening:
            if role not in self._engines:
                self._engines[role] = self._new_engine(role)
            return self._engines[role]

    def _new_engine(self, role: str) -> Engine:
        if self._path is None:
            alone = {"isolation_level": "AUTOCOMMIT"} if role == "mark" else {}
            return create_engine(self._url, pool_pre_ping=True, hide_parameters=True, **alone)
        if role == "reader":
            read_only = {"mode": "ro", "uri": "true"}
            url = URL.create("sqlite", database=f"file:{quote(str(self._path))}", query=read_only)
            return _sqlite_engine(url, _READER_PRAGMAS, "BEGIN")
        _make_folder(self._path.parent)
        return _sqlite_engine(self._url, _PRAGMAS[role], "BEGIN IMMEDIATE")

    def _watched(self) -> sqlite3.Connection:
        if self._path is None or not self._path.exists():
            raise StoreError(f"{self._path}: no such database; run `prometheus db upgrade`")
        if self._watching is None:
            address = f"file:{quote(str(self._path))}?mode=ro"
            seconds = BUSY_TIMEOUT_MS / 1_000
            self._watching = sqlite3.connect(
                address, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False
            )
        return self._watching

    def _require_whole_references(self, connection: Connection) -> None:
        orphan = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if orphan is not None:
            raise StoreError(f"{self.safe_url}: the migration orphans a row: {tuple(orphan)}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DRIVER_ERRORS as error:
            kind = StoreUnavailable if _is_outage(error) else StoreError
            raise kind(f"{self.safe_url}: {_reason(error)}") from error


_SNAPSHOT = "SELECT pg_current_snapshot()::text"
_SCHEMA = """
    SELECT md5(string_agg(concat_ws(',', attrelid, attnum, attname, atttypid, atttypmod,
                                    attnotnull, attisdropped), ';' ORDER BY attrelid, attnum))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = current_schema()::regnamespace
"""

_EXPECTED = "expected sqlite:///path/to/file.db or postgresql://user:password@host/name"


def _sqlite_engine(url: URL, pragmas: tuple[str, ...], begin: str) -> Engine:
    # Migrations need their own foreign-key setting, so they must not share pooled connections.
    pool = {"poolclass": NullPool} if pragmas is _MIGRATION_PRAGMAS else {}
    engine = create_engine(url, hide_parameters=True, **pool)

    @event.listens_for(engine, "connect")
    def _configure(driver: sqlite3.Connection, _record: object) -> None:
        driver.isolation_level = None
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", *pragmas):
            driver.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _is_outage(error: Exception) -> bool:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.connection_invalidated or _is_outage_of_driver(error.orig)
    return _is_outage_of_driver(error)


def _is_outage_of_driver(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        # Extended codes keep the primary one in their last byte.
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in SQLITE_OUTAGES
    return isinstance(error, OUTAGES)


_REMEDIES = {
    "no such table": "run `prometheus db upgrade`",
    "does not exist": "run `prometheus db upgrade`",
    # A reader, too, writes beside the file: where the journal is shared, readers say what they use.
    "readonly database": "make the file and its folder writable, or set PROMETHEUS_HOME to another",
    "unable to open": "make the file and its folder writable, or set PROMETHEUS_HOME to another",
    "database is locked": "another command is writing; run this one again when it is done",
    "is not a database": "move it away, or set PROMETHEUS_HOME to another folder",
}
"""Part of what a driver says -> what helps."""


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error).strip()
    for part, remedy in _REMEDIES.items():
        if part in reason:
            return f"{reason}; {remedy}"
    return reason


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise StoreError(
            f"{folder}: cannot be made: {refused.strerror};"
            " set PROMETHEUS_HOME to a folder that can be written"
        ) from refused


class Statement:
    """A statement that is asked thousands of times: compiled once, and handed to the driver.

    What it returns are the driver's values: it is for text and whole numbers.
    """

    def __init__(self, clause: ClauseElement) -> None:
        self._clause = clause
        self._compiled: dict[str, tuple[str, SQLCompiler, dict[str, Callable[[Any], Any]]]] = {}

    def ask(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row, or None if there is none."""
        with closing(self._run(connection, values)) as cursor:
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row

    def change(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Return how many rows were changed."""
        with closing(self._run(connection, values)) as cursor:
            return int(cursor.rowcount)

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        name = connection.dialect.name
        if name not in self._compiled:
            self._compiled[name] = self._compile(connection.dialect)
        sql, compiled, processors = self._compiled[name]
        given = compiled.construct_params(dict(values))
        bound = {key: processors[key](of) if key in processors else of for key, of in given.items()}
        order = compiled.positiontup
        driver = cast(Any, connection.connection.driver_connection)
        cursor = driver.cursor()
        cursor.execute(sql, bound if order is None else [bound[key] for key in order])
        return cursor

    def _compile(
        self, dialect: Dialect
    ) -> tuple[str, SQLCompiler, dict[str, Callable[[Any], Any]]]:
        compiled = cast(SQLCompiler, self._clause.compile(dialect=dialect))
        found = {
            key: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for key, bind in compiled.binds.items()
        }
        return str(compiled), compiled, {key: of for key, of in found.items() if of is not None}


def upsert(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    update: bool | tuple[str, ...] = True,
) -> int:
    """Insert `rows`; where the primary key exists, set the other columns.

    Parameters
    ----------
    columns : names of the table's columns, the whole primary key among them
    rows : tuples of plain values in the order of `columns`
        NaN becomes NULL, documents become JSON, times must be aware. Of several rows with one key
        the last one counts.
    update : bool or names of columns
        False leaves existing rows as they are; names say which columns of them are set, which
        spares the indexes of the others.

    Returns
    -------
    int
        Number of rows sent.

    Raises
    ------
    StoreError
        If the primary key is not among `columns`, or a value has no meaning in its column.
    """
    dialect = connection.dialect.name
    write = _write_sqlite if dialect == "sqlite" else _write_postgres
    target = _target(dialect, table, tuple(columns), update)
    for start in range(0, len(rows), BATCH_ROWS):
        write(connection, target, _plain(target, rows[start : start + BATCH_ROWS]))
    return len(rows)


@dataclass(frozen=True)
class _Target:
    """Where rows go, as the statements of an engine say it.

    converters : per column, what makes its values plain
    encoders : per column, what SQLite's driver needs of a plain value; None if nothing
    """

    table: Table
    columns: tuple[str, ...]
    kinds: tuple[TypeEngine[Any], ...]
    converters: "tuple[Callable[[Sequence[Any]], Sequence[Any]], ...]"
    encoders: tuple[Callable[[Any], Any] | None, ...]
    name: str
    names: str
    on_conflict: str

    @property
    def updates(self) -> bool:
        """Whether rows that exist are changed."""
        return "DO UPDATE" in self.on_conflict


# A session writes a few rows to each of ten tables: what the table alone decides is found once.
@lru_cache(maxsize=1024)
def _target(
    dialect: str, table: Table, columns: tuple[str, ...], update: bool | tuple[str, ...]
) -> _Target:
    keys = [column.name for column in table.primary_key]
    if not set(keys) <= set(columns):
        raise StoreError(f"{table.name}: an upsert needs its whole key {keys}, found {columns}")
    preparer = (_SQLITE if dialect == "sqlite" else _POSTGRES).identifier_preparer
    quoted = {name: preparer.quote(name) for name in columns}
    kinds = tuple(_kind(table.c[name].type) for name in columns)
    return _Target(
        table,
        columns,
        kinds,
        converters=tuple(map(_converter, kinds)),
        encoders=tuple(map(_sqlite_encoder, kinds)),
        name=preparer.format_table(table),
        names=", ".join(quoted.values()),
        on_conflict=_on_conflict(quoted, keys, columns if update is True else update or ()),
    )


_SQLITE, _POSTGRES = sqlite.dialect(), postgresql.dialect()  # type: ignore[no-untyped-call]


def _on_conflict(quoted: Mapping[str, str], keys: Sequence[str], updated: Sequence[str]) -> str:
    values = [quoted[column] for column in updated if column not in keys]
    target = ", ".join(quoted[key] for key in keys)
    if not values:
        return f"ON CONFLICT ({target}) DO NOTHING"
    assignments = ", ".join(f"{name} = excluded.{name}" for name in values)
    return f"ON CONFLICT ({target}) DO UPDATE SET {assignments}"


def _write_sqlite(connection: Connection, target: _Target, plain: list[Sequence[Any]]) -> None:
    encoded = [
        _each_once(encode, values) if encode else values
        for values, encode in zip(plain, target.encoders, strict=True)
    ]
    marks = ", ".join("?" * len(target.columns))
    sql = f"INSERT INTO {target.name} ({target.names}) VALUES ({marks}) {target.on_conflict}"
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    driver.executemany(sql, zip(*encoded, strict=True)).close()


def _write_postgres(connection: Connection, target: _Target, plain: list[Sequence[Any]]) -> None:
    if target.updates:
        plain = _last_of_each_key(target, plain)
    into, names, on_conflict = target.name, target.names, target.on_conflict
    driver = cast(psycopg2.extensions.connection, connection.connection.driver_connection)
    with driver.cursor() as cursor:
        if len(plain[0]) < COPY_FROM_ROWS:
            sql = f"INSERT INTO {into} ({names}) VALUES %s {on_conflict}"
            execute_values(cursor, sql, list(zip(*plain, strict=True)), page_size=COPY_FROM_ROWS)
            return
        cursor.execute(
            f"CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS"
            f" SELECT {names} FROM {into} WITH NO DATA"
        )
        cursor.copy_expert("COPY staged_rows FROM STDIN (FORMAT csv)", _csv(target, plain))
        cursor.execute(
            f"INSERT INTO {into} ({names}) SELECT {names} FROM staged_rows {on_conflict}"
        )
        cursor.execute("DROP TABLE staged_rows")


def _last_of_each_key(target: _Target, plain: list[Sequence[Any]]) -> list[Sequence[Any]]:
    # PostgreSQL refuses to update one row twice in a statement; SQLite keeps the last.
    positions = [target.columns.index(column.name) for column in target.table.primary_key]
    keys = zip(*(plain[position] for position in positions), strict=True)
    last = {key: row for row, key in enumerate(keys)}
    if len(last) == len(plain[0]):
        return plain
    return [[values[row] for row in last.values()] for values in plain]


def _csv(target: _Target, plain: list[Sequence[Any]]) -> BytesIO:
    """Return the rows as CSV: strings quoted, NULL empty and unquoted."""
    arrays = [
        pa.array(_copied(kind, values), type=_arrow_type(kind))
        for values, kind in zip(plain, target.kinds, strict=True)
    ]
    buffer = BytesIO()
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="needed")
    arrow_csv.write_csv(pa.table(arrays, names=list(target.columns)), buffer, options)
    buffer.seek(0)
    return buffer


def _copied(kind: TypeEngine[Any], values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a column as COPY reads them: bytes are written in hexadecimal."""
    if not isinstance(kind, LargeBinary):
        return values
    return [None if value is None else f"\\x{value.hex()}" for value in values]


def _kind(declared: TypeEngine[Any]) -> TypeEngine[Any]:
    return declared.impl_instance if isinstance(declared, TypeDecorator) else declared


def _plain(target: _Target, rows: Sequence[Row]) -> list[Sequence[Any]]:
    """Return the values column by column as plain Python: no NaN, no numpy, no documents."""
    plain = []
    given: Iterable[Any] = rows.columns if isinstance(rows, Block) else zip(*rows, strict=True)
    columns = zip(target.columns, target.converters, given, strict=True)
    for name, convert, values in columns:
        try:
            plain.append(convert(values))
        except (TypeError, ValueError, AttributeError) as unsuitable:
            raise StoreError(f"{target.table.name}.{name}: {unsuitable}") from unsuitable
    return plain


def _converter(kind: TypeEngine[Any]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what makes the values of a column of this kind plain."""
    if isinstance(kind, Float):
        return _known_numbers
    if isinstance(kind, JSON):
        return _documents
    if isinstance(kind, Integer):
        return _integers
    convert = next((to for of, to in _CONVERTERS if isinstance(kind, of)), None)
    return list if convert is None else partial(_each_once, convert)


def _documents(values: Sequence[Any]) -> Sequence[Any]:
    if isinstance(values, JsonTexts):
        return values
    return [None if value is None else _json_text(value) for value in values]


def _known_numbers(values: Sequence[Any]) -> Sequence[float | None]:
    # A sum is no number if any of them is none: the cheapest way to ask all of them.
    if _are_floats(values) and not isnan(sum(values)):
        return values
    if len(values) < FEW_ROWS:
        return [None if v is None or (number := float(v)) != number else number for v in values]
    array = np.array(values, dtype=np.float64)
    listed: list[float | None] = array.tolist()
    for row in np.flatnonzero(np.isnan(array)):
        listed[row] = None
    return listed


_FLOATS, _INTEGERS = {float}, {int}


def _are_floats(values: Sequence[Any] | FloatArray) -> bool:
    return not isinstance(values, np.ndarray) and set(map(type, values)) == _FLOATS


def _integers(values: Sequence[Any]) -> Sequence[Any]:
    return values if set(map(type, values)) == _INTEGERS else _each_once(int, values)


def _each_once(convert: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Return the converted values; dates and times repeat, so each is converted once."""
    converted = {value: None if value is None else convert(value) for value in set(values)}
    return [converted[value] for value in values]


def _json_text(document: Any) -> str:
    if isinstance(document, JsonText):
        # The driver looks for an adapter of every value that is not exactly a string.
        return str(document)
    try:
        return _ENCODER.encode(document)
    except ValueError:
        return _ENCODER.encode(_nan_to_none(document))


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False)


def _nan_to_none(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _nan_to_none(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_nan_to_none(value) for value in document]
    return None if isinstance(document, float) and isnan(document) else document


def _plain_date(value: date) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError(f"expected a date, found {value!r}")
    return value


_CONVERTERS: tuple[tuple[type[TypeEngine[Any]], Callable[[Any], Any]], ...] = (
    (Boolean, bool),
    (DateTime, utc),
    (Date, _plain_date),
)


def _sqlite_encoder(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    if isinstance(kind, DateTime):
        return _sqlite_time
    if isinstance(kind, Date):
        return date.isoformat
    return int if isinstance(kind, Boolean) else None


def _sqlite_time(moment: datetime) -> str:
    # Always UTC here; SQLAlchemy reads the text without its offset.
    return moment.isoformat(" ", "microseconds")[:26]


def _arrow_type(kind: TypeEngine[Any]) -> "pa.DataType":
    if isinstance(kind, Float):
        return pa.float64()
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, Integer):
        return pa.int64()
    if isinstance(kind, DateTime):
        return pa.timestamp("us", tz=str(UTC))
    return pa.date32() if isinstance(kind, Date) else pa.string()
