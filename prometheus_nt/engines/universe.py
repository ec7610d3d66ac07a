"""Which instruments may be held.

1. `FILTERS` is a table of what an instrument must be; the first that fails names its exclusion.
2. The candidates left are scored: `_rank_scores`, or `natural_selection`, which also vetoes.
3. `_within_limits` keeps the best within the limits of sectors and size, and those of the session
   before a little longer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from pydantic import Field

from prometheus_nt.domain.books import Exclusion, Tier, Universe
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.market import (
    InstrumentScores,
    RegimeState,
    SoftTargetClass,
    StabilityVectors,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.measures import (
    dollar_volume,
    history,
    last_price,
    membership,
    traded_within,
)
from prometheus_nt.engines.natural_selection import NaturalParams, Selection, select_naturally
from prometheus_nt.engines.numerics.cross_section import (
    cross_sectional_zscore,
    first_ascending,
    position_in_group,
    sector_codes,
)
from prometheus_nt.engines.numerics.remembered import of_same_names
from prometheus_nt.engines.opportunity import OpportunityParams, opportunity_multiplier

STABILITY_RISK = "p_to_targetable_or_breaker"
REGIME_RISK = "p_to_crisis_or_risk_off"


class UniverseParams(Params):
    """Parameters of the universe engine; lookbacks in sessions, a limit of None is off.

    Attributes
    ----------
    min_price
        Least close as traded, in the instrument's currency.
    min_dollar_volume
        Least mean of close times volume over `liquidity_lookback`; unknown volume fails it.
    require_membership
        Only those who belonged to the panel's index on the day.
    sector_max_names
        Members of one sector at most. Instruments of unknown sector count as one sector.
    hysteresis_buffer
        Ranks by which a member may fall behind the last place before it has to leave, and a
        newcomer must be ahead of it to take a member's place.
    max_gap
        Sessions without a bar after which a member has to leave; nobody enters without one.
    exclude_weak_fragile
        Leave out names of class FRAGILE or worse whose profile is known to be weak. Without
        accounts a profile is judged by prices alone, which the class has judged already.
    core_fraction
        Fraction of the members, best first, that stands on the CORE shelf; at least one does.
    stability_weight
        Standard deviations of the assessment that one of fragility costs.
    regime_risk_alpha
        Fraction of `max_size` that a certain crisis costs, and by which fragility then costs more.
        A factor on every score would rank as before, so the risk of a regime acts on these.
    stability_risk_alpha
        Fraction of its score that an instrument loses if it is certain to become a soft target.
    lambda_weight
        How far the opportunity density of its sector moves a score, up or down, as a fraction.
    selection
        `ranked`: the best scores. `natural`: the best of each cluster, within `natural`'s limits;
        `max_size` and `sector_max_names` then hold as well.
    """

    universe_id: str = Field("CORE_EQ_US", min_length=1)
    max_size: int = Field(200, ge=1)
    min_price: float | None = Field(1.0, gt=0)
    min_dollar_volume: float | None = Field(None, gt=0)
    liquidity_lookback: int = Field(63, ge=1)
    min_history_sessions: int = Field(252, ge=1)
    max_gap: int = Field(5, ge=1)
    exclude: tuple[str, ...] = ()
    exclude_breakers: bool = True
    exclude_weak_fragile: bool = False
    require_membership: bool = False
    sector_max_names: int | None = Field(None, ge=1)
    hysteresis_buffer: int = Field(0, ge=0)
    core_fraction: float = Field(0.5, ge=0, le=1)
    stability_weight: float = Field(0.5, ge=0)
    regime_risk_alpha: float = Field(0.0, ge=0, le=1)
    stability_risk_alpha: float = Field(0.0, ge=0, le=1)
    lambda_weight: float = Field(0.0, ge=0, le=1)
    opportunity: OpportunityParams = OpportunityParams()
    selection: Literal["ranked", "natural"] = "ranked"
    natural: NaturalParams = NaturalParams()


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a filter, a score or a limit may look at; risks are None where unknown."""

    panel: MarketPanel
    stability: StabilityVectors
    scores: InstrumentScores
    params: UniverseParams
    regime_risk: float | None
    incumbents: BoolArray
    profiles: Profiles | None = None

    @property
    def stressed(self) -> float:
        """How much of the regime's risk is to act, 0 to 1."""
        return self.params.regime_risk_alpha * (self.regime_risk or 0.0)


