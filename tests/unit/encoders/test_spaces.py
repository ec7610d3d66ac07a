from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.market import ScenarioSet
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.encoders.numeric import WindowParams, encode_windows
from prometheus_nt.encoders.portfolio_space import PortfolioFacts, portfolio_vectors
from prometheus_nt.encoders.profile_space import TEXT_WIDTH, profile_vectors
from prometheus_nt.encoders.regime_space import market_outcomes, regime_vectors
from prometheus_nt.encoders.run_space import (
    ENVIRONMENT_FEATURES,
    OUTCOME_FEATURES,
    RunFacts,
    environment_before,
    repeated_by,
    run_vectors,
)
from prometheus_nt.encoders.scenario_space import FIGURES, scenario_vectors, window_figures
from prometheus_nt.encoders.similarity import nearest, similarities
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.profiles import ProfileParams, build_profiles
from prometheus_nt.engines.regime import FEATURES, RegimeParams, regime_features

WINDOWS = WindowParams(window=20, min_observations=12, fit_every=10)
REGIMES = RegimeParams(
    trend_lookback=10,
    volatility_lookback=5,
    drawdown_lookback=20,
    breadth_lookback=10,
    dispersion_lookback=5,
    correlation_lookback=10,
)


@pytest.fixture
def profiled(market):
    panel = market()
    return panel, build_profiles(panel, ProfileParams())


def test_profiles_join_what_is_known_and_say_what_is_missing(profiled):
    panel, profiles = profiled

    vectors = profile_vectors(profiles, encode_windows(panel, WINDOWS), panel.sectors)

    names = [block.name for block in vectors.space.blocks]
    assert names == ["window", "price", "accounts", "sector"]
    assert vectors.known.all(axis=0).tolist() == [True, True, False, True]
    found = nearest(vectors, 0, 7)
    assert panel.instruments[0] not in {item.entity_id for item in found}
    assert {item.by_block["accounts"] for item in found} == {None}


def test_profiles_compare_without_windows_sectors_and_text(profiled):
    _, profiles = profiled

    assert len(nearest(profile_vectors(profiles), 0, 99)) == 7


def test_a_text_block_counts_where_there_is_one(profiled):
    _, profiles = profiled
    text = np.full((8, TEXT_WIDTH), np.nan)
    text[[0, 5]] = np.eye(TEXT_WIDTH)[0]

    vectors = profile_vectors(profiles, text=text)

    (like,) = [item for item in nearest(vectors, 0, 7) if item.row == 5]
    assert like.by_block["text"] == 1.0
    assert vectors.known[:, -1].tolist() == [row in (0, 5) for row in range(8)]


def test_windows_of_another_close_do_not_join(market, profiled):
    panel, profiles = profiled
    before = panel.until(panel.sessions[-2].astype(object))

    with pytest.raises(DataError, match="do not match windows"):
        profile_vectors(profiles, encode_windows(before, WINDOWS))


def test_a_session_like_an_earlier_one_finds_it(market):
    rng = np.random.default_rng(3)
    calm, wild = rng.normal(0.001, 0.003, (60, 8)), rng.normal(-0.02, 0.05, (40, 8))
    moves = np.concatenate([calm, wild, calm[::-1], wild[::-1][:30]])
    close = 50.0 * np.exp(np.cumsum(moves, axis=0))
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    panel = market(sessions=len(moves), **prices)
    vectors = regime_vectors(panel, REGIMES)
    query = len(panel) - 1

    found = nearest(vectors, query, 3, np.arange(len(panel)) < query - 40, spacing=5)

    assert all(65 <= item.row < 105 for item in found)


def test_no_later_session_moves_a_regime_vector(market, changed):
    panel = market()
    fields = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in fields.values():
        array[101:] = np.random.default_rng(8).uniform(0.5, 9.0, array[101:].shape)
    as_of = panel.sessions[100].astype(object)

    expected = regime_vectors(panel.until(as_of), REGIMES)
    found = regime_vectors(changed(panel, **fields).until(as_of), REGIMES)

    assert found.content_id == expected.content_id


def test_an_outcome_is_known_once_its_sessions_are_over(market):
    close = np.cumprod(np.full((5, 1), 1.1), axis=0)
    panel = market(sessions=5, names=1, close=close)

    outcomes = market_outcomes(panel, 2)

    assert outcomes[:3] == pytest.approx([0.21, 0.21, 0.21])
    assert np.isnan(outcomes[3:]).all()


