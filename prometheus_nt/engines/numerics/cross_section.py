"""Comparisons among the instruments of one session: scores, ranks, groups."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

UNKNOWN_SECTOR = "UNKNOWN"


def cross_sectional_zscore(x: FloatArray, tail_fraction: float = 0.025) -> FloatArray:
    """Return z-scores along the last axis, after pulling each tail in to its first inner value.

    Parameters
    ----------
    x : (..., N) array
        NaN (or infinite) where unknown; the result is NaN there.
    tail_fraction : float
        Fraction of the known values in each tail that is winsorised.

    Returns
    -------
    (..., N) array
        Mean 0 and standard deviation 1 over the known values; all 0 where they do not vary.
    """
    known = np.where(np.isfinite(x), x, np.nan)
    # Sums over sorted values do not depend on the order of the instruments; NaN sorts last.
    ordered = np.sort(known, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    if tail_fraction > 0.0:
        tail = (tail_fraction * count).astype(np.int64)
        low = np.take_along_axis(ordered, tail, axis=-1)
        high = np.take_along_axis(ordered, np.maximum(count - 1 - tail, 0), axis=-1)
        known, ordered = np.clip(known, low, high), np.clip(ordered, low, high)
    divisor = np.maximum(count, 1)
    unknown = np.isnan(ordered)
    np.copyto(ordered, 0.0, where=unknown)
    size = np.maximum(-ordered.min(axis=-1, keepdims=True), ordered.max(axis=-1, keepdims=True))
    centre = ordered.sum(axis=-1, keepdims=True) / divisor
    deviation = ordered - centre
    np.copyto(deviation, 0.0, where=unknown)
    spread = np.sqrt((deviation * deviation).sum(axis=-1, keepdims=True) / divisor)
    flat = spread <= NEGLIGIBLE * size
    z: FloatArray = (known - centre) / np.where(flat, np.inf, spread)
    return z


def percentile_rank(x: FloatArray) -> FloatArray:
    """Return each value's rank among the known ones of its row, 0 lowest to 1 highest, (..., N).

    Ties share the average of their ranks, a single value ranks 0.5, and NaN stays NaN.
    """
    return _placed(x, _percentiles)


def midrank(x: FloatArray) -> FloatArray:
    """Return (rank - 1/2) / count among the known values of each row, in (0, 1), (..., N).

    Ranks as in `percentile_rank`, from 1.
    """
    return _placed(x, _middles)


Scale = Callable[[FloatArray, FloatArray], FloatArray]
"""Returns places of ascending values, given their ranks, 0 to 1, and how many are known."""


def _placed(x: FloatArray, scale: Scale) -> FloatArray:
    """Return where `scale` puts each value among the known ones of its row, (..., N)."""
    known = np.isfinite(x)
    complete = known.all()
    keyed = x if complete else np.where(known, x, np.inf)
    order = keyed.argsort(axis=-1)
    if x.ndim > 1:
        order += np.arange(0, x.size, x.shape[-1]).reshape(*x.shape[:-1], 1)
    ordered = keyed.take(order)
    differs = ordered[..., 1:] != ordered[..., :-1]
    result = np.empty(x.size)
    if complete and x.shape[-1] > 1 and differs.all():
        result[order] = _untied(x.shape[-1], scale)
        return result.reshape(x.shape)
    counts = known.sum(axis=-1, keepdims=True, dtype=np.float64)
    position = np.arange(x.shape[-1], dtype=np.float64)
    if not complete:
        differs |= np.isinf(ordered[..., 1:])  # what is unknown is not tied
    places = scale(_ranks(position, differs, counts), counts)
    result[order] = places if complete else np.where(position < counts, places, np.nan)
    return result.reshape(x.shape)


@lru_cache(maxsize=16)
def _untied(count: int, scale: Scale) -> FloatArray:
    """Return the places of so many known values that all differ, ascending, (N,)."""
    places = scale(np.arange(count) / (count - 1.0), np.array(float(count)))
    places.flags.writeable = False
    return places


def _percentiles(ranks: FloatArray, _count: FloatArray) -> FloatArray:
    return ranks


def _middles(ranks: FloatArray, count: FloatArray) -> FloatArray:
    middles: FloatArray = (ranks * (count - 1.0) + 0.5) / np.maximum(count, 1.0)
    return middles


def _ranks(position: FloatArray, differs: BoolArray, count: FloatArray) -> FloatArray:
    """Return the ranks of ascending values, of which the first `count` of a row are known.

    `position` is that of each, from 0, and `differs` says where two neighbours do.
    """
    ranks: FloatArray = position + 0.5 * (count == 1.0)
    tied = ~differs.all(axis=-1)
    if tied.any():
        ranks[tied] = _shared(differs[tied], position)
    ranks /= np.maximum(count - 1.0, 1.0)
    return ranks


def first_ascending(x: FloatArray, count: int) -> IntArray:
    """Return the places of the `count` smallest of (N,) values, equal ones as they stand.

    No value may be NaN.
    """
    # Faster than a stable sort, and the same where no two of them are equal.
    places = x.argsort()
    ordered = x.take(places[: count + 1])
    if (ordered[1:] == ordered[:-1]).any():
        places = x.argsort(kind="stable")
    smallest: IntArray = places[:count]
    return smallest


def position_in_group(groups: IntArray) -> IntArray:
    """Return how many earlier elements belong to the same group, (n,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    position = np.empty(len(groups), dtype=np.int64)
    position[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return position


def sector_codes(panel: MarketPanel, row: int = -1) -> IntArray:
    """Return the number of each instrument's sector as known at a row, (N,); -1 if unknown.

    In alphabetical order; where sectors carry dates, in the order of `SectorHistory`.
    """
    if panel.sector_history is not None:
        return panel.sector_history.codes_at(panel.sessions[row])
    return _sectors(panel.sectors or (None,) * len(panel.instruments))[1]


def sector_names(panel: MarketPanel) -> tuple[str, ...]:
    """Return the names of the numbers of `sector_codes`."""
    if panel.sector_history is not None:
        return panel.sector_history.names
    return _sectors(panel.sectors or (None,) * len(panel.instruments))[0]


def named_sectors(panel: MarketPanel) -> tuple[tuple[str, ...], IntArray]:
    """Return names of sectors, that of the unknown first, and the place of each instrument's, (N,).

    Instruments of unknown sector count as one sector, since nothing shows that they differ.
    """
    names, codes = _sectors(panel.sectors or (None,) * len(panel.instruments))
    return (UNKNOWN_SECTOR, *names), codes + 1


@lru_cache(maxsize=16)
def _sectors(sectors: tuple[str | None, ...]) -> tuple[tuple[str, ...], IntArray]:
    names = tuple(sorted({sector for sector in sectors if sector} - {UNKNOWN_SECTOR}))
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([number.get(name or UNKNOWN_SECTOR, -1) for name in sectors], dtype=np.int64)
    codes.flags.writeable = False
    return names, codes


def _shared(differs: BoolArray, position: FloatArray) -> FloatArray:
    """Return the mean position of each run of equal neighbours, (..., N)."""
    edge = np.ones((*differs.shape[:-1], 1), dtype=bool)
    first = np.where(np.concatenate((edge, differs), axis=-1), position, -np.inf)
    last = np.where(np.concatenate((differs, edge), axis=-1), position, np.inf)
    np.maximum.accumulate(first, axis=-1, out=first)
    backwards = last[..., ::-1]
    np.minimum.accumulate(backwards, axis=-1, out=backwards)
    mean: FloatArray = 0.5 * (first + last)
    return mean
