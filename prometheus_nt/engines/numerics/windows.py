"""What does not add up over a window: its deepest fall, its smallest values."""

from collections.abc import Callable

import numpy as np

from prometheus_nt.domain.record import FloatArray

_Stretch = tuple[FloatArray, ...]
"""What is known of the stretch of history that begins at each row."""


def deepest_fall(log_price: FloatArray, lookback: int) -> FloatArray:
    """Return the deepest fall from a peak within the last `lookback` rows, (T, n), <= 0.

    That of two adjacent stretches is the deepest of either, or the fall from the older one's peak
    to the newer one's trough. NaN counts for nothing.
    """
    unlisted = np.isnan(log_price)
    peak = _after_nothing(np.where(unlisted, -np.inf, log_price), lookback, -np.inf)
    trough = _after_nothing(np.where(unlisted, np.inf, log_price), lookback, np.inf)
    return _over_window((peak, trough, np.zeros_like(peak)), _joined_falls, lookback)[2]


def smallest(x: FloatArray, count: int, lookback: int) -> _Stretch:
    """Return the `count` smallest values of the last `lookback` rows, the smallest first."""
    width = 1 << (count - 1).bit_length()

    def joined(older: _Stretch, newer: _Stretch) -> _Stretch:
        if len(newer) == 1:
            return _inserted(older, newer[0], width)
        return _merged(older, newer, width)

    return _over_window((_after_nothing(x, lookback, np.inf),), joined, lookback)[:count]


def _joined_falls(older: _Stretch, newer: _Stretch) -> _Stretch:
    fall = newer[1] - older[0]
    np.minimum(fall, older[2], out=fall)
    np.minimum(fall, newer[2], out=fall)
    return np.maximum(older[0], newer[0]), np.minimum(older[1], newer[1]), fall


def _inserted(ascending: _Stretch, value: FloatArray, width: int) -> _Stretch:
    """Return the `width` smallest of an ascending list and one value more, ascending."""
    widened = []
    for place in ascending:
        widened.append(np.minimum(place, value))
        value = np.maximum(place, value)
    return (*widened, value)[:width]


def _merged(older: _Stretch, newer: _Stretch, width: int) -> _Stretch:
    """Return the `width`, a power of 2, smallest of two ascending lists, ascending.

    The smaller of one list's i-th and the other's i-th last are the smaller half. They rise and
    then fall, or the other way round, and such a sequence Batcher's bitonic network sorts.
    """
    nothing = np.full_like(newer[0], np.inf)
    older, newer = (part + (nothing,) * (width - len(part)) for part in (older, newer))
    half = [np.minimum(one, other) for one, other in zip(older, reversed(newer), strict=True)]
    distance = width // 2
    while distance:
        for low in (place for place in range(width) if not place & distance):
            one, other = half[low], half[low + distance]
            half[low], half[low + distance] = np.minimum(one, other), np.maximum(one, other)
        distance //= 2
    return tuple(half)


def _over_window(
    days: _Stretch, joined: Callable[[_Stretch, _Stretch], _Stretch], lookback: int
) -> _Stretch:
    """Return what `joined` makes of each `lookback` rows in a row, given what is known of each.

    A length that 3 or 2 divides is made of equal parts, any other of one row less and that row.
    """
    if lookback == 1:
        return days
    parts = next((parts for parts in (3, 2) if lookback % parts == 0), 0)
    length = lookback // parts if parts else lookback - 1
    older = _over_window(days, joined, length)
    newer = older if parts else days
    for start in range(length, lookback, length if parts else 1):
        later = tuple(part[start:] for part in newer)
        older = joined(tuple(part[: len(later[0])] for part in older), later)
    return older


def _after_nothing(x: FloatArray, lookback: int, nothing: float) -> FloatArray:
    """Return `x` after so many rows of `nothing` that a window ends at each of its own."""
    padded = np.empty((lookback - 1 + len(x), *x.shape[1:]))
    padded[: lookback - 1] = nothing
    padded[lookback - 1 :] = x
    return padded
