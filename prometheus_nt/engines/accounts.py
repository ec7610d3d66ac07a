"""Reported figures as they were known: the newest quarters added up, restated or not.

1. `report_tables` puts next to every report, the facts of a day about one instrument, what was
   known of each item right after it (`_known_after`);
2. `newest_reports` says which report of each instrument was the newest at every session;
3. `known_over` looks the reports of some sessions up.

Facts have the names of `domain.profiles`.
"""

from typing import Any, NamedTuple

import numpy as np

from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import NEWS_ITEM
from prometheus_nt.domain.record import FloatArray, IntArray

FLOW, STOCK, DAY = 4, 1, 1
"""Periods that add up to the figure: four quarters, one balance, one day."""

MID_QUARTER = np.timedelta64(15, "D")
"""What a period's end is moved back by to find its quarter: fiscal quarters of 52 and 53 weeks
end a few days before or after the end of a month."""

Items = tuple[tuple[str, int], ...]
"""Names of facts, each with the number of consecutive periods that add up to the figure."""


def known_over(panel: MarketPanel, items: Items, rows: slice) -> FloatArray:
    """Return value and period end of each item as known at these sessions, (R, N, 2, K).

    A period's end is in days since 1970; both are NaN where nothing was known.
    """
    newest = panel.derived(newest_reports, items)[rows]
    table = panel.derived(report_tables, items)[-1]
    if not len(table):
        return np.full((*newest.shape, 2, len(items)), np.nan)
    known: FloatArray = table.take(newest, axis=0, mode="wrap")
    known[newest < 0] = np.nan
    return known


def newest_reports(panel: MarketPanel, items: Items) -> Any:
    """Return the number of each instrument's newest report, (T, N) int32; -1 before the first."""
    newest = np.full((len(panel), len(panel.instruments)), -1, dtype=np.int32)
    if panel.facts is None:
        return newest
    reports = _report_rows(panel.facts, items)
    sessions = np.searchsorted(panel.sessions, panel.facts.known_at[reports])
    inside = np.flatnonzero(sessions < len(panel))
    columns = panel.facts.column[reports[inside]]
    np.maximum.at(newest, (sessions[inside], columns), inside.astype(np.int32))
    np.maximum.accumulate(newest, axis=0, out=newest)
    return newest


def report_tables(panel: MarketPanel, items: Items) -> Any:
    """Return the table of reports known at each session, (T,) array of (R_t, 2, K) views.

    One table, in the order in which reports became known, and of it each session sees the rows
    of its past: a report's row says what was known then, and no later report changes it.
    """
    tables = np.empty(len(panel), dtype=object)
    if panel.facts is None:
        tables[:] = [np.empty((0, 2, len(items)))] * len(panel)
        return tables
    facts = panel.facts
    reports = _report_rows(facts, items)
    table = np.full((len(reports), 2, len(items)), np.nan)
    for place, (name, periods) in enumerate(items):
        if name in facts.items:
            table[:, :, place] = _as_reported(facts, reports, name, periods)
    table.flags.writeable = False
    stops = np.searchsorted(facts.known_at[reports], panel.sessions, side="right")
    tables[:] = [table[:stop] for stop in stops.tolist()]
    return tables


def _report_rows(facts: Facts, items: Items) -> IntArray:
    """Return the last row of each instrument's facts of one day, ascending: a report."""
    wanted = [facts.items.index(name) for name, _ in items if name in facts.items]
    rows = np.flatnonzero(np.isin(facts.item, wanted))
    order = rows[np.lexsort((rows, facts.known_at[rows], facts.column[rows]))]
    column, known_at = facts.column[order], facts.known_at[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (column[1:] != column[:-1]) | (known_at[1:] != known_at[:-1])
    return np.sort(order[last])


def _as_reported(facts: Facts, reports: IntArray, name: str, periods: int) -> FloatArray:
    """Return value and period end of an item as known right after each report, (R, 2)."""
    # What ends after it is known is an estimate, not a fact; a day without an article is no news.
    usable = (facts.item == facts.items.index(name)) & (facts.period_end <= facts.known_at)
    if name == NEWS_ITEM:
        usable &= facts.value > 0.0
    rows = np.flatnonzero(usable)
    if not len(rows):
        return np.full((len(reports), 2), np.nan)
    after = _known_after(facts, rows, periods)
    events = facts.column[after.row] * len(facts) + after.row
    place = np.searchsorted(events, facts.column[reports] * len(facts) + reports, side="right") - 1
    found = (place >= 0) & (facts.column[after.row[place]] == facts.column[reports])
    return np.where(found[:, None], after.known[place], np.nan)


class _After(NamedTuple):
    """What was known right after a fact: `row` (E,) by column and row, `known` (E, 2)."""

    row: IntArray
    known: FloatArray


def _known_after(facts: Facts, rows: IntArray, periods: int) -> _After:
    """Return the sum of the newest `periods` periods, and their end, right after each fact.

    Of a period that was reported again the newest figure counts; the sum is unknown while one of
    the periods is.
    """
    rows = rows[np.lexsort((rows, facts.column[rows]))]
    number = _period_numbers(facts.period_end[rows], periods)
    number += periods - number.min()
    # Columns lie so far apart that no period of one is taken for a period of the next.
    period = facts.column[rows] * (int(number.max()) + 1) + number
    newest = np.maximum.accumulate(period)
    by_period = np.lexsort((rows, period))
    key = period[by_period] * len(rows) + by_period
    value, end = np.zeros(len(rows)), np.full(len(rows), np.nan)
    for before in range(periods):
        wanted = (newest - before) * len(rows) + np.arange(len(rows))
        place = np.searchsorted(key, wanted, side="right") - 1
        source = by_period[np.maximum(place, 0)]
        known = (place >= 0) & (period[source] == newest - before)
        value += np.where(known, facts.value[rows[source]], np.nan)
        if before == 0:
            end = facts.period_end[rows[source]].astype(np.int64).astype(np.float64)
    return _After(rows, np.stack((value, end), axis=1))


def _period_numbers(period_end: Any, periods: int) -> IntArray:
    """Return numbers that rise by one from a period to the next."""
    if periods == 1:
        days: IntArray = period_end.astype("datetime64[D]").astype(np.int64)
        return days
    months = (period_end - MID_QUARTER).astype("datetime64[M]").astype(np.int64)
    quarters: IntArray = months // 3
    return quarters
