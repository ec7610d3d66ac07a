"""The report of a run that trades: the backtest's figures, and what an open run cannot say."""

import json
from datetime import date
from pathlib import Path
from threading import Event

import pytest

from persistence.artifacts import RunFolder
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import AccountingError, ConfigError, StoreError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_finish import finish_run
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.report import load_run_series, remake_report
from prometheus_nt.jobs.safety import arm, halt

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
SLEEVE = "US_CORE_LONG_EQ_H21"
START, UNTIL = date(2006, 1, 3), date(2006, 1, 13)


def node(mode="paper", *assignments):
    return load_config([CONFIG], [f"mode={mode}", *assignments])


def traded(stores, until=UNTIL, tell=None, stop=None):
    request = PaperRequest(True, START, until)
    (summary,) = run_paper(node(), stores, request, stop or Event(), tell)
    return summary


def report_of(stores, run_id):
    return (stores.settings.runs_dir / run_id / "report.html").read_text(encoding="utf-8")


def notes_of(stores, run_id):
    text = (stores.settings.runs_dir / run_id / "manifest.json").read_text(encoding="utf-8")
    return json.loads(text)["notes"]


def test_a_paper_run_has_the_figures_of_its_backtest_and_says_that_it_is_open(stores):
    paper = traded(stores)
    window = (f"sessions.start={START}", f"sessions.end={UNTIL}")
    (backtest,) = run_backtest(node("backtest", *window), stores)

    page, notes = report_of(stores, paper.run_id), notes_of(stores, paper.run_id)
    ours = load_run_series(RunFolder(stores.settings.runs_dir, paper.run_id))
    theirs = load_run_series(RunFolder(stores.settings.runs_dir, backtest.run_id))

    assert "PAPER tearsheet" in page
    assert notes[0].startswith("Open: this paper run trades on; these are its figures until the ")
    assert "close of 2006-01-13" in notes[0]
    assert notes[1].endswith("on all 9 sessions every expected bar was there.")
    assert notes[2].startswith("Short: 9 sessions")
    assert all(note.split(":")[0] in page for note in notes)
    assert (ours.equity == theirs.equity).all()
    assert (ours.benchmark == theirs.benchmark).all()
    row = stores.runtime.run(paper.run_id)
    assert row["metrics_json"]["cumulative_return"] == backtest.metrics["cumulative_return"]
    assert row["metrics_json"]["num_fills"] == backtest.metrics["num_fills"] == paper.fills > 0
    assert row["status"] == "STOPPED"
    assert {one["name"] for one in stores.runtime.artifacts(paper.run_id)} >= {"report.html"}
    with pytest.raises(ConfigError, match=f"paper or live run, found {backtest.run_id}"):
        finish_run(stores, backtest.run_id, "anna")


def test_the_report_follows_the_run_and_can_be_made_again(stores):
    first = traded(stores, date(2006, 1, 3))
    early = notes_of(stores, first.run_id)

    second = traded(stores, date(2006, 1, 9))
    remade = remake_report(stores, first.run_id)

    assert "until the close of 2006-01-03" in early[0]
    assert "until the close of 2006-01-09" in notes_of(stores, second.run_id)[0]
    assert second.run_id == first.run_id
    assert remade.read_text(encoding="utf-8") == report_of(stores, first.run_id)


def test_a_run_without_a_close_has_no_report(stores):
    stop = Event()
    stop.set()

    summary = traded(stores, stop=stop)

    assert summary.sessions == 0
    with pytest.raises(StoreError, match=r"manifest\.json: missing"):
        remake_report(stores, summary.run_id)


def test_a_finished_run_s_page_says_that_it_ended_and_who_ended_it(stores):
    traded_run = traded(stores)
    before = notes_of(stores, traded_run.run_id)

    done = finish_run(stores, traded_run.run_id, "anna", "new limits")

    page, notes = report_of(stores, traded_run.run_id), notes_of(stores, traded_run.run_id)
    assert notes[0] == (
        "Finished: this paper run ended after the close of 2006-01-13, by anna: new limits; "
        f"{traded_run.positions} positions and {done.open_orders} open orders ended with it."
    )
    assert notes[1:] == before[1:]
    assert "Finished: this paper run" in page
    assert "Open: this paper run" not in page
    folder = RunFolder(stores.settings.runs_dir, traded_run.run_id)
    files = stores.runtime.artifacts(traded_run.run_id)
    assert done.report == folder.path / "report.html"
    assert len(files) > 5
    assert all(folder.hash_of(one["name"]) == one["sha256"] for one in files)


def test_a_run_without_a_close_is_finished_without_a_page(stores):
    stop = Event()
    stop.set()
    begun = traded(stores, stop=stop)

    done = finish_run(stores, begun.run_id, "anna")

    assert (done.report, done.reason) == (None, "")
    assert stores.runtime.run(begun.run_id)["status"] == "FINISHED"


def test_sessions_under_the_kill_switch_and_missing_bars_are_told(stores):
    def halted(status):
        if status.session == date(2006, 1, 4):
            halt(stores, SLEEVE, "a drill", "somebody")
        if status.session == date(2006, 1, 6):
            arm(stores, SLEEVE, "over", "somebody", SLEEVE)

    summary = traded(stores, tell=halted)

    told = [note for note in notes_of(stores, summary.run_id) if note.startswith("Halted")]
    assert told == ["Halted: on 2 of 9 sessions the kill switch held orders back."]


def test_a_halted_run_keeps_its_last_report_and_its_reason(stores):
    first = traded(stores)
    page = report_of(stores, first.run_id)
    with stores.runtime.database.writer() as connection:
        connection.exec_driver_sql("UPDATE fills SET quantity = quantity + 1")

    with pytest.raises(AccountingError):
        traded(stores, date(2006, 1, 17))

    assert report_of(stores, first.run_id) == page
    assert stores.runtime.run(first.run_id)["status"] == "HALTED"
