"""A worker: claims jobs, runs each in a process of its own, and says how they go until they end.

One thread does all of it, in turns:

1. `_look_after` hears each process, sends its heartbeat, and stops what is to be stopped;
2. `_settle` records how a process ended;
3. `_recover` takes over what dead workers left;
4. `_claim` fills the places that are free.

A worker that could not send a heartbeat for as long as others wait for one stops its jobs: somebody
else may have them by now.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from multiprocessing.connection import wait
from time import monotonic, sleep
from typing import Any

from persistence.job_queue import HEARTBEAT_BOUND, Beat, Job, JobQueue
from prometheus_nt.domain.errors import ConfigError, JobLost, PrometheusError, StoreUnavailable
from prometheus_nt.jobs.heartbeat import worker_name
from prometheus_nt.jobs.job_process import Ended, Ending, JobProcess
from prometheus_nt.jobs.kinds import KINDS, Kind
from prometheus_nt.jobs.queue import kind_of, read_spec
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

log = logging.getLogger(__name__)

TURN_SECONDS = 0.2
"""Longest pause between two turns."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works; times in seconds.

    Attributes
    ----------
    concurrency : jobs at the same time
    kinds : those that it runs; None is all
    once : end when nothing waits any more, instead of waiting for more
    beat_seconds : between two heartbeats, after one of which a cancelled job is asked to stop
    poll_seconds : between two looks for work
    silence : without a heartbeat, after which a worker counts as dead; the same for all workers
    grace_seconds : for a job that was asked to stop, before it is killed
    drain_seconds : for running jobs when the worker is asked to stop, before they are given back
    """

    concurrency: int = 1
    kinds: tuple[str, ...] | None = None
    once: bool = False
    beat_seconds: float = 1.0
    poll_seconds: float = 1.0
    silence: timedelta = HEARTBEAT_BOUND
    grace_seconds: float = 3.0
    drain_seconds: float = 0.0


class Asked(StrEnum):
    """Why a job was asked to stop."""

    CANCEL = "CANCEL"
    TIMEOUT = "TIMEOUT"
    GIVE_BACK = "GIVE_BACK"
    LOST = "LOST"


@dataclass
class _Running:
    """A job that this worker holds, and its process."""

    job: Job
    process: JobProcess
    began: float = field(default_factory=monotonic)
    beaten: float = field(default_factory=monotonic)
    next_beat: float = field(default_factory=monotonic)
    asked: Asked | None = None
    asked_at: float = 0.0

    def ask(self, why: Asked) -> None:
        """Ask the process to stop, once."""
        if self.asked is None:
            self.asked, self.asked_at = why, monotonic()
            self.process.interrupt()

    def overdue(self) -> bool:
        limit = self.job.timeout_seconds
        return limit is not None and monotonic() - self.began > limit


class Worker:
    """Runs jobs until it is asked to stop: `run` in this thread, or `start` and `stop` in another.

    Parameters
    ----------
    registry : kinds of jobs by name
    """

    def __init__(
        self,
        settings: Settings,
        options: WorkerOptions | None = None,
        registry: Mapping[str, Kind] = KINDS,
    ) -> None:
        self.name = worker_name()
        self.settled = 0
        self._settings, self._options = settings, options or WorkerOptions()
        self._registry = registry
        for kind in self._options.kinds or ():
            kind_of(kind, registry)
        if self._options.concurrency < 1:
            raise ConfigError(f"concurrency: at least 1, found {self._options.concurrency}")
        self._running: list[_Running] = []
        # No event: a signal's handler may set this while the thread it interrupts reads it.
        self._stopping = False
        self._stop_at = 0.0
        self._next_claim = self._next_recovery = 0.0
        self._idle = False
        self._thread: threading.Thread | None = None

    def run(self) -> int:
        """Work until asked to stop, or once through what waits; return how many jobs it settled."""
        log.info("worker=%s began", self.name)
        with open_stores(self._settings, upgrade=True) as stores:
            queue = JobQueue(stores.runtime.database)
            try:
                while self._goes_on():
                    self._turn(queue)
                    self._pause()
            finally:
                for one in self._running:
                    one.process.kill()
        log.info("worker=%s jobs=%s ended", self.name, self.settled)
        return self.settled

    def start(self) -> None:
        """Work in a thread of this process."""
        self._thread = threading.Thread(target=self.run, name="prometheus-worker")
        self._thread.start()

    def request_stop(self) -> None:
        """Claim nothing more; give back what is not done when the time to drain is over."""
        self._stop_at = monotonic()
        self._stopping = True

    def stop(self) -> None:
        """Ask the thread that `start` began to stop, and wait for it."""
        self.request_stop()
        if self._thread is not None:
            self._thread.join()

    def _goes_on(self) -> bool:
        if self._running:
            return not self._given_up()
        return not (self._stopping or (self._options.once and self._idle))

    def _given_up(self) -> bool:
        """Return whether a stop could not be recorded for so long that others have the jobs."""
        most = self._options.drain_seconds + self._options.grace_seconds
        most += self._options.silence.total_seconds()
        return self._stopping and monotonic() - self._stop_at > most

    def _turn(self, queue: JobQueue) -> None:
        draining = self._stopping
        if draining and monotonic() - self._stop_at >= self._options.drain_seconds:
            for one in self._running:
                one.ask(Asked.GIVE_BACK)
        for one in list(self._running):
            self._while_there(self._look_after, queue, one)
        if not draining:
            self._while_there(self._recover, queue)
            self._while_there(self._claim, queue)

    def _while_there(self, step: Callable[..., None], *of: Any) -> None:
        """Do a step; without the database it is done in a later turn."""
        try:
            step(*of)
        except StoreUnavailable as away:
            log.warning("worker=%s the database is away: %s", self.name, away)

    def _pause(self) -> None:
        lines = [one.process.line for one in self._running if one.process.ending is None]
        if lines:
            wait(lines, timeout=TURN_SECONDS)
        elif self._goes_on():
            sleep(TURN_SECONDS)

    def _look_after(self, queue: JobQueue, one: _Running) -> None:
        if one.process.ending is None:
            one.process.read()
        if one.process.ending is not None:
            self._settle(queue, one, one.process.ending)
            return
        if one.overdue():
            one.ask(Asked.TIMEOUT)
        if one.asked is not None and monotonic() - one.asked_at > self._options.grace_seconds:
            one.process.kill()
        if monotonic() >= one.next_beat:
            self._beat(queue, one)

    def _beat(self, queue: JobQueue, one: _Running) -> None:
        now = monotonic()
        one.next_beat = now + self._options.beat_seconds
        try:
            if queue.beat(one.job, _word(one)):
                one.ask(Asked.CANCEL)
            one.process.lines.clear()
            one.beaten = monotonic()
        except JobLost as lost:
            self._lose(one, str(lost))
        except StoreUnavailable as away:
            if now - one.beaten > self._options.silence.total_seconds():
                self._lose(one, f"no heartbeat for {now - one.beaten:.0f} s: {away}")
            raise

    def _lose(self, one: _Running, why: str) -> None:
        log.warning("job=%s lost: %s", one.job.job_id, why)
        one.asked = Asked.LOST
        one.process.kill()

    def _settle(self, queue: JobQueue, one: _Running, ending: Ending) -> None:
        try:
            found = _recorded(queue, one, ending)
            log.info("job=%s attempt=%s is %s", found.job_id, found.attempt, found.status)
        except JobLost as lost:
            log.warning("job=%s lost: %s", one.job.job_id, lost)
        self._running.remove(one)
        self.settled += 1
        self._next_claim = 0.0

    def _recover(self, queue: JobQueue) -> None:
        if monotonic() < self._next_recovery:
            return
        seconds = min(self._options.silence.total_seconds() / 3, 10.0)
        self._next_recovery = monotonic() + seconds
        for job in queue.recover(self._options.silence, is_gone=is_gone):
            log.warning("job=%s of a dead worker is %s", job.job_id, job.status)

    def _claim(self, queue: JobQueue) -> None:
        while len(self._running) < self._options.concurrency:
            if monotonic() < self._next_claim:
                return
            job = queue.claim(self.name, self._options.kinds)
            self._idle = job is None
            if job is None:
                self._next_claim = monotonic() + self._options.poll_seconds
                return
            self._begin(queue, job)

    def _begin(self, queue: JobQueue, job: Job) -> None:
        log.info("job=%s kind=%s attempt=%s began", job.job_id, job.kind, job.attempt)
        try:
            kind = kind_of(job.kind, self._registry)
            spec = read_spec(job.kind, job.spec, self._registry)
        except PrometheusError as refused:
            queue.fail(job, _error(type(refused).__name__, str(refused), "submit it anew"))
            self.settled += 1
            return
        process = JobProcess.start(kind, spec, self._settings)
        self._running.append(_Running(job, process))


def is_gone(worker: str) -> bool:
    """Return whether a worker `host:pid:...` is of this machine and has no process any more."""
    host, pid, *_ = [*worker.split(":"), "", ""]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _word(one: _Running) -> Beat:
    said = one.process
    return Beat(said.progress, said.message, tuple(said.lines))


def _recorded(queue: JobQueue, one: _Running, ending: Ending) -> Job:
    """Record how a job ended; what was done is done, even if somebody had asked it to stop."""
    job, word = one.job, _word(one)
    if ending.how is Ended.DONE:
        return queue.complete(job, ending.result or {}, word)
    match one.asked:
        case Asked.CANCEL:
            return queue.end_cancelled(job, word)
        case Asked.GIVE_BACK | Asked.LOST:
            return queue.give_back(job, beat=word)
        case Asked.TIMEOUT:
            told = f"was stopped after {job.timeout_seconds:g} s"
            remedy = "submit it with a longer timeout, or make it smaller"
            return queue.fail(job, _error("Timeout", told, remedy), word)
    if ending.how is Ended.BUSY:
        soonest = datetime.now(UTC) + timedelta(seconds=1)
        return queue.give_back(job, max(ending.until or soonest, soonest), word)
    stopped = _error("Interrupted", "the job's process was interrupted from outside", "retry it")
    return queue.fail(job, ending.error or stopped, word, again=ending.again)


def _error(kind: str, message: str, remedy: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "remedy": remedy}
