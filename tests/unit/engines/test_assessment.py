from dataclasses import fields, replace

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import SignalLabel
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.assessment import AssessmentParams, assess

SHORT = {
    "momentum_lookback": 30,
    "momentum_skip": 5,
    "reversal_lookback": 5,
    "volatility_lookback": 20,
    "beta_lookback": 20,
}
PARAMS = AssessmentParams(**SHORT, combination="fixed", fragility_penalty_weight=0.25)
FAMILIES = ("momentum", "short_momentum", "residual_momentum", "reversal", "low_volatility")
PRIOR = np.array([0.5, 0.25, 0.25, 0.2, 0.3]) / 1.5


@pytest.fixture
def panel(panel_of):
    rng = np.random.default_rng(2)
    return panel_of(50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (60, 30)), axis=0)))


@pytest.fixture
def stability(panel, stability_of):
    rng = np.random.default_rng(3)
    return stability_of(panel, rng.uniform(0, 100, 30), sigma=rng.uniform(0.005, 0.03, 30))


def _z(x):
    return (x - x.mean()) / x.std()


def _free_of(beta, x):
    design = np.column_stack([np.ones(len(x)), beta])
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    return left / left.std()


def test_scores_follow_their_definitions(panel, stability):
    scores = assess(panel, stability, PARAMS)

    close = panel.close
    returns = close[1:] / close[:-1] - 1.0
    market = returns.mean(axis=1)[-20:]
    beta = np.array([np.polyfit(market, returns[-20:, column], 1)[0] for column in range(30)])
    logs = np.log(close[1:] / close[:-1])[-20:]
    momentum = _free_of(beta, close[-6] / close[-31] - 1.0)
    short = _free_of(beta, close[-6] / close[-16] - 1.0)
    reversal = _free_of(beta, 1.0 - close[-1] / close[-6])
    calm = _free_of(beta, -logs.std(axis=0, ddof=1))
    residual = scores.alpha_components["residual_momentum"]
    parts = PRIOR[:, None] * np.array([momentum, short, residual, reversal, calm])
    penalty = 0.25 * _z(stability.overall_score)
    blend = parts.sum(axis=0) - penalty
    z = _z(blend)
    for name, expected in zip(FAMILIES, parts / PRIOR[:, None], strict=True):
        assert np.allclose(scores.alpha_components[name], expected), name
    assert np.allclose(scores.alpha_components["fragility"], _z(stability.overall_score))
    assert np.allclose(scores.score, np.tanh(z / 2.0))
    agreement = abs(blend) / (abs(parts).sum(axis=0) + abs(penalty))
    assert np.allclose(scores.confidence, agreement)
    expected = scores.information_coefficient * stability.sigma * np.sqrt(21) * z
    assert np.allclose(scores.expected_return, expected, atol=1e-15)
    assert scores.family_weights == pytest.approx(dict(zip(FAMILIES, PRIOR, strict=True)))


def test_before_any_outcome_the_claimed_coefficient_is_expected(panel, stability):
    scores = assess(panel, stability, AssessmentParams(**SHORT, horizon=60))

    assert scores.information_coefficient == pytest.approx(0.03)


def test_scores_spread_over_the_whole_scale_and_do_not_saturate(panel, stability):
    score = assess(panel, stability, PARAMS).score

    assert (np.abs(score) < 0.99).all()
    assert 0.3 < (score > 0).mean() < 0.7


def test_other_lookbacks_give_other_scores(panel, stability):
    short = PARAMS.model_copy(update={"momentum_lookback": 20, "reversal_lookback": 2})

    gap = np.abs(assess(panel, stability, PARAMS).score - assess(panel, stability, short).score)

    assert gap.max() > 0.1


def test_the_expected_return_grows_with_the_root_of_the_horizon(panel, stability):
    quarter = assess(panel, stability, PARAMS.model_copy(update={"horizon": 63}))
    year = assess(panel, stability, PARAMS.model_copy(update={"horizon": 252}))

    assert np.allclose(year.expected_return, 2.0 * quarter.expected_return)


def test_only_the_volatility_that_the_market_does_not_explain_can_be_earned(panel, stability):
    shared = np.where(np.arange(30) < 10, 0.6, np.nan)
    explained = assess(panel, replace(stability, market_correlation=shared), PARAMS)
    unexplained = assess(panel, stability, PARAMS)

    # Of a deviation with a correlation of 0.6, 0.8 is left; an unknown one counts as 0.
    left = np.where(np.arange(30) < 10, 0.8, 1.0)
    assert np.allclose(explained.expected_return, left * unexplained.expected_return)
    assert (explained.score == unexplained.score).all()


def test_fragility_costs_score_relative_to_the_others(panel, stability_of):
    calm = np.full(30, 40.0)
    fragile = calm.copy()
    fragile[7] = 90.0

    before = assess(panel, stability_of(panel, calm), PARAMS).score
    after = assess(panel, stability_of(panel, fragile), PARAMS).score
    all_fragile = assess(panel, stability_of(panel, np.full(30, 90.0)), PARAMS).score

    assert np.allclose(all_fragile, before)
    assert after[7] < before[7]


def test_fragility_is_left_to_the_universe_unless_asked_for(panel, stability_of):
    params = AssessmentParams(**SHORT, combination="fixed")
    fragile = np.linspace(10.0, 90.0, 30)

    calm = assess(panel, stability_of(panel, np.full(30, 40.0)), params)
    uneven = assess(panel, stability_of(panel, fragile), params)

    assert (calm.score == uneven.score).all()
    assert np.ptp(uneven.alpha_components["fragility"]) > 1.0, "it is still told"


