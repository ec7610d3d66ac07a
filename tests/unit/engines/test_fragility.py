from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.market import FragilityClass, ScenarioOutlook, SimulatedReturns
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.fragility import (
    COMPONENTS,
    SIMULATED_LOSS,
    WORST_OF_HISTORY,
    FragilityParams,
    _isotonic,
    measure_fragility,
)
from prometheus_nt.engines.stability import StabilityParams, measure_stability

NAN = np.nan
SHORT = FragilityParams(
    horizon=3,
    drawdown_threshold=0.05,
    tail_lookback=10,
    tail_fraction=0.2,
    trend_lookback=20,
    scenario_lookback=30,
    min_observations=6,
    min_calibration_sessions=20,
)


def _walks(seed, sessions, names, sigma=0.02):
    rng = np.random.default_rng(seed)
    return 50.0 * np.exp(np.cumsum(rng.normal(0.0, sigma, (sessions, names)), axis=0))


def _fragility(panel, stability_of, overall=50.0, params=SHORT):
    overall = np.broadcast_to(np.asarray(overall, dtype=float), len(panel.instruments))
    return measure_fragility(panel, stability_of(panel, overall), params)


def _midrank(x):
    return np.array([((x < v).sum() + 0.5 * (x == v).sum()) / len(x) for v in x])


def _naive_exposures(close, params):
    """Tail, trend weakness and scenario loss of the last row of gapless closes, (3, N)."""
    log_returns = np.diff(np.log(close), axis=0)[-params.tail_lookback :]
    worst = int(np.ceil(params.tail_fraction * params.tail_lookback))
    window, horizon = close[-params.scenario_lookback :], params.horizon
    gains = [window[i + horizon] / window[i] - 1.0 for i in range(len(window) - horizon)]
    return np.array(
        [
            -np.sort(log_returns, axis=0)[:worst].mean(axis=0),
            1.0 - close[-1] / close[-params.trend_lookback :].max(axis=0),
            -np.min(gains, axis=0),
        ]
    )


def _naive_scores(raw, references, weights, blend):
    score = np.ones(raw.shape[1])
    for values, reference, weight in zip(raw, references, weights, strict=True):
        size = np.maximum(values, 0.0)
        absolute = values if reference is None else size / (size + reference)
        score *= ((1 - blend) * absolute + blend * _midrank(values)) ** (weight / sum(weights))
    return score


def test_the_score_follows_its_definition(panel_of, stability_of):
    close = _walks(1, 60, 8)
    overall = np.linspace(10.0, 90.0, 8)
    params = SHORT.model_copy(update={"tail_weight": 0.4, "instability_weight": 0.1})

    measures = _fragility(panel_of(close), stability_of, overall, params)

    raw = np.vstack([_naive_exposures(close, params), overall / 100.0])
    expected = _naive_scores(raw, (0.05, 0.25, 0.25, None), (0.4, 0.25, 0.25, 0.1), 0.4)
    assert np.allclose(measures.fragility_score, expected)
    for name, values in zip(COMPONENTS, raw, strict=True):
        assert np.allclose(measures.components[name], _midrank(values))
    assert np.allclose(measures.scenario_losses[WORST_OF_HISTORY], np.maximum(raw[2], 0.0))


def test_the_classes_begin_at_their_thresholds(panel_of, stability_of):
    panel = panel_of(_walks(1, 60, 8))
    score = np.sort(_fragility(panel, stability_of).fragility_score)
    params = SHORT.model_copy(update={"class_thresholds": tuple(score[[2, 4, 7]])})

    measures = _fragility(panel, stability_of, params=params)

    order = np.argsort(measures.fragility_score)
    assert measures.fragility_class[order].tolist() == [0, 0, 1, 1, 2, 2, 2, 3]


def _market(panel_of, seed, drift, sigma):
    """Three calm years, then one of the given drift and volatility."""
    rng = np.random.default_rng(seed)
    quiet = rng.normal(0.0004, 0.003, (756, 40))
    recent = rng.normal(drift, sigma * rng.uniform(0.6, 1.4, 40), (252, 40))
    return panel_of(50.0 * np.exp(np.cumsum(np.vstack([quiet, recent]), axis=0)))


