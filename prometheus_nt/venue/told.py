"""A venue that fills nothing by itself: each order becomes what a broker said became of it.

1. Before an open the node is given the broker's answers (`ToldRouter.take`).
2. At the opening quotes the router lets go every order that has an answer. One that met no market
   and has no quote is carried, as on the simulated venue.
3. `ToldClient` turns each answer into events of its order, at the broker's prices and fees.
"""

from collections.abc import Iterable
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.execution.client import ExecutionClient
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, LiquiditySide, OmsType
from nautilus_trader.model.identifiers import AccountId, ClientId, TradeId, Venue, VenueOrderId
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.orders import Order

from prometheus_nt.domain.answers import Answer, End, ToldFill
from prometheus_nt.domain.errors import TradingHalted
from prometheus_nt.domain.safety import Guard, always_armed
from prometheus_nt.venue.params import RouterParams
from prometheus_nt.venue.prices import PRICE_DECIMALS
from prometheus_nt.venue.router import OpenRouter


class ToldRouter(OpenRouter):
    """Holds every order until the broker has answered for an open."""

    def __init__(
        self, params: RouterParams, rows: dict[object, int], guard: Guard = always_armed
    ) -> None:
        super().__init__(params, rows, guard)
        self.answers: dict[str, Answer] = {}

    def take(self, answers: Iterable[Answer]) -> None:
        """Take what the broker did at the open that comes."""
        self.answers = {answer.order_id: answer for answer in answers}

    def _stop_what_may_not_leave(self) -> None:
        """Stop nothing: what was sent is the broker's, and before sending the switch is asked."""

    def _meets(self, order: Order, quoted: set[int]) -> bool:
        answer = self.answers.get(order.client_order_id.value)
        if answer is None:
            raise TradingHalted(f"order {order.client_order_id} has no answer of the broker")
        met_no_market = answer.end is End.CANCELLED and not answer.traded
        return not met_no_market or super()._meets(order, quoted)


class ToldClient(ExecutionClient):
    """Tells of each order what the broker told.

    Parameters
    ----------
    engine : BacktestEngine
        Whose simulated exchange gets no order any more.
    venue : Venue
    router : ToldRouter
        Which has the answers.
    """

    def __init__(self, engine: BacktestEngine, venue: Venue, router: ToldRouter) -> None:
        kernel = engine.kernel
        super().__init__(
            client_id=ClientId(venue.value),
            venue=venue,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=USD,
            msgbus=kernel.msgbus,
            cache=kernel.cache,
            clock=kernel.clock,
        )
        # The account that the simulated exchange opens; nobody reads its balance.
        self._set_account_id(AccountId(f"{venue}-001"))
        self._router = router
        kernel.exec_engine.register_venue_routing(self, venue)

    def submit_order(self, command: Any) -> None:
        order: Order = command.order
        answer = self._router.answers[order.client_order_id.value]
        told = (order.strategy_id, order.instrument_id, order.client_order_id)
        now = self._clock.timestamp_ns()
        self.generate_order_submitted(*told, now)
        if answer.end is End.REJECTED:
            self.generate_order_rejected(*told, answer.reason or "", now)
            return
        number = VenueOrderId(answer.ref)
        self.generate_order_accepted(*told, number, now)
        for fill in answer.fills:
            self._fill(order, number, fill)
        # Somebody may have made the order smaller at a terminal: what is left of it is gone.
        if not order.is_closed:
            self.generate_order_canceled(*told, number, now)

    def _fill(self, order: Order, number: VenueOrderId, fill: ToldFill) -> None:
        if fill.shares > int(order.leaves_qty.as_decimal()):
            raise TradingHalted(
                f"order {order.client_order_id}: the broker filled {fill.shares} shares, "
                f"{order.leaves_qty} are left of it; compare the positions with the broker's"
            )
        self.generate_order_filled(
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            venue_order_id=number,
            venue_position_id=None,
            trade_id=TradeId(fill.trade_id),
            order_side=order.side,
            order_type=order.order_type,
            last_qty=Quantity.from_int(fill.shares),
            last_px=Price(fill.price, PRICE_DECIMALS),
            quote_currency=USD,
            commission=Money(fill.commission, USD),
            liquidity_side=LiquiditySide.TAKER,
            ts_event=fill.at_ns,
        )
