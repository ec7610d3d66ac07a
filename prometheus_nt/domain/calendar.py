"""Trading sessions of a market: when they are, when they open and close.

The sessions are those of exchange_calendars, their hours corrected where its record of the past is
wrong (see `calendar_corrections`). London's hours before its order book of October 1997 are
today's, which is not how it traded then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from prometheus_nt.domain.calendar_corrections import Hours, correct_new_york, correct_tokyo
from prometheus_nt.domain.errors import ConfigError, DataError, NonSession
from prometheus_nt.domain.record import IntArray, SessionArray

MARKETS = {"US_EQ": "XNYS", "EU_EQ": "XLON", "ASIA_EQ": "XTKS"}
"""Market id -> ISO 10383 code of the exchange whose sessions it keeps."""

REGIONS = {"US": "US_EQ", "EU": "EU_EQ", "ASIA": "ASIA_EQ"}

TIMEZONES = {"US_EQ": "America/New_York", "EU_EQ": "Europe/London", "ASIA_EQ": "Asia/Tokyo"}

FIRST_DAY = date(1980, 1, 1)
"""Explicit start: exchange_calendars otherwise covers only the last twenty years."""

LAST_DAY = date(2035, 12, 31)
"""Explicit end: the library's own is a year from the day a process imported it, so that two
processes, or one run before and after midnight, would disagree on the sessions there are."""

LATER_FIRST_DAYS = {"ASIA_EQ": date(1997, 1, 1)}
"""Markets whose sessions are known only from a later day on."""


@dataclass(frozen=True, eq=False)
class MarketCalendar:
    """The sessions of one market.

    Attributes
    ----------
    sessions : (S,) array of datetime64[D]
        Every session between the calendar's first and last day, ascending.
    opens_ns, closes_ns : (S,) int64 arrays
        First and last instant of regular trading, UNIX nanoseconds.
    half_days : (S,) bool array
        True where trading ends earlier than on a regular day.
    breaks_ns, resumes_ns : (S,) int64 arrays
        First instant of the lunch break and first one after it; both the close where there is none.
    """

    market_id: str
    sessions: SessionArray
    opens_ns: IntArray
    closes_ns: IntArray
    half_days: np.ndarray
    breaks_ns: IntArray
    resumes_ns: IntArray

    @classmethod
    def of(cls, market_id: str) -> "MarketCalendar":
        """Return the calendar of `market_id`, built once per process."""
        if market_id not in MARKETS:
            known = ", ".join(MARKETS)
            raise ConfigError(f"market: unknown market {market_id!r}; known markets: {known}")
        return _CALENDARS.of(market_id)

    @classmethod
    def build_by(cls, build: "Callable[[str], MarketCalendar]") -> None:
        """Have the calendars that are not there yet built by `build`, from a market's id."""
        _CALENDARS.build = build

    def require_covered(self, day: date, field: str | None = None) -> None:
        """Raise `DataError` for a day before or after the calendar, naming the `field` it is of."""
        first = LATER_FIRST_DAYS.get(self.market_id, FIRST_DAY)
        last = self._at(len(self.sessions) - 1)
        if not first <= day <= last:
            whose = f"{field}: " if field else ""
            raise DataError(
                f"{whose}{day}: the {self.market_id} calendar covers {first} to {last}; "
                "use a day between them"
            )

    def is_session(self, day: date) -> bool:
        self.require_covered(day)
        row = self._first_row_from(day)
        return row < len(self.sessions) and bool(self.sessions[row] == np.datetime64(day, "D"))

    def require_session(self, day: date) -> date:
        """Return `day`, or raise `NonSession` naming the sessions around it."""
        if self.is_session(day):
            return day
        before, after = self.previous_session(day), self.next_session(day)
        remedy = f"use the previous session {before} or the next session {after}"
        raise NonSession(day, self.market_id, remedy)

    def next_session(self, day: date, count: int = 1) -> date:
        """Return the `count`-th session after `day` (`day` itself never counts)."""
        self.require_covered(day)
        row = int(np.searchsorted(self.sessions, np.datetime64(day, "D"), side="right"))
        return self._at(row + count - 1)

    def previous_session(self, day: date, count: int = 1) -> date:
        """Return the `count`-th session before `day` (`day` itself never counts)."""
        self.require_covered(day)
        return self._at(self._first_row_from(day) - count)

    def roll_back(self, day: date) -> date:
        """Return `day` if it is a session, else the session before it."""
        return day if self.is_session(day) else self.previous_session(day)

    def between(self, start: date, end: date) -> SessionArray:
        """Return the sessions from `start` to `end`, both included."""
        self.require_covered(start)
        self.require_covered(end)
        last = int(np.searchsorted(self.sessions, np.datetime64(end, "D"), side="right"))
        return self.sessions[self._first_row_from(start) : last]

    def open_ns(self, session: date) -> int:
        return int(self.opens_ns[self._row(session)])

    def close_ns(self, session: date) -> int:
        return int(self.closes_ns[self._row(session)])

    def close_time(self, session: date) -> datetime:
        """Return the close of `session` as an aware UTC time."""
        return datetime.fromtimestamp(self.close_ns(session) / 1e9, tz=UTC)

    def is_half_day(self, session: date) -> bool:
        return bool(self.half_days[self._row(session)])

    def rows(self, sessions: SessionArray) -> IntArray:
        """Return the calendar row of each of `sessions`; all must be sessions."""
        rows = np.searchsorted(self.sessions, sessions)
        inside = rows < len(self.sessions)
        found = inside & (self.sessions[np.minimum(rows, len(self.sessions) - 1)] == sessions)
        if not found.all():
            self.require_session(sessions[~found][0].astype(object))
        return rows.astype(np.int64)

    def _row(self, session: date) -> int:
        self.require_session(session)
        return self._first_row_from(session)

    def _first_row_from(self, day: date) -> int:
        return int(np.searchsorted(self.sessions, np.datetime64(day, "D")))

    def _at(self, row: int) -> date:
        if not 0 <= row < len(self.sessions):
            first, last = self.sessions[0], self.sessions[-1]
            raise DataError(
                f"{self.market_id}: the calendar covers only {first} to {last}; "
                "start further inside it"
            )
        session: date = self.sessions[row].astype(object)
        return session


