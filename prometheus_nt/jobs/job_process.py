"""One job in one process of its own: it can be told to stop or killed, and dies with its worker.

1. `JobProcess` starts it: the leader of a session, so that whatever it starts dies with it;
2. `_work` runs the kind's function and sends back what it says and how it ended;
3. `_obey` waits for a word of the worker: one asks it to stop, as Ctrl-C would; the end of the line
   means that the worker is dead, and then the whole session dies at once.
"""

import json
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from multiprocessing.connection import Connection
from time import monotonic
from types import TracebackType
from typing import Any, Self

from prometheus_nt.domain.errors import JobBusy, PrometheusError, StoreUnavailable
from prometheus_nt.jobs.kinds import JobSpec, Kind, Work
from prometheus_nt.jobs.observability import LOGGED, start_logging
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

PRELOADED = ["prometheus_nt.jobs.kind_work"]
"""What the server of processes imports once, Nautilus with it; each job is its fork."""

PROGRESS_SECONDS = 0.25
"""Between two words about progress: a backtest has thousands of sessions."""

Line = tuple[datetime, str, str]
"""When, level, message."""


class Ended(StrEnum):
    """How the process of a job ended."""

    DONE = "DONE"
    FAILED = "FAILED"
    BUSY = "BUSY"
    STOPPED = "STOPPED"
    DIED = "DIED"


@dataclass(frozen=True)
class Ending:
    """How it ended and what of it is known.

    again : whether the same work may succeed later
    until : BUSY: when somebody else will be done at the latest
    """

    how: Ended
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    again: bool = False
    until: datetime | None = None


@dataclass(frozen=True)
class Assignment:
    """What a process is to do; without `run`, what kinds of jobs do with such a spec."""

    run: Work | None
    spec: JobSpec
    settings: Settings


@dataclass
class JobProcess:
    """The process of one job, seen from its worker.

    lines : what was logged since the worker last took it
    ending : None until it has ended
    """

    process: multiprocessing.process.BaseProcess
    line: Connection
    progress: float | None = None
    message: str | None = None
    lines: list[Line] = field(default_factory=list)
    ending: Ending | None = None

    @classmethod
    def start(cls, kind: Kind, spec: JobSpec, settings: Settings) -> Self:
        """Start the work of a job."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        ours, theirs = context.Pipe()
        assignment = Assignment(kind.run, spec, settings)
        # No daemon: a campaign has processes of its own.
        process = context.Process(target=_work, args=(assignment, theirs), daemon=False)
        process.start()
        theirs.close()
        return cls(process, ours)

    def read(self) -> None:
        """Take in what the process said since, and whether it has ended."""
        gone = not self.process.is_alive()
        try:
            while self.line.poll():
                self._hear(self.line.recv())
        except (EOFError, OSError):
            gone = True
        if gone or self.ending is not None:
            self._bury()

    def _hear(self, word: tuple[str, Any]) -> None:
        match word:
            case ("progress", (progress, message)):
                self.progress, self.message = progress, message
            case ("line", line):
                self.lines.append(line)
            case ("ending", ending):
                self.ending = ending

    def _bury(self) -> None:
        if self.ending is None:
            self.process.join(timeout=1.0)
            self.ending = Ending(Ended.DIED, error=_death(self.process.exitcode), again=True)
        # What it started may have outlived it.
        self.kill()
        self.line.close()

    def interrupt(self) -> None:
        """Ask the work to stop, as Ctrl-C would."""
        try:
            self.line.send("stop")
        except OSError:
            return  # it has ended, which the next reading tells

    def kill(self) -> None:
        """End the process and everything that it started."""
        pid = self.process.pid
        if pid is None:
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has ended, or was not yet the leader of its session.
            self.process.kill()
        self.process.join(timeout=5.0)


def _death(exit_code: int | None) -> dict[str, Any]:
    if exit_code is not None and exit_code < 0:
        how = f"was killed by {signal.Signals(-exit_code).name}"
    else:
        how = f"ended with exit code {exit_code} and said nothing"
    return {
        "type": "JobDied",
        "message": f"the job's process {how}",
        "remedy": "see that it has memory enough, then retry it",
    }


def _work(assignment: Assignment, line: Connection) -> None:
    """Do what is assigned, and say how it ended; the whole life of the process."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    voice = _Voice(line, assignment.settings.secrets)
    signal.signal(signal.SIGINT, voice.interrupted)
    threading.Thread(target=_obey, args=(line,), daemon=True).start()
    _listen(voice, assignment.settings)
    with voice, open_stores(assignment.settings, upgrade=False) as stores:
        run = assignment.run or _work_of(assignment.spec)
        result = run(assignment.spec, stores, voice.progress)
        voice.done(result)


