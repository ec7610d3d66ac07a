"""Continue a stored history: ask for what is not stored yet, and for all of it if it changed.

1. Without stored bars, or where the caller wants it, the whole history is read.
2. Otherwise two parts are asked for: what comes before the first stored session, and the last
   `OVERLAP` stored sessions with everything after them.
3. The whole history is read all the same if there are earlier bars, if rows cannot be read, or if
   the older half of the overlap is not what was stored: the source has restated its past.
   Differences in the newer half are ordinary late corrections.
4. Stored bars outside of what was asked for are handed on unchanged, so that whoever compares the
   result with the store finds new and changed bars only, and none that vanished.

Splits and dividends are always read whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from adapters.source import (
    PRICE_FIELDS,
    Action,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    PriceTable,
    RecentSource,
)
from prometheus_nt.domain.record import FloatArray, SessionArray

OVERLAP = 10

StoredBars = Callable[[str], tuple[SessionArray, FloatArray]]
"""Instrument id -> its stored sessions, and (sessions, `PRICE_FIELDS`) values."""


@dataclass(frozen=True)
class ContinuedSource:
    """A source whose instruments are read from where their stored history ends.

    Attributes
    ----------
    stored : callable
        May be called by several threads.
    whole : callable
        Whether an instrument's history is to be read whole all the same, because rows of it were
        left out earlier for example.
    """

    source: RecentSource
    stored: StoredBars
    whole: Callable[[str], bool]

    @property
    def info(self) -> DatasetInfo:
        return self.source.info

    def instruments(self) -> Sequence[InstrumentInfo]:
        return self.source.instruments()

    def refused(self) -> Sequence[Issue]:
        return self.source.refused()

    def actions(self, instrument_id: str) -> Sequence[Action]:
        return self.source.actions(instrument_id)

    def read(self, instrument_id: str) -> PriceTable:
        days, values = self.stored(instrument_id)
        stored = Stored(days, values)
        if len(days) > OVERLAP and not self.whole(instrument_id):
            newest = self._newest(instrument_id, stored)
            if newest is not None:
                since: date = days[-OVERLAP].astype(object)
                return stored.around(newest, since, self.source.last)
        whole = self.source.read(instrument_id)
        return stored.around(whole, self.source.first, self.source.last)

    def _newest(self, instrument_id: str, stored: "Stored") -> PriceTable | None:
        """Return the bars from the overlap on; None if the whole history is needed."""
        first, last = self.source.first, self.source.last
        start: date = stored.days[0].astype(object)
        since: date = stored.days[-OVERLAP].astype(object)
        if last is not None and last < stored.days[-1].astype(object):
            return None
        if first is None or first < start:
            earlier = self.source.read_part(instrument_id, first, start - timedelta(days=1))
            if len(earlier) or earlier.issues:
                return None
        elif first > since:
            return None
        newest = self.source.read_part(instrument_id, since, last)
        return None if newest.issues or stored.restated_by(newest) else newest


@dataclass(frozen=True, eq=False)
class Stored:
    """The stored bars of an instrument: (T,) days and (T, `PRICE_FIELDS`) values."""

    days: SessionArray
    values: FloatArray

    def restated_by(self, newest: PriceTable) -> bool:
        """Return whether the older half of the overlap is not what was stored."""
        older = slice(-OVERLAP, -OVERLAP // 2)
        rows = np.flatnonzero(np.isin(newest.dates, self.days[older]))
        if not np.array_equal(newest.dates[rows], self.days[older]):
            return True
        found = np.column_stack([getattr(newest, name)[rows] for name in PRICE_FIELDS])
        return not np.allclose(found, self.values[older], rtol=1e-9, atol=0.0, equal_nan=True)

    def around(self, table: PriceTable, first: date | None, last: date | None) -> PriceTable:
        """Return `table` with the stored bars before `first` and after `last` around it."""
        before, after = np.zeros((2, len(self.days)), dtype=bool)
        if first is not None:
            before = self.days < np.datetime64(first, "D")
        if last is not None:
            after = self.days > np.datetime64(last, "D")
        columns: dict[str, Any] = {
            name: np.concatenate(
                [self.values[before, at], getattr(table, name), self.values[after, at]]
            )
            for at, name in enumerate(PRICE_FIELDS)
        }
        return replace(
            table,
            dates=np.concatenate([self.days[before], table.dates, self.days[after]]),
            # No row of the answer: these bars were not part of it.
            source_rows=np.concatenate(
                [np.zeros(before.sum(), int), table.source_rows, np.zeros(after.sum(), int)]
            ),
            **columns,
        )
