"""Scales on which unlike features compare: robust z-scores, indicators, unit lengths."""

from collections.abc import Sequence

import numpy as np

from prometheus_nt.domain.record import FloatArray

MOST_DEVIATIONS = 5.0
"""Where a robust z-score ends: one absurd value must not decide every comparison."""

SMALLEST_SPREAD = 0.05
"""Least standard deviation, relative to the median: a difference of a hundredth is small, even if
all the others differ less."""

NORMAL_MAD = 1.4826
"""Standard deviations in a median absolute deviation of normal values."""

NORMAL_MEAN_DEVIATION = 1.2533
"""Standard deviations in a mean absolute deviation of normal values."""


def robust_zscores(x: FloatArray) -> FloatArray:
    """Return each column's distances from its median, in robust standard deviations, (M, F).

    The spread is the median absolute deviation; where that is 0, because most values are equal,
    the mean absolute deviation; and at least `SMALLEST_SPREAD` of the median. A column that does
    not vary is 0, NaN stays NaN.
    """
    values = np.where(np.isfinite(x), x, np.nan)
    centre = _medians(values)
    deviation = values - centre
    size = np.abs(deviation)
    spread = NORMAL_MAD * _medians(size)
    spread = np.where(spread > 0.0, spread, NORMAL_MEAN_DEVIATION * _means(size))
    spread = np.maximum(spread, SMALLEST_SPREAD * np.abs(centre))
    scores: FloatArray = deviation / np.where(spread > 0.0, spread, 1.0)
    return np.clip(scores, -MOST_DEVIATIONS, MOST_DEVIATIONS)


def typical_where_unknown(z: FloatArray, min_known: float = 0.5) -> FloatArray:
    """Return z-scores with unknown features as 0, which is typical, (M, F).

    A row with less than `min_known` of its features known says too little: it is NaN throughout.
    """
    known = np.isfinite(z)
    enough = known.sum(axis=1, keepdims=True) >= max(min_known * z.shape[1], 1.0)
    return np.where(enough, np.where(known, z, 0.0), np.nan)


def anchored(z: FloatArray) -> FloatArray:
    """Return z-scores with a last coordinate of 1 throughout, (M, F + 1).

    By their angle alone, two rows near the median could be opposites, and a mild case would equal
    an extreme one of the same direction. With the anchor typical rows are similar, and how far a
    row is from typical counts as well.
    """
    return np.concatenate((z, np.ones((len(z), 1))), axis=1)


def one_hot(values: Sequence[str | None], categories: Sequence[str]) -> FloatArray:
    """Return 1 in the column of each value's category, (M, C); NaN where the value is None."""
    places = {category: place for place, category in enumerate(categories)}
    encoded = np.zeros((len(values), len(categories)))
    for row, value in enumerate(values):
        if value is None:
            encoded[row] = np.nan
        else:
            encoded[row, places[value]] = 1.0
    return encoded


def unit_rows(x: FloatArray) -> FloatArray:
    """Return each row at length 1; NaN where it has none, or is not known throughout."""
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    has_direction = np.isfinite(length) & (length > 0.0)
    return np.where(has_direction, x, np.nan) / np.where(has_direction, length, 1.0)


def _medians(x: FloatArray) -> FloatArray:
    ordered = np.sort(x, axis=0)
    count = np.isfinite(ordered).sum(axis=0, keepdims=True)
    if not len(ordered):
        return np.full((1, x.shape[1]), np.nan)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=0)
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(ordered) - 1), axis=0)
    middle: FloatArray = low + 0.5 * (high - low)
    return middle


def _means(x: FloatArray) -> FloatArray:
    # Sums over sorted values do not depend on the order of the rows; NaN sorts last.
    ordered = np.sort(x, axis=0)
    known = np.isfinite(ordered)
    total = np.where(known, ordered, 0.0).sum(axis=0, keepdims=True)
    mean: FloatArray = total / np.maximum(known.sum(axis=0, keepdims=True), 1)
    return mean
