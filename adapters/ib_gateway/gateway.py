"""The simulated gateway without its sockets: sessions, stages of the market, and faults.

Whatever it has to say is queued as actions, which a server drains; so a test needs no socket.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.ib_gateway import requests
from adapters.ib_gateway.account import Account, require_paper
from adapters.ib_gateway.actions import Action, Close, Later, error
from adapters.ib_gateway.book import Book, Terms
from adapters.ib_gateway.data import DataDesk
from adapters.ib_gateway.faults import Faults
from adapters.ib_gateway.journal import Journal
from adapters.ib_gateway.market import Clock, Stage
from adapters.ib_gateway.requests import Unsupported
from adapters.ib_gateway.session import Session
from adapters.ib_gateway.wire import WireError, fields_of, integer, names

MOST_MESSAGES_PER_SECOND = 50
STRIKES = 3

OVER_THE_LINK = frozenset(
    names("ack modify work fill cancel end positions account summary quote stream real_time grow")
)
"""Events that happen at the broker, not at the gateway."""


@dataclass
class Pacing:
    """Counts the messages of one client; `paces` delays what is too much instead of refusing it."""

    most: int = MOST_MESSAGES_PER_SECOND
    paces: bool = False
    strikes: int = 0
    waiting: deque[bytes] = field(default_factory=deque)
    _times: deque[float] = field(default_factory=deque)

    def admits(self, now: float) -> bool:
        """Count a message of `now`, seconds; return whether it may pass at once."""
        while self._times and now - self._times[0] >= 1.0:
            self._times.popleft()
        if len(self._times) >= self.most:
            return False
        self._times.append(now)
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until the next message may pass."""
        return max(0.0, self._times[0] + 1.0 - now) if self._times else 0.0


