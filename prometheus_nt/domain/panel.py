"""The market panel: aligned history that ends at `as_of`, and nothing after it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from prometheus_nt.domain.errors import DataError, LookAheadError
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.record import BoolArray, FloatArray, SessionArray, content_hash
from prometheus_nt.domain.sectors import SectorHistory, Sectors

BAR_FIELDS = ("open", "high", "low", "close", "volume")
ACTION_FIELDS = ("split", "dividend")
PANEL_FIELDS = BAR_FIELDS + ACTION_FIELDS

Causal = Callable[..., FloatArray]
"""A function of a panel whose row t uses rows up to t only: it returns a (T, N) array."""

CausalRows = Callable[..., FloatArray]
"""The same of some rows alone: handed a panel and (R,) ascending rows, it returns (R, ...)."""

SESSIONS_AHEAD = 16
"""Sessions computed at a time by `newest`: their temporaries then fit the processor's cache."""


@dataclass(frozen=True, eq=False)
class MarketPanel:
    """Aligned daily history of N instruments over T sessions, read-only.

    Prices and volume are as traded on the day; NaN where the instrument did not trade.

    Attributes
    ----------
    sessions : (T,) array of datetime64[D]
    instruments : tuple of N instrument ids
    open, high, low, close : (T, N) arrays, currency per share as traded
    volume : (T, N) array, shares as traded; NaN where the source has none
    split : (T, N) array
        New shares per old share, effective at the session's open; 1 on ordinary days.
    dividend : (T, N) array
        Cash per share (after that session's split) to whoever held at the previous close.
    fingerprint : str
        Content hash of the whole panel that this view was cut from.
    sectors : tuple of N sector names, None where unknown; empty if none is known
        As known at the panel's end: taken from `sector_history` where there is one.
    sector_history : SectorHistory or None
        The sectors as they were known on each session; None where they carry no date.
    membership : (T, N) bool array or None
        True on the sessions on which an instrument belonged to the index the panel is about, as
        known on that day; None where no index is kept.
    facts : Facts or None
        Fundamentals, each with the day it became known; a view holds what was known at its end.
        `derived` is handed the whole history, and has to look at `known_at` itself.
    """

    sessions: SessionArray
    instruments: tuple[str, ...]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    split: FloatArray
    dividend: FloatArray
    fingerprint: str
    sectors: Sectors = ()
    sector_history: SectorHistory | None = None
    membership: BoolArray | None = None
    facts: Facts | None = None
    _wall: "_Wall | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._wall is not None:
            return  # a view is cut from arrays that were checked and made read-only before
        shape = (len(self.sessions), len(self.instruments))
        for name in PANEL_FIELDS:
            array = getattr(self, name)
            if array.shape != shape:
                raise DataError(f"panel.{name}: expected shape {shape}, found {array.shape}")
            array.flags.writeable = False
        if self.membership is not None:
            if self.membership.shape != shape:
                found = self.membership.shape
                raise DataError(f"panel.membership: expected shape {shape}, found {found}")
            self.membership.flags.writeable = False
        self.sessions.flags.writeable = False
        self._check_sectors()
        if len(self.sessions) > 1 and not (np.diff(self.sessions) > np.timedelta64(0)).all():
            raise DataError("panel.sessions: must ascend without duplicates")
        object.__setattr__(self, "_wall", _Wall(self, 0, len(self.sessions)))

    def _check_sectors(self) -> None:
        if self.sector_history is not None and len(self.sessions):
            self.sector_history.at(self.sessions[0])  # or it begins too late
            object.__setattr__(self, "sectors", self.sector_history.at(self.sessions[-1]))
        names = len(self.instruments)
        if len(self.sectors) not in (0, names):
            raise DataError(f"panel.sectors: expected {names}, found {len(self.sectors)}")

    def __len__(self) -> int:
        return len(self.sessions)

    @cached_property
    def as_of(self) -> date:
        """The newest session whose close this panel contains."""
        if not len(self.sessions):
            raise DataError("an empty panel has no `as_of`")
        session: date = self.sessions[-1].astype(object)
        return session

    def until(self, session: date) -> "MarketPanel":
        """Return the view that ends at the close of `session`, without copying.

        Raises
        ------
        LookAheadError
            If `session` is later than this panel's own `as_of`.
        DataError
            If `session` is not a session of this panel.
        """
        if session > self.as_of:
            raise LookAheadError(f"asked for {session} of a panel that ends at {self.as_of}")
        row = int(np.searchsorted(self.sessions, np.datetime64(session, "D")))
        if self.sessions[row] != np.datetime64(session, "D"):
            raise DataError(f"{session} is not a session of this panel")
        return self._cut(0, row + 1)

    def sectors_at(self, row: int) -> Sectors:
        """Return the sectors as known at the close of a row; where they carry no date, all alike.

        An array that a causal function derives of the whole history must not use `sectors`: those
        are of its end.
        """
        if self.sector_history is None:
            return self.sectors
        return self.sector_history.at(self.sessions[row])

    def sector_spans(self) -> list[tuple[int, int]]:
        """Return the first row, and the row after the last, of each span without a change."""
        if self.sector_history is None or not len(self):
            return [(0, len(self))]
        starts = np.searchsorted(self.sessions, self.sector_history.since)
        edges = np.unique(np.concatenate(([0], starts[starts < len(self)], [len(self)]))).tolist()
        return list(pairwise(edges))

    def last(self, sessions: int) -> "MarketPanel":
        """Return the view of the newest `sessions` rows (all of them if there are fewer)."""
        return self._cut(max(0, len(self) - sessions), len(self))

    def select(self, instruments: tuple[str, ...]) -> "MarketPanel":
        """Return a panel of these instruments alone, in the order given; the arrays are copies.

        Raises
        ------
        DataError
            If one of them is not in the panel.
        """
        if instruments == self.instruments:
            return self
        columns = {name: column for column, name in enumerate(self.instruments)}
        missing = [name for name in instruments if name not in columns]
        if missing:
            raise DataError(f"instruments: not in the panel: {', '.join(missing)}")
        chosen = [columns[name] for name in instruments]
        arrays = {name: getattr(self, name)[:, chosen] for name in PANEL_FIELDS}
        return MarketPanel(
            sessions=self.sessions,
            instruments=instruments,
            fingerprint=content_hash([self.fingerprint, instruments]),
            sectors=tuple(self.sectors[column] for column in chosen) if self.sectors else (),
            sector_history=self.sector_history and self.sector_history.select(chosen),
            membership=None if self.membership is None else self.membership[:, chosen],
            facts=None if self.facts is None else self.facts.select(chosen),
            **arrays,
        )

    def derived(self, causal: Causal, *args: Any) -> FloatArray:
        """Return the rows of `causal(panel, *args)` that belong to this view, read-only.

        The array is computed once for the whole history behind every view and then only cut,
        so a causal function costs its time once per run, not once per session. That `causal`
        really uses no later row is what the future-perturbation tests prove.
        """
        assert self._wall is not None
        return self._wall.rows(causal, args)

    def newest(self, causal: CausalRows, *args: Any) -> FloatArray:
        """Return a copy of the row of `causal(panel, rows, *args)` that belongs to `as_of`.

        The rows it is asked for together lie in one of the panel's `sector_spans`.

        For what needs no past results of its own and is asked for at the close alone: sessions are
        computed a few at a time, which costs little more than one, and forgotten as time goes on.
        """
        assert self._wall is not None
        return self._wall.newest(causal, args)

    def derivations(self) -> dict[tuple[Any, ...], FloatArray]:
        """Return every array derived so far, cut to this view, by function and arguments."""
        assert self._wall is not None
        return self._wall.made()

    def _cut(self, start: int, stop: int) -> "MarketPanel":
        assert self._wall is not None
        arrays = {name: getattr(self, name)[start:stop] for name in PANEL_FIELDS}
        facts, history = None, None
        if stop > start:
            end = self.sessions[stop - 1]
            facts = self.facts and self.facts.until(end.astype(object))
            history = self.sector_history and self.sector_history.until(end)
        return MarketPanel(
            sessions=self.sessions[start:stop],
            instruments=self.instruments,
            fingerprint=self.fingerprint,
            sectors=self.sectors if history is None else history.at(history.since[-1]),
            sector_history=history,
            membership=None if self.membership is None else self.membership[start:stop],
            facts=facts,
            _wall=self._wall.moved(start, stop),
            **arrays,
        )


