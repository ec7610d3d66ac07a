from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import DataError, InsufficientHistory, LookAheadError
from prometheus_nt.domain.market import ScenarioSet
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.scenarios import (
    LOWEST_RETURN,
    ScenarioCategory,
    ScenarioParams,
    generate_scenarios,
    path_losses,
    portfolio_pnl,
    require_known,
)

NAN = np.nan
DRAWN = [
    category
    for category in ScenarioCategory
    if category not in (ScenarioCategory.NAMED, ScenarioCategory.ADVERSARIAL)
]


def _params(category, **settings):
    defaults = {"horizon": 5, "paths": 200, "min_sessions": 5, "min_beta_sessions": 5}
    if category == "REGIME":
        defaults |= {"regime": "CRISIS"}
    return ScenarioParams(name="test", category=category, **{**defaults, **settings})


def _labels(panel):
    """Spells of seven sessions, calm and crisis in turn."""
    return ["CRISIS" if row // 7 % 2 else "NEUTRAL" for row in range(len(panel))]


def _generated(panel, params, weights=None):
    return generate_scenarios(panel, params, weights, _labels(panel))


def _returns(panel):
    return panel.close[1:] / panel.close[:-1] - 1.0


def _walks(panel_of, seed=1, sessions=300, names=4):
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0003, 0.01, (sessions, 1))
    noise = rng.normal(0.0, 0.01, (sessions, names))
    return panel_of(50.0 * np.exp(np.cumsum(market + noise, axis=0)))


def _dated(panel, first, weekdays=True):
    days = np.busday_offset(first, np.arange(len(panel)), roll="forward")
    return replace(panel, sessions=days.astype("datetime64[D]"), _wall=None)


def _set(returns):
    names = tuple(f"I{column:03d}" for column in range(returns.shape[2]))
    return ScenarioSet(date(2020, 1, 1), "set", "hash", "BOOTSTRAP", names, returns)


def test_historical_paths_are_contiguous_windows_each_as_often_as_the_others(panel_of):
    panel = _walks(panel_of, sessions=21)
    returns = _returns(panel)

    drawn = generate_scenarios(panel, _params("HISTORICAL", paths=32)).returns

    windows = [returns[start : start + 5] for start in range(16)]
    seen = [[np.allclose(path, window) for window in windows].index(True) for path in drawn]
    assert np.bincount(seen).tolist() == [2] * 16


def test_a_bootstrap_path_moves_all_instruments_by_the_same_sessions(panel_of):
    panel = _walks(panel_of)
    returns = _returns(panel)

    drawn = generate_scenarios(panel, _params("BOOTSTRAP")).returns

    session_of = {row[0]: row for row in returns.round(14)}
    for row in drawn.reshape(-1, 4).round(14):
        assert np.allclose(session_of[row[0]], row)


def test_bootstrap_blocks_have_geometric_lengths_and_wrap_around(panel_of):
    ladder = np.cumprod(1.0 + np.arange(1, 41) / 1e4)
    panel = panel_of(np.concatenate(([1.0], ladder)))
    params = _params("BOOTSTRAP", horizon=30, paths=2000, block_length=4.0)

    sessions = np.rint(generate_scenarios(panel, params).returns[:, :, 0] * 1e4).astype(int)

    follows = sessions[:, 1:] == sessions[:, :-1] % 40 + 1
    # A new block continues the old one by chance in 1 of 40 cases.
    assert follows.mean() == pytest.approx(0.75 + 0.25 / 40, abs=0.01)
    assert (follows & (sessions[:, :-1] == 40)).any()
    assert np.bincount(sessions.ravel(), minlength=41)[1:].min() > 0.8 * sessions.size / 40


