from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.numerics import (
    bar_counts,
    cross_sectional_zscore,
    equal_weighted_returns,
    has_bar,
    log_total_returns,
    own_history_percentile,
    percentile_rank,
    rolling_dollar_volume,
    rolling_expected_shortfall,
    rolling_market_correlation,
    rolling_max_drawdown,
    rolling_mean,
    rolling_volatility_per_session,
    total_return_index,
    total_returns,
    trailing_return,
    waterfill,
)

NAN = np.nan


def test_a_price_is_finite_and_positive():
    assert has_bar(np.array([1.0, 0.0, -1.0, NAN, np.inf])).tolist() == [True] + [False] * 4


def test_a_split_and_the_dividend_after_it_are_part_of_the_return(panel_of):
    panel = panel_of([100.0, 51.0], split=[1.0, 2.0], dividend=[0.0, 1.0])

    assert np.allclose(total_returns(panel)[:, 0], [NAN, 0.04], equal_nan=True)


def test_a_split_and_a_dividend_during_a_missing_bar_are_not_lost(panel_of):
    panel = panel_of([100.0, NAN, 50.0], split=[1.0, 2.0, 1.0], dividend=[0.0, 1.0, 0.0])

    assert np.allclose(total_returns(panel)[:, 0], [NAN, NAN, 0.02], equal_nan=True)


def test_earlier_dividends_leave_no_rounding_in_later_returns(panel_of):
    panel = panel_of([10.0] * 5, dividend=[0.0, 0.1, 0.3, 0.0, 0.0])

    assert total_returns(panel)[3:, 0].tolist() == [0.0, 0.0]


def test_an_impossible_price_is_a_missing_bar(panel_of):
    panel = panel_of([10.0, 0.0, -5.0, 11.0])

    assert np.allclose(total_returns(panel)[:, 0], [NAN, NAN, NAN, 0.1], equal_nan=True)


def test_log_returns_are_the_logarithm_of_total_returns(panel_of):
    panel = panel_of([100.0, 110.0])

    assert log_total_returns(panel)[1, 0] == pytest.approx(np.log(1.1))


def test_the_index_starts_at_one_and_carries_forward(panel_of):
    panel = panel_of([NAN, 20.0, NAN, 22.0])

    assert np.allclose(total_return_index(panel)[:, 0], [NAN, 1.0, 1.0, 1.1], equal_nan=True)


def test_the_index_is_the_wealth_of_a_holder_who_reinvests(panel_of, random_close):
    close = random_close(3, 80, 4)
    rng = np.random.default_rng(4)
    split = np.where(rng.random(close.shape) < 0.05, rng.choice([0.5, 2.0, 1.5], close.shape), 1.0)
    dividend = np.where(rng.random(close.shape) < 0.1, 0.5, 0.0)
    panel = panel_of(close, split=split, dividend=dividend)

    index = total_return_index(panel)

    for column in range(close.shape[1]):
        expected = _wealth(close[:, column], split[:, column], dividend[:, column])
        assert np.allclose(index[:, column], expected, equal_nan=True, rtol=1e-10)


def _wealth(close, split, dividend):
    shares = cash = 0.0
    wealth = NAN
    history = []
    for price, ratio, paid in zip(close, split, dividend, strict=True):
        shares *= ratio
        cash += shares * paid
        if np.isfinite(price):
            wealth = 1.0 if np.isnan(wealth) else shares * price + cash
            shares, cash = wealth / price, 0.0
        history.append(wealth)
    return history


def test_a_trailing_return_skips_the_newest_sessions(panel_of):
    panel = panel_of([100.0, 110.0, 120.0, 90.0])

    assert trailing_return(panel, 3, skip=1)[0] == pytest.approx(0.2)
    assert np.isnan(trailing_return(panel, 4)).all()


def test_the_market_return_is_the_mean_of_the_known_returns(panel_of):
    panel = panel_of([[10.0, 10.0], [11.0, 13.0], [11.0, NAN], [NAN, NAN]])

    assert np.allclose(equal_weighted_returns(panel), [NAN, 0.2, 0.0, NAN], equal_nan=True)


def test_bars_are_counted_since_the_first_session(panel_of):
    assert bar_counts(panel_of([1.0, NAN, 1.0])).ravel().tolist() == [1.0, 1.0, 2.0]


