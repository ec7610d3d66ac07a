"""Jobs from the command line on bundled real data: submitted, run by a worker, followed."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from persistence.campaigns import CampaignStore
from prometheus_nt.cli import app
from prometheus_nt.config import load_config
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.campaign import campaign_status
from prometheus_nt.jobs.queue import cancel, find, listing, logs, retry, submit
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration

BASE = Path("configs/us_core_long_eq_ohlcv.yaml")
WINDOW = {"start": "2004-01-02", "end": "2004-06-30"}
PATIENCE = 240


@pytest.fixture
def new_home(sample_home, tmp_path, monkeypatch):
    def make(name="home"):
        settings = sample_home(tmp_path / name)
        monkeypatch.setenv("PROMETHEUS_HOME", str(settings.home))
        return settings

    return make


def call(*words, code=0):
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == code, (found.output, found.exception)
    return found.stdout


def start_worker(settings, *words):
    environment = os.environ | {"PROMETHEUS_HOME": str(settings.home)}
    command = [sys.executable, "-m", "prometheus_nt.cli", "worker", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def run_worker(settings):
    assert start_worker(settings, "--once").wait(PATIENCE) == 0


def until(reached):
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail("not reached")
        time.sleep(0.1)


def test_a_backtest_that_a_worker_runs_is_the_one_that_is_run_directly(new_home):
    settings = new_home()
    text = call("jobs", "submit", "backtest", "-c", BASE, "--spec", json.dumps(WINDOW))
    job_id = text.strip()

    run_worker(settings)

    shown = json.loads(call("jobs", "show", job_id, "--json"))
    direct_home = new_home("direct")
    assignments = [f"sessions.{name}={day}" for name, day in WINDOW.items()]
    with open_stores(direct_home) as stores:
        (direct,) = run_backtest(load_config([BASE], assignments), stores)
    (run,) = shown["result"]["runs"]
    assert (shown["status"], shown["progress"], shown["attempt"]) == ("COMPLETED", 1.0, 1)
    assert run["run_id"] == direct.run_id
    assert run["order_list_hash"] == direct.order_list_hash
    assert run["metrics"] == json.loads(json.dumps(direct.metrics))
    assert (settings.home / run["report"]).is_file()
    assert run["report"] == str(direct.report.resolve().relative_to(direct_home.home.resolve()))
    with open_stores(settings) as stores:
        told = [line.message for line in logs(stores, job_id)]
    assert any(direct.run_id in text and "completed" in text for text in told)


def test_every_kind_of_work_on_a_run_and_its_data_is_done_by_one_worker(new_home):
    settings = new_home()
    name = "us_core_long_eq_ohlcv"
    with open_stores(settings, upgrade=True) as stores:
        wanted = [
            ("backtest", {"config": [name], **WINDOW}),
            ("backtest", {"config": [name], **WINDOW, "overrides": {"seed": 1}}),
            ("report", {}),
            ("day", {"config": [name], "as_of": "2013-02-28"}),
            ("scenario_set", {"dataset": "sample_ohlcv", "params": SCENARIOS}),
            ("derive", {"dataset": "sample_ohlcv", "features": ["returns"]}),
            ("meta_rank", {"strategy_id": "US_CORE_LONG_EQ", "as_of": "2004-06-30"}),
        ]
        ids = [submit(stores, kind, spec, "me").job_id for kind, spec in wanted]

        run_worker(settings)

        found = [find(stores, job_id) for job_id in ids]
        runs = [job.result["runs"][0]["run_id"] for job in found[:2]]
        compared = submit(stores, "compare", {"runs": runs}, "me").job_id
        later = {"overrides": {"sessions.end": None}, "as_of": "2013-03-28"}
        late = submit(stores, "day", {"config": [name], **later}, "me").job_id
        run_worker(settings)
        compared, late = find(stores, compared), find(stores, late)

    assert [(job.kind, job.status.value, job.error) for job in found] == [
        (kind, "COMPLETED", None) for kind, _ in wanted
    ]
    results = {job.kind: job.result for job in found}
    assert results["day"]["phase"] == "COMPLETED"
    assert results["scenario_set"]["set"]["dataset_id"] == "sample_ohlcv"
    for result in (results["report"], results["meta_rank"], compared.result):
        assert (settings.home / result["report"]).is_file()
    assert (late.status, late.error["type"]) == ("FAILED", "DataError")
    assert "waits for its data" in late.error["message"]


SCENARIOS = {"name": "few", "category": "BOOTSTRAP", "horizon": 5, "paths": 10}


def test_a_campaign_that_was_cancelled_goes_on_where_it_was_when_it_is_retried(new_home, tmp_path):
    settings = new_home()
    path = tmp_path / "campaign.yaml"
    content = {
        "campaign": "small",
        "base": str(BASE.resolve()),
        "sessions": {"start": "2004-01-02", "end": "2005-12-30"},
        "grid": {"sleeve.horizon": [21, 63], "engines.portfolio.max_names": [2, 3, 4]},
    }
    path.write_text(yaml.safe_dump(content))
    job_id = call("jobs", "submit", "campaign", "-c", path, "--spec", '{"workers": 1}').strip()
    worker = start_worker(settings)
    with open_stores(settings) as stores:
        store = CampaignStore(stores.runtime.database)
        until(lambda: store.listing(1)[1] and campaign_status(stores, "latest").done >= 1)

        asked = datetime.now(UTC)
        cancel(stores, job_id)
        until(lambda: find(stores, job_id).ended)
        cancelled = find(stores, job_id)
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
        stopped = campaign_status(stores, "latest")
        ended = {
            trial.sleeve_id: (trial.run_id, trial.ended_at, trial.attempt)
            for trial in store.trials(stopped.campaign_id)
            if trial.status == "OK"
        }
        retry(stores, job_id)
        run_worker(settings)
        done = find(stores, job_id)
        trials = {trial.sleeve_id: trial for trial in store.trials(stopped.campaign_id)}
        lost = stores.trials.missing()

    assert (cancelled.status, stopped.status) == ("CANCELLED", "STOPPED")
    assert cancelled.completed_at > asked
    assert 1 <= len(ended) < 6
    assert (done.status, done.attempt) == ("COMPLETED", 2)
    assert (done.result["ok"], done.result["failed"]) == (6, 0)
    assert done.result["campaign_id"] == stopped.campaign_id
    for sleeve_id, seen in ended.items():
        found = trials[sleeve_id]
        assert (found.run_id, found.ended_at, found.attempt) == seen
    assert lost == []


def test_the_command_line_lists_shows_follows_cancels_and_retries(new_home):
    settings = new_home()
    job_id = call("jobs", "submit", "report", "--spec", '{"run": "latest"}', "--key", "k").strip()
    same = call("jobs", "submit", "report", "--spec", '{"run": "latest"}', "--key", "k").strip()
    other = json.loads(call("jobs", "submit", "report", "--priority", "optional", "--json"))

    cancelled = json.loads(call("jobs", "cancel", other["job_id"], "--json"))
    run_worker(settings)
    followed = call("jobs", "logs", job_id, "--follow", "--json", code=1).splitlines()
    listed = json.loads(call("jobs", "list", "--json"))
    failed = json.loads(call("jobs", "list", "--status", "failed", "--json"))
    again = json.loads(call("jobs", "retry", job_id, "--json"))

    assert same == job_id
    assert (other["priority"], cancelled["status"]) == (3, "CANCELLED")
    assert {job["job_id"]: job["status"] for job in listed} == {
        job_id: "FAILED",
        other["job_id"]: "CANCELLED",
    }
    assert [job["job_id"] for job in failed] == [job_id]
    assert json.loads(followed[-1])["error"]["type"] == "StoreError"
    assert (again["status"], again["attempt"], again["max_attempts"]) == ("PENDING", 1, 4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("submit", "bactest"), "did you mean 'backtest'"),
        (("submit", "report", "--spec", "{"), "--spec: cannot be read as JSON"),
        (("submit", "report", "--spec", "[]"), "--spec: expected a JSON object, found list"),
        (("submit", "report", "--spec", "@nothing"), "--spec: cannot be read as JSON"),
        (("submit", "report", "--spec", '{"rum": 1}'), "rum: unknown field; did you mean 'run'"),
        (("submit", "report", "--spec", '{"run": "nobody"}'), "run: no run matches 'nobody'"),
        (("submit", "report", "--priority", "high"), "unknown priority 'high'"),
        (("show", "nobody"), "no job matches 'nobody'"),
        (("list", "--status", "done"), "unknown status 'DONE'; known: PENDING"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_its_remedy(new_home, words, told):
    settings = new_home()

    found = CliRunner().invoke(app, ["jobs", *words])

    assert found.exit_code == 1
    assert told in str(found.exception)
    with open_stores(settings) as stores:
        assert listing(stores) == []
