"""Which instruments move together: hierarchical clusters of correlation.

1. `pairwise_correlation` compares each pair on the sessions on which both returns are known.
2. `_mean_distance` averages the distances of several lookbacks, so that neither the last quarter
   nor the last year decides alone.
3. `correlation_clusters` joins by Ward's criterion and cuts the tree by height and by number.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.pairwise import pairwise_correlation

UNCLUSTERED = -1

DECIMALS = 10
"""Digits of a distance that count: which names are joined must not hang on a rounding of BLAS."""


class ClusterParams(Params):
    """Parameters of the clusters; lookbacks in sessions.

    Attributes
    ----------
    lookbacks
        Distances are averaged over those that fit into the history; if none does, all of it is
        one lookback.
    min_observations
        Sessions on which both returns of a pair must be known; with fewer, it is uncorrelated.
    threshold
        Height at which the tree is cut. Two names join below it if their correlation exceeds
        `1 - 2 * threshold**2`.
    max_clusters
        If the threshold leaves more, the tree is cut higher.
    """

    lookbacks: tuple[int, ...] = Field((60, 120, 200), min_length=1)
    min_observations: int = Field(20, ge=2)
    threshold: float = Field(0.5, gt=0)
    max_clusters: int = Field(25, ge=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if min(self.lookbacks) < self.min_observations:
            raise ValueError("lookbacks: none may be shorter than min_observations")
        return self


def correlation_clusters(returns: FloatArray, params: ClusterParams) -> IntArray:
    """Return the cluster of each instrument, (N,), numbered from 0, the largest first.

    Neither the partition nor its numbers depend on the order of the columns: they are put in the
    order of their values first, and clusters of one size are numbered by their first member in it.

    Parameters
    ----------
    returns : (T, N) array
        Simple returns per session, NaN where unknown.

    Returns
    -------
    (N,) int array
        -1 where fewer than `min_observations` returns are known in the longest lookback that
        fits, or where they do not vary.

    References
    ----------
    Mantegna (1999), "Hierarchical structure in financial markets": distance sqrt((1 - rho) / 2),
    scaled to [0, 1]; Ward (1963).
    """
    fitting = [lookback for lookback in params.lookbacks if lookback <= len(returns)]
    lookbacks = sorted(set(fitting)) or [len(returns)]
    window = np.where(np.isfinite(returns), returns, np.nan)[len(returns) - lookbacks[-1] :]
    labels = np.full(returns.shape[1], UNCLUSTERED, dtype=np.int64)
    columns = _in_order_of_values(window, np.flatnonzero(_varies(window, params)))
    if len(columns) < 2:
        labels[columns] = 0
        return labels
    labels[columns] = _by_size(
        _joined(_mean_distance(window[:, columns], lookbacks, params), params)
    )
    return labels


def _joined(distance: FloatArray, params: ClusterParams) -> IntArray:
    """Return the cluster of each of K instruments, from 1 on, given their distances, (K, K)."""
    # Imported where something is clustered: most nodes never do, and it takes 24 MB.
    from scipy.cluster.hierarchy import fcluster, ward
    from scipy.spatial.distance import squareform

    tree = ward(squareform(distance, checks=False))
    cut: IntArray = fcluster(tree, params.threshold, criterion="distance")
    if cut.max() > params.max_clusters:
        cut = fcluster(tree, params.max_clusters, criterion="maxclust")
    return cut


def _varies(window: FloatArray, params: ClusterParams) -> BoolArray:
    known = np.isfinite(window)
    highest = np.where(known, window, -np.inf).max(axis=0, initial=-np.inf)
    lowest = np.where(known, window, np.inf).min(axis=0, initial=np.inf)
    enough = known.sum(axis=0) >= params.min_observations
    size = np.maximum(np.abs(highest), np.abs(lowest))
    varies: BoolArray = enough & (highest - lowest > NEGLIGIBLE * size)
    return varies


def _in_order_of_values(window: FloatArray, columns: IntArray) -> IntArray:
    ordered = sorted(columns.tolist(), key=lambda column: window[:, column].tobytes())
    return np.array(ordered, dtype=np.int64)


def _mean_distance(window: FloatArray, lookbacks: list[int], params: ClusterParams) -> FloatArray:
    total = np.zeros((window.shape[1], window.shape[1]))
    for lookback in lookbacks:
        rho = pairwise_correlation(window[len(window) - lookback :], params.min_observations)
        # What is unknown, or never moves, is as far from the others as the uncorrelated.
        rho = np.where(np.isnan(rho), 0.0, rho)
        total += np.sqrt((1.0 - rho) / 2.0)
    distance: FloatArray = np.round(total / len(lookbacks), DECIMALS)
    distance = np.minimum(distance, distance.T)
    np.fill_diagonal(distance, 0.0)
    return distance


def _by_size(cut: IntArray) -> IntArray:
    _, first, label, size = np.unique(
        cut, return_index=True, return_inverse=True, return_counts=True
    )
    number = np.empty(len(first), dtype=np.int64)
    number[np.lexsort((first, -size))] = np.arange(len(first))
    return number[label]
