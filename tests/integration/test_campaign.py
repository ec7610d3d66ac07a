"""Campaigns on bundled real data: the same rows wherever they run, and nothing lost in a crash."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from persistence.campaigns import CampaignStore
from persistence.tables.campaigns import campaign_trials, campaigns
from persistence.tables.runtime import RUNTIME
from prometheus_nt.campaign_config import load_campaign, plan_campaign
from prometheus_nt.cli import app
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.campaign import (
    campaign_status,
    horizon_campaign,
    look_at_holdout,
    plan_rows,
    resume_campaign,
    run_campaign,
    run_sleeve_backtest,
)
from prometheus_nt.jobs.executor import Ending, Handle, Outcome
from prometheus_nt.jobs.meta import rank_campaign, rank_strategy
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration

BASE = Path("configs/us_core_long_eq_ohlcv.yaml").resolve()
CONTENT = {
    "campaign": "small",
    "base": str(BASE),
    "sessions": {"start": "2004-01-02", "end": "2004-06-30"},
    "holdout": {"start": "2004-07-01", "end": "2004-08-31"},
    "folds": {"train": 42, "test": 21},
    "grid": {"sleeve.horizon": [21, 63], "engines.portfolio.max_names": [2, 4]},
}
# Of runs that share an engine's settings, the first one enters them: who it was is chance, as when.
NOT_CONTENT = {"created_at", "created_by", "completed_at", "recorded_at", "updated_at"}
NOT_CONTENT |= {"worker", "started_at", "ended_at", "seconds", "path", "sha256", "bytes"}
NUMBERED = {"events"}
"""Its order is that in which trials ended; its content is compared apart."""


@pytest.fixture
def home(sample_home, tmp_path):
    return sample_home(tmp_path / "home")


@pytest.fixture
def campaign_file(tmp_path):
    def write(**content):
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(CONTENT | content))
        return path

    return write


def _rows(stores):
    found = {}
    with stores.runtime.database.reader() as connection:
        for name, table in RUNTIME.tables.items():
            columns = [column for column in table.columns if column.name not in NOT_CONTENT]
            if name in NUMBERED:
                columns = [table.c.kind, table.c.payload]
            rows = [tuple(map(str, row)) for row in connection.execute(sa.select(*columns))]
            found[name] = sorted(rows)
    return found


def test_the_same_rows_inline_with_one_worker_and_with_two(sample_home, tmp_path, campaign_file):
    plan = load_campaign(campaign_file())
    rows, statuses = [], []
    for workers in (0, 1, 2):
        settings = sample_home(tmp_path / f"home{workers}")
        with open_stores(settings) as stores:
            statuses.append(run_campaign(plan, stores, workers=workers))
            rows.append(_rows(stores))

    assert [(status.ok, status.failed) for status in statuses] == [(4, 0)] * 3
    for name in rows[0]:
        assert rows[0][name] == rows[1][name] == rows[2][name], name
    assert len(rows[0]["trials"]) == 4
    assert len({row for row in rows[0]["fills"]}) > 0


def test_a_finished_campaign_run_again_does_nothing_and_another_finds_its_runs(
    home, campaign_file, caplog
):
    caplog.set_level("INFO", "prometheus_nt.jobs.campaign")
    with open_stores(home) as stores:
        first = run_campaign(load_campaign(campaign_file()), stores)
        before = _rows(stores)
        again = run_campaign(load_campaign(campaign_file()), stores)
        after = _rows(stores)
        renamed = run_campaign(load_campaign(campaign_file(campaign="other")), stores)

    assert again == first
    said = [one.getMessage() for one in caplog.records if one.name.endswith("jobs.campaign")]
    assert [message.split()[-1] for message in said] == ["began", "COMPLETED"] * 3
    assert [message.split()[1] for message in said[1::2]] == ["ok=4", "ok=4", "cached=4"]
    assert before == after
    assert (renamed.ok, renamed.cached) == (0, 4)


def test_a_variant_that_fails_is_a_failed_trial_that_counts(home, campaign_file):
    # Caps that leave a sleeve of this dataset without a sector are refused when it is loaded.
    path = campaign_file(
        grid={"engines.universe.exclude": [[], ["NOBODY.US"]], "sleeve.horizon": [21]}
    )
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(path), stores)
        trials = CampaignStore(stores.runtime.database).trials(status.campaign_id)
        tried = stores.trials.attempts("US_CORE_LONG_EQ", date(2004, 1, 2), date(2004, 6, 30))
        decision = rank_campaign(stores, status.campaign_id)

    assert (status.ok, status.failed, status.status) == (1, 1, "COMPLETED")
    (failed,) = [trial for trial in trials if trial.status == "FAILED"]
    assert failed.error == "ConfigError"
    assert "NOBODY.US" in failed.message
    assert tried == 2
    assert decision.failed[0][0] == failed.sleeve_id
    assert decision.selection.pool["trials"] == 2
    assert "NOBODY.US" in decision.report.read_text()


def test_a_runner_and_a_worker_that_are_killed_lose_nothing_and_nothing_is_repeated(
    home, campaign_file
):
    path = campaign_file(
        sessions={"start": "2004-01-02", "end": "2005-12-30"},
        holdout=None,
        grid={"sleeve.horizon": [21, 63], "engines.portfolio.max_names": [2, 3, 4]},
    )
    runner = _start(home, path)
    _wait_until(home, lambda status: status.done >= 1 and status.running >= 1)
    _kill(runner.pid, *_children(runner.pid))
    runner.wait()
    with open_stores(home) as stores:
        stopped = campaign_status(stores, "latest")
        store = CampaignStore(stores.runtime.database)
        ended = {
            trial.sleeve_id: (trial.run_id, trial.ended_at)
            for trial in store.trials(stopped.campaign_id)
            if trial.status == "OK"
        }

        finished = resume_campaign(stopped.campaign_id, stores, workers=1)

        trials = {trial.sleeve_id: trial for trial in store.trials(stopped.campaign_id)}
        counted = stores.trials.attempts("US_CORE_LONG_EQ", date.min, date.max)
        lost = stores.trials.missing()

    assert 1 <= len(ended) < 6
    assert (finished.done, finished.failed, finished.status) == (6, 0, "COMPLETED")
    for sleeve_id, seen in ended.items():
        assert (trials[sleeve_id].run_id, trials[sleeve_id].ended_at) == seen
        assert trials[sleeve_id].attempt == 1
    assert (counted, lost) == (6, [])


class Dying:
    """An executor whose workers die before they do anything."""

    def submit(self, task, spec, *, timeout=None):
        return Handle(spec)

    def as_completed(self, handles, pause=None):
        for handle in handles:
            handle.outcome = Outcome(Ending.DIED, error="WorkerDied", message="exit code 9")
            yield handle

    def close(self):
        pass


def test_workers_that_always_die_use_their_attempts_up_and_are_counted(
    home, campaign_file, monkeypatch
):
    monkeypatch.setattr("prometheus_nt.jobs.campaign.new_executor", lambda *_: Dying())
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(campaign_file()), stores)
        counted = stores.trials.attempts("US_CORE_LONG_EQ", date.min, date.max)
        monkeypatch.undo()
        resumed = resume_campaign(status.campaign_id, stores)
        retried = resume_campaign(status.campaign_id, stores, retry=True)

    assert (status.failed, status.status, counted) == (4, "COMPLETED", 4)
    assert resumed.failed == 4
    assert (retried.ok, retried.failed) == (4, 0)


def test_code_that_changed_does_not_go_on_with_half_a_campaign(home, campaign_file):
    with open_stores(home) as stores:
        campaign_id = plan_rows(load_campaign(campaign_file()), stores)
        with stores.runtime.database.writer() as connection:
            connection.execute(sa.update(campaigns).values(code_hash="older"))

        with pytest.raises(ConfigError, match="was planned with code older"):
            resume_campaign(campaign_id, stores)


def test_an_unfinished_campaign_is_not_judged(home, campaign_file):
    with open_stores(home) as stores:
        campaign_id = plan_rows(load_campaign(campaign_file()), stores)

        with pytest.raises(ConfigError, match="4 of 4 variants have not ended"):
            rank_campaign(stores, campaign_id)


def test_a_decision_names_every_candidate_is_idempotent_and_may_select_nobody(home, campaign_file):
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(campaign_file()), stores)
        first = rank_campaign(stores, status.campaign_id)
        second = rank_campaign(stores, status.campaign_id)
        rows = CampaignStore(stores.runtime.database).decisions(
            "META_ORCHESTRATOR", "US_CORE_LONG_EQ"
        )
        runs = {
            trial.run_id
            for trial in CampaignStore(stores.runtime.database).trials(status.campaign_id)
        }

    assert first.decision_id == second.decision_id
    (row,) = rows
    assert {one["run_id"] for one in row["input_refs"]["candidates"]} == runs
    assert all(one["reasons"] for one in row["input_refs"]["candidates"])
    assert row["output_refs"]["selected_sleeves"] == []
    assert row["metadata"]["pool"]["trials"] == 4
    # Only what the folds test is judged: 124 sessions less the first 42.
    assert row["metadata"]["pool"]["sessions"] == 124 - 42
    page = first.report.read_text()
    assert "None selected" in page
    assert "untouched, 0 sealed looks" in page


def test_a_look_at_the_hold_out_is_a_sealed_trial_each_time(home, campaign_file):
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(campaign_file()), stores)
        sleeve_id = CampaignStore(stores.runtime.database).trials(status.campaign_id)[0].sleeve_id

        summary, first = look_at_holdout(stores, status.campaign_id, sleeve_id)
        _, second = look_at_holdout(stores, status.campaign_id, sleeve_id)

        tried = stores.trials.attempts("US_CORE_LONG_EQ", date.min, date.max)
        page = rank_campaign(stores, status.campaign_id).report.read_text()

    assert summary.start == date(2004, 7, 1)
    assert (first, second, tried) == (1, 2, 5)
    assert "not untouched: 1 trials overlap it, 2 sealed looks" in page


def test_runs_of_a_strategy_are_judged_where_their_sessions_are_the_same(home):
    window = (date(2004, 1, 2), date(2004, 6, 30))
    plan = plan_campaign(horizon_campaign("US_CORE_LONG_EQ", "US_EQ", window), [BASE])
    with open_stores(home) as stores:
        run_campaign(plan, stores)
        run_id = run_sleeve_backtest(
            "US_CORE_LONG_EQ", date(2004, 1, 2), date(2004, 5, 28), ["US_EQ"], settings=home
        )
        decision = rank_strategy(stores, "US_CORE_LONG_EQ", date(2004, 7, 15), top_k=1)
        lone = rank_strategy(stores, "US_CORE_LONG_EQ", date(2004, 5, 31))

    # The newest run is the lone one: it is compared with those of its own sessions, nobody.
    assert list(decision.run_ids.values()) == [run_id] == list(lone.run_ids.values())
    assert "3 finished runs cover other sessions" in decision.report.read_text()
    assert run_id.startswith("US_CORE_LONG_EQ_H21-")


def test_the_command_of_the_mission_prints_the_runs_and_the_decision(home, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home.home))
    command = ["campaign", "and-meta", "--strategy-id", "US_CORE_LONG_EQ", "--market-id", "US_EQ"]
    window = ["--start", "2004-01-02", "--end", "2004-03-31", "--workers", "0"]

    told = CliRunner().invoke(app, [*command, *window, "--disable-risk"])
    plain = CliRunner().invoke(app, [*command, *window, "--json"])

    assert told.exit_code == plain.exit_code == 0
    head, *lines = told.stdout.splitlines()
    assert head == ("run_id,sleeve_id,strategy_id,cumulative_return,annualised_sharpe,max_drawdown")
    assert [line.split(",")[1].rsplit("_V", 1)[0] for line in lines[:3]] == [
        "US_CORE_LONG_EQ_H5",
        "US_CORE_LONG_EQ_H21",
        "US_CORE_LONG_EQ_H63",
    ]
    assert "Risk disabled: the risk engine's limits" in told.stderr
    document = json.loads(plain.stdout)
    assert document["campaign"]["ok"] == 3
    assert {run["strategy_id"] for run in document["runs"]} == {"US_CORE_LONG_EQ"}
    assert not {run["run_id"] for run in document["runs"]} & set(told.stdout.split(","))


def test_a_full_day_refuses_a_closed_one_and_runs_no_campaign_on_a_day_that_is_not_done(
    home, monkeypatch
):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home.home))
    command = ["day", "full", "--strategy-id", "US_CORE_LONG_EQ", "--market-id", "US_EQ"]
    command += ["--campaign-start", "2001-06-01", "--workers", "0"]

    closed = CliRunner().invoke(app, [*command, "--as-of", "2001-09-12"])
    early = CliRunner().invoke(
        app, [*command, "--as-of", "2001-08-31", "--campaign-end", "2001-09-28"]
    )
    halfway = CliRunner().invoke(
        app, [*command, "--as-of", "2001-08-31", "--max-engine-steps", "1"]
    )
    done = CliRunner().invoke(app, [*command, "--as-of", "2001-08-31"])

    assert "not a US_EQ session" in str(closed.exception)
    assert "could not have known it" in str(early.exception)
    assert halfway.exit_code == 1
    assert "its campaign was not run" in halfway.stderr
    assert done.exit_code == 0
    assert "COMPLETED" in done.stdout
    assert "US_CORE_LONG_EQ_H63_V" in done.stdout


def _start(home, path):
    command = [sys.executable, "-m", "prometheus_nt.cli", "campaign", "run", str(path)]
    environment = {**os.environ, "PROMETHEUS_HOME": str(home.home), "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        [*command, "--workers", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_until(home, reached, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with open_stores(home) as stores:
            with stores.runtime.database.reader() as connection:
                planned = connection.execute(sa.select(campaign_trials.c.status)).first()
            if planned is not None and reached(campaign_status(stores, "latest")):
                return
        time.sleep(0.1)
    pytest.fail("the campaign did not get that far")


def _children(pid):
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            below = [int(child) for child in task.read_text().split()]
            found += below
            waiting += below
    return found


def _kill(*pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


SCREENED = {"screen": {"keep": 2}, "selection": {"top_k": 1}}


def test_a_screened_campaign_runs_the_best_and_counts_all_without_selecting_the_rest(
    home, campaign_file
):
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(campaign_file(**SCREENED)), stores)
        trials = CampaignStore(stores.runtime.database).trials(status.campaign_id)
        tried = stores.trials.attempts("US_CORE_LONG_EQ", date(2004, 1, 2), date(2004, 6, 30))
        decision = rank_campaign(stores, status.campaign_id)
        page = decision.report.read_text()
        tampered = stores.trials.altered()

    assert (status.ok, status.screened, status.failed, status.done) == (2, 2, 0, 4)
    assert tried == 4
    assert tampered == []
    # Two ways to the same books: nothing is left between them but the rounding of a sum.
    assert status.largest_gap_bps < 1e-6
    assert status.gap_findings == ()
    only = {trial.sleeve_id for trial in trials if trial.status == "SCREENED"}
    assert {trial.run_id for trial in trials if trial.sleeve_id in only} == {None}
    judged = {one.name: one for one in decision.selection.ranked}
    assert set(judged) == {trial.sleeve_id for trial in trials}
    for name in only:
        assert not judged[name].selected
        assert "it was screened only, not run" in judged[name].reasons
    assert "2 end with their screen" in page


def test_the_screens_figures_are_those_of_the_runs(home, campaign_file):
    with open_stores(home) as stores:
        run_campaign(load_campaign(campaign_file(folds=None, **SCREENED)), stores)
        every = run_campaign(load_campaign(campaign_file(campaign="every", folds=None)), stores)
        store = CampaignStore(stores.runtime.database)
        screened = {one.sleeve_id: one.screen for one in store.trials("small")}
        runs = {one.sleeve_id: one.run_id for one in store.trials(every.campaign_id)}
        metrics = {name: stores.runtime.find_run(run)["metrics_json"] for name, run in runs.items()}
        tried = stores.trials.attempts("US_CORE_LONG_EQ", date(2004, 1, 2), date(2004, 6, 30))

    assert (every.ok, every.cached) == (2, 2)
    for name, found in screened.items():
        assert found["fills"] == metrics[name]["num_fills"]
        for figure in ("cumulative_return", "max_drawdown"):
            assert found[figure] == pytest.approx(metrics[name][figure], rel=1e-9)
    # A run takes the place of its screen: it is not tried twice.
    assert tried == 4


def test_a_gap_beyond_the_bound_is_a_finding(home, campaign_file):
    path = campaign_file(screen={"keep": 4, "max_gap_bps": 0.5})
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(path), stores)
        store = CampaignStore(stores.runtime.database)
        first = store.trials(status.campaign_id)[0]
        store.end(status.campaign_id, first.sleeve_id, "OK", gap_bps=0.75)
        found = campaign_status(stores, status.campaign_id)
        page = rank_campaign(stores, status.campaign_id).report.read_text()

    assert found.largest_gap_bps == 0.75
    (told,) = found.gap_findings
    assert told.startswith(f"SCREEN_GAP {first.sleeve_id}: its run is 0.75 bps a year")
    assert "SCREEN_GAP" in page


def test_a_screen_that_fails_leaves_the_word_to_the_run(home, campaign_file):
    path = campaign_file(
        grid={"engines.universe.exclude": [[], ["NOBODY.US"]], "sleeve.horizon": [21]}, **SCREENED
    )
    with open_stores(home) as stores:
        status = run_campaign(load_campaign(path), stores)
        trials = CampaignStore(stores.runtime.database).trials(status.campaign_id)

    assert (status.ok, status.screened, status.failed) == (1, 0, 1)
    (failed,) = [trial for trial in trials if trial.status == "FAILED"]
    assert failed.screen["error"] == failed.error == "ConfigError"


def test_a_screened_campaign_is_the_same_inline_and_with_workers(
    sample_home, tmp_path, campaign_file
):
    plan, rows = load_campaign(campaign_file(**SCREENED)), []
    for workers in (0, 2):
        with open_stores(sample_home(tmp_path / f"home{workers}")) as stores:
            run_campaign(plan, stores, workers=workers)
            rows.append(_rows(stores))

    for name in rows[0]:
        assert rows[0][name] == rows[1][name], name
