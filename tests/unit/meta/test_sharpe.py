from math import sqrt

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.sharpe import (
    Revision,
    SharpeMoments,
    deflated_sharpe_ratio,
    deviation_of_maximum,
    expected_maximum,
    haircut,
    minimum_backtest_years,
    minimum_track_record,
    p_value,
    probabilistic_sharpe_ratio,
    sharpe_error,
    sharpe_hurdle,
    sharpe_moments,
)

# An annual ratio of 2.5 over five years of 250 days, found in 100 trials whose annual ratios
# have a variance of one half: the example of "The Deflated Sharpe Ratio".
FOUND = SharpeMoments(2.5 / sqrt(250), skew=-3.0, kurtosis=10.0, observations=1250)
SPREAD = 0.5 / 250

# The hedge fund of "The Sharpe Ratio Efficient Frontier", two years of months.
FUND = SharpeMoments(1.585 / sqrt(12), skew=-2.448, kurtosis=10.164, observations=24)


@pytest.mark.parametrize(
    ("trials", "published"),
    [
        (1, 0.0),
        (2, 0.519755),
        (5, 1.192594),
        (7, 1.386774),
        (10, 1.574598),
        (45, 2.235640),
        (46, 2.244171),
        (50, 2.276303),
        (88, 2.485295),
        (100, 2.530603),
        (200, 2.765524),
        (500, 3.052528),
        (1000, 3.255122),
        (10000, 3.860665),
    ],
)
def test_the_expected_best_of_so_many_lucky_trials(trials, published):
    assert expected_maximum(trials) == pytest.approx(published, abs=1e-6)


def test_the_published_example_of_the_deflated_sharpe_ratio():
    assert sharpe_hurdle(SPREAD, 100) == pytest.approx(0.113172002, abs=1e-6)
    assert deflated_sharpe_ratio(FOUND, SPREAD, 100) == pytest.approx(0.900396834, abs=1e-6)
    assert deflated_sharpe_ratio(FOUND, SPREAD, 46) == pytest.approx(0.950501707, abs=1e-6)
    assert deflated_sharpe_ratio(FOUND, SPREAD, 47) == pytest.approx(0.949404374, abs=1e-6)


def test_with_normal_returns_88_trials_are_the_most_that_keep_95_percent():
    normal = SharpeMoments(FOUND.sharpe, 0.0, 3.0, FOUND.observations)

    assert deflated_sharpe_ratio(normal, SPREAD, 88) == pytest.approx(0.950490817, abs=1e-6)
    assert deflated_sharpe_ratio(normal, SPREAD, 89) == pytest.approx(0.949839371, abs=1e-6)


@pytest.mark.parametrize(
    ("mistake", "wrong"),
    [
        ("excess kurtosis", (SharpeMoments(FOUND.sharpe, -3.0, 7.0, 1250), SPREAD, 100)),
        ("annual ratio", (SharpeMoments(2.5, -3.0, 10.0, 1250), 0.5, 100)),
        ("variance for deviation", (FOUND, SPREAD**2, 100)),
        ("one trial", (FOUND, SPREAD, 1)),
    ],
)
def test_well_known_wrong_copies_give_another_answer(mistake, wrong):
    assert abs(deflated_sharpe_ratio(*wrong) - 0.900396834) > 1e-3, mistake


def test_the_published_hedge_fund_example_of_the_probabilistic_sharpe_ratio():
    normal = SharpeMoments(FUND.sharpe, 0.0, 3.0, FUND.observations)

    assert probabilistic_sharpe_ratio(FUND) == pytest.approx(0.913234307, abs=1e-6)
    assert probabilistic_sharpe_ratio(normal) == pytest.approx(0.981591236, abs=1e-6)


@pytest.mark.parametrize(
    ("moments", "benchmark", "per_year", "years"),
    [
        (SharpeMoments(2 / sqrt(250), 0.0, 3.0, 100), 1 / sqrt(250), 250, 2.731188),
        (SharpeMoments(2 / sqrt(52), 0.0, 3.0, 100), 1 / sqrt(52), 52, 2.828834),
        (SharpeMoments(3 / sqrt(12), -0.72, 5.78, 100), 2.5 / sqrt(12), 12, 27.352920),
        (FUND, 0.0, 12, 34.597103 / 12),
    ],
)
def test_published_minimum_track_records(moments, benchmark, per_year, years):
    found = minimum_track_record(moments, benchmark) / per_year

    assert found == pytest.approx(years, abs=1e-6)


