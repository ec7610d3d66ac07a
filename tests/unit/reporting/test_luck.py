from math import sqrt

import numpy as np
import pytest

from prometheus_nt.meta.sharpe import expected_maximum
from prometheus_nt.reporting.luck import luck_of


def records(seed=1, sessions=1000, trials=6):
    return np.random.default_rng(seed).normal(0.0, 0.01, (sessions, trials))


def test_noise_is_called_luck_and_a_real_edge_is_not():
    returns = records()
    returns[:, 2] += 0.003

    luck = luck_of(returns)

    assert [one.survives for one in luck.records] == [False, False, True, False, False, False]
    assert luck.records[2].above_luck > 0.95
    assert luck.best_is_luck < 0.05
    assert all(luck_of(records()).records[each].above_luck < 0.95 for each in range(6))


def test_every_attempt_raises_the_hurdle_and_copies_do_not_lower_the_spread():
    returns = records(3)

    alone, padded = luck_of(returns), luck_of(np.c_[returns, returns[:, [0, 0, 0]]])

    assert (padded.trials, padded.distinct) == (9, 6)
    assert padded.hurdle / alone.hurdle == pytest.approx(expected_maximum(9) / expected_maximum(6))


def test_what_was_tried_elsewhere_raises_the_hurdle_of_these():
    returns = records(3)

    alone, after_many = luck_of(returns), luck_of(returns, tried=200)

    assert after_many.trials == 200
    assert after_many.hurdle > 2 * alone.hurdle
    assert all(
        before.above_luck > after.above_luck
        for before, after in zip(alone.records, after_many.records, strict=True)
    )


def test_the_resampled_interval_is_annual():
    returns = records(5, trials=1)

    (one,) = luck_of(returns).records

    width = 2 * 1.96 / sqrt(1000) * sqrt(252)
    assert one.sharpe.high - one.sharpe.low == pytest.approx(width, rel=0.2)


def test_an_idle_record_is_unknown_not_zero():
    returns = records()
    returns[:, 1] = 0.0

    idle = luck_of(returns).records[1]

    assert idle.above_zero is None
    assert idle.survives is None


def test_too_short_a_record_says_nothing():
    luck = luck_of(records(sessions=20))

    assert (luck.distinct, luck.hurdle, luck.overfitting, luck.best_is_luck) == (None,) * 4
    assert all(one.above_zero is None for one in luck.records)


def test_a_single_record_has_no_overfitting_but_its_own_doubt():
    luck = luck_of(records(trials=1))

    assert luck.overfitting is None
    assert 0.0 < luck.records[0].above_zero < 1.0
