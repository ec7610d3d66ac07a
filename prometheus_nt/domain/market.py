"""What the engines know about each instrument after a close."""

from dataclasses import dataclass
from datetime import date
from enum import IntEnum

from prometheus_nt.domain.record import FloatArray, IntArray


class SoftTargetClass(IntEnum):
    """How soft a target an instrument is, from calm to about to break."""

    STABLE = 0
    WATCH = 1
    FRAGILE = 2
    TARGETABLE = 3
    BREAKER = 4


class SignalLabel(IntEnum):
    """What a score says to a reader."""

    STRONG_SELL = -2
    SELL = -1
    HOLD = 0
    BUY = 1
    STRONG_BUY = 2


@dataclass(frozen=True, eq=False)
class StabilityVectors:
    """How stable each instrument is; a higher score is more fragile.

    Attributes
    ----------
    overall_score, vol_score, dd_score, trend_score : (N,) arrays in [0, 100]
    sigma : (N,) array
        Standard deviation of log returns per session.
    max_drawdown : (N,) array, <= 0
    trend : (N,) array
        Simple total return over the lookback.
    soft_target_class : (N,) int array of `SoftTargetClass`; -1 where the score is NaN
    """

    as_of: date
    instruments: tuple[str, ...]
    overall_score: FloatArray
    vol_score: FloatArray
    dd_score: FloatArray
    trend_score: FloatArray
    sigma: FloatArray
    max_drawdown: FloatArray
    trend: FloatArray
    soft_target_class: IntArray


@dataclass(frozen=True, eq=False)
class InstrumentScores:
    """How attractive each instrument is over the next `horizon` sessions.

    Attributes
    ----------
    score : (N,) array
        Cross-sectional score, about -1 to 1; NaN where unknown.
    expected_return : (N,) array
        Simple return expected over the horizon, in excess of the cross-section's mean.
    confidence : (N,) array in [0, 1]
    signal_label : (N,) int array of `SignalLabel`
    alpha_components : mapping of component name to (N,) array of z-scores
    """

    as_of: date
    horizon: int
    instruments: tuple[str, ...]
    score: FloatArray
    expected_return: FloatArray
    confidence: FloatArray
    signal_label: IntArray
    alpha_components: dict[str, FloatArray]
