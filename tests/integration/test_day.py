"""A day, phase by phase: it decides what a backtest decides, and no crash makes it do so twice."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from adapters.sample import sample_ohlcv
from persistence.engine_runs import EngineRunStore
from persistence.historical import HistoricalStore
from persistence.instruments import InstrumentStore
from persistence.runtime import RuntimeStore
from persistence.tables import operations, runtime
from prometheus_nt.config import load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, NonSession, PhaseError
from prometheus_nt.domain.instruments import InstrumentMap, Listing
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.day import PHASES, DayRunner, ensure_day, session_of
from prometheus_nt.jobs.days import reason_unfinished
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
WINDOW = ["sessions.start=2005-01-03", "sessions.end=2005-12-30"]
# The first session of a month, so a rebalance; after the last split, so that shares count the same.
DAY = date(2005, 11, 1)
ENGINE_TABLES = (
    runtime.profiles,
    runtime.regimes,
    runtime.stability_vectors,
    runtime.soft_target_classes,
    runtime.fragility_measures,
    runtime.instrument_scores,
    runtime.universe_members,
    runtime.book_targets,
    runtime.target_portfolios,
    runtime.portfolio_risk_reports,
    runtime.risk_actions,
)


@pytest.fixture(scope="module")
def config():
    return load_config([CONFIG], WINDOW)


def rows(stores, table, as_of, prefix):
    """Return the rows of runs that begin with `prefix` on a session, without the run's name."""
    apart = {"run_id", "action_id", "report_id", "created_at"}
    kept = [column for column in table.columns if column.name not in apart]
    query = sa.select(*kept).where(table.c.as_of_date == as_of, table.c.run_id.startswith(prefix))
    with stores.runtime.database.reader() as connection:
        return sorted(map(tuple, connection.execute(query).all()), key=str)


def test_a_day_decides_exactly_what_a_backtest_decides(stores, config):
    run = ensure_day(config, DAY, stores)

    done = DayRunner(config, stores, "me").run_to_end(run)
    run_backtest(config, stores)

    assert done.phase is RunPhase.COMPLETED
    for table in ENGINE_TABLES:
        ours = rows(stores, table, DAY, "US_CORE_LONG_EQ-US-")
        theirs = rows(stores, table, DAY, "US_CORE_LONG_EQ_H21-")
        assert ours == theirs, table.name
        assert ours or table.name == "risk_actions", table.name


class FailingIn2005:
    """The sample, but IBM trades for the last time on 2005-10-19."""

    def __init__(self):
        self._sample = sample_ohlcv()

    def __getattr__(self, name):
        return getattr(self._sample, name)

    def read(self, instrument_id):
        table = self._sample.read(instrument_id)
        if instrument_id != "IBM.US":
            return table
        return table.take(np.flatnonzero(table.dates < np.datetime64("2005-10-20")))


def test_a_day_pays_a_recorded_delisting_as_a_backtest_does(sqlite_database, tmp_path):
    settings = Settings(tmp_path / "home", "unused", "unused")
    stores = Stores(settings, HistoricalStore(sqlite_database), RuntimeStore(sqlite_database))
    ingest(FailingIn2005(), stores.historical)
    end = {"delisted_on": date(2005, 10, 25), "reason": "bankrupt", "delisting_return": -0.9}
    known_at = datetime(2005, 10, 25, tzinfo=UTC)
    listing = Listing("IBM.US", "XNYS", None, **end, source="test", known_at=known_at)
    InstrumentStore(sqlite_database).write(InstrumentMap({}, [], [listing], []))
    config = load_config([CONFIG], [*WINDOW, "day.min_data_coverage=0.8"])

    done = DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))
    run_backtest(config, stores)

    assert done.phase is RunPhase.COMPLETED
    for table in ENGINE_TABLES:
        ours = rows(stores, table, DAY, "US_CORE_LONG_EQ-US-")
        theirs = rows(stores, table, DAY, "US_CORE_LONG_EQ_H21-")
        assert ours == theirs, table.name


def test_a_day_does_not_start_while_metadata_are_missing(stores, config):
    with stores.historical.database.writer() as connection:
        connection.exec_driver_sql(
            "UPDATE instruments SET market_id = NULL WHERE instrument_id = 'IBM.US'"
        )

    failed = DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))

    assert failed.phase is RunPhase.FAILED
    assert failed.error["type"] == "MissingMetadata"


def test_a_day_refuses_settings_that_its_dataset_cannot_honour(stores):
    config = load_config([CONFIG], [*WINDOW, "engines.universe.exclude=[NOBODY.US]"])

    failed = DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))

    assert failed.phase is RunPhase.FAILED
    assert "engines.universe.exclude: not in dataset" in failed.error["message"]


