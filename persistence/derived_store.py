"""Derived data that outlives the process: a file of every session, rows of as many as are asked.

1. A table's file is Parquet with the columns of its SQL table, named by what it was made from.
   Numbers are float64: the very bits that the engines saw.
2. `save` compares new values with those of the file before, and writes rows only where they
   differ, or where a session has had no rows yet. So new prices add the rows of their sessions,
   and a revised price changes those that it touches.
3. The row of `derived_sets` says so while rows are being written, and gets its key last: after
   an interruption all rows of the table are written again.

Rows begin at one session and have no gaps up to the last. A value that is not known has no row,
or a NULL where others of its row are known.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from persistence.arrow import pa, pq
from persistence.artifacts import Artifact, RunFolder
from persistence.database import Database, upsert
from persistence.historical import require_dataset
from persistence.tables import derived as tables
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.record import BoolArray, IntArray, SessionArray
from prometheus_nt.engines.features import CorrelationPanel, DerivedTable

Progress = Callable[[int, int, str], None]

ROWS_PER_TRANSACTION = 200_000
"""So that other writers get their turn, and memory stays bounded."""

IN_PROGRESS = "IN_PROGRESS"
"""Key of a set whose rows are being written."""

SETS = tables.derived_sets
CORRELATIONS = "correlations"


@dataclass(frozen=True)
class Layout:
    """How a derived table is laid out in SQL: its session column, and since when it is known."""

    table: sa.Table
    session: str = "trade_date"
    known: str = "known_at"


LAYOUTS = {
    "returns": Layout(tables.returns_daily),
    "volatility": Layout(tables.volatility_daily),
    "factors": Layout(tables.factors_daily),
    "exposures": Layout(tables.instrument_factors_daily),
    "features": Layout(tables.features_daily, "as_of", "available_at"),
}

LISTED = {
    **LAYOUTS,
    CORRELATIONS: Layout(tables.correlation_panels, "end_date", "known_at"),
}
"""What `prometheus show` lists of derived data."""

_UNLISTED = ("dataset_id", "computed_at", "metadata", "bytes", "created_at")


@dataclass(frozen=True)
class DerivedFilters:
    """Which derived rows to list; None is no restriction."""

    dataset_id: str
    instrument_id: str | None = None
    as_of: date | None = None
    limit: int = 50


@dataclass(frozen=True)
class Source:
    """What a derived table was made from.

    key : content hash of the data, the code and the last session.
    """

    dataset_id: str
    fingerprint: str
    key: str


@dataclass(frozen=True)
class Saved:
    """What saving a table did; `path` is its file."""

    name: str
    rows_written: int
    rows_deleted: int
    rows_since: date | None
    sessions: int
    path: str


class DerivedStore:
    """Reads and writes the derived data of the datasets of one historical database."""

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._home = home

    def state(self, dataset_id: str, name: str) -> dict[str, Any] | None:
        """Return the row of `derived_sets`, or None if the table was never derived.

        Raises
        ------
        StoreError
            If there is no such dataset.
        """
        query = sa.select(SETS).where(SETS.c.dataset_id == dataset_id, SETS.c.name == name)
        with self._database.reader() as connection:
            require_dataset(connection, dataset_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)

    def unchanged(self, source: Source, name: str, since: date | None) -> Saved | None:
        """Return what is stored, if it was made from `source` and has rows from `since` on."""
        state = self.state(source.dataset_id, name)
        if state is None or state["set_key"] != source.key or not _reaches(state, since):
            return None
        file = self._folder(source.dataset_id).path / Path(state["path"]).name
        if not file.exists() or file.stat().st_size != state["bytes"]:
            return None
        return Saved(name, 0, 0, state["rows_since"], 0, str(file))

    def save(
        self,
        table: DerivedTable,
        source: Source,
        since: date | None,
        progress: Progress | None = None,
    ) -> Saved:
        """Store every session of a table as a file, and its rows from `since` on.

        Rows that were asked for before are kept, and kept up to date; None asks for no others.

        Raises
        ------
        StoreError
            If the table ends before what is stored: rows after its end would be of other data.
        """
        state = self.state(source.dataset_id, table.name)
        _require_not_older(table, state, source.dataset_id)
        before = None if state is None else self._stored(source.dataset_id, state)
        change = _changes(table, before, state, since)
        written = self._file(table, source, state, change)
        row = _set_row(table, source, written, change.since)
        self._record(row | {"set_key": IN_PROGRESS})
        self._clear(table, source.dataset_id, change)
        self._delete(table, source.dataset_id, change.gone)
        count = self._write(table, source.dataset_id, change, progress)
        self._record(row)
        self._remove_older(table.name, source.dataset_id, Path(written.path).name)
        deleted, sessions = int(change.gone.sum()), int(change.rows.any(axis=1).sum())
        return Saved(table.name, count, deleted, change.since, sessions, written.path)

    def load(self, dataset_id: str, name: str) -> DerivedTable:
        """Return every stored session of a table.

        Raises
        ------
        StoreError
            If it was never derived, or its file is missing or not the one that was recorded.
        """
        state = self.state(dataset_id, name)
        stored = None if state is None else self._stored(dataset_id, state)
        if stored is None:
            raise StoreError(
                f"{dataset_id}: {name} are not derived, or their file is damaged; "
                f"run `prometheus data derive {dataset_id}`"
            )
        return stored

    def save_correlations(self, dataset_id: str, panel: CorrelationPanel, inputs: str) -> bool:
        """Store a correlation matrix; return whether it was new or different.

        Parameters
        ----------
        inputs : str
            Content hash of what the matrix was made from, which names its file.
        """
        panel_id = f"CORR{panel.lookback}-{dataset_id}-{panel.as_of}"
        name = f"{inputs}.npz"
        known = self._correlation_row(panel_id)
        folder = self._matrices
        if known is not None and Path(known["matrix_ref"]).name == name and _is_whole(known):
            return False
        arrays = {"instruments": np.array(panel.instruments), "matrix": panel.matrix}
        written = folder.write_arrays(name, arrays)
        row = _correlation_row(dataset_id, panel_id, panel, written)
        with self._database.writer() as connection:
            market_id = require_dataset(connection, dataset_id)["market_id"]
            row["known_at"] = MarketCalendar.of(market_id).close_time(panel.as_of)
            upsert(connection, tables.correlation_panels, tuple(row), [tuple(row.values())])
        return True

    def load_correlations(self, panel_id: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the instruments and the matrix of a panel.

        Raises
        ------
        StoreError
            If there is none, or its file is not the one that was recorded.
        """
        row = self._correlation_row(panel_id)
        if row is None:
            raise StoreError(f"no correlation panel {panel_id!r}; `prometheus show correlations`")
        folder = self._matrices
        arrays = folder.read_arrays(Path(row["matrix_ref"]).name, row["sha256"])
        return tuple(arrays["instruments"].tolist()), arrays["matrix"]

    def listing(self, name: str, filters: DerivedFilters) -> tuple[tuple[str, ...], list[Any]]:
        """Return the columns and rows of derived data, the newest session first.

        Raises
        ------
        StoreError
            If the session asked for has no rows, or the table none at all.
        """
        layout = LISTED[name]
        columns = layout.table.c
        shown = tuple(column.name for column in columns if column.name not in _UNLISTED)
        query = sa.select(*(columns[column] for column in shown)).where(
            columns.dataset_id == filters.dataset_id
        )
        if filters.as_of is not None:
            query = query.where(columns[layout.session] == filters.as_of)
        if filters.instrument_id is not None:
            query = query.where(columns.instrument_id == filters.instrument_id)
        keys = [column for column in layout.table.primary_key if column.name != layout.session]
        query = query.order_by(columns[layout.session].desc(), *keys).limit(filters.limit)
        with self._database.reader() as connection:
            require_dataset(connection, filters.dataset_id)
            rows = [tuple(row) for row in connection.execute(query)]
        if not rows:
            raise StoreError(self._why_nothing(name, filters))
        return shown, rows

    def _why_nothing(self, name: str, filters: DerivedFilters) -> str:
        state = None if name == CORRELATIONS else self.state(filters.dataset_id, name)
        since = None if state is None else state["rows_since"]
        kept = "none are stored" if since is None else f"rows are stored from {since} on"
        command = f"prometheus data derive {filters.dataset_id}"
        remedy = (
            f"{command} --correlations month" if name == CORRELATIONS else f"{command} --rows all"
        )
        return f"show {name}: nothing found in {filters.dataset_id}; {kept}; `{remedy}` adds more"

    @property
    def matrices(self) -> Path:
        """The folder of the correlation matrices."""
        return self._matrices.path

    @property
    def _matrices(self) -> RunFolder:
        return RunFolder(self._home, CORRELATIONS)

    def _folder(self, dataset_id: str) -> RunFolder:
        return RunFolder(self._home / "derived", dataset_id)

    def _stored(self, dataset_id: str, state: Mapping[str, Any]) -> DerivedTable | None:
        """Return the table of a file; None if the file or its rows are not as recorded."""
        if state["set_key"] == IN_PROGRESS:
            return None
        file = self._folder(dataset_id).path / Path(state["path"]).name
        try:
            content = file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != state["sha256"]:
            return None
        return _from_arrow(state["name"], pq.read_table(pa.BufferReader(content)))

    def _record(self, row: Mapping[str, Any]) -> None:
        with self._database.writer() as connection:
            upsert(connection, SETS, tuple(row), [tuple(row.values())])

    def _file(
        self,
        table: DerivedTable,
        source: Source,
        state: Mapping[str, Any] | None,
        change: "_Change",
    ) -> Artifact:
        if state is not None and change.same_file:
            kept = (state["path"], state["sha256"], state["bytes"], state["row_count"])
            return Artifact(Path(kept[0]).name, *kept, "parquet")
        name, width = f"{table.name}-{source.key}.parquet", len(_first(table.keys))
        return self._folder(source.dataset_id).write_measures(name, _to_arrow(table), width)

    def _clear(self, table: DerivedTable, dataset_id: str, change: "_Change") -> None:
        """Remove all rows, where the values before are not known to compare with."""
        if change.start_over:
            target = LAYOUTS[table.name].table
            with self._database.writer() as connection:
                connection.execute(sa.delete(target).where(target.c.dataset_id == dataset_id))

    def _delete(self, table: DerivedTable, dataset_id: str, gone: BoolArray) -> None:
        if not gone.any():
            return
        layout = LAYOUTS[table.name]
        target, names = layout.table, (layout.session, *table.keys)
        matches = [target.c[name] == sa.bindparam(f"key_{name}") for name in names]
        statement = sa.delete(target).where(target.c.dataset_id == dataset_id, *matches)
        rows, columns = np.nonzero(gone)
        keys = _keys_of(table, rows, columns)
        with self._database.writer() as connection:
            connection.execute(
                statement,
                [
                    {f"key_{name}": value for name, value in zip(names, key, strict=True)}
                    for key in zip(*keys, strict=True)
                ],
            )

    def _write(
        self, table: DerivedTable, dataset_id: str, change: "_Change", progress: Progress | None
    ) -> int:
        layout = LAYOUTS[table.name]
        names = (layout.session, *table.keys, *table.columns, "dataset_id", layout.known)
        rows, columns = _in_key_order(layout, change.rows)
        known_at = self._closes(dataset_id, table.sessions) if len(rows) else []
        for start in range(0, len(rows), ROWS_PER_TRANSACTION):
            some = slice(start, start + ROWS_PER_TRANSACTION)
            values = list(_values_of(table, rows[some], columns[some]))
            count = len(values[0])
            constant = [[dataset_id] * count, [known_at[row] for row in rows[some].tolist()]]
            moments = [datetime.now(UTC)] * count
            lines = list(zip(*values, *constant, moments, strict=True))
            with self._database.writer() as connection:
                upsert(connection, layout.table, (*names, "computed_at"), lines)
            if progress is not None:
                progress(min(some.stop, len(rows)), len(rows), f"{table.name}: rows")
        return len(rows)

    def _closes(self, dataset_id: str, sessions: SessionArray) -> list[datetime]:
        with self._database.reader() as connection:
            calendar = MarketCalendar.of(require_dataset(connection, dataset_id)["market_id"])
        closes = calendar.closes_ns[calendar.rows(sessions)] // 1000
        moments = closes.astype("datetime64[us]").tolist()
        return [moment.replace(tzinfo=UTC) for moment in moments]

    def _remove_older(self, name: str, dataset_id: str, kept: str) -> None:
        for file in self._folder(dataset_id).path.glob(f"{name}-*.parquet"):
            if file.name != kept:
                file.unlink(missing_ok=True)

    def _correlation_row(self, panel_id: str) -> dict[str, Any] | None:
        panels = tables.correlation_panels
        query = sa.select(panels).where(panels.c.panel_id == panel_id)
        with self._database.reader() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)