def test_the_bootstrap_keeps_the_mean_and_the_autocorrelation_of_history(panel_of):
    rng = np.random.default_rng(5)
    shocks = rng.normal(0.0, 0.01, 3000)
    returns = np.zeros(3000)
    for session in range(1, 3000):
        returns[session] = 0.0005 + 0.5 * returns[session - 1] + shocks[session]
    panel = panel_of(50.0 * np.cumprod(1.0 + returns))

    def lag_one(block_length):
        params = _params("BOOTSTRAP", horizon=50, paths=2000, block_length=block_length)
        drawn = generate_scenarios(panel, params).returns[:, :, 0]
        assert drawn.mean() == pytest.approx(returns.mean(), abs=3e-4)
        return np.corrcoef(drawn[:, 1:].ravel(), drawn[:, :-1].ravel())[0, 1]

    assert lag_one(20.0) == pytest.approx(0.5 * 0.95, abs=0.04)
    assert lag_one(1.0) == pytest.approx(0.0, abs=0.02)


def test_stressed_paths_are_magnified_returns_of_the_worst_sessions(panel_of):
    panel = _walks(panel_of)
    returns = _returns(panel)
    market = returns.mean(axis=1)

    drawn = generate_scenarios(panel, _params("STRESSED", stress_scale=2.0)).returns

    allowed = (2.0 * returns[market <= np.quantile(market, 0.1)]).round(12)
    assert {tuple(row) for row in drawn.reshape(-1, 4).round(12)} <= set(map(tuple, allowed))


def test_no_magnified_return_loses_more_than_everything(panel_of):
    panel = panel_of([100.0, 20.0] * 8)

    drawn = generate_scenarios(panel, _params("STRESSED", stress_quantile=0.5)).returns

    assert drawn.min() == LOWEST_RETURN


def test_filtered_paths_have_the_volatility_of_today_not_of_history(panel_of):
    rng = np.random.default_rng(3)
    sigma = np.where(np.arange(1200) < 900, 0.005, 0.03)
    panel = panel_of(50.0 * np.exp(np.cumsum(sigma * rng.normal(size=1200))))
    calm = panel.until(panel.sessions[899].astype(object))

    def first_session(view, category):
        params = _params(category, paths=4000)
        return generate_scenarios(view, params).returns[:, 0, 0].std()

    assert first_session(panel, "FILTERED") == pytest.approx(0.03, rel=0.3)
    assert first_session(calm, "FILTERED") == pytest.approx(0.005, rel=0.3)
    assert first_session(panel, "BOOTSTRAP") == pytest.approx(0.016, rel=0.1)


def test_filtered_paths_follow_the_recursion_session_by_session(panel_of):
    panel = _walks(panel_of, sessions=8, names=1)
    log_returns = np.log1p(_returns(panel)[:, 0])
    variance, residuals = (log_returns**2).mean(), []
    for value in log_returns:
        residuals.append(value / variance**0.5)
        variance = 0.9 * variance + 0.1 * value**2

    drawn = generate_scenarios(panel, _params("FILTERED", ewma_decay=0.9, horizon=2)).returns

    possible = set()
    for first in residuals:
        step = variance**0.5 * first
        later = (0.9 * variance + 0.1 * step**2) ** 0.5
        possible |= {(round(np.expm1(step), 10), round(np.expm1(later * z), 10)) for z in residuals}
    assert {tuple(path) for path in drawn[:, :, 0].round(10)} <= possible


def test_a_factor_shock_moves_each_name_by_its_beta(panel_of):
    rng = np.random.default_rng(4)
    market = rng.normal(0.0, 0.01, 200)
    returns = np.stack([0.5 * market, market, 1.5 * market], axis=1)
    panel = panel_of(50.0 * np.cumprod(1.0 + returns, axis=0))
    params = _params("FACTOR_SHOCK", market_shock=-0.19, shock_sessions=2)

    scenarios = generate_scenarios(panel, params)

    assert np.allclose(scenarios.returns[:, :2], -0.1 * np.array([0.5, 1.0, 1.5]))
    assert np.allclose(scenarios.returns[:, 2:], 0.0)
    assert np.allclose(path_losses(scenarios)[:, 1], -0.19)


