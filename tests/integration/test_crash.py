"""A backtest, or a day, that is killed at any moment is completed by the next, as if nothing was.

A child process kills itself at the n-th call that it makes of, or from, what records; drivers are
called from there, so that the middle of a transaction is among these moments. Afterwards the work
is done again, and every table of the runtime database must be what an undisturbed run leaves.
"""

import os
import random
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import closing
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence import events
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from persistence.tables import operations
from persistence.tables.columns import RUNTIME
from prometheus_nt.config import load_config
from prometheus_nt.domain.phases import CHAIN, RunPhase
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.day import DayRunner, ensure_day
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

MOST_SECONDS = 300
"""A worker that waits longer for the others is stuck, on however busy a machine."""
KILL_POINTS = int(os.environ.get("PROMETHEUS_KILL_POINTS", "4"))
"""PROMETHEUS_KILL_POINTS=100 makes that many trials of a backtest, and as many of a day."""

CONFIG = load_config(
    [Path("configs/us_core_long_eq_ohlcv.yaml")],
    ["sessions.start=2005-05-02", "sessions.end=2005-09-30"],
)
DAY = date(2005, 9, 1)
RECORDING = (str(Path("persistence").absolute()), str(Path("prometheus_nt/jobs").absolute()))
CLOCKS = {
    *("created_at", "completed_at", "recorded_at", "started_at", "ended_at"),
    *("phase_started_at", "phase_completed_at", "lease_until"),
}
ATTEMPTS = operations.engine_run_attempts.name


