import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.meta.allocation import (
    MetaAllocationParams,
    allocate,
    bounds_of,
    slack_of,
    within_bounds,
)


def returns(sleeves=3, sessions=300, seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0005, 0.01, (sessions, sleeves)) * np.linspace(0.5, 2.0, sleeves)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 9), low=st.floats(0.0, 0.1))
def test_weights_within_bounds_sum_to_one_whatever_they_were(seed, count, low):
    raw = np.random.default_rng(seed).dirichlet(np.full(count, 0.2))
    high = max(0.5, 1.0 / count)

    weights = within_bounds(raw, low, high)

    assert min(slack_of(weights, low, high).values()) >= -1e-9


def test_they_are_the_nearest_such_weights_as_a_general_solver_finds():
    raw = np.array([0.90, 0.06, 0.03, 0.01])

    found = minimize(
        lambda w: ((w - raw) ** 2).sum(),
        np.full(4, 0.25),
        bounds=[(0.05, 0.5)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
        method="SLSQP",
        options={"ftol": 1e-14},
    )

    assert within_bounds(raw, 0.05, 0.5) == pytest.approx(found.x, abs=1e-6)


def test_weights_that_keep_their_bounds_stay_as_they_are():
    raw = np.array([0.2, 0.3, 0.5])

    assert within_bounds(raw, 0.05, 0.5) == pytest.approx(raw, abs=1e-12)


@pytest.mark.parametrize(
    "method", ["hrp", "risk_budgeting", "min_variance", "inverse_volatility", "equal"]
)
def test_each_method_gives_bounded_weights_that_prefer_calm_sleeves(method):
    found = allocate(returns(), MetaAllocationParams(method=method))

    assert min(found.slack.values()) >= -1e-9
    assert (found.low, found.high, found.sessions) == (0.05, 0.5, 300)
    assert found.weights[0] >= found.weights[2] - 1e-12
    assert found.method == method
    assert found.effective_number == pytest.approx(1.0 / (found.weights**2).sum())


def test_inverse_volatility_is_that_of_a_hand_computed_case():
    pattern = np.tile([1.0, -1.0], 50)
    calm, wild = 0.01 * pattern, 0.03 * np.repeat([1.0, -1.0], 50)

    found = allocate(
        np.column_stack((calm, wild)), MetaAllocationParams(method="inverse_volatility")
    )

    assert found.raw == pytest.approx([0.75, 0.25])
    assert found.weights == pytest.approx([0.75, 0.25])
    assert found.effective_number == pytest.approx(1.6)


def test_two_sleeves_may_be_less_alike_in_weight_than_three():
    assert bounds_of(2, MetaAllocationParams()) == (0.05, 0.95)
    assert bounds_of(3, MetaAllocationParams()) == (0.05, 0.50)
    assert bounds_of(2, MetaAllocationParams(max_weight=0.6)) == (0.05, 0.6)


@pytest.mark.parametrize(
    ("count", "limits"),
    [(3, {"max_weight": 0.3}), (3, {"min_weight": 0.4}), (21, {}), (4, {"max_weight": 0.24})],
)
def test_bounds_that_no_weights_satisfy_are_refused(count, limits):
    with pytest.raises(MetaFailure, match="never to 1; change") as refused:
        allocate(returns(count), MetaAllocationParams(**limits))

    assert refused.value.code == "META_INFEASIBLE_BOUNDS"


def test_bounds_that_just_one_choice_satisfies_are_met():
    found = allocate(returns(4), MetaAllocationParams(min_weight=0.25, max_weight=0.25))

    assert found.weights == pytest.approx([0.25] * 4)


def test_a_method_that_finds_nothing_is_not_replaced_by_another():
    losing = -np.abs(returns())

    with pytest.raises(MetaFailure, match="no expected return is positive") as refused:
        allocate(losing, MetaAllocationParams(method="max_ratio"))

    assert refused.value.code == "META_SOLVER_FAILED"


def test_a_sleeve_that_never_moved_cannot_be_weighed():
    idle = returns()
    idle[:, 1] = 0.0

    with pytest.raises(MetaFailure, match="1 of 3 members have returns that do not vary"):
        allocate(idle, MetaAllocationParams())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (returns()[:62], "META_SHORT_HISTORY"),
        (returns(3) * np.array([1.0, np.nan, 1.0]), "META_UNKNOWN_RETURNS"),
    ],
)
def test_returns_that_say_too_little_are_refused(given, code):
    with pytest.raises(MetaFailure) as refused:
        allocate(given, MetaAllocationParams())

    assert refused.value.code == code


def test_one_sleeve_has_all_the_weight():
    assert allocate(returns(1), MetaAllocationParams(single=True)).weights.tolist() == [1.0]


def test_limits_in_the_wrong_order_are_told():
    with pytest.raises(ValidationError, match=r"max_weight 0.1 is below min_weight 0.2"):
        MetaAllocationParams(min_weight=0.2, max_weight=0.1)