def test_a_factor_shock_keeps_what_the_market_does_not_explain(panel_of):
    panel = _walks(panel_of, sessions=500)
    params = _params("FACTOR_SHOCK", market_shock=-0.1, shock_sessions=1, paths=3000)

    drawn = generate_scenarios(panel, params).returns

    returns = _returns(panel)
    market = returns.mean(axis=1)
    beta = [np.polyfit(market, column, 1)[0] for column in returns.T]
    residual = returns - np.outer(market, beta)
    assert np.allclose(drawn[:, 1:].std(axis=(0, 1)), residual.std(axis=0), rtol=0.05)
    assert np.allclose(drawn[:, 0].mean(axis=0), -0.1 * np.array(beta), atol=1e-3)


def test_named_paths_are_the_windows_inside_the_crisis(panel_of):
    panel = _dated(_walks(panel_of, sessions=100), "2020-01-02")
    returns = _returns(panel)
    days = panel.sessions[1:]
    inside = np.flatnonzero(
        (days >= np.datetime64("2020-02-19")) & (days <= np.datetime64("2020-03-23"))
    )

    drawn = generate_scenarios(panel, _params("NAMED", crises=("covid",))).returns

    assert len(inside) == 24
    starts = range(inside[0], inside[-1] - 3)
    assert np.allclose(drawn, [returns[start : start + 5] for start in starts])
    assert np.array_equal(drawn, generate_scenarios(panel, _params("NAMED")).returns)


def test_a_crisis_shorter_than_the_horizon_gives_the_window_that_begins_with_it(panel_of):
    panel = _dated(_walks(panel_of, sessions=100), "2020-01-02")
    begin = int(np.searchsorted(panel.sessions, np.datetime64("2020-02-19"))) - 1

    drawn = generate_scenarios(panel, _params("NAMED", horizon=30)).returns

    assert np.allclose(drawn, _returns(panel)[None, begin : begin + 30])


def test_more_windows_than_paths_are_thinned_evenly(panel_of):
    panel = _dated(_walks(panel_of, sessions=100), "2020-01-02")
    every = generate_scenarios(panel, _params("NAMED")).returns

    thinned = generate_scenarios(panel, _params("NAMED", paths=3)).returns

    assert np.array_equal(thinned, every[[0, 9, 19]])


@pytest.mark.parametrize("first", ["2020-02-20", "2019-08-01", "2012-01-02"])
def test_a_crisis_the_panel_has_not_seen_from_start_to_end_is_an_error(panel_of, first):
    panel = _dated(_walks(panel_of, sessions=150), first)
    # Started too late, not over by the last close, and years away.
    panel = panel.until(min(panel.as_of, date(2020, 3, 20))) if first < "2020" else panel

    with pytest.raises(DataError, match="expected the whole of covid"):
        generate_scenarios(panel, _params("NAMED", crises=("covid",)))


def test_adversarial_paths_are_the_worst_windows_of_the_book(panel_of):
    panel = _walks(panel_of, sessions=106)
    weights = np.array([0.5, -0.3, 0.0, 0.2])
    returns = _returns(panel)
    windows = np.array([returns[start : start + 5] for start in range(101)])
    pnl = (np.prod(1.0 + windows, axis=1) - 1.0) @ weights

    scenarios = generate_scenarios(panel, _params("ADVERSARIAL"), weights)

    assert np.allclose(portfolio_pnl(scenarios, weights), np.sort(pnl)[:11])
    assert np.allclose(scenarios.returns, windows[np.argsort(pnl)[:11]])
    assert len(generate_scenarios(panel, _params("ADVERSARIAL", paths=3), weights).returns) == 3


def test_a_regime_draws_only_its_own_sessions_in_blocks(panel_of):
    panel = _walks(panel_of)
    rows = np.flatnonzero(np.array(_labels(panel)[1:]) == "CRISIS")
    own = _returns(panel)[rows]

    drawn = _generated(panel, _params("REGIME", block_length=4.0)).returns

    position = {round(row[0], 12): at for at, row in enumerate(own)}
    visited = np.array([[position[round(day[0], 12)] for day in path] for path in drawn])
    follows = visited[:, 1:] == (visited[:, :-1] + 1) % len(own)
    assert set(visited.ravel()) == set(range(len(own)))
    assert follows.mean() == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("labels", [None, ["CRISIS"] * 9])