def test_labels_are_steps_from_hold(panel, stability):
    scores = assess(panel, stability, PARAMS)
    z = 2.0 * np.arctanh(scores.score)

    expected = np.select(
        [z >= 1.25, z >= 0.5, z <= -1.25, z <= -0.5],
        [SignalLabel.STRONG_BUY, SignalLabel.BUY, SignalLabel.STRONG_SELL, SignalLabel.SELL],
        SignalLabel.HOLD,
    )
    assert scores.signal_label.tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 5


def test_what_is_unknown_has_no_score_no_confidence_and_is_a_hold(panel, stability_of):
    overall = np.full(30, 40.0)
    overall[4] = np.nan

    scores = assess(panel, stability_of(panel, overall), PARAMS)

    assert np.flatnonzero(np.isnan(scores.score)).tolist() == [4]
    assert np.isnan(scores.expected_return[4])
    assert scores.confidence[4] == 0.0
    assert scores.signal_label[4] == SignalLabel.HOLD


def test_an_unknown_family_says_nothing_and_too_few_known_ones_are_no_score(panel_of, stability_of):
    close = 50.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, (60, 12)), axis=0))
    close[:40, 1] = np.nan  # twenty bars: no momentum, and half of its residuals are unknown
    close[:55, 2] = np.nan  # five bars: nothing is known of it
    panel = panel_of(close)

    scores = assess(panel, stability_of(panel, np.linspace(10, 80, 12)), PARAMS)

    parts = scores.alpha_components
    assert np.isnan(parts["momentum"][1]) and np.isfinite(parts["short_momentum"][1])
    known = PRIOR[[name for name in range(5) if np.isfinite(parts[FAMILIES[name]][1])]].sum()
    assert known >= 0.5
    assert np.isfinite(scores.score[1])
    assert scores.confidence[1] <= known + 1e-12
    assert np.isnan(scores.score[2])
    strict = PARAMS.model_copy(update={"min_coverage": 1.0})
    assert np.isnan(assess(panel, stability_of(panel, np.ones(12)), strict).score[1])


def test_a_family_that_warms_up_for_all_is_held_against_nobody(panel, stability):
    scores = assess(panel, stability, PARAMS.model_copy(update={"beta_lookback": 400}))

    assert np.isnan(scores.alpha_components["residual_momentum"]).all()
    assert np.isfinite(scores.score).all()


@pytest.mark.parametrize("names", [1, 3])
def test_a_cross_section_that_does_not_vary_scores_zero(panel_of, stability_of, names):
    panel = panel_of(np.full((40, names), 10.0))

    scores = assess(panel, stability_of(panel, np.zeros(names), sigma=0.0), PARAMS)

    assert scores.score.tolist() == [0.0] * names
    assert scores.expected_return.tolist() == [0.0] * names
    assert scores.confidence.tolist() == [0.0] * names


def test_the_order_of_instruments_changes_not_a_bit(panel, stability):
    order = np.random.default_rng(5).permutation(30)
    names = tuple(panel.instruments[column] for column in order)
    arrays = {name: getattr(panel, name)[:, order] for name in PANEL_FIELDS}
    moved = replace(panel, _wall=None, instruments=names, **arrays)
    moved_stability = replace(
        stability,
        instruments=names,
        overall_score=stability.overall_score[order],
        sigma=stability.sigma[order],
    )
    learnt = AssessmentParams(**SHORT, horizon=5)

    before, after = assess(panel, stability, learnt), assess(moved, moved_stability, learnt)

    for field in fields(before):
        ours, theirs = getattr(before, field.name), getattr(after, field.name)
        if isinstance(ours, np.ndarray):
            assert np.array_equal(ours[order], theirs), field.name
    for name, values in before.alpha_components.items():
        assert np.array_equal(values[order], after.alpha_components[name]), name
    assert before.family_weights == after.family_weights


def test_too_short_a_panel_is_insufficient_history(panel_of, stability_of):
    panel = panel_of(np.ones((30, 2)))

    with pytest.raises(InsufficientHistory, match="needs 31 sessions, has 30"):
        assess(panel, stability_of(panel, [0.0, 0.0]), PARAMS)


def test_labels_must_ascend():
    with pytest.raises(ValidationError, match="strong_buy_z: must not be below buy_z"):
        AssessmentParams(buy_z=2.0)


def test_a_reversed_control_scores_by_minus_z_and_expects_the_same(panel, stability):
    honest = assess(panel, stability, PARAMS)
    control = assess(panel, stability, PARAMS.model_copy(update={"control": "reversed"}))

    assert np.array_equal(control.score, -honest.score, equal_nan=True)
    assert np.array_equal(control.signal_label, -honest.signal_label)
    assert np.array_equal(control.expected_return, honest.expected_return, equal_nan=True)


def test_a_random_control_draws_by_name_and_seed_not_by_place(panel, stability, stability_of):
    turned = panel.select(panel.instruments[::-1])
    params = PARAMS.model_copy(update={"control": "random"})

    drawn = assess(panel, stability, params).score
    vectors = stability_of(turned, stability.overall_score[::-1], sigma=stability.sigma[::-1])
    again = assess(turned, vectors, params).score
    other = assess(panel, stability, params.model_copy(update={"control_seed": 1})).score

    assert np.array_equal(again[::-1], drawn, equal_nan=True)
    assert not np.array_equal(other, drawn, equal_nan=True)
    honest = assess(panel, stability, PARAMS).score
    assert np.array_equal(np.isnan(drawn), np.isnan(honest))