def test_two_sleeves_of_one_horizon_each_have_their_own_rows(stores):
    variants = (
        "[{family: US_CORE_LONG_EQ, horizon: 21}, "
        "{family: US_CORE_LONG_EQ, horizon: 21, variant: OTHER, "
        "engines: {portfolio: {max_weight: 0.3}}}]"
    )
    both = load_config([CONFIG], [*WINDOW, f"sleeves={variants}"])

    DayRunner(both, stores, "me").run_to_end(ensure_day(both, DAY, stores))

    targets = rows(stores, runtime.target_portfolios, DAY, "")
    books = {row[2]: row[4]["weights"] for row in targets}
    assert len(books) == 2
    assert sorted(round(max(weights.values()), 2) for weights in books.values()) == [0.3, 0.4]


def test_every_stage_writes_one_decision_with_what_it_saw(stores, config):
    DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))

    query = sa.select(runtime.engine_decisions).where(runtime.engine_decisions.c.as_of_date == DAY)
    with stores.runtime.database.reader() as connection:
        found = {row["engine_name"]: row for row in connection.execute(query).mappings()}
    stages = [
        "PROFILES",
        "REGIME",
        "STABILITY",
        "FRAGILITY",
        "ASSESSMENT",
        "UNIVERSE",
        "PORTFOLIO",
        "RISK",
    ]
    assert sorted(found) == sorted(stages)
    assert all(row["input_refs"]["input_hashes"] for row in found.values())
    assert found["ASSESSMENT"]["output_refs"]["known"] > 0
    # The books can be traced to what they were made from.
    made = found["PORTFOLIO"]["output_refs"]["record_hash"]
    assert made in found["RISK"]["input_refs"]["input_hashes"]


def test_doing_a_day_again_changes_nothing(stores, config):
    runner = DayRunner(config, stores, "me")
    runner.run_to_end(ensure_day(config, DAY, stores))
    before = [rows(stores, table, DAY, "") for table in ENGINE_TABLES]

    again = ensure_day(config, DAY, stores)
    assert again.phase is RunPhase.COMPLETED
    assert runner.run_to_end(again) == again
    assert [rows(stores, table, DAY, "") for table in ENGINE_TABLES] == before


@pytest.mark.parametrize("crashed_in", ["signals", "universes", "books", "finish"])
def test_a_worker_that_dies_in_a_phase_leaves_the_day_to_the_next(
    stores, config, crashed_in, monkeypatch
):
    class Killed(BaseException):
        """Stands for a process that is gone: nothing catches it."""

    def written_and_gone(runner, run):
        work[crashed_in](runner, run)
        raise Killed

    work = {name: getattr(DayRunner, name) for name in ("signals", "universes", "books", "finish")}
    phases = {
        phase: written_and_gone if done is work[crashed_in] else done
        for phase, done in PHASES.items()
    }
    run = ensure_day(config, DAY, stores)
    with monkeypatch.context() as patched:
        patched.setattr("prometheus_nt.jobs.day.PHASES", phases)
        with pytest.raises(Killed):
            DayRunner(config, stores, "dead").run_to_end(run)
    stuck = EngineRunStore(stores.runtime.database).run(run.run_id)
    assert stuck.owner == "dead"

    assert DayRunner(config, stores, "eager").run_to_end(stuck).phase is stuck.phase
    with stores.runtime.database.writer() as connection:
        table = operations.engine_runs
        connection.execute(sa.update(table).values(lease_until=table.c.created_at))
    done = DayRunner(config, stores, "alive").run_to_end(stuck)

    assert done.phase is RunPhase.COMPLETED
    assert len(rows(stores, runtime.target_portfolios, DAY, "")) == 1