def test_volatility_is_the_sample_deviation_of_the_known_log_returns(panel_of, random_close):
    panel = panel_of(random_close(5, 120, 20))
    log_returns = log_total_returns(panel)

    sigma = rolling_volatility_per_session(panel, 30, 20)

    for row in range(120):
        window = log_returns[max(0, row - 29) : row + 1]
        for column in range(20):
            known = window[np.isfinite(window[:, column]), column]
            expected = known.std(ddof=1) if len(known) >= 20 else NAN
            assert sigma[row, column] == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_a_constant_price_has_no_volatility_and_no_drawdown(panel_of):
    panel = panel_of([5.0, 7.0, *[6.0] * 10])

    assert rolling_volatility_per_session(panel, 5, 3)[-1, 0] == 0.0
    assert rolling_max_drawdown(panel, 5)[-1, 0] == 0.0


@pytest.mark.parametrize("lookback", [1, 2, 3, 16, 63, 100])
def test_the_max_drawdown_is_the_worst_pair_in_the_window(panel_of, random_close, lookback):
    panel = panel_of(random_close(6, 80, 18))
    index = total_return_index(panel)

    drawdown = rolling_max_drawdown(panel, lookback)

    for row in range(80):
        window = index[max(0, row - lookback + 1) : row + 1]
        expected = np.full(18, NAN)
        for column in range(18):
            prices = window[np.isfinite(window[:, column]), column]
            if len(prices):
                expected[column] = (prices / np.maximum.accumulate(prices)).min() - 1.0
        assert np.allclose(drawdown[row], expected, equal_nan=True, atol=1e-13)


def test_dollar_volume_is_the_mean_over_known_sessions_if_at_least_half_are(panel_of):
    panel = panel_of([10.0, 20.0, 10.0, 10.0, 10.0], volume=[1.0, NAN, 3.0, NAN, NAN])

    mean = rolling_dollar_volume(panel, 3)[:, 0]

    assert np.allclose(mean, [NAN, NAN, 20.0, NAN, NAN], equal_nan=True)


def test_zscores_have_mean_zero_and_deviation_one():
    z = cross_sectional_zscore(np.array([1.0, NAN, 2.0, 3.0, np.inf]))

    half = np.sqrt(1.5)
    assert np.allclose(z, [-half, NAN, 0.0, half, NAN], equal_nan=True)


def test_an_outlier_is_pulled_in_to_its_neighbour():
    x = np.arange(40.0)
    x[-1] = 1e9

    z = cross_sectional_zscore(x)

    assert z[-1] == z[-2]
    assert z[0] == z[1]
    assert np.allclose(z, cross_sectional_zscore(np.clip(np.arange(40.0), 1.0, 38.0), 0.0))


def test_values_that_do_not_vary_score_zero():
    z = cross_sectional_zscore(np.array([[0.1] * 3, [0.0] * 3, [NAN, 7.0, NAN], [NAN] * 3]))

    expected = [[0.0] * 3, [0.0] * 3, [NAN, 0.0, NAN], [NAN] * 3]
    assert np.array_equal(z, expected, equal_nan=True)


def test_each_row_is_a_cross_section_of_its_own():
    x = np.random.default_rng(0).normal(size=(3, 100))
    x[1, ::3] = NAN

    rows = [cross_sectional_zscore(row) for row in x]

    assert np.array_equal(cross_sectional_zscore(x), rows, equal_nan=True)


def test_ties_share_the_average_of_their_ranks():
    rank = percentile_rank(np.array([3.0, 1.0, NAN, 1.0, 0.0, 9.0]))

    assert np.array_equal(rank, [0.75, 0.375, NAN, 0.375, 0.0, 1.0], equal_nan=True)


def test_a_single_value_ranks_in_the_middle():
    assert np.array_equal(percentile_rank(np.array([NAN, 2.0])), [NAN, 0.5], equal_nan=True)
    assert np.isnan(percentile_rank(np.array([NAN, NAN]))).all()


def test_what_no_name_can_take_stays_cash():
    assert waterfill(np.ones(5), cap=0.05).tolist() == [0.05] * 5


