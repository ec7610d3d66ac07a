import numpy as np
import pytest
from arch.bootstrap import optimal_block_length

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.bootstrap import block_length, bootstrap_intervals, resampled_rows


def autoregression(seed, rho, count=4000):
    noise = np.random.default_rng(seed).normal(size=count)
    values = np.zeros(count)
    for row in range(1, count):
        values[row] = rho * values[row - 1] + noise[row]
    return values


def test_blocks_grow_with_the_dependence_of_the_record():
    lengths = [block_length(autoregression(1, rho)) for rho in (0.0, 0.3, 0.6, 0.9)]

    assert lengths == sorted(lengths)
    assert lengths[0] < 3.0
    assert lengths[-1] > 30.0


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_block_lengths_agree_with_another_library(rho):
    ours = np.mean([block_length(autoregression(seed, rho)) for seed in range(10)])
    theirs = np.mean(
        [
            optimal_block_length(autoregression(seed, rho))["stationary"].iloc[0]
            for seed in range(10)
        ]
    )

    assert ours == pytest.approx(theirs, rel=0.15)


def test_intervals_of_independent_normal_returns_are_those_of_theory():
    returns = np.random.default_rng(3).normal(0.0005, 0.01, 2500)

    found = bootstrap_intervals(returns)["sharpe"]

    ratio, error = returns.mean() / returns.std(ddof=1), 1 / np.sqrt(2500)
    assert found.low == pytest.approx(ratio - 1.96 * error, abs=0.35 * error)
    assert found.high == pytest.approx(ratio + 1.96 * error, abs=0.35 * error)


def test_the_drawdown_of_a_path_counts_from_its_start():
    returns = np.where(np.arange(40) == 0, -0.5, 0.01)

    found = bootstrap_intervals(returns, paths=400)["max_drawdown"]

    # The crash is met once, twice or not at all, wherever the path begins.
    assert -1.0 < found.low <= -0.5
    assert found.high <= 0.0


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    returns = autoregression(5, 0.2, 300) * 0.01

    one = bootstrap_intervals(returns, paths=300, seed=1)

    assert one == bootstrap_intervals(returns, paths=300, seed=1)
    assert one != bootstrap_intervals(returns, paths=300, seed=2)


def test_paths_visit_every_session_equally_often():
    rows = resampled_rows(50, 4000, 5.0, seed=0)

    visits = np.bincount(rows.ravel(), minlength=50) / 4000
    assert visits == pytest.approx(np.ones(50), abs=0.1)


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (np.zeros(20), "20 returns"),
        (np.zeros(40), "do not vary"),
        (np.append(np.arange(40.0), np.nan), "unknown"),
    ],
)
def test_what_a_record_cannot_support_is_said_not_computed(returns, reason):
    with pytest.raises(DataError, match=reason):
        bootstrap_intervals(returns)
