from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.books import Exclusion, Tier
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.market import RegimeLabel, RegimeState, SoftTargetClass
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.engines.universe import FILTERS, UniverseParams, select_universe

NAN = np.nan
PARAMS = UniverseParams(min_history_sessions=3, liquidity_lookback=2)
STRICT = PARAMS.model_copy(update={"min_dollar_volume": 1e6, "min_price": 5.0})


def _select(panel, stability_of, scores_of, params=PARAMS, **given):
    names = len(panel.instruments)
    overall = given.get("overall", np.full(names, 20.0))
    risk = given.get("risk")
    stability = stability_of(
        panel,
        overall,
        classes=given.get("classes", 0),
        change_risk={} if risk is None else {"p_to_targetable_or_breaker": np.array(risk)},
    )
    scores = scores_of(panel, given.get("score", np.linspace(0.9, 0.1, names)))
    return select_universe(
        panel,
        stability,
        scores,
        params,
        regime=given.get("regime"),
        profiles=given.get("profiles"),
        previous=given.get("previous"),
    )


def _regime(panel, risk):
    return RegimeState(
        as_of=panel.as_of,
        region="US",
        label=RegimeLabel.NEUTRAL,
        confidence=1.0,
        probabilities=np.array([0.0, 0.0, 0.0, 1.0]),
        transition_matrix=np.eye(4),
        change_risk={"p_to_crisis_or_risk_off": risk},
        features={},
        previous_label=None,
    )


def _names(universe):
    return [int(name[1:]) for name in np.array(universe.instruments)[universe.included]]


def test_the_first_failing_filter_names_the_exclusion(panel_of, stability_of, scores_of):
    close = np.full((4, 10), 10.0)
    close[3, 1] = NAN
    close[:2, 2] = NAN
    close[:, 5] = 4.0
    volume = np.full((4, 10), 1e6)
    volume[:, 3] = NAN
    volume[:, 4] = 10.0
    overall = np.full(10, 20.0)
    overall[6] = NAN
    classes = np.zeros(10, dtype=np.int64)
    classes[7] = SoftTargetClass.BREAKER
    score = np.full(10, 0.5)
    score[8] = NAN
    membership = np.arange(10) != 9
    params = STRICT.model_copy(update={"exclude": ("I000",), "require_membership": True})

    universe = _select(
        _with_membership(panel_of(close, volume=volume), np.tile(membership, (4, 1))),
        stability_of,
        scores_of,
        params,
        overall=overall,
        classes=classes,
        score=score,
    )

    assert universe.exclusion.tolist() == [*range(1, 10), Exclusion.NOT_MEMBER]
    assert not universe.included.any()
    assert np.isnan(universe.score).all()
    assert set(universe.tier.tolist()) == {Tier.EXCLUDED}


def test_the_order_of_filters_decides_which_reason_is_named(panel_of, stability_of, scores_of):
    bare = panel_of(np.full((2, 1), NAN), volume=np.full((2, 1), NAN))
    panel = _with_membership(bare, np.zeros((2, 1), dtype=bool))
    params = STRICT.model_copy(update={"exclude": ("I000",), "require_membership": True})
    worst = {"overall": [NAN], "classes": SoftTargetClass.BREAKER, "score": [NAN]}
    reasons = []

    for relief in ({}, {"exclude": ()}, {"require_membership": False}, {"min_price": None}):
        params = params.model_copy(update=relief)
        universe = _select(panel, stability_of, scores_of, params, **worst)
        reasons.append(Exclusion(universe.exclusion[0]).name)

    assert reasons == ["HARD_EXCLUDED", "NOT_MEMBER", "NOT_TRADING", "NOT_TRADING"]
    assert [code.name for code, _ in FILTERS][2:] == [
        "NOT_TRADING",
        "INSUFFICIENT_HISTORY",
        "UNKNOWN_LIQUIDITY",
        "ILLIQUID",
        "BELOW_MIN_PRICE",
        "NO_STABILITY_STATE",
        "BREAKER",
        "WEAK_AND_FRAGILE",
        "NO_SCORE",
    ]


def _with_membership(panel, membership):
    return replace(panel, _wall=None, membership=membership)


