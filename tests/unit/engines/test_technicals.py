"""Ratings against a second implementation: pandas, one instrument and one vote at a time."""

import numpy as np
import pandas as pd
import pytest

from prometheus_nt.engines.technicals import (
    MOVING_AVERAGES,
    OSCILLATORS,
    average_directional_index,
    combined_rating,
    technical_ratings,
)

NAN = np.nan


def _bars(seed, sessions=330, names=3):
    rng = np.random.default_rng(seed)
    close = 40.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (sessions, names)), axis=0))
    open_ = close * np.exp(rng.normal(0.0, 0.01, close.shape))
    return {
        "close": close,
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + rng.uniform(0.0, 0.01, close.shape)),
        "low": np.minimum(open_, close) * (1.0 - rng.uniform(0.0, 0.01, close.shape)),
        "volume": rng.uniform(1e5, 1e6, close.shape),
    }


def _panel(panel_of, bars, **fields):
    rest = {name: values for name, values in bars.items() if name != "close"}
    return panel_of(bars["close"], **rest, **fields)


def _ewm(x, alpha, warm):
    """Pandas counts `min_periods` from the first known value."""
    return x.ewm(alpha=alpha, adjust=False, min_periods=warm).mean()


def _side(close, line):
    return np.sign(close - line)


def _crossing(raw):
    k = raw.rolling(3).mean()
    d = k.rolling(3).mean()
    vote = pd.Series(0.0, raw.index)
    vote[(k < 20) & (k > d)] = 1.0
    vote[(k > 80) & (k < d)] = -1.0
    return vote.where(d.notna())


def _reversing(x, low, high):
    return pd.Series(np.select([x < low, x > high], [1.0, -1.0], 0.0), x.index).where(x.notna())


def _continuing(x):
    slope = x.diff()
    vote = pd.Series(np.select([(x > 0) & (slope > 0), (x < 0) & (slope < 0)], [1.0, -1.0], 0.0))
    return vote.where(slope.notna())


def _wma(x, length):
    weights = np.arange(1, length + 1)
    return x.rolling(length).apply(lambda window: window @ weights / weights.sum(), raw=True)


def _moving_averages(high, low, close, volume):
    votes = []
    for length in (10, 20, 30, 50, 100, 200):
        votes.append(_side(close, close.rolling(length).mean()))
        votes.append(_side(close, _ewm(close, 2 / (length + 1), length)))
    votes.append(_side(close, _wma(2 * _wma(close, 4) - _wma(close, 9), 3)))
    votes.append(_side(close, (close * volume).rolling(20).sum() / volume.rolling(20).sum()))
    middle = [(high.rolling(n).max() + low.rolling(n).min()) / 2 for n in (9, 26, 52)]
    spans = ((middle[0] + middle[1]).shift(26) / 2, middle[2].shift(26))
    above = (close > spans[0]) & (close > spans[1])
    below = (close < spans[0]) & (close < spans[1])
    votes.append((above.astype(float) - below).where(spans[0].notna() & spans[1].notna()))
    rating = pd.concat(votes, axis=1).mean(axis=1)
    rating[:199] = NAN
    return rating


def _adx(high, low):
    rise, fall = high.diff(), -low.diff()
    plus = _ewm(rise.where((rise > fall) & (rise > 0), 0.0), 1 / 14, 1)
    minus = _ewm(fall.where((fall > rise) & (fall > 0), 0.0), 1 / 14, 1)
    index = 100 * (plus - minus).abs() / (plus + minus)
    return _ewm(index[14:], 1 / 14, 14).reindex(high.index), plus, minus


def _adx_vote(high, low):
    adx, plus, minus = _adx(high, low)
    return (np.sign(plus - minus) * (adx > 20)).where(adx.notna())


def _rsi(close):
    change = close.diff().fillna(0.0)
    up = _ewm(change.clip(lower=0), 1 / 14, 1)
    down = _ewm(-change.clip(upper=0), 1 / 14, 1)
    rsi = 100 * up / (up + down)
    rsi[:14] = NAN
    return rsi


def _in_range(x, high, low):
    bottom = low.rolling(14).min()
    return 100 * (x - bottom) / (high.rolling(14).max() - bottom)


