"""Orders in Nautilus's words and in the broker's, both ways; whole shares of stocks only."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ib_async import Contract, TagValue
from ib_async import Execution as WireExecution
from ib_async import Order as WireOrder
from ib_async.util import UNSET_DOUBLE, UNSET_INTEGER
from nautilus_trader.model.enums import (
    ContingencyType,
    OrderSide,
    OrderStatus,
    OrderType,
    TimeInForce,
    TriggerType,
)
from nautilus_trader.model.objects import Price
from nautilus_trader.model.orders import Order

from adapters.ib.journal import Intent
from adapters.ib.orders import Execution, OrderSeen, Standing
from prometheus_nt.domain.errors import GateRefusal

PLAN_TAG, ADAPTIVE_TAG = "plan:", "adaptive:"
"""Tags of a Nautilus order: what plan it belongs to, and how patient the Adaptive algorithm is."""

PRIORITIES = ("Patient", "Normal", "Urgent")

_TO_WIRE = {
    (OrderType.MARKET, TimeInForce.DAY): ("MKT", "DAY"),
    (OrderType.MARKET, TimeInForce.GTC): ("MKT", "GTC"),
    (OrderType.MARKET, TimeInForce.IOC): ("MKT", "IOC"),
    (OrderType.MARKET, TimeInForce.AT_THE_OPEN): ("MKT", "OPG"),
    (OrderType.MARKET, TimeInForce.AT_THE_CLOSE): ("MOC", "DAY"),
    (OrderType.LIMIT, TimeInForce.DAY): ("LMT", "DAY"),
    (OrderType.LIMIT, TimeInForce.GTC): ("LMT", "GTC"),
    (OrderType.LIMIT, TimeInForce.IOC): ("LMT", "IOC"),
    (OrderType.LIMIT, TimeInForce.AT_THE_OPEN): ("LMT", "OPG"),
    (OrderType.LIMIT, TimeInForce.AT_THE_CLOSE): ("LOC", "DAY"),
    (OrderType.STOP_MARKET, TimeInForce.DAY): ("STP", "DAY"),
    (OrderType.STOP_MARKET, TimeInForce.GTC): ("STP", "GTC"),
}
_FROM_WIRE = {wire: ours for ours, wire in _TO_WIRE.items()}
_LIMITED, _STOPPED = frozenset({"LMT", "LOC", "STP LMT"}), frozenset({"STP", "STP LMT"})

STATUSES = {
    Standing.SENT: OrderStatus.SUBMITTED,
    Standing.ACCEPTED: OrderStatus.ACCEPTED,
    Standing.PARTLY_FILLED: OrderStatus.PARTIALLY_FILLED,
    Standing.FILLED: OrderStatus.FILLED,
    Standing.CANCELLED: OrderStatus.CANCELED,
    Standing.REJECTED: OrderStatus.REJECTED,
}


@dataclass(frozen=True)
class Wanted:
    """What a Nautilus order asks the broker for."""

    plan: str
    side: int
    quantity: int
    kind: str
    tif: str
    limit: float | None
    stop: float | None
    priority: str | None


def wanted(order: Order) -> Wanted:
    """Return what an order asks for.

    Raises
    ------
    GateRefusal
        If the broker cannot be asked for that: not a whole number of shares, another type or
        time in force, or a condition that is not passed on.
    """
    kind, tif = _wire_type(order)
    _require_plain(order)
    priority = _tag(order, ADAPTIVE_TAG)
    if priority is not None and (priority not in PRIORITIES or (kind, tif) not in _ADAPTIVE):
        raise GateRefusal(
            "algorithm",
            f"adaptive:{priority} with {kind} {tif}; expected one of {', '.join(PRIORITIES)} with "
            "a market or limit order of a day",
        )
    return Wanted(
        plan=_tag(order, PLAN_TAG) or "",
        side=1 if order.side == OrderSide.BUY else -1,
        quantity=whole_shares(order.quantity.as_decimal()),
        kind=kind,
        tif=tif,
        limit=float(order.price.as_decimal()) if kind in _LIMITED else None,
        stop=float(order.trigger_price.as_decimal()) if kind in _STOPPED else None,
        priority=priority,
    )


_ADAPTIVE = (("MKT", "DAY"), ("LMT", "DAY"))


def whole_shares(quantity: Decimal) -> int:
    """Return a quantity as a number of shares, or raise GateRefusal if it is not whole."""
    if quantity <= 0 or quantity != quantity.to_integral_value():
        raise GateRefusal("quantity", f"{quantity} shares; the broker takes whole shares only")
    return int(quantity)


def _wire_type(order: Order) -> tuple[str, str]:
    found = _TO_WIRE.get((order.order_type, order.time_in_force))
    if found is None:
        raise GateRefusal(
            "order type",
            f"{order.type_string()} {order.tif_string()}; expected MARKET or LIMIT with DAY, GTC, "
            "IOC, AT_THE_OPEN or AT_THE_CLOSE, or STOP_MARKET with DAY or GTC",
        )
    return found


def _require_plain(order: Order) -> None:
    refused = {
        "post_only": order.is_post_only,
        "quote_quantity": order.is_quote_quantity,
        "a contingency": order.contingency_type != ContingencyType.NO_CONTINGENCY,
        "emulation": order.emulation_trigger != TriggerType.NO_TRIGGER,
        "display_qty": getattr(order, "display_qty", None) is not None,
    }
    for name, is_asked in refused.items():
        if is_asked:
            raise GateRefusal("order terms", f"{name} is not passed on to the broker")


def _tag(order: Order, prefix: str) -> str | None:
    for tag in order.tags or ():
        if tag.startswith(prefix):
            return str(tag[len(prefix) :])
    return None


def wire_order(intent: Intent) -> WireOrder:
    """Return the broker's order of an intent."""
    order = WireOrder(
        orderId=intent.order_id,
        clientId=intent.client_id,
        action="BUY" if intent.side > 0 else "SELL",
        totalQuantity=intent.quantity,
        orderType=intent.kind,
        tif=intent.tif,
        account=intent.account,
        orderRef=intent.ref,
        outsideRth=False,
    )
    if intent.limit is not None:
        order.lmtPrice = intent.limit
    if intent.stop is not None:
        order.auxPrice = intent.stop
    if intent.priority is not None:
        order.algoStrategy = "Adaptive"
        order.algoParams = [TagValue("adaptivePriority", intent.priority)]
    return order


