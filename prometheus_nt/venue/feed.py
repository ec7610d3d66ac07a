"""Drives a recorded market through Nautilus, one session at a time.

A session, in the order the venue sees it:

1. `SessionOpen`, then what was held overnight costs or earns before anybody trades: its
   `OvernightFinancing`, then the session's `CorporateActions`;
2. a quote for every instrument with an order waiting in the router or resting at the venue
   (`_quotes_batch`), then `OpeningQuotes`, at which the router releases those orders to fill;
3. a bar for every instrument with a resting order (`_closing_batch`), then `SessionClose`, on
   which the engines decide and the sleeves hand the next orders to the router.

`replay: sparse` feeds only those instruments; `replay: full` feeds all of them, and must give the
same fills. Two rules make that so: no order reaches the venue before its instrument has data of
that very moment, and an instrument with a resting order gets every quote and bar until the order
is closed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.model.data import Bar, BarType, QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.objects import Price, Quantity

from prometheus_nt.bus import stream_item
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import VenueError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.domain.sessions import OpeningQuotes, SessionClose, SessionOpen
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.venue.carry import Carry, Delistings, FinancingParams
from prometheus_nt.venue.fees import PerShareFees
from prometheus_nt.venue.params import Replay
from prometheus_nt.venue.prices import PRICE_DECIMALS, RAW_PER_MICRO, RAW_PER_SHARE, to_micros
from prometheus_nt.venue.quotes import ImpactModel, touch
from prometheus_nt.venue.router import OpenRouter

Progress = Callable[[int, int], None]

AMPLE = Quantity.from_int(1_000_000_000)
"""Size at the touch: how much may trade is decided by the planner, not by the simulated book."""


@dataclass(frozen=True)
class VenueParts:
    """What the feed drives; `instruments` are in panel order."""

    engine: BacktestEngine
    instruments: tuple[Any, ...]
    router: OpenRouter
    fees: PerShareFees
    impact: ImpactModel
    half_spread: float
    financing: FinancingParams = field(default_factory=FinancingParams)
    delistings: Delistings | None = None


class SessionFeed:
    """Feeds the sessions of a panel to the venue.

    Parameters
    ----------
    panel : MarketPanel
        The whole record, as traded; the venue quotes it split-adjusted.
    units : ShareUnits
    calendar : MarketCalendar
    parts : VenueParts
    replay : "sparse" or "full"
    """

    def __init__(
        self,
        panel: MarketPanel,
        units: ShareUnits,
        calendar: MarketCalendar,
        parts: VenueParts,
        replay: Replay = "sparse",
    ) -> None:
        self.units = units
        self._panel, self._parts = panel, parts
        self._full = replay == "full"
        self._carry = Carry(panel, units, parts.financing, parts.delistings)
        self._has_closed = False
        self._calendar = calendar
        self._opens_ns, self._closes_ns = _times(calendar, panel)
        self._columns = {item.id: column for column, item in enumerate(parts.instruments)}
        self._bar_types = [
            BarType.from_str(f"{item.id}-1-DAY-LAST-EXTERNAL") for item in parts.instruments
        ]

    @property
    def router(self) -> OpenRouter:
        """The one door to the venue."""
        return self._parts.router

    def run(self, first: int, last: int, progress: Progress | None = None) -> None:
        """Replay panel rows `first` to `last`, both included.

        Raises
        ------
        VenueError
            If the venue stopped early, or an order reached it past the router.
        """
        self.begin()
        for row in range(first, last + 1):
            self._parts.fees.begin_session(self.units.factor[row])
            opening = self._morning_batch(row)
            if self._expects_fills():
                self._push(opening)
                self._push(self._quotes_batch(row))
                opening = []
            # Nothing can fill at this open, so the day is one batch: half the calls into Nautilus.
            self._close(row, opening)
            if progress is not None:
                progress(row - first + 1, last + 1 - first)
        self.end()

    def begin(self) -> None:
        """Watch that no order gets past the router; once, before the first session."""
        self._parts.engine.kernel.msgbus.subscribe("events.order.*", self._watch_router)

    def open_session(self, row: int) -> None:
        """Feed the open of one panel row: what was held costs or earns, then orders fill."""
        self._parts.fees.begin_session(self.units.factor[row])
        self._push(self._morning_batch(row))
        if self._expects_fills():
            self._push(self._quotes_batch(row))

    def close_session(self, row: int) -> None:
        """Feed the close of one panel row, on which the engines and the sleeves decide.

        Raises
        ------
        VenueError
            If the venue stopped early.
        """
        self._close(row, [])

    def end(self) -> None:
        """Stop the engine after the last session."""
        self._parts.engine.end()

    def extend(self, panel: MarketPanel, units: ShareUnits, delistings: Delistings | None) -> None:
        """Take a panel with the same rows and more sessions after them.

        Parameters
        ----------
        units : ShareUnits of the new panel, the same on the old rows
        """
        parts = replace(
            self._parts,
            impact=replace(self._parts.impact, panel=panel),
            delistings=delistings,
        )
        self.units = units
        self._panel, self._parts = panel, parts
        self._carry = Carry(panel, units, parts.financing, delistings)
        self._opens_ns, self._closes_ns = _times(self._calendar, panel)

    def _close(self, row: int, before: list[Any]) -> None:
        closed_ns = int(self._closes_ns[row])
        self._push(before + self._closing_batch(row))
        self._require_reached(closed_ns)
        self._has_closed = True
        # Nautilus pickles a closed position before it opens it again, for statistics that nobody
        # reads; without it a fill costs a fifth less.
        self._parts.engine.cache.purge_closed_positions(closed_ns)

    def _push(self, batch: list[Any]) -> None:
        engine = self._parts.engine
        engine.add_data(batch, validate=False, sort=False)
        engine.run(streaming=True)
        engine.clear_data()

    def _days(self, row: int) -> tuple[date, date]:
        """Return the session whose close is the newest known at the open of `row`, and its own."""
        sessions = self._panel.sessions
        return sessions[max(row - 1, 0)].astype(object), sessions[row].astype(object)

    def _morning_batch(self, row: int) -> list[Any]:
        ts = int(self._opens_ns[row])
        as_of, session = self._days(row)
        batch: list[Any] = [stream_item(SessionOpen(as_of, session), ts)]
        # Nothing is held over the nights before the first session.
        overnight = self._carry.overnight(row) if self._has_closed else None
        for carried in (overnight, self._carry.at_open(row)):
            if carried is not None:
                batch.append(stream_item(carried, ts))
        return batch

    def _quotes_batch(self, row: int) -> list[Any]:
        # After the morning's events: a split restates the orders that move these prices.
        ts = int(self._opens_ns[row])
        quotes = self._opening_quotes(row)
        return [*self._quote_ticks(quotes, ts), stream_item(quotes, ts)]

    def _opening_quotes(self, row: int) -> OpeningQuotes:
        as_of, session = self._days(row)
        bought, sold = self._waiting_shares()
        opens = self._panel.open[row] / self.units.factor[row]
        wanted = np.full(len(opens), self._full) | (bought + sold > 0) | self._resting()
        columns: IntArray = np.flatnonzero(wanted & (opens > 0))
        mid = opens[columns]
        impact = self._parts.impact
        # The newest fact that may price an order at this open is yesterday's close.
        known = max(row - 1, 0)
        return OpeningQuotes(
            as_of=as_of,
            session=session,
            rows=columns,
            mid=mid,
            half_spread=np.full(len(columns), self._parts.half_spread),
            buy_impact=impact.fraction(known, columns, bought[columns] * mid),
            sell_impact=impact.fraction(known, columns, sold[columns] * mid),
        )

    def _expects_fills(self) -> bool:
        waiting, resting = self._parts.router.waiting(), self._parts.engine.cache.orders_open()
        return self._full or bool(waiting or resting)

    def _resting(self) -> BoolArray:
        """Return where an order rests at the venue, (N,)."""
        resting: BoolArray = np.zeros(len(self._columns), dtype=bool)
        for order in self._parts.engine.cache.orders_open():
            resting[self._columns[order.instrument_id]] = True
        return resting

    def _waiting_shares(self) -> tuple[FloatArray, FloatArray]:
        bought, sold = np.zeros(len(self._columns)), np.zeros(len(self._columns))
        for order in self._parts.router.waiting():
            side = bought if order.side == OrderSide.BUY else sold
            side[self._columns[order.instrument_id]] += order.quantity.raw // RAW_PER_SHARE
        return bought, sold

    def _quote_ticks(self, quotes: OpeningQuotes, ts: int) -> list[QuoteTick]:
        bids, asks = touch(quotes)
        instruments = self._parts.instruments
        return [
            QuoteTick(instruments[column].id, _price(bid), _price(ask), AMPLE, AMPLE, ts, ts)
            for column, bid, ask in zip(
                quotes.rows.tolist(), bids.tolist(), asks.tolist(), strict=True
            )
        ]

    def _closing_batch(self, row: int) -> list[Any]:
        ts = int(self._closes_ns[row])
        batch: list[Any] = self._bars(row, ts)
        batch.append(stream_item(SessionClose(self._panel.sessions[row].astype(object)), ts))
        return batch

    def _bars(self, row: int, ts: int) -> list[Bar]:
        columns = self._bar_columns(row)
        if not len(columns):
            return []
        factor = self.units.factor[row, columns]
        fields = (self._panel.open, self._panel.high, self._panel.low, self._panel.close)
        prices = [to_micros(field[row, columns] / factor).tolist() for field in fields]
        return [
            Bar(self._bar_types[column], *map(_price, bar), AMPLE, ts, ts)
            for column, *bar in zip(columns.tolist(), *prices, strict=True)
        ]

    def _bar_columns(self, row: int) -> IntArray:
        traded = self._panel.close[row] > 0
        return np.flatnonzero(traded if self._full else traded & self._resting())

    def _watch_router(self, event: Any) -> None:
        if type(event).__name__ == "OrderSubmitted":
            order_id = event.client_order_id
            if order_id not in self._parts.router.released:
                raise VenueError(
                    f"order {order_id} reached the venue outside its opening window; "
                    "submit orders through the router"
                )

    def _require_reached(self, ts: int) -> None:
        reached = self._parts.engine.kernel.clock.timestamp_ns()
        if reached != ts:
            raise VenueError(f"the venue stopped at {reached} ns before the close at {ts} ns")


def _times(calendar: MarketCalendar, panel: MarketPanel) -> tuple[IntArray, IntArray]:
    """Return when the panel's sessions open and close, UNIX nanoseconds, (T,) each."""
    rows = calendar.rows(panel.sessions)
    return calendar.opens_ns[rows], calendar.closes_ns[rows]


def _price(micros: int) -> Price:
    return Price.from_raw(micros * RAW_PER_MICRO, PRICE_DECIMALS)
