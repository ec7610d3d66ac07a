"""How attractive each instrument is: families of anomalies, weighed by what they have deserved.

1. `alphas.standardised` gives the z-scores of every family, free of sector and beta;
2. `combination.combiner` gives their weights and the information coefficient to expect;
3. `_judged` combines them, a few sessions at a time;
4. `assess` subtracts fragility relative to the other instruments, and turns the result into a
   score, an expected return and a label.
"""

import hashlib
from datetime import date
from math import sqrt
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import InstrumentScores, StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.alphas import families_of, layout_of, standardised
from prometheus_nt.engines.combination import CombinationParams, combiner
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

FRAGILITY = "fragility"
NORMAL = NormalDist()


class AssessmentParams(CombinationParams):
    """Parameters of the assessment engine.

    Attributes
    ----------
    fragility_penalty_weight
        Points of combined z that one standard deviation of fragility costs. None by default: the
        universe counts it, and `combination.combiner` measures scores without it.
    min_coverage
        Share of the prior weight that an instrument's known families must carry for a score.
    buy_z, strong_buy_z
        Combined z from which a signal is BUY or STRONG_BUY; SELL mirrors them.
    control, control_seed
        Makes a negative control: 'random' scores by lot, 'reversed' by minus z. What is expected
        of an instrument stays what it was, so that a reader sees the control expect the worst.
    """

    fragility_penalty_weight: float = Field(0.0, ge=0)
    min_coverage: float = Field(0.5, gt=0, le=1)
    buy_z: float = Field(0.5, gt=0)
    strong_buy_z: float = Field(1.25, gt=0)
    control: Literal["none", "random", "reversed"] = "none"
    control_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _labels_in_order(self) -> Self:
        if self.strong_buy_z < self.buy_z:
            raise ValueError("strong_buy_z: must not be below buy_z")
        return self


def assess(
    panel: MarketPanel, stability: StabilityVectors, params: AssessmentParams
) -> InstrumentScores:
    """Return scores and expected returns over the next `horizon` sessions.

    With z the combination of families and penalty, standardised over the cross-section, the score
    is tanh(z / 2) and the expected return IC * sigma * sqrt(1 - rho^2) * sqrt(horizon) * z, where
    rho is the correlation with the market, 0 if unknown: what the market does to all, no score
    tells apart, and z is free of beta. IC is the claimed
    information coefficient, moved towards the one that this very combination has had out of
    sample (`combination.combiner`). A family unknown for an instrument says nothing about it.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than the longest lookback into prices.

    References
    ----------
    Grinold and Kahn (2000), "Active Portfolio Management": alpha = residual volatility * IC *
    score.
    """
    needed = params.longest_lookback + 1
    if len(panel) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(panel))
    families, layout = families_of(panel, params), layout_of(panel)
    fitted: FloatArray = panel.derived(combiner, params)[-1]
    weights, coefficient = fitted[:-1], float(fitted[-1])
    combined, strength, coverage, *components = panel.newest(_judged, params)
    fragility = stability.overall_score.take(layout.order)
    # Shares of weights are rounded; half of them is still half.
    scored = (coverage >= params.min_coverage - NEGLIGIBLE) & np.isfinite(fragility)
    fragility = _standardised(fragility, scored)
    penalty = params.fragility_penalty_weight * fragility
    combined -= penalty
    agreement = _agreement(combined, strength + np.abs(penalty))
    confidence = np.where(scored, agreement * coverage, 0.0)
    z = _standardised(combined, scored).take(layout.place)
    shown = _controlled(z, panel, params)
    components.append(fragility.take(layout.place))
    return InstrumentScores(
        as_of=panel.as_of,
        horizon=params.horizon,
        instruments=panel.instruments,
        score=np.tanh(0.5 * shown),
        expected_return=coefficient * _residual_sigma(stability) * sqrt(params.horizon) * z,
        confidence=confidence.take(layout.place),
        signal_label=_labels(shown, params),
        alpha_components=dict(zip((*families.names, FRAGILITY), components, strict=True)),
        family_weights=dict(zip(families.names, weights.tolist(), strict=True)),
        information_coefficient=coefficient,
    )


