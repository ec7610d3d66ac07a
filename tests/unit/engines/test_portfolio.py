from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.books import Exclusion
from prometheus_nt.domain.market import (
    FragilityMeasures,
    PositionTemplate,
    RegimeLabel,
    RegimeState,
)
from prometheus_nt.engines.antifragility import AntifragilityParams, antifragility
from prometheus_nt.engines.book_history import book_history
from prometheus_nt.engines.factors import factor_exposures, style_loadings
from prometheus_nt.engines.numerics.market_relations import rolling_beta
from prometheus_nt.engines.portfolio import PortfolioParams, SolverParams, build_book
from prometheus_nt.engines.portfolio_params import FactorLimits
from prometheus_nt.engines.turnover import one_way_turnover

NAN = np.nan
FREE = PortfolioParams(max_weight=1.0, cash_buffer=0.0)


@pytest.fixture
def panel(panel_of):
    steps = np.tile([[0.01, 0.02, 0.04], [-0.01, -0.02, -0.04]], (40, 1))
    return panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)))


def _book(panel, universe_of, scores_of, params, score):
    return build_book(panel, universe_of(panel, score), scores_of(panel, score), params)


def test_score_weights_are_by_rank(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [-0.5, 9.0, 0.1])

    assert np.allclose(book.weights, np.array([1.0, 3.0, 2.0]) / 6.0)
    assert book.binding == ()


def test_equal_scores_have_equal_weights(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [0.2, 0.2, 0.2])

    assert np.allclose(book.weights, 1.0 / 3.0)


def test_only_the_best_names_are_held(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"max_names": 2, "weighting": "equal"})

    book = _book(panel, universe_of, scores_of, params, [0.3, 0.1, 0.2])

    assert book.weights.tolist() == [0.5, 0.0, 0.5]
    assert book.binding == ("max_names",)


def test_inverse_volatility_weights(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel, universe_of, scores_of, params, [0.1, 0.2, 0.3])

    assert np.allclose(book.weights, np.array([4.0, 2.0, 1.0]) / 7.0)


def test_a_constant_price_does_not_take_the_whole_book(panel_of, universe_of, scores_of):
    calm = np.full(80, 10.0)
    wild = 10.0 * np.exp(0.002 * (np.arange(80) % 2))
    panel = panel_of(np.column_stack([calm, wild]))
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel, universe_of, scores_of, params, [0.1, 0.2])

    assert np.allclose(book.weights, np.array([2.0, 1.0]) / 3.0, atol=0.01)


def test_a_name_of_unknown_volatility_is_not_held(panel_of, universe_of, scores_of):
    close = np.column_stack([10.0 + np.arange(80) % 2, np.full(80, NAN)])
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel_of(close), universe_of, scores_of, params, [0.1, 0.2])

    assert book.weights.tolist() == [1.0, 0.0]
    assert "unknown_volatility" in book.binding


def test_the_cap_holds_and_the_rest_is_cash(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, PortfolioParams(), [0.1, 0.2, 0.3])

    assert book.weights.tolist() == [0.1, 0.1, 0.1]
    assert book.binding == ("max_weight",)


def test_the_cash_buffer_and_the_gross_limit_both_hold(panel, universe_of, scores_of):
    buffered = FREE.model_copy(update={"cash_buffer": 0.02})
    half = buffered.model_copy(update={"max_gross": 0.5})

    book = _book(panel, universe_of, scores_of, buffered, [0.1, 0.2, 0.3])
    assert book.weights.sum() == pytest.approx(0.98)
    book = _book(panel, universe_of, scores_of, half, [0.1, 0.2, 0.3])
    assert book.weights.sum() == pytest.approx(0.5)


def test_an_empty_universe_is_a_book_of_cash(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [NAN, NAN, NAN])

    assert book.weights.tolist() == [0.0, 0.0, 0.0]
    assert book.binding == ("empty_universe",)
    assert book.expected_return is None


