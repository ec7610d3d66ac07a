"""A seeded walk over faults: whatever a client missed, a new connection finds out."""

import asyncio

import pytest
from ib_async import IB, MarketOrder, Stock

from adapters.ib_gateway.faults import random_rules
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server, serving
from tests.integration.ib_gateway.market import SYMBOLS, new_gateway

pytestmark = pytest.mark.integration

PATIENCE = 10


async def connect(server: Server) -> IB:
    """Connect as client 1, however long the gateway refuses."""
    async with asyncio.timeout(PATIENCE):
        while True:
            ib = IB()
            try:
                await ib.connectAsync("127.0.0.1", server.port, clientId=1, timeout=2)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return ib


async def trade(server: Server) -> None:
    """Place what can be placed; a connection that is cut ends it."""
    ib = await connect(server)
    for number in range(1, 7):
        if not ib.isConnected():
            break
        stock = Stock(SYMBOLS[number % 3], "SMART", "USD")
        ib.placeOrder(stock, MarketOrder("BUY", 10 * number, tif="OPG", orderRef=f"plan-{number}"))
        await asyncio.sleep(0.01)
    server.advance(Stage.OPEN)
    await asyncio.sleep(0.05)
    ib.disconnect()


@pytest.mark.parametrize("seed", range(6))
def test_a_new_connection_finds_the_brokers_truth_after_any_faults(seed):
    async def scenario() -> None:
        async with serving(Server(new_gateway())) as server:
            server.gateway.faults.rules += random_rules(seed, 4)
            await trade(server)
            server.gateway.faults.rules.clear()

            ib = await connect(server)
            book = server.gateway.book
            held = {c: item.shares for c, item in book.account.held().items()}
            told = {item.contract.symbol: item.position for item in ib.positions()}
            assert told == {book.stock(column).symbol: shares for column, shares in held.items()}
            assert {fill.execution.execId for fill in ib.fills()} == {
                fill.exec_id for fill in book.todays_fills()
            }
            references = [order.reference for order in book.orders.values()]
            assert len(references) == len(set(references))
            ib.disconnect()

    asyncio.run(scenario())
