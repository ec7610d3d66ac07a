"""Where the orders of a node that trades session by session go: the port, and the sandbox."""

from collections.abc import Callable
from datetime import date
from typing import Protocol

from persistence.answer_tape import AnswerTape
from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.domain.runs import TradingIdentity
from prometheus_nt.domain.safety import TradingState
from prometheus_nt.venue.router import OpenRouter
from strategies.catalog import SleeveParams


class Book(Protocol):
    """What a venue may know of a sleeve that trades."""

    sleeve: SleeveParams
    identity: TradingIdentity
    answers: AnswerTape

    @property
    def last(self) -> date | None: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def router(self) -> OpenRouter: ...

    def may_send(self) -> TradingState: ...


class PaperVenue(Protocol):
    """Where orders go between two sessions; `chore` is done from time to time while it waits."""

    chore: Callable[[], None]

    @property
    def account_id(self) -> str | None:
        """Whose executions they are; None has the simulated exchange fill them."""

    def begins(self, config: NodeConfig) -> date:
        """Return the first session of a run of which nobody said when it begins."""

    def before_open(self, book: Book, session: date, stop: Stop) -> bool:
        """Give a sleeve what became of its orders at an open; False if stopped before."""

    def after_close(self, books: "list[Book]", stop: Stop) -> None:
        """Send what the sleeves decided at the newest close."""

    def look(self) -> None:
        """Use a moment of waiting: raise if trading must halt."""

    def close(self) -> None:
        """Let the venue go; orders live on."""


class SandboxVenue:
    """The simulated exchange inside the node: it fills at the opening quotes by itself."""

    account_id: str | None = None

    def __init__(self) -> None:
        self.chore: Callable[[], None] = lambda: None

    def begins(self, config: NodeConfig) -> date:
        return config.sessions.start

    def before_open(self, book: Book, session: date, stop: Stop) -> bool:  # noqa: ARG002
        return True

    def after_close(self, books: list[Book], stop: Stop) -> None:
        """Do nothing: orders wait in the node's own router."""

    def look(self) -> None:
        """Do nothing: nobody else trades here."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go."""
