"""Technical ratings: votes of well-known indicators, averaged, from -1 (sell) to 1 (buy).

1. `_bars` gathers each instrument's own bars without gaps, adjusted for splits and dividends;
2. `_smoothed` runs exponential averages, all at once, bar by bar;
3. `_moving_averages` compares the close with fifteen lines, `_oscillators` takes eleven votes;
4. `_on_sessions` brings the mean votes back to the sessions, where they hold for a few missing
   bars.

A vote is 1 to buy, -1 to sell, 0 for neither, and NaN while its indicator warms up or cannot be
known. Everything is causal bar by bar, and done in blocks of instruments.

References
----------
Wilder (1978), "New Concepts in Technical Trading Systems": RSI, directional movement.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.returns import has_bar, total_return_index
from prometheus_nt.engines.numerics.series import shifted

MOVING_AVERAGES, OSCILLATORS = 0, 1

AVERAGED = (10, 20, 30, 50, 100, 200)
"""Bars of the simple and of the exponential averages that the close is compared with."""

MAX_MISSING = 3
"""Sessions without a bar over which the last rating still holds."""

WILDER = 1.0 / 14.0
"""Smoothing of Wilder's 14-bar averages."""

TIE = 1e-10
"""Relative difference below which two numbers are equal: rolling sums are rounded."""

BLOCK_COLUMNS = 64
"""Instruments at a time: fewer spend their time in Python, more leave the processor's cache."""


def technical_ratings(panel: MarketPanel) -> FloatArray:
    """Return the ratings by moving averages and by oscillators at every session, (T, 2, N).

    The first is known from the 200th bar on, the second as soon as one of its votes is. Neither
    is before the first session on which any high stood above its low: closes alone say nothing of
    ranges. Where an instrument has no volume, the vote that needs it is left out.
    """
    return _measured(panel, (_moving_averages, _oscillators))


def combined_rating(panel: MarketPanel) -> FloatArray:
    """Return the mean of both ratings at every session, (T, N); NaN unless both are known."""
    both = panel.derived(technical_ratings)
    return 0.5 * (both[:, MOVING_AVERAGES] + both[:, OSCILLATORS])


def average_directional_index(panel: MarketPanel) -> FloatArray:
    """Return Wilder's ADX of 14 bars at every session, 0 (no trend) to 100, (T, N).

    Known from the 28th bar on, where highs and lows are, as in `technical_ratings`.
    """
    index: FloatArray = _measured(panel, (_strength,))[:, 0]
    return index


def _measured(
    panel: MarketPanel, measures: "Sequence[Callable[[_Bars], FloatArray]]"
) -> FloatArray:
    """Return what each of F measures makes of the bars, on the sessions, (T, F, N)."""
    values = np.full((len(panel), len(measures), len(panel.instruments)), np.nan)
    observed = np.logical_or.accumulate((panel.high > panel.low).any(axis=1))
    if not observed.any():
        return values
    for start in range(0, values.shape[2], BLOCK_COLUMNS):
        columns = slice(start, start + BLOCK_COLUMNS)
        bars, rows = _bars(panel, columns)
        for number, measure in enumerate(measures):
            values[:, number, columns] = _on_sessions(measure(bars), rows)
    values[~observed] = np.nan
    return values


class _Bars(NamedTuple):
    """The k-th bar of each instrument in row k, (K, n); NaN after the last."""

    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


