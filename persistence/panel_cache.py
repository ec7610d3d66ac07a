"""Market panels from the historical store, kept as memory-mapped files.

1. `load_panel` asks the store, in one snapshot, for the dataset's revision, the row counts and
   times of its instruments and their sectors. Their hash is the name of the cached panel.
2. A hit maps the file: nothing is read until it is used, and processes share the pages.
3. A miss reads the bars in one query, scatters them onto (session, instrument), puts splits and
   dividends on their sessions, and writes the file under a temporary name first.

The fingerprint is a hash of the content alone: the same data have the same fingerprint on any
engine, machine and day.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import psycopg2.extensions
import pyarrow as pa
from pyarrow import csv as arrow_csv
from sqlalchemy import Connection, select

from persistence.historical import HistoricalStore, instruments_of, require_dataset
from persistence.panel_facts import with_facts
from persistence.tables import historical as tables
from persistence.whole_files import whole_file
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, StoreError
from prometheus_nt.domain.panel import ACTION_FIELDS, BAR_FIELDS, PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray, content_hash

FETCH_ROWS = 5_000
"""Small batches stay in the processor cache: a third faster than large ones."""

_FORMAT = 1
"""Raised when the layout of the files changes, so that older files are not read."""


def load_panel(
    store: HistoricalStore, dataset_id: str, cache_dir: Path, index: str | None = None
) -> MarketPanel:
    """Return the panel of the equities of a dataset, by instrument id, with its facts.

    Parameters
    ----------
    index : str, optional
        Whose members the panel keeps, of those that the dataset does.

    Raises
    ------
    StoreError
        If there is no such dataset.
    DataError
        If it has no bar of an equity.
    ConfigError
        If it does not keep the members of `index`.
    """
    with store.database.reader() as connection:
        plan = _plan(connection, dataset_id)
        base = cache_dir / f"panel-{dataset_id}-{plan.key}"
        panel = _cached(base, plan)
        if panel is None:
            panel = _write(base, plan, _build(connection, plan))
            _remove_older(base, dataset_id)
        return with_facts(connection, panel, dataset_id, cache_dir, index)


def load_series(
    store: HistoricalStore, dataset_id: str, instrument_id: str
) -> tuple[SessionArray, FloatArray]:
    """Return the sessions and closes of one instrument, a benchmark for example."""
    bars = tables.prices_daily.c
    query = (
        select(bars.trade_date, bars.close)
        .where(bars.dataset_id == dataset_id, bars.instrument_id == instrument_id)
        .order_by(bars.trade_date)
    )
    with store.database.reader() as connection:
        require_dataset(connection, dataset_id)
        rows = connection.execute(query).all()
    if not rows:
        raise DataError(f"{instrument_id}: no bar of it in dataset {dataset_id}; ingest it first")
    sessions = np.array([row[0] for row in rows], dtype="datetime64[D]")
    return sessions, np.array([row[1] for row in rows], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the panel of a dataset will hold, known without reading a bar."""

    dataset_id: str
    key: str
    sessions: SessionArray
    instruments: tuple[str, ...]
    sectors: tuple[str | None, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(PANEL_FIELDS), len(self.sessions), len(self.instruments)


def _plan(connection: Connection, dataset_id: str) -> _Plan:
    dataset = require_dataset(connection, dataset_id)
    members = [
        row
        for row in instruments_of(connection, dataset_id)
        if row["asset_class"] == "EQUITY" and row["row_count"]
    ]
    if not members:
        raise DataError(f"dataset {dataset_id} has no bar of an equity; ingest it first")
    facts = [
        [row[name] for name in ("instrument_id", "sector", "row_count", "ingested_at")]
        for row in members
    ]
    first = min(row["first_date"] for row in members)
    last = max(row["last_date"] for row in members)
    return _Plan(
        dataset_id,
        content_hash([_FORMAT, dataset_id, dataset["revision"], facts]),
        MarketCalendar.of(dataset["market_id"]).between(first, last),
        tuple(row["instrument_id"] for row in members),
        tuple(row["sector"] for row in members),
    )


def _build(connection: Connection, plan: _Plan) -> FloatArray:
    """Return the (fields, T, N) array of the dataset."""
    stack = np.full(plan.shape, np.nan)
    fetch = _sqlite_bars if connection.dialect.name == "sqlite" else _postgres_bars
    for rows, columns, values in fetch(connection, plan):
        for number, field in enumerate(values):
            stack[number, rows, columns] = field
    split, dividend = (PANEL_FIELDS.index(name) for name in ACTION_FIELDS)
    stack[split], stack[dividend] = 1.0, 0.0
    for ex_date, instrument_id, action_type, value in _actions(connection, plan):
        row = int(np.searchsorted(plan.sessions, np.datetime64(ex_date, "D")))
        if ex_date < plan.sessions[0].astype(object) or row >= len(plan.sessions):
            continue
        column = plan.instruments.index(instrument_id)
        if action_type == "SPLIT":
            stack[split, row, column] *= value
        else:
            stack[dividend, row, column] += value
    return stack


Bars = Iterator[tuple[IntArray, IntArray, Sequence[FloatArray]]]
"""Session rows, instrument columns and the five bar fields of a batch of bars."""


def _sqlite_bars(connection: Connection, plan: _Plan) -> Bars:
    # The driver's tuples and two dictionaries: half the time of typed rows and date objects.
    row_of = {day.isoformat(): row for row, day in enumerate(plan.sessions.tolist())}
    column_of = {name: column for column, name in enumerate(plan.instruments)}
    cursor = connection.connection.cursor()
    cursor.execute(f"{_BARS} WHERE dataset_id = ?", (plan.dataset_id,))
    while batch := cursor.fetchmany(FETCH_ROWS):
        names, days, *fields = zip(*batch, strict=True)
        columns = np.array([column_of.get(name, -1) for name in names])
        known = columns >= 0
        rows = np.array([row_of.get(day, -1) for day in days])
        values = [np.array(field, dtype=np.float64)[known] for field in fields]
        yield rows[known], columns[known], values
    cursor.close()


def _postgres_bars(connection: Connection, plan: _Plan) -> Bars:
    driver = cast(psycopg2.extensions.connection, connection.connection.driver_connection)
    buffer = BytesIO()
    with driver.cursor() as cursor:
        query = cursor.mogrify(f"{_BARS} WHERE dataset_id = %s", (plan.dataset_id,)).decode()
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv)", buffer)
    buffer.seek(0)
    types = {name: pa.float64() for name in BAR_FIELDS}
    types |= {"instrument_id": pa.dictionary(pa.int32(), pa.string()), "trade_date": pa.date32()}
    table = arrow_csv.read_csv(
        buffer,
        arrow_csv.ReadOptions(column_names=["instrument_id", "trade_date", *BAR_FIELDS]),
        convert_options=arrow_csv.ConvertOptions(column_types=types),
    ).unify_dictionaries()
    column_of = {name: column for column, name in enumerate(plan.instruments)}
    for batch in table.to_batches():
        names = batch.column(0)
        coded = np.array([column_of.get(name, -1) for name in names.dictionary.to_pylist()])
        columns = coded[names.indices.to_numpy()]
        known = columns >= 0
        days = batch.column(1).to_numpy(zero_copy_only=False).astype("datetime64[D]")[known]
        values = [batch.column(name).to_numpy(zero_copy_only=False)[known] for name in BAR_FIELDS]
        yield np.searchsorted(plan.sessions, days), columns[known], values


