import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import SoftTargetClass
from prometheus_nt.engines.stability import StabilityParams, measure_stability

NAN = np.nan
SHORT = StabilityParams(lookback=4, min_observations=2, max_gap=1, relative_blend=0.0)


def test_the_components_follow_their_definitions(panel_of):
    panel = panel_of([50.0, 100.0, 110.0, 88.0, 99.0])

    vectors = measure_stability(panel, SHORT)

    sigma = np.diff(np.log([100.0, 110.0, 88.0, 99.0])).std(ddof=1)
    assert vectors.sigma[0] == pytest.approx(sigma)
    assert vectors.max_drawdown[0] == pytest.approx(-0.2)
    assert vectors.trend[0] == pytest.approx(-0.01)
    assert vectors.vol_score[0] == 100.0
    assert vectors.dd_score[0] == pytest.approx(50.0)
    assert vectors.trend_score[0] == pytest.approx(2.5)
    assert vectors.overall_score[0] == pytest.approx(0.4 * 100 + 0.4 * 50 + 0.2 * 2.5)
    assert vectors.soft_target_class.tolist() == [SoftTargetClass.TARGETABLE]


def test_a_rising_trend_costs_no_points(panel_of):
    assert measure_stability(panel_of([1.0, 2.0, 3.0, 4.0]), SHORT).trend_score[0] == 0.0


def test_a_constant_price_is_perfectly_stable(panel_of):
    vectors = measure_stability(panel_of([5.0] * 6), SHORT)

    assert vectors.overall_score.tolist() == [0.0]
    assert vectors.soft_target_class.tolist() == [SoftTargetClass.STABLE]


def test_classes_begin_at_their_thresholds(panel_of):
    falls = np.array([0.11999, 0.12, 0.17999, 0.18, 0.24, 0.30])
    params = SHORT.model_copy(update={"vol_weight": 0.0, "trend_weight": 0.0})
    panel = panel_of(np.array([np.full(6, 1.0), 1.0 - falls - 1e-12, 1.0 - falls, 1.0 - falls]))

    vectors = measure_stability(panel, params)

    assert vectors.soft_target_class.tolist() == [0, 1, 1, 2, 3, 4]


def test_a_crisis_does_not_make_everything_a_breaker(panel_of):
    rng = np.random.default_rng(1)
    crash = 100.0 * np.exp(np.cumsum(rng.normal(-0.02, 0.06, (70, 50)), axis=0))

    absolute = measure_stability(panel_of(crash), StabilityParams(relative_blend=0.0))
    blended = measure_stability(panel_of(crash), StabilityParams())

    assert (absolute.soft_target_class == SoftTargetClass.BREAKER).all()
    assert (blended.soft_target_class == SoftTargetClass.BREAKER).mean() < 0.6


def test_the_cross_section_shifts_the_score_by_rank(panel_of):
    close = np.array([[1.0, 1.0, 1.0], [1.0, 0.9, 0.8], [1.0, 0.9, 0.8], [1.0, 0.9, 0.8]])
    alone = measure_stability(panel_of(close), SHORT).overall_score

    blended = measure_stability(panel_of(close), SHORT.model_copy(update={"relative_blend": 0.5}))

    assert np.allclose(blended.overall_score, 0.5 * alone + 0.5 * np.array([0.0, 50.0, 100.0]))


def test_few_observations_or_a_stale_price_make_it_unknown(panel_of):
    close = np.array([[1.0, NAN, 1.0], [1.1, NAN, 1.1], [1.0, 1.0, 1.2], [1.1, 1.1, NAN]])

    vectors = measure_stability(panel_of(close), SHORT)

    assert np.isnan(vectors.overall_score).tolist() == [False, True, True]
    assert vectors.soft_target_class[1:].tolist() == [-1, -1]
    for name in ("sigma", "max_drawdown", "trend", "vol_score", "dd_score", "trend_score"):
        assert np.isnan(getattr(vectors, name)).tolist() == [False, True, True]


def test_the_trend_of_a_late_listing_starts_at_its_first_bar(panel_of):
    close = [NAN, NAN, 10.0, 9.0, 8.0, 9.0, 8.0]
    params = StabilityParams(lookback=6, min_observations=3)

    assert measure_stability(panel_of(close), params).trend[0] == pytest.approx(-0.2)


def test_too_short_a_panel_is_insufficient_history(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 4 sessions, has 3"):
        measure_stability(panel_of([1.0, 2.0, 3.0]), SHORT)


@pytest.mark.parametrize(
    "settings",
    [
        {"lookback": 42},
        {"vol_weight": 0.0, "drawdown_weight": 0.0, "trend_weight": 0.0},
        {"class_thresholds": (30.0, 60.0, 45.0, 75.0)},
        {"lookbak": 63},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        StabilityParams(**settings)
