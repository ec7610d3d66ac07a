"""Weights for a set of names: one entry for every method, and weights whatever happens.

1. `solver_case` sorts the names by what is known of them, so that their order cannot matter, and
   says whose returns are usable: too many missing is unknown, and risk needs a name that varies.
2. `_attempt` asks a method for weights (`weighting`), makes them satisfy the limits (`constraints`)
   and the `turnover`, and checks them independently of who made them.
3. `solve` tries the method asked for, then simpler ones; if all fail it keeps the previous weights
   where they satisfy the limits, and otherwise says cash. What was tried, and why it failed, is
   part of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from prometheus_nt.domain.books import Fallback
from prometheus_nt.domain.errors import NoWeights
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.constraints import EXACT, NO_WEIGHT, Bounds
from prometheus_nt.engines.covariance import estimate_moments, varies
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.engines.solver_case import Case, SolverSpec, value_order
from prometheus_nt.engines.weighting import WITHOUT_RISK, Method, Problem, raw_weights

__all__ = ["SolveResult", "SolverSpec", "annualised_volatility_of", "solve"]

KEPT, CASH = "previous", "cash"
"""What a result is called that no method made."""


@dataclass(frozen=True, eq=False)
class SolveResult:
    """Weights, and how they came about.

    Attributes
    ----------
    weights : (K,) array, finite, >= 0
    method : str
        What made them; 'previous' or 'cash' if nothing could.
    fallbacks : tuple of Fallback
        What was tried before, in that order.
    relaxed : tuple of str
        What was asked for and could not be had: 'gross', 'max_turnover', 'volatility_target'.
    slack : mapping of limit to how far it is from being broken
        Checked on the final weights; at least -1e-9, and below that only what is in `relaxed`.
    unusable : (K,) bool array
        Names whose returns are missing, or do not vary where risk was asked for.
    volatility : float or None
        Annualised, by the shrunk covariance; None where it is unknown.
    condition_number, shrinkage : float or None
        Of the correlations.
    """

    weights: FloatArray
    method: str
    fallbacks: tuple[Fallback, ...]
    relaxed: tuple[str, ...]
    slack: dict[str, float]
    unusable: BoolArray
    volatility: float | None
    condition_number: float | None
    shrinkage: float | None

    @property
    def cash(self) -> float:
        """Fraction of the book that is not invested."""
        return 1.0 - float(self.weights.sum())


def solve(spec: SolverSpec, returns: FloatArray, previous: FloatArray | None = None) -> SolveResult:
    """Return the weights that `spec` asks for, or the best that can be had instead.

    Parameters
    ----------
    returns : (T, K) array
        Simple returns per session of holding each name in the direction of the book; NaN (or
        infinite) where unknown.
    previous : (K,) array or None
        Weights held so far; None is the first book, whose turnover is not limited.
    """
    case = Case.of(spec, returns, previous)
    fallbacks: list[Fallback] = []
    for method in _chain(spec.method):
        try:
            found = _attempt(method, case)
        except NoWeights as failure:
            fallbacks.append(Fallback(method, str(failure)))
            continue
        return _result(case, method, found, tuple(fallbacks))
    kept, columns = case.previous, np.arange(returns.shape[1])
    if kept is not None and _may_be_kept(kept, case):
        found = _Found(kept, columns, float(kept.sum()))
        return _result(case, KEPT, found, tuple(fallbacks))
    nothing = _Found(np.zeros(len(columns)), columns, 0.0)
    return _result(case, CASH, nothing, tuple(fallbacks))


def annualised_volatility_of(
    weights: FloatArray, returns: FloatArray, min_observations: int, max_missing: float
) -> float | None:
    """Return the volatility of signed weights held constant, by the solver's covariance.

    None where there are too few sessions, or a name with a weight misses more than `max_missing`
    of its returns: the solver calls it unknown as well. Those that remain count as 0, which is
    what a holder's account shows.
    """
    known = np.isfinite(returns)
    if len(returns) < max(min_observations, 2):
        return None
    missing = len(returns) - known[:, weights != 0.0].sum(axis=0)
    if (missing > max_missing * len(returns)).any():
        return None
    whole = np.where(known, returns, 0.0)
    columns = value_order(np.vstack((whole, weights)))
    columns = columns[varies(whole)[columns]]
    if not len(columns):
        return 0.0
    per_session = estimate_moments(whole[:, columns]).volatility_of(weights[columns])
    return per_session * float(np.sqrt(SESSIONS_PER_YEAR))


def _chain(method: Method) -> Iterator[Method]:
    yield method
    if method == "max_ratio":
        yield "min_variance"
    if method not in (*WITHOUT_RISK, "inverse_volatility"):
        yield "inverse_volatility"
    if method != "equal":
        yield "equal"


class _Found(NamedTuple):
    """Weights of all names before scaling for risk, the columns that could have one, their sum."""

    weights: FloatArray
    columns: IntArray
    total: float


def _attempt(method: Method, case: Case) -> _Found:
    columns = np.flatnonzero(case.usable(method))
    if not len(columns):
        raise NoWeights("no name has usable returns")
    bounds = case.bounds(columns).fitted()
    if bounds.total <= NO_WEIGHT:
        raise NoWeights("the limits leave no room")
    problem = _problem(case, columns, bounds)
    raw = raw_weights(method, problem)
    if not np.isfinite(raw).all() or float(np.abs(raw).sum()) <= NO_WEIGHT:
        raise NoWeights("the weights are not finite, or all zero")
    weights, turnover = bounds.settled(raw), case.turnover(columns)
    if turnover is not None:
        weights = turnover.kept(weights, bounds)
    broken = bounds.broken(weights)
    if broken:
        raise NoWeights(f"the weights break {', '.join(broken)}")
    whole = np.zeros(len(case.order))
    whole[columns] = weights
    return _Found(whole, columns, bounds.total)


def _problem(case: Case, columns: IntArray, bounds: Bounds) -> Problem:
    spec, moments = case.spec, case.moments
    if moments is not None:
        among_varying = (np.cumsum(case.varying) - 1)[columns]
        varying = bool(case.varying[columns].all())
        moments = moments.restricted(among_varying) if varying else None
    expected, previous, turnover = spec.expected_returns, case.reference, case.turnover(columns)
    return Problem(
        returns=case.returns[:, columns],
        moments=moments,
        bounds=bounds,
        proportions=None if spec.proportions is None else spec.proportions[columns],
        expected_returns=None if expected is None else expected[columns],
        previous=None if previous is None else previous[columns],
        max_trade=None if turnover is None else turnover.max_trade(bounds),
        cost=spec.cost if previous is not None else 0.0,
        risk_aversion=spec.risk_aversion,
        clusters=None if spec.clusters is None else spec.clusters[columns],
        cluster_cap=case.cluster_cap(columns),
    )


def _may_be_kept(previous: FloatArray, case: Case) -> bool:
    """Return whether the previous weights satisfy the limits and have a sum not above `total`."""
    bounds = case.bounds(np.arange(len(previous)))
    broken = set(bounds.broken(previous)) - {"gross"}
    return not broken and NO_WEIGHT < float(previous.sum()) <= case.spec.total + EXACT


def _result(case: Case, method: str, found: _Found, fallbacks: tuple[Fallback, ...]) -> SolveResult:
    scaled, volatility = _scaled(found, case)
    slack = _slack(case, found, scaled)
    wanted = {
        "max_turnover": slack.get("max_turnover", 0.0) >= -EXACT,
        "volatility_target": case.spec.volatility_target is None
        or volatility is not None
        or not scaled.any(),
        "gross": found.total >= case.spec.total - EXACT,
    }
    back = np.empty_like(case.order)
    back[case.order] = np.arange(len(case.order))
    return SolveResult(
        weights=scaled[back],
        method=method,
        fallbacks=fallbacks,
        relaxed=tuple(name for name, kept in wanted.items() if not kept),
        slack=slack,
        unusable=~case.usable(method)[back],
        volatility=volatility,
        condition_number=None if case.moments is None else case.moments.condition_number,
        shrinkage=None if case.moments is None else case.moments.shrinkage,
    )


def _scaled(found: _Found, case: Case) -> tuple[FloatArray, float | None]:
    """Return weights that are not riskier than the target, and as much of them as may be traded.

    Less of a book keeps every limit that the book keeps. Where the target alone forces more to be
    sold than turnover allows, it is sold.
    """
    weights, volatility = _scaled_to_volatility(found.weights, case)
    turnover = case.traded(found.columns)
    if turnover is None or case.spec.volatility_target is None:
        return weights, volatility
    part = turnover.part(weights[found.columns])
    return part * weights, None if volatility is None else part * volatility


def _scaled_to_volatility(weights: FloatArray, case: Case) -> tuple[FloatArray, float | None]:
    """Return weights that are not riskier than the target, and their annualised volatility."""
    if case.moments is None or weights[~case.known].any():
        return weights, None
    per_session = case.moments.volatility_of(weights[case.varying])
    volatility = per_session * float(np.sqrt(SESSIONS_PER_YEAR))
    target = case.spec.volatility_target
    if target is None or volatility <= target:
        return weights, volatility
    return weights * (target / volatility), target


def _slack(case: Case, found: _Found, scaled: FloatArray) -> dict[str, float]:
    """Return how far each limit is from being broken by the final weights."""
    whole = float(found.weights.sum())
    scale = float(scaled.sum()) / whole if whole > 0.0 else 1.0
    bounds = replace(case.bounds(found.columns), total=found.total * scale)
    slack = bounds.slack(scaled[found.columns])
    turnover = case.traded(found.columns)
    if turnover is not None:
        slack["max_turnover"] = turnover.limit - turnover.turnover(scaled[found.columns])
    return slack