def select_universe(  # noqa: PLR0913 - what the day's table hands over, by keyword
    panel: MarketPanel,
    stability: StabilityVectors,
    scores: InstrumentScores,
    params: UniverseParams,
    *,
    regime: RegimeState | None = None,
    profiles: Profiles | None = None,
    previous: Universe | None = None,
) -> Universe:
    """Return the best instruments that pass every filter, at most `max_size` of them.

    The score of a ranking is the z-score of the assessment minus `stability_weight` times the
    z-score of fragility, both over the candidates, put on a scale from 0 to 100 by the logistic
    function, and multiplied by what stability risk and opportunity leave of it. The scale is what
    makes a multiplier below 1 a loss: of a negative score it would be a gain.

    Without a regime its risk is unknown and changes nothing. Equal scores rank in the order of the
    instruments.

    Raises
    ------
    DataError
        If membership is required of a panel that keeps none, or an input or `previous` is of other
        instruments.
    InsufficientHistory
        If natural selection needs more sessions than the panel has.
    """
    risk = None if regime is None else float(np.clip(regime.change_risk[REGIME_RISK], 0.0, 1.0))
    incumbents = _incumbents(panel, previous)
    inputs = _Inputs(panel, stability, scores, params, risk, incumbents, profiles)
    exclusion = _first_failing(inputs)
    candidates = exclusion == int(Exclusion.NONE)
    natural = _natural(inputs, candidates)
    if natural is None:
        score, eligible = _rank_scores(inputs, candidates), candidates
    else:
        score, eligible, exclusion = natural.score, natural.winners, exclusion + natural.exclusion
    best_first = first_ascending(
        np.where(eligible, -score, np.inf), int(np.count_nonzero(eligible))
    )
    limited = _within_limits(best_first, inputs)
    exclusion[best_first] = limited
    members = best_first[limited == int(Exclusion.NONE)]
    tier = _tiers(members, len(score), params.core_fraction)
    return Universe(
        as_of=panel.as_of,
        universe_id=params.universe_id,
        instruments=panel.instruments,
        score=score,
        included=tier > int(Tier.EXCLUDED),
        tier=tier,
        exclusion=exclusion,
        regime_risk=risk,
        relaxation_stage=None if natural is None else natural.stage,
        clusters=None if natural is None else natural.clusters,
    )


def _incumbents(panel: MarketPanel, previous: Universe | None) -> BoolArray:
    if previous is None:
        return np.zeros(len(panel.instruments), dtype=np.bool_)
    if previous.instruments != panel.instruments:
        raise DataError(f"universe of {previous.as_of}: not of the panel's instruments")
    if previous.as_of >= panel.as_of:
        raise DataError(f"universe of {previous.as_of}: not older than the panel, {panel.as_of}")
    return previous.included


def _first_failing(inputs: _Inputs) -> IntArray:
    exclusion = np.zeros(len(inputs.panel.instruments), dtype=np.int64)
    # Asked from the last to the first, so that the first that fails has the last word.
    for code, passes in reversed(FILTERS):
        passing = passes(inputs)
        if passing is not None:
            exclusion[~passing] = int(code)
    return exclusion


def _rank_scores(inputs: _Inputs, candidates: BoolArray) -> FloatArray:
    both = np.array([inputs.scores.score, inputs.stability.overall_score])
    both = np.where(candidates, both, np.nan)
    attractive, fragile = cross_sectional_zscore(both, tail_fraction=0.0)
    z = attractive - inputs.params.stability_weight * (1.0 + inputs.stressed) * fragile
    points: FloatArray = 100.0 / (1.0 + np.exp(-z)) * _multiplier(inputs)
    return points


def _multiplier(inputs: _Inputs) -> FloatArray:
    """Return the factor on each score: at least 0, and 1 for what is unknown, (N,)."""
    params, factor = inputs.params, np.ones(len(inputs.panel.instruments))
    risk = inputs.stability.change_risk.get(STABILITY_RISK)
    if params.stability_risk_alpha > 0.0 and risk is not None:
        known = np.where(np.isfinite(risk), np.clip(risk, 0.0, 1.0), 0.0)
        factor = factor - params.stability_risk_alpha * known
    if params.lambda_weight > 0.0:
        factor = factor * opportunity_multiplier(
            inputs.panel, params.lambda_weight, params.opportunity
        )
    return factor


def _natural(inputs: _Inputs, candidates: BoolArray) -> Selection | None:
    if inputs.params.selection == "ranked":
        return None
    return select_naturally(inputs.panel, candidates, _multiplier(inputs), inputs.params.natural)


def _within_limits(best_first: IntArray, inputs: _Inputs) -> IntArray:
    """Return NONE, SECTOR_CAP or MAX_UNIVERSE_SIZE for each of those ranked, best first.

    Places are given in this order, each group by rank:

    1. clear winners: at least the buffer ahead of the last place;
    2. members of the session before, less than the buffer behind the last place;
    3. the others.

    Places of a sector are given alike, with a buffer in proportion. So a name whose rank moves
    about the cut neither comes nor goes, the best newcomer still gets in, and the limits hold.
    Ranks leave out those too far down their sector to get a place in it.
    """
    size = ceil(inputs.params.max_size * (1.0 - inputs.stressed))
    # Bytes are sorted by counting them.
    turn = np.argsort(_turns(best_first, inputs, size).astype(np.int8), kind="stable")
    fits = _places_in_sector(best_first[turn], inputs) < (inputs.params.sector_max_names or 1)
    placed = np.cumsum(fits) <= size
    full = np.where(placed, int(Exclusion.NONE), int(Exclusion.MAX_UNIVERSE_SIZE))
    limited = np.empty(len(best_first), dtype=np.int64)
    limited[turn] = np.where(fits, full, int(Exclusion.SECTOR_CAP))
    return limited


