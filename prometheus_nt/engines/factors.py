"""How exposed a book is to a few factors, each known from prices and volume alone."""

from functools import lru_cache

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.book_history import BookHistory
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.returns import bar_counts, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_volatility_per_session,
)

BLOCK_SESSIONS = 64
"""Sessions measured at a time: their temporaries then fit the processor's cache."""

SCORED = ("momentum", "volatility", "dollar_volume")
"""Factors that are z-scores; dollar volume stands in for size, which no price tells."""

MOMENTUM = (252, 21)
"""The momentum factor is the return between these two numbers of sessions ago."""

DOLLAR_VOLUME = 21
"""Lookback of the dollar volume factor where nobody asks for another."""

VOLATILITY = (63, 31)
"""Lookback of the volatility factor, and how many of its returns must be known."""


def factor_exposures(
    history: BookHistory, weights: FloatArray, volume_lookback: int
) -> dict[str, float]:
    """Return the book's exposure to each factor that is known of any of its K names.

    `market` is the sum of weight times beta. The others are sums of weight times z-score within
    the panel, of logarithms, which tames what would otherwise be outliers. A name of unknown
    factor counts as an average one, for the market as one of beta 0.
    """
    panel, rows = history.panel, history.rows
    loadings = np.empty((1 + len(SCORED), len(rows)))
    loadings[0] = history.beta
    loadings[1:] = style_loadings(panel, rows, volume_lookback)
    known = np.isfinite(loadings)
    loadings[~known] = 0.0
    exposures = np.einsum("fk,k->f", loadings, weights).tolist()
    counts = known.sum(axis=1).tolist()
    named = zip(("market", *SCORED), exposures, counts, strict=True)
    return {name: exposure for name, exposure, count in named if count}


def style_loadings(panel: MarketPanel, rows: IntArray, volume_lookback: int) -> FloatArray:
    """Return the newest z-scores of `SCORED` within the panel, (F, K); NaN where unknown."""
    loadings = _newest_logs(panel, rows, volume_lookback)
    moments = panel.derived(_moments, volume_lookback)[-1]
    loadings -= moments[0, :, None]
    loadings /= moments[1, :, None]
    return loadings


def _newest_logs(panel: MarketPanel, rows: IntArray, volume_lookback: int) -> FloatArray:
    """Return the logarithms of `SCORED` at the newest session, (F, K)."""
    values = np.full((len(SCORED), len(rows)), np.nan)
    lookback, skip = MOMENTUM
    if len(panel) > lookback:
        index = panel.derived(total_return_index)
        values[0] = index[-1 - skip].take(rows) / index[-1 - lookback].take(rows)
    values[1] = panel.derived(rolling_volatility_per_session, *VOLATILITY)[-1].take(rows)
    values[2] = panel.derived(rolling_dollar_volume, volume_lookback)[-1].take(rows)
    return _log(values)


def _moments(panel: MarketPanel, volume_lookback: int) -> FloatArray:
    """Return the mean and the standard deviation of the logarithms of `SCORED`, (T, 2, F).

    The deviation is infinite where the known values do not vary: no name then differs.
    """
    index = panel.derived(total_return_index)
    volatility = panel.derived(rolling_volatility_per_session, *VOLATILITY)
    usual = panel.derived(rolling_dollar_volume, volume_lookback)
    bars = panel.derived(bar_counts)
    lookback, skip = MOMENTUM
    moments = np.empty((len(panel), 2, len(SCORED)))
    moments[:lookback, :, 0] = np.nan
    order = by_id(panel.instruments)
    for start in range(0, len(panel), BLOCK_SESSIONS):
        block = slice(start, start + BLOCK_SESSIONS)
        moments[block, :, 1] = _mean_and_deviation(volatility[block, order])
        moments[block, :, 2] = _mean_and_deviation(usual[block, order])
    for start in range(lookback, len(panel), BLOCK_SESSIONS):
        stop = min(start + BLOCK_SESSIONS, len(panel))
        growth = index[start - skip : stop - skip] / index[start - lookback : stop - lookback]
        # The index of a name that died stands still: that is no momentum of 0.
        growth[bars[start:stop] == bars[start - skip : stop - skip]] = np.nan
        moments[start:stop, :, 0] = _mean_and_deviation(growth[:, order])
    return moments


def _mean_and_deviation(values: FloatArray) -> FloatArray:
    """Return the moments of the logarithms of each row, (T, 2)."""
    x = _log(values)
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=1), 1)
    x[~known] = 0.0
    size = np.abs(x).max(axis=1, initial=0.0)
    mean = x.sum(axis=1) / count
    x -= mean[:, None]
    x *= known
    deviation = np.sqrt((x * x).sum(axis=1) / count)
    return np.column_stack((mean, np.where(deviation > NEGLIGIBLE * size, deviation, np.inf)))


def _log(values: FloatArray) -> FloatArray:
    return np.log(np.where(values > 0.0, values, np.nan))


@lru_cache(maxsize=16)
def by_id(instruments: tuple[str, ...]) -> IntArray:
    """Return the columns in the order of their ids.

    Sums in this order do not depend on the order of the panel's columns.
    """
    order: IntArray = np.argsort(np.array(instruments), kind="stable")
    return order
