import numpy as np
import pytest

from prometheus_nt.engines.numerics.returns import log_total_returns
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_expected_shortfall,
    rolling_max_drawdown,
    rolling_volatility_per_session,
)

NAN = np.nan


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


def test_dollar_volume_is_the_mean_over_known_sessions_if_at_least_half_are(panel_of):
    panel = panel_of([10.0, 20.0, 10.0, 10.0, 10.0], volume=[1.0, NAN, 3.0, NAN, NAN])

    mean = rolling_dollar_volume(panel, 3)[:, 0]

    assert np.allclose(mean, [NAN, NAN, 20.0, NAN, NAN], equal_nan=True)


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
