"""Probability of backtest overfitting, by combinatorially symmetric cross-validation.

1. `_block_sums` cuts the sessions into contiguous blocks and adds each trial's returns up;
2. `_halves` lists every way to take half of the blocks in sample, the rest out of sample;
3. `overfitting_probability` asks, for each, where the best trial in sample ends out of sample.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

MIN_SESSIONS_PER_BLOCK = 2
SPLITS_AT_ONCE = 512
"""Bounds the memory: a batch holds a few (splits, trials) arrays."""


@dataclass(frozen=True, eq=False)
class Overfitting:
    """What happened out of sample to whatever was best in sample.

    Attributes
    ----------
    probability : float
        Share of splits in which the best in sample was in the lower half out of sample.
    loss_probability : float
        Share of splits in which it lost out of sample.
    slope : float or None
        Of the winner's Sharpe ratio out of sample on the one in sample; None if that is constant.
    logits : (splits,) array
        ln(rank / (1 - rank)) of the winner's relative rank out of sample.
    sessions : int
        Used, after leading ones were dropped to make blocks of equal length.
    """

    probability: float
    loss_probability: float
    slope: float | None
    logits: FloatArray
    sessions: int


def overfitting_probability(returns: FloatArray, blocks: int = 16) -> Overfitting:
    """Return how likely the best of several trials is to disappoint.

    Parameters
    ----------
    returns : (T, N) array
        Simple returns per session of N > 1 distinct trials, finite, none of them constant.
    blocks : int
        Even; T modulo `blocks` leading sessions are dropped.

    Raises
    ------
    DataError
        If there is one trial only, too few sessions, an unknown return or a constant trial.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2017), "The Probability of Backtest Overfitting".
    """
    _require_usable(returns, blocks)
    used = returns[len(returns) % blocks :]
    sums, squares = _block_sums(used, blocks)
    halves = _halves(blocks)
    count = len(used) // 2
    parts = [
        _winners(sums, squares, halves[start : start + SPLITS_AT_ONCE], count)
        for start in range(0, len(halves), SPLITS_AT_ONCE)
    ]
    inside, outside, rank = (np.concatenate(part) for part in zip(*parts, strict=True))
    logits = np.log(rank / (1.0 - rank))
    spread = inside - inside.mean()
    varies = float(spread @ spread) > NEGLIGIBLE * len(spread)
    return Overfitting(
        probability=float((logits <= 0.0).mean()),
        loss_probability=float((outside < 0.0).mean()),
        slope=float((outside @ spread) / (spread @ spread)) if varies else None,
        logits=logits,
        sessions=len(used),
    )


def _require_usable(returns: FloatArray, blocks: int) -> None:
    if blocks < 2 or blocks % 2:
        raise DataError(f"blocks: {blocks} is not an even number of at least 2")
    if returns.ndim != 2 or returns.shape[1] < 2:
        raise DataError("at least two distinct trials are needed to see one overfit")
    if len(returns) < blocks * MIN_SESSIONS_PER_BLOCK:
        needed = blocks * MIN_SESSIONS_PER_BLOCK
        raise DataError(f"{len(returns)} sessions, {blocks} blocks need at least {needed}")
    if not np.isfinite(returns).all():
        raise DataError("a return is unknown; trials must share the same sessions")
    constant = np.flatnonzero(np.ptp(returns, axis=0) <= NEGLIGIBLE)
    if len(constant):
        raise DataError(f"{len(constant)} of the trials do not vary; leave them out")


def _block_sums(returns: FloatArray, blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return the sums of returns, and of their squares, by block, two (blocks, N) arrays."""
    by_block = returns.reshape(blocks, -1, returns.shape[1])
    return by_block.sum(axis=1), (by_block**2).sum(axis=1)


def _halves(blocks: int) -> FloatArray:
    """Return every choice of half of the blocks as rows of zeros and ones."""
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    halves = np.zeros((len(chosen), blocks))
    np.put_along_axis(halves, chosen, 1.0, axis=1)
    return halves


def _winners(
    sums: FloatArray, squares: FloatArray, halves: FloatArray, count: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ratio in sample, ratio out of sample and relative rank there of each split's best."""
    inside = _sharpe(halves @ sums, halves @ squares, count)
    others = 1.0 - halves
    outside = _sharpe(others @ sums, others @ squares, count)
    rows, best = np.arange(len(halves)), inside.argmax(axis=1)
    found = outside[rows, best]
    lower = (outside < found[:, None]).sum(axis=1)
    equal = (outside == found[:, None]).sum(axis=1)
    rank = (lower + (equal + 1) / 2.0) / (outside.shape[1] + 1)
    return inside[rows, best], found, rank


def _sharpe(sums: FloatArray, squares: FloatArray, count: int) -> FloatArray:
    mean = sums / count
    variance = np.maximum((squares - count * mean**2) / (count - 1), 0.0)
    # A trial that stood still in one half has no ratio there: it neither wins nor loses.
    still = variance <= NEGLIGIBLE * np.maximum(squares / count, NEGLIGIBLE)
    ratio: FloatArray = np.where(still, 0.0, mean / np.sqrt(np.where(still, 1.0, variance)))
    return ratio
