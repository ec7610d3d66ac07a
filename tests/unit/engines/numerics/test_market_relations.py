import numpy as np
import pytest

from prometheus_nt.engines.numerics.market_relations import rolling_market_correlation


def test_a_standing_market_or_instrument_has_no_correlation(panel_of):
    close = np.full((30, 3), 10.0)
    close[:, 2] = 10.0 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, 30)))
    close[15:, 2] = close[15, 2]

    correlation = rolling_market_correlation(panel_of(close), 10, 5)

    assert np.isnan(correlation[:, :2]).all()
    # The window after the last move holds what rounding left of larger sums.
    assert np.isnan(correlation[26:]).all()
    assert correlation[14, 2] == pytest.approx(1.0)
