"""Runs over HTTP, from real ones."""

import numpy as np
import pytest
import sqlalchemy as sa

from adapters.sample import sample_ohlcv
from persistence.artifacts import RunFolder
from persistence.tables import runtime as tables
from persistence.tables.operations import trials
from prometheus_nt.config import load_config
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.compare import runs_to_compare
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.report import REPORT
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.reporting.luck import luck_of
from prometheus_nt.reporting.page import POLICY
from tests.integration.monitoring.world import put

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2004-01-02, end: 2005-12-30}
data: {dataset: sample_ohlcv}
sleeves: [{horizon: 5}, {horizon: 63}]
engines:
  universe: {min_dollar_volume: 1000000}
  portfolio: {max_names: 2, max_weight: 0.5}
  risk: {max_abs_weight_per_name: 0.5}
gate: {max_position_weight: 0.6}
"""


@pytest.fixture
def runs(settings, tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    with open_stores(settings) as stores:
        ingest(sample_ohlcv(), stores.historical)
        return run_backtest(load_config([path]), stores)


def test_nothing_was_run(client):
    assert client.get("/api/runs").json()["rows"] == []
    for path in ("x", "latest", "x/equity", "x/report"):
        answer = client.get(f"/api/runs/{path}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "StoreError")
    assert client.get("/api/compare?run_id=x").status_code == 422
    assert client.get("/api/compare?run_id=x&run_id=y").status_code == 404


def test_what_was_run_is_told_as_it_was_stored(runs, client, settings):
    first, second = runs

    listed = client.get("/api/runs").json()

    assert [row["run_id"] for row in listed["rows"]] == [second.run_id, first.run_id]
    assert listed["rows"][1]["metrics"] == pytest.approx(first.metrics, nan_ok=True)
    page = client.get("/api/runs?limit=1&offset=0").json()
    assert ([row["run_id"] for row in page["rows"]], page["next_offset"]) == ([second.run_id], 1)
    of_sleeve = client.get(f"/api/runs?sleeve_id={first.sleeve_id}&status=COMPLETED").json()
    assert [row["run_id"] for row in of_sleeve["rows"]] == [first.run_id]
    assert client.get("/api/runs?mode=PAPER").json()["rows"] == []
    assert client.get("/api/runs?mode=NONE").status_code == 422

    detail = client.get(f"/api/runs/{first.run_id}").json()
    folder = RunFolder(settings.runs_dir, first.run_id)
    assert detail["config"]["engines"]["portfolio"]["max_names"] == 2
    assert detail["notes"] == folder.read_json("manifest.json")["notes"]
    assert [one["code"] for one in detail["findings"]] == [
        one["code"] for one in folder.read_json("findings.json")["findings"]
    ]
    assert {one["name"] for one in detail["artifacts"]} >= {"equity.parquet", REPORT}

    equity = client.get(f"/api/runs/{first.run_id}/equity").json()
    table = folder.read_table("equity.parquet")
    assert equity["equity"] == pytest.approx(table["equity"].tolist())
    assert (equity["sessions"][0], len(equity["sessions"])) == ("2004-01-02", len(table["equity"]))
    assert (equity["benchmark"] is None) == ("benchmark" in equity["unknown"])
    early = client.get(f"/api/runs/{first.run_id}/equity?as_of=2004-06-30").json()
    assert early["sessions"][-1] == "2004-06-30"
    assert early["equity"] == equity["equity"][: len(early["equity"])]


def test_a_report_brings_a_policy_of_its_own_and_no_other_file(runs, client, settings):
    first, second = runs
    path = settings.runs_dir / first.run_id / REPORT

    answer = client.get(f"/api/runs/{first.run_id}/report")

    assert answer.text == path.read_text(encoding="utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    secret = settings.home / "secret.html"
    secret.write_text("secret")
    (settings.runs_dir / second.run_id / REPORT).unlink()
    assert client.get(f"/api/runs/{second.run_id}/report").status_code == 404
    (settings.runs_dir / second.run_id / REPORT).symlink_to(secret)
    assert client.get(f"/api/runs/{second.run_id}/report").status_code == 404
    for name in ("..%2f..%2fsecret.html", "../secret.html", f"{first.run_id}/../../secret"):
        assert "secret" not in client.get(f"/api/runs/{name}/report").text


def test_runs_stand_beside_each_other_with_what_luck_explains(runs, client, settings):
    first, second = runs
    both = f"/api/compare?run_id={first.run_id}&run_id={second.run_id}"

    found = client.get(both).json()

    with open_stores(settings) as stores:
        given = runs_to_compare(stores, [first.run_id, second.run_id])
        with stores.runtime.database.durable_writer() as connection:
            _one_more_trial(connection)
    returns = np.column_stack([series.returns for series in given.series])
    luck = luck_of(returns, 2)
    assert found["trials"] == 2
    assert found["hurdle"] == pytest.approx(luck.hurdle)
    assert [run["above_luck"] for run in found["runs"]] == pytest.approx(
        [record.above_luck for record in luck.records]
    )
    assert found["runs"][0]["equity"][-1] == pytest.approx(
        given.series[0].equity[-1] / given.series[0].starting_capital
    )

    again = client.get(both).json()
    more = luck_of(returns, 3)
    assert again["trials"] == 3, "what was tried meanwhile counts"
    assert again["hurdle"] == pytest.approx(more.hurdle)
    assert [run["above_luck"] for run in again["runs"]] == pytest.approx(
        [record.above_luck for record in more.records]
    )
    assert client.get(f"/api/compare?run_id={first.run_id}&run_id=node.yaml").status_code == 400
    same = client.get(f"/api/compare?run_id={first.run_id}&run_id={first.run_id}")
    assert same.status_code == 400


def _one_more_trial(connection):
    row = dict(connection.execute(sa.select(trials)).mappings().first())
    row |= {"trial_id": "another", "params_hash": "another", "returns_hash": "another"}
    connection.execute(sa.insert(trials).values(row))


COMPARED = {
    "backtest": "B-1",
    "start": "2024-01-02",
    "end": "2024-02-02",
    "sessions": 23,
    "within": False,
    "identical": False,
    "tolerance_bps": 1.0,
    "worst_bps": 4.5,
    "gap_usd": -12.25,
    "causes": [{"cause": "COST", "usd": -12.25, "bps": -1.2, "meaning": "fees", "evidence": 1}],
    "notes": ["a note"],
    "page": "/somewhere/divergence.html",
}


def test_a_run_that_trades_shows_how_far_it_was_from_its_backtest(client, database, settings):
    run = {"run_id": "P-1", "mode": "PAPER", "status": "STOPPED"}
    put(database, tables.backtest_runs, [run, {"run_id": "B-1", "mode": "BACKTEST"}])
    before = client.get("/api/runs/P-1").json()

    RunFolder(settings.home / "paper", "P-1").write_json("divergence.json", COMPARED)

    found = client.get("/api/runs/P-1").json()["divergence"]
    assert (found["gap_usd"], found["worst_bps"], found["within"]) == (-12.25, 4.5, False)
    assert found["causes"] == [
        {"cause": "COST", "usd": -12.25, "bps": -1.2, "meaning": "fees"},
    ]
    assert before["divergence"] is None
    assert "prometheus divergence P-1" in before["unknown"]["divergence"]
    assert client.get("/api/runs/B-1").json()["divergence"] is None


def test_a_run_that_nobody_judged_is_not_said_to_be_without_findings(client, database):
    put(
        database,
        tables.backtest_runs,
        [{"run_id": "B-1", "mode": "BACKTEST", "status": "COMPLETED"}],
    )
    unjudged = client.get("/api/runs/B-1").json()

    row = {"run_id": "B-1", "mode": "BACKTEST", "strategy_id": "S", "code": "FEW_TRADES"}
    row |= {"severity": "WARN", "message": "three trades", "remedy": "more", "evidence": []}
    put(database, tables.run_findings, [row])

    judged = client.get("/api/runs/B-1").json()
    assert unjudged["findings"] is None
    assert "prometheus findings B-1" in unjudged["unknown"]["findings"]
    assert [each["code"] for each in judged["findings"]] == ["FEW_TRADES"]
