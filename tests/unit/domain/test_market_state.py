from datetime import UTC, date, datetime, timedelta

import pytest

from prometheus_nt.domain.calendar import MARKETS, MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.market_state import (
    ClockParams,
    MarketState,
    market_state,
    market_view,
    market_views,
    next_transition,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("market", "now", "state"),
    [
        ("ASIA_EQ", "2024-03-10T23:30Z", "PRE_OPEN"),  # Sunday in UTC, Monday 8:30 in Tokyo
        ("ASIA_EQ", "2024-03-08T23:30Z", "HOLIDAY"),  # Friday in UTC, Saturday in Tokyo
        ("ASIA_EQ", "2024-03-10T22:59Z", "OVERNIGHT"),
        ("ASIA_EQ", "2024-11-05T06:15Z", "SESSION"),  # closes at 15:30 since that day
        ("ASIA_EQ", "2024-11-01T06:15Z", "POST_CLOSE"),
        ("ASIA_EQ", "2024-11-05T03:00Z", "SESSION"),  # the lunch break belongs to the session
        ("US_EQ", "2024-07-10T13:29Z", "PRE_OPEN"),
        ("US_EQ", "2024-07-10T13:30Z", "SESSION"),  # 9:30 in summer
        ("US_EQ", "2024-01-10T14:29Z", "PRE_OPEN"),
        ("US_EQ", "2024-01-10T14:30Z", "SESSION"),  # 9:30 in winter
        ("US_EQ", "2024-07-10T19:59:59.999999Z", "SESSION"),
        ("US_EQ", "2024-07-10T20:00Z", "POST_CLOSE"),
        ("US_EQ", "2024-07-10T22:00Z", "OVERNIGHT"),
        ("US_EQ", "2024-11-29T18:00Z", "POST_CLOSE"),  # a half day
        ("US_EQ", "2024-03-29T15:00Z", "HOLIDAY"),  # Good Friday
        ("US_EQ", "2024-03-29T03:30Z", "OVERNIGHT"),  # still Thursday in New York
        ("EU_EQ", "2024-03-11T08:00Z", "SESSION"),
        ("EU_EQ", "2024-04-02T07:00Z", "SESSION"),
        ("EU_EQ", "2024-12-24T12:45Z", "POST_CLOSE"),
        ("EU_EQ", "2024-12-25T12:00Z", "HOLIDAY"),
        ("EU_EQ", "2024-07-10T14:00+05:00", "SESSION"),  # any offset names an instant
    ],
)
def test_the_state_is_that_of_the_markets_own_clock(market, now, state):
    assert market_state(market, at(now)) is MarketState(state)


@pytest.mark.parametrize(
    ("market", "now", "state", "moment"),
    [
        ("US_EQ", "2024-07-10T13:00Z", "SESSION", "2024-07-10T13:30Z"),
        ("US_EQ", "2024-07-10T13:30Z", "POST_CLOSE", "2024-07-10T20:00Z"),
        ("US_EQ", "2024-07-10T23:00Z", "PRE_OPEN", "2024-07-11T12:30Z"),
        ("US_EQ", "2024-03-08T23:00Z", "HOLIDAY", "2024-03-09T05:00Z"),
        ("US_EQ", "2024-03-09T12:00Z", "OVERNIGHT", "2024-03-11T04:00Z"),  # clocks change between
        ("US_EQ", "2024-11-29T17:00Z", "POST_CLOSE", "2024-11-29T18:00Z"),
        ("ASIA_EQ", "2024-11-05T02:00Z", "POST_CLOSE", "2024-11-05T06:30Z"),  # not the lunch break
        ("ASIA_EQ", "2019-04-27T00:00Z", "OVERNIGHT", "2019-05-06T15:00Z"),  # ten days of holidays
        ("EU_EQ", "2024-03-29T12:00Z", "OVERNIGHT", "2024-04-01T23:00Z"),
    ],
)
def test_the_next_transition_is_named_with_its_instant(market, now, state, moment):
    assert next_transition(market, at(now)) == (MarketState(state), at(moment))


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("first", ["2024-03-07T00:07Z", "2024-10-24T00:07Z", "2019-12-23T00:07Z"])
def test_walking_minute_by_minute_meets_the_same_transitions(market, first):
    now, walked = at(first), []
    state = market_state(market, now)
    for minute in range(6 * 24 * 60):
        moment = now + timedelta(minutes=minute)
        if market_state(market, moment.replace(second=0)) is not state:
            state = market_state(market, moment)
            walked.append((state, moment))

    jumped, moment = [], now
    while len(jumped) < len(walked):
        state, moment = next_transition(market, moment)
        jumped.append((state, moment))

    assert jumped == walked
    assert len(walked) >= 8


