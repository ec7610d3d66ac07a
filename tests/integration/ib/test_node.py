"""The data client inside a Nautilus node, on the node's own loop."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import pytest
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.common.enums import ComponentState
from nautilus_trader.config import LiveDataClientConfig, LoggingConfig, TradingNodeConfig
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import BarType
from nautilus_trader.model.identifiers import ClientId, InstrumentId

from adapters.ib.config import MarketDataType
from adapters.ib.data import IbDataClient, data_client_factory
from adapters.ib.link import Link
from adapters.ib.provider import IbInstrumentProvider
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server, serving
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.instruments import BrokerContract
from prometheus_nt.venue.prices import equity_instrument
from tests.integration.ib.session import params_for, until
from tests.integration.ib_gateway.market import HALF_SPREAD, new_gateway

pytestmark = pytest.mark.integration

WANTED = {
    f"{symbol}.US": BrokerContract(symbol, "STK", "SMART", None, "USD", None)
    for symbol in ("AAPL", "KO")
}
IB = ClientId("IB")
AAPL = InstrumentId.from_str("AAPL.US")
DAILY = BarType.from_str("AAPL.US-1-DAY-LAST-EXTERNAL")


class Listener(Actor):
    """Writes down what the node hears."""

    def __init__(self) -> None:
        super().__init__(ActorConfig())
        self.quotes: list[Any] = []
        self.bars: list[Any] = []
        self.history: list[Any] = []

    def on_quote_tick(self, tick: Any) -> None:
        self.quotes.append(tick)

    def on_bar(self, bar: Any) -> None:
        self.bars.append(bar)

    def on_historical_data(self, data: Any) -> None:
        self.history.append(data)


class Running:
    """A node with our data client, and what is in it."""

    def __init__(self, server: Server, **params: Any) -> None:
        self.server, self.link = server, Link(params_for(server.port, **params))
        self.provider = IbInstrumentProvider(self.link, WANTED, equity_instrument)
        config = TradingNodeConfig(
            trader_id="TESTER-001",
            logging=LoggingConfig(log_level="ERROR"),
            data_clients={"IB": LiveDataClientConfig()},
            timeout_connection=10.0,
            timeout_disconnection=2.0,
            timeout_post_stop=0.1,
            timeout_shutdown=1.0,
        )
        self.node = TradingNode(config=config, loop=asyncio.get_running_loop())
        calendar = MarketCalendar.of("US_EQ")
        self.made: list[IbDataClient] = []
        self.node.add_data_client_factory("IB", self._remembering(calendar))
        self.listener = Listener()
        self.node.trader.add_actor(self.listener)
        self.node.build()

    def _remembering(self, calendar: MarketCalendar) -> type[LiveDataClientFactory]:
        """Return the factory, which also keeps what it makes."""
        usual, made = data_client_factory(self.link, self.provider, calendar), self.made

        class Remembering(LiveDataClientFactory):
            @staticmethod
            def create(*args: Any, **kwargs: Any) -> IbDataClient:
                made.append(usual.create(*args, **kwargs))
                return made[-1]

        return Remembering

    @property
    def client(self) -> IbDataClient:
        return self.made[0]

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(self.node.run_async())
        await until(lambda: self.listener.state == ComponentState.RUNNING)
        await until(lambda: self.client.quotes is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.node.stop_async()
        await asyncio.wait_for(self.task, 5)
        await self.link.close()


def in_a_node(test: Any, *faults: str, **params: Any) -> None:
    made: list[Running] = []

    async def run() -> None:
        async with serving(Server(new_gateway(*faults))) as server:
            running = Running(server, **params)
            made.append(running)
            async with running:
                await test(running)

    asyncio.run(run())
    made[0].node.dispose()


def test_the_node_knows_the_instruments_of_the_backtest():
    async def test(running: Running) -> None:
        cache = running.node.cache
        await until(lambda: len(cache.instruments()) == 2)
        assert cache.instrument(AAPL) == equity_instrument("AAPL.US")

    in_a_node(test)


def test_quotes_reach_the_node_until_they_are_unsubscribed():
    async def test(running: Running) -> None:
        running.server.advance(Stage.OPEN)
        heard = running.listener.quotes
        running.listener.subscribe_quote_ticks(AAPL, client_id=IB)
        await until(lambda: heard)
        assert float(heard[0].bid_price) == pytest.approx(102 * (1 - HALF_SPREAD), abs=1e-6)
        assert float(heard[0].ask_price) == pytest.approx(102 * (1 + HALF_SPREAD), abs=1e-6)

        running.listener.unsubscribe_quote_ticks(AAPL, client_id=IB)

        desks = [session.desk for session in running.server.gateway.sessions.values()]
        await until(lambda: not any(desk.lines for desk in desks))

    in_a_node(test)


@pytest.mark.parametrize("kind", [MarketDataType.LIVE, MarketDataType.DELAYED])
def test_delayed_quotes_reach_the_node_only_if_they_were_asked_for(kind):
    async def test(running: Running) -> None:
        running.server.advance(Stage.OPEN)
        running.listener.subscribe_quote_ticks(AAPL, client_id=IB)
        quotes = running.client.quotes
        await until(lambda: quotes.latest("AAPL.US") or quotes.problem("AAPL.US"))
        await asyncio.sleep(0.05)
        assert bool(running.listener.quotes) is (kind is MarketDataType.DELAYED)

    in_a_node(test, "delayed_only", market_data_type=kind)


def test_crossed_quotes_do_not_reach_the_node():
    async def test(running: Running) -> None:
        running.server.advance(Stage.OPEN)
        running.listener.subscribe_quote_ticks(AAPL, client_id=IB)
        await until(lambda: running.client.quotes.latest("AAPL.US"))
        await asyncio.sleep(0.05)
        assert running.listener.quotes == []

    in_a_node(test, "crossed_quotes")


def test_a_sessions_bar_comes_after_its_close_with_the_time_of_the_close():
    async def test(running: Running) -> None:
        running.listener.subscribe_bars(DAILY, client_id=IB)
        running.server.advance(Stage.CLOSED)
        await until(lambda: running.client._bars)

        collected = await running.client.publish_session(date(2024, 1, 4))

        await until(lambda: running.listener.bars)
        [bar] = running.listener.bars
        assert set(collected.bars) == {"AAPL.US"} and not collected.missing
        assert (float(bar.open), float(bar.close), float(bar.volume)) == (102.0, 103.0, 1e6)
        closed = datetime(2024, 1, 4, 21, 0, tzinfo=UTC)
        assert bar.ts_event == int(closed.timestamp()) * 10**9

    in_a_node(test)


def test_history_reaches_the_node_with_the_time_of_each_close():
    async def test(running: Running) -> None:
        running.server.advance(Stage.CLOSED, 2)
        start = datetime(2024, 1, 3, tzinfo=UTC)

        running.listener.request_bars(DAILY, start=start, client_id=IB)

        await until(lambda: len(running.listener.history) == 3)
        found = running.listener.history
        assert [float(bar.close) for bar in found] == [102.0, 103.0, 104.0]
        assert {datetime.fromtimestamp(bar.ts_event / 1e9, UTC).hour for bar in found} == {21}

    in_a_node(test)


def test_one_quote_can_be_requested():
    async def test(running: Running) -> None:
        running.server.advance(Stage.OPEN)
        running.listener.request_quote_ticks(
            AAPL, start=datetime(2024, 1, 4, tzinfo=UTC), client_id=IB
        )
        await until(lambda: running.listener.history)
        assert len(running.listener.history) == 1

    in_a_node(test)