def test_a_name_is_no_member_before_it_joined(panel_of, stability_of, scores_of):
    joined = np.array([[True, False], [True, False], [True, False], [True, True]])
    panel = _with_membership(panel_of(np.full((4, 2), 10.0)), joined)
    params = PARAMS.model_copy(update={"require_membership": True, "min_history_sessions": 1})

    before = _select(panel.until(panel.sessions[2].astype(object)), stability_of, scores_of, params)
    after = _select(panel, stability_of, scores_of, params)

    assert before.exclusion.tolist() == [0, Exclusion.NOT_MEMBER]
    assert after.included.all()


def test_membership_that_nobody_keeps_cannot_be_required(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"require_membership": True})

    with pytest.raises(DataError, match="require_membership"):
        _select(panel_of(np.full((4, 2), 10.0)), stability_of, scores_of, params)


def test_a_limit_of_none_is_off(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 1), 0.01), volume=np.full((4, 1), NAN))
    params = PARAMS.model_copy(update={"min_price": None, "exclude_breakers": False})

    universe = _select(panel, stability_of, scores_of, params, classes=SoftTargetClass.BREAKER)

    assert universe.included.tolist() == [True]


def test_the_price_filter_sees_the_price_as_traded(panel_of, stability_of, scores_of):
    panel = panel_of([600.0, 600.0, 600.0, 6.0], split=[1.0, 1.0, 1.0, 100.0])

    assert _select(panel, stability_of, scores_of, STRICT).included.tolist() == [True]


def test_the_best_names_stay_when_the_universe_is_full(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 5), 10.0))
    params = PARAMS.model_copy(update={"max_size": 3})

    universe = _select(panel, stability_of, scores_of, params, score=[0.1, 0.5, 0.3, 0.2, 0.4])

    assert universe.included.tolist() == [False, True, True, False, True]
    assert universe.tier.tolist() == [0, Tier.CORE, Tier.SATELLITE, 0, Tier.CORE]
    full = Exclusion.MAX_UNIVERSE_SIZE
    assert universe.exclusion.tolist() == [full, 0, 0, full, 0]
    assert np.isfinite(universe.score).all()


def test_equal_scores_rank_in_the_order_of_instruments(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 4), 10.0))
    params = PARAMS.model_copy(update={"max_size": 2})

    universe = _select(panel, stability_of, scores_of, params, score=np.full(4, 0.3))

    assert universe.included.tolist() == [True, True, False, False]
    assert universe.tier.tolist() == [Tier.CORE, Tier.SATELLITE, 0, 0]


def test_the_score_is_assessment_less_fragility_on_a_scale_to_100(
    panel_of, stability_of, scores_of
):
    panel = panel_of(np.full((4, 3), 10.0))

    universe = _select(
        panel, stability_of, scores_of, score=[0.3, 0.2, 0.1], overall=[90.0, 50.0, 10.0]
    )

    z = 0.5 * np.sqrt(1.5) * np.array([1.0, 0.0, -1.0])
    assert np.allclose(universe.score, 100.0 / (1.0 + np.exp(-z)))


def test_one_core_name_at_least(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"core_fraction": 0.0})

    universe = _select(panel_of(np.full((4, 2), 10.0)), stability_of, scores_of, params)

    assert universe.tier.tolist() == [Tier.CORE, Tier.SATELLITE]


def test_no_sector_has_more_names_than_its_limit(panel_of, stability_of, scores_of):
    sectors = ("A", "A", "A", "B", None, None, "B")
    params = PARAMS.model_copy(update={"sector_max_names": 1, "max_size": 5})

    universe = _select(
        panel_of(np.full((4, 7), 10.0), sectors=sectors), stability_of, scores_of, params
    )

    assert _names(universe) == [0, 3, 4]
    cap = Exclusion.SECTOR_CAP
    assert universe.exclusion.tolist() == [0, cap, cap, 0, 0, cap, cap]


def test_names_of_unknown_sector_count_as_one_sector(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"sector_max_names": 2})

    assert _names(_select(panel_of(np.full((4, 4), 10.0)), stability_of, scores_of, params)) == [
        0,
        1,
    ]


