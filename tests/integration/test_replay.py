"""Feeding the venue only what it needs must change nothing."""

from decimal import Decimal

import numpy as np
import pytest
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide, TimeInForce
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

from prometheus_nt.actors.market_data import PanelReplay
from prometheus_nt.bus import subscribe
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import VenueError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.wiring import add_venue, new_engine
from prometheus_nt.venue.feed import SessionFeed, VenueParts
from prometheus_nt.venue.fees import PerShareFees
from prometheus_nt.venue.params import FeeParams, QuoteParams, RouterParams
from prometheus_nt.venue.prices import equity_instrument
from prometheus_nt.venue.quotes import ImpactModel
from prometheus_nt.venue.router import ROUTE_OPEN, OpenRouter

pytestmark = pytest.mark.integration


def test_sparse_replay_fills_exactly_as_full_replay(market, run, configured, fills):
    costs = {"quotes": {"half_spread_bps": 5.0, "impact_coefficient": 0.5}}

    sparse = run(configured(execution={"replay": "sparse", **costs}), market)
    full = run(configured(execution={"replay": "full", **costs}), market)

    assert len(fills(sparse)) > 200
    assert fills(sparse) == fills(full)
    assert sparse.sleeve.ledger.cash_micros == full.sleeve.ledger.cash_micros


class RestingOrders(Strategy):
    """Sends market, limit, stop and stop-limit orders of every kind, some never to be filled."""

    def __init__(self, instruments, units, *, routed=True):
        super().__init__(StrategyConfig(strategy_id="RESTING", order_id_tag="001"))
        self.instruments, self.units, self.routed = instruments, units, routed
        self.rng = np.random.default_rng(11)
        self.fills = []

    def on_start(self):
        subscribe(self, MarketPanel)

    def on_data(self, data):
        panel = data.record
        prices = panel.close[-1] / self.units.factor_at(panel.as_of)
        for column in self.rng.choice(len(prices), 3, replace=False):
            if np.isfinite(prices[column]):
                self._send(int(column), float(prices[column]))
        for order in self.cache.orders_open(strategy_id=self.id)[:-25]:
            self.cancel_order(order)

    def on_order_filled(self, event):
        price, fee = event.last_px.as_decimal(), event.commission.as_decimal()
        quantity, side = event.last_qty.as_decimal(), event.order_side
        self.fills.append((event.ts_event, event.instrument_id.value, side, quantity, price, fee))

    def _send(self, column, price):
        instrument = self.instruments[column]
        side = OrderSide.BUY if self.rng.random() < 0.5 else OrderSide.SELL
        up = 1.0 if side == OrderSide.BUY else -1.0
        away = float(self.rng.uniform(0.0, 0.03))
        common = {
            "instrument_id": instrument.id,
            "order_side": side,
            "quantity": Quantity.from_int(int(self.rng.integers(1, 500))),
            "exec_algorithm_id": ROUTE_OPEN if self.routed else None,
        }
        limit = instrument.make_price(price * (1.0 - up * away))
        stop = instrument.make_price(price * (1.0 + up * away))
        beyond = instrument.make_price(price * (1.0 + up * (away + 0.005)))
        kind = self.rng.integers(0, 4)
        make = self.order_factory
        orders = (
            lambda: make.market(**common),
            lambda: make.limit(price=limit, time_in_force=TimeInForce.GTC, **common),
            lambda: make.stop_market(trigger_price=stop, **common),
            lambda: make.stop_limit(price=beyond, trigger_price=stop, **common),
        )
        self.submit_order(orders[kind]())


def _run_resting(panel, replay, *, routed=True):
    units = ShareUnits.of(panel)
    instruments = tuple(equity_instrument(name) for name in panel.instruments)
    columns = {item.id: column for column, item in enumerate(instruments)}
    fees = PerShareFees(FeeParams(), columns)
    router = OpenRouter(RouterParams(), columns)
    engine = new_engine()
    add_venue(engine, instruments, fees, 10_000_000)
    strategy = RestingOrders(instruments, units, routed=routed)
    engine.add_actor(PanelReplay(panel))
    engine.add_strategy(strategy)
    engine.add_exec_algorithm(router)
    impact = ImpactModel(panel, QuoteParams())
    parts = VenueParts(engine, instruments, router, fees, impact, 0.0002)
    SessionFeed(panel, units, MarketCalendar.of("US_EQ"), parts, replay).run(0, len(panel) - 1)
    return strategy


def test_resting_orders_fill_alike_through_gaps_halts_and_splits(market):
    sparse = _run_resting(market, "sparse")
    full = _run_resting(market, "full")

    assert len(sparse.fills) > 300
    assert sparse.fills == full.fills
    assert all(quantity > Decimal(0) for *_, quantity, _, _ in sparse.fills)


def test_an_order_past_the_router_voids_the_run(market):
    with pytest.raises(VenueError, match="outside its opening window"):
        _run_resting(market, "sparse", routed=False)


def test_a_halted_name_is_never_filled_and_its_order_is_carried_or_dropped(market, run, configured):
    carried = run(configured(), market).mirror
    dropped = run(configured(execution={"router": {"unquoted": "drop"}}), market).mirror

    for mirror in (carried, dropped):
        rows = {session: row for row, session in enumerate(market.sessions.astype(object))}
        for fill in mirror.fills:
            day = np.datetime64(fill.ts_ns, "ns").astype("datetime64[D]").astype(object)
            assert np.isfinite(market.open[rows[day], fill.order.column])
    cancelled = [trace for trace in dropped.orders.values() if trace.status == "CANCELLED"]
    assert cancelled, "a run with missing bars must meet an order without a quote"
    assert all(trace.filled == 0 for trace in cancelled)


def test_a_delisted_name_becomes_cash_at_its_last_price(market, run, configured, fixed_book):
    config = configured(sleeves=[{"horizon": 63, "capital_usd": 1_000_000, "rebalance": "daily"}])

    with fixed_book({"N00.US": 0.2, "N06.US": 0.2}):
        node = run(config, market)

    flows = [flow for flow in node.sleeve.ledger.cash_flows if flow.kind == "DELISTING"]
    assert [flow.instrument_id for flow in flows] == ["N06.US"]
    assert flows[0].session == market.sessions[300].astype(object)
    last = market.close[299, 6] if np.isfinite(market.close[299, 6]) else market.close[298, 6]
    assert flows[0].amount_micros == flows[0].shares * round(float(last) * 1e6)
    assert node.sleeve.ledger.shares[6] == 0