_CORRECTIONS: Mapping[str, Callable[[Hours, ZoneInfo], None]] = {
    "US_EQ": correct_new_york,
    "ASIA_EQ": correct_tokyo,
}


def build_calendar(market_id: str) -> MarketCalendar:
    """Return a new calendar of a market; it costs a second, and what it imports stays in memory."""
    start = LATER_FIRST_DAYS.get(market_id, FIRST_DAY)
    # It brings pandas: a second that commands without a calendar need not wait.
    import exchange_calendars

    span = {"start": start.isoformat(), "end": LAST_DAY.isoformat()}
    raw = exchange_calendars.get_calendar(MARKETS[market_id], **span)
    sessions = raw.sessions.to_numpy().astype("datetime64[D]")
    half_days = np.isin(sessions, raw.early_closes.to_numpy().astype("datetime64[D]"))
    closes = raw.closes_nanos
    # Without a break the library has NaT, which is the smallest integer.
    breaks = [np.where(times > 0, times, closes) for times in _break_nanos(raw)]
    hours = Hours(sessions, raw.opens_nanos.copy(), closes.copy(), half_days, *breaks)
    if market_id in _CORRECTIONS:
        _CORRECTIONS[market_id](hours, ZoneInfo(TIMEZONES[market_id]))
    return MarketCalendar(market_id, **vars(hours))


def _break_nanos(raw: Any) -> tuple[IntArray, IntArray]:
    return raw.break_starts_nanos, raw.break_ends_nanos


class _Calendars:
    """The calendars of a process: who asks for one that is being built waits for it."""

    def __init__(self, build: Callable[[str], MarketCalendar]) -> None:
        self.build = build
        self._built: dict[str, MarketCalendar] = {}
        self._lock = Lock()

    def of(self, market_id: str) -> MarketCalendar:
        with self._lock:
            if market_id not in self._built:
                self._built[market_id] = _frozen(self.build(market_id))
            return self._built[market_id]


def _frozen(calendar: MarketCalendar) -> MarketCalendar:
    for value in vars(calendar).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return calendar


_CALENDARS = _Calendars(build_calendar)
