"""The broker's venue as a node's own records know it: nothing is asked, and nothing is sent.

What the node has booked is on its tape of answers. What it has heard since is in its journal.
"""

from collections.abc import Callable
from datetime import date

from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.answers import Answer
from prometheus_nt.domain.errors import VenueError
from prometheus_nt.jobs.ib_nodes import IbNode, node_of_sleeve
from prometheus_nt.jobs.order_trail import OrderTrail, answer_of, router_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import Book, PaperVenue, SandboxVenue


class RecordedVenue:
    """A `PaperVenue` of a node that trades, or will trade, at the broker.

    Parameters
    ----------
    node : IbNode or None
        None has traded nothing yet.
    """

    def __init__(self, node: IbNode | None) -> None:
        self.account_id = "IB-" if node is None else f"IB-{node.params.account}"
        self.chore: Callable[[], None] = lambda: None
        outcome = (lambda _: None) if node is None else node.orders().outcome
        self.trail = OrderTrail(outcome)

    def begins(self, config: NodeConfig) -> date:
        return config.sessions.start

    def before_open(self, book: Book, session: date, stop: Stop) -> bool:  # noqa: ARG002
        """Give a sleeve the answers of an open.

        Raises
        ------
        VenueError
            If the node has not heard yet what became of an order.
        """
        waiting = router_of(book).waiting()
        if waiting:
            answers = book.answers.of(session) or self._answers(book, waiting, session)
            self.trail.take(book, answers)
        return True

    def after_close(self, books: list[Book], stop: Stop) -> None:
        """Do nothing: orders wait in the node's own router."""

    def look(self) -> None:
        """Do nothing: nobody is asked."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go."""

    def _answers(self, book: Book, waiting: list[object], session: date) -> tuple[Answer, ...]:
        found = []
        for order in waiting:
            ref, outcome = self.trail.newest(book, order)
            answer = answer_of(order, ref, outcome)
            if answer is None:
                raise VenueError(
                    f"order {ref}: the node has not heard what became of it at the open of "
                    f"{session}; let it run, then ask again"
                )
            found.append(answer)
        return tuple(found)


def venue_on_record(config: NodeConfig, stores: Stores, sleeve_id: str) -> PaperVenue:
    """Return where a sleeve can be tried without anything being sent."""
    if config.venue == "sandbox":
        return SandboxVenue()
    return RecordedVenue(node_of_sleeve(stores.settings.home, config.mode, sleeve_id))
