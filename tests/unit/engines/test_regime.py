from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import RegimeLabel
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.regime import FEATURES, LABELS, RegimeParams, classify_regime

NAN = np.nan
SHORT = RegimeParams(
    trend_lookback=12,
    volatility_lookback=8,
    drawdown_lookback=15,
    breadth_lookback=10,
    dispersion_lookback=5,
    correlation_lookback=9,
    components=3,
    min_history=40,
    refit_every=20,
)
NEEDED = 55
CALM, SLIDE, CRASH = range(3)
DRIFT, SWING = np.array([0.001, -0.001, -0.004]), np.array([0.006, 0.014, 0.035])


def _market_of_three_regimes(seed):
    """Closes of 20 names, and which regime each session was drawn from."""
    rng = np.random.default_rng(seed)
    cycle = np.repeat([CALM, SLIDE, CALM, CRASH, SLIDE], [300, 150, 250, 130, 120])
    truth = np.tile(cycle, 3)
    market = rng.normal(DRIFT[truth], SWING[truth])
    return 50.0 * np.exp(
        np.cumsum(market[:, None] + rng.normal(0, 0.01, (len(truth), 20)), 0)
    ), truth


def _labels(panel, params):
    """Labels of every session that has one, and the row of the first."""
    first = params.sessions_needed - 1
    sessions = panel.sessions[first:].astype(object)
    return [classify_regime(panel.until(session), params).label for session in sessions], first


def _same(left, right):
    for field in fields(left):
        before, after = getattr(left, field.name), getattr(right, field.name)
        assert np.array_equal(before, after) if isinstance(before, np.ndarray) else before == after
    return True


def _naive_features(close, returns, params):
    """The definitions, for the last session only, one instrument at a time."""
    names = range(close.shape[1])
    market = np.log1p([NAN if np.isnan(row).all() else np.nanmean(row) for row in returns])
    swing = market[-params.volatility_lookback :].std(ddof=1)
    level = np.cumsum(market[-params.drawdown_lookback :])
    above, variances = [], []
    for name in names:
        grown = np.cumprod(1.0 + np.nan_to_num(returns[:, name]))[-params.breadth_lookback :]
        listed = np.isfinite(close[: -params.breadth_lookback + 1, name]).any()
        if listed and np.isfinite(close[-1, name]):
            above.append(grown[-1] > grown.mean())
        recent = np.log1p(returns[-params.correlation_lookback :, name])
        recent = recent[np.isfinite(recent)]
        if len(recent) >= 6:
            variances.append(recent.var(ddof=1))
    common = market[-params.correlation_lookback :].var(ddof=1)
    return {
        "trend": market[-params.trend_lookback :].sum(),
        "volatility": swing * np.sqrt(252),
        "drawdown": np.exp(level[-1] - max(0.0, level.max())) - 1.0,
        "breadth": np.mean(above),
        "dispersion": np.mean([np.nanstd(row) for row in returns[-params.dispersion_lookback :]]),
        "correlation": common / np.mean(variances),
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_features_equal_a_naive_second_implementation(panel_of, random_close, seed):
    close = random_close(seed, 120, 7)
    panel = panel_of(close)

    state = classify_regime(panel, SHORT)

    returns = panel.derived(total_returns)
    assert state.features == pytest.approx(_naive_features(close, returns, SHORT), rel=1e-9)
    assert tuple(state.features) == FEATURES


def test_a_single_instrument_has_features_that_can_be_worked_out_by_hand(panel_of):
    # Up a tenth and back, for ever; the last twelve closes only fall, by a hundredth each.
    close = np.concatenate([np.tile([100.0, 110.0], 60), 110.0 * 0.99 ** np.arange(1, 13)])

    features = classify_regime(panel_of(close), SHORT).features

    assert features["trend"] == pytest.approx(12 * np.log(0.99))
    assert features["volatility"] == pytest.approx(0.0, abs=1e-7)
    assert features["drawdown"] == pytest.approx(0.99**12 - 1.0)
    assert features["breadth"] == 0.0
    assert features["dispersion"] == 0.0


def test_a_market_that_moves_as_one_has_correlation_one_and_independent_names_have_little(panel_of):
    rng = np.random.default_rng(0)
    common = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (90, 1)), axis=0))
    own = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (90, 200)), axis=0))

    as_one = classify_regime(panel_of(np.repeat(common, 200, axis=1)), SHORT)
    each_its_own = classify_regime(panel_of(own), SHORT)

    assert as_one.features["correlation"] == pytest.approx(1.0)
    assert each_its_own.features["correlation"] < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_three_regimes_are_recovered_from_the_past_alone(panel_of, seed):
    close, truth = _market_of_three_regimes(seed)
    quick = {"trend_lookback": 21, "drawdown_lookback": 42, "breadth_lookback": 21}
    params = RegimeParams(**quick, correlation_lookback=21, components=3)

    labels, first = _labels(panel_of(close), params)

    expected = np.array([RegimeLabel.CARRY, RegimeLabel.RISK_OFF, RegimeLabel.CRISIS])[truth]
    right = np.array(labels) == expected[first:]
    # For as long as a lookback, the features still see the regime before.
    settled = np.array([len(set(truth[row - 42 : row + 1])) == 1 for row in range(len(truth))])
    assert right.mean() > 0.8
    assert right[settled[first:]].mean() > 0.9