def _bars(panel: MarketPanel, columns: slice) -> tuple[_Bars, IntArray]:
    """Return the bars, and for each session the row of the newest one, -1 if it is too old."""
    close = np.ascontiguousarray(panel.close[:, columns])
    traded = has_bar(close)
    place = np.cumsum(traded, axis=0) - 1
    session, column = np.nonzero(traded)
    row = place[session, column]
    index = panel.derived(total_return_index)[:, columns]
    # Total returns, so that neither a split nor a dividend looks like a fall.
    factor = index / np.where(traded, close, np.nan)
    volume = panel.volume[:, columns] / np.cumprod(panel.split[:, columns], axis=0)
    measured = (
        np.where(has_bar(panel.high[:, columns]), panel.high[:, columns], close) * factor,
        np.where(has_bar(panel.low[:, columns]), panel.low[:, columns], close) * factor,
        index,
        np.where(has_bar(volume), volume, 0.0),
    )
    gathered = []
    for values in measured:
        bars = np.full_like(close, np.nan)
        bars[row, column] = values[session, column]
        gathered.append(bars)
    return _Bars(*gathered), _newest(traded, place)


def _newest(traded: BoolArray, place: IntArray) -> IntArray:
    sessions = np.arange(len(traded))[:, None]
    last = np.maximum.accumulate(np.where(traded, sessions, -MAX_MISSING - 1), axis=0)
    return np.where(sessions - last <= MAX_MISSING, place, -1)


def _on_sessions(rating: FloatArray, rows: IntArray) -> FloatArray:
    held = np.take_along_axis(rating, np.maximum(rows, 0), axis=0)
    return np.where(rows >= 0, held, np.nan)


def _moving_averages(bars: _Bars) -> FloatArray:
    """Return the mean vote of the close against fifteen lines, (K, n); NaN before 200 bars."""
    close = bars.close
    votes = [_side(close, _mean(close, length)) for length in AVERAGED]
    spans = [_span(length) for length in AVERAGED]
    votes += [_side(close, line) for line in _smoothed([close] * len(spans), spans)]
    weighed = _mean(close * bars.volume, 20) / _positive(_mean(bars.volume, 20))
    votes += [_side(close, _hull(close, 9)), _side(close, weighed), _ichimoku(bars)]
    rating = _mean_vote(votes)
    rating[: max(AVERAGED) - 1] = np.nan
    return rating


def _oscillators(bars: _Bars) -> FloatArray:
    """Return the mean of the known votes of eleven oscillators, (K, n)."""
    high, low, close = bars.high, bars.low, bars.close
    changes = [_change(side) for side in (close, high, low)]
    up, down = np.maximum(changes[0], 0.0), np.maximum(-changes[0], 0.0)
    plus, minus = _directional_movement(changes[1], -changes[2])
    fast, slow, base, up, down, plus, minus = _smoothed(
        [close, close, close, up, down, plus, minus],
        [_span(12), _span(26), _span(13), WILDER, WILDER, WILDER, WILDER],
    )
    rsi = _warm(100.0 * up / _positive(up + down), 14)
    place = _place_in_range(close, high, low, 14)
    bull_bear = _warm(high + low - 2.0 * base, 12)
    votes = [
        _reversing(rsi, 30.0, 70.0),
        _crossing(place),
        _reversing(_commodity_channel(bars, 20), -100.0, 100.0),
        _trending(plus, minus),
        _continuing(_awesome(bars), close),
        _side(close, shifted(close, 10)),
        _macd_vote(fast - slow, close),
        _crossing(_place_in_range(rsi, rsi, rsi, 14)),
        _reversing(place - 100.0, -80.0, -20.0),
        _continuing(bull_bear, close),
        _reversing(_ultimate(bars), 30.0, 70.0),
    ]
    return _mean_vote(votes)


def _ichimoku(bars: _Bars) -> FloatArray:
    """Return 1 above both spans of the cloud, -1 below both, 0 inside; 9, 26, 52 bars."""
    conversion, base, slow = (_middle_of_range(bars, length) for length in (9, 26, 52))
    leading, trailing = shifted(0.5 * (conversion + base), 26), shifted(slow, 26)
    both = _side(bars.close, leading) + _side(bars.close, trailing)
    return np.where(np.isnan(both), np.nan, (both == 2.0).astype(np.float64) - (both == -2.0))


def _strength(bars: _Bars) -> FloatArray:
    plus, minus = _directional_movement(_change(bars.high), -_change(bars.low))
    smooth = _smoothed([plus, minus], [WILDER, WILDER])
    return _trend(smooth[0], smooth[1])


