from math import exp, log, sqrt
from statistics import NormalDist, fmean, linear_regression, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_nt.reporting import performance as formulas

OF_RETURNS = (
    formulas.annualised_volatility,
    formulas.annualised_sharpe,
    formulas.sortino,
    formulas.value_at_risk,
    formulas.expected_shortfall,
    formulas.tail_ratio,
    formulas.skew,
    formulas.kurtosis,
    formulas.hit_rate,
    formulas.sharpe_standard_error,
    formulas.probabilistic_sharpe_ratio,
)
OF_LEVELS = (
    formulas.cumulative_return,
    formulas.cagr,
    formulas.max_drawdown,
    formulas.longest_drawdown_sessions,
    formulas.calmar,
)
OF_PAIRS = (formulas.beta, formulas.alpha_annual, formulas.correlation)

SEEDS = st.integers(0, 2**32 - 1)


def sample(seed, count=300):
    return np.random.default_rng(seed).standard_t(5, count) * 0.01 + 0.0004


def levels_of(returns):
    return np.concatenate(([1.0], np.cumprod(1.0 + returns)))


# Hand-computed cases.


def test_growth_and_drawdown_of_a_known_path():
    levels = np.array([100.0, 120.0, 60.0, 90.0, 150.0])

    assert formulas.cumulative_return(levels) == pytest.approx(0.5)
    assert formulas.max_drawdown(levels) == pytest.approx(-0.5)
    assert formulas.longest_drawdown_sessions(levels) == 2


def test_a_doubling_over_two_years_grows_by_the_root_of_two():
    levels = np.linspace(1.0, 2.0, 505)

    assert formulas.cagr(levels) == pytest.approx(sqrt(2.0) - 1.0)


def test_ratios_of_a_known_sample():
    returns = np.array([0.01, -0.01, 0.03, -0.02])

    # mean .0025; squares about it .00005625, .00015625, .00075625, .00050625; their sum .001475
    deviation = sqrt(0.001475 / 3)
    downside = sqrt((0.0001 + 0.0004) / 4)
    assert formulas.annualised_volatility(returns) == pytest.approx(deviation * sqrt(252))
    assert formulas.annualised_sharpe(returns) == pytest.approx(0.0025 / deviation * sqrt(252))
    assert formulas.sortino(returns) == pytest.approx(0.0025 / downside * sqrt(252))


def test_calmar_is_growth_over_the_deepest_drawdown():
    levels = np.concatenate(([1.0, 1.0, 0.8], np.linspace(0.8, 2.0, 502)))

    assert formulas.calmar(levels) == pytest.approx((sqrt(2.0) - 1.0) / 0.2)


def test_tails_of_a_ladder_of_returns():
    returns = np.arange(-10, 31) / 100.0

    # ceil(5% of 41) = 3 lowest: -.10, -.09, -.08; percentiles at positions 2 and 38.
    assert formulas.value_at_risk(returns) == pytest.approx(-0.08)
    assert formulas.expected_shortfall(returns) == pytest.approx(-0.09)
    assert formulas.tail_ratio(returns) == pytest.approx(0.28 / 0.08)


def test_sessions_that_did_not_move_do_not_count_as_losses():
    assert formulas.hit_rate(np.array([0.1, 0.0, 0.0, -0.1, 0.2])) == pytest.approx(2 / 3)


def test_kurtosis_is_raw_and_skew_has_the_sign_of_the_long_tail():
    returns = np.array([0.0, 0.0, 0.0, 1.0])

    # About the mean .25: -.25 thrice and .75; moments 2, 3, 4 are 3/16, 3/32, 21/256.
    assert formulas.skew(returns) == pytest.approx((3 / 32) / (3 / 16) ** 1.5)
    assert formulas.kurtosis(returns) == pytest.approx((21 / 256) / (3 / 16) ** 2)
    normal = NormalDist().samples(200_000, seed=1)
    assert formulas.kurtosis(np.array(normal)) == pytest.approx(3.0, abs=0.05)


