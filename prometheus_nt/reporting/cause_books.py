"""What each cause of a divergence owns: shares and cash by which one run differs from the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.reporting.divergence_records import CAUSES, Cause, Movement, RunEvent

DUST_SHARES = 1e-6
DUST_USD = 1e-5
"""Rounding of micro-dollars and of shares in other units; what is smaller is no evidence."""

NAMED_ONLY = frozenset({Cause.FILL_PRICE, Cause.COST})
"""Causes that an event explains only if it names the order or the instrument: prices and fees
differ on any day, and a link that was lost for others is not why."""

BY_SESSION, BY_INSTRUMENT, BY_ORDER = 1, 2, 3


@dataclass(frozen=True)
class Scope:
    """What something is about: the sessions from `first` to `last`, an instrument, orders."""

    first: date
    last: date
    instrument_id: str | None = None
    order_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, one: Movement) -> "Scope":
        ids = tuple(name for name in (one.order_a, one.order_b) if name is not None)
        return cls(one.decided, one.last, one.instrument_id, ids)


class CauseBooks:
    """The books of all causes over N instruments; the last column of cash is of no instrument.

    Book `k < 10` is that of `CAUSES[k]`; those after it are of the events, one each.
    """

    def __init__(self, instruments: int, events: Sequence[RunEvent]) -> None:
        count = len(CAUSES) + len(events)
        self.events = tuple(events)
        self.shares: FloatArray = np.zeros((count, instruments))
        self.cash: FloatArray = np.zeros((count, instruments + 1))
        self._causes: list[int] = [
            *range(len(CAUSES)),
            *(CAUSES.index(event.cause) for event in events),
        ]

    def book(self, cause: Cause, scope: Scope) -> int:
        """Return the book for a difference of this cause: of the event it is tied to, if any."""
        found = self.event_book(scope, BY_INSTRUMENT if cause in NAMED_ONLY else BY_SESSION)
        return CAUSES.index(cause) if found is None else found

    def event_book(self, scope: Scope, at_least: int = BY_SESSION) -> int | None:
        """Return the book of the nearest event: of the order, the instrument, the session."""
        near = [_nearness(event, scope) for event in self.events]
        if not near or max(near) < at_least:
            return None
        return len(CAUSES) + near.index(max(near))

    def cause(self, book: int) -> Cause:
        cause: Cause = CAUSES[self._causes[book]]
        return cause

    def event_name(self, book: int) -> str:
        """Return the name of the event of a book; empty if it is a cause's own."""
        return self.events[book - len(CAUSES)].name if book >= len(CAUSES) else ""

    def put(self, book: int, column: int, shares: float, cash: float) -> None:
        """Add shares and cash to a book; column -1 is of no instrument, and has no shares."""
        if column >= 0:
            self.shares[book, column] += shares
        self.cash[book, column] += cash

    def open_against(self, column: int, shares: float) -> list[int]:
        """Return the books with open shares that `shares` would close."""
        held = self.shares[:, column]
        against = np.flatnonzero((held * shares < 0.0) & (np.abs(held) > DUST_SHARES))
        return [int(book) for book in against]

    def by_cause(self, of_books: FloatArray) -> FloatArray:
        """Return values of books, (books, ...), added up by cause, (10, ...)."""
        summed = np.zeros((len(CAUSES), *of_books.shape[1:]))
        np.add.at(summed, self._causes, of_books)
        return summed


def _nearness(event: RunEvent, scope: Scope) -> int:
    if event.order_id is not None:
        return BY_ORDER if event.order_id in scope.order_ids else 0
    if event.session > scope.last or (event.until or event.session) < scope.first:
        return 0
    if event.instrument_id is None:
        return BY_SESSION
    return BY_INSTRUMENT if event.instrument_id == scope.instrument_id else 0
