"""What weights must satisfy, and how to make them do so: filling up, projecting, checking.

Weights here are of one direction, not negative; `allocation` says how shorts become so.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import linprog

from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.numerics import NEGLIGIBLE, waterfill

NO_WEIGHT = 1e-6
"""Weights below this are what an interior-point method leaves of zero."""

MARGIN = 1e-6
"""By how much linear limits are tightened for a solver, so that its rounding stays within them."""

EXACT = 1e-9
"""Difference between sums of weights that is rounding."""

BISECTIONS = 60
MAX_PROJECTIONS = 2000


@dataclass(frozen=True, eq=False)
class LinearLimit:
    """One limit on a sum of weights: `coefficients @ weights <= upper`.

    Attributes
    ----------
    name : str
        What evidence calls it.
    coefficients : (K,) array, >= 0
    upper : float, >= 0
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
        return replace(tight, total=self._tightened(2.0 * MARGIN).room())

    def room(self) -> float:
        """Return the largest sum of weights within the caps and the linear limits."""
        if not len(self.caps):
            return 0.0
        solution = linprog(
            -np.ones(len(self.caps)),
            A_ub=np.array([limit.coefficients for limit in self.linear]),
            b_ub=np.array([limit.upper for limit in self.linear]),
            bounds=np.column_stack((np.zeros(len(self.caps)), self.caps)),
        )
        return max(-float(solution.fun), 0.0)

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
    """Return the weights within `bounds` that are closest to `weights` (Euclidean).

    Dykstra's alternating projections onto the capped simplex and each half-space; the result is
    always in the capped simplex, and within the linear limits once the iteration has converged.

    References
    ----------
    Boyle and Dykstra (1986), "A method for finding projections onto the intersection of convex
    sets in Hilbert spaces".
    """
    if not bounds.linear:
        return _onto_capped_simplex(weights, bounds)
    normals = np.array([limit.coefficients for limit in bounds.linear])
    uppers = np.array([limit.upper for limit in bounds.linear])
    squares = np.maximum((normals * normals).sum(axis=1), NEGLIGIBLE)
    current, inside = weights, weights
    simplex_step, steps = np.zeros(len(weights)), np.zeros(len(uppers))
    for _ in range(MAX_PROJECTIONS):
        shifted = current + simplex_step
        inside = _onto_capped_simplex(shifted, bounds)
        simplex_step = shifted - inside
        if (normals @ inside <= uppers + 0.1 * EXACT).all():
            return inside
        current = inside
        for row, normal in enumerate(normals):
            # The correction of a half-space is a multiple of its normal: one number is enough.
            back = current + steps[row] * normal
            steps[row] = max(float(normal @ back) - uppers[row], 0.0) / squares[row]
            current = back - steps[row] * normal
    return inside


def _onto_capped_simplex(values: FloatArray, bounds: Bounds) -> FloatArray:
    """Return `clip(values - shift, 0, caps)` with the shift at which the sum is `total`.

    The sum falls, piecewise linearly, as the shift grows; its knots are known.
    """
    knots = np.sort(np.concatenate((values, values - bounds.caps)))
    sums = np.clip(values - knots[:, None], 0.0, bounds.caps).sum(axis=1)
    shift = np.interp(bounds.total, sums[::-1], knots[::-1])
    return np.clip(values - shift, 0.0, bounds.caps)


def one_way_turnover(change: FloatArray, other_sales: float = 0.0) -> float:
    """Return the larger of what is bought and what is sold, as a fraction of book equity.

    Parameters
    ----------
    change : (K,) array of changes of weights
    other_sales : float
        Sold on top of that, outside of these names.
    """
    bought = float(np.sort(np.maximum(change, 0.0)).sum())
    sold = float(np.sort(np.maximum(-change, 0.0)).sum())
    return max(bought, sold + other_sales)
