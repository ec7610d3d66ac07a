"""How well scores ranked what came after them: information coefficients with honest error bars."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.cross_section import percentile_rank

MIN_NAMES = 5
"""Instruments below which a rank correlation of one session says nothing."""

MIN_SESSIONS = 60
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class ICSummary:
    """The mean rank information coefficient of a score; None where it cannot be known.

    Attributes
    ----------
    sessions : int
        Sessions with a coefficient.
    mean : float
    low, high : float
        95 % confidence interval of the mean.
    t_statistic : float
    positive_share : float
        Share of sessions with a coefficient above zero.
    """

    sessions: int
    mean: float | None
    low: float | None
    high: float | None
    t_statistic: float | None
    positive_share: float | None


def rank_ic(scores: FloatArray, outcomes: FloatArray) -> FloatArray:
    """Return the Spearman correlation of each row, (T,) of two (T, N) arrays.

    NaN where fewer than `MIN_NAMES` instruments have both, or one of the two does not vary.
    """
    both = np.isfinite(scores) & np.isfinite(outcomes)
    ranks = [percentile_rank(np.where(both, values, np.nan)) for values in (scores, outcomes)]
    count = both.sum(axis=1, keepdims=True)
    # Average ranks of the known values lie in [0, 1] with mean one half, ties or not.
    centred = [np.where(both, rank - 0.5, 0.0) for rank in ranks]
    product = (centred[0] * centred[1]).sum(axis=1)
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    known = (count[:, 0] >= MIN_NAMES) & (scale > 0.0)
    return np.where(known, product / np.where(known, scale, 1.0), np.nan)


def summarise_ic(coefficients: FloatArray, overlap: int, least: int = MIN_SESSIONS) -> ICSummary:
    """Return the mean coefficient and what is known of its error.

    Parameters
    ----------
    coefficients : (T,) array, NaN where there is none
    overlap : int
        Later coefficients whose outcomes overlap with one's own: they are correlated with it, and
        treating them as independent would shrink the interval several times.
    least : int
        Coefficients below which there is no summary.

    References
    ----------
    Newey and West (1987), "A Simple, Positive Semi-Definite, Heteroskedasticity and
    Autocorrelation Consistent Covariance Matrix".
    """
    known = coefficients[np.isfinite(coefficients)]
    count = len(known)
    if count < max(least, 3 * overlap):
        return ICSummary(count, None, None, None, None, None)
    mean = float(known.mean())
    error = sqrt(_long_run_variance(known - mean, overlap) / count)
    statistic = None if error == 0.0 else mean / error
    margin = NORMAL_95 * error
    share = float((known > 0.0).mean())
    return ICSummary(count, mean, mean - margin, mean + margin, statistic, share)


def rank_turnover(scores: FloatArray, step: int) -> float | None:
    """Return how much of a ranking is new after `step` sessions: 1 less the rank correlation.

    0 is a ranking that never changes, 1 one that forgets itself; None if it cannot be known.
    """
    similarity = rank_ic(scores[:-step], scores[step:])
    known = similarity[np.isfinite(similarity)]
    return None if len(known) < MIN_SESSIONS else float(1.0 - known.mean())


def _long_run_variance(deviations: FloatArray, lags: int) -> float:
    count = len(deviations)
    variance = float(deviations @ deviations) / count
    for lag in range(1, min(lags, count - 1) + 1):
        covariance = float(deviations[lag:] @ deviations[:-lag]) / count
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * covariance
    return max(variance, 0.0)