def _default_classes(panel):
    stability = measure_stability(panel, StabilityParams())
    return measure_fragility(panel, stability, FragilityParams()).fragility_class


def test_every_class_is_reached_and_the_market_decides_which(panel_of):
    calm = _default_classes(_market(panel_of, 1, drift=0.0004, sigma=0.003))
    usual = _default_classes(_market(panel_of, 2, drift=0.0, sigma=0.015))
    crisis = _default_classes(_market(panel_of, 3, drift=-0.006, sigma=0.04))

    assert FragilityClass.CRISIS not in calm
    assert {FragilityClass.NONE, FragilityClass.WATCHLIST} <= set(calm)
    assert (calm >= FragilityClass.SHORT_CANDIDATE).mean() <= 0.05
    assert {0, 1, 2} <= set(usual)
    assert (usual >= FragilityClass.SHORT_CANDIDATE).mean() < 0.5
    assert (crisis >= FragilityClass.SHORT_CANDIDATE).mean() > 0.6
    assert 0.1 < (crisis == FragilityClass.CRISIS).mean() < 0.9


def test_templates_are_shorts_of_the_candidates_most_fragile_first(panel_of):
    panel = _market(panel_of, 3, drift=-0.006, sigma=0.04)
    stability = measure_stability(panel, StabilityParams())

    measures = measure_fragility(panel, stability, FragilityParams(max_templates=100))
    few = measure_fragility(panel, stability, FragilityParams(max_templates=3))

    candidates = np.flatnonzero(measures.fragility_class >= FragilityClass.SHORT_CANDIDATE)
    ranked = candidates[np.argsort(-measures.fragility_score[candidates])]
    names = [panel.instruments[column] for column in ranked]
    assert [template.instrument_id for template in measures.templates] == names
    assert few.templates == measures.templates[:3]
    for template, score in zip(measures.templates, measures.fragility_score[ranked], strict=True):
        assert (template.direction, template.horizon) == ("SHORT", 21)
        assert template.notional_hint == pytest.approx(np.clip(0.05 * score, 0.01, 0.05))
        assert f"fragility {score:.2f}, ranks worst by " in template.rationale


def test_equally_fragile_names_are_suggested_by_name(panel_of, stability_of):
    close = np.repeat(_walks(4, 60, 1), 4, axis=1)
    params = SHORT.model_copy(update={"class_thresholds": (0.0, 0.0, 1.0), "max_templates": 2})

    templates = _fragility(panel_of(close), stability_of, 90.0, params).templates

    assert [template.instrument_id for template in templates] == ["I000", "I001"]


