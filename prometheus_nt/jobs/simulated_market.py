"""The gateway simulator beside a node of the same process: its market moves when the node waits.

The simulator lives in a thread and a loop of its own. `SimulatedMarket` is the node's clock, and
the event that its waiting looks at: a wait of the node is a stage of the market, however long it
would have been. Nothing else in the node knows that its broker is simulated.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import TypeVar

from adapters.ib_gateway.fault import Struck
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.server import Server

Answered = TypeVar("Answered")


class SimulatedMarket:
    """A clock and a stop event over a simulated gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.port = 0
        self._gateway, self._server = gateway, Server(gateway)
        self._ended = False
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="simulator", daemon=True)

    @property
    def struck(self) -> tuple[Struck, ...]:
        """The faults that have struck, oldest first."""
        return tuple(self._gateway.faults.struck)

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        self.port = self._server.port

    def close(self) -> None:
        """End the simulator and its thread."""
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def now(self) -> datetime:
        """Return the market's time."""
        return self._in_loop(
            lambda: datetime.fromtimestamp(self._gateway.clock.now_ns() / 1e9, UTC)
        )

    def is_set(self) -> bool:
        """Return whether the replay has ended."""
        return self._ended

    def wait(self, timeout: float) -> bool:  # noqa: ARG002
        """Let the market go on by one stage; return whether the replay has ended."""
        self._ended = not self._in_loop(self._server.advance)
        return self._ended

    def _in_loop(self, function: Callable[[], Answered]) -> Answered:
        async def asked() -> Answered:
            return function()

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result()


@contextmanager
def simulated_market(gateway: Gateway) -> Iterator[SimulatedMarket]:
    """Yield a market that listens, and end it."""
    market = SimulatedMarket(gateway)
    market.start()
    try:
        yield market
    finally:
        market.close()