def test_a_worker_that_is_stopped_leaves_the_day_to_whoever_comes_at_once(
    stores, config, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    run = ensure_day(config, DAY, stores)
    with monkeypatch.context() as stopped:
        stopped.setitem(PHASES, run.phase, stop)
        with pytest.raises(KeyboardInterrupt):
            DayRunner(config, stores, "stopped").advance(run)

    moved = DayRunner(config, stores, "next").advance(run)

    assert moved.phase is RunPhase.DATA_READY


def test_a_day_that_is_not_further_says_why(stores, config):
    run = ensure_day(config, DAY, stores)
    EngineRunStore(stores.runtime.database).claim(run.run_id, "somebody")

    held = DayRunner(config, stores, "next").advance(run)

    assert reason_unfinished(held).startswith("somebody works on it; if it does no more, run")
    waits = reason_unfinished(run, "prices")
    assert f"`prometheus data status prices --as-of {DAY}` tells how much" in waits


def test_a_day_waits_until_enough_prices_have_arrived(stores, config):
    late = date(2013, 3, 4)
    beyond = load_config([CONFIG], ["sessions.start=2012-01-03", "sessions.end=2013-03-08"])
    run = ensure_day(beyond, late, stores)

    waiting = DayRunner(beyond, stores, "me").run_to_end(run)

    assert waiting.phase is RunPhase.WAITING_FOR_DATA
    assert waiting.owner is None


def test_a_phase_below_its_minimum_fails_the_day_and_says_why(stores):
    strict = load_config([CONFIG], ["sessions.start=2001-03-01", "day.min_signal_coverage=1.0"])
    early = date(2004, 8, 31)  # one of the five was listed days before
    run = ensure_day(strict, early, stores)

    failed = DayRunner(strict, stores, "me").run_to_end(run)

    assert (failed.phase, failed.failed_phase) == (RunPhase.FAILED, RunPhase.DATA_READY)
    assert "day.min_signal_coverage is 100%" in failed.error["message"]
    assert failed.next_attempt_at is not None


def test_a_universe_below_its_minimum_fails_the_day_and_says_why(stores):
    wide = load_config([CONFIG], [*WINDOW, "day.min_universe_names=6"])

    failed = DayRunner(wide, stores, "me").run_to_end(ensure_day(wide, DAY, stores))

    assert (failed.phase, failed.failed_phase) == (RunPhase.FAILED, RunPhase.SIGNALS_DONE)
    assert "may hold 4 instruments; day.min_universe_names is 6" in failed.error["message"]
    assert not rows(stores, runtime.universe_members, DAY, "")


def test_the_oldest_of_very_many_unfinished_days_is_not_forgotten(stores, config):
    class Listing(DayRunner):
        def advance(self, run):
            return run

    sessions = MarketCalendar.of("US_EQ").between(*(date(2005, month, 3) for month in (1, 6)))
    for session in sessions[:101].tolist():
        ensure_day(config, session, stores)

    moved = Listing(config, stores, "me").advance_all()

    assert [run.as_of for run in moved] == sessions[:101].tolist()


def test_good_friday_is_refused_or_rolled_back_as_asked(config):
    with pytest.raises(NonSession, match="use the previous session 2024-03-28"):
        session_of(config, date(2024, 3, 29))

    assert session_of(config, date(2024, 3, 29), roll_back=True) == date(2024, 3, 28)


def test_a_day_outside_the_nodes_sessions_is_refused(stores, config):
    with pytest.raises(ConfigError, match="--as-of: 2007-01-03 is not between 2005-01-03"):
        ensure_day(config, date(2007, 1, 3), stores)


def test_the_lease_of_a_long_phase_is_renewed_while_it_runs(stores, config, monkeypatch):
    runs = EngineRunStore(stores.runtime.database)

    def work_until_renewed(_runner, held):
        while runs.run(held.run_id).lease_until == held.lease_until:
            time.sleep(0.01)
        return {}

    run = ensure_day(config, DAY, stores)
    monkeypatch.setattr("prometheus_nt.jobs.day.LEASE", timedelta(seconds=0.1))
    monkeypatch.setitem(PHASES, run.phase, work_until_renewed)

    moved = DayRunner(config, stores, "me").advance(run)

    assert moved.phase is RunPhase.DATA_READY


def test_who_lost_the_lease_of_a_phase_writes_nothing_and_moves_nothing(
    stores, config, monkeypatch
):
    runner = DayRunner(config, stores, "me")
    run = runner.advance(ensure_day(config, DAY, stores))
    signals = PHASES[run.phase]

    def taken_over(working, held):
        table = operations.engine_runs
        with stores.runtime.database.writer() as connection:
            connection.execute(sa.update(table).values(owner="another"))
        while not working._heart.lost:
            time.sleep(0.01)
        return signals(working, held)

    monkeypatch.setattr("prometheus_nt.jobs.day.LEASE", timedelta(seconds=0.1))
    monkeypatch.setitem(PHASES, run.phase, taken_over)

    with pytest.raises(PhaseError, match="the lease of me for DATA_READY was lost to another"):
        runner.advance(run)

    found = EngineRunStore(stores.runtime.database).run(run.run_id)
    assert (found.phase, found.owner) == (RunPhase.DATA_READY, "another")
    assert not rows(stores, runtime.instrument_scores, DAY, "")
    assert not rows(stores, runtime.profiles, DAY, "")


def test_a_paper_day_and_a_backtest_day_of_one_strategy_do_not_meet(stores, config):
    paper = config.model_copy(update={"mode": "paper"})
    ours = DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))

    theirs = ensure_day(paper, DAY, stores)

    assert (ours.mode, ours.phase) == ("BACKTEST", RunPhase.COMPLETED)
    assert (theirs.mode, theirs.phase) == ("PAPER", RunPhase.WAITING_FOR_DATA)
    assert theirs.run_id != ours.run_id
    assert DayRunner(config, stores, "me").advance_all() == []
    (moved,) = DayRunner(paper, stores, "me").advance_all()
    assert (moved.run_id, moved.phase) == (theirs.run_id, RunPhase.DATA_READY)