_BARS = f"SELECT instrument_id, trade_date, {', '.join(BAR_FIELDS)} FROM prices_daily"


def _actions(connection: Connection, plan: _Plan) -> list[tuple[date, str, str, float]]:
    table = tables.corporate_actions.c
    query = select(table.ex_date, table.instrument_id, table.action_type, table.value).where(
        table.dataset_id == plan.dataset_id, table.instrument_id.in_(plan.instruments)
    )
    rows = [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]
    # Sums and products of the same numbers in the same order: the same bytes on every engine.
    return sorted(rows)


def _cached(base: Path, plan: _Plan) -> MarketPanel | None:
    """Return the panel from its file, or None if it is absent or damaged."""
    try:
        sidecar = json.loads(base.with_suffix(".json").read_text())
        stack = np.load(base.with_suffix(".npy"), mmap_mode="r")
        fingerprint, size = sidecar["fingerprint"], sidecar["bytes"]
        instruments, sessions = sidecar["instruments"], sidecar["sessions"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    whole = (
        stack.shape == plan.shape
        and stack.dtype == np.float64
        and base.with_suffix(".npy").stat().st_size == size
        and tuple(instruments) == plan.instruments
        and sessions == plan.sessions.astype(str).tolist()
    )
    return _panel(stack, plan, fingerprint) if whole else None


def _write(base: Path, plan: _Plan, stack: FloatArray) -> MarketPanel:
    """Store the array and its sidecar, and return the panel mapped from the file."""
    parts = [plan.sessions, plan.instruments, plan.sectors, PANEL_FIELDS, stack]
    sidecar = {
        "dataset_id": plan.dataset_id,
        "fingerprint": content_hash(parts),
        "fields": PANEL_FIELDS,
        "instruments": plan.instruments,
        "sectors": plan.sectors,
        "sessions": plan.sessions.astype(str).tolist(),
    }
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(base.with_suffix(".npy")) as file:
            np.save(file, stack)
            sidecar["bytes"] = file.tell()
        with whole_file(base.with_suffix(".json")) as file:
            file.write(json.dumps(sidecar).encode())
    except OSError as unwritable:
        raise StoreError(f"{base.parent}: the panel cannot be cached: {unwritable}") from unwritable
    # Another process may have replaced the dataset and removed our file already.
    return _cached(base, plan) or _panel(stack, plan, str(sidecar["fingerprint"]))


def _panel(stack: FloatArray, plan: _Plan, fingerprint: str) -> MarketPanel:
    fields = dict(zip(PANEL_FIELDS, np.asarray(stack), strict=True))
    return MarketPanel(
        sessions=plan.sessions.copy(),
        instruments=plan.instruments,
        fingerprint=fingerprint,
        sectors=plan.sectors,
        **fields,
    )


def _remove_older(base: Path, dataset_id: str) -> None:
    ours = re.compile(rf"panel-{re.escape(dataset_id)}-[0-9a-f]{{16}}\.(npy|json)")
    for file in base.parent.iterdir():
        if ours.fullmatch(file.name) and file.stem != base.name:
            file.unlink(missing_ok=True)