def test_the_expected_return_is_the_weighted_sum(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"weighting": "equal"})
    universe = universe_of(panel, [0.1, 0.2, 0.3])
    scores = scores_of(panel, [0.1, 0.2, 0.3], expected_return=[0.03, NAN, 0.06])

    assert build_book(panel, universe, scores, params).expected_return == pytest.approx(0.03)


@pytest.fixture
def crowd(panel_of):
    """Eight names with a common market, in two sectors."""
    rng = np.random.default_rng(7)
    steps = rng.normal(0.0, 0.008, (150, 1)) + rng.normal(0.0, 0.01, (150, 8))
    sectors = ("TECH",) * 4 + ("BANKS",) * 4
    return panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)), sectors=sectors)


SCORES = np.arange(8.0) / 10.0
SOLVER = SolverParams(lookback=120, min_observations=40)


def _solved(**given):
    solver = SOLVER.model_copy(update=given.pop("solver", {}))
    return FREE.model_copy(update={"solver": solver, **given})


@pytest.mark.parametrize(
    "weighting", ["hrp", "min_variance", "max_ratio", "risk_budgeting", "max_diversification"]
)
def test_a_solver_weighs_the_members_and_says_so(crowd, universe_of, scores_of, weighting):
    book = _book(
        crowd, universe_of, scores_of, _solved(weighting=weighting, max_weight=0.3), SCORES
    )

    assert book.weights.sum() == pytest.approx(1.0)
    assert book.weights.max() <= 0.3
    assert book.evidence.method == weighting
    assert book.evidence.fallbacks == ()
    assert 0.05 < book.evidence.expected_volatility < 0.5
    assert book.evidence.condition_number > 1.0
    assert book.solved


def test_a_simple_weighting_keeps_the_solvers_limits(crowd, universe_of, scores_of):
    free = _book(crowd, universe_of, scores_of, FREE, SCORES)

    book = _book(crowd, universe_of, scores_of, _solved(solver={"max_sector_weight": 0.6}), SCORES)

    assert free.weights[4:].sum() == pytest.approx(26.0 / 36.0)
    assert book.weights[4:].sum() == pytest.approx(0.6, abs=1e-5)
    assert book.weights[4:].sum() <= 0.6
    assert book.weights.sum() == pytest.approx(1.0)
    assert book.evidence.method == "score"
    assert book.binding == ("sector:BANKS",)


def test_a_limit_on_fragility_that_nobody_measures_is_named(crowd, universe_of, scores_of):
    params = _solved(solver={"max_fragility": 0.2})
    universe, scores = universe_of(crowd, SCORES), scores_of(crowd, SCORES)
    fragility = _fragility(crowd, np.linspace(0.0, 0.7, 8))

    unknown = build_book(crowd, universe, scores, params)
    known = build_book(crowd, universe, scores, params, fragility=fragility)

    assert unknown.evidence.relaxed == ("fragility",)
    assert known.evidence.relaxed == ()
    assert known.weights @ fragility.fragility_score <= 0.2
    assert known.binding == ("fragility",)


def test_a_limit_on_market_beta_is_kept_and_named(crowd, universe_of, scores_of):
    free = _book(crowd, universe_of, scores_of, _solved(), SCORES)
    beta = np.maximum(rolling_beta(crowd, len(crowd), 3)[-1], 0.0)
    most = 0.9 * float(free.weights @ beta)

    params = _solved(solver={"max_beta": most, "lookback": len(crowd)})
    bound = _book(crowd, universe_of, scores_of, params, SCORES)

    assert bound.weights @ beta <= most + 1e-6
    assert "beta" in bound.binding


@pytest.fixture
def styled(panel_of):
    """Eight names, each more volatile, more traded and stronger than the one before."""
    rng = np.random.default_rng(3)
    place = np.arange(1.0, 9.0)
    steps = rng.normal(0.0, 0.002 * place, (320, 8)) + 0.0004 * place
    close = 100.0 * np.exp(np.cumsum(steps, axis=0))
    return panel_of(close, volume=np.broadcast_to(1e4 * 2.0**place, close.shape))