def _trending(plus: FloatArray, minus: FloatArray) -> FloatArray:
    """Return the side of directional movement where ADX is above 20, else 0."""
    adx = _trend(plus, minus)
    return np.where(np.isnan(adx), np.nan, (adx > 20.0) * np.sign(plus - minus))


def _trend(plus: FloatArray, minus: FloatArray) -> FloatArray:
    """Return ADX, given directional movement that was smoothed."""
    index = 100.0 * np.abs(plus - minus) / _positive(plus + minus)
    adx = np.full_like(plus, np.nan)
    # No movement in either direction is no trend.
    settled = np.where(np.isnan(index), 0.0, index)[14:]
    adx[14:] = _smoothed([settled], [WILDER])[0]
    return np.where(np.isnan(plus), np.nan, _warm(adx, 27))


def _macd_vote(macd: FloatArray, close: FloatArray) -> FloatArray:
    """Return the sign of the histogram: MACD of 12 and 26 bars less its average of 9."""
    signal = np.full_like(macd, np.nan)
    signal[25:] = _smoothed([macd[25:]], [_span(9)])[0]
    return _sign(_warm(macd - signal, 33), TIE * close)


def _awesome(bars: _Bars) -> FloatArray:
    middle = 0.5 * (bars.high + bars.low)
    return _mean(middle, 5) - _mean(middle, 34)


def _commodity_channel(bars: _Bars, length: int) -> FloatArray:
    typical = (bars.high + bars.low + bars.close) / 3.0
    centre = _mean(typical, length)
    deviation = np.zeros_like(typical)
    for back in range(length):
        deviation += np.abs(shifted(typical, back) - centre)
    deviation /= length
    moved = deviation > TIE * bars.close
    return (typical - centre) / np.where(moved, 0.015 * deviation, np.nan)


def _ultimate(bars: _Bars) -> FloatArray:
    before = shifted(bars.close, 1)
    floor = np.fmin(bars.low, before)
    pressure, true_range = bars.close - floor, np.fmax(bars.high, before) - floor
    pressure[:1] = true_range[:1] = 0.0
    total = np.zeros_like(floor)
    for length, weight in ((7, 4.0), (14, 2.0), (28, 1.0)):
        spread = _mean(true_range, length)
        spread = np.where(spread > TIE * bars.close, spread, np.nan)
        total += weight * _mean(pressure, length) / spread
    return _warm(100.0 * total / 7.0, 28)


def _directional_movement(rise: FloatArray, fall: FloatArray) -> tuple[FloatArray, FloatArray]:
    plus = np.where((rise > fall) & (rise > 0.0), rise, 0.0)
    minus = np.where((fall > rise) & (fall > 0.0), fall, 0.0)
    return np.where(np.isnan(rise), np.nan, plus), np.where(np.isnan(fall), np.nan, minus)


def _side(close: FloatArray, line: FloatArray) -> FloatArray:
    """Return 1 where the close is above the line, -1 below, 0 on it."""
    return _sign(close - line, TIE * close)


def _reversing(x: FloatArray, low: float, high: float) -> FloatArray:
    """Return 1 below `low`, where a fall has gone far, and -1 above `high`."""
    return np.where(np.isnan(x), np.nan, (x < low).astype(np.float64) - (x > high))


def _crossing(place: FloatArray) -> FloatArray:
    """Return 1 where K, under 20, is above its average D; -1 where K, over 80, is below it."""
    k = _mean_of_three(place)
    d = _mean_of_three(k)
    turn = _sign(k - d, 1e-9)
    vote = ((k < 20.0) & (turn > 0.0)).astype(np.float64) - ((k > 80.0) & (turn < 0.0))
    return np.where(np.isnan(d), np.nan, vote)


