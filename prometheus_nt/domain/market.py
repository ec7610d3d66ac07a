"""What the engines know about each instrument after a close."""

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum

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
    alpha_components : mapping of family name to (N,) array of z-scores; NaN where unknown
        With `fragility`, what the score was reduced by, as a z-score of the same kind.
    family_weights : mapping of family name to its weight in the combination, sum 1
    information_coefficient : float or None
        Correlation of score and return behind `expected_return`; None if it has none.
    """

    as_of: date
    horizon: int
    instruments: tuple[str, ...]
    score: FloatArray
    expected_return: FloatArray
    confidence: FloatArray
    signal_label: IntArray
    alpha_components: dict[str, FloatArray]
    family_weights: dict[str, float] = field(default_factory=dict)
    information_coefficient: float | None = None


class RegimeLabel(StrEnum):
    """What kind of market it is."""

    CRISIS = "CRISIS"
    RISK_OFF = "RISK_OFF"
    CARRY = "CARRY"
    NEUTRAL = "NEUTRAL"


@dataclass(frozen=True, eq=False)
class RegimeState:
    """The market's regime after a close, from filtered probabilities: no later session is used.

    Attributes
    ----------
    label : RegimeLabel
        The most probable regime.
    confidence : float in [0, 1]
        Its probability.
    probabilities : (4,) array, in the order of `RegimeLabel`
    transition_matrix : (4, 4) array
        Daily probabilities from row to column, self-transitions included.
    change_risk : mapping
        `p_change_any`, `p_to_crisis_or_risk_off`, `p_to_carry` over the engine's horizon.
    features : mapping of feature name to its value at `as_of`
    previous_label : RegimeLabel or None
        The label of the session before; None if the engine had none.
    """

    as_of: date
    region: str
    label: RegimeLabel
    confidence: float
    probabilities: FloatArray
    transition_matrix: FloatArray
    change_risk: dict[str, float]
    features: dict[str, float]
    previous_label: RegimeLabel | None


class FragilityClass(IntEnum):
    """How exposed an instrument is to a deep fall."""

    NONE = 0
    WATCHLIST = 1
    SHORT_CANDIDATE = 2
    CRISIS = 3


@dataclass(frozen=True)
class PositionTemplate:
    """A position that a fragile instrument suggests; a hedge sleeve decides whether to take it.

    notional_hint : fraction of book equity.
    """

    instrument_id: str
    direction: str
    notional_hint: float
    horizon: int
    rationale: str


@dataclass(frozen=True, eq=False)
class FragilityMeasures:
    """How fragile each instrument is to a deep fall over the next `horizon` sessions.

    Attributes
    ----------
    fragility_score : (N,) array in [0, 1]; NaN where unknown
    fragility_class : (N,) int array of `FragilityClass`; -1 where unknown
    drawdown_probability : (N,) array in [0, 1]
        Calibrated probability of a fall deeper than `drawdown_threshold` within the horizon; NaN
        until enough history exists to calibrate it.
    components : mapping of component name to (N,) percentiles in [0, 1]
    scenario_losses : mapping of scenario set name to (N,) array of losses, >= 0
    templates : tuple of PositionTemplate, most fragile first
    """

    as_of: date
    horizon: int
    drawdown_threshold: float
    instruments: tuple[str, ...]
    fragility_score: FloatArray
    fragility_class: IntArray
    drawdown_probability: FloatArray
    components: dict[str, FloatArray]
    scenario_losses: dict[str, FloatArray]
    templates: tuple[PositionTemplate, ...]


@dataclass(frozen=True, eq=False)
class ScenarioSet:
    """Simulated joint paths of simple returns, made from history up to `as_of`.

    Attributes
    ----------
    name : str
        What configurations and reports call it.
    spec_hash : str
        Hash of the generator's settings, seed and input: equal hash, equal paths.
    returns : (S, H, N) array
        Scenario, session, instrument; never NaN.
    """

    as_of: date
    name: str
    spec_hash: str
    category: str
    instruments: tuple[str, ...]
    returns: FloatArray
