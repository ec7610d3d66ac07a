"""What a market is doing at an instant: closed, about to open, trading, or just closed.

The state follows the sessions of the market's own calendar and local dates:

- SESSION from a session's open to before its close, through a lunch break too: resting orders and
  the day's bar live on through it. `MarketView.on_break` says that nothing trades right now.
- PRE_OPEN before an open and POST_CLOSE after a close, for the lengths in `ClockParams`.
- Otherwise HOLIDAY on local dates without a session, weekends among them, and OVERNIGHT on the
  others.

Sunday 23:30 UTC is Monday morning in Tokyo and so PRE_OPEN of Monday; Friday 23:30 UTC is Saturday.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import Field

from prometheus_nt.domain.calendar import MARKETS, TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params

LONGEST_MINUTES = 480
"""Of either window: with both, an evening and the next morning never overlap in any market."""


class MarketState(StrEnum):
    """What a market is doing."""

    HOLIDAY = "HOLIDAY"
    OVERNIGHT = "OVERNIGHT"
    PRE_OPEN = "PRE_OPEN"
    SESSION = "SESSION"
    POST_CLOSE = "POST_CLOSE"


class ClockParams(Params):
    """How long before an open and after a close a market is not merely closed; minutes."""

    pre_open_minutes: int = Field(60, ge=0, le=LONGEST_MINUTES)
    post_close_minutes: int = Field(120, ge=0, le=LONGEST_MINUTES)


DEFAULT_CLOCK = ClockParams()


@dataclass(frozen=True)
class MarketView:
    """A market at an instant.

    Attributes
    ----------
    local : datetime
        The instant in the market's time zone.
    session : date or None
        The session whose pre-open, trading or post-close it is; None on holidays and overnight.
    half_day : bool
        True if `session` closes earlier than a regular one.
    on_break : bool
        True in the lunch break of a session.
    next_state, next_at : MarketState and datetime
        What the market does next, and when in UTC.
    """

    market_id: str
    state: MarketState
    local: datetime
    session: date | None
    half_day: bool
    on_break: bool
    next_state: MarketState
    next_at: datetime


def market_state(market_id: str, now: datetime, params: ClockParams = DEFAULT_CLOCK) -> MarketState:
    """Return what a market is doing at `now`.

    Raises
    ------
    ConfigError
        If `now` has no time zone, or the market is unknown.
    DataError
        If `now` is outside the market's calendar.
    """
    return _state(MarketCalendar.of(market_id), _require_aware(now), params)[0]


def next_transition(
    market_id: str, now: datetime, params: ClockParams = DEFAULT_CLOCK
) -> tuple[MarketState, datetime]:
    """Return the next state that differs from the one at `now`, and when it begins, in UTC.

    Raises as `market_state` does; also where the next session is beyond the calendar.
    """
    calendar, current = MarketCalendar.of(market_id), _require_aware(now)
    state = _state(calendar, current, params)[0]
    for moment in _boundaries(calendar, current, params):
        following = _state(calendar, moment, params)[0]
        if following is not state:
            return following, moment
    raise AssertionError(f"{market_id}: no state follows {state} at {now}")


def market_view(market_id: str, now: datetime, params: ClockParams = DEFAULT_CLOCK) -> MarketView:
    """Return everything about a market at `now`; raises as `next_transition` does."""
    calendar, current = MarketCalendar.of(market_id), _require_aware(now)
    state, session = _state(calendar, current, params)
    following, moment = next_transition(market_id, current, params)
    row = None if session is None else int(calendar.rows(_days(session))[0])
    instant = _nanoseconds(current)
    return MarketView(
        market_id=market_id,
        state=state,
        local=current.astimezone(_zone(market_id)),
        session=session,
        half_day=row is not None and bool(calendar.half_days[row]),
        on_break=row is not None
        and bool(calendar.breaks_ns[row] <= instant < calendar.resumes_ns[row]),
        next_state=following,
        next_at=moment,
    )


def market_views(now: datetime, params: ClockParams = DEFAULT_CLOCK) -> dict[str, MarketView]:
    """Return every market at `now`, by market id."""
    return {market_id: market_view(market_id, now, params) for market_id in MARKETS}


def _state(
    calendar: MarketCalendar, now: datetime, params: ClockParams
) -> tuple[MarketState, date | None]:
    instant, local = _nanoseconds(now), now.astimezone(_zone(calendar.market_id)).date()
    is_session = calendar.is_session(local)
    before, after = _windows(params)
    # The first session whose post-close is not over yet; no other can be near its open.
    row = int(np.searchsorted(calendar.closes_ns, instant - after, side="right"))
    if row < len(calendar.sessions):
        opens, closes = int(calendar.opens_ns[row]), int(calendar.closes_ns[row])
        session: date = calendar.sessions[row].astype(object)
        if opens - before <= instant < opens:
            return MarketState.PRE_OPEN, session
        if opens <= instant < closes:
            return MarketState.SESSION, session
        if closes <= instant:
            return MarketState.POST_CLOSE, session
    return (MarketState.OVERNIGHT if is_session else MarketState.HOLIDAY), None


def _boundaries(calendar: MarketCalendar, now: datetime, params: ClockParams) -> Iterator[datetime]:
    """Yield the instants after `now` at which the state can change, ascending."""
    zone = _zone(calendar.market_id)
    today = now.astimezone(zone).date()
    upcoming = calendar.next_session(today)
    near = [today, upcoming] if calendar.is_session(today) else [upcoming]
    before, after = _windows(params)
    moments = [
        datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
        for day in (today + timedelta(days=1), upcoming)
    ]
    for session in near:
        opens, closes = calendar.open_ns(session), calendar.close_ns(session)
        moments += [_moment(ns) for ns in (opens - before, opens, closes, closes + after)]
    yield from sorted(moment for moment in moments if moment > now)


def _windows(params: ClockParams) -> tuple[int, int]:
    minute = 60_000_000_000
    return params.pre_open_minutes * minute, params.post_close_minutes * minute


def _require_aware(now: datetime) -> datetime:
    if now.tzinfo is None or now.utcoffset() is None:
        raise ConfigError(
            f"{now.isoformat()}: a time without a time zone means another instant in every market; "
            "add the offset, for example 2024-03-28T15:00:00Z or 2024-03-28T11:00:00-04:00"
        )
    return now.astimezone(UTC)


def _nanoseconds(now: datetime) -> int:
    # Exact: a float of seconds cannot hold microseconds of this century.
    return (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _moment(instant_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_ns // 1000)


def _days(session: date) -> "np.ndarray":
    return np.array([session], dtype="datetime64[D]")


@lru_cache(maxsize=len(MARKETS))
def _zone(market_id: str) -> ZoneInfo:
    return ZoneInfo(TIMEZONES[market_id])
