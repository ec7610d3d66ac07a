"""Questions in words, answered with the rows that say so."""

from datetime import date

import pytest

from persistence.proposals import ProposalStore
from persistence.tables import governance, trading
from persistence.tables import runtime as tables
from prometheus_nt.jobs.safety import halt
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.monitoring.assistant import TOOLS, read, tool_for
from tests.integration.monitoring.test_intelligence_api import draft
from tests.integration.monitoring.world import SESSIONS, World, at, fill, put

pytestmark = pytest.mark.integration

WORLD = World()
RUN = WORLD.run_id("FAST")


def ask(client, question, **context):
    answer = client.post("/api/kronos/chat", json={"question": question, "context": context})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(answer):
    (source,) = answer["sources"]
    assert source["tool"] == answer["asked"]
    return source["rows"]


def test_every_example_finds_its_own_tool():
    for tool in TOOLS:
        assert tool_for(read(tool.example, {}, date(2024, 1, 1))) is tool


def test_what_is_not_understood_is_told_what_can_be_asked(client):
    found = ask(client, "will it rain?")

    assert found["asked"] is None and found["sources"] == [] and "asked" in found["unknown"]
    assert all(tool.example in found["answer"] for tool in TOOLS)
    lacking = ask(client, "why was it sold?")
    assert lacking["asked"] is None and "instrument_id" in lacking["answer"]
    assert client.post("/api/kronos/chat", json={"question": " "}).status_code == 422
    wrong = client.post("/api/kronos/chat", json={"question": "regime at 2024-13-01"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "ConfigError")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_an_empty_store_has_no_rows_to_answer_with(client, tool):
    found = ask(client, tool.example)

    assert found["asked"] == tool.name and rows(found) == [] and found["answer"]


def test_the_regime_is_told_of_the_session_that_is_asked_for(client, database):
    fill(database, WORLD)
    fill(database, World(label="TWO", size=2.0, later=10))

    newest = ask(client, "What is the regime of US?")
    before = ask(client, "What was the regime of US at 2024-02-01?")
    context = ask(client, "regime?", as_of="2024-02-01")

    assert "TWO" in newest["answer"] and "60%" in newest["answer"]
    assert "ONE" in before["answer"] and before["answer"] == context["answer"]
    assert rows(before)[0]["regime_label"] == "ONE"
    assert before["sources"][0]["query"]["as_of"] == "2024-02-01"


def test_the_largest_positions_come_first_with_their_weights(client, database):
    fill(database, WORLD)

    found = rows(ask(client, "what are the largest positions?"))

    # A is 60 of 120 of FAST and of 300 of SLOW.
    assert [row["instrument_id"] for row in found] == ["A.US", "A.US", "B.US", "B.US"]
    assert {row["run_id"]: row["weight"] for row in found[:2]} == {
        RUN: 0.5,
        WORLD.run_id("SLOW"): 0.2,
    }


def test_the_deepest_fall_is_of_the_record_up_to_the_session(client, database):
    fill(database, WORLD)
    deep = {"run_id": WORLD.run_id("SLOW"), "date": SESSIONS[-1], "drawdown": -0.4}
    put(database, tables.backtest_daily_equity, [deep | {"equity_curve_value": 300.0}])

    found = ask(client, "what is the worst drawdown?")
    before = ask(client, "what was the worst drawdown on 2024-02-01?")

    assert "-40.0%" in found["answer"] and WORLD.run_id("SLOW") in found["answer"]
    assert "-10.0%" in before["answer"]


def test_a_trade_is_explained_by_its_decision_and_its_target(client, database):
    fill(database, WORLD)
    order = {"order_id": "O", "run_id": RUN, "decision_id": "D", "instrument_id": "A.US"}
    order |= {"mode": "BACKTEST", "portfolio_id": "US_CORE_FAST_PORTFOLIO", "side": "SELL"}
    put(database, tables.orders, [order])
    done = order | {"fill_id": "O#1", "quantity": 7.0, "price": 12.5, "timestamp": at(SESSIONS[-1])}
    put(database, tables.fills, [done])
    decision = {"decision_id": "D", "run_id": RUN, "as_of_date": SESSIONS[-1]}
    decision |= {"engine_name": "SLEEVE", "strategy_id": "US_CORE", "mode": "BACKTEST"}
    put(database, tables.engine_decisions, [decision])

    sold = ask(client, "why was A.US sold?")

    assert "SELL 7 A.US at 12.50 on 2024-02-02" in sold["answer"]
    assert "decided after the close of 2024-02-02" in sold["answer"]
    assert "30.0% of the book" in sold["answer"]
    assert sold["sources"][0]["query"]["fill_id"] == "O#1"
    assert ask(client, f"explain {RUN}:3#1")["sources"][0]["query"]["fill_id"] == f"{RUN}:3#1"
    assert rows(ask(client, "why was A.US bought?")) == []
    assert rows(ask(client, "why was A.US sold on 2024-01-31?")) == []


def test_a_name_that_was_left_out_is_told_why(client, database):
    fill(database, WORLD)

    found = ask(client, "why is B.US excluded?")
    member = ask(client, "why is A.US not excluded?")
    stranger = ask(client, "why is Z.US excluded?")

    assert "left out of" in found["answer"] and "ONE: 1.0" in found["answer"]
    assert rows(found)[0]["included"] is False
    assert "was in the universe" in member["answer"]
    assert rows(stranger) == []


def test_what_failed_is_counted_with_what_is_open(client, database):
    job = {"job_id": "j", "kind": "report", "status": "FAILED", "message": "disk full", "spec": {}}
    put(database, governance.jobs, [job | {"created_at": at(SESSIONS[-1])}])
    alert = {"alert_id": "a", "message": "late", "last_at": at(SESSIONS[-1])}
    put(database, trading.alerts, [alert])

    found = ask(client, "what failed?", as_of="2024-02-01")
    later = ask(client, "what failed?", as_of="2024-02-03")

    assert "1 jobs failed; 1 alerts are open. First: disk full." in found["answer"]
    assert [row["message"] for row in rows(found)] == ["disk full", "late"]
    assert "0 jobs failed" in later["answer"]


def test_runs_are_compared_by_their_figures(client, database):
    fill(database, WORLD)
    other = WORLD.run_id("SLOW")
    for run_id, sharpe in ((RUN, 1.25), (other, 0.5)):
        own = {"run_id": run_id, "metrics_json": {"annualised_sharpe": sharpe}}
        put(database, tables.backtest_runs, [own | {"config_json": {}}])

    found = ask(client, f"compare {RUN} with {other}")

    assert [row["annualised_sharpe"] for row in rows(found)] == [1.25, 0.5]
    assert "annualised_sharpe 1.250" in found["answer"] and "cagr unknown" in found["answer"]
    assert "Name two runs" in ask(client, f"compare {RUN} with nothing")["answer"]


def test_what_trades_is_told_with_its_switch(client, database, settings):
    fill(database, World(mode="PAPER"))
    account = {"event_id": "e", "run_id": RUN, "equity": 42.0, "as_of_date": SESSIONS[-1]}
    put(database, trading.account_states, [account])
    with open_stores(settings) as stores:
        halt(stores, WORLD.sleeve("FAST"), "look first", "ann")

    found = ask(client, "what trades?")

    assert {row["sleeve_id"]: row["switch"] for row in rows(found)} == {
        WORLD.sleeve("FAST"): "HALTED",
        WORLD.sleeve("SLOW"): "ARMED",
    }
    assert rows(found)[0]["equity"] == 42.0


def test_proposals_are_those_that_wait_and_nothing_is_proposed_by_asking(client, database):
    store = ProposalStore(database)
    proposal_id = store.propose(draft())

    found = ask(client, "what should be changed?")

    (proposal,) = found["proposals"]
    assert proposal["proposal_id"] == proposal_id
    assert proposal["description"] == "fewer names earn more"
    assert proposal["parameters"] == {"engines.portfolio.max_names": 4}
    assert [row["status"] for row in rows(found)] == ["PENDING"]
    assert ask(client, "what should be changed?", strategy_id="OTHER")["proposals"] == []
    assert len(client.get("/api/intelligence/proposals").json()["rows"]) == 1
