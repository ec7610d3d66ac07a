"""Market panels from the historical store, kept as memory-mapped files.

1. `load_panel` closes the dataset's newest revision, or looks up the one asked for: from then on it
   never changes. The revision and who wrote it are the name of the cached panel.
2. A hit maps the file: nothing is read until it is used, and processes share the pages.
3. A miss reads the bars that were valid at that revision, scatters them onto (session, instrument),
   puts splits and dividends on their sessions, and writes the file under a temporary name first.
4. The fingerprint is stored with the revision, so that it can be asked for by it.

The fingerprint is a hash of the content alone: the same data have the same fingerprint on any
engine, machine and day.
"""

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from persistence.bars import read_bars
from persistence.historical import HistoricalStore, require_dataset
from persistence.histories import ACTIONS
from persistence.members import MEMBERS, members_of
from persistence.panel_facts import with_facts
from persistence.revisions import (
    Revision,
    close_revision,
    newest_revision,
    record_fingerprint,
    require_revision,
    valid_at,
)
from persistence.whole_files import whole_file
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, StoreError
from prometheus_nt.domain.panel import ACTION_FIELDS, BAR_FIELDS, PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import FloatArray, SessionArray, content_hash

_FORMAT = 2
"""Raised when the layout of the files changes, so that older files are not read."""


def load_panel(
    store: HistoricalStore,
    dataset_id: str,
    cache_dir: Path,
    index: str | None = None,
    *,
    revision: int | str | None = None,
) -> MarketPanel:
    """Return the panel of the equities of a dataset, by instrument id, with its facts.

    Facts are kept by the time they were known, not by revision: a panel of an earlier revision
    has the facts that are kept now.

    Parameters
    ----------
    index : str, optional
        Whose members the panel keeps, of those that the dataset does.
    revision : int or str, optional
        Number of a revision, or the fingerprint of its panel; the newest revision by default.

    Raises
    ------
    StoreError
        If there is no such dataset or revision.
    DataError
        If it has no bar of an equity.
    ConfigError
        If it does not keep the members of `index`.
    """
    chosen = settled_revision(store, dataset_id, revision)
    with store.database.reader() as connection:
        plan = _plan(connection, chosen)
        base = cache_dir / f"panel-{dataset_id}-{plan.key}"
        panel = _cached(base, plan)
        if panel is None:
            panel = _write(base, plan, _build(connection, plan))
            if plan.newest:
                _remove_others(base, dataset_id)
        complete = with_facts(connection, panel, dataset_id, cache_dir, index)
    if isinstance(revision, str) and panel.fingerprint != revision:
        raise StoreError(
            f"dataset {dataset_id}: revision {chosen.revision} had fingerprint {revision}, its"
            f" panel now has {panel.fingerprint}; another version of the program made it, so ask"
            f" for revision {chosen.revision} by its number"
        )
    record_fingerprint(store.database, chosen, panel.fingerprint)
    return complete


def settled_revision(
    store: HistoricalStore, dataset_id: str, wanted: int | str | None = None
) -> Revision:
    """Return a revision that cannot change any more: the one wanted, or the newest.

    Raises
    ------
    StoreError
        If there is no such dataset or revision.
    DataError
        If nothing was written to the dataset yet.
    """
    with store.database.reader() as connection:
        dataset = require_dataset(connection, dataset_id)
        found = newest_revision(connection, dataset_id)
        if wanted is not None:
            found = require_revision(connection, dataset, wanted)
    if found is None:
        raise DataError(f"dataset {dataset_id} {_EMPTY}")
    if found.closed_at is None:
        close_revision(store.database, dataset_id, found.revision)
    return found


def load_series(
    store: HistoricalStore,
    dataset_id: str,
    instrument_id: str,
    revision: int | str | None = None,
) -> tuple[SessionArray, FloatArray]:
    """Return the sessions and closes of one instrument, a benchmark for example."""
    with store.database.reader() as connection:
        dataset = require_dataset(connection, dataset_id)
        number = None
        if revision is not None:
            number = require_revision(connection, dataset, revision).revision
        series = [
            row.series_id for row in members_of(connection, dataset_id, [instrument_id]).values()
        ]
        batches = list(read_bars(connection, series, ("close",), number))
    if not batches:
        raise DataError(f"{instrument_id}: no bar of it in dataset {dataset_id}; ingest it first")
    days = np.concatenate([days for _, days, _ in batches])
    order = np.argsort(days)
    close = np.concatenate([values[:, 0] for _, _, values in batches])
    return days[order].astype("datetime64[D]"), close[order]


