"""EODHD's bars, splits and dividends as they were on the day.

Open, high, low and close come as traded. The volume comes divided by later splits and is put
back. The adjusted close is left out: it is rewritten over the whole past by every dividend, so a
stored one would mix bases and tell what was not known on its day. Total returns follow from the
splits and dividends, which are always read whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from adapters.eodhd.answers import Cells, as_day, as_number, is_unknown, objects
from adapters.http import SchemaChanged
from adapters.source import Action, ActionType, Issue, PriceTable, Severity
from prometheus_nt.domain.record import FloatArray, SessionArray

SOURCE = "eodhd"
BAR_FIELDS = ("open", "high", "low", "close", "volume")
CASH_DECIMALS = 6
"""No dividend is declared finer; removes the noise of multiplying splits back in."""

MINOR_UNITS = {("GBP", "GBX"): 100.0, ("ZAR", "ZAC"): 100.0, ("ILS", "ILA"): 100.0}
"""Currency of a dividend, currency of the prices -> price units in one unit of cash."""


@dataclass(frozen=True)
class Quoted:
    """What an answer about prices is about: endpoint, dataset, instrument and its currency."""

    where: str
    dataset_id: str
    instrument_id: str
    currency: str | None = None


def read_splits(quoted: Quoted, answer: Any) -> dict[date, float]:
    """Return new shares per old share by ex-date.

    Raises
    ------
    SchemaChanged
        If a split is no ratio of positive numbers, or a day has two that differ.
    """
    splits: dict[date, float] = {}
    for row in objects(quoted.where, "", answer):
        day, ratio = row.known_day("date"), _ratio(row)
        if splits.setdefault(day, ratio) != ratio:
            raise SchemaChanged(quoted.where, row.place("split"), ratio, "one split a day")
    return splits


def read_dividends(
    quoted: Quoted, answer: Any, splits: Mapping[date, float]
) -> tuple[dict[date, float], list[Issue]]:
    """Return cash per share as paid by ex-date, and the dividends that cannot be used.

    Several dividends of one day add up; the same row twice counts once. On the day of a split the
    cash is per share after that split.
    """
    paid: dict[date, float] = {}
    issues: list[Issue] = []
    rows = {tuple(sorted(map(str, row.values.items()))): row for row in _rows(quoted, answer)}
    for row in rows.values():
        day, cash = row.known_day("date"), _cash(row, splits)
        units = _price_units(quoted, row)
        if units is None:
            issues.append(_foreign(quoted, row, day))
        elif cash > 0:
            paid[day] = round(paid.get(day, 0.0) + cash * units, CASH_DECIMALS)
    return paid, issues


def actions_of(
    instrument_id: str, splits: Mapping[date, float], dividends: Mapping[date, float], until: date
) -> list[Action]:
    """Return what became effective by `until`, by ex-date; announcements may still change."""
    found = [(day, ActionType.SPLIT, value) for day, value in splits.items() if value != 1.0]
    found += [(day, ActionType.DIVIDEND, value) for day, value in dividends.items()]
    return [
        Action(instrument_id, day, action_type, value, SOURCE)
        for day, action_type, value in sorted(found)
        if day <= until
    ]


def read_bars(quoted: Quoted, answer: Any, splits: Mapping[date, float], today: date) -> PriceTable:
    """Return the bars of an answer, volumes as traded; unreadable ones become findings.

    Raises
    ------
    SchemaChanged
        If the answer is no list of objects, or one lacks a field.
    """
    rows = _rows(quoted, answer)
    cells = {name: [row.require(name) for row in rows] for name in ("date", *BAR_FIELDS)}
    days = [as_day(value) for value in cells["date"]]
    numbers = {name: [as_number(value) for value in cells[name]] for name in BAR_FIELDS}
    issues = []
    for position in range(len(rows)):
        bad = _unreadable(cells, days, numbers, position)
        issues += [_unreadable_cell(quoted, position, name, cells[name][position]) for name in bad]
    spoiled = {issue.source_row for issue in issues}
    kept = np.array([line for line in range(1, len(rows) + 1) if line not in spoiled], np.int64)
    columns: dict[str, Any] = {name: _column(values)[kept - 1] for name, values in numbers.items()}
    dates = np.array([days[line - 1] for line in kept], dtype="datetime64[D]")
    columns["volume"] = columns["volume"] / later_splits(dates, splits, today)
    return PriceTable(
        quoted.instrument_id,
        dates,
        **columns,
        adjusted_close=np.full(len(kept), np.nan),
        source_file=quoted.where,
        source_rows=kept,
        issues=tuple(issues),
    )


def later_splits(dates: SessionArray, splits: Mapping[date, float], today: date) -> FloatArray:
    """Return the product of the splits after each day that are effective by `today`."""
    effective = sorted(day for day in splits if day <= today)
    factors = np.array([splits[day] for day in effective], dtype=np.float64)
    later = np.append(np.cumprod(factors[::-1])[::-1], 1.0)
    position = np.searchsorted(np.array(effective, dtype="datetime64[D]"), dates, side="right")
    product: FloatArray = later[position]
    return product


def _rows(quoted: Quoted, answer: Any) -> Sequence[Cells]:
    if not isinstance(answer, list):
        raise SchemaChanged(quoted.where, "(the answer)", answer, "a list")
    return list(objects(quoted.where, "", answer))


def _ratio(row: Cells) -> float:
    text = row.known_text("split")
    new, _, old = text.partition("/")
    parts = as_number(new), as_number(old)
    if parts[0] is None or parts[1] is None or parts[0] <= 0 or parts[1] <= 0:
        raise SchemaChanged(row.where, row.place("split"), text, "new shares/old shares")
    return parts[0] / parts[1]


def _cash(row: Cells, splits: Mapping[date, float]) -> float:
    """Return the cash per share that is outstanding after the splits of the ex-date."""
    day = row.known_day("date")
    paid = row.number("unadjustedValue") if "unadjustedValue" in row.values else None
    if paid is None or day in splits:
        # `value` is per share of today: the later splits lead back to the share of that day.
        adjusted = row.number("value")
        if adjusted is None:
            raise SchemaChanged(row.where, row.place("value"), None, "a number")
        paid = adjusted * float(np.prod([ratio for at, ratio in splits.items() if at > day]))
    if paid < 0:
        raise SchemaChanged(row.where, row.place("unadjustedValue"), paid, "cash of at least 0")
    return paid


def _price_units(quoted: Quoted, row: Cells) -> float | None:
    """Return the price units in one unit of the dividend's currency; None if unknown."""
    currency = row.text("currency")
    if currency is None or quoted.currency is None or currency == quoted.currency:
        return 1.0
    return MINOR_UNITS.get((currency, quoted.currency))


