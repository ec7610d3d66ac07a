"""Tasks on a Ray cluster, of this machine or of many: the third form of an executor.

1. `join_cluster` joins the cluster at an address, or starts one of this machine's own;
2. `RayExecutor.require_same` asks every machine whether it has our code and sees our files;
3. `RayExecutor.submit` queues a task; at most `workers` of them are on the cluster at a time;
4. `_steps` runs it there: it says that it has begun, then how it ended;
5. `RayExecutor._hear` listens for both, and gives up what has been running for too long.

Ray repeats nothing by itself: whoever submits a task counts its attempts.
"""

import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.executor import (
    PAUSE_SECONDS,
    TASKS_PER_WORKER,
    Ending,
    Handle,
    Outcome,
    Pause,
    Task,
    guarded,
)
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.settings import Settings, set_in_environment

OBJECT_STORE_BYTES = 80 * 2**20
"""Of a cluster of our own: specs and outcomes are small, panels are read from files."""

CONNECT_SECONDS = 10.0
"""In which the first machine of a cluster has to take a connection."""

LOOK_SECONDS = 120.0
"""In which every machine of a cluster has to answer."""


@dataclass(frozen=True)
class Cluster:
    """A cluster we are connected to; `folder` is of one that we started, and goes with it."""

    ray: ModuleType
    address: str | None
    folder: Path | None

    def leave(self) -> None:
        """Disconnect; a cluster of our own ends with that."""
        self.ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(eq=False)
class _Flight:
    """A task on the cluster; `began` is None until its worker has said so."""

    handle: Handle
    steps: Any
    timeout: float | None
    began: float | None = None

    def seconds_left(self) -> float:
        if self.began is None or self.timeout is None:
            return PAUSE_SECONDS
        return self.began + self.timeout - time.monotonic()


def join_cluster(address: str | None, workers: int) -> Cluster:
    """Return the cluster at `address` (`host:port`, or `auto`), or one of this machine's own.

    What a cluster asks for as a token it finds in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
    ~/.ray/auth_token; one of our own has a token that is nowhere written.

    Raises
    ------
    ConfigError
        If Ray is not installed, or the cluster does not answer or refuses the token.
    """
    set_in_environment({"RAY_USAGE_STATS_ENABLED": "0"})
    if address is None:
        set_in_environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    elif address != "auto":
        _require_answer(address)
    ray = _ray()
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None}
    folder = None
    if address is None:
        # Sockets live in it, and their whole path has to fit into 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="pnt-", dir="/tmp"))
        quiet |= {
            "include_dashboard": False,
            "num_cpus": max(workers, 1),
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(folder),
        }
    try:
        ray.init(address=address or "local", **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as refused:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(_not_joined(address, refused)) from refused
    return Cluster(ray, address, folder)


class RayExecutor:
    """Runs tasks on a Ray cluster, at most `workers` at a time; 0 is as many as it has processors.

    Nothing but specs and outcomes passes through Ray: a task reads and writes the databases and the
    folders of its spec, which every machine has to see under the same names.
    """

    def __init__(
        self, workers: int, address: str | None = None, *, tasks_per_worker: int = TASKS_PER_WORKER
    ) -> None:
        self._cluster = join_cluster(address, workers)
        self._ray = self._cluster.ray
        self._most = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        options = {"num_cpus": 1, "max_retries": 0, "max_calls": tasks_per_worker}
        self._steps = self._ray.remote(**options)(_steps).options(num_returns="streaming")
        self._queued: deque[tuple[Handle, Task, float | None]] = deque()
        self._flights: list[_Flight] = []

    def require_same(self, settings: Settings) -> None:
        """Require of every machine the same code, and to see the home folder and the databases.

        Raises
        ------
        ConfigError
            If one differs, with its address.
        """
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in self._ray.nodes()}
        if len(set(nodes.values())) > 1:
            _require_server(settings)
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".seen-", dir=settings.home.resolve()) as marker:
            found = self._looks(list(nodes), marker.name)
        for node, (code, seen) in found.items():
            if code != code_hash():
                raise ConfigError(
                    f"Ray node {nodes[node]}: has code {code}, this is {code_hash()}; install the "
                    "same version on every machine"
                )
            if not seen:
                raise ConfigError(
                    f"Ray node {nodes[node]}: does not see {settings.home.resolve()}; set "
                    "PROMETHEUS_HOME to a folder that all machines share under one name"
                )

    def submit(self, task: Task, spec: Any, *, timeout: float | None = None) -> Handle:
        handle = Handle(spec)
        self._queued.append((handle, task, timeout))
        return handle

    def as_completed(
        self, handles: Sequence[Handle], pause: Pause | None = None
    ) -> Iterator[Handle]:
        waiting = list(handles)
        while waiting:
            ended = [handle for handle in waiting if handle.outcome is not None]
            waiting = [handle for handle in waiting if handle.outcome is None]
            yield from ended
            if waiting:
                self._launch()
                self._hear()
            if pause is not None:
                pause()

    def cancel(self, handle: Handle) -> None:
        self._queued = deque(one for one in self._queued if one[0] is not handle)
        for flight in [one for one in self._flights if one.handle is handle]:
            self._give_up(flight)
        handle.outcome = handle.outcome or Outcome(Ending.CANCELLED)

    def close(self) -> None:
        self._queued.clear()
        for flight in list(self._flights):
            self._give_up(flight)
        self._cluster.leave()

    def _launch(self) -> None:
        while self._queued and len(self._flights) < self._most:
            handle, task, timeout = self._queued.popleft()
            self._flights.append(_Flight(handle, self._steps.remote(task, handle.spec), timeout))

    def _hear(self) -> None:
        """Wait for the next step of any task, or until one has run for too long."""
        left = min((flight.seconds_left() for flight in self._flights), default=0.0)
        steps = [flight.steps for flight in self._flights]
        if not steps:
            return
        ready, _ = self._ray.wait(steps, timeout=min(max(left, 0.0), PAUSE_SECONDS))
        for flight in list(self._flights):
            if flight.steps in ready:
                self._advance(flight)
            elif flight.seconds_left() <= 0.0:
                self._give_up(flight)
                told = f"it was still running after {flight.timeout:,.0f} seconds"
                flight.handle.outcome = Outcome(Ending.TIMED_OUT, error="Timeout", message=told)

    def _advance(self, flight: _Flight) -> None:
        outcome = _next_step(self._ray, flight.steps)
        if outcome is None:
            flight.began = time.monotonic()
            return
        flight.handle.outcome = outcome
        self._flights.remove(flight)

    def _give_up(self, flight: _Flight) -> None:
        self._flights.remove(flight)
        self._ray.cancel(flight.steps, force=True)

    def _looks(self, nodes: Sequence[str], marker: str) -> dict[str, tuple[str, bool]]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]
        looking = self._ray.remote(num_cpus=0, max_retries=0)(_look)
        answers = {
            node: looking.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(marker)
            for node in nodes
            if node in alive
        }
        try:
            return dict(
                zip(answers, self._ray.get([*answers.values()], timeout=LOOK_SECONDS), strict=True)
            )
        except self._ray.exceptions.RayError as silent:
            raise ConfigError(
                f"Ray cluster {self._cluster.address or 'of this machine'}: a node could not run "
                f"our code, {_first_line(silent)}; install prometheus-nt on every machine"
            ) from silent


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as missing:
        raise ConfigError(
            "executor ray: Ray is not installed; `pip install 'prometheus-nt[ray]'`, or choose "
            "`--executor process`"
        ) from missing
    return ray  # type: ignore[no-any-return]