def test_probabilities_and_transitions_are_distributions(panel_of):
    close, _ = _market_of_three_regimes(1)
    panel = panel_of(close[:900])

    for row in range(NEEDED - 1, 900, 7):
        state = classify_regime(panel.until(panel.sessions[row].astype(object)), SHORT)

        assert state.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
        assert (state.probabilities >= 0.0).all()
        assert np.allclose(state.transition_matrix.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        assert (state.transition_matrix > 0.0).all()
        assert state.confidence == state.probabilities.max()
        assert state.confidence == state.probabilities[LABELS.index(state.label)]


def test_the_change_risk_is_that_of_the_chain_after_the_horizon(panel_of, random_close):
    state = classify_regime(panel_of(random_close(5, 150, 8)), SHORT)

    stay, arrive = 0.0, np.zeros(4)
    for now in range(4):
        ahead = np.eye(4)[now]
        for _ in range(SHORT.horizon):
            ahead = ahead @ state.transition_matrix
        stay += state.probabilities[now] * ahead[now]
        arrive += state.probabilities[now] * ahead
    assert state.change_risk == pytest.approx(
        {
            "p_change_any": 1.0 - stay,
            "p_to_crisis_or_risk_off": arrive[0] + arrive[1],
            "p_to_carry": arrive[2],
        }
    )


def test_more_stickiness_means_fewer_expected_changes(panel_of, random_close):
    panel = panel_of(random_close(5, 150, 8))

    loose = classify_regime(panel, SHORT.model_copy(update={"stickiness": 0.0}))
    sticky = classify_regime(panel, SHORT.model_copy(update={"stickiness": 500.0}))

    assert (sticky.transition_matrix.diagonal() > loose.transition_matrix.diagonal()).all()
    assert sticky.change_risk["p_change_any"] < loose.change_risk["p_change_any"]


def test_the_previous_label_is_the_label_of_the_session_before(panel_of, random_close):
    panel = panel_of(random_close(2, 140, 8))
    states = [
        classify_regime(panel.until(session), SHORT)
        for session in panel.sessions[NEEDED - 1 :].astype(object)
    ]

    assert states[0].previous_label is None
    for before, after in pairwise(states):
        assert after.previous_label == before.label


def test_too_little_history_is_an_error_that_says_how_much_is_needed(panel_of, random_close):
    panel = panel_of(random_close(3, NEEDED, 8))

    with pytest.raises(InsufficientHistory) as caught:
        classify_regime(panel.until(panel.sessions[-2].astype(object)), SHORT)

    assert (caught.value.needed, caught.value.available) == (NEEDED, NEEDED - 1)
    assert classify_regime(panel, SHORT).region == "US"


@pytest.mark.parametrize("sessions", [1, 5, 9, 12, 30])
def test_a_panel_shorter_than_any_lookback_is_only_too_short(panel_of, random_close, sessions):
    with pytest.raises(InsufficientHistory) as caught:
        classify_regime(panel_of(random_close(3, sessions, 8)), SHORT)

    assert caught.value.available == sessions


def test_sessions_without_any_bar_do_not_count_before_the_first_and_repeat_features_after(panel_of):
    close = 50.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, (100, 5)), axis=0))
    late, gap = close.copy(), close.copy()
    late[:60] = NAN
    gap[-1] = NAN

    with pytest.raises(InsufficientHistory):
        classify_regime(panel_of(late), SHORT)
    before, after = (classify_regime(panel_of(c), SHORT).features for c in (gap[:-1], gap))
    assert after["breadth"] == before["breadth"]
    assert np.isfinite(list(after.values())).all()


