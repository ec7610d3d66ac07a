"""Ratios of reported periods, as they could be computed when each of their figures came out.

1. `_events` are the moments at which something of a period became known;
2. `_Figures.at` looks a figure of the period, or of the one a year before, up as known then;
3. `period_ratios` divides them. What divides must be positive, or the ratio is unknown.

A quarter's flows are those of the quarter: nothing is annualised.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray
from prometheus_nt.engines.accounts import MID_QUARTER
from prometheus_nt.engines.numerics.versions import group_numbers, superseded

FIGURES = {
    "IS": (
        *("revenue", "gross_profit", "operating_income", "net_income"),
        *("pretax_income", "income_tax", "interest_expense"),
    ),
    "BS": ("equity", "total_liabilities", "total_debt", "cash", "shares_outstanding"),
}
"""Statement -> the figures that are taken from it."""

YEAR = 4
"""Quarters in one; annual periods are numbered by the quarter they end in."""

MAX_SHARE_CHANGE = 1.4
"""Growth of shares within a year beyond which it was a split: earnings per share do not compare."""


@dataclass(frozen=True, eq=False)
class StatementColumns:
    """R versions of statements, columns of one length.

    Attributes
    ----------
    issuer, kind, frequency : (R,) arrays of text
    period_end : (R,) array of datetime64[D]
    stated_ns, known_ns : (R,) int arrays
        When it was known as the source says, and when it may be used; nanoseconds.
    values : mapping of each of `FIGURES` to an (R,) array; NaN where unknown
    """

    issuer: np.ndarray
    kind: np.ndarray
    frequency: np.ndarray
    period_end: SessionArray
    stated_ns: IntArray
    known_ns: IntArray
    values: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class PeriodRatios:
    """E events and the ratios of their period as known then.

    Attributes
    ----------
    row : (E,) int array
        A row of the statements that became known at the event.
    period_start : (E,) array of datetime64[D]
    values : mapping of ratio to an (E,) array; NaN where unknown
    """

    row: IntArray
    period_start: SessionArray
    values: Mapping[str, FloatArray]


def period_ratios(statements: StatementColumns) -> PeriodRatios:
    """Return the ratios of every period, at each time that one of its figures became known."""
    figures = _Figures.of(statements)
    row = _events(figures)
    of = {name: figures.at(name, row) for names in FIGURES.values() for name in names}
    before = {name: figures.at(name, row, YEAR) for name in ("revenue", *PER_SHARE)}
    taxed = 1.0 - np.clip(of["income_tax"] / _positive(of["pretax_income"]), 0.0, 1.0)
    invested = of["total_debt"] + of["equity"] - of["cash"]
    values = {
        "roe": of["net_income"] / _positive(of["equity"]),
        "roic": of["operating_income"] * taxed / _positive(invested),
        "gross_margin": of["gross_profit"] / _positive(of["revenue"]),
        "op_margin": of["operating_income"] / _positive(of["revenue"]),
        "net_margin": of["net_income"] / _positive(of["revenue"]),
        "leverage": of["total_liabilities"] / _positive(of["equity"]),
        "interest_coverage": of["operating_income"] / _positive(of["interest_expense"]),
        "revenue_growth": of["revenue"] / _positive(before["revenue"]) - 1.0,
        "eps_growth": _per_share_growth(of, before),
    }
    return PeriodRatios(row, _starts(statements, row), values)


PER_SHARE = ("net_income", "shares_outstanding")


@dataclass(frozen=True, eq=False)
class _Figures:
    """Statements with a number for each period of an issuer and frequency, and each moment."""

    statements: StatementColumns
    current: np.ndarray
    period: IntArray
    moment: IntArray

    @classmethod
    def of(cls, statements: StatementColumns) -> "_Figures":
        middle = statements.period_end - MID_QUARTER
        quarter = middle.astype("datetime64[M]").astype(np.int64) // 3
        about = (statements.issuer, statements.kind, statements.frequency, quarter)
        gone = superseded(group_numbers(*about), statements.stated_ns, statements.known_ns)
        series = group_numbers(statements.issuer, statements.frequency)
        # Series lie so far apart that the year before the first of one is none of the last.
        number = quarter - quarter.min(initial=0) + YEAR
        period = series * (int(number.max(initial=0)) + 1) + number
        moment = np.unique(statements.known_ns, return_inverse=True)[1]
        return cls(statements, ~gone, period, moment)

    def keys(self, row: IntArray, before: int = 0) -> IntArray:
        """Return numbers that ascend by period, then by moment."""
        keys: IntArray = (self.period[row] - before) * len(self.moment) + self.moment[row]
        return keys

    def at(self, name: str, row: IntArray, before: int = 0) -> FloatArray:
        """Return a figure of each row's period, or of `before` quarters earlier, as known then."""
        value = self.statements.values[name]
        kind = next(kind for kind, names in FIGURES.items() if name in names)
        usable = self.current & np.isfinite(value) & (self.statements.kind == kind)
        rows = np.flatnonzero(usable)
        if not len(rows):
            return np.full(len(row), np.nan)
        rows = rows[np.argsort(self.keys(rows), kind="stable")]
        place = np.searchsorted(self.keys(rows), self.keys(row, before), side="right") - 1
        found = rows[np.maximum(place, 0)]
        known = (place >= 0) & (self.period[found] == self.period[row] - before)
        return np.where(known, value[found], np.nan)


def _events(figures: _Figures) -> IntArray:
    rows = np.flatnonzero(figures.current)
    first: IntArray = rows[np.unique(figures.keys(rows), return_index=True)[1]]
    return first


def _per_share_growth(of: Mapping[str, FloatArray], before: Mapping[str, FloatArray]) -> FloatArray:
    shares, fewer = _positive(of["shares_outstanding"]), _positive(before["shares_outstanding"])
    earlier = _positive(before["net_income"] / fewer)
    growth = of["net_income"] / shares / earlier - 1.0
    with np.errstate(invalid="ignore"):
        comparable = np.abs(np.log(shares / fewer)) <= np.log(MAX_SHARE_CHANGE)
    return np.where(comparable, growth, np.nan)


def _starts(statements: StatementColumns, row: IntArray) -> SessionArray:
    """Return the day after the period before ended: so many months before the day after its end."""
    after = statements.period_end[row] + np.timedelta64(1, "D")
    month = after.astype("datetime64[M]")
    months = np.where(statements.frequency[row] == "ANNUAL", 12, 3).astype("timedelta64[M]")
    starts: SessionArray = (month - months).astype("datetime64[D]") + (
        after - month.astype("datetime64[D]")
    )
    return starts


def _positive(x: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.where(x > 0.0, x, np.nan)
