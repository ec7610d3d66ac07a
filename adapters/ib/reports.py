"""Reports of orders, fills and positions for Nautilus: what was told, and the broker's lists."""

from dataclasses import dataclass
from decimal import Decimal

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import FillReport, OrderStatusReport, PositionStatusReport
from nautilus_trader.model.enums import LiquiditySide, PositionSide
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    TradeId,
    VenueOrderId,
)
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Quantity

from adapters.ib.journal import Intent
from adapters.ib.orders import OwnOrder
from adapters.ib.translation import STATUSES, exact_price, nautilus_side, nautilus_type


def venue_order_id(order: OwnOrder) -> VenueOrderId:
    """Return the permanent id; an order that never got one goes by client and order id."""
    if order.perm_id:
        return VenueOrderId(str(order.perm_id))
    return VenueOrderId(f"{order.client_id}-{order.order_id}")


@dataclass(frozen=True)
class Reporter:
    """Makes reports of one account.

    Attributes
    ----------
    now_ns : int
        When they are made.
    """

    account_id: AccountId
    now_ns: int

    def order(self, order: OwnOrder, intent: Intent, equity: Equity) -> OrderStatusReport:
        """Report an order as it was told; fills that were not told yet are not in it."""
        kind, tif = nautilus_type(intent.kind, intent.tif)
        quantity, limit, stop = order.told_terms
        fills = [fill for fill, _, _ in order.told_fills.values()]
        shares = sum(fill.shares for fill in fills)
        value = sum(Decimal(repr(fill.price)) * fill.shares for fill in fills)
        return OrderStatusReport(
            account_id=self.account_id,
            instrument_id=equity.id,
            venue_order_id=venue_order_id(order),
            client_order_id=ClientOrderId(order.ref),
            order_side=nautilus_side(order.side),
            order_type=kind,
            time_in_force=tif,
            order_status=STATUSES[order.told],
            quantity=Quantity.from_int(quantity),
            filled_qty=Quantity.from_int(shares),
            avg_px=value / shares if shares else None,
            price=None if limit is None else exact_price(limit),
            trigger_price=None if stop is None else exact_price(stop),
            cancel_reason=next(iter(order.refusals.values()), None),
            report_id=UUID4(),
            ts_accepted=intent.written_ns,
            ts_last=max([intent.written_ns, *(fill.at_ns for fill in fills)]),
            ts_init=self.now_ns,
        )

    def fills(self, order: OwnOrder, equity: Equity) -> list[FillReport]:
        """Report the fills of an order that were told; one that was taken back is none."""
        return [
            FillReport(
                account_id=self.account_id,
                instrument_id=equity.id,
                venue_order_id=venue_order_id(order),
                client_order_id=ClientOrderId(order.ref),
                trade_id=TradeId(trade_id),
                order_side=nautilus_side(fill.side),
                last_qty=Quantity.from_int(fill.shares),
                last_px=exact_price(fill.price),
                commission=Money(fee or 0.0, equity.quote_currency),
                liquidity_side=LiquiditySide.TAKER,
                report_id=UUID4(),
                ts_event=fill.at_ns,
                ts_init=self.now_ns,
            )
            for fill, trade_id, fee in order.told_fills.values()
            if fill.shares
        ]

    def position(self, equity: Equity, shares: int, average_cost: float) -> PositionStatusReport:
        """Report what is held of an instrument; the cost contains commissions."""
        side = PositionSide.FLAT
        if shares:
            side = PositionSide.LONG if shares > 0 else PositionSide.SHORT
        return PositionStatusReport(
            account_id=self.account_id,
            instrument_id=equity.id,
            position_side=side,
            quantity=Quantity.from_int(abs(shares)),
            avg_px_open=Decimal(repr(average_cost)) if shares else None,
            report_id=UUID4(),
            ts_last=self.now_ns,
            ts_init=self.now_ns,
        )
