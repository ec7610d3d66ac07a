from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from prometheus_nt.domain.calendar import FIRST_DAY, MARKETS, REGIONS, MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, NonSession

GOOD_FRIDAY = date(2024, 3, 29)


@pytest.fixture(scope="module")
def us() -> MarketCalendar:
    return MarketCalendar.of("US_EQ")


@pytest.fixture(scope="module")
def london() -> MarketCalendar:
    return MarketCalendar.of("EU_EQ")


@pytest.fixture(scope="module")
def tokyo() -> MarketCalendar:
    return MarketCalendar.of("ASIA_EQ")


def _utc(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, tz=UTC).isoformat()


def _covers(day: object, calendar: MarketCalendar, first: str) -> str:
    market, last = calendar.market_id, calendar.sessions[-1]
    return f"^{day}: the {market} calendar covers {first} to {last}; use a day between them$"


def test_a_holiday_is_refused_with_both_neighbours_named(us):
    with pytest.raises(NonSession) as refused:
        us.require_session(GOOD_FRIDAY)

    assert str(refused.value) == (
        "2024-03-29 is not a US_EQ session; "
        "use the previous session 2024-03-28 or the next session 2024-04-01"
    )
    assert (refused.value.day, refused.value.market_id) == (GOOD_FRIDAY, "US_EQ")


def test_a_session_is_returned_as_it_was_given(us):
    assert us.require_session(date(2024, 3, 28)) == date(2024, 3, 28)


@pytest.mark.parametrize(
    "day",
    [
        "2024-03-30",  # a Saturday
        "2001-09-11",
        "2001-09-12",
        "2001-09-13",
        "2001-09-14",
        "2012-10-29",  # hurricane Sandy
        "2012-10-30",
        "2022-06-20",  # the first Juneteenth kept, on the Monday
        "2023-06-19",
        "2025-01-09",  # mourning for President Carter
        "1985-09-27",  # hurricane Gloria
    ],
)
def test_the_market_was_closed(us, day):
    assert not us.is_session(date.fromisoformat(day))


@pytest.mark.parametrize(
    "day", ["2001-09-10", "2001-09-17", "2012-10-31", "2021-06-18", "2025-01-08", "2025-01-10"]
)
def test_the_market_was_open(us, day):
    assert us.is_session(date.fromisoformat(day))


def test_a_half_day_closes_early(us):
    assert us.is_half_day(date(2023, 11, 24))
    assert us.close_time(date(2023, 11, 24)) == datetime(2023, 11, 24, 18, 0, tzinfo=UTC)
    assert not us.is_half_day(date(2023, 11, 22))
    assert us.close_time(date(2023, 11, 22)) == datetime(2023, 11, 22, 21, 0, tzinfo=UTC)


def test_about_two_days_a_year_are_half_days(us):
    years = us.sessions[(us.sessions >= np.datetime64("2015")) & us.half_days].astype("M8[Y]")

    assert set(np.unique(years, return_counts=True)[1].tolist()) <= {1, 2, 3}


def test_opens_and_closes_follow_daylight_saving(us):
    friday, monday = date(2024, 3, 8), date(2024, 3, 11)

    assert _utc(us.open_ns(friday)) == "2024-03-08T14:30:00+00:00"
    assert _utc(us.close_ns(friday)) == "2024-03-08T21:00:00+00:00"
    assert _utc(us.open_ns(monday)) == "2024-03-11T13:30:00+00:00"
    assert _utc(us.close_ns(monday)) == "2024-03-11T20:00:00+00:00"


def test_london_keeps_its_own_hours_and_holidays(london):
    assert _utc(london.open_ns(date(2024, 3, 28))) == "2024-03-28T08:00:00+00:00"
    assert _utc(london.close_ns(date(2024, 12, 24))) == "2024-12-24T12:30:00+00:00"
    assert london.next_session(date(2024, 3, 28)) == date(2024, 4, 2)
    assert london.is_session(date(2025, 1, 9))


def test_london_closes_early_on_christmas_eve(london):
    assert london.is_half_day(date(2024, 12, 24))
    assert london.close_time(date(2024, 12, 24)) == datetime(2024, 12, 24, 12, 30, tzinfo=UTC)
    assert not london.is_half_day(date(2024, 12, 23))
    assert london.close_time(date(2024, 12, 23)) == datetime(2024, 12, 23, 16, 30, tzinfo=UTC)


def test_london_reaches_back_as_far_as_new_york(london):
    assert london.sessions[0] == np.datetime64("1980-01-02")


def test_tokyo_begins_the_year_after_its_new_year_holidays(tokyo):
    assert tokyo.next_session(date(2023, 12, 29)) == date(2024, 1, 4)
    assert tokyo.between(date(2024, 1, 1), date(2024, 1, 10)).astype(str).tolist() == [
        "2024-01-04",
        "2024-01-05",
        "2024-01-09",
        "2024-01-10",
    ]


def test_tokyo_closes_later_since_november_2024(tokyo):
    assert _utc(tokyo.open_ns(date(2024, 11, 1))) == "2024-11-01T00:00:00+00:00"
    assert _utc(tokyo.close_ns(date(2024, 11, 1))) == "2024-11-01T06:00:00+00:00"
    assert _utc(tokyo.close_ns(date(2024, 11, 5))) == "2024-11-05T06:30:00+00:00"


def test_tokyo_is_known_from_1997_on(tokyo):
    assert tokyo.sessions[0] == np.datetime64("1997-01-06")
    assert not tokyo.is_session(date(1997, 1, 1))
    for question in (tokyo.is_session, tokyo.next_session, tokyo.roll_back):
        with pytest.raises(DataError, match=_covers("1996-12-30", tokyo, "1997-01-01")):
            question(date(1996, 12, 30))
    with pytest.raises(DataError, match="ASIA_EQ: the calendar covers only 1997-01-06 to "):
        tokyo.previous_session(date(1997, 1, 6))


