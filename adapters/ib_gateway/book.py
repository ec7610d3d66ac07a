"""The broker's book: takes orders, fills them against the replayed market, keeps the account.

An order lives through these steps, each of which tells the clients what a gateway tells:

1. `place` refuses it, or gives it a permanent number and acknowledges it;
2. `at_open` fills what the open fills: orders for the open, market orders, limits and stops that
   the opening price reaches; what was for this moment only is cancelled;
3. an order placed while the market is open meets the open's quote, for nothing newer is known;
4. `at_close` fills orders for the close, and limits and stops by the session's high and low; then
   day orders expire.

Fill prices are those of the function that the simulator was given, so that they are the backtest's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from adapters.ib_gateway.account import INITIAL_MARGIN, MAINTENANCE_MARGIN, Account
from adapters.ib_gateway.actions import Action, Send, error
from adapters.ib_gateway.contracts import Contracts, Stock
from adapters.ib_gateway.journal import Journal
from adapters.ib_gateway.market import Clock, Stage
from adapters.ib_gateway.orders import (
    AUCTION,
    CANCELLED,
    FILLED,
    INACTIVE,
    LIMITED,
    PENDING_CANCEL,
    PRE_SUBMITTED,
    STOPPED,
    SUBMITTED,
    Fill,
    Moment,
    Order,
    Refused,
    Wish,
    check,
    rejected,
)
from adapters.ib_gateway.wire import UNSET_DOUBLE, Values, integer

FIRST_PERM_ID = 1_500_000_001
HELD = "Warning: your order will not be placed at the exchange until the next session opens."

FillPrice = Callable[[int, int, int, int, float], float]
"""(row, column, side, shares, price without costs) -> price paid; uses nothing of a later row."""

Commission = Callable[[float, float], float]
"""(shares, value) of all fills of an order -> its whole commission."""


class Interference(Protocol):
    """What faults may do to orders before anybody hears of them."""

    def intake(self, order: Order) -> bool:
        """Return whether the order reaches the book; may raise `Refused` instead."""

    def parts(self, order: Order) -> list[int]:
        """Return the shares of the fills that an order gets now; they may be fewer than wanted."""

    def keeps(self, order: Order) -> bool:
        """Return whether a cancel of the order is not carried out."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What trading at the simulated broker is like."""

    contracts: Contracts
    fill_price: FillPrice
    commission: Commission
    read_only: bool = False