class Gateway:
    """One account at one gateway.

    Parameters
    ----------
    terms : Terms
    clock : Clock
    account : Account
    faults : Faults
    journal : Path, optional
        File that outlives the process: orders, executions, ids and the place in the replay.
    identity : str
        Of the prices; a journal of others is refused.
    """

    def __init__(
        self,
        terms: Terms,
        clock: Clock,
        account: Account,
        faults: Faults,
        journal: Path | None = None,
        identity: str = "",
    ) -> None:
        require_paper(account.account_id)
        self.clock, self.faults = clock, faults
        self._journal = Journal(journal, f"{account.account_id} {identity}")
        self.book = Book(terms, clock, account, self._journal, self.emit)
        for fact in self._journal.facts():
            if fact["kind"] == "stage":
                clock.move_to(fact["row"], Stage(fact["stage"]))
        self.sessions: dict[int, Session] = {}
        self._pacing: dict[int, Pacing] = {}
        self.outbox: list[Action] = []
        self._withheld: list[Action] | None = None
        self._account_changed = False
        self.book.interference = faults
        faults.attach(self)

    def accounts(self) -> str:
        return self.faults.accounts(self.book.account.account_id)

    def connect(self, client_id: int, version: int) -> bool:
        """Begin a session; return False if the client's id is taken."""
        if client_id in self.sessions:
            return False
        terms = self.book.terms
        desk = DataDesk(client_id, self.clock, terms.contracts, self.emit, self._quote)
        self.faults.prepare(desk)
        session = Session(client_id, version, self.book, desk, self.emit, self.accounts())
        self.sessions[client_id] = session
        self._pacing[client_id] = Pacing(paces=self.faults.paces)
        session.greet()
        return True

    def disconnect(self, client_id: int) -> None:
        """End a session; its orders live on."""
        self.sessions.pop(client_id, None)
        self._pacing.pop(client_id, None)

    def receive(self, client_id: int, payload: bytes) -> None:
        """Take a message of a client: count it, read it and answer it."""
        pacing = self._pacing[client_id]
        now = self.clock.monotonic()
        if not pacing.waiting and pacing.admits(now):
            self._answer(client_id, payload)
        elif not pacing.paces:
            self.exceed(client_id)
        else:
            pacing.waiting.append(payload)
            if len(pacing.waiting) == 1:
                self.outbox.append(Later(pacing.wait(now), lambda: self._resume(client_id)))

    def exceed(self, client_id: int) -> None:
        """Lose a message that came too fast; the third time ends the connection."""
        pacing = self._pacing[client_id]
        pacing.strikes += 1
        text = "Max rate of messages per second has been exceeded:"
        text += f"max={pacing.most} rec={pacing.most + 1} ({pacing.strikes})"
        self.outbox.append(error(client_id, 100, text))
        if pacing.strikes >= STRIKES:
            self.outbox.append(Close(client_id))

    def _resume(self, client_id: int) -> list[Action]:
        """Answer what waited, in the order in which it came, as far as the pace allows."""
        pacing = self._pacing.get(client_id)
        if pacing is None:
            return []
        now = self.clock.monotonic()
        while pacing.waiting and pacing.admits(now):
            self._answer(client_id, pacing.waiting.popleft())
        if not pacing.waiting:
            return []
        return [Later(pacing.wait(now), lambda: self._resume(client_id))]

    def _answer(self, client_id: int, payload: bytes) -> None:
        session = self.sessions[client_id]
        try:
            request = requests.decode(fields_of(payload), session.version)
        except Unsupported as refusal:
            self.outbox.append(error(client_id, refusal.code, refusal.text, refusal.req_id))
            return
        except WireError as unreadable:
            text = f"Server error when reading an API client request. {unreadable}"
            self.outbox.append(error(client_id, 320, text))
            return
        if request is not None and self.faults.admits(session, request):
            session.handle(request)

    def advance(self) -> bool:
        """Move to the next stage of the replay; return False at its end."""
        coming = self.clock.upcoming()
        if coming is None:
            return False
        self.clock.move_to(*coming)
        self._journal.write("stage", row=coming[0], stage=int(coming[1]))
        moves = {
            Stage.NIGHT: self.book.at_night,
            Stage.OPEN: self.book.at_open,
            Stage.CLOSED: self.book.at_close,
        }
        self.faults.on_stage()
        moves[self.clock.stage]()
        for session in list(self.sessions.values()):
            session.on_stage()
        return True

    def advance_to(self, stage: Stage, sessions: int = 1) -> bool:
        """Move on until a stage has begun so many times; return False if the end came first."""
        seen = 0
        while seen < sessions:
            if not self.advance():
                return False
            seen += self.clock.stage is stage
        return True

    def five_seconds(self) -> None:
        """Tell the bars of the last five seconds."""
        for session in list(self.sessions.values()):
            session.desk.on_five_seconds()

    def three_minutes(self) -> None:
        """Repeat the account, as a gateway does."""
        for session in list(self.sessions.values()):
            session.on_account()

    def emit(self, hook: str, said: Sequence[Action], **about: Any) -> None:
        """Queue what one event makes the gateway say, after faults had their way with it."""
        if hook == "position":
            self._account_changed = True
            for session in list(self.sessions.values()):
                session.on_position(about["column"])
            return
        was_lost = self._withheld is not None
        changed = self.faults.changed(hook, list(said), about)
        if was_lost and self._withheld is not None and hook in OVER_THE_LINK:
            self._withheld += changed
        else:
            self.outbox += changed

    def cut_link(self) -> None:
        """Lose the link to the broker: what comes from there is heard when it is back."""
        if self._withheld is None:
            self._withheld = []

    def restore_link(self) -> None:
        """Have the link back, and say what was withheld."""
        self.outbox += self._withheld or []
        self._withheld = None

    def drain(self) -> list[Action]:
        """Return what is queued, and forget it."""
        if self._account_changed:
            # Once for everything that happened, as a gateway does, not once for each fill.
            self._account_changed = False
            self.three_minutes()
        queued, self.outbox = self.outbox, []
        return queued

    def close(self) -> None:
        self._journal.close()

    def _quote(self, column: int, price: float) -> tuple[float, float]:
        row, fill_price = self.clock.row, self.book.terms.fill_price
        bid, ask = (fill_price(row, column, side, 0, price) for side in (-1, 1))
        return self.faults.quoted(bid, ask)


def client_of(payload: bytes) -> int:
    """Return the client id of the first message after the handshake.

    Raises
    ------
    WireError
        If it is not the message that begins a session.
    """
    fields = fields_of(payload)
    if len(fields) < 3 or fields[0] != "71":
        raise WireError(f"session: expected message 71, found {fields[:1]}")
    return integer(fields[2])