@pytest.mark.parametrize("factor", ["momentum", "volatility", "dollar_volume"])
@pytest.mark.parametrize("weighting", ["score", "equal", "min_variance", "hrp"])
def test_a_limit_on_a_style_factor_is_kept_either_way_and_named(
    styled, universe_of, scores_of, factor, weighting
):
    free = _solved(weighting=weighting, max_weight=0.5)
    limits = FactorLimits(**{factor: 0.1})
    bound = _solved(weighting=weighting, max_weight=0.5, solver={"max_factor_exposure": limits})

    def exposure(params):
        book = _book(styled, universe_of, scores_of, params, SCORES)
        rows = np.flatnonzero(book.weights)
        history = book_history(styled, rows, 252, 63)
        return book, factor_exposures(history, book.weights[rows], 21)[factor]

    (_, wild), (book, tamed) = exposure(free), exposure(bound)
    assert abs(wild) > 0.1 or weighting == "equal"
    assert abs(tamed) <= 0.1 + 1e-9
    assert book.weights.sum() == pytest.approx(1.0, abs=1e-6)
    named = {f"factor:{factor}", f"-factor:{factor}"} & set(book.binding)
    assert bool(named) == (abs(wild) > 0.1)


def test_a_style_limit_holds_on_each_side_of_a_long_short_book(styled, universe_of, scores_of):
    limits = SOLVER.model_copy(update={"max_factor_exposure": FactorLimits(volatility=0.4)})

    book = _book(styled, universe_of, scores_of, _long_short(solver=limits), SCORES)

    loading = np.nan_to_num(style_loadings(styled, np.arange(8), 21)[1])
    longs, shorts = np.maximum(book.weights, 0.0), np.minimum(book.weights, 0.0)
    assert np.abs([longs @ loading, shorts @ loading]).max() <= 0.4 + 1e-9
    assert {"gross", "short:gross"} >= set(book.evidence.relaxed) > set()


def test_a_solved_book_says_what_disorder_does_to_its_names(crowd, universe_of, scores_of):
    solved = _book(crowd, universe_of, scores_of, _solved(weighting="hrp"), SCORES)
    simple = _book(crowd, universe_of, scores_of, PortfolioParams(), SCORES)

    stats = antifragility(crowd, AntifragilityParams())
    shares = solved.weights / solved.weights.sum()
    assert solved.evidence.cvar_95 == pytest.approx(shares @ stats.cvar_95)
    assert solved.evidence.antifragility == pytest.approx(shares @ stats.antifragility_score)
    assert simple.evidence.cvar_95 is simple.evidence.antifragility is None


def test_a_volatility_target_leaves_cash(crowd, universe_of, scores_of):
    book = _book(crowd, universe_of, scores_of, _solved(solver={"volatility_target": 0.05}), SCORES)

    assert book.evidence.expected_volatility == 0.05
    assert book.weights.sum() < 0.5
    assert "volatility_target" in book.binding


def test_solved_weights_are_held_until_it_is_time_again(crowd, universe_of, scores_of):
    params = _solved(weighting="risk_budgeting", solver={"resolve_every": 3})

    books = _days(crowd, universe_of, scores_of, params, [SCORES] * 5)

    assert [book.solved for book in books] == [True, False, False, True, False]
    assert [book.evidence.turnover for book in books[:3]] == [None, 0.0, 0.0]
    assert (books[1].weights == books[0].weights).all()
    assert books[2].evidence.as_of_solved == books[0].as_of
    assert books[3].evidence.turnover > 0.0


