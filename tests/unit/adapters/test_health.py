from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from adapters.gates.health import (
    Health,
    HealthParams,
    Holding,
    bar_coverage,
    coverage,
    disagreements,
    judge,
)
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel

CALENDAR = MarketCalendar.of("US_EQ")
DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 1, 31))
LAST = DAYS[-1].astype(object)


def holding(missing=(), upto=None, **facts):
    days = np.delete(DAYS[:upto], list(missing))
    first, last = days[0].astype(object), days[-1].astype(object)
    return Holding("A.US", first, last, len(days), sessions=days, **facts)


def verdict(stored, **params):
    return judge(stored, CALENDAR, LAST, HealthParams(**params))


@pytest.mark.parametrize(
    ("missing", "tolerated", "health"),
    [
        ((), 1, Health.OK),
        ((5,), 1, Health.OK),
        ((5,), 0, Health.DEGRADED),
        ((5, 9, 13), 1, Health.OK),
        ((5, 6), 1, Health.DEGRADED),
        ((5, 6), 2, Health.OK),
    ],
)
def test_one_missing_session_is_tolerated_by_a_switch_and_two_in_a_row_are_not(
    missing, tolerated, health
):
    found = verdict(holding(missing), tolerated_gap=tolerated)

    assert found.health is health
    assert sum(gap.sessions for gap in found.gaps) == len(missing)


def test_a_gap_over_a_weekend_is_counted_in_sessions():
    # 2024-01-12 is a Friday; the Monday after it, Martin Luther King Day, is no session.
    places = np.searchsorted(DAYS, np.array(["2024-01-12", "2024-01-16"], dtype="datetime64[D]"))

    (gap,) = verdict(holding(places)).gaps

    assert (gap.first, gap.last, gap.sessions) == (date(2024, 1, 12), date(2024, 1, 16), 2)


def test_age_is_counted_in_sessions_of_the_calendar():
    stored = holding(upto=len(DAYS) - 3)

    assert verdict(stored, max_age=3).health is Health.OK
    old = verdict(stored, max_age=2)
    assert (old.health, old.age) == (Health.STALE, 3)
    assert "3 sessions old" in old.reason


def test_nothing_stored_is_missing_or_dropped_if_all_of_it_was_quarantined():
    nothing = Holding("A.US", None, None, 0)

    assert verdict(nothing).health is Health.MISSING
    assert verdict(replace(nothing, quarantined=4)).health is Health.DROPPED


def test_the_delisted_do_not_grow_stale():
    gone = holding(upto=5, delisted=True)

    assert (verdict(gone).health, verdict(gone).age) == (Health.OK, None)


def test_coverage_counts_the_living():
    held = [
        holding(),
        holding(upto=len(DAYS) - 5),
        holding(upto=5),
        holding(upto=len(DAYS) - 5, delisted=True),
        Holding("B.US", None, None, 0),
    ]

    assert coverage(held, LAST, CALENDAR) == (1, 3)


def newest(*ages):
    """Return the newest bars of instruments, by their ages in sessions; None has none."""
    row = int(np.searchsorted(CALENDAR.sessions, np.datetime64(date(2024, 6, 28))))
    found = [None if age is None else CALENDAR.sessions[row - age] for age in ages]
    return np.array(found, dtype="datetime64[D]")


@pytest.mark.parametrize(
    ("ages", "gone", "counted"),
    [
        ((0, 0, 1), (), (2, 3)),
        ((0, 0, 0, 9, 10), (), (3, 4)),  # the tenth session before is one too many
        ((0, 20, 20, 20), (), (1, 4)),  # a source that fails for most is waited for
        ((0, 1, None), (1,), (1, 2)),  # a recorded end is not waited for, a first bar is
        ((0, 0), (1,), (2, 2)),  # its last day is the day
        ((30, 31, 45), (), (0, 2)),  # nobody's bar came: those alive then are waited for
        ((None, None), (), (0, 2)),
        ((), (), (0, 0)),
    ],
)
def test_one_rule_says_whose_bar_is_waited_for(ages, gone, counted):
    over = np.isin(np.arange(len(ages)), gone)

    assert bar_coverage(newest(*ages), over, date(2024, 6, 28), CALENDAR) == counted


def panel(close, days=DAYS, **fields):
    close = np.asarray(close, dtype=np.float64).reshape(len(days), -1)
    shape = close.shape
    arrays = {name: close.copy() for name in ("open", "high", "low", "close")}
    arrays |= {"volume": np.ones(shape), "split": np.ones(shape), "dividend": np.zeros(shape)}
    names = tuple(f"N{column}.US" for column in range(shape[1]))
    return MarketPanel(days, names, fingerprint="x", **arrays | fields)


def test_sources_that_adjust_differently_agree_on_total_returns():
    adjusted = np.linspace(100, 110, len(DAYS))
    traded = np.where(np.arange(len(DAYS)) < 8, adjusted * 2, adjusted)
    split = np.ones((len(DAYS), 1))
    split[8] = 2.0

    found, compared = disagreements(panel(traded, split=split), panel(adjusted), LAST, 1e-9)

    assert (found, compared) == ([], len(DAYS) - 1)


def test_an_action_that_one_source_lacks_is_a_disagreement_of_its_day():
    adjusted = np.linspace(100, 110, len(DAYS))
    traded = np.where(np.arange(len(DAYS)) < 8, adjusted * 2, adjusted)

    (one,), _ = disagreements(panel(traded), panel(adjusted), LAST, 0.02)

    assert (one.instrument_id, one.session) == ("N0.US", DAYS[8].astype(object))
    assert one.ours == pytest.approx(adjusted[8] / (2 * adjusted[7]) - 1)
    assert one.theirs == pytest.approx(adjusted[8] / adjusted[7] - 1)


def test_a_session_that_one_source_lacks_is_no_disagreement():
    close = 100 * 1.05 ** np.arange(len(DAYS))
    holed = close.copy()
    holed[7] = np.nan
    fewer = np.delete(np.arange(len(DAYS)), 12)

    found, compared = disagreements(panel(holed), panel(close[fewer], DAYS[fewer]), LAST, 1e-9)

    assert (found, compared) == ([], len(DAYS) - 3)


def test_sources_without_a_common_name_compare_nothing():
    other = panel(np.ones((len(DAYS), 1)))
    strange = MarketPanel(
        **{name: getattr(other, name) for name in ("sessions", "fingerprint")},
        **{name: getattr(other, name) for name in ("open", "high", "low", "close", "volume")},
        split=other.split,
        dividend=other.dividend,
        instruments=("Z.US",),
    )

    assert disagreements(other, strange, LAST, 0.02) == ([], 0)