def _days(panel_of, stability_of, scores_of, params, days, **given):
    """The members of each day; each score is in the order of preference given."""
    panel = panel_of(np.full((len(days) + 3, len(days[0])), 10.0), **given)
    members, previous = [], None
    for day, order in enumerate(days):
        score = np.empty(len(order))
        score[order] = np.linspace(0.9, 0.1, len(order))
        view = panel.until(panel.sessions[day + 3].astype(object))
        previous = _select(view, stability_of, scores_of, params, score=score, previous=previous)
        members.append(_names(previous))
    return members


def test_a_name_that_moves_about_the_cut_neither_comes_nor_goes(panel_of, stability_of, scores_of):
    days = [[0, 1, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 2, 3, 4], [0, 1, 3, 2, 4]]
    calm = PARAMS.model_copy(update={"max_size": 3, "hysteresis_buffer": 1})
    nervous = PARAMS.model_copy(update={"max_size": 3})

    assert _days(panel_of, stability_of, scores_of, calm, days) == [[0, 1, 2]] * 4
    assert _days(panel_of, stability_of, scores_of, nervous, days)[1] == [0, 1, 3]


def test_a_member_leaves_when_it_falls_behind_the_buffer(panel_of, stability_of, scores_of):
    days = [[0, 1, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 3, 4, 2]]
    params = PARAMS.model_copy(update={"max_size": 3, "hysteresis_buffer": 1})

    members = _days(panel_of, stability_of, scores_of, params, days)

    assert members == [[0, 1, 2], [0, 1, 2], [0, 1, 3]]


def test_a_clear_winner_takes_the_place_of_the_last_member(panel_of, stability_of, scores_of):
    days = [[0, 1, 2, 3, 4], [4, 0, 1, 2, 3]]
    params = PARAMS.model_copy(update={"max_size": 3, "hysteresis_buffer": 1})

    assert _days(panel_of, stability_of, scores_of, params, days)[1] == [0, 1, 4]


def test_a_sector_keeps_its_members_alike(panel_of, stability_of, scores_of):
    days = [[0, 1, 2, 3], [0, 2, 1, 3]]
    sectors = ("A", "A", "A", "B")
    limits = {"max_size": 3, "sector_max_names": 2}
    calm = PARAMS.model_copy(update={**limits, "hysteresis_buffer": 1})
    nervous = PARAMS.model_copy(update=limits)

    for params, second_day in ((calm, [0, 1, 3]), (nervous, [0, 2, 3])):
        members = _days(panel_of, stability_of, scores_of, params, days, sectors=sectors)
        assert members == [[0, 1, 3], second_day]


@pytest.mark.parametrize("buffer", [0, 2, 9])
@pytest.mark.parametrize("sector_max", [None, 2])
def test_the_limits_hold_and_no_place_stays_empty(
    panel_of, stability_of, scores_of, buffer, sector_max
):
    rng = np.random.default_rng(buffer)
    days = [rng.permutation(12).tolist() for _ in range(30)]
    sectors = tuple("ABC"[name % 3] for name in range(12))
    limits = {"max_size": 5, "hysteresis_buffer": buffer, "sector_max_names": sector_max}
    params = PARAMS.model_copy(update=limits)

    for members in _days(panel_of, stability_of, scores_of, params, days, sectors=sectors):
        assert len(members) == 5
        assert sector_max is None or max(np.bincount(np.array(members) % 3)) <= sector_max


def test_a_universe_before_must_be_older_and_of_the_same_names(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 3), 10.0))
    today = _select(panel, stability_of, scores_of)
    other = _select(panel_of(np.full((3, 2), 10.0)), stability_of, scores_of)

    with pytest.raises(DataError, match="not older"):
        _select(panel, stability_of, scores_of, previous=today)
    with pytest.raises(DataError, match="not of the panel's instruments"):
        _select(panel, stability_of, scores_of, previous=other)


def test_stability_risk_takes_a_fraction_of_the_score(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 4), 10.0))
    params = PARAMS.model_copy(update={"stability_risk_alpha": 0.5})
    risk = [1.0, 0.5, 0.0, NAN]

    plain = _select(panel, stability_of, scores_of)
    risky = _select(panel, stability_of, scores_of, params, risk=risk)

    assert np.allclose(risky.score / plain.score, [0.5, 0.75, 1.0, 1.0])
    assert (_select(panel, stability_of, scores_of, params).score == plain.score).all()


