"""How stable each instrument is: volatility, drawdown and downtrend, absolute and relative."""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import (
    has_bar,
    percentile_rank,
    rolling_max_drawdown,
    rolling_volatility_per_session,
    total_return_index,
)

BLOCK_SESSIONS = 64
"""Sessions measured at a time: their temporaries then fit the processor's cache."""


class StabilityParams(Params):
    """Parameters of the stability engine; lookback and gap in sessions.

    Attributes
    ----------
    vol_reference, drawdown_reference, trend_reference
        What earns half of a component's 100 points: a standard deviation of log returns per
        session, a drawdown and a loss, all as positive fractions.
    relative_blend
        Weight of the cross-sectional percentile in the overall score. An absolute scale alone
        calls every instrument fragile in a crisis, just when the differences matter.
    class_thresholds
        Overall scores at which WATCH, FRAGILE, TARGETABLE and BREAKER begin.
    """

    lookback: int = Field(63, ge=3)
    min_observations: int = Field(42, ge=2)
    max_gap: int = Field(5, ge=1)
    vol_reference: float = Field(0.02, gt=0)
    drawdown_reference: float = Field(0.20, gt=0)
    trend_reference: float = Field(0.20, gt=0)
    vol_weight: float = Field(0.4, ge=0)
    drawdown_weight: float = Field(0.4, ge=0)
    trend_weight: float = Field(0.2, ge=0)
    relative_blend: float = Field(0.5, ge=0, le=1)
    class_thresholds: tuple[float, float, float, float] = (30.0, 45.0, 60.0, 75.0)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_observations >= self.lookback:
            raise ValueError("min_observations: a lookback of n closes has n - 1 returns")
        if self.vol_weight + self.drawdown_weight + self.trend_weight <= 0.0:
            raise ValueError("vol_weight, drawdown_weight, trend_weight: one must be positive")
        if list(self.class_thresholds) != sorted(self.class_thresholds):
            raise ValueError("class_thresholds: must ascend")
        return self


def measure_stability(panel: MarketPanel, params: StabilityParams) -> StabilityVectors:
    """Return the fragility of each instrument over the last `lookback` closes.

    Unknown (NaN, class -1) where too few returns are known or the last bar is too old.

    Raises
    ------
    InsufficientHistory
        If the panel holds fewer than `lookback` sessions.
    """
    if len(panel) < params.lookback:
        raise InsufficientHistory(panel.as_of, params.lookback, len(panel))
    measured = panel.derived(_measured, params)[-1]
    drawdown, trend, overall = measured[1], measured[2], measured[3]
    vol_score, dd_score, trend_score = np.minimum(_points(measured[:3], params), 100.0)
    return StabilityVectors(
        as_of=panel.as_of,
        instruments=panel.instruments,
        overall_score=overall,
        vol_score=vol_score,
        dd_score=dd_score,
        trend_score=trend_score,
        sigma=measured[0],
        max_drawdown=drawdown,
        trend=trend,
        soft_target_class=_classes(overall, params),
        change_risk={},
    )


def _measured(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return volatility, drawdown, trend and overall score of every session, (T, 4, N)."""
    observed = (params.lookback - 1, params.min_observations)
    measured = np.empty((len(panel), 4, len(panel.instruments)))
    # Straight into their place: kept by the panel as well, they would be held twice.
    measured[:, 0] = rolling_volatility_per_session(panel, *observed)
    measured[:, 1] = rolling_max_drawdown(panel, params.lookback)
    measured[:, 2] = _trends(panel, params.lookback)
    unknown = np.isnan(measured[:, 0]) | (_sessions_since_bar(panel) >= params.max_gap)
    for start in range(0, len(panel), BLOCK_SESSIONS):
        block = measured[start : start + BLOCK_SESSIONS]
        known = ~unknown[start : start + BLOCK_SESSIONS, None, :]
        block[:, :3] = np.where(known, block[:, :3], np.nan)
        block[:, 3] = _overall(_points(block[:, :3], params), params)
    return measured


def _sessions_since_bar(panel: MarketPanel) -> IntArray:
    rows = np.arange(len(panel))[:, None]
    newest = np.maximum.accumulate(np.where(has_bar(panel.close), rows, -len(panel)), axis=0)
    return rows - newest


def _trends(panel: MarketPanel, lookback: int) -> FloatArray:
    index = panel.derived(total_return_index)
    trends = np.full(index.shape, np.nan)
    before = index[: len(index) - lookback + 1]
    # The index is 1 at the first bar, so 1 is where an instrument listed within the lookback began.
    trends[lookback - 1 :] = index[lookback - 1 :] / np.where(np.isnan(before), 1.0, before) - 1.0
    return trends


def _points(measured: FloatArray, params: StabilityParams) -> FloatArray:
    """Return points for volatility, drawdown and downtrend, (..., 3, N), not yet limited to 100."""
    references = (params.vol_reference, -params.drawdown_reference, -params.trend_reference)
    points: FloatArray = np.maximum(measured * (50.0 / np.array(references))[:, None], 0.0)
    return points


def _overall(points: FloatArray, params: StabilityParams) -> FloatArray:
    weights = np.array([[params.vol_weight], [params.drawdown_weight], [params.trend_weight]])
    weights /= weights.sum()
    absolute = (weights * np.minimum(points, 100.0)).sum(axis=-2)
    # Ranked before the limit: in a crash many reach it, and would tie.
    relative = 100.0 * percentile_rank((weights * points).sum(axis=-2))
    overall: FloatArray = absolute + params.relative_blend * (relative - absolute)
    return overall


def _classes(overall: FloatArray, params: StabilityParams) -> IntArray:
    reached = np.searchsorted(params.class_thresholds, overall, side="right")
    return np.where(np.isnan(overall), -1, reached).astype(np.int64)
