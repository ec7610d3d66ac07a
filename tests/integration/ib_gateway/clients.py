"""The official client in a thread of its own, and a server in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order

from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from tests.integration.ib_gateway.official import Recorder

PATIENCE = 10.0


class OfficialClient(Recorder, EClient):  # type: ignore[misc]
    """`ibapi` as it is, with every callback written down."""

    def __init__(self) -> None:
        Recorder.__init__(self)
        EClient.__init__(self, wrapper=self)
        self._thread: threading.Thread | None = None

    def begin(self, port: int, client_id: int) -> "OfficialClient":
        self.connect("127.0.0.1", port, client_id)
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def end(self) -> None:
        self.disconnect()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in list(self.calls) if called == name]

    def wait(
        self, name: str, count: int = 1, where: Callable[..., bool] | None = None
    ) -> list[Any]:
        """Return the callbacks `name` once there are `count` of them."""
        deadline = threading.Event()
        for _ in range(int(PATIENCE / 0.01)):
            found = [args for args in self.named(name) if where is None or where(*args)]
            if len(found) >= count:
                return found
            deadline.wait(0.01)
        raise AssertionError(f"{count} {name} expected; calls: {self.calls[-30:]}")

    def errors(self) -> list[int]:
        return [args[1] for args in self.named("error")]


def contract(symbol: str) -> Contract:
    found = Contract()
    found.symbol, found.secType, found.exchange, found.currency = symbol, "STK", "SMART", "USD"
    return found


def order(action: str, shares: int, kind: str = "MKT", **terms: Any) -> Order:
    wanted = Order()
    wanted.action, wanted.totalQuantity, wanted.orderType = action, shares, kind
    for name, value in terms.items():
        setattr(wanted, name, value)
    return wanted


class RunningServer:
    """A server on a loop of its own thread; its methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    @property
    def port(self) -> int:
        return self.server.port

    def advance(self, stage: Stage | None = None, times: int = 1) -> bool:
        async def move() -> bool:
            return self.server.advance(stage, times)

        return asyncio.run_coroutine_threadsafe(move(), self.loop).result(PATIENCE)
