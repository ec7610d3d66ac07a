"""Hours of the past that exchange_calendars does not know, as explicit lists with their sources.

Sessions are never added or removed here, only hours moved, and only by a quarter of an hour or
more: a minute of silence at the opening bell changes no daily bar. They matter because a bar is
known from its session's close on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np

from prometheus_nt.domain.record import BoolArray, IntArray, SessionArray

_NS_PER_MINUTE = 60_000_000_000


@dataclass(eq=False)
class Hours:
    """The hours of every session of a market while its calendar is built; see `MarketCalendar`."""

    sessions: SessionArray
    opens_ns: IntArray
    closes_ns: IntArray
    half_days: BoolArray
    breaks_ns: IntArray
    resumes_ns: IntArray


@dataclass(frozen=True)
class Irregular:
    """Sessions from `first` to `last` that opened late or closed early, local time."""

    first: date
    last: date
    opens: time | None
    closes: time | None


def _late(day: str, hour: int, minute: int = 0) -> Irregular:
    return Irregular(date.fromisoformat(day), date.fromisoformat(day), time(hour, minute), None)


def _early(first: str, hour: int, minute: int = 0, last: str | None = None) -> Irregular:
    begins, ends = date.fromisoformat(first), date.fromisoformat(last or first)
    return Irregular(begins, ends, None, time(hour, minute))


NEW_YORK_HALF_PAST_NINE = np.datetime64("1985-09-30")
"""First session that opened at 9:30; before, New York opened at 10:00."""

NEW_YORK = (
    _early("1981-03-30", 15, 17),  # the attempt on President Reagan's life
    _early("1981-09-09", 15, 28),  # power failure
    _early("1987-10-23", 14, last="1987-10-30"),  # paperwork after the crash
    _early("1987-11-02", 14, 30, last="1987-11-04"),
    _early("1987-11-05", 15, last="1987-11-06"),
    _early("1987-11-09", 15, 30, last="1987-11-11"),
    _late("1989-11-10", 11),  # fire
    _late("1990-12-27", 11),  # explosion of a transformer
    _early("1994-02-11", 14, 30),  # snow
    _late("1995-12-18", 10, 30),  # computers
    _late("1996-01-08", 11),  # snow
    _early("1996-01-08", 14),
    _early("1997-10-27", 15, 30),  # circuit breaker
    _late("2002-09-11", 12),  # first anniversary of September 11
)
"""Source: New York Stock Exchange, "Special Closings", the exchange's own list since 1885."""

TOKYO_MORNING_LONGER = np.datetime64("2011-11-21")
"""First session whose lunch break began at 11:30, not 11:00. Source: Tokyo Stock Exchange."""

TOKYO_WHOLE_CEREMONIES = np.datetime64("2009-12-30")
"""From here on the year's last and first sessions are whole. Source: Tokyo Stock Exchange.

Before, the ceremonies of the first and the last session (daihakkai, dainokai) were held on days
that traded in the morning only, until 11:00.
"""


def correct_new_york(hours: Hours, zone: ZoneInfo) -> None:
    """Put the hours of New York right in place."""
    hours.opens_ns[hours.sessions < NEW_YORK_HALF_PAST_NINE] += 30 * _NS_PER_MINUTE
    for irregular in NEW_YORK:
        rows = _rows(hours.sessions, irregular)
        if irregular.opens is not None:
            hours.opens_ns[rows] = _instants(hours.sessions[rows], irregular.opens, zone)
        if irregular.closes is not None:
            hours.closes_ns[rows] = _instants(hours.sessions[rows], irregular.closes, zone)
            hours.half_days[rows] = True
    hours.breaks_ns[:] = hours.closes_ns
    hours.resumes_ns[:] = hours.closes_ns


def correct_tokyo(hours: Hours, _zone: ZoneInfo) -> None:
    """Put the hours of Tokyo right in place."""
    shorter = hours.sessions < TOKYO_MORNING_LONGER
    hours.breaks_ns[shorter] -= 30 * _NS_PER_MINUTE
    years = hours.sessions.astype("datetime64[Y]")
    first = np.append(True, years[1:] != years[:-1])
    last = np.append(years[1:] != years[:-1], False)
    mornings = (first | last) & (hours.sessions < TOKYO_WHOLE_CEREMONIES)
    hours.closes_ns[mornings] = hours.breaks_ns[mornings]
    hours.resumes_ns[mornings] = hours.breaks_ns[mornings]
    hours.half_days[mornings] = True


def _rows(sessions: SessionArray, irregular: Irregular) -> IntArray:
    span = (sessions >= np.datetime64(irregular.first)) & (
        sessions <= np.datetime64(irregular.last)
    )
    rows: IntArray = np.flatnonzero(span)
    return rows


def _instants(sessions: SessionArray, hour: time, zone: ZoneInfo) -> Sequence[int]:
    return [
        round(datetime.combine(day, hour, tzinfo=zone).timestamp()) * 1_000_000_000
        for day in sessions.tolist()
    ]