def test_what_the_cap_takes_goes_to_the_names_below_it():
    assert np.allclose(waterfill(np.array([6.0, 3.0, 1.0]), cap=0.5), [0.5, 0.375, 0.125])
    assert np.allclose(waterfill(np.array([1.0, 8.0, 1.0]), 0.4, total=0.6), [0.1, 0.4, 0.1])


def test_weights_below_the_cap_are_proportional():
    assert np.allclose(waterfill(np.array([2.0, 1.0, 1.0]), cap=0.6), [0.5, 0.25, 0.25])


def test_what_is_not_a_positive_number_gets_no_weight():
    raw = np.array([NAN, -1.0, np.inf, 0.0, 2.0])

    assert waterfill(raw, cap=1.0).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert waterfill(raw[:4], cap=1.0).tolist() == [0.0] * 4


def test_the_percentile_in_the_own_past_compares_with_the_first_row_of_earlier_blocks():
    x = np.array([[3.0], [9.0], [1.0], [9.0], [2.0], [3.0], [4.0], [NAN]])

    percentile = own_history_percentile(x, lookback=8, step=2, min_snapshots=2)[:, 0]
    recent = own_history_percentile(x, lookback=4, step=2, min_snapshots=2)[:, 0]

    # Blocks begin at rows 0, 2, 4 and 6: with 3, 1 and 2. Equal values count half.
    expected = [NAN, NAN, NAN, NAN, 0.5, 0.75, 1.0, NAN]
    assert np.array_equal(percentile, expected, equal_nan=True)
    assert recent[6] == 1.0


def test_many_snapshots_are_counted_without_overflow():
    x = np.arange(600.0)[:, None]

    percentile = own_history_percentile(x, lookback=600, step=1, min_snapshots=1)[:, 0]

    assert (percentile[1:] == 1.0).all()


@pytest.mark.parametrize(("lookback", "fraction"), [(7, 0.1), (20, 0.15), (31, 0.5), (5, 1.0)])
def test_the_shortfall_is_the_mean_of_the_worst_of_every_window(panel_of, lookback, fraction):
    close = 50.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, (80, 3)), axis=0))
    panel = panel_of(close)

    shortfall = rolling_expected_shortfall(panel, lookback, fraction, lookback)

    worst = int(np.ceil(fraction * lookback))
    log_returns = np.diff(np.log(close), axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(log_returns, lookback, axis=0)
    expected = -np.sort(windows, axis=-1)[..., :worst].mean(axis=-1)
    assert np.isnan(shortfall[:lookback]).all()
    assert np.allclose(shortfall[lookback:], expected, rtol=1e-12)


def test_a_standing_market_or_instrument_has_no_correlation(panel_of):
    close = np.full((30, 3), 10.0)
    close[:, 2] = 10.0 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, 30)))
    close[15:, 2] = close[15, 2]

    correlation = rolling_market_correlation(panel_of(close), 10, 5)

    assert np.isnan(correlation[:, :2]).all()
    # The window after the last move holds what rounding left of larger sums.
    assert np.isnan(correlation[26:]).all()
    assert correlation[14, 2] == pytest.approx(1.0)


def test_the_equal_weighted_market_does_not_depend_on_the_order(panel_of, random_close):
    close = random_close(3, 60, 40)
    order = np.random.default_rng(4).permutation(40)

    market = equal_weighted_returns(panel_of(close))

    moved = equal_weighted_returns(panel_of(close[:, order]))
    assert np.array_equal(market, moved, equal_nan=True)


def test_how_a_panel_lies_in_memory_changes_no_sum_over_its_names(panel_of, random_close):
    panel = panel_of(random_close(9, 60, 300))
    by_column = {name: np.asfortranarray(getattr(panel, name)) for name in PANEL_FIELDS}

    same = equal_weighted_returns(replace(panel, _wall=None, **by_column))

    assert np.array_equal(same, equal_weighted_returns(panel), equal_nan=True)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2), (6, 3), (6, 2, 2)])
def test_a_rolling_mean_looks_back_in_time_alone(shape):
    x = np.random.default_rng(8).standard_normal(shape)

    mean = rolling_mean(x, 3, 1)

    for row in range(6):
        assert np.allclose(mean[row], x[max(row - 2, 0) : row + 1].mean(axis=0))
