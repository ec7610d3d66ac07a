"""Nautilus's own adapter of the broker, against the simulator: a third client that is not ours."""

import asyncio

import pandas as pd
import pytest
from ibapi.order import Order
from nautilus_trader.adapters.interactive_brokers.client import InteractiveBrokersClient
from nautilus_trader.adapters.interactive_brokers.config import (
    InteractiveBrokersInstrumentProviderConfig,
)
from nautilus_trader.adapters.interactive_brokers.providers import (
    InteractiveBrokersInstrumentProvider,
)
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.model.data import BarType
from nautilus_trader.model.identifiers import InstrumentId, TraderId

from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from tests.integration.ib_gateway.clients import RunningServer
from tests.integration.ib_gateway.market import ACCOUNT, new_gateway

pytestmark = pytest.mark.integration

PATIENCE = 20
APPLE = InstrumentId.from_str("AAPL.NASDAQ")


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    return found


def opening(client, contract):
    order = Order()
    order.orderId, order.orderRef, order.account = client.next_order_id(), "plan-1", ACCOUNT
    order.action, order.totalQuantity, order.orderType, order.tif = "BUY", 100, "MKT", "OPG"
    order.contract = contract
    return order


async def day(running):
    """Connect, learn of a stock, read its bars, and buy it at the open; return what was found."""
    clock = LiveClock()
    bus = MessageBus(TraderId("TESTER-001"), clock)
    client = InteractiveBrokersClient(
        asyncio.get_running_loop(), bus, Cache(), clock, port=running.port, client_id=7
    )
    client.start()
    try:
        await client.wait_until_ready(PATIENCE)
        accounts = client.accounts()
        provider = InteractiveBrokersInstrumentProvider(
            client, clock, InteractiveBrokersInstrumentProviderConfig()
        )
        await provider.load_async(APPLE)
        contract, now = provider.contract[APPLE], pd.Timestamp.now(tz="UTC")
        daily = BarType.from_str(f"{APPLE}-1-DAY-LAST-EXTERNAL")
        bars = await client.get_historical_bars(daily, contract, True, now, "2 D")
        client.place_order(opening(client, contract))
        working = await until(lambda: client.get_open_orders(ACCOUNT))
        running.advance(Stage.OPEN)
        positions = await until(lambda: client.get_positions(ACCOUNT))
        return accounts, provider.find(APPLE), bars, working, positions
    finally:
        client.stop()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=PATIENCE)


def test_nautilus_connects_learns_reads_and_trades():
    with RunningServer(Server(new_gateway())) as running:
        accounts, instrument, bars, working, positions = asyncio.run(day(running))

    assert accounts == {ACCOUNT}
    assert (instrument.id, str(instrument.price_increment)) == (APPLE, "0.01")
    assert [float(bar.close) for bar in bars] == [101.0, 102.0]
    # It hears of an order when it is placed and when it asks, and keeps both.
    assert {order.orderRef for order in working} == {"plan-1"}
    assert [(held.contract.symbol, int(held.quantity)) for held in positions] == [("AAPL", 100)]