def test_the_windows_are_parameters():
    none = ClockParams(pre_open_minutes=0, post_close_minutes=0)
    long = ClockParams(pre_open_minutes=480, post_close_minutes=480)
    evening, morning = at("2024-07-10T23:00Z"), at("2024-07-11T06:00Z")

    assert market_state("US_EQ", at("2024-07-10T13:29Z"), none) is MarketState.OVERNIGHT
    assert market_state("US_EQ", at("2024-07-10T20:00Z"), none) is MarketState.OVERNIGHT
    assert market_state("US_EQ", evening, long) is MarketState.POST_CLOSE
    assert market_state("US_EQ", morning, long) is MarketState.PRE_OPEN
    assert next_transition("US_EQ", at("2024-07-10T12:00Z"), none)[0] is MarketState.SESSION


def test_a_view_says_session_half_day_and_break():
    lunch = market_view("ASIA_EQ", at("2024-11-05T03:00Z"))
    half = market_view("US_EQ", at("2024-11-29T18:30Z"))
    night = market_view("US_EQ", at("2024-11-30T01:00Z"))

    assert (lunch.session, lunch.on_break, lunch.half_day) == (date(2024, 11, 5), True, False)
    assert lunch.local.isoformat() == "2024-11-05T12:00:00+09:00"
    assert not market_view("ASIA_EQ", at("2024-11-05T03:30Z")).on_break
    assert (half.state, half.session, half.half_day) == ("POST_CLOSE", date(2024, 11, 29), True)
    assert (night.session, night.half_day, night.on_break) == (None, False, False)


def test_all_markets_are_seen_at_one_instant():
    views = market_views(at("2024-07-10T14:00Z"))

    assert {name: str(view.state) for name, view in views.items()} == {
        "US_EQ": "SESSION",
        "EU_EQ": "SESSION",
        "ASIA_EQ": "OVERNIGHT",
    }


@pytest.mark.parametrize("ask", [market_state, next_transition, market_view])
def test_a_time_without_a_zone_is_refused_with_the_remedy(ask):
    with pytest.raises(ConfigError, match=r"T15:00:00: a time without a time zone.*offset"):
        ask("US_EQ", datetime(2024, 3, 28, 15))  # noqa: DTZ001


def test_a_time_outside_the_calendar_names_its_range_and_the_remedy():
    with pytest.raises(DataError, match=r"covers 1980-01-01 to .*; use a day between them"):
        market_state("US_EQ", datetime(1979, 6, 1, tzinfo=UTC))
    with pytest.raises(DataError, match="covers 1997-01-01 to"):
        market_state("ASIA_EQ", datetime(1996, 6, 3, tzinfo=UTC))
    newest = MarketCalendar.of("EU_EQ").sessions[-1].astype(object)
    with pytest.raises(DataError, match=r"covers only .*; start further inside it"):
        next_transition("EU_EQ", datetime(newest.year, newest.month, newest.day, 20, tzinfo=UTC))


def test_an_unknown_market_is_refused():
    with pytest.raises(ConfigError, match="unknown market 'MARS'; known markets: US_EQ"):
        market_state("MARS", at("2024-07-10T14:00Z"))
