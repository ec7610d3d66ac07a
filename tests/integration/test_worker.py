"""Workers as real processes: every job ends, whatever becomes of it or of its worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.database import Database
from persistence.job_queue import JobFilters, JobQueue, NewJob
from persistence.tables.governance import jobs
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.jobs import JobStatus
from prometheus_nt.jobs.worker import Worker, WorkerOptions, is_gone
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("job_worker.py")
SECRET = "sesame-open-7"
PATIENCE = 60.0


@dataclass
class Place:
    """A home, its queue, and the workers that a test starts in it."""

    folder: Path
    database: Database
    workers: list[subprocess.Popen] = field(default_factory=list)

    @property
    def queue(self):
        return JobQueue(self.database)

    @property
    def environment(self):
        return {
            "PROMETHEUS_HOME": str(self.folder / "home"),
            "PROMETHEUS_RUNTIME_URL": self.database._url.render_as_string(hide_password=False),
            "EODHD_API_KEY": SECRET,
        }

    def submit(self, kind, **facts):
        number = len(list(self.folder.glob("*.trace")))
        trace = self.folder / f"{number}.trace"
        trace.touch()
        new = NewJob(kind, {"trace": str(trace)}, "me", **{"max_attempts": 2} | facts)
        return self.queue.insert(new).job_id

    def trace(self, job_id):
        text = Path(self.queue.job(job_id).spec["trace"]).read_text(encoding="utf-8")
        return [(word, int(pid)) for word, pid in (line.split() for line in text.splitlines())]

    def start(self, silence=30.0, concurrency=1, once=False):
        words = [str(silence), str(concurrency), "once" if once else "on"]
        environment = os.environ | self.environment
        worker = subprocess.Popen([sys.executable, PROGRAM, *words], env=environment)
        self.workers.append(worker)
        return worker

    def run(self, **options):
        worker = self.start(once=True, **options)
        assert worker.wait(PATIENCE) == 0

    def until(self, reached):
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"not reached: {self.queue.listing(JobFilters())}")
            time.sleep(0.05)

    def until_status(self, job_id, status):
        self.until(lambda: self.queue.job(job_id).status == status)
        return self.queue.job(job_id)

    def until_begun(self, *job_ids):
        self.until(lambda: all(dict(self.trace(job_id)).get("began") for job_id in job_ids))


@pytest.fixture
def place(database, tmp_path):
    made = Place(tmp_path, database)
    yield made
    for worker in made.workers:
        worker.kill()
        worker.wait()


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_every_job_ends_as_it_should_and_tells_no_secret(place):
    kinds = ("note", "refuse", "stumble", "die", "away", "busy", "nonsense")
    ids = {kind: place.submit(kind) for kind in kinds}
    wrong = place.queue.insert(NewJob("note", {"trase": "x"}, "me")).job_id

    place.run(concurrency=3)

    found = {kind: place.queue.job(job_id) for kind, job_id in ids.items()}
    ended = {kind: (job.status.value, (job.error or {}).get("type")) for kind, job in found.items()}
    assert ended == {
        "note": ("COMPLETED", None),
        "refuse": ("FAILED", "DataError"),
        "stumble": ("FAILED", "ZeroDivisionError"),
        "die": ("PENDING", "JobDied"),
        "away": ("PENDING", "StoreUnavailable"),
        "busy": ("PENDING", None),
        "nonsense": ("FAILED", "ConfigError"),
    }
    ((_, pid),) = place.trace(ids["note"])
    assert found["note"].result == {"pid": pid, "unknown": None, "key": "***"}
    assert pid not in {worker.pid for worker in place.workers}
    assert "exit code 11" in found["die"].error["message"]
    assert (found["busy"].attempt, found["busy"].max_attempts) == (1, 3)
    assert found["busy"].not_before > found["die"].not_before > found["die"].updated_at
    assert all(job.error["remedy"] for job in found.values() if job.error)
    refused = place.queue.job(wrong)
    assert (refused.status, refused.error["message"]) == (
        JobStatus.FAILED,
        "note: trace: required, but not given\nnote: trase: unknown field; did you mean 'trace'?",
    )
    told = [line.message for job_id in ids.values() for line in place.queue.logs(job_id)]
    assert "the key is ***" in told
    assert any("Traceback" in text and "near ***" in text for text in told)
    assert SECRET not in str(found) + str(told)


def test_a_job_whose_worker_is_killed_dies_with_it_and_is_tried_again_or_failed(place):
    again, last = place.submit("deaf"), place.submit("sleep", max_attempts=1)
    worker = place.start(concurrency=2)
    place.until_begun(again, last)

    worker.send_signal(signal.SIGKILL)
    worker.wait()

    pids = [pid for job_id in (again, last) for _, pid in place.trace(job_id)]
    assert len(pids) == 3
    place.until(lambda: not any(alive(pid) for pid in pids))
    place.run()
    kept, failed = place.queue.job(again), place.queue.job(last)
    assert (kept.status, kept.attempt, kept.worker) == (JobStatus.PENDING, 1, None)
    assert (failed.status, failed.error["type"]) == (JobStatus.FAILED, "WorkerLost")
    assert kept.not_before > kept.updated_at
    assert place.queue.listing(JobFilters(status="RUNNING")) == []


def test_a_job_of_a_dead_worker_of_another_machine_is_taken_over_after_its_silence(place):
    job_id = place.submit("sleep", max_attempts=1)
    worker = place.start()
    place.until_begun(job_id)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    with place.database.writer() as connection:
        connection.execute(sa.update(jobs).values(worker="elsewhere:1:a"))
    silent_since = place.queue.job(job_id).heartbeat_at

    place.start(silence=2.0)

    failed = place.until_status(job_id, JobStatus.FAILED)
    assert failed.completed_at - silent_since >= timedelta(seconds=2)
    assert "elsewhere:1:a gave no sign of life" in failed.error["message"]


def test_a_cancelled_job_is_stopped_politely_or_else_killed_with_its_children(place):
    ids = [place.submit(kind) for kind in ("sleep", "swallow", "deaf")]
    place.start(concurrency=3)
    place.until_begun(*ids)

    for job_id in ids:
        place.queue.cancel(job_id)

    found = [place.until_status(job_id, JobStatus.CANCELLED) for job_id in ids]
    traces = [place.trace(job_id) for job_id in ids]
    assert [word for word, _ in traces[0]] == ["began", "woke"]
    assert [word for word, _ in traces[1]] == ["began", "swallowed"]
    assert [word for word, _ in traces[2]] == ["child", "began"]
    place.until(lambda: not any(alive(pid) for trace in traces for _, pid in trace))
    assert {job.attempt for job in found} == {1}
    retried = place.queue.retry(ids[0])
    assert place.until_status(ids[0], JobStatus.RUNNING).attempt == retried.attempt + 1 == 2


def test_a_job_that_takes_too_long_is_stopped_and_not_tried_again(place):
    slow = place.submit("deaf", timeout_seconds=1.0)

    place.run()

    failed = place.queue.job(slow)
    assert (failed.status, failed.attempt) == (JobStatus.FAILED, 1)
    assert failed.error == {
        "type": "Timeout",
        "message": "was stopped after 1 s",
        "remedy": "submit it with a longer timeout, or make it smaller",
    }
    place.until(lambda: not any(alive(pid) for _, pid in place.trace(slow)))


def test_a_worker_that_is_asked_to_stop_gives_its_jobs_back_at_no_cost(place):
    job_id = place.submit("sleep", max_attempts=1)
    worker = place.start()
    place.until_begun(job_id)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(PATIENCE) == 0
    waiting = place.queue.job(job_id)
    assert (waiting.status, waiting.worker, waiting.error) == (JobStatus.PENDING, None, None)
    assert [word for word, _ in place.trace(job_id)] == ["began", "woke"]
    assert place.queue.claim("next").attempt == 2


def test_what_two_workers_do_is_done_once(place):
    ids = [place.submit("note") for _ in range(12)]

    workers = [place.start(concurrency=2, once=True) for _ in range(2)]

    assert [worker.wait(PATIENCE) for worker in workers] == [0, 0]
    found = [place.queue.job(job_id) for job_id in ids]
    assert {(job.status, job.attempt) for job in found} == {(JobStatus.COMPLETED, 1)}
    assert [len(place.trace(job_id)) for job_id in ids] == [1] * 12


def test_a_worker_lives_in_a_thread_of_another_process(place):
    settings = Settings.from_environment(place.environment)
    worker = Worker(settings, WorkerOptions(kinds=("report",), poll_seconds=0.1))
    other = place.queue.insert(NewJob("derive", {"dataset": "d"}, "me")).job_id
    job_id = place.queue.insert(NewJob("report", {"run": "nobody"}, "me")).job_id

    worker.start()
    try:
        failed = place.until_status(job_id, JobStatus.FAILED)
    finally:
        worker.stop()

    assert failed.error["type"] == "StoreError"
    assert place.queue.job(other).status is JobStatus.PENDING
    assert worker.settled == 1


def test_a_worker_refuses_a_kind_that_there_is_not():
    settings = Settings.from_environment({})

    with pytest.raises(ConfigError, match="unknown kind of job 'reprot'; did you mean 'report'"):
        Worker(settings, WorkerOptions(kinds=("reprot",)))


def test_only_a_worker_of_this_machine_without_a_process_is_known_to_be_dead():
    host = socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert is_gone(f"{host}:{ended.pid}:a")
    assert not is_gone(f"{host}:{os.getpid()}:a")
    assert not is_gone(f"elsewhere:{ended.pid}:a")
    assert not is_gone("nonsense")
