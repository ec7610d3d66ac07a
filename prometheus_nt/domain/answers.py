"""What a broker did with the orders of one open, as a node books it."""

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """How an order ended at an open."""

    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    UNSENT = "UNSENT"


@dataclass(frozen=True)
class ToldFill:
    """One execution; `commission` in USD, `at_ns` UNIX nanoseconds."""

    trade_id: str
    shares: int
    price: float
    commission: float
    at_ns: int


@dataclass(frozen=True)
class Answer:
    """What became of one order.

    Attributes
    ----------
    order_id : str
        The node's own id of it.
    ref : str
        The reference under which it was sent, or would have been.
    fills : tuple of ToldFill
        A cancelled order may have some.
    reason : str or None
    """

    order_id: str
    ref: str
    end: End
    fills: tuple[ToldFill, ...] = ()
    reason: str | None = None

    @property
    def traded(self) -> bool:
        return bool(self.fills)
