"""Interactive Brokers as a venue of a Nautilus node: commands to the desk, its events to the node.

1. A command becomes an intent of the desk, or is denied with a reason; it never waits in silence.
2. What the desk tells becomes an event of the order, if the node knows it, and else a report.
3. Reports say what was told, never more: a fill reaches the node as an event or in a report, once.
4. After every resync the node's positions are compared with the broker's; a break that stays halts.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import (
    BatchCancelOrders,
    CancelAllOrders,
    CancelOrder,
    GenerateFillReports,
    GenerateOrderStatusReport,
    GenerateOrderStatusReports,
    GeneratePositionStatusReports,
    ModifyOrder,
    QueryAccount,
    SubmitOrder,
    SubmitOrderList,
)
from nautilus_trader.execution.reports import (
    ExecutionMassStatus,
    FillReport,
    OrderStatusReport,
    PositionStatusReport,
)
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.model.enums import AccountType, LiquiditySide, OmsType, OrderSide
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientId,
    ClientOrderId,
    InstrumentId,
    TradeId,
    Venue,
)
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.orders import Order

from adapters.ib.account import AccountValues
from adapters.ib.config import DeskParams
from adapters.ib.data import NodeParts
from adapters.ib.desk import OrderDesk, Picture
from adapters.ib.halt import Halt, HaltReason, OnHalt
from adapters.ib.journal import Intent, Journal
from adapters.ib.link import Link, LinkEvent
from adapters.ib.orders import (
    Accepted,
    Alert,
    Cancelled,
    CancelRejected,
    CommissionCorrected,
    Event,
    FillCorrected,
    Filled,
    ModifyRejected,
    OwnOrder,
    Rejected,
    Standing,
    Told,
    Updated,
)
from adapters.ib.provider import IbInstrumentProvider, Known
from adapters.ib.reports import Reporter, venue_order_id
from adapters.ib.translation import exact_price, nautilus_side, wanted, whole_shares
from prometheus_nt.domain.errors import GateRefusal, PrometheusError, VenueError


@dataclass(frozen=True)
class TradingParts:
    """What the execution client shares with the rest of the process.

    Attributes
    ----------
    link : Link
        Not the client's own: whoever made it closes it.
    journal : Journal
        Of the link's account and client id.
    on_halt : function of a Halt
        The node's safety layer; called once for each reason.
    position_seconds : float
        For which a difference of positions must stay: positions lag behind executions.
    account_seconds : float
        In which the account must have been told at the start.
    quiet_seconds : float
        For which account values must be at rest before they become an event.
    """

    link: Link
    provider: IbInstrumentProvider
    journal: Journal
    on_halt: OnHalt
    desk: DeskParams = field(default_factory=DeskParams)
    position_seconds: float = 10.0
    account_seconds: float = 15.0
    quiet_seconds: float = 1.0


class IbExecutionClient(LiveExecutionClient):
    """Orders, fills, positions and the account over a shared link.

    Parameters
    ----------
    parts : TradingParts
    node : NodeParts
    """

    def __init__(self, parts: TradingParts, node: NodeParts) -> None:
        super().__init__(
            loop=node.loop,
            client_id=ClientId(node.name),
            venue=Venue(node.name),
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=None,
            instrument_provider=parts.provider,
            msgbus=node.msgbus,
            cache=node.cache,
            clock=node.clock,
        )
        # An instrument's venue is its exchange; the account is the broker's, for all of them.
        node.cache.set_specific_venue(Venue(node.name))
        self._parts, self._provider = parts, parts.provider
        account = parts.link.params.account
        self._set_account_id(AccountId(f"{node.name}-{account}"))
        self.desk = OrderDesk(parts.link, parts.journal, self._on_told, parts.desk)
        self._values = AccountValues(account, parts.quiet_seconds)
        self._account_known = asyncio.Event()
        self._speaks = self._reconciled = False
        self._waiting: list[Order] = []
        self._breaks: dict[InstrumentId, tuple[float, int]] = {}

    # -- connection

    async def _connect(self) -> None:
        link = self._parts.link
        await link.start()
        await self._provider.load_all_async()
        for equity in self._provider.list_all():
            if self._cache.instrument(equity.id) is None:
                self._cache.add_instrument(equity)
        self._listen()
        await self.desk.start()
        self.create_task(self._publish_account(), log_msg="ib account")
        try:
            async with asyncio.timeout(self._parts.account_seconds):
                await self._account_known.wait()
        except TimeoutError:
            raise VenueError(
                f"ib: no account values within {self._parts.account_seconds:g} seconds; nothing "
                "may be traded on an account whose value is not known; look at the gateway"
            ) from None
        await self._await_account_registered()
        self._speaks = True

    def _listen(self) -> None:
        link = self._parts.link
        link.on_message("updateAccountValue", self._on_account_value)
        link.on_message("accountDownloadEnd", lambda _: self._values.end(time.monotonic()))
        link.on_event(self._on_link)
        self.desk.on_picture(self._compare_positions)
        self._subscribe_account()

    async def _disconnect(self) -> None:
        await self.desk.stop()

    def _on_link(self, event: LinkEvent, _: str) -> None:
        if event in (LinkEvent.UP, LinkEvent.RESTORED_DATA_LOST) and self._parts.link.ready:
            self._subscribe_account()

    # -- the account

    def _subscribe_account(self) -> None:
        account = self._parts.link.params.account
        self._parts.link.send(
            "account updates", lambda client: client.reqAccountUpdates(True, account)
        )

    def _on_account_value(self, key: str, value: str, currency: str, account: str) -> None:
        self._values.take(key, value, currency, account, time.monotonic())

    async def _publish_account(self) -> None:
        while True:
            await asyncio.sleep(self._parts.desk.tick_seconds)
            if self._values.is_due(time.monotonic()):
                self._tell_account()

    def _tell_account(self) -> None:
        picture = self._values.picture()
        if picture is None:
            self._log.warning("account values without total or free funds: not told")
            return
        self.generate_account_state(
            balances=picture.balances,
            margins=picture.margins,
            reported=True,
            ts_event=self._clock.timestamp_ns(),
            info=dict(picture.info),
        )
        self._account_known.set()

    async def _query_account(self, command: QueryAccount) -> None:  # noqa: ARG002
        self._tell_account()

    # -- commands

    async def _submit_order(self, command: SubmitOrder) -> None:
        # One write to the disk for all orders that come in one breath, not one for each.
        if not self._waiting:
            self._loop.call_soon(self._submit_waiting)
        self._waiting.append(command.order)

    async def _submit_order_list(self, command: SubmitOrderList) -> None:
        self._submit(command.order_list.orders)

    def _submit_waiting(self) -> None:
        """Send what has come; an order that may not be sent is denied alone."""
        waiting, self._waiting = self._waiting, []
        sendable = [order for order in waiting if self._is_sendable(order)]
        self._submit(sendable)

    def _is_sendable(self, order: Order) -> bool:
        try:
            wanted(order)
            self._known(order.instrument_id)
            self.desk.require_new(order.client_order_id.value)
        except PrometheusError as refusal:
            self._deny(order, str(refusal))
            return False
        return True

    def _deny(self, order: Order, reason: str) -> None:
        self.generate_order_denied(*_head(order), reason, self._now())

    def _submit(self, orders: Sequence[Order]) -> None:
        """Send orders, all of them or none."""
        if not orders:
            return
        try:
            self.desk.submit(*[self._intent(order) for order in orders])
        except PrometheusError as refusal:
            for order in orders:
                self._deny(order, str(refusal))
            return
        for order in orders:
            self.generate_order_submitted(*_head(order), self._now())

    def _intent(self, order: Order) -> Intent:
        asked, known = wanted(order), self._known(order.instrument_id)
        return self.desk.intent(
            ref=order.client_order_id.value,
            plan=asked.plan,
            instrument=known.instrument_id,
            contract=known.contract.conId,
            side=asked.side,
            quantity=asked.quantity,
            kind=asked.kind,
            tif=asked.tif,
            limit=asked.limit,
            stop=asked.stop,
            strategy=order.strategy_id.value,
            priority=asked.priority,
        )

    async def _modify_order(self, command: ModifyOrder) -> None:
        ref = command.client_order_id.value
        try:
            own = self._own(ref)
            quantity, limit, stop = own.terms
            if command.quantity is not None:
                quantity = whole_shares(command.quantity.as_decimal())
            limit, stop = _changed(command.price, limit), _changed(command.trigger_price, stop)
            self.desk.modify(ref, (quantity, limit, stop))
        except PrometheusError as refusal:
            order = self._cache.order(command.client_order_id)
            if order is not None and not order.is_closed:
                self.generate_order_modify_rejected(
                    *_head(order), order.venue_order_id, str(refusal), self._now()
                )

    async def _cancel_order(self, command: CancelOrder) -> None:
        self._cancel(command.client_order_id)

    async def _cancel_all_orders(self, command: CancelAllOrders) -> None:
        for order in self._cache.orders_open(
            instrument_id=command.instrument_id, strategy_id=command.strategy_id
        ):
            if command.order_side in (OrderSide.NO_ORDER_SIDE, order.side):
                self._cancel(order.client_order_id)

    async def _batch_cancel_orders(self, command: BatchCancelOrders) -> None:
        for cancel in command.cancels:
            self._cancel(cancel.client_order_id)

    def _cancel(self, client_order_id: ClientOrderId) -> None:
        try:
            self.desk.cancel(client_order_id.value)
        except PrometheusError as refusal:
            order = self._cache.order(client_order_id)
            if order is not None and not order.is_closed:
                self.generate_order_cancel_rejected(
                    *_head(order), order.venue_order_id, str(refusal), self._now()
                )

    # -- what the desk tells

    def _on_told(self, event: Event) -> None:
        match event:
            case Halt():
                self._log.error(str(event))
                self._parts.on_halt(event)
            case Alert() | FillCorrected() | CommissionCorrected():
                self._log.warning(str(event))
            case _ if self._speaks:
                self._tell(event)

    def _tell(self, event: Told) -> None:
        order = self._cache.order(ClientOrderId(event.ref))
        if order is None:
            # The node does not know it, as after a restart: a report makes it known, fills and all.
            self._send_mass_status_report(self._status_of([self._own(event.ref)]))
        elif isinstance(event, Filled):
            self._tell_fill(order, event)
        else:
            self._tell_change(order, event)

    def _tell_change(self, order: Order, event: Told) -> None:
        head, venue_id = _head(order), venue_order_id(self._own(event.ref))
        match event:
            case Accepted():
                self.generate_order_accepted(*head, venue_id, self._now())
            case Rejected(_, code, text):
                self.generate_order_rejected(*head, f"{code} {text}", self._now())
            case Cancelled():
                self.generate_order_canceled(*head, venue_id, self._now())
            case ModifyRejected(_, code, text):
                self.generate_order_modify_rejected(*head, venue_id, f"{code} {text}", self._now())
            case CancelRejected(_, code, text):
                self.generate_order_cancel_rejected(*head, venue_id, f"{code} {text}", self._now())
            case Updated(_, quantity, limit, stop):
                self.generate_order_updated(
                    *head,
                    venue_id,
                    Quantity.from_int(quantity),
                    None if limit is None else exact_price(limit),
                    None if stop is None else exact_price(stop),
                    self._now(),
                )

    def _tell_fill(self, order: Order, event: Filled) -> None:
        fill, currency = event.execution, self._known(order.instrument_id).equity.quote_currency
        if event.commission is None:
            self._log.warning(f"{event.trade_id} of {event.ref}: its commission is not known")
        self.generate_order_filled(
            *_head(order),
            venue_order_id(self._own(event.ref)),
            None,
            TradeId(event.trade_id),
            nautilus_side(fill.side),
            order.order_type,
            Quantity.from_int(fill.shares),
            exact_price(fill.price),
            currency,
            Money(event.commission or 0.0, currency),
            LiquiditySide.TAKER,
            fill.at_ns,
        )

    # -- reports

    async def generate_mass_status(
        self, lookback_mins: int | None = None
    ) -> ExecutionMassStatus | None:
        """Report every order that works or is of today, its fills, and all positions."""
        await self._in_step()
        found = await super().generate_mass_status(lookback_mins)
        self._reconciled = found is not None
        return found

    async def generate_order_status_report(
        self, command: GenerateOrderStatusReport
    ) -> OrderStatusReport | None:
        """Report an order; None if it is not known, or nothing is known of it yet."""
        for order in self._reportable():
            ours = (
                command.client_order_id is not None and command.client_order_id.value == order.ref
            )
            if ours or command.venue_order_id == venue_order_id(order):
                return self._report(order)
        return None

    async def generate_order_status_reports(
        self, command: GenerateOrderStatusReports
    ) -> list[OrderStatusReport]:
        """Report every order that works or is of today."""
        reports = [
            self._report(order)
            for order in self._reportable()
            if not (command.open_only and order.told.is_final)
        ]
        return [r for r in reports if command.instrument_id in (None, r.instrument_id)]

    async def generate_fill_reports(self, command: GenerateFillReports) -> list[FillReport]:
        """Report the fills of every order that works or is of today."""
        found = [fill for order in self._reportable() for fill in self._fills(order)]
        return [
            fill
            for fill in found
            if command.instrument_id in (None, fill.instrument_id)
            and command.venue_order_id in (None, fill.venue_order_id)
        ]

    async def generate_position_status_reports(
        self, command: GeneratePositionStatusReports
    ) -> list[PositionStatusReport]:
        """Report what the broker holds, and that it holds nothing of what the node believes."""
        picture = self._picture()
        held = {row.contract.conId: row for row in picture.positions}
        reports = []
        for equity in self._provider.list_all():
            row = held.get(self._known(equity.id).contract.conId)
            is_asked = command.instrument_id in (None, equity.id)
            if is_asked and (row is not None or self._cache.positions_open(None, equity.id)):
                shares, cost = (0, 0.0) if row is None else (int(row.shares), row.average_cost)
                reports.append(self._reporter().position(equity, shares, cost))
        return reports

    def _reportable(self) -> list[OwnOrder]:
        """Return the orders that a report is about: they work, or are of the broker's day."""
        picture, intents = self._picture(), self.desk.journal.intents
        return [
            order
            for ref, order in self.desk.orders.by_ref.items()
            if order.told is not Standing.SENT
            and (not order.told.is_final or ref in picture.refs or intents[ref].day == picture.day)
            and self._provider.by_con_id(intents[ref].contract) is not None
        ]

    def _status_of(self, orders: Sequence[OwnOrder]) -> ExecutionMassStatus:
        status = ExecutionMassStatus(self.id, self.account_id, self.venue, UUID4(), self._now())
        status.add_order_reports([self._report(order) for order in orders])
        status.add_fill_reports([fill for order in orders for fill in self._fills(order)])
        return status

    def _report(self, order: OwnOrder) -> OrderStatusReport:
        intent = self.desk.journal.intents[order.ref]
        return self._reporter().order(order, intent, self._by_contract(intent).equity)

    def _fills(self, order: OwnOrder) -> list[FillReport]:
        intent = self.desk.journal.intents[order.ref]
        return self._reporter().fills(order, self._by_contract(intent).equity)

    async def _in_step(self) -> None:
        """Wait until the node has taken every fill that was told of orders that it knows."""
        for _ in range(100):
            if all(self._has_taken(order) for order in self.desk.orders.by_ref.values()):
                return
            await asyncio.sleep(0.01)

    def _has_taken(self, own: OwnOrder) -> bool:
        order = self._cache.order(ClientOrderId(own.ref))
        return order is None or round(order.filled_qty.as_double()) >= own.told_shares

    # -- positions

    def _compare_positions(self, picture: Picture) -> None:
        """Halt if the node and the broker have held different positions for a while."""
        if not self._reconciled or self._is_filling():
            return
        held = {row.contract.conId: int(row.shares) for row in picture.positions}
        for equity in self._provider.list_all():
            theirs = held.get(self._known(equity.id).contract.conId, 0)
            ours = self._net(equity.id)
            if ours == theirs:
                self._breaks.pop(equity.id, None)
                continue
            since, difference = self._breaks.setdefault(equity.id, (picture.ended, theirs - ours))
            if difference != theirs - ours:
                self._breaks[equity.id] = (picture.ended, theirs - ours)
            elif picture.ended - since >= self._parts.position_seconds:
                del self._breaks[equity.id]
                detail = f"the broker holds {theirs} shares, the node {ours}"
                self.desk.halt(HaltReason.POSITION_BREAK, str(equity.id), detail)

    def _is_filling(self) -> bool:
        orders = self.desk.orders.by_ref.values()
        return any(o.filled != o.told_shares and not o.is_halted for o in orders) or not all(
            self._has_taken(order) for order in orders
        )

    def _net(self, instrument_id: InstrumentId) -> int:
        positions = self._cache.positions_open(None, instrument_id)
        return int(sum((p.signed_decimal_qty() for p in positions), Decimal(0)))

    # -- look-ups

    def _known(self, instrument_id: InstrumentId) -> Known:
        found = self._provider.by_nautilus_id(instrument_id)
        if found is None:
            raise GateRefusal("instrument", f"{instrument_id} has no contract at the broker")
        return found

    def _by_contract(self, intent: Intent) -> Known:
        found = self._provider.by_con_id(intent.contract)
        if found is None:
            raise GateRefusal("instrument", f"contract {intent.contract} is not one of the node's")
        return found

    def _own(self, ref: str) -> OwnOrder:
        if ref not in self.desk.orders.by_ref:
            raise GateRefusal("order", f"{ref} was never sent")
        return self.desk.orders.by_ref[ref]

    def _picture(self) -> Picture:
        if self.desk.picture is None:
            raise VenueError("ib: the broker's lists have not been read yet; wait for the link")
        return self.desk.picture

    def _reporter(self) -> Reporter:
        return Reporter(self.account_id, self._now())

    def _now(self) -> int:
        return int(self._clock.timestamp_ns())


def _head(order: Order) -> tuple[object, object, object]:
    return order.strategy_id, order.instrument_id, order.client_order_id


def _changed(price: Price | None, before: float | None) -> float | None:
    return before if price is None else float(price.as_decimal())
