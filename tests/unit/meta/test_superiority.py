from math import log, sqrt

import numpy as np
import pytest
from arch.bootstrap import SPA

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.bootstrap import resampled_rows
from prometheus_nt.meta.superiority import stepwise_survivors, superior_predictive_ability

SESSIONS, TRIALS, BLOCK, PATHS = 300, 6, 4.0, 400


def noise(seed, trials=TRIALS, sessions=SESSIONS):
    return np.random.default_rng(seed).normal(0.0, 0.01, (sessions, trials))


def naive_error(values, block):
    """The bootstrap's long-run variance of the mean, one lag at a time."""
    count, own = len(values), values - values.mean()
    total = float(own @ own) / count
    for lag in range(1, count):
        going_on = 1.0 - 1.0 / block
        kernel = (1 - lag / count) * going_on**lag + lag / count * going_on ** (count - lag)
        total += 2 * kernel * float(own[:-lag] @ own[lag:]) / count
    return sqrt(total / count)


def naive(excess, seed=0):
    """Hansen's three p-values, one path at a time."""
    errors = np.array([naive_error(column, BLOCK) for column in excess.T])
    observed = excess.mean(axis=0) / errors
    hopeless = observed < -sqrt(2 * log(log(len(excess))))
    best = max(0.0, observed.max())
    rows = resampled_rows(len(excess), PATHS, BLOCK, seed)
    beaten = np.zeros(3)
    for path in rows.T:
        drawn = excess[path].mean(axis=0) / errors
        centres = (np.maximum(observed, 0), np.where(hopeless, 0, observed), observed)
        beaten += [max(0.0, (drawn - centre).max()) >= best for centre in centres]
    return beaten / PATHS


@pytest.mark.parametrize("edge", [0.0, 0.001])
def test_it_agrees_with_the_definition_taken_one_path_at_a_time(edge):
    excess = noise(2)
    excess[:, 1] += edge
    excess[:, 5] -= 0.004

    found = superior_predictive_ability(excess, block=BLOCK, paths=PATHS)

    assert (found.lower, found.consistent, found.upper) == pytest.approx(tuple(naive(excess)))
    assert found.lower <= found.consistent <= found.upper


def test_it_agrees_with_another_library_where_all_trials_vary_alike():
    # The library compares means, not studentised ones; with equal deviations that is the same.
    excess = noise(7, trials=20, sessions=1000)
    excess /= excess.std(axis=0)
    other = SPA(np.zeros(1000), -excess, block_size=5, reps=2000, seed=1, studentize=False)
    other.compute()

    found = superior_predictive_ability(excess, block=5.0, paths=2000)

    assert found.consistent == pytest.approx(other.pvalues["consistent"], abs=0.06)


def test_a_real_edge_survives_and_noise_does_not():
    excess = noise(3, sessions=1000)
    excess[:, 2] += 0.002

    survives = stepwise_survivors(excess, block=BLOCK, paths=PATHS)

    assert survives.tolist() == [False, False, True, False, False, False]


def test_a_strong_survivor_makes_room_for_a_weaker_one():
    excess = noise(11, trials=2, sessions=1000)
    excess -= excess.mean(axis=0)
    edge = excess.std(axis=0, ddof=1) / sqrt(1000)
    excess[:, 1] += 1.8 * edge[1]

    # The best of two lucky ones reaches 1.95 errors in one case of twenty, a single one 1.64.
    beside_a_lucky_one = stepwise_survivors(excess, block=1.0, paths=4000)
    excess[:, 0] += 20 * edge[0]
    beside_a_survivor = stepwise_survivors(excess, block=1.0, paths=4000)

    assert beside_a_lucky_one.tolist() == [False, False]
    assert beside_a_survivor.tolist() == [True, True]


@pytest.mark.integration
def test_noise_rarely_survives_and_an_edge_of_12_basis_points_mostly_does():
    false_finds, finds = 0, 0
    for seed in range(100):
        excess = noise(seed, trials=50, sessions=1000)
        false_finds += stepwise_survivors(excess, block=BLOCK, paths=500).any()
        excess[:, 7] += 0.0012
        finds += stepwise_survivors(excess, block=BLOCK, paths=500)[7]

    assert false_finds <= 8
    assert finds >= 70


@pytest.mark.parametrize(
    ("excess", "block", "reason"),
    [
        (noise(1, sessions=20), 2.0, "20 returns, at least 30"),
        (noise(1)[:, :0], 2.0, "at least one trial"),
        (np.c_[noise(1), np.zeros(SESSIONS)], 2.0, "1 trials never differ"),
        (np.where(np.arange(SESSIONS)[:, None] == 3, np.nan, noise(1)), 2.0, "unknown"),
        (noise(1), 0.5, "block: 0.5"),
    ],
)
def test_what_cannot_be_compared_is_said_not_computed(excess, block, reason):
    with pytest.raises(DataError, match=reason):
        superior_predictive_ability(excess, block=block)
