from datetime import UTC, date, datetime, timedelta

import pytest

from prometheus_nt.actors.session_clock import SessionClock
from prometheus_nt.domain.calendar import MarketCalendar

SESSION = date(2024, 7, 3)
"""A half day: New York closes at 13:00, 17:00 UTC."""


NEVER = datetime.max.replace(tzinfo=UTC)


class Waiting:
    """Time that passes only while somebody waits."""

    def __init__(self, begins, stops=NEVER):
        self.time, self.stops, self.idled, self.asked = begins, stops, 0, []

    def now(self):
        return self.time

    def is_set(self):
        return self.time >= self.stops

    def wait(self, timeout):
        self.time += timedelta(seconds=timeout)
        return self.is_set()

    def idle(self):
        self.idled += 1

    def complete_from(self, moment):
        def is_complete(session):
            self.asked.append((session, self.time))
            return self.time >= moment

        return is_complete


def clock(waiting, complete_from):
    is_complete = waiting.complete_from(complete_from)
    calendar = MarketCalendar.of("US_EQ")
    return SessionClock(calendar, is_complete, waiting, waiting.idle, 600.0, waiting.now)


def test_a_session_is_not_asked_for_before_its_close_and_traded_when_its_data_are_there():
    waiting = Waiting(datetime(2024, 7, 3, 16, 35, tzinfo=UTC))
    arrives = datetime(2024, 7, 3, 17, 40, tzinfo=UTC)

    assert clock(waiting, arrives).wait_for(SESSION)

    assert waiting.time == datetime(2024, 7, 3, 17, 45, tzinfo=UTC)
    assert waiting.asked[0] == (SESSION, datetime(2024, 7, 3, 17, 5, tzinfo=UTC))
    assert waiting.idled == 7


def test_data_that_are_there_are_not_waited_for():
    begins = datetime(2024, 7, 8, 12, 0, tzinfo=UTC)
    waiting = Waiting(begins)

    assert clock(waiting, begins).wait_for(SESSION)

    assert (waiting.time, waiting.idled) == (begins, 0)


@pytest.mark.parametrize("hours", [0, 3])
def test_a_stop_ends_the_waiting(hours):
    begins = datetime(2024, 7, 3, 12, 0, tzinfo=UTC)
    waiting = Waiting(begins, stops=begins + timedelta(hours=hours))

    assert not clock(waiting, NEVER).wait_for(SESSION)

    assert waiting.time - begins == timedelta(hours=hours)
