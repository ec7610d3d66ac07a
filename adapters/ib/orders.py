"""The state of our own orders, from what the broker says of them in whatever order it says it.

Two things are kept apart for every order:

1. what the broker has said (`OwnOrder.live`, `ended`, `executions`, ...): it only grows, so that
   neither the order of messages nor their repetition matters; `OwnOrder.standing` follows from it;
2. what was told inside (`OwnOrder.told`): one path through `TELLS`, the legal ways of an order.

`OwnOrders.hear` takes a message, `OwnOrders.settle` lets time pass. Both return the events that
bring what was told up to where the order stands; where no legal way leads there, a halt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from adapters.ib.halt import Halt, HaltReason

COMMISSION_PATIENCE_SECONDS = 2.0
"""How long a fill waits for its commission before it is told without one."""

END_PATIENCE_SECONDS = 0.5
"""How long an end without acceptance waits for the error that says why."""

LIVE_STATUSES = frozenset({"PreSubmitted", "Submitted", "PendingCancel", "Filled"})
CANCELLED_STATUSES = frozenset({"Cancelled", "ApiCancelled"})
NANOSECONDS_PER_DAY = 86_400 * 10**9

Terms = tuple[int, float | None, float | None]
"""Quantity, limit and stop of an order: what may be changed while it works."""


class Standing(Enum):
    """Where an order stands."""

    SENT = "sent"
    ACCEPTED = "accepted"
    PARTLY_FILLED = "partly filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        return self in (Standing.FILLED, Standing.CANCELLED, Standing.REJECTED)


# -- what the broker says


@dataclass(frozen=True)
class OrderSeen:
    """An open or completed order message.

    Attributes
    ----------
    order_id : int
        0 in a completed order.
    filled : int
        Shares, 0 if the message does not say.
    completed : bool
        Whether it came from the list of completed orders.
    """

    ref: str
    perm_id: int
    client_id: int
    order_id: int
    account: str
    contract: int
    symbol: str
    side: int
    quantity: int
    kind: str
    tif: str
    limit: float | None
    stop: float | None
    status: str
    filled: int = 0
    completed: bool = False


@dataclass(frozen=True)
class StatusSeen:
    """An order status message."""

    perm_id: int
    client_id: int
    order_id: int
    status: str
    filled: int
    why_held: str = ""


@dataclass(frozen=True)
class Execution:
    """An execution message."""

    exec_id: str
    ref: str
    perm_id: int
    client_id: int
    order_id: int
    account: str
    contract: int
    symbol: str
    side: int
    shares: int
    price: float
    at_ns: int

    @property
    def stem(self) -> str:
        """What all revisions of it share: its id without the last part, and its day."""
        return f"{self.exec_id.rpartition('.')[0]}@{self.at_ns // NANOSECONDS_PER_DAY}"

    @property
    def revision(self) -> int:
        last = self.exec_id.rpartition(".")[2]
        return int(last) if last.isdigit() else 0


@dataclass(frozen=True)
class CommissionSeen:
    """A commission report."""

    exec_id: str
    amount: float
    currency: str


@dataclass(frozen=True)
class ErrorSeen:
    """An error about an order; `kind` is what its code means for it."""

    order_id: int
    code: int
    text: str
    kind: Literal["reject", "modify_reject", "cancel_reject"]


Message = OrderSeen | StatusSeen | Execution | CommissionSeen | ErrorSeen

# -- what is told inside


@dataclass(frozen=True)
class Accepted:
    """The broker took the order."""

    ref: str
    perm_id: int


@dataclass(frozen=True)
class Rejected:
    """The broker did not take the order; `code` 0 is our own finding."""

    ref: str
    code: int
    text: str


@dataclass(frozen=True)
class Cancelled:
    """The order ended before it was filled."""

    ref: str


@dataclass(frozen=True)
class Updated:
    """The order has other terms."""

    ref: str
    quantity: int
    limit: float | None
    stop: float | None


@dataclass(frozen=True)
class Filled:
    """A fill; `trade_id` is the execution's id, made unique if a broker uses it again.

    `commission` is None while it is not known.
    """

    ref: str
    trade_id: str
    execution: Execution
    commission: float | None


@dataclass(frozen=True)
class CommissionCorrected:
    """The commission of a fill that was told without one, or with another."""

    ref: str
    execution: Execution
    before: float | None
    amount: float


@dataclass(frozen=True)
class FillCorrected:
    """The broker replaced a fill that was told."""

    ref: str
    before: Execution
    after: Execution


@dataclass(frozen=True)
class ModifyRejected:
    """The order keeps its terms."""

    ref: str
    code: int
    text: str


@dataclass(frozen=True)
class CancelRejected:
    """The order works on, or is over."""

    ref: str
    code: int
    text: str


@dataclass(frozen=True)
class Alert:
    """Something that a human should know and nothing follows from."""

    ref: str
    text: str


Told = Accepted | Rejected | Cancelled | Updated | Filled | ModifyRejected | CancelRejected
Event = Told | CommissionCorrected | FillCorrected | Alert | Halt

_WORKING = frozenset({Standing.ACCEPTED, Standing.PARTLY_FILLED})

TELLS: Mapping[type, frozenset[Standing]] = {
    Accepted: frozenset({Standing.SENT}),
    Rejected: frozenset({Standing.SENT}),
    Cancelled: _WORKING | {Standing.SENT},
    Updated: _WORKING,
    # A cancelled order may fill: the fill was on its way.
    Filled: _WORKING | {Standing.CANCELLED},
    ModifyRejected: _WORKING | {Standing.SENT},
    CancelRejected: _WORKING | {Standing.SENT},
}
"""Kind of event -> what must have been told of an order before it."""


@dataclass
class OwnOrder:
    """One order of ours.

    Attributes
    ----------
    live : bool
        Whether the broker said that it took it.
    ended, inactive : bool
        Whether the broker said that it is cancelled, or not working.
    refusals : dict of error code to text
        That came before it was accepted.
    reported : int
        Most shares that a status or a list called filled.
    executions : dict of stem to the newest revision
    told : Standing
    told_fills : dict of stem to (execution, trade id, commission)
    told_shares : int
        Sum of what was told as filled.
    cancelling : bool
        Whether we asked for its end, and have had no answer.
    wanted_terms : terms, or None
        What we asked to change it to, and have had no answer.
    """

    ref: str
    client_id: int
    order_id: int
    side: int
    quantity: int
    limit: float | None = None
    stop: float | None = None
    perm_id: int = 0
    live: bool = False
    ended: bool = False
    inactive: bool = False
    refusals: dict[int, str] = field(default_factory=dict)
    reported: int = 0
    executions: dict[str, Execution] = field(default_factory=dict)
    told: Standing = Standing.SENT
    told_terms: Terms = (0, None, None)
    told_fills: dict[str, tuple[Execution, str, float | None]] = field(default_factory=dict)
    told_shares: int = 0
    cancelling: bool = False
    wanted_terms: Terms | None = None
    _since: dict[str, float] = field(default_factory=dict)
    _halted: set[HaltReason] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.told_terms = self.terms

    @property
    def terms(self) -> Terms:
        return self.quantity, self.limit, self.stop

    @property
    def filled(self) -> int:
        """Shares of all executions, each in its newest revision."""
        return sum(execution.shares for execution in self.executions.values())

    @property
    def average_price(self) -> float | None:
        """Mean price of its executions, None without one."""
        value = sum(item.shares * item.price for item in self.executions.values())
        return value / self.filled if self.filled else None

    @property
    def was_accepted(self) -> bool:
        return self.live or bool(self.executions)

    @property
    def lacks_executions(self) -> bool:
        """Whether the broker counts more shares as filled than it has shown executions for."""
        return self.reported > self.filled and not self._was_revised

    @property
    def _was_revised(self) -> bool:
        return any(execution.revision > 1 for execution in self.executions.values())

    @property
    def standing(self) -> Standing:
        """Where it stands by all that the broker said, in whatever order it said it."""
        filled = self.filled
        if filled and filled >= self.quantity:
            return Standing.FILLED
        if not self.was_accepted and (self.refusals or self.inactive):
            return Standing.REJECTED
        if self.ended or self.inactive:
            return Standing.CANCELLED
        if filled:
            return Standing.PARTLY_FILLED
        return Standing.ACCEPTED if self.was_accepted else Standing.SENT

    @property
    def is_halted(self) -> bool:
        """Whether something about it was a reason to halt."""
        return bool(self._halted)

    def waited(self, name: str, seconds: float, now: float) -> bool:
        """Return whether so many seconds have passed since it was first asked."""
        return now - self._since.setdefault(name, now) >= seconds

    def halt(self, reason: HaltReason, detail: str) -> list[Event]:
        """Return a halt, once for each reason."""
        if reason in self._halted:
            return []
        self._halted.add(reason)
        return [Halt(reason, self.ref, detail)]


class OwnOrders:
    """All orders that we wrote down, by reference.

    Parameters
    ----------
    account : str
        What is about another account is a reason to halt.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self.by_ref: dict[str, OwnOrder] = {}
        self._by_perm: dict[int, OwnOrder] = {}
        self._by_id: dict[tuple[int, int], OwnOrder] = {}
        self._fees: dict[str, float] = {}
        self._trade_ids: dict[str, str] = {}
        self._by_exec: dict[str, tuple[OwnOrder, str]] = {}
        self._strangers: set[int] = set()

    def expect(self, order: OwnOrder) -> OwnOrder:
        """Take an order that is about to be sent, or that was sent before a restart."""
        self.by_ref[order.ref] = order
        self._by_id[order.client_id, order.order_id] = order
        if order.perm_id:
            self._by_perm[order.perm_id] = order
        return order

    def unfinished(self) -> list[OwnOrder]:
        """Return the orders of which something may still be heard or must be told."""
        return [
            order
            for order in self.by_ref.values()
            if not order.told.is_final or (order.told is not order.standing and not order.is_halted)
        ]

    def find(self, client_id: int, order_id: int) -> OwnOrder | None:
        """Return an order by a client's number of it."""
        return self._by_id.get((client_id, order_id))

    def hear(self, message: Message, now: float, client_id: int = 0) -> list[Event]:
        """Take a message at `now`, seconds of a monotonic clock; return what follows.

        client_id : ours, for errors, which do not say whose order they are about.
        """
        match message:
            case CommissionSeen():
                return self._take_commission(message, now)
            case ErrorSeen():
                return self._take_error(message, now, client_id)
            case _:
                return self._take_order(message, now)

    def settle(self, now: float) -> list[Event]:
        """Let time pass; return what is told because something has been waited for long enough."""
        return [event for order in self.unfinished() for event in self._advance(order, now)]

    def tell_all(self, now: float) -> list[Event]:
        """Return everything that can be told at once, without waiting for anything."""
        return self.settle(now + COMMISSION_PATIENCE_SECONDS + END_PATIENCE_SECONDS)

    def _take_order(self, message: OrderSeen | StatusSeen | Execution, now: float) -> list[Event]:
        if isinstance(message, OrderSeen | Execution) and message.account != self._account:
            detail = f"{message.symbol} in account {message.account}, ours is {self._account}"
            return self._stranger(HaltReason.WRONG_ACCOUNT, message, detail)
        order = self._order_of(message)
        if order is None:
            return self._unknown(message)
        if message.perm_id and order.perm_id not in (0, message.perm_id):
            detail = f"permanent ids {order.perm_id} and {message.perm_id}"
            return order.halt(HaltReason.DUPLICATE_ORDER, detail)
        if message.perm_id:
            order.perm_id = message.perm_id
            self._by_perm[message.perm_id] = order
        if isinstance(message, Execution):
            self._by_exec[message.exec_id] = (order, message.stem)
        _note(order, message)
        return self._advance(order, now)

    def _order_of(self, message: OrderSeen | StatusSeen | Execution) -> OwnOrder | None:
        ref = "" if isinstance(message, StatusSeen) else message.ref
        if ref:
            return self.by_ref.get(ref)
        known = self._by_perm.get(message.perm_id)
        if known is not None:
            return known
        order = self._by_id.get((message.client_id, message.order_id))
        # An order id may come again after a reset; a permanent id never does.
        if order is None or (message.perm_id and order.perm_id not in (0, message.perm_id)):
            return None
        return order

    def _unknown(self, message: OrderSeen | StatusSeen | Execution) -> list[Event]:
        if isinstance(message, StatusSeen):
            # Its open order message comes with it, and says more.
            return []
        side = "buys" if message.side > 0 else "sells"
        shares = message.quantity if isinstance(message, OrderSeen) else message.shares
        detail = (
            f"permanent id {message.perm_id}, client {message.client_id}, reference "
            f"{message.ref!r}: {side} {shares} {message.symbol}"
        )
        return self._stranger(HaltReason.UNKNOWN_ORDER, message, detail)

    def _stranger(
        self, reason: HaltReason, message: OrderSeen | Execution, detail: str
    ) -> list[Event]:
        if message.perm_id in self._strangers:
            return []
        self._strangers.add(message.perm_id)
        return [Halt(reason, message.ref or str(message.perm_id), detail)]

    def _take_commission(self, message: CommissionSeen, now: float) -> list[Event]:
        before = self._fees.get(message.exec_id)
        self._fees[message.exec_id] = message.amount
        if before == message.amount:
            return []
        order, stem = self._by_exec.get(message.exec_id, (None, ""))
        if order is None:
            return []
        if stem not in order.told_fills:
            return self._advance(order, now)
        execution, trade_id, fee = order.told_fills[stem]
        if execution.exec_id != message.exec_id or fee == message.amount:
            return []
        order.told_fills[stem] = (execution, trade_id, message.amount)
        return [CommissionCorrected(order.ref, execution, fee, message.amount)]

    def _take_error(self, message: ErrorSeen, now: float, client_id: int) -> list[Event]:
        order = self._by_id.get((client_id, message.order_id))
        if order is None or (order.standing.is_final and order.told.is_final):
            return []
        code, text = message.code, message.text
        if message.kind == "cancel_reject":
            was_asked, order.cancelling = order.cancelling, False
            return _legal(order, CancelRejected(order.ref, code, text)) if was_asked else []
        if order.wanted_terms is not None:
            order.wanted_terms = None
            return _legal(order, ModifyRejected(order.ref, code, text))
        if message.kind == "modify_reject" or order.was_accepted:
            return [Alert(order.ref, f"error {code} for a working order: {text}")]
        order.refusals[code] = text
        return self._advance(order, now)

    def _advance(self, order: OwnOrder, now: float) -> list[Event]:
        """Return the events from what was told of an order to where it stands."""
        standing = order.standing
        if order.told is Standing.REJECTED:
            if standing is Standing.REJECTED:
                return []
            return order.halt(HaltReason.REVIVED_ORDER, f"was rejected, and is {standing.value}")
        events = self._tell_acceptance(order, now)
        if order.told in (Standing.SENT, Standing.REJECTED):
            return events
        events += _tell_terms(order) + self._tell_corrections(order)
        return events + self._tell_fills(order, now) + self._tell_end(order)

    def _tell_acceptance(self, order: OwnOrder, now: float) -> list[Event]:
        if order.told is not Standing.SENT:
            return []
        if order.was_accepted:
            return _legal(order, Accepted(order.ref, order.perm_id))
        standing = order.standing
        if standing is Standing.REJECTED and order.refusals:
            code = min(order.refusals)
            return _legal(order, Rejected(order.ref, code, order.refusals[code]))
        if not standing.is_final or not order.waited("end", END_PATIENCE_SECONDS, now):
            return []
        if standing is Standing.REJECTED:
            return _legal(order, Rejected(order.ref, 0, "Inactive, and no error said why"))
        return _legal(order, Cancelled(order.ref))

    def _tell_corrections(self, order: OwnOrder) -> list[Event]:
        events: list[Event] = []
        for stem, (before, trade_id, fee) in list(order.told_fills.items()):
            after = order.executions[stem]
            if after.revision <= before.revision:
                continue
            order.told_fills[stem] = (after, trade_id, self._fees.get(after.exec_id, fee))
            events.append(FillCorrected(order.ref, before, after))
            if after.shares != before.shares:
                detail = f"{before.exec_id}: {before.shares} shares became {after.shares}"
                events += order.halt(HaltReason.REVISED_FILL, detail)
        return events

    def _tell_fills(self, order: OwnOrder, now: float) -> list[Event]:
        events: list[Event] = []
        for stem, execution in order.executions.items():
            if stem in order.told_fills or not execution.shares:
                continue
            fee = self._fees.get(execution.exec_id)
            if fee is None and not order.waited(stem, COMMISSION_PATIENCE_SECONDS, now):
                continue
            if order.told_shares + execution.shares > order.quantity:
                detail = f"{order.told_shares} + {execution.shares} of {order.quantity}"
                events += order.halt(HaltReason.OVERFILLED_ORDER, detail)
                continue
            trade_id = self._trade_id(order, execution)
            order.told_fills[stem] = (execution, trade_id, fee)
            events += _legal(order, Filled(order.ref, trade_id, execution, fee))
        return events

    def _trade_id(self, order: OwnOrder, execution: Execution) -> str:
        """Return the execution's id; with its day if another fill had the same before."""
        owner = f"{order.ref} {execution.stem}"
        if self._trade_ids.setdefault(execution.exec_id, owner) == owner:
            return execution.exec_id
        return f"{execution.exec_id}@{execution.at_ns // NANOSECONDS_PER_DAY}"

    def _tell_end(self, order: OwnOrder) -> list[Event]:
        complete = order.told_shares >= order.filled and not order.lacks_executions
        if order.standing is not Standing.CANCELLED or order.told not in _WORKING or not complete:
            return []
        return _legal(order, Cancelled(order.ref))


