"""Jobs of days on both engines: begun by one, ended by whom they belong to, forgotten by nobody."""

import os
import socket
from datetime import UTC, date, datetime, timedelta
from threading import Barrier, Thread

import pytest

from persistence.job_executions import LEASE, Ended, JobExecutionStore
from prometheus_nt.domain.daily_jobs import Job, JobKind, JobRule, JobStatus
from prometheus_nt.domain.errors import PhaseError, StoreError

NOW = datetime(2024, 3, 28, 21, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
ME = f"{socket.gethostname()}:{os.getpid()}:me"
GONE = f"{socket.gethostname()}:999999999:gone"
ELSEWHERE = "elsewhere:1:other"


def job(name, session=date(2024, 3, 28)):
    kind = JobKind.RUN_SIGNALS
    return Job(name, f"day_{session}", kind, session, "s", JobRule(), (), NOW, None)


@pytest.fixture
def store(database):
    made = JobExecutionStore(database)
    made.plan([job("one"), job("two")], "US_EQ", NOW)
    return made


def found(store, name="one"):
    return store.of_dags(["day_2024-03-28"])[name]


def test_a_job_planned_again_stays_as_it_is(store):
    held = store.claim("one", ME, NOW)

    store.plan([job("one"), job("three")], "US_EQ", LATER)

    assert found(store) == held
    assert found(store, "three").status is JobStatus.PENDING
    assert store.first_session("US_EQ") == date(2024, 3, 28)
    assert store.first_session("EU_EQ") is None


def test_of_many_daemons_one_begins_a_job(store):
    together, held = Barrier(6), []

    def work(name):
        together.wait()
        if store.claim("one", name, NOW) is not None:
            held.append(name)

    threads = [Thread(target=work, args=(f"elsewhere:{number}:x",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(held) == 1
    assert (found(store).owner, found(store).attempt) == (held[0], 1)
    assert store.claim("one", ME, NOW + 2 * LEASE) is None


def test_a_failure_waits_until_it_is_due_and_remembers_what_went_wrong(store):
    held = store.claim("one", ME, NOW)

    store.settle(held, Ended(JobStatus.FAILED, "x" * 600, "DataError", LATER), NOW)

    assert store.claim("one", ME, LATER - timedelta(seconds=1)) is None
    again = store.claim("one", ELSEWHERE, LATER)
    assert (again.attempt, again.status, again.next_attempt_at) == (2, JobStatus.RUNNING, None)
    (failure,) = again.failures
    assert (failure["attempt"], failure["error"], len(failure["message"])) == (1, "DataError", 512)


def test_what_failed_for_good_begins_only_when_somebody_says_so(store):
    held = store.claim("one", ME, NOW)
    store.settle(held, Ended(JobStatus.FAILED, "broken", "DataError"), NOW)
    assert store.skip("two", "needs one", NOW)

    assert found(store).standing.over
    assert store.claim("one", ME, LATER) is None
    assert store.reopen(["day_2024-03-28"], LATER) == ["one", "two"]
    assert store.claim("one", ME, LATER).attempt == 1
    assert len(found(store).failures) == 1


def test_a_job_that_found_nothing_to_do_yet_has_not_used_an_attempt(store):
    held = store.claim("one", ME, NOW)

    waits = Ended(JobStatus.PENDING, "no data yet", next_attempt_at=LATER, counts=False)
    after = store.settle(held, waits, NOW)

    assert (after.status, after.attempt, after.completed_at) == (JobStatus.PENDING, 0, None)
    assert store.claim("one", ME, NOW) is None
    assert store.claim("one", ME, LATER).attempt == 1


def test_who_lost_a_job_can_write_nothing_of_it(store):
    lost = store.claim("one", ELSEWHERE, NOW)
    stale = found(store)
    store.settle(stale, Ended(JobStatus.PENDING, "gone", "DaemonGone"), NOW + LEASE)
    mine = store.claim("one", ME, NOW + LEASE)

    with pytest.raises(PhaseError, match=f"attempt 1 of {ELSEWHERE} was taken over by {ME}"):
        store.settle(lost, Ended(JobStatus.SUCCESS), LATER)

    assert not store.renew(lost, LATER)
    assert store.renew(mine, LATER)
    assert found(store).lease_until == LATER + LEASE


def test_a_job_is_stale_when_its_lease_or_its_process_has_ended(store):
    for owner, at, stale in (
        (ME, NOW, False),
        (ELSEWHERE, NOW, False),
        (GONE, NOW, True),
        (ME, NOW + LEASE, True),
    ):
        held = store.claim("one", owner, NOW)
        assert held.is_stale(at) is stale, (owner, at)
        store.settle(held, Ended(JobStatus.PENDING, counts=False), NOW)

    assert not found(store).is_stale(NOW + LEASE)


def test_a_finished_job_moves_no_more(store):
    held = store.claim("one", ME, NOW)
    store.settle(held, Ended(JobStatus.SUCCESS, "done"), NOW)

    assert store.claim("one", ME, LATER) is None
    assert not store.skip("one", "why", LATER)
    assert store.reopen(["day_2024-03-28"], LATER) == []


def test_a_job_that_nobody_planned_is_told(store):
    with pytest.raises(StoreError, match="no job 'nine' was planned; `prometheus day dag`"):
        store.claim("nine", ME, NOW)
