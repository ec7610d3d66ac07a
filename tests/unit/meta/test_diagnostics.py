"""Matched pairs: found by one setting, tested as pairs, and corrected for all that was tested."""

from math import erfc, floor, sqrt

import numpy as np
import pytest

from prometheus_nt.meta.diagnostics import (
    ALL,
    Arm,
    DiagnosisRules,
    diagnose,
    hac_p_value,
    matched_pairs,
)
from prometheus_nt.meta.sharpe import haircut

RULES = DiagnosisRules(paths=500)
MARKET = np.random.default_rng(1).standard_normal(1000) * 0.01


def arm(name, settings, returns=MARKET, scope=("2004", "data"), regimes=None):
    return Arm(run_id=name, scope=scope, settings=settings, returns=returns, regimes=regimes)


def noise(seed, scale=0.001):
    return MARKET + np.random.default_rng(seed).standard_normal(len(MARKET)) * scale


def test_a_pair_has_the_same_scope_and_differs_in_exactly_one_setting():
    base = arm("a", {"names": 4, "band": 0.1, "sleeve.sleeve_id": "A"})
    one = arm("b", {"names": 2, "band": 0.1, "sleeve.sleeve_id": "B"})
    both = arm("c", {"names": 2, "band": 0.2, "sleeve.sleeve_id": "C"})
    later = arm("d", {"names": 2, "band": 0.1}, scope=("2005", "data"))
    same = arm("e", {"names": 4, "band": 0.1, "sleeve.sleeve_id": "E"})
    more = arm("f", {"names": 4, "band": 0.1, "cap": None})

    pairs = list(matched_pairs([base, one, both, later, same]))
    absent = list(matched_pairs([base, more]))

    found = [(pair.base.run_id, pair.changed.run_id, pair.key) for pair in pairs]
    assert found == [("b", "a", "names"), ("b", "c", "band"), ("b", "e", "names")]
    assert (pairs[0].old, pairs[0].new) == (2, 4)
    assert [pair.key for pair in absent] == ["cap"]


def test_the_p_value_is_that_of_newey_and_west_by_hand():
    values = np.convolve(np.random.default_rng(5).standard_normal(203), [1, 0.7, 0.4], "valid")
    values += 0.15
    count, mean = len(values), values.mean()
    lags = floor(4 * (count / 100) ** (2 / 9))
    total = 0.0
    for i in range(count):
        for j in range(count):
            if abs(i - j) <= lags:
                weight = 1 - abs(i - j) / (lags + 1)
                total += weight * (values[i] - mean) * (values[j] - mean)
    error = sqrt(total / (count - 1) / count)

    assert hac_p_value(values) == pytest.approx(erfc(abs(mean / error) / sqrt(2)), rel=1e-9)


def test_a_small_steady_gain_is_found_that_the_two_records_alone_would_hide():
    # A tenth of a percent a day on a percent of shared noise: only the pair can tell.
    base, better = arm("a", {"names": 4}, noise(2)), arm("b", {"names": 2}, noise(3) + 0.0003)

    diagnosis = diagnose([base, better], RULES)

    (found,) = diagnosis.pairs
    assert (found.base, found.changed, found.regime) == ("b", "a", ALL)
    assert diagnosis.survives(found)
    assert found.mean_annual == pytest.approx((base.returns - better.returns).mean() * 252)
    assert found.interval.low < found.mean_annual < found.interval.high < 0
    best = diagnosis.best({"names": 4})
    assert (best.old, best.new, best.changed) == (4, 2, "b")
    assert best.improvement > 0
    assert diagnosis.best({"names": 2}) is None
    assert diagnosis.best({"band": 1}) is None


def test_p_values_are_corrected_for_every_pair_and_every_regime_together():
    regimes = np.array(["CALM"] * 500 + ["CRISIS"] * 480 + ["RARE"] * 20, dtype=object)
    arms = [arm(str(k), {"names": k}, noise(k), regimes=regimes) for k in range(2, 5)]

    diagnosis = diagnose(arms, RULES)

    tests = [*diagnosis.pairs, *diagnosis.by_regime]
    known = [one for one in tests if one.p_value is not None]
    assert diagnosis.tests == len(known) == 3 * 3
    expected = haircut(np.array([one.p_value for one in known]), "holm")
    assert [one.corrected for one in known] == pytest.approx(expected.tolist())
    rare = [one for one in tests if one.regime == "RARE"]
    assert [one.why for one in rare] == ["20 sessions, at least 30 are needed"] * 3
    calm = next(one for one in tests if one.regime == "CALM")
    direct = (arms[1].returns - arms[0].returns)[:500].mean() * 252
    assert calm.mean_annual == pytest.approx(direct)


def test_a_setting_that_changed_nothing_is_not_computed_rather_than_zero():
    diagnosis = diagnose([arm("a", {"names": 4}), arm("b", {"names": 2})], RULES)

    (found,) = diagnosis.pairs
    assert found.why == "the two runs earned the same on every session"
    assert (found.mean_annual, found.p_value, found.corrected) == (None, None, None)
    assert not diagnosis.survives(found)
    assert diagnosis.best({"names": 2}) is None


@pytest.mark.parametrize(
    ("returns", "why"),
    [
        (MARKET[:10], "10 sessions, at least 30"),
        (np.where(np.arange(1000) == 7, np.nan, MARKET), "1 returns of the two runs are unknown"),
    ],
)
def test_degenerate_records_say_why_nothing_was_computed(returns, why):
    other = noise(9)[: len(returns)]

    (found,) = diagnose([arm("a", {"n": 1}, returns), arm("b", {"n": 2}, other)], RULES).pairs

    assert found.why.startswith(why)
    assert found.p_value is None


def test_settings_that_only_add_noise_seldom_survive():
    # 40 campaigns of six settings that add noise alone: few find something, at the level of 5%.
    false = 0
    for campaign in range(40):
        arms = [arm(str(k), {"n": k}, noise(1000 * campaign + k)) for k in range(6)]
        diagnosis = diagnose(arms, RULES)
        false += any(diagnosis.survives(one) for one in diagnosis.pairs)

    assert false <= 6
