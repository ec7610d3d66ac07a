"""One side of a book, long or short: which names, how much of each, and what was asked for."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from prometheus_nt.domain.books import BookTarget, Fallback, Universe
from prometheus_nt.domain.market import FragilityMeasures, InstrumentScores, RegimeState
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.allocation import (
    beta_limit,
    factor_limits,
    fragility_limit,
    sector_limits,
    to_long_space,
)
from prometheus_nt.engines.clusters import correlation_clusters
from prometheus_nt.engines.constraints import EXACT, MARGIN, LinearLimit
from prometheus_nt.engines.factors import DOLLAR_VOLUME, SCORED, style_loadings
from prometheus_nt.engines.numerics.cross_section import percentile_rank
from prometheus_nt.engines.numerics.market_relations import beta_floor, rolling_beta
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.numerics.rolling import rolling_volatility_per_session
from prometheus_nt.engines.numerics.weights import waterfill
from prometheus_nt.engines.portfolio_params import PortfolioParams
from prometheus_nt.engines.solver import SolveResult, SolverSpec, solve
from prometheus_nt.engines.weighting import Method

LONG, SHORT = 1, -1


@dataclass(frozen=True, eq=False)
class BookInputs:
    """Everything a book is made of."""

    panel: MarketPanel
    universe: Universe
    scores: InstrumentScores
    params: PortfolioParams
    regime: RegimeState | None
    fragility: FragilityMeasures | None
    previous: BookTarget | None

    def returns(self, rows: IntArray) -> FloatArray:
        """Return the simple returns of these rows over the solver's lookback, (T, K)."""
        recent = self.panel.derived(total_returns)[-self.params.solver.lookback :]
        return np.take(recent, rows, axis=1)

    def previous_weights(self) -> FloatArray | None:
        """Return the weights asked for last, on the axis of today's panel."""
        if self.previous is None:
            return None
        if self.previous.instruments == self.panel.instruments:
            return self.previous.weights
        asked = dict(zip(self.previous.instruments, self.previous.weights.tolist(), strict=True))
        return np.array([asked.get(name, 0.0) for name in self.panel.instruments])


@dataclass(frozen=True, eq=False)
class Side:
    """What to hold in one direction: rows of the panel best first, and how much at most."""

    direction: int
    rows: IntArray
    total: float
    cap: float
    turnover_share: float = 1.0


