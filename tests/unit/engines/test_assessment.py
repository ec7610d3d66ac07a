import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import SignalLabel
from prometheus_nt.engines.assessment import AssessmentParams, assess
from prometheus_nt.engines.numerics import cross_sectional_zscore

PARAMS = AssessmentParams(momentum_lookback=30, momentum_skip=5, reversal_lookback=5)


@pytest.fixture
def panel(panel_of):
    rng = np.random.default_rng(2)
    return panel_of(50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (40, 30)), axis=0)))


@pytest.fixture
def stability(panel, stability_of):
    rng = np.random.default_rng(3)
    return stability_of(panel, rng.uniform(0, 100, 30), sigma=rng.uniform(0.005, 0.03, 30))


def test_scores_follow_their_definitions(panel, stability):
    scores = assess(panel, stability, PARAMS)

    z = cross_sectional_zscore
    momentum = z(panel.close[-6] / panel.close[-31] - 1.0)
    reversal = z(1.0 - panel.close[-1] / panel.close[-6])
    calm, fragile = z(-stability.sigma), z(stability.overall_score)
    blend = 0.5 * momentum + 0.2 * reversal + 0.3 * calm - 0.25 * fragile
    combined = (blend - blend.mean()) / blend.std()
    assert np.allclose(scores.score, np.tanh(combined / 2.0))
    assert np.allclose(
        scores.expected_return, 0.03 * stability.sigma * np.sqrt(21) * combined, atol=1e-15
    )
    magnitude = 0.5 * abs(momentum) + 0.2 * abs(reversal) + 0.3 * abs(calm) + 0.25 * abs(fragile)
    assert np.allclose(scores.confidence, abs(blend) / magnitude)
    assert np.allclose(scores.alpha_components["momentum"], momentum)
    assert list(scores.alpha_components) == ["momentum", "reversal", "low_volatility", "fragility"]


def test_scores_spread_over_the_whole_scale_and_do_not_saturate(panel, stability):
    score = assess(panel, stability, PARAMS).score

    assert (np.abs(score) < 0.99).all()
    assert 0.3 < (score > 0).mean() < 0.7


def test_other_lookbacks_give_other_scores(panel, stability):
    short = PARAMS.model_copy(update={"momentum_lookback": 20, "reversal_lookback": 2})

    gap = np.abs(assess(panel, stability, PARAMS).score - assess(panel, stability, short).score)

    assert gap.max() > 0.1


def test_the_expected_return_grows_with_the_root_of_the_horizon(panel, stability):
    month = assess(panel, stability, PARAMS).expected_return
    four = assess(panel, stability, PARAMS.model_copy(update={"horizon": 84})).expected_return

    assert np.allclose(four, 2.0 * month)


def test_fragility_costs_score_relative_to_the_others(panel, stability_of):
    calm = np.full(30, 40.0)
    fragile = calm.copy()
    fragile[7] = 90.0

    before = assess(panel, stability_of(panel, calm), PARAMS).score
    after = assess(panel, stability_of(panel, fragile), PARAMS).score
    all_fragile = assess(panel, stability_of(panel, np.full(30, 90.0)), PARAMS).score

    assert np.allclose(all_fragile, before)
    assert after[7] < before[7]


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


def test_a_late_listing_has_no_score(panel_of, stability_of):
    close = np.random.default_rng(0).uniform(10, 11, (40, 3))
    close[:20, 1] = np.nan
    panel = panel_of(close)

    scores = assess(panel, stability_of(panel, [1.0, 2.0, 3.0]), PARAMS)

    assert np.isnan(scores.score).tolist() == [False, True, False]


@pytest.mark.parametrize("names", [1, 3])
def test_a_cross_section_that_does_not_vary_scores_zero(panel_of, stability_of, names):
    panel = panel_of(np.full((40, names), 10.0))

    scores = assess(panel, stability_of(panel, np.zeros(names), sigma=0.0), PARAMS)

    assert scores.score.tolist() == [0.0] * names
    assert scores.expected_return.tolist() == [0.0] * names
    assert scores.confidence.tolist() == [0.0] * names


def test_too_short_a_panel_is_insufficient_history(panel_of, stability_of):
    panel = panel_of(np.ones((30, 2)))

    with pytest.raises(InsufficientHistory, match="needs 31 sessions, has 30"):
        assess(panel, stability_of(panel, [0.0, 0.0]), PARAMS)


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum_skip": 252},
        {"momentum_weight": 0.0, "reversal_weight": 0.0, "low_volatility_weight": 0.0},
        {"buy_z": 2.0},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        AssessmentParams(**settings)