class Book:
    """Orders, fills and the account of one paper account.

    Parameters
    ----------
    emit : function of a hook's name, the messages of one event, and what they are about
        Hands them to the clients; faults may change them.
    """

    def __init__(
        self,
        terms: Terms,
        clock: Clock,
        account: Account,
        journal: Journal,
        emit: Callable[..., None],
    ) -> None:
        self.terms, self.clock, self.account = terms, clock, account
        self.orders: dict[int, Order] = {}
        self.fills: list[Fill] = []
        self.placed = 0
        self.ids_from = 0
        self.interference: Interference | None = None
        self._journal, self._emit = journal, emit
        self._by_client: dict[tuple[int, int], Order] = {}
        self._live: dict[int, Order] = {}
        self._next_ids: dict[int, int] = {}
        for fact in journal.facts():
            self._recall(fact)

    def next_id(self, client_id: int) -> int:
        """Return the next valid order id of a client, which survives restarts."""
        return self._next_ids.get(client_id, 1)

    def restart_ids(self) -> None:
        """Let every client's ids begin anew, above those of its open orders."""
        self._by_client = {key: order for key, order in self._by_client.items() if order.is_open}
        self._next_ids = {}
        for client_id, order_id in self._by_client:
            self._next_ids[client_id] = max(self.next_id(client_id), order_id + 1)

    def open_orders(self, client_id: int | None = None) -> list[Order]:
        """Return the open orders of a client, or of all, oldest first."""
        self._live = {number: order for number, order in self._live.items() if order.is_open}
        return [order for order in self._live.values() if client_id in (None, order.client_id)]

    def completed(self) -> list[Order]:
        """Return the orders that were filled or cancelled on this day."""
        return [
            order
            for order in self.orders.values()
            if order.done_ns is not None and self._is_today(order.done_ns)
        ]

    def todays_fills(self) -> list[Fill]:
        """Return the executions of this day: a gateway forgets them at midnight."""
        return [fill for fill in self.fills if self._is_today(fill.time_ns)]

    def stock(self, column: int) -> Stock:
        return self.terms.contracts.stocks[column]

    def find(self, client_id: int, order_id: int) -> Order | None:
        """Return a client's order by its own number."""
        return self._by_client.get((client_id, order_id))

    def place(self, client_id: int, raw: Values) -> None:
        """Take, change or refuse the order of a request."""
        order_id = integer(raw["orderId"])
        known = self.find(client_id, order_id)
        try:
            if known is None:
                self._accept(client_id, order_id, raw)
            else:
                self._modify(known, raw)
        except Refused as refusal:
            self._refuse(client_id, order_id, refusal)

    def cancel(self, client_id: int, order_id: int) -> None:
        """Cancel a client's order, or say why not."""
        order = self.find(client_id, order_id)
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self._emit("refusal", [error(client_id, 10147, text, order_id)])
        elif not order.is_open:
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, "
            text += f"state: {order.status}."
            self._emit("refusal", [error(client_id, 10148, text, order_id)], order=order)
        elif self.interference is not None and self.interference.keeps(order):
            if order.is_open:
                order.status = PENDING_CANCEL
                self._emit("cancel", [self.status(order)], order=order)
        else:
            order.status = PENDING_CANCEL
            self.finish(order, CANCELLED, hook="cancel", before=[self.status(order)])

    def cancel_all(self) -> None:
        """Cancel every open order of every client."""
        for order in self.open_orders():
            self.cancel(order.client_id, order.order_id)

    def at_night(self) -> None:
        """Pay dividends, split positions and end orders that a split makes meaningless."""
        row, prices = self.clock.row, self.clock.prices
        self.account.realised = 0.0
        for column, position in self.account.held().items():
            ratio, dividend = prices.split[row, column], prices.dividend[row, column]
            if ratio != 1.0:
                self.account.split(column, float(ratio), self.clock.price(column))
            if dividend:
                self.account.cash += position.shares * float(dividend)
        for order in self.open_orders():
            if prices.split[row, order.column] != 1.0:
                self.finish(order, CANCELLED)
        self._keep_account()

    def at_open(self) -> None:
        """Fill what this session's opening prices fill."""
        for order in self.open_orders():
            self._meet_open(order)

    def at_close(self) -> None:
        """Fill what the session's bar fills, then let day orders expire."""
        for order in self.open_orders():
            if self.clock.traded(order.column):
                self._meet_close(order)
        for order in self.open_orders():
            if order.tif != "GTC":
                self.finish(order, CANCELLED)
        self.account.opening_equity = self.account.equity(self.clock.price)
        self._keep_account()

    def fill(self, order: Order, shares: int, price: float) -> Fill:
        """Execute shares of an order at a price, and tell its client."""
        fill = self._execute(order, shares, price)
        self._emit("fill", self.fill_messages(order, fill), order=order, fill=fill)
        self._emit("position", [], column=order.column)
        return fill

    def fill_messages(self, order: Order, fill: Fill) -> list[Action]:
        """Return what a gateway says about a fill: the state of the order comes twice."""
        state: list[Action] = [self.shown(order), self.status(order)]
        return [self.execution(fill), *state, *state, self.commission_report(fill)]

    def finish(
        self, order: Order, status: str, hook: str = "end", before: Iterable[Action] = ()
    ) -> None:
        """End an order that is not filled, and tell its client."""
        order.status, order.done_ns = status, self.clock.now_ns()
        self._keep(order)
        text = "Order Canceled - reason:"
        ended = [self.status(order), error(order.client_id, 202, text, order.order_id)]
        self._emit(hook, [*before, *ended], order=order)

    def revise(self, fill: Fill, shares: int, price: float) -> Fill:
        """Replace an execution by its next revision; `shares` 0 is a bust."""
        order = self.orders[fill.perm_id]
        revised = fill.corrected(shares, price)
        self.fills[self.fills.index(fill)] = revised
        self.account.trade(order.column, -fill.side * fill.shares, fill.price, -fill.commission)
        if shares:
            self.account.trade(order.column, fill.side * shares, price, fill.commission)
        order.filled += shares - fill.shares
        order.value += shares * price - fill.shares * fill.price
        self._journal.write("revision", old=fill.exec_id, fill=revised.row())
        self._keep(order)
        self._keep_account()
        return revised

    def shown(self, order: Order, client_id: int | None = None) -> Send:
        """Return the open order message of an order, to its own client unless another asks."""
        contract = self.stock(order.column).wire()
        values = order.values(contract, self.account.account_id)
        return Send(order.client_id if client_id is None else client_id, "openOrder", values)

    def status(self, order: Order, client_id: int | None = None) -> Send:
        """Return the status message of an order."""
        to = order.client_id if client_id is None else client_id
        return Send(to, "orderStatus", order.status_values())

    def execution(self, fill: Fill, client_id: int | None = None, req_id: int = -1) -> Send:
        """Return the execution message of a fill; `req_id` is -1 for news."""
        stock = self.stock(fill.column)
        moment = self.clock.local(fill.time_ns)
        values = stock.wire(stock.home) | {
            "reqId": req_id,
            "orderId": fill.order_id,
            "execId": fill.exec_id,
            "time": f"{moment:%Y%m%d %H:%M:%S} {self.clock.prices.time_zone}",
            "account": self.account.account_id,
            "execExchange": stock.home,
            "side": "BOT" if fill.side > 0 else "SLD",
            "shares": fill.shares,
            "price": fill.price,
            "permId": fill.perm_id,
            "clientId": fill.client_id,
            "cumQty": fill.cumulated,
            "avgPrice": fill.average,
            "orderRef": fill.reference,
            "lastLiquidity": 2,
        }
        return Send(fill.client_id if client_id is None else client_id, "execution", values)

    def commission_report(self, fill: Fill, client_id: int | None = None) -> Send:
        """Return the commission message of a fill."""
        values = {
            "execId": fill.exec_id,
            "commission": fill.commission,
            "currency": self.account.currency,
            "realized": UNSET_DOUBLE if fill.realised is None else fill.realised,
        }
        to = fill.client_id if client_id is None else client_id
        return Send(to, "commissionReport", values)

    def _accept(self, client_id: int, order_id: int, raw: Values) -> None:
        if order_id < self.next_id(client_id):
            raise Refused(103, "Duplicate order id")
        self._next_ids[client_id] = order_id + 1
        self._journal.write("ids", client_id=client_id, next_id=order_id + 1)
        order = self._draft(client_id, order_id, raw)
        check(Wish.of(raw), self._moment(order))
        if integer(raw["whatIf"]):
            self._answer_what_if(order)
            return
        self._require_margin(order)
        self.placed += 1
        if self.interference is not None and not self.interference.intake(order):
            return
        self._enter(order)

    def _enter(self, order: Order) -> None:
        order.perm_id = FIRST_PERM_ID + len(self.orders)
        self.orders[order.perm_id] = order
        self._by_client[order.client_id, order.order_id] = order
        self._live[order.perm_id] = order
        self._keep(order)
        said: list[Action] = [self.shown(order), self.status(order)]
        if not self._is_live(order):
            said.append(error(order.client_id, 399, f"Order Message:\n{HELD}", order.order_id))
        self._emit("ack", said, order=order)
        self._meet_quote(order)

    def enter_by_hand(self, order: Order) -> None:
        """Enter an order that no client of the API placed."""
        order.placed_ns = self.clock.now_ns()
        self._enter(order)

    def enter_again(self, order: Order) -> None:
        """Enter an order of a client once more, under a permanent id of its own."""
        again = Order(
            perm_id=0,
            client_id=order.client_id,
            # No client counts it: the next order's number is not taken.
            order_id=0,
            column=order.column,
            side=order.side,
            quantity=order.quantity,
            order_type=order.order_type,
            tif=order.tif,
            limit=order.limit,
            stop=order.stop,
            terms=dict(order.terms),
            placed_ns=self.clock.now_ns(),
        )
        self._enter(again)

    def _draft(self, client_id: int, order_id: int, raw: Values) -> Order:
        columns = self.terms.contracts.matching(raw)
        if len(columns) != 1:
            text = "No security definition has been found for the request"
            if columns:
                text = "The contract description specified is ambiguous"
            raise Refused(200, text)
        wish = Wish.of(raw)
        order = Order(
            perm_id=0,
            client_id=client_id,
            order_id=order_id,
            column=columns[0],
            side=wish.side,
            quantity=int(wish.quantity),
            order_type=wish.order_type,
            tif=wish.tif,
            limit=wish.limit if wish.order_type in LIMITED else None,
            stop=wish.stop if wish.order_type in STOPPED else None,
            terms=wish.terms(),
            placed_ns=self.clock.now_ns(),
        )
        order.status = SUBMITTED if self._is_live(order) else PRE_SUBMITTED
        return order

    def _modify(self, order: Order, raw: Values) -> None:
        if not order.is_open:
            raise Refused(104, "Cannot modify a filled order.")
        wanted = self._draft(order.client_id, order.order_id, raw)
        if (wanted.column, wanted.side) != (order.column, order.side):
            raise Refused(105, "Order being modified does not match original order")
        check(Wish.of(raw), self._moment(order))
        if wanted.quantity <= order.filled:
            raise rejected("The quantity is already filled.", inactive=False)
        for name in ("quantity", "order_type", "tif", "limit", "stop", "terms"):
            setattr(order, name, getattr(wanted, name))
        self._keep(order)
        self._emit("modify", [self.shown(order), self.status(order)], order=order)
        self._meet_quote(order)

    def _refuse(self, client_id: int, order_id: int, refusal: Refused) -> None:
        said: list[Action] = [error(client_id, refusal.code, refusal.text, order_id)]
        if refusal.inactive and self.find(client_id, order_id) is None:
            values = {
                "orderId": order_id,
                "status": INACTIVE,
                "filled": 0,
                "remaining": 0,
                "avgPrice": 0.0,
                "permId": 0,
                "lastPrice": 0.0,
                "clientId": client_id,
            }
            said.insert(0, Send(client_id, "orderStatus", values))
        self._emit("refusal", said)

    def _moment(self, order: Order) -> Moment:
        alike = [
            other
            for other in self.open_orders()
            if (other.column, other.side) == (order.column, order.side)
        ]
        return Moment(
            account=self.account.account_id,
            min_tick=self.stock(order.column).min_tick,
            stage=self.clock.stage,
            since_close=self.clock.since_close(),
            to_open=self.clock.to_open(),
            live_alike=len(alike) - (order in alike),
            read_only=self.terms.read_only,
        )

    def _exposure(self, extra: Order | None) -> float:
        """Return the value of all positions if every open order, and `extra`, were filled."""
        after = {column: item.shares for column, item in self.account.held().items()}
        for order in (*self.open_orders(), *(() if extra is None else (extra,))):
            after[order.column] = after.get(order.column, 0) + order.side * order.remaining
        return sum(abs(shares) * self.clock.price(column) for column, shares in after.items())

    def _require_margin(self, order: Order) -> None:
        if not np.isfinite(self.clock.price(order.column)):
            raise rejected("No market price is known for this contract.")
        before, after = self._exposure(None), self._exposure(order)
        equity = self.account.equity(self.clock.price)
        if after > before and after * INITIAL_MARGIN > equity:
            raise rejected(
                "YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR EQUITY "
                f"WITH LOAN VALUE [{equity:.2f} USD] MUST EXCEED THE INITIAL MARGIN "
                f"[{after * INITIAL_MARGIN:.2f} USD]"
            )

    def _answer_what_if(self, order: Order) -> None:
        before, after = self._exposure(None), self._exposure(order)
        equity = self.account.equity(self.clock.price)
        fee = self.terms.commission(order.quantity, order.quantity * self.clock.price(order.column))
        message = self.shown(order)
        order_values = message.values | {
            "whatIf": 1,
            "status": PRE_SUBMITTED,
            "initMarginBefore": INITIAL_MARGIN * before,
            "initMarginAfter": INITIAL_MARGIN * after,
            "initMarginChange": INITIAL_MARGIN * (after - before),
            "maintMarginBefore": MAINTENANCE_MARGIN * before,
            "maintMarginAfter": MAINTENANCE_MARGIN * after,
            "maintMarginChange": MAINTENANCE_MARGIN * (after - before),
            "equityBefore": equity,
            "equityAfter": equity - fee,
            "equityChange": -fee,
            "commission": fee,
            "commissionCurrency": self.account.currency,
        }
        self._emit("whatif", [Send(order.client_id, "openOrder", order_values)], order=order)

    def _is_live(self, order: Order) -> bool:
        """Return whether the order works at the exchange now."""
        waits = order.order_type in AUCTION or order.tif == "OPG"
        waits |= order.order_type in STOPPED and not order.triggered
        return self.clock.stage is Stage.OPEN and not waits

    def _price(self, order: Order, middle: float) -> float:
        return self.terms.fill_price(
            self.clock.row, order.column, order.side, order.remaining, middle
        )

    def _meet_open(self, order: Order) -> None:
        quoted = self.clock.traded(order.column)
        if order.tif == "OPG" and not quoted:
            self.finish(order, CANCELLED)
        elif quoted and order.order_type not in AUCTION:
            self._meet_price(order, self.clock.price(order.column))
        if order.is_open and order.tif in ("OPG", "IOC"):
            self.finish(order, CANCELLED)
        elif order.is_open and order.status == PRE_SUBMITTED and self._is_live(order):
            self._work(order)

    def _meet_quote(self, order: Order) -> None:
        """Let an order that arrives while the market is open meet the quote."""
        waits = order.order_type in AUCTION or order.tif == "OPG"
        if self.clock.stage is not Stage.OPEN or waits:
            return
        if self.clock.traded(order.column):
            self._meet_price(order, self.clock.price(order.column))
        if order.is_open and order.tif == "IOC":
            self.finish(order, CANCELLED)

    def _meet_price(self, order: Order, middle: float) -> None:
        if order.order_type in STOPPED and not order.triggered:
            if not order.stop_reached(middle):
                return
            order.triggered = True
        price = self._price(order, middle)
        if order.accepts(price):
            self.take(order, price)
        elif order.status == PRE_SUBMITTED and self._is_live(order):
            self._work(order)

    def _meet_close(self, order: Order) -> None:
        row, column, prices = self.clock.row, order.column, self.clock.prices
        close = float(prices.close[row, column])
        best, worst = prices.low[row, column], prices.high[row, column]
        if order.side < 0:
            best, worst = worst, best
        if order.order_type in AUCTION or order.order_type == "MKT":
            self._meet_price(order, close)
        elif order.order_type == "STP" and order.stop_reached(float(worst)):
            assert order.stop is not None
            order.triggered = True
            self.take(order, self._price(order, order.stop))
        elif order.order_type == "STP LMT" and not order.triggered:
            # Whether the limit was reached before or after the stop is not in a daily bar.
            order.triggered = order.stop_reached(float(worst))
            if order.triggered:
                self._meet_price(order, close)
        elif order.limit is not None and order.accepts(float(best)):
            self.take(order, order.limit)

    def _work(self, order: Order) -> None:
        order.status = SUBMITTED
        self._keep(order)
        self._emit("work", [self.shown(order), self.status(order)], order=order)

    def take(self, order: Order, price: float) -> None:
        """Fill what is left of an order at a price, in as many parts as faults want."""
        parts = [order.remaining]
        if self.interference is not None:
            parts = self.interference.parts(order)
        for shares in parts:
            if shares and order.is_open:
                self.fill(order, shares, price)

    def _execute(self, order: Order, shares: int, price: float) -> Fill:
        order.filled += shares
        order.value += shares * price
        order.last_price = price
        whole = round(self.terms.commission(order.filled, order.value), 2)
        fee = max(0.0, round(whole - order.fees, 2))
        order.fees += fee
        realised = self.account.trade(order.column, order.side * shares, price, fee)
        order.status = SUBMITTED
        if not order.remaining:
            order.status, order.done_ns = FILLED, self.clock.now_ns()
        fill = Fill(
            exec_id=f"0000e0d5.{len(self.fills) - self.ids_from + 1:08x}.01.01",
            perm_id=order.perm_id,
            client_id=order.client_id,
            order_id=order.order_id,
            column=order.column,
            side=order.side,
            shares=shares,
            price=price,
            time_ns=self._fill_time(),
            cumulated=order.filled,
            average=order.average,
            reference=order.reference,
            commission=fee,
            realised=realised,
        )
        self.fills.append(fill)
        self._journal.write("fill", fill=fill.row())
        self._keep(order)
        self._keep_account()
        return fill

    def _fill_time(self) -> int:
        if self.clock.stage is Stage.CLOSED:
            return self.clock.starts_ns(self.clock.row, Stage.CLOSED)
        return self.clock.now_ns()

    def _is_today(self, time_ns: int) -> bool:
        return self.clock.local(time_ns).date() == self.clock.local().date()

    def _keep(self, order: Order) -> None:
        self._journal.write("order", order=order.row())

    def _keep_account(self) -> None:
        self._journal.write("account", account=self.account.row())

    def _recall(self, fact: Mapping[str, Any]) -> None:
        match fact["kind"]:
            case "order":
                order = Order(**fact["order"])
                self.orders[order.perm_id] = order
                self._by_client[order.client_id, order.order_id] = order
                self._live[order.perm_id] = order
            case "fill":
                self.fills.append(Fill(**fact["fill"]))
            case "revision":
                ids = [fill.exec_id for fill in self.fills]
                self.fills[ids.index(fact["old"])] = Fill(**fact["fill"])
            case "account":
                self.account.restore(fact["account"])
            case "ids":
                self._next_ids[fact["client_id"]] = fact["next_id"]
