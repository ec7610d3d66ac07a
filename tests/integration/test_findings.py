"""What stands against a run, found from what real runs leave behind."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from persistence.artifacts import RunFolder
from persistence.run_findings import FindingStore
from prometheus_nt.cli import app
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.findings import findings_of, record_findings
from prometheus_nt.jobs.meta import rank_strategy
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration

BASE = Path("configs/us_core_long_eq_ohlcv.yaml").resolve()
WINDOW = ["sessions.start=2004-01-02", "sessions.end=2004-12-31"]
SLEEVE = "{family: US_CORE_LONG_EQ, horizon: 5, capital_usd: %d}"


@pytest.fixture(scope="module")
def home(sample_home, tmp_path_factory):
    return sample_home(tmp_path_factory.mktemp("findings"))


@pytest.fixture(scope="module")
def stores(home):
    with open_stores(home) as opened:
        yield opened


def run(stores, *assignments, capital=1_000_000):
    sleeve = f"sleeves=[{SLEEVE % capital}]"
    (summary,) = run_backtest(load_config([BASE], [*WINDOW, sleeve, *assignments], {}), stores)
    return summary


@pytest.fixture(scope="module")
def plain(stores):
    return run(stores)


def by_code(stores, summary):
    return {one.code: one for one in FindingStore(stores.runtime.database).read(summary.run_id)}


def parts(stores, summary):
    folder = RunFolder(stores.settings.runs_dir, summary.run_id)
    return folder, load_run_series(folder), panel_of(stores, "sample_ohlcv")


def test_a_run_that_filled_nothing_has_findings_too(stores):
    summary = run(stores, "sessions.start=2004-12-31")

    assert "SURVIVORSHIP" in by_code(stores, summary)


def test_an_ordinary_run_is_told_what_its_data_are_and_nothing_that_is_not_so(stores, plain):
    found = by_code(stores, plain)

    assert found["SURVIVORSHIP"].severity == "WARN"
    assert "five companies" in found["SURVIVORSHIP"].message
    unraised = {"LOOK_AHEAD", "IMPLAUSIBLE", "CAPACITY", "STALE_DATA", "COST_SHARE"}
    assert not unraised & set(found)
    folder = RunFolder(stores.settings.runs_dir, plain.run_id)
    stored = folder.read_json("findings.json")["findings"]
    assert {one["code"] for one in stored} == set(found)
    page = plain.report.read_text()
    assert "What stands against it" in page
    assert "SURVIVORSHIP" in page


def test_what_each_instrument_earned_adds_up_to_the_profit_of_the_run(stores, plain):
    from prometheus_nt.jobs.findings import _profits

    folder, series, _ = parts(stores, plain)

    earned = sum(_profits(stores, folder, series).values())

    interest = series.other_cash_flows["interest_received"].sum()
    paid = series.costs["interest_paid"].sum() + series.costs["borrow_fees"].sum()
    profit = series.equity[-1] - series.starting_capital
    assert earned + interest - paid == pytest.approx(profit, abs=0.01)


def test_a_book_too_large_for_its_market_is_vetoed(stores):
    summary = run(stores, "execution.planner.max_participation=null", capital=5_000_000_000)

    one = by_code(stores, summary)["CAPACITY"]

    assert one.severity == "VETO"
    assert one.evidence[0]["share_of_volume"] > 0.10


def test_costs_that_eat_the_profit_are_found(stores):
    summary = run(stores, "execution.quotes.half_spread_bps=500")

    found = by_code(stores, summary)

    (one,) = [found[code] for code in ("COST_SHARE", "NO_GROSS_PROFIT") if code in found]
    assert one.code == "NO_GROSS_PROFIT" or one.severity == "VETO"
    spread = next(row["usd"] for row in one.evidence if row["kind"] == "spread")
    assert spread == max(row["usd"] for row in one.evidence)


def test_few_trades_are_a_veto_that_keeps_a_run_from_being_selected(stores):
    few = run(stores, "sessions.start=2004-11-29", "sessions.end=2004-12-31")

    assert by_code(stores, few)["FEW_TRADES"].severity == "VETO"
    decision = rank_strategy(stores, "US_CORE_LONG_EQ", date(2004, 12, 31))

    judged = {decision.run_ids[one.name]: one for one in decision.selection.ranked}
    assert judged[few.run_id].verdict == "REJECTED"
    assert not judged[few.run_id].selected
    assert any(reason.startswith("FEW_TRADES: ") for reason in judged[few.run_id].reasons)
    assert "FEW_TRADES" in decision.report.read_text()


def test_an_order_that_was_filled_by_the_close_it_was_decided_on_is_a_veto(stores, plain, tmp_path):
    folder, series, panel = parts(stores, plain)
    copy = RunFolder(tmp_path, plain.run_id)
    orders = folder.read_table("orders.parquet")
    fills = folder.read_table("fills.parquet")
    at = orders["order_id"].tolist().index(fills["order_id"][0])
    decided = orders["decided_on"].copy()
    decided[at] = fills["timestamp"][0].astype("datetime64[D]").astype(object)
    copy.write_table("orders.parquet", {**orders, "decided_on": decided.tolist()})
    for name in ("fills.parquet", "positions.parquet"):
        copy.write_table(name, folder.read_table(name))
    copy.write_json("manifest.json", folder.read_json("manifest.json"))
    before = FindingStore(stores.runtime.database).read(plain.run_id)

    found = record_findings(stores, copy, series, panel)

    record_findings(stores, folder, series, panel)
    assert FindingStore(stores.runtime.database).read(plain.run_id) == before
    (one,) = [one for one in found if one.code == "LOOK_AHEAD"]
    assert one.severity == "VETO"
    assert one.evidence[0]["instrument_id"] == fills["instrument_id"][0]


def test_a_gap_in_what_was_held_and_a_profit_of_one_regime_are_found(stores, plain, tmp_path):
    folder, series, panel = parts(stores, plain)
    copy = RunFolder(tmp_path, plain.run_id)
    for name in ("fills.parquet", "positions.parquet", "orders.parquet"):
        copy.write_table(name, folder.read_table(name))
    copy.write_json("manifest.json", folder.read_json("manifest.json"))
    name = series.instruments[int((series.weights != 0).sum(axis=0).argmax())]
    close = panel.close.copy()
    rows = np.searchsorted(panel.sessions, series.sessions)
    held = series.weights[:, series.instruments.index(name)] != 0.0
    close[rows[held], panel.instruments.index(name)] = np.nan
    best = series.returns > 0.0
    regimes = np.where(best, "GOOD", "BAD").astype(object)

    found = record_findings(
        stores, copy, replace(series, regimes=regimes), replace(panel, close=close)
    )

    record_findings(stores, folder, series, panel)
    codes = {one.code: one for one in found}
    assert codes["STALE_DATA"].evidence[0]["instrument_id"] == name
    assert codes["STALE_DATA"].evidence[0]["old_marks"] == int(held.sum())
    assert "outside GOOD" in codes["REGIME_DEPENDENCE"].message


def test_the_best_of_three_settings_is_on_an_edge_or_has_neighbours(stores):
    runs = {
        count: run(stores, f"engines.portfolio.max_names={count}", "sessions.end=2004-06-30")
        for count in (2, 3, 4)
    }
    ratios = {count: one.metrics["annualised_sharpe"] for count, one in runs.items()}
    best = max(ratios, key=ratios.get)

    _, found = findings_of(stores, runs[best].run_id)
    _, others = findings_of(stores, runs[min(ratios, key=ratios.get)].run_id)

    edge = [one for one in found if one.code == "EDGE_PARAMETER"]
    assert bool(edge) == (best in (2, 4))
    for one in edge:
        assert one.evidence[0]["sharpes"] == [ratios[count] for count in (2, 3, 4)]
    assert not [one for one in others if one.code == "EDGE_PARAMETER"]


def test_the_commands_show_what_was_found_and_can_make_a_warning_a_veto(home, plain, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home.home))
    runner = CliRunner()

    def prometheus(*words):
        done = runner.invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    listed = prometheus("show", "findings", "--run-id", plain.run_id)
    asked = prometheus("findings", plain.run_id)
    raised = prometheus("findings", plain.run_id, "--veto", "SURVIVORSHIP")
    again = prometheus("findings", plain.run_id)

    assert {row["code"] for row in listed} == {row["code"] for row in asked["findings"]}
    assert asked["run_id"] == plain.run_id
    severities = {row["code"]: row["severity"] for row in raised["findings"]}
    assert severities["SURVIVORSHIP"] == "VETO"
    assert again == raised
    assert "veto" in plain.report.read_text()


def test_a_veto_of_a_code_that_nothing_finds_is_refused(stores, plain):
    with pytest.raises(ConfigError, match="veto: unknown code 'SURVIVORSIP'; did you mean 'SURV"):
        findings_of(stores, plain.run_id, ["SURVIVORSIP"])
