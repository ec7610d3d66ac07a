"""Invariants of fragility and scenarios: ranges hold, order and tomorrow do not matter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.fragility import FragilityParams, measure_fragility
from prometheus_nt.engines.scenarios import (
    LOWEST_RETURN,
    ScenarioCategory,
    ScenarioParams,
    generate_scenarios,
    path_losses,
    portfolio_pnl,
)
from prometheus_nt.engines.stability import StabilityParams, measure_stability

STABILITY = StabilityParams(lookback=21, min_observations=12)
FRAGILITY = FragilityParams(
    horizon=5,
    drawdown_threshold=0.05,
    tail_lookback=20,
    tail_fraction=0.1,
    trend_lookback=40,
    scenario_lookback=60,
    min_observations=10,
    min_calibration_sessions=30,
)
SEEDS = st.integers(0, 2**32 - 1)
CATEGORIES = st.sampled_from([c for c in ScenarioCategory if c is not ScenarioCategory.NAMED])


def _measures(panel):
    return measure_fragility(panel, measure_stability(panel, STABILITY), FRAGILITY)


def _scenarios(panel, category):
    regime = "CRISIS" if category is ScenarioCategory.REGIME else None
    params = ScenarioParams(
        name="set", category=category, horizon=5, paths=20, min_sessions=10, regime=regime
    )
    labels = ["CRISIS" if row % 2 else "CARRY" for row in range(len(panel))]
    return generate_scenarios(panel, params, np.full(len(panel.instruments), 0.05), labels)


def _rebuilt(panel, rows, junk=None):
    """The panel of the first `rows` sessions; with `junk`, of all, the later ones replaced."""
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    if junk is None:
        cut = {name: array[:rows].copy() for name, array in arrays.items()}
        return replace(panel, _wall=None, sessions=panel.sessions[:rows].copy(), **cut)
    rng = np.random.default_rng(junk)
    for array in arrays.values():
        shape = array[rows:].shape
        wild = rng.choice([np.nan, 0.0, -3.0, np.inf, 1e9, 1e-9], shape)
        array[rows:] = np.where(rng.random(shape) < 0.3, wild, rng.uniform(0.1, 5.0, shape))
    return replace(panel, _wall=None, **arrays)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_every_measure_stays_in_its_range_or_is_unknown(synthetic_panel, seed):
    measures = _measures(synthetic_panel(seed))

    known = np.isfinite(measures.fragility_score)
    score, probability = measures.fragility_score[known], measures.drawdown_probability
    assert ((score > 0.0) & (score <= 1.0)).all()
    assert ((measures.fragility_class == -1) == ~known).all()
    assert set(measures.fragility_class) <= {-1, 0, 1, 2, 3}
    assert np.isnan(probability[~known]).all()
    assert ((probability > 0.0) & (probability < 1.0) | np.isnan(probability)).all()
    for percentiles in measures.components.values():
        inside = percentiles[np.isfinite(percentiles)]
        assert ((inside > 0.0) & (inside <= 1.0)).all()
    for losses in measures.scenario_losses.values():
        assert ((losses >= 0.0) & (losses < 1.0) | np.isnan(losses)).all()
    hints = [template.notional_hint for template in measures.templates]
    assert hints == sorted(hints, reverse=True)
    assert all(0.01 <= hint <= 0.05 for hint in hints)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, order_seed=SEEDS)
def test_the_order_of_the_instruments_only_moves_the_measures(synthetic_panel, seed, order_seed):
    panel = synthetic_panel(seed)
    order = np.random.default_rng(order_seed).permutation(len(panel.instruments))
    moved = _measures(panel.select(tuple(panel.instruments[column] for column in order)))
    measures = _measures(panel)

    for name in ("fragility_score", "drawdown_probability"):
        expected = getattr(measures, name)[order]
        assert np.allclose(getattr(moved, name), expected, rtol=1e-12, equal_nan=True)
    assert np.array_equal(moved.fragility_class, measures.fragility_class[order])
    assert [t.instrument_id for t in moved.templates] == [
        t.instrument_id for t in measures.templates
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # absurd futures overflow
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, row=st.integers(80, 148), junk=st.none() | SEEDS)
def test_no_later_session_reaches_a_measure(synthetic_panel, seed, row, junk):
    panel = synthetic_panel(seed)
    as_of = panel.sessions[row].astype(object)

    expected = _measures(panel.until(as_of))
    found = _measures(_rebuilt(panel, row + 1, junk).until(as_of))

    for name in ("fragility_score", "fragility_class", "drawdown_probability"):
        assert np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=True)
    assert found.templates == expected.templates


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # absurd futures overflow
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, category=CATEGORIES, row=st.integers(60, 148), junk=st.none() | SEEDS)
def test_no_later_session_reaches_a_path(synthetic_panel, seed, category, row, junk):
    panel = synthetic_panel(seed)
    as_of = panel.sessions[row].astype(object)

    expected = _scenarios(panel.until(as_of), category)
    found = _scenarios(_rebuilt(panel, row + 1, junk).until(as_of), category)

    assert found.spec_hash == expected.spec_hash
    assert np.array_equal(found.returns, expected.returns)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, category=CATEGORIES)
def test_a_path_is_known_and_keeps_every_price_positive(synthetic_panel, seed, category):
    scenarios = _scenarios(synthetic_panel(seed), category)

    paths, horizon, names = scenarios.returns.shape
    assert 1 <= paths <= 20
    assert (horizon, names) == (5, 24)
    assert np.isfinite(scenarios.returns).all()
    assert (scenarios.returns >= LOWEST_RETURN).all()
    losses = path_losses(scenarios)
    assert (losses > -1.0).all()
    weights = np.random.default_rng(seed).normal(0.0, 0.1, names)
    assert np.allclose(portfolio_pnl(scenarios, weights), (losses * weights).sum(axis=1))
