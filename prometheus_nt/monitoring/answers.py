"""What answers of the interface have in common: their form, their pages, and their errors."""

from datetime import date
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    PrometheusError,
    StoreError,
    StoreUnavailable,
    UnknownJob,
)

MOST_ROWS = 1_000
DEFAULT_ROWS = 50
LATEST_OFFSET = 10_000_000

T = TypeVar("T")

_Session = Annotated[
    date | None, Query(description="Only what was known on this session; default the newest.")
]


async def _as_of(as_of: _Session = None, as_of_date: _Session = None) -> date | None:
    """Return the session asked for, under either name."""
    if as_of is not None and as_of_date is not None and as_of != as_of_date:
        raise ConfigError(f"as_of: {as_of} and as_of_date: {as_of_date} differ; give one of them")
    return as_of or as_of_date


AsOf = Annotated[date | None, Depends(_as_of)]
"""The session that an answer is of: `as_of`, or `as_of_date`, which means the same."""
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page.")]
Offset = Annotated[int, Query(ge=0, le=LATEST_OFFSET, description="Rows to skip.")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.:/\- ]+$")]
"""A name of the stores, in a path or a query."""


class Part(BaseModel):
    """Base of what an answer is made of."""

    model_config = ConfigDict(frozen=True)


class Answer(BaseModel):
    """Base of every answer. A field that is null is not known; `unknown` then says why.

    unknown : field -> why it is null, in words of an operator.
    """

    model_config = ConfigDict(frozen=True)

    unknown: dict[str, str] = Field(default_factory=dict)


class Page(Answer, Generic[T]):
    """Some rows of a list. next_offset : where the next page begins; null on the last one."""

    rows: list[T]
    offset: int
    next_offset: int | None


def page_of(rows: list[T], offset: int, limit: int) -> Page[T]:
    """Return a page from `limit + 1` rows that were read at `offset`: one more than it shows."""
    following = offset + limit if len(rows) > limit else None
    return Page(rows=rows[:limit], offset=offset, next_offset=following)


class Problem(BaseModel):
    """Why a request was not answered."""

    type: str
    message: str


class Failure(BaseModel):
    """The form of every error."""

    error: Problem


STATUS: tuple[tuple[type[PrometheusError], int], ...] = (
    (StoreUnavailable, 503),
    (UnknownJob, 404),
    (ConfigError, 400),
    (DataError, 404),
    (StoreError, 404),
    (PrometheusError, 409),
)
"""Kind of error -> HTTP status; the first that fits."""


def status_of(error: PrometheusError) -> int:
    """Return the status of an answer that could not be given."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def failure(kind: str, message: str, status: int) -> JSONResponse:
    """Return an error in the form that every error has."""
    body = Failure(error=Problem(type=kind, message=message))
    return JSONResponse(body.model_dump(), status)