def test_weights_are_made_afresh_when_a_held_name_leaves_the_universe(
    crowd, universe_of, scores_of
):
    params = _solved(weighting="risk_budgeting", max_names=7, solver={"resolve_every": 50})
    without_one, without_best = SCORES.copy(), SCORES.copy()
    without_one[0], without_best[7] = NAN, NAN

    books = _days(crowd, universe_of, scores_of, params, [SCORES, without_one, without_best])

    assert books[0].weights[0] == 0.0
    assert [book.solved for book in books] == [True, False, True]
    assert books[2].weights[7] == 0.0


def test_simple_weights_are_made_every_session(crowd, universe_of, scores_of):
    books = _days(crowd, universe_of, scores_of, FREE, [SCORES, SCORES[::-1]])

    assert [book.solved for book in books] == [True, True]
    assert books[1].evidence.turnover == pytest.approx(16.0 / 36.0)


def test_turnover_is_limited_from_one_solve_to_the_next(crowd, universe_of, scores_of):
    params = _solved(weighting="hrp", solver={"resolve_every": 1, "max_turnover": 0.02})

    books = _days(crowd, universe_of, scores_of, params, [SCORES] * 3)

    assert all(book.evidence.turnover <= 0.02 + 1e-9 for book in books[1:])
    assert [book.evidence.relaxed for book in books] == [()] * 3


def test_names_that_left_are_sold_whatever_the_turnover_limit(crowd, universe_of, scores_of):
    params = _solved(weighting="hrp", solver={"resolve_every": 1, "max_turnover": 0.02})
    fewer = SCORES.copy()
    fewer[0] = NAN

    before, after = _days(crowd, universe_of, scores_of, params, [SCORES, fewer])

    assert after.weights[0] == 0.0
    assert after.evidence.relaxed == ("max_turnover",)
    assert after.evidence.turnover == pytest.approx(before.weights[0], abs=1e-9)


def test_clusters_are_capped_harder_in_a_crisis(panel_of, universe_of, scores_of):
    rng = np.random.default_rng(3)
    common = rng.normal(0.0, 0.01, (150, 10))
    steps = np.repeat(common, 2, axis=1) + rng.normal(0.0, 0.002, (150, 20))
    steps[:, :2] /= 4.0
    panel = panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)))
    params = _solved(weighting="min_variance", solver={"two_level": True})
    universe, scores = universe_of(panel, np.ones(20)), scores_of(panel, np.ones(20))

    calm = build_book(panel, universe, scores, params, regime=_regime(panel, "CARRY"))
    crisis = build_book(panel, universe, scores, params, regime=_regime(panel, "CRISIS"))
    held = build_book(
        panel, universe, scores, params, regime=_regime(panel, "CARRY"), previous=calm
    )
    again = build_book(
        panel, universe, scores, params, regime=_regime(panel, "CRISIS"), previous=calm
    )

    assert calm.weights[:2].sum() == pytest.approx(0.25, abs=1e-5)
    assert crisis.weights[:2].sum() == pytest.approx(0.15, abs=1e-5)
    assert (held.weights == calm.weights).all()
    assert again.weights == pytest.approx(crisis.weights)
    assert crisis.evidence.regime == RegimeLabel.CRISIS


def _long_short(**given):
    return PortfolioParams(
        construction="long_short",
        max_names=3,
        max_names_short=2,
        max_weight=0.5,
        max_weight_short=0.5,
        **given,
    )


def test_a_long_short_book_may_have_no_net(crowd, universe_of, scores_of):
    params = _long_short(weighting="equal", gross_long=0.9, gross_short=0.9)

    book = _book(crowd, universe_of, scores_of, params, SCORES)

    assert book.weights == pytest.approx([-0.45, -0.45, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3])
    assert book.weights.sum() == pytest.approx(0.0)
    assert book.expected_return == pytest.approx(0.01 * (0.3 * 1.8 - 0.45 * 0.1))
    assert book.evidence.relaxed == ()