def _judged(panel: MarketPanel, rows: IntArray, params: AssessmentParams) -> FloatArray:
    """Return what the families say at the given rows, (R, 3 + F, N).

    The sum of their weighted z-scores, the sum of the sizes of these, and which share of the
    prior weight is known, all in the layout's order; and the z-scores, in that of the panel.
    """
    z = standardised(panel, params, rows)
    known = np.isfinite(z)
    weights = panel.derived(combiner, params)[rows, :-1, None]
    parts = weights * np.where(known, z, 0.0)
    judged = np.empty((len(rows), 3 + z.shape[1], z.shape[2]))
    judged[:, 0], judged[:, 1] = parts.sum(axis=1), np.abs(parts).sum(axis=1)
    judged[:, 2] = _coverage(known, families_of(panel, params).prior)
    judged[:, 3:] = z.take(layout_of(panel, int(rows[-1])).place, axis=-1)
    return judged


def _coverage(known: BoolArray, prior: FloatArray) -> FloatArray:
    """Return which share of the prior weight is known of each instrument, (R, N).

    A family that is known of nobody, while it warms up for example, is held against nobody.
    """
    share = prior * known.any(axis=-1)
    total = share.sum(axis=-1, keepdims=True)
    missing = (share[..., None] * ~known).sum(axis=-2)
    # What is missing is added up, so that with nothing missing it is exactly 1.
    return np.where(total > 0.0, 1.0 - missing / np.where(total > 0.0, total, 1.0), 0.0)


def _residual_sigma(stability: StabilityVectors) -> FloatArray:
    rho = stability.market_correlation
    left = 1.0 - np.where(np.isfinite(rho), rho * rho, 0.0)
    np.sqrt(np.maximum(left, 0.0, out=left), out=left)
    left *= stability.sigma
    return left


def _agreement(combined: FloatArray, strength: FloatArray) -> FloatArray:
    """Return in [0, 1] how far parts of so much `strength` agree on the sign of their sum, (N,)."""
    informed = strength > 0.0
    agreement = np.abs(combined)
    agreement /= np.where(informed, strength, 1.0)
    return np.where(informed, np.minimum(agreement, 1.0, out=agreement), 0.0)


def _standardised(x: FloatArray, known: BoolArray) -> FloatArray:
    """Return z-scores of the known values in the layout's order, (N,); 0 if they do not vary."""
    count = int(np.count_nonzero(known))
    complete, count = count == len(x), max(count, 1)
    values = x if complete else np.where(known, x, 0.0)
    deviation = values - np.add.reduce(values) / count
    if not complete:
        deviation *= known
    spread = sqrt(float(np.add.reduce(deviation * deviation)) / count)
    size = max(-float(np.minimum.reduce(values)), float(np.maximum.reduce(values)))
    deviation /= spread if spread > NEGLIGIBLE * size else np.inf
    return deviation if complete else np.where(known, deviation, np.nan)


def _controlled(z: FloatArray, panel: MarketPanel, params: AssessmentParams) -> FloatArray:
    match params.control:
        case "reversed":
            return -z
        case "random":
            # By name, so that it does not depend on where in the panel a name stands.
            drawn = [_drawn(name, panel.as_of, params.control_seed) for name in panel.instruments]
            return np.where(np.isnan(z), np.nan, np.array(drawn))
        case _:
            return z


def _drawn(instrument: str, as_of: date, seed: int) -> float:
    """Return a standard normal number that belongs to an instrument and a session."""
    digest = hashlib.blake2b(f"{seed}:{as_of}:{instrument}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
    return NORMAL.inv_cdf(uniform)


def _labels(z: FloatArray, params: AssessmentParams) -> IntArray:
    # Each threshold passed is one step from HOLD; an unknown z passes none.
    # Flags are added as bytes: to widen each of them takes longer than all the rest.
    labels = (z >= params.buy_z).view(np.int8) + (z >= params.strong_buy_z).view(np.int8)
    labels -= (z <= -params.buy_z).view(np.int8)
    labels -= (z <= -params.strong_buy_z).view(np.int8)
    return labels.astype(np.int64)
