"""The same trades as plain Nautilus users make them: everything replayed, all subscribed."""

from typing import Any

import numpy as np
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.data import Bar, BarType, QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.wiring import add_venue, new_engine
from prometheus_nt.venue.feed import AMPLE
from prometheus_nt.venue.fees import PerShareFees
from prometheus_nt.venue.prices import PRICE_DECIMALS, RAW_PER_MICRO, equity_instrument, to_micros
from strategies.planner import BookView, PlannerParams, plan_orders

Targets = dict[int, np.ndarray]
"""Panel row of each rebalance decision -> weights (N,)."""


class PlainStrategy(Strategy):
    """Collects every bar, plans at the last one of a rebalance session, trades the next open."""

    def __init__(
        self, panel: MarketPanel, instruments: tuple[Any, ...], targets: Targets, capital: float
    ) -> None:
        super().__init__(StrategyConfig(strategy_id="PLAIN", order_id_tag="001"))
        self.panel, self.instruments, self.targets = panel, instruments, targets
        self.columns = {item.id: column for column, item in enumerate(instruments)}
        self.close = np.full(len(instruments), np.nan)
        self.shares = np.zeros(len(instruments), dtype=np.int64)
        self.cash = capital
        self.seen, self.row = 0, -1
        self.pending: dict[Any, int] = {}
        self.planner = PlannerParams()
        self.fills: list[tuple[Any, ...]] = []

    def on_start(self) -> None:
        for item in self.instruments:
            self.subscribe_quote_ticks(item.id)
            self.subscribe_bars(BarType.from_str(f"{item.id}-1-DAY-LAST-EXTERNAL"))

    def on_quote_tick(self, tick: QuoteTick) -> None:
        quantity = self.pending.pop(tick.instrument_id, 0)
        if quantity:
            side = OrderSide.BUY if quantity > 0 else OrderSide.SELL
            size = Quantity.from_int(abs(quantity))
            self.submit_order(self.order_factory.market(tick.instrument_id, side, size))

    def on_bar(self, bar: Bar) -> None:
        self.close[self.columns[bar.bar_type.instrument_id]] = bar.close.as_double()
        self.seen += 1
        if self.seen == len(self.columns):
            self.seen, self.row = 0, self.row + 1
            if self.row in self.targets:
                self._plan(self.targets[self.row])

    def on_order_filled(self, event: Any) -> None:
        column = self.columns[event.instrument_id]
        quantity, price = int(event.last_qty.as_decimal()), float(event.last_px.as_decimal())
        fee = float(event.commission.as_decimal())
        signed = quantity if event.order_side == OrderSide.BUY else -quantity
        self.shares[column] += signed
        self.cash -= signed * price + fee
        self.fills.append((event.ts_event, column, signed, price, fee))

    def _plan(self, weights: np.ndarray) -> None:
        count = len(self.columns)
        book = BookView(
            equity=self.cash + float(self.shares @ self.close),
            shares=self.shares.copy(),
            prices=self.close.copy(),
            marks=self.close.copy(),
            lots=np.ones(count, dtype=np.int64),
            working=np.zeros(count, dtype=bool),
            pending=np.zeros(count, dtype=np.int64),
            usual_value=np.full(count, np.nan),
        )
        plan = plan_orders(weights, book, self.planner)
        for column, quantity in zip(plan.rows.tolist(), plan.quantities.tolist(), strict=True):
            self.pending[self.instruments[column].id] = quantity


def run_plain(panel: MarketPanel, config: NodeConfig, targets: Targets) -> list[tuple[Any, ...]]:
    """Return the fills: (time, column, signed shares, price, commission), in order."""
    instruments = tuple(equity_instrument(name) for name in panel.instruments)
    columns = {item.id: column for column, item in enumerate(instruments)}
    fees = PerShareFees(config.execution.fees, columns)
    fees.begin_session(ShareUnits.of(panel).factor[0])
    engine = new_engine()
    capital = config.sleeves[0].capital_usd
    add_venue(engine, instruments, fees, capital)
    strategy = PlainStrategy(panel, instruments, targets, capital)
    engine.add_strategy(strategy)
    half_spread = config.execution.quotes.half_spread_bps / 1e4
    engine.add_data(_everything(panel, instruments, half_spread), validate=False, sort=False)
    engine.run()
    return strategy.fills


def _everything(panel: MarketPanel, instruments: tuple[Any, ...], half_spread: float) -> list[Any]:
    calendar = MarketCalendar.of("US_EQ")
    rows = calendar.rows(panel.sessions)
    asks = to_micros(panel.open * (1.0 + half_spread))
    bids = to_micros(panel.open * (1.0 - half_spread))
    bars = [to_micros(field) for field in (panel.open, panel.high, panel.low, panel.close)]
    bar_types = [BarType.from_str(f"{item.id}-1-DAY-LAST-EXTERNAL") for item in instruments]
    items: list[Any] = []
    for row, opens, closes in zip(
        range(len(panel)),
        calendar.opens_ns[rows].tolist(),
        calendar.closes_ns[rows].tolist(),
        strict=True,
    ):
        items += [
            QuoteTick(item.id, _price(bid), _price(ask), AMPLE, AMPLE, opens, opens)
            for item, bid, ask in zip(
                instruments, bids[row].tolist(), asks[row].tolist(), strict=True
            )
        ]
        day = [field[row].tolist() for field in bars]
        items += [
            Bar(bar_type, *map(_price, prices), AMPLE, closes, closes)
            for bar_type, *prices in zip(bar_types, *day, strict=True)
        ]
    return items


def _price(micros: int) -> Price:
    return Price.from_raw(micros * RAW_PER_MICRO, PRICE_DECIMALS)