def _work_of(spec: JobSpec) -> Work:
    # It brings Nautilus, which the worker's own process, often the server's, must not hold.
    from prometheus_nt.jobs.kind_work import WORK

    return WORK[type(spec)]


def _obey(line: Connection) -> None:
    try:
        while line.recv():
            os.kill(os.getpid(), signal.SIGINT)
    except (EOFError, OSError):
        # The worker is dead: somebody else will be given the job, and nothing may run twice.
        os.killpg(0, signal.SIGKILL)


class _Voice:
    """What the process says to its worker; leaving it as a context says how the work ended."""

    def __init__(self, line: Connection, secrets: tuple[str, ...]) -> None:
        self._line, self._secrets = line, secrets
        # Lines are logged by any thread; the lock may be asked for by a handler within itself.
        self._turn = threading.RLock()
        self._stopped, self._speaking, self._told = False, False, 0.0

    def say(self, what: str, content: Any) -> None:
        """Send one word, whole: an interrupt that comes meanwhile is raised after it."""
        main = threading.current_thread() is threading.main_thread()
        stopped_before, self._speaking = self._stopped, self._speaking or main
        try:
            with self._turn:
                self._line.send((what, content))
        finally:
            self._speaking = self._speaking and not main
        if main and self._stopped and not stopped_before:
            raise KeyboardInterrupt

    def interrupted(self, _signal: int, _frame: object) -> None:
        """Answer the signal that asks the work to stop; signals come to the main thread."""
        if self._stopped:
            return
        self._stopped = True
        if not self._speaking:
            raise KeyboardInterrupt

    def progress(self, done: int, total: int, label: str) -> None:
        """Say how far the work is, not too often."""
        if self._stopped:
            # The first was raised where nobody could let it pass, in a callback of C code.
            raise KeyboardInterrupt
        if done < total and monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told = monotonic()
        fraction = min(max(done / total, 0.0), 1.0) if total > 0 else None
        self.say("progress", (fraction, self.plain(label)))

    def plain(self, text: str) -> str:
        """Return a text without a secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def done(self, result: dict[str, Any]) -> None:
        """Say what the work came to; a figure that is not known is null."""
        text = self.plain(json.dumps(result, default=str))
        known = json.loads(text, parse_constant=lambda _: None)
        self.say("ending", Ending(Ended.DONE, result=known))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if kind is None or failure is None:
            return True
        if not isinstance(failure, PrometheusError | KeyboardInterrupt):
            told = "".join(traceback.format_exception(kind, failure, trace))
            self.say("line", (datetime.now(UTC), "ERROR", self.plain(told)))
        self.say("ending", self._ending(failure))
        return True

    def _ending(self, failure: BaseException) -> Ending:
        match failure:
            case KeyboardInterrupt():
                return Ending(Ended.STOPPED)
            case JobBusy(until=until):
                return Ending(Ended.BUSY, error=self._told_of(failure, ""), until=until)
            case StoreUnavailable():
                remedy = "see that the database answers, then retry it"
                return Ending(Ended.FAILED, error=self._told_of(failure, remedy), again=True)
            case PrometheusError():
                remedy = getattr(failure, "remedy", "mend what the message names, then retry it")
                return Ending(Ended.FAILED, error=self._told_of(failure, remedy))
            case _:
                remedy = "this is a defect; the job's log has the traceback"
                return Ending(Ended.FAILED, error=self._told_of(failure, remedy))

    def _told_of(self, failure: BaseException, remedy: str) -> dict[str, Any]:
        message = self.plain(str(failure) or type(failure).__name__)
        return {"type": type(failure).__name__, "message": message, "remedy": self.plain(remedy)}


class _ToWorker(logging.Handler):
    """Sends what our packages log to the worker."""

    def __init__(self, voice: _Voice) -> None:
        super().__init__(logging.INFO)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        text = self._voice.plain(record.getMessage())
        at = datetime.fromtimestamp(record.created, UTC)
        self._voice.say("line", (at, record.levelname, text))


def _listen(voice: _Voice, settings: Settings) -> None:
    if settings.log is not None:
        start_logging(settings, settings.log)
    handler = _ToWorker(voice)
    for name in LOGGED:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
