"""When a run earned and when it lost: months, years and falls from a peak."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray


@dataclass(frozen=True)
class DrawdownPeriod:
    """One unbroken stretch of sessions below an earlier high.

    Attributes
    ----------
    start : date
        First session below the high.
    trough : date
        Session of the deepest loss; the earliest of equals.
    recovery : date or None
        First session back at the high or above it; None if the run ended before.
    depth : float, < 0
        Deepest loss, as a fraction of the high.
    sessions : int
        Sessions below the high.
    """

    start: date
    trough: date
    recovery: date | None
    depth: float
    sessions: int


def drawdowns(levels: FloatArray) -> FloatArray:
    """Return each level over the highest so far, less one, (T,), <= 0; the first must be > 0."""
    depth: FloatArray = levels / np.maximum.accumulate(levels) - 1.0
    return depth


def drawdown_periods(
    sessions: SessionArray, equity: FloatArray, top: int = 10, start: float | None = None
) -> list[DrawdownPeriod]:
    """Return the `top` deepest drawdown periods, deepest first.

    Parameters
    ----------
    sessions, equity : (T,) arrays
    start : float or None
        Level before the first session, itself a high to fall from; None: there was none.
    """
    depth = drawdowns(equity if start is None else np.concatenate(([start], equity)))
    depth = depth[len(depth) - len(equity) :]
    first, stop = stretches_below_zero(depth)
    troughs = [int(a + np.argmin(depth[a:b])) for a, b in zip(first, stop, strict=True)]
    periods = [
        DrawdownPeriod(
            start=_day(sessions, int(a)),
            trough=_day(sessions, trough),
            recovery=_day(sessions, int(b)) if b < len(depth) else None,
            depth=float(depth[trough]),
            sessions=int(b - a),
        )
        for a, b, trough in zip(first, stop, troughs, strict=True)
    ]
    return sorted(periods, key=lambda period: period.depth)[:top]


def stretches_below_zero(depth: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the first row of each unbroken stretch of values < 0, and the row after its last."""
    below = np.concatenate(([False], depth < 0.0, [False])).astype(np.int8)
    change = np.diff(below)
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def monthly_returns(sessions: SessionArray, returns: FloatArray) -> tuple[SessionArray, FloatArray]:
    """Return the calendar months that have sessions, (M,) datetime64[M], and their returns, (M,).

    The first and last month count as far as the sessions go. NaN where a session's return is.
    """
    return _compounded(sessions.astype("datetime64[M]"), returns)


def yearly_returns(sessions: SessionArray, returns: FloatArray) -> tuple[SessionArray, FloatArray]:
    """Return the calendar years that have sessions, (Y,) datetime64[Y], and their returns, (Y,)."""
    return _compounded(sessions.astype("datetime64[Y]"), returns)


def _compounded(periods: SessionArray, returns: FloatArray) -> tuple[SessionArray, FloatArray]:
    unique, first = np.unique(periods, return_index=True)
    if not len(first):
        return unique, np.empty(0)
    return unique, np.multiply.reduceat(1.0 + returns, first) - 1.0


def _day(sessions: SessionArray, row: int) -> date:
    day: date = sessions[row].astype("datetime64[D]").astype(object)
    return day
