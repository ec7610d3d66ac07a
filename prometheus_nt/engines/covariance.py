"""How returns vary together: sample volatilities and shrunk correlations, always invertible."""

from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import ThreadpoolController

from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

MAX_CONDITION = 5000.0
"""Condition number of the correlations above which a ridge is added to them."""


THREADS = ThreadpoolController()
"""Of numpy's linear algebra. On matrices this small, threads cost more than they do."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What K streams of returns have been like, per session.

    Attributes
    ----------
    mean, volatility : (K,) arrays
    correlation : (K, K) array
        Shrunk; unit diagonal.
    shrinkage : float in [0, 1]
        Weight of the identity in the Ledoit-Wolf correlations.
    ridge : float in [0, 1]
        Weight of the identity that the condition number called for on top of that.
    condition_number : float
        Of `correlation`: that of a covariance would only say how different volatilities are.
    """

    mean: FloatArray
    volatility: FloatArray
    correlation: FloatArray
    shrinkage: float
    ridge: float
    condition_number: float

    @property
    def covariance(self) -> FloatArray:
        """Covariance per session, (K, K)."""
        covariance: FloatArray = self.correlation * np.outer(self.volatility, self.volatility)
        return covariance

    def restricted(self, columns: IntArray) -> "Moments":
        """Return the moments of these columns alone, as estimated together with the others."""
        return replace(
            self,
            mean=self.mean[columns],
            volatility=self.volatility[columns],
            correlation=self.correlation[np.ix_(columns, columns)],
        )

    def volatility_of(self, weights: FloatArray) -> float:
        """Return the standard deviation per session of a book of fixed weights."""
        scaled = weights * self.volatility
        return float(np.sqrt(max(float(scaled @ self.correlation @ scaled), 0.0)))


def estimate_moments(returns: FloatArray) -> Moments:
    """Return the moments of (T, K) returns without NaN, T >= 2, in which every column varies.

    The shrinkage is of correlations, so that it neither depends on the scale of a column nor
    raises the variance of a calm name to that of its neighbours.
    """
    mean = returns.mean(axis=0)
    deviation = returns - mean
    scale = np.sqrt((deviation * deviation).mean(axis=0))
    with THREADS.limit(limits=1):
        correlation, shrinkage = shrunk_correlation(deviation / scale)
        eigenvalues = np.linalg.eigvalsh(correlation)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    ridge = _ridge(smallest, largest)
    correlation = (1.0 - ridge) * correlation
    np.fill_diagonal(correlation, 1.0)
    return Moments(
        mean=mean,
        volatility=scale * np.sqrt(len(returns) / (len(returns) - 1.0)),
        correlation=correlation,
        shrinkage=shrinkage,
        ridge=ridge,
        condition_number=((1.0 - ridge) * largest + ridge) / ((1.0 - ridge) * smallest + ridge),
    )


def shrunk_correlation(standardised: FloatArray) -> tuple[FloatArray, float]:
    """Return the Ledoit-Wolf correlations, and the weight of the identity in them.

    Of (T, K) columns that have mean 0 and variance 1 (divided by T).

    References
    ----------
    Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance
    matrices", with the identity as the target.
    """
    sessions, names = standardised.shape
    sample = standardised.T @ standardised / sessions
    distance = float((sample * sample).sum()) - names
    lengths = (standardised * standardised).sum(axis=1)
    noise = (float((lengths * lengths).mean()) - float((sample * sample).sum())) / sessions
    shrinkage = 1.0 if distance <= 0.0 else min(max(noise, 0.0) / distance, 1.0)
    correlation = (1.0 - shrinkage) * sample
    np.fill_diagonal(correlation, 1.0)
    return correlation, shrinkage


def varies(returns: FloatArray) -> BoolArray:
    """Return which columns of (T, K) returns are not constant."""
    moving: BoolArray = np.ptp(returns, axis=0) > NEGLIGIBLE * np.abs(returns).max(axis=0)
    return moving


def _ridge(smallest: float, largest: float) -> float:
    """Return the least weight of the identity that brings the condition number to its limit."""
    smallest = max(smallest, 0.0)
    if largest <= MAX_CONDITION * smallest:
        return 0.0
    excess = largest - MAX_CONDITION * smallest
    return excess / (excess + MAX_CONDITION - 1.0)
