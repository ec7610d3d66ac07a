"""Risk and liquidity of each instrument by itself over a lookback; for `MarketPanel.derived`."""

from math import ceil

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.returns import (
    has_bar,
    total_return_index,
    total_returns,
)
from prometheus_nt.engines.numerics.running import (
    by_blocks,
    rolling_count,
    rolling_sum,
    running_sum,
    shared_flags,
    window_of,
)
from prometheus_nt.engines.numerics.windows import deepest_fall, smallest


def rolling_volatility_per_session(
    panel: MarketPanel, lookback: int, min_observations: int
) -> FloatArray:
    """Return the standard deviation (ddof 1) of the log returns of `lookback` sessions, (T, N).

    NaN where fewer than `min_observations` (at least 2) of them are known.
    """
    floor = max(min_observations, 2)

    def deviation(returns: FloatArray) -> FloatArray:
        known = shared_flags(np.isfinite(returns))
        values = np.where(known, np.log1p(returns), 0.0)
        count = rolling_count(known, lookback)
        divisor = np.maximum(count, 2.0)
        squares = rolling_sum(values * values, lookback)
        scatter = squares - rolling_sum(values, lookback) ** 2 / divisor
        sigma = np.sqrt(np.maximum(scatter, 0.0) / (divisor - 1.0))
        return np.where(count >= floor, sigma, np.nan)

    return by_blocks(deviation, panel.derived(total_returns))


def rolling_max_drawdown(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the deepest fall from a peak within the last `lookback` closes, (T, N), <= 0.

    On total returns; a window that begins before the first bar starts there. NaN before it.
    """

    def drawdown(index: FloatArray) -> FloatArray:
        return np.where(np.isnan(index), np.nan, np.expm1(deepest_fall(np.log(index), lookback)))

    return by_blocks(drawdown, panel.derived(total_return_index))


def rolling_expected_shortfall(
    panel: MarketPanel, lookback: int, tail_fraction: float, min_observations: int
) -> FloatArray:
    """Return minus the mean of the worst log returns of `lookback` sessions, (T, N).

    The worst are ceil(tail_fraction * lookback) of them. NaN where fewer than `min_observations`
    (at least as many as the worst) are known, and before `lookback` sessions have passed.
    """
    worst = ceil(tail_fraction * lookback)
    floor = float(max(min_observations, worst))

    def shortfall(returns: FloatArray) -> FloatArray:
        known = shared_flags(np.isfinite(returns))
        tail = smallest(np.where(known, np.log1p(returns), np.inf), worst, lookback)
        mean = sum(tail[1:], tail[0]) / worst
        count = rolling_count(known, lookback)
        count[: lookback - 1] = 0.0
        return np.where(count >= floor, -mean, np.nan)

    return by_blocks(shortfall, panel.derived(total_returns))


def rolling_dollar_volume(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the mean of close times volume, as traded, over `lookback` sessions, (T, N).

    Sessions without a bar or a volume do not count; NaN where fewer than half are left.
    """

    def mean_traded(close: FloatArray, volume: FloatArray) -> FloatArray:
        known = shared_flags(has_bar(close) & np.isfinite(volume) & (volume >= 0.0))
        traded = np.where(known, close, 0.0) * np.where(known, volume, 0.0)
        count = rolling_count(known, lookback)
        mean = rolling_sum(traded, lookback) / np.maximum(count, 1.0)
        return np.where(2.0 * count >= lookback, mean, np.nan)

    return by_blocks(mean_traded, panel.close, panel.volume)


def dollar_volume_fall(
    panel: MarketPanel, lookback: int, usual_lookback: int, *, out: FloatArray | None = None
) -> FloatArray:
    """Return how far `lookback`'s mean dollar volume is below `usual_lookback`'s, (T, N), <= 1.

    Both as in `rolling_dollar_volume`; negative where it rose, NaN where either is unknown or
    nothing was traded in the longer one.
    """

    def fall(close: FloatArray, volume: FloatArray) -> FloatArray:
        known = shared_flags(has_bar(close) & np.isfinite(volume) & (volume >= 0.0))
        traded = running_sum(np.where(known, close, 0.0) * np.where(known, volume, 0.0))
        sessions = running_sum(known.astype(np.float64))
        count, usual_count = window_of(sessions, lookback), window_of(sessions, usual_lookback)
        usual = window_of(traded, usual_lookback)
        enough = (2.0 * count >= lookback) & (2.0 * usual_count >= usual_lookback) & (usual > 0.0)
        share = window_of(traded, lookback) * usual_count
        share /= np.where(enough, usual * count, 1.0)
        return np.where(enough, 1.0 - share, np.nan)

    return by_blocks(fall, panel.close, panel.volume, out=out)


def rolling_illiquidity(
    panel: MarketPanel, lookback: int, min_observations: int, *, out: FloatArray | None = None
) -> FloatArray:
    """Return the mean absolute total return per unit of money traded, (T, N).

    Over those of the last `lookback` sessions with a return and with money traded; NaN where fewer
    than `min_observations` (at least 1) are.

    References
    ----------
    Amihud (2002), "Illiquidity and Stock Returns: Cross-Section and Time-Series Effects".
    """

    def impact(returns: FloatArray, close: FloatArray, volume: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            traded = close * volume
        known = shared_flags(np.isfinite(returns) & np.isfinite(traded) & (traded > 0.0))
        ratio = np.where(known, np.abs(returns), 0.0) / np.where(known, traded, 1.0)
        count = rolling_count(known, lookback)
        # What is left of larger sums when all is still can be a little below zero.
        mean = np.maximum(rolling_sum(ratio, lookback), 0.0) / np.maximum(count, 1.0)
        return np.where(count >= max(min_observations, 1), mean, np.nan)

    return by_blocks(impact, panel.derived(total_returns), panel.close, panel.volume, out=out)


def index_over_mean(
    panel: MarketPanel, lookback: int, *, out: FloatArray | None = None
) -> FloatArray:
    """Return `total_return_index` over its own mean of `lookback` sessions, (T, N).

    NaN until that many have passed since the first bar.
    """

    def ratio(index: FloatArray) -> FloatArray:
        listed = shared_flags(np.isfinite(index))
        total = rolling_sum(np.where(listed, index, 0.0), lookback)
        complete = running_sum(listed.astype(np.float64)) >= lookback
        return np.where(complete, lookback * index / np.where(complete, total, 1.0), np.nan)

    return by_blocks(ratio, panel.derived(total_return_index), out=out)
