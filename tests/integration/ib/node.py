"""A Nautilus node that trades at a simulated gateway, and a strategy that does as it is told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nautilus_trader.config import LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide, OrderStatus, TimeInForce
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, TraderId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.model.orders import LimitOrder, MarketOrder, Order
from nautilus_trader.trading.strategy import Strategy

from adapters.ib.execution import IbExecutionClient, TradingParts
from adapters.ib.factories import (
    execution_client_config,
    execution_client_factory,
    execution_engine_config,
    risk_engine_config,
)
from adapters.ib.halt import Halt
from adapters.ib.journal import Journal
from adapters.ib.link import Link
from adapters.ib.provider import IbInstrumentProvider
from adapters.ib_gateway.server import Server
from prometheus_nt.domain.instruments import BrokerContract
from prometheus_nt.venue.prices import equity_instrument
from tests.integration.ib.session import params_for, until
from tests.integration.ib.trading import QUICK
from tests.integration.ib_gateway.market import ACCOUNT

SYMBOLS = ("AAPL", "IBM", "KO")
DRAIN = 0.05


def wanted(symbols: Sequence[str] = SYMBOLS) -> dict[str, BrokerContract]:
    return {f"{s}.US": BrokerContract(s, "STK", "SMART", None, "USD", None) for s in symbols}


class Puppet(Strategy):
    """Submits what a test wants, and writes down every event of its orders."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def on_order_event(self, event: Any) -> None:
        self.heard.append(event)

    def names(self, ref: str) -> list[str]:
        return [type(e).__name__ for e in self.heard if e.client_order_id.value == ref]


class Node:
    """A running node with its parts."""

    def __init__(self, node: TradingNode, client: IbExecutionClient, puppet: Puppet) -> None:
        self.node, self.client, self.puppet = node, client, puppet
        self.halts: list[Halt] = []

    @property
    def cache(self) -> Any:
        return self.node.cache

    @property
    def desk(self) -> Any:
        return self.client.desk

    def instrument(self, symbol: str) -> InstrumentId:
        return equity_instrument(f"{symbol}.US").id

    def make(
        self,
        ref: str,
        symbol: str = "AAPL",
        shares: int = 100,
        tif: TimeInForce = TimeInForce.AT_THE_OPEN,
        limit: float | None = None,
    ) -> Order:
        side = OrderSide.BUY if shares > 0 else OrderSide.SELL
        named = {"client_order_id": ClientOrderId(ref)}
        factory, what = self.puppet.order_factory, (self.instrument(symbol), side)
        quantity = Quantity.from_int(abs(shares))
        if limit is None:
            order: MarketOrder = factory.market(*what, quantity, time_in_force=tif, **named)
            return order
        price = Price.from_str(f"{limit:.2f}")
        limited: LimitOrder = factory.limit(*what, quantity, price, time_in_force=tif, **named)
        return limited

    def send(self, ref: str, *terms: Any, **more: Any) -> Order:
        order = self.make(ref, *terms, **more)
        self.puppet.submit_order(order)
        return order

    def status(self, ref: str) -> OrderStatus | None:
        order = self.cache.order(ClientOrderId(ref))
        return None if order is None else order.status

    def order(self, ref: str) -> Order:
        return self.cache.order(ClientOrderId(ref))

    async def reaches(self, ref: str, status: OrderStatus) -> None:
        try:
            await until(lambda: self.status(ref) == status)
        except TimeoutError:
            known = self.desk.orders.by_ref.get(ref)
            raise AssertionError(f"{ref}: {self.status(ref)} {known} {self.halts}") from None

    async def learns(self) -> None:
        before = self.desk.picture
        self.desk._want_resync()
        await until(lambda: self.desk.picture is not before and self.desk._fresh)
        await asyncio.sleep(DRAIN)

    def net(self, symbol: str) -> int:
        positions = self.cache.positions_open(None, self.instrument(symbol))
        return int(sum(position.signed_decimal_qty() for position in positions))


@asynccontextmanager
async def trading_node(
    port: int, path: Path, symbols: Sequence[str] = SYMBOLS, **changed: Any
) -> AsyncIterator[Node]:
    """Yield a node that has connected, reconciled and started."""
    terms = {"slow_seconds": 0.1, "heartbeat_timeout_seconds": 1.0} | changed
    link = Link(params_for(port, **terms))
    provider = IbInstrumentProvider(link, wanted(symbols), equity_instrument)
    journal = Journal(path / "orders.journal", ACCOUNT, link.params.client_id)
    halts: list[Halt] = []
    parts = TradingParts(
        link,
        provider,
        journal,
        halts.append,
        desk=QUICK,
        position_seconds=1.0,
        quiet_seconds=0.05,
        account_seconds=5.0,
    )
    config = TradingNodeConfig(
        trader_id=TraderId("TEST-1"),
        exec_engine=execution_engine_config(),
        risk_engine=risk_engine_config(),
        exec_clients={"IB": execution_client_config()},
        logging=LoggingConfig(log_level="ERROR", log_colors=False),
        timeout_connection=10.0,
        timeout_reconciliation=10.0,
        timeout_portfolio=10.0,
        timeout_disconnection=2.0,
        timeout_post_stop=0.1,
        timeout_shutdown=1.0,
    )
    node = TradingNode(config=config, loop=asyncio.get_running_loop())
    puppet = Puppet()
    node.add_exec_client_factory("IB", execution_client_factory(parts))
    node.trader.add_strategy(puppet)
    node.build()
    [client] = node.kernel.exec_engine._clients.values()
    running = asyncio.create_task(node.run_async())
    made = Node(node, client, puppet)
    made.halts = halts
    try:
        await until(lambda: puppet.is_running)
        yield made
    finally:
        await node.stop_async()
        await asyncio.wait_for(running, 10)
        await link.close()
        journal.close()
        finished.append(node)


finished: list[TradingNode] = []
"""Nodes to be disposed of once their loop has ended."""


def dispose() -> None:
    while finished:
        finished.pop().dispose()


def require_same(server: Server, node: Node) -> None:
    """Raise AssertionError unless the broker, the node's cache and the desk say the same."""
    book = server.gateway.book
    references = Counter(order.reference for order in book.orders.values())
    assert max(references.values(), default=1) == 1, "an order was sent twice"
    for order in book.orders.values():
        mine = node.desk.orders.by_ref[order.reference]
        cached = node.order(order.reference)
        assert cached is not None, order.reference
        assert mine.filled == order.filled
        assert int(cached.filled_qty) == order.filled, (order, cached)
        assert cached.is_open == order.is_open, (order, cached)
        assert mine.told is mine.standing
    held = {book.stock(c).symbol: item.shares for c, item in book.account.held().items()}
    assert {s: node.net(s) for s in SYMBOLS if node.net(s)} == held
    fills = [fill.exec_id for fill in book.fills]
    told = [
        event.trade_id.value
        for order in node.cache.orders()
        for event in order.events
        if type(event).__name__ == "OrderFilled"
    ]
    # A revision has another last part; what was told is the first.
    stems = [exec_id.rpartition(".")[0] for exec_id in fills]
    assert sorted(trade.rpartition(".")[0] for trade in told) == sorted(stems)
