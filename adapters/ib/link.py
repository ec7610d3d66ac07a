"""The one link to a gateway: it connects, watches, reconnects, and says when the picture is stale.

1. `start` begins the only task that connects; it waits until the link is up, or refuses.
2. `_attempt` opens a `Wire`; the account that the gateway manages must be the one of the settings.
3. `_watch` asks for the time again and again: a stream that hangs is dropped as a dead one.
4. `_on_error` reads 1100, 1101, 1102 and 100; the socket stays as it is.
5. Whatever ends the wire is announced as LOST, and `_run` connects again, for ever.

After UP, RESTORED and RESTORED_DATA_LOST the broker's state may differ from what anybody here
believes: ask again. After UP and RESTORED_DATA_LOST no subscription is left at the gateway.
Everything runs in the loop in which `start` was awaited; listeners are called in the order in which
messages came, never from inside a call to the link.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from ib_async import (
    Contract,
    ContractDetails,
    Execution,
    ExecutionFilter,
    Order,
    OrderState,
)
from ib_async.client import Client

from adapters.ib.config import LinkParams, require_managed
from adapters.ib.errors import BrokerRefusal, ErrorKind, LinkDown, NoAnswer, of_request, of_system
from adapters.ib.pacing import MessageBudget
from adapters.ib.wire import Direction, Message, Tap, Wire
from prometheus_nt.domain.errors import ConfigError

CLIENT_ID_ALARM_SECONDS = 60.0
"""How long our id may be in use, as after an unclean end, before it is more than bad luck."""

log = logging.getLogger(__name__)


class LinkEvent(StrEnum):
    """What happened to the link.

    UP : connected anew; every subscription must be made again and every order asked for
    LOST : the socket is gone, or the gateway has lost the broker; nothing can be sent
    RESTORED : the gateway has the broker back; subscriptions live, orders must be asked for
    RESTORED_DATA_LOST : the same, and subscriptions are gone
    """

    UP = "UP"
    LOST = "LOST"
    RESTORED = "RESTORED"
    RESTORED_DATA_LOST = "RESTORED_DATA_LOST"


class LinkState(StrEnum):
    """DOWN: no socket. CUT: a socket, but the broker is out of reach. REFUSED: never again."""

    DOWN = "DOWN"
    UP = "UP"
    CUT = "CUT"
    REFUSED = "REFUSED"
    CLOSED = "CLOSED"


class OpenOrder(NamedTuple):
    """An order that works at the broker."""

    order_id: int
    contract: Contract
    order: Order
    state: OrderState


class CompletedOrder(NamedTuple):
    """An order of today that works no more; it has no order id, only `permId` and `orderRef`."""

    contract: Contract
    order: Order
    state: OrderState


class Executed(NamedTuple):
    """An execution of today; its commission comes as a `commissionReport` of its own."""

    contract: Contract
    execution: Execution


class Position(NamedTuple):
    """Shares held; the average cost contains commissions."""

    account: str
    contract: Contract
    shares: float
    average_cost: float


Listener = Callable[[LinkEvent, str], None]
Handler = Callable[..., None]
Remove = Callable[[], None]
Call = Callable[[Client], object]


class _Question:
    """What was asked, and the rows of the answer so far."""

    def __init__(self, what: str, row: str, end: str) -> None:
        self.what, self.row, self.end = what, row, end
        self.rows: list[tuple[Any, ...]] = []
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

    def take(self, message: Message) -> None:
        if message.name == self.row:
            self.rows.append(message.args)
        if message.name == self.end and not self.answer.done():
            self.answer.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            # Whoever asked may have gone; nobody else misses the answer.
            self.answer.exception()


class Link:
    """A connection that comes back by itself.

    Parameters
    ----------
    params : LinkParams
        Have passed their own guards; `require_live_key` is the caller's.
    monotonic, now, chance : clocks and a random number in [0, 1), for tests
    """

    def __init__(
        self,
        params: LinkParams,
        *,
        monotonic: Callable[[], float] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.params, self._monotonic = params, monotonic
        self._now, self._chance = now, chance
        self._state, self._reason = LinkState.DOWN, "it was not started"
        self._refusal: ConfigError | None = None
        self._accounts: tuple[str, ...] = ()
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_id = 1
        self._listeners: list[Listener] = []
        self._handlers: dict[str, list[Handler]] = {}
        self._taps: list[Tap] = []
        self._questions: dict[int | str, _Question] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._settled = asyncio.Event()

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def ready(self) -> bool:
        """Whether orders and questions can be sent now."""
        # A socket may have ended a moment before anybody has taken note of it.
        return self._state is LinkState.UP and self._wire is not None and not self._wire.has_ended

    @property
    def reason(self) -> str:
        """Why the link is in its state, in words."""
        return self._reason

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that the gateway manages."""
        return self._accounts

    @property
    def waiting(self) -> int:
        """Messages that wait for their turn to be sent."""
        return 0 if self._wire is None else self._wire.waiting

    def on_event(self, listener: Listener) -> Remove:
        """Call `listener(event, reason)` at each event; return how to stop that."""
        return _added(self._listeners, listener)

    def on_message(self, name: str, handler: Handler) -> Remove:
        """Call `handler(*values)` at each message `name`; return how to stop that.

        Names and values are those of the official interface: orderStatus, openOrder, execDetails,
        commissionReport, completedOrder, error, updateAccountValue, position, priceSizeTick, ...;
        `unreadable` comes with the fields of a message that could not be decoded.
        """
        return _added(self._handlers.setdefault(name, []), handler)

    def on_wire(self, tap: Tap) -> Remove:
        """Call `tap("in" or "out", fields)` at each message, as it is read or written."""
        return _added(self._taps, tap)

    async def start(self) -> None:
        """Connect, and go on connecting until `close`.

        Raises
        ------
        ConfigError
            If the gateway does not manage the account of the settings.
        LinkDown
            If it is not up after `start_timeout_seconds`; the link is closed again.
        """
        if self._task is not None:
            return await self.wait_ready(self.params.start_timeout_seconds)
        loop = asyncio.get_running_loop()
        clock = self._monotonic or loop.time
        self._budget = MessageBudget(self.params.messages_per_second, clock)
        self._task = asyncio.create_task(self._run(), name="ib link")
        self._task.add_done_callback(self._on_end)
        try:
            await self.wait_ready(self.params.start_timeout_seconds)
        except (ConfigError, LinkDown, asyncio.CancelledError):
            await self.close()
            raise

    async def wait_ready(self, seconds: float) -> None:
        """Wait until the link is up; raise `LinkDown` after `seconds`, or what refused it."""
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            raise self._down(f"wait of {seconds:g} seconds") from None
        if self._refusal is not None:
            raise self._refusal
        if self._state is not LinkState.UP:
            raise self._down("wait")

    async def close(self) -> None:
        """End the link for good; what was sent stays sent, what waits is dropped."""
        if self._task is None or self._state is LinkState.CLOSED:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._end_wire("the link is closed")
        self._become(LinkState.CLOSED, "it was closed")

    def next_id(self) -> int:
        """Return an id for an order or a request: greater than any before, over reconnects too."""
        self._next_id += 1
        return self._next_id - 1

    def send(self, what: str, call: Call) -> "asyncio.Future[bool]":
        """Hand one message to the wire: `call` is given the library's client.

        Returns
        -------
        future : True once it is written to the socket; False if the connection ended before, so
            that it surely was never sent

        Raises
        ------
        LinkDown
            If the link is not up.
        """
        if not self.ready or self._wire is None:
            raise self._down(what)
        call(self._wire)
        return self._wire.latest

    def place_order(
        self, order_id: int, contract: Contract, order: Order
    ) -> "asyncio.Future[bool]":
        """Send an order, or the change of one; see `send`."""
        return self.send(
            f"order {order_id}", lambda client: client.placeOrder(order_id, contract, order)
        )

    def cancel_order(self, order_id: int) -> "asyncio.Future[bool]":
        """Ask for the end of an order; see `send`."""
        return self.send(f"cancel {order_id}", lambda client: client.cancelOrder(order_id))

    async def ask(
        self, what: str, call: Callable[[Client, int], object], row: str, end: str
    ) -> list[tuple[Any, ...]]:
        """Send a request with an id of its own; return the values of each row of its answer.

        Parameters
        ----------
        call : function of the library's client and the request's id
        row, end : names of the messages that carry a row, and that end the answer

        Raises
        ------
        BrokerRefusal
            If the gateway answers with an error.
        NoAnswer
            If it does not answer in time.
        LinkDown
            If the link is not up, or goes down before the answer is whole.
        """
        number = self.next_id()
        return await self._await(what, number, _Question(what, row, end), lambda c: call(c, number))

    async def open_orders(self, *, of_everybody: bool = False) -> list[OpenOrder]:
        """Return the orders that work: this client's, or of all clients and by hand as well.

        One that changes meanwhile may be there twice; the later is newer.
        """

        def call(client: Client) -> None:
            client.reqAllOpenOrders() if of_everybody else client.reqOpenOrders()

        rows = await self._list("open orders", "openOrder", "openOrderEnd", call)
        return [OpenOrder(*row) for row in rows]

    async def completed_orders(self) -> list[CompletedOrder]:
        """Return today's orders that are over."""
        rows = await self._list(
            "completed orders",
            "completedOrder",
            "completedOrdersEnd",
            lambda client: client.reqCompletedOrders(False),
        )
        return [CompletedOrder(*row) for row in rows]

    async def executions(self) -> list[Executed]:
        """Return today's executions of the account, and have their commissions reported again."""
        wanted = ExecutionFilter(acctCode=self.params.account)
        rows = await self.ask(
            "executions",
            lambda client, number: client.reqExecutions(number, wanted),
            "execDetails",
            "execDetailsEnd",
        )
        return [Executed(contract, execution) for _, contract, execution in rows]

    async def positions(self) -> list[Position]:
        """Return what the account holds; for some seconds it may lag behind executions."""
        rows = await self._list(
            "positions", "position", "positionEnd", lambda client: client.reqPositions()
        )
        if self.ready:
            # The request is a subscription, of which we want the first answer.
            self.send("end of positions", lambda client: client.cancelPositions())
        return [Position(*row) for row in rows if row[0] == self.params.account]

    async def contract_details(self, contract: Contract) -> list[ContractDetails]:
        """Return every contract that fits; none is an empty list."""
        try:
            rows = await self.ask(
                f"contract {contract.symbol or contract.conId}",
                lambda client, number: client.reqContractDetails(number, contract),
                "contractDetails",
                "contractDetailsEnd",
            )
        except BrokerRefusal as refusal:
            if refusal.kind is ErrorKind.NO_DATA:
                return []
            raise
        return [details for _, details in rows]

    async def server_time(self) -> datetime:
        """Return the gateway's time, UTC."""
        rows = await self._list("time", "currentTime", "currentTime", lambda c: c.reqCurrentTime())
        return datetime.fromtimestamp(rows[-1][0], UTC)

    async def _list(self, what: str, row: str, end: str, call: Call) -> list[tuple[Any, ...]]:
        """Ask for a list whose messages carry no id, so that only one may be on its way."""
        async with self._locks.setdefault(row, asyncio.Lock()):
            return await self._await(what, row, _Question(what, row, end), call)

    async def _await(
        self, what: str, key: int | str, question: _Question, call: Call
    ) -> list[tuple[Any, ...]]:
        self._questions[key] = question
        seconds = self.params.request_timeout_seconds
        try:
            await self.send(what, call)
            async with asyncio.timeout(seconds):
                return await question.answer
        except TimeoutError:
            raise NoAnswer(what, seconds) from None
        finally:
            del self._questions[key]

    async def _run(self) -> None:
        attempt, refused_since = 0, None
        while self._refusal is None:
            wire, problem, in_use = await self._attempt()
            if wire is not None:
                attempt, refused_since = 0, None
                self._become(LinkState.UP, "connected")
                self._announce(LinkEvent.UP, "connected")
                await self._lose(await self._watch(wire))
            elif self._refusal is None:
                attempt += 1
                refused_since = self._note_client_id(in_use, refused_since)
                if problem != self._reason:
                    self._tell(f"cannot connect, and will try again: {problem}")
                self._become(LinkState.DOWN, problem)
                await asyncio.sleep(self._pause(attempt, in_use))
        self._become(LinkState.REFUSED, str(self._refusal))
        log.error("%s", self._refusal)

    async def _attempt(self) -> tuple[Wire | None, str, bool]:
        """Open a wire; return it, or why there is none and whether our id is in use."""
        params, in_use = self.params, False
        wire = Wire(self._budget, self._deliver, self._tapped, params.time_zone)
        self._wire = wire
        try:
            problem = await wire.open(
                params.host, params.port, params.client_id, params.connect_timeout_seconds
            )
            if problem is None:
                self._accept(wire)
                return wire, "", False
            in_use = problem.startswith(_IN_USE)
        except ConfigError as refusal:
            self._refusal, problem = refusal, str(refusal)
        except TimeoutError:
            problem = f"no handshake within {params.connect_timeout_seconds:g} seconds"
        except OSError as refused:
            problem = f"nobody listens at {params.host}:{params.port} ({refused.strerror})"
        self._end_wire(problem)
        return None, problem, in_use

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """Fail closed if the task that connects has died of a bug: nothing would reconnect."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            reason = f"the link's task has died: {bug!r}"
            log.critical("ib %s", reason)
            self._end_wire(reason)
            self._become(LinkState.CLOSED, reason)
            self._announce(LinkEvent.LOST, reason)

    def _accept(self, wire: Wire) -> None:
        accounts = tuple(wire.getAccounts())
        require_managed(self.params, accounts)
        self._accounts = accounts
        self._next_id = max(self._next_id, wire.getReqId())

    async def _watch(self, wire: Wire) -> str:
        """Return why the wire has ended, or must."""
        while True:
            await asyncio.wait({wire.ended}, timeout=self.params.heartbeat_seconds)
            if wire.ended.done() or not await self._beats(wire):
                break
        seconds = self.params.heartbeat_timeout_seconds
        return wire.ended.result() if wire.ended.done() else f"no heartbeat for {seconds:g} seconds"

    async def _beats(self, wire: Wire) -> bool:
        beat = _Question("heartbeat", "currentTime", "currentTime")
        self._questions["heartbeat"] = beat
        try:
            wire.reqCurrentTime()
            waited: set[asyncio.Future[Any]] = {beat.answer, wire.ended}
            await asyncio.wait(
                waited,
                timeout=self.params.heartbeat_timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            del self._questions["heartbeat"]
        return beat.answer.done()

    async def _lose(self, reason: str) -> None:
        was_up = self._state is LinkState.UP
        self._end_wire(reason)
        self._become(LinkState.DOWN, reason)
        self._tell(f"lost: {reason}")
        if was_up:
            self._announce(LinkEvent.LOST, reason)

    def _end_wire(self, reason: str) -> None:
        if self._wire is not None:
            self._wire.drop(reason)
            self._wire = None
        for question in self._questions.values():
            question.fail(LinkDown(question.what, LinkState.DOWN, reason))

    def _become(self, state: LinkState, reason: str) -> None:
        self._state, self._reason = state, reason
        if state in _SETTLED:
            self._settled.set()
        else:
            self._settled.clear()

    def _deliver(self, message: Message) -> None:
        """Take a message from the wire: answer questions, then tell handlers."""
        if message.name == "error":
            self._on_error(*message.args)
        for question in self._asked_by(message):
            question.take(message)
        loop = asyncio.get_running_loop()
        for handler in self._handlers.get(message.name, ()):
            # Not from here: what a handler raises must not end the socket.
            loop.call_soon(handler, *message.args)

    def _asked_by(self, message: Message) -> list[_Question]:
        number = message.args[0] if message.args else None
        found = [self._questions.get(number)] if type(number) is int else []
        found += [q for key, q in self._questions.items() if isinstance(key, str)]
        return [question for question in found if question is not None]

    def _on_error(self, number: int, code: int, text: str, _: str) -> None:
        if number in self._questions:
            question = self._questions[number]
            if of_request(code) is not ErrorKind.INFORMATION:
                question.fail(BrokerRefusal(question.what, code, text))
        elif number == -1:
            self._on_system(code, text)

    def _on_system(self, code: int, text: str) -> None:
        reason = f"{code} {text}"
        match of_system(code):
            case ErrorKind.LINK_LOST:
                self._cut(reason)
            case ErrorKind.RESTORED:
                self._restore(LinkEvent.RESTORED, reason)
            case ErrorKind.RESTORED_DATA_LOST:
                self._restore(LinkEvent.RESTORED_DATA_LOST, reason)
            case ErrorKind.PACING:
                self._budget.slow_down(self.params.slow_seconds)
                log.warning("ib %s: half the pace for %g s", reason, self.params.slow_seconds)
            case ErrorKind.CLIENT_ID if self._wire is not None:
                self._wire.turn_away(f"{_IN_USE} ({reason})")
            case ErrorKind.FATAL if self._wire is not None and not self._wire.isReady():
                self._wire.turn_away(reason)

    def _cut(self, reason: str) -> None:
        if self.ready:
            self._become(LinkState.CUT, reason)
            self._tell(f"the gateway has lost the broker: {reason}")
            self._announce(LinkEvent.LOST, reason)

    def _restore(self, event: LinkEvent, reason: str) -> None:
        if self._state is LinkState.CUT:
            self._become(LinkState.UP, reason)
        if self.ready:
            self._tell(f"the gateway has the broker again: {reason}")
            self._announce(event, reason)

    def _announce(self, event: LinkEvent, reason: str) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.call_soon(listener, event, reason)

    def _tapped(self, direction: Direction, fields: Sequence[str]) -> None:
        for tap in self._taps:
            tap(direction, fields)

    def _note_client_id(self, in_use: bool, since: float | None) -> float | None:
        now = asyncio.get_running_loop().time()
        if not in_use:
            return None
        since = now if since is None else since
        if now - since >= CLIENT_ID_ALARM_SECONDS:
            log.error(
                "ib client id %d has been in use for %.0f s: end the other program that uses it, "
                "or give this one its own ib.client_id",
                self.params.client_id,
                now - since,
            )
        return since

    def _pause(self, attempt: int, in_use: bool) -> float:
        backoff = self.params.backoff
        if in_use:
            return backoff.client_id_seconds
        return backoff.seconds(attempt, self._chance())

    def _tell(self, text: str) -> None:
        level = logging.INFO if self.params.is_quiet(self._now()) else logging.WARNING
        log.log(level, "ib %s:%d %s", self.params.host, self.params.port, text)

    def _down(self, what: str) -> LinkDown:
        return LinkDown(what, self._state, self._reason)


_IN_USE = "the client id is in use"
_SETTLED = (LinkState.UP, LinkState.REFUSED, LinkState.CLOSED)


def _added(places: list[Any], item: Any) -> Remove:
    places.append(item)

    def remove() -> None:
        if item in places:
            places.remove(item)

    return remove