def book(name, weights, **risk):
    sectors = {"Tech": sum(weights.values())} if weights else None
    return PortfolioFacts(name, date(2020, 1, 2), weights, sectors, risk)


def test_books_with_the_same_names_are_alike_whatever_their_order():
    books = [
        book("query", {"A": 0.5, "B": 0.5}, herfindahl=0.5),
        book("same", {"B": 0.25, "A": 0.25}, herfindahl=0.5),
        book("other", {"C": 0.5, "A": 0.1}, herfindahl=0.6),
        book("cash", {}),
    ]

    found = nearest(portfolio_vectors(books), 0, 3)

    assert [item.entity_id for item in found] == ["same", "other"]
    assert found[0].by_block["weights"] == pytest.approx(1.0)
    assert found[1].by_block["weights"] == pytest.approx(0.05 / np.sqrt(0.5 * 0.26))


def run(name, horizon=21, weighting="score", environment=None, **outcome):
    config = {
        "seed": ord(name),
        "data": {"dataset": name},
        "engines": {"assessment": {"horizon": horizon, "weights": [0.5, horizon / 100]}},
        "portfolio": {"weighting": weighting, "min_price": None if horizon == 5 else 3.0},
        "sleeve": {"sleeve_id": name},
    }
    return RunFacts(name, config, environment or {"mean_trend": 0.1}, outcome)


RUNS = [
    run("a", 21, annualised_sharpe=0.5, cagr=0.1),
    run("b", 21, annualised_sharpe=-2.0, cagr=-0.3),
    run("c", 5, annualised_sharpe=0.5, cagr=0.1),
    run("d", 63, "equal", annualised_sharpe=0.6, cagr=0.1),
]


def test_a_search_without_outcomes_does_not_see_them():
    turned = [
        replace(item, outcome={n: 9.0 - k for n in OUTCOME_FEATURES}) for k, item in enumerate(RUNS)
    ]

    expected, found = run_vectors(RUNS), run_vectors(turned)

    assert found.content_id == expected.content_id
    assert [block.name for block in found.space.blocks] == ["config", "environment"]


def test_equal_settings_are_alike_whatever_the_ids_and_the_outcomes():
    vectors = run_vectors(RUNS)

    nearest_run = nearest(vectors, 0, 1)[0]

    assert nearest_run.entity_id == "b"
    assert nearest_run.by_block["config"] == pytest.approx(1.0)
    names = vectors.space.blocks[0].features
    assert not any("seed" in name or "dataset" in name or "sleeve_id" in name for name in names)
    assert "engines.assessment.horizon" in names
    assert "portfolio.weighting=equal" in names
    assert "portfolio.min_price is set" in names


def test_with_outcomes_they_decide_too():
    without = similarities(run_vectors(RUNS), 0)[0]
    known = {name: 0.5 for name in OUTCOME_FEATURES}
    runs = [replace(item, outcome=known | item.outcome) for item in RUNS]

    vectors = run_vectors(runs, with_outcome=True)
    joint, by_block = similarities(vectors, 0)

    assert by_block[2, 2] > by_block[1, 2], "c came out like a, b did not"
    assert joint[1] < without[1]
    assert vectors.space.schema_id != run_vectors(runs).space.schema_id


def test_a_run_without_a_recorded_environment_lacks_the_block():
    some = {"mean_trend": 0.2, "instruments": 8.0}
    full = {f"{part}_{name}": 0.2 for part in ("mean", "last") for name in FEATURES}
    runs = [run("a", environment=full), run("b", 5, environment=some), run("c", environment=full)]

    known = run_vectors(runs).known

    assert known[:, 1].tolist() == [True, False, True]


def test_an_environment_is_the_market_of_the_year_before_the_run(market):
    panel = market(sessions=340)
    start = panel.sessions[330].astype(object)
    features = regime_features(panel, REGIMES)

    found = environment_before(panel, start, REGIMES)

    assert tuple(found) == ENVIRONMENT_FEATURES
    for place, name in enumerate(FEATURES):
        assert found[f"mean_{name}"] == pytest.approx(features[330 - 252 : 330, place].mean())
        assert found[f"last_{name}"] == pytest.approx(features[329, place])
    assert found["instruments"] == np.isfinite(panel.close[329]).sum()


