"""How sure one can be of a Sharpe ratio, alone and as the best of many.

Every ratio is per session, not per year; every kurtosis is raw (3 for a normal). What the data
cannot support is a `DataError` that says why, never 0 or 1.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import e, erfc, pi, sqrt
from statistics import NormalDist

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

EULER = 0.5772156649015329
"""Euler's constant, the mean of the limiting distribution of a maximum."""

MIN_OBSERVATIONS = 30
"""Below this, skew and kurtosis are too rough to judge a Sharpe ratio by."""

INTEGRATION_BOUND, INTEGRATION_STEPS = 12.0, 48_001


class Revision(StrEnum):
    """Which variance of a Sharpe ratio is used; a report has to say it.

    R2014 : Bailey and Lopez de Prado, at the observed ratio, independent returns.
    R2025 : Lopez de Prado, Lipton and Zoonekynd, at the hypothesised ratio, with autocorrelation.
    """

    R2014 = "2014"
    R2025 = "2025"


@dataclass(frozen=True)
class SharpeMoments:
    """What a track record says about its Sharpe ratio.

    Attributes
    ----------
    sharpe : float
        Mean over standard deviation (ddof 1), per session.
    skew, kurtosis : float
        Kurtosis is raw.
    autocorrelation : float
        Of consecutive returns.
    observations : int
    """

    sharpe: float
    skew: float
    kurtosis: float
    observations: int
    autocorrelation: float = 0.0


def sharpe_moments(returns: FloatArray) -> SharpeMoments:
    """Return what a track record says about its Sharpe ratio.

    Parameters
    ----------
    returns : (T,) array
        Simple excess returns per session, T >= 30, finite.

    Raises
    ------
    DataError
        If there are too few returns, an unknown one, or no variance.
    """
    if len(returns) < MIN_OBSERVATIONS:
        raise DataError(f"{len(returns)} returns, at least {MIN_OBSERVATIONS} are needed")
    if not np.isfinite(returns).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(returns))} of the returns are unknown")
    own = returns - returns.mean()
    square = float((own**2).mean())
    if sqrt(square) <= NEGLIGIBLE * max(float(np.abs(returns).max()), NEGLIGIBLE):
        raise DataError("the returns do not vary, so their Sharpe ratio is undefined")
    return SharpeMoments(
        sharpe=float(returns.mean()) / float(returns.std(ddof=1)),
        skew=float((own**3).mean()) / square**1.5,
        kurtosis=float((own**4).mean()) / square**2,
        observations=len(returns),
        autocorrelation=float((own[1:] * own[:-1]).mean()) / square,
    )


def normal_cdf(x: float) -> float:
    """Return the probability that a standard normal variable is at most `x`."""
    return 0.5 * erfc(-x / sqrt(2.0))


def sharpe_error_from_moments(sharpe: float, skew: float, kurtosis: float, count: int) -> float:
    """Return the standard error of a Sharpe ratio from `count` > 1 independent returns."""
    # Negative skew and fat tails widen the error. kurtosis >= skew**2 + 1 keeps this >= 0.
    variance = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return sqrt(max(variance, 0.0) / (count - 1))


def sharpe_error(moments: SharpeMoments, benchmark: float, revision: Revision) -> float:
    """Return the standard error of the Sharpe ratio when it is held against `benchmark`.

    References
    ----------
    Lopez de Prado, Lipton and Zoonekynd (2025), "How to Use the Sharpe Ratio".
    """
    if revision is Revision.R2014:
        return sharpe_error_from_moments(
            moments.sharpe, moments.skew, moments.kurtosis, moments.observations
        )
    rho = moments.autocorrelation
    of_mean = 1.0 + 2.0 * rho / (1.0 - rho)
    of_skew = 1.0 + rho / (1.0 - rho) + rho**2 / (1.0 - rho**2)
    of_kurtosis = 1.0 + 2.0 * rho**2 / (1.0 - rho**2)
    variance = (
        of_mean
        - of_skew * moments.skew * benchmark
        + of_kurtosis * (moments.kurtosis - 1.0) / 4.0 * benchmark**2
    )
    return sqrt(max(variance, 0.0) / moments.observations)


