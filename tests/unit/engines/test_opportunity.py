from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.engines.opportunity import (
    MODELS,
    ForecastParams,
    OpportunityParams,
    evaluate_opportunity,
    forecast_opportunity,
    opportunity_density,
    opportunity_multiplier,
)

NAN = np.nan
PARAMS = OpportunityParams(
    dispersion_lookback=2,
    horizon=1,
    ic_lookback=2,
    momentum_lookback=2,
    momentum_skip=1,
    min_names=3,
)
FORECAST = ForecastParams(step=1, trend_lookback=2, min_pairs=5, min_clusters=2)


def _sector(order, sessions=6):
    """Three names that earn 1, 2 and 3 % a session; with order -1 their ranking turns in two."""
    returns = np.tile([0.01, 0.02, 0.03], (sessions, 1))
    if order < 0:
        turned = np.arange(sessions) % 4 >= 2
        returns[turned] = returns[turned, ::-1]
    return 10.0 * np.cumprod(1.0 + returns, axis=0)


def test_density_is_dispersion_times_past_information_coefficient(panel_of):
    close = np.concatenate((_sector(1), _sector(-1)), axis=1)
    panel = panel_of(close, sectors=("A",) * 3 + ("B",) * 3)

    density = opportunity_density(panel, PARAMS)

    # A coefficient needs three earlier closes, and half of the two days it is averaged over.
    assert np.isnan(density[:3]).all()
    assert np.allclose(density[3:], [[0.01, -0.01]] * 3)


def test_a_sector_of_too_few_names_says_nothing(panel_of):
    panel = panel_of(_sector(1)[:, :2], sectors=("A", "A"))

    assert np.isnan(opportunity_density(panel, PARAMS)).all()
    assert opportunity_multiplier(panel, 1.0, PARAMS).tolist() == [1.0, 1.0]


def test_the_multiplier_stays_within_its_weight(panel_of):
    close = np.concatenate((_sector(-1), _sector(1), _sector(1)), axis=1)
    panel = panel_of(close, sectors=("B",) * 3 + ("A",) * 3 + (None,) * 3)

    multiplier = opportunity_multiplier(panel, 0.3, PARAMS)

    assert np.allclose(multiplier, [0.7] * 3 + [1.3] * 3 + [1.0] * 3)


def test_without_sectors_there_is_no_opportunity_to_compare(panel_of):
    assert opportunity_multiplier(panel_of(_sector(1)), 0.3, PARAMS).tolist() == [1.0] * 3


def test_the_order_of_instruments_does_not_matter(panel_of, random_close):
    close = random_close(1, 60, 12)
    order = np.random.default_rng(1).permutation(12)
    sectors = tuple("AB"[name % 2] for name in range(12))
    names = tuple(f"I{name:03d}" for name in range(12))
    panel = panel_of(close, sectors=sectors)
    moved = panel.select(tuple(names[name] for name in order))

    left, right = opportunity_density(panel, PARAMS), opportunity_density(moved, PARAMS)

    assert np.isfinite(left[30:]).any()
    assert np.array_equal(left, right, equal_nan=True)


def test_a_later_row_changes_no_density_and_no_forecast(panel_of, random_close):
    close = random_close(2, 60, 12)
    sectors = tuple("AB"[name % 2] for name in range(12))
    changed = close.copy()
    changed[40:] *= np.random.default_rng(3).uniform(0.5, 2.0, changed[40:].shape)

    before, after = (
        opportunity_density(panel_of(prices, sectors=sectors), PARAMS)
        for prices in (close, changed)
    )

    assert np.array_equal(before[:40], after[:40], equal_nan=True)
    assert not np.array_equal(before[40:], after[40:], equal_nan=True)
    forecasts = forecast_opportunity(before, FORECAST), forecast_opportunity(after, FORECAST)
    for model in MODELS:
        left, right = (forecast[model][:40] for forecast in forecasts)
        assert np.isfinite(left).any(), model
        assert np.array_equal(left, right, equal_nan=True), model


