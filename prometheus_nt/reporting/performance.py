"""The formulas of a track record: arrays in, a number out, or None where it is undefined.

Conventions: simple returns per session; 252 sessions a year; the risk-free rate is 0; standard
deviations with ddof 1; losses and drawdowns are negative. Undefined (no variance, too few
sessions, a ruined book) is None, never 0. `levels` are (T + 1,): before the first session, then
after each; `returns` are (T,).
"""

from collections.abc import Callable
from math import ceil, sqrt

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.meta.sharpe import normal_cdf, sharpe_error_from_moments
from prometheus_nt.reporting.periods import drawdowns, stretches_below_zero

SESSIONS_PER_YEAR = 252

MIN_SESSIONS_FOR_GROWTH = 60
"""Below this, what a window gained, traded or paid is not stated per year: it would be noise."""

MIN_SESSIONS_FOR_TAIL = 20
"""Below this, the worst 5% of the sessions are less than one session."""

MIN_SESSIONS_FOR_INFERENCE = 30
"""Below this, skew and kurtosis are too rough to judge a Sharpe ratio by."""

TAIL = 0.05

NEGLIGIBLE = 1e-12
"""Relative size below which a standard deviation is rounding."""

ROUNDING = 1e-15
"""What double precision leaves of a return that should be 0: it is a ratio near 1, less 1."""


def cumulative_return(levels: FloatArray) -> float | None:
    """Return the last level over the first, less one."""
    return float(levels[-1] / levels[0] - 1.0) if len(levels) > 1 else None


def cagr(levels: FloatArray) -> float | None:
    """Return the compound growth per year; None below 60 sessions or after ruin."""
    count = len(levels) - 1
    if count < MIN_SESSIONS_FOR_GROWTH or not (levels > 0.0).all():
        return None
    return float((levels[-1] / levels[0]) ** (SESSIONS_PER_YEAR / count) - 1.0)


def annual_rate(per_session: FloatArray) -> float | None:
    """Return the mean per session times 252; None below 60 sessions."""
    if not _known(per_session, MIN_SESSIONS_FOR_GROWTH):
        return None
    return float(per_session.mean()) * SESSIONS_PER_YEAR


def annualised_volatility(returns: FloatArray) -> float | None:
    """Return the standard deviation per year; None below 2 sessions."""
    return _deviation(returns) * sqrt(SESSIONS_PER_YEAR) if _known(returns, 2) else None


def annualised_sharpe(returns: FloatArray) -> float | None:
    """Return the mean over the standard deviation, per year; None without variance."""
    ratio = _sharpe_per_session(returns)
    return None if ratio is None else ratio * sqrt(SESSIONS_PER_YEAR)


def rolling_sharpe(returns: FloatArray, lookback: int = 126) -> FloatArray:
    """Return the annualised Sharpe ratio of the last `lookback` sessions, (T,).

    NaN where there are fewer, or where they do not vary.
    """
    ratio = np.full(len(returns), np.nan)
    if len(returns) < lookback:
        return ratio
    windows = np.lib.stride_tricks.sliding_window_view(returns, lookback)
    deviation = windows.std(axis=1, ddof=1)
    varies = deviation > np.maximum(ROUNDING, NEGLIGIBLE * np.abs(windows).max(axis=1))
    ratio[lookback - 1 :] = windows.mean(axis=1) / np.where(varies, deviation, np.nan)
    return ratio * sqrt(SESSIONS_PER_YEAR)


def sortino(returns: FloatArray) -> float | None:
    """Return the mean over the root mean square of the losses, per year; None without a loss.

    The mean square is over all sessions, gains counting as 0.
    """
    if not _known(returns, 2):
        return None
    downside = sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))
    return float(returns.mean()) / downside * sqrt(SESSIONS_PER_YEAR) if downside > 0.0 else None


def max_drawdown(levels: FloatArray) -> float | None:
    """Return the deepest fall from an earlier high, as a fraction of it, <= 0."""
    return float(drawdowns(levels).min()) if len(levels) > 1 else None


def longest_drawdown_sessions(levels: FloatArray) -> int | None:
    """Return the most sessions in a row below an earlier high."""
    if len(levels) < 2:
        return None
    first, stop = stretches_below_zero(drawdowns(levels))
    return int((stop - first).max(initial=0))


def calmar(levels: FloatArray) -> float | None:
    """Return CAGR over the size of the deepest drawdown; None without one."""
    growth, deepest = cagr(levels), max_drawdown(levels)
    return growth / -deepest if growth is not None and deepest else None


def value_at_risk(returns: FloatArray) -> float | None:
    """Return the ceil(5% T)-th lowest return of a session; None below 20 sessions."""
    tail = _worst(returns)
    return None if tail is None else float(tail[-1])


