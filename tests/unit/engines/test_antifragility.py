import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.engines.antifragility import AntifragilityParams, antifragility

NAN = np.nan
PARAMS = AntifragilityParams(lookback=100, min_observations=20)


def _close(returns):
    returns = np.asarray(returns, dtype=np.float64)
    start = np.ones((1, *returns.shape[1:]))
    return 50.0 * np.cumprod(np.concatenate((start, 1.0 + returns)), axis=0)


def test_the_statistics_follow_their_definitions(panel_of):
    returns = np.random.default_rng(1).standard_t(4, (150, 3)) * 0.01

    found = antifragility(panel_of(_close(returns)), PARAMS)

    window = returns[-100:]
    low, high = np.quantile(window, [0.05, 0.95], axis=0)
    assert found.skew == pytest.approx(stats.skew(window))
    assert found.tail_gain == pytest.approx(
        [r[r > q].mean() for r, q in zip(window.T, high, strict=True)]
    )
    assert found.tail_ratio == pytest.approx(high / np.abs(low))
    assert found.var_95 == pytest.approx(-low)
    assert found.cvar_95 == pytest.approx(
        [-r[r <= q].mean() for r, q in zip(window.T, low, strict=True)]
    )
    assert found.observations.tolist() == [100, 100, 100]
    assert found.significance == pytest.approx(100 / 252)


def test_the_score_is_the_mean_rank_of_skew_and_tail_gain_by_significance(panel_of):
    rng = np.random.default_rng(2)
    returns = rng.normal(0.0, 0.01, (300, 3))
    returns[::20, 0] += 0.10
    returns[::20, 2] -= 0.10
    params = AntifragilityParams(lookback=252)

    found = antifragility(panel_of(_close(returns)), params)

    assert found.skew.argsort().tolist() == [2, 1, 0]
    assert found.antifragility_score[0] == 1.0
    assert (found.antifragility_score[1:] < 1.0).all()
    few = antifragility(panel_of(_close(returns)), params.model_copy(update={"lookback": 126}))
    assert few.antifragility_score[0] == pytest.approx(0.5)


def test_an_extreme_name_does_not_move_the_others(panel_of):
    returns = np.random.default_rng(3).normal(0.0, 0.01, (120, 4))
    wild = returns.copy()
    wild[60, 3] = 0.05
    wilder = returns.copy()
    wilder[60, 3] = 5.0

    before = antifragility(panel_of(_close(wild)), PARAMS).antifragility_score
    after = antifragility(panel_of(_close(wilder)), PARAMS).antifragility_score

    assert before[3] == after[3] == after.max()
    assert np.array_equal(before[:3], after[:3])


def test_gaps_shorten_a_sample_and_too_few_returns_are_unknown(panel_of):
    close = _close(np.random.default_rng(4).normal(0.0, 0.01, (60, 4)))
    close[10:20, 1] = NAN
    close[:45, 2] = NAN
    close[:, 3] = NAN

    found = antifragility(panel_of(close), PARAMS)

    assert found.observations.tolist() == [60, 50, 15, 0]
    for values in (found.skew, found.tail_gain, found.var_95, found.antifragility_score):
        assert np.isnan(values).tolist() == [False, False, True, True]


def test_constant_prices_have_no_shape(panel_of):
    found = antifragility(panel_of(np.full((40, 1), 7.0)), PARAMS)

    assert found.var_95.tolist() == [0.0]
    for values in (found.skew, found.tail_gain, found.tail_ratio, found.antifragility_score):
        assert np.isnan(values).all()


def test_no_later_session_and_no_order_of_instruments_matters(panel_of, random_close):
    close = random_close(5, 200, 7)
    panel = panel_of(close)
    view = panel.until(panel.sessions[150].astype(object))
    order = np.random.default_rng(6).permutation(7)

    found = antifragility(view, PARAMS)
    ended = antifragility(panel_of(close[:151]), PARAMS)
    moved = antifragility(panel_of(close[:151, order]), PARAMS)

    for name in ("skew", "tail_gain", "tail_ratio", "var_95", "cvar_95", "antifragility_score"):
        values = getattr(found, name)
        assert np.array_equal(values, getattr(ended, name), equal_nan=True), name
        assert np.array_equal(values[order], getattr(moved, name), equal_nan=True), name


def test_too_short_a_panel_is_insufficient_history(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 21 sessions, has 20"):
        antifragility(panel_of(np.ones(20)), PARAMS)


def test_contradictory_settings_are_refused():
    with pytest.raises(ValidationError):
        AntifragilityParams(lookback=50, min_observations=60)
