"""Sums over time that are causal bit by bit: a later row never changes an earlier result.

That is why they are cumulative sums, and why they are taken in blocks of instruments.
"""

from collections.abc import Callable

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

BLOCK_COLUMNS = 16
"""Instruments per block: the working arrays of a ten-year block then fit a core's cache."""


def by_blocks(
    of: Callable[..., FloatArray], *arrays: FloatArray, out: FloatArray | None = None
) -> FloatArray:
    """Return `of` the arrays, (T, N) each, taken `BLOCK_COLUMNS` instruments at a time.

    Written to `out` if it is given: memory that was touched before is faster than new memory.
    """
    # Whatever the order of the input in memory: it decides how sums over the names are rounded.
    result: FloatArray = np.empty(arrays[0].shape) if out is None else out
    for start in range(0, result.shape[1], BLOCK_COLUMNS):
        columns = slice(start, start + BLOCK_COLUMNS)
        result[:, columns] = of(*(np.ascontiguousarray(array[:, columns]) for array in arrays))
    return result


def shared_flags(known: BoolArray) -> BoolArray:
    """Return (T, n) flags, or their first column alone, (T, 1), if all columns are the same.

    Most names of a panel trade on the same sessions: what is counted for one holds for all.
    """
    first = known[:, :1]
    return first if (known == first).all() else known


def rolling_count(known: BoolArray, lookback: int) -> FloatArray:
    """Return how many of the last `lookback` rows are known, (T, ...)."""
    return rolling_sum(known.astype(np.float64), lookback)


def rolling_sum(x: FloatArray, lookback: int) -> FloatArray:
    """Return the sum of the last `lookback` rows, or of as many as there are, (T, ...)."""
    return window_of(running_sum(x), lookback)


def running_sum(x: FloatArray) -> FloatArray:
    """Return the sum of each row and all before it, (T, ...)."""
    if x.ndim == 1 or x.shape[-1] % 2 or not x.flags.c_contiguous:
        return np.cumsum(x, axis=0)
    # Each addition waits for the one before. A complex number is two columns that wait together.
    pairs: FloatArray = np.cumsum(x.view(np.complex128), axis=0).view(np.float64)
    return pairs


def window_of(running: FloatArray, lookback: int) -> FloatArray:
    """Return what the last `lookback` rows added to a running sum, (T, ...)."""
    windowed = running.copy()
    windowed[lookback:] -= running[:-lookback]
    return windowed


def rolling_scatter(
    x: FloatArray, total: FloatArray | float, divisor: FloatArray | float, lookback: int
) -> FloatArray:
    """Return the squared deviations from the mean of `lookback` rows, 0 where they are rounding.

    `total` is their sum, and `divisor` how many of them are known.
    """
    running = running_sum(x * x)
    scatter = window_of(running, lookback) - total * total / divisor
    return np.where(scatter > NEGLIGIBLE * running, scatter, 0.0)
