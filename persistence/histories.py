"""Write the bars and actions of several instruments at once: what is new or different, only.

1. `_compare_bars` reads the stored bars of the instruments in one query and compares them as
   arrays: which rows are new, which replace one, which the source has lost.
2. `_compare_actions` does the same with splits and dividends, which are few.
3. If there is anything to write, `begin_revision` says into which revision; `_apply_bars` and
   `_apply_actions` move what is replaced to the history and insert the rest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, and_, select, tuple_

from persistence.bars import NUMBERS, Bars, insert_bars, read_bars, supersede_bars
from persistence.database import upsert
from persistence.members import cover, members_of
from persistence.revisions import Writer, begin_revision, count_changes, supersede
from persistence.tables import historical as tables
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, StoreError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray

INFERRED = "inferred"
"""Source of an action that was derived from prices, not recorded."""

ACTIONS = (tables.corporate_actions, tables.corporate_actions_history)

_DAY_BITS, _FIRST_DAY = 32, 1 << 31
"""A series and a day make one sortable number; days before 1970 are negative."""

Fact = Mapping[str, Any]
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class History:
    """What one instrument brings.

    Attributes
    ----------
    prices : mapping of arrays or None
        `trade_date` (datetime64[D], ascending sessions) and every one of `PRICE_COLUMNS`.
        None leaves the stored bars alone.
    actions : sequence of mappings or None
        ex_date, action_type, value, source: all there are. None leaves the stored ones alone.
    """

    instrument_id: str
    prices: Columns | None = None
    actions: Sequence[Fact] | None = None
    currency: str = "USD"


@dataclass(frozen=True)
class Written:
    """What a write really did: rows new or changed, and what the source no longer has."""

    rows: int
    vanished: tuple[date, ...] = ()
    vanished_actions: tuple[date, ...] = ()


@dataclass(frozen=True, eq=False)
class _Given:
    """The bars that came, row by row; `owner` is the position of their history."""

    owner: IntArray
    series: IntArray
    days: IntArray
    values: FloatArray

    @property
    def keys(self) -> IntArray:
        return bar_keys(self.series, self.days)


@dataclass(frozen=True, eq=False)
class _BarChanges:
    """Which rows of `given` are new or replace a stored one, and the keys that were lost."""

    given: _Given
    new: BoolArray
    replaced: BoolArray
    lost: IntArray

    @property
    def changed(self) -> IntArray:
        return np.flatnonzero(self.new | self.replaced)


ActionKey = tuple[str, date, str]


@dataclass(frozen=True, eq=False)
class _ActionChanges:
    """Actions to write, by instrument, ex-date and type; those to remove; those that were lost."""

    written: dict[ActionKey, tuple[float, str]]
    replaced: list[ActionKey]
    removed: list[ActionKey]
    lost: list[ActionKey]


def write_histories(
    connection: Connection,
    dataset: Mapping[str, Any],
    histories: Sequence[History],
    writer: Writer,
) -> list[Written]:
    """Store what is new or different; return what happened to each of the histories.

    Parameters
    ----------
    histories : sequence of History
        Each of another instrument.
    """
    dataset_id, calendar = dataset["dataset_id"], MarketCalendar.of(dataset["market_id"])
    members = members_of(connection, dataset_id, [each.instrument_id for each in histories])
    for history in histories:
        _require_usable(dataset_id, history, members)
    bars = _compare_bars(connection, histories, members)
    actions = _compare_actions(connection, dataset_id, histories)
    touched = len(bars.changed) + len(actions.written) + len(actions.removed)
    if touched:
        revision = begin_revision(connection, dataset_id, writer)
        count_changes(connection, dataset_id, revision, touched)
        _apply_bars(connection, bars, calendar, revision)
        _cover(connection, dataset_id, histories, (members, bars), revision)
        _apply_actions(connection, dataset_id, actions, calendar, revision)
    return _written(histories, members, bars, actions)


def _require_usable(dataset_id: str, history: History, members: Mapping[str, Row[Any]]) -> None:
    instrument_id, prices = history.instrument_id, history.prices
    if instrument_id not in members:
        raise StoreError(f"{instrument_id} is no instrument of {dataset_id}; write it there first")
    if prices is not None and not (np.diff(prices["trade_date"]) > np.timedelta64(0)).all():
        raise DataError(f"{instrument_id}: the sessions of its bars must ascend without duplicates")


def _compare_bars(
    connection: Connection, histories: Sequence[History], members: Mapping[str, Row[Any]]
) -> _BarChanges:
    given = _given(histories, members)
    series = np.unique(given.series)
    known = {row.series_id for row in members.values() if row.row_count}
    stored_keys, stored = stored_bars(connection, [key for key in series.tolist() if key in known])
    keys = given.keys
    if not len(stored_keys):
        every = np.ones(len(keys), dtype=bool)
        return _BarChanges(given, every, ~every, stored_keys)
    rows = np.minimum(np.searchsorted(stored_keys, keys), len(stored_keys) - 1)
    exists, there = stored_keys[rows] == keys, stored[rows]
    same = (given.values == there) | (np.isnan(given.values) & np.isnan(there))
    lost = np.setdiff1d(stored_keys, keys, assume_unique=True)
    return _BarChanges(given, ~exists, exists & ~same.all(axis=1), lost)


def _given(histories: Sequence[History], members: Mapping[str, Row[Any]]) -> _Given:
    brought = [
        (position, members[history.instrument_id].series_id, history.prices)
        for position, history in enumerate(histories)
        if history.prices is not None
    ]
    lengths = [len(prices["trade_date"]) for _, _, prices in brought]
    columns = [
        np.concatenate([np.asarray(prices[name], np.float64) for _, _, prices in brought])
        if brought
        else np.empty(0)
        for name in NUMBERS
    ]
    days = [prices["trade_date"].astype("datetime64[D]") for _, _, prices in brought]
    return _Given(
        np.repeat(np.array([position for position, _, _ in brought], dtype=np.int64), lengths),
        np.repeat(np.array([series for _, series, _ in brought], dtype=np.int64), lengths),
        np.concatenate(days).astype(np.int64) if days else np.empty(0, dtype=np.int64),
        np.column_stack(columns),
    )


def stored_bars(connection: Connection, series: Sequence[int]) -> tuple[IntArray, FloatArray]:
    """Return the keys of the bars of `series`, ascending, and their (n, `NUMBERS`) values."""
    batches = list(read_bars(connection, series))
    if not batches:
        return np.empty(0, dtype=np.int64), np.empty((0, len(NUMBERS)))
    keys = np.concatenate([bar_keys(each, days) for each, days, _ in batches])
    values = np.concatenate([values for _, _, values in batches])
    # PostgreSQL promises no order without being asked, and asking costs it more than this.
    if (np.diff(keys) > 0).all():
        return keys, values
    order = np.argsort(keys)
    return keys[order], values[order]


def bar_keys(series: IntArray, days: IntArray) -> IntArray:
    """Return one sortable number per series and day since 1970-01-01."""
    return (series << _DAY_BITS) + (days + _FIRST_DAY)


def series_of(keys: IntArray) -> IntArray:
    """Return the series of keys."""
    return keys >> _DAY_BITS


def days_of(keys: IntArray) -> SessionArray:
    """Return the days of keys, datetime64[D]."""
    return (keys - (series_of(keys) << _DAY_BITS) - _FIRST_DAY).astype("datetime64[D]")


def _apply_bars(
    connection: Connection, bars: _BarChanges, calendar: MarketCalendar, revision: int
) -> None:
    given, replaced, rows = bars.given, np.flatnonzero(bars.replaced), bars.changed
    days = given.days[rows].astype("datetime64[D]")
    closes = calendar.closes_ns[calendar.rows(days)] // 1_000_000_000
    supersede_bars(connection, given.series[replaced], given.days[replaced], revision)
    changed = Bars(given.series[rows], given.days[rows], given.values[rows], closes)
    insert_bars(connection, changed, revision)


def _cover(
    connection: Connection,
    dataset_id: str,
    histories: Sequence[History],
    found: tuple[Mapping[str, Row[Any]], _BarChanges],
    revision: int,
) -> None:
    members, bars = found
    now, rows = datetime.now(UTC), []
    owners, starts, counts = np.unique(
        bars.given.owner[bars.changed], return_index=True, return_counts=True
    )
    ends = starts + counts - 1
    new = np.bincount(bars.given.owner[bars.new], minlength=len(histories))
    days = bars.given.days[bars.changed].astype("datetime64[D]")
    for owner, start, end in zip(owners.tolist(), starts, ends, strict=True):
        history = histories[owner]
        before = members[history.instrument_id]
        first, last = days[start].astype(object), days[end].astype(object)
        first = min(first, before.first_date or first)
        last = max(last, before.last_date or last)
        count = before.row_count + int(new[owner])
        rows.append((history.instrument_id, first, last, count, history.currency, now))
    if rows:
        cover(connection, dataset_id, rows, revision)


def _compare_actions(
    connection: Connection, dataset_id: str, histories: Sequence[History]
) -> _ActionChanges:
    given = {each.instrument_id: each.actions for each in histories if each.actions is not None}
    table = tables.corporate_actions.c
    query = select(
        table.instrument_id, table.ex_date, table.action_type, table.value, table.source
    ).where(table.dataset_id == dataset_id, table.instrument_id.in_(list(given)))
    stored = {(row[0], row[1], row[2]): (row[3], row[4]) for row in connection.execute(query)}
    wanted = {
        (name, fact["ex_date"], str(fact["action_type"])): (fact["value"], fact["source"])
        for name, facts in given.items()
        for fact in facts
    }
    written = {key: value for key, value in wanted.items() if stored.get(key) != value}
    gone = [key for key in stored if key not in wanted]
    # What was inferred from prices is no record of its own: better prices replace it.
    removed = [key for key in gone if stored[key][1] == INFERRED]
    lost = sorted(key for key in gone if stored[key][1] != INFERRED)
    return _ActionChanges(written, [key for key in written if key in stored], removed, lost)


def _apply_actions(
    connection: Connection,
    dataset_id: str,
    actions: _ActionChanges,
    calendar: MarketCalendar,
    revision: int,
) -> None:
    for keys, remove in ((actions.replaced, False), (actions.removed, True)):
        if keys:
            chosen = _chosen(dataset_id, keys)
            supersede(connection, ACTIONS, chosen, revision, remove=remove)
    now, rows = datetime.now(UTC), []
    for (name, ex_date, action_type), (value, source) in actions.written.items():
        known_at = calendar.close_time(calendar.previous_session(ex_date))
        action = (name, ex_date, action_type, value, source)
        rows.append((dataset_id, *action, known_at, now, revision))
    key = ("dataset_id", "instrument_id", "ex_date", "action_type")
    columns = (*key, "value", "source", "known_at", "ingested_at", "revision")
    if rows:
        upsert(connection, tables.corporate_actions, columns, rows)


def _chosen(dataset_id: str, keys: Sequence[ActionKey]) -> ColumnElement[bool]:
    table = tables.corporate_actions.c
    key = tuple_(table.instrument_id, table.ex_date, table.action_type)
    return and_(table.dataset_id == dataset_id, key.in_(keys))


def _written(
    histories: Sequence[History],
    members: Mapping[str, Row[Any]],
    bars: _BarChanges,
    actions: _ActionChanges,
) -> list[Written]:
    counts = np.bincount(bars.given.owner[bars.changed], minlength=len(histories))
    acted = Counter(name for name, _, _ in (*actions.written, *actions.removed))
    lost_series, lost_days = series_of(bars.lost), days_of(bars.lost)
    results = []
    for history, count in zip(histories, counts.tolist(), strict=True):
        name = history.instrument_id
        vanished = lost_days[lost_series == members[name].series_id].tolist()
        gone = tuple(ex_date for owner, ex_date, _ in actions.lost if owner == name)
        results.append(Written(count + acted[name], tuple(vanished), gone))
    return results
