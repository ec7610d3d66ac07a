"""Invariants of the engines: limits hold, order does not matter, tomorrow does not matter."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prometheus_nt.domain.books import BookTarget
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.assessment import AssessmentParams, assess
from prometheus_nt.engines.clusters import ClusterParams
from prometheus_nt.engines.natural_selection import NaturalParams
from prometheus_nt.engines.numerics.weights import waterfill
from prometheus_nt.engines.opportunity import OpportunityParams
from prometheus_nt.engines.portfolio import PortfolioParams, SolverParams, build_book
from prometheus_nt.engines.risk import RiskParams, apply_limits
from prometheus_nt.engines.stability import StabilityParams, measure_stability
from prometheus_nt.engines.universe import UniverseParams, select_universe

STABILITY = StabilityParams(lookback=21, min_observations=12)
ASSESSMENT = AssessmentParams(momentum_lookback=60, momentum_skip=5, reversal_lookback=5)
UNIVERSE = UniverseParams(
    max_size=12,
    min_history_sessions=40,
    min_dollar_volume=1e5,
    liquidity_lookback=10,
    exclude=("N05.US",),
)
RISK = RiskParams(
    max_abs_weight_per_name=0.12, max_sector_weight=0.4, risk_lookback=90, min_risk_sessions=30
)
DEMANDING = UniverseParams(
    max_size=8,
    min_history_sessions=20,
    sector_max_names=4,
    hysteresis_buffer=3,
    lambda_weight=0.5,
    opportunity=OpportunityParams(
        horizon=5, ic_lookback=20, momentum_lookback=20, momentum_skip=2, min_names=3
    ),
)
NATURAL = UniverseParams(
    min_history_sessions=20,
    selection="natural",
    natural=NaturalParams(
        lookback=40,
        path_lookback=60,
        momentum_check_lookback=20,
        min_recent_return=-0.2,
        min_names=6,
        max_names=8,
        names_per_cluster=1,
        friction_hurdle=-2.0,
        clusters=ClusterParams(lookbacks=(30, 60), max_clusters=6),
        cluster_refresh=10,
    ),
)
BOOKS = {
    "score": PortfolioParams(max_names=8, max_weight=0.15),
    "equal": PortfolioParams(weighting="equal", max_weight=0.05),
    "inverse_volatility": PortfolioParams(weighting="inverse_volatility", volatility_lookback=20),
    "min_variance": PortfolioParams(
        weighting="min_variance",
        max_weight=0.3,
        solver=SolverParams(lookback=60, min_observations=30, max_sector_weight=0.5),
    ),
    "two_level": PortfolioParams(
        weighting="hrp",
        max_weight=0.2,
        solver=SolverParams(lookback=60, min_observations=30, two_level=True),
    ),
}
LONG_SHORT = PortfolioParams(
    construction="long_short",
    weighting="risk_budgeting",
    max_names=6,
    max_names_short=6,
    beta_neutral=True,
    solver=SolverParams(lookback=60, min_observations=30, volatility_target=0.1),
)
SEEDS = st.integers(0, 2**32 - 1)


def _day(panel, weighting="score"):
    """Every record of one session."""
    stability = measure_stability(panel, STABILITY)
    scores = assess(panel, stability, ASSESSMENT)
    universe = select_universe(panel, stability, scores, UNIVERSE)
    book = build_book(panel, universe, scores, {**BOOKS, "long_short": LONG_SHORT}[weighting])
    return stability, scores, universe, book, apply_limits(panel, book, RISK)


def _same(left, right):
    """Equal to the last bit, NaN equal to NaN."""
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)
    if is_dataclass(left):
        return all(_same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


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


def _permuted(panel, order):
    moved = {name: getattr(panel, name)[:, order] for name in PANEL_FIELDS}
    return replace(
        panel,
        _wall=None,
        instruments=tuple(panel.instruments[column] for column in order),
        sectors=tuple(panel.sectors[column] for column in order),
        **moved,
    )


@pytest.mark.parametrize("weighting", [*BOOKS, "long_short"])
@given(seed=SEEDS, row=st.integers(61, 140))
@settings(max_examples=8, deadline=None)
def test_no_record_depends_on_a_later_row(synthetic_panel, weighting, seed, row):
    panel = synthetic_panel(seed)
    as_of = panel.sessions[row].astype(object)

    known = _day(panel.until(as_of), weighting)

    with np.errstate(all="ignore"):
        junk = _with_random_future(panel, row, seed)
        after_junk = _day(junk.until(as_of), weighting)
    assert _same(known, after_junk)


def _universes(panel, params):
    """The universes of two sessions, the second one with the first as feedback."""
    made = [None]
    for session in panel.sessions[-2:]:
        view = panel.until(session.astype(object))
        stability = measure_stability(view, STABILITY)
        scores = assess(view, stability, ASSESSMENT)
        made.append(select_universe(view, stability, scores, params, previous=made[-1]))
    return made[1:]


@pytest.mark.parametrize("params", [DEMANDING, NATURAL], ids=["demanding", "natural"])
@given(seed=SEEDS, row=st.integers(70, 140))
@settings(max_examples=6, deadline=None)
def test_no_universe_depends_on_a_later_row_or_on_the_order_of_names(
    synthetic_panel, params, seed, row
):
    panel = synthetic_panel(seed)
    as_of = panel.sessions[row].astype(object)
    order = np.random.default_rng(seed).permutation(len(panel.instruments))

    known = _universes(panel.until(as_of), params)

    with np.errstate(all="ignore"):
        after_junk = _universes(_with_random_future(panel, row, seed).until(as_of), params)
    assert all(_same(left, right) for left, right in zip(known, after_junk, strict=True))
    moved = _universes(_permuted(panel, order).until(as_of), params)
    for left, right in zip(known, moved, strict=True):
        assert left.relaxation_stage == right.relaxation_stage
        for name in ("score", "included", "tier", "exclusion", "clusters"):
            straight, other = getattr(left, name), getattr(right, name)
            if straight is not None:
                assert np.array_equal(straight[order], other, equal_nan=name == "score"), name
    assert all(universe.included.sum() <= params.max_size for universe in known)


@given(seed=SEEDS, row=st.integers(61, 140))
@settings(max_examples=8, deadline=None)
def test_a_view_equals_a_panel_that_ends_there(synthetic_panel, seed, row):
    panel = synthetic_panel(seed)
    cut = {name: getattr(panel, name)[: row + 1].copy() for name in PANEL_FIELDS}
    ends_there = replace(panel, _wall=None, sessions=panel.sessions[: row + 1].copy(), **cut)

    assert _same(_day(panel.until(ends_there.as_of)), _day(ends_there))


@pytest.mark.parametrize("weighting", [*BOOKS, "long_short"])
@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_the_order_of_instruments_does_not_matter(synthetic_panel, weighting, seed):
    panel = synthetic_panel(seed)
    order = np.random.default_rng(seed).permutation(len(panel.instruments))

    permuted = _permuted(panel, order)
    for record, moved in zip(_day(panel, weighting), _day(permuted, weighting), strict=True):
        for field in fields(record):
            before, after = getattr(record, field.name), getattr(moved, field.name)
            if not isinstance(before, np.ndarray):
                continue
            if before.shape != order.shape:
                assert np.array_equal(before, after), field.name
            elif before.dtype == np.float64:
                assert np.allclose(before[order], after, rtol=0, atol=1e-12, equal_nan=True)
            else:
                assert (before[order] == after).all(), field.name


@pytest.mark.parametrize("weighting", BOOKS)
@given(seed=SEEDS, names=st.integers(1, 12))
@settings(max_examples=10, deadline=None)
def test_weights_are_finite_within_limits_and_sum_to_one_with_cash(
    synthetic_panel, weighting, seed, names
):
    panel = synthetic_panel(seed, sessions=70, names=24)
    few = np.random.default_rng(seed).permutation(24)[:names]

    *_, universe, book, target = _day(_permuted(panel, few), weighting)

    params = BOOKS[weighting]
    assert (book.weights <= params.max_weight).all()
    assert 0.0 <= book.weights.sum() <= 1.0 - params.cash_buffer + 1e-12
    assert not book.weights[~universe.included].any()
    assert (target.weights >= 0.0).all()
    assert (target.weights <= RISK.max_abs_weight_per_name).all()
    assert target.weights.sum() + target.report.cash_weight == pytest.approx(1.0, abs=1e-12)


@given(
    weights=arrays(np.float64, st.integers(1, 30), elements=st.floats(width=64)),
    cap=st.floats(0.0, 1.0, allow_subnormal=False),
    gross=st.floats(0.0, 2.0, allow_subnormal=False),
    sector=st.none() | st.floats(0.0, 1.0, allow_subnormal=False),
    long_only=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_book_whatever_it_asks_gets_past_a_limit(
    synthetic_panel, weights, cap, gross, sector, long_only
):
    panel = _permuted(synthetic_panel(1, sessions=40, names=30), np.arange(len(weights)))
    book = BookTarget(panel.as_of, "BOOK", panel.instruments, weights, None, ())
    params = RiskParams(
        max_abs_weight_per_name=cap,
        max_gross=gross,
        long_only=long_only,
        max_sector_weight=sector,
    )

    target = apply_limits(panel, book, params)

    absolute = np.abs(target.weights)
    assert np.isfinite(target.weights).all()
    assert (absolute <= cap).all()
    assert absolute.sum() <= gross * (1.0 + 1e-8)
    assert not long_only or (target.weights >= 0.0).all()
    for name in set(panel.sectors):
        inside = np.array([one == name for one in panel.sectors])
        assert sector is None or absolute[inside].sum() <= sector * (1.0 + 1e-8)
    touched = {action.instrument_id for action in target.actions}
    changed = ~((target.weights == weights) | (np.isnan(weights) & np.isnan(target.weights)))
    assert touched >= {panel.instruments[row] for row in np.flatnonzero(changed)}


@given(
    raw=arrays(np.float64, st.integers(1, 12), elements=st.floats(0.0, 1e6)),
    cap=st.floats(0.001, 1.0),
    total=st.floats(0.01, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_waterfill_equals_pinning_one_name_after_the_other(raw, cap, total):
    raw = np.where(raw < 1e-3, 0.0, raw)

    weights = waterfill(raw, cap, total)

    assert (weights <= cap).all()
    assert weights.sum() <= total + 1e-12
    assert np.allclose(weights, _pinned(raw, cap, total), rtol=1e-9, atol=1e-12)
    assert weights.sum() == pytest.approx(min(total, cap * np.count_nonzero(raw)))


def _pinned(raw, cap, total):
    pinned = np.zeros(len(raw), dtype=bool)
    while True:
        free = np.where(pinned, 0.0, raw)
        left = total - cap * pinned.sum()
        if not free.any() or left <= 0.0:
            return np.where(pinned, cap, 0.0)
        weights = np.where(pinned, cap, free * left / free.sum())
        above = weights > cap
        if not above.any():
            return weights
        pinned |= above
