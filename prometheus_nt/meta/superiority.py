"""Which of many trials really beat a benchmark, given that the best of them was looked for.

1. `_Resampled.of` draws every trial's mean on the same stationary bootstrap paths, and estimates
   its long-run deviation;
2. `superior_predictive_ability` asks whether the best of all is better than luck;
3. `stepwise_survivors` names those that are, keeping the chance of a single mistake at a level.
"""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.meta.bootstrap import MIN_OBSERVATIONS, resampled_rows

COUNTS_AT_ONCE = 200
"""Bounds the memory: a batch of paths is a (paths, T) matrix of how often each session is met."""


@dataclass(frozen=True)
class SuperiorAbility:
    """Chances that the best of the trials looks this good although none beats the benchmark.

    Attributes
    ----------
    lower, consistent, upper : float
        p-values; trials that are far worse than the benchmark count not at all, not if they are
        clearly worse, or fully.
    """

    lower: float
    consistent: float
    upper: float


@dataclass(frozen=True, eq=False)
class _Resampled:
    """Studentised means: observed (N,), their bootstrap deviations from it (paths, N)."""

    observed: FloatArray
    deviations: FloatArray
    sessions: int

    @classmethod
    def of(cls, excess: FloatArray, block: float, paths: int, seed: int) -> "_Resampled":
        _require_usable(excess, block)
        sessions = len(excess)
        error = np.sqrt(_long_run_variance(excess, block) / sessions)
        mean = excess.mean(axis=0)
        rows = resampled_rows(sessions, paths, block, seed)
        means = np.concatenate(
            [
                _counts(rows[:, start : start + COUNTS_AT_ONCE], sessions) @ excess / sessions
                for start in range(0, paths, COUNTS_AT_ONCE)
            ]
        )
        return cls(mean / error, (means - mean) / error, sessions)


def superior_predictive_ability(
    excess: FloatArray, *, block: float, paths: int = 2000, seed: int = 0
) -> SuperiorAbility:
    """Return how likely luck alone is to make the best of the trials look as good as it does.

    Parameters
    ----------
    excess : (T, N) array
        Return of each trial less that of the benchmark, per session, finite, T >= 30.
    block : float
        Mean length of the bootstrap's blocks, sessions.

    Raises
    ------
    DataError
        If there are too few sessions, an unknown return or a trial that is the benchmark.

    References
    ----------
    Hansen (2005), "A Test for Superior Predictive Ability".
    """
    found = _Resampled.of(excess, block, paths, seed)
    best = max(0.0, float(found.observed.max()))
    hopeless = found.observed < -sqrt(2.0 * log(log(found.sessions)))
    shifts = (
        np.minimum(found.observed, 0.0),
        np.where(hopeless, found.observed, 0.0),
        np.zeros_like(found.observed),
    )
    # What is not recentred keeps its observed shortfall, and cannot be the best by luck.
    lucky = [np.maximum((found.deviations + shift).max(axis=1), 0.0) for shift in shifts]
    lower, consistent, upper = (float((luck >= best).mean()) for luck in lucky)
    return SuperiorAbility(lower, consistent, upper)


def stepwise_survivors(
    excess: FloatArray, *, block: float, level: float = 0.05, paths: int = 2000, seed: int = 0
) -> BoolArray:
    """Return which trials beat the benchmark, with at most `level` chance of one mistake, (N,).

    Parameters and errors as in `superior_predictive_ability`.

    References
    ----------
    Romano and Wolf (2005), "Stepwise Multiple Testing as Formalized Data Snooping".
    """
    if not 0.0 < level < 1.0:
        raise DataError(f"level: {level} is not between 0 and 1")
    found = _Resampled.of(excess, block, paths, seed)
    survives = np.zeros(excess.shape[1], dtype=bool)
    while not survives.all():
        remaining = ~survives
        critical = np.quantile(found.deviations[:, remaining].max(axis=1), 1.0 - level)
        better = remaining & (found.observed > critical)
        if not better.any():
            break
        survives |= better
    return survives


def _require_usable(excess: FloatArray, block: float) -> None:
    if excess.ndim != 2 or not excess.shape[1]:
        raise DataError("at least one trial is needed")
    if len(excess) < MIN_OBSERVATIONS:
        raise DataError(f"{len(excess)} returns, at least {MIN_OBSERVATIONS} are needed")
    if not np.isfinite(excess).all():
        raise DataError("a return is unknown; trials must share the same sessions")
    if not 1.0 <= block <= len(excess):
        raise DataError(f"block: {block} sessions; must lie between 1 and {len(excess)}")
    still = np.flatnonzero(np.ptp(excess, axis=0) <= NEGLIGIBLE)
    if len(still):
        raise DataError(f"{len(still)} trials never differ from the benchmark; leave them out")


def _long_run_variance(excess: FloatArray, block: float) -> FloatArray:
    """Return the variance of sqrt(T) times the mean under the stationary bootstrap, (N,)."""
    sessions, own = len(excess), excess - excess.mean(axis=0)
    spectrum = np.fft.rfft(own, n=2 * sessions, axis=0)
    power = spectrum.real**2 + spectrum.imag**2
    covariance = np.fft.irfft(power, n=2 * sessions, axis=0)[:sessions] / sessions
    lag, going_on = np.arange(1, sessions), 1.0 - 1.0 / block
    share = lag / sessions
    kernel = (1.0 - share) * going_on**lag + share * going_on ** (sessions - lag)
    variance: FloatArray = covariance[0] + 2.0 * kernel @ covariance[1:]
    # Alternating returns can leave rounding below zero: then a block's dependence says nothing.
    return np.where(variance > NEGLIGIBLE * covariance[0], variance, covariance[0])


def _counts(rows: IntArray, sessions: int) -> FloatArray:
    """Return how often each path visits each session, (paths, sessions)."""
    paths = rows.shape[1]
    numbered = rows + np.arange(paths) * sessions
    counted = np.bincount(numbered.ravel(), minlength=paths * sessions)
    counts: FloatArray = counted.reshape(paths, sessions).astype(np.float64)
    return counts
