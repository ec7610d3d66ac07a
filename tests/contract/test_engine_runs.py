import os
import socket
from datetime import UTC, date, datetime, timedelta
from threading import Barrier, Thread

import pytest
import sqlalchemy as sa

from persistence.engine_runs import LEASE, EngineRunStore, RunFilters
from persistence.tables.operations import engine_run_attempts, engine_runs
from prometheus_nt.domain.errors import ConfigError, PhaseError, StoreError
from prometheus_nt.domain.phases import CHAIN, RunPhase

DAY = date(2013, 2, 28)


@pytest.fixture
def store(database):
    return EngineRunStore(database)


@pytest.fixture
def run(store):
    return store.ensure(DAY, "US", "US_CORE_LONG_EQ", "BACKTEST")


def attempts(store):
    query = sa.select(engine_run_attempts).order_by("phase", "attempt")
    with store.database.reader() as connection:
        rows = connection.execute(query).mappings()
        return [(row["phase"], row["attempt"], row["status"]) for row in rows]


def test_a_day_has_one_run_however_often_it_is_asked_for(store, run):
    again = store.ensure(DAY, "US", "US_CORE_LONG_EQ", "BACKTEST")

    assert again == run
    assert run.phase is RunPhase.WAITING_FOR_DATA
    assert store.listing(RunFilters(active=True)) == [run]


def test_a_run_goes_through_its_phases_under_a_lease_each(store, run):
    for after in CHAIN[1:]:
        held = store.claim(run.run_id, "one")
        moved = store.complete_phase(held, after, coverage={"names": 5})
        assert (moved.phase, moved.owner, moved.attempt) == (after, None, 0)

    assert store.listing(RunFilters(active=True)) == []
    assert [status for _, _, status in attempts(store)] == ["COMPLETED"] * 5
    assert store.claim(run.run_id, "one") is None


