"""Quotes over a link: subscriptions within a budget of lines, and single looks.

1. `subscribe` opens a line, `unsubscribe` cancels it at the gateway; a line that is not cancelled
   counts against the gateway's hundred for ever.
2. The ticks that come together make one quote, so that no quote mixes an old side with a new one.
3. After UP and RESTORED_DATA_LOST every line is opened again; while the link is lost, no quote is
   known, rather than an old one.
4. A quote says whether it is delayed; one with only one side is none.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import nan

from ib_async import Contract

from adapters.ib.config import MarketDataType
from adapters.ib.errors import BrokerRefusal, ErrorKind, LinkDown, NoAnswer, of_request, of_system
from adapters.ib.link import Link, LinkEvent
from prometheus_nt.domain.errors import DataError

log = logging.getLogger(__name__)

PRICES = {1: "bid", 2: "ask", 4: "last", 9: "close", 66: "bid", 67: "ask", 68: "last", 75: "close"}
SIZES = {0: "bid_size", 3: "ask_size", 69: "bid_size", 70: "ask_size"}
SIZE_OF = {1: "bid_size", 2: "ask_size", 66: "bid_size", 67: "ask_size"}
DELAYED_TICKS = range(66, 77)

COMPETING_SECONDS = 900.0
"""A competing session repeats its error every few seconds; a person needs it once in a while."""

NO_LINE = 0


@dataclass(frozen=True)
class Quote:
    """Bid and ask of a moment, USD and shares; NaN where unknown.

    Attributes
    ----------
    received_at : when the newest of its ticks came, UTC
    delayed : it is a quarter of an hour late, or the last one of a market that is closed; no order
        may rest on it
    """

    bid: float
    ask: float
    bid_size: float
    ask_size: float
    last: float
    close: float
    received_at: datetime
    delayed: bool

    @property
    def crossed(self) -> bool:
        return self.bid > self.ask


Handler = Callable[[Quote], None]


class NoLine(DataError):
    """Every line of the budget is in use."""

    def __init__(self, name: str, lines: int) -> None:
        super().__init__(
            f"ib: quotes of {name}: all {lines} lines are in use; unsubscribe others, or ask for "
            "single looks"
        )
        self.name, self.lines = name, lines


@dataclass
class _Line:
    """One request for quotes."""

    name: str
    contract: Contract
    handler: Handler | None
    req_id: int = NO_LINE
    values: dict[str, float] = field(default_factory=dict)
    delayed: bool = False
    quote: Quote | None = None
    due: bool = False
    problem: BrokerRefusal | None = None
    whole: "asyncio.Future[None] | None" = None

    def forget(self) -> None:
        self.values, self.quote, self.problem, self.delayed = {}, None, None, False


class Quotes:
    """The lines of one link.

    Parameters
    ----------
    link : Link
    now : clock, UTC
    """

    def __init__(self, link: Link, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._link, self._now = link, now
        self._lines: dict[str, _Line] = {}
        self._by_id: dict[int, _Line] = {}
        self._looks: set[int] = set()
        self._room = asyncio.Event()
        self._bad_farms: set[int] = set()
        self._competing_at = float("-inf")
        self._removals = [
            link.on_event(self._on_event),
            link.on_message("priceSizeTick", self._on_price),
            link.on_message("tickSize", self._on_size),
            link.on_message("marketDataType", self._on_type),
            link.on_message("tickSnapshotEnd", self._on_end),
            link.on_message("error", self._on_error),
        ]
        if link.ready:
            self._open_all()

    @property
    def healthy(self) -> bool:
        """Whether the broker's farms of market data work, as far as the gateway has said."""
        return self._link.ready and not self._bad_farms

    @property
    def lines(self) -> int:
        """Lines in use, subscriptions and looks."""
        return len(self._lines) + len(self._looks)

    def close(self) -> None:
        """End every subscription, and hear nothing more."""
        for name in list(self._lines):
            self.unsubscribe(name)
        for remove in self._removals:
            remove()

    def subscribe(self, name: str, contract: Contract, handler: Handler | None = None) -> None:
        """Keep the quote of a contract under a name; `handler` is called with each new one.

        Without a link it begins once there is one.

        Raises
        ------
        NoLine
            If the budget of lines is used up.
        """
        if name in self._lines:
            self._lines[name].handler = handler or self._lines[name].handler
            return
        self._require_line(name)
        line = _Line(name, contract, handler)
        self._lines[name] = line
        if self._link.ready:
            self._open(line)

    def unsubscribe(self, name: str) -> None:
        """End a subscription, and tell the gateway; an unknown name is none."""
        line = self._lines.pop(name, None)
        if line is not None:
            self._cancel(line)
            self._room.set()

    def latest(self, name: str) -> Quote | None:
        """Return the newest quote of a subscription; None while none is known."""
        line = self._lines.get(name)
        return None if line is None else line.quote

    def problem(self, name: str) -> BrokerRefusal | None:
        """Return why a subscription has no quotes; None if the broker refused nothing."""
        line = self._lines.get(name)
        return None if line is None else line.problem

    async def look(self, name: str, contract: Contract) -> Quote:
        """Return the quote of a contract now, without a subscription.

        Raises
        ------
        BrokerRefusal
            If the broker refuses it.
        NoAnswer
            If no quote came in time; a contract that does not trade has none.
        LinkDown
            If there is no link.
        """
        line = _Line(name, contract, None)
        with self._looking(line):
            self._open(line, snapshot=True)
            seconds = self._link.params.request_timeout_seconds
            try:
                async with asyncio.timeout(seconds):
                    assert line.whole is not None
                    await line.whole
            except TimeoutError:
                # What was not ended by the gateway goes on counting as a line.
                self._cancel(line)
                raise NoAnswer(f"quote of {name}", seconds) from None
        if line.quote is None:
            raise NoAnswer(f"quote of {name}", seconds)
        return line.quote

    async def look_at(self, contracts: Mapping[str, Contract]) -> dict[str, Quote | DataError]:
        """Return the quote of each contract, or why it has none, as many at once as lines allow."""

        async def one(name: str) -> Quote | DataError:
            while self.lines >= self._link.params.lines:
                self._room.clear()
                await self._room.wait()
            try:
                return await self.look(name, contracts[name])
            except DataError as problem:
                return problem

        found = await asyncio.gather(*(one(name) for name in contracts))
        return dict(zip(contracts, found, strict=True))

    @contextmanager
    def _looking(self, line: _Line) -> Iterator[None]:
        self._require_line(line.name)
        line.whole = asyncio.get_running_loop().create_future()
        self._looks.add(id(line))
        try:
            yield
        finally:
            self._looks.discard(id(line))
            self._by_id.pop(line.req_id, None)
            self._room.set()

    def _require_line(self, name: str) -> None:
        if self.lines >= self._link.params.lines:
            raise NoLine(name, self._link.params.lines)

    def _open_all(self) -> None:
        kind = self._link.params.market_data_type
        if kind is not MarketDataType.LIVE:
            self._link.send("market data type", lambda client: client.reqMarketDataType(int(kind)))
        for line in self._lines.values():
            self._open(line)

    def _open(self, line: _Line, *, snapshot: bool = False) -> None:
        self._by_id.pop(line.req_id, None)
        number = self._link.next_id()
        self._link.send(
            f"quotes of {line.name}",
            lambda client: client.reqMktData(number, line.contract, "", snapshot, False, []),
        )
        line.req_id = number
        self._by_id[number] = line

    def _cancel(self, line: _Line) -> None:
        self._by_id.pop(line.req_id, None)
        if line.req_id != NO_LINE and self._link.ready:
            number = line.req_id
            self._link.send(
                f"end of quotes of {line.name}", lambda client: client.cancelMktData(number)
            )
        line.req_id = NO_LINE

    def _on_event(self, event: LinkEvent, reason: str) -> None:
        if event is LinkEvent.RESTORED:
            return
        for line in list(self._by_id.values()):
            if line.whole is not None and not line.whole.done():
                line.whole.set_exception(LinkDown(f"quote of {line.name}", event, reason))
        for line in self._lines.values():
            line.quote = None
        # A later event may already have taken the link away again.
        if event is not LinkEvent.LOST and self._link.ready:
            self._bad_farms.clear()
            for line in self._lines.values():
                line.forget()
            self._open_all()

    def _on_price(self, number: int, tick: int, price: float, size: float) -> None:
        line = self._by_id.get(number)
        if line is None or tick not in PRICES:
            return
        # -1 is the wire's word for a side that nobody quotes.
        line.values[PRICES[tick]] = price if price > 0 else nan
        if tick in SIZE_OF:
            line.values[SIZE_OF[tick]] = size
        self._ticked(line, tick)

    def _on_size(self, number: int, tick: int, size: float) -> None:
        line = self._by_id.get(number)
        if line is not None and tick in SIZES:
            line.values[SIZES[tick]] = size
            self._ticked(line, tick)

    def _ticked(self, line: _Line, tick: int) -> None:
        line.delayed = line.delayed or tick in DELAYED_TICKS
        if not line.due:
            line.due = True
            asyncio.get_running_loop().call_soon(self._quote, line)

    def _quote(self, line: _Line) -> None:
        """Make one quote of the ticks that came together."""
        line.due, values = False, line.values
        bid, ask = values.get("bid", nan), values.get("ask", nan)
        if not (bid > 0 and ask > 0):
            line.quote = None
            return
        quote = Quote(
            bid=bid,
            ask=ask,
            bid_size=values.get("bid_size", nan),
            ask_size=values.get("ask_size", nan),
            last=values.get("last", nan),
            close=values.get("close", nan),
            received_at=self._now(),
            delayed=line.delayed,
        )
        line.quote = quote
        if line.handler is not None:
            line.handler(quote)

    def _on_type(self, number: int, kind: int) -> None:
        line = self._by_id.get(number)
        if line is not None:
            line.delayed = kind != MarketDataType.LIVE

    def _on_end(self, number: int) -> None:
        line = self._by_id.get(number)
        if line is not None and line.whole is not None and not line.whole.done():
            self._quote(line)
            line.whole.set_result(None)

    def _on_error(self, number: int, code: int, text: str, _: str) -> None:
        line = self._by_id.get(number)
        if line is not None:
            self._on_line_error(line, code, text)
        elif number == -1:
            self._on_farm(code)
        if of_request(code) is ErrorKind.SESSION:
            self._on_competing(text)

    def _on_line_error(self, line: _Line, code: int, text: str) -> None:
        if of_request(code) is ErrorKind.INFORMATION:
            return
        refusal = BrokerRefusal(f"quotes of {line.name}", code, text)
        line.quote, line.problem = None, refusal
        log.warning("%s", refusal)
        if line.whole is not None and not line.whole.done():
            line.whole.set_exception(refusal)

    def _on_farm(self, code: int) -> None:
        """Keep which kinds of farm are broken: code 2103 is mended by 2104, 2105 by 2106."""
        kind = of_system(code)
        if kind is ErrorKind.FARM_BAD:
            self._bad_farms.add(code)
        elif kind is ErrorKind.FARM_OK:
            self._bad_farms.discard(code - 1)

    def _on_competing(self, text: str) -> None:
        for line in self._lines.values():
            line.quote = None
        now = asyncio.get_running_loop().time()
        if now - self._competing_at >= COMPETING_SECONDS:
            self._competing_at = now
            log.warning("ib: another session has the market data, so no quote is known: %s", text)
