"""Which instruments gain from disorder: the shape and the tails of their returns.

The whole lookback is measured anew at each call: for 500 instruments that takes milliseconds, so
ask on rebalance sessions, not on every one.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import AntifragilityStats
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.cross_section import percentile_rank
from prometheus_nt.engines.numerics.returns import total_returns

TAIL = 0.05


class AntifragilityParams(Params):
    """Parameters of the antifragility statistics, in sessions.

    Attributes
    ----------
    min_observations
        Known returns within the lookback that a statistic needs.
    """

    lookback: int = Field(504, ge=20)
    min_observations: int = Field(63, ge=20)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_observations > self.lookback:
            raise ValueError("min_observations: must not exceed lookback")
        return self


def antifragility(panel: MarketPanel, params: AntifragilityParams) -> AntifragilityStats:
    """Return the tail statistics of the last `lookback` simple total returns.

    The score ranks skew and tail gain among the instruments: ranks, because one extreme name
    would decide everybody's place between the smallest and the largest. Skew, tail ratio and
    score are unknown where the returns do not vary or no return lies beyond a percentile.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than `min_observations` returns.
    """
    needed = params.min_observations + 1
    if len(panel) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(panel))
    returns = np.ascontiguousarray(panel.derived(total_returns)[-params.lookback :].T)
    ordered = np.sort(returns, axis=1)  # NaN sorts last
    count = np.isfinite(ordered).sum(axis=1)
    ordered[count < params.min_observations] = np.nan
    low, high = _quantile(ordered, count, TAIL), _quantile(ordered, count, 1.0 - TAIL)
    skew, tail_gain = _skew(ordered), _mean_where(ordered, ordered > high[:, None])
    significance = np.minimum(count / SESSIONS_PER_YEAR, 1.0)
    ranks = 0.5 * (percentile_rank(skew) + percentile_rank(tail_gain))
    return AntifragilityStats(
        as_of=panel.as_of,
        instruments=panel.instruments,
        observations=count,
        skew=skew,
        tail_gain=tail_gain,
        tail_ratio=np.where(low != 0.0, high / np.abs(np.where(low != 0.0, low, 1.0)), np.nan),
        var_95=-low,
        cvar_95=-_mean_where(ordered, ordered <= low[:, None]),
        significance=significance,
        antifragility_score=np.where(np.isnan(ranks), np.nan, ranks * significance),
    )


def _quantile(ordered: FloatArray, count: IntArray, fraction: float) -> FloatArray:
    """Return the quantile of each row's known values, between neighbours in proportion, (N,)."""
    place = fraction * np.maximum(count - 1, 0)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low, high = (np.take_along_axis(ordered, at[:, None], axis=1)[:, 0] for at in (below, above))
    quantile: FloatArray = low + (place - below) * (high - low)
    return quantile


def _skew(ordered: FloatArray) -> FloatArray:
    """Return the third standardised moment of each row's known values, (N,)."""
    known = np.isfinite(ordered)
    count = np.maximum(known.sum(axis=1), 1)
    values = np.where(known, ordered, 0.0)
    mean = values.sum(axis=1) / count
    deviation = np.where(known, ordered - mean[:, None], 0.0)
    squares = deviation * deviation
    variance = squares.sum(axis=1) / count
    third = (squares * deviation).sum(axis=1) / count
    varies = variance > NEGLIGIBLE * (values * values).sum(axis=1) / count
    return np.where(varies, third / np.where(varies, variance, 1.0) ** 1.5, np.nan)


def _mean_where(ordered: FloatArray, chosen: BoolArray) -> FloatArray:
    count = chosen.sum(axis=1)
    total = np.where(chosen, ordered, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
