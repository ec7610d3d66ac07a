"""Orders: what a client asked for, what became of it, and why it may be refused."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.wire import Values, integer, names, number

PENDING_CANCEL, PRE_SUBMITTED, SUBMITTED = "PendingCancel", "PreSubmitted", "Submitted"
FILLED, CANCELLED, INACTIVE = "Filled", "Cancelled", "Inactive"
DONE = frozenset({FILLED, CANCELLED, INACTIVE})

MOST_LIVE_ORDERS = 20
"""Of one contract, side and account."""

ECHOED = names(
    "ocaGroup openClose origin orderRef outsideRth hidden faGroup faMethod faPercentage modelCode "
    "rule80A settlingFirm designatedLocation displaySize clearingAccount algoStrategy algoParams "
    "solicited goodAfterTime goodTillDate"
)
"""Fields of a request that every later message about the order repeats."""

AUCTION = frozenset({"MOC", "LOC"})
LIMITED = frozenset({"LMT", "LOC", "STP LMT"})
STOPPED = frozenset({"STP", "STP LMT"})
ORDER_TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", "MOC", "LOC"})
TIMES_IN_FORCE = frozenset({"DAY", "GTC", "IOC", "OPG"})

OPG_FROM_SECONDS, OPG_UNTIL_SECONDS = 30.0, 120.0
"""After a close, and before the next open: between them orders for the open are taken."""


@dataclass
class Order:
    """An order as the gateway holds it.

    Attributes
    ----------
    perm_id : int
        The account's number of it, over all clients and restarts.
    side : int
        1 buys, -1 sells.
    limit, stop : float or None
    terms : dict
        What the client sent of `ECHOED`.
    filled : int
    value : float
        Sum of shares times price of its fills.
    triggered : bool
        Whether its stop was reached.
    done_ns : int or None
        When it was filled, cancelled or refused.
    """

    perm_id: int
    client_id: int
    order_id: int
    column: int
    side: int
    quantity: int
    order_type: str
    tif: str
    limit: float | None
    stop: float | None
    terms: dict[str, Any] = field(default_factory=dict)
    status: str = PRE_SUBMITTED
    filled: int = 0
    value: float = 0.0
    last_price: float = 0.0
    fees: float = 0.0
    triggered: bool = False
    placed_ns: int = 0
    done_ns: int | None = None

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled

    @property
    def is_open(self) -> bool:
        return self.status not in DONE

    @property
    def action(self) -> str:
        return "BUY" if self.side > 0 else "SELL"

    @property
    def average(self) -> float:
        """Mean price of its fills, 0 without one, as the wire says it."""
        return self.value / self.filled if self.filled else 0.0

    @property
    def reference(self) -> str:
        return str(self.terms.get("orderRef", ""))

    def accepts(self, price: float) -> bool:
        """Return whether its limit, if it has one, allows `price`."""
        return self.limit is None or self.side * (self.limit - price) >= 0

    def stop_reached(self, price: float) -> bool:
        """Return whether `price` triggers its stop."""
        return self.stop is not None and self.side * (price - self.stop) >= 0

    def row(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        return asdict(self)

    def status_values(self) -> dict[str, Any]:
        """Return the values of an order status message."""
        return {
            "orderId": self.order_id,
            "status": self.status,
            "filled": self.filled,
            "remaining": self.remaining,
            "avgPrice": self.average,
            "permId": self.perm_id,
            "lastPrice": self.last_price,
            "clientId": self.client_id,
        }

    def values(self, contract: Mapping[str, Any], account: str) -> dict[str, Any]:
        """Return the values of an open or completed order message."""
        return {
            **{name: self.terms[name] for name in ECHOED if name in self.terms},
            **contract,
            "orderId": self.order_id,
            "action": self.action,
            "totalQuantity": self.quantity,
            "orderType": self.order_type,
            "lmtPrice": 0.0 if self.limit is None else self.limit,
            "auxPrice": 0.0 if self.stop is None else self.stop,
            "tif": self.tif,
            "account": account,
            "clientId": self.client_id,
            "permId": self.perm_id,
            "sharesAllocation": f"{self.perm_id}.0/{account}/{self.quantity}",
            "status": self.status,
            "filledQuantity": self.filled,
        }


@dataclass(frozen=True)
class Fill:
    """An execution with its commission."""

    exec_id: str
    perm_id: int
    client_id: int
    order_id: int
    column: int
    side: int
    shares: int
    price: float
    time_ns: int
    cumulated: int
    average: float
    reference: str
    commission: float
    realised: float | None

    def row(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        return asdict(self)

    def corrected(self, shares: int, price: float) -> "Fill":
        """Return the next revision of it: the last part of its id counts them."""
        stem, revision = self.exec_id.rsplit(".", 1)
        return replace(self, exec_id=f"{stem}.{int(revision) + 1:02d}", shares=shares, price=price)


class Refused(Exception):
    """An order is refused; carries the code and the text of the error that says so."""

    def __init__(self, code: int, text: str, *, inactive: bool = False) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text, self.inactive = code, text, inactive


def rejected(reason: str, *, inactive: bool = True) -> Refused:
    """Return the refusal of an order that the account or the exchange does not take."""
    return Refused(201, f"Order rejected - reason:{reason}", inactive=inactive)


@dataclass(frozen=True)
class Wish:
    """What an order request asks for, read but not yet checked."""

    quantity: Decimal
    action: str
    order_type: str
    tif: str
    limit: float | None
    stop: float | None
    account: str
    raw: Values

    @classmethod
    def of(cls, raw: Values) -> "Wish":
        try:
            quantity = Decimal(raw["totalQuantity"] or "0")
        except InvalidOperation:
            raise Refused(320, "Server error when reading an API client request.") from None
        return cls(
            quantity=quantity,
            action=raw["action"],
            order_type=raw["orderType"].upper().replace("STPLMT", "STP LMT"),
            tif=raw["tif"].upper() or "DAY",
            limit=number(raw["lmtPrice"]),
            stop=number(raw["auxPrice"]),
            account=raw["account"],
            raw=raw,
        )

    @property
    def side(self) -> int:
        return 1 if self.action == "BUY" else -1

    def terms(self) -> dict[str, Any]:
        return {name: self.raw[name] for name in ECHOED if self.raw.get(name)}


@dataclass(frozen=True)
class Moment:
    """What a check may know of the market and the account.

    Attributes
    ----------
    since_close, to_open : float
        Seconds after the last close, and before the next open.
    live_alike : int
        Working orders of the same contract and side, without the order itself.
    """

    account: str
    min_tick: float
    stage: Stage
    since_close: float
    to_open: float
    live_alike: int
    read_only: bool


def _requires_writing(_: Wish, moment: Moment) -> None:
    if moment.read_only:
        raise Refused(
            321,
            "Error validating request.-'bD' : cause - The API interface is currently in Read-Only "
            "mode.",
        )


def _requires_account(wish: Wish, moment: Moment) -> None:
    if wish.account not in ("", moment.account):
        raise Refused(
            321, f"Error validating request.-'bD' : cause - Invalid account code '{wish.account}'."
        )


def _requires_shares(wish: Wish, _: Moment) -> None:
    if wish.action not in ("BUY", "SELL"):
        raise Refused(321, "Error validating request.-'bD' : cause - Invalid order side.")
    if wish.quantity <= 0:
        raise Refused(434, "The order size cannot be zero.")
    if wish.quantity != wish.quantity.to_integral_value():
        raise Refused(10243, "Fractional-sized order cannot be placed via API.")


def _requires_type(wish: Wish, _: Moment) -> None:
    if wish.order_type not in ORDER_TYPES:
        raise Refused(387, "Unsupported order type for this exchange and security type.")
    if wish.order_type in AUCTION and wish.tif != "DAY":
        raise Refused(113, "The Tif option should be set to DAY for MOC and LOC orders.")
    opening = wish.tif == "OPG" and wish.order_type not in ("MKT", "LMT")
    if wish.tif not in TIMES_IN_FORCE or opening:
        raise Refused(111, "The order TIF(Time in Force) and the order type are incompatible.")


def _requires_algorithm(wish: Wish, _: Moment) -> None:
    algorithm = wish.raw["algoStrategy"]
    if not algorithm:
        return
    if algorithm != "Adaptive":
        raise Refused(439, "The order processing failed. Algorithm definition not found.")
    if wish.order_type not in ("MKT", "LMT") or wish.tif != "DAY":
        raise Refused(442, "Specified algorithm is not allowed for this order.")


def _requires_prices(wish: Wish, moment: Moment) -> None:
    needed = []
    if wish.order_type in LIMITED:
        needed.append(wish.limit)
    if wish.order_type in STOPPED:
        needed.append(wish.stop)
    for price in needed:
        if price is None or price <= 0:
            raise Refused(107, "Cannot transmit incomplete order.")
        ticks = price / moment.min_tick
        if abs(ticks - round(ticks)) > 1e-6 * max(1.0, ticks):
            raise Refused(
                110, "The price does not conform to the minimum price variation for this contract."
            )


def _requires_window(wish: Wish, moment: Moment) -> None:
    if wish.tif != "OPG":
        return
    in_session = moment.stage is Stage.OPEN
    early, late = moment.since_close < OPG_FROM_SECONDS, moment.to_open < OPG_UNTIL_SECONDS
    if in_session or early or late:
        raise rejected("The exchange does not accept orders for the open at this time.")


def _requires_simulated(wish: Wish, _: Moment) -> None:
    plain = {"parentId": "0", "transmit": "1", "ocaGroup": "", "deltaNeutral": "0"}
    for name, expected in plain.items():
        if wish.raw[name] not in (expected, ""):
            raise rejected(f"{name} is not simulated by this gateway.")
    for name in ("trailStopPrice", "trailingPercent", "scaleInit", "goodAfterTime", "minQty"):
        if wish.raw[name] not in ("", "0") and number(wish.raw[name]) is not None:
            raise rejected(f"{name} is not simulated by this gateway.")
    if integer(wish.raw["allOrNone"]) or wish.raw["hedgeType"]:
        raise rejected("allOrNone and hedges are not simulated by this gateway.")


def _requires_room(_: Wish, moment: Moment) -> None:
    if moment.live_alike >= MOST_LIVE_ORDERS:
        raise rejected(
            f"The maximum number of {MOST_LIVE_ORDERS} working orders for this contract, side and "
            "account is reached."
        )


CHECKS: tuple[Callable[[Wish, Moment], None], ...] = (
    _requires_writing,
    _requires_account,
    _requires_shares,
    _requires_type,
    _requires_algorithm,
    _requires_prices,
    _requires_window,
    _requires_simulated,
    _requires_room,
)
"""What every order must pass, in this order; each raises `Refused`."""


def check(wish: Wish, moment: Moment) -> None:
    """Raise `Refused` by the first of `CHECKS` that an order fails."""
    for requires in CHECKS:
        requires(wish, moment)
