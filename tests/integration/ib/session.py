"""A link to a simulated gateway on a real socket, at the speed of tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from adapters.ib.config import Backoff, LinkParams
from adapters.ib.link import Link
from adapters.ib_gateway.faults import read_rule
from adapters.ib_gateway.server import Server, serving
from tests.integration.ib_gateway.market import ACCOUNT, new_gateway

PATIENCE = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def params_for(port: int, **changed: Any) -> LinkParams:
    terms: dict[str, Any] = {
        "port": port,
        "also_ports": (port,),
        "account": ACCOUNT,
        "connect_timeout_seconds": 0.5,
        "start_timeout_seconds": PATIENCE,
        "request_timeout_seconds": 2.0,
        "heartbeat_seconds": 0.2,
        "heartbeat_timeout_seconds": 0.3,
        "backoff": Backoff(first_seconds=0.02, most_seconds=0.1, client_id_seconds=0.1),
    }
    return LinkParams(**(terms | changed))


def inject(server: Server, rule: str) -> None:
    """Have a fault strike the connected clients now, or wait for its event."""
    server.gateway.faults.add(read_rule(rule))
    server.perform(server.gateway.drain())


class Heard:
    """What a link told a listener, in order."""

    def __init__(self, link: Link) -> None:
        self.events: list[str] = []
        self.reasons: list[str] = []
        link.on_event(self)

    def __call__(self, event: str, reason: str) -> None:
        self.events.append(str(event))
        self.reasons.append(reason)


@asynccontextmanager
async def linked(server: Server, **changed: Any) -> AsyncIterator[Link]:
    """Yield a link that is up, and close it."""
    link = Link(params_for(server.port, **changed))
    try:
        await link.start()
        yield link
    finally:
        await link.close()


def with_gateway(test: Callable[[Server], Any], *faults: str, **terms: Any) -> None:
    """Run an async test with a server of its own."""

    async def run() -> None:
        async with serving(Server(new_gateway(*faults, **terms))) as server:
            await test(server)

    asyncio.run(run())
