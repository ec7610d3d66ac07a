"""Diagnosis and proposals over HTTP."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.job_queue import JobQueue, NewJob
from persistence.proposals import Draft, ProposalStore
from persistence.tables import governance
from persistence.tables import runtime as tables
from prometheus_nt.config import load_config
from prometheus_nt.meta.proposals import settings_hash
from tests.integration.monitoring.conftest import settled

pytestmark = pytest.mark.integration

CONFIGS = Path(__file__).parents[3] / "configs"
STRATEGY = "US_CORE_LONG_EQ"
KEY = "engines.portfolio.max_names"


@pytest.fixture
def settings(settings):
    return replace(settings, config_dir=CONFIGS)


@pytest.fixture
def store(database):
    return ProposalStore(database)


def draft(**others):
    node = load_config([CONFIGS / "us_core_long_eq.yaml"], mode="backtest")
    plain = Draft(
        strategy_id=STRATEGY,
        market_id="US_EQ",
        key=KEY,
        current=10,
        proposed=4,
        run_id="run-b",
        confidence=0.9,
        improvement=0.2,
        gain=0.01,
        calmer=None,
        rationale="fewer names earn more",
        base_hash=settings_hash({}),
        by="ann",
        screen={"sleeves": [{"new_vetoes": []}], "verdict": "BETTER"},
        node=node.model_dump(mode="json", exclude_unset=True),
        arms={"BASE": ("run-a", {"sharpe": 1.0}), "CHANGED": ("run-b", {"sharpe": 1.2})},
    )
    return replace(plain, **others)


def post(client, path, body=None):
    return client.post(f"/api/intelligence/{path}", json=body)


def test_nothing_was_proposed(client):
    assert client.get("/api/intelligence/proposals").json()["rows"] == []
    assert client.get("/api/intelligence/changes").json()["rows"] == []
    health = client.get("/api/intelligence/health").json()
    assert (health["status"], health["open_proposals"], health["waiting_jobs"]) == ("OK", 0, 0)
    few = client.get(f"/api/intelligence/diagnostics/{STRATEGY}")
    assert (few.status_code, "0 finished" in few.json()["error"]["message"]) == (400, True)
    assert post(client, "proposals/x/approve").status_code == 404
    assert post(client, "proposals/x/apply").status_code == 404
    assert post(client, "changes/x/revert", {"reason": "no"}).status_code == 404
    assert post(client, "proposals/apply-batch").json()["rows"] == []


def test_a_proposal_is_applied_and_put_back(store, client):
    proposal_id = store.propose(draft())

    (row,) = client.get("/api/intelligence/proposals").json()["rows"]
    assert (row["target_component"], row["current_value"], row["proposed_value"]) == (KEY, 10, 4)
    assert (row["confidence_score"], row["expected_sharpe_improvement"]) == (0.9, 0.2)
    assert (row["expected_return_improvement"], row["status"]) == (0.01, "PENDING")
    refused = post(client, f"proposals/{proposal_id}/apply").json()
    assert (refused["success"], refused["change_id"]) == (False, None)
    assert "is PENDING" in refused["error_message"]

    assert post(client, f"proposals/{proposal_id}/approve").json()["status"] == "APPROVED"
    assert post(client, f"proposals/{proposal_id}/approve").status_code == 409
    rehearsed = post(client, f"proposals/{proposal_id}/apply?dry_run=true").json()
    assert (rehearsed["success"], rehearsed["change_id"]) == (True, None)
    assert store.active(STRATEGY).version == 0
    applied = post(client, f"proposals/{proposal_id}/apply").json()

    assert applied["success"]
    assert store.active(STRATEGY).settings == {"engines": {"portfolio": {"max_names": 4}}}
    (change,) = client.get("/api/intelligence/changes?is_reverted=false").json()["rows"]
    assert change["change_id"] == applied["change_id"]
    assert (change["new_value"], change["applied_by"], change["sharpe_improvement"]) == (
        4,
        "local",
        None,
    )
    figures = {"sharpe_before": 0.5, "sharpe_after": 0.75}
    store.evaluated(proposal_id, (date(2013, 3, 4), date(2013, 6, 28)), figures)
    (change,) = client.get(f"/api/intelligence/changes?strategy_id={STRATEGY}").json()["rows"]
    assert (change["sharpe_improvement"], change["evaluation_end_date"]) == (0.25, "2013-06-28")

    body = {"reason": "it lost money"}
    rehearsal = post(client, f"changes/{change['change_id']}/revert?dry_run=true", body).json()
    assert rehearsal["status"] == "APPLIED"
    reverted = post(client, f"changes/{change['change_id']}/revert", body).json()
    assert reverted["status"] == "REVERTED"
    assert store.active(STRATEGY).settings == {}
    (change,) = client.get("/api/intelligence/changes?is_reverted=true").json()["rows"]
    assert change["reversion_reason"] == "it lost money"
    assert post(client, f"changes/{change['change_id']}/revert", body).status_code == 409
    detail = client.get(f"/api/intelligence/proposals/{proposal_id}").json()
    assert set(detail["notes"]) == {"applied", "approved", "proposed", "reverted"}


def test_a_proposal_is_rejected_with_a_reason(store, client):
    proposal_id = store.propose(draft())

    assert post(client, f"proposals/{proposal_id}/reject").status_code == 422
    rejected = post(client, f"proposals/{proposal_id}/reject", {"reason": "too few"}).json()

    assert rejected["status"] == "REJECTED"
    path = "/api/intelligence/proposals?status="
    assert [row["status"] for row in client.get(f"{path}REJECTED").json()["rows"]] == ["REJECTED"]
    assert client.get(f"{path}PENDING").json()["rows"] == []
    assert client.get(f"{path}NONE").status_code == 422
    assert client.get("/api/intelligence/health").json()["open_proposals"] == 0


def test_a_trial_with_a_veto_is_not_approved(store, client):
    screen = {"sleeves": [{"new_vetoes": ["NO_TRADES"]}], "verdict": "BETTER"}
    proposal_id = store.propose(draft(screen=screen))

    answer = post(client, f"proposals/{proposal_id}/approve")

    assert (answer.status_code, "NO_TRADES" in answer.json()["error"]["message"]) == (409, True)


def test_of_several_each_is_applied_for_itself(store, client):
    ids = [store.propose(draft()), store.propose(draft(proposed=6))]
    for proposal_id in ids:
        store.approve(proposal_id, "ann")

    rehearsed = post(client, "proposals/apply-batch?dry_run=true").json()["rows"]
    rows = post(client, "proposals/apply-batch").json()["rows"]

    assert [row["success"] for row in rehearsed] == [True, True]
    assert [(row["proposal_id"], row["success"]) for row in rows] == [
        (ids[0], True),
        (ids[1], False),
    ]
    assert "not those it was tried on" in rows[1]["error_message"]
    assert post(client, "proposals/apply-batch?max_proposals=0").status_code == 422


def test_a_proposal_is_asked_for_as_a_job(client, database):
    body = {"key": KEY, "value": 4, "why": "fewer"}

    made = post(client, f"proposals/generate/{STRATEGY}?min_confidence=0.5", body).json()
    chosen = post(client, f"proposals/generate/{STRATEGY}").json()

    queue = JobQueue(database)
    spec = queue.job(made["job_id"]).spec
    assert (spec["config"], spec["key"], spec["value"], spec["by"]) == (
        ["us_core_long_eq"],
        KEY,
        4,
        "local",
    )
    assert (spec["min_confidence"], spec["min_improvement"]) == (0.5, 0.1)
    assert "key" not in queue.job(chosen["job_id"]).spec
    for wrong in ({"key": KEY, "value": 4}, body | {"key": "data.dataset"}, {"value": 3}):
        assert post(client, f"proposals/generate/{STRATEGY}", wrong).status_code == 400
    assert post(client, "proposals/generate/NOBODY").status_code == 400


def test_jobs_that_nobody_hears_are_told(client, database):
    queue = JobQueue(database)
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    queue.insert(NewJob("report", {"run": "latest"}, "me", not_before=long_ago))

    found = client.get("/api/intelligence/health").json()
    assert (found["status"], found["waiting_jobs"]) == ("NO_WORKER", 1)

    queue.claim("w")
    assert client.get("/api/intelligence/health").json()["status"] == "OK"


def test_the_diagnosis_is_of_the_runs_that_are_there(client, database):
    for number, sharpe in enumerate((1.0, -0.5)):
        _finished(database, f"r{number}", sharpe)
    path = f"/api/intelligence/diagnostics/{STRATEGY}?min_sample_size=2"

    at_once = client.get(path).json()
    found = settled(client, path).json()

    assert (at_once["computing"], at_once["pairs"], at_once["overall_sharpe"]) == (True, [], 0.25)
    assert "ask again" in at_once["unknown"]["config_comparisons_count"]
    assert (found["computing"], found["config_comparisons_count"]) == (False, 0)
    assert (found["sample_size"], found["underperforming_count"]) == (2, 1)
    assert (found["overall_sharpe"], found["max_drawdown"]) == (0.25, -0.3)
    assert found["high_risk_count"] == 1
    assert {one["run_id"] for one in found["skipped"]} == {"r0", "r1"}
    assert client.get(path).json() == found, "nothing is computed again while no run is added"
    assert client.get(path.replace("=2", "=3")).status_code == 400

    _finished(database, "r2", 2.5)

    assert client.get(path).json()["overall_sharpe"] == 1.0


def _finished(database, run_id, sharpe):
    portfolio = {
        "portfolio_id": "P",
        "strategy_id": STRATEGY,
        "sleeve_id": "S",
        "name": "P",
        "base_currency": "USD",
        "created_at": datetime.now(UTC),
        "updated_at": datetime.now(UTC),
    }
    run = {
        **{"run_id": run_id, "mode": "BACKTEST", "strategy_id": STRATEGY, "sleeve_id": "S"},
        **{"portfolio_id": "P", "market_id": "US_EQ", "status": "COMPLETED"},
        **{"start_date": date(2010, 1, 4), "end_date": date(2010, 12, 31)},
        **{"dataset_id": "d", "data_fingerprint": "f", "config_hash": run_id, "code_hash": "c"},
        "config_json": {},
        "metrics_json": {"annualised_sharpe": sharpe, "max_drawdown": -0.3 if sharpe < 0 else -0.1},
        "created_at": datetime.now(UTC),
        "completed_at": datetime.now(UTC),
    }
    finding = {
        **{"run_id": run_id, "mode": "BACKTEST", "strategy_id": STRATEGY, "code": "EDGE"},
        **{"severity": "VETO" if sharpe < 0 else "WARN", "message": "m", "remedy": "r"},
        "evidence": {},
    }
    with database.writer() as connection:
        known = sa.select(governance.portfolios.c.portfolio_id)
        if connection.execute(known).first() is None:
            connection.execute(sa.insert(governance.portfolios).values(portfolio))
        connection.execute(sa.insert(tables.backtest_runs).values(run))
        connection.execute(sa.insert(tables.run_findings).values(finding))
