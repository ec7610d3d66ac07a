"""Under which reference an order of a sleeve went to the broker, and what became of it.

A reference follows from run, day and instrument, from the opens that the order has missed, and from
the attempts that are proven never to have reached the broker.
"""

from collections.abc import Callable, Iterable
from typing import Any

from adapters.ib.broker import Outcome
from adapters.ib.journal import order_reference
from adapters.ib.orders import Standing
from prometheus_nt.domain.answers import Answer, End
from prometheus_nt.domain.errors import ConfigError, TradingHalted
from prometheus_nt.jobs.venues import Book
from prometheus_nt.venue.told import ToldRouter

MOST_ATTEMPTS = 20

ENDS = {
    Standing.FILLED: End.FILLED,
    Standing.CANCELLED: End.CANCELLED,
    Standing.REJECTED: End.REJECTED,
}
MISSED = "it was not sent before the open"


class OrderTrail:
    """Finds the newest reference of each order.

    Parameters
    ----------
    outcome : function that returns what became of a reference, None if it was never written
    """

    def __init__(self, outcome: Callable[[str], Outcome | None]) -> None:
        self._outcome = outcome
        self._missed: dict[tuple[str, str], int] = {}

    def newest(self, book: Book, order: Any) -> tuple[str, Outcome | None]:
        """Return the newest reference of an order, and what became of it; None if it is unsent.

        Only what is proven never to have reached the broker gets another attempt.
        """
        run_id, order_id = book.identity.run_id, order.client_order_id.value
        leg = self._missed.get((run_id, order_id), 0)
        plan = plan_of(run_id, order)
        for attempt in range(MOST_ATTEMPTS):
            ref = order_reference(plan, order.instrument_id.value, leg, attempt)
            outcome = self._outcome(ref)
            if outcome is None or not outcome.never_arrived:
                return ref, outcome
        raise TradingHalted(f"order {ref}: {MOST_ATTEMPTS} attempts have not reached the broker")

    def take(self, book: Book, answers: Iterable[Answer]) -> None:
        """Give a sleeve the answers of an open, which its orders have seen from now on."""
        for answer in answers:
            key = (book.identity.run_id, answer.order_id)
            self._missed[key] = self._missed.get(key, 0) + 1
        router_of(book).take(answers)


def answer_of(order: Any, ref: str, outcome: Outcome | None) -> Answer | None:
    """Return what a node books of an order at an open that has passed; None if it is unknown."""
    order_id = order.client_order_id.value
    if outcome is None:
        return Answer(order_id, ref, End.UNSENT, reason=MISSED)
    if not outcome.final:
        return None
    return Answer(order_id, ref, ENDS[outcome.standing], outcome.fills, outcome.reason)


def plan_of(run_id: str, order: Any) -> str:
    """Return what an order is part of: the run, and the close it was decided on."""
    days = [tag for tag in order.tags or () if tag.startswith("as_of:")]
    return f"{run_id}-{days[0].removeprefix('as_of:') if days else order.client_order_id.value}"


def router_of(book: Book) -> ToldRouter:
    """Return a sleeve's router, or raise ConfigError if it was not wired for a broker."""
    if not isinstance(book.router, ToldRouter):
        raise ConfigError("the node was not wired for a broker; set venue to ib")
    return book.router
