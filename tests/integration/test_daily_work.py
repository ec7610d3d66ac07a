"""What each job of a day does, in this process: read the source again, move the day, do it once."""

import os
from datetime import date

import numpy as np
import pytest

from persistence.engine_runs import EngineRunStore
from persistence.health import HealthStore
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.daily_jobs import JobKind
from prometheus_nt.domain.errors import PhaseError
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs.daily_work import Finding, Told, WorkSpec, do_job
from prometheus_nt.jobs.data import SourceSpec, ingest_named
from prometheus_nt.jobs.day import ensure_day
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

SESSIONS = MarketCalendar.of("US_EQ").between(date(2023, 11, 1), date(2024, 3, 28))
LAST = date(2024, 3, 28)
RUNS = "US_CORE_LONG_EQ-US-BACKTEST-20051101"


def node(dataset, start="2023-12-01", **sections):
    return NodeConfig.model_validate(
        {
            "sessions": {"start": date.fromisoformat(start)},
            "data": {"dataset": dataset},
            "sleeves": [{"family": "US_CORE_LONG_EQ", "horizon": 21, "capital_usd": 1_000_000}],
            **sections,
        }
    )


@pytest.fixture
def settings(historical, sqlite_database, tmp_path):
    return Settings(tmp_path / "home", historical.safe_url, sqlite_database.safe_url)


@pytest.fixture
def stores(historical, sqlite_database, settings):
    return Stores(settings, HistoricalStore(historical), RuntimeStore(sqlite_database))


def write_prices(folder, sessions):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(2)
    for name in ("AAA", "BBB", "CCC"):
        close = 50 * np.exp(rng.normal(0, 0.01, len(SESSIONS)).cumsum())[: len(sessions)]
        lines = [
            f"{day},{c:.4f},{c + 1:.4f},{c - 1:.4f},{c:.4f},{c:.4f},1000"
            for day, c in zip(sessions, close, strict=True)
        ]
        header = "Date,Open,High,Low,Close,Adj Close,Volume"
        (folder / f"{name}.csv").write_text("\n".join([header, *lines]), encoding="utf-8")


def do(settings, config, kind, session):
    return Told.read(do_job(WorkSpec(settings, config, kind, "job", session, os.getpid())))


def test_the_source_is_asked_until_it_has_the_session_and_not_any_more_after(
    settings, stores, tmp_path
):
    folder, config = tmp_path / "prices", node("mine")
    write_prices(folder, SESSIONS[:-1])
    ingest_named(settings, SourceSpec("csv", folder, "mine"))

    waits = do(settings, config, JobKind.INGEST_PRICES, LAST)
    write_prices(folder, SESSIONS)
    done = do(settings, config, JobKind.INGEST_PRICES, LAST)
    again = do(settings, config, JobKind.INGEST_PRICES, LAST)

    assert waits == Told(Finding.WAITS, "the source has the session of 0 of 3 instruments")
    assert done == Told(Finding.DONE, "3 of 3 instruments, 3 rows written")
    assert again == Told(Finding.DONE, "the data were there, nobody was asked")
    recorded = HealthStore(stores.historical.database).ingestion_status("mine", LAST)
    assert (recorded["status"], recorded["instruments_received"]) == ("COMPLETE", 3)


def test_a_dataset_without_a_source_is_left_to_whoever_fills_it(settings, stores):

    told = do(settings, node("sample_ohlcv"), JobKind.INGEST_PRICES, LAST)
    waits = do(settings, node("sample_ohlcv"), JobKind.CHECK_DATA, LAST)

    assert told == Told(Finding.NOTHING_TO_DO, "sample_ohlcv remembers no source to read again")
    assert waits.finding is Finding.WAITS
    assert "prometheus data status sample_ohlcv --as-of 2024-03-28" in waits.message


def test_a_phase_is_done_once_by_whomever_and_not_before_its_turn(settings, stores):
    config, day = node("sample_ohlcv", "2005-01-03"), date(2005, 11, 1)

    with pytest.raises(PhaseError, match="is at WAITING_FOR_DATA, SIGNALS_DONE comes later"):
        do(settings, config, JobKind.RUN_UNIVERSES, day)
    first = do(settings, config, JobKind.CHECK_DATA, day)
    again = do(settings, config, JobKind.CHECK_DATA, day)

    assert first == again == Told(Finding.DONE, f"{RUNS} is at DATA_READY")


def test_a_phase_that_failed_is_a_failed_job_and_the_next_attempt_does_it_again(settings, stores):
    day = date(2005, 11, 1)
    strict = node("sample_ohlcv", "2005-01-03", instruments=["AAPL.US", "NOBODY.US"])
    config = node("sample_ohlcv", "2005-01-03")
    do(settings, config, JobKind.CHECK_DATA, day)

    with pytest.raises(PhaseError, match=r"NOBODY\.US"):
        do(settings, strict, JobKind.RUN_SIGNALS, day)
    failed = ensure_day(config, day, stores)
    mended = do(settings, config, JobKind.RUN_SIGNALS, day)

    assert (failed.phase, failed.failed_phase) == (RunPhase.FAILED, RunPhase.DATA_READY)
    assert mended == Told(Finding.DONE, f"{RUNS} is at SIGNALS_DONE")


def test_a_day_that_somebody_else_works_on_is_waited_for(settings, stores):
    config, day = node("sample_ohlcv", "2005-01-03"), date(2005, 11, 1)
    run = ensure_day(config, day, stores)
    EngineRunStore(stores.runtime.database).claim(run.run_id, "elsewhere:1:other")

    told = do(settings, config, JobKind.CHECK_DATA, day)

    assert told.finding is Finding.WAITS
    assert told.message.startswith("elsewhere:1:other works on it")
