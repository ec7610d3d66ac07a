"""From matched runs to settings that the next run reads, and back."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from persistence.proposals import ProposalStore
from persistence.runtime import Filters
from prometheus_nt.cli import app
from prometheus_nt.domain.errors import ConfigError, DataError, ProposalRefused
from prometheus_nt.jobs import proposals as job
from prometheus_nt.jobs.applied import applied_in, applied_origins, load_node
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.diagnostics import diagnose_strategy
from prometheus_nt.jobs.kind_work import run_propose_job
from prometheus_nt.jobs.kinds import ProposeJob, node_of
from prometheus_nt.jobs.proposals import Request
from prometheus_nt.jobs.queue import read_spec, with_files
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration

BASE = Path("configs/us_core_long_eq_ohlcv.yaml").resolve()
WINDOW = ("sessions.start=2004-01-02", "sessions.end=2004-06-30")
KEY = "engines.portfolio.max_names"
STRATEGY = "US_CORE_LONG_EQ"


@pytest.fixture
def home(sample_home, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "home"))
    return sample_home(tmp_path / "home")


@pytest.fixture
def stores(home):
    with open_stores(home) as opened:
        yield opened


def request(change=f"{KEY}=2", why="fewer names", **others):
    return replace(Request([BASE], "ann", WINDOW, change, why), **others)


def names(node):
    return node.engines_of(node.sleeves[0]).portfolio.max_names


def test_a_proposal_is_tried_by_two_runs_and_applied_to_the_next_one(home, stores):
    plain = load_node(home, [BASE], WINDOW)
    proposal = job.propose(stores, request())

    (sleeve,) = proposal.screen["sleeves"]
    runs = {arm: stores.runtime.find_run(sleeve[arm]) for arm in ("base", "changed")}
    assert [run["status"] for run in runs.values()] == ["COMPLETED"] * 2
    assert runs["changed"]["config_json"]["engines"]["portfolio"]["max_names"] == 2
    assert runs["base"]["config_hash"] == plain.config_hash(plain.sleeves[0])
    assert proposal.screen["sessions"] == 124
    before = runs["base"]["metrics_json"]["annualised_sharpe"]
    after = runs["changed"]["metrics_json"]["annualised_sharpe"]
    assert proposal.improvement == pytest.approx(after - before)
    assert load_node(home, [BASE], WINDOW) == plain, "nothing changes before it is applied"

    job.approve(stores, "latest", "bob")
    assert load_node(home, [BASE], WINDOW) == plain
    _, active = job.apply(stores, "latest", "bob")

    node = load_node(home, [BASE], WINDOW)
    assert (active.version, names(node)) == (1, 2)
    (again,) = run_backtest(node, stores)
    assert again.run_id == sleeve["changed"]
    assert again.cached
    for mode in ("backtest", "paper"):
        assert names(load_node(home, [BASE], WINDOW, mode=mode)) == 2
    assert load_node(home, [BASE], WINDOW, applied=False) == plain
    assert names(load_node(home, [BASE], [*WINDOW, f"{KEY}=3"])) == 3
    named = read_spec("backtest", {"config": [BASE.stem]}).settled(home)
    handed = with_files("day", {}, [BASE], applied_in(stores))
    whole = read_spec("backtest", {"node": with_files("day", {}, [BASE])["node"]}).settled(home)
    jobs = [node_of(found) for found in (named.node, handed["node"], whole.node)]
    assert [names(found) for found in jobs] == [2, 2, names(plain)], "a whole node is left alone"
    (origin,) = applied_origins(home, node)
    assert origin[:5] == (STRATEGY, KEY, 2, True, proposal.proposal_id)

    job.revert(stores, "latest", "bob", "it lost money")

    assert load_node(home, [BASE], WINDOW) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("engines.portfolio.max_nmes=2", r"unknown field; did you mean 'max_names'"),
        ("engines.portfolio.max_names=-1", "max_names"),
        ("seed=7", "cannot be proposed; only settings below engines, execution.planner, gate"),
        ("execution.quotes.half_spread_bps=0", "cannot be proposed"),
        ("sleeves=[]", "cannot be proposed"),
        ("engines.portfolio={max_names: 2}", "one setting is proposed, found several"),
        ("engines.portfolio.max_weight=0.45", "the change changes nothing"),
    ],
)
def test_what_the_node_cannot_hold_or_holds_already_is_refused_before_any_run(
    stores, change, message
):
    with pytest.raises(ConfigError, match=message):
        job.propose(stores, request(change))

    assert job.store_of(stores).proposals() == []
    assert stores.runtime.listing("runs", Filters())[1] == []


def test_a_setting_that_the_environment_gives_cannot_be_changed_by_a_proposal(stores, monkeypatch):
    monkeypatch.setenv("PROMETHEUS__ENGINES__PORTFOLIO__MAX_NAMES", "3")

    with pytest.raises(ConfigError, match="the environment or the sleeve itself gives another"):
        job.propose(stores, request())


def test_a_change_whose_trial_raises_a_veto_cannot_be_approved(stores):
    two_years = ("sessions.start=2004-01-02", "sessions.end=2005-12-30")
    made = job.propose(
        stores, request("execution.planner.no_trade_band=0.9", assignments=two_years)
    )
    (sleeve,) = made.screen["sleeves"]

    assert "FEW_TRADES" in sleeve["new_vetoes"]
    with pytest.raises(ProposalRefused, match="its trial raises FEW_TRADES"):
        job.approve(stores, "latest", "bob")
    assert job.store_of(stores).find("latest").status == "PENDING"


def test_the_same_change_is_refused_while_it_is_open_however_it_is_written(stores):
    first = job.propose(stores, request("engines.portfolio.max_weight=0.5"))

    with pytest.raises(ProposalRefused, match=f"{first.proposal_id} is PENDING"):
        job.propose(stores, request("engines.portfolio.max_weight=0.50"))
    job.reject(stores, first.proposal_id, "bob", "no")
    second = job.propose(stores, request("engines.portfolio.max_weight=5.0e-1"))

    assert second.status == "PENDING"


def test_later_sessions_alone_say_what_became_of_a_change(home, stores):
    proposal = job.propose(stores, request())
    job.approve(stores, "latest", "bob")
    with pytest.raises(ProposalRefused, match="is APPROVED and never was applied"):
        job.evaluate(stores, "latest")
    store = ProposalStore(stores.runtime.database)
    store.apply(proposal.proposal_id, "bob", datetime(2012, 12, 31, 20, tzinfo=UTC))

    found = job.evaluate(stores, "latest")

    assert (found["start"], found["end"]) == ("2013-01-02", "2013-03-01")
    assert found["sessions"] == 41
    (sleeve,) = found["sleeves"]
    after = stores.runtime.find_run(sleeve["changed"])
    assert after["config_json"]["engines"]["portfolio"]["max_names"] == 2
    assert found["after"]["sharpe"] == pytest.approx(after["metrics_json"]["annualised_sharpe"])
    columns, (row,) = stores.runtime.listing("changes", Filters())
    assert dict(zip(columns, row, strict=True))["proposal_id"] == proposal.proposal_id


def test_a_change_that_was_applied_after_the_data_end_is_not_evaluated_on_its_own_trial(stores):
    proposal = job.propose(stores, request())
    job.approve(stores, "latest", "bob")
    job.apply(stores, "latest", "bob")

    with pytest.raises(DataError, match="not computed, because dataset 'sample_ohlcv' ends on"):
        job.evaluate(stores, proposal.proposal_id)


def test_matched_runs_are_diagnosed_and_none_is_proposed_that_chance_explains(home, stores):
    for count in (2, 3, 4):
        run_backtest(load_node(home, [BASE], [*WINDOW, f"{KEY}={count}"]), stores)
    run_backtest(
        load_node(home, [BASE], [*WINDOW, f"{KEY}=2", "engines.portfolio.max_weight=.5"]), stores
    )

    found = diagnose_strategy(stores, STRATEGY)

    keys = [(one.key, one.old, one.new) for one in found.diagnosis.pairs]
    assert sorted(keys) == [
        (KEY, 2, 3),
        (KEY, 2, 4),
        (KEY, 3, 4),
        ("engines.portfolio.max_weight", 0.45, 0.5),
    ]
    assert found.runs == 4
    with pytest.raises(DataError, match="of 4 matched pairs none survives"):
        job.propose(stores, request(None, None))


def test_the_commands_lead_from_a_proposal_to_the_settings_in_force(home, tmp_path):
    runner = CliRunner()

    def prometheus(*words):
        done = runner.invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    window = ("--start", "2004-01-02", "--end", "2004-06-30")
    made = prometheus(
        *("meta", "propose", str(BASE), "--set", f"{KEY}=2", "--why", "fewer", "--by", "ann"),
        *window,
    )
    assert made["status"] == "PENDING"
    assert prometheus("meta", "approve", "latest", "--by", "bob")["approved_by"] == "bob"
    active = prometheus("meta", "apply", "latest", "--by", "bob")
    assert (active["status"], active["version"]) == ("APPLIED", 1)

    (shown,) = prometheus("config", "show", str(BASE)).values()
    assert shown["engines"]["portfolio"]["max_names"] == 2
    (origin,) = shown["applied"]
    assert (origin["setting"], origin["in_force"], origin["version"]) == (KEY, True, 1)
    (other,) = prometheus("config", "show", str(BASE), "--set", f"{KEY}=3").values()
    assert (other["applied"][0]["in_force"], other["engines"]["portfolio"]["max_names"]) == (
        False,
        3,
    )
    (ignored,) = prometheus("config", "show", str(BASE), "--no-applied").values()
    assert ignored["applied"] == []
    assert ignored["config_hash"] != shown["config_hash"]

    (run,) = prometheus("backtest", str(BASE), *window)
    assert run["run_id"] == made["screen"]["sleeves"][0]["changed"]
    (day,) = prometheus("meta", "proposals")
    assert day["status"] == "APPLIED"
    assert yaml.safe_load(BASE.read_text())["engines"]["portfolio"] == {"max_weight": 0.45}
    assert prometheus("meta", "revert", "latest", "--why", "no")["settings"] == {}
    diagnosis = prometheus("meta", "diagnose", "--strategy-id", STRATEGY)
    assert [one["key"] for one in diagnosis["pairs"] if one["regime"] == "ALL"] == [KEY]


def test_the_best_change_that_survives_is_proposed_with_what_it_rests_on(home, stores, tmp_path):
    two_years = ("sessions.start=2004-01-02", "sessions.end=2005-12-30")
    timid = tmp_path / "timid.yaml"
    timid.write_text("engines: {portfolio: {max_weight: 0.1}}\n")
    for paths in ([BASE], [BASE, timid]):
        run_backtest(load_node(home, paths, two_years), stores)

    found = diagnose_strategy(stores, STRATEGY)
    proposal = job.propose(stores, Request([BASE, timid], "ann", two_years))

    (pair,) = found.diagnosis.pairs
    assert found.diagnosis.survives(pair)
    assert (proposal.key, proposal.current, proposal.proposed) == (pair.key, 0.1, 0.45)
    assert proposal.screen["verdict"] == "BETTER"
    assert proposal.improvement == pytest.approx(pair.improvement)
    assert proposal.confidence == pytest.approx(1.0 - pair.p_value)
    assert proposal.rationale.startswith(f"{pair.changed} against {pair.base}, 504 sessions")


def test_a_job_proposes_and_what_is_below_its_bounds_is_rejected(stores):
    spec = ProposeJob(
        config=("us_core_long_eq_ohlcv",),
        by="ann",
        key=KEY,
        value=2,
        why="fewer names",
        start="2004-01-02",
        end="2004-06-30",
        min_improvement=100.0,
    ).settled(stores.settings)

    told = run_propose_job(spec, stores, None)

    found = job.store_of(stores).find(told["proposal_id"])
    assert (found.key, found.proposed, found.status, told["status"]) == (
        KEY,
        2,
        "REJECTED",
        "REJECTED",
    )
    assert found.notes["rejected"]["by"] == "ann"
    assert "is below 100" in told["why"]

    bounded = spec.model_copy(update={"min_improvement": None, "apply": True})
    told = run_propose_job(bounded, stores, None)
    better = told["verdict"] == "BETTER"
    assert told["status"] == ("APPLIED" if better else "PENDING"), "only what is better is applied"
    assert job.store_of(stores).active(STRATEGY).version == int(better)
