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
