import numpy as np
import pytest
from scipy.stats import spearmanr

from prometheus_nt.reporting.alpha import MIN_NAMES, rank_ic, rank_turnover, summarise_ic


def test_a_coefficient_is_the_spearman_correlation_of_the_known_pairs():
    rng = np.random.default_rng(1)
    scores, outcomes = rng.standard_normal((40, 12)), rng.standard_normal((40, 12)).round(1)
    scores[rng.random(scores.shape) < 0.2] = np.nan

    found = rank_ic(scores, outcomes)

    for row in range(40):
        both = np.isfinite(scores[row])
        expected = spearmanr(scores[row, both], outcomes[row, both]).statistic
        assert found[row] == pytest.approx(expected, abs=1e-12)


def test_too_few_names_or_no_variation_have_no_coefficient():
    few = np.full((1, 10), np.nan)
    few[0, : MIN_NAMES - 1] = np.arange(MIN_NAMES - 1)
    flat = np.ones((1, 10))
    varied = np.arange(10.0)[None, :]

    assert np.isnan(rank_ic(few, varied)).all()
    assert np.isnan(rank_ic(flat, varied)).all()
    assert rank_ic(varied, varied).tolist() == [1.0]
    assert rank_ic(varied, -varied).tolist() == [-1.0]


def test_independent_coefficients_have_the_textbook_interval():
    known = np.random.default_rng(2).normal(0.05, 0.2, 500)

    summary = summarise_ic(known, overlap=0)

    error = known.std() / np.sqrt(500)
    assert summary.mean == pytest.approx(known.mean())
    assert summary.t_statistic == pytest.approx(known.mean() / error)
    assert summary.high - summary.low == pytest.approx(2 * 1.959964 * error, rel=1e-6)


def test_overlapping_outcomes_widen_the_interval_to_what_it_should_be():
    rng = np.random.default_rng(3)
    means, naive, honest = [], [], []
    for _ in range(200):
        shocks = rng.standard_normal(620)
        overlapping = np.convolve(shocks, np.ones(21) / 21, mode="valid")
        means.append(overlapping.mean())
        naive.append(summarise_ic(overlapping, overlap=0))
        honest.append(summarise_ic(overlapping, overlap=21))

    covered = [
        np.mean([each.low <= 0.0 <= each.high for each in summaries])
        for summaries in (naive, honest)
    ]
    assert covered[0] < 0.5
    assert covered[1] > 0.85


def test_a_short_history_has_no_figure_rather_than_a_wrong_one():
    summary = summarise_ic(np.full(100, 0.1), overlap=63)

    assert summary.sessions == 100
    assert summary.mean is None and summary.low is None and summary.t_statistic is None


def test_turnover_is_none_of_a_constant_ranking_and_all_of_a_random_one():
    rng = np.random.default_rng(4)
    constant = np.tile(np.arange(20.0), (200, 1))

    assert rank_turnover(constant, 5) == pytest.approx(0.0)
    assert rank_turnover(rng.standard_normal((2000, 20)), 5) == pytest.approx(1.0, abs=0.02)
    assert rank_turnover(constant[:20], 5) is None
