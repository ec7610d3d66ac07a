import re
from datetime import date

import httpx
import pytest

from persistence.tables import operations, trading
from persistence.tables import runtime as tables
from tests.integration.monitoring.world import SESSIONS, World, at, fill, put

pytestmark = pytest.mark.integration

STRATEGY, PORTFOLIO = "US_CORE", "US_CORE_FAST_PORTFOLIO"
PATHS = (
    "/api/options",
    "/api/status/overview",
    "/api/status/regime",
    "/api/status/stability",
    "/api/status/fragility",
    "/api/status/fragility/A.US",
    f"/api/status/assessment?strategy_id={STRATEGY}",
    f"/api/status/universe?strategy_id={STRATEGY}",
    f"/api/status/portfolio?portfolio_id={PORTFOLIO}",
    f"/api/status/portfolio_risk?portfolio_id={PORTFOLIO}",
    f"/api/status/execution?portfolio_id={PORTFOLIO}",
    f"/api/status/risk_actions?strategy_id={STRATEGY}",
    "/api/status/pipeline?market_id=US_EQ",
)

OTHER = World(
    strategy="EU_OTHER",
    size=3.0,
    label="TWO",
    mode="PAPER",
    later=7,
    region="EU",
    kind="ISSUER",
    names=("A.US", "B.US", "C.US"),
)
OF_THE_SERVER = {f"/api/options.{name}" for name in ("version", "open_to_all", "role", "caller")}
OF_THE_QUESTION = {"/api/status/fragility.entity_type", "/api/status/fragility/A.US.entity_id"}
OF_THE_CLOCK = {
    f"/api/status/pipeline?market_id=US_EQ.{name}"
    for name in ("market_state", "next_state", "next_state_at")
}


def read(client, path, **parameters):
    address = httpx.URL(path)
    answer = client.get(address.copy_merge_params(parameters))
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def world(database):
    fill(database, World())
    return World()


def test_an_empty_store_knows_nothing_and_says_so(client):
    for path in PATHS:
        answer = read(client, path)
        unknown = set(answer["unknown"])

        assert {name for name, value in answer.items() if value is None} - {"region"} <= unknown
        assert all(answer["unknown"].values())


def test_the_overview_adds_the_sleeves_up(client, world):
    answer = read(client, "/api/status/overview")

    # 400, 420, 400, 420.
    assert answer["as_of_date"] == "2024-02-02"
    assert answer["equity"] == pytest.approx(420.0)
    assert answer["pnl_today"] == pytest.approx(420.0 / 400.0 - 1.0)
    assert answer["pnl_mtd"] == pytest.approx(0.0)
    assert answer["pnl_ytd"] == pytest.approx(420.0 / 400.0 - 1.0)
    assert answer["max_drawdown"] == pytest.approx(400.0 / 420.0 - 1.0)
    assert answer["net_exposure"] == pytest.approx(0.4)
    assert answer["gross_exposure"] == answer["leverage"] == pytest.approx(0.6)
    # Scores 10 and 11 of 100.
    assert answer["global_stability_index"] == pytest.approx(1.0 - 0.105)
    assert answer["runs"] == [world.run_id("FAST"), world.run_id("SLOW")]
    assert [each["regime_label"] for each in answer["regimes"]] == ["ONE"]
    assert [each["message"] for each in answer["alerts"]] == ["ONE"]


def test_gains_are_since_the_close_before_the_first_session(client, world):
    pnl = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)["pnl"]

    assert pnl["today"] == pytest.approx(120.0 / 99.0 - 1.0)
    assert pnl["mtd"] == pytest.approx(120.0 / 110.0 - 1.0)
    assert pnl["ytd"] == pytest.approx(120.0 / 100.0 - 1.0)


@pytest.mark.parametrize("name", ["as_of", "as_of_date"])
def test_an_answer_of_a_session_knows_nothing_later(client, world, name):
    overview = read(client, "/api/status/overview", **{name: "2024-01-31"})
    regime = read(client, "/api/status/regime", **{name: "2024-01-31"})

    assert overview["as_of_date"] == "2024-01-31"
    assert overview["equity"] == pytest.approx(420.0)
    assert [point["date"] for point in regime["history"]] == ["2024-01-31"]


def test_a_gain_without_a_session_before_is_unknown_and_says_why(client, world):
    answer = read(client, "/api/status/overview", as_of="2023-12-29")

    assert answer["pnl_today"] is None
    assert "too late" in answer["unknown"]["pnl_today"]


