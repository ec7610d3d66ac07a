"""Running the server until it is asked to end."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from socket import socket

import uvicorn
from fastapi import FastAPI

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.alert_watch import AlertWatch
from prometheus_nt.jobs.calendars import build_calendars_elsewhere
from prometheus_nt.jobs.stores import upgrade_schemas
from prometheus_nt.jobs.worker import Worker
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.app import create_app
from prometheus_nt.settings import Settings

_ARENA_MAX = -8
"""glibc's number of the option: how many heaps there are."""


class Server(uvicorn.Server):
    """A server that ends its streams first: they would keep it from ending for as long as it waits.

    Parameters
    ----------
    app : what the server runs
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End the streams, then all else."""
        self._app.state.hub.close()
        await super().shutdown(sockets)


def serve(
    settings: Settings,
    access: Access,
    tell: Callable[[str], None],
    *,
    worker: bool = True,
    alerts: bool = True,
) -> None:
    """Serve until SIGINT or SIGTERM; running answers are finished first.

    Parameters
    ----------
    tell : takes the address once the server listens
    worker : also run the jobs that are asked for; without, another process must
    alerts : also judge the rules of alerts; without, `prometheus alerts check --watch` may

    Raises
    ------
    ConfigError
        If the port is taken.
    """
    _share_one_heap()
    upgrade_schemas(settings)
    build_calendars_elsewhere()
    app = create_app(settings, access)
    config = uvicorn.Config(
        app,
        host=access.host,
        port=access.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=200,
        h11_max_incomplete_event_size=65_536,
    )
    try:
        listening = config.bind_socket()
    except SystemExit as refused:
        raise ConfigError(
            f"--port: {access.port} on {access.host} cannot be listened on; choose another"
        ) from refused
    # Bound is not listening: who is told the address may ask at once.
    listening.listen(config.backlog)
    host, port = listening.getsockname()[:2]
    tell(f"http://{host}:{port}")
    with ExitStack() as beside:
        if worker:
            beside.enter_context(_working(settings))
        if alerts:
            beside.enter_context(_watching(settings))
        # What is there now stays. To look through all of it for cycles takes a fifth of a second,
        # in which nobody is answered.
        gc.collect()
        gc.freeze()
        Server(config, app).run(sockets=[listening])


def _share_one_heap() -> None:
    """Have all threads use one heap: each would keep what it once needed in one of its own.

    They wait for Python's lock anyway. Where the C library has no such option nothing is changed.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_ARENA_MAX, 1)


@contextmanager
def _working(settings: Settings) -> Iterator[None]:
    """Run jobs in processes of their own for as long as the server lives."""
    worker = Worker(settings)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


@contextmanager
def _watching(settings: Settings) -> Iterator[None]:
    """Judge the rules of alerts for as long as the server lives."""
    watch = AlertWatch(settings)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
