"""What weights must satisfy, and how to make them do so: filling up, projecting, checking.

Weights here are of one direction, not negative; `allocation` says how shorts become so.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.weights import waterfill

NO_WEIGHT = 1e-6
"""Weights below this are what an interior-point method leaves of zero."""

MARGIN = 1e-6
"""By how much linear limits are tightened for a solver, so that its rounding stays within them."""

EXACT = 1e-9
"""Difference between sums of weights that is rounding."""

LOWERED = 0.999
"""Part of the room that is used where there is too little: a method still has a choice then."""


@dataclass(frozen=True, eq=False)
class LinearLimit:
    """One limit on a sum of weights: `coefficients @ weights <= upper`.

    Attributes
    ----------
    name : str
        What evidence calls it.
    coefficients : (K,) array
    upper : float, >= 0
        So that less of the same weights keeps the limit as well, whatever the signs.
    """

    name: str
    coefficients: FloatArray
    upper: float


@dataclass(frozen=True, eq=False)
class Bounds:
    """The set of weights to choose from: `0 <= weights <= caps`, sum `total`, linear limits.

    Attributes
    ----------
    caps : (K,) array
    """

    total: float
    caps: FloatArray
    linear: tuple[LinearLimit, ...] = ()

    def restricted(self, columns: IntArray) -> Self:
        """Return the bounds of these columns alone, the others having no weight."""
        linear = tuple(
            replace(limit, coefficients=limit.coefficients[columns]) for limit in self.linear
        )
        return replace(self, caps=self.caps[columns], linear=linear)

    def fitted(self) -> Self:
        """Return bounds that some weights satisfy: `total` is lowered to what there is room for."""
        if not self.linear:
            return replace(self, total=min(self.total, float(np.sort(self.caps).sum())))
        tight = self._tightened(MARGIN)
        if tight.room() >= self.total:
            return tight
        if self.room() >= self.total - EXACT:
            return self
        return replace(tight, total=LOWERED * tight.room())

    def room(self) -> float:
        """Return the largest sum of weights within the caps and the linear limits."""
        return self._largest(np.ones(len(self.caps)))

    def best(self, values: FloatArray) -> float:
        """Return the largest `values @ weights` of weights that satisfy every limit."""
        return self._largest(values, A_eq=np.ones((1, len(values))), b_eq=[self.total])

    def slack(self, weights: FloatArray) -> dict[str, float]:
        """Return by how much each limit is kept; below 0 it is broken.

        `gross` is the distance to `total`, as a number that is not positive.
        """
        kept = {
            "gross": -abs(float(weights.sum()) - self.total),
            "cap": float((self.caps - weights).min(initial=np.inf)),
            "long_only": float(weights.min(initial=np.inf)),
        }
        for limit in self.linear:
            kept[limit.name] = limit.upper - float(limit.coefficients @ weights)
        return kept

    def broken(self, weights: FloatArray) -> tuple[str, ...]:
        """Return the names of the limits that `weights` break by more than rounding."""
        if not np.isfinite(weights).all():
            return ("finite",)
        return tuple(name for name, slack in self.slack(weights).items() if not slack >= -EXACT)

    def settled(self, weights: FloatArray) -> FloatArray:
        """Return `weights` made to satisfy every limit, if that is possible.

        In proportion as far as the caps allow; by projection where a linear limit is broken.
        """
        cleaned = np.where(weights >= NO_WEIGHT * self.total, weights, 0.0)
        filled = placed(cleaned, self.caps, self.total)
        if self.broken(filled):
            filled = projected(filled, self)
            kept = np.where(filled >= NO_WEIGHT, filled, 0.0)
            again = placed(kept, self.caps, self.total)
            filled = filled if self.broken(again) else again
        return filled

    def _largest(self, values: FloatArray, **budget: Any) -> float:
        if not len(values):
            return 0.0
        # Imported where something is solved: most nodes never do, and it takes 35 MB.
        from scipy.optimize import linprog

        limited: dict[str, Any] = {}
        if self.linear:
            limited["A_ub"] = np.array([limit.coefficients for limit in self.linear])
            limited["b_ub"] = np.array([limit.upper for limit in self.linear])
        box = np.column_stack((np.zeros(len(values)), self.caps))
        solution = linprog(-values, bounds=box, **limited, **budget)
        return -float(solution.fun) if solution.status == 0 else 0.0

    def _tightened(self, margin: float) -> Self:
        linear = tuple(
            replace(limit, upper=max(limit.upper - margin, 0.0)) for limit in self.linear
        )
        return replace(self, linear=linear)


def placed(raw: FloatArray, caps: FloatArray, total: float) -> FloatArray:
    """Return weights in proportion to `raw`, none above its cap, that sum to `total`.

    As `waterfill`, with a cap for each name. What no name can take stays unplaced.
    """
    if not len(raw) or (caps == caps[0]).all():
        return waterfill(raw, float(caps[0]) if len(raw) else 0.0, total)
    positive = (raw > NEGLIGIBLE * raw.max()) & (caps > 0.0)
    if float(np.sort(caps[positive]).sum()) <= total:
        return np.where(positive, caps, 0.0)
    rows = np.flatnonzero(positive)
    # The names that reach their caps first, as all weights grow in proportion, are the capped ones.
    rows = rows[np.argsort(caps[rows] / raw[rows], kind="stable")]
    left = total - np.concatenate(((0.0,), np.cumsum(caps[rows])[:-1]))
    scale = left / np.cumsum(raw[rows][::-1])[::-1]
    first = int(np.argmax(raw[rows] * scale <= caps[rows] * (1.0 + NEGLIGIBLE)))
    weights: FloatArray = np.where(positive, np.minimum(raw * scale[first], caps), 0.0)
    return weights


def projected(weights: FloatArray, bounds: Bounds) -> FloatArray:
    """Return the weights within `bounds` that are closest to `weights` (Euclidean)."""
    if not bounds.broken(weights):
        return weights
    if not bounds.linear or not len(weights):
        return _onto_capped_simplex(weights, bounds)
    return _nearest_within_linear(weights, bounds)


def _nearest_within_linear(weights: FloatArray, bounds: Bounds) -> FloatArray:
    # Imported where something is solved, as in `_largest`.
    import clarabel
    from scipy import sparse

    names, one = len(weights), sparse.identity(len(weights), format="csc")
    limits = np.array([limit.coefficients for limit in bounds.linear])
    uppers = [limit.upper for limit in bounds.linear]
    solver = clarabel.DefaultSolver(
        one,
        -weights,
        sparse.vstack((np.ones((1, names)), limits, one, -one), format="csc"),
        np.concatenate(((bounds.total,), uppers, bounds.caps, np.zeros(names))),
        [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(uppers) + 2 * names)],
        _settings(),
    )
    # What the solver calls inaccurate is judged by whoever checks the limits.
    closest: FloatArray = np.clip(np.array(solver.solve().x), 0.0, bounds.caps)
    return closest


def _settings() -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    return settings


def _onto_capped_simplex(values: FloatArray, bounds: Bounds) -> FloatArray:
    """Return `clip(values - shift, 0, caps)` with the shift at which the sum is `total`.

    The sum falls, piecewise linearly, as the shift grows; its knots are known.
    """
    knots = np.sort(np.concatenate((values, values - bounds.caps)))
    sums = np.clip(values - knots[:, None], 0.0, bounds.caps).sum(axis=1)
    shift = np.interp(bounds.total, sums[::-1], knots[::-1])
    return np.clip(values - shift, 0.0, bounds.caps)
