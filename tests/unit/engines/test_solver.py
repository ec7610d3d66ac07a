import subprocess
import sys

import cvxpy as cp
import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from prometheus_nt.engines.constraints import LinearLimit
from prometheus_nt.engines.covariance import estimate_moments
from prometheus_nt.engines.solver import SolverSpec, annualised_volatility_of, solve
from prometheus_nt.engines.turnover import one_way_turnover

NAN = np.nan
RISKY = (
    "inverse_volatility",
    "hrp",
    "min_variance",
    "max_ratio",
    "risk_budgeting",
    "max_diversification",
)
METHODS = ("equal", *RISKY)


def _uncorrelated(*sigmas, sessions=80):
    """Returns whose sample correlation is exactly the identity, and mean exactly zero."""
    rows = np.arange(sessions)
    signs = [1.0 - 2.0 * (rows // 2**power % 2) for power in range(len(sigmas))]
    return np.column_stack(signs) * np.array(sigmas)


def _correlated(seed, sessions=252, names=8):
    rng = np.random.default_rng(seed)
    market = rng.normal(0.001, 0.006, (sessions, 1))
    return market + rng.normal(0.0, 0.01, (sessions, names)) * rng.uniform(0.7, 1.5, names)


def _weights(method, returns, **given):
    result = solve(SolverSpec(method, **given), returns)
    assert result.method == method, result.fallbacks
    return result.weights


def test_two_uncorrelated_names_have_least_variance_in_proportion_to_inverse_variance():
    assert _weights("min_variance", _uncorrelated(0.01, 0.02)) == pytest.approx(
        [0.8, 0.2], abs=1e-5
    )


@pytest.mark.parametrize("method", ["inverse_volatility", "risk_budgeting", "max_diversification"])
def test_without_correlation_equal_risk_is_inverse_volatility(method):
    expected = np.array([4.0, 2.0, 1.0]) / 7.0

    assert _weights(method, _uncorrelated(0.01, 0.02, 0.04)) == pytest.approx(expected, abs=1e-5)


def test_without_correlation_the_best_ratio_is_return_over_variance():
    returns = _uncorrelated(0.01, 0.02, 0.04)

    weights = _weights("max_ratio", returns, expected_returns=np.array([0.001, 0.004, 0.008]))

    expected = np.array([10.0, 10.0, 5.0]) / 25.0
    assert weights == pytest.approx(expected, abs=1e-4)


def test_an_interior_minimum_of_variance_is_the_closed_form():
    returns = _correlated(1, names=4)
    inverse = np.linalg.inv(estimate_moments(returns).covariance).sum(axis=1)
    assert (inverse > 0.0).all()

    weights = _weights("min_variance", returns)

    assert weights == pytest.approx(inverse / inverse.sum(), abs=1e-5)


def test_an_interior_best_ratio_is_the_closed_form():
    returns = _correlated(1, names=4)
    moments = estimate_moments(returns)
    expected = np.full(4, 0.001) * moments.volatility
    tangent = np.linalg.solve(moments.covariance, expected)
    assert (tangent > 0.0).all()

    weights = _weights("max_ratio", returns, expected_returns=expected)

    assert weights == pytest.approx(tangent / tangent.sum(), abs=1e-4)


def test_an_interior_maximum_of_diversification_is_the_closed_form():
    returns = _correlated(1, names=4)
    moments = estimate_moments(returns)
    diverse = np.linalg.solve(moments.covariance, moments.volatility)
    assert (diverse > 0.0).all()

    weights = _weights("max_diversification", returns)

    assert weights == pytest.approx(diverse / diverse.sum(), abs=1e-4)


def test_least_variance_within_caps_and_sectors_is_that_of_a_direct_program():
    returns = _correlated(2)
    tech = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    weights = _weights(
        "min_variance", returns, cap=0.2, total=0.9, limits=(LinearLimit("tech", tech, 0.25),)
    )

    w = cp.Variable(8)
    covariance = 1e4 * estimate_moments(returns).covariance
    within = [w >= 0.0, w <= 0.2, cp.sum(w) == 0.9, tech @ w <= 0.25]
    cp.Problem(cp.Minimize(cp.quad_form(w, cp.psd_wrap(covariance))), within).solve(
        solver="CLARABEL"
    )
    assert weights == pytest.approx(w.value, abs=1e-4)


def test_every_name_contributes_the_same_risk():
    returns = _correlated(3)

    weights = _weights("risk_budgeting", returns)

    covariance = estimate_moments(returns).covariance
    contribution = weights * (covariance @ weights) / (weights @ covariance @ weights)
    assert contribution == pytest.approx(np.full(8, 1.0 / 8.0), rel=1e-3)


def test_hierarchical_risk_parity_is_that_of_an_implementation_from_the_paper():
    returns = _correlated(4)

    weights = _weights("hrp", returns)

    assert weights == pytest.approx(_paper_hrp(estimate_moments(returns)), abs=1e-6)


def _paper_hrp(moments):
    """Lopez de Prado (2016): order the leaves, halve, weight the halves by inverse variance."""
    distance = np.sqrt(np.clip((1.0 - moments.correlation) / 2.0, 0.0, None))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="ward", optimal_ordering=True)
    weights = np.ones(len(distance))

    def variance(names):
        inside = moments.covariance[np.ix_(names, names)]
        inverse = 1.0 / np.diag(inside)
        inverse /= inverse.sum()
        return inverse @ inside @ inverse

    groups = [leaves_list(tree)]
    while groups:
        names = groups.pop()
        if len(names) < 2:
            continue
        left, right = names[: len(names) // 2], names[len(names) // 2 :]
        share = variance(right) / (variance(left) + variance(right))
        weights[left] *= share
        weights[right] *= 1.0 - share
        groups += [left, right]
    return weights


@pytest.mark.parametrize("method", METHODS)
def test_no_method_trades_more_than_the_turnover_limit(method):
    returns, rng = _correlated(5), np.random.default_rng(5)
    previous = rng.dirichlet(np.ones(8))
    free = solve(SolverSpec(method, cap=0.4), returns, previous)

    limited = solve(SolverSpec(method, cap=0.4, max_turnover=0.05), returns, previous)

    assert one_way_turnover(free.weights - previous) > 0.05
    assert one_way_turnover(limited.weights - previous) == pytest.approx(0.05, abs=1e-6)
    assert one_way_turnover(limited.weights - previous) <= 0.05 + 1e-9
    assert limited.relaxed == ()
    assert limited.slack["max_turnover"] >= 0.0


def test_within_the_turnover_limit_the_least_variance_is_better_than_a_blend():
    returns, previous = _correlated(6), np.full(8, 0.125)
    covariance = estimate_moments(returns).covariance
    free = solve(SolverSpec("min_variance"), returns, previous).weights

    limited = solve(SolverSpec("min_variance", max_turnover=0.05), returns, previous).weights

    blend = previous + 0.05 / one_way_turnover(free - previous) * (free - previous)
    assert limited @ covariance @ limited < blend @ covariance @ blend * (1.0 - 1e-4)


def test_turnover_gives_way_to_caps_and_says_so():
    previous = np.array([0.7, 0.1, 0.1, 0.1])

    result = solve(
        SolverSpec("min_variance", cap=0.4, max_turnover=0.1), _correlated(7, names=4), previous
    )

    assert result.weights.max() <= 0.4
    assert result.relaxed == ("max_turnover",)
    assert result.slack["max_turnover"] == pytest.approx(-0.2)


def test_sales_elsewhere_use_up_turnover():
    previous = np.full(8, 0.1)
    spec = SolverSpec("hrp", total=1.0, max_turnover=0.22, other_sales=0.2)

    result = solve(spec, _correlated(8), previous)

    sold = np.maximum(previous - result.weights, 0.0).sum()
    assert sold == pytest.approx(0.02, abs=1e-9)
    assert result.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("method", "some"), [("min_variance", 2e-5), ("max_ratio", 2e-4)])
def test_cost_holds_trades_back(method, some):
    returns, previous = _correlated(9), np.full(8, 0.125)

    traded = [
        one_way_turnover(solve(SolverSpec(method, cost=cost), returns, previous).weights - previous)
        for cost in (0.0, some, 1e-2)
    ]

    assert traded[0] > 1.1 * traded[1] > 1.1 * traded[2]
    assert method == "max_ratio" or traded[2] < 1e-6


def test_a_riskier_book_is_scaled_into_cash_and_a_calmer_one_is_not_scaled_up():
    returns = _uncorrelated(0.01, 0.01)
    annual = np.sqrt(252 * 80 / 79 / 2) * 0.01

    half = solve(SolverSpec("equal", volatility_target=annual / 2.0), returns)
    whole = solve(SolverSpec("equal", volatility_target=2.0 * annual), returns)

    assert half.weights == pytest.approx([0.25, 0.25])
    assert half.cash == pytest.approx(0.5)
    assert half.volatility == pytest.approx(annual / 2.0)
    assert whole.weights == pytest.approx([0.5, 0.5])
    assert whole.volatility == pytest.approx(annual)
    assert whole.relaxed == half.relaxed == ()


def test_what_a_volatility_target_took_last_time_is_no_turnover():
    returns = _correlated(10)
    spec = SolverSpec("hrp", volatility_target=0.05, max_turnover=0.05)
    first = solve(spec, returns)

    again = solve(spec, returns, first.weights)

    assert first.weights.sum() < 0.6
    assert again.weights == pytest.approx(first.weights, abs=1e-12)
    assert again.relaxed == ()


def test_a_book_that_became_calmer_grows_back_as_fast_as_turnover_allows():
    returns = _uncorrelated(0.01, 0.01)
    annual = np.sqrt(252 * 80 / 79 / 2) * 0.01
    spec = SolverSpec("equal", volatility_target=annual / 2.0, max_turnover=0.1)
    first = solve(spec, returns)

    calmer = solve(spec, returns / 2.0, first.weights)

    assert first.weights == pytest.approx([0.25, 0.25])
    assert calmer.weights == pytest.approx([0.3, 0.3])
    assert calmer.volatility == pytest.approx(0.6 * annual / 2.0)
    assert calmer.slack["max_turnover"] == pytest.approx(0.0, abs=1e-12)
    assert calmer.relaxed == ()


def test_a_book_that_became_riskier_is_sold_to_its_target_whatever_the_turnover():
    returns = _uncorrelated(0.01, 0.01)
    annual = np.sqrt(252 * 80 / 79 / 2) * 0.01
    spec = SolverSpec("equal", volatility_target=annual / 2.0, max_turnover=0.1)

    riskier = solve(spec, 2.0 * returns, np.array([0.25, 0.25]))

    assert riskier.weights == pytest.approx([0.125, 0.125])
    assert riskier.volatility == annual / 2.0
    assert riskier.slack["max_turnover"] == pytest.approx(0.1 - 0.25)
    assert riskier.relaxed == ("max_turnover",)


def test_a_limit_on_fragility_makes_room_in_the_calm_names():
    fragility = LinearLimit("fragility", np.array([0.9, 0.8, 0.1, 0.1]), 0.3)

    result = solve(SolverSpec("equal", limits=(fragility,)), _correlated(11, names=4))

    assert fragility.coefficients @ result.weights <= 0.3
    assert result.weights[2:].min() > result.weights[:2].max()
    assert result.weights.sum() == pytest.approx(1.0)


def test_infeasible_caps_place_what_fits_and_leave_cash():
    result = solve(SolverSpec("min_variance", cap=0.1), _correlated(12, names=4))

    assert result.weights.tolist() == [0.1] * 4
    assert result.cash == pytest.approx(0.6)
    assert result.relaxed == ("gross",)
    assert (result.method, result.fallbacks) == ("min_variance", ())


def test_infeasible_sectors_place_what_fits_and_leave_cash():
    sectors = (
        LinearLimit("A", np.array([1.0, 1.0, 0.0, 0.0]), 0.2),
        LinearLimit("B", np.array([0.0, 0.0, 1.0, 1.0]), 0.3),
    )

    result = solve(SolverSpec("risk_budgeting", limits=sectors), _correlated(13, names=4))

    assert result.weights.sum() == pytest.approx(0.5, rel=2e-3)
    assert min(result.slack["A"], result.slack["B"]) >= 0.0
    assert result.relaxed == ("gross",)


def test_without_a_positive_expected_return_variance_is_minimised_instead():
    returns = _correlated(14)

    result = solve(SolverSpec("max_ratio", expected_returns=np.full(8, -0.001)), returns)

    assert result.method == "min_variance"
    assert [(one.method, one.reason) for one in result.fallbacks] == [
        ("max_ratio", "no expected return is positive")
    ]
    assert (result.weights == _weights("min_variance", returns)).all()


def test_names_of_unknown_expected_return_have_no_weight_in_the_best_ratio():
    expected = np.array([0.001, NAN, 0.002, 0.001])

    result = solve(SolverSpec("max_ratio", expected_returns=expected), _correlated(15, names=4))

    assert result.weights[1] == 0.0
    assert result.unusable.tolist() == [False, True, False, False]


def test_with_too_few_sessions_to_tell_the_risk_weights_are_equal():
    result = solve(SolverSpec("max_ratio", volatility_target=0.1), _correlated(16, 2, 4))

    assert result.weights.tolist() == [0.25] * 4
    assert [one.method for one in result.fallbacks] == [
        "max_ratio",
        "min_variance",
        "inverse_volatility",
    ]
    assert {one.reason for one in result.fallbacks} == {
        "too few sessions of returns to tell the risk"
    }
    assert result.volatility is None
    assert result.relaxed == ("volatility_target",)


@pytest.mark.parametrize("method", RISKY)
def test_constant_and_unknown_names_get_no_weight_where_risk_decides(method):
    returns = _correlated(17, names=5)
    returns[:, 0] = 0.0
    returns[:, 1] = NAN
    returns[:5, 2] = NAN

    result = solve(SolverSpec(method), returns)

    assert result.method == method
    assert result.unusable.tolist() == [True, True, False, False, False]
    assert result.weights[:2].tolist() == [0.0, 0.0]
    assert result.weights[2] > 0.0
    assert result.weights.sum() == pytest.approx(1.0)


def test_names_that_all_stand_still_have_equal_weights():
    result = solve(SolverSpec("hrp"), np.zeros((100, 4)))

    assert result.method == "equal"
    assert result.weights.tolist() == [0.25] * 4


def test_when_nothing_is_known_the_previous_weights_are_kept():
    unknown, previous = np.full((100, 3), NAN), np.array([0.4, 0.3, 0.2])

    result = solve(SolverSpec("hrp", cap=0.5), unknown, previous)

    assert result.method == "previous"
    assert result.weights.tolist() == previous.tolist()
    assert [one.method for one in result.fallbacks] == ["hrp", "inverse_volatility", "equal"]
    assert result.relaxed == ("gross",)


@pytest.mark.parametrize("previous", [None, np.array([0.6, 0.2, 0.2]), np.array([NAN, 0.1, 0.1])])
def test_previous_weights_that_break_a_limit_are_not_kept(previous):
    result = solve(SolverSpec("hrp", cap=0.5), np.full((100, 3), NAN), previous)

    assert result.method == "cash"
    assert result.weights.tolist() == [0.0, 0.0, 0.0]
    assert result.relaxed == ("gross",)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("names", [0, 1])
def test_none_or_one_name_needs_no_method(method, names):
    result = solve(SolverSpec(method, total=0.9), _correlated(18, 60, 1)[:, :names])

    assert result.weights.tolist() == [0.9] * names
    assert result.method == (method if names else "cash")


def test_on_two_levels_clusters_are_weighed_first_and_then_their_names():
    returns = np.column_stack([_uncorrelated(0.01, 0.02), _uncorrelated(0.04, 0.02)[:, :1]])
    returns[:, 2] = _uncorrelated(0.01, 0.02, 0.04)[:, 2]
    spec = SolverSpec("risk_budgeting", clusters=np.array([0, 0, 1]))

    weights = solve(spec, returns).weights

    inside = np.array([0.8, 0.2])
    stream = np.sqrt((0.8 * 0.01) ** 2 + (0.2 * 0.02) ** 2)
    first = 0.04 / (stream + 0.04)
    assert weights == pytest.approx([*(first * inside), 1.0 - first], abs=1e-5)


def test_a_cluster_takes_no_more_than_its_cap_but_an_equal_share_if_that_is_more():
    returns, clusters = _correlated(19, names=10), np.repeat(np.arange(5), 2)

    capped = solve(SolverSpec("hrp", clusters=clusters, cluster_cap=0.22), returns)
    equal = solve(SolverSpec("hrp", clusters=clusters, cluster_cap=0.15), returns)

    assert np.bincount(clusters, capped.weights).max() <= 0.22 + 1e-9
    assert np.bincount(clusters, equal.weights) == pytest.approx(np.full(5, 0.2), abs=1e-8)
    assert capped.relaxed == equal.relaxed == ()


def test_a_name_in_no_cluster_gets_no_weight():
    clusters = np.array([0, 0, 1, -1])

    result = solve(SolverSpec("min_variance", clusters=clusters), _correlated(20, names=4))

    assert result.weights[3] == 0.0
    assert result.weights.sum() == pytest.approx(1.0)


def test_a_session_without_a_bar_counts_as_no_return():
    returns = _correlated(21, names=3)
    returns[::20, 1] = NAN

    assert (
        _weights("risk_budgeting", returns)
        == _weights("risk_budgeting", np.where(np.isnan(returns), 0.0, returns))
    ).all()


def test_skfolio_is_not_imported_before_a_method_needs_it():
    script = (
        "import sys, numpy as np\n"
        "import prometheus_nt.actors.pipeline\n"
        "from prometheus_nt.engines.solver import SolverSpec, solve\n"
        "solve(SolverSpec('inverse_volatility'), np.eye(60))\n"
        "assert 'skfolio' not in sys.modules\n"
        "solve(SolverSpec('hrp'), np.random.default_rng(1).normal(size=(60, 3)))\n"
        "assert 'skfolio' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_volatility_of_a_book_is_unknown_where_a_held_name_is():
    returns = _uncorrelated(0.01, 0.01)
    listed_late = returns.copy()
    listed_late[: len(returns) // 2, 1] = NAN
    book = np.array([0.5, -0.5])

    known = annualised_volatility_of(book, returns, 20, 0.1)
    unknown = annualised_volatility_of(book, listed_late, 20, 0.1)
    not_held = annualised_volatility_of(np.array([0.5, 0.0]), listed_late, 20, 0.1)

    assert known == pytest.approx(np.sqrt(252 * 80 / 79 / 2) * 0.01)
    assert unknown is None
    assert not_held == pytest.approx(np.sqrt(252 * 80 / 79) * 0.005)


def test_the_volatility_of_a_book_bears_a_few_gaps_that_its_account_does_not_show():
    returns = _uncorrelated(0.01, 0.01)
    returns[3, 0] = NAN

    assert annualised_volatility_of(np.array([0.5, 0.5]), returns, 20, 0.1) > 0.0
    assert annualised_volatility_of(np.array([0.5, 0.5]), returns, 20, 0.0) is None
    assert annualised_volatility_of(np.array([0.5, 0.5]), returns, 200, 0.1) is None
