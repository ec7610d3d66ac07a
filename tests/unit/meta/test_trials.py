import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.sharpe import expected_maximum, sharpe_hurdle
from prometheus_nt.meta.trials import distinct_trials


def noise(seed, trials, sessions=500):
    return np.random.default_rng(seed).normal(0.0004, 0.01, (sessions, trials))


def test_copies_near_copies_and_idle_trials_are_no_new_ideas():
    ideas = noise(1, 3)
    near = ideas[:, [1]] + noise(2, 1) * 0.01
    padded = np.c_[ideas, ideas[:, [0]], near, np.zeros(500)]

    found = distinct_trials(padded)

    assert found.group.tolist() == [0, 1, 2, 0, 1, -1]
    assert found.representatives.tolist() == [0, 1, 2]


def test_padding_with_copies_never_lowers_the_hurdle():
    ideas = noise(3, 8)
    padded = np.c_[ideas, np.repeat(ideas[:, [0]], 40, axis=1), np.zeros((500, 10))]

    before, after = distinct_trials(ideas), distinct_trials(padded)

    assert after.sharpe_variance == pytest.approx(before.sharpe_variance)
    # Every attempt counts, whatever it did.
    assert sharpe_hurdle(after.sharpe_variance, 58) > sharpe_hurdle(before.sharpe_variance, 8)
    assert expected_maximum(58) > expected_maximum(8)


def test_the_spread_is_at_least_that_of_luck():
    found = distinct_trials(noise(4, 1, sessions=101))

    assert found.sharpe_variance == pytest.approx(0.01)
    assert found.effective == 1.0


def test_independent_trials_count_fully_and_alike_ones_hardly():
    independent = distinct_trials(noise(5, 20))
    common = noise(6, 1)
    alike = distinct_trials(common + 0.35 * noise(7, 20))

    assert independent.effective == pytest.approx(20, abs=1.5)
    assert alike.effective < 5


@pytest.mark.parametrize(
    ("returns", "reason"),
    [(noise(1, 2, sessions=10), "at least 30"), (np.zeros((50, 2)), "not one trial moved")],
)
def test_what_cannot_be_grouped_is_said_not_computed(returns, reason):
    with pytest.raises(DataError, match=reason):
        distinct_trials(returns)