def _oscillators(high, low, close):
    before = close.shift(1)
    rsi, place = _rsi(close), _in_range(close, high, low)
    typical = (high + low + close) / 3
    mad = typical.rolling(20).apply(lambda window: np.abs(window - window.mean()).mean(), raw=True)
    cci = (typical - typical.rolling(20).mean()) / (0.015 * mad)
    middle = (high + low) / 2
    macd = _ewm(close, 2 / 13, 12) - _ewm(close, 2 / 27, 26)
    signal = _ewm(macd[25:], 2 / 10, 9).reindex(close.index)
    base = _ewm(close, 2 / 14, 13)
    floor = pd.concat([low, before], axis=1).min(axis=1)
    reach = pd.concat([high, before], axis=1).max(axis=1) - floor
    pressure = close - floor
    pressure[0], reach[0] = NAN, NAN
    sums = [pressure.rolling(n).sum() / reach.rolling(n).sum() for n in (7, 14, 28)]
    ultimate = 100 * (4 * sums[0] + 2 * sums[1] + sums[2]) / 7
    votes = [
        _reversing(rsi, 30, 70),
        _crossing(place),
        _reversing(cci, -100, 100),
        _adx_vote(high, low),
        _continuing(middle.rolling(5).mean() - middle.rolling(34).mean()),
        np.sign(close - close.shift(10)),
        np.sign(macd - signal),
        _crossing(_in_range(rsi, rsi, rsi)),
        _reversing(place - 100, -80, -20),
        _continuing(high + low - 2 * base),
        _reversing(ultimate, 30, 70),
    ]
    return pd.concat(votes, axis=1).mean(axis=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_ratings_are_those_of_a_second_implementation(panel_of, seed):
    bars = _bars(seed)

    ratings = technical_ratings(_panel(panel_of, bars))

    for column in range(3):
        high, low, close, volume = (
            pd.Series(bars[name][:, column]) for name in ("high", "low", "close", "volume")
        )
        lines = _moving_averages(high, low, close, volume)
        votes = _oscillators(high, low, close)
        found = ratings[:, :, column]
        assert np.allclose(found[:, MOVING_AVERAGES], lines, atol=1e-12, equal_nan=True)
        assert np.allclose(found[:, OSCILLATORS], votes, atol=1e-12, equal_nan=True)
    assert len(np.unique(ratings[250:, OSCILLATORS])) > 8


def test_warm_up_is_unknown_and_not_a_vote_for_neither(panel_of):
    bars = {name: values[:, :1] for name, values in _bars(3).items()}
    bars["close"] = np.linspace(10.0, 90.0, 330)[:, None]

    rating = technical_ratings(_panel(panel_of, bars))[:, MOVING_AVERAGES, 0]

    assert np.isnan(rating[:199]).all()
    # All fifteen lines lie below a price that only rises; not one of them is missing.
    assert (rating[199:] >= 14.0 / 15.0).all()


def test_a_split_and_missing_bars_leave_the_ratings_of_the_other_bars_alone(panel_of):
    bars = _bars(4)
    plain = technical_ratings(_panel(panel_of, bars))
    split = np.ones_like(bars["close"])
    split[150] = 4.0
    after = np.arange(330)[:, None] >= 150
    halted = {
        name: np.where(after, values * 4.0 if name == "volume" else values / 4.0, values)
        for name, values in bars.items()
    }
    # Ten empty sessions in the middle of nothing: the bars are the same, the sessions are not.
    spread = {name: np.insert(values, [300] * 10, NAN, axis=0) for name, values in halted.items()}
    split = np.insert(split, [300] * 10, 1.0, axis=0)

    ratings = technical_ratings(_panel(panel_of, spread, split=split))

    traded = np.isfinite(spread["close"][:, 0])
    assert np.allclose(ratings[traded], plain, atol=1e-9, equal_nan=True)
    assert np.array_equal(ratings[300:303], np.repeat(ratings[299:300], 3, axis=0))
    assert np.isnan(ratings[303:310]).all()


def test_closes_alone_have_no_rating_until_a_range_was_observed(panel_of):
    bars = _bars(5)
    closes = panel_of(bars["close"])
    assert np.isnan(technical_ratings(closes)).all()

    mixed = {name: values.copy() for name, values in bars.items()}
    for name in ("open", "high", "low"):
        mixed[name][:250] = bars["close"][:250]

    ratings = technical_ratings(_panel(panel_of, mixed))

    assert np.isnan(ratings[:250]).all()
    assert np.isfinite(ratings[250:]).all()


def test_without_volume_the_vote_that_needs_it_is_left_out(panel_of):
    bars = _bars(6)
    without = bars | {"volume": np.full_like(bars["volume"], NAN)}

    with_it = technical_ratings(_panel(panel_of, bars))[250:, MOVING_AVERAGES]
    rating = technical_ratings(_panel(panel_of, without))[250:, MOVING_AVERAGES]

    votes = np.round(14.0 * rating, 9)
    assert (votes == np.round(votes)).all()
    assert np.isin(np.round(15.0 * with_it - votes), [-1.0, 0.0, 1.0]).all()


def test_a_price_that_never_moves_is_neither_bought_nor_sold(panel_of):
    flat = np.full((260, 2), 10.0)
    high = flat.copy()
    high[:, 1] = 11.0

    ratings = technical_ratings(panel_of(flat, high=high))

    assert (ratings[200:, :, 0] == 0.0).all()


def test_no_rating_depends_on_a_later_bar(panel_of):
    bars = _bars(7)
    changed = {name: values.copy() for name, values in bars.items()}
    for name in changed:
        changed[name][280:] = np.random.default_rng(0).uniform(1.0, 500.0, (50, 3))

    honest = technical_ratings(_panel(panel_of, bars))[:280]
    cut = technical_ratings(_panel(panel_of, {name: v[:280] for name, v in bars.items()}))

    assert np.array_equal(
        honest, technical_ratings(_panel(panel_of, changed))[:280], equal_nan=True
    )
    assert np.array_equal(honest, cut, equal_nan=True)


def test_the_directional_index_agrees_with_pandas(panel_of):
    bars = _bars(6)

    index = average_directional_index(_panel(panel_of, bars))

    for column in range(index.shape[1]):
        high, low = (pd.Series(bars[name][:, column]) for name in ("high", "low"))
        np.testing.assert_allclose(index[:, column], _adx(high, low)[0], rtol=1e-9)
    assert np.isnan(index[:27]).all() and np.isfinite(index[27:]).all()


def test_the_combined_rating_is_unknown_until_both_are(panel_of):
    panel = _panel(panel_of, _bars(7))
    both = technical_ratings(panel)

    combined = combined_rating(panel)

    assert np.isnan(combined[:199]).all() and np.isfinite(both[150, OSCILLATORS]).all()
    np.testing.assert_array_equal(combined[199:], both[199:].mean(axis=1))