@dataclass(frozen=True, eq=False)
class _Change:
    """What there is to do: rows to write and rows that have gone, (T, K) each.

    since : first session with rows afterwards.
    start_over : the rows before cannot be compared with, and all go.
    same_file : the file before holds the very values.
    """

    rows: BoolArray
    gone: BoolArray
    since: date | None
    start_over: bool
    same_file: bool


def _changes(
    table: DerivedTable,
    before: DerivedTable | None,
    state: Mapping[str, Any] | None,
    since: date | None,
) -> _Change:
    stored_since = None if state is None else state["rows_since"]
    since = min((day for day in (since, stored_since) if day is not None), default=None)
    known = _known(table.columns)
    wanted = _from(table.sessions, since)
    aligned = None if before is None else _aligned(before, table)
    if before is None or aligned is None:
        nothing = np.zeros_like(known)
        return _Change(known & wanted, nothing, since, start_over=True, same_file=False)
    changed = np.zeros_like(known)
    for name, new in table.columns.items():
        changed |= ~((new == aligned[name]) | (np.isnan(new) & np.isnan(aligned[name])))
    stored = _from(table.sessions, stored_since)
    same_axes = before.keys == table.keys and np.array_equal(before.sessions, table.sessions)
    return _Change(
        rows=known & wanted & (changed | ~stored),
        gone=stored & changed & ~known,
        since=since,
        start_over=False,
        same_file=same_axes and not changed.any(),
    )


