"""The order desk: the journal, our own orders and the link, kept in agreement with the broker.

1. `submit` writes an intent to the journal, and only then hands the order to the wire, once.
2. Every message of the wire about orders goes to `OwnOrders`, as it comes; what follows is told.
3. After every event of the link, while anything is unclear, and from time to time `_resync` asks
   for the broker's lists: everybody's open orders, today's completed ones, executions, positions.
4. An order that was sent and is in none of the lists, in two rounds some time apart, on the day on
   which it was written, never reached the broker: it is rejected. Nothing else proves anything;
   what is not proven halts.

Nothing is sent while the link is down, before the first resync after it came back, or after a halt.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ib_async import CommissionReport, Contract, OrderState
from ib_async import Execution as WireExecution
from ib_async import Order as WireOrder

from adapters.ib.config import DeskParams
from adapters.ib.errors import ErrorKind, LinkDown, of_order, of_system
from adapters.ib.halt import Halt, HaltReason
from adapters.ib.journal import Intent, Journal
from adapters.ib.link import Link, LinkEvent, Position
from adapters.ib.orders import (
    Accepted,
    Alert,
    Cancelled,
    CommissionCorrected,
    CommissionSeen,
    ErrorSeen,
    Event,
    FillCorrected,
    Filled,
    Message,
    ModifyRejected,
    OwnOrder,
    OwnOrders,
    Rejected,
    Standing,
    StatusSeen,
    Terms,
    replayed,
)
from adapters.ib.translation import execution_seen, order_seen, wire_contract, wire_order
from prometheus_nt.domain.errors import GateRefusal, PrometheusError, TradingHalted

log = logging.getLogger(__name__)

NEVER_REACHED = "never reached the broker"
NEVER_WRITTEN = "the connection ended before it was sent"

_REFUSALS = {
    ErrorKind.REJECT: "reject",
    ErrorKind.MODIFY_REJECT: "modify_reject",
    ErrorKind.CANCEL_REJECT: "cancel_reject",
}


@dataclass(frozen=True)
class Picture:
    """What the broker's lists said at one time.

    Attributes
    ----------
    began, ended : float
        Monotonic seconds.
    day : str
        The broker's day.
    refs, open_refs : frozenset of str
        References in any list, and of open orders.
    perm_ids : frozenset of int
        Permanent ids in any list.
    """

    began: float
    ended: float
    day: str
    refs: frozenset[str]
    open_refs: frozenset[str]
    perm_ids: frozenset[int]
    positions: tuple[Position, ...]


@dataclass
class _Wait:
    """What the desk waits for of one order: since when it is sent, and since when it is absent."""

    sent: float
    looked_up: float = field(default=float("-inf"))
    absent: float | None = None


Tell = Callable[[Event], None]


class OrderDesk:
    """Sends each order once, and finds out what became of it.

    Parameters
    ----------
    link : Link
    journal : Journal
        Of the link's account and client id.
    tell : function of an event
        Called for everything that happens to an order, in a legal order; alerts and halts as well.
    params : DeskParams
    """

    def __init__(
        self, link: Link, journal: Journal, tell: Tell, params: DeskParams | None = None
    ) -> None:
        self.link, self.journal, self._tell = link, journal, tell
        self.params = params or DeskParams()
        self.orders = OwnOrders(link.params.account)
        self.halts: list[Halt] = []
        self.picture: Picture | None = None
        self._client_id = link.params.client_id
        self._waits: dict[str, _Wait] = {}
        self._told_of_waiting: set[str] = set()
        self._cancelled_again: set[str] = set()
        self._broker_clock: tuple[datetime, float] | None = None
        self._fresh = False
        self._epoch = 0
        self._wanted = asyncio.Event()
        self._settled = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._removes: list[Callable[[], None]] = []
        self._after: list[Callable[[Picture], None]] = []
        self._recall()

    @property
    def ready(self) -> bool:
        """Whether an order may be sent now."""
        return not self.why_not()

    def why_not(self) -> str:
        """Return why no order may be sent now; empty if it may."""
        if self.halts:
            return f"trading is halted: {self.halts[0]}"
        if not self.link.ready:
            return f"the link is {self.link.state}: {self.link.reason}"
        return "" if self._fresh else "the broker's lists have not been read since the link is up"

    def on_picture(self, look: Callable[[Picture], None]) -> None:
        """Call `look` after every resync."""
        self._after.append(look)

    async def start(self) -> None:
        """Connect, and learn what became of what the journal knows.

        Raises
        ------
        ConfigError
            If the gateway does not manage the account.
        LinkDown
            If there is no gateway.
        """
        for name, handler in self._handlers().items():
            self._removes.append(self.link.on_message(name, handler))
        self._removes.append(self.link.on_event(self._on_link))
        await self.link.start()
        self._want_resync()
        for job in (self._tick, self._keep_in_step):
            self._tasks.append(asyncio.create_task(job(), name=f"ib {job.__name__}"))
        await self.resynced(self.link.params.start_timeout_seconds)

    async def stop(self) -> None:
        """Stop listening; orders at the broker live on."""
        for remove in self._removes:
            remove()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def resynced(self, seconds: float) -> None:
        """Wait until the broker's lists were read since the link is up; TimeoutError if not."""
        async with asyncio.timeout(seconds), self._settled:
            await self._settled.wait_for(lambda: self._fresh)

    async def refreshed(self, seconds: float) -> Picture:
        """Return what the broker's lists say from now on; TimeoutError if they do not in time."""
        asked = time.monotonic()
        self._want_resync()
        async with asyncio.timeout(seconds), self._settled:
            await self._settled.wait_for(lambda: self._fresh and self._is_newer(asked))
        assert self.picture is not None
        return self.picture

    def _is_newer(self, than: float) -> bool:
        return self.picture is not None and self.picture.began >= than

    def today(self) -> str:
        """Return the broker's day, as far as we know its clock."""
        if self._broker_clock is None:
            return ""
        then, at = self._broker_clock
        zone = ZoneInfo(self.link.params.time_zone)
        moment = then + timedelta(seconds=time.monotonic() - at)
        return f"{moment.astimezone(zone):%Y-%m-%d}"

    def submit(self, *intents: Intent) -> None:
        """Send orders that were never sent before.

        Raises
        ------
        GateRefusal
            If nothing may be sent now, or an order is of another account; nothing was sent.
        VenueError
            If a reference was used before; nothing was sent.
        TradingHalted
            If the journal cannot be written; nothing was sent.
        """
        for intent in intents:
            self._require(intent)
        try:
            self.journal.intend(*intents)
        except TradingHalted as broken:
            self._halt(Halt(HaltReason.JOURNAL, intents[0].ref, str(broken)))
            raise
        for intent in intents:
            self._send(intent)

    def require_new(self, ref: str) -> None:
        """Raise VenueError if an order of this reference was written before."""
        self.journal.require_new(ref)

    def intent(self, **fields: Any) -> Intent:
        """Return an intent of this account and client id, with a new order id, written today."""
        return Intent(
            account=self.link.params.account,
            client_id=self._client_id,
            order_id=self.link.next_id(),
            day=self.today(),
            written_ns=time.time_ns(),
            **fields,
        )

    def modify(self, ref: str, terms: Terms) -> None:
        """Ask for other terms of an order; what comes of it is told.

        Raises
        ------
        GateRefusal
            If that cannot be asked now.
        """
        order = self._working(ref)
        quantity, limit, stop = terms
        wanted = replace(self.journal.intents[ref], quantity=quantity, limit=limit, stop=stop)
        self.journal.write("modify", ref=ref, quantity=quantity, limit=limit, stop=stop)
        order.wanted_terms = terms
        self._wait_of(order).sent = time.monotonic()
        contract = wire_contract(wanted.contract)
        self.link.place_order(order.order_id, contract, wire_order(wanted))

    def cancel(self, ref: str) -> None:
        """Ask for the end of an order; what comes of it is told.

        Raises
        ------
        GateRefusal
            If that cannot be asked now.
        """
        order = self._working(ref)
        self.journal.note("cancel", ref=ref)
        order.cancelling = True
        self._wait_of(order).sent = time.monotonic()
        self.link.cancel_order(order.order_id)

    def acknowledge(self, by: str) -> None:
        """Let orders be sent again: somebody has looked at every halt.

        An order that the lists do not explain counts as over from here; had it been filled, the
        positions would say so.
        """
        self.journal.write("acknowledged", by=by, halts=[str(halt) for halt in self.halts])
        lost = [halt.ref for halt in self.halts if halt.reason is HaltReason.UNRESOLVED_ORDER]
        self.halts.clear()
        for ref in lost:
            self._give_up(ref, by)

    def _give_up(self, ref: str, by: str) -> None:
        order = self.orders.by_ref.get(ref)
        if order is None or order.told.is_final:
            return
        if order.was_accepted:
            order.ended = True
        else:
            order.refusals[0] = f"{by} found that the broker does not have it"
        self._settle()

    def halt(self, reason: HaltReason, ref: str, detail: str) -> None:
        """Stop sending orders, for a reason that was found elsewhere."""
        self._emit([Halt(reason, ref, detail)])

    # -- the journal

    def _recall(self) -> None:
        """Rebuild our orders from the journal; what was told before is not told again."""
        now = time.monotonic()
        recall(self.orders, list(self.journal.records()), self._client_id)
        for ref in self.journal.intents:
            self._waits[ref] = _Wait(sent=now - self.params.answer_seconds)
        for record in self.journal.records():
            match record["kind"]:
                case "halt":
                    reason = HaltReason[record["reason"]]
                    self.halts.append(Halt(reason, record["about"], record["detail"]))
                case "acknowledged":
                    self.halts.clear()

    def _keep(self, event: Event) -> None:
        """Write to the journal what was told."""
        match event:
            case Accepted(ref, perm_id):
                self.journal.note("accepted", ref=ref, perm_id=perm_id)
            case Rejected(ref, code, text):
                self.journal.note("rejected", ref=ref, code=code, text=text)
            case Cancelled(ref):
                self.journal.note("cancelled", ref=ref)
            case Halt(reason, ref, detail):
                self.journal.write("halt", reason=reason.name, about=ref, detail=detail)
            case Filled() | FillCorrected() | CommissionCorrected():
                self._keep_fill(event)

    def _keep_fill(self, event: Filled | FillCorrected | CommissionCorrected) -> None:
        match event:
            case Filled(ref, _, execution, fee):
                self.journal.note("execution", **asdict(execution) | {"ref": ref})
                if fee is not None:
                    self._note_fee(execution.exec_id, fee)
            case FillCorrected(ref, _, after):
                self.journal.note("execution", **asdict(after) | {"ref": ref})
            case CommissionCorrected(_, execution, _, amount):
                self._note_fee(execution.exec_id, amount)

    def _note_fee(self, exec_id: str, amount: float) -> None:
        self.journal.note("commission", exec_id=exec_id, amount=amount, currency="")

    # -- sending

    def _require(self, intent: Intent) -> None:
        problem = self.why_not()
        if problem:
            raise GateRefusal("link", problem)
        if intent.account != self.link.params.account:
            raise GateRefusal("account", f"order {intent.ref} is of another account")

    def _send(self, intent: Intent) -> None:
        self.orders.expect(_own(intent))
        # While it waits for its turn on the wire no list can have it.
        self._waits[intent.ref] = _Wait(sent=float("inf"))
        contract = wire_contract(intent.contract)
        try:
            sent = self.link.place_order(intent.order_id, contract, wire_order(intent))
        except LinkDown:
            # Not from here: whoever submits has yet to say that it did.
            asyncio.get_running_loop().call_soon(self._refuse, intent.ref, NEVER_WRITTEN)
            return
        sent.add_done_callback(lambda future: self._on_sent(intent.ref, future))

    def _on_sent(self, ref: str, sent: "asyncio.Future[bool]") -> None:
        self._waits[ref].sent = time.monotonic()
        if not sent.cancelled() and not sent.result():
            self._refuse(ref, NEVER_WRITTEN)

    def _refuse(self, ref: str, text: str) -> None:
        """Reject an order of which is proven that the broker does not have it."""
        order = self.orders.by_ref[ref]
        order.refusals[0] = text
        self._settle()

    def _working(self, ref: str) -> OwnOrder:
        order = self.orders.by_ref.get(ref)
        if not self.link.ready:
            raise GateRefusal("link", f"the link is {self.link.state}: {self.link.reason}")
        if order is None or order.told.is_final:
            state = "unknown" if order is None else order.told.value
            raise GateRefusal("order", f"{ref} is {state}")
        if order.client_id != self._client_id:
            raise GateRefusal("order", f"{ref} is of client {order.client_id}")
        return order

    # -- hearing

    def _handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "openOrder": self._on_open_order,
            "completedOrder": self._on_completed_order,
            "orderStatus": self._on_status,
            "execDetails": self._on_execution,
            "commissionReport": self._on_commission,
            "error": self._on_error,
            "unreadable": self._on_unreadable,
        }

    def _on_open_order(
        self, _: int, contract: Contract, order: WireOrder, state: OrderState
    ) -> None:
        if not order.whatIf:
            self._hear(order_seen(contract, order, state.status))

    def _on_completed_order(self, contract: Contract, order: WireOrder, state: OrderState) -> None:
        self._hear(order_seen(contract, order, state.status, completed=True))

    def _on_status(self, *values: Any) -> None:
        order_id, status, filled, _, _, perm_id, _, _, client_id, why_held = values[:10]
        self._hear(StatusSeen(perm_id, client_id, order_id, status, int(filled), why_held))

    def _on_execution(self, _: int, contract: Contract, execution: WireExecution) -> None:
        self._hear(execution_seen(contract, execution))

    def _on_commission(self, report: CommissionReport) -> None:
        self._hear(CommissionSeen(report.execId, report.commission, report.currency))

    def _on_error(self, number: int, code: int, text: str, _: str) -> None:
        if number == -1:
            if of_system(code) is ErrorKind.PACING:
                # One of our messages was dropped, and nobody says which.
                self._want_resync()
            return
        order = self.orders.find(self._client_id, number)
        kind = _REFUSALS.get(of_order(code))
        if order is None or kind is None:
            log.info("ib order %d: code %d", number, code)
            return
        self._hear(ErrorSeen(number, code, text, kind))  # type: ignore[arg-type]
        if kind == "cancel_reject":
            self._want_resync()

    def _on_unreadable(self, fields: Sequence[str]) -> None:
        self._emit([Alert("", f"a message of kind {fields[:1]} cannot be read")])
        self._want_resync()

    def _hear(self, message: Message) -> None:
        self._emit(self.orders.hear(message, time.monotonic(), self._client_id))

    def _settle(self) -> None:
        self._emit(self.orders.settle(time.monotonic()))

    def _emit(self, events: Sequence[Event]) -> None:
        for event in events:
            self._keep(event)
            if isinstance(event, Halt):
                self.halts.append(event)
            self._tell(event)

    def _halt(self, halt: Halt) -> None:
        """Halt when not even that can be written."""
        self.halts.append(halt)
        self._tell(halt)

    # -- staying in step

    def _on_link(self, event: LinkEvent, _: str) -> None:
        self._fresh = False
        self._epoch += 1
        self._cancelled_again.clear()
        if event is not LinkEvent.LOST:
            self._want_resync()

    def _want_resync(self) -> None:
        self._wanted.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.params.tick_seconds)
            self._settle()
            if self._is_due(time.monotonic()):
                self._want_resync()

    def _is_due(self, now: float) -> bool:
        """Return whether something is unclear, or nothing was looked at for long."""
        if not self.link.ready or self.picture is None:
            return False
        if now - self.picture.ended >= self.params.resync_seconds:
            return True
        return any(self._is_unclear(order, now) for order in self.orders.unfinished())

    def _is_unclear(self, order: OwnOrder, now: float) -> bool:
        wait = self._wait_of(order)
        if order.is_halted:
            return False
        if wait.absent is not None:
            return now - wait.looked_up >= self.params.apart_seconds
        waits = order.told is Standing.SENT or order.cancelling or order.wanted_terms is not None
        patience = (
            self.params.retry_seconds if order.lacks_executions else self.params.answer_seconds
        )
        since = max(wait.sent, wait.looked_up)
        return (waits or order.lacks_executions) and now - since >= patience

    def _wait_of(self, order: OwnOrder) -> _Wait:
        return self._waits.setdefault(order.ref, _Wait(sent=time.monotonic()))

    async def _keep_in_step(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not self.link.ready:
                continue
            try:
                await self._resync()
            except PrometheusError as failed:
                log.warning(
                    "ib resync failed, again in %g s: %s", self.params.retry_seconds, failed
                )
                await asyncio.sleep(self.params.retry_seconds)
                self._want_resync()

    async def _resync(self) -> None:
        """Read the broker's lists, and draw what follows from them."""
        epoch, began = self._epoch, time.monotonic()
        clock = await self.link.server_time()
        # In this order an order that ends meanwhile is in one list or in the other.
        opened = await self.link.open_orders(of_everybody=True)
        completed = await self.link.completed_orders()
        executed = await self.link.executions()
        positions = await self.link.positions()
        self._broker_clock = (clock, time.monotonic())
        rows = [*(row.order for row in opened), *(row.order for row in completed)]
        traded = [row.execution for row in executed]
        refs = [*(order.orderRef for order in rows), *(fill.orderRef for fill in traded)]
        perm_ids = [*(order.permId for order in rows), *(fill.permId for fill in traded)]
        self.picture = Picture(
            began=began,
            ended=time.monotonic(),
            day=self.today(),
            refs=frozenset(refs),
            open_refs=frozenset(row.order.orderRef for row in opened),
            perm_ids=frozenset(perm_ids),
            positions=tuple(positions),
        )
        if epoch != self._epoch:
            self._want_resync()
            return
        self._draw(self.picture)
        async with self._settled:
            self._fresh = True
            self._settled.notify_all()

    def _draw(self, picture: Picture) -> None:
        """Resolve what is unclear by what the lists say."""
        self._settle()
        for order in self.orders.unfinished():
            wait = self._wait_of(order)
            if wait.sent >= picture.began:
                continue
            wait.looked_up = picture.ended
            if order.ref in picture.refs or order.perm_id in picture.perm_ids:
                wait.absent = None
                self._chase(order, picture)
            else:
                self._miss(order, wait, picture)
        for look in self._after:
            look(picture)

    def _chase(self, order: OwnOrder, picture: Picture) -> None:
        """Ask again for what had no answer, if that can be asked twice without harm."""
        if order.ref not in picture.open_refs:
            return
        if order.wanted_terms is not None:
            order.wanted_terms = None
            self._emit([ModifyRejected(order.ref, 0, "no answer, and the order is as it was")])
        if order.cancelling and order.ref not in self._cancelled_again:
            self._cancelled_again.add(order.ref)
            self.link.cancel_order(order.order_id)
        elif order.cancelling and order.ref not in self._told_of_waiting:
            self._told_of_waiting.add(order.ref)
            self._emit([Alert(order.ref, "its cancel has no answer; the order still works")])

    def _miss(self, order: OwnOrder, wait: _Wait, picture: Picture) -> None:
        """Resolve an order that is in none of the lists."""
        if wait.absent is None:
            wait.absent = picture.ended
        if picture.began - wait.absent < self.params.apart_seconds:
            return
        intent = self.journal.intents[order.ref]
        if order.told is Standing.SENT and not order.was_accepted and intent.day == picture.day:
            self._refuse(order.ref, NEVER_REACHED)
            return
        seen = f"written on {intent.day}, told as {order.told.value}, today is {picture.day}"
        self._emit(order.halt(HaltReason.UNRESOLVED_ORDER, f"in none of the lists; {seen}"))


def recall(orders: OwnOrders, records: Sequence[Mapping[str, Any]], client_id: int) -> None:
    """Bring orders to where the records of a journal say that they stood; nothing is told."""
    now = time.monotonic()
    for record in records:
        if record["kind"] == "intent":
            orders.expect(_own(Intent(**record["order"])))
    for record in records:
        _recall_one(orders, record)
    for message in replayed(records):
        orders.hear(message, now, client_id)
    orders.tell_all(now)


def _recall_one(orders: OwnOrders, record: Mapping[str, Any]) -> None:
    order = orders.by_ref.get(record.get("ref", ""))
    match record["kind"]:
        case "accepted" if order is not None:
            order.perm_id, order.live = record["perm_id"], True
            orders.expect(order)
        case "rejected" if order is not None:
            order.refusals[record["code"]] = record["text"]
        case "cancelled" if order is not None:
            order.ended = True


def _own(intent: Intent) -> OwnOrder:
    return OwnOrder(
        ref=intent.ref,
        client_id=intent.client_id,
        order_id=intent.order_id,
        side=intent.side,
        quantity=intent.quantity,
        limit=intent.limit,
        stop=intent.stop,
    )