def wire_contract(contract_id: int) -> Contract:
    """Return a stock by the broker's number of it, routed by the broker."""
    return Contract(secType="STK", conId=contract_id, exchange="SMART")


def order_seen(
    contract: Contract, order: WireOrder, status: str, *, completed: bool = False
) -> OrderSeen:
    """Return an open or completed order message as we read it."""
    filled = order.filledQuantity
    return OrderSeen(
        ref=order.orderRef,
        perm_id=order.permId,
        client_id=order.clientId,
        order_id=order.orderId,
        account=order.account,
        contract=contract.conId,
        symbol=contract.symbol,
        side=1 if order.action == "BUY" else -1,
        quantity=int(order.totalQuantity),
        kind=order.orderType,
        tif=order.tif,
        limit=_price(order.lmtPrice) if order.orderType in _LIMITED else None,
        stop=_price(order.auxPrice) if order.orderType in _STOPPED else None,
        status=status,
        filled=0 if filled in (None, UNSET_DOUBLE) else int(filled),
        completed=completed,
    )


def execution_seen(contract: Contract, execution: WireExecution) -> Execution:
    """Return an execution message as we read it; a time without a zone is UTC."""
    moment: datetime = execution.time
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Execution(
        exec_id=execution.execId,
        ref=execution.orderRef,
        perm_id=execution.permId,
        client_id=execution.clientId,
        order_id=0 if execution.orderId == UNSET_INTEGER else execution.orderId,
        account=execution.acctNumber,
        contract=contract.conId,
        symbol=contract.symbol,
        side=1 if execution.side == "BOT" else -1,
        shares=int(execution.shares),
        price=float(execution.price),
        at_ns=int(moment.timestamp()) * 10**9,
    )


def nautilus_type(kind: str, tif: str) -> tuple[OrderType, TimeInForce]:
    """Return type and time in force of the broker's order; a type that is not ours is MARKET."""
    return _FROM_WIRE.get((kind, tif), (OrderType.MARKET, TimeInForce.DAY))


def exact_price(price: float) -> Price:
    """Return a price with all of its decimals: the broker fills between ticks."""
    return Price.from_str(f"{Decimal(repr(price)).normalize():f}")


def nautilus_side(side: int) -> OrderSide:
    """Return a side in Nautilus's words; 1 buys, -1 sells."""
    return OrderSide.BUY if side > 0 else OrderSide.SELL


def _price(value: Any) -> float | None:
    return None if value in (None, UNSET_DOUBLE) else float(value)
