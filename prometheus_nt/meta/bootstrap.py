"""The stationary bootstrap of track records: how long its blocks are, and what it says of a figure.

1. `block_length` finds the mean length of blocks that keeps a record's dependence;
2. `resampled_rows` draws the sessions that each path visits;
3. `bootstrap_intervals` recomputes the Sharpe ratio and the deepest drawdown on every path.
"""

from dataclasses import dataclass
from math import ceil, log10, sqrt

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.scenarios import bootstrap_rows

MIN_OBSERVATIONS = 30

QUIET_LAGS = 5
"""Negligible autocorrelations in a row that end a record's dependence."""

PATHS_AT_ONCE = 250
"""Bounds the memory: a batch of paths is a (T, paths) array."""


@dataclass(frozen=True)
class Interval:
    """Between which values a figure lies with the stated confidence."""

    low: float
    high: float
    confidence: float


def resampled_rows(sessions: int, paths: int, block: float, seed: int) -> IntArray:
    """Return the sessions that bootstrap paths as long as the record visit, (sessions, paths)."""
    return bootstrap_rows(sessions, paths, sessions, block, seed)


def block_length(values: FloatArray) -> float:
    """Return the mean block length of the stationary bootstrap for one series, at least 1.

    Parameters
    ----------
    values : (T,) array, T >= 30, finite

    References
    ----------
    Politis and White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", as
    corrected by Patton, Politis and White (2009).
    """
    _require_record(values)
    count = len(values)
    own = values - values.mean()
    longest = ceil(sqrt(count)) + QUIET_LAGS
    covariance = np.array([own[: count - lag] @ own[lag:] for lag in range(longest + 1)]) / count
    if covariance[0] <= NEGLIGIBLE * max(float(np.abs(values).max()) ** 2, NEGLIGIBLE):
        raise DataError("the returns do not vary, so nothing can be resampled")
    width = min(2 * _last_dependent_lag(covariance / covariance[0], count), longest)
    lags = np.arange(-width, width + 1)
    weight = np.minimum(1.0, 2.0 * (1.0 - np.abs(lags) / width))
    weighted = weight * covariance[np.abs(lags)]
    long_run = float(weighted.sum())
    if long_run <= 0.0:
        return 1.0
    slope = float((np.abs(lags) * weighted).sum())
    length = float((slope**2 / long_run**2 * count) ** (1.0 / 3.0))
    return max(1.0, min(length, ceil(min(3.0 * sqrt(count), count / 3.0))))


def bootstrap_intervals(
    returns: FloatArray, *, confidence: float = 0.95, paths: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Return intervals of `sharpe` (per session) and `max_drawdown` (<= 0) of a track record.

    Parameters
    ----------
    returns : (T,) array of simple returns, T >= 30, finite

    Raises
    ------
    DataError
        If the record is too short, has unknown returns or does not vary.

    References
    ----------
    Politis and Romano (1994), "The Stationary Bootstrap".
    """
    rows = resampled_rows(len(returns), paths, block_length(returns), seed)
    figures = [
        _figures(returns[rows[:, start : start + PATHS_AT_ONCE]])
        for start in range(0, paths, PATHS_AT_ONCE)
    ]
    sharpe, drawdown = (np.concatenate(part) for part in zip(*figures, strict=True))
    return {
        "sharpe": _interval(sharpe[np.isfinite(sharpe)], confidence),
        "max_drawdown": _interval(drawdown, confidence),
    }


def _figures(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    deviation = returns.std(axis=0, ddof=1)
    sharpe = returns.mean(axis=0) / np.where(deviation > 0.0, deviation, np.nan)
    levels = np.cumprod(1.0 + returns, axis=0)
    peaks = np.maximum(np.maximum.accumulate(levels, axis=0), 1.0)
    return sharpe, (levels / peaks - 1.0).min(axis=0)


def _interval(values: FloatArray, confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(float(low), float(high), confidence)


def _last_dependent_lag(correlation: FloatArray, count: int) -> int:
    """Return the lag, at least 1, after which `QUIET_LAGS` correlations in a row are negligible."""
    small = np.abs(correlation[1:]) < 2.0 * sqrt(log10(count) / count)
    quiet = np.lib.stride_tricks.sliding_window_view(small, QUIET_LAGS).all(axis=1)
    return max(1, int(quiet.argmax()) if quiet.any() else len(small))


def _require_record(values: FloatArray) -> None:
    if len(values) < MIN_OBSERVATIONS:
        raise DataError(f"{len(values)} returns, at least {MIN_OBSERVATIONS} are needed")
    if not np.isfinite(values).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(values))} of the returns are unknown")