def test_risk_lowers_a_score_below_the_average_too(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 3), 10.0))
    params = PARAMS.model_copy(update={"stability_risk_alpha": 1.0, "max_size": 2})

    universe = _select(
        panel, stability_of, scores_of, params, score=[0.9, 0.1, 0.1], risk=[0, 0, 0.1]
    )

    assert _names(universe) == [0, 1]
    assert universe.score[2] < universe.score[1]


def test_a_risky_regime_makes_the_universe_smaller_and_fragility_dearer(
    panel_of, stability_of, scores_of
):
    panel = panel_of(np.full((4, 4), 10.0))
    limits = {"max_size": 4, "regime_risk_alpha": 1.0, "stability_weight": 0.4}
    params = PARAMS.model_copy(update=limits)
    given = {"score": [0.4, 0.3, 0.2, 0.1], "overall": [40.0, 30.0, 20.0, 10.0]}
    sizes = []
    for risk in (None, 0.0, 0.5, 1.0):
        regime = None if risk is None else _regime(panel, risk)
        universe = _select(panel, stability_of, scores_of, params, regime=regime, **given)
        assert universe.regime_risk == risk
        sizes.append(int(universe.included.sum()))

    assert sizes == [4, 4, 2, 0]
    # z is 0.6 of the assessment's at no risk, and 0.2 of it at the largest.
    z = np.sqrt(1.8) * np.array([1.0, 1.0 / 3.0, -1.0 / 3.0, -1.0])
    assert np.allclose(universe.score, 100.0 / (1.0 + np.exp(-0.2 * z)))


def test_no_alpha_no_effect_of_a_regime(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 3), 10.0))

    universe = _select(panel, stability_of, scores_of, regime=_regime(panel, 1.0))

    assert universe.included.all()
    assert universe.regime_risk == 1.0


def test_one_instrument_is_a_universe(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"sector_max_names": 5, "hysteresis_buffer": 300})

    universe = _select(panel_of(np.full((4, 1), 10.0)), stability_of, scores_of, params)

    assert universe.tier.tolist() == [Tier.CORE]
    assert universe.score.tolist() == [50.0]


def test_nothing_known_is_an_empty_universe(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"sector_max_names": 1, "stability_risk_alpha": 1.0})
    nothing = np.full(2, NAN)

    universe = _select(
        panel_of(np.full((4, 2), NAN)),
        stability_of,
        scores_of,
        params,
        score=nothing,
        overall=nothing,
        risk=nothing,
    )

    assert not universe.included.any()
    assert set(universe.exclusion.tolist()) == {Exclusion.NOT_TRADING}


def test_a_weak_profile_is_left_out_only_where_it_is_fragile_too(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 4), 10.0))
    fragile, stable = int(SoftTargetClass.FRAGILE), int(SoftTargetClass.STABLE)
    weak = Profiles(
        as_of=panel.as_of,
        instruments=panel.instruments,
        schema_id="",
        features={},
        risk_flags={},
        weak_profile=np.array([1, 1, 0, -1]),
    )
    given = {"classes": [fragile, stable, fragile, fragile], "profiles": weak}
    strict = PARAMS.model_copy(update={"exclude_weak_fragile": True})

    found = _select(panel, stability_of, scores_of, strict, **given)

    assert found.included.tolist() == [False, True, True, True]
    assert found.exclusion[0] == int(Exclusion.WEAK_AND_FRAGILE)
    assert _select(panel, stability_of, scores_of, **given).included.all()


def test_a_member_may_miss_a_few_bars_and_a_newcomer_none(panel_of, stability_of, scores_of):
    close = np.full((12, 3), 10.0)
    before = _select(panel_of(close[:4]), stability_of, scores_of)
    member_only = replace(before, included=np.array([True, False, True]))
    close[4:, :2] = NAN

    a_day = _select(panel_of(close[:5]), stability_of, scores_of, previous=member_only)
    too_long = _select(panel_of(close[:9]), stability_of, scores_of, previous=member_only)

    assert a_day.included.tolist() == [True, False, True]
    assert too_long.included.tolist() == [False, False, True]
    assert too_long.exclusion[0] == int(Exclusion.NOT_TRADING)
