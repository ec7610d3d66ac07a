"""Settings of the portfolio engine, and which of them contradict each other."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prometheus_nt.domain.market import RegimeLabel, RegimeState
from prometheus_nt.domain.record import Params
from prometheus_nt.engines.clusters import ClusterParams
from prometheus_nt.engines.weighting import NamedMethod

Weighting = Literal["score", NamedMethod]

SOLVED = ("hrp", "min_variance", "max_ratio", "risk_budgeting", "max_diversification")
"""Weightings that cost milliseconds, and so are not made every session."""

COST_AWARE = ("min_variance", "max_ratio")


class HedgeScale(Params):
    """What fraction of the hedge's gross a regime calls for.

    Attributes
    ----------
    unknown
        Where the node makes no regime, or it has not warmed up.
    """

    crisis: float = Field(1.0, ge=0, le=1)
    risk_off: float = Field(1.0, ge=0, le=1)
    neutral: float = Field(0.5, ge=0, le=1)
    carry: float = Field(0.25, ge=0, le=1)
    unknown: float = Field(0.5, ge=0, le=1)

    def of(self, regime: RegimeState | None) -> float:
        """Return the fraction in `regime`."""
        if regime is None:
            return self.unknown
        return {
            RegimeLabel.CRISIS: self.crisis,
            RegimeLabel.RISK_OFF: self.risk_off,
            RegimeLabel.NEUTRAL: self.neutral,
            RegimeLabel.CARRY: self.carry,
        }[regime.label]


class FactorLimits(Params):
    """Largest size of the sum of weight times z-score of a style factor; None is off.

    The factors are those of the risk report: z-scores within the panel of the logarithms of
    momentum, volatility, and dollar volume, which stands in for size.
    """

    momentum: float | None = Field(None, gt=0)
    volatility: float | None = Field(None, gt=0)
    dollar_volume: float | None = Field(None, gt=0)

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set, by factor."""
        return {name: limit for name, limit in self if limit is not None}


class SolverParams(Params):
    """Parameters of the solver; lookbacks in sessions, limits of None are off.

    A limit applies to every weighting, and to each side of a long-short book by itself.

    Attributes
    ----------
    resolve_every
        Sessions between solves of hrp, min_variance, max_ratio, risk_budgeting and
        max_diversification, whose weights are held in between, unless a held name leaves the
        universe or, on two levels, the regime changes.
    min_observations, max_missing
        Sessions without which risk is unknown; largest fraction of them without a return.
    max_sector_weight
        Largest weight of a sector; instruments of unknown sector count as one.
    max_beta
        Largest sum of weight times beta to the equal-weighted market.
    max_factor_exposure
        Of style factors, either way; an unknown factor counts as an average one.
    max_fragility
        Largest sum of weight times fragility score of the long side; an unknown score counts as 1.
    max_turnover
        One-way, from one solve to the next. Everything else goes first.
    volatility_target
        Annualised; a riskier book is scaled down into cash, whatever `max_turnover` says. A book
        that has become calmer grows back as fast as that allows.
    cost_bps, holding_sessions
        Cost of a trade, and over how many sessions it has to pay.
    risk_aversion
        What `min_variance` weighs variance with against cost.
    two_level
        Weight clusters of correlated names by the method, names within one by inverse variance.
    cluster_cap, cluster_cap_risk_off, cluster_cap_crisis
        Largest weight of a cluster; an equal share if that is more.
    """

    lookback: int = Field(252, ge=2)
    min_observations: int = Field(60, ge=2)
    max_missing: float = Field(0.1, ge=0, lt=1)
    resolve_every: int = Field(5, ge=1)
    max_sector_weight: float | None = Field(None, gt=0)
    max_beta: float | None = Field(None, ge=0)
    max_factor_exposure: FactorLimits = FactorLimits()
    max_fragility: float | None = Field(None, ge=0)
    max_turnover: float | None = Field(None, gt=0)
    volatility_target: float | None = Field(None, gt=0)
    cost_bps: float = Field(0.0, ge=0)
    holding_sessions: int = Field(21, ge=1)
    risk_aversion: float = Field(5.0, gt=0)
    two_level: bool = False
    clusters: ClusterParams = ClusterParams()
    cluster_cap: float = Field(0.25, gt=0, le=1)
    cluster_cap_risk_off: float = Field(0.20, gt=0, le=1)
    cluster_cap_crisis: float = Field(0.15, gt=0, le=1)

    @property
    def limited(self) -> bool:
        """Whether a limit is set that a simple weighting does not satisfy by itself."""
        limits = (
            self.max_sector_weight,
            self.max_beta,
            self.max_fragility,
            self.max_turnover,
            self.volatility_target,
        )
        return bool(self.max_factor_exposure.given) or any(limit is not None for limit in limits)

    def cluster_cap_in(self, regime: RegimeState | None) -> float:
        """Return the largest weight of a cluster in `regime`; an unknown one is not a bad one."""
        match regime.label if regime is not None else None:
            case RegimeLabel.CRISIS:
                return min(self.cluster_cap, self.cluster_cap_crisis)
            case RegimeLabel.RISK_OFF:
                return min(self.cluster_cap, self.cluster_cap_risk_off)
            case _:
                return self.cluster_cap


