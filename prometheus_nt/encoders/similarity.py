"""The one search for what is similar: cosine over the blocks that both sides have."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray
from prometheus_nt.encoders.joint import JointVectors

CLEAR = 1e-12
"""Difference in similarity below which two neighbours are equally near."""


@dataclass(frozen=True)
class Neighbour:
    """One result: how similar, by which blocks (None where either side lacks one).

    shared_weight : share of the space's weight that both sides know.
    """

    entity_id: str
    row: int
    similarity: float
    shared_weight: float
    by_block: dict[str, float | None]


@dataclass(frozen=True)
class Expectation:
    """What the neighbours' outcomes suggest; None where too few are known to say."""

    mean: float | None
    standard_error: float | None
    count: int


def similarities(vectors: JointVectors, query: int) -> tuple[FloatArray, FloatArray]:
    """Return the cosine of each vector with that of row `query`, and its blocks' cosines.

    Returns
    -------
    (M,) array in [-1, 1]
        The blocks' cosines in proportion to their weights; NaN without a shared block.
    (M, B) array
        NaN where either side lacks the block.
    """
    by_block = np.full(vectors.known.shape, np.nan)
    for place, columns in enumerate(vectors.space.slices):
        part = vectors.vectors[:, columns]
        # Not a matrix product: BLAS may round a row differently where others stand around it.
        cosine = np.clip((part * part[query]).sum(axis=1), -1.0, 1.0)
        shared = vectors.known[:, place] & vectors.known[query, place]
        by_block[:, place] = np.where(shared, cosine, np.nan)
    weights = _shared_weights(by_block, vectors)
    total = weights.sum(axis=1)
    joint = np.where(weights > 0.0, weights * by_block, 0.0).sum(axis=1)
    return np.where(total > 0.0, joint, np.nan) / np.where(total > 0.0, total, 1.0), by_block


def nearest(
    vectors: JointVectors,
    query: int,
    k: int,
    allowed: BoolArray | None = None,
    *,
    spacing: int = 0,
) -> list[Neighbour]:
    """Return the `k` vectors most similar to that of row `query`, itself left out.

    Equally near ones come in the order of their ids.

    Parameters
    ----------
    allowed : (M,) bool array or None
        Which rows may be results; None is all.
    spacing : int
        Least distance between the rows of two results. Of sessions that follow each other only
        the nearest is then taken, not a month of one event.

    Raises
    ------
    DataError
        If the query has no block, so that nothing can be compared with it.
    """
    if not vectors.known[query].any():
        name, entity = vectors.space.name, vectors.ids[query]
        raise DataError(f"{name}: {entity} has no known block, so nothing compares with it")
    joint, by_block = similarities(vectors, query)
    open_rows = np.isfinite(joint)
    open_rows[query] = False
    if allowed is not None:
        open_rows &= allowed
    weight = _shared_weights(by_block, vectors).sum(axis=1)
    weight /= sum(block.weight for block in vectors.space.blocks)
    names = [block.name for block in vectors.space.blocks]
    return [
        Neighbour(
            vectors.ids[row],
            row,
            float(joint[row]),
            float(weight[row]),
            {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(names, by_block[row], strict=True)
            },
        )
        for row in _chosen(_ranked(joint, vectors.ids, open_rows), k, spacing)
    ]


def weighted_outcome(similarity: FloatArray, outcome: FloatArray) -> Expectation:
    """Return the mean outcome of neighbours, weighted by similarity, and its standard error.

    With weights w that sum to 1 and n outcomes y, the squared error of the mean m is
    n / (n - 1) * sum(w**2 * (y - m)**2): for equal weights the usual s / sqrt(n).

    Parameters
    ----------
    similarity : (k,) array
        What is not similar (0 or less) does not count.
    outcome : (k,) array
        NaN where unknown; does not count.
    """
    counts = (similarity > 0.0) & np.isfinite(outcome)
    weights, values = similarity[counts], outcome[counts]
    count = len(values)
    if not count:
        return Expectation(None, None, 0)
    weights = weights / weights.sum()
    mean = float((weights * values).sum())
    if count == 1:
        return Expectation(mean, None, 1)
    scatter = float((weights**2 * (values - mean) ** 2).sum())
    return Expectation(mean, sqrt(count / (count - 1) * scatter), count)


def _shared_weights(by_block: FloatArray, vectors: JointVectors) -> FloatArray:
    weights = np.array([block.weight for block in vectors.space.blocks])
    return np.where(np.isfinite(by_block), weights, 0.0)


def _ranked(joint: FloatArray, ids: tuple[str, ...], open_rows: BoolArray) -> list[int]:
    rows = [int(row) for row in np.flatnonzero(open_rows)]
    return sorted(rows, key=lambda row: (-round(float(joint[row]) / CLEAR), ids[row]))


def _chosen(ranked: list[int], k: int, spacing: int) -> list[int]:
    chosen: list[int] = []
    for row in ranked:
        if len(chosen) == k:
            break
        if all(abs(row - other) >= spacing for other in chosen):
            chosen.append(row)
    return chosen
