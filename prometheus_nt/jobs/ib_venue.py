"""Orders of a paper or live node at Interactive Brokers, and the daily comparison with its books.

1. `after_close` compares the books with the broker's account, then sends an order for the next open
   for each order that waits in a sleeve's router, within the hours in which it can still be in
   time. A reference follows from run, day and instrument: what was sent is never sent again.
2. `before_open` finds out what became of them, writes it to the tape of answers, and only then
   gives it to the node, which books it with the session's data.
3. An order that was never sent, because the node was down or its data late, was missed: it is told
   as cancelled, and the sleeve asks again.
4. `look` cancels at the broker what the kill switch holds back. What the broker's account halts for
   pulls the kill switches of the node, so that only `arm` lets it go on.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

from adapters.ib.broker import TRANSIENT, Broker, Look, OpenOrder
from adapters.ib.config import link_params
from adapters.ib.halt import HaltReason
from adapters.ib.orders import Standing
from persistence.broker_reports import BrokerReport
from persistence.instruments import InstrumentStore
from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.answers import Answer
from prometheus_nt.domain.calendar import TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import GateRefusal, StoreError, TradingHalted
from prometheus_nt.domain.safety import CLOSING, TradingState
from prometheus_nt.jobs.broker_reports import keep_report
from prometheus_nt.jobs.ib_nodes import JOURNAL_FILE, node_folder, remember_node
from prometheus_nt.jobs.order_trail import OrderTrail, answer_of, plan_of, router_of
from prometheus_nt.jobs.safety import halts_of_broker, switch_state
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import Book
from prometheus_nt.venue.prices import equity_instrument

BASELINE = "baseline"
"""Kind of the journal's record of the account that runs began with."""

POLL_SECONDS = 0.02
BATCH = 50
"""Orders that are written and sent at once: between two batches the node may be stopped."""

CHORE_SECONDS = 5.0
LAGS = 3
"""Times the patience with a missing order that a difference of positions may last."""

log = logging.getLogger(__name__)


def open_ib_venue(
    config: NodeConfig,
    stores: Stores,
    names: Iterable[str],
    now: Callable[[], datetime],
    acknowledge: str | None,
) -> "IbVenue":
    """Return the venue of a node's account, connected; it may trade the instruments of `names`.

    Raises
    ------
    ConfigError
        If mode, port and account do not agree, or the gateway does not manage the account.
    LinkDown
        If there is no gateway.
    TradingHalted
        If there is a halt that nobody has acknowledged.
    """
    params = link_params(stores.settings.ib, mode=config.mode, **config.ib.link)
    known = InstrumentStore(stores.historical.database).read()
    today = now().date()
    wanted = {
        name: known.contract(name, today)
        for name in names
        if known.require(name).asset_class != "INDEX"
    }
    home = stores.settings.home
    journal = node_folder(home, params) / JOURNAL_FILE
    broker = Broker(params, journal, wanted, equity_instrument, config.ib.patience)
    sleeves = [sleeve.sleeve_id for sleeve in config.sleeves]
    remember_node(home, params, sleeves, config.ib.cash_tolerance)
    venue = IbVenue(config, broker, now, _switches(config, stores))
    venue.heard = lambda report: keep_report(stores, report)
    try:
        broker.open()
        if acknowledge is not None:
            venue.acknowledge(acknowledge)
        venue.look()
    except BaseException:
        broker.close()
        raise
    return venue


