"""Invariants of the regime: tomorrow does not matter, nor does the order of the instruments."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.market import RegimeLabel
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.regime import RegimeParams, classify_regime

PARAMS = RegimeParams(
    trend_lookback=20,
    volatility_lookback=10,
    drawdown_lookback=30,
    breadth_lookback=15,
    dispersion_lookback=5,
    correlation_lookback=20,
    min_history=60,
    refit_every=25,
)
FIRST, LAST = 89, 219
"""Rows: refits are at 89, 114, 139, ..., the panel ends at 219."""
SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.integers(FIRST, LAST - 1)
AROUND_REFITS = (FIRST, FIRST + 1, 113, 114, 115, 138, 139, 140, 214)


def _same(left, right):
    for field in fields(left):
        before, after = getattr(left, field.name), getattr(right, field.name)
        if isinstance(before, np.ndarray):
            assert np.array_equal(before, after), field.name
        else:
            assert before == after, field.name


def _with_random_future(panel, row, seed):
    """The panel with every field of every row after `row` replaced by junk."""
    rng = np.random.default_rng(seed)
    junk = {}
    for name in PANEL_FIELDS:
        array = getattr(panel, name).copy()
        shape = array[row + 1 :].shape
        wild = rng.choice([np.nan, 0.0, -3.0, np.inf, 1e9, 1e-9], shape)
        array[row + 1 :] = np.where(rng.random(shape) < 0.3, wild, rng.uniform(0.1, 5.0, shape))
        junk[name] = array
    return replace(panel, _wall=None, **junk)


def _with_quiet_future(panel, row):
    """The panel with every later session a copy of the one at `row`."""
    still = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in still.values():
        array[row + 1 :] = array[row]
    return replace(panel, _wall=None, **still)


def _ending_at(panel, row):
    cut = {name: getattr(panel, name)[: row + 1].copy() for name in PANEL_FIELDS}
    return replace(panel, _wall=None, sessions=panel.sessions[: row + 1].copy(), **cut)


def _check_that_the_future_does_not_matter(panel, row, seed):
    as_of = panel.sessions[row].astype(object)

    known = classify_regime(panel.until(as_of), PARAMS)

    with np.errstate(all="ignore"):
        junk = _with_random_future(panel, row, seed)
        _same(known, classify_regime(junk.until(as_of), PARAMS))
        _same(known, classify_regime(_with_quiet_future(panel, row).until(as_of), PARAMS))
    _same(known, classify_regime(_ending_at(panel, row), PARAMS))


@pytest.mark.parametrize("row", AROUND_REFITS)
def test_no_later_row_matters_around_a_refit(synthetic_panel, row):
    _check_that_the_future_does_not_matter(synthetic_panel(row, sessions=LAST + 1), row, row)


@given(seed=SEEDS, row=ROWS)
@settings(max_examples=15, deadline=None)
def test_no_later_row_matters(synthetic_panel, seed, row):
    _check_that_the_future_does_not_matter(synthetic_panel(seed, sessions=LAST + 1), row, seed)


def test_no_later_row_matters_with_the_default_settings(synthetic_panel):
    panel, params = synthetic_panel(3, sessions=1100, names=40), RegimeParams()

    for row in (755, 880, 881, 882, 1006, 1007, 1008):
        as_of = panel.sessions[row].astype(object)
        known = classify_regime(panel.until(as_of), params)
        with np.errstate(all="ignore"):
            junk = _with_random_future(panel, row, row)
            _same(known, classify_regime(junk.until(as_of), params))
        _same(known, classify_regime(_ending_at(panel, row), params))


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_the_order_of_instruments_does_not_matter(synthetic_panel, seed):
    panel = synthetic_panel(seed, sessions=LAST + 1)
    order = np.random.default_rng(seed).permutation(len(panel.instruments))
    moved = replace(
        panel,
        _wall=None,
        instruments=tuple(panel.instruments[column] for column in order),
        **{name: getattr(panel, name)[:, order] for name in PANEL_FIELDS},
    )

    state, after = classify_regime(panel, PARAMS), classify_regime(moved, PARAMS)

    assert state.label == after.label
    assert np.allclose(state.probabilities, after.probabilities, rtol=0, atol=1e-9)
    assert np.allclose(state.transition_matrix, after.transition_matrix, rtol=0, atol=1e-9)
    assert after.features == pytest.approx(state.features, abs=1e-9)
    assert after.change_risk == pytest.approx(state.change_risk, abs=1e-9)


@given(seed=SEEDS, row=ROWS)
@settings(max_examples=15, deadline=None)
def test_every_number_is_a_probability_or_finite(synthetic_panel, seed, row):
    panel = synthetic_panel(seed, sessions=LAST + 1)

    state = classify_regime(panel.until(panel.sessions[row].astype(object)), PARAMS)

    assert state.label in RegimeLabel
    assert state.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.allclose(state.transition_matrix.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert (state.transition_matrix.diagonal() > 0.0).all()
    assert all(0.0 <= risk <= 1.0 for risk in state.change_risk.values())
    assert np.isfinite(list(state.features.values())).all()
