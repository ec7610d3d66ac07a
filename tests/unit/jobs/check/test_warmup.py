"""From which length of history on an output no longer changes."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest

from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.check.user_strategy import UserStrategy
from prometheus_nt.jobs.check.warmup import engines_warmup, listing, strategy_warmup


@dataclass(frozen=True, eq=False)
class Measured:
    as_of: date
    trailing: np.ndarray
    expanding: np.ndarray
    name: str


def measure(panel, _params):
    if len(panel) < 200:
        raise InsufficientHistory(panel.as_of, 200, len(panel))
    trailing = panel.close[-200:].mean(axis=0)
    return Measured(panel.as_of, trailing, panel.close.mean(axis=0), "m")


TABLE = (Stage("measure", measure, (MarketPanel,), Measured),)
ENGINES = {"sleeve": EnginesConfig()}


def test_a_window_settles_and_an_expanding_estimate_does_not(panel):
    found = {item.output: item for item in engines_warmup(panel, ENGINES, stages=TABLE)}

    trailing, expanding = found["measure.trailing"], found["measure.expanding"]
    assert (trailing.first_known, trailing.same_from, trailing.close_from) == (252, 252, 252)
    assert trailing.change_at_longest == 0.0
    assert (expanding.same_from, expanding.close_from) == (None, None)
    mean, whole = panel.close[-252:].mean(axis=0), panel.close.mean(axis=0)
    change = np.abs(mean - whole).max() / np.maximum(mean, whole).max()
    assert expanding.change_at_longest == pytest.approx(change)
    assert found["measure.name"].same_from == 252


def test_a_wide_tolerance_lets_an_expanding_estimate_settle(panel):
    found = engines_warmup(panel, ENGINES, stages=TABLE, tolerance=1.0)

    expanding = next(item for item in found if item.output == "measure.expanding")
    assert expanding.same_from is None
    assert expanding.close_from == 252


def test_what_settles_is_one_row_and_what_does_not_has_its_own(panel):
    rows = list(listing(engines_warmup(panel, ENGINES, stages=TABLE)))

    assert [row[1] for row in rows] == ["measure: 3 fields", "measure.expanding"]
    assert rows[0][2:5] == (252, 252, 252)


def test_a_users_strategy_settles_at_its_own_window(panel):
    def above_average(history):
        average = np.full(history.close.shape, np.nan)
        window = np.lib.stride_tricks.sliding_window_view(history.close, 100, axis=0)
        average[99:] = window.mean(axis=2)
        return history.close / average

    (found,) = strategy_warmup(UserStrategy("mine", above_average), panel)

    assert (found.sleeve, found.output) == ("mine", "weights")
    assert (found.first_known, found.close_from) == (126, 126)


def test_a_strategy_that_fails_on_a_short_history_is_unknown_there(panel):
    def needs_a_year(history):
        if len(history) < 250:
            raise ValueError("a year is needed")
        return history.close

    (found,) = strategy_warmup(UserStrategy("mine", needs_a_year), panel)

    assert found.first_known == 252


def test_a_history_too_short_to_leave_any_out_is_refused(panel):
    with pytest.raises(DataError, match="150 sessions: at least 189"):
        engines_warmup(panel.last(150), ENGINES, stages=TABLE)
