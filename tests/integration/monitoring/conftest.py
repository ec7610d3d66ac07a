"""A real server on a free port of this machine, over databases of either engine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from persistence.database import Database
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.app import create_app
from prometheus_nt.monitoring.server import Server
from prometheus_nt.settings import Settings

Served = Callable[..., AbstractContextManager[httpx.Client]]


@contextmanager
def running(
    settings: Settings, access: Access, app: FastAPI | None = None
) -> Iterator[httpx.Client]:
    """Yield a client of a server that runs in a thread of its own."""
    app = app or create_app(settings, access)
    config = uvicorn.Config(app, host=access.host, port=0, log_level="error")
    server, socket = Server(config, app), config.bind_socket()
    thread = Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    begun = monotonic()
    while not server.started:
        assert thread.is_alive() and monotonic() - begun < 30, "the server did not start"
        sleep(0.01)
    port = socket.getsockname()[1]
    with httpx.Client(base_url=f"http://{access.host}:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join()


def settled(
    client: httpx.Client, path: str, params: dict[str, Any] | None = None
) -> httpx.Response:
    """Return the answer once nothing of it is to come: some of it takes the server seconds."""
    begun = monotonic()
    while True:
        answer = client.get(path, params=params)
        if answer.status_code != 200 or not answer.json().get("computing"):
            return answer
        assert monotonic() - begun < 300, f"{path}: still being computed"
        sleep(0.2)


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    """Return settings whose both stores are one migrated database, on either engine."""
    url = database._url.render_as_string(hide_password=False)
    return Settings(home=tmp_path / "home", historical_url=url, runtime_url=url)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """Return a client of a server on loopback without tokens."""
    with running(settings, Access(port=0)) as client:
        yield client
