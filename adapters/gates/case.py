"""What the gates look at, the thresholds they use, and the findings they return."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from pydantic import Field

from adapters.source import Action, ActionType, Issue, PriceTable, Severity
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params


class QualityParams(Params):
    """Thresholds of the gates; returns are simple, per session.

    stall_warned_after : sessions in a row whose close equals the close before. An illiquid name
        really trades at one price for days, so a stall is a warning.
    stall_rejected_after : from the session after so many on, the close is taken for a quote that
        nobody renewed, and its row is quarantined. None keeps every row: whether a stale price is
        no price is the operator's choice, because it changes results.
    spike_sessions, spike_sigma : a volume more than `spike_sigma` standard deviations above the
        mean of the `spike_sessions` before it. Shares really trade so on days of news: a warning.
    """

    highest_return: float = Field(5.0, gt=0)
    lowest_return: float = Field(-0.99, gt=-1, lt=0)
    large_return: float = Field(0.4, gt=0)
    stall_warned_after: int = Field(10, ge=1)
    stall_rejected_after: int | None = Field(None, ge=1)
    spike_sessions: int = Field(20, ge=3)
    spike_sigma: float = Field(10.0, gt=0)


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
    params: QualityParams = field(default_factory=QualityParams)


@dataclass(frozen=True, eq=False)
class Finding:
    """Rows of a table that one rule is about; `values` says more than their cells where given."""

    rows: IntArray
    rule: str
    severity: Severity
    column: str
    problem: str
    remedy: str
    dropped: bool = False
    values: Sequence[str] | None = None


def error(bad: BoolArray, rule: str, column: str, problem: str, remedy: str) -> Finding:
    """Return the finding that quarantines the rows where `bad` is true."""
    return Finding(np.flatnonzero(bad), rule, Severity.ERROR, column, problem, remedy, True)


def warning(bad: BoolArray, rule: str, column: str, problem: str, remedy: str) -> Finding:
    """Return the finding that keeps the rows where `bad` is true."""
    return Finding(np.flatnonzero(bad), rule, Severity.WARNING, column, problem, remedy)


def by_date(table: PriceTable, kept: BoolArray) -> IntArray:
    """Return the kept rows in the order of their dates, one per date."""
    rows = np.flatnonzero(kept)
    dates = table.dates[rows]
    if (dates[1:] > dates[:-1]).all():
        return rows.astype(np.int64)
    _, first = np.unique(dates, return_index=True)
    return rows[first].astype(np.int64)


def per_row(actions: Sequence[Action], wanted: ActionType, dates: np.ndarray) -> FloatArray:
    """Return the split product, or the cash, that became effective since the row before."""
    is_split = wanted is ActionType.SPLIT
    values = np.full(len(dates), 1.0 if is_split else 0.0)
    chosen = [action for action in actions if action.action_type is wanted]
    days = np.array([action.ex_date for action in chosen], dtype="datetime64[D]")
    rows = np.searchsorted(dates, days)
    inside = rows < len(dates)
    amounts = np.array([action.value for action in chosen], dtype=np.float64)[inside]
    (np.multiply if is_split else np.add).at(values, rows[inside], amounts)
    return values


def issues_of(case: Case, finding: Finding) -> Iterator[Issue]:
    """Yield one issue per row of a finding, with file, row, column, value and remedy."""
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
