"""Comparisons of each pair of instruments over a window."""

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE


def pairwise_correlation(window: FloatArray, min_observations: int) -> FloatArray:
    """Return the correlations of (L, N) returns, pair by pair on common sessions, (N, N).

    NaN where fewer than `min_observations` are common, or one of the two does not vary.
    """
    known = np.isfinite(window)
    mask = known.astype(np.float64)
    centre = np.where(known, window, 0.0).sum(axis=0) / np.maximum(mask.sum(axis=0), 1.0)
    # Near zero, the sums of squares below do not cancel.
    values = np.where(known, window - centre, 0.0)
    common = mask.T @ mask
    divisor = np.maximum(common, 1.0)
    sums = values.T @ mask
    covariance = values.T @ values - sums * sums.T / divisor
    squares = (values * values).T @ mask
    scatter = np.maximum(squares - sums * sums / divisor, 0.0)
    flat = scatter <= NEGLIGIBLE * squares
    usable = (common >= min_observations) & ~flat & ~flat.T
    product = np.sqrt(scatter) * np.sqrt(scatter.T)
    rho: FloatArray = np.where(usable, covariance, np.nan) / np.where(usable, product, 1.0)
    return np.clip(rho, -1.0, 1.0)
