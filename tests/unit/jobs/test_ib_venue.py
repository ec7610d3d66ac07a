"""When orders go to the broker, what is told of them, and when books and account do not agree."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

from adapters.ib.broker import Look, OpenOrder, Outcome
from adapters.ib.config import DeskParams
from adapters.ib.errors import LinkDown
from adapters.ib.halt import HaltReason
from adapters.ib.orders import Standing
from persistence.answer_tape import AnswerTape
from persistence.spool import Spool
from prometheus_nt.config import IbConfig
from prometheus_nt.domain.answers import Answer, End, ToldFill
from prometheus_nt.domain.errors import GateRefusal, TradingHalted
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.domain.safety import CLOSING, TradingState
from prometheus_nt.jobs.ib_venue import IbVenue
from prometheus_nt.venue.params import RouterParams
from prometheus_nt.venue.told import ToldRouter

FRIDAY, MONDAY = date(2006, 1, 6), date(2006, 1, 9)
EVENING = datetime(2006, 1, 6, 21, 30, tzinfo=UTC)
JUST_CLOSED = datetime(2006, 1, 6, 21, 1, tzinfo=UTC)
TOO_LATE = datetime(2006, 1, 9, 14, 25, tzinfo=UTC)
OPENED = datetime(2006, 1, 9, 14, 31, tzinfo=UTC)
FILL = ToldFill("t1", 100, 50.01, 1.0, 1)
FILLED = Outcome(Standing.FILLED, True, False, (FILL,), None)
ACCEPTED = Outcome(Standing.ACCEPTED, False, False, (), None)
NEVER = Outcome(Standing.REJECTED, True, True, (), "never reached the broker")


class FakeBroker:
    """Takes every order, and says of each what a test wants."""

    account = "DU1234567"

    def __init__(self) -> None:
        self.placed: list[OpenOrder] = []
        self.outcomes: dict[str, Outcome] = {}
        self.says = ACCEPTED
        self.account_now = Look({}, 5_000.0, frozenset())
        self.halts: list[tuple[HaltReason, str, str]] = []
        self.facts: list[dict] = []
        self.failures = 0
        self.withdrawn: list[str] = []
        self.pulled: list[str] = []
        self.refuses_to_cancel = False

    def working(self):
        return [ref for ref, each in self.outcomes.items() if not each.standing.is_final]

    def withdraw(self, ref) -> None:
        if self.refuses_to_cancel:
            raise GateRefusal("link", "the link is down")
        self.withdrawn.append(ref)

    def place(self, orders) -> None:
        self.placed += orders
        self.outcomes |= {order.ref: self.says for order in orders}

    def outcome(self, ref):
        return self.outcomes.get(ref)

    def look(self, held=()):
        if self.failures:
            self.failures -= 1
            raise LinkDown("lists", "down", "a test")
        return self.account_now

    def require_calm(self) -> None:
        if self.halts:
            raise TradingHalted(str(self.halts[0]))

    def halt(self, *reason) -> None:
        self.halts.append(reason)
        self.require_calm()

    def note(self, kind, **fact) -> None:
        self.facts.append({"kind": kind, **fact})

    def noted(self, kind):
        return [fact for fact in self.facts if fact["kind"] == kind]


@dataclass
class FakeOrder:
    name: str = "AAPL.US"
    shares: int = 100
    is_buy: bool = True
    is_closed: bool = False
    tags: list[str] = field(default_factory=lambda: [f"as_of:{FRIDAY}"])

    @property
    def client_order_id(self):
        return SimpleNamespace(value=f"O-{self.name}")

    @property
    def instrument_id(self):
        return SimpleNamespace(value=self.name)

    @property
    def quantity(self):
        return SimpleNamespace(as_decimal=lambda: self.shares)

    def __hash__(self) -> int:
        return hash(self.name)


class FakeBook:
    """A sleeve with one order that waits."""

    def __init__(self, path, *orders) -> None:
        self.sleeve = SimpleNamespace(sleeve_id="ONE")
        self.identity = SimpleNamespace(run_id="run")
        self.answers = AnswerTape(Spool(path / "answers.spool"))
        self.last = FRIDAY
        self.ledger = Ledger(("AAPL.US", "IBM.US"), 1_000.0)
        self.router = ToldRouter(RouterParams(), {})
        self.state = TradingState.ARMED
        for order in orders:
            self.router.on_order(order)

    def may_send(self) -> TradingState:
        return self.state


@pytest.fixture
def broker():
    return FakeBroker()


def venue_of(broker, at=EVENING, **changed):
    patience = DeskParams(answer_seconds=0.05, apart_seconds=0.01, retry_seconds=0.01)
    params = IbConfig(patience=patience, **({"answer_minutes": 0.01} | changed))
    config = SimpleNamespace(ib=params, market="US_EQ", sleeves=[SimpleNamespace(capital_usd=1e3)])
    return IbVenue(config, broker, lambda: at, broker.pulled.append)


def test_an_order_is_sent_once_in_the_evening(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder(shares=100, is_buy=False)), venue_of(broker)

    venue.after_close([book], Event())
    venue.after_close([book], Event())

    (order,) = broker.placed
    assert (order.instrument_id, order.shares, order.strategy) == ("AAPL.US", -100, "ONE")
    assert order.ref == "run-2006-01-06-AAPL.US-0-0"


@pytest.mark.parametrize(
    ("state", "tags", "sent"),
    [
        (TradingState.HALTED, (), 0),
        (TradingState.HALTED, (CLOSING,), 0),
        (TradingState.FLATTENING, (), 0),
        (TradingState.FLATTENING, (CLOSING,), 1),
    ],
)
def test_nothing_leaves_that_the_kill_switch_holds_back(broker, tmp_path, state, tags, sent):
    order = FakeOrder()
    order.tags = [*order.tags, *tags]
    book, venue = FakeBook(tmp_path, order), venue_of(broker)
    book.state = state

    venue.after_close([book], Event())

    assert len(broker.placed) == sent


@pytest.mark.parametrize("late", [TOO_LATE, OPENED])
def test_what_is_not_sent_in_time_was_missed(broker, tmp_path, late):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker, late)

    venue.after_close([book], Event())
    venue.before_open(book, MONDAY, Event())

    assert broker.placed == []
    (answer,) = book.answers.of(MONDAY)
    assert (answer.order_id, answer.end, answer.fills) == ("O-AAPL.US", End.UNSENT, ())


def test_orders_wait_for_the_minutes_after_the_close(broker, tmp_path):
    moments = iter([JUST_CLOSED] * 6)
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    venue._now = lambda: next(moments, EVENING)

    venue.after_close([book], Event())

    assert next(moments, None) is None
    assert len(broker.placed) == 1


def test_only_what_never_arrived_gets_another_attempt(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    broker.outcomes["run-2006-01-06-AAPL.US-0-0"] = NEVER

    venue.after_close([book], Event())

    assert [order.ref for order in broker.placed] == ["run-2006-01-06-AAPL.US-0-1"]


def test_answers_are_on_the_tape_and_are_not_asked_for_again(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    broker.says = FILLED
    venue.after_close([book], Event())

    assert venue.before_open(book, MONDAY, Event())
    broker.outcomes.clear()
    broker.failures = 99
    assert venue_of(broker).before_open(book, MONDAY, Event())

    ref = "run-2006-01-06-AAPL.US-0-0"
    expected = Answer("O-AAPL.US", ref, End.FILLED, (FILL,))
    assert book.answers.of(MONDAY) == (expected,)
    assert book.router.answers == {"O-AAPL.US": expected}


def test_an_order_that_is_carried_goes_to_the_next_open_under_another_reference(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    broker.says = Outcome(Standing.CANCELLED, True, False, (), None)
    venue.after_close([book], Event())
    venue.before_open(book, MONDAY, Event())

    venue.after_close([book], Event())

    assert [order.ref for order in broker.placed] == [
        "run-2006-01-06-AAPL.US-0-0",
        "run-2006-01-06-AAPL.US-1-0",
    ]


def test_an_order_without_an_answer_halts_after_the_patience(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker, answer_minutes=0.001)
    venue.after_close([book], Event())

    with pytest.raises(TradingHalted, match="has not said what became of it"):
        venue.before_open(book, MONDAY, Event())

    assert book.answers.of(MONDAY) is None


def test_a_stop_ends_the_waiting_for_answers(broker, tmp_path):
    book, venue, stop = FakeBook(tmp_path, FakeOrder()), venue_of(broker), Event()
    venue.after_close([book], stop)
    stop.set()

    assert not venue.before_open(book, MONDAY, stop)


def test_a_broker_that_is_away_for_a_moment_is_asked_again(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    broker.failures = 3

    venue.after_close([book], Event())

    assert len(broker.placed) == 1


def test_what_the_evening_could_not_send_goes_out_when_the_broker_is_back(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker, answer_minutes=0.001)
    broker.failures = 10**9
    venue.after_close([book], Event())
    venue.look()
    assert broker.placed == []

    broker.failures = 0
    venue.look()
    venue.look()

    assert len(broker.placed) == 1


def test_a_broker_that_cannot_be_asked_for_answers_halts(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker, answer_minutes=0.001)
    venue.after_close([book], Event())
    broker.failures = 10**9

    with pytest.raises(TradingHalted, match="cannot be asked"):
        venue.before_open(book, MONDAY, Event())


def test_at_night_cash_is_not_compared(broker, tmp_path):
    book, venue = FakeBook(tmp_path), venue_of(broker)
    venue.after_close([book], Event())
    broker.account_now = Look({}, 5_100.0, frozenset())

    venue_of(broker, datetime(2006, 1, 9, 12, 0, tzinfo=UTC)).after_close([book], Event())

    assert broker.halts == []


@pytest.mark.parametrize("held", [{"AAPL.US": 90}, {}, {"AAPL.US": 100, "XYZ (5)": 1}])
def test_positions_that_are_not_ours_halt_before_anything_is_sent(broker, tmp_path, held):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    book.ledger.shares = np.array([100, 0])
    broker.account_now = Look(held, 5_000.0, frozenset())

    with pytest.raises(TradingHalted, match="the broker holds"):
        venue.after_close([book], Event())

    assert broker.halts[0][0] is HaltReason.POSITION_BREAK
    assert broker.placed == []
    assert "POSITION_BREAK" in broker.pulled[0]


@pytest.mark.parametrize("held", [{}, {"AAPL.US": 7}])
def test_what_the_broker_said_is_told_whether_it_agrees_or_not(broker, tmp_path, held):
    venue, told = venue_of(broker), []
    venue.heard = told.append
    broker.account_now = Look(held, 5_000.0, frozenset())

    with pytest.raises(TradingHalted) if held else nullcontext():
        venue.after_close([FakeBook(tmp_path)], Event())

    (report,) = told
    assert (report.account_id, report.as_of, report.runs) == ("IB-DU1234567", FRIDAY, ("run",))
    assert (report.at, report.cash, report.breaks) == (EVENING, 5_000.0, held)


def test_the_positions_of_all_sleeves_are_compared_together(broker, tmp_path):
    first, second = FakeBook(tmp_path / "a"), FakeBook(tmp_path / "b")
    first.ledger.shares, second.ledger.shares = np.array([100, 5]), np.array([-40, 0])
    broker.account_now = Look({"AAPL.US": 60, "IBM.US": 5}, 5_000.0, frozenset())

    venue_of(broker).after_close([first, second], Event())

    assert broker.halts == []


@pytest.mark.parametrize(("cash", "halts"), [(5_000.9, False), (4_998.0, True), (5_001.1, True)])
def test_cash_may_differ_by_the_tolerance_from_what_the_books_explain(
    broker, tmp_path, cash, halts
):
    book, venue = FakeBook(tmp_path), venue_of(broker)
    venue.after_close([book], Event())
    broker.account_now = Look({}, cash, frozenset())

    if halts:
        with pytest.raises(TradingHalted, match="it differs by"):
            venue.after_close([book], Event())
    else:
        venue.after_close([book], Event())

    assert [fact["other_cash"] for fact in broker.facts] == [4_000.0]


def test_an_open_order_that_no_sleeve_waits_for_halts(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    broker.account_now = Look({}, 5_000.0, frozenset({"somebody's"}))

    with pytest.raises(TradingHalted, match="no sleeve waits for"):
        venue.after_close([book], Event())


def test_a_run_begins_with_the_session_that_closes_next(broker):
    assert venue_of(broker, JUST_CLOSED).begins(None) == MONDAY
    assert venue_of(broker, datetime(2006, 1, 6, 20, 0, tzinfo=UTC)).begins(None) == FRIDAY
    assert venue_of(broker, datetime(2006, 1, 7, 12, 0, tzinfo=UTC)).begins(None) == MONDAY


REF = "run-2006-01-06-AAPL.US-0-0"


def test_a_halt_that_the_desk_found_pulls_the_kill_switch(broker):
    broker.halts.append((HaltReason.DUPLICATE_ORDER, REF, "two permanent ids"))

    with pytest.raises(TradingHalted, match="DUPLICATE_ORDER"):
        venue_of(broker).look()

    assert len(broker.pulled) == 1


@pytest.mark.parametrize(
    ("state", "tags", "withdrawn"),
    [
        (TradingState.ARMED, (), []),
        (TradingState.HALTED, (), [REF]),
        (TradingState.HALTED, (CLOSING,), [REF]),
        (TradingState.FLATTENING, (), [REF]),
        (TradingState.FLATTENING, (CLOSING,), []),
    ],
)
def test_what_works_at_the_broker_is_cancelled_once_when_the_switch_is_pulled(
    broker, tmp_path, state, tags, withdrawn
):
    order = FakeOrder()
    order.tags = [*order.tags, *tags]
    book, venue = FakeBook(tmp_path, order), venue_of(broker)
    venue.after_close([book], Event())
    book.state = state

    venue.look()
    venue.look()

    assert broker.withdrawn == withdrawn


def test_a_cancel_that_cannot_be_asked_now_is_asked_at_the_next_look(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    venue.after_close([book], Event())
    book.state, broker.refuses_to_cancel = TradingState.HALTED, True
    venue.look()

    broker.refuses_to_cancel = False
    venue.look()

    assert broker.withdrawn == [REF]


def test_an_order_that_has_ended_is_not_cancelled(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    venue.after_close([book], Event())
    broker.outcomes[REF], book.state = FILLED, TradingState.HALTED

    venue.look()

    assert broker.withdrawn == []


def test_a_halt_of_the_account_cancels_what_works_there(broker, tmp_path):
    book, venue = FakeBook(tmp_path, FakeOrder()), venue_of(broker)
    venue.after_close([book], Event())
    broker.halts.append((HaltReason.UNKNOWN_ORDER, "", "somebody's"))

    with pytest.raises(TradingHalted, match="UNKNOWN_ORDER"):
        venue.look()

    assert broker.withdrawn == [REF]