def _naive_probability(close, params, own_scores):
    """Pooled-adjacent-violators over twenty bins of past scores; own_scores[t] is (N,)."""
    hits, trials = np.zeros(20), np.zeros(20)
    for s in range(len(close) - params.horizon):
        if own_scores[s] is None:
            continue
        window = close[s : s + params.horizon + 1]
        fall = (window / np.maximum.accumulate(window, axis=0) - 1.0).min(axis=0)
        for score, depth in zip(own_scores[s], fall, strict=True):
            trials[int(score * 20)] += 1
            hits[int(score * 20)] += depth <= -params.drawdown_threshold
    prior = (hits.sum() + 1) / (trials.sum() + 2)
    blocks = []
    for hit, trial in zip(hits + prior, trials + 1, strict=True):
        blocks.append([hit, trial, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    return np.concatenate([[hit / trial] * width for hit, trial, width in blocks])


def test_the_probability_is_the_frequency_of_completed_outcomes(panel_of, stability_of):
    close = _walks(5, 120, 6, sigma=np.linspace(0.005, 0.04, 6))
    references, weights = (0.05, 0.25, 0.25), (0.25, 0.25, 0.25)
    own = [None] * 120
    for row in range(SHORT.tail_lookback - 1, 120):
        raw = _naive_exposures(close[: row + 1], SHORT)
        own[row] = _naive_scores(raw, references, weights, 0.4)

    probability = _fragility(panel_of(close), stability_of).drawdown_probability

    calibrated = _naive_probability(close, SHORT, own)
    assert np.allclose(probability, calibrated[(own[-1] * 20).astype(int)])
    assert len(set(probability)) > 1


def test_the_isotonic_fit_is_monotone_weighted_and_smoothed():
    hits = np.array([[0.0, 30.0, 10.0, 0.0, 100.0]])
    trials = np.array([[0.0, 100.0, 100.0, 0.0, 100.0]])

    fitted = _isotonic(hits, trials)[0]

    prior = 141.0 / 302.0
    pooled = (40.0 + 4 * prior) / 204.0
    # An empty bin leans on its neighbours; it never pulls a full one to one half.
    assert fitted[:3] == pytest.approx((40.0 + 3 * prior) / 203.0)
    assert pooled < fitted[3] == pytest.approx(prior)
    assert fitted[4] == pytest.approx((100.0 + prior) / 101.0)


def _true_probability(sigma, horizon, threshold):
    """Probability of the fall for Gaussian log returns, by simulation."""
    steps = np.random.default_rng(20).normal(0.0, 1.0, (20_000, horizon))
    walk = np.concatenate((np.zeros((20_000, 1)), np.cumsum(steps, axis=1)), axis=1)
    deepest = (walk - np.maximum.accumulate(walk, axis=1)).min(axis=1)
    return np.array([(deepest <= np.log1p(-threshold) / value).mean() for value in sigma])


def test_the_calibrated_probability_is_close_to_the_true_one(panel_of, stability_of):
    sigma = np.linspace(0.003, 0.035, 240)
    panel = panel_of(_walks(11, 600, 240, sigma=sigma))
    params = FragilityParams(drawdown_threshold=0.08, horizon=10)

    probability = _fragility(panel, stability_of, params=params).drawdown_probability

    truth = _true_probability(sigma, 10, 0.08)
    assert probability.mean() == pytest.approx(truth.mean(), abs=0.03)
    for group in np.array_split(np.argsort(probability, kind="stable"), 4):
        assert probability[group].mean() == pytest.approx(truth[group].mean(), abs=0.06)
    assert np.corrcoef(probability, truth)[0, 1] > 0.6
    assert np.ptp(probability) > 0.4


def test_the_probability_does_not_fall_as_exposure_rises(panel_of, stability_of):
    panel = panel_of(_walks(12, 400, 50, sigma=np.linspace(0.003, 0.04, 50)))

    measures = _fragility(panel, stability_of, params=SHORT)

    # With equal stability the score and the score without it have one order.
    ordered = measures.drawdown_probability[np.argsort(measures.fragility_score)]
    assert (np.diff(ordered) >= 0.0).all()
    assert ordered[-1] > ordered[0]


def test_the_probability_is_unknown_until_enough_outcomes_are_complete(panel_of, stability_of):
    panel = panel_of(_walks(6, 60, 5))

    def probability(row):
        view = panel.until(panel.sessions[row].astype(object))
        return _fragility(view, stability_of).drawdown_probability

    # Row 9 is the first with a tail of ten sessions; its outcome is complete three rows later.
    first = 9 + SHORT.horizon + SHORT.min_calibration_sessions - 1
    assert np.isnan(probability(first - 1)).all()
    assert np.isfinite(probability(first)).all()


def test_an_outcome_not_complete_by_now_counts_for_nothing(panel_of, stability_of):
    close = _walks(7, 80, 10)
    crashed = close.copy()
    crashed[-1] *= 0.5
    view = panel_of(crashed).until(date(2020, 1, 1) + np.timedelta64(78, "D").astype(object))

    before = _fragility(panel_of(close[:79]), stability_of).drawdown_probability

    assert np.array_equal(_fragility(view, stability_of).drawdown_probability, before)


def test_missing_components_leave_the_weight_to_the_others(panel_of, stability_of):
    close = _walks(8, 60, 5)
    close[:54, 0] = NAN

    measures = _fragility(panel_of(close), stability_of, np.linspace(10, 90, 5))

    # Six bars are five returns and three windows: of the three, only the trend is known.
    assert np.isnan(measures.components["tail"][0])
    assert np.isnan(measures.components["scenario_loss"][0])
    assert np.isnan(measures.scenario_losses[WORST_OF_HISTORY][0])
    assert np.isnan(measures.drawdown_probability).tolist() == [True] + [False] * 4
    weakness = 1.0 - close[-1] / np.nanmax(close[-20:], axis=0)
    trend = 0.6 * weakness[0] / (weakness[0] + 0.25) + 0.4 * _midrank(weakness)[0]
    instability = 0.6 * 0.1 + 0.4 * 0.1
    assert measures.fragility_score[0] == pytest.approx((trend * instability) ** 0.5)
    assert measures.fragility_class[0] >= 0


def _outlook(panel, **sets):
    made = tuple(SimulatedReturns(name, panel.as_of, name, paths) for name, paths in sets.items())
    return ScenarioOutlook(panel.as_of, made)


def test_a_name_without_paths_is_judged_by_its_other_components(panel_of, stability_of):
    panel = panel_of(_walks(8, 60, 4))
    stability = stability_of(panel, np.linspace(10, 90, 4))
    paths = np.random.default_rng(1).normal(-0.02, 0.1, (40, 4))
    paths[:, 2] = np.nan

    without = measure_fragility(panel, stability, SHORT)
    measures = measure_fragility(panel, stability, SHORT, scenarios=_outlook(panel, set=paths))

    assert np.isnan(measures.scenario_losses["set"]).tolist() == [False, False, True, False]
    assert measures.fragility_score[2] == pytest.approx(without.fragility_score[2])
    assert measures.fragility_score[0] != pytest.approx(without.fragility_score[0])


def test_scenarios_of_another_session_are_an_error(panel_of, stability_of):
    panel = panel_of(_walks(8, 60, 4))
    stability = stability_of(panel, np.full(4, 50.0))
    later = replace(_outlook(panel, set=np.zeros((9, 4))), as_of=date(2030, 1, 2))

    with pytest.raises(DataError, match="scenarios of 2030-01-02: not those of"):
        measure_fragility(panel, stability, SHORT, scenarios=later)


def test_losses_of_scenarios_are_one_more_component(panel_of, stability_of):
    close = _walks(8, 60, 4)
    panel = panel_of(close)
    stability = stability_of(panel, np.linspace(10, 90, 4))
    rng = np.random.default_rng(1)
    mild, deep = rng.normal(-0.01, 0.05, (20, 4)), rng.normal(-0.05, 0.2, (10, 4))

    without = measure_fragility(panel, stability, SHORT)
    with_sets = measure_fragility(
        panel, stability, SHORT, scenarios=_outlook(panel, mild=mild, deep=deep)
    )

    # The tail fraction of 0.2: the worst four of twenty paths, and two of ten.
    losses = -np.sort(mild, axis=0)[:4].mean(axis=0), -np.sort(deep, axis=0)[:2].mean(axis=0)
    assert with_sets.scenario_losses["mild"] == pytest.approx(np.maximum(losses[0], 0.0))
    assert with_sets.scenario_losses["deep"] == pytest.approx(np.maximum(losses[1], 0.0))
    size = np.maximum(np.maximum(*losses), 0.0)
    component = 0.6 * size / (size + 0.25) + 0.4 * _midrank(size)
    expected = (without.fragility_score**4 * component) ** 0.2
    assert with_sets.fragility_score == pytest.approx(expected)
    assert with_sets.components[SIMULATED_LOSS] == pytest.approx(_midrank(size))
    assert np.array_equal(with_sets.drawdown_probability, without.drawdown_probability)


def test_scenarios_of_other_instruments_are_an_error(panel_of, stability_of):
    panel = panel_of(_walks(8, 60, 4))

    with pytest.raises(DataError, match=r"scenarios SET: expected \(S, 4\), found \(9, 3\)"):
        measure_fragility(
            panel,
            stability_of(panel, np.full(4, 50.0)),
            SHORT,
            scenarios=_outlook(panel, SET=np.zeros((9, 3))),
        )


def test_an_unknown_stability_or_a_stale_price_is_unknown(panel_of, stability_of):
    close = _walks(9, 60, 4)
    close[-5:, 1] = NAN
    close[:, 2] = NAN
    panel = panel_of(close)

    measures = _fragility(panel, stability_of, [NAN, NAN, NAN, 50.0])
    stale = _fragility(panel, stability_of)

    assert measures.fragility_class[:3].tolist() == [-1, -1, -1]
    assert np.isnan(measures.fragility_score).tolist() == [True, True, True, False]
    assert np.isnan(measures.drawdown_probability).tolist() == [True, True, True, False]
    for name in ("tail", "trend_weakness", "scenario_loss"):
        assert np.isnan(stale.components[name]).tolist() == [False, True, True, False]
    # Stability alone is left of them: the score is its blend, and no outcome is promised.
    assert stale.fragility_score[1:3] == pytest.approx(0.6 * 0.5 + 0.4 * 0.5)
    assert np.isnan(stale.drawdown_probability).tolist() == [False, True, True, False]


def test_a_few_missing_bars_change_little(panel_of, stability_of):
    close = _walks(10, 80, 6)
    holed = close.copy()
    holed[[40, 55, 70], 2] = NAN

    whole = _fragility(panel_of(close), stability_of)
    gapped = _fragility(panel_of(holed), stability_of)

    assert np.isfinite(gapped.fragility_score).all()
    assert np.allclose(gapped.fragility_score, whole.fragility_score, atol=0.1)


def test_constant_prices_and_a_single_instrument_are_defined(panel_of, stability_of):
    measures = _fragility(panel_of(np.full(60, 25.0)), stability_of, 0.0)

    assert measures.fragility_score == pytest.approx([0.2])
    assert measures.fragility_class.tolist() == [FragilityClass.NONE]
    assert measures.scenario_losses[WORST_OF_HISTORY].tolist() == [0.0]
    assert 0.0 < measures.drawdown_probability[0] < 0.05
    assert measures.templates == ()


def test_total_returns_are_measured_not_prices(panel_of, stability_of):
    close = _walks(13, 60, 3)
    split = np.ones_like(close)
    split[40, 1] = 4.0
    halved = close.copy()
    halved[40:, 1] /= 4.0

    plain = _fragility(panel_of(close), stability_of)
    adjusted = _fragility(panel_of(halved, split=split), stability_of)

    assert np.allclose(plain.fragility_score, adjusted.fragility_score)


def test_later_sessions_and_a_longer_panel_change_nothing(panel_of, random_close, stability_of):
    panel = panel_of(random_close(14, 200, 9))
    junk = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in junk.values():
        array[131:] = np.random.default_rng(15).uniform(0.1, 5.0, array[131:].shape)
    perturbed = replace(panel, _wall=None, **junk)
    cut = {name: getattr(panel, name)[:131].copy() for name in PANEL_FIELDS}
    truncated = replace(panel, _wall=None, sessions=panel.sessions[:131].copy(), **cut)
    as_of = panel.sessions[130].astype(object)

    expected = _fragility(panel.until(as_of), stability_of)

    assert np.isfinite(expected.drawdown_probability).any()
    for same in (perturbed.until(as_of), truncated):
        found = _fragility(same, stability_of)
        for name in ("fragility_score", "fragility_class", "drawdown_probability"):
            assert np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=True)
        for name in COMPONENTS:
            same_ranks = np.array_equal(
                found.components[name], expected.components[name], equal_nan=True
            )
            assert same_ranks, name
        assert found.templates == expected.templates


def test_too_short_a_panel_is_insufficient_history(panel_of, stability_of):
    with pytest.raises(InsufficientHistory, match="needs 20 sessions, has 19"):
        _fragility(panel_of(_walks(1, 19, 2)), stability_of)
    deep = SHORT.model_copy(update={"tail_lookback": 40})
    with pytest.raises(InsufficientHistory, match="needs 41 sessions, has 40"):
        _fragility(panel_of(_walks(1, 40, 2)), stability_of, params=deep)


def test_stability_of_another_session_or_universe_is_an_error(panel_of, stability_of):
    panel = panel_of(_walks(1, 40, 3))
    newer = stability_of(panel, np.full(3, 50.0))

    with pytest.raises(DataError, match="not that of the panel"):
        measure_fragility(panel.until(date(2020, 2, 5)), newer, SHORT)
    with pytest.raises(DataError, match="not that of the panel"):
        measure_fragility(panel.select(("I000", "I001")), newer, SHORT)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_observations": 64},
        {"tail_fraction": 0.9},
        {"scenario_lookback": 60},
        {"tail_weight": 0.0, "trend_weight": 0.0, "scenario_weight": 0.0},
        {"class_thresholds": (0.3, 0.8, 0.7)},
        {"horizons": 21},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        FragilityParams(**settings)
