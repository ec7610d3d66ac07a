"""Running many independent tasks, here or elsewhere, so that one loss is one task's loss.

Rules of an executor:

- A task is a function of a module and a small picklable spec of ids and paths. What it makes goes
  to the databases; it returns an id.
- The same task gives the same rows inline, with one worker and with many.
- An error that the project raises on purpose fails the task. So does a worker that dies or takes
  too long, and no other task with it. Inline, a bug stops everything where it happens.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessPool

from prometheus_nt.domain.errors import ConfigError, PrometheusError
from prometheus_nt.domain.runs import ExecutorKind
from prometheus_nt.settings import Settings

Task = Callable[[Any], str]
Pause = Callable[[], None]

PRELOADED = ["prometheus_nt.jobs.backtest"]
"""What the server of worker processes imports once, Nautilus with it; each worker is its fork."""

TASKS_PER_WORKER = 25
"""Runs after which a worker is replaced, so that what a library leaks goes with it."""

PAUSE_SECONDS = 5.0
"""Longest silence between two calls of `pause`."""


class Ending(StrEnum):
    """How a task ended."""

    DONE = "DONE"
    FAILED = "FAILED"
    DIED = "DIED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its id, or the kind of error and what it said."""

    ending: Ending
    result: str | None = None
    error: str | None = None
    message: str | None = None


@dataclass(eq=False)
class Handle:
    """A submitted task; `outcome` is None until it has ended."""

    spec: Any
    run: Callable[[], Outcome] | None = None
    future: "Future[Outcome] | None" = None
    outcome: Outcome | None = field(default=None)


class Executor(Protocol):
    """Runs tasks; use as a context, so that no process is left behind."""

    def submit(self, task: Task, spec: Any, *, timeout: float | None = None) -> Handle:
        """Return the handle of a task that will be run; `timeout` in seconds of running."""

    def as_completed(
        self, handles: Sequence[Handle], pause: Pause | None = None
    ) -> Iterator[Handle]:
        """Yield the handles as their tasks end; `pause` is called every few seconds between."""

    def cancel(self, handle: Handle) -> None:
        """Give a task up; one that runs in another process is killed."""

    def close(self) -> None:
        """Kill what still runs and release the processes."""


class InlineExecutor:
    """Runs each task in this process when its outcome is asked for; knows no timeout."""

    def submit(self, task: Task, spec: Any, *, timeout: float | None = None) -> Handle:
        del timeout
        return Handle(spec, run=lambda: guarded(task, spec))

    def as_completed(
        self, handles: Sequence[Handle], pause: Pause | None = None
    ) -> Iterator[Handle]:
        for handle in handles:
            if pause is not None:
                pause()
            if handle.outcome is None and handle.run is not None:
                handle.outcome = handle.run()
            yield handle

    def cancel(self, handle: Handle) -> None:
        handle.outcome = handle.outcome or Outcome(Ending.CANCELLED)

    def close(self) -> None:
        """Do nothing: there is no process to release."""


class ProcessExecutor:
    """Runs tasks in processes of this machine.

    Workers are forked from a server that has Nautilus imported and has run nothing: a process that
    ran an engine has threads, and forking it would be luck.
    """

    def __init__(self, workers: int, *, tasks_per_worker: int = TASKS_PER_WORKER) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._pool = ProcessPool(workers, max_tasks=tasks_per_worker, context=context)

    def submit(self, task: Task, spec: Any, *, timeout: float | None = None) -> Handle:
        return Handle(spec, future=self._pool.schedule(guarded, (task, spec), timeout=timeout))

    def as_completed(
        self, handles: Sequence[Handle], pause: Pause | None = None
    ) -> Iterator[Handle]:
        waiting = {handle.future: handle for handle in handles if handle.future is not None}
        while waiting:
            done, _ = wait(waiting, timeout=PAUSE_SECONDS, return_when=FIRST_COMPLETED)
            if pause is not None:
                pause()
            for future in [future for future in waiting if future in done]:
                handle = waiting.pop(future)
                handle.outcome = _outcome(future)
                yield handle

    def ended(self, handles: Sequence[Handle], seconds: float) -> list[Handle]:
        """Return the handles whose tasks have ended; wait for the first, but only so long."""
        futures = {handle.future: handle for handle in handles if handle.future is not None}
        done, _ = wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            futures[future].outcome = _outcome(future)
        return [handle for handle in handles if handle.future in done]

    def cancel(self, handle: Handle) -> None:
        if handle.future is not None:
            handle.future.cancel()

    def close(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def new_executor(
    workers: int, kind: ExecutorKind | None = None, settings: Settings | None = None
) -> Executor:
    """Return an executor: 0 workers run in this process, more in as many others, or on Ray.

    Raises
    ------
    ConfigError
        If processes are asked for and none is allowed, or there is no Ray cluster that sees what
        `settings` name.
    """
    match kind or ("process" if workers else "inline"):
        case "inline":
            return InlineExecutor()
        case "process" if workers:
            return ProcessExecutor(workers)
        case "process":
            raise ConfigError("executor process: 0 workers; it needs at least one")
        case _:
            return _on_ray(workers, settings)


def _on_ray(workers: int, settings: Settings | None) -> Executor:
    from prometheus_nt.jobs.ray_executor import RayExecutor

    executor = RayExecutor(workers, None if settings is None else settings.ray_address)
    if settings is not None:
        try:
            executor.require_same(settings)
        except ConfigError:
            executor.close()
            raise
    return executor


def guarded(task: Task, spec: Any) -> Outcome:
    """Return how a task ended, an error that is raised on purpose among the endings."""
    # Here, not in the parent: an error with a constructor of its own cannot be unpickled.
    try:
        return Outcome(Ending.DONE, result=task(spec))
    except PrometheusError as failure:
        return Outcome(Ending.FAILED, error=type(failure).__name__, message=str(failure))


def _outcome(future: "Future[Outcome]") -> Outcome:
    try:
        failure = future.exception()
    except CancelledError:
        return Outcome(Ending.CANCELLED)
    match failure:
        case None:
            return future.result()
        case ProcessExpired():
            died = f"the worker process ended with exit code {failure.exitcode}"
            return Outcome(Ending.DIED, error="WorkerDied", message=died)
        case TimeoutError():
            return Outcome(Ending.TIMED_OUT, error="Timeout", message=str(failure))
        case _:
            kind = type(failure).__name__
            return Outcome(Ending.FAILED, error=kind, message=f"{kind}: {failure}")