def test_a_fund_that_is_twice_the_benchmark_plus_a_constant():
    benchmark = sample(1)
    returns = 2.0 * benchmark + 0.001

    assert formulas.beta(returns, benchmark) == pytest.approx(2.0)
    assert formulas.alpha_annual(returns, benchmark) == pytest.approx(0.252)
    assert formulas.correlation(returns, benchmark) == pytest.approx(1.0)


# Naive second implementations.


@given(SEEDS)
def test_figures_of_returns_agree_with_a_naive_computation(seed):
    returns = sample(seed)
    plain = returns.tolist()
    mean, deviation = fmean(plain), stdev(plain)
    spread = sqrt(fmean((r - mean) ** 2 for r in plain))
    skew = fmean(((r - mean) / spread) ** 3 for r in plain)
    kurtosis = fmean(((r - mean) / spread) ** 4 for r in plain)
    sharpe = mean / deviation
    error = sqrt((1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (len(plain) - 1))

    assert formulas.annualised_volatility(returns) == pytest.approx(deviation * 252**0.5)
    assert formulas.annualised_sharpe(returns) == pytest.approx(sharpe * 252**0.5)
    assert formulas.skew(returns) == pytest.approx(skew)
    assert formulas.kurtosis(returns) == pytest.approx(kurtosis)
    assert formulas.sharpe_standard_error(returns) == pytest.approx(error * 252**0.5)
    probability = NormalDist().cdf(sharpe / error)
    assert formulas.probabilistic_sharpe_ratio(returns) == pytest.approx(probability)
    assert formulas.expected_shortfall(returns) == pytest.approx(fmean(sorted(plain)[:15]))
    assert formulas.value_at_risk(returns) == pytest.approx(sorted(plain)[14])


@given(SEEDS)
def test_figures_of_levels_agree_with_a_naive_computation(seed):
    levels = levels_of(sample(seed))
    peak, deepest, longest, current = levels[0], 0.0, 0, 0
    for level in levels.tolist():
        peak = max(peak, level)
        deepest = min(deepest, level / peak - 1.0)
        current = current + 1 if level < peak else 0
        longest = max(longest, current)

    assert formulas.max_drawdown(levels) == pytest.approx(deepest)
    assert formulas.longest_drawdown_sessions(levels) == longest
    growth = exp(log(levels[-1] / levels[0]) * 252 / 300) - 1.0
    assert formulas.cagr(levels) == pytest.approx(growth)
    assert formulas.calmar(levels) == pytest.approx(growth / -deepest)


@given(SEEDS)
def test_the_regression_agrees_with_the_standard_library(seed):
    benchmark, own = sample(seed), sample(seed + 1)
    returns = 0.6 * benchmark + own

    line = linear_regression(benchmark.tolist(), returns.tolist())

    assert formulas.beta(returns, benchmark) == pytest.approx(line.slope)
    assert formulas.alpha_annual(returns, benchmark) == pytest.approx(252 * line.intercept)
    expected = float(np.corrcoef(returns, benchmark)[0, 1])
    assert formulas.correlation(returns, benchmark) == pytest.approx(expected)


def test_the_rolling_sharpe_is_the_sharpe_of_each_window():
    returns = sample(5, 60)
    returns[10:30] = 0.001

    rolling = formulas.rolling_sharpe(returns, lookback=20)

    naive = [formulas.annualised_sharpe(returns[row - 19 : row + 1]) for row in range(19, 60)]
    assert np.isnan(rolling[:19]).all()
    assert naive[10] is None
    expected = [np.nan if value is None else value for value in naive]
    np.testing.assert_allclose(rolling[19:], expected)
    assert np.isnan(formulas.rolling_sharpe(returns[:5], lookback=20)).all()


# Properties.


@given(SEEDS, st.integers(1, 100), st.floats(1e-3, 1e9))
def test_a_solvent_drawdown_is_between_minus_one_and_zero_whatever_the_capital(seed, count, scale):
    levels = levels_of(np.clip(sample(seed, count) * 20.0, -0.99, None))

    deepest = formulas.max_drawdown(levels)

    assert -1.0 <= deepest <= 0.0
    assert formulas.max_drawdown(levels * scale) == pytest.approx(deepest)
    assert formulas.cumulative_return(levels * scale) == pytest.approx(
        formulas.cumulative_return(levels), rel=1e-6, abs=1e-9
    )


@given(SEEDS, st.floats(0.01, 10.0))
def test_ratios_do_not_depend_on_leverage_and_volatility_does(seed, leverage):
    returns = sample(seed)

    for ratio in (
        formulas.annualised_sharpe,
        formulas.sortino,
        formulas.skew,
        formulas.kurtosis,
        formulas.tail_ratio,
        formulas.hit_rate,
        formulas.probabilistic_sharpe_ratio,
    ):
        assert ratio(returns * leverage) == pytest.approx(ratio(returns))
    volatility = formulas.annualised_volatility(returns)
    assert formulas.annualised_volatility(returns * leverage) == pytest.approx(
        leverage * volatility
    )


@given(SEEDS)
def test_probabilities_and_correlations_stay_in_range(seed):
    returns, other = sample(seed), sample(seed + 1)

    assert 0.0 <= formulas.probabilistic_sharpe_ratio(returns) <= 1.0
    assert 0.0 <= formulas.hit_rate(returns) <= 1.0
    assert -1.0 <= formulas.correlation(returns, other) <= 1.0
    assert formulas.expected_shortfall(returns) <= formulas.value_at_risk(returns)


# What is undefined is None.


@pytest.mark.parametrize("figure", OF_RETURNS)
@pytest.mark.parametrize("returns", [np.empty(0), np.full(300, np.nan)])
def test_no_figure_is_invented_from_no_returns(figure, returns):
    assert figure(returns) is None


@pytest.mark.parametrize("figure", OF_LEVELS)
def test_no_figure_is_invented_from_a_single_level(figure):
    assert figure(np.array([100.0])) is None


@pytest.mark.parametrize("figure", OF_PAIRS)
def test_nothing_is_compared_with_nothing_or_with_a_constant(figure):
    assert figure(np.empty(0), np.empty(0)) is None
    assert figure(sample(2), np.full(300, 0.0003)) is None


def test_without_variance_ratios_are_undefined_but_volatility_is_zero():
    returns = np.full(300, 0.0007)

    assert formulas.annualised_volatility(returns) == 0.0
    assert formulas.annualised_sharpe(returns) is None
    assert formulas.skew(returns) is None
    assert formulas.kurtosis(returns) is None
    assert formulas.probabilistic_sharpe_ratio(returns) is None
    assert formulas.sharpe_standard_error(returns) is None
    assert formulas.sortino(returns) is None
    assert formulas.correlation(returns, sample(1)) is None


def test_without_a_fall_there_is_no_calmar_and_no_tail_ratio_without_a_tail():
    assert formulas.calmar(np.linspace(1.0, 2.0, 100)) is None
    assert formulas.tail_ratio(np.zeros(30)) is None
    assert formulas.hit_rate(np.zeros(30)) is None


@pytest.mark.parametrize(
    ("figure", "minimum"),
    [
        (formulas.annualised_volatility, 2),
        (formulas.annualised_sharpe, 2),
        (formulas.value_at_risk, 20),
        (formulas.expected_shortfall, 20),
        (formulas.tail_ratio, 20),
        (formulas.sharpe_standard_error, 30),
        (formulas.probabilistic_sharpe_ratio, 30),
        (formulas.annual_rate, 60),
        (lambda returns: formulas.cagr(levels_of(returns)), 60),
        (lambda returns: formulas.alpha_annual(returns, returns[::-1]), 60),
    ],
)
def test_each_figure_waits_for_the_sessions_it_needs(figure, minimum):
    assert figure(sample(4, minimum - 1)) is None
    assert figure(sample(4, minimum)) is not None


def test_a_ruined_book_has_no_growth_rate():
    levels = np.append(np.linspace(1.0, 0.1, 99), -0.5)

    assert formulas.cagr(levels) is None
    assert formulas.cumulative_return(levels) == pytest.approx(-1.5)
    assert formulas.max_drawdown(levels) == pytest.approx(-1.5)