def _foreign(quoted: Quoted, row: Cells, day: date) -> Issue:
    currency = str(row.text("currency"))
    return Issue(
        quoted.dataset_id,
        quoted.instrument_id,
        day,
        "foreign_dividend",
        Severity.WARNING,
        currency,
        f"{quoted.where}, field {row.place('currency')!r}, {quoted.instrument_id} {day}: found"
        f" {currency}, but prices are in {quoted.currency}; the dividend was left out, so add it in"
        " the currency of the prices",
        quoted.where,
        None,
        "currency",
    )


def _unreadable(
    cells: Mapping[str, Sequence[Any]],
    days: Sequence[date | None],
    numbers: Mapping[str, Sequence[float | None]],
    position: int,
) -> list[str]:
    bad = [] if days[position] is not None else ["date"]
    return bad + [
        name
        for name in BAR_FIELDS
        if numbers[name][position] is None and not is_unknown(cells[name][position])
    ]


def _unreadable_cell(quoted: Quoted, position: int, name: str, value: Any) -> Issue:
    line, is_date = position + 1, name == "date"
    problem = "is no date" if is_date else "is no number"
    return Issue(
        quoted.dataset_id,
        quoted.instrument_id,
        None,
        "unreadable_date" if is_date else "unreadable_number",
        Severity.ERROR,
        str(value)[:60],
        f"{quoted.where}, row {line}, field {name!r}: {str(value)[:60]!r} {problem}; the row was"
        " left out: report it to the vendor",
        quoted.where,
        line,
        name,
    )


def _column(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