def test_a_regime_needs_a_label_for_each_session(panel_of, labels):
    with pytest.raises(DataError, match="needs 300 labels"):
        generate_scenarios(_walks(panel_of), _params("REGIME"), labels=labels)


def test_too_few_sessions_of_a_regime_are_insufficient_history(panel_of):
    panel = _walks(panel_of, sessions=100)
    labels = ["CRISIS" if row < 21 else None for row in range(100)]

    with pytest.raises(InsufficientHistory, match="needs 21 sessions, has 20"):
        generate_scenarios(panel, _params("REGIME"), labels=labels)


def test_a_set_may_not_be_used_before_its_own_as_of():
    scenarios = _set(np.zeros((1, 1, 1)))

    require_known(scenarios, date(2020, 1, 1))
    with pytest.raises(LookAheadError, match="made from data up to 2020-01-01"):
        require_known(scenarios, date(2019, 12, 31))


@pytest.mark.parametrize("weights", [None, np.ones(3), np.array([1.0, NAN, 0.0, 0.0])])
def test_an_adversary_needs_a_finite_weight_of_each_name(panel_of, weights):
    with pytest.raises(DataError, match="weights"):
        generate_scenarios(_walks(panel_of), _params("ADVERSARIAL"), weights)


def test_an_unknown_return_is_beta_times_the_market_and_a_new_name_is_the_market(panel_of):
    rng = np.random.default_rng(6)
    market = rng.normal(0.0, 0.01, (30, 1))
    close = 50.0 * np.cumprod(1.0 + market * np.array([1.0, 0.4, 1.6, 1.0]), axis=0)
    close[12, 2] = NAN
    close[:, 3] = NAN
    panel = panel_of(close)
    known = _returns(panel)

    drawn = generate_scenarios(panel, _params("HISTORICAL", horizon=29, paths=1)).returns[0]

    mean = np.array([row[~np.isnan(row)].mean() for row in known])
    # The first return after the gap spans it, whatever was estimated inside.
    seen = np.isfinite(known[:, 2])
    spans = known[:, 2].copy()
    spans[12], seen[12] = close[13, 2] / close[11, 2] - 1.0, True
    assert spans[11] != spans[11]
    mean[12] = (known[12, 0] + known[12, 1] + spans[12]) / 3
    beta = np.polyfit(mean[seen], spans[seen], 1)[0]
    assert drawn[11, 2] == pytest.approx(beta * mean[11])
    assert np.allclose(drawn[:, 3], mean)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("category", ScenarioCategory)
def test_missing_bars_never_make_a_path_unknown(panel_of, random_close, category):
    close = random_close(7, 800, 6)
    close[:, 0] = NAN
    close[:, 1] = 25.0
    panel = _dated(panel_of(close), "2018-01-01")

    drawn = _generated(panel, _params(category), np.full(6, 1 / 6)).returns

    assert np.isfinite(drawn).all()
    assert (drawn > -1.0).all()


@pytest.mark.parametrize("category", DRAWN)
def test_equal_settings_give_equal_bytes_and_any_other_setting_another_set(panel_of, category):
    panel, params = _walks(panel_of), _params(category)
    first = _generated(panel, params)

    again = _generated(_walks(panel_of), params)
    reseeded = _generated(panel, params.model_copy(update={"seed": 1}))
    earlier = _generated(panel.until(panel.sessions[-2].astype(object)), params)
    other = _generated(_walks(panel_of, seed=2), params)

    assert again.spec_hash == first.spec_hash
    assert np.array_equal(again.returns, first.returns)
    hashes = {first.spec_hash, reseeded.spec_hash, earlier.spec_hash, other.spec_hash}
    assert len(hashes) == 4
    for changed in (earlier, other, *([] if category == "HISTORICAL" else [reseeded])):
        assert not np.array_equal(changed.returns, first.returns)
    assert not first.returns.flags.writeable


