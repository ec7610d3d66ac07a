"""Kinds of books: the best held long, the best against the worst, or a hedge of fragile names.

Each construction chooses the names of its sides, has them weighed (`sides`), and puts the signed
weights together. No figure is ever divided by the net of a book, which may be zero.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from prometheus_nt.domain.books import Exclusion, Universe
from prometheus_nt.domain.market import PositionTemplate
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.allocation import from_long_space
from prometheus_nt.engines.constraints import EXACT
from prometheus_nt.engines.numerics.market_relations import beta_floor, rolling_beta
from prometheus_nt.engines.sides import LONG, SHORT, BookInputs, Draft, Side, raised, weigh
from prometheus_nt.engines.solver import annualised_volatility_of
from prometheus_nt.engines.turnover import TurnoverLimit

NOT_TO_BE_SOLD = (
    Exclusion.HARD_EXCLUDED,
    Exclusion.NOT_TRADING,
    Exclusion.UNKNOWN_LIQUIDITY,
    Exclusion.ILLIQUID,
    Exclusion.BELOW_MIN_PRICE,
)
"""Exclusions that hold for a hedge as well. Others do not: what breaks is what it sells."""


def long_only(inputs: BookInputs) -> Draft:
    """Return the best members, held long; an empty universe is a book of cash."""
    params, universe = inputs.params, inputs.universe
    rows = _best(universe, params.max_names)
    total = min(params.max_gross, 1.0 - params.cash_buffer)
    side = weigh(inputs, Side(LONG, rows, total, params.max_weight))
    return replace(side, binding=_selection(inputs, rows) + side.binding)


def long_short(inputs: BookInputs) -> Draft:
    """Return the best members held long and the worst candidates sold short.

    A candidate has passed every filter, and so has a rank score; being left out for size alone is
    no obstacle to being sold. Each side is weighed by itself, with its own gross and cap. Where
    nothing is left to sell, the book is long and its binding names `short:empty`.
    """
    params, universe = inputs.params, inputs.universe
    longs = _best(universe, params.max_names)
    shorts = _worst(universe, longs, params.max_names_short)
    gross = params.gross_long + params.gross_short
    short_side = Side(
        SHORT, shorts, params.gross_short, params.max_weight_short, params.gross_short / gross
    )
    long_side = Side(LONG, longs, params.gross_long, params.max_weight, params.gross_long / gross)
    draft = _joined(weigh(inputs, long_side), weigh(inputs, short_side))
    unsold = raised({"short:empty": len(shorts) == 0})
    draft = replace(draft, binding=_selection(inputs, longs) + draft.binding + unsold)
    if params.beta_neutral:
        draft = _beta_neutral(inputs, draft)
    draft = _within_volatility(inputs, _within_cash(inputs, draft))
    return _within_turnover(inputs, draft)


def short_hedge(inputs: BookInputs) -> Draft:
    """Return short positions in the most fragile names, as large as the regime calls for."""
    params, fragility = inputs.params, inputs.fragility
    templates = fragility.templates if fragility is not None else ()
    wanted = [one for one in templates if one.direction == "SHORT"]
    if not wanted:
        reason = "no_fragility" if fragility is None else "no_templates"
        return Draft(np.zeros(len(inputs.panel.instruments)), "templates", binding=(reason,))
    notional = _notional(inputs, wanted)
    gross, scale = float(np.sort(notional).sum()), params.hedge.of(inputs.regime)
    room = min(params.gross_short / gross, 1.0) if gross > 0.0 else 0.0
    bound = {
        "max_names_short": bool(np.count_nonzero(notional) < len(wanted)),
        "max_weight_short": bool((notional >= params.max_weight_short).any()),
        "gross_short": room < 1.0,
        "regime": scale < 1.0,
        "unknown_regime": inputs.regime is None,
    }
    weights = from_long_space(notional * room * scale, np.full(len(notional), SHORT))
    # An unsold name has a weight of 0, not of -0.
    return Draft(weights + 0.0, "templates", raised(bound))


def _best(universe: Universe, max_names: int | None) -> IntArray:
    """Return the rows of the members to hold, best first; ties in the order of instruments."""
    members = np.flatnonzero(universe.included)
    return members[np.argsort(-universe.score[members], kind="stable")][:max_names]


def _worst(universe: Universe, longs: IntArray, max_names: int) -> IntArray:
    """Return the rows of the candidates to sell, worst first, that are not held long."""
    candidate = np.isfinite(universe.score)
    candidate[longs] = False
    rows = np.flatnonzero(candidate)
    return rows[np.argsort(universe.score[rows], kind="stable")][:max_names]


def _selection(inputs: BookInputs, rows: IntArray) -> tuple[str, ...]:
    members = int(inputs.universe.included.sum())
    return raised({"empty_universe": members == 0, "max_names": len(rows) < members})


def _joined(bought: Draft, sold: Draft) -> Draft:
    methods = (bought.method, sold.method)
    numbers = [one.condition_number for one in (bought, sold) if one.condition_number is not None]
    return Draft(
        weights=bought.weights - sold.weights,
        method=methods[0] if len(set(methods)) == 1 else f"{methods[0]}, short: {methods[1]}",
        binding=bought.binding + tuple(f"short:{name}" for name in sold.binding),
        relaxed=bought.relaxed + tuple(f"short:{name}" for name in sold.relaxed),
        fallbacks=bought.fallbacks
        + tuple(replace(one, method=f"short:{one.method}") for one in sold.fallbacks),
        condition_number=max(numbers, default=None),
    )


def _beta_neutral(inputs: BookInputs, draft: Draft) -> Draft:
    """Return the draft with its short side scaled down to the market beta of its long side."""
    held = np.flatnonzero(draft.weights)
    lookback = inputs.params.solver.lookback
    betas = inputs.panel.derived(rolling_beta, lookback, beta_floor(lookback))[-1]
    exposure = draft.weights[held] * betas[held]
    of_longs = float(np.sort(exposure[draft.weights[held] > 0.0]).sum())
    of_shorts = -float(np.sort(exposure[draft.weights[held] < 0.0]).sum())
    # Also where one of them is unknown: NaN compares false.
    if not (0.0 < of_longs <= of_shorts):
        return replace(draft, relaxed=(*draft.relaxed, "beta_neutral"))
    scale = np.where(draft.weights < 0.0, of_longs / of_shorts, 1.0)
    return replace(draft, weights=draft.weights * scale)


def _within_cash(inputs: BookInputs, draft: Draft) -> Draft:
    """Return the draft with its long side scaled down to what equity and short sales pay for.

    Of a book that is beta neutral both sides are: neither can do without the other.
    """
    bought = float(np.sort(np.maximum(draft.weights, 0.0)).sum())
    sold = float(np.sort(np.maximum(-draft.weights, 0.0)).sum())
    payable = 1.0 - inputs.params.cash_buffer + sold
    if bought <= payable + EXACT:
        return draft
    if inputs.params.beta_neutral and "beta_neutral" not in draft.relaxed:
        weights = draft.weights * ((payable - sold) / (bought - sold))
    else:
        weights = np.where(draft.weights > 0.0, draft.weights * (payable / bought), draft.weights)
    return replace(draft, weights=weights, binding=(*draft.binding, "cash_buffer"))


def _within_volatility(inputs: BookInputs, draft: Draft) -> Draft:
    """Return the draft with its volatility, scaled down to the target if there is one."""
    solver, held = inputs.params.solver, np.flatnonzero(draft.weights)
    if not (inputs.params.solved or solver.volatility_target is not None) or not len(held):
        return draft
    volatility = annualised_volatility_of(
        draft.weights[held], inputs.returns(held), solver.min_observations, solver.max_missing
    )
    target = solver.volatility_target
    if target is None:
        return replace(draft, volatility=volatility)
    if volatility is None:
        return replace(draft, relaxed=(*draft.relaxed, "volatility_target"))
    if volatility <= target:
        return replace(draft, volatility=volatility)
    binding = (*draft.binding, "volatility_target")
    scaled = draft.weights * (target / volatility)
    return replace(draft, weights=scaled, volatility=target, binding=binding)


def _within_turnover(inputs: BookInputs, draft: Draft) -> Draft:
    """Return as much of the draft as may be traded, where a volatility target scaled its sides.

    What was said of the turnover of each side was then said of the sides before they were scaled.
    """
    solver, previous = inputs.params.solver, inputs.previous_weights()
    if solver.max_turnover is None or previous is None or not previous.any():
        return draft
    limit, part = TurnoverLimit(solver.max_turnover, previous, 0.0), 1.0
    relaxed = draft.relaxed
    if solver.volatility_target is not None:
        part = limit.part(draft.weights)
        relaxed = tuple(name for name in relaxed if not name.endswith("max_turnover"))
    weights = part * draft.weights
    broken = limit.turnover(weights) > solver.max_turnover + EXACT
    if broken and "max_turnover" not in relaxed:
        relaxed += ("max_turnover",)
    binding = (*draft.binding, "max_turnover") if part < 1.0 else draft.binding
    volatility = None if draft.volatility is None else part * draft.volatility
    return replace(draft, weights=weights, relaxed=relaxed, binding=binding, volatility=volatility)


def _notional(inputs: BookInputs, templates: list[PositionTemplate]) -> FloatArray:
    """Return how much of each instrument to sell, (N,), before gross and regime."""
    params = inputs.params
    columns = {name: column for column, name in enumerate(inputs.panel.instruments)}
    banned = np.isin(inputs.universe.exclusion, NOT_TO_BE_SOLD)
    known = [one for one in templates if one.instrument_id in columns]
    allowed = [one for one in known if not banned[columns[one.instrument_id]]]
    notional = np.zeros(len(columns))
    for one in allowed[: params.max_names_short]:
        size = min(max(one.notional_hint, 0.0), params.max_weight_short)
        notional[columns[one.instrument_id]] = size
    return notional


CONSTRUCTIONS: dict[str, Callable[[BookInputs], Draft]] = {
    "long_only": long_only,
    "long_short": long_short,
    "short_hedge": short_hedge,
}
