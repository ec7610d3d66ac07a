"""What to hold: signed weights of a book, capped, the rest cash, and how they came about.

1. `_to_be_held` says whether weights that cost a solver are still good enough.
2. Otherwise a construction (`constructions`) chooses names and has them weighed (`sides`), by
   proportions alone or by the solver (`solver`).
3. `build_book` makes the record. Turnover is against the weights asked for a session before, not
   against what they have drifted to: the engine knows no positions.
"""

from dataclasses import replace

import numpy as np

from prometheus_nt.domain.books import BookEvidence, BookTarget, Universe
from prometheus_nt.domain.market import FragilityMeasures, InstrumentScores, RegimeState
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.antifragility import AntifragilityParams, antifragility
from prometheus_nt.engines.constructions import CONSTRUCTIONS
from prometheus_nt.engines.portfolio_params import HedgeScale, PortfolioParams, SolverParams
from prometheus_nt.engines.sides import BookInputs
from prometheus_nt.engines.turnover import one_way_turnover

__all__ = ["HedgeScale", "PortfolioParams", "SolverParams", "build_book"]


def build_book(  # noqa: PLR0913 - one for each record the stage hears
    panel: MarketPanel,
    universe: Universe,
    scores: InstrumentScores,
    params: PortfolioParams,
    *,
    regime: RegimeState | None = None,
    fragility: FragilityMeasures | None = None,
    previous: BookTarget | None = None,
) -> BookTarget:
    """Return the weights of a book; where nothing can be held, a book of cash.

    Between solves of a costly weighting the record repeats the weights of `previous`: it is then
    not `solved`, and its evidence is that of the session `as_of_solved`, but for the turnover.

    Parameters
    ----------
    previous : BookTarget or None
        This engine's record of the session before; None solves afresh.
    """
    inputs = BookInputs(panel, universe, scores, params, regime, fragility, previous)
    held = _to_be_held(inputs)
    if held is not None:
        return held
    draft = CONSTRUCTIONS[params.construction](inputs)
    antifragile, tail = _disorder(inputs, draft.weights)
    return BookTarget(
        as_of=panel.as_of,
        book_id=params.book_id,
        instruments=panel.instruments,
        weights=draft.weights,
        expected_return=_expected_return(draft.weights, scores),
        binding=draft.binding,
        evidence=BookEvidence(
            method=draft.method,
            as_of_solved=panel.as_of,
            regime=None if regime is None else regime.label,
            fallbacks=draft.fallbacks,
            relaxed=draft.relaxed,
            turnover=_turnover(inputs, draft.weights),
            expected_volatility=draft.volatility,
            condition_number=draft.condition_number,
            antifragility=antifragile,
            cvar_95=tail,
        ),
    )


def _to_be_held(inputs: BookInputs) -> BookTarget | None:
    """Return the record that repeats the previous weights; None if they are to be made afresh."""
    params, previous = inputs.params, inputs.previous
    if previous is None or previous.evidence is None or not params.solved:
        return None
    if params.construction == "short_hedge" or previous.instruments != inputs.panel.instruments:
        return None
    evidence, label = previous.evidence, None if inputs.regime is None else inputs.regime.label
    if _sessions_since_solved(inputs, evidence) >= params.solver.resolve_every:
        return None
    if params.solver.two_level and evidence.regime != label:
        return None
    # A solver that had nothing to weigh, or failed, is asked again.
    if not previous.weights.any() or _held_name_ended(inputs.universe, previous.weights):
        return None
    return replace(
        previous,
        as_of=inputs.panel.as_of,
        expected_return=_expected_return(previous.weights, inputs.scores),
        evidence=replace(evidence, turnover=0.0),
    )


def _sessions_since_solved(inputs: BookInputs, evidence: BookEvidence) -> int:
    sessions = inputs.panel.sessions
    solved = np.searchsorted(sessions, np.datetime64(evidence.as_of_solved, "D"), side="right")
    return len(sessions) - int(solved)


def _held_name_ended(universe: Universe, weights: FloatArray) -> bool:
    """Return whether a long left the universe, or a short is no longer a candidate for it."""
    ended = (weights > 0.0) & ~universe.included
    ended |= (weights < 0.0) & ~np.isfinite(universe.score)
    return bool(ended.any())


def _disorder(inputs: BookInputs, weights: FloatArray) -> tuple[float | None, float | None]:
    """Return what disorder does to the names on average: antifragility score and CVaR 95."""
    params, panel = AntifragilityParams(), inputs.panel
    # It costs milliseconds, as a solver does: asked only where one was.
    if not inputs.params.solved or not weights.any() or len(panel) <= params.min_observations:
        return None, None
    stats, held = antifragility(panel, params), np.flatnonzero(weights)
    shares = np.abs(weights[held]) / np.abs(weights[held]).sum()
    means = (float(shares @ of[held]) for of in (stats.antifragility_score, stats.cvar_95))
    score, tail = (mean if np.isfinite(mean) else None for mean in means)
    return score, tail


def _turnover(inputs: BookInputs, weights: FloatArray) -> float | None:
    previous = inputs.previous_weights()
    return None if previous is None else one_way_turnover(weights - previous)


def _expected_return(weights: FloatArray, scores: InstrumentScores) -> float | None:
    known = (weights != 0.0) & np.isfinite(scores.expected_return)
    if not known.any():
        return None
    return float((weights[known] * scores.expected_return[known]).sum())
