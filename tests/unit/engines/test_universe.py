import numpy as np

from prometheus_nt.domain.books import Exclusion, Tier
from prometheus_nt.domain.market import SoftTargetClass
from prometheus_nt.engines.universe import FILTERS, UniverseParams, select_universe

NAN = np.nan
PARAMS = UniverseParams(min_history_sessions=3, liquidity_lookback=2)
STRICT = PARAMS.model_copy(update={"min_dollar_volume": 1e6, "min_price": 5.0})


def _select(panel, stability_of, scores_of, params=PARAMS, **given):
    names = len(panel.instruments)
    overall = given.get("overall", np.full(names, 20.0))
    stability = stability_of(panel, overall, classes=given.get("classes", 0))
    scores = scores_of(panel, given.get("score", np.linspace(0.9, 0.1, names)))
    return select_universe(panel, stability, scores, params)


def test_the_first_failing_filter_names_the_exclusion(panel_of, stability_of, scores_of):
    close = np.full((4, 9), 10.0)
    close[3, 1] = NAN
    close[:2, 2] = NAN
    close[:, 5] = 4.0
    volume = np.full((4, 9), 1e6)
    volume[:, 3] = NAN
    volume[:, 4] = 10.0
    overall = np.full(9, 20.0)
    overall[6] = NAN
    classes = np.zeros(9, dtype=np.int64)
    classes[7] = SoftTargetClass.BREAKER
    score = np.full(9, 0.5)
    score[8] = NAN
    params = STRICT.model_copy(update={"exclude": ("I000",)})

    universe = _select(
        panel_of(close, volume=volume),
        stability_of,
        scores_of,
        params,
        overall=overall,
        classes=classes,
        score=score,
    )

    assert universe.exclusion.tolist() == [code for code, _ in FILTERS]
    assert not universe.included.any()
    assert np.isnan(universe.score).all()
    assert set(universe.tier.tolist()) == {Tier.EXCLUDED}


def test_filters_are_asked_in_the_order_of_the_codes():
    assert [code for code, _ in FILTERS] == sorted(code for code, _ in FILTERS)


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


def test_the_rank_score_is_assessment_less_fragility(panel_of, stability_of, scores_of):
    panel = panel_of(np.full((4, 3), 10.0))

    universe = _select(
        panel, stability_of, scores_of, score=[0.3, 0.2, 0.1], overall=[90.0, 50.0, 10.0]
    )

    step = np.sqrt(1.5)
    assert np.allclose(universe.score, [0.5 * step, 0.0, -0.5 * step])


def test_one_core_name_at_least(panel_of, stability_of, scores_of):
    params = PARAMS.model_copy(update={"core_fraction": 0.0})

    universe = _select(panel_of(np.full((4, 2), 10.0)), stability_of, scores_of, params)

    assert universe.tier.tolist() == [Tier.CORE, Tier.SATELLITE]