def _aligned(before: DerivedTable, table: DerivedTable) -> dict[str, np.ndarray] | None:
    """Return the columns before on the axes of `table`; None if they do not fit on them."""
    places = {key: place for place, key in enumerate(zip(*table.keys.values(), strict=True))}
    columns = [places.get(key, -1) for key in zip(*before.keys.values(), strict=True)]
    rows = np.searchsorted(table.sessions, before.sessions)
    fits = set(before.columns) == set(table.columns) and min(columns, default=0) >= 0
    if not fits or not np.isin(before.sessions, table.sessions).all():
        return None
    shape, aligned = (len(table.sessions), len(places)), {}
    for name, values in before.columns.items():
        aligned[name] = np.full(shape, np.nan)
        aligned[name][np.ix_(rows, np.array(columns, dtype=np.int64))] = values
    return aligned


def _known(columns: Mapping[str, np.ndarray]) -> BoolArray:
    known = [np.isfinite(values) for values in columns.values()]
    either: BoolArray = np.logical_or.reduce(known)
    return either


def _from(sessions: SessionArray, since: date | None) -> BoolArray:
    """Return which sessions are `since` or later, (T, 1); none if it is None."""
    if since is None:
        return np.zeros((len(sessions), 1), dtype=np.bool_)
    later: BoolArray = (sessions >= np.datetime64(since, "D"))[:, None]
    return later


