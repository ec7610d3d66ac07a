from dataclasses import fields

import numpy as np
import pytest
from pydantic import ValidationError
from skfolio.datasets import load_sp500_dataset

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import SoftTargetClass
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.engines.stability import CHANGES, StabilityParams, measure_stability

NAN = np.nan
SHORT = StabilityParams(
    lookback=4,
    min_observations=2,
    max_gap=1,
    liquidity_weight=0.0,
    beta_weight=0.0,
    contagion_weight=0.0,
    relative_blend=0.0,
    history_blend=0.0,
)
PAST = SHORT.model_copy(update={"history_step": 1, "min_snapshots": 1, "history_lookback": 50})


def _walks(seed, sessions, names, sigma=0.02):
    rng = np.random.default_rng(seed)
    return 50.0 * np.exp(np.cumsum(rng.normal(0.0, sigma, (sessions, names)), axis=0))


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
    # The tail needs 63 sessions: its weight goes to the three that are known.
    expected = (0.25 * 100 + 0.2 * 50 + 0.1 * 2.5) / 0.55
    assert vectors.overall_score[0] == pytest.approx(expected)
    assert vectors.soft_target_class.tolist() == [SoftTargetClass.TARGETABLE]
    assert vectors.instability[0] == 100.0
    assert vectors.high_fragility[0] == pytest.approx(50.0)


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

    absolute = measure_stability(
        panel_of(crash),
        StabilityParams(relative_blend=0.0, liquidity_weight=0.0, contagion_weight=0.0),
    )
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


def test_the_own_past_shifts_the_score_and_its_absence_leaves_the_weight_to_the_rest(panel_of):
    close = [10.0, 10.0, 10.0, 10.0, 9.0, 8.0]
    plain = measure_stability(panel_of(close), SHORT)
    with_past = PAST.model_copy(update={"history_blend": 0.5})

    known = measure_stability(panel_of(close), with_past)
    too_few = measure_stability(panel_of(close), with_past.model_copy(update={"min_snapshots": 4}))

    # Sessions 4 and 5 were calmer, and are all of the past: the percentile is 1.
    assert known.overall_score[0] == pytest.approx(0.5 * plain.overall_score[0] + 0.5 * 100)
    assert too_few.overall_score[0] == plain.overall_score[0]


def test_downside_beta_is_the_slope_on_the_markets_falls(panel_of):
    # Returns of the two on four sessions; the market is their mean, and falls on three of them.
    returns = np.array([[0.04, 0.02], [-0.03, -0.01], [-0.02, 0.0], [-0.05, 0.01]])
    close = 10.0 * np.cumprod(np.vstack([[[1.0, 1.0]], 1.0 + returns]), axis=0)
    market = returns.mean(axis=1)[1:]
    params = SHORT.model_copy(update={"beta_lookback": 4, "min_falls": 3, "beta_reference": 2.0})

    vectors = measure_stability(panel_of(close), params)
    unknown = measure_stability(panel_of(close), params.model_copy(update={"min_falls": 4}))

    expected = (market[:, None] * returns[1:]).sum(axis=0) / (market * market).sum()
    assert vectors.downside_beta == pytest.approx(expected)
    assert vectors.downside_beta_score == pytest.approx(np.maximum(25.0 * expected, 0.0), abs=1e-6)
    assert np.isnan(unknown.downside_beta).all()
    assert np.isnan(unknown.downside_beta_score).all()


def test_the_tail_is_the_mean_of_the_worst_returns(panel_of):
    close = _walks(1, 40, 3)
    params = SHORT.model_copy(update={"tail_lookback": 30, "tail_fraction": 0.1})

    vectors = measure_stability(panel_of(close), params)

    worst = np.sort(np.diff(np.log(close), axis=0)[-30:], axis=0)[:3]
    assert vectors.expected_shortfall == pytest.approx(-worst.mean(axis=0))
    assert vectors.tail_score == pytest.approx(-1000.0 * worst.mean(axis=0))


