"""The one door to the venue: orders decided at a close wait here for the opening quotes.

The live form of this component sends market-on-open orders at once; sleeves cannot tell.
"""

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.algorithm import ExecAlgorithm
from nautilus_trader.execution.config import ExecAlgorithmConfig
from nautilus_trader.execution.messages import CancelOrder
from nautilus_trader.model.identifiers import ExecAlgorithmId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order

from prometheus_nt.bus import Published, subscribe
from prometheus_nt.domain.ledger import split_shares
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.safety import CLOSING, Guard, TradingState, always_armed
from prometheus_nt.domain.sessions import CorporateActions, OpeningQuotes
from prometheus_nt.venue.params import RouterParams

ROUTE_OPEN = ExecAlgorithmId("OPEN")


class OpenRouter(ExecAlgorithm):
    """Holds every order until its instrument is quoted at an open, then releases it.

    Parameters
    ----------
    params : RouterParams
    rows : dict of Nautilus InstrumentId to panel column
    guard : callable
        The kill switch, asked before each batch is released; what it stops is cancelled.
    """

    def __init__(
        self, params: RouterParams, rows: dict[object, int], guard: Guard = always_armed
    ) -> None:
        super().__init__(ExecAlgorithmConfig(exec_algorithm_id=ROUTE_OPEN))
        self._patience, self._rows, self._guard = params.patience, rows, guard
        self.received = 0
        self._waiting: dict[Order, int] = {}
        self.released: set[object] = set()

    def on_start(self) -> None:
        subscribe(self, OpeningQuotes, CorporateActions)

    def waiting(self) -> list[Order]:
        """Return the orders that wait for an open, in the order they were decided."""
        self._waiting = {
            order: missed for order, missed in self._waiting.items() if not order.is_closed
        }
        return list(self._waiting)

    def on_order(self, order: Order) -> None:
        self.received += 1
        self._waiting[order] = 0

    def on_data(self, data: Published) -> None:
        match data.record:
            case CorporateActions(split=ratios) if ratios is not None:
                self._split(ratios)
            case OpeningQuotes() as quotes:
                self._release(quotes)

    def _release(self, quotes: OpeningQuotes) -> None:
        self._stop_what_may_not_leave()
        quoted = set(quotes.rows.tolist())
        for order in self.waiting():
            if self._meets(order, quoted):
                del self._waiting[order]
                self.released.add(order.client_order_id)
                self.submit_order(order)
            else:
                self._miss(order, quotes)

    def _stop_what_may_not_leave(self) -> None:
        waiting = self.waiting()
        if not waiting or (state := self._guard()) is TradingState.ARMED:
            return
        for order in waiting:
            if state is TradingState.FLATTENING and CLOSING in (order.tags or ()):
                continue
            del self._waiting[order]
            self.log.warning(f"order={order.client_order_id} cancelled: trading is {state}")
            self._cancel(order)

    def _meets(self, order: Order, quoted: set[int]) -> bool:
        """Return whether an order is let go at an open that quotes these rows."""
        return self._rows[order.instrument_id] in quoted

    def _split(self, ratios: FloatArray) -> None:
        """Restate what was decided before a split in the shares it will trade in."""
        for order in self.waiting():
            ratio = float(ratios[self._rows[order.instrument_id]])
            if ratio == 1.0:
                continue
            shares, _ = split_shares(int(order.quantity.as_decimal()), ratio)
            if shares:
                self.modify_order_in_place(order, Quantity.from_int(shares))
                # Nautilus changes the order and tells nobody.
                self.msgbus.publish(f"events.order.{order.strategy_id}", order.last_event)
            else:
                del self._waiting[order]
                self._cancel(order)

    def _miss(self, order: Order, quotes: OpeningQuotes) -> None:
        self._waiting[order] += 1
        if self._waiting[order] <= self._patience:
            return
        del self._waiting[order]
        self.log.warning(
            f"order={order.client_order_id} cancelled: no opening quote by {quotes.session}"
        )
        self._cancel(order)

    def _cancel(self, order: Order) -> None:
        self.execute(
            CancelOrder(
                trader_id=order.trader_id,
                strategy_id=order.strategy_id,
                instrument_id=order.instrument_id,
                client_order_id=order.client_order_id,
                venue_order_id=None,
                command_id=UUID4(),
                ts_init=self.clock.timestamp_ns(),
            )
        )
