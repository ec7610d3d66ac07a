"""The three phases of the workflow on real data: as a command, and killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from adapters.sample import sample_sp500
from persistence.flows import FlowLedger
from prometheus_nt.cli import main
from prometheus_nt.jobs.check.audit import audit_file
from prometheus_nt.jobs.flow import run_flow
from prometheus_nt.jobs.flow_steps import MetaFlow, Skips, data_flow, meta_flow, production_flow
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2004-01-02, end: 2004-06-30}
data: {dataset: sample_sp500}
without: [profiles, regime, fragility]
sleeves:
  - {family: US_CORE_LONG_EQ, horizon: 5}
  - {family: US_CORE_LONG_EQ, horizon: 63}
engines:
  universe: {min_price: null, min_dollar_volume: null}
  portfolio: {max_names: 8, max_weight: 0.15}
  risk: {max_abs_weight_per_name: 0.15}
execution: {quotes: {impact_coefficient: 0}}
"""
CAMPAIGN = """
campaign: small
base: node.yaml
families: [US_CORE_LONG_EQ]
markets: {US_EQ: {}}
sessions: {start: 2004-01-02, end: 2004-06-30}
grid: {sleeve.horizon: [21, 63]}
"""
AS_OF = date(2004, 4, 30)
MONTHS = MetaAllocationParams(max_asset=0.5, method="equal")


@pytest.fixture
def home(tmp_path):
    (tmp_path / "node.yaml").write_text(NODE)
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
    return tmp_path


@pytest.fixture
def stores(home):
    settings = Settings(home, f"sqlite:///{home}/historical.db", f"sqlite:///{home}/runtime.db")
    with open_stores(settings, upgrade=True) as opened:
        ingest(sample_sp500(), opened.historical)
        yield opened


def states(summary):
    return {name: state for _, name, state, _, _ in summary.steps}


