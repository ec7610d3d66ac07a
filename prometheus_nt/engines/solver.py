"""Weights for a set of names: one entry for every method, and weights whatever happens.

1. `_Case.of` sorts the names by what is known of them, so that their order cannot matter, and says
   whose returns are usable: too many missing is unknown, and risk needs a name that varies.
2. `_attempt` asks a method for weights (`weighting`), makes them satisfy the limits (`constraints`)
   and the turnover, and checks them independently of who made them.
3. `solve` tries the method asked for, then simpler ones; if all fail it keeps the previous weights
   where they satisfy the limits, and otherwise says cash. What was tried, and why it failed, is
   part of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from prometheus_nt.domain.books import Fallback
from prometheus_nt.domain.errors import NoWeights
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.constraints import (
    BISECTIONS,
    EXACT,
    NO_WEIGHT,
    Bounds,
    LinearLimit,
    one_way_turnover,
    projected,
)
from prometheus_nt.engines.covariance import Moments, estimate_moments
from prometheus_nt.engines.numerics import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.engines.weighting import WITHOUT_RISK, Method, Problem, raw_weights

KEPT, CASH = "previous", "cash"
"""What a result is called that no method made."""


@dataclass(frozen=True, eq=False)
class SolverSpec:
    """What weights are wanted of K names, all of one direction.

    Attributes
    ----------
    total : float
        Sum of weights to place; the rest of the book is cash.
    cap : float or (K,) array
        Largest weight of a name.
    limits : tuple of LinearLimit
        Of sectors, factors, fragility: anything that is a sum of weights.
    proportions : (K,) array or None
        What the method `given` distributes by; not positive or NaN is no weight.
    expected_returns : (K,) array or None
        Per session, NaN where unknown; only `max_ratio` looks at them. None is the sample mean.
    max_turnover : float or None
        One-way, as `one_way_turnover`. A constraint of `min_variance`; every other method's
        weights are blended with the previous ones, as far as the limit allows. Caps, limits
        and `total` go first: if they alone call for more, the result says that it is relaxed.
    other_sales : float
        What has to be sold outside of the K names; it uses up turnover.
    cost : float
        Of trading a weight of 1, spread over the sessions it will be held. A penalty of
        `min_variance` and a deduction from the return of `max_ratio`; no other method sees it.
    risk_aversion : float
        What `min_variance` weighs variance with against cost: half of it, per session.
    volatility_target : float or None
        Annualised. A riskier book is scaled down to it, a calmer one is not scaled up.
    min_observations : int
        Sessions without which risk is unknown.
    max_missing : float
        Largest fraction of sessions without a return. Those that remain count as 0, which is what
        a holder's account shows: the next return spans the gap.
    clusters : (K,) int array or None
        Allocate on two levels; a name in no cluster (-1) gets no weight.
    cluster_cap : float
        Largest weight of a cluster; an equal share of `total` if that is more.
    """

    method: Method
    total: float = 1.0
    cap: float | FloatArray = 1.0
    limits: tuple[LinearLimit, ...] = ()
    proportions: FloatArray | None = None
    expected_returns: FloatArray | None = None
    max_turnover: float | None = None
    other_sales: float = 0.0
    cost: float = 0.0
    risk_aversion: float = 1.0
    volatility_target: float | None = None
    min_observations: int = 20
    max_missing: float = 0.1
    clusters: IntArray | None = None
    cluster_cap: float = 1.0


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
    case = _Case.of(spec, returns, previous)
    fallbacks: list[Fallback] = []
    for method in _chain(spec.method):
        try:
            weights, target = _attempt(method, case)
        except NoWeights as failure:
            fallbacks.append(Fallback(method, str(failure)))
            continue
        return _result(case, method, weights, target, tuple(fallbacks))
    kept = case.previous
    if kept is not None and _may_be_kept(kept, case):
        return _result(case, KEPT, kept, float(kept.sum()), tuple(fallbacks))
    return _result(case, CASH, np.zeros(returns.shape[1]), 0.0, tuple(fallbacks))


def annualised_volatility_of(
    weights: FloatArray, returns: FloatArray, min_observations: int
) -> float | None:
    """Return the volatility of signed weights held constant, by the solver's covariance.

    Missing returns count as 0. None where there are too few sessions.
    """
    whole = np.where(np.isfinite(returns), returns, 0.0)
    if len(whole) < max(min_observations, 2):
        return None
    varying = _varies(whole)
    if not varying.any():
        return 0.0
    per_session = estimate_moments(whole[:, varying]).volatility_of(weights[varying])
    return per_session * float(np.sqrt(SESSIONS_PER_YEAR))


def _varies(returns: FloatArray) -> BoolArray:
    varies: BoolArray = np.ptp(returns, axis=0) > NEGLIGIBLE * np.abs(returns).max(axis=0)
    return varies


def _chain(method: Method) -> Iterator[Method]:
    yield method
    if method == "max_ratio":
        yield "min_variance"
    if method not in (*WITHOUT_RISK, "inverse_volatility"):
        yield "inverse_volatility"
    if method != "equal":
        yield "equal"


@dataclass(frozen=True, eq=False)
class _Case:
    """A problem with its names in the order of their values; `order` leads back."""

    spec: SolverSpec
    returns: FloatArray
    previous: FloatArray | None
    known: BoolArray
    order: IntArray

    @classmethod
    def of(cls, spec: SolverSpec, returns: FloatArray, previous: FloatArray | None) -> "_Case":
        names = returns.shape[1]
        finite = np.isfinite(returns)
        spec = replace(spec, cap=np.broadcast_to(np.asarray(spec.cap, np.float64), (names,)))
        order = _in_order_of_values(spec, np.where(finite, returns, np.nan), previous)
        missing = len(returns) - finite.sum(axis=0)
        known = (missing <= spec.max_missing * len(returns)) & (len(returns) > 0)
        return cls(
            spec=_permuted(spec, order),
            returns=np.where(finite, returns, 0.0)[:, order],
            previous=None if previous is None else previous[order],
            known=known[order],
            order=order,
        )

    @cached_property
    def varying(self) -> BoolArray:
        if not len(self.returns):
            return self.known
        return self.known & _varies(self.returns)

    @cached_property
    def moments(self) -> Moments | None:
        """Moments of the varying names; None where they cannot be told."""
        if len(self.returns) < max(self.spec.min_observations, 2) or not self.varying.any():
            return None
        return estimate_moments(self.returns[:, self.varying])

    def usable(self, method: str) -> BoolArray:
        """Return which names `method` may hold."""
        if method in WITHOUT_RISK:
            return self.known
        usable = self.varying
        if self.spec.clusters is not None:
            usable = usable & (self.spec.clusters >= 0)
        if method == "max_ratio" and self.spec.expected_returns is not None:
            usable = usable & np.isfinite(self.spec.expected_returns)
        return usable

    def bounds(self, columns: IntArray) -> Bounds:
        """Return the limits on these columns, clusters included."""
        whole = Bounds(self.spec.total, np.asarray(self.spec.cap), self.spec.limits)
        bounds = whole.restricted(columns)
        if self.spec.clusters is None:
            return bounds
        cap, labels = self.cluster_cap(columns), self.spec.clusters[columns]
        clusters = tuple(
            LinearLimit(f"cluster:{label}", (labels == label).astype(np.float64), cap)
            for label in np.unique(labels[labels >= 0]).tolist()
        )
        return replace(bounds, linear=bounds.linear + clusters)

    def cluster_cap(self, columns: IntArray) -> float:
        """Return the largest weight of a cluster, which leaves room for `total` in them all."""
        if self.spec.clusters is None:
            return self.spec.total
        labels = self.spec.clusters[columns]
        return max(self.spec.cluster_cap, self.spec.total / max(len(np.unique(labels)), 1))

    @cached_property
    def reference(self) -> FloatArray | None:
        """The weights from which turnover counts.

        With a volatility target it is their composition: what the target took last time it will
        take again, which is no trade.
        """
        if self.previous is None or not self.previous.any():
            return None
        if self.spec.volatility_target is None:
            return self.previous
        scaled: FloatArray = self.previous * (self.spec.total / float(self.previous.sum()))
        return scaled


def _in_order_of_values(
    spec: SolverSpec, returns: FloatArray, previous: FloatArray | None
) -> IntArray:
    """Return the columns in the order of all that is known of them; only twins can tie."""
    rows = [returns, np.atleast_2d(spec.cap)]
    rows += [np.atleast_2d(limit.coefficients) for limit in spec.limits]
    for optional in (spec.proportions, spec.expected_returns, spec.clusters, previous):
        if optional is not None:
            rows.append(np.atleast_2d(optional).astype(np.float64))
    known = np.vstack(rows) + 0.0  # so that there is one zero
    keys = [column.tobytes() for column in np.ascontiguousarray(known.T)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _permuted(spec: SolverSpec, order: IntArray) -> SolverSpec:
    def moved(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[order]

    return replace(
        spec,
        cap=np.asarray(spec.cap)[order],
        limits=tuple(replace(one, coefficients=one.coefficients[order]) for one in spec.limits),
        proportions=moved(spec.proportions),
        expected_returns=moved(spec.expected_returns),
        clusters=None if spec.clusters is None else spec.clusters[order],
    )


def _attempt(method: Method, case: _Case) -> tuple[FloatArray, float]:
    """Return the weights of `method` for all names, and their sum before scaling for risk."""
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
    weights = _toward_previous(bounds.settled(raw), case, columns, bounds)
    broken = bounds.broken(weights)
    if broken:
        raise NoWeights(f"the weights break {', '.join(broken)}")
    whole = np.zeros(len(case.order))
    whole[columns] = weights
    return whole, bounds.total


def _problem(case: _Case, columns: IntArray, bounds: Bounds) -> Problem:
    spec, moments = case.spec, case.moments
    if moments is not None:
        among_varying = (np.cumsum(case.varying) - 1)[columns]
        varying = bool(case.varying[columns].all())
        moments = moments.restricted(among_varying) if varying else None
    expected, previous = spec.expected_returns, case.reference
    return Problem(
        returns=case.returns[:, columns],
        moments=moments,
        bounds=bounds,
        proportions=None if spec.proportions is None else spec.proportions[columns],
        expected_returns=None if expected is None else expected[columns],
        previous=None if previous is None else previous[columns],
        max_trade=_max_trade(case, columns, bounds),
        cost=spec.cost if previous is not None else 0.0,
        risk_aversion=spec.risk_aversion,
        clusters=None if spec.clusters is None else spec.clusters[columns],
        cluster_cap=case.cluster_cap(columns),
    )


def _sold_outside(case: _Case, columns: IntArray) -> float:
    assert case.reference is not None
    inside = np.zeros(len(case.order), dtype=np.bool_)
    inside[columns] = True
    return case.spec.other_sales + float(case.reference[~inside].sum())


def _max_trade(case: _Case, columns: IntArray, bounds: Bounds) -> float | None:
    """Return the sum of absolute changes that the turnover limit leaves; None if it cannot hold."""
    limit, reference = case.spec.max_turnover, case.reference
    if limit is None or reference is None:
        return None
    held, elsewhere = reference[columns], _sold_outside(case, columns)
    nearest = _nearest(held, bounds)
    if one_way_turnover(nearest - held, elsewhere) >= limit:
        return None
    # Bought less sold is `added`, and bought plus sold is what is limited here.
    added = bounds.total - float(held.sum())
    return min(2.0 * limit - added, 2.0 * (limit - elsewhere) + added)


def _nearest(held: FloatArray, bounds: Bounds) -> FloatArray:
    """Return the weights within the bounds that are most like those held."""
    if not held.any():
        return projected(held, bounds)
    return projected(held * (bounds.total / float(held.sum())), bounds)


def _toward_previous(
    weights: FloatArray, case: _Case, columns: IntArray, bounds: Bounds
) -> FloatArray:
    """Return `weights`, or the blend with the nearest to those held that keeps the turnover.

    Both ends satisfy the limits, which are convex; so does the blend.
    """
    limit, reference = case.spec.max_turnover, case.reference
    if limit is None or reference is None:
        return weights
    held, elsewhere = reference[columns], _sold_outside(case, columns)
    if one_way_turnover(weights - held, elsewhere) <= limit:
        return weights
    nearest = _nearest(held, bounds)
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        blend = nearest + middle * (weights - nearest)
        if one_way_turnover(blend - held, elsewhere) <= limit:
            low = middle
        else:
            high = middle
    blended: FloatArray = nearest + low * (weights - nearest)
    return blended


def _may_be_kept(previous: FloatArray, case: _Case) -> bool:
    """Return whether the previous weights satisfy the limits and have a sum not above `total`."""
    bounds = case.bounds(np.arange(len(previous)))
    broken = set(bounds.broken(previous)) - {"gross"}
    return not broken and NO_WEIGHT < float(previous.sum()) <= case.spec.total + EXACT


def _result(
    case: _Case,
    method: str,
    weights: FloatArray,
    target: float,
    fallbacks: tuple[Fallback, ...],
) -> SolveResult:
    scaled, volatility = _scaled_to_volatility(weights, case)
    relaxed, slack = _checked(case, weights, scaled, target)
    if case.spec.volatility_target is not None and volatility is None and weights.any():
        relaxed += ("volatility_target",)
    if target < case.spec.total - EXACT:
        relaxed += ("gross",)
    back = np.empty_like(case.order)
    back[case.order] = np.arange(len(case.order))
    return SolveResult(
        weights=scaled[back],
        method=method,
        fallbacks=fallbacks,
        relaxed=relaxed,
        slack=slack,
        unusable=~case.usable(method)[back],
        volatility=volatility,
        condition_number=None if case.moments is None else case.moments.condition_number,
        shrinkage=None if case.moments is None else case.moments.shrinkage,
    )


def _scaled_to_volatility(weights: FloatArray, case: _Case) -> tuple[FloatArray, float | None]:
    """Return weights that are not riskier than the target, and their annualised volatility."""
    if case.moments is None:
        return weights, None
    per_session = case.moments.volatility_of(weights[case.varying])
    volatility, target = (
        per_session * float(np.sqrt(SESSIONS_PER_YEAR)),
        case.spec.volatility_target,
    )
    if target is None or volatility <= target:
        return weights, volatility
    return weights * (target / volatility), target


def _checked(
    case: _Case, weights: FloatArray, scaled: FloatArray, target: float
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return which limits had to be relaxed, and how far each is from being broken."""
    whole = float(weights.sum())
    scale = float(scaled.sum()) / whole if whole > 0.0 else 1.0
    bounds = replace(case.bounds(np.arange(len(weights))), total=target * scale)
    slack = bounds.slack(scaled)
    limit, reference = case.spec.max_turnover, case.reference
    if limit is None or reference is None:
        return (), slack
    slack["max_turnover"] = limit - one_way_turnover(weights - reference, case.spec.other_sales)
    return (("max_turnover",) if slack["max_turnover"] < -EXACT else ()), slack