def _require_answer(address: str) -> None:
    """Ask whether anybody listens: Ray itself goes on asking for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as refused:
        raise ConfigError(_not_joined(address, refused)) from refused


def _steps(task: Task, spec: Any) -> Iterator[Outcome | None]:
    """Yield None as the task begins, then how it ended."""
    yield None
    yield guarded(task, spec)


def _look(marker: str) -> tuple[str, bool]:
    """Return the code of this machine, and whether it sees a file."""
    return code_hash(), Path(marker).is_file()


def _next_step(ray: ModuleType, steps: Any) -> Outcome | None:
    """Return how a task ended, or None if it has only begun."""
    errors = ray.exceptions
    try:
        step: Outcome | None = ray.get(next(steps))
    except errors.TaskCancelledError:
        return Outcome(Ending.CANCELLED)
    except errors.RayTaskError as bug:
        kind = type(bug.cause).__name__
        return Outcome(Ending.FAILED, error=kind, message=f"{kind}: {bug.cause}")
    except errors.RayError as death:
        message = f"the worker process ended: {_first_line(death)}"
        return Outcome(Ending.DIED, error="WorkerDied", message=message)
    return step


def _require_server(settings: Settings) -> None:
    urls = {
        "PROMETHEUS_RUNTIME_URL": settings.runtime_url,
        "PROMETHEUS_HISTORICAL_URL": settings.historical_url,
    }
    files = [name for name, url in urls.items() if url.startswith("sqlite")]
    if files:
        raise ConfigError(
            f"executor ray: {' and '.join(files)}: a SQLite file is of one machine, and the "
            "cluster has several; set them to PostgreSQL, postgresql+psycopg2://..."
        )


def _not_joined(address: str | None, refused: Exception) -> str:
    where = address or "of this machine"
    return (
        f"Ray cluster {where}: {type(refused).__name__}: {_first_line(refused)}; is it running, "
        "and is its token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token?"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