def test_nothing_of_the_runs_own_sessions_moves_its_environment(market, changed):
    panel = market(sessions=160)
    fields = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in fields.values():
        array[120:] = np.random.default_rng(8).uniform(0.5, 9.0, array[120:].shape)
    start = panel.sessions[120].astype(object)

    expected = environment_before(panel, start, REGIMES)

    assert environment_before(changed(panel, **fields), start, REGIMES) == expected
    day_later = panel.sessions[121].astype(object)
    assert environment_before(changed(panel, **fields), day_later, REGIMES) != environment_before(
        panel, day_later, REGIMES
    )


def test_too_little_history_before_a_run_is_an_unknown_environment(market):
    panel = market(sessions=60)

    assert environment_before(panel, panel.sessions[20].astype(object), REGIMES) == {}
    assert environment_before(panel, date(1990, 1, 2), REGIMES) == {}
    soon = environment_before(panel, panel.sessions[21].astype(object), REGIMES)
    assert soon["last_trend"] is not None
    assert soon["last_drawdown"] is None or np.isfinite(soon["last_drawdown"])


def test_the_order_of_the_runs_does_not_matter():
    expected = {item.entity_id: item.similarity for item in nearest(run_vectors(RUNS), 0, 9)}

    turned = run_vectors(RUNS[::-1])

    assert {
        item.entity_id: item.similarity for item in nearest(turned, turned.row_of("a"), 9)
    } == pytest.approx(expected, rel=1e-12)


def test_a_run_repeats_one_of_its_configuration_or_of_its_likeness_and_orders():
    base = {"sessions": {"start": "2004"}, "seed": 0, "engines": {"portfolio": {"max_names": 3}}}

    def run(name, orders=None, **changed):
        return RunFacts(name, base | changed, {}, {}, orders)

    wider = {"portfolio": {"max_names": 4}}
    found = repeated_by(
        [
            run("asked", "o1"),
            run("other sessions", "o2", sessions={"start": "2005"}),
            run("other seed, same orders", "o1", seed=1),
            run("other seed, other orders", "o3", seed=2),
            run("other names, same orders", "o1", engines=wider),
            run("of the same names", None, engines=wider, sessions={"start": "2006"}),
        ]
    )

    assert found == {
        "asked": "asked",
        "other sessions": "asked",
        "other seed, same orders": "asked",
        "other seed, other orders": "other seed, other orders",
        "other names, same orders": "other names, same orders",
        "of the same names": "other names, same orders",
    }


def test_the_figures_of_a_window_by_hand():
    own = np.array([[0.1, -0.5, 0.0, 0.2], [0.01, 0.01, 0.01, 0.01]])
    market = np.array([[0.02, -0.1, -0.1, 0.0], [0.0, 0.01, 0.0, 0.02]])

    figures = dict(zip(FIGURES, window_figures(own, market).T, strict=True))

    assert figures["volatility"] == pytest.approx([np.std(own[0]), 0.0])
    assert figures["total_return"] == pytest.approx([1.1 * 0.5 * 1.2 - 1.0, 1.01**4 - 1.0])
    assert figures["max_drawdown"] == pytest.approx([-0.5, 0.0])
    assert figures["shortfall"] == pytest.approx([-0.5, 0.01])
    assert figures["downside_beta"][0] == pytest.approx((0.1 * 0.5 + 0.0) / 0.02)
    assert np.isnan(figures["downside_beta"][1])
    assert figures["market_return"][0] == pytest.approx(1.02 * 0.9 * 0.9 - 1.0)


def test_the_path_that_repeats_the_newest_window_is_its_nearest(market):
    panel = market()
    horizon, names = 21, panel.instruments
    returns = panel.derived(total_returns)
    starts = (40, 80, len(panel) - horizon, 60)
    paths = np.stack([np.nan_to_num(returns[start : start + horizon]) for start in starts])
    scenarios = ScenarioSet(panel.as_of, "echo", "h", "HISTORICAL", names, paths)

    vectors, figures = scenario_vectors(panel, scenarios, names[0])

    assert nearest(vectors, 0, 1)[0].entity_id == "2"
    assert figures[0] == pytest.approx(figures[3])


def test_a_window_that_is_hardly_known_is_compared_with_nothing(market):
    panel = market()
    names = panel.instruments
    flat = ScenarioSet(panel.as_of, "flat", "h", "HISTORICAL", names, np.zeros((3, 21, len(names))))
    close = panel.close.copy()
    close[-10:, 0] = np.nan
    halted = market(close=close)

    with pytest.raises(DataError, match=f"instrument: {names[0]} has no return on 10 of the 21"):
        scenario_vectors(halted, flat, names[0])
    with pytest.raises(InsufficientHistory):
        scenario_vectors(panel.last(21), flat, names[0])
