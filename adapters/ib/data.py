"""Interactive Brokers' market data for a Nautilus node.

The link is not the client's own: the execution client uses the same, so whoever made it closes it.
A quote of Nautilus cannot say that it is delayed; so delayed ones reach the node only where the
settings ask for delayed data.
"""

import asyncio
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.config import LiveDataClientConfig
from nautilus_trader.data.messages import (
    RequestBars,
    RequestInstrument,
    RequestInstruments,
    RequestQuoteTicks,
    SubscribeBars,
    SubscribeInstrument,
    SubscribeInstruments,
    SubscribeQuoteTicks,
    UnsubscribeBars,
    UnsubscribeInstrument,
    UnsubscribeInstruments,
    UnsubscribeQuoteTicks,
)
from nautilus_trader.live.data_client import LiveMarketDataClient
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.model.data import Bar, BarType, QuoteTick
from nautilus_trader.model.enums import BarAggregation, PriceType
from nautilus_trader.model.identifiers import ClientId, InstrumentId
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Price, Quantity

from adapters.ib.config import MarketDataType
from adapters.ib.history import Collected, DailyBars, History, SessionBar
from adapters.ib.link import Link
from adapters.ib.pacing import HistoryBudget
from adapters.ib.provider import IbInstrumentProvider, Known, UnresolvedContracts
from adapters.ib.quotes import Quote, Quotes
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.record import IntArray, SessionArray

NS = 1_000_000_000


class NodeParts(NamedTuple):
    """What a node gives to each of its clients."""

    loop: asyncio.AbstractEventLoop
    name: str
    msgbus: MessageBus
    cache: Cache
    clock: LiveClock


