from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa

from persistence.historical import HistoricalStore
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import MarketCalendar
from tests.integration.monitoring.world import SESSIONS, World, fill, put

pytestmark = pytest.mark.integration

PORTFOLIO = "US_CORE_FAST_PORTFOLIO"
DAYS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}
FACTS = {"sector": None, "asset_class": "EQUITY", "exchange": None, "currency": "USD"}


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def world(database):
    fill(database, World())
    return World()


@pytest.fixture
def decided(database, world):
    """Give the newest order of FAST a decision, its target, and an engine that ran before it."""
    run_id, session = world.run_id("FAST"), SESSIONS[-1]
    own = {"run_id": run_id, "as_of_date": session, "strategy_id": "US_CORE", "mode": "BACKTEST"}
    order = {"order_id": f"{run_id}:{len(SESSIONS) - 1}", "decision_id": "D1"}
    order |= {"run_id": run_id, "portfolio_id": PORTFOLIO, "instrument_id": "A.US"}
    order |= {
        "mode": "BACKTEST",
        "side": "BUY",
        "order_type": "MARKET",
        "quantity": 5.0,
        "status": "FILLED",
    }
    put(database, tables.orders, [order])
    target = {"weights": {"A.US": 0.4, "C.US": 0.1}}
    put(
        database,
        tables.target_portfolios,
        [own | {"portfolio_id": PORTFOLIO, "target_positions": target}],
    )
    engine = {"decision_id": "D0", "engine_name": "RISK", "config_id": "c"}
    sleeve = {"decision_id": "D1", "engine_name": "SLEEVE", "config_id": "US_CORE_FAST"}
    put(database, tables.engine_decisions, [own | engine, own | sleeve])
    details = {"original_weight": 0.5, "adjusted_weight": 0.4, "reason": "CAPPED"}
    action = {"action_id": "mine", "instrument_id": "A.US", "action_type": "CAPPED"}
    put(database, tables.risk_actions, [own | action | {"details_json": details}])
    bought = {"fill_id": f"{order['order_id']}#1", "order_id": order["order_id"]}
    bought |= {
        "run_id": run_id,
        "mode": "BACKTEST",
        "portfolio_id": PORTFOLIO,
        "instrument_id": "A.US",
    }
    put(database, tables.fills, [bought | {"side": "BUY", "quantity": 5.0, "price": 11.0}])
    return order["order_id"]


@pytest.fixture
def dataset(database):
    """Store a dataset of one whole, one stale and one missing instrument."""
    store = HistoricalStore(database)
    store.write_dataset(DATASET)
    names = [
        FACTS | {"instrument_id": f"{name}.US", "symbol": name, "issuer_id": name, "name": name}
        for name in "ABC"
    ]
    store.write_instruments("demo", names)
    for name, days in (("A.US", DAYS), ("B.US", DAYS[:3])):
        columns = ("open", "high", "low", "close", "adjusted_close", "volume")
        prices = {column: np.full(len(days), 10.0) for column in columns} | {"trade_date": days}
        store.write_prices("demo", name, prices, source="test")
    finding = {
        "dataset_id": "demo",
        "instrument_id": "A.US",
        "trade_date": None,
        "rule": "large_return",
        "severity": "WARNING",
        "value": "1",
        "message": "look at it",
    }
    other = finding | {"rule": "volume_spike"}
    store.write_quality_events("demo", "A.US", [finding, other])


def steps_of(answer):
    return {step["kind"]: step for step in answer["steps"]}


def test_a_fill_leads_back_through_order_target_and_risk(client, decided):
    answer = read(client, f"/api/lineage/fills/{decided}%231")
    steps = steps_of(answer)

    assert answer["instrument_id"] == "A.US"
    assert [step["kind"] for step in answer["steps"]][:4] == ["fill", "order", "decision", "target"]
    assert steps["order"]["facts"]["order_id"] == decided
    assert steps["decision"]["facts"]["config_id"] == "US_CORE_FAST"
    assert steps["target"]["facts"]["weight"] == 0.4
    assert steps["target"]["facts"]["names"] == 2
    assert [row["adjusted_weight"] for row in steps["risk"]["rows"]] == [0.4]
    assert steps["scores"]["facts"]["instrument_scores"]["confidence"] == 0.5
    assert [row["engine"] for row in steps["stages"]["rows"]] == ["RISK"]


def test_an_order_leads_back_the_same_way_and_on_to_its_fills(client, decided):
    steps = steps_of(read(client, f"/api/lineage/orders/{decided}"))

    assert [row["fill_id"] for row in steps["fills"]["rows"]] == [f"{decided}#1"]
    assert steps["target"]["facts"]["weight"] == 0.4


def test_steps_of_which_nothing_is_stored_say_so(client, world):
    steps = steps_of(read(client, f"/api/lineage/fills/{world.run_id('FAST')}:0%231"))

    assert steps["fill"]["missing"] is None
    assert "no decision" in steps["decision"]["missing"]
    assert all(steps[kind]["missing"] for kind in ("target", "risk", "scores", "stages", "data"))


