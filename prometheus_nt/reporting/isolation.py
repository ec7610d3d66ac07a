"""What a run's return is made of: the pool it chose from, the choice, the weights, and the costs.

- selection alpha: the names it held, equally weighted, less the whole pool, equally weighted;
- optimisation alpha: its own weights, per unit of gross, less the same names equally weighted;
- slippage decay: what its record loses to everything that it paid.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR

MIN_SESSIONS = 20
"""Fewer say nothing."""


@dataclass(frozen=True)
class Isolation:
    """Annual means of session returns; None where there are too few sessions with a book."""

    pool: float | None
    selection_alpha: float | None
    optimisation_alpha: float | None


@dataclass(frozen=True)
class Decay:
    """A record before and after what it paid; annual, None where the record is too short.

    Attributes
    ----------
    sharpe_before, sharpe_after : float or None
        None too for a record that does not vary.
    """

    return_before: float | None
    return_after: float | None
    sharpe_before: float | None
    sharpe_after: float | None


def isolate(weights: FloatArray, returns: FloatArray) -> Isolation:
    """Return what choosing and weighing added to the pool.

    A book of a close earns the returns of the next session; sessions after an empty book are left
    out of all three. A short name earns its return with the sign turned.

    Parameters
    ----------
    weights : (T, N) array
        Fractions of equity held after each close; 0 or NaN for what is not held.
    returns : (T, N) array
        Total returns of every instrument of the pool; NaN where unknown.

    Raises
    ------
    DataError
        If the shapes differ.
    """
    if weights.shape != returns.shape:
        raise DataError(f"isolate: weights are {weights.shape}, returns {returns.shape}")
    book, earned = np.nan_to_num(weights[:-1]), returns[1:]
    known = np.isfinite(earned)
    held = (book != 0.0) & known
    counted = held.any(axis=1)
    if int(counted.sum()) < MIN_SESSIONS:
        return Isolation(None, None, None)
    book, earned = book[counted], np.nan_to_num(earned[counted])
    held, known = held[counted], known[counted]
    pool = earned.sum(axis=1) / known.sum(axis=1)
    chosen = (np.sign(book) * earned * held).sum(axis=1) / held.sum(axis=1)
    gross = (np.abs(book) * held).sum(axis=1)
    weighed = (book * earned * held).sum(axis=1) / gross
    return Isolation(_annual(pool), _annual(chosen - pool), _annual(weighed - chosen))


def decay(equity: FloatArray, starting_capital: float, costs: FloatArray) -> Decay:
    """Return a record before and after its costs.

    Parameters
    ----------
    equity, costs : (T,) arrays, USD
        After each close, and paid during each session.
    """
    before = np.concatenate(([starting_capital], equity[:-1]))
    if len(equity) < MIN_SESSIONS or not (before > 0.0).all():
        return Decay(None, None, None, None)
    after = equity / before - 1.0
    ideal = after + costs / before
    return Decay(_annual(ideal), _annual(after), _sharpe(ideal), _sharpe(after))


def _annual(returns: FloatArray) -> float:
    return float(returns.mean()) * SESSIONS_PER_YEAR


def _sharpe(returns: FloatArray) -> float | None:
    deviation = float(returns.std(ddof=1))
    if np.ptp(returns) == 0.0 or deviation == 0.0:
        return None
    return float(returns.mean()) / deviation * sqrt(SESSIONS_PER_YEAR)
