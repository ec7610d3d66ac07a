"""How healthy a stored history is, instrument by instrument and against another source.

1. `judge` compares the sessions that are stored of an instrument with those of its calendar.
2. `bar_coverage` counts, of the instruments expected at a session, those whose bar is there: the
   one rule by which a day, a paper node and an audit call a session complete.
3. `disagreements` compares the total returns of two panels over the sessions both have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
from pydantic import Field

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params, SessionArray
from prometheus_nt.engines.numerics.returns import has_bar, total_return_index

ALIVE_WITHIN = 10
"""Sessions by which an instrument may be silent longer than the others and still be expected."""


class Health(StrEnum):
    """What is wrong with the stored history of an instrument.

    MISSING: no bar at all. DROPPED: bars were offered, and every one was quarantined. STALE: the
    newest bar is too old. DEGRADED: too many sessions in a row are missing inside the history.
    """

    OK = "OK"
    MISSING = "MISSING"
    DROPPED = "DROPPED"
    STALE = "STALE"
    DEGRADED = "DEGRADED"


class HealthParams(Params):
    """What is still healthy.

    max_age : sessions of the instrument's own calendar that its newest bar may be behind.
    tolerated_gap : missing sessions in a row that are forgiven; a name may be halted for a day.
    coverage : share of the expected instruments that a session needs before it is ready.
    disagreement : relative difference of two sources' total returns that is worth a look.
    """

    max_age: int = Field(0, ge=0)
    tolerated_gap: int = Field(1, ge=0)
    coverage: float = Field(0.95, gt=0, le=1)
    disagreement: float = Field(0.02, gt=0)


@dataclass(frozen=True)
class Gap:
    """Missing sessions in a row."""

    first: date
    last: date
    sessions: int


@dataclass(frozen=True, eq=False)
class Holding:
    """What is stored of an instrument up to a session.

    Attributes
    ----------
    sessions : (S,) array of datetime64[D] or None
        Sessions with a bar, ascending; None stands for every session from `first` to `last`.
    quarantined : int
        Findings because of which a row, or the whole source of it, was left out.
    """

    instrument_id: str
    first: date | None
    last: date | None
    bars: int
    delisted: bool = False
    quarantined: int = 0
    sessions: SessionArray | None = None


@dataclass(frozen=True)
class Verdict:
    """How healthy an instrument is, and why.

    Attributes
    ----------
    age : int or None
        Sessions from the newest bar to `as_of`; None without a bar, and for the delisted.
    gaps : tuple of Gap
        All of them, forgiven or not.
    """

    instrument_id: str
    health: Health
    last: date | None
    age: int | None
    bars: int
    gaps: tuple[Gap, ...]
    quarantined: int
    reason: str


def judge(holding: Holding, calendar: MarketCalendar, as_of: date, params: HealthParams) -> Verdict:
    """Return the verdict about one instrument; the gravest fault gives its name."""
    if holding.last is None or holding.first is None:
        return _without_bars(holding)
    gaps = _gaps(holding, calendar)
    age = None if holding.delisted else len(calendar.between(holding.last, as_of)) - 1
    longest = max(gaps, key=lambda gap: gap.sessions, default=None)
    health, reason = Health.OK, ""
    if age is not None and age > params.max_age:
        health = Health.STALE
        reason = f"newest bar is {age} sessions old, {params.max_age} are allowed"
    elif longest is not None and longest.sessions > params.tolerated_gap:
        health = Health.DEGRADED
        reason = (
            f"{longest.sessions} sessions in a row are missing, {longest.first} to {longest.last};"
            f" {params.tolerated_gap} are forgiven"
        )
    elif holding.quarantined:
        reason = f"{holding.quarantined} quarantined"
    elif holding.delisted:
        reason = "delisted"
    return Verdict(
        holding.instrument_id,
        health,
        holding.last,
        age,
        holding.bars,
        gaps,
        holding.quarantined,
        reason,
    )


def coverage(holdings: Sequence[Holding], as_of: date, calendar: MarketCalendar) -> tuple[int, int]:
    """Return how many instruments have the bar of `as_of`, and how many should."""
    newest = np.array([each.last for each in holdings], dtype="datetime64[D]")
    gone = np.array([each.delisted for each in holdings], dtype=bool)
    return bar_coverage(newest, gone, as_of, calendar)


def bar_coverage(
    newest: SessionArray, gone: BoolArray, as_of: date, calendar: MarketCalendar
) -> tuple[int, int]:
    """Return how many instruments have the bar of `as_of`, and how many should.

    Expected are those that have it, and those whose listing has not ended, unless they have been
    silent for `ALIVE_WITHIN` sessions longer than half of the others: they will not come today
    either, and an audit calls them stale. A source that fails for most is waited for without end.

    Parameters
    ----------
    newest : (N,) array
        The newest bar until `as_of` of every instrument that is listed by then; NaT is expected
        as well, for its first bar did not come.
    gone : (N,) array
        Whose listing is recorded to have ended.
    """
    here = newest == np.datetime64(as_of, "D")
    never = np.isnat(newest)
    alive, known = never.copy(), np.sort(newest[~never & ~gone])
    if known.size:
        usual = int(np.searchsorted(calendar.sessions, known[known.size // 2]))
        alive |= newest >= calendar.sessions[max(0, usual - ALIVE_WITHIN + 1)]
    return int(here.sum()), int((here | (alive & ~gone)).sum())


@dataclass(frozen=True)
class Disagreement:
    """One session on which two sources give an instrument different total returns."""

    instrument_id: str
    session: date
    ours: float
    theirs: float


def disagreements(
    ours: MarketPanel, theirs: MarketPanel, as_of: date, bound: float
) -> tuple[list[Disagreement], int]:
    """Return where total returns differ by more than `bound`, and how many were compared.

    A return reaches back to the last session on which both sources have a bar, so that a session
    that one of them lacks makes no difference by itself.
    """
    names = tuple(name for name in ours.instruments if name in set(theirs.instruments))
    sessions = np.intersect1d(ours.sessions, theirs.sessions)
    sessions = sessions[sessions <= np.datetime64(as_of, "D")]
    if not names or not len(sessions):
        return [], 0
    a, b = _index(ours, names, sessions), _index(theirs, names, sessions)
    both = np.isfinite(a) & np.isfinite(b)
    before = _last_row_before(both)
    compared = both & (before >= 0)
    start = np.maximum(before, 0)
    grown_a = a / np.take_along_axis(a, start, axis=0)
    grown_b = b / np.take_along_axis(b, start, axis=0)
    beyond = compared & (np.abs(grown_a / grown_b - 1) > bound)
    found = [
        Disagreement(
            names[column],
            sessions[row].astype(object),
            float(grown_a[row, column] - 1),
            float(grown_b[row, column] - 1),
        )
        for column, row in np.argwhere(beyond.T)
    ]
    return found, int(compared.sum())


def _without_bars(holding: Holding) -> Verdict:
    health = Health.DROPPED if holding.quarantined else Health.MISSING
    reason = "no bar is stored"
    if holding.quarantined:
        reason = f"no bar is left: {holding.quarantined} findings quarantined all there was"
    return Verdict(holding.instrument_id, health, None, None, 0, (), holding.quarantined, reason)


def _gaps(holding: Holding, calendar: MarketCalendar) -> tuple[Gap, ...]:
    if holding.sessions is None or holding.first is None or holding.last is None:
        return ()
    expected = calendar.between(holding.first, holding.last)
    missing = np.flatnonzero(~np.isin(expected, holding.sessions))
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if len(missing) else []
    days = expected.astype(object)
    return tuple(Gap(days[run[0]], days[run[-1]], len(run)) for run in runs)


def _index(panel: MarketPanel, names: tuple[str, ...], sessions: SessionArray) -> FloatArray:
    """Return the total return index where there is a bar, NaN elsewhere, (S, N)."""
    columns = [panel.instruments.index(name) for name in names]
    rows = np.searchsorted(panel.sessions, sessions)
    index = np.where(has_bar(panel.close), panel.derived(total_return_index), np.nan)
    chosen: FloatArray = index[rows][:, columns]
    return chosen


def _last_row_before(both: np.ndarray) -> IntArray:
    rows = np.where(both, np.arange(len(both))[:, None], -1)
    last = np.maximum.accumulate(rows, axis=0)
    return np.vstack([np.full((1, both.shape[1]), -1), last[:-1]])