def test_data_come_in_and_are_checked_derived_from_and_scanned(home, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home))
    scanner = Path("configs/scanners/us_liquid.yaml").resolve()

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["prometheus", "flow", *arguments, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, json.loads(capsys.readouterr().out)

    asked = ("data", "sample_ohlcv", "--source", "sample", "--lenient", "--scanner", str(scanner))
    code, told = run(*asked)

    assert (code, told["verdict"]) == (0, "PASS")
    assert [row["name"] for row in told["steps"]] == ["ingest", "check", "repair", "derive", "scan"]
    assert {row["state"] for row in told["steps"]} == {"PASS"}
    code, rows = run("status")
    assert [(row["flow"], row["verdict"], row["steps_passed"]) for row in rows] == [
        (told["flow_id"], "PASS", 5)
    ]
    assert run("status", told["flow_id"])[1] == told
    monkeypatch.setattr(
        "sys.argv", ["prometheus", "check", "audit", str(Path(told["folder"]) / "audit.jsonl")]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


def test_data_that_nobody_can_read_fail_the_first_gate(stores):
    found = run_flow(stores, data_flow("nobody_has_it"))

    assert (found.verdict, found.code, states(found)["check"]) == (
        "FAIL",
        "FLOW_STEP_FAILED",
        "PENDING",
    )
    assert "remembers no source" in found.steps[0][4]


def test_a_campaign_that_proves_nothing_selects_nobody_and_ends_there(stores, home):
    request = production_flow(home / "campaign.yaml", skips=Skips(skip_validation=True))

    found = run_flow(stores, request)

    assert (found.verdict, found.code) == ("FAIL", "NOBODY_SELECTED")
    assert states(found) == {
        "data": "PASS",
        "lookahead": "SKIPPED",
        "campaign": "PASS",
        "diagnostics": "PASS",
        "selection": "FAIL",
        "comparison": "PENDING",
    }


def test_sick_data_stop_a_campaign_before_it_runs(stores, home):
    fact = {
        "dataset_id": "sample_sp500",
        "instrument_id": "XOM.US",
        "trade_date": AS_OF,
        "rule": "return_spike",
        "severity": "ERROR",
        "value": "+501%",
        "message": "+501% in a session",
    }
    stores.historical.write_quality_events("sample_sp500", "XOM.US", [fact])

    found = run_flow(stores, production_flow(home / "campaign.yaml"))

    assert (found.verdict, found.code) == ("FAIL", "DATA_UNHEALTHY")
    assert states(found)["campaign"] == "PENDING"


def asked_of(home, **params):
    return MetaFlow((), home / "node.yaml", AS_OF, MONTHS.model_copy(update=params))


def test_sleeves_become_a_book_that_is_asked_every_rule_and_traded(stores, home):
    found = run_flow(stores, meta_flow(asked_of(home)))

    assert (found.verdict, set(states(found).values())) == ("PASS", {"PASS"})
    assert list(states(found)) == [
        "sleeves",
        "portfolio",
        "completeness",
        "verdict",
        "sign_test",
        "allocation",
        "flattening",
        "report",
        "book",
    ]
    traded = stores.runtime.find_run("META_BOOK_H1")
    assert (traded["status"], traded["start_date"]) == ("COMPLETED", AS_OF)
    index = (stores.settings.home / "INDEX.md").read_text()
    assert f"[{traded['run_id']}](runs/{traded['run_id']}/INDEX.md)" in index
    assert index.count("| PASS |") == 1
    run_index = (stores.settings.runs_dir / traded["run_id"] / "INDEX.md").read_text()
    assert "equity.parquet" in run_index and traded["config_hash"] in run_index


def test_a_gate_of_the_meta_portfolio_ends_the_flow_with_its_own_code(stores, home):
    found = run_flow(stores, meta_flow(asked_of(home, max_asset=0.01)))

    assert (found.verdict, found.code) == ("FAIL", "META_CONCENTRATION")
    assert states(found)["book"] == "PENDING"


def test_files_that_are_altered_between_two_steps_are_found(stores, home):
    request = meta_flow(asked_of(home), skips=Skips(skip_validation=True))
    first = run_flow(stores, request)
    meta_id = next((stores.settings.home / "meta").iterdir()).name
    (stores.settings.home / "meta" / meta_id / "directional_sign_test.json").write_text("{")

    again = meta_flow(asked_of(home), skips=Skips(skip_validation=True, start_step=5))
    found = run_flow(stores, again)

    assert first.verdict == "PASS"
    assert (found.verdict, found.code) == ("FAIL", "META_SIGN_TEST_PARSE")
    whole = run_flow(
        stores, meta_flow(asked_of(home), skips=Skips(skip_validation=True, start_step=1))
    )
    assert (whole.flow_id, whole.verdict) == (found.flow_id, "PASS")


def test_a_later_step_alone_has_nothing_to_go_by(stores, home):
    found = run_flow(stores, meta_flow(asked_of(home), skips=Skips(start_step=4)))

    assert (found.verdict, found.code) == ("FAIL", "FLOW_MISSING_RESULT")


def entries_of(stores):
    ledger = FlowLedger(stores.runtime.database)
    return [entry for name in ledger.known() for entry in ledger.entries(name)]


def killed_within(stores, home, step):
    """Start the flow of the node as a process, and kill it once it has begun a step."""
    program = Path(__file__).with_name("flow_program.py")
    command = [sys.executable, str(program), "flow", "meta", "--config", str(home / "node.yaml")]
    command += ["--as-of", str(AS_OF), "--method", "equal", "--max-asset", "0.5"]
    environment = os.environ | {"PROMETHEUS_HOME": str(home)}
    environment |= {"PROMETHEUS_RUNTIME_URL": stores.settings.runtime_url}
    environment |= {"PROMETHEUS_HISTORICAL_URL": stores.settings.historical_url}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        begun = [one.payload.get("step") for one in entries_of(stores) if one.kind == "INTENT"]
        if step in begun:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    return child.wait()


@pytest.mark.parametrize("step", ["sleeves", "portfolio", "book"])
def test_a_killed_flow_goes_on_where_it_was(stores, home, step):
    assert killed_within(stores, home, step) == -signal.SIGKILL

    found = run_flow(stores, meta_flow(asked_of(home)))

    assert (found.verdict, found.flow_id.rpartition("-")[2]) == ("PASS", "1")
    told = entries_of(stores)
    assert [one.payload["status"] for one in told if one.kind == "OUTCOME"].count(
        "INTERRUPTED"
    ) == 1
    done = [one.payload["step"] for one in told if one.kind == "INTENT"]
    assert [name for name in set(done) if done.count(name) > 1] == [step]
    assert audit_file(found.folder / "audit.jsonl")[1]
