import numpy as np
import pytest
from scipy.optimize import minimize

from prometheus_nt.engines.constraints import (
    Bounds,
    LinearLimit,
    placed,
    projected,
)
from prometheus_nt.engines.numerics.weights import waterfill
from prometheus_nt.engines.turnover import one_way_turnover


def _groups(upper, *members):
    size = 1 + max(map(max, members))
    return tuple(
        LinearLimit(f"group:{number}", np.isin(np.arange(size), group).astype(float), upper)
        for number, group in enumerate(members)
    )


def test_with_one_cap_placing_is_the_waterfill():
    raw = np.array([5.0, 1.0, 3.0, 0.0, 2.0])

    assert (placed(raw, np.full(5, 0.3), 1.0) == waterfill(raw, 0.3, 1.0)).all()


def test_with_a_cap_each_what_one_cannot_take_goes_to_the_others_in_proportion():
    weights = placed(np.array([1.0, 2.0, 1.0]), np.array([0.1, 1.0, 1.0]), 1.0)

    assert np.allclose(weights, [0.1, 0.6, 0.3])


def test_what_no_name_can_take_stays_unplaced():
    weights = placed(np.array([1.0, 2.0, 0.0]), np.array([0.1, 0.2, 0.5]), 1.0)

    assert weights.tolist() == [0.1, 0.2, 0.0]


def test_the_projection_is_the_closest_point_as_sequential_programming_finds_it():
    rng = np.random.default_rng(5)
    start = rng.normal(0.1, 0.2, 9)
    bounds = Bounds(0.9, np.full(9, 0.2), _groups(0.3, (0, 1, 2), (3, 4, 5), (6, 7, 8)))
    fragile = LinearLimit("fragility", rng.uniform(0.0, 1.0, 9), 0.45)
    bounds = Bounds(0.9, bounds.caps, (*bounds.linear[:2], fragile))

    weights = projected(start, bounds)

    other = minimize(
        lambda w: 100.0 * ((w - start) ** 2).sum(),
        np.full(9, 0.1),
        bounds=[(0.0, 0.2)] * 9,
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 0.9},
            *(
                {"type": "ineq", "fun": lambda w, limit=limit: limit.upper - limit.coefficients @ w}
                for limit in bounds.linear
            ),
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert bounds.broken(weights) == ()
    assert np.allclose(weights, other.x, rtol=0, atol=1e-5)


def test_bounds_with_too_little_room_are_fitted_to_it():
    caps = np.full(4, 0.2)
    grouped = Bounds(1.0, caps, _groups(0.3, (0, 1), (2, 3)))

    assert Bounds(1.0, caps).fitted().total == pytest.approx(0.8)
    assert grouped.fitted().total == pytest.approx(0.6, rel=2e-3)
    assert grouped.fitted().total < 0.6


def test_bounds_that_are_met_in_one_point_only_are_not_relaxed():
    tight = Bounds(0.6, np.full(4, 0.2), _groups(0.3, (0, 1), (2, 3))).fitted()

    weights = tight.settled(np.array([0.9, 0.1, 0.0, 0.3]))

    assert tight.total == 0.6
    assert tight.broken(weights) == ()


def test_broken_limits_are_named():
    bounds = Bounds(1.0, np.full(2, 0.6), _groups(0.5, (0,), (1,))[:1])

    assert bounds.broken(np.array([0.7, 0.2])) == ("gross", "cap", "group:0")
    assert bounds.broken(np.array([-0.1, 1.1])) == ("cap", "long_only")
    assert bounds.broken(np.array([0.5, np.nan])) == ("finite",)
    assert bounds.broken(np.array([0.5, 0.5])) == ()


def test_turnover_is_the_larger_of_what_is_bought_and_sold():
    change = np.array([0.3, -0.1, -0.1])

    assert one_way_turnover(change) == pytest.approx(0.3)
    assert one_way_turnover(change, other_sales=0.2) == pytest.approx(0.4)