class IbDataClient(LiveMarketDataClient):
    """Quotes, daily bars and instruments over a shared link.

    Parameters
    ----------
    link : Link
    provider : IbInstrumentProvider
    calendar : MarketCalendar
        Says when the sessions close, which is when their bars are known.
    parts : NodeParts
    """

    def __init__(
        self,
        link: Link,
        provider: IbInstrumentProvider,
        calendar: MarketCalendar,
        parts: NodeParts,
    ) -> None:
        super().__init__(
            loop=parts.loop,
            client_id=ClientId(parts.name),
            venue=None,
            msgbus=parts.msgbus,
            cache=parts.cache,
            clock=parts.clock,
            instrument_provider=provider,
        )
        self._link, self._provider, self._calendar = link, provider, calendar
        self.history = History(link, HistoryBudget(parts.loop.time))
        self.quotes: Quotes | None = None
        self._bars: dict[str, BarType] = {}

    async def publish_session(self, session: date) -> Collected:
        """Ask for the bars of a session after its close; hand on those that are subscribed to.

        Returns
        -------
        collected : every bar that was found, and what has none with the reason

        Raises
        ------
        NonSession
            If the market does not trade on that day.
        """
        day = np.array([self._calendar.require_session(session)], dtype="datetime64[D]")
        closes_ns = int(self._closes_ns(day)[0])
        known = {name: self._provider.known(name) for name in sorted(self._bars)}
        contracts = {name: each.contract for name, each in known.items()}
        collected = await self.history.session_bars(contracts, session)
        for name, bar in collected.bars.items():
            found = self._bar(self._bars[name], known[name].equity, bar, closes_ns)
            if found is None:
                self._log.warning(f"{name} {session}: the broker gives no volume; not handed on")
            else:
                self._handle_data(found)
        return collected

    async def _connect(self) -> None:
        await self._link.start()
        await self._provider.load_all_async()
        for instrument in self._provider.list_all():
            self._handle_data(instrument)
        self.quotes = Quotes(self._link)

    async def _disconnect(self) -> None:
        if self.quotes is not None:
            self.quotes.close()
            self.quotes = None

    async def _subscribe_quote_ticks(self, command: SubscribeQuoteTicks) -> None:
        known = self._known(command.instrument_id)
        self._live_quotes().subscribe(
            known.instrument_id, known.contract, lambda quote: self._on_quote(known.equity, quote)
        )

    async def _unsubscribe_quote_ticks(self, command: UnsubscribeQuoteTicks) -> None:
        self._live_quotes().unsubscribe(self._known(command.instrument_id).instrument_id)

    async def _subscribe_bars(self, command: SubscribeBars) -> None:
        known = self._known(command.bar_type.instrument_id)
        if self._is_daily(command.bar_type):
            self._bars[known.instrument_id] = command.bar_type

    async def _unsubscribe_bars(self, command: UnsubscribeBars) -> None:
        self._bars.pop(self._known(command.bar_type.instrument_id).instrument_id, None)

    async def _subscribe_instrument(self, command: SubscribeInstrument) -> None:
        self._handle_data(self._known(command.instrument_id).equity)

    async def _subscribe_instruments(
        self,
        command: SubscribeInstruments,  # noqa: ARG002
    ) -> None:
        for instrument in self._provider.list_all():
            self._handle_data(instrument)

    async def _unsubscribe_instrument(self, command: UnsubscribeInstrument) -> None:
        """Nothing is streamed."""

    async def _unsubscribe_instruments(self, command: UnsubscribeInstruments) -> None:
        """Nothing is streamed."""

    async def _request_instrument(self, request: RequestInstrument) -> None:
        await self._provider.load_async(request.instrument_id)
        equity = self._known(request.instrument_id).equity
        self._handle_instrument(equity, request.id, request.start, request.end, request.params)

    async def _request_instruments(self, request: RequestInstruments) -> None:
        await self._provider.load_all_async()
        found = self._provider.list_all()
        self._handle_instruments(
            request.venue, found, request.id, request.start, request.end, request.params
        )

    async def _request_quote_ticks(self, request: RequestQuoteTicks) -> None:
        known = self._known(request.instrument_id)
        quote = await self._live_quotes().look(known.instrument_id, known.contract)
        ticks = [self._tick(known.equity, quote)] if self._wanted(quote) else []
        self._handle_quote_ticks(
            request.instrument_id, ticks, request.id, request.start, request.end, request.params
        )

    async def _request_bars(self, request: RequestBars) -> None:
        if not self._is_daily(request.bar_type):
            return
        known = self._known(request.bar_type.instrument_id)
        first = request.start or datetime(1990, 1, 1, tzinfo=UTC)
        last = None if request.end is None else request.end.date()
        found = await self.history.daily(known.contract, first.date(), last)
        bars = self._daily(request.bar_type, known.equity, found)
        kept = bars[-request.limit :] if request.limit else bars
        self._handle_bars(
            request.bar_type, kept, request.id, request.start, request.end, request.params
        )

    def _on_quote(self, equity: Equity, quote: Quote) -> None:
        if self._wanted(quote):
            self._handle_data(self._tick(equity, quote))

    def _wanted(self, quote: Quote) -> bool:
        asked_for = self._link.params.market_data_type is not MarketDataType.LIVE
        return (asked_for or not quote.delayed) and not quote.crossed

    def _tick(self, equity: Equity, quote: Quote) -> QuoteTick:
        places = equity.price_precision
        # Nautilus has no word for an unknown size; no order of ours depends on it.
        sizes = (0.0 if np.isnan(size) else size for size in (quote.bid_size, quote.ask_size))
        return QuoteTick(
            equity.id,
            Price(quote.bid, places),
            Price(quote.ask, places),
            *(Quantity(size, 0) for size in sizes),
            int(quote.received_at.timestamp() * NS),
            self._clock.timestamp_ns(),
        )

    def _daily(self, bar_type: BarType, equity: Equity, found: DailyBars) -> list[Bar]:
        rows = np.column_stack(
            [found.open, found.high, found.low, found.close, found.volume]
        ).tolist()
        now_ns = self._clock.timestamp_ns()
        closes_ns = self._closes_ns(found.sessions).tolist()
        made = (
            self._bar(bar_type, equity, SessionBar(day, *row), close_ns)
            for day, row, close_ns in zip(found.sessions.tolist(), rows, closes_ns, strict=True)
            # The broker has a bar of a session that still trades.
            if close_ns <= now_ns
        )
        return [bar for bar in made if bar is not None]

    def _bar(self, bar_type: BarType, equity: Equity, bar: SessionBar, ts_ns: int) -> Bar | None:
        """Return a bar of the node's kind; None if its volume is not known."""
        if np.isnan(bar.volume):
            return None
        prices = (Price(p, equity.price_precision) for p in (bar.open, bar.high, bar.low))
        return Bar(
            bar_type,
            *prices,
            Price(bar.close, equity.price_precision),
            Quantity(bar.volume, 0),
            ts_ns,
            max(self._clock.timestamp_ns(), ts_ns),
        )

    def _closes_ns(self, sessions: SessionArray) -> IntArray:
        return self._calendar.closes_ns[self._calendar.rows(sessions)]

    def _is_daily(self, bar_type: BarType) -> bool:
        spec = bar_type.spec
        daily = (spec.aggregation, spec.step) == (BarAggregation.DAY, 1)
        if not daily or spec.price_type != PriceType.LAST:
            self._log.error(f"{bar_type}: only daily bars of trades are offered (1-DAY-LAST)")
            return False
        return True

    def _known(self, instrument_id: InstrumentId) -> Known:
        found = self._provider.by_nautilus_id(instrument_id)
        if found is None:
            raise UnresolvedContracts({str(instrument_id): "the node was not given it"})
        return found

    def _live_quotes(self) -> Quotes:
        assert self.quotes is not None, "subscriptions begin after the connection"
        return self.quotes


def data_client_factory(
    link: Link, provider: IbInstrumentProvider, calendar: MarketCalendar
) -> type[LiveDataClientFactory]:
    """Return a factory for `TradingNode.add_data_client_factory` over a link that is shared."""

    class IbLiveDataClientFactory(LiveDataClientFactory):
        """Makes the data client of one link."""

        @staticmethod
        def create(
            loop: asyncio.AbstractEventLoop,
            name: str,
            config: LiveDataClientConfig,  # noqa: ARG004
            msgbus: MessageBus,
            cache: Cache,
            clock: LiveClock,
        ) -> IbDataClient:
            parts = NodeParts(loop, name, msgbus, cache, clock)
            return IbDataClient(link, provider, calendar, parts)

    return IbLiveDataClientFactory