def test_contagion_is_shared_variance_and_its_rise_against_the_own_past(panel_of):
    close = _walks(2, 10, 3)
    returns = np.diff(close, axis=0) / close[:-1]
    market = returns.mean(axis=1)

    def correlations(row):
        window = slice(row - 3, row)
        return np.array([np.corrcoef(returns[window, i], market[window])[0, 1] for i in range(3)])

    first = measure_stability(panel_of(close[:4]), SHORT)
    later = measure_stability(panel_of(close), PAST)

    # The first session at which two returns are known is the third: with it the past begins.
    assert first.market_correlation == pytest.approx(correlations(3))
    assert first.contagion_score == pytest.approx(100 * np.maximum(correlations(3), 0) ** 2)
    two = np.array([np.corrcoef(returns[:2, i], market[:2])[0, 1] for i in range(3)])
    past = np.array([two, *(correlations(row) for row in range(3, 9))])
    now = correlations(9)
    higher = (past < now).mean(axis=0)
    expected = 50 * np.maximum(now, 0) ** 2 + 50 * higher
    assert later.contagion_score == pytest.approx(expected)


def test_liquidity_is_illiquidity_among_all_and_in_the_own_past_and_a_fall_in_volume(panel_of):
    close = np.array([[1.0, 1.0], [1.1, 1.2], [1.0, 1.0], [1.1, 1.2], [1.0, 1.0]])
    volume = np.array([[90.0, 50.0], [95.0, 50.0], [70.0, 50.0], [99.0, 50.0], [80.0, 2.0]])
    params = PAST.model_copy(update={"lookback": 3, "min_observations": 2, "volume_lookback": 5})

    alone = measure_stability(panel_of(close[:, :1], volume=volume[:, :1]), params)
    both = measure_stability(panel_of(close, volume=volume), params)

    returns, traded = np.abs(np.diff(close, axis=0) / close[:-1]), (close * volume)[1:]
    assert both.illiquidity == pytest.approx((returns / traded)[-2:].mean(axis=0))
    value = close * volume
    fall = 1.0 - value[-3:].mean(axis=0) / value.mean(axis=0)
    impacts = [(returns / traded)[row - 1 : row + 1].mean(axis=0) for row in range(1, 4)]
    lower = np.mean([past < impacts[-1] for past in impacts[:-1]], axis=0)
    fallen = np.clip(fall, 0.0, 1.0)
    expected = 100.0 * np.mean([[0.0, 1.0], lower, fallen], axis=0)
    assert both.liquidity_score == pytest.approx(expected, abs=1e-4)
    assert alone.liquidity_score[0] == pytest.approx(50 * (lower[0] + fallen[0]), abs=1e-4)


def test_without_volume_liquidity_is_unknown_and_weighs_nothing(panel_of):
    close = _walks(3, 70, 4)
    unknown = np.full(close.shape, NAN)

    without = measure_stability(panel_of(close, volume=unknown), StabilityParams())
    unweighted = StabilityParams(liquidity_weight=0.0)

    assert np.isnan(without.liquidity_score).all()
    assert np.isnan(without.illiquidity).all()
    assert np.isfinite(without.overall_score).all()
    expected = measure_stability(panel_of(close), unweighted).overall_score
    assert np.array_equal(without.overall_score, expected)


def test_complacency_is_calm_times_dear_and_unknown_at_first(panel_of):
    # Ever calmer and ever dearer against its own mean, then the reverse.
    steps = np.concatenate((np.array([0.04, -0.03] * 10), np.full(10, 0.01)))
    calm = 10.0 * np.exp(np.cumsum(steps))
    crash = np.append(calm, calm[-1] * np.array([0.9, 0.7]))
    params = PAST.model_copy(update={"richness_lookback": 4})

    assert measure_stability(panel_of(calm), params).complacent_pricing[0] > 70.0
    assert measure_stability(panel_of(crash), params).complacent_pricing[0] == 0.0
    assert np.isnan(measure_stability(panel_of(calm), SHORT).complacent_pricing[0])


def test_one_instrument_has_no_market_to_fall_with(panel_of):
    vectors = measure_stability(panel_of(_walks(4, 70, 1)), StabilityParams())

    assert np.isnan(vectors.downside_beta[0])
    assert np.isnan(vectors.market_correlation[0])
    assert np.isnan(vectors.contagion_score[0])
    assert np.isfinite(vectors.overall_score[0])


