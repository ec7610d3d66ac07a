"""Says when the next session may be traded: it has closed, and enough of its data are there."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from prometheus_nt.domain.calendar import MarketCalendar


class Stop(Protocol):
    """An event that somebody may set to end the waiting; `threading.Event` is one."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


def wall_clock() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class SessionClock:
    """Waits for sessions, one at a time.

    Parameters
    ----------
    calendar : MarketCalendar
    is_complete : callable
        Whether enough of a closed session's data have arrived.
    stop : Stop
    on_idle : callable
        Called between two looks: waiting is the time for small chores.
    poll_seconds : float
        Between two looks.
    now : callable
        Returns the time, aware.
    """

    calendar: MarketCalendar
    is_complete: Callable[[date], bool]
    stop: Stop
    on_idle: Callable[[], None]
    poll_seconds: float
    now: Callable[[], datetime] = wall_clock

    def wait_for(self, session: date) -> bool:
        """Return True once a session may be traded, False if stopped before."""
        closes = self.calendar.close_time(session)
        while not self.stop.is_set():
            if self.now() >= closes and self.is_complete(session):
                return True
            self.on_idle()
            self.stop.wait(self.poll_seconds)
        return False