@pytest.mark.parametrize("kind", ["fills", "orders"])
def test_what_was_never_traded_is_not_found_and_names_the_listing(client, kind):
    answer = client.get(f"/api/lineage/{kind}/nothing")

    assert answer.status_code == 404
    assert f"prometheus show {kind}" in answer.json()["error"]["message"]


def test_a_book_tells_what_it_wants_beside_what_it_holds(client, decided):
    answer = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)
    wanted = {each["instrument_id"]: each["target_weight"] for each in answer["positions"]}
    held = {each["instrument_id"]: each["quantity"] for each in answer["positions"]}

    assert wanted == {"A.US": 0.4, "B.US": 0.0, "C.US": 0.1}
    assert held == {"A.US": 3.0, "B.US": -1.0, "C.US": 0.0}


def test_a_book_without_a_target_wants_what_nobody_knows(client, world, database):
    with database.writer() as connection:
        connection.execute(sa.delete(tables.target_portfolios))

    answer = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)

    assert {each["target_weight"] for each in answer["positions"]} == {None}


def test_a_target_that_names_no_weights_is_not_known_and_says_why(client, decided, database):
    with database.writer() as connection:
        connection.execute(sa.update(tables.target_portfolios).values(target_positions={"a": 1}))

    book = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO)
    target = steps_of(read(client, f"/api/lineage/fills/{decided}%231"))["target"]["facts"]

    assert {each["target_weight"] for each in book["positions"]} == {None}
    assert "names its weights" in book["unknown"]["positions.target_weight"]
    assert (target["weight"], target["names"]) == (None, None)


def test_a_target_of_a_later_session_is_not_known_yet(client, world, database):
    held = {"run_id": world.run_id("FAST"), "portfolio_id": PORTFOLIO, "mode": "BACKTEST"}
    held |= {"as_of_date": SESSIONS[-2], "instrument_id": "A.US", "market_value": 9.9}
    put(database, tables.positions_snapshots, [held])

    as_of = str(SESSIONS[-2])
    answer = read(client, "/api/status/portfolio", portfolio_id=PORTFOLIO, as_of=as_of)

    assert [each["target_weight"] for each in answer["positions"]] == [None]


def test_a_fill_says_what_it_cost_beyond_the_price_of_its_decision(client, decided, database):
    done = {"action_id": f"{decided}#1", "run_id": "R", "slippage_bps": 12.5}
    put(database, tables.executed_actions, [done])

    fills = read(client, "/api/status/execution", portfolio_id=PORTFOLIO)["fills"]

    slippage = {each["fill_id"]: each["slippage_bps"] for each in fills}
    assert slippage.pop(f"{decided}#1") == 12.5
    assert set(slippage.values()) == {3.0}


def test_a_fill_without_a_price_of_its_decision_has_no_known_slippage(client, world, database):
    with database.writer() as connection:
        connection.execute(sa.delete(tables.executed_actions))

    fills = read(client, "/api/status/execution", portfolio_id=PORTFOLIO)["fills"]

    assert {each["slippage_bps"] for each in fills} == {None}


def test_without_a_dataset_health_is_unknown_and_says_so(client):
    answer = read(client, "/api/data/health")

    assert answer["dataset_id"] is None
    assert "prometheus demo" in answer["unknown"]["dataset_id"]
    assert read(client, "/api/data/datasets")["rows"] == []


def test_the_health_of_a_dataset_names_the_stale_and_the_missing(client, dataset):
    answer = read(client, "/api/data/health")
    status = {each["instrument_id"]: each["status"] for each in answer["instruments"]}

    assert (answer["dataset_id"], answer["as_of"]) == ("demo", "2024-01-12")
    assert status == {"A.US": "OK", "B.US": "STALE", "C.US": "MISSING"}
    assert (answer["received"], answer["expected"]) == (1, 3)
    assert answer["summary"]["STALE"] == 1
    assert answer["failures"] == ["1 MISSING"]


def test_health_of_an_earlier_session_knows_no_later_bar(client, dataset):
    answer = read(client, "/api/data/health", dataset="demo", as_of="2024-01-04")
    status = {each["instrument_id"]: each["status"] for each in answer["instruments"]}

    assert answer["as_of"] == "2024-01-04"
    assert status["B.US"] == "OK"


def test_findings_are_cut_and_say_that_there_are_more(client, dataset):
    whole = read(client, "/api/data/health")
    cut = read(client, "/api/data/health", limit=1)

    assert (len(whole["findings"]), whole["more_findings"]) == (2, False)
    assert (len(cut["findings"]), cut["more_findings"]) == (1, True)
    assert whole["findings"][0]["message"] == "look at it"


def test_datasets_tell_their_extent(client, dataset):
    (row,) = read(client, "/api/data/datasets")["rows"]

    assert (row["instruments"], row["bars"]) == (3, len(DAYS) + 3)
    assert (row["first_date"], row["last_date"]) == ("2024-01-02", "2024-01-12")


def test_a_dataset_that_there_is_not_is_not_found(client):
    answer = client.get("/api/data/health", params={"dataset": "nothing"})

    assert answer.status_code == 404
