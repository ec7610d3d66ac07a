"""What changed in a dataset between two of its revisions.

Bars are compared as arrays: those valid at one revision only, paired by instrument and day. Actions
and sectors are few and compared as they are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table

from persistence.bars import NUMBERS, Valid, read_bars_between
from persistence.historical import HistoricalStore, require_dataset
from persistence.histories import ACTIONS, bar_keys, days_of, series_of
from persistence.members import MEMBERS
from persistence.revisions import Revision, require_revision, valid_at
from prometheus_nt.domain.record import FloatArray, IntArray


@dataclass(frozen=True)
class Change:
    """One fact that differs; `old` or `new` is None where it was not there or not known.

    Attributes
    ----------
    kind : `added`, `changed` or `removed`
    field : a number of a bar, `bar` for a whole one (its close is shown), `split`, `dividend`,
        `sector`, `asset_class`
    """

    instrument_id: str
    date: date | None
    field: str
    kind: str
    old: float | str | None
    new: float | str | None


@dataclass(frozen=True)
class ChangeCount:
    """How many facts of one kind differ of one instrument, and from when to when."""

    instrument_id: str
    field: str
    kind: str
    changes: int
    first: date | None
    last: date | None


@dataclass(frozen=True)
class Difference:
    """What differs between revision `before` and revision `after`.

    Attributes
    ----------
    changes : the first ones, by instrument; `complete` if they are all
    counts : how many bars, actions and sectors differ, per instrument and kind
    """

    before: Revision
    after: Revision
    changes: tuple[Change, ...]
    complete: bool
    counts: tuple[ChangeCount, ...]

    @property
    def total(self) -> int:
        return sum(count.changes for count in self.counts)


def difference(
    store: HistoricalStore,
    dataset_id: str,
    before: int | str,
    after: int | str | None = None,
    limit: int = 1000,
) -> Difference:
    """Return what differs between two revisions, given by number or by fingerprint.

    Parameters
    ----------
    after : int or str, optional
        The newest revision by default.
    limit : int
        Changes that are listed one by one; all are counted.

    Raises
    ------
    StoreError
        If there is no such dataset or revision.
    """
    with store.database.reader() as connection:
        dataset = require_dataset(connection, dataset_id)
        wanted = dataset["revision"] if after is None else after
        pair = (
            require_revision(connection, dataset, before),
            require_revision(connection, dataset, wanted),
        )
        bars = _bar_changes(connection, pair)
        facts = sorted(_fact_changes(connection, pair), key=_place)
    listed = [*facts, *islice(bars.listed(), limit + 1)]
    listed.sort(key=_place)
    counted = [*_counted(facts), *bars.counted()]
    counted.sort(key=lambda count: (count.instrument_id, count.kind, count.field))
    return Difference(*pair, tuple(listed[:limit]), len(listed) <= limit, tuple(counted))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Bars by ascending key of series and day."""

    keys: IntArray
    values: FloatArray

    @classmethod
    def of(cls, batches: list[Valid]) -> "_Rows":
        if not batches:
            return cls(np.empty(0, dtype=np.int64), np.empty((0, len(NUMBERS))))
        keys = np.concatenate([bar_keys(series, days) for series, days, _ in batches])
        order = np.argsort(keys)
        return cls(keys[order], np.concatenate([values for _, _, values in batches])[order])

    def at(self, keys: IntArray) -> FloatArray:
        """Return the numbers of some of the keys."""
        return self.values[np.searchsorted(self.keys, keys)]


