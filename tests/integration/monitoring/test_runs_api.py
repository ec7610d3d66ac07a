"""Runs over HTTP, from real ones."""

from datetime import date, timedelta

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
from prometheus_nt.jobs.report import REPORT, write_benchmark
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.reporting.luck import luck_of
from prometheus_nt.reporting.page import POLICY
from tests.integration.monitoring.conftest import settled
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

    at_once = client.get(both).json()
    found = settled(client, both).json()

    with open_stores(settings) as stores:
        given = runs_to_compare(stores, [first.run_id, second.run_id])
        with stores.runtime.database.durable_writer() as connection:
            _one_more_trial(connection)
    returns = np.column_stack([series.returns for series in given.series])
    luck = luck_of(returns, 2)
    assert (at_once["computing"], at_once["hurdle"], at_once["trials"]) == (True, None, 2)
    assert "ask again" in at_once["unknown"]["hurdle"]
    assert [run["equity"] for run in at_once["runs"]] == [run["equity"] for run in found["runs"]]
    assert (found["computing"], found["trials"]) == (False, 2)
    assert found["best_is_luck"] == pytest.approx(luck.best_is_luck)
    assert [run["sharpe_low"] for run in found["runs"]] == pytest.approx(
        [record.sharpe.low for record in luck.records]
    )
    assert len(found["sessions"]) == len(found["runs"][0]["equity"]) == len(returns)
    assert found["hurdle"] == pytest.approx(luck.hurdle)
    assert [run["above_luck"] for run in found["runs"]] == pytest.approx(
        [record.above_luck for record in luck.records]
    )
    assert found["runs"][0]["equity"][-1] == pytest.approx(
        given.series[0].equity[-1] / given.series[0].starting_capital
    )

    again = settled(client, both).json()
    more = luck_of(returns, 3)
    assert again["trials"] == 3, "what was tried meanwhile counts"
    assert again["hurdle"] == pytest.approx(more.hurdle)
    assert [run["above_luck"] for run in again["runs"]] == pytest.approx(
        [record.above_luck for record in more.records]
    )
    assert client.get(f"/api/compare?run_id={first.run_id}&run_id=node.yaml").status_code == 400
    same = client.get(f"/api/compare?run_id={first.run_id}&run_id={first.run_id}")
    assert same.status_code == 400


def test_long_records_are_compared_from_first_to_last_session_in_as_many_points_as_are_seen(
    client, database
):
    days = [date(2000, 1, 3) + timedelta(days=number) for number in range(1500)]
    capital = {"config_json": {"sleeve": {"capital_usd": 200.0}}}
    names = ("B-1", "B-2")
    put(
        database,
        tables.backtest_runs,
        [{"run_id": name, "mode": "BACKTEST", "status": "COMPLETED"} | capital for name in names],
    )
    levels = 200.0 * np.cumprod(1.0 + np.random.default_rng(3).normal(0.0, 0.01, 1500))
    put(
        database,
        tables.backtest_daily_equity,
        [
            {"run_id": name, "mode": "BACKTEST", "date": day, "equity_curve_value": float(level)}
            for name in names
            for day, level in zip(days, levels, strict=True)
        ],
    )

    found = client.get("/api/compare?run_id=B-1&run_id=B-2").json()

    shown = [date.fromisoformat(day) for day in found["sessions"]]
    assert (shown[0], shown[-1], len(shown)) == (days[0], days[-1], 600)
    rows = [days.index(day) for day in shown]
    assert found["runs"][1]["equity"] == pytest.approx((levels[rows] / 200.0).tolist())


def test_runs_without_a_record_or_of_other_sessions_are_not_compared(client, database):
    capital = {"config_json": {"sleeve": {"capital_usd": 100.0}}}
    run = {"mode": "BACKTEST", "status": "COMPLETED"} | capital
    put(database, tables.backtest_runs, [run | {"run_id": f"B-{name}"} for name in "123"])
    day = {"mode": "BACKTEST", "equity_curve_value": 100.0}
    put(
        database,
        tables.backtest_daily_equity,
        [day | {"run_id": f"B-{number}", "date": date(2024, 1, 1 + number)} for number in (1, 2)],
    )

    unlike = client.get("/api/compare?run_id=B-1&run_id=B-2")
    empty = client.get("/api/compare?run_id=B-1&run_id=B-3")

    assert unlike.status_code == empty.status_code == 404
    assert "B-2 runs 2024-01-03..2024-01-03 (1 sessions)" in unlike.json()["error"]["message"]
    assert "B-3: no equity" in empty.json()["error"]["message"]


def test_a_benchmark_is_told_by_session_and_kept_apart_for_runs_that_lack_it(
    client, database, settings
):
    run = {"run_id": "B-1", "mode": "BACKTEST", "status": "COMPLETED"}
    put(database, tables.backtest_runs, [run])
    day = {"mode": "BACKTEST", "equity_curve_value": 100.0, "run_id": "B-1"}
    put(database, tables.backtest_daily_equity, [day | {"date": each} for each in DAYS])
    folder = RunFolder(settings.runs_dir, "B-1")
    folder.write_json("manifest.json", {"benchmark": "SPY.US", "notes": []})
    before = client.get("/api/runs/B-1/equity").json()

    write_benchmark(folder, np.array(DAYS[1:], "datetime64[D]"), np.array([np.nan, 4.5]))

    # What a completed run says is kept by the server: another session asked for is another answer.
    told = client.get("/api/runs/B-1/equity?as_of=2024-01-04").json()
    assert (before["benchmark"], "`prometheus report B-1`" in before["unknown"]["benchmark"]) == (
        None,
        True,
    )
    assert (told["benchmark"], told["benchmark_id"]) == ([None, None, 4.5], "SPY.US")


DAYS = (date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4))


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