def test_two_names_of_one_session_that_differ_are_refused(client):
    answer = client.get("/api/status/overview?as_of=2024-01-31&as_of_date=2024-02-01")

    assert answer.status_code == 400


def test_traded_runs_are_not_mixed_with_backtests(client, world, database):
    fill(database, World(mode="PAPER", label="TWO", size=2.0))

    # Twice 420, and 10 for each of three sessions of two sleeves.
    newest = read(client, "/api/status/overview")
    asked = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO, mode="BACKTEST")

    assert (newest["mode"], newest["equity"]) == ("PAPER", pytest.approx(900.0))
    assert (asked["mode"], asked["equity"]) == ("BACKTEST", pytest.approx(120.0))


def test_a_portfolio_weighs_what_it_holds_and_is_exposed_to(client, world):
    answer = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)

    held = {each["instrument_id"]: each for each in answer["positions"]}
    assert list(held) == ["A.US", "B.US"]
    assert held["A.US"]["weight"] == pytest.approx(60.0 / 120.0)
    assert held["B.US"]["quantity"] == -1.0
    assert answer["exposures"]["by_sector"] == {"ONE": pytest.approx(0.2)}
    assert answer["exposures"]["by_fragility_class"] == {
        "ONE0": pytest.approx(0.5),
        "ONE1": pytest.approx(-0.1),
    }


def test_a_strategy_s_portfolio_is_that_of_its_sleeves(client, world):
    answer = read(client, "/api/status/portfolio", portfolio_id=STRATEGY)

    assert answer["equity"] == pytest.approx(420.0)
    assert answer["positions"][0]["market_value"] == pytest.approx(120.0)
    assert answer["exposures"]["by_factor"] == {"ONE": pytest.approx(0.9)}


def test_a_book_whose_positions_were_written_with_fills_only_still_has_them(
    client, world, database
):
    later = {
        "run_id": world.run_id("FAST"),
        "mode": "BACKTEST",
        "strategy_id": STRATEGY,
        "date": date(2024, 2, 5),
        "equity_curve_value": 240.0,
        "gross_exposure": 0.5,
    }
    put(database, tables.backtest_daily_equity, [later])

    answer = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)

    assert answer["as_of_date"] == "2024-02-05"
    assert answer["positions"][0]["weight"] == pytest.approx(60.0 / 240.0)


def test_a_risk_report_tells_all_its_tails_and_scenarios(client, world):
    answer = read(client, "/api/status/portfolio_risk", portfolio_id=PORTFOLIO)

    assert (answer["volatility"], answer["var_95"]) == (0.16, -0.01)
    assert answer["tails"][0]["value_at_risk"] == -0.04
    assert answer["scenarios"] == [{"scenario": "ONE", "pnl": -0.07, "covered": 0.5}]
    assert answer["component_risk"] == {"ONE": 0.06}


def test_execution_is_of_one_run_and_newest_first(client, world):
    answer = read(
        client, "/api/status/execution", portfolio_id=PORTFOLIO, limit_orders=2, limit_fills=1
    )

    assert [order["timestamp"][:10] for order in answer["orders"]] == ["2024-02-02", "2024-02-01"]
    assert [fill_["price"] for fill_ in answer["fills"]] == [11.0]
    assert {each["run_id"] for each in answer["orders"]} == {world.run_id("FAST")}
    assert [each["instrument_id"] for each in answer["positions"]] == ["A.US", "B.US"]


def test_execution_of_a_session_has_nothing_of_the_next(client, world):
    answer = read(client, "/api/status/execution", portfolio_id=PORTFOLIO, as_of=str(SESSIONS[1]))

    assert [order["timestamp"][:10] for order in answer["orders"]] == ["2024-01-31", "2023-12-20"]


def test_the_most_fragile_come_first_with_their_history(client, world):
    most = read(client, "/api/status/fragility")
    one = read(client, "/api/status/fragility/B.US")

    assert [each["entity_id"] for each in most["entities"]] == ["B.US", "A.US"]
    assert most["classes"] == {"ONE0": 1, "ONE1": 1}
    assert one["fragility_alpha"] == pytest.approx(0.2)
    assert [point["date"] for point in one["history"]] == ["2024-02-02", "2024-02-01", "2024-01-31"]
    assert one["scenarios"] == [{"scenario": "ONE", "pnl": -0.3}]
    assert {each["position"] for each in one["positions"]} == {-1.0}


