"""Jobs as rows: claimed by one, moved as they may, left RUNNING by nobody; on either engine."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from persistence import job_queue
from persistence.database import Database
from persistence.job_queue import Beat, JobFilters, JobQueue, NewJob
from persistence.tables.governance import job_logs, jobs
from prometheus_nt.domain.errors import ConfigError, JobError, JobLost, UnknownJob
from prometheus_nt.domain.jobs import JobPriority, JobStatus

BOUND = timedelta(seconds=30)


@pytest.fixture
def queue(database):
    return JobQueue(database)


def new(number=0, **facts):
    usual = {"kind": "report", "spec": {"run": f"R-{number}"}, "submitted_by": "me"}
    return NewJob(**usual | facts)


def running(queue, **facts):
    queue.insert(new(**facts))
    held = queue.claim("w")
    assert held is not None
    return held


def test_a_job_waits_until_a_worker_claims_it_and_then_says_whose_it_is(queue):
    waiting = queue.insert(new(timeout_seconds=5.0))

    held = queue.claim("host:1:a")

    assert (waiting.status, waiting.attempt, waiting.worker) == (JobStatus.PENDING, 0, None)
    assert (held.job_id, held.spec) == (waiting.job_id, {"run": "R-0"})
    assert (held.status, held.attempt, held.worker) == (JobStatus.RUNNING, 1, "host:1:a")
    assert held.heartbeat_at == held.started_at is not None
    assert held.timeout_seconds == 5.0
    assert queue.claim("host:1:b") is None


def test_the_critical_go_first_then_the_oldest_and_nobody_before_its_time(queue):
    later = datetime.now(UTC) + timedelta(hours=1)
    for number, facts in enumerate(
        (
            {"priority": JobPriority.OPTIONAL},
            {},
            {},
            {"priority": JobPriority.CRITICAL},
            {"priority": JobPriority.CRITICAL, "not_before": later},
        )
    ):
        queue.insert(new(number, **facts))

    order = [queue.claim("w").spec["run"] for _ in range(4)]

    assert order == ["R-3", "R-1", "R-2", "R-0"]
    assert queue.claim("w") is None
    assert queue.claim("w", now=later).spec["run"] == "R-4"


def test_a_worker_claims_only_the_kinds_that_it_runs(queue):
    queue.insert(new(kind="report"))
    queue.insert(new(kind="backtest"))

    assert queue.claim("w", ["backtest", "ingest"]).kind == "backtest"
    assert queue.claim("w", ["backtest", "ingest"]) is None


def test_of_many_workers_that_race_exactly_one_gets_each_job(database):
    url = database._url.render_as_string(hide_password=False)
    total, claimed = 60, []
    queue = JobQueue(database)
    for number in range(total):
        queue.insert(new(number))
    barrier = threading.Barrier(8)

    def race(name):
        own = JobQueue(Database.open(url))
        barrier.wait()
        while (held := own.claim(name)) is not None:
            claimed.append((held.job_id, held.attempt))
        own.database.close()

    threads = [threading.Thread(target=race, args=(f"w{at}",)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed)) == total
    assert {attempt for _, attempt in claimed} == {1}


def test_a_key_finds_the_job_that_it_made_and_refuses_another_spec(queue):
    first = queue.insert(new(key="k"))

    again = queue.insert(new(key="k"))
    elsewhere = queue.insert(new(key="k", submitted_by="other"))

    assert again == first
    assert elsewhere.job_id != first.job_id
    with pytest.raises(JobError, match=r"key 'k'.*another spec; use another key"):
        queue.insert(new(1, key="k"))


def test_a_heartbeat_says_how_far_a_job_is_and_hears_whether_to_stop(queue):
    held = running(queue)

    first = queue.beat(held, Beat(0.25, "half of the half", [(held.started_at, "INFO", "began")]))
    queue.cancel(held.job_id)
    second = queue.beat(held, Beat(0.5))

    found = queue.job(held.job_id)
    assert (first, second) == (False, True)
    assert (found.progress, found.status) == (0.5, JobStatus.RUNNING)
    assert found.heartbeat_at > held.heartbeat_at
    (line,) = queue.logs(held.job_id)
    assert (line.sequence, line.level, line.message) == (1, "INFO", "began")


def test_only_the_newest_lines_of_a_log_are_kept_and_pages_go_on_where_one_ended(
    queue, monkeypatch
):
    monkeypatch.setattr(job_queue, "MOST_LINES", 4)
    held = running(queue)
    at = held.started_at
    for number in range(3):
        lines = [(at, "INFO", f"{number}.{part}") for part in range(2)]
        queue.beat(held, Beat(lines=lines))

    kept = queue.logs(held.job_id)
    page = queue.logs(held.job_id, after=3, limit=2)

    assert [line.message for line in kept] == ["1.0", "1.1", "2.0", "2.1"]
    assert [line.sequence for line in kept] == [3, 4, 5, 6]
    assert [line.sequence for line in page] == [4, 5]


def test_a_completed_job_keeps_its_result_and_cannot_move_any_more(queue):
    held = running(queue)

    done = queue.complete(held, {"runs": ["R"]}, Beat(message="done"))

    assert (done.status, done.result, done.progress) == (JobStatus.COMPLETED, {"runs": ["R"]}, 1.0)
    assert done.completed_at is not None
    for move in (queue.cancel, queue.retry):
        with pytest.raises(JobError, match="is COMPLETED"):
            move(done.job_id)
    with pytest.raises(JobLost):
        queue.beat(held, Beat())


def test_a_failure_that_may_pass_waits_longer_each_time_and_then_is_final(queue):
    held = running(queue, max_attempts=2)
    error = {"type": "StoreUnavailable", "message": "away", "remedy": "wait"}

    first = queue.fail(held, error, again=True)
    held = queue.claim("w", now=first.not_before)
    last = queue.fail(held, error, again=True)

    wait = first.not_before - first.updated_at
    assert (first.status, first.error, first.worker) == (JobStatus.PENDING, error, None)
    assert timedelta(seconds=29) < wait < timedelta(seconds=31)
    assert (last.status, last.attempt, last.error) == (JobStatus.FAILED, 2, error)
    assert job_queue._wait(2) == 2 * job_queue._wait(1)
    assert job_queue._wait(10_000) == job_queue.LONGEST_WAIT


def test_a_final_failure_is_not_tried_again_although_attempts_are_left(queue):
    failed = queue.fail(running(queue), {"type": "ConfigError", "message": "m", "remedy": None})

    assert (failed.status, failed.attempt, failed.max_attempts) == (JobStatus.FAILED, 1, 3)
    assert queue.claim("w") is None


def test_a_retry_waits_again_with_new_attempts_and_what_was_counted_stays_counted(queue):
    failed = queue.fail(running(queue), {"type": "E", "message": "m", "remedy": None})

    again = queue.retry(failed.job_id, attempts=3)
    held = queue.claim("w")

    assert (again.status, again.attempt, again.max_attempts) == (JobStatus.PENDING, 1, 4)
    assert (held.attempt, held.error) == (2, failed.error)
    assert queue.complete(held, {}).error is None


def test_a_job_given_back_does_not_lose_an_attempt(queue):
    held = running(queue, max_attempts=1)
    until = datetime.now(UTC) + timedelta(minutes=1)

    waiting = queue.give_back(held, until)
    held = queue.claim("other", now=until)

    assert (waiting.status, waiting.not_before) == (JobStatus.PENDING, until)
    assert (held.attempt, held.max_attempts) == (2, 2)


def test_cancelling_what_waits_ends_it_and_what_runs_is_asked_to_stop(queue):
    waiting = queue.insert(new())

    ended = queue.cancel(waiting.job_id)
    held = running(queue)
    asked = queue.cancel(held.job_id)
    twice = queue.cancel(held.job_id)
    stopped = queue.end_cancelled(held)

    assert (ended.status, ended.cancel_requested) == (JobStatus.CANCELLED, True)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    assert twice.status is JobStatus.RUNNING
    assert stopped.status is JobStatus.CANCELLED
    assert queue.retry(stopped.job_id).cancel_requested is False


def test_what_was_to_be_cancelled_is_not_given_back_or_tried_again(queue):
    for leave in (
        queue.give_back,
        lambda held: queue.fail(held, {"type": "E", "message": "m", "remedy": None}, again=True),
    ):
        held = running(queue)
        queue.cancel(held.job_id)

        assert leave(held).status is JobStatus.CANCELLED


def test_jobs_of_a_silent_worker_are_tried_again_failed_or_cancelled(queue):
    kept = running(queue, max_attempts=2)
    last = running(queue, max_attempts=1)
    unwanted = running(queue, max_attempts=2)
    queue.cancel(unwanted.job_id)
    soon = last.heartbeat_at + BOUND - timedelta(seconds=1)
    late = unwanted.heartbeat_at + BOUND + timedelta(seconds=1)

    early = queue.recover(BOUND, now=soon - timedelta(seconds=5))
    found = {job.job_id: job for job in queue.recover(BOUND, now=late)}

    assert early == []
    again, failed = found[kept.job_id], found[last.job_id]
    assert (again.status, again.not_before) == (JobStatus.PENDING, late + job_queue.FIRST_WAIT)
    assert (failed.status, failed.error["type"]) == (JobStatus.FAILED, "WorkerLost")
    assert "gave no sign of life" in failed.error["message"]
    assert failed.error["remedy"]
    assert found[unwanted.job_id].status is JobStatus.CANCELLED
    assert queue.listing(JobFilters(status="RUNNING")) == []
    assert queue.recover(BOUND, now=late) == []


def test_a_worker_that_is_known_to_be_dead_is_not_waited_for(queue):
    held = running(queue)

    assert queue.recover(BOUND, is_gone=lambda name: name == "other") == []
    (found,) = queue.recover(BOUND, is_gone=lambda name: name == "w")

    assert (found.job_id, found.status) == (held.job_id, JobStatus.PENDING)


def test_a_worker_that_slept_past_its_heartbeat_can_write_nothing(queue):
    slept = running(queue)
    (waiting,) = queue.recover(BOUND, now=slept.heartbeat_at + 2 * BOUND)
    # Even if the same worker is the next: it is another attempt.
    now = queue.claim("w", now=waiting.not_before)

    error = {"type": "E", "message": "m", "remedy": None}
    for write in (
        lambda: queue.beat(slept, Beat(1.0)),
        lambda: queue.complete(slept, {}),
        lambda: queue.fail(slept, error),
        lambda: queue.give_back(slept),
        lambda: queue.end_cancelled(slept),
    ):
        with pytest.raises(JobLost, match="attempt 1 of w holds it no more"):
            write()
    assert queue.job(now.job_id) == now


def test_a_running_job_cannot_be_retried(queue):
    held = running(queue)

    with pytest.raises(JobError, match="is RUNNING; cancel it first"):
        queue.retry(held.job_id)


def test_a_listing_is_newest_first_filtered_and_paged_without_a_gap(queue, database):
    made = [queue.insert(new(number, kind=f"k{number % 2}")) for number in range(7)]
    # Three of one instant: ties are broken, not lost.
    with database.writer() as connection:
        ids = [job.job_id for job in made[2:5]]
        same = sa.update(jobs).where(jobs.c.job_id.in_(ids))
        connection.execute(same.values(created_at=made[3].created_at))

    pages, after = [], None
    while page := queue.listing(JobFilters(limit=2, after=after)):
        pages += [job.job_id for job in page]
        after = page[-1].job_id

    assert len(pages) == len(set(pages)) == 7
    assert pages == [job.job_id for job in queue.listing(JobFilters())]
    assert pages[0] == made[-1].job_id
    assert {job.kind for job in queue.listing(JobFilters(kind="k1"))} == {"k1"}
    assert queue.listing(JobFilters(submitted_by="nobody")) == []
    with pytest.raises(ConfigError, match="unknown status 'DONE'; known: PENDING"):
        queue.listing(JobFilters(status="DONE"))
    with pytest.raises(ConfigError, match="limit: expected 1 to"):
        queue.listing(JobFilters(limit=0))


def test_a_job_is_found_by_the_beginning_of_its_name(queue):
    queue.insert(new(kind="alpha"))
    newest = queue.insert(new(kind="beta"))

    assert queue.find("latest") == queue.find("beta") == queue.find(newest.job_id) == newest
    for name, problem in (("gamma", "no job matches"), ("", "more than one job matches")):
        with pytest.raises(UnknownJob, match=problem):
            queue.find(name)
    with pytest.raises(UnknownJob, match="no job 'x'"):
        queue.logs("x")


def test_claims_and_pages_walk_an_index_and_sort_nothing(sqlite_database):
    queue = JobQueue(sqlite_database)
    filters = ({}, {"status": "FAILED"}, {"kind": "report"})
    seen = []

    def note(_connection, _cursor, statement, parameters, *_):
        seen.append((statement, parameters))

    for opened in (sqlite_database.writer, sqlite_database.reader):
        with opened() as connection:
            sa.event.listen(connection.engine, "before_cursor_execute", note)
    queue.insert(new())
    queue.claim("w", ["report"])
    for each in filters:
        queue.listing(JobFilters(**each))
    claims = [each for each in seen if each[0].startswith("UPDATE jobs")][:1]
    pages = [each for each in seen if "ORDER BY jobs.created_at DESC" in each[0]]
    with sqlite_database.reader() as connection:
        plans = [
            " ".join(
                row[-1]
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            )
            for statement, parameters in claims + pages
        ]

    assert len(plans) == 1 + len(filters)
    assert "ix_jobs_claim (status=?)" in plans[0]
    assert "TEMP B-TREE" not in " ".join(plans)
    for plan, index in zip(
        plans[1:], ("ix_jobs_created", "ix_jobs_status", "ix_jobs_kind"), strict=True
    ):
        assert index in plan


def test_a_held_job_stands_for_its_attempt_only(queue):
    held = running(queue)

    with pytest.raises(JobLost):
        queue.beat(replace(held, worker="thief"), Beat())
    with queue.database.reader() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(job_logs)).scalar() == 0
