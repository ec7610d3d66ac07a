from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.selection import SelectionRules, Tried, Verdict, select
from prometheus_nt.meta.sharpe import expected_maximum, normal_cdf
from prometheus_nt.meta.superiority import stepwise_survivors

QUICK = SelectionRules(paths=400, blocks=10)
LADDER = list(Verdict)
SESSIONS = 1000


def noise(seed, trials=20, sessions=SESSIONS):
    return np.random.default_rng(seed).normal(0.0, 0.01, (sessions, trials))


def planted(seed, bps=30.0, trials=20, sessions=SESSIONS):
    returns = noise(seed, trials, sessions)
    returns[:, 0] += bps / 1e4
    return returns


def names(returns):
    return [f"S{number:03d}" for number in range(returns.shape[1])]


def judge(returns, tried=None, rules=QUICK, **options):
    return select(names(returns), returns, tried or Tried(), rules, **options)


def verdicts(selection):
    return {one.name: one.verdict for one in selection.ranked}


def test_a_record_that_is_far_better_than_luck_is_strong_and_selected_alone():
    found = judge(planted(1))

    assert [one.name for one in found.selected] == ["S000"]
    assert found.selected[0].verdict is Verdict.STRONG
    assert found.ranked[0].rank == 1
    assert found.why_nobody is None


def test_the_figures_are_those_of_the_formulas():
    returns = planted(2, bps=15.0, trials=12)
    best = returns[:, 0]

    found = judge(returns, Tried(overlapping=40))

    ratio = best.mean() / best.std(ddof=1)
    own = best - best.mean()
    skew = (own**3).mean() / (own**2).mean() ** 1.5
    kurtosis = (own**4).mean() / (own**2).mean() ** 2
    ratios = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    hurdle = sqrt(max(ratios.var(ddof=1), 1 / 999)) * expected_maximum(40)
    error = sqrt((1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / 999)
    figures = next(one.figures for one in found.ranked if one.name == "S000")
    assert found.pool["hurdle"] == pytest.approx(hurdle * sqrt(252))
    assert figures["sharpe"] == pytest.approx(ratio * sqrt(252))
    assert figures["deflated"] == pytest.approx(normal_cdf((ratio - hurdle) / error))
    assert figures["cumulative_return"] == pytest.approx(np.prod(1 + best) - 1)
    assert found.pool["trials"] == 40


def test_what_is_too_short_for_its_ratio_is_rejected_and_says_by_how_much():
    returns = np.abs(noise(3, 12, 60)) * np.where(np.arange(60) % 2, 1.0, -0.95)[:, None]

    found = judge(returns)

    assert set(verdicts(found).values()) == {Verdict.REJECTED}
    assert "are needed to tell it from nothing" in " ".join(
        " ".join(one.reasons) for one in found.ranked
    )


def test_a_finding_rejects_whatever_the_figures_say():
    found = judge(planted(1), vetoes={"S000": "orders were not reproduced"})

    assert verdicts(found)["S000"] is Verdict.REJECTED
    assert not found.selected
    assert found.why_nobody is not None


def test_more_trials_in_the_ledger_make_a_strong_record_unproven():
    returns = planted(4, bps=13.0)

    few, many = judge(returns, Tried(overlapping=20)), judge(returns, Tried(overlapping=100_000))

    assert LADDER.index(verdicts(many)["S000"]) <= LADDER.index(verdicts(few)["S000"])
    assert verdicts(many)["S000"] is Verdict.UNPROVEN
    assert "luck in 100,000 trials explains it" in many.why_nobody


def test_a_hurdle_that_was_announced_is_never_lowered():
    returns = planted(1)
    announced = 0.5

    found = judge(returns, Tried(hurdle_floor=announced))

    assert found.pool["hurdle_per_session"] == pytest.approx(announced)
    assert not found.selected


def test_one_idea_is_selected_once_however_often_it_was_run():
    returns = planted(1, bps=40.0)
    copies = np.c_[returns, np.repeat(returns[:, [0]], 5, axis=1)]

    found = judge(copies)

    assert len(found.selected) == 1
    assert [one.name for one in found.selected] == ["S000"]


def test_top_k_bounds_the_selected_and_zero_selects_nobody():
    returns = noise(5)
    returns[:, :4] += 0.004

    assert len(judge(returns).selected) == 3
    assert len(judge(returns, rules=QUICK.model_copy(update={"top_k": 1})).selected) == 1
    none = judge(returns, rules=QUICK.model_copy(update={"top_k": 0}))
    assert none.why_nobody == "none was asked for"


def test_a_lone_record_is_unproven_since_nothing_shows_how_much_choosing_flatters():
    found = judge(planted(1, bps=60.0, trials=1))

    (one,) = found.ranked
    assert one.verdict is Verdict.UNPROVEN
    assert "overfitting not computed, because at least two distinct trials" in one.reasons[0]


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (noise(1, 3, 20), "20 sessions; at least 30"),
        (np.zeros((200, 3)), "not one trial moved"),
        (np.full((200, 3), np.nan), "every return known"),
        (noise(1, 50, 40), "more trials than observations"),
    ],
)
def test_what_cannot_be_computed_says_why_and_selects_nobody(returns, reason):
    found = judge(returns)

    assert not found.selected
    told = {*found.not_computed.values()}
    assert any(reason in one for one in told), told
    assert all(value is None or np.isfinite(value) for value in found.pool.values())


