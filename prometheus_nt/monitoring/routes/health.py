"""Whether the server lives, whether its stores answer, and the state of both as metrics."""

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from persistence import schema
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.jobs.metrics import render
from prometheus_nt.monitoring.answers import Answer
from prometheus_nt.monitoring.desk import OurDesk

router = APIRouter(tags=["health"])

METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health(Answer):
    """The server lives."""

    status: Literal["ok"]


class Readiness(Answer):
    """Of each database: `ready`, or what is wrong with it."""

    ready: bool
    databases: dict[str, str]


@router.get("/health")
def health() -> Health:
    """Say that the server answers; it asks no database."""
    return Health(status="ok")


@router.get("/ready")
def ready(desk: OurDesk, response: Response) -> Readiness:
    """Say whether both databases answer and have this version's schema; 503 if not.

    That its tables are right is looked at once, and again when any of them was changed.
    """
    databases = {
        "historical": _state(desk, "historical"),
        "runtime": _state(desk, "runtime"),
    }
    is_ready = all(state == "ready" for state in databases.values())
    response.status_code = 200 if is_ready else 503
    return Readiness(ready=is_ready, databases=databases)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(desk: OurDesk) -> PlainTextResponse:
    """Return the state of the stores in the text that a Prometheus server reads.

    They are counted at most every few seconds.
    """
    text = desk.brief.get("metrics", lambda: render(desk.stores))
    return PlainTextResponse(text, media_type=METRICS)


def _state(desk: OurDesk, branch: str) -> str:
    store = desk.stores.historical if branch == "historical" else desk.stores.runtime
    try:
        key = ("schema", branch, *schema.state_of(store.database, branch))
        desk.memo.get(key, lambda: schema.check(store.database, branch))
    except StoreError as problem:
        return str(problem)
    return "ready"