@dataclass(frozen=True, eq=False)
class Draft:
    """Weights, (N,), and how they came about: not negative of a side, signed of a book."""

    weights: FloatArray
    method: str
    binding: tuple[str, ...] = ()
    relaxed: tuple[str, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    volatility: float | None = None
    condition_number: float | None = None


def weigh(inputs: BookInputs, side: Side) -> Draft:
    """Return the weights of a side: by proportion and cap, or by the solver where needed."""
    params = inputs.params
    if params.solved or params.solver.limited:
        return _solved(inputs, side)
    raw = np.zeros(len(inputs.panel.instruments))
    raw[side.rows] = _proportions(inputs, side)
    weights = waterfill(raw, side.cap, side.total)
    bound = {
        "unknown_volatility": bool((raw[side.rows] == 0.0).any()),
        "max_weight": bool((weights >= side.cap).any()),
    }
    placed = float(np.sort(weights).sum())
    return Draft(
        weights=weights,
        method=params.weighting,
        binding=raised(bound),
        relaxed=("gross",) if len(side.rows) and placed < side.total - EXACT else (),
    )


def raised(flags: dict[str, bool]) -> tuple[str, ...]:
    """Return the names of the flags that are up."""
    return tuple(name for name, up in flags.items() if up)


def _solved(inputs: BookInputs, side: Side) -> Draft:
    returns = to_long_space(
        inputs.returns(side.rows), np.full(len(side.rows), side.direction, dtype=np.int64)
    )
    held, elsewhere = _held(inputs, side)
    limits, missing = _limits(inputs, side)
    spec = _spec(inputs, side, returns, limits, elsewhere)
    result = solve(spec, returns, held)
    weights = np.zeros(len(inputs.panel.instruments))
    weights[side.rows] = result.weights
    return Draft(
        weights=weights,
        method=inputs.params.weighting if result.method == "given" else result.method,
        binding=_binding(result, spec),
        relaxed=result.relaxed + missing,
        fallbacks=tuple(
            Fallback(inputs.params.weighting, one.reason) if one.method == "given" else one
            for one in result.fallbacks
        ),
        volatility=result.volatility,
        condition_number=result.condition_number,
    )


def _spec(
    inputs: BookInputs,
    side: Side,
    returns: FloatArray,
    limits: tuple[LinearLimit, ...],
    elsewhere: float,
) -> SolverSpec:
    params, solver = inputs.params, inputs.params.solver
    expected = side.direction * inputs.scores.expected_return[side.rows] / inputs.scores.horizon
    turnover = solver.max_turnover
    two_sided = params.construction == "long_short"
    return SolverSpec(
        method=cast(Method, params.weighting) if params.solved else "given",
        total=side.total,
        cap=side.cap,
        limits=limits,
        proportions=None if params.solved else _proportions(inputs, side),
        expected_returns=expected,
        max_turnover=None if turnover is None else turnover * side.turnover_share,
        other_sales=elsewhere,
        cost=solver.cost_bps * 1e-4 / solver.holding_sessions,
        risk_aversion=solver.risk_aversion,
        # The volatility of two sides is not that of either.
        volatility_target=None if two_sided else solver.volatility_target,
        min_observations=solver.min_observations,
        max_missing=solver.max_missing,
        clusters=correlation_clusters(returns, solver.clusters) if solver.two_level else None,
        cluster_cap=solver.cluster_cap_in(inputs.regime),
    )


def _held(inputs: BookInputs, side: Side) -> tuple[FloatArray | None, float]:
    """Return the previous weights of the side's names, and the sum of those of all others.

    A volatility target scales the sides of a book together, once they are weighed: for each of
    them they are then those of its whole `total`.
    """
    previous, params = inputs.previous_weights(), inputs.params
    if previous is None:
        return None, 0.0
    ours = np.maximum(side.direction * previous, 0.0)
    whole = float(np.sort(ours).sum())
    if (
        whole
        and params.construction == "long_short"
        and params.solver.volatility_target is not None
    ):
        ours *= side.total / whole
    elsewhere = ours.copy()
    elsewhere[side.rows] = 0.0
    return ours[side.rows], float(np.sort(elsewhere).sum())


def _limits(inputs: BookInputs, side: Side) -> tuple[tuple[LinearLimit, ...], tuple[str, ...]]:
    """Return the linear limits on the side's names, and those that nothing is known to apply."""
    solver, panel = inputs.params.solver, inputs.panel
    limits: tuple[LinearLimit, ...] = ()
    if solver.max_sector_weight is not None:
        sectors = panel.sectors or (None,) * len(panel.instruments)
        limits += sector_limits(tuple(sectors[row] for row in side.rows), solver.max_sector_weight)
    if solver.max_beta is not None:
        beta = panel.derived(rolling_beta, solver.lookback, beta_floor(solver.lookback))[-1]
        limits += (beta_limit(beta[side.rows], solver.max_beta),)
    limits += _style_limits(inputs, side)
    if solver.max_fragility is None or side.direction == SHORT:
        return limits, ()
    if inputs.fragility is None:
        return limits, ("fragility",)
    score = inputs.fragility.fragility_score[side.rows]
    return (*limits, fragility_limit(score, solver.max_fragility)), ()


def _style_limits(inputs: BookInputs, side: Side) -> tuple[LinearLimit, ...]:
    wanted = inputs.params.solver.max_factor_exposure.given
    if not wanted or not len(side.rows):
        return ()
    loadings = side.direction * style_loadings(inputs.panel, side.rows, DOLLAR_VOLUME)
    of_factor = dict(zip(SCORED, loadings, strict=True))
    limits: tuple[LinearLimit, ...] = ()
    for name, most in wanted.items():
        limits += factor_limits(name, of_factor[name], most)
    return limits


def _binding(result: SolveResult, spec: SolverSpec) -> tuple[str, ...]:
    named = {"cap": "max_weight"}
    skipped = ("gross", "long_only")
    # A solver is given limits that are tighter by the margin.
    tight = tuple(
        named.get(name, name)
        for name, slack in result.slack.items()
        if name not in skipped and slack <= 2.0 * MARGIN and result.weights.any()
    )
    reached = spec.volatility_target is not None and result.volatility == spec.volatility_target
    unknown = ("unknown_volatility",) if result.unusable.any() else ()
    return unknown + tight + (("volatility_target",) if reached else ())


def _proportions(inputs: BookInputs, side: Side) -> FloatArray:
    params, rows = inputs.params, side.rows
    match params.weighting:
        case "equal":
            return np.ones(len(rows))
        case "score":
            attraction = side.direction * inputs.universe.score[rows]
            return 1.0 + (len(rows) - 1) * percentile_rank(attraction)
        case _:
            lookback = params.volatility_lookback
            history = inputs.panel.derived(rolling_volatility_per_session, lookback, lookback // 2)
            sigma = history[-1][rows]
            return np.where(np.isnan(sigma), 0.0, 1.0 / np.fmax(sigma, params.volatility_floor))
