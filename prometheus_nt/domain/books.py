"""Universes, weights and risk: from what may be held to what shall be held."""

from dataclasses import dataclass
from datetime import date
from enum import IntEnum, StrEnum
from typing import Literal, NamedTuple

from prometheus_nt.domain.market import RegimeLabel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray


class Tier(IntEnum):
    """The shelf of the universe an instrument stands on."""

    EXCLUDED = 0
    SATELLITE = 1
    CORE = 2


class Exclusion(IntEnum):
    """Why an instrument is not in the universe; the first failing filter names it.

    Names are what is stored. The numbers follow the order in which reasons were added, not the
    order in which they are asked.
    """

    NONE = 0
    HARD_EXCLUDED = 1
    NOT_TRADING = 2
    INSUFFICIENT_HISTORY = 3
    UNKNOWN_LIQUIDITY = 4
    ILLIQUID = 5
    BELOW_MIN_PRICE = 6
    NO_STABILITY_STATE = 7
    BREAKER = 8
    NO_SCORE = 9
    MAX_UNIVERSE_SIZE = 10
    NOT_MEMBER = 11
    SECTOR_CAP = 12
    UNKNOWN_METRICS = 13
    FRICTION = 14
    FAT_TAILS = 15
    RANDOM_WALK = 16
    FALLING_TREND = 17
    WEAK_MOMENTUM = 18
    HIGH_ENTROPY = 19
    INEFFICIENT = 20
    CLUSTER_FULL = 21
    WEAK_AND_FRAGILE = 22


class RiskActionType(StrEnum):
    """What the risk stage or a gate did to a weight or an order."""

    CAPPED = "CAPPED"
    REJECTED = "REJECTED"
    EXECUTION_REJECT = "EXECUTION_REJECT"


@dataclass(frozen=True, eq=False)
class Universe:
    """Which instruments may be held after a close, and why the others may not.

    Attributes
    ----------
    score : (N,) array
        Points of the candidates, at least 0; NaN where a filter failed first.
    included : (N,) bool array
    tier : (N,) int array of `Tier`
    exclusion : (N,) int array of `Exclusion`
    regime_risk : float in [0, 1] or None
        Probability of a crisis or risk-off regime that was reckoned with; None if unknown.
    relaxation_stage : int or None
        How far natural selection had to relax its limits: 1 is strict, 4 the last resort. None
        where the universe is a ranking.
    clusters : (N,) int array or None
        Correlation clusters of natural selection, -1 where unknown.
    """

    as_of: date
    universe_id: str
    instruments: tuple[str, ...]
    score: FloatArray
    included: BoolArray
    tier: IntArray
    exclusion: IntArray
    regime_risk: float | None = None
    relaxation_stage: int | None = None
    clusters: IntArray | None = None


@dataclass(frozen=True, eq=False)
class MemberBooks:
    """What the members of a meta-portfolio had decided by a close, and what each of them weighs.

    Attributes
    ----------
    members : tuple of K run ids
    shares : (K,) array
        Of the whole, at least 0; decided at `as_of_weighed`.
    decided : (K,) array of datetime64[D]
        The session after whose close each member decided what it follows.
    books : (K, N) array
        Signed fractions of each member's own equity, as decided then.
    """

    as_of: date
    meta_id: str
    as_of_weighed: date
    instruments: tuple[str, ...]
    members: tuple[str, ...]
    shares: FloatArray
    decided: SessionArray
    books: FloatArray


@dataclass(frozen=True)
class Fallback:
    """A method of weighting that gave no weights, and why the next one was tried."""

    method: str
    reason: str


@dataclass(frozen=True)
class BookEvidence:
    """How the weights of a book came about.

    Attributes
    ----------
    method : str
        What made the weights in the end; 'previous' or 'cash' if no method could.
    as_of_solved : date
        The session whose close the weights were made after; they are held until the next solve.
    regime : RegimeLabel or None
        What the engine was told when it made them.
    fallbacks : tuple of Fallback
        What was tried before `method`, in that order.
    relaxed : tuple of str
        Limits that could not be kept, and what was asked for and could not be had.
    turnover : float or None
        One-way, against the weights asked for a session before; None if there were none.
    expected_volatility : float or None
        Annualised, when the weights were made, by the shrunk covariance of the solver; None if
        it was not asked, or there was too little history.
    condition_number : float or None
        Of the shrunk correlations; of the larger one where two sides were solved.
    antifragility, cvar_95 : float or None
        Means over the names by absolute weight, when a solver made the weights; None where a name
        is unknown, or no solver was asked.
    """

    method: str
    as_of_solved: date
    regime: RegimeLabel | None = None
    fallbacks: tuple[Fallback, ...] = ()
    relaxed: tuple[str, ...] = ()
    turnover: float | None = None
    expected_volatility: float | None = None
    condition_number: float | None = None
    antifragility: float | None = None
    cvar_95: float | None = None