def _turns(best_first: IntArray, inputs: _Inputs, size: int) -> IntArray:
    """Return 0 for clear winners, 1 for members that stay, 2 for the others."""
    params = inputs.params
    buffer, sector_cap, sector_buffer = params.hysteresis_buffer, 1, 0
    if params.sector_max_names is not None:
        sector_cap = params.sector_max_names
        sector_buffer = ceil(buffer * sector_cap / params.max_size)
    in_sector = _places_in_sector(best_first, inputs)
    reachable = in_sector < sector_cap + sector_buffer
    rank = np.cumsum(reachable) - 1
    clear = (rank < size - buffer) & (in_sector < sector_cap - sector_buffer)
    stays = inputs.incumbents[best_first] & reachable & (rank < size + buffer)
    return np.where(clear, 0, np.where(stays, 1, 2))


def _places_in_sector(ranked: IntArray, inputs: _Inputs) -> IntArray:
    """Return how many of the same sector come before; without a limit each is its own sector."""
    if inputs.params.sector_max_names is None:
        return np.zeros(len(ranked), dtype=np.int64)
    return position_in_group(sector_codes(inputs.panel)[ranked])


def _tiers(members: IntArray, count: int, core_fraction: float) -> IntArray:
    tier = np.full(count, int(Tier.EXCLUDED), dtype=np.int64)
    tier[members] = int(Tier.SATELLITE)
    tier[members[: max(1, ceil(core_fraction * len(members)))]] = int(Tier.CORE)
    return tier


def _not_hard_excluded(inputs: _Inputs) -> BoolArray:
    return _allowed(inputs.panel.instruments, inputs.params.exclude)


@of_same_names
def _allowed(instruments: tuple[str, ...], excluded: tuple[str, ...]) -> BoolArray:
    banned = frozenset(excluded)
    allowed = np.array([name not in banned for name in instruments], dtype=np.bool_)
    allowed.flags.writeable = False
    return allowed


def _member(inputs: _Inputs) -> BoolArray | None:
    if not inputs.params.require_membership:
        return None
    return membership(inputs.panel, "require_membership")


def _trading(inputs: _Inputs) -> BoolArray:
    traded = traded_within(inputs.panel, 1)
    if traded.all():
        return traded
    # A missing bar is not a price, and no reason to sell either: a member may miss a few.
    recent = traded_within(inputs.panel, inputs.params.max_gap)
    return traded | (inputs.incumbents & recent)


def _has_history(inputs: _Inputs) -> BoolArray:
    return np.greater_equal(history(inputs.panel), inputs.params.min_history_sessions)


def _liquidity_known(inputs: _Inputs) -> BoolArray | None:
    if inputs.params.min_dollar_volume is None:
        return None
    return np.isfinite(_dollar_volume(inputs))


def _liquid(inputs: _Inputs) -> BoolArray | None:
    if inputs.params.min_dollar_volume is None:
        return None
    return np.greater_equal(_dollar_volume(inputs), inputs.params.min_dollar_volume)


def _dear_enough(inputs: _Inputs) -> BoolArray | None:
    if inputs.params.min_price is None:
        return None
    price = last_price(inputs.panel, inputs.params.max_gap)
    dear: BoolArray = np.greater_equal(price, inputs.params.min_price)
    return dear


def _stability_known(inputs: _Inputs) -> BoolArray:
    return np.isfinite(inputs.stability.overall_score)


def _not_breaking(inputs: _Inputs) -> BoolArray | None:
    if not inputs.params.exclude_breakers:
        return None
    return np.not_equal(inputs.stability.soft_target_class, int(SoftTargetClass.BREAKER))


def _not_weak_and_fragile(inputs: _Inputs) -> BoolArray | None:
    if not inputs.params.exclude_weak_fragile or inputs.profiles is None:
        return None
    stable = np.less(inputs.stability.soft_target_class, int(SoftTargetClass.FRAGILE))
    return np.logical_or(stable, np.not_equal(inputs.profiles.weak_profile, 1))


def _scored(inputs: _Inputs) -> BoolArray:
    return np.isfinite(inputs.scores.score)


def _dollar_volume(inputs: _Inputs) -> FloatArray:
    return dollar_volume(inputs.panel, inputs.params.liquidity_lookback)


FILTERS: tuple[tuple[Exclusion, Callable[[_Inputs], BoolArray | None]], ...] = (
    (Exclusion.HARD_EXCLUDED, _not_hard_excluded),
    (Exclusion.NOT_MEMBER, _member),
    (Exclusion.NOT_TRADING, _trading),
    (Exclusion.INSUFFICIENT_HISTORY, _has_history),
    (Exclusion.UNKNOWN_LIQUIDITY, _liquidity_known),
    (Exclusion.ILLIQUID, _liquid),
    (Exclusion.BELOW_MIN_PRICE, _dear_enough),
    (Exclusion.NO_STABILITY_STATE, _stability_known),
    (Exclusion.BREAKER, _not_breaking),
    (Exclusion.WEAK_AND_FRAGILE, _not_weak_and_fragile),
    (Exclusion.NO_SCORE, _scored),
)
"""In their order: the first that an instrument fails names its exclusion. None passes all."""
