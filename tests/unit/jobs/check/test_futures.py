"""Other futures agree with a history to its cut and nowhere after; cuts fall where leaks show."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.jobs.check.futures import FUTURES, WALK, cut_rows, cuts_of

ROW = 100


@pytest.fixture
def futures(panel):
    (cut,) = cuts_of(panel, [ROW], [tuple(FUTURES)], seed=1)
    return cut.changed


@pytest.mark.parametrize("kind", FUTURES)
def test_a_future_differs_after_its_cut_only(panel, futures, kind):
    changed = futures[kind]

    for name in PANEL_FIELDS:
        ours, theirs = getattr(panel, name), getattr(changed, name)
        assert np.array_equal(ours[: ROW + 1], theirs[: ROW + 1], equal_nan=True), name
    after = slice(ROW + 1, len(changed))
    assert not np.array_equal(panel.close[after], changed.close[after]) or len(changed) == ROW + 1
    assert changed.fingerprint != panel.fingerprint


def test_a_random_walk_keeps_what_the_venue_may_know(panel):
    splits = panel.split.copy()
    splits[-1, 0], splits[150, 1] = 2.0, 3.0
    closes = panel.close.copy()
    closes[50:, 2] = np.nan
    honest = type(panel)(
        **{name: getattr(panel, name) for name in PANEL_FIELDS if name not in ("close", "split")},
        sessions=panel.sessions,
        instruments=panel.instruments,
        fingerprint="split",
        close=closes,
        split=splits,
    )

    (cut,) = cuts_of(honest, [ROW], [(WALK,)], seed=1)

    changed = cut.changed[WALK]
    assert np.array_equal(changed.split.prod(axis=0), splits.prod(axis=0))
    assert np.isnan(changed.close[50:, 2]).all()
    assert np.isfinite(np.delete(changed.close[-1], 2)).all()


def test_cuts_fall_on_the_ends_of_weeks_months_and_years_and_just_before(panel):
    rows = cut_rows(panel.sessions, 12, 100, len(panel))

    days = panel.sessions.astype(object)
    week, month = ([row for row in rows if _differ(days, row, part)] for part in (_week, _month))
    assert rows == sorted(set(rows))
    assert week
    assert month
    assert date(2010, 12, 31) in [days[row] for row in rows]
    assert any(_differ(days, row + 1, _week) for row in rows)
    assert any(_differ(days, row + 1, _month) for row in rows)


def _week(day):
    return day.isocalendar()[:2]


def _month(day):
    return (day.year, day.month)


def _differ(days, row, part):
    """Whether the next session is in another week or month."""
    return part(days[row]) != part(days[row + 1])


@pytest.mark.parametrize("kind", FUTURES)
def test_sectors_are_others_after_the_cut_and_the_same_before(panel, kind):
    first, moved = panel.sessions[[0, 60]].astype(object)
    names = len(panel.instruments)
    known = tuple("ABCD"[column % 4] for column in range(names))
    history = SectorHistory.of({first: known, moved: known[::-1]})
    honest = replace(panel, sector_history=history, _wall=None)

    (cut,) = cuts_of(honest, [ROW], [(kind,)], seed=1)

    changed = cut.changed[kind]
    for row in (0, 60, ROW):
        assert changed.sectors_at(row) == honest.sectors_at(row)
    assert len(changed) == ROW + 1 or changed.sectors != honest.sectors