def test_the_transition_matrix_counts_every_instruments_classes(panel_of):
    # Falls of 0, 12 and 30 % are STABLE, WATCH and BREAKER with drawdown alone.
    close = np.full((8, 2), 100.0)
    close[5:, 0] = 88.0
    close[6:, 1] = 70.0
    close[7, 0] = NAN
    weights = {"vol_weight": 0.0, "trend_weight": 0.0, "tail_weight": 0.0}
    params = SHORT.model_copy(update=weights | {"transition_prior": 1.0, "stickiness": 2.0})

    vectors = measure_stability(panel_of(close - 1e-9), params)

    stable, watch, breaker = 0, 1, 4
    counts = np.ones((5, 5)) + 2.0 * np.eye(5)
    # Known from the third close on: 0 0 0 1 1 and unknown, 0 0 0 0 4 4.
    counts[stable, stable] += 5
    counts[stable, watch] += 1
    counts[watch, watch] += 1
    counts[stable, breaker] += 1
    counts[breaker, breaker] += 1
    assert vectors.soft_target_class.tolist() == [-1, breaker]
    assert np.allclose(vectors.transition_matrix, counts / counts.sum(axis=1, keepdims=True))


def test_change_risk_starts_from_the_chain_and_ends_with_what_happened(panel_of):
    close = np.full((40, 1), 100.0)
    weights = {"vol_weight": 0.0, "trend_weight": 0.0, "tail_weight": 0.0, "horizon": 2}
    chain = SHORT.model_copy(update=weights | {"horizon_prior": 1e12})
    counted = SHORT.model_copy(update=weights | {"horizon_prior": 1e-9})

    prior = measure_stability(panel_of(close), chain)
    observed = measure_stability(panel_of(close), counted)

    ahead = np.linalg.matrix_power(prior.transition_matrix, 2)[0]
    assert prior.change_risk["p_worsen_any"][0] == pytest.approx(ahead[1:].sum())
    assert prior.change_risk["p_to_targetable_or_breaker"][0] == pytest.approx(ahead[3:].sum())
    assert prior.change_risk["p_to_breaker"][0] == pytest.approx(ahead[4])
    assert prior.change_risk["p_improve_any"][0] == 0.0
    assert observed.change_risk["p_worsen_any"][0] == pytest.approx(0.0, abs=1e-9)


def test_the_outlook_of_an_unknown_class_is_unknown(panel_of):
    close = _walks(5, 70, 3)
    close[:, 1] = NAN

    vectors = measure_stability(panel_of(close), StabilityParams())

    assert list(vectors.change_risk) == list(CHANGES)
    for risk in vectors.change_risk.values():
        assert np.isnan(risk).tolist() == [False, True, False]


def test_an_unknown_instrument_is_unknown_in_every_array(panel_of):
    close = _walks(6, 600, 4)
    close[-5:, 1] = NAN
    close[:, 2] = NAN

    vectors = measure_stability(panel_of(close), StabilityParams())

    for field in fields(vectors):
        values = getattr(vectors, field.name)
        if isinstance(values, np.ndarray) and values.shape == (4,) and values.dtype == np.float64:
            assert np.isnan(values).tolist() == [False, True, True, False], field.name


def test_a_real_market_keeps_names_to_hold_in_every_crisis():
    """Twenty large companies, 1990 to 2022: closes only, so liquidity is unknown."""
    panel = _sample()
    sessions = panel.sessions.astype("datetime64[Y]").astype(int) + 1970
    seen = set()
    for year in range(1995, 2023):
        for row in np.flatnonzero(sessions == year)[::21]:
            view = panel.until(panel.sessions[row].astype(object))
            classes = measure_stability(view, StabilityParams()).soft_target_class
            known = classes[classes >= 0]
            assert (known < SoftTargetClass.BREAKER).mean() >= 0.5, year
            assert (known >= SoftTargetClass.FRAGILE).any(), year
            seen |= set(known.tolist())
    assert seen == {0, 1, 2, 3, 4}


def _sample():
    frame = load_sp500_dataset()
    close = frame.to_numpy(dtype=np.float64)
    return MarketPanel(
        sessions=frame.index.to_numpy().astype("datetime64[D]"),
        instruments=tuple(frame.columns),
        volume=np.full(close.shape, NAN),
        split=np.ones(close.shape),
        dividend=np.zeros(close.shape),
        fingerprint="sample",
        **{name: close.copy() for name in ("open", "high", "low", "close")},
    )


def test_too_short_a_panel_is_insufficient_history(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 4 sessions, has 3"):
        measure_stability(panel_of([1.0, 2.0, 3.0]), SHORT)


@pytest.mark.parametrize(
    "settings",
    [
        {"lookback": 42},
        {"vol_weight": 0.0, "drawdown_weight": 0.0, "trend_weight": 0.0},
        {"relative_blend": 0.6, "history_blend": 0.5},
        {"class_thresholds": (30.0, 60.0, 45.0, 75.0)},
        {"lookbak": 63},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        StabilityParams(**settings)