class PortfolioParams(Params):
    """Parameters of the portfolio engine; weights are fractions of book equity.

    Attributes
    ----------
    construction
        'long_only' holds the best of the universe. 'long_short' also sells the lowest ranked of
        the candidates. 'short_hedge' sells what fragility suggests, as much as the regime calls
        for; of the limits it knows those of the short side.
    max_names
        Hold only the best of the universe; None holds all of it.
    weighting
        'score' weights names by rank, from k for the best of k to 1 for the worst, so that no
        outlier decides the book; 'equal'; 'inverse_volatility'; or a method of the solver.
    max_gross
        Largest gross of a long-only book; `gross_long` and `gross_short` are those of the sides of
        the others, at most.
    cash_buffer
        Least cash, so that costs and a gap at the open do not overdraw the account. The proceeds
        of shorts count as cash.
    volatility_floor
        Least standard deviation per session that 'inverse_volatility' believes.
    beta_neutral
        Scale the short side of 'long_short' down until its market beta is that of the long side.
    """

    book_id: str = Field("US_CORE_LONG_EQ", min_length=1)
    construction: Literal["long_only", "long_short", "short_hedge"] = "long_only"
    max_names: int | None = Field(None, ge=1)
    max_names_short: int = Field(25, ge=1)
    max_weight: float = Field(0.10, gt=0, le=1)
    max_weight_short: float = Field(0.05, gt=0, le=1)
    max_gross: float = Field(1.0, gt=0, le=1)
    gross_long: float = Field(1.0, gt=0, le=3)
    gross_short: float = Field(1.0, gt=0, le=3)
    cash_buffer: float = Field(0.01, ge=0, lt=1)
    weighting: Weighting = "score"
    volatility_lookback: int = Field(63, ge=3)
    volatility_floor: float = Field(0.001, gt=0)
    beta_neutral: bool = False
    hedge: HedgeScale = HedgeScale()
    solver: SolverParams = SolverParams()

    @property
    def solved(self) -> bool:
        """Whether the weighting is one of those that are not made every session."""
        return self.weighting in SOLVED or self.solver.two_level

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        solver = self.solver
        if self.construction == "long_short" and self.max_names is None:
            raise ValueError("max_names: long_short needs it, or nothing is left to sell short")
        if solver.cost_bps > 0.0 and (self.weighting not in COST_AWARE or solver.two_level):
            raise ValueError(
                f"solver.cost_bps: {self.weighting} does not see costs; use solver.max_turnover"
            )
        if solver.two_level and self.weighting in ("score", "equal"):
            raise ValueError(f"solver.two_level: {self.weighting} has no second level")
        return self
