"""What the engines know about each instrument after a close."""

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from typing import NamedTuple

from prometheus_nt.domain.record import FloatArray, IntArray, content_hash


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

    Every array is (N,) and NaN where unknown.

    Attributes
    ----------
    overall_score : in [0, 100]
        The components below by their weights, blended with percentiles.
    vol_score, dd_score, trend_score, downside_beta_score, tail_score : in [0, 100]
        Absolute scales: 50 points at the engine's reference.
    liquidity_score, contagion_score : in [0, 100]
        Partly percentiles, for want of an absolute scale.
    complacent_pricing : in [0, 100]
        How calm and how dear the instrument is against its own past; no part of the score.
    sigma
        Standard deviation of log returns per session.
    max_drawdown : <= 0
    trend
        Simple total return over the lookback.
    downside_beta
        Return per unit of a falling market's.
    expected_shortfall
        Minus the mean of the worst log returns per session.
    market_correlation : in [-1, 1]
    illiquidity
        Mean absolute return per unit of currency traded.
    soft_target_class : int array of `SoftTargetClass`; -1 where the score is NaN
    transition_matrix : (5, 5) array, in the order of `SoftTargetClass`
        Daily probabilities from row to column, self-transitions included.
    change_risk : mapping
        `p_worsen_any`, `p_improve_any`, `p_to_targetable_or_breaker` and `p_to_breaker`:
        probabilities of the class that each instrument has at the engine's horizon.
    """

    as_of: date
    instruments: tuple[str, ...]
    overall_score: FloatArray
    vol_score: FloatArray
    dd_score: FloatArray
    trend_score: FloatArray
    liquidity_score: FloatArray
    downside_beta_score: FloatArray
    tail_score: FloatArray
    contagion_score: FloatArray
    complacent_pricing: FloatArray
    sigma: FloatArray
    max_drawdown: FloatArray
    trend: FloatArray
    downside_beta: FloatArray
    expected_shortfall: FloatArray
    market_correlation: FloatArray
    illiquidity: FloatArray
    soft_target_class: IntArray
    transition_matrix: FloatArray
    change_risk: dict[str, FloatArray]

    @property
    def instability(self) -> FloatArray:
        """The soft target's instability: its volatility score, (N,)."""
        return self.vol_score

    @property
    def high_fragility(self) -> FloatArray:
        """The soft target's high fragility: its drawdown score, (N,)."""
        return self.dd_score


@dataclass(frozen=True, eq=False)
class AntifragilityStats:
    """Which instruments gained from disorder: the shape of their returns, (N,) each.

    NaN where too few returns are known, or where a figure is undefined.

    Attributes
    ----------
    observations : int array
        Known returns within the lookback.
    skew
        Third standardised moment of simple returns.
    tail_gain
        Mean of the returns above their 95th percentile.
    tail_ratio
        The 95th percentile over the absolute 5th.
    var_95, cvar_95
        Loss per session at the 5th percentile, and mean loss at or below it; positive is a loss.
    significance : in [0, 1]
        Observations as a fraction of a year, at most 1.
    antifragility_score : in [0, 1]
        Mean cross-sectional rank of skew and tail gain, times significance.
    """

    as_of: date
    instruments: tuple[str, ...]
    observations: IntArray
    skew: FloatArray
    tail_gain: FloatArray
    tail_ratio: FloatArray
    var_95: FloatArray
    cvar_95: FloatArray
    significance: FloatArray
    antifragility_score: FloatArray


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


class PositionTemplate(NamedTuple):
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
class SimulatedReturns:
    """What each path of a scenario set earns each instrument from its start to its end.

    Attributes
    ----------
    name : str
        What configurations and reports call the set.
    made_on : date
        The newest session that the set was made from.
    spec_hash : str
        Hash of the set's generator and its input.
    returns : (S, N) array
        Simple returns; NaN for an instrument that the set does not have.
    """

    name: str
    made_on: date
    spec_hash: str
    returns: FloatArray


@dataclass(frozen=True, eq=False)
class ScenarioOutlook:
    """The simulated returns that anybody could have after the close of `as_of`.

    Attributes
    ----------
    sets : tuple of SimulatedReturns
        Of different names, each made from no session after `as_of`.
    """

    as_of: date
    sets: tuple[SimulatedReturns, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of the sets that does not read their paths."""
        return content_hash([item.spec_hash for item in self.sets])


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