@dataclass(frozen=True, eq=False)
class _BarChanges:
    """Bars that are valid at one of two revisions only; `names` is by series."""

    old: _Rows
    new: _Rows
    names: Mapping[int, str]

    def listed(self) -> Iterator[Change]:
        """Yield every change, by instrument and day."""
        keys = np.union1d(self.old.keys, self.new.keys)
        series = series_of(keys)
        for one in sorted(np.unique(series).tolist(), key=lambda key: self.names[key]):
            first, last = np.searchsorted(series, [one, one + 1])
            for place in range(int(first), int(last)):
                yield from self._changes(self.names[one], keys[place : place + 1])

    def counted(self) -> Iterator[ChangeCount]:
        """Yield the numbers of bars per instrument that were added, changed and removed."""
        kinds = {
            "added": np.setdiff1d(self.new.keys, self.old.keys, assume_unique=True),
            "changed": np.intersect1d(self.new.keys, self.old.keys, assume_unique=True),
            "removed": np.setdiff1d(self.old.keys, self.new.keys, assume_unique=True),
        }
        for kind, keys in kinds.items():
            found, starts, counts = np.unique(
                series_of(keys), return_index=True, return_counts=True
            )
            days = days_of(keys).tolist()
            for one, start, count in zip(
                found.tolist(), starts.tolist(), counts.tolist(), strict=True
            ):
                last = days[start + count - 1]
                yield ChangeCount(self.names[one], "bar", kind, count, days[start], last)

    def _changes(self, name: str, key: IntArray) -> Iterator[Change]:
        """Yield what differs of one bar; `key` has one entry."""
        (day,) = days_of(key).tolist()
        is_old, is_new = (bool(np.isin(key, rows.keys)[0]) for rows in (self.old, self.new))
        if not is_old or not is_new:
            close = float((self.new if is_new else self.old).at(key)[0, NUMBERS.index("close")])
            kind = "added" if is_new else "removed"
            yield Change(name, day, "bar", kind, *((None, close) if is_new else (close, None)))
            return
        old, new = self.old.at(key)[0].tolist(), self.new.at(key)[0].tolist()
        for number, before, after in zip(NUMBERS, old, new, strict=True):
            if _known(before) != _known(after):
                yield Change(name, day, number, "changed", _known(before), _known(after))


def _bar_changes(connection: Connection, pair: tuple[Revision, Revision]) -> _BarChanges:
    low, high = sorted(each.revision for each in pair)
    names: dict[int, str] = {}
    for revision in pair:
        query = valid_at(
            MEMBERS, ("series_id", "instrument_id"), revision.dataset_id, revision.revision
        )
        names |= {row.series_id: row.instrument_id for row in connection.execute(query)}
    gone, came = (_Rows.of(rows) for rows in read_bars_between(connection, list(names), low, high))
    forward = pair[0].revision == low
    return _BarChanges(gone if forward else came, came if forward else gone, names)


def _fact_changes(connection: Connection, pair: tuple[Revision, Revision]) -> Iterator[Change]:
    """Yield the actions and sectors that differ."""
    for tables, key, value in (
        (ACTIONS, ("instrument_id", "ex_date", "action_type"), "value"),
        (MEMBERS, ("instrument_id",), "sector"),
        (MEMBERS, ("instrument_id",), "asset_class"),
    ):
        old, new = (_state(connection, tables, (*key, value), each) for each in pair)
        for fact in old.keys() | new.keys():
            before, after = old.get(fact), new.get(fact)
            if before != after:
                day, name = (fact[1], fact[2].lower()) if len(fact) == 3 else (None, value)
                yield Change(fact[0], day, name, _kind(before, after), before, after)


def _state(
    connection: Connection,
    pair: tuple[Table, Table],
    columns: tuple[str, ...],
    revision: Revision,
) -> dict[tuple[Any, ...], Any]:
    query = valid_at(pair, columns, revision.dataset_id, revision.revision)
    return {tuple(row[:-1]): row[-1] for row in connection.execute(query)}


def _counted(changes: list[Change]) -> Iterator[ChangeCount]:
    groups = Counter((each.instrument_id, each.field, each.kind) for each in changes)
    for (name, what, kind), count in groups.items():
        days = [
            each.date
            for each in changes
            if (each.instrument_id, each.field, each.kind) == (name, what, kind) and each.date
        ]
        first, last = min(days, default=None), max(days, default=None)
        yield ChangeCount(name, what, kind, count, first, last)


def _kind(before: object, after: object) -> str:
    if before is None:
        return "added"
    return "removed" if after is None else "changed"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _place(change: Change) -> tuple[str, date, str]:
    return change.instrument_id, change.date or date.min, change.field