class IbVenue:
    """A `PaperVenue` at the broker.

    Parameters
    ----------
    config : NodeConfig
    broker : Broker
    now : callable
        Returns the time, aware; the broker's hours go by it.
    pull : callable
        Is told why the broker's account halts: it pulls the kill switches.
    """

    def __init__(
        self,
        config: NodeConfig,
        broker: Broker,
        now: Callable[[], datetime],
        pull: Callable[[str], None],
    ) -> None:
        self._params, self._broker, self._now = config.ib, broker, now
        self._calendar = MarketCalendar.of(config.market)
        self._zone = ZoneInfo(TIMEZONES[config.market])
        self._patience = config.ib.answer_minutes * 60.0
        self._capital = sum(sleeve.capital_usd for sleeve in config.sleeves)
        self._trail = OrderTrail(broker.outcome)
        self._pull = pull
        self._books: list[Book] = []
        self._withdrawn: set[str] = set()
        self._evening: list[Book] = []
        self._rebase = False
        self.chore: Callable[[], None] = lambda: None
        self.heard: Callable[[BrokerReport], None] = lambda _report: None
        self._chored = time.monotonic()

    @property
    def account_id(self) -> str | None:
        return f"IB-{self._broker.account}"

    def begins(self, config: NodeConfig) -> date:  # noqa: ARG002
        """Return the session that closes next: no broker trades in the past."""
        today = self._now().date()
        day = today if self._calendar.is_session(today) else self._calendar.next_session(today)
        return day if self._now() < self._closes(day) else self._calendar.next_session(day)

    def acknowledge(self, by: str) -> None:
        """Note who has looked at the halts; the account's cash counts from now on."""
        self._broker.acknowledge(by)
        self._rebase = True

    def look(self) -> None:
        """Raise if trading must halt, and go on with what the evening could not finish."""
        self._require_calm()
        self._clear(self._held_back)
        if self._evening:
            self._go_on(0.0, Event())

    def close(self) -> None:
        self._broker.close()

    # -- halts

    def _require_calm(self) -> None:
        """Raise TradingHalted if the account has a halt, after everything else has stopped."""
        try:
            self._broker.require_calm()
        except TradingHalted as halted:
            self._stop_trading(str(halted))
            raise

    def _halt(self, reason: HaltReason, about: str, detail: str) -> None:
        try:
            self._broker.halt(reason, about, detail)
        except TradingHalted as halted:
            self._stop_trading(str(halted))
            raise

    def _stop_trading(self, reason: str) -> None:
        """Pull the kill switches, and cancel everything that works at the broker."""
        self._pull(reason)
        self._clear(self._broker.working)

    def _clear(self, working: Callable[[], list[str]]) -> None:
        """Cancel orders, and wait for a moment until they are gone."""
        deadline = time.monotonic() + self._params.patience.answer_seconds
        while (refs := working()) and time.monotonic() < deadline:
            for ref in refs:
                self._withdraw(ref)
            time.sleep(POLL_SECONDS)

    def _held_back(self) -> list[str]:
        """Return what works at the broker and may not leave any more."""
        found = []
        for book in self._books:
            state = book.may_send()
            for order in router_of(book).waiting():
                ref, outcome = self._trail.newest(book, order)
                works = outcome is not None and not outcome.standing.is_final
                if works and not _may_leave(order, state):
                    found.append(ref)
        return found

    def _withdraw(self, ref: str) -> None:
        """Ask for the end of an order, once."""
        if ref in self._withdrawn:
            return
        try:
            self._broker.withdraw(ref)
        except (GateRefusal, TradingHalted) as refused:
            log.warning("order=%s works on although trading has stopped: %s", ref, refused)
            return
        self._withdrawn.add(ref)
        log.warning("order=%s is withdrawn", ref)

    # -- what became of orders

    def before_open(self, book: Book, session: date, stop: Stop) -> bool:
        waiting = router_of(book).waiting()
        if not waiting:
            return True
        answers = book.answers.of(session)
        if answers is None:
            answers = self._answers(book, waiting, stop)
            if answers is None:
                return False
            book.answers.write(session, answers)
        self._trail.take(book, answers)
        return True

    def _answers(self, book: Book, waiting: list[Any], stop: Stop) -> tuple[Answer, ...] | None:
        deadline = time.monotonic() + self._patience
        if self._looked(deadline, stop) is None:
            if stop.is_set():
                return None
            raise TradingHalted(
                f"the broker cannot be asked for {self._params.answer_minutes:g} minutes; log in "
                "to the gateway, then start again"
            )
        found = []
        for order in waiting:
            answer = self._answer(book, order, deadline, stop)
            if answer is None:
                return None
            found.append(answer)
        return tuple(found)

    def _answer(self, book: Book, order: Any, deadline: float, stop: Stop) -> Answer | None:
        while True:
            self._require_calm()
            ref, outcome = self._trail.newest(book, order)
            answer = answer_of(order, ref, outcome)
            if answer is not None:
                return answer
            if outcome is not None and time.monotonic() > deadline:
                raise TradingHalted(
                    f"order {ref}: the broker has not said what became of it, or what a fill "
                    f"cost; it is {outcome.standing.value}; look at the broker's own screen, then "
                    "start again"
                )
            if stop.is_set():
                return None
            self._pause(POLL_SECONDS)

    # -- sending

    def after_close(self, books: list[Book], stop: Stop) -> None:
        self._books = self._evening = list(books)
        self._go_on(self._patience, stop)

    def _go_on(self, patience: float, stop: Stop) -> None:
        """Compare the books, then send; what takes longer than `patience` seconds goes on later."""
        newest = {book.last for book in self._evening}
        last = newest.pop()
        if newest or not self._is_current(last):
            self._evening = []
            return
        deadline = time.monotonic() + patience
        if not self._reconcile(self._evening, last, deadline, stop):
            return
        if last is None or all([self._sent(book, last, deadline, stop) for book in self._evening]):
            self._evening = []

    def _sent(self, book: Book, last: date, deadline: float, stop: Stop) -> bool:
        """Send what waits; return False if something is unsent or unanswered, and in time yet."""
        opens = self._opens(self._calendar.next_session(last))
        until = opens - timedelta(minutes=self._params.send_until_minutes)
        since = self._closes(last) + timedelta(minutes=self._params.send_after_minutes)
        while not stop.is_set():
            self._require_calm()
            unsent, unanswered = self._unsent(book)
            if not unsent and not unanswered:
                return True
            if self._now() >= until:
                log.error("sleeve=%s missed=%d orders", book.sleeve.sleeve_id, len(unsent))
                return True
            if unsent and self._now() >= since:
                self._place(unsent[:BATCH])
            if time.monotonic() > deadline:
                break
            self._pause(POLL_SECONDS)
        return False

    def _place(self, orders: list[OpenOrder]) -> None:
        try:
            self._broker.place(orders)
        except TRANSIENT as refused:
            log.warning("ib %d orders wait: %s", len(orders), refused)

    def _unsent(self, book: Book) -> tuple[list[OpenOrder], int]:
        """Return what is still to be sent, and how many orders have no answer.

        What the kill switch holds back is missed: when trading is armed again, the sleeve decides
        again.
        """
        unsent, unanswered, state = [], 0, book.may_send()
        for order in book.router.waiting():
            ref, outcome = self._trail.newest(book, order)
            if outcome is not None:
                unanswered += outcome.standing is Standing.SENT
                continue
            if not _may_leave(order, state):
                log.warning("order=%s is not sent: trading is %s", ref, state)
                continue
            shares = int(order.quantity.as_decimal())
            unsent.append(
                OpenOrder(
                    ref=ref,
                    plan=plan_of(book.identity.run_id, order),
                    instrument_id=order.instrument_id.value,
                    shares=shares if order.is_buy else -shares,
                    strategy=book.sleeve.sleeve_id,
                )
            )
        return unsent, unanswered

    # -- the comparison of books

    def _reconcile(self, books: list[Book], last: date | None, deadline: float, stop: Stop) -> bool:
        """Halt if the broker's account is not what the books say; False if it cannot be asked."""
        begun, ours = time.monotonic(), _held(books)
        while (look := self._looked(deadline, stop, [n for n in ours if ours[n]])) is not None:
            difference = _difference(ours, look)
            if difference is None:
                self._tell(books, ours, look, last)
                self._require_orders(books, look)
                self._require_cash(books, look, last)
                return True
            # The broker's list of positions lags behind its executions.
            if time.monotonic() - begun > LAGS * self._params.patience.apart_seconds:
                self._tell(books, ours, look, last)
                self._halt(HaltReason.POSITION_BREAK, *difference)
            self._pause(self._params.patience.retry_seconds)
        return False

    def _tell(
        self, books: list[Book], ours: Mapping[str, int], look: Look, last: date | None
    ) -> None:
        runs = tuple(sorted(book.identity.run_id for book in books))
        account = f"IB-{self._broker.account}"
        self.heard(BrokerReport(account, self._now(), last, runs, look.shares, ours, look.cash))

    def _require_orders(self, books: list[Book], look: Look) -> None:
        ours = {
            self._trail.newest(book, order)[0] for book in books for order in book.router.waiting()
        }
        strange = sorted(look.open_refs - ours)
        if strange:
            detail = f"{len(strange)} orders work that no sleeve waits for: {', '.join(strange)}"
            self._halt(HaltReason.UNKNOWN_ORDER, strange[0], detail)

    def _require_cash(self, books: list[Book], look: Look, last: date | None) -> None:
        runs = sorted(book.identity.run_id for book in books)
        ours = sum(book.ledger.cash for book in books)
        begun = [each for each in self._broker.noted(BASELINE) if each["runs"] == runs]
        if not begun or self._rebase:
            self._broker.note(BASELINE, runs=runs, other_cash=look.cash - ours)
            self._rebase = False
            return
        # At night the broker books what the next session pays; the books do with its data.
        if last is None or self._now().astimezone(self._zone).date() != last:
            return
        difference = look.cash - ours - begun[-1]["other_cash"]
        if abs(difference) > self._params.cash_tolerance * self._capital:
            detail = f"it differs by {difference:,.2f} USD from what the books explain"
            self._halt(HaltReason.CASH_BREAK, "", detail)

    def _looked(self, deadline: float, stop: Stop, held: Sequence[str] = ()) -> Look | None:
        """Return the broker's lists, read now; None if stopped, or too late for another try."""
        while not stop.is_set():
            try:
                return self._broker.look(held)
            except TRANSIENT as failed:
                self._require_calm()
                log.warning("ib lists: %s", failed)
                if time.monotonic() > deadline:
                    return None
                self._pause(self._params.patience.retry_seconds)
        return None

    def _pause(self, seconds: float) -> None:
        """Wait, and do what has to be done while somebody waits."""
        if time.monotonic() - self._chored > CHORE_SECONDS:
            self._chored = time.monotonic()
            self.chore()
        time.sleep(seconds)

    # -- time

    def _is_current(self, last: date | None) -> bool:
        """Return whether no session has opened since the books' last one closed."""
        if last is None:
            return True
        return self._now() < self._opens(self._calendar.next_session(last))

    def _opens(self, session: date) -> datetime:
        return datetime.fromtimestamp(self._calendar.open_ns(session) / 1e9, tz=UTC)

    def _closes(self, session: date) -> datetime:
        return self._calendar.close_time(session)


