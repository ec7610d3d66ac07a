"""Why trading through this adapter stops, for whoever has to stop the rest of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class HaltReason(Enum):
    """What cannot be explained by what we did; somebody has to look."""

    DUPLICATE_ORDER = "two orders at the broker carry one reference"
    UNKNOWN_ORDER = "the broker has an order that is not ours"
    UNRESOLVED_ORDER = "the broker's lists do not say what became of an order"
    REVIVED_ORDER = "an order lives on after its end"
    OVERFILLED_ORDER = "more shares were filled than were asked for"
    REVISED_FILL = "the broker changed the shares of a fill"
    POSITION_BREAK = "the broker's position is not ours"
    CASH_BREAK = "the broker's cash is not ours"
    WRONG_ACCOUNT = "something concerns another account"
    JOURNAL = "the journal cannot be written"


@dataclass(frozen=True)
class Halt:
    """One reason to stop: no order is sent until somebody has acknowledged it.

    Attributes
    ----------
    ref : str
        Reference of the order, or id of the instrument, that it is about; empty if of none.
    """

    reason: HaltReason
    ref: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason.name} {self.ref}: {self.reason.value}: {self.detail}"


OnHalt = Callable[[Halt], None]
