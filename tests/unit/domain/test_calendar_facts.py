"""Every line of `calendar_facts.csv`, written down from public knowledge, not from a library.

closed, open: whether the market trades. close, regular: when it ends, local time, on a half day and
on a whole one. hours, break: from and to, local time. utc: from and to in UTC, daylight saving.
"""

import csv
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from prometheus_nt.domain.calendar import MARKETS, TIMEZONES, MarketCalendar

TABLE = Path(__file__).with_name("calendar_facts.csv").read_text(encoding="utf-8")
FACTS = list(csv.DictReader(TABLE.splitlines()))


def hour(nanoseconds: int, zone: object) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, tz=UTC).astimezone(zone).strftime("%H:%M")


def found(calendar: MarketCalendar, day: date, fact: str) -> str:
    zone = UTC if fact == "utc" else ZoneInfo(TIMEZONES[calendar.market_id])
    if fact in ("close", "regular"):
        return hour(calendar.close_ns(day), zone)
    row = calendar.sessions.tolist().index(day)
    ends = (calendar.opens_ns, calendar.closes_ns)
    if fact == "break":
        ends = (calendar.breaks_ns, calendar.resumes_ns)
    return "-".join(hour(int(times[row]), zone) for times in ends)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact['market']}-{fact['day']}")
def test_the_calendar_knows_the_fact(fact):
    calendar, day = MarketCalendar.of(fact["market"]), date.fromisoformat(fact["day"])

    assert calendar.is_session(day) is (fact["fact"] != "closed"), fact["why"]
    if fact["local"]:
        assert found(calendar, day, fact["fact"]) == fact["local"], fact["why"]
    if fact["fact"] in ("close", "regular"):
        assert calendar.is_half_day(day) is (fact["fact"] == "close"), fact["why"]


def test_there_are_enough_facts_about_every_market_and_none_twice():
    keys = [(fact["market"], fact["day"], fact["fact"]) for fact in FACTS]

    assert len(FACTS) >= 200
    assert {fact["fact"] for fact in FACTS} == {
        *("closed", "open", "close", "regular", "hours", "break", "utc")
    }
    assert all(sum(key[0] == market for key in keys) >= 60 for market in MARKETS)
    assert len(set(keys)) == len(keys)
    assert all(date.fromisoformat(day).weekday() < 5 for _, day, _ in keys)


@pytest.mark.parametrize("market", MARKETS)
def test_breaks_lie_inside_sessions_or_are_empty(market):
    calendar = MarketCalendar.of(market)

    assert (calendar.opens_ns < calendar.breaks_ns).all()
    assert (calendar.breaks_ns <= calendar.resumes_ns).all()
    assert (calendar.resumes_ns <= calendar.closes_ns).all()
    assert (calendar.breaks_ns < calendar.resumes_ns).any() == (market == "ASIA_EQ")
