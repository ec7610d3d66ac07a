"""What a solver is asked, and what can be said of it before any method is tried."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.constraints import Bounds, LinearLimit
from prometheus_nt.engines.covariance import Moments, estimate_moments, varies
from prometheus_nt.engines.turnover import TurnoverLimit
from prometheus_nt.engines.weighting import WITHOUT_RISK, Method


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
        Annualised. A riskier book is scaled down to it, a calmer one is not scaled up. It goes
        before `max_turnover`, which may hold the book below the target but never above it.
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
class Case:
    """A problem with its names in the order of their values; `order` leads back."""

    spec: SolverSpec
    returns: FloatArray
    previous: FloatArray | None
    known: BoolArray
    order: IntArray

    @classmethod
    def of(cls, spec: SolverSpec, returns: FloatArray, previous: FloatArray | None) -> "Case":
        names = returns.shape[1]
        finite = np.isfinite(returns)
        if previous is not None and not np.isfinite(previous).all():
            previous = None
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
        return self.known & varies(self.returns)

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

    def turnover(self, columns: IntArray) -> TurnoverLimit | None:
        """Return the limit on trading into a composition; None where there is none."""
        return self._turnover(self.reference, columns)

    def traded(self, columns: IntArray) -> TurnoverLimit | None:
        """Return the limit on trading into weights that are scaled for risk; None without one."""
        return self._turnover(None if self.reference is None else self.previous, columns)

    def _turnover(self, held: FloatArray | None, columns: IntArray) -> TurnoverLimit | None:
        if self.spec.max_turnover is None or held is None:
            return None
        left = np.delete(held, columns)
        elsewhere = self.spec.other_sales + float(left.sum())
        return TurnoverLimit(self.spec.max_turnover, held[columns], elsewhere)

    @cached_property
    def reference(self) -> FloatArray | None:
        """The weights from which the turnover of a composition counts.

        With a volatility target it is theirs: what the target took last time it will take again,
        which is no trade. What is traded in the end is then looked at once more (`traded`).
        """
        if self.previous is None or not self.previous.any():
            return None
        if self.spec.volatility_target is None:
            return self.previous
        scaled: FloatArray = self.previous * (self.spec.total / float(self.previous.sum()))
        return scaled


def value_order(known: FloatArray) -> IntArray:
    """Return the columns of (R, K) figures in the order of their bytes; only twins can tie."""
    rows = np.ascontiguousarray(known.T) + 0.0  # so that there is one zero
    keys = [row.tobytes() for row in rows]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _in_order_of_values(
    spec: SolverSpec, returns: FloatArray, previous: FloatArray | None
) -> IntArray:
    """Return the columns in the order of all that is known of them."""
    rows = [returns, np.atleast_2d(spec.cap)]
    rows += [np.atleast_2d(limit.coefficients) for limit in spec.limits]
    for optional in (spec.proportions, spec.expected_returns, spec.clusters, previous):
        if optional is not None:
            rows.append(np.atleast_2d(optional).astype(np.float64))
    return value_order(np.vstack(rows))


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