def copied(source, target):
    """Copy a database with what its journal holds."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.fixture(autouse=True)
def one_commit(monkeypatch):
    """Keep a commit that somebody makes meanwhile out of the manifests that are compared."""
    monkeypatch.setattr("prometheus_nt.jobs.backtest_record.git_commit", lambda: "test")


class Trial:
    """Some work in a process of its own, which may kill itself at the n-th call it makes."""

    def __init__(self, work, historical, runtime_url, home):
        home.mkdir()
        self.work, self.home, self.runtime_url = work, home, runtime_url
        self.historical = home / "historical.db"
        copied(historical, self.historical)

    def marks(self):
        """Return how many calls had been made at each step of the work."""
        assert self.killed_at(None) is False
        return [int(line) for line in (self.home / "marks").read_text().split()]

    def at_once(self, workers):
        """Let several processes do the work at the same time; all of them must end well."""
        (self.home / "killed").touch()  # nobody counts calls
        children = []
        for _ in range(workers):
            child = os.fork()
            if child == 0:
                self._child(None)
            children.append(child)
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert not any(ends), (self.home / "error").read_text()

    def killed_at(self, point):
        child = os.fork()
        if child == 0:
            self._child(point)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            (self.home / "killed").touch()
            return True
        assert os.WEXITSTATUS(status) == 0, (self.home / "error").read_text()
        return False

    def _child(self, point):
        calls, marks = 0, [0]

        def count(frame, _event, _argument):
            nonlocal calls
            calls += frame.f_code.co_filename.startswith(RECORDING)
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            stores = self.stores()
            if point is not None or not (self.home / "killed").exists():
                sys.setprofile(count)
            self.work(stores, lambda: marks.append(calls))
            sys.setprofile(None)
            (self.home / "marks").write_text(" ".join(map(str, marks)))
            code = 0
        finally:
            sys.setprofile(None)
            if code:
                (self.home / "error").write_text(traceback.format_exc())
            # Not a line of pytest's own may run in the copy of its process.
            os._exit(code)

    def stores(self):
        historical = Database.open(f"sqlite:///{self.historical}")
        runtime = Database.open(self.runtime_url)
        settings = Settings(self.home, "unused", "unused")
        return Stores(settings, HistoricalStore(historical), RuntimeStore(runtime))

    def everything(self):
        """Return every row of every table, but for clocks and for who tried how often."""
        database = Database.open(self.runtime_url)
        with database.reader() as connection:
            found = {
                table.name: self._rows(connection, table)
                for table in RUNTIME.sorted_tables
                if table.name != ATTEMPTS
            }
            for stream in events.streams(connection):
                assert events.verify(connection, stream) is None
        database.close()
        return found

    def _rows(self, connection, table):
        clocks = CLOCKS | ({"updated_at"} if "created_at" in table.c else set())
        columns = [column for column in table.columns if column.name not in clocks]
        found = connection.execute(sa.select(*columns).order_by(*table.primary_key)).all()
        return [str(row).replace(str(self.home), "HOME") for row in found]

    def attempts(self):
        """Return how the attempts at each phase of a day ended, the latest last."""
        table = operations.engine_run_attempts.c
        query = sa.select(table.phase, table.status).order_by(table.phase, table.attempt)
        database = Database.open(self.runtime_url)
        with database.reader() as connection:
            found = connection.execute(query).all()
        database.close()
        return {phase: [status for of, status in found if of == phase] for phase, _ in found}


def backtested(stores, mark):
    run_backtest(CONFIG, stores)
    mark()


def taken_through_its_day(stores, mark):
    """Run the day; who died over it before gives it up, as when the lease has run out."""
    run = ensure_day(CONFIG, DAY, stores)
    with stores.runtime.database.writer() as connection:
        table = operations.engine_runs
        connection.execute(sa.update(table).values(lease_until=table.c.created_at))
    mark()
    done = DayRunner(CONFIG, stores, f"worker-{os.getpid()}").run_to_end(run, lambda _: mark())
    assert done.phase is RunPhase.COMPLETED


def advanced_with_others(stores, mark):
    """Advance the day whenever nobody else does, until it is completed."""
    run = ensure_day(CONFIG, DAY, stores)
    runner = DayRunner(CONFIG, stores, f"worker-{os.getpid()}")
    until = time.monotonic() + MOST_SECONDS
    while run.phase is not RunPhase.COMPLETED and time.monotonic() < until:
        moved = runner.advance(run)
        if moved.phase is run.phase:
            time.sleep(0.01)
        run = moved
    assert run.phase is RunPhase.COMPLETED
    mark()


def sqlite_trial(work, historical, template, home):
    trial = Trial(work, historical, f"sqlite:///{home}/runtime.db", home)
    shutil.copy(template, home / "runtime.db")
    return trial


def differing(found, expected):
    """Return the first rows that differ, by table; comparing them all would print them all."""
    return {
        name: next(
            (pair for pair in zip(found[name], rows, strict=False) if pair[0] != pair[1]),
            (len(found[name]), len(rows)),
        )
        for name, rows in expected.items()
        if found[name] != rows
    }


def test_a_backtest_killed_at_any_moment_is_completed_by_the_next(
    sample_history, sqlite_template, tmp_path
):
    undisturbed = sqlite_trial(backtested, sample_history, sqlite_template, tmp_path / "whole")
    *_, length = undisturbed.marks()
    expected = undisturbed.everything()
    assert expected["fills"] and expected["decision_outcomes"] and expected["events"]
    rng = random.Random(20050502)
    at_the_very_end = [length - 150, length - 5]

    for number, point in enumerate(rng.sample(range(1, length), KILL_POINTS) + at_the_very_end):
        home = tmp_path / f"killed-{number}"
        trial = sqlite_trial(backtested, sample_history, sqlite_template, home)
        assert trial.killed_at(point), point
        if number % 3 == 0:
            trial.killed_at(rng.randrange(1, length))
        assert trial.killed_at(None) is False
        assert not differing(trial.everything(), expected), point
        assert (home / "runs" / "latest" / "manifest.json").exists()
        shutil.rmtree(home)


def test_a_backtest_into_postgresql_killed_at_any_moment_is_completed_by_the_next(
    sample_history, postgres_url, tmp_path
):
    undisturbed = Trial(backtested, sample_history, postgres_url("migrated"), tmp_path / "whole")
    *_, length = undisturbed.marks()
    expected = undisturbed.everything()
    assert expected["fills"]
    rng = random.Random(20050503)

    for point in rng.sample(range(1, length), max(2, KILL_POINTS // 5)):
        home = tmp_path / f"killed-{point}"
        trial = Trial(backtested, sample_history, postgres_url("migrated"), home)
        assert trial.killed_at(point), point
        assert trial.killed_at(None) is False
        assert not differing(trial.everything(), expected), point


def test_a_day_killed_in_any_phase_is_completed_by_the_next(
    sample_history, sqlite_template, tmp_path
):
    home = tmp_path / "whole"
    undisturbed = sqlite_trial(taken_through_its_day, sample_history, sqlite_template, home)
    marks = undisturbed.marks()
    expected = undisturbed.everything()
    assert expected["target_portfolios"] and expected["instrument_scores"]
    phases = list(pairwise(marks))
    assert len(phases) == len(CHAIN)  # the making of the day, and the work of each phase
    rng = random.Random(20050504)
    points = [
        rng.randrange(begin + 1, end) for begin, end in phases for _ in range(-(-KILL_POINTS // 5))
    ]

    for point in points:
        home = tmp_path / f"killed-{point}"
        trial = sqlite_trial(taken_through_its_day, sample_history, sqlite_template, home)
        assert trial.killed_at(point), point
        assert trial.killed_at(None) is False
        assert not differing(trial.everything(), expected), point
        ends = trial.attempts()
        assert all(each[-1] == "COMPLETED" for each in ends.values()), (point, ends)
        assert all(set(each[:-1]) <= {"ABANDONED"} for each in ends.values()), (point, ends)
        shutil.rmtree(home)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_workers_that_advance_one_day_at_once_do_each_phase_once(
    request, sample_history, sqlite_template, tmp_path, engine
):
    def trial(work, name):
        if engine == "sqlite":
            return sqlite_trial(work, sample_history, sqlite_template, tmp_path / name)
        url = request.getfixturevalue("postgres_url")("migrated")
        return Trial(work, sample_history, url, tmp_path / name)

    alone = trial(taken_through_its_day, "alone")
    assert alone.killed_at(None) is False
    together = trial(advanced_with_others, "together")

    together.at_once(workers=3)

    ends = together.attempts()
    assert len(ends) == len(CHAIN) - 1
    assert all(each == ["COMPLETED"] for each in ends.values()), ends
    assert not differing(together.everything(), alone.everything())