def _continuing(x: FloatArray, scale: FloatArray) -> FloatArray:
    """Return 1 where `x` is above 0 and rising, -1 where it is below and falling."""
    side, slope = _sign(x, TIE * scale), _sign(x - shifted(x, 1), TIE * scale)
    return np.where(np.isnan(slope), np.nan, 0.5 * (side + slope) * (side == slope))


def _sign(x: FloatArray, tiny: FloatArray | float) -> FloatArray:
    return np.where(np.isnan(x), np.nan, (x > tiny).astype(np.float64) - (x < -tiny))


def _mean_vote(votes: Sequence[FloatArray]) -> FloatArray:
    total, count = np.zeros_like(votes[0]), np.zeros_like(votes[0])
    for vote in votes:
        known = ~np.isnan(vote)
        total += np.where(known, vote, 0.0)
        count += known
    return np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan)


def _smoothed(series: Sequence[FloatArray], alphas: Sequence[float]) -> FloatArray:
    """Return the exponential averages of (K, n) series, each with its own alpha, (S, K, n).

    The first value starts the average, and e_k = e_{k-1} + alpha (x_k - e_{k-1}).
    """
    x = np.stack(series, axis=1)
    alpha = np.array(alphas)[:, None]
    for before, now in pairwise(x):
        now -= before
        now *= alpha
        now += before
    averages: FloatArray = x.swapaxes(0, 1)
    return averages


def _span(length: int) -> float:
    return 2.0 / (length + 1.0)


def _mean(x: FloatArray, length: int) -> FloatArray:
    """Return the mean of the last `length` rows, NaN before there are so many."""
    running = np.cumsum(x, axis=0)
    mean: FloatArray = running.copy()
    mean[length:] -= running[:-length]
    mean /= length
    return _warm(mean, length - 1)


def _mean_of_three(x: FloatArray) -> FloatArray:
    # Not by running sums: `x` may be NaN for a while, and a sum would never forget it.
    return (x + shifted(x, 1) + shifted(x, 2)) / 3.0


def _hull(x: FloatArray, length: int) -> FloatArray:
    """Return Hull's moving average: linear weights, half the lag."""
    sharp = 2.0 * _linearly_weighted(x, length // 2) - _linearly_weighted(x, length)
    return _linearly_weighted(sharp, round(length**0.5))


def _linearly_weighted(x: FloatArray, length: int) -> FloatArray:
    total = np.zeros_like(x)
    for back in range(length):
        total += (length - back) * shifted(x, back)
    return total / (0.5 * length * (length + 1))


def _middle_of_range(bars: _Bars, length: int) -> FloatArray:
    return 0.5 * (_highest(bars.high, length) - _highest(-bars.low, length))


def _place_in_range(x: FloatArray, high: FloatArray, low: FloatArray, length: int) -> FloatArray:
    """Return where `x` lies between the lowest low (0) and the highest high (100) of the bars."""
    top, bottom = _highest(high, length), -_highest(-low, length)
    moved = top - bottom > TIE * (np.abs(top) + np.abs(bottom))
    return 100.0 * (x - bottom) / np.where(moved, top - bottom, np.nan)


def _highest(x: FloatArray, length: int) -> FloatArray:
    """Return the largest of the last `length` rows, NaN before there are so many."""
    largest, covered = x.copy(), 1
    while covered < length:
        step = min(covered, length - covered)
        # The right-hand side is complete before it is stored: each row sees the older stretch.
        largest[step:] = np.maximum(largest[step:], largest[:-step])
        covered += step
    return _warm(largest, length - 1)


def _change(x: FloatArray) -> FloatArray:
    """Return the change from the bar before; 0 at the first bar, which has none."""
    change = x - shifted(x, 1)
    change[:1] = 0.0 * x[:1]
    return change


def _warm(x: FloatArray, first: int) -> FloatArray:
    """Return `x` with NaN in the rows before `first`; `x` itself is changed."""
    x[:first] = np.nan
    return x


def _positive(x: FloatArray) -> FloatArray:
    return np.where(x > 0.0, x, np.nan)