def _reaches(state: Mapping[str, Any], since: date | None) -> bool:
    stored: date | None = state["rows_since"]
    return since is None or (stored is not None and stored <= since)


def _require_not_older(
    table: DerivedTable, state: Mapping[str, Any] | None, dataset_id: str
) -> None:
    last = table.sessions[-1].astype(object)
    if state is not None and last < state["last_date"]:
        raise ConfigError(
            f"{dataset_id}: {table.name} are derived up to {state['last_date']}, not {last}; "
            "leave --to out"
        )


def _in_key_order(layout: Layout, wanted: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the rows and columns of what is wanted, in the order of the table's primary key.

    A tree that grows at its end is several times faster than one that grows everywhere.
    """
    if list(layout.table.primary_key)[1].name == layout.session:
        rows, columns = np.nonzero(wanted)
    else:
        columns, rows = np.nonzero(wanted.T)
    return rows, columns


def _keys_of(table: DerivedTable, rows: IntArray, columns: IntArray) -> Iterator[list[Any]]:
    yield table.sessions[rows].tolist()
    for names in table.keys.values():
        yield np.array(names, dtype=object)[columns].tolist()


def _values_of(table: DerivedTable, rows: IntArray, columns: IntArray) -> Iterator[Sequence[Any]]:
    yield from _keys_of(table, rows, columns)
    for values in table.columns.values():
        yield values[rows, columns].tolist()


def _first(keys: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return next(iter(keys.values()))


def _to_arrow(table: DerivedTable) -> "pa.Table":
    layout, width = LAYOUTS[table.name], len(_first(table.keys))
    sessions = len(table.sessions)
    columns = {layout.session: pa.array(np.repeat(table.sessions, width))}
    for name, texts in table.keys.items():
        distinct = list(dict.fromkeys(texts))
        code = {text: number for number, text in enumerate(distinct)}
        codes = np.tile(np.array([code[text] for text in texts], dtype=np.int32), sessions)
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(distinct, pa.string()))
    for name, values in table.columns.items():
        columns[name] = pa.array(values.ravel(), from_pandas=True)
    return pa.table(columns)


def _from_arrow(name: str, stored: "pa.Table") -> DerivedTable:
    layout = LAYOUTS[name]
    days = stored[layout.session].to_numpy().astype("datetime64[D]")
    sessions = np.unique(days)
    width = len(days) // max(len(sessions), 1)
    texts = [field.name for field in stored.schema if pa.types.is_dictionary(field.type)]
    keys = {key: tuple(stored[key].slice(0, width).to_pylist()) for key in texts}
    numbers = [field.name for field in stored.schema if pa.types.is_floating(field.type)]
    columns = {
        column: stored[column].to_numpy(zero_copy_only=False).reshape(len(sessions), width)
        for column in numbers
    }
    return DerivedTable(name, sessions, keys, columns)


def _set_row(
    table: DerivedTable, source: Source, written: Artifact, since: date | None
) -> dict[str, Any]:
    return {
        "dataset_id": source.dataset_id,
        "name": table.name,
        "set_key": source.key,
        "data_fingerprint": source.fingerprint,
        "first_date": table.sessions[0].astype(object),
        "last_date": table.sessions[-1].astype(object),
        "rows_since": since,
        "path": written.path,
        "sha256": written.sha256,
        "bytes": written.bytes,
        "row_count": written.rows,
        "computed_at": datetime.now(UTC),
    }


def _correlation_row(
    dataset_id: str, panel_id: str, panel: CorrelationPanel, written: Artifact
) -> dict[str, Any]:
    return {
        "panel_id": panel_id,
        "dataset_id": dataset_id,
        "start_date": panel.start,
        "end_date": panel.as_of,
        "universe_spec": {
            "dataset_id": dataset_id,
            "instruments": len(panel.instruments),
            "lookback": panel.lookback,
            "min_observations": panel.min_observations,
        },
        "matrix_ref": written.path,
        "sha256": written.sha256,
        "bytes": written.bytes,
        "known_at": None,
        "created_at": datetime.now(UTC),
    }


def _is_whole(row: Mapping[str, Any]) -> bool:
    file = Path(row["matrix_ref"])
    return file.exists() and file.stat().st_size == row["bytes"]