def test_the_worst_of_the_candidates_is_sold_the_most(crowd, universe_of, scores_of):
    universe = universe_of(crowd, [0.0, 0.1, NAN, 0.3, 0.4, 0.5, 0.6, 0.7])
    out_for_size = replace(universe, included=universe.included & (universe.score > 0.2))

    book = build_book(crowd, out_for_size, scores_of(crowd, SCORES), _long_short(gross_short=0.3))

    assert book.weights[:3] == pytest.approx([-0.2, -0.1, 0.0])


def test_no_name_is_both_bought_and_sold(crowd, universe_of, scores_of):
    score = np.full(8, NAN)
    score[:4] = SCORES[:4]

    book = _book(crowd, universe_of, scores_of, _long_short(weighting="equal"), score)

    assert np.flatnonzero(book.weights > 0.0).tolist() == [1, 2, 3]
    assert np.flatnonzero(book.weights < 0.0).tolist() == [0]
    assert book.weights[0] == -0.5
    assert book.evidence.relaxed == ("short:gross",)


def test_short_sales_pay_for_longs_but_not_for_the_cash_buffer(crowd, universe_of, scores_of):
    params = _long_short(gross_long=1.3, gross_short=0.3, weighting="equal", cash_buffer=0.02)

    book = _book(crowd, universe_of, scores_of, params, SCORES)

    assert book.weights.sum() == pytest.approx(0.98)
    assert book.weights[book.weights < 0.0].sum() == pytest.approx(-0.3)
    assert "cash_buffer" in book.binding


def test_each_side_of_a_solved_book_has_its_gross_and_its_cap(crowd, universe_of, scores_of):
    params = _long_short(
        weighting="min_variance", gross_long=0.8, gross_short=0.4, solver=SOLVER
    ).model_copy(update={"max_weight": 0.35, "max_weight_short": 0.3})

    book = _book(crowd, universe_of, scores_of, params, SCORES)

    assert book.weights[5:].sum() == pytest.approx(0.8)
    assert book.weights[:2].sum() == pytest.approx(-0.4)
    assert book.weights.max() <= 0.35
    assert book.weights.min() >= -0.3
    assert book.evidence.method == "min_variance"
    assert 0.0 < book.evidence.expected_volatility < 0.5


def test_a_beta_neutral_book_does_not_move_with_the_market(panel_of, universe_of, scores_of):
    market = np.random.default_rng(11).normal(0.0, 0.01, 150)
    # The simple returns are exact multiples of the market's; their mean is 1.2 times it.
    steps = np.log1p(market[:, None] * np.array([2.0, 1.6, 1.0, 0.8, 0.6]))
    panel = panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)))
    params = PortfolioParams(
        construction="long_short",
        weighting="equal",
        max_names=2,
        max_names_short=2,
        max_weight=1.0,
        max_weight_short=1.0,
        gross_long=0.9,
        gross_short=0.9,
        beta_neutral=True,
    )
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5])

    book = _book(panel, universe_of, scores_of, params, score)
    reversed_book = _book(panel, universe_of, scores_of, params, score[::-1])

    assert book.weights @ [2.0, 1.6, 1.0, 0.8, 0.6] == pytest.approx(0.0, abs=1e-9)
    assert book.weights[3:].tolist() == [0.45, 0.45]
    assert book.weights[:2].sum() == pytest.approx(-0.9 * 0.7 / 1.8)
    assert book.evidence.relaxed == ()
    # The shorts are at their gross, and are never levered up.
    assert reversed_book.weights[3:].tolist() == [-0.45, -0.45]
    assert reversed_book.evidence.relaxed == ("beta_neutral",)


def test_a_book_short_of_cash_stays_beta_neutral(panel_of, universe_of, scores_of):
    market = np.random.default_rng(11).normal(0.0, 0.01, 150)
    betas = np.array([2.0, 2.0, 0.5, 0.5])
    panel = panel_of(100.0 * np.exp(np.cumsum(np.log1p(market[:, None] * betas), axis=0)))
    params = _long_short(weighting="equal", gross_long=1.6, beta_neutral=True)
    wide = params.model_copy(update={"max_names": 2, "max_weight": 1.0})

    book = _book(panel, universe_of, scores_of, wide, [0.1, 0.2, 0.3, 0.4])

    # Beta leaves 0.4 of the shorts, and 1.6 long would need 0.21 more than there is.
    assert book.weights @ betas == pytest.approx(0.0, abs=1e-9)
    assert book.weights.sum() == pytest.approx(0.99)
    assert book.binding[-1] == "cash_buffer"


