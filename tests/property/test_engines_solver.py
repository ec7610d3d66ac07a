"""Invariants of the solver: limits hold, nothing is invented, order does not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.engines.constraints import Bounds, LinearLimit, placed, projected
from prometheus_nt.engines.solver import SolverSpec, solve
from prometheus_nt.engines.turnover import TurnoverLimit, one_way_turnover

METHODS = (
    "equal",
    "inverse_volatility",
    "hrp",
    "min_variance",
    "max_ratio",
    "risk_budgeting",
    "max_diversification",
)
SEEDS = st.integers(0, 2**32 - 1)


def _returns(rng, sessions, names):
    market = rng.normal(0.0002, 0.008, (sessions, 1))
    return market + rng.normal(0.0, 0.01, (sessions, names)) * rng.uniform(0.1, 3.0, names)


def _spec(rng, method, names):
    """Limits of every kind, some of them impossible."""
    sector = rng.integers(0, 3, names)
    limits = tuple(
        LinearLimit(f"sector:{number}", (sector == number) * 1.0, rng.uniform(0.1, 0.9))
        for number in range(3)
    )
    fragility = LinearLimit("fragility", rng.uniform(0.0, 1.0, names), rng.uniform(0.1, 0.8))
    style, most = rng.normal(0.0, 1.0, names), rng.uniform(0.05, 1.0)
    factor = LinearLimit("factor", style, most), LinearLimit("-factor", -style, most)
    return SolverSpec(
        method,
        total=rng.uniform(0.3, 1.0),
        cap=rng.uniform(0.05, 0.6, names) if rng.random() < 0.3 else rng.uniform(0.05, 1.0),
        limits=(*limits, fragility, *factor) if rng.random() < 0.6 else (),
        max_turnover=rng.uniform(0.05, 0.5) if rng.random() < 0.5 else None,
        volatility_target=rng.uniform(0.05, 0.3) if rng.random() < 0.3 else None,
        clusters=rng.integers(0, 4, names) if rng.random() < 0.3 else None,
        cluster_cap=rng.uniform(0.1, 0.5),
    )


def _spoil(rng, returns):
    """Write something nasty into some of the returns."""
    for column in range(returns.shape[1]):
        match rng.integers(0, 10):
            case 0:
                returns[:, column] = np.nan
            case 1:
                returns[:, column] = 0.0
            case 2:
                returns[:, column] = returns[:, 0]
            case 3:
                returns[rng.integers(len(returns)), column] = np.inf
            case 4:
                returns[:, column] *= 1e-9
            case 5:
                returns[rng.random(len(returns)) < 0.05, column] = np.nan
    return returns


def _assert_within(result, spec):
    weights = result.weights
    assert np.isfinite(weights).all()
    assert (weights >= 0.0).all()
    assert (weights <= np.asarray(spec.cap)).all() or weights.max() - np.max(spec.cap) <= 1e-12
    assert weights.sum() + result.cash == pytest.approx(1.0, abs=1e-12)
    assert weights.sum() <= spec.total + 1e-9
    for limit in spec.limits:
        assert limit.coefficients @ weights <= limit.upper + 1e-9
    for name, slack in result.slack.items():
        assert slack >= -1e-9 or name in result.relaxed


@pytest.mark.parametrize("method", METHODS)
@given(seed=SEEDS, sessions=st.sampled_from([2, 10, 40, 90]), names=st.integers(1, 14))
@settings(max_examples=12, deadline=None)
def test_whatever_is_given_the_weights_are_within_every_limit(method, seed, sessions, names):
    rng = np.random.default_rng(seed)
    returns = _spoil(rng, _returns(rng, sessions, names))
    spec = _spec(rng, method, names)

    first = solve(spec, returns)
    second = solve(spec, returns[::-1], first.weights)

    for result in (first, second):
        _assert_within(result, spec)
        unusable = result.unusable & (result.weights > 0.0)
        assert result.method == "previous" or not unusable.any()


@pytest.mark.parametrize("method", METHODS)
@given(seed=SEEDS, names=st.integers(2, 12))
@settings(max_examples=8, deadline=None)
def test_the_order_of_names_does_not_matter(method, seed, names):
    rng = np.random.default_rng(seed)
    returns, order = _returns(rng, 60, names), rng.permutation(names)
    expected, previous = rng.normal(0.0, 0.001, names), rng.dirichlet(np.ones(names))
    group = rng.integers(0, 2, names)
    clusters = rng.integers(0, 3, names) if names > 6 else None

    def solved(columns):
        spec = SolverSpec(
            method,
            cap=0.7,
            limits=(LinearLimit("group", (group[columns] == 1) * 1.0, 0.6),),
            expected_returns=expected[columns],
            max_turnover=0.3,
            clusters=None if clusters is None else clusters[columns],
        )
        return solve(spec, returns[:, columns], previous[columns])

    here, there = solved(np.arange(names)), solved(order)

    assert (here.weights[order] == there.weights).all()
    assert here.method == there.method
    assert here.slack == there.slack


@pytest.mark.parametrize("method", METHODS)
@given(seed=SEEDS, limit=st.floats(0.01, 0.5))
@settings(max_examples=8, deadline=None)
def test_turnover_keeps_its_limit_wherever_the_book_comes_from(method, seed, limit):
    rng = np.random.default_rng(seed)
    returns, previous = _returns(rng, 60, 8), 0.95 * rng.dirichlet(np.ones(8))
    cap = max(0.3, previous.max())

    result = solve(SolverSpec(method, total=0.95, cap=cap, max_turnover=limit), returns, previous)

    assert one_way_turnover(result.weights - previous) <= limit + 1e-9
    assert result.relaxed == ()


@pytest.mark.parametrize("method", METHODS)
@given(
    seed=SEEDS,
    limit=st.floats(0.01, 0.5),
    target=st.floats(0.03, 0.3),
    held=st.floats(0.05, 1.0),
    shift=st.floats(0.3, 3.0),
)
@settings(max_examples=12, deadline=None)
def test_a_volatility_target_goes_before_turnover_and_what_gives_way_is_said(
    method, seed, limit, target, held, shift
):
    rng = np.random.default_rng(seed)
    spec = SolverSpec(method, cap=0.4, max_turnover=limit, volatility_target=target)
    before = _returns(rng, 60, 8)
    previous = held * solve(spec, before).weights

    result = solve(spec, shift * before + _returns(rng, 60, 8), previous)

    traded = one_way_turnover(result.weights - previous)
    assert result.volatility <= target * (1.0 + 1e-9)
    assert (traded > limit + 1e-9) == ("max_turnover" in result.relaxed)
    assert result.slack["max_turnover"] == pytest.approx(limit - traded, abs=1e-9)
    if result.relaxed:
        assert result.relaxed == ("max_turnover",)
        assert result.volatility == pytest.approx(target)
        assert result.weights.sum() < previous.sum()


@given(seed=SEEDS, names=st.integers(1, 9), limit=st.floats(0.001, 1.5))
@settings(max_examples=60, deadline=None)
def test_the_part_that_may_be_traded_is_the_largest_there_is(seed, names, limit):
    rng = np.random.default_rng(seed)
    weights, held = rng.normal(0.0, 0.3, names), rng.normal(0.0, 0.3, names)
    elsewhere = rng.choice([0.0, 0.2])
    turnover = TurnoverLimit(limit, held, elsewhere)
    grid = np.linspace(0.0, 1.0, 2001)
    asked = np.array([turnover.turnover(part * weights) for part in grid])

    part = turnover.part(weights)

    if (asked <= limit).any():
        assert turnover.turnover(part * weights) <= limit + 1e-12
        assert part >= grid[asked <= limit].max() - 1e-12
    else:
        assert turnover.turnover(part * weights) <= asked.min() + 1e-12


@given(seed=SEEDS, names=st.integers(1, 12), total=st.floats(0.05, 1.0))
@settings(max_examples=100, deadline=None)
def test_placing_equals_pinning_one_name_after_the_other(seed, names, total):
    rng = np.random.default_rng(seed)
    raw = np.where(rng.random(names) < 0.2, 0.0, rng.uniform(0.01, 10.0, names))
    caps = rng.uniform(0.0, 0.5, names)

    weights = placed(raw, caps, total)

    assert (weights <= caps).all()
    assert weights.sum() == pytest.approx(min(total, caps[raw > 0.0].sum()))
    free = (raw > 0.0) & (weights < caps * (1.0 - 1e-9))
    scale = weights[free] / raw[free]
    assert np.allclose(scale, scale[:1])
    # A capped name would have had more.
    assert not free.any() or (weights <= raw * scale[0] * (1.0 + 1e-9)).all()


@given(seed=SEEDS, names=st.integers(3, 12))
@settings(max_examples=30, deadline=None)
def test_a_projection_leaves_what_is_within_bounds_and_moves_nothing_twice(seed, names):
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.ones(names))
    coefficients = rng.uniform(0.0, 1.0, names)
    limit = LinearLimit("limit", coefficients, float(coefficients @ inside) + 0.01)
    bounds = Bounds(1.0, np.full(names, inside.max() + 0.01), (limit,))

    there = projected(inside + rng.normal(0.0, 0.2, names), bounds)

    assert (projected(inside, bounds) == inside).all()
    assert bounds.broken(there) == ()
    assert (projected(there, bounds) == there).all()
