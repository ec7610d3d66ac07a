from itertools import combinations
from math import log

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.overfitting import overfitting_probability


def noise(seed, sessions=400, trials=12):
    return np.random.default_rng(seed).normal(0.0, 0.01, (sessions, trials))


def naive(returns, blocks):
    """The definition, one split at a time."""
    used = returns[len(returns) % blocks :]
    parts = np.split(used, blocks)
    logits, losses = [], 0
    for inside in combinations(range(blocks), blocks // 2):
        train = np.concatenate([parts[block] for block in inside])
        rest = [parts[block] for block in range(blocks) if block not in inside]
        test = np.concatenate(rest)
        best = int((train.mean(axis=0) / train.std(axis=0, ddof=1)).argmax())
        scores = test.mean(axis=0) / test.std(axis=0, ddof=1)
        rank = sum(score < scores[best] for score in scores) + 1
        share = rank / (len(scores) + 1)
        logits.append(log(share / (1 - share)))
        losses += scores[best] < 0
    return logits, losses / len(logits)


def test_it_agrees_with_the_definition_taken_one_split_at_a_time():
    returns = noise(1, sessions=203)

    found = overfitting_probability(returns, blocks=8)

    logits, losses = naive(returns, 8)
    assert found.sessions == 200
    assert found.logits == pytest.approx(logits)
    assert found.loss_probability == pytest.approx(losses)
    assert found.probability == pytest.approx(np.mean(np.array(logits) <= 0))


def test_of_pure_noise_the_best_disappoints_about_half_the_time():
    found = [overfitting_probability(noise(seed), blocks=10).probability for seed in range(30)]

    assert 0.35 < np.mean(found) < 0.65


def test_a_trial_that_is_really_better_stays_the_best():
    returns = noise(3)
    returns[:, 4] += 0.01

    found = overfitting_probability(returns, blocks=10)

    assert found.probability == 0.0
    assert found.loss_probability == 0.0


def test_the_order_of_the_trials_does_not_matter():
    returns = noise(4)

    one = overfitting_probability(returns, blocks=8)
    other = overfitting_probability(returns[:, ::-1], blocks=8)

    assert one.probability == other.probability
    assert np.sort(one.logits) == pytest.approx(np.sort(other.logits))


@pytest.mark.parametrize(
    ("returns", "blocks", "reason"),
    [
        (noise(1), 7, "even number"),
        (noise(1, trials=1), 8, "two distinct trials"),
        (noise(1, sessions=20), 16, "need at least 32"),
        (np.where(np.arange(400)[:, None] == 9, np.nan, noise(1)), 8, "unknown"),
        (np.c_[noise(1), np.zeros(400)], 8, "1 of the trials do not vary"),
    ],
)
def test_what_cannot_be_split_is_said_not_computed(returns, blocks, reason):
    with pytest.raises(DataError, match=reason):
        overfitting_probability(returns, blocks)
