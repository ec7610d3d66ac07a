from datetime import date, timedelta
from itertools import pairwise

import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from strategies.schedule import period


@pytest.fixture(scope="module")
def sessions():
    calendar = MarketCalendar.of("US_EQ")
    return calendar.between(date(2000, 1, 3), date(2024, 12, 31)).astype(object).tolist()


def _due(sessions, rebalance):
    """Return the sessions on which a sleeve that follows `period` rebalances."""
    return [
        session
        for before, session in pairwise(sessions)
        if period(session, rebalance) != period(before, rebalance)
    ]


def test_a_daily_sleeve_is_due_at_every_session(sessions):
    assert _due(sessions, "daily") == sessions[1:]


def test_a_weekly_sleeve_is_due_at_the_first_session_of_each_week(sessions):
    due = _due(sessions, "weekly")

    mondays = {session - timedelta(days=session.weekday()) for session in sessions[1:]}
    assert len(due) == len(mondays) - 1
    assert date(2001, 9, 17) in due  # nothing traded from the 11th to the 14th
    assert date(2024, 1, 2) in due  # Monday was New Year's Day
    assert {session.weekday() for session in due} <= {0, 1, 2}


def test_a_week_across_new_year_is_one_week():
    assert period(date(2024, 12, 30), "weekly") == period(date(2025, 1, 3), "weekly")
    assert period(date(2025, 1, 6), "weekly") != period(date(2025, 1, 3), "weekly")
    assert period(date(2021, 1, 1), "weekly") == period(date(2020, 12, 28), "weekly")


def test_a_monthly_sleeve_is_due_at_the_first_session_of_each_month(sessions):
    due = _due(sessions, "monthly")

    assert len(due) == 25 * 12 - 1
    assert date(2024, 4, 1) in due
    assert date(2023, 10, 2) in due
    assert all(session.day <= 4 for session in due)


def test_a_quarterly_sleeve_is_due_at_the_first_session_of_each_quarter(sessions):
    due = _due(sessions, "quarterly")

    assert len(due) == 25 * 4 - 1
    assert [day for day in due if day.year == 2024] == [
        date(2024, 1, 2),
        date(2024, 4, 1),
        date(2024, 7, 1),
        date(2024, 10, 1),
    ]


@pytest.mark.parametrize("rebalance", ["weekly", "monthly", "quarterly"])
def test_the_same_season_of_another_year_is_another_period(rebalance):
    assert period(date(2023, 5, 10), rebalance) != period(date(2024, 5, 10), rebalance)


@pytest.mark.parametrize("rebalance", ["daily", "weekly", "monthly", "quarterly"])
def test_periods_never_run_backwards(sessions, rebalance):
    periods = [period(session, rebalance) for session in sessions]

    assert periods == sorted(periods)
