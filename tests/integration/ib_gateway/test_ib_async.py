import asyncio

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Stock, TagValue

from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server, serving
from tests.integration.ib_gateway.market import ACCOUNT, HALF_SPREAD, new_gateway

pytestmark = pytest.mark.integration

PATIENCE = 10


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def connected(server: Server, client_id: int = 1) -> IB:
    ib = IB()
    ib.RaiseRequestErrors = True
    await ib.connectAsync("127.0.0.1", server.port, clientId=client_id, timeout=PATIENCE)
    return ib


def test_ib_async_connects_reads_and_trades_an_order_for_the_open():
    async def day() -> None:
        async with serving(Server(new_gateway())) as server:
            ib = await connected(server)
            assert ib.client.serverVersion() == 178
            assert ib.managedAccounts() == [ACCOUNT]

            [stock] = await ib.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
            bars = await ib.reqHistoricalDataAsync(stock, "", "2 D", "1 day", "TRADES", True)
            assert [bar.close for bar in bars] == [101.0, 102.0]

            opening = MarketOrder("BUY", 100, tif="OPG", orderRef="plan-1")
            trade = ib.placeOrder(stock, opening)
            await until(lambda: trade.orderStatus.permId)
            server.advance(Stage.OPEN)
            await until(lambda: trade.fills and trade.fills[0].commissionReport.execId)

            [fill] = trade.fills
            assert trade.orderStatus.status == "Filled"
            assert fill.execution.price == pytest.approx(102 * (1 + HALF_SPREAD))
            assert fill.commissionReport.commission == 1.0
            await until(lambda: ib.positions())
            [position] = ib.positions()
            assert (position.contract.conId, position.position) == (stock.conId, 100)
            ib.disconnect()

    asyncio.run(day())


def test_ib_async_finds_after_a_reconnect_what_happened_while_it_was_away():
    async def days() -> None:
        async with serving(Server(new_gateway())) as server:
            ib = await connected(server)
            [stock] = await ib.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
            ib.placeOrder(stock, MarketOrder("BUY", 10, tif="OPG", orderRef="away"))
            resting = ib.placeOrder(stock, LimitOrder("BUY", 5, 50.0, tif="GTC", orderRef="rest"))
            await until(lambda: resting.orderStatus.permId)
            ib.disconnect()
            server.advance(Stage.OPEN)

            ib = await connected(server)

            assert [fill.execution.orderRef for fill in ib.fills()] == ["away"]
            assert {trade.order.orderRef for trade in ib.openTrades()} == {"rest"}
            assert {t.order.orderRef for t in ib.trades()} == {"away", "rest"}
            assert ib.client.getReqId() > 2
            ib.disconnect()

    asyncio.run(days())


def test_ib_async_trades_an_adaptive_order_and_sees_quotes_and_the_account():
    async def day() -> None:
        async with serving(Server(new_gateway())) as server:
            ib = await connected(server)
            [stock] = await ib.qualifyContractsAsync(Stock("KO", "SMART", "USD"))
            server.advance(Stage.OPEN)
            ticker = ib.reqMktData(stock)
            await until(lambda: ticker.bid == ticker.bid and ticker.ask == ticker.ask)
            assert (ticker.last, ticker.close) == (52.0, 52.0)
            assert ticker.bid < 52.0 < ticker.ask

            adaptive = MarketOrder("BUY", 100, algoStrategy="Adaptive")
            adaptive.algoParams = [TagValue("adaptivePriority", "Normal")]
            trade = ib.placeOrder(stock, adaptive)
            await until(lambda: trade.orderStatus.status == "Filled")
            assert trade.order.algoStrategy == "Adaptive"

            summary = {row.tag: row.value for row in await ib.accountSummaryAsync()}
            spent = 100 * 52 * (1 + HALF_SPREAD) + 1
            assert float(summary["TotalCashValue"]) == pytest.approx(1_000_000 - spent, abs=0.01)
            ib.disconnect()

    asyncio.run(day())


def test_a_hundred_orders_for_the_open_all_fill_once():
    async def day() -> None:
        async with serving(Server(new_gateway("silent_pacing"))) as server:
            ib = await connected(server)
            stocks = await ib.qualifyContractsAsync(
                *(Stock(s, "SMART", "USD") for s in ("AAPL", "IBM", "KO"))
            )
            trades = [
                ib.placeOrder(
                    stocks[number % 3], MarketOrder("BUY" if number % 2 else "SELL", 1, tif="OPG")
                )
                for number in range(100)
            ]
            await until(lambda: all(t.orderStatus.permId for t in trades))
            server.advance(Stage.OPEN)
            await until(lambda: all(t.orderStatus.status == "Filled" for t in trades))

            assert len(ib.fills()) == 100
            assert len({fill.execution.execId for fill in ib.fills()}) == 100
            ib.disconnect()

    asyncio.run(day())