def test_a_long_short_book_without_candidates_to_sell_says_so(crowd, universe_of, scores_of):
    params = _long_short(weighting="equal").model_copy(update={"max_names": 8})

    book = _book(crowd, universe_of, scores_of, params, SCORES)

    assert book.weights.min() > 0.0
    assert "short:empty" in book.binding


def test_a_book_of_cash_is_not_held_until_the_next_solve(crowd, universe_of, scores_of):
    params = _solved(weighting="risk_budgeting", solver={"resolve_every": 50})

    books = _days(crowd, universe_of, scores_of, params, [np.full(8, NAN), SCORES])

    assert not books[0].weights.any()
    assert books[1].solved
    assert books[1].weights.sum() == pytest.approx(1.0)


def test_a_long_short_book_is_scaled_to_the_volatility_of_both_sides(crowd, universe_of, scores_of):
    free = _long_short(weighting="hrp", solver=SOLVER)
    target = SOLVER.model_copy(update={"volatility_target": 0.03})

    book = _book(crowd, universe_of, scores_of, free, SCORES)
    calm = _book(crowd, universe_of, scores_of, free.model_copy(update={"solver": target}), SCORES)

    scale = 0.03 / book.evidence.expected_volatility
    assert scale < 1.0
    assert calm.weights == pytest.approx(scale * book.weights)
    assert calm.evidence.expected_volatility == 0.03


@pytest.mark.parametrize(("target", "kept"), [(0.06, True), (0.01, False)])
def test_a_long_short_book_trades_what_its_turnover_allows_once_the_target_is_kept(
    crowd, universe_of, scores_of, target, kept
):
    calm = SOLVER.model_copy(update={"volatility_target": 0.03})
    params = _long_short(weighting="equal", solver=calm)
    changed = SOLVER.model_copy(update={"volatility_target": target, "max_turnover": 0.05})
    universe, scores = universe_of(crowd, SCORES), scores_of(crowd, SCORES)
    first = build_book(crowd, universe, scores, params)

    book = build_book(
        crowd, universe, scores, params.model_copy(update={"solver": changed}), previous=first
    )

    traded = one_way_turnover(book.weights - first.weights)
    assert book.evidence.expected_volatility <= target * (1.0 + 1e-9)
    assert (traded == pytest.approx(0.05)) == kept
    assert traded > 0.05 - 1e-9
    assert book.evidence.relaxed == (() if kept else ("max_turnover",))
    assert ("max_turnover" in book.binding) == kept


def _fragility(panel, score, templates=()):
    return FragilityMeasures(
        as_of=panel.as_of,
        horizon=21,
        drawdown_threshold=0.15,
        instruments=panel.instruments,
        fragility_score=np.array(score, dtype=np.float64),
        fragility_class=np.zeros(len(score), dtype=np.int64),
        drawdown_probability=np.full(len(score), NAN),
        components={},
        scenario_losses={},
        templates=tuple(
            PositionTemplate(name, direction, hint, 21, "") for name, direction, hint in templates
        ),
    )


def _regime(panel, label):
    return RegimeState(
        as_of=panel.as_of,
        region="US",
        label=RegimeLabel(label),
        confidence=1.0,
        probabilities=np.full(4, 0.25),
        transition_matrix=np.full((4, 4), 0.25),
        change_risk={},
        features={},
        previous_label=None,
    )


TEMPLATES = (("I003", "SHORT", 0.04), ("I001", "SHORT", 0.09), ("I002", "LONG", 0.05))
HEDGE = PortfolioParams(construction="short_hedge", max_weight_short=0.05, gross_short=0.3)


