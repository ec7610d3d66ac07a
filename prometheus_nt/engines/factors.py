"""How exposed a book is to a few factors, each known from prices and volume alone."""

from math import isfinite

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.book_history import BookHistory
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.remembered import of_same_names
from prometheus_nt.engines.numerics.returns import stopped, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_volatility_per_session,
)

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
    loadings = np.empty((1 + len(SCORED), len(history.rows)))
    loadings[0] = history.beta
    loadings[1:] = style_loadings(history.panel, history.rows, volume_lookback)
    exposures = np.einsum("fk,k->f", loadings, weights).tolist()
    names = ("market", *SCORED)
    if len(weights) and all(map(isfinite, exposures)):
        return dict(zip(names, exposures, strict=True))
    known = np.isfinite(loadings)
    np.copyto(loadings, 0.0, where=~known)
    exposures = np.einsum("fk,k->f", loadings, weights).tolist()
    named = zip(names, exposures, known.sum(axis=1).tolist(), strict=True)
    return {name: exposure for name, exposure, count in named if count}


def style_loadings(panel: MarketPanel, rows: IntArray, volume_lookback: int) -> FloatArray:
    """Return the newest z-scores of `SCORED` within the panel, (F, K); NaN where unknown."""
    newest: FloatArray = panel.newest(_scores, volume_lookback).take(rows, axis=1)
    return newest


def _scores(panel: MarketPanel, rows: IntArray, volume_lookback: int) -> FloatArray:
    """Return the z-scores of the logarithms of `SCORED` at the given rows, (R, F, N)."""
    lookback, skip = MOMENTUM
    index, now = panel.derived(total_return_index), slice(rows[0], rows[-1] + 1)
    values = np.empty((len(rows), len(SCORED), len(panel.instruments)))
    values[:, 0] = index[np.maximum(rows - skip, 0)] / index[np.maximum(rows - lookback, 0)]
    values[rows < lookback, 0] = np.nan
    values[:, 1] = panel.derived(rolling_volatility_per_session, *VOLATILITY)[now]
    values[:, 2] = panel.derived(rolling_dollar_volume, volume_lookback)[now]
    logs = _log(values)
    usual = logs.copy()
    # The index of a name that died stands still: that is no momentum of 0.
    np.copyto(usual[:, 0], np.nan, where=stopped(panel, rows, skip))
    mean, deviation = _mean_and_deviation(
        usual.transpose(2, 0, 1).take(by_id(panel.instruments), axis=0)
    )
    logs -= mean[..., None]
    logs /= deviation[..., None]
    return logs


def _mean_and_deviation(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the moments of the known ones of N values, (N, ...), added one after the other.

    The deviation is infinite where they do not vary: no name then differs.
    """
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=0), 1)
    np.copyto(x, 0.0, where=~known)
    size = np.abs(x).max(axis=0, initial=0.0)
    mean = x.sum(axis=0) / count
    x -= mean
    x *= known
    deviation = np.sqrt((x * x).sum(axis=0) / count)
    return mean, np.where(deviation > NEGLIGIBLE * size, deviation, np.inf)


def _log(values: FloatArray) -> FloatArray:
    return np.log(np.where(values > 0.0, values, np.nan))


@of_same_names
def by_id(instruments: tuple[str, ...]) -> IntArray:
    """Return the columns in the order of their ids.

    Sums in this order do not depend on the order of the panel's columns.
    """
    order: IntArray = np.argsort(np.array(instruments), kind="stable")
    return order
