"""Quality gates on the daily bars of one instrument: which rows are kept, and what was found.

The gates run in this order, each on the rows the ones before it kept:

1. `_numbers`: a missing, infinite, zero or negative price; a negative volume.
2. `_dates`: days that are no session of the market, and sessions that have not closed yet.
3. `_bars`: high below low; an open or close outside the day's range (kept, with a warning).
4. `_duplicates`: one session twice. Equal bars: the first is kept. Different bars: none is, for
   nobody can tell which is true.
5. `_order`: dates that do not ascend (kept, with a warning; the caller sorts).
6. `_impossible_returns`: prices that jump by more than a factor of six, or lose 99 %, against the
   last kept row, dividends and splits taken into account.
7. `_large_returns`: a price change beyond 40 % that no action explains (kept, with a warning).

A row with an ERROR is quarantined: left out and recorded. Nothing is dropped in silence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from adapters.source import Action, ActionType, Issue, PriceTable, Severity
from prometheus_nt.domain.calendar import FIRST_DAY, MarketCalendar
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray

HIGHEST_RETURN, LOWEST_RETURN = 5.0, -0.99
LARGE_RETURN = 0.4
QUOTED_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, eq=False)
class Case:
    """What the gates look at.

    Attributes
    ----------
    now : datetime
        Aware; a session that closes later has no bar yet.
    """

    dataset_id: str
    table: PriceTable
    actions: Sequence[Action]
    calendar: MarketCalendar
    now: datetime


@dataclass(frozen=True, eq=False)
class _Finding:
    rows: IntArray
    rule: str
    severity: Severity
    column: str
    problem: str
    remedy: str
    dropped: bool = False
    values: Sequence[str] | None = None


def check_prices(case: Case) -> tuple[BoolArray, list[Issue]]:
    """Return which rows of the table are kept, and everything that was found."""
    kept = np.ones(len(case.table), dtype=bool)
    issues: list[Issue] = []
    for gate in GATES:
        for finding in gate(case, kept.copy()):
            issues.extend(_issues(case, finding))
            if finding.dropped:
                kept[finding.rows] = False
    if not kept.any():
        issues.append(_nothing_left(case))
    return kept, issues


def _numbers(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    for name in QUOTED_PRICES:
        prices = getattr(case.table, name)
        missing = kept & ~np.isfinite(prices)
        remedy = "fill in the price, or remove the row if the instrument did not trade"
        yield _error(missing, "missing_price", name, "no price", remedy)
        remedy = "correct the price; a price must be above zero"
        yield _error(
            kept & ~missing & ~(prices > 0), "price_not_positive", name, "not above zero", remedy
        )
        kept = kept & (prices > 0) & ~missing
    adjusted, volume = case.table.adjusted_close, case.table.volume
    remedy = "correct the value, or leave it empty if it is unknown"
    bad = kept & ~np.isnan(adjusted) & ~((adjusted > 0) & np.isfinite(adjusted))
    yield _error(bad, "price_not_positive", "adjusted_close", "not above zero", remedy)
    bad = kept & ~bad & ~np.isnan(volume) & ~((volume >= 0) & np.isfinite(volume))
    yield _error(bad, "negative_volume", "volume", "not a number of shares", remedy)


def _dates(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    dates, calendar = case.table.dates, case.calendar
    rows = np.minimum(np.searchsorted(calendar.sessions, dates), len(calendar.sessions) - 1)
    session = calendar.sessions[rows] == dates
    future = np.where(session, calendar.closes_ns[rows] > _ns(case.now), dates > _day(case.now))
    remedy = f"ingest again after the close; it is {case.now:%Y-%m-%d %H:%M} UTC now"
    yield _error(kept & future, "future_date", "date", "this session has not closed", remedy)
    early = kept & (dates < np.datetime64(FIRST_DAY, "D"))
    remedy = f"remove rows before {FIRST_DAY}, where the calendar starts"
    yield _error(early, "before_calendar", "date", "before the first known session", remedy)
    remedy = "remove the row, or correct its date"
    problem = f"not a {calendar.market_id} session"
    yield _error(kept & ~session & ~future & ~early, "not_a_session", "date", problem, remedy)


def _bars(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    table = case.table
    crossed = kept & (table.high < table.low)
    problem, remedy = "the high is below the low", "correct the high or the low"
    yield _error(crossed, "high_below_low", "high", problem, remedy)
    for name in ("open", "close"):
        prices = getattr(table, name)
        outside = kept & ~crossed & ((prices > table.high) | (prices < table.low))
        problem = f"the {name} lies outside low to high"
        remedy = f"the row was kept; correct the {name} or the range"
        yield _warning(outside, "outside_range", name, problem, remedy)


def _duplicates(case: Case, kept: BoolArray) -> Iterator[_Finding]:
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
    yield _Finding(
        repeated[conflict], "conflicting_rows", Severity.ERROR, "date", problem, remedy, True
    )
    later = np.ones(len(repeated), dtype=bool)
    later[first] = False
    yield _Finding(
        repeated[~conflict & later],
        "repeated_row",
        Severity.WARNING,
        "date",
        "this session has the same row twice",
        "the first was kept; remove the repetition",
        dropped=True,
    )


_BAR_COLUMNS = (*QUOTED_PRICES, "adjusted_close", "volume")


def _order(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    rows = np.flatnonzero(kept)
    newest = np.maximum.accumulate(case.table.dates[rows])
    behind = rows[1:][case.table.dates[rows[1:]] < newest[:-1]]
    remedy = "the rows were sorted; sort the source by date"
    yield _Finding(
        behind[:1],
        "unsorted_dates",
        Severity.WARNING,
        "date",
        f"the dates do not ascend ({len(behind)} rows are behind an earlier row)",
        remedy,
    )


def _impossible_returns(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    rows = _by_date(case.table, kept)
    prices = _comparable(case, rows)
    base = 0
    while (jump := _next_jump(prices, base)) is not None:
        change = prices[jump:] / prices[jump - 1] - 1
        stays = ~_impossible(change)
        length = int(stays.argmax()) if stays.any() else len(change)
        problem = (
            f"the price changes {change[0]:+.0%} against the row before"
            f" (and stays there for {length} rows)"
        )
        yield _Finding(
            rows[jump : jump + length],
            "impossible_return",
            Severity.ERROR,
            "close",
            problem,
            "correct the price, or add the split that explains it",
            dropped=True,
        )
        rows = np.delete(rows, slice(jump, jump + length))
        prices = np.delete(prices, slice(jump, jump + length))
        base = jump - 1


def _next_jump(prices: FloatArray, base: int) -> int | None:
    change = prices[base + 1 :] / prices[base:-1] - 1
    jumps = np.flatnonzero(_impossible(change))
    return base + 1 + int(jumps[0]) if len(jumps) else None


def _impossible(change: FloatArray) -> BoolArray:
    return (change > HIGHEST_RETURN) | (change < LOWEST_RETURN)


def _large_returns(case: Case, kept: BoolArray) -> Iterator[_Finding]:
    rows = _by_date(case.table, kept)
    dates, close = case.table.dates[rows], case.table.close[rows]
    splits = _per_row(case.actions, ActionType.SPLIT, dates)
    dividends = _per_row(case.actions, ActionType.DIVIDEND, dates)
    change = (close[1:] * splits[1:] + dividends[1:]) / close[:-1] - 1
    large = np.flatnonzero(np.abs(change) > LARGE_RETURN)
    yield _Finding(
        rows[large + 1],
        "large_return",
        Severity.WARNING,
        "close",
        "the price moves more than 40 % and no split or dividend explains it",
        "the row was kept; check the price: a split that the file does not list can be inferred"
        " from its adjusted close",
        values=[f"{close[row + 1]:g} ({change[row]:+.0%})" for row in large],
    )


Gate = Callable[[Case, BoolArray], Iterator[_Finding]]

GATES: tuple[Gate, ...] = (
    _numbers,
    _dates,
    _bars,
    _duplicates,
    _order,
    _impossible_returns,
    _large_returns,
)


def _comparable(case: Case, rows: IntArray) -> FloatArray:
    """Return a price per row that splits do not move: the adjusted close if it is complete."""
    adjusted = case.table.adjusted_close[rows]
    if not np.isnan(adjusted).any():
        return adjusted
    splits = _per_row(case.actions, ActionType.SPLIT, case.table.dates[rows])
    comparable: FloatArray = case.table.close[rows] * np.cumprod(splits)
    return comparable


def _per_row(actions: Sequence[Action], wanted: ActionType, dates: np.ndarray) -> FloatArray:
    """Return the split product, or the cash, that became effective since the row before."""
    values = np.full(len(dates), 1.0 if wanted is ActionType.SPLIT else 0.0)
    for action in actions:
        row = int(np.searchsorted(dates, np.datetime64(action.ex_date, "D")))
        if action.action_type is not wanted or row >= len(dates):
            continue
        values[row] = (
            values[row] * action.value if wanted is ActionType.SPLIT else values[row] + action.value
        )
    return values


def _by_date(table: PriceTable, kept: BoolArray) -> IntArray:
    rows = np.flatnonzero(kept)
    _, first = np.unique(table.dates[rows], return_index=True)
    return rows[first].astype(np.int64)


def _error(bad: BoolArray, rule: str, column: str, problem: str, remedy: str) -> _Finding:
    return _Finding(np.flatnonzero(bad), rule, Severity.ERROR, column, problem, remedy, True)


def _warning(bad: BoolArray, rule: str, column: str, problem: str, remedy: str) -> _Finding:
    return _Finding(np.flatnonzero(bad), rule, Severity.WARNING, column, problem, remedy)


def _issues(case: Case, finding: _Finding) -> Iterator[Issue]:
    table = case.table
    column = table.column_names.get(finding.column, finding.column)
    found = finding.values or [str(value) for value in _column(table, finding.column)[finding.rows]]
    for row, value in zip(finding.rows, found, strict=True):
        line = int(table.source_rows[row])
        day: date = table.dates[row].astype(object)
        place = f"{table.source_file}, row {line}, column {column!r}, {table.instrument_id} {day}"
        yield Issue(
            case.dataset_id,
            table.instrument_id,
            day,
            finding.rule,
            finding.severity,
            value,
            f"{place}: found {value}: {finding.problem}; {finding.remedy}",
            table.source_file,
            line,
            column,
        )


def _column(table: PriceTable, name: str) -> np.ndarray:
    values: np.ndarray = table.dates if name == "date" else getattr(table, name)
    return values


def _nothing_left(case: Case) -> Issue:
    table = case.table
    return Issue(
        case.dataset_id,
        table.instrument_id,
        None,
        "no_good_row",
        Severity.ERROR,
        f"{len(table)} rows",
        f"{table.source_file}: no row of {len(table)} is usable; see the findings of its rows",
        table.source_file,
    )


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _day(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.date(), "D")
