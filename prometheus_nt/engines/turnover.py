"""How much may be traded: one-way turnover, and weights that keep a limit on it."""

from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.constraints import Bounds, projected

BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class TurnoverLimit:
    """A limit on one-way turnover, and what it counts from.

    Attributes
    ----------
    held : (K,) array of the weights held
    elsewhere : float
        What has to be sold besides.
    """

    limit: float
    held: FloatArray
    elsewhere: float

    def turnover(self, weights: FloatArray) -> float:
        """Return the turnover that it takes to hold `weights`."""
        return one_way_turnover(weights - self.held, self.elsewhere)

    def part(self, weights: FloatArray) -> float:
        """Return the largest part of (K,) weights that keeps the limit, at most 1.

        Where no part does, that of least turnover. Weights may be signed.
        """
        if self.turnover(weights) <= self.limit:
            return 1.0
        parts = self._kinks(weights)
        change = np.sort(parts[:, None] * weights - self.held, axis=1)
        bought = np.maximum(change, 0.0).sum(axis=1)
        turnover = np.maximum(bought, self.elsewhere - np.minimum(change, 0.0).sum(axis=1))
        kept = np.flatnonzero(turnover <= self.limit)
        if not len(kept):
            return float(parts[np.argmin(turnover)])
        last = kept[-1]
        return float(np.interp(self.limit, turnover[last : last + 2], parts[last : last + 2]))

    def _kinks(self, weights: FloatArray) -> FloatArray:
        """Return the parts between which turnover is linear, ascending from 0 to 1.

        A name is neither bought nor sold there, or as much is bought as is sold.
        """
        held, net = self.held[weights != 0.0], float(np.sort(weights).sum())
        kinks = held / weights[weights != 0.0]
        if net != 0.0:
            balanced = (float(np.sort(self.held).sum()) + self.elsewhere) / net
            kinks = np.append(kinks, balanced)
        inside = kinks[(kinks > 0.0) & (kinks < 1.0)]
        return np.concatenate(((0.0,), np.sort(inside), (1.0,)))

    def max_trade(self, bounds: Bounds) -> float | None:
        """Return the sum of absolute changes that the limit leaves; None if it cannot be kept."""
        if self.turnover(self._nearest(bounds)) >= self.limit:
            return None
        # Bought less sold is `added`, and bought plus sold is what is limited here.
        added = bounds.total - float(self.held.sum())
        return min(2.0 * self.limit - added, 2.0 * (self.limit - self.elsewhere) + added)

    def kept(self, weights: FloatArray, bounds: Bounds) -> FloatArray:
        """Return `weights`, or the blend with the nearest to those held that keeps the limit.

        Both ends satisfy the bounds, which are convex; so does the blend.
        """
        if self.turnover(weights) <= self.limit:
            return weights
        nearest = self._nearest(bounds)
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            if self.turnover(nearest + middle * (weights - nearest)) <= self.limit:
                low = middle
            else:
                high = middle
        blended: FloatArray = nearest + low * (weights - nearest)
        return blended

    def _nearest(self, bounds: Bounds) -> FloatArray:
        """Return the weights within the bounds that are most like those held."""
        if not self.held.any():
            return projected(self.held, bounds)
        return projected(self.held * (bounds.total / float(self.held.sum())), bounds)


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
