"""Arrays of history, (T, ...), whatever they measure: means, shifts, places in the own past."""

from collections.abc import Iterator

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.running import rolling_sum


def rolling_mean(x: FloatArray, lookback: int, min_observations: int) -> FloatArray:
    """Return the mean of the known values of `lookback` rows, (T, ...).

    NaN where fewer than `min_observations` (at least 1) of them are known.
    """
    known = np.isfinite(x)
    count = rolling_sum(known.astype(np.float64), lookback)
    total = rolling_sum(np.where(known, x, 0.0), lookback)
    return np.where(count >= max(min_observations, 1), total / np.maximum(count, 1.0), np.nan)


def shifted(x: FloatArray, rows: int) -> FloatArray:
    """Return `x` as it was `rows` rows before, (T, ...); NaN where that is before the first."""
    before = np.full(x.shape, np.nan)
    before[rows:] = x[: max(len(x) - rows, 0)]
    return before


def last_known(x: FloatArray) -> FloatArray:
    """Return `x` with each NaN replaced by the newest earlier value of its column, (T, N).

    That is `x` itself where no value is followed by a NaN.
    """
    unknown = np.isnan(x)
    if not (unknown[1:] & ~unknown[:-1]).any():
        return x
    newest = np.where(unknown, 0, np.arange(len(x))[:, None])
    np.maximum.accumulate(newest, axis=0, out=newest)
    filled: FloatArray = np.take_along_axis(x, newest, axis=0)
    return filled


def own_history_percentiles(
    x: FloatArray, lookback: int, step: int, min_snapshots: int
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield rows of `x` and the share of each instrument's own past below its value there, (R, N).

    Rows fall into blocks of `step`, and a block is yielded at a time. A value is compared with the
    first row of each earlier block that began within `lookback` rows: neighbours of a rolling
    measure repeat each other, so little is lost. Equal values count half. NaN where `x` is, and
    where fewer than `min_snapshots` (at least 1) of those rows are known.
    """
    # In single precision rounding does not pass for a difference, and half the bytes move.
    snapshots = x[::step].astype(np.float32)
    known = np.cumsum(np.isfinite(snapshots), axis=0)
    for block in range(len(snapshots)):
        rows = slice(block * step, min((block + 1) * step, len(x)))
        oldest = max(0, block - lookback // step)
        past, now = snapshots[oldest:block, None], x[rows].astype(np.float32)
        count = known[block - 1] if block else np.zeros_like(known[0])
        if oldest:
            count = count - known[oldest - 1]
        share = 0.5 * (_counted(past < now) + _counted(past <= now)) / np.maximum(count, 1)
        enough = np.isfinite(now) & (count >= max(min_snapshots, 1))
        yield rows, np.where(enough, share, np.nan)


def _counted(flags: BoolArray) -> IntArray:
    # Bytes add up many times faster than wider integers.
    width = np.uint8 if len(flags) <= np.iinfo(np.uint8).max else np.uint32
    counted: IntArray = np.add.reduce(flags.view(np.uint8), axis=0, dtype=width).astype(np.int64)
    return counted
