"""Infer splits and dividends from a close and its adjusted close.

A vendor's adjusted close is the close times a factor that stays constant until the next corporate
action. Going through time:

1. `constant_levels`: every session bounds the factor to an interval, as wide as the rounding of
   the adjusted close allows. While the intervals share a value, the factor has not changed; when
   they stop sharing one, an action became effective. The middle of what a whole segment shares is
   far more exact than any single ratio.
2. `infer_actions`: the step between two levels is a split if it is a simple fraction of at least
   6:5, a dividend if it is a small rise. A step that is a simple fraction and a little more is
   both on one day. A fall that is no reverse split has no explanation and is returned as such.

A step smaller than the rounding of the adjusted close cannot be seen, and one just above it may be
dated a few sessions late: infer from files with many decimals.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

import numpy as np

from adapters.source import Action, ActionType
from prometheus_nt.domain.record import FloatArray, SessionArray

SMALLEST_SPLIT = 1.2
"""A smaller step is a dividend, or a stock dividend that is worth the same as one."""
LARGEST_RESIDUAL = 0.03
"""A step within this of a fraction is that split plus a dividend on the same day."""
LARGEST_DENOMINATOR = 4
MOST_DECIMALS = 8
DIVIDEND_DECIMALS = 6
"""Removes the noise of binary fractions; no dividend is declared finer."""


class DividendBasis(StrEnum):
    """Which close the vendor relates a dividend to when it adjusts.

    PRIOR_CLOSE: factor 1 - dividend / last close before the ex-date (Yahoo, EODHD, CRSP).
    EX_CLOSE: factor 1 / (1 + dividend / close of the ex-date) (Quandl WIKI).
    """

    PRIOR_CLOSE = "PRIOR_CLOSE"
    EX_CLOSE = "EX_CLOSE"


@dataclass(frozen=True)
class Level:
    """The adjustment factor of sessions `start` to the next level's start, and its uncertainty."""

    start: int
    factor: float
    uncertainty: float


@dataclass(frozen=True)
class Unexplained:
    """A step of the adjustment factor that is neither a split nor a dividend."""

    ex_date: date
    step: float


def constant_levels(close: FloatArray, adjusted_close: FloatArray) -> list[Level]:
    """Return the segments over which `adjusted_close / close` is constant up to rounding."""
    rounding = 0.5 * 10.0 ** -_decimals(adjusted_close) if len(close) else 0.0
    slack = 1e-9 * adjusted_close + rounding
    lowest, highest = (adjusted_close - slack) / close, (adjusted_close + slack) / close
    levels, start = [], 0
    while start < len(close):
        lower = np.maximum.accumulate(lowest[start:])
        upper = np.minimum.accumulate(highest[start:])
        broken = lower > upper
        length = int(broken.argmax()) if broken.any() else len(lower)
        low, high = float(lower[length - 1]), float(upper[length - 1])
        levels.append(Level(start, (low + high) / 2, (high - low) / 2))
        start += length
    return levels


def infer_actions(
    instrument_id: str,
    dates: SessionArray,
    close: FloatArray,
    adjusted_close: FloatArray,
    basis: DividendBasis,
) -> tuple[list[Action], list[Unexplained]]:
    """Return the splits and dividends that explain the adjusted close.

    Parameters
    ----------
    dates : (T,) array, ascending
    close : (T,) array
        As traded, positive.
    adjusted_close : (T,) array
        Adjusted for splits and dividends, positive.
    """
    levels = constant_levels(close, adjusted_close)
    actions: list[Action] = []
    unexplained: list[Unexplained] = []
    for before, after in pairwise(levels):
        ex_date: date = dates[after.start].astype(object)
        split, rest, noise = _split_and_rest(before, after)
        if split != 1:
            value = float(split)
            actions.append(Action(instrument_id, ex_date, ActionType.SPLIT, value, "inferred"))
        if abs(rest - 1.0) <= noise:
            continue
        if rest < 1.0:
            unexplained.append(Unexplained(ex_date, after.factor / before.factor))
            continue
        prior, ex = float(close[after.start - 1]) / float(split), float(close[after.start])
        cash = prior * (1 - 1 / rest) if basis is DividendBasis.PRIOR_CLOSE else ex * (rest - 1)
        cash = round(cash, DIVIDEND_DECIMALS)
        actions.append(Action(instrument_id, ex_date, ActionType.DIVIDEND, cash, "inferred"))
    return actions, unexplained


def _split_and_rest(before: Level, after: Level) -> tuple[Fraction, float, float]:
    """Return the split, the factor it leaves to a dividend, and the noise of that factor."""
    step = after.factor / before.factor
    noise = 1e-8 + before.uncertainty / before.factor + after.uncertainty / after.factor
    if 1 / SMALLEST_SPLIT < step < SMALLEST_SPLIT:
        return Fraction(1), step, noise
    if step < 1:
        split = 1 / Fraction(1 / step).limit_denominator(LARGEST_DENOMINATOR)
        rest = step / float(split)
        return (split, rest, noise) if abs(rest - 1) <= noise else (Fraction(1), step, noise)
    fractions = (
        Fraction(int(step * parts * (1 + noise)), parts)
        for parts in range(1, LARGEST_DENOMINATOR + 1)
    )
    split = max(fractions, key=lambda fraction: (float(fraction), -fraction.denominator))
    rest = step / float(split)
    return (split, rest, noise) if rest - 1 <= LARGEST_RESIDUAL else (Fraction(1), step, noise)


def _decimals(values: FloatArray) -> int:
    """Return the decimals to which `values` were rounded."""
    for decimals in range(MOST_DECIMALS):
        if np.allclose(values, np.round(values, decimals), rtol=0.0, atol=1e-9):
            return decimals
    return MOST_DECIMALS
