"""How stable each instrument is: volatility, drawdown and downtrend, absolute and relative."""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import (
    has_bar,
    percentile_rank,
    rolling_max_drawdown,
    rolling_volatility_per_session,
    total_return_index,
)


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
    sigma, known = _volatility(panel, params)
    drawdown = np.where(known, panel.derived(rolling_max_drawdown, params.lookback)[-1], np.nan)
    trend = np.where(known, _trend(panel, params.lookback), np.nan)
    vol_score = _points(sigma, params.vol_reference)
    dd_score = _points(-drawdown, params.drawdown_reference)
    trend_score = _points(-trend, params.trend_reference)
    overall = _overall(vol_score, dd_score, trend_score, params)
    return StabilityVectors(
        as_of=panel.as_of,
        instruments=panel.instruments,
        overall_score=overall,
        vol_score=vol_score,
        dd_score=dd_score,
        trend_score=trend_score,
        sigma=sigma,
        max_drawdown=drawdown,
        trend=trend,
        soft_target_class=_classes(overall, params),
    )


def _volatility(panel: MarketPanel, params: StabilityParams) -> tuple[FloatArray, BoolArray]:
    observed = (params.lookback - 1, params.min_observations)
    sigma = panel.derived(rolling_volatility_per_session, *observed)[-1]
    recent = has_bar(panel.close[-params.max_gap :]).any(axis=0)
    known = recent & np.isfinite(sigma)
    return np.where(known, sigma, np.nan), known


def _trend(panel: MarketPanel, lookback: int) -> FloatArray:
    index = panel.derived(total_return_index)
    # The index is 1 at the first bar, so 1 is where an instrument listed within the lookback began.
    first = np.where(np.isnan(index[-lookback]), 1.0, index[-lookback])
    trend: FloatArray = index[-1] / first - 1.0
    return trend


def _points(badness: FloatArray, reference: float) -> FloatArray:
    points: FloatArray = np.clip(50.0 * badness / reference, 0.0, 100.0)
    return points


def _overall(
    vol_score: FloatArray, dd_score: FloatArray, trend_score: FloatArray, params: StabilityParams
) -> FloatArray:
    weighted = (
        params.vol_weight * vol_score
        + params.drawdown_weight * dd_score
        + params.trend_weight * trend_score
    )
    absolute = weighted / (params.vol_weight + params.drawdown_weight + params.trend_weight)
    relative = 100.0 * percentile_rank(absolute)
    overall: FloatArray = absolute + params.relative_blend * (relative - absolute)
    return overall


def _classes(overall: FloatArray, params: StabilityParams) -> IntArray:
    reached = np.searchsorted(params.class_thresholds, overall, side="right")
    return np.where(np.isnan(overall), -1, reached).astype(np.int64)
