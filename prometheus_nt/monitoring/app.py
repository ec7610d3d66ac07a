"""The server: routes over open stores, behind the guard."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from persistence import events
from persistence.database import Database
from persistence.news import moved_since
from prometheus_nt.domain.errors import PrometheusError, StoreError
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.answers import Failure, failure, status_of
from prometheus_nt.monitoring.conditional import Conditional
from prometheus_nt.monitoring.desk import Desk
from prometheus_nt.monitoring.guard import ControlCall, Guard
from prometheus_nt.monitoring.kept import Kept
from prometheus_nt.monitoring.routes import (
    alerts,
    assistant,
    books,
    campaigns,
    control,
    data,
    embeddings,
    geo,
    health,
    intelligence,
    jobs,
    lineage,
    names,
    options,
    pages,
    pipeline,
    runs,
    scenes,
    status,
    stream,
    tables,
    trading,
)
from prometheus_nt.monitoring.stream import Hub
from prometheus_nt.settings import Settings

ROUTERS = (
    *(health.router, pages.router, options.router),
    *(status.router, names.router, books.router, pipeline.router, tables.router),
    *(runs.router, campaigns.router, jobs.router, control.router, intelligence.router),
    *(data.router, lineage.router, stream.router, alerts.router),
    *(trading.router, scenes.router, assistant.router, geo.router, embeddings.router),
)

READERS_AT_ONCE = 4
"""Threads that answer. More would only take turns, each of them with a connection to a database of
its own and the memory that goes with it."""

CONTROL_STREAM = "control"
"""The sealed stream of everything that somebody asked to change."""

SEND_JSON = "send one JSON object, with Content-Type: application/json; /api/docs has its fields"

_log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: Settings, access: Access) -> FastAPI:
    """Return the server's application; the stores open when it starts and close when it ends.

    Parameters
    ----------
    access : who may ask
    """
    app = FastAPI(
        title="Prometheus NT",
        version=version("prometheus-nt"),
        lifespan=_with_stores(settings, access),
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Failure} for code in (400, 404, 409, 422, 503)},
    )
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", pages.static_files())
    app.add_exception_handler(PrometheusError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Kept, databases=_databases)
    app.add_middleware(Conditional)
    app.add_middleware(Guard, access=access, record=_recorder(app))
    return app


def _with_stores(settings: Settings, access: Access) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = READERS_AT_ONCE
        with open_stores(settings) as stores:
            app.state.desk = Desk(settings, stores, access)
            runtime = stores.runtime.database
            app.state.hub = Hub(partial(moved_since, runtime), mark=runtime.commit_mark)
            try:
                yield
            finally:
                app.state.hub.close()

    return lifespan


def _databases(scope: Scope) -> tuple[Database, ...]:
    stores: Stores = scope["app"].state.desk.stores
    return stores.runtime.database, stores.historical.database


def _recorder(app: FastAPI) -> Callable[[ControlCall], None]:
    def record(call: ControlCall) -> None:
        stores: Stores = app.state.desk.stores
        try:
            with stores.runtime.database.durable_writer() as connection:
                events.append(connection, CONTROL_STREAM, [("control_call", asdict(call))])
        except StoreError:
            # The call has been answered already; what cannot be stored is at least in the log.
            _log.exception("control call not recorded: %s", call)

    return record


def _refused(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PrometheusError):
        raise error
    return failure(type(error).__name__, str(error), status_of(error))


def _http(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    return failure("Refused", str(error.detail), error.status_code)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    return failure("InvalidRequest", "; ".join(map(_mistake, error.errors())), 422)


def _mistake(one: dict[str, Any]) -> str:
    """Return where a mistake is, what it is, and for a body that cannot be read what to send."""
    at, told = ".".join(map(str, one["loc"])), one["msg"]
    if one["type"] == "json_invalid":
        why, place = one["ctx"]["error"], one["loc"][-1]
        return f"body: no JSON at character {place}: {why}; {SEND_JSON}"
    if one["loc"] == ("body",):
        return f"{at}: {told}; {SEND_JSON}"
    return f"{at}: {told}"