def expected_shortfall(returns: FloatArray) -> float | None:
    """Return the mean of the ceil(5% T) lowest returns; None below 20 sessions."""
    tail = _worst(returns)
    return None if tail is None else float(tail.mean())


def tail_ratio(returns: FloatArray) -> float | None:
    """Return the size of the 95th percentile over that of the 5th; None below 20 sessions."""
    if not _known(returns, MIN_SESSIONS_FOR_TAIL):
        return None
    low, high = np.abs(np.quantile(returns, [TAIL, 1.0 - TAIL]))
    return float(high / low) if low > 0.0 else None


def skew(returns: FloatArray) -> float | None:
    """Return the third standardised moment (not bias-corrected); None without variance."""
    return _standardised_moment(returns, 3)


def kurtosis(returns: FloatArray) -> float | None:
    """Return the raw fourth standardised moment: 3 for a normal, not 0; None without variance."""
    return _standardised_moment(returns, 4)


def hit_rate(returns: FloatArray) -> float | None:
    """Return the share of gains among the sessions that gained or lost; None if none did."""
    moved = np.count_nonzero(returns)
    return float((returns > 0.0).sum() / moved) if moved and _known(returns, 1) else None


def sharpe_standard_error(returns: FloatArray) -> float | None:
    """Return the standard error of the annualised Sharpe ratio; None below 30 sessions.

    References
    ----------
    Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    error = _sharpe_error_per_session(returns)
    return None if error is None else error * sqrt(SESSIONS_PER_YEAR)


def probabilistic_sharpe_ratio(returns: FloatArray) -> float | None:
    """Return the probability that the true Sharpe ratio exceeds 0; None below 30 sessions.

    References
    ----------
    Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    ratio, error = _sharpe_per_session(returns), _sharpe_error_per_session(returns)
    return normal_cdf(ratio / error) if ratio is not None and error else None


def beta(returns: FloatArray, benchmark: FloatArray) -> float | None:
    """Return the slope of the regression on the benchmark; None if it does not vary."""
    if not (_known(returns, 2) and _known(benchmark, 2)) or _deviation(benchmark) == 0.0:
        return None
    common = benchmark - benchmark.mean()
    return float(((returns - returns.mean()) @ common) / (common @ common))


def alpha_annual(returns: FloatArray, benchmark: FloatArray) -> float | None:
    """Return the intercept of that regression times 252; None below 60 sessions."""
    slope = beta(returns, benchmark)
    return None if slope is None else annual_rate(returns - slope * benchmark)


def correlation(returns: FloatArray, benchmark: FloatArray) -> float | None:
    """Return the correlation with the benchmark; None if either does not vary."""
    slope = beta(returns, benchmark)
    own = _deviation(returns) if slope is not None else 0.0
    if slope is None or own == 0.0:
        return None
    return max(-1.0, min(1.0, slope * _deviation(benchmark) / own))


def if_known(of: Callable[[FloatArray], np.floating], x: FloatArray) -> float | None:
    """Return `of(x)`; None if `x` is empty or a value of it is unknown."""
    return float(of(x)) if _known(x, 1) else None


def _known(x: FloatArray, minimum: int) -> bool:
    return len(x) >= minimum and bool(np.isfinite(x).all())


def _deviation(x: FloatArray) -> float:
    deviation = float(x.std(ddof=1))
    rounding = max(ROUNDING, NEGLIGIBLE * float(np.abs(x).max()))
    return deviation if deviation > rounding else 0.0


def _sharpe_per_session(returns: FloatArray) -> float | None:
    if not _known(returns, 2) or _deviation(returns) == 0.0:
        return None
    return float(returns.mean()) / _deviation(returns)


def _sharpe_error_per_session(returns: FloatArray) -> float | None:
    ratio, asymmetry, tails = _sharpe_per_session(returns), skew(returns), kurtosis(returns)
    if ratio is None or asymmetry is None or tails is None:
        return None
    if len(returns) < MIN_SESSIONS_FOR_INFERENCE:
        return None
    return sharpe_error_from_moments(ratio, asymmetry, tails, len(returns))


def _standardised_moment(returns: FloatArray, order: int) -> float | None:
    if not _known(returns, 2) or _deviation(returns) == 0.0:
        return None
    own = returns - returns.mean()
    return float((own**order).mean() / (own**2).mean() ** (order / 2))


def _worst(returns: FloatArray) -> FloatArray | None:
    if not _known(returns, MIN_SESSIONS_FOR_TAIL):
        return None
    return np.sort(returns)[: ceil(TAIL * len(returns))]
