from functools import partial

import numpy as np
import pytest

from prometheus_nt.engines.numerics.market_relations import (
    residual_momentum,
    rolling_beta,
    rolling_downside_beta,
    rolling_market_correlation,
)
from prometheus_nt.engines.numerics.rolling import (
    dollar_volume_fall,
    index_over_mean,
    rolling_dollar_volume,
    rolling_expected_shortfall,
    rolling_illiquidity,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.numerics.running import BLOCK_COLUMNS, by_blocks, shared_flags

NAN = np.nan

OF_ONE = (
    partial(rolling_volatility_per_session, lookback=20, min_observations=10),
    partial(rolling_expected_shortfall, lookback=20, tail_fraction=0.1, min_observations=10),
    partial(rolling_dollar_volume, lookback=20),
    partial(dollar_volume_fall, lookback=10, usual_lookback=20),
    partial(rolling_illiquidity, lookback=20, min_observations=10),
    partial(index_over_mean, lookback=20),
    partial(rolling_beta, lookback=20, min_observations=10),
    partial(rolling_market_correlation, lookback=20, min_observations=10),
    partial(rolling_downside_beta, lookback=40, min_observations=5),
    partial(residual_momentum, beta_lookback=20, lookback=30, skip=5),
)


@pytest.mark.parametrize("figure", OF_ONE, ids=lambda figure: figure.func.__name__)
def test_a_figure_is_the_same_beside_names_that_trade_on_other_sessions(panel_of, figure):
    rng, count = np.random.default_rng(4), 2 * BLOCK_COLUMNS
    close = 10.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (120, count)), axis=0))
    volume = rng.uniform(1e3, 1e4, close.shape)
    close[3], volume[50], close[60:70, -1] = NAN, NAN, NAN
    # The last name, which has gaps of its own, now stands among the first.
    order = np.r_[count - 1, : count - 1]

    apart = figure(panel_of(close, volume=volume))
    beside = figure(panel_of(close[:, order], volume=volume[:, order]))

    assert np.isfinite(apart[-1]).any()
    assert np.array_equal(apart[:, order], beside, equal_nan=True)


def test_flags_are_shared_only_where_every_column_has_the_same():
    alike, unlike = (
        np.array([[True, True], [False, False]]),
        np.array([[True, True], [True, False]]),
    )

    assert shared_flags(alike).tolist() == [[True], [False]]
    assert shared_flags(unlike).tolist() == unlike.tolist()


def test_blocks_are_written_where_the_caller_says():
    x, out = np.arange(2.0 * (BLOCK_COLUMNS + 1)).reshape(2, -1), np.empty((2, BLOCK_COLUMNS + 1))

    result = by_blocks(np.negative, x, out=out)

    assert result is out
    assert out.tolist() == (-x).tolist()