def test_the_universe_has_its_members_first(client, world):
    answer = read(client, "/api/status/universe", strategy_id=STRATEGY)

    assert (answer["included"], answer["total"]) == (1, 2)
    assert [each["in_universe"] for each in answer["candidates"]] == [True, False]
    assert answer["candidates"][0]["quality_score"] == pytest.approx(0.9)
    assert answer["candidates"][0]["liquidity_score"] == pytest.approx(0.9)


def test_what_most_is_expected_of_comes_first(client, world):
    answer = read(client, "/api/status/assessment", strategy_id=STRATEGY)

    assert [each["instrument_id"] for each in answer["instruments"]] == ["B.US", "A.US"]


def test_the_stability_of_each_session_is_a_mean_over_names(client, world):
    answer = read(client, "/api/status/stability")

    assert answer["current_index"] == pytest.approx(0.895)
    assert answer["volatility_component"] == pytest.approx(0.8)
    assert len(answer["history"]) == 3
    assert answer["classes"] == {"ONE": 2}


def test_a_day_s_own_run_answers_before_a_backtest_of_its_session(client, world, database):
    day = {"run_id": "D", "as_of_date": SESSIONS[-1], "region": "US", "mode": "PAPER"}
    put(database, operations.engine_runs, [day | {"strategy_id": STRATEGY, "phase": "COMPLETED"}])
    own = {"run_id": "D:US_CORE_FAST", "region": "US", "as_of_date": SESSIONS[-1]}
    put(database, tables.regimes, [own | {"regime_label": "CRISIS", "confidence": 1.0}])

    answer = read(client, "/api/status/regime", region="US")

    assert answer["run_id"] == "D:US_CORE_FAST"
    assert [point["regime"] for point in answer["history"]] == ["CRISIS", "ONE", "ONE"]


def test_a_region_that_nobody_traded_has_no_answer(client, world):
    for path in ("regime", "stability", "fragility"):
        assert read(client, f"/api/status/{path}", region="EU")["as_of_date"] is None


def test_the_pipeline_tells_how_long_each_job_took(client, world):
    answer = read(client, "/api/status/pipeline", market_id="US_EQ")

    job, phase = answer["jobs"]
    assert (job["job_name"], job["latency_ms"], job["slo_ms"]) == ("job_ONE", 2000.0, 600_000.0)
    assert job["next_run"].startswith("2024-02-05T21:00")
    assert (phase["last_run_status"], phase["latency_ms"]) == ("ONE", 1000.0)


def test_the_pipeline_of_a_market_that_there_is_not_is_refused(client):
    answer = client.get("/api/status/pipeline?market_id=NOWHERE")

    assert answer.status_code == 400
    assert "NOWHERE" in answer.json()["error"]["message"]


def test_no_field_is_a_constant(client, database):
    """Of two worlds that share no value, no field of any answer has the same in both."""
    seen: dict[str, set[str]] = {}
    for world in (World(), OTHER):
        fill(database, world)
        for path in PATHS:
            asked = path.replace(STRATEGY, world.strategy).replace("US_EQ", world.market)
            chosen = {"mode": world.mode, "region": world.region, "strategy_id": world.strategy}
            _collect(path, read(client, asked, **chosen), seen)

    constant = {name for name, values in seen.items() if len(values - {"None"}) < 2}

    assert constant <= OF_THE_SERVER | OF_THE_QUESTION | OF_THE_CLOCK


def _collect(name, value, seen):
    if isinstance(value, list):
        for each in value:
            _collect(name, each, seen)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key != "unknown":
                # Names of classes, factors and so on are the worlds' own.
                _collect(f"{name}.{re.sub('(ONE|TWO).*', '*', key)}", each, seen)
    else:
        seen.setdefault(name, set()).add(str(value))


def test_alerts_that_somebody_has_seen_are_not_shown(client, world, database):
    seen = {"alert_id": "SEEN", "acknowledged_at": at(SESSIONS[0]), "acknowledged_by": "ann"}
    put(database, trading.alerts, [seen])

    assert len(read(client, "/api/status/overview")["alerts"]) == 1


def test_options_are_what_was_recorded(client, world):
    answer = read(client, "/api/options")

    assert answer["strategies"] == [
        {
            "strategy_id": STRATEGY,
            "sleeves": ["US_CORE_FAST", "US_CORE_SLOW"],
            "portfolios": ["US_CORE_FAST_PORTFOLIO", "US_CORE_SLOW_PORTFOLIO"],
        }
    ]
    assert (answer["regions"], answer["markets"]) == (["US"], ["US_EQ"])
    assert (answer["first_session"], answer["last_session"]) == ("2023-12-20", "2024-02-02")
    assert (answer["modes"], answer["role"]) == (["BACKTEST"], "TRADE")
