"""Gates on the rows of a table by themselves: their numbers, their dates, their repetitions."""

from collections.abc import Iterator
from datetime import datetime

import numpy as np

from adapters.gates.case import Case, Finding, error, warning
from adapters.source import Severity
from prometheus_nt.domain.calendar import FIRST_DAY
from prometheus_nt.domain.record import BoolArray

QUOTED_PRICES = ("open", "high", "low", "close")


def numbers(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Quarantine prices that are none, and volumes below zero."""
    for name in QUOTED_PRICES:
        prices = getattr(case.table, name)
        missing = kept & ~np.isfinite(prices)
        remedy = "fill in the price, or remove the row if the instrument did not trade"
        yield error(missing, "missing_price", name, "no price", remedy)
        remedy = "correct the price; a price must be above zero"
        yield error(
            kept & ~missing & ~(prices > 0), "price_not_positive", name, "not above zero", remedy
        )
        kept = kept & (prices > 0) & ~missing
    adjusted, volume = case.table.adjusted_close, case.table.volume
    remedy = "correct the value, or leave it empty if it is unknown"
    bad = kept & ~np.isnan(adjusted) & ~((adjusted > 0) & np.isfinite(adjusted))
    yield error(bad, "price_not_positive", "adjusted_close", "not above zero", remedy)
    bad = kept & ~bad & ~np.isnan(volume) & ~((volume >= 0) & np.isfinite(volume))
    yield error(bad, "negative_volume", "volume", "not a number of shares", remedy)


def dates(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Quarantine days without trading, and sessions that have not closed."""
    dates, calendar = case.table.dates, case.calendar
    rows = np.minimum(np.searchsorted(calendar.sessions, dates), len(calendar.sessions) - 1)
    session = calendar.sessions[rows] == dates
    future = np.where(session, calendar.closes_ns[rows] > _ns(case.now), dates > _day(case.now))
    remedy = f"ingest again after the close; it is {case.now:%Y-%m-%d %H:%M} UTC now"
    yield error(kept & future, "future_date", "date", "this session has not closed", remedy)
    early = kept & (dates < np.datetime64(FIRST_DAY, "D"))
    remedy = f"remove rows before {FIRST_DAY}, where the calendar starts"
    yield error(early, "before_calendar", "date", "before the first known session", remedy)
    remedy = "remove the row, or correct its date"
    problem = f"not a {calendar.market_id} session"
    yield error(kept & ~session & ~future & ~early, "not_a_session", "date", problem, remedy)


def bars(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Quarantine a high below its low; warn of an open or close outside them."""
    table = case.table
    crossed = kept & (table.high < table.low)
    problem, remedy = "the high is below the low", "correct the high or the low"
    yield error(crossed, "high_below_low", "high", problem, remedy)
    for name in ("open", "close"):
        prices = getattr(table, name)
        outside = kept & ~crossed & ((prices > table.high) | (prices < table.low))
        problem = f"the {name} lies outside low to high"
        remedy = f"the row was kept; correct the {name} or the range"
        yield warning(outside, "outside_range", name, problem, remedy)


def duplicates(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Keep the first of equal rows of one session, and none of rows that differ."""
    rows = np.flatnonzero(kept)
    _, groups, counts = np.unique(case.table.dates[rows], return_inverse=True, return_counts=True)
    repeated = rows[counts[groups] > 1]
    if not len(repeated):
        return
    bars = np.column_stack([getattr(case.table, name) for name in _BAR_COLUMNS])[repeated]
    days = case.table.dates[repeated]
    _, first, group = np.unique(days, return_index=True, return_inverse=True)
    reference = bars[first][group]
    equal = ((bars == reference) | (np.isnan(bars) & np.isnan(reference))).all(axis=1)
    conflict = np.isin(days, days[~equal])
    problem = "this session has several rows that differ"
    remedy = "keep the true row and remove the others; none of them was stored"
    yield Finding(
        repeated[conflict], "conflicting_rows", Severity.ERROR, "date", problem, remedy, True
    )
    later = np.ones(len(repeated), dtype=bool)
    later[first] = False
    yield Finding(
        repeated[~conflict & later],
        "repeated_row",
        Severity.WARNING,
        "date",
        "this session has the same row twice",
        "the first was kept; remove the repetition",
        dropped=True,
    )


_BAR_COLUMNS = (*QUOTED_PRICES, "adjusted_close", "volume")


def order(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Warn of dates that do not ascend."""
    rows = np.flatnonzero(kept)
    newest = np.maximum.accumulate(case.table.dates[rows])
    behind = rows[1:][case.table.dates[rows[1:]] < newest[:-1]]
    remedy = "the rows were sorted; sort the source by date"
    yield Finding(
        behind[:1],
        "unsorted_dates",
        Severity.WARNING,
        "date",
        f"the dates do not ascend ({len(behind)} rows are behind an earlier row)",
        remedy,
    )


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _day(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.date(), "D")
