"""A worker with kinds of jobs that misbehave; run by `test_worker.py`, killed and stopped by it.

A program of its own, so that the processes of its jobs find these functions again by their module.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_nt.domain.errors import DataError, JobBusy, StoreUnavailable
from prometheus_nt.jobs.kinds import JobSpec, Kind
from prometheus_nt.jobs.worker import Worker, WorkerOptions
from prometheus_nt.settings import Settings

log = logging.getLogger("prometheus_nt.jobs.test")


class Probe(JobSpec):
    """What a job does, and the file in which it leaves a trace."""

    trace: str
    seconds: float = 600.0


def _leave(spec, word):
    with Path(spec.trace).open("a", encoding="utf-8") as trace:
        trace.write(f"{word} {os.getpid()}\n")


def note(spec, stores, progress):
    _leave(spec, "note")
    log.info("the key is %s", stores.settings.eodhd_key)
    progress(1, 4, "a quarter")
    return {"pid": os.getpid(), "unknown": float("nan"), "key": stores.settings.eodhd_key}


def sleep(spec, stores, progress):
    _leave(spec, "began")
    try:
        for second in range(int(spec.seconds * 10)):
            time.sleep(0.1)
            progress(second, int(spec.seconds * 10), "asleep")
    finally:
        _leave(spec, "woke")
    return {}


def deaf(spec, stores, progress):
    """Ignore every request to stop, as C code would, and have a child that does so too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    with Path(spec.trace).open("a", encoding="utf-8") as trace:
        trace.write(f"child {child.pid}\n")
    _leave(spec, "began")
    while True:
        time.sleep(1)


def swallow(spec, stores, progress):
    """Lose the first interrupt, as a callback of C code does; the next progress must raise it."""
    _leave(spec, "began")
    for step in range(6000):
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:
            _leave(spec, "swallowed")
        progress(step, 6000, "step")
    return {}


def die(spec, stores, progress):
    _leave(spec, "died")
    os._exit(11)


def stumble(spec, stores, progress):
    raise ZeroDivisionError(f"near {stores.settings.eodhd_key}")


def refuse(spec, stores, progress):
    raise DataError("no such panel; ingest one")


def away(spec, stores, progress):
    _leave(spec, "away")
    raise StoreUnavailable("the database does not answer")


def busy(spec, stores, progress):
    _leave(spec, "busy")
    raise JobBusy("the day", datetime.now(UTC) + timedelta(hours=1))


FUNCTIONS = (note, sleep, deaf, swallow, die, stumble, refuse, away, busy)
REGISTRY = {
    each.__name__: Kind(Probe, each, attempts=2, timeout_seconds=None) for each in FUNCTIONS
}


def main(silence: float, concurrency: int, once: bool) -> None:
    options = WorkerOptions(
        concurrency=concurrency,
        once=once,
        beat_seconds=0.3,
        poll_seconds=0.2,
        grace_seconds=1.0,
        silence=timedelta(seconds=silence),
    )
    worker = Worker(Settings.from_environment(), options, REGISTRY)
    signal.signal(signal.SIGTERM, lambda *_: worker.request_stop())
    worker.run()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "once")