def probabilistic_sharpe_ratio(
    moments: SharpeMoments, benchmark: float = 0.0, revision: Revision = Revision.R2014
) -> float:
    """Return the probability that the true Sharpe ratio exceeds `benchmark` (per session).

    References
    ----------
    Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    error = sharpe_error(moments, benchmark, revision)
    if error <= 0.0:
        raise DataError("the error of the Sharpe ratio vanishes: skew and tails are degenerate")
    return normal_cdf((moments.sharpe - benchmark) / error)


def expected_maximum(trials: int) -> float:
    """Return the expected best of `trials` independent standard normal draws; 0 for one.

    References
    ----------
    Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio".
    """
    _require_trials(trials)
    if trials == 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    return (1.0 - EULER) * quantile(1.0 - 1.0 / trials) + EULER * quantile(1.0 - 1.0 / (trials * e))


@lru_cache(maxsize=1024)
def deviation_of_maximum(trials: int) -> float:
    """Return the standard deviation of the best of `trials` standard normal draws."""
    _require_trials(trials)
    x = np.linspace(-INTEGRATION_BOUND, INTEGRATION_BOUND, INTEGRATION_STEPS)
    density = np.exp(-0.5 * x**2) / sqrt(2.0 * pi)
    cumulative = np.array([normal_cdf(float(point)) for point in x])
    weight = trials * density * cumulative ** (trials - 1)
    step = float(x[1] - x[0])
    mean = float((weight * x).sum()) * step
    return sqrt(float((weight * x**2).sum()) * step - mean**2)


def sharpe_hurdle(variance: float, trials: int) -> float:
    """Return the Sharpe ratio that luck alone is expected to reach in `trials` attempts.

    Parameters
    ----------
    variance : float
        Of the trials' Sharpe ratios per session.
    """
    if not variance >= 0.0:
        raise DataError(f"the variance of the trials' Sharpe ratios is {variance}, not known")
    return sqrt(variance) * expected_maximum(trials)


def deflated_sharpe_ratio(
    moments: SharpeMoments, variance: float, trials: int, revision: Revision = Revision.R2014
) -> float:
    """Return the probability that the true Sharpe ratio exceeds what luck would have found.

    References
    ----------
    Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio"; with `R2025` the error is
    that of the best of all trials, Lopez de Prado, Lipton and Zoonekynd (2025).
    """
    hurdle = sharpe_hurdle(variance, trials)
    if revision is Revision.R2014:
        return probabilistic_sharpe_ratio(moments, hurdle)
    error = sharpe_error(moments, hurdle, revision) * deviation_of_maximum(trials)
    if error <= 0.0:
        raise DataError("the error of the Sharpe ratio vanishes: skew and tails are degenerate")
    return normal_cdf((moments.sharpe - hurdle) / error)


def minimum_track_record(
    moments: SharpeMoments, benchmark: float = 0.0, confidence: float = 0.95
) -> float:
    """Return how many returns it takes to be this sure that the ratio exceeds `benchmark`.

    Raises
    ------
    DataError
        If the observed ratio does not exceed `benchmark`: no length would do.

    References
    ----------
    Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    excess = moments.sharpe - benchmark
    if excess <= 0.0:
        raise DataError(
            f"a Sharpe ratio of {moments.sharpe:.4f} a session does not exceed {benchmark:.4f},"
            " so no length of record can show it"
        )
    spread = 1.0 - moments.skew * moments.sharpe
    spread += (moments.kurtosis - 1.0) / 4.0 * moments.sharpe**2
    return 1.0 + spread * (NormalDist().inv_cdf(confidence) / excess) ** 2


def minimum_backtest_years(trials: int, target_annual_sharpe: float = 1.0) -> float:
    """Return the years below which the best of `trials` lucky ones is expected to reach a target.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), "Pseudo-Mathematics and Financial
    Charlatanism".
    """
    if not target_annual_sharpe > 0.0:
        raise DataError(f"target_annual_sharpe: {target_annual_sharpe} is not above 0")
    return (expected_maximum(trials) / target_annual_sharpe) ** 2


def haircut(p_values: FloatArray, method: str) -> FloatArray:
    """Return p-values corrected for having been the result of as many tests, in their order.

    Parameters
    ----------
    p_values : (N,) array in [0, 1]
    method : "bonferroni", "holm" or "bhy"
        The first two bound the chance of one false discovery, the last the share of them
        (Benjamini, Hochberg and Yekutieli, the largest p-value left as it is).

    References
    ----------
    Harvey and Liu (2015), "Backtesting".
    """
    count = len(p_values)
    if not count or not ((p_values >= 0.0) & (p_values <= 1.0)).all():
        raise DataError("p-values: at least one is needed, and each must lie in [0, 1]")
    order = np.argsort(p_values, kind="stable")
    ascending, rank = p_values[order], np.arange(1, count + 1)
    match method:
        case "bonferroni":
            corrected = np.minimum(1.0, count * ascending)
        case "holm":
            corrected = np.minimum(1.0, np.maximum.accumulate((count - rank + 1) * ascending))
        case "bhy":
            harmonic = float((1.0 / rank).sum())
            scaled = np.minimum(1.0, ascending * count * harmonic / rank)
            scaled[-1] = ascending[-1]
            corrected = np.minimum.accumulate(scaled[::-1])[::-1]
        case _:
            raise DataError(f"haircut: unknown method {method!r}; known: bonferroni, holm, bhy")
    found: FloatArray = np.empty(count)
    found[order] = corrected
    return found


def p_value(moments: SharpeMoments) -> float:
    """Return the two-sided p-value of a Sharpe ratio of 0, from t = ratio x sqrt(T)."""
    return erfc(abs(moments.sharpe) * sqrt(moments.observations) / sqrt(2.0))


def _require_trials(trials: int) -> None:
    if trials < 1:
        raise DataError(f"trials: {trials} is not a number of attempts; at least 1 is needed")
