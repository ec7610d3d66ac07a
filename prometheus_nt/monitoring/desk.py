"""What a route is handed: the open stores, who asks, and the role that an action needs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Annotated, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, HTTPException, Request

from prometheus_nt.jobs.stores import Stores
from prometheus_nt.monitoring.access import Access, Caller, Role
from prometheus_nt.monitoring.memo import Brief, Later, Memo
from prometheus_nt.settings import Settings

BRIEF_SECONDS = 10.0
"""How old a state may be that costs seconds to find; below the pace at which one is polled."""


SLOW_AT_ONCE = 2

Asked = ParamSpec("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Desk:
    """The server's own state, made once: routes hold none.

    slow : how many answers that may take seconds are computed at once
    later : what takes longer than anybody should wait for
    """

    settings: Settings
    stores: Stores
    access: Access
    memo: Memo = field(default_factory=Memo)
    brief: Brief = field(default_factory=lambda: Brief(BRIEF_SECONDS))
    later: Later = field(default_factory=Later)
    slow: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(SLOW_AT_ONCE))


# These are no threads' work: a hop to one and back costs more than they do.
async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


OurDesk = Annotated[Desk, Depends(_desk)]
"""The desk, as a parameter of a route."""

Asking = Annotated[Caller, Depends(_caller)]
"""Who asks, as a parameter of a route."""


def needs(role: Role) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses callers without a role, for a route's `dependencies`."""

    async def require(request: Request) -> None:
        caller = await _caller(request)
        if caller.role < role:
            raise HTTPException(
                403, f"{caller.name} has the role {caller.role.name}; this needs {role.name}"
            )

    return require


def aside(route: Callable[Asked, Answered]) -> Callable[Asked, Awaitable[Answered]]:
    """Have a route that may take seconds answer in threads that no other route needs.

    The route takes the desk as `desk`.
    """

    @wraps(route)
    async def answer(*given: Asked.args, **named: Asked.kwargs) -> Answered:
        desk = named["desk"]
        if not isinstance(desk, Desk):
            raise TypeError(f"{route.__name__}: takes no desk")
        return await to_thread.run_sync(partial(route, *given, **named), limiter=desk.slow)

    return answer