def _switches(config: NodeConfig, stores: Stores) -> Callable[[str], None]:
    """Return what pulls the kill switch of every sleeve of a node that is not halted yet."""

    def pull(reason: str) -> None:
        for sleeve in config.sleeves:
            # Without the database the brake file holds this machine until it is told.
            with suppress(StoreError):
                if not _is_halted(stores, sleeve.sleeve_id):
                    halts_of_broker(stores, sleeve.sleeve_id)(reason)

    return pull


def _is_halted(stores: Stores, sleeve_id: str) -> bool:
    with suppress(StoreError):
        return switch_state(stores, sleeve_id).state is TradingState.HALTED
    return False


def _may_leave(order: Any, state: TradingState) -> bool:
    if state is TradingState.FLATTENING:
        return CLOSING in (order.tags or ())
    return state is TradingState.ARMED


def _held(books: list[Book]) -> dict[str, int]:
    """Return the signed shares of each instrument over all books."""
    ours: dict[str, int] = {}
    for book in books:
        held = zip(book.ledger.instruments, book.ledger.shares.tolist(), strict=True)
        for name, shares in held:
            ours[name] = ours.get(name, 0) + shares
    return ours


def _difference(ours: Mapping[str, int], look: Look) -> tuple[str, str] | None:
    """Return the first instrument that the broker holds otherwise, and how; None if none is."""
    for name in sorted(ours.keys() | look.shares.keys()):
        mine, theirs = ours.get(name, 0), look.shares.get(name, 0)
        if mine != theirs:
            return name, f"the broker holds {theirs} shares, the books say {mine}"
    return None