def _tell_terms(order: OwnOrder) -> list[Event]:
    """Return an update if the terms are others, or those that we asked for."""
    answered = order.terms == order.wanted_terms
    if order.told not in _WORKING or (order.terms == order.told_terms and not answered):
        return []
    if answered:
        order.wanted_terms = None
    order.told_terms = order.terms
    return _legal(order, Updated(order.ref, *order.terms))


def _note(order: OwnOrder, message: OrderSeen | StatusSeen | Execution) -> None:
    """Add what a message says to what is known of an order."""
    if isinstance(message, Execution):
        known = order.executions.get(message.stem)
        if known is None or message.revision > known.revision:
            order.executions[message.stem] = message
        return
    order.live |= message.status in LIVE_STATUSES
    order.ended |= message.status in CANCELLED_STATUSES
    order.inactive |= message.status == "Inactive" and not _is_held(message)
    order.reported = max(order.reported, message.filled)
    if isinstance(message, OrderSeen) and not message.completed and message.quantity:
        order.quantity, order.limit, order.stop = message.quantity, message.limit, message.stop


def _is_held(message: OrderSeen | StatusSeen) -> bool:
    """Return whether an inactive order only waits, for shares that are being located."""
    return isinstance(message, StatusSeen) and message.why_held == "locate"


def _legal(order: OwnOrder, event: Told) -> list[Event]:
    """Return an event and note it as told, or nothing if it is not legal now."""
    if order.told not in TELLS[type(event)]:
        return []
    match event:
        case Accepted():
            order.told = Standing.ACCEPTED
        case Rejected():
            order.told = Standing.REJECTED
        case Cancelled():
            order.told, order.cancelling = Standing.CANCELLED, False
        case Filled(execution=execution):
            order.told_shares += execution.shares
            whole = order.told_shares >= order.quantity
            order.told = Standing.FILLED if whole else Standing.PARTLY_FILLED
    return [event]


def replayed(records: Iterable[Mapping[str, object]]) -> list[Message]:
    """Return as messages what a journal kept of the broker's messages."""
    kinds = {"execution": Execution, "commission": CommissionSeen}
    found: list[Message] = []
    for record in records:
        make = kinds.get(str(record["kind"]))
        if make is not None:
            fields = {name: value for name, value in record.items() if name != "kind"}
            found.append(make(**fields))
    return found
