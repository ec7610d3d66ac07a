"""How attractive each instrument is: a cross-sectional blend of a few known anomalies.

Momentum over a year without its last month, reversal of that last month, and low volatility are
turned into z-scores and averaged; fragility relative to the other instruments is subtracted. What
is unknown stays unknown: an instrument without all of them has no score.
"""

from math import sqrt
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import InstrumentScores, StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import cross_sectional_zscore, trailing_return

COMPONENTS = ("momentum", "reversal", "low_volatility", "fragility")


class AssessmentParams(Params):
    """Parameters of the assessment engine; horizon, lookbacks and skip in sessions.

    Attributes
    ----------
    momentum_lookback, momentum_skip
        Momentum is the total return from `momentum_lookback` to `momentum_skip` sessions ago.
    fragility_penalty_weight
        Points of combined z that one standard deviation of fragility costs.
    information_coefficient
        Correlation of score and return that the user is ready to claim.
    buy_z, strong_buy_z
        Combined z from which a signal is BUY or STRONG_BUY; SELL mirrors them.
    """

    horizon: int = Field(21, ge=1)
    momentum_lookback: int = Field(252, ge=2)
    momentum_skip: int = Field(21, ge=0)
    reversal_lookback: int = Field(21, ge=1)
    momentum_weight: float = Field(0.5, ge=0)
    reversal_weight: float = Field(0.2, ge=0)
    low_volatility_weight: float = Field(0.3, ge=0)
    fragility_penalty_weight: float = Field(0.25, ge=0)
    information_coefficient: float = Field(0.03, ge=0, le=1)
    buy_z: float = Field(0.5, gt=0)
    strong_buy_z: float = Field(1.25, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.momentum_skip >= self.momentum_lookback:
            raise ValueError("momentum_skip: must be shorter than momentum_lookback")
        if self.momentum_weight + self.reversal_weight + self.low_volatility_weight <= 0.0:
            raise ValueError("momentum, reversal, low_volatility weight: one must be positive")
        if self.strong_buy_z < self.buy_z:
            raise ValueError("strong_buy_z: must not be below buy_z")
        return self


def assess(
    panel: MarketPanel, stability: StabilityVectors, params: AssessmentParams
) -> InstrumentScores:
    """Return scores and expected returns over the next `horizon` sessions.

    With z the blend of components, standardised over the cross-section, the score is tanh(z / 2)
    and the expected return IC * sigma * sqrt(horizon) * z.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than the longest lookback.

    References
    ----------
    Grinold and Kahn (2000), "Active Portfolio Management": alpha = volatility * IC * score.
    """
    needed = max(params.momentum_lookback, params.reversal_lookback) + 1
    if len(panel) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(panel))
    components = _components(panel, stability, params)
    z, confidence = _blend(components, params)
    risk = stability.sigma * sqrt(params.horizon)
    return InstrumentScores(
        as_of=panel.as_of,
        horizon=params.horizon,
        instruments=panel.instruments,
        score=np.tanh(0.5 * z),
        expected_return=params.information_coefficient * risk * z,
        confidence=confidence,
        signal_label=_labels(z, params),
        alpha_components=dict(zip(COMPONENTS, components, strict=True)),
    )


def _components(
    panel: MarketPanel, stability: StabilityVectors, params: AssessmentParams
) -> FloatArray:
    raw = np.array(
        [
            trailing_return(panel, params.momentum_lookback, params.momentum_skip),
            -trailing_return(panel, params.reversal_lookback),
            -stability.sigma,
            stability.overall_score,
        ]
    )
    # One cross-section for all components: an instrument missing from one is missing from each.
    raw[:, ~np.isfinite(raw).all(axis=0)] = np.nan
    return cross_sectional_zscore(raw)


def _blend(components: FloatArray, params: AssessmentParams) -> tuple[FloatArray, FloatArray]:
    """Return the combined z, and in [0, 1] how far the components agree on its sign."""
    weights = np.array(
        [params.momentum_weight, params.reversal_weight, params.low_volatility_weight, 0.0]
    )
    weights /= weights.sum()
    weights[-1] = -params.fragility_penalty_weight
    parts = weights[:, None] * components
    combined = parts.sum(axis=0)
    strength = np.abs(parts).sum(axis=0)
    informed = strength > 0.0
    agreement = np.where(informed, np.abs(combined) / np.where(informed, strength, 1.0), 0.0)
    # The parts are winsorised already; doing it again would only make ties at the top.
    return cross_sectional_zscore(combined, tail_fraction=0.0), np.minimum(agreement, 1.0)


def _labels(z: FloatArray, params: AssessmentParams) -> IntArray:
    # Each threshold passed is one step from HOLD; an unknown z passes none.
    up = (z >= params.buy_z).astype(np.int64) + (z >= params.strong_buy_z)
    down = (z <= -params.buy_z).astype(np.int64) + (z <= -params.strong_buy_z)
    labels: IntArray = up - down
    return labels
