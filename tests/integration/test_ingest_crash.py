"""An ingest that is killed, raced or interrupted leaves what an undisturbed one leaves."""

import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from adapters.files import FileSource
from adapters.source import Adjustment, DatasetInfo
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, SourceError
from prometheus_nt.jobs import ingest as job
from prometheus_nt.jobs.ingest import IngestOptions, ingest

pytestmark = pytest.mark.integration

INFO = DatasetInfo("files", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")
SESSIONS = MarketCalendar.of("US_EQ").between(date(2022, 1, 3), date(2023, 12, 29))
INSTRUMENTS = 30
KILLS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of thirty files with dividends, and a few rows that are quarantined."""
    path = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(1)
    for number in range(INSTRUMENTS):
        close = 50 * np.exp(rng.normal(0, 0.01, len(SESSIONS)).cumsum())
        lines = [
            f"{day},{c:.4f},{c + 1:.4f},{c - 1:.4f},{c:.4f},{c:.4f},1000,{0.5 * (i % 63 == 5)}"
            for i, (day, c) in enumerate(zip(SESSIONS, close, strict=True))
        ]
        lines[7 + number] = f"{SESSIONS[7 + number]},x,1,1,1,1,1,0"
        header = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends"
        (path / f"S{number:02d}.csv").write_text("\n".join([header, *lines]))
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(job, "BATCH_ROWS", 1_000)


def rows(database):
    """Return everything an ingest stores but for when, and in which revision."""
    queries = (
        "SELECT dataset_id, instrument_id, trade_date, open, high, low, close, adjusted_close,"
        " volume, currency, source, known_at FROM prices_daily",
        "SELECT dataset_id, instrument_id, ex_date, action_type, value, source, known_at"
        " FROM corporate_actions",
        "SELECT dataset_id, instrument_id, first_date, last_date, row_count, asset_class, sector"
        " FROM dataset_instruments",
        "SELECT event_id FROM data_quality_events WHERE resolved_at IS NULL",
    )
    with database.reader() as connection:
        # As text: only SQLite's driver returns dates as it stores them.
        return [
            sorted(tuple(str(value)[:19] for value in row) for row in connection.execute(text(q)))
            for q in queries
        ]


def history(database):
    with database.reader() as connection:
        return [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("bars_history", "corporate_actions_history")
        ]


def require_consistent_revisions(store, changes):
    """Require revisions without a gap that add up to what was written, each change once."""
    revisions = store.revisions("files")
    numbers = [each.revision for each in revisions]
    assert numbers == list(range(len(numbers), 0, -1))
    assert store.dataset("files")["revision"] == len(numbers)
    assert sum(each.rows_changed for each in revisions) == changes


@pytest.fixture
def undisturbed(folder, sqlite_template, tmp_path):
    path = tmp_path / "undisturbed.db"
    shutil.copy(sqlite_template, path)
    database = Database.open(f"sqlite:///{path}")
    started = time.perf_counter()
    report = ingest(FileSource(folder, INFO), HistoricalStore(database))
    seconds = time.perf_counter() - started
    panel = load_panel(HistoricalStore(database), "files", tmp_path / "undisturbed")
    yield rows(database), report, panel.fingerprint, seconds
    database.close()


def require_like(database, undisturbed, cache):
    found, report, fingerprint, _ = undisturbed
    store = HistoricalStore(database)
    assert rows(database) == found
    assert history(database) == [0, 0]
    require_consistent_revisions(store, report.rows_written)
    assert load_panel(store, "files", cache).fingerprint == fingerprint


def kill(folder, moments):
    """Kill an ingest of each URL after its seconds; return how many were still at work."""
    program = Path(__file__).with_name("killed_ingest.py")
    jobs = [f"{seconds}@{url}" for seconds, url in moments]
    command = [sys.executable, str(program), str(folder), *jobs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_an_ingest_killed_at_any_moment_is_completed_by_the_next(
    folder, undisturbed, sqlite_template, tmp_path
):
    paths = [tmp_path / f"killed-{number}.db" for number in range(KILLS)]
    for path in paths:
        shutil.copy(sqlite_template, path)
    urls = [f"sqlite:///{path}" for path in paths]
    rng = random.Random(5)
    moments = [(rng.uniform(0.02, 0.9) * undisturbed[3], url) for url in urls]

    stopped = kill(folder, moments)

    assert stopped >= KILLS // 2
    for number, url in enumerate(urls):
        database = Database.open(url)
        ingest(FileSource(folder, INFO), HistoricalStore(database))
        require_like(database, undisturbed, tmp_path / f"cache-{number}")
        database.close()


def test_a_killed_ingest_into_postgresql_is_completed_by_the_next(
    folder, undisturbed, postgres_url, tmp_path
):
    urls = [postgres_url("migrated") for _ in range(3)]

    stopped = kill(folder, [(undisturbed[3] * (0.2 + 0.3 * n), url) for n, url in enumerate(urls)])

    assert stopped
    for number, url in enumerate(urls):
        database = Database.open(url)
        ingest(FileSource(folder, INFO), HistoricalStore(database))
        require_like(database, undisturbed, tmp_path / f"cache-{number}")
        database.close()


def test_both_engines_hold_the_same_rows_and_a_second_ingest_writes_none(
    folder, undisturbed, database, tmp_path
):
    store = HistoricalStore(database)

    first = ingest(FileSource(folder, INFO), store)
    second = ingest(FileSource(folder, INFO), store)

    assert (first.rows_written, second.rows_written) == (undisturbed[1].rows_written, 0)
    assert len(store.revisions("files")) == 1
    require_like(database, undisturbed, tmp_path)


def test_two_ingests_at_once_write_every_row_once(folder, undisturbed, database, tmp_path):
    reports, start = [], threading.Barrier(2)

    def run():
        start.wait()
        reports.append(ingest(FileSource(folder, INFO), HistoricalStore(database)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(reports) == 2
    assert sum(report.rows_written for report in reports) == undisturbed[1].rows_written
    require_like(database, undisturbed, tmp_path)


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_changes_nothing(
    folder, undisturbed, sqlite_database, tmp_path, workers
):
    calls = []

    report = ingest(
        FileSource(folder, INFO),
        HistoricalStore(sqlite_database),
        progress=lambda *call: calls.append(call),
        options=IngestOptions(workers=workers),
    )

    assert report == undisturbed[1]
    names = [f"S{number:02d}.US" for number in range(INSTRUMENTS)]
    assert calls == [(done, INSTRUMENTS, name) for done, name in enumerate(names, start=1)]
    require_like(sqlite_database, undisturbed, tmp_path)


def test_no_worker_is_refused(folder, sqlite_database):
    with pytest.raises(ConfigError, match="workers: expected at least 1, found 0"):
        IngestOptions(workers=0)


class Interrupted(FileSource):
    """A source during whose tenth instrument somebody presses Ctrl-C."""

    def read(self, instrument_id):
        if instrument_id == "S10.US":
            raise KeyboardInterrupt
        return super().read(instrument_id)


class Outage(FileSource):
    """A source that answers nothing from its tenth instrument on."""

    def read(self, instrument_id):
        if instrument_id >= "S10.US":
            raise SourceError("vendor", "does not answer", "try again later")
        return super().read(instrument_id)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_ingest_keeps_what_was_finished(
    folder, undisturbed, sqlite_database, tmp_path, workers
):
    store = HistoricalStore(sqlite_database)

    with pytest.raises(KeyboardInterrupt):
        ingest(Interrupted(folder, INFO), store, options=IngestOptions(workers=workers))

    finished = [row["instrument_id"] for row in store.coverage("files") if row["row_count"]]
    assert finished == [f"S{number:02d}.US" for number in range(10)]
    assert all(each.closed_at is not None for each in store.revisions("files"))
    ingest(FileSource(folder, INFO), store)
    require_like(sqlite_database, undisturbed, tmp_path)


def test_an_outage_costs_what_it_hides_and_the_next_ingest_writes_only_that(
    folder, undisturbed, sqlite_database, tmp_path
):
    store = HistoricalStore(sqlite_database)

    report = ingest(Outage(folder, INFO), store)
    again = ingest(FileSource(folder, INFO), store)

    assert (len(report.loaded), len(report.failed)) == (10, 20)
    assert report.rows_written + again.rows_written == undisturbed[1].rows_written
    require_like(sqlite_database, undisturbed, tmp_path)