def test_the_models_forecast_what_they_say():
    # Each follows x' = 1 + x / 2: the regressions find it, the others do not.
    history = np.empty((12, 3))
    history[0] = [0.0, 8.0, 30.0]
    for row in range(1, 12):
        history[row] = 1.0 + 0.5 * history[row - 1]

    forecasts = forecast_opportunity(history, FORECAST)

    assert (forecasts["persistence"] == history).all()
    assert np.allclose(forecasts["cluster_mean"][3], history[:4].mean(axis=0))
    assert np.isnan(forecasts["global_ar1"][1]).all()
    assert np.allclose(forecasts["global_ar1"][3:], 1.0 + 0.5 * history[3:])
    assert np.allclose(forecasts["global_linear"][5:], 1.0 + 0.5 * history[5:])


def test_quality_of_a_forecast_that_is_always_right():
    history = np.tile([1.0, 2.0, 3.0, 6.0], (10, 1))

    quality = {one.model: one for one in evaluate_opportunity(history, FORECAST)}

    assert tuple(quality) == tuple(MODELS)
    best = quality["persistence"]
    # The regressions need three rows: with the trend, a step before and five pairs.
    assert best.observations == quality["global_linear"].observations > 0
    assert best.pearson == pytest.approx(1.0)
    assert best.spearman == pytest.approx(1.0)
    assert best.uplift == pytest.approx(6.0 - 3.0)
    assert best.uplift_standard_error == pytest.approx(0.0)


def test_uplift_has_the_standard_error_of_its_mean():
    # The first cluster is forecast best; it gains 3 and 1 over the mean, turn by turn.
    history = np.array([[8.0, 2.0, 2.0, 4.0], [4.0, 1.0, 3.0, 3.5]] * 6)
    params = FORECAST.model_copy(update={"min_pairs": 8})

    persistence = evaluate_opportunity(history, params)[0]

    gains = np.array([8.0 - 4.0, 4.0 - 2.875])
    sessions = persistence.observations // 4
    each = np.resize(gains if sessions % 2 == 0 else gains[::-1], sessions)
    assert persistence.uplift == pytest.approx(each.mean(), abs=0.2)
    assert persistence.uplift_standard_error == pytest.approx(
        each.std(ddof=1) / np.sqrt(sessions), rel=1e-9
    )


@pytest.mark.parametrize(
    "history", [np.zeros((0, 3)), np.ones((1, 3)), np.full((30, 3), NAN), np.zeros((30, 1))]
)
def test_what_cannot_be_judged_is_unknown(history):
    for quality in evaluate_opportunity(history, FORECAST):
        assert np.isnan(quality.pearson)
        assert np.isnan(quality.uplift)


def test_momentum_without_a_lookback_is_refused():
    with pytest.raises(ValidationError, match="momentum_skip"):
        OpportunityParams(momentum_lookback=21, momentum_skip=21)


def test_a_session_counts_those_who_were_known_to_be_members_then(panel_of, random_close):
    close = random_close(9, 60, 12)
    before, after = ("A",) * 6 + ("B",) * 6, ("C",) * 4 + ("A",) * 4 + ("B",) * 4
    panel = panel_of(close)
    first, moved = panel.sessions[[0, 40]].astype(object)
    history = SectorHistory.of({first: before, moved: after})
    dated = replace(panel, sector_history=history, _wall=None)

    density = opportunity_density(dated, PARAMS)

    early = opportunity_density(panel_of(close, sectors=before), PARAMS)
    late = opportunity_density(panel_of(close, sectors=after), PARAMS)
    assert dated.sector_history.names == ("A", "B", "C")
    assert np.array_equal(density[:40, :2], early[:40], equal_nan=True)
    assert np.isnan(density[:40, 2]).all()
    # Two sessions are averaged: one after the change, none is of the old members.
    assert np.allclose(density[42:], late[42:], atol=1e-15, equal_nan=True)
    view = dated.until(panel.sessions[39].astype(object))
    static = panel_of(close[:40], sectors=before)
    assert np.array_equal(
        opportunity_multiplier(view, 0.5, PARAMS), opportunity_multiplier(static, 0.5, PARAMS)
    )
