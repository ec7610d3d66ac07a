"""Stages on a real bus: optional inputs, absent records and feedback."""

from dataclasses import dataclass
from datetime import date

import pytest
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.portfolio.portfolio import Portfolio

from prometheus_nt.actors.engine_actor import EngineActor
from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.bus import Published, publish, subscribe
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.record import Params
from prometheus_nt.domain.runs import Absent

DAYS = (date(2024, 1, 8), date(2024, 1, 9), date(2024, 1, 10))


@dataclass(frozen=True)
class Prices:
    as_of: date


@dataclass(frozen=True)
class Mood:
    as_of: date


@dataclass(frozen=True)
class Book:
    as_of: date
    mood: bool
    before: date | None


class Listener(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.heard = []

    def on_start(self) -> None:
        subscribe(self, Book, Absent)

    def on_data(self, data: Published) -> None:
        self.heard.append(data.record)


def mood_from_the_second_day(prices, _params):
    if prices.as_of == DAYS[0]:
        raise InsufficientHistory(prices.as_of, 2, 1)
    return Mood(prices.as_of)


def book(prices, _params, *, mood, previous):
    return Book(prices.as_of, mood is not None, None if previous is None else previous.as_of)


MOOD = Stage("mood", mood_from_the_second_day, (Prices,), Mood, skippable=True)
BOOK = Stage("book", book, (Prices,), Book, optional={"mood": Mood}, feedback=True)
NEEDS_MOOD = Stage("book", lambda mood, _params: Book(mood.as_of, True, None), (Mood,), Book)


@pytest.fixture
def run():
    """Return a function that runs stages over three days and returns what was published."""

    def through(*stages):
        clock, cache = TestClock(), Cache()
        bus = MessageBus(TraderId("TEST-001"), clock)
        portfolio = Portfolio(bus, cache, clock)
        made = {stage.output for stage in stages}
        source, listener = Actor(), Listener()
        for actor in (*(EngineActor(stage, Params(), made) for stage in stages), source, listener):
            actor.register_base(portfolio, bus, cache, clock)
            actor.start()
        for day in DAYS:
            publish(source, Prices(day))
        return listener.heard

    return through


@pytest.mark.parametrize("order", [(MOOD, BOOK), (BOOK, MOOD)])
def test_a_stage_does_without_an_optional_record_that_is_not_there_yet(run, order):
    books = [record for record in run(*order) if isinstance(record, Book)]

    assert [book.mood for book in books] == [False, True, True]


def test_a_stage_does_not_wait_for_what_nobody_makes(run):
    assert [book.mood for book in run(BOOK)] == [False, False, False]


def test_a_stage_with_feedback_is_handed_its_own_record_of_the_session_before(run):
    assert [book.before for book in run(BOOK)] == [None, *DAYS[:2]]


def test_what_a_required_input_lacks_is_passed_on(run):
    first, second, *_ = run(MOOD, NEEDS_MOOD)

    assert {type(first), type(second)} == {Absent}
    assert {first.record_type, second.record_type} == {"Mood", "Book"}
    assert {first.reason, second.reason} == {"2024-01-08: needs 2 sessions, has 1", "no Mood"}