@pytest.mark.parametrize("names", [1, 3])
def test_prices_that_never_move_are_neutral_with_equal_probabilities(panel_of, names):
    state = classify_regime(panel_of(np.full((100, names), 25.0)), SHORT)

    assert state.label is RegimeLabel.NEUTRAL
    assert state.probabilities.tolist() == [0.25] * 4
    assert state.features == dict.fromkeys(FEATURES, 0.0)
    assert np.allclose(state.transition_matrix.sum(axis=1), 1.0)


def test_a_market_that_starts_to_move_is_classified_at_the_next_refit(panel_of):
    rng = np.random.default_rng(4)
    close = np.full((160, 6), 25.0)
    close[70:] *= np.exp(np.cumsum(rng.normal(0, 0.02, (90, 6)), axis=0))
    panel = panel_of(close)

    asleep, awake = (
        classify_regime(panel.until(panel.sessions[row].astype(object)), SHORT) for row in (73, 74)
    )

    assert asleep.probabilities.tolist() == [0.25] * 4
    assert awake.probabilities.tolist() != [0.25] * 4
    assert np.isfinite(awake.probabilities).all()


def test_one_instrument_and_instruments_without_bars_are_no_obstacle(panel_of):
    rng = np.random.default_rng(8)
    one = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (150, 1)), axis=0))
    with_blanks = np.concatenate([np.full((150, 2), NAN), one], axis=1)

    alone = classify_regime(panel_of(one), SHORT)
    beside_blanks = classify_regime(panel_of(with_blanks), SHORT)

    assert np.isfinite(alone.probabilities).all()
    assert alone.features["correlation"] == pytest.approx(1.0)
    assert np.allclose(alone.probabilities, beside_blanks.probabilities, rtol=0, atol=1e-9)


def test_a_history_without_a_crisis_has_none(panel_of):
    rng = np.random.default_rng(6)
    market = rng.normal(0.0005, 0.01, (1500, 1)) + rng.normal(0, 0.01, (1500, 20))

    labels, _ = _labels(panel_of(50.0 * np.exp(np.cumsum(market, axis=0))), RegimeParams())

    assert RegimeLabel.CRISIS not in labels


def test_the_same_panel_gives_the_same_state_twice(panel_of, random_close):
    close = random_close(9, 200, 10)

    assert _same(classify_regime(panel_of(close), SHORT), classify_regime(panel_of(close), SHORT))


@pytest.mark.parametrize("wrong", [{"components": 1}, {"evidence_weight": 0.0}, {"lookback": 3}])
def test_params_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        RegimeParams(**wrong)


def test_real_crises_and_a_real_calm_are_called_what_they_were():
    datasets = pytest.importorskip("skfolio.datasets")
    prices = datasets.load_sp500_dataset()
    close = prices.to_numpy(dtype=np.float64)
    panel = MarketPanel(
        sessions=prices.index.to_numpy().astype("datetime64[D]"),
        instruments=tuple(prices.columns),
        volume=np.full_like(close, NAN),
        split=np.ones_like(close),
        dividend=np.zeros_like(close),
        fingerprint="real",
        **{name: close.copy() for name in ("open", "high", "low", "close")},
    )

    def seen(start, end):
        within = (panel.sessions >= np.datetime64(start)) & (panel.sessions <= np.datetime64(end))
        sessions = panel.sessions[within].astype(object)
        return {classify_regime(panel.until(day), RegimeParams()).label for day in sessions}

    assert seen("2008-10-01", "2008-11-30") <= {RegimeLabel.CRISIS, RegimeLabel.RISK_OFF}
    assert seen("2020-03-01", "2020-03-31") <= {RegimeLabel.CRISIS, RegimeLabel.RISK_OFF}
    assert seen("2017-05-01", "2017-08-31") <= {RegimeLabel.CARRY, RegimeLabel.NEUTRAL}
