"""What the names of a book did over a lookback, without gaps: the ground of every risk figure."""

from dataclasses import dataclass
from functools import cached_property
from math import isnan

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.market_relations import rolling_beta
from prometheus_nt.engines.numerics.returns import (
    equal_weighted_returns,
    total_return_index,
    total_returns,
)

LEAST_RETURN = -1.0
"""A price that is not known cannot be said to have lost more than everything."""


@dataclass(frozen=True, eq=False)
class BookHistory:
    """Joint simple returns of K names over the newest D sessions.

    Attributes
    ----------
    panel : MarketPanel
    rows : (K,) int array
        The names, as columns of the panel.
    returns : (D, K) array, no NaN
        Unknown returns are 0 after a name's first bar, since its next return spans the gap, and
        before it beta times the market.
    unknown : (D, K) bool array, or None if every return is the name's own
    market : (D,) array
        Mean return of the panel's instruments; 0 where no instrument has one.
    beta : (K,) array
        Slope on the market over the lookback; NaN where too little is known.
    """

    panel: MarketPanel
    rows: IntArray
    returns: FloatArray
    unknown: BoolArray | None
    market: FloatArray
    beta: FloatArray

    @cached_property
    def slope(self) -> FloatArray:
        """Beta, or 1 where it is not known: a name without history moves like the market, (K,)."""
        return np.where(np.isnan(self.beta), 1.0, self.beta)

    def held(self, weights: FloatArray) -> "HeldBook":
        """Return the book of (K,) `weights`, held constant over the history."""
        earned: FloatArray = np.einsum("tk,k->t", self.returns, weights)
        if self.unknown is None:
            return HeldBook(self, weights, earned, None)
        absolute = np.abs(weights)
        gross = float(absolute.sum())
        if gross == 0.0:
            return HeldBook(self, weights, earned, None)
        covered: FloatArray = np.einsum("tk,k->t", self.unknown, absolute)
        covered /= -gross
        covered += 1.0
        return HeldBook(self, weights, earned, covered)


@dataclass(frozen=True, eq=False)
class HeldBook:
    """What K weights, held constant, would have earned over a history.

    Attributes
    ----------
    history : BookHistory
    weights : (K,) array
    earned : (D,) array
        Simple return of each session.
    covered : (D,) array, or None if it is all of it on every session
        Share of gross weight with a return of its own.
    """

    history: BookHistory
    weights: FloatArray
    earned: FloatArray
    covered: FloatArray | None


def book_history(
    panel: MarketPanel, rows: IntArray, lookback: int, min_sessions: int
) -> BookHistory:
    """Return the history of the panel's columns `rows`, betas from `min_sessions` on."""
    # No column is out of bounds; to be told so would take half of the time.
    returns = panel.derived(total_returns)[-lookback:].take(rows, axis=1, mode="clip")
    market = panel.derived(_market)[-lookback:]
    beta = panel.derived(rolling_beta, lookback, min_sessions)[-1].take(rows)
    # One return that is not known makes the sum unknown: faster than to ask each of them.
    if not isnan(np.add.reduce(returns, axis=None)):
        return BookHistory(panel, rows, returns, None, market, beta)
    history = BookHistory(panel, rows, returns, np.isnan(returns), market, beta)
    unlisted = np.isnan(np.take(panel.derived(total_return_index)[-lookback:], rows, axis=1))
    proxy = np.maximum(history.slope * market[:, None], LEAST_RETURN)
    returns[history.unknown] = 0.0
    returns[unlisted] = proxy[unlisted]
    return history


def _market(panel: MarketPanel) -> FloatArray:
    """Return the mean return of the panel's instruments, (T,); 0 where no instrument has one."""
    market = panel.derived(equal_weighted_returns)
    return np.where(np.isnan(market), 0.0, market)