def _hedge(crowd, universe_of, scores_of, params, label=None, templates=TEMPLATES):
    return build_book(
        crowd,
        universe_of(crowd, SCORES),
        scores_of(crowd, SCORES),
        params,
        regime=None if label is None else _regime(crowd, label),
        fragility=_fragility(crowd, SCORES, templates),
    )


@pytest.mark.parametrize(
    ("label", "scale"),
    [("CRISIS", 1.0), ("RISK_OFF", 1.0), ("NEUTRAL", 0.5), ("CARRY", 0.25), (None, 0.5)],
)
def test_a_hedge_sells_what_is_suggested_as_much_as_the_regime_calls_for(
    crowd, universe_of, scores_of, label, scale
):
    book = _hedge(crowd, universe_of, scores_of, HEDGE, label)

    assert book.weights == pytest.approx(scale * np.array([0, -0.05, 0, -0.04, 0, 0, 0, 0]))
    assert "max_weight_short" in book.binding
    assert ("unknown_regime" in book.binding) == (label is None)
    assert book.evidence.method == "templates"


def test_a_hedge_keeps_its_gross_and_its_number_of_names(crowd, universe_of, scores_of):
    small = HEDGE.model_copy(update={"gross_short": 0.03})
    one = HEDGE.model_copy(update={"max_names_short": 1})

    book = _hedge(crowd, universe_of, scores_of, small, "CRISIS")
    assert book.weights[[1, 3]] == pytest.approx([-0.03 * 5 / 9, -0.03 * 4 / 9])
    assert "gross_short" in book.binding
    book = _hedge(crowd, universe_of, scores_of, one, "CRISIS")
    assert np.flatnonzero(book.weights).tolist() == [3]
    assert "max_names_short" in book.binding


def test_a_hedge_sells_what_breaks_but_not_what_is_banned(crowd, universe_of, scores_of):
    universe = universe_of(crowd, SCORES)
    exclusion = universe.exclusion.copy()
    exclusion[1], exclusion[3] = Exclusion.HARD_EXCLUDED, Exclusion.BREAKER

    book = build_book(
        crowd,
        replace(universe, exclusion=exclusion),
        scores_of(crowd, SCORES),
        HEDGE,
        fragility=_fragility(crowd, SCORES, TEMPLATES),
    )

    assert np.flatnonzero(book.weights).tolist() == [3]


def test_without_suggestions_a_hedge_is_cash_and_says_why(crowd, universe_of, scores_of):
    nothing = _hedge(crowd, universe_of, scores_of, HEDGE, "CRISIS", templates=())
    unknown = _book(crowd, universe_of, scores_of, HEDGE, SCORES)

    assert nothing.weights.tolist() == unknown.weights.tolist() == [0.0] * 8
    assert nothing.binding == ("no_templates",)
    assert unknown.binding == ("no_fragility",)
    assert unknown.expected_return is None


def _days(panel, universe_of, scores_of, params, scores):
    """The books of the panel's last sessions, each handed to the next."""
    books = [None]
    for back, score in zip(range(len(scores) - 1, -1, -1), scores, strict=True):
        view = panel.until(panel.sessions[-1 - back].astype(object))
        universe, known = universe_of(view, score), scores_of(view, score)
        books.append(build_book(view, universe, known, params, previous=books[-1]))
    return books[1:]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"construction": "long_short"}, "max_names"),
        ({"weighting": "hrp", "solver": {"cost_bps": 5.0}}, "solver.cost_bps"),
        (
            {"weighting": "min_variance", "solver": {"cost_bps": 5.0, "two_level": True}},
            "solver.cost_bps",
        ),
        ({"weighting": "score", "solver": {"two_level": True}}, "solver.two_level"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, field):
    with pytest.raises(ValueError, match=field):
        PortfolioParams.model_validate(settings)