@pytest.mark.parametrize("category", ScenarioCategory)
def test_later_sessions_and_a_longer_panel_change_nothing(panel_of, random_close, category):
    panel = _dated(panel_of(random_close(8, 900, 5)), "2018-01-01")
    as_of, weights = panel.sessions[700].astype(object), np.full(5, 0.2)
    junk = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in junk.values():
        array[701:] = np.random.default_rng(9).uniform(0.1, 5.0, array[701:].shape)
    perturbed = replace(panel, _wall=None, fingerprint="other", **junk)
    cut = {name: getattr(panel, name)[:701].copy() for name in PANEL_FIELDS}
    truncated = replace(panel, _wall=None, sessions=panel.sessions[:701].copy(), **cut)
    params = _params(category, base_end=date(2030, 1, 1))

    expected = _generated(panel.until(as_of), params, weights)

    for same in (perturbed.until(as_of), truncated):
        found = _generated(same, params, weights)
        assert found.spec_hash == expected.spec_hash
        assert np.array_equal(found.returns, expected.returns)


def test_the_base_window_is_what_the_dates_and_the_lookback_leave(panel_of):
    panel = _walks(panel_of, sessions=100)
    window = {"base_start": date(2020, 1, 11), "base_end": date(2020, 2, 29), "lookback": 6}

    drawn = generate_scenarios(panel, _params("HISTORICAL", paths=2, **window)).returns

    # 2020-02-29 is row 59; six returns hold two windows of five.
    returns = _returns(panel)[53:59]
    assert {tuple(path.ravel().round(12)) for path in drawn} == {
        tuple(returns[:5].ravel().round(12)),
        tuple(returns[1:].ravel().round(12)),
    }


def test_too_short_a_base_window_is_insufficient_history(panel_of):
    panel = _walks(panel_of, sessions=30)

    with pytest.raises(InsufficientHistory, match="needs 40 sessions, has 29"):
        generate_scenarios(panel, _params("BOOTSTRAP", min_sessions=40))
    with pytest.raises(InsufficientHistory, match="needs 63 sessions, has 29"):
        generate_scenarios(panel, _params("HISTORICAL", horizon=63))
    with pytest.raises(InsufficientHistory, match="has 0"):
        generate_scenarios(panel_of(np.full((30, 2), NAN)), _params("BOOTSTRAP"))


def test_path_losses_and_portfolio_pnl_equal_the_naive_loops():
    returns = np.random.default_rng(1).normal(0.0, 0.05, (7, 4, 3))
    weights = np.array([0.6, -0.2, 0.0])

    losses, pnl = path_losses(_set(returns)), portfolio_pnl(_set(returns), weights)

    for path in range(7):
        worth = [1.0, 1.0, 1.0]
        for session in range(4):
            worth = [w * (1.0 + returns[path, session, i]) for i, w in enumerate(worth)]
        assert losses[path] == pytest.approx([w - 1.0 for w in worth])
        assert pnl[path] == pytest.approx(
            sum(w * (v - 1) for w, v in zip(weights, worth, strict=True))
        )


def test_a_book_with_an_unknown_weight_has_no_result():
    scenarios = _set(np.zeros((2, 3, 2)))

    for weights in (np.array([1.0, NAN]), np.ones(3)):
        with pytest.raises(DataError, match="expected 2 finite numbers"):
            portfolio_pnl(scenarios, weights)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_start": date(2020, 1, 2), "base_end": date(2020, 1, 1)},
        {"category": "FACTOR_SHOCK", "shock_sessions": 6},
        {"crises": ("tulips",)},
        {"stress_quantile": 0.6},
        {"block_lenght": 5},
        {"category": "GUESS"},
        {"regime": "CRISIS"},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        _params(**{"category": "BOOTSTRAP", **settings})