def test_no_length_shows_a_ratio_that_was_not_observed():
    with pytest.raises(DataError, match="no length of record can show it"):
        minimum_track_record(FUND, benchmark=FUND.sharpe)


@pytest.mark.parametrize(
    ("trials", "years"), [(7, 1.923143), (10, 2.479360), (45, 4.998087), (46, 5.036303)]
)
def test_five_years_allow_at_most_45_tries(trials, years):
    assert minimum_backtest_years(trials) == pytest.approx(years, abs=1e-6)


@pytest.mark.parametrize(("trials", "published"), [(1, 1.0), (2, 0.82565), (10, 0.58681)])
def test_the_best_of_many_varies_less_than_each_of_them(trials, published):
    assert deviation_of_maximum(trials) == pytest.approx(published, abs=1e-5)


def test_the_later_revision_evaluates_the_error_at_the_hypothesis():
    moments = SharpeMoments(0.5, skew=-1.0, kurtosis=5.0, observations=100, autocorrelation=0.2)

    # a = 1 + .4/.8, b = 1 + .2/.8 + .04/.96, c = 1 + .08/.96
    at_zero = sqrt(1.5 / 100)
    at_half = sqrt((1.5 + (1 + 0.25 + 0.04 / 0.96) * 0.5 + (1 + 0.08 / 0.96) * 0.25) / 100)
    assert sharpe_error(moments, 0.0, Revision.R2025) == pytest.approx(at_zero)
    assert sharpe_error(moments, 0.5, Revision.R2025) == pytest.approx(at_half)
    assert sharpe_error(moments, 0.0, Revision.R2014) == sharpe_error(moments, 9.9, Revision.R2014)


def test_published_corrections_of_six_p_values():
    p_values = np.array([0.045, 0.005, 0.0135, 0.06, 0.009, 0.0128])
    order = np.argsort(p_values)

    assert haircut(p_values, "bonferroni")[order] == pytest.approx(
        [0.03, 0.054, 0.0768, 0.081, 0.27, 0.36]
    )
    assert haircut(p_values, "holm")[order] == pytest.approx(
        [0.03, 0.045, 0.0512, 0.0512, 0.09, 0.09]
    )
    assert haircut(p_values, "bhy")[order] == pytest.approx([0.0496125] * 4 + [0.06, 0.06])


def test_moments_of_a_record_agree_with_a_naive_computation():
    returns = np.random.default_rng(5).standard_t(4, 400) * 0.01
    own = [value - returns.mean() for value in returns]
    square = sum(value**2 for value in own) / 400

    found = sharpe_moments(returns)

    assert found.sharpe == pytest.approx(returns.mean() / np.std(returns, ddof=1))
    assert found.skew == pytest.approx(sum(value**3 for value in own) / 400 / square**1.5)
    assert found.kurtosis == pytest.approx(sum(value**4 for value in own) / 400 / square**2)
    lagged = sum(a * b for a, b in zip(own[1:], own[:-1], strict=True)) / 399 / square
    assert found.autocorrelation == pytest.approx(lagged)


def test_the_p_value_of_a_ratio_is_that_of_its_t():
    assert p_value(SharpeMoments(0.196, 0.0, 3.0, 100)) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (np.full(29, 0.01), "29 returns, at least 30"),
        (np.full(40, 0.01), "do not vary"),
        (np.zeros(40), "do not vary"),
        (np.append(np.arange(40.0), np.nan), "1 of the returns are unknown"),
    ],
)
def test_what_a_record_cannot_support_is_said_not_computed(returns, reason):
    with pytest.raises(DataError, match=reason):
        sharpe_moments(returns)


def test_no_trial_is_no_number_of_attempts():
    with pytest.raises(DataError, match="at least 1"):
        expected_maximum(0)
