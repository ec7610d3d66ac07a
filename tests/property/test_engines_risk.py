"""Whatever a book asks for and whatever it held: every limit holds, and the figures add up."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prometheus_nt.domain.books import BookTarget
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.risk import RiskParams, apply_limits
from prometheus_nt.engines.turnover import one_way_turnover

NAMES = 24
SLACK = 1e-8
SEEDS = st.integers(0, 2**32 - 1)
WEIGHTS = arrays(np.float64, NAMES, elements=st.floats(-2.0, 2.0) | st.sampled_from([np.nan, 0.0]))


def _fraction(low, high):
    return st.none() | st.floats(low, high, allow_subnormal=False)


PARAMS = st.builds(
    RiskParams,
    max_abs_weight_per_name=st.floats(0.01, 1.0),
    max_gross=st.floats(0.1, 3.0),
    long_only=st.booleans(),
    max_sector_weight=_fraction(0.05, 1.0),
    max_net=_fraction(0.0, 1.0),
    min_net=_fraction(-1.0, 0.0),
    max_liquidation_days=_fraction(0.1, 5.0),
    max_stress_loss=_fraction(0.01, 0.5),
    drawdown_breaker=st.none() | st.just(-0.1),
    breaker_gross=st.floats(0.0, 1.0),
    max_turnover=_fraction(0.05, 2.0),
    risk_lookback=st.just(90),
    min_risk_sessions=st.just(30),
)


def _books(panel, equity=5e7, drawdown=0.0):
    return replace(Ledger(panel.instruments, equity).state(panel.as_of, "BOOK"), drawdown=drawdown)


def _book(panel, weights):
    return BookTarget(panel.as_of, "BOOK", panel.instruments, weights, None, ())


def _same(left, right):
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right, equal_nan=True)
    if is_dataclass(left):
        return all(_same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    # By their text, so that two NaN are one value.
    return repr(left) == repr(right)


@given(wanted=WEIGHTS, held=WEIGHTS, params=PARAMS, drawdown=st.sampled_from([0.0, -0.2, np.nan]))
@settings(max_examples=150, deadline=None)
def test_every_limit_holds_for_any_book_and_any_past(
    synthetic_panel, wanted, held, params, drawdown
):
    panel = synthetic_panel(3)
    yesterday = panel.until(panel.sessions[-2].astype(object))
    free = RiskParams(max_abs_weight_per_name=1.0, max_gross=5.0, long_only=False)
    before = apply_limits(yesterday, _book(yesterday, held / 10.0), free)

    target = apply_limits(
        panel,
        _book(panel, wanted),
        params,
        books=_books(panel, drawdown=drawdown),
        previous=before,
    )

    weights, absolute = target.weights, np.abs(target.weights)
    assert np.isfinite(weights).all()
    assert not params.long_only or (weights >= 0.0).all()
    assert (absolute <= params.max_abs_weight_per_name).all()
    assert absolute.sum() <= params.max_gross + SLACK
    assert params.max_net is None or weights.sum() <= params.max_net + SLACK
    assert params.min_net is None or weights.sum() >= params.min_net - SLACK
    for name in set(panel.sectors):
        inside = np.array([one == name for one in panel.sectors])
        assert params.max_sector_weight is None or (
            absolute[inside].sum() <= params.max_sector_weight + SLACK
        )
    if params.max_liquidation_days is not None:
        usual = (panel.close * panel.volume)[-21:]
        known = np.isfinite(usual).sum(axis=0) >= 11
        mean = np.where(known, np.nansum(usual, axis=0) / np.isfinite(usual).sum(axis=0).clip(1), 0)
        assert (absolute * 5e7 <= params.max_liquidation_days * 0.1 * mean + 1.0).all()
    if params.max_stress_loss is not None:
        assert all(row.pnl >= -params.max_stress_loss - SLACK for row in target.report.stress)
    assert target.breaker_tripped == (params.drawdown_breaker is not None and drawdown != 0.0)
    assert not target.breaker_tripped or absolute.sum() <= params.breaker_gross + SLACK


@given(wanted=WEIGHTS, held=WEIGHTS, cap=st.floats(0.01, 2.0), long_only=st.booleans())
@settings(max_examples=60, deadline=None)
def test_turnover_holds_where_no_other_limit_forces_more(
    synthetic_panel, wanted, held, cap, long_only
):
    panel = synthetic_panel(3)
    free = RiskParams(max_abs_weight_per_name=0.5, max_gross=2.0, long_only=long_only)
    before = apply_limits(panel, _book(panel, held), free)
    wish = apply_limits(panel, _book(panel, wanted), free)

    params = free.model_copy(update={"max_turnover": cap})
    target = apply_limits(panel, _book(panel, wanted), params, previous=before)

    asked = one_way_turnover(wish.weights - before.weights)
    moved = one_way_turnover(target.weights - before.weights)
    assert moved == pytest.approx(min(asked, cap))


@given(seed=SEEDS, weights=WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_tails_are_ordered_and_components_sum_to_the_volatility(synthetic_panel, seed, weights):
    panel = synthetic_panel(seed)
    params = RiskParams(max_gross=3.0, long_only=False, risk_lookback=90, min_risk_sessions=20)

    report = apply_limits(panel, _book(panel, weights), params, books=_books(panel)).report

    found = {(tail.method, tail.sessions, tail.level): tail for tail in report.tails}
    assert len(found) in (0, 12)
    for (method, sessions, level), tail in found.items():
        assert tail.expected_shortfall <= tail.value_at_risk
        deeper = found[method, sessions, 0.99]
        assert level == 0.99 or deeper.value_at_risk <= tail.value_at_risk
    if report.contributions is not None:
        assert report.contributions.component.sum() == pytest.approx(report.volatility)
    assert 0.0 <= report.herfindahl <= 1.0 + SLACK
    assert all(0.0 <= row.covered <= 1.0 for row in report.stress)


@given(seed=SEEDS, weights=WEIGHTS, params=PARAMS)
@settings(max_examples=30, deadline=None)
def test_the_order_of_instruments_changes_no_weight_by_a_bit(
    synthetic_panel, seed, weights, params
):
    panel = synthetic_panel(5)
    order = np.random.default_rng(seed).permutation(NAMES)
    moved = replace(
        panel,
        _wall=None,
        instruments=tuple(panel.instruments[column] for column in order),
        sectors=tuple(panel.sectors[column] for column in order),
        **{name: getattr(panel, name)[:, order] for name in PANEL_FIELDS},
    )

    here = apply_limits(panel, _book(panel, weights), params, books=_books(panel))
    there = apply_limits(moved, _book(moved, weights[order]), params, books=_books(moved))

    assert here.weights[order] == pytest.approx(there.weights, rel=0.0, abs=1e-12)
    if params.max_stress_loss is None:
        # The panel's mean return, which stress reads, is rounded in the order of its columns.
        assert np.array_equal(here.weights[order], there.weights)
        assert repr(here.actions) == repr(there.actions)
        for name in ("gross_exposure", "net_exposure", "herfindahl", "exposures_by_sector"):
            assert getattr(here.report, name) == getattr(there.report, name)
    for left, right in zip(here.report.tails, there.report.tails, strict=True):
        assert left[3:] == pytest.approx(right[3:], abs=1e-12)


@given(seed=SEEDS, weights=WEIGHTS, row=st.integers(61, 140), params=PARAMS)
@settings(max_examples=25, deadline=None)
def test_nothing_depends_on_a_later_row(synthetic_panel, seed, weights, row, params):
    panel = synthetic_panel(seed)
    as_of = panel.sessions[row].astype(object)
    rng, junk = np.random.default_rng(seed), {}
    for name in PANEL_FIELDS:
        junk[name] = getattr(panel, name).copy()
        later = junk[name][row + 1 :]
        later[:] = np.where(rng.random(later.shape) < 0.2, np.nan, rng.uniform(0.1, 9, later.shape))
    cut = {name: getattr(panel, name)[: row + 1].copy() for name in PANEL_FIELDS}
    ends_there = replace(panel, _wall=None, sessions=panel.sessions[: row + 1].copy(), **cut)

    targets = [
        apply_limits(view, _book(view, weights), params, books=_books(view))
        for view in (
            panel.until(as_of),
            replace(panel, _wall=None, **junk).until(as_of),
            ends_there,
        )
    ]

    assert _same(targets[0], targets[1])
    assert _same(targets[0], targets[2])
