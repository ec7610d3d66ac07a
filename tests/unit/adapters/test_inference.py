import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.inference import DividendBasis, constant_levels, infer_actions
from adapters.source import ActionType

PRIOR, EX = DividendBasis.PRIOR_CLOSE, DividendBasis.EX_CLOSE
SESSIONS = 60


def history(actions, basis, seed=0, start=80.0):
    """Return dates, as-traded closes and closes adjusted backwards, by the definitions."""
    returns = np.random.default_rng(seed).normal(0, 0.02, SESSIONS)
    close = np.empty(SESSIONS)
    close[0] = start
    for row in range(1, SESSIONS):
        split, cash = actions.get(row, (1.0, 0.0))
        close[row] = round((close[row - 1] / split - cash) * np.exp(returns[row]), 2)
    factor = np.ones(SESSIONS)
    for row, (split, cash) in actions.items():
        if basis is PRIOR:
            step = (1 - cash / (close[row - 1] / split)) / split
        else:
            step = 1 / (1 + cash / close[row]) / split
        factor[:row] *= step
    dates = np.datetime64("2024-01-01") + np.arange(SESSIONS)
    return dates, close, close * factor


def found(actions):
    return [(action.ex_date.toordinal(), action.action_type, action.value) for action in actions]


def expected(dates, row, action_type, value):
    return dates[row].astype(object).toordinal(), action_type, value


@pytest.mark.parametrize("basis", [PRIOR, EX])
def test_splits_and_dividends_are_recovered_exactly(basis):
    dates, close, adjusted = history({10: (2.0, 0.0), 30: (1.0, 0.37), 45: (1.5, 0.0)}, basis)

    actions, unexplained = infer_actions("A.US", dates, close, adjusted, basis)

    assert unexplained == []
    assert found(actions) == [
        expected(dates, 10, ActionType.SPLIT, 2.0),
        expected(dates, 30, ActionType.DIVIDEND, pytest.approx(0.37, abs=1e-6)),
        expected(dates, 45, ActionType.SPLIT, 1.5),
    ]


def test_a_split_and_a_dividend_on_one_day_are_told_apart():
    dates, close, adjusted = history({20: (7.0, 0.1)}, PRIOR)

    actions, _ = infer_actions("A.US", dates, close, adjusted, PRIOR)

    assert [action.value for action in actions] == [7.0, pytest.approx(0.1, abs=1e-6)]


def test_a_reverse_split_is_a_split():
    dates, close, adjusted = history({20: (0.1, 0.0)}, PRIOR)

    actions, unexplained = infer_actions("A.US", dates, close, adjusted, PRIOR)

    assert [action.value for action in actions] == [pytest.approx(0.1)]
    assert unexplained == []


def test_a_special_dividend_is_no_split():
    dates, close, adjusted = history({20: (1.0, 8.5)}, EX)

    actions, _ = infer_actions("A.US", dates, close, adjusted, EX)

    assert found(actions) == [
        expected(dates, 20, ActionType.DIVIDEND, pytest.approx(8.5, abs=1e-6))
    ]


def test_a_factor_that_falls_without_reason_is_reported():
    dates, close, adjusted = history({}, PRIOR)
    adjusted[30:] *= 0.97

    actions, unexplained = infer_actions("A.US", dates, close, adjusted, PRIOR)

    assert actions == []
    assert [step.step for step in unexplained] == [pytest.approx(0.97)]


def test_unadjusted_prices_have_no_action():
    dates, close, _ = history({}, PRIOR)

    assert infer_actions("A.US", dates, close, close, PRIOR) == ([], [])
    assert infer_actions("A.US", dates[:0], close[:0], close[:0], PRIOR) == ([], [])


@given(seed=st.integers(0, 2**32 - 1), row=st.integers(5, 50), cents=st.integers(20, 300))
def test_rounding_to_cents_costs_less_than_a_cent(seed, row, cents):
    dates, close, adjusted = history({row: (1.0, cents / 100)}, PRIOR, seed)

    actions, _ = infer_actions("A.US", dates, close, adjusted.round(2), PRIOR)

    total = sum(action.value for action in actions)
    assert total == pytest.approx(cents / 100, abs=0.02)
    assert actions[0].ex_date == dates[row].astype(object)


def test_a_level_is_the_middle_of_what_its_sessions_share():
    close = np.array([100.0, 101.0, 103.0, 50.0])
    adjusted = np.array([50.0, 50.5, 51.5, 50.0])

    levels = constant_levels(close, adjusted)

    assert [level.start for level in levels] == [0, 3]
    assert [level.factor for level in levels] == [pytest.approx(0.5, abs=1e-3), pytest.approx(1.0)]
