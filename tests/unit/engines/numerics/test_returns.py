from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.numerics.returns import (
    bar_counts,
    equal_weighted_returns,
    has_bar,
    log_total_returns,
    stopped,
    total_return_index,
    total_returns,
    trailing_return,
)
from prometheus_nt.engines.numerics.rolling import rolling_max_drawdown

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
    assert bar_counts(panel_of([1.0, NAN, 1.0])).ravel().tolist() == [1, 1, 2]


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


def test_an_instrument_has_stopped_after_so_many_sessions_without_a_bar(panel_of):
    panel = panel_of([NAN, 1.0, NAN, NAN, NAN, 1.0])

    silent = stopped(panel, np.arange(6), 2)

    assert silent.ravel().tolist() == [True, False, False, True, True, False]
    assert stopped(panel, np.array([3, 5]), 3).ravel().tolist() == [False, False]