_EMPTY = "has no bar of an equity; ingest it first"


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the panel of a revision will hold, known without reading a bar.

    Attributes
    ----------
    series : keys of the instruments' bars, in the order of `instruments`
    newest : whether nothing was written after the revision, so that no row must be left out
    """

    revision: Revision
    key: str
    newest: bool
    sessions: SessionArray
    instruments: tuple[str, ...]
    series: tuple[int, ...]
    sectors: tuple[str | None, ...]

    @property
    def dataset_id(self) -> str:
        return self.revision.dataset_id

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(PANEL_FIELDS), len(self.sessions), len(self.instruments)


def _plan(connection: Connection, revision: Revision) -> _Plan:
    dataset = require_dataset(connection, revision.dataset_id)
    names = ("instrument_id", "series_id", "sector", "asset_class", "row_count")
    query = valid_at(
        MEMBERS, (*names, "first_date", "last_date"), revision.dataset_id, revision.revision
    )
    members = [
        row for row in connection.execute(query) if row.asset_class == "EQUITY" and row.row_count
    ]
    if not members:
        raise DataError(f"dataset {revision.dataset_id} {_EMPTY}")
    # Sorted here: the order of text depends on the database's collation.
    members.sort(key=lambda row: str(row.instrument_id))
    first = min(row.first_date for row in members)
    last = max(row.last_date for row in members)
    return _Plan(
        revision,
        content_hash([_FORMAT, revision.dataset_id, revision.revision, revision.writer]),
        dataset["revision"] == revision.revision,
        MarketCalendar.of(dataset["market_id"]).between(first, last),
        tuple(row.instrument_id for row in members),
        tuple(row.series_id for row in members),
        tuple(row.sector for row in members),
    )


def _build(connection: Connection, plan: _Plan) -> FloatArray:
    """Return the (fields, T, N) array of the revision."""
    stack = np.full(plan.shape, np.nan)
    series = np.array(plan.series)
    order = np.argsort(series)
    days = plan.sessions.astype(np.int64)
    as_of = None if plan.newest else plan.revision.revision
    for keys, when, values in read_bars(connection, plan.series, BAR_FIELDS, as_of):
        columns = order[np.searchsorted(series, keys, sorter=order)]
        stack[: len(BAR_FIELDS), np.searchsorted(days, when), columns] = values.T
    split, dividend = (PANEL_FIELDS.index(name) for name in ACTION_FIELDS)
    stack[split], stack[dividend] = 1.0, 0.0
    column_of = {name: column for column, name in enumerate(plan.instruments)}
    for ex_date, instrument_id, action_type, value in _actions(connection, plan):
        row = int(np.searchsorted(plan.sessions, np.datetime64(ex_date, "D")))
        if ex_date < plan.sessions[0].astype(object) or row >= len(plan.sessions):
            continue
        column = column_of[instrument_id]
        if action_type == "SPLIT":
            stack[split, row, column] *= value
        else:
            stack[dividend, row, column] += value
    return stack


def _actions(connection: Connection, plan: _Plan) -> list[tuple[date, str, str, float]]:
    columns = ("ex_date", "instrument_id", "action_type", "value")
    query = valid_at(ACTIONS, columns, plan.dataset_id, plan.revision.revision)
    held = set(plan.instruments)
    # Sums and products of the same numbers in the same order: the same bytes on every engine.
    return sorted(
        (row[0], row[1], row[2], row[3]) for row in connection.execute(query) if row[1] in held
    )


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


def _remove_others(base: Path, dataset_id: str) -> None:
    ours = re.compile(rf"panel-{re.escape(dataset_id)}-[0-9a-f]{{16}}\.(npy|json)")
    for file in base.parent.iterdir():
        if ours.fullmatch(file.name) and file.stem != base.name:
            file.unlink(missing_ok=True)