@dataclass(frozen=True, eq=False)
class BookTarget:
    """The weights a portfolio engine asks for; nothing may trade them before risk has seen them.

    Attributes
    ----------
    weights : (N,) array
        Fractions of book equity, negative for shorts; the rest is cash.
    expected_return : float or None
        Sum of weight times expected return over the scores' horizon; None if no score is known.
    binding : tuple of str
        Names of the construction limits that bound.
    evidence : BookEvidence or None
        None for a book that no engine made.
    """

    as_of: date
    book_id: str
    instruments: tuple[str, ...]
    weights: FloatArray
    expected_return: float | None
    binding: tuple[str, ...]
    evidence: BookEvidence | None = None

    @property
    def solved(self) -> bool:
        """Whether the weights were made after this session, not held from an earlier one."""
        return self.evidence is not None and self.evidence.as_of_solved == self.as_of


@dataclass(frozen=True)
class RiskAction:
    """One intervention: a limit that was breached, and the weight before and after.

    Every limit lowers the weight's size but `max_turnover`, which may keep what was to be sold.
    """

    instrument_id: str
    action_type: RiskActionType
    limit: str
    limit_value: float
    weight_before: float
    weight_after: float


RiskBasis = Literal["target", "held"]
"""Which book a risk report describes."""


class TailRisk(NamedTuple):
    """Value at risk and expected shortfall of a book, as returns: a loss is negative.

    Attributes
    ----------
    method : str
        `historical`, `parametric` (normal) or `bootstrap`.
    sessions : int
        Over how many sessions.
    level : float
        Confidence, 0.95 for example.
    """

    method: str
    sessions: int
    level: float
    value_at_risk: float
    expected_shortfall: float


class StressLoss(NamedTuple):
    """What a book would earn under stress, and how much of that its own data says.

    Attributes
    ----------
    pnl : float
        Fraction of equity; a loss is negative.
    covered : float in [0, 1]
        Share of gross weight with data of its own; the rest moves as beta times the market.
    """

    name: str
    pnl: float
    covered: float


@dataclass(frozen=True, eq=False)
class RiskContributions:
    """How the volatility of a book is made of its K names, ordered by instrument id.

    Attributes
    ----------
    marginal : (K,) array
        Change of annualised volatility per unit of weight.
    component : (K,) array
        Weight times marginal; the sum is the volatility. Negative is a hedge.
    """

    instruments: tuple[str, ...]
    marginal: FloatArray
    component: FloatArray


@dataclass(frozen=True, eq=False)
class RiskReport:
    """The risk of a book, from data up to `as_of`; None where it cannot be known.

    Exposures are fractions of book equity and signed, long positive; volatility is annualised;
    value at risk and expected shortfall are returns (a loss is negative).

    Attributes
    ----------
    herfindahl : float
        Sum of squared shares of gross; 0 for an empty book.
    top_ten_share : float
        Share of gross in the ten largest names; 0 for an empty book.
    var_95, expected_shortfall_95 : float or None
        Historical, of one session; `tails` has the other methods, levels and horizons.
    max_drawdown : float or None, <= 0
        Of the book held at constant weights over the lookback.
    exposures_by_sector, gross_by_sector : mapping of sector to net and to gross weight
    exposures_by_factor : mapping of factor to exposure
        `market` is the sum of weight times beta; the others are sums of weight times z-score.
    tails : tuple of TailRisk, empty where history is too short
    stress : tuple of StressLoss, empty for an empty book
    sessions_to_liquidate : float or None
        Until 95% of gross is sold at a fixed share of usual volume.
    basis : str
        `target`: the book that was decided after this close. `held`: nothing was decided, and it
        is what the sleeve held, at the marks of this close.
    """

    gross_exposure: float
    net_exposure: float
    cash_weight: float
    names: int
    herfindahl: float
    top_ten_share: float
    largest_weight: float
    volatility: float | None
    var_95: float | None
    expected_shortfall_95: float | None
    beta: float | None
    max_drawdown: float | None
    sessions_to_liquidate: float | None
    exposures_by_sector: dict[str, float]
    gross_by_sector: dict[str, float]
    exposures_by_factor: dict[str, float]
    contributions: RiskContributions | None
    tails: tuple[TailRisk, ...]
    stress: tuple[StressLoss, ...]
    basis: RiskBasis = "target"


@dataclass(frozen=True, eq=False)
class TargetPortfolio:
    """Weights that passed every limit: only the risk engine makes one, sleeves trade nothing else.

    Attributes
    ----------
    weights : (N,) array
        Fractions of book equity; the rest is cash.
    actions : tuple of RiskAction
        Interventions only; a weight that passed unchanged leaves no row.
    breaker_tripped : bool
        The drawdown breaker holds gross down, and will until the drawdown has recovered.
    """

    as_of: date
    book_id: str
    instruments: tuple[str, ...]
    weights: FloatArray
    actions: tuple[RiskAction, ...]
    report: RiskReport
    breaker_tripped: bool = False