def test_two_workers_never_hold_one_run(store, run):
    together, held = Barrier(6), []

    def work(name):
        together.wait()
        claimed = store.claim(run.run_id, name)
        if claimed is not None:
            held.append(name)

    workers = [Thread(target=work, args=(f"worker-{number}",)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(held) == 1
    assert store.run(run.run_id).owner == held[0]


def test_a_dead_workers_lease_ends_and_it_can_no_longer_move_the_run(store, run):
    dead = store.claim(run.run_id, "dead")

    later = datetime.now(UTC) + LEASE + timedelta(seconds=1)
    assert store.claim(run.run_id, "eager") is None
    alive = store.claim(run.run_id, "alive", now=later)

    with pytest.raises(PhaseError, match="was lost to alive"):
        store.complete_phase(dead, RunPhase.DATA_READY)
    store.complete_phase(alive, RunPhase.DATA_READY)
    assert attempts(store) == [
        ("WAITING_FOR_DATA", 1, "ABANDONED"),
        ("WAITING_FOR_DATA", 2, "COMPLETED"),
    ]


def test_a_failure_is_kept_and_a_retry_goes_back_to_its_phase(store, run):
    store.complete_phase(store.claim(run.run_id, "one"), RunPhase.DATA_READY)
    error = {"type": "DataError", "message": "no prices"}

    failed = store.fail(store.claim(run.run_id, "one"), error)

    assert (failed.phase, failed.failed_phase) == (RunPhase.FAILED, RunPhase.DATA_READY)
    assert failed.error == error
    back = store.retry(run.run_id)
    assert (back.phase, back.failed_phase) == (RunPhase.DATA_READY, None)
    store.complete_phase(store.claim(run.run_id, "two"), RunPhase.SIGNALS_DONE)
    assert attempts(store)[:2] == [("DATA_READY", 1, "FAILED"), ("DATA_READY", 2, "COMPLETED")]


def test_the_wait_after_a_failure_doubles_and_attempts_run_out(store, run):
    waits = []
    for _ in range(3):
        begun = datetime.now(UTC)
        failed = store.fail(store.claim(run.run_id, "one"), {"message": "no"})
        waits.append((failed.next_attempt_at - begun).total_seconds())
        if len(waits) < 3:
            store.retry(run.run_id)

    assert [round(wait / 60) for wait in waits] == [1, 2, 4]
    now = datetime.now(UTC)
    assert store.due(now, most_attempts=5) == []
    assert [each.run_id for each in store.due(now + timedelta(hours=1), 5)] == [run.run_id]
    assert store.due(now + timedelta(hours=1), most_attempts=3) == []


def test_a_phase_that_waits_gives_its_lease_back(store, run):
    store.release(store.claim(run.run_id, "one"))

    found = store.run(run.run_id)
    assert (found.phase, found.owner, found.attempt) == (RunPhase.WAITING_FOR_DATA, None, 0)
    assert attempts(store) == [("WAITING_FOR_DATA", 1, "WAITING")]


def test_days_are_listed_newest_first_by_what_was_asked_for(store, run):
    later = store.ensure(date(2013, 3, 1), "US", "US_CORE_LONG_EQ", "BACKTEST")
    abroad = store.ensure(DAY, "EU", "EU_CORE_LONG_EQ", "BACKTEST")
    store.fail(store.claim(later.run_id, "one"), {"message": "no"})

    assert [each.run_id for each in store.listing(RunFilters(region="US"))] == [
        later.run_id,
        run.run_id,
    ]
    assert store.listing(RunFilters(phase="FAILED"))[0].run_id == later.run_id
    assert {each.run_id for each in store.listing(RunFilters(active=True))} == {
        run.run_id,
        abroad.run_id,
    }
    assert len(store.listing(RunFilters(as_of=DAY, limit=1))) == 1
    with pytest.raises(ConfigError, match="unknown phase 'DONE'"):
        store.listing(RunFilters(phase="DONE"))


def test_a_phase_cannot_be_skipped(store, run):
    held = store.claim(run.run_id, "one")

    with pytest.raises(PhaseError, match="no such move"):
        store.complete_phase(held, RunPhase.BOOKS_DONE)

    assert store.run(run.run_id).phase is RunPhase.WAITING_FOR_DATA


def test_only_a_failed_run_is_retried_and_only_a_known_one_is_found(store, run):
    with pytest.raises(PhaseError, match="only a FAILED run"):
        store.retry(run.run_id)
    with pytest.raises(StoreError, match="no engine run 'x'"):
        store.run("x")


def test_a_day_in_another_mode_is_another_run(store, run):
    paper = store.ensure(DAY, "US", "US_CORE_LONG_EQ", "PAPER")

    assert paper.run_id != run.run_id
    assert (run.mode, paper.mode) == ("BACKTEST", "PAPER")
    assert store.ensure(DAY, "US", "US_CORE_LONG_EQ", "PAPER") == paper
    assert store.ensure(DAY, "US", "US_CORE_LONG_EQ", "BACKTEST") == run


@pytest.mark.parametrize("mode", ["BACKTEST", "PAPER"])
def test_a_run_of_an_earlier_version_keeps_its_id_and_shadows_no_other_mode(store, mode):
    made = store.ensure(DAY, "US", "US_CORE_LONG_EQ", mode)
    old = "US_CORE_LONG_EQ-US-20130228"
    with store.database.writer() as connection:
        renamed = sa.update(engine_runs).where(engine_runs.c.run_id == made.run_id)
        connection.execute(renamed.values(run_id=old))

    assert store.ensure(DAY, "US", "US_CORE_LONG_EQ", mode).run_id == old
    other = "PAPER" if mode == "BACKTEST" else "BACKTEST"
    assert store.ensure(DAY, "US", "US_CORE_LONG_EQ", other).run_id != old


def test_a_renewed_lease_is_nobody_elses_and_a_lost_one_cannot_be_renewed(store, run):
    held = store.claim(run.run_id, "one")
    begun = datetime.now(UTC)

    assert store.renew(held, now=begun + LEASE)

    assert store.claim(run.run_id, "two", now=begun + LEASE) is None
    taken = store.claim(run.run_id, "two", now=begun + 3 * LEASE)
    assert taken.owner == "two"
    assert not store.renew(held)


def test_the_lease_of_a_process_that_is_gone_ends_at_once(store, run):
    store.claim(run.run_id, f"{socket.gethostname()}:999999999:gone")

    assert store.claim(run.run_id, f"{socket.gethostname()}:{os.getpid()}:me") is not None
    assert store.claim(run.run_id, "another") is None
    assert attempts(store)[0][2] == "ABANDONED"