@pytest.mark.parametrize("market", MARKETS)
def test_every_market_we_name_has_a_calendar(market):
    calendar = MarketCalendar.of(market)

    assert calendar.market_id == market
    assert calendar.is_session(date(2024, 1, 4))


def test_every_region_trades_a_market_we_name():
    assert set(REGIONS.values()) == set(MARKETS)


def test_next_and_previous_sessions_never_count_the_day_itself(us):
    assert us.next_session(date(2024, 3, 28)) == date(2024, 4, 1)
    assert us.next_session(GOOD_FRIDAY) == date(2024, 4, 1)
    assert us.previous_session(date(2024, 4, 1)) == date(2024, 3, 28)
    assert us.previous_session(GOOD_FRIDAY) == date(2024, 3, 28)


def test_next_and_previous_sessions_count_sessions(us):
    assert us.next_session(date(2024, 3, 28), 3) == date(2024, 4, 3)
    assert us.previous_session(date(2024, 4, 1), 3) == date(2024, 3, 26)
    assert us.next_session(us.previous_session(date(2024, 4, 1), 252), 252) == date(2024, 4, 1)


def test_rolling_back_reaches_the_newest_session_known(us):
    assert us.roll_back(date(2024, 3, 31)) == date(2024, 3, 28)
    assert us.roll_back(date(2024, 3, 28)) == date(2024, 3, 28)


def test_sessions_between_two_days_include_both_ends(us):
    week = us.between(date(2024, 3, 28), date(2024, 4, 2)).astype(str).tolist()

    assert week == ["2024-03-28", "2024-04-01", "2024-04-02"]
    assert us.between(GOOD_FRIDAY, date(2024, 3, 31)).tolist() == []


def test_a_year_has_as_many_sessions_as_the_exchange_published(us):
    counted = {y: len(us.between(date(y, 1, 1), date(y, 12, 31))) for y in (2001, 2012, 2024, 2025)}

    assert counted == {2001: 248, 2012: 250, 2024: 252, 2025: 250}


@pytest.mark.parametrize("day", [date(1979, 12, 31), date(2100, 1, 4)])
def test_a_day_outside_the_calendar_is_an_error_that_names_its_span(us, day):
    questions = [
        us.is_session,
        us.require_session,
        us.next_session,
        us.previous_session,
        us.roll_back,
        us.open_ns,
        us.close_time,
        us.is_half_day,
        lambda outside: us.between(outside, outside),
    ]

    for question in questions:
        with pytest.raises(DataError, match=_covers(day, us, "1980-01-01")):
            question(day)


def test_walking_off_either_end_of_the_calendar_is_an_error(us):
    newest = us.sessions[-1].astype(object)
    span = f"^US_EQ: the calendar covers only 1980-01-02 to {newest}; start further inside it$"

    with pytest.raises(DataError, match=span):
        us.next_session(newest)
    with pytest.raises(DataError, match=span):
        us.previous_session(date(1980, 1, 2))
    with pytest.raises(DataError, match=span):
        us.previous_session(date(1980, 1, 1))
    with pytest.raises(DataError, match=span):
        us.previous_session(date(2024, 1, 2), 100_000)


def test_the_calendar_does_not_stop_at_the_last_twenty_years(us):
    assert us.sessions[0] == np.datetime64("1980-01-02")
    assert us.previous_session(FIRST_DAY + timedelta(days=2)) == date(1980, 1, 2)


def test_rows_find_every_session_and_refuse_the_others(us):
    sessions = np.array(["2024-03-28", "2024-04-01"], dtype="datetime64[D]")

    rows = us.rows(sessions)

    assert us.sessions[rows].tolist() == sessions.tolist()
    assert rows[1] - rows[0] == 1
    with pytest.raises(NonSession, match="2024-03-29"):
        us.rows(np.append(sessions, np.datetime64("2024-03-29")))
    with pytest.raises(DataError, match="covers"):
        us.rows(np.array(["2100-01-04"], dtype="datetime64[D]"))


@pytest.mark.parametrize("name", ["sessions", "opens_ns", "closes_ns", "half_days"])
def test_the_arrays_are_read_only(us, name):
    array = getattr(us, name)

    with pytest.raises(ValueError, match="read-only"):
        array[0] = array[1]


def test_a_calendar_is_built_once(us):
    assert MarketCalendar.of("US_EQ") is us


def test_sessions_ascend_and_open_before_they_close(us):
    assert (np.diff(us.sessions) > np.timedelta64(0)).all()
    assert (us.opens_ns < us.closes_ns).all()
    assert (us.closes_ns[:-1] < us.opens_ns[1:]).all()


def test_an_unknown_market_is_refused_and_the_known_ones_named():
    with pytest.raises(
        ConfigError, match="unknown market 'XNYS'; known markets: US_EQ, EU_EQ, ASIA_EQ"
    ):
        MarketCalendar.of("XNYS")


def test_a_day_outside_the_calendar_is_told_with_the_setting_it_comes_from(us):
    with pytest.raises(DataError) as refused:
        us.require_covered(date(1912, 1, 2), "sessions.start")

    newest = us.sessions[-1]
    assert str(refused.value) == (
        f"sessions.start: 1912-01-02: the US_EQ calendar covers 1980-01-01 to {newest}; "
        "use a day between them"
    )
    us.require_covered(date(1980, 1, 1), "sessions.start")