class _Wall:
    """The rows of the whole history that one view may see, and the arrays derived from it."""

    __slots__ = ("_cache", "_few", "_start", "_stop", "_whole")

    def __init__(
        self, whole: MarketPanel, start: int, stop: int, before: "_Wall | None" = None
    ) -> None:
        self._whole, self._start, self._stop = whole, start, stop
        self._cache: dict[tuple[Any, ...], FloatArray] = before._cache if before else {}
        self._few: dict[tuple[Any, ...], tuple[int, FloatArray]] = before._few if before else {}

    def moved(self, start: int, stop: int) -> "_Wall":
        return _Wall(self._whole, self._start + start, self._start + stop, self)

    def rows(self, causal: Causal, args: tuple[Any, ...]) -> FloatArray:
        key = (causal, *args)
        # Looked up once: the hash of an engine's settings takes longer than the rest.
        array = self._cache.get(key)
        if array is None:
            array = self._checked(causal, causal(self._whole, *args), len(self._whole))
            self._cache[key] = array
        return array[self._start : self._stop]

    def newest(self, causal: CausalRows, args: tuple[Any, ...]) -> FloatArray:
        key, row = (causal, *args), self._stop - 1
        first, array = self._few.get(key, (row + 1, None))
        if array is None or not first <= row < first + len(array):
            first, after = self._block(row)
            rows = np.arange(first, after)
            array = self._checked(causal, causal(self._whole, rows, *args), len(rows))
            self._few[key] = first, array
        # A copy: who keeps one session must not keep those beside it.
        newest: FloatArray = array[row - first].copy()
        return newest

    def _block(self, row: int) -> tuple[int, int]:
        """Return the rows to compute with `row`: a few, all with the same sectors."""
        first = row - row % SESSIONS_AHEAD
        after = min(first + SESSIONS_AHEAD, len(self._whole))
        if self._whole.sector_history is None:
            return first, after
        (span,) = (span for span in self._whole.sector_spans() if span[0] <= row < span[1])
        return max(first, span[0]), min(after, span[1])

    def made(self) -> dict[tuple[Any, ...], FloatArray]:
        return {key: array[self._start : self._stop] for key, array in self._cache.items()}

    @staticmethod
    def _checked(causal: Causal, derived: FloatArray, expected: int) -> FloatArray:
        array = np.asarray(derived)
        if array.shape[0] != expected:
            found = array.shape[0]
            raise DataError(f"{causal.__name__}: expected {expected} rows, found {found}")
        array.flags.writeable = False
        return array
