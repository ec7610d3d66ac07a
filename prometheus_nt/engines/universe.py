"""Which instruments may be held: a table of filters, then a ranking and a size limit."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from pydantic import Field

from prometheus_nt.domain.books import Exclusion, Tier, Universe
from prometheus_nt.domain.market import InstrumentScores, SoftTargetClass, StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import (
    bar_counts,
    cross_sectional_zscore,
    has_bar,
    rolling_dollar_volume,
)


class UniverseParams(Params):
    """Parameters of the universe engine; lookbacks in sessions, a limit of None is off.

    Attributes
    ----------
    min_price
        Least close as traded, in the instrument's currency.
    min_dollar_volume
        Least mean of close times volume over `liquidity_lookback`; unknown volume fails it.
    core_fraction
        Fraction of the members, best first, that stands on the CORE shelf; at least one does.
    stability_weight
        Points of rank score that one standard deviation of fragility costs.
    """

    universe_id: str = Field("CORE_EQ_US", min_length=1)
    max_size: int = Field(200, ge=1)
    min_price: float | None = Field(1.0, gt=0)
    min_dollar_volume: float | None = Field(None, gt=0)
    liquidity_lookback: int = Field(63, ge=1)
    min_history_sessions: int = Field(252, ge=1)
    exclude: tuple[str, ...] = ()
    exclude_breakers: bool = True
    core_fraction: float = Field(0.5, ge=0, le=1)
    stability_weight: float = Field(0.5, ge=0)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a filter may look at."""

    panel: MarketPanel
    stability: StabilityVectors
    scores: InstrumentScores
    params: UniverseParams


def select_universe(
    panel: MarketPanel,
    stability: StabilityVectors,
    scores: InstrumentScores,
    params: UniverseParams,
) -> Universe:
    """Return the best instruments that pass every filter, at most `max_size` of them.

    The rank score is the z-score of the assessment minus `stability_weight` times the z-score of
    fragility, both over the candidates. Equal scores rank in the order of the instruments.
    """
    exclusion = _first_failing(_Inputs(panel, stability, scores, params))
    candidates = exclusion == int(Exclusion.NONE)
    score = _rank_score(candidates, stability, scores, params)
    best_first = np.argsort(-score, kind="stable")[: int(candidates.sum())]
    members = best_first[: params.max_size]
    exclusion[best_first[params.max_size :]] = int(Exclusion.MAX_UNIVERSE_SIZE)
    tier = np.full(len(score), int(Tier.EXCLUDED), dtype=np.int64)
    tier[members] = int(Tier.SATELLITE)
    tier[members[: max(1, ceil(params.core_fraction * len(members)))]] = int(Tier.CORE)
    return Universe(
        as_of=panel.as_of,
        universe_id=params.universe_id,
        instruments=panel.instruments,
        score=score,
        included=tier > int(Tier.EXCLUDED),
        tier=tier,
        exclusion=exclusion,
    )


def _first_failing(inputs: _Inputs) -> IntArray:
    passing, exclusion = _all_pass(inputs), np.zeros(len(inputs.panel.instruments), dtype=np.int64)
    for code, passes in FILTERS:
        still = passing & passes(inputs)
        exclusion[passing & ~still] = int(code)
        passing = still
    return exclusion


def _rank_score(
    candidates: BoolArray,
    stability: StabilityVectors,
    scores: InstrumentScores,
    params: UniverseParams,
) -> FloatArray:
    both = np.where(candidates, np.array([scores.score, stability.overall_score]), np.nan)
    attractive, fragile = cross_sectional_zscore(both, tail_fraction=0.0)
    rank_score: FloatArray = attractive - params.stability_weight * fragile
    return rank_score


def _not_hard_excluded(inputs: _Inputs) -> BoolArray:
    banned = frozenset(inputs.params.exclude)
    if not banned:
        return _all_pass(inputs)
    return np.array([name not in banned for name in inputs.panel.instruments])


def _trading(inputs: _Inputs) -> BoolArray:
    return has_bar(inputs.panel.close[-1])


def _has_history(inputs: _Inputs) -> BoolArray:
    bars: FloatArray = inputs.panel.derived(bar_counts)[-1]
    return np.greater_equal(bars, inputs.params.min_history_sessions)


def _liquidity_known(inputs: _Inputs) -> BoolArray:
    if inputs.params.min_dollar_volume is None:
        return _all_pass(inputs)
    return np.isfinite(_dollar_volume(inputs))


def _liquid(inputs: _Inputs) -> BoolArray:
    if inputs.params.min_dollar_volume is None:
        return _all_pass(inputs)
    return np.greater_equal(_dollar_volume(inputs), inputs.params.min_dollar_volume)


def _dear_enough(inputs: _Inputs) -> BoolArray:
    if inputs.params.min_price is None:
        return _all_pass(inputs)
    close: FloatArray = inputs.panel.close[-1]
    return np.greater_equal(close, inputs.params.min_price)


def _stability_known(inputs: _Inputs) -> BoolArray:
    return np.isfinite(inputs.stability.overall_score)


def _not_breaking(inputs: _Inputs) -> BoolArray:
    if not inputs.params.exclude_breakers:
        return _all_pass(inputs)
    return np.not_equal(inputs.stability.soft_target_class, int(SoftTargetClass.BREAKER))


def _scored(inputs: _Inputs) -> BoolArray:
    return np.isfinite(inputs.scores.score)


def _dollar_volume(inputs: _Inputs) -> FloatArray:
    history = inputs.panel.derived(rolling_dollar_volume, inputs.params.liquidity_lookback)
    newest: FloatArray = history[-1]
    return newest


def _all_pass(inputs: _Inputs) -> BoolArray:
    return np.ones(len(inputs.panel.instruments), dtype=np.bool_)


FILTERS: tuple[tuple[Exclusion, Callable[[_Inputs], BoolArray]], ...] = (
    (Exclusion.HARD_EXCLUDED, _not_hard_excluded),
    (Exclusion.NOT_TRADING, _trading),
    (Exclusion.INSUFFICIENT_HISTORY, _has_history),
    (Exclusion.UNKNOWN_LIQUIDITY, _liquidity_known),
    (Exclusion.ILLIQUID, _liquid),
    (Exclusion.BELOW_MIN_PRICE, _dear_enough),
    (Exclusion.NO_STABILITY_STATE, _stability_known),
    (Exclusion.BREAKER, _not_breaking),
    (Exclusion.NO_SCORE, _scored),
)
"""In the order they are asked: the first that an instrument fails names its exclusion."""
