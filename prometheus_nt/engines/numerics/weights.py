"""Weights under a cap."""

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE


def waterfill(raw_weights: FloatArray, cap: float, total: float = 1.0) -> FloatArray:
    """Return weights in proportion to `raw_weights`, none above `cap`, that sum to `total`.

    What the cap takes from a name goes to the names below it, in proportion. What no name can
    take stays unplaced: the sum is then below `total`, and the cap holds.

    Parameters
    ----------
    raw_weights : (N,) array
        Relative attractiveness; not positive or not finite means no weight. So does less than
        1e-12 of the largest.
    cap : float
        Largest weight of a name, as a fraction of the same whole as `total`.
    """
    positive = np.where(np.isfinite(raw_weights) & (raw_weights > 0.0), raw_weights, 0.0)
    peak = float(positive.max(initial=0.0))
    if peak == 0.0:
        return np.zeros(len(positive))
    shares = np.where(positive > NEGLIGIBLE * peak, positive / peak, 0.0)
    ordered = np.sort(shares[shares > 0.0])[::-1]
    if cap * len(ordered) <= total:
        return np.where(shares > 0.0, cap, 0.0)
    # If the k largest are capped, the others divide what is left in proportion. The first k at
    # which the largest of those others fits under the cap is the answer.
    left = total - cap * np.arange(len(ordered))
    scale = left / np.cumsum(ordered[::-1])[::-1]
    fits = ordered * scale <= cap * (1.0 + NEGLIGIBLE)
    weights: FloatArray = np.minimum(shares * scale[np.argmax(fits)], cap)
    return weights