def test_no_record_at_all_selects_nobody_and_says_so():
    found = select([], np.empty((0, 0)), Tried(failed=3), QUICK)

    assert found.why_nobody == "there is no record to judge"
    assert found.pool["trials"] == 3


def test_names_and_returns_have_to_fit():
    with pytest.raises(DataError, match="one each"):
        select(["A", "A"], noise(1, 2), Tried(), QUICK)


@given(
    seed=st.integers(0, 2**31),
    bps=st.sampled_from([0.0, 10.0, 15.0, 30.0]),
    copies=st.integers(0, 6),
    near=st.integers(0, 6),
    idle=st.integers(0, 6),
    failed=st.integers(0, 40),
)
def test_padding_never_improves_a_verdict(seed, bps, copies, near, idle, failed):
    rules = QUICK.model_copy(update={"paths": 100, "blocks": 6})
    returns = planted(seed, bps, trials=8, sessions=400)
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, 8, copies + near)
    padding = returns[:, picked].copy()
    padding[:, copies:] += rng.normal(0.0, 0.0005, (400, near))
    padded = np.c_[returns, padding, np.zeros((400, idle))]

    before = judge(returns, Tried(overlapping=8), rules)
    after = judge(padded, Tried(overlapping=padded.shape[1] + failed, failed=failed), rules)

    own, others = verdicts(before), verdicts(after)
    for name, verdict in own.items():
        assert LADDER.index(others[name]) <= LADDER.index(verdict), name
    best = max(LADDER.index(verdict) for verdict in own.values())
    assert all(LADDER.index(verdict) <= best for verdict in others.values())
    assert after.pool["hurdle"] >= before.pool["hurdle"] - 1e-12
    assert after.pool["overfitting"] == before.pool["overfitting"]
    assert len(after.selected) <= len(before.selected)


def test_noise_selects_nobody_in_at_least_95_of_100_campaigns():
    rules = QUICK.model_copy(update={"paths": 200})

    lucky = sum(bool(judge(noise(seed, 30), rules=rules).selected) for seed in range(100))

    assert lucky <= 5


def test_twelve_basis_points_a_session_survive_in_at_least_70_of_100_campaigns():
    found = [
        stepwise_survivors(planted(seed, 12.0, 50), block=10.0, paths=400)[0] for seed in range(100)
    ]

    assert sum(found) >= 70
