"""Every planted leak is caught with its first date, and no clean strategy is accused."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from prometheus_nt.jobs.check.futures import cut_rows
from prometheus_nt.jobs.check.strategies import EARNED, WEIGHTS, check_strategy
from prometheus_nt.jobs.check.user_strategy import load_strategy

HERE = Path(__file__).parent
CUTS = 6


def _names(file):
    """Return the strategies of a file: its functions of a panel alone."""
    module = inspect.getmodule(load_strategy(f"{HERE / file}:frame").function)
    functions = inspect.getmembers(module, inspect.isfunction)
    return [
        name
        for name, function in functions
        if list(inspect.signature(function).parameters) == ["panel"] and name != "closes"
    ]


def _check(market, file, name):
    return check_strategy(load_strategy(f"{HERE / file}:{name}"), market, cuts=CUTS)


def _cuts(market):
    return np.array(cut_rows(market.sessions, CUTS, len(market) // 4, len(market)))


def _first_with_tomorrow_the_next_day(market, rows):
    return next(row for row in rows if market.sessions[row + 1] - market.sessions[row] == 1)


def _month_of_the_first_cut(market, rows):
    months = market.sessions.astype("datetime64[M]")
    return int(np.flatnonzero(months == months[rows[0]])[0])


def _first_gap_before_a_cut(market, rows):
    starts = []
    for row in rows:
        gaps = np.isnan(market.close[: row + 1])
        runs = np.argmin(gaps[::-1], axis=0)
        later = ~np.isnan(market.close[row + 1 :]).all(axis=0)
        starts += (row + 1 - runs[(runs > 0) & later]).tolist()
    return min(starts)


def _first_session_before_a_weeks_end(market, rows):
    weekday = (market.sessions.astype(int) + 3) % 7
    return next(row for row in rows if weekday[row] == 3)


def _first_session_of_a_fact_unknown_at_the_first_cut(delay, shown_after):
    def first(market, rows):
        periods = np.unique(market.facts.period_end)
        unknown = periods[periods + delay > market.sessions[rows[0]]][0]
        return int(np.searchsorted(market.sessions, unknown + shown_after))

    return first


FIRST = {
    "shifted_the_wrong_way": lambda market, rows: rows[0],
    "same_bar_fill": lambda market, rows: rows[0],
    "same_bar_fill_compounded": lambda market, rows: rows[0],
    "full_sample_zscore": lambda market, rows: 0,
    "universe_of_the_last_day": lambda market, rows: 0,
    "restated_fundamentals": _first_session_of_a_fact_unknown_at_the_first_cut(200, 45),
    "fundamentals_at_the_period_end": _first_session_of_a_fact_unknown_at_the_first_cut(45, 0),
    "survivors": lambda market, rows: 20,
    "stamped_at_midnight_utc": _first_with_tomorrow_the_next_day,
    "month_labelled_at_its_start": _month_of_the_first_cut,
    "week_known_on_thursday": _first_session_before_a_weeks_end,
    "centred_window": lambda market, rows: rows[0] - 9,
    "backfilled": _first_gap_before_a_cut,
    "full_sample_transitions": lambda market, rows: 0,
    "fitted_on_every_outcome": lambda market, rows: 10,
    "walk_forward_without_purging": lambda market, rows: rows[0] - 4,
    "lookback_chosen_on_the_test_window": lambda market, rows: 5,
    "seeded_by_all_the_data": lambda market, rows: 0,
}
"""The row of the first decision that each leak spoils."""


def test_the_zoo_is_well_stocked():
    assert set(_names("leaky.py")) == set(FIRST)
    assert len(FIRST) >= 12
    assert len(_names("clean.py")) >= 12


@pytest.mark.parametrize("name", _names("leaky.py"))
def test_a_planted_leak_is_caught(market, name):
    report = _check(market, "leaky.py", name)

    found = report.first
    assert found is not None
    assert found.field == (EARNED if name.startswith("same_bar") else WEIGHTS)
    assert found.as_of == market.sessions[FIRST[name](market, _cuts(market))].astype(object)


@pytest.mark.parametrize("name", _names("clean.py"))
def test_a_clean_strategy_is_not_accused(market, name):
    report = _check(market, "clean.py", name)

    assert report.first is None, report.first
    assert all(item.compared for item in report.changes.values())
