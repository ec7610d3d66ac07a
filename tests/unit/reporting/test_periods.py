from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prometheus_nt.reporting.periods import (
    DrawdownPeriod,
    drawdown_periods,
    drawdowns,
    monthly_returns,
    yearly_returns,
)

RETURNS = arrays(np.float64, st.integers(1, 80), elements=st.floats(-0.5, 0.5))


def days(count, first="2021-01-04"):
    return np.busday_offset(first, np.arange(count))


def test_a_drawdown_runs_from_the_first_session_below_the_high_to_the_recovery():
    sessions = days(8)
    equity = np.array([100.0, 90.0, 80.0, 100.0, 110.0, 99.0, 104.5, 104.5])

    periods = drawdown_periods(sessions, equity)

    assert periods == [
        DrawdownPeriod(date(2021, 1, 5), date(2021, 1, 6), date(2021, 1, 7), 80 / 100 - 1, 2),
        DrawdownPeriod(date(2021, 1, 11), date(2021, 1, 11), None, 99 / 110 - 1, 3),
    ]
    assert drawdown_periods(sessions, equity, top=1) == periods[:1]


def test_the_starting_capital_is_a_high_to_fall_from():
    sessions, equity = days(3), np.array([95.0, 96.0, 101.0])

    (period,) = drawdown_periods(sessions, equity, start=100.0)

    assert drawdown_periods(sessions, equity) == []
    assert (period.start, period.recovery) == (date(2021, 1, 4), date(2021, 1, 6))
    assert np.isclose(period.depth, -0.05)


@given(RETURNS)
def test_drawdown_periods_cover_exactly_the_sessions_below_a_high(returns):
    equity = np.cumprod(1.0 + returns)
    naive = [float(level / max(equity[: row + 1]) - 1.0) for row, level in enumerate(equity)]

    periods = drawdown_periods(days(len(equity)), equity, top=len(equity))

    np.testing.assert_allclose(drawdowns(equity), naive)
    assert sum(period.sessions for period in periods) == sum(depth < 0.0 for depth in naive)
    assert min((period.depth for period in periods), default=0.0) == min(naive)
    assert all(period.start <= period.trough for period in periods)


def test_months_and_years_compound_their_sessions():
    sessions = np.array(
        ["2020-12-30", "2020-12-31", "2021-01-04", "2021-03-01"], dtype="datetime64[D]"
    )
    returns = np.array([0.1, 0.1, -0.5, 0.2])

    months, by_month = monthly_returns(sessions, returns)
    years, by_year = yearly_returns(sessions, returns)

    assert months.astype(str).tolist() == ["2020-12", "2021-01", "2021-03"]
    np.testing.assert_allclose(by_month, [0.21, -0.5, 0.2])
    assert years.astype(str).tolist() == ["2020", "2021"]
    np.testing.assert_allclose(by_year, [0.21, -0.4])


@given(RETURNS)
def test_months_and_years_compound_to_the_total(returns):
    sessions = days(len(returns))

    total = np.prod(1.0 + returns)

    for compounded in (monthly_returns, yearly_returns):
        values = compounded(sessions, returns)[1]
        np.testing.assert_allclose(np.prod(1.0 + values), total, rtol=1e-9, atol=1e-12)


def test_no_sessions_have_no_months():
    months, values = monthly_returns(np.empty(0, dtype="datetime64[D]"), np.empty(0))

    assert len(months) == len(values) == 0
