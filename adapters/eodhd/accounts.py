"""EODHD's financial statements and sectors as records with the time they became known.

A statement is known at the end of its filing day. Where the vendor has no filing day, or one that
is not after the period it is about, it counts as known `LAG_DAYS` after the period's end, and its
source says so. The vendor keeps only the newest version of a figure: a restated one carries the
first filing day.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from adapters.eodhd.answers import Cells, as_number, objects
from adapters.http import SchemaChanged
from adapters.reference import Frequency, SectorAssignment, Statement, StatementType

SOURCE = "eodhd"

STATEMENTS = {
    "Income_Statement": StatementType.IS,
    "Balance_Sheet": StatementType.BS,
    "Cash_Flow": StatementType.CF,
}
FREQUENCIES = {"quarterly": Frequency.QUARTERLY, "yearly": Frequency.ANNUAL}
LAG_DAYS = {Frequency.QUARTERLY: 90, Frequency.ANNUAL: 120}

NAMES = {
    "totalRevenue": "revenue",
    "grossProfit": "gross_profit",
    "operatingIncome": "operating_income",
    "ebitda": "ebitda",
    "netIncome": "net_income",
    "totalAssets": "total_assets",
    "totalLiab": "total_liabilities",
    "totalStockholderEquity": "equity",
    "cash": "cash",
    "incomeBeforeTax": "pretax_income",
    "incomeTaxExpense": "income_tax",
    "interestExpense": "interest_expense",
    "shortLongTermDebtTotal": "total_debt",
    "commonStockSharesOutstanding": "shares_outstanding",
}
"""The vendor's names of what profiles and ratios know; other figures keep theirs."""

LABELS = ("date", "filing_date", "currency_symbol")


def read_statements(
    where: str, issuer_id: str, financials: Any, zone: ZoneInfo
) -> Iterator[Statement]:
    """Yield the statements of one issuer, by type, frequency and period.

    A figure that is null, empty or zero is absent: the vendor means the same by all of them.
    """
    sheets = Cells.of(where, "Financials", financials)
    for name, statement_type in STATEMENTS.items():
        sheet = sheets.inside(name)
        for period, frequency in FREQUENCIES.items():
            rows = objects(where, sheet.place(period), sheet.values.get(period))
            for row in sorted(rows, key=lambda row: row.known_day("date")):
                values = _values(row)
                if values:
                    facts = (issuer_id, statement_type, frequency)
                    yield _statement(facts, row, values, _currency(sheet, row), zone)


def read_sectors(
    where: str, issuer_id: str, general: Any, retrieved: datetime
) -> list[SectorAssignment]:
    """Return the sector an issuer has now.

    The vendor does not say since when, so it is known from the day it was asked for and no
    earlier: using it for the past would be the reader's choice.
    """
    row = Cells.of(where, "General", general)
    sector = row.text("Sector")
    if sector is None:
        return []
    return [SectorAssignment(issuer_id, sector, row.text("Industry"), None, retrieved, SOURCE)]


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the last second of a day in a market's zone."""
    return datetime.combine(day, time(23, 59, 59), zone)


def _statement(
    facts: tuple[str, StatementType, Frequency],
    row: Cells,
    values: dict[str, float],
    currency: str,
    zone: ZoneInfo,
) -> Statement:
    issuer_id, statement_type, frequency = facts
    period_end = row.known_day("date")
    filed = row.day("filing_date") if "filing_date" in row.values else None
    if filed is not None and filed > period_end:
        known, source = filed, SOURCE
    else:
        # A day of filing that is not after the period would show a figure before it existed.
        known = period_end + timedelta(days=LAG_DAYS[frequency])
        reason = "no filing date" if filed is None else f"filing date {filed} is not after it"
        source = f"{SOURCE}: known {LAG_DAYS[frequency]} days after the period, {reason}"
        filed = None
    return Statement(
        issuer_id,
        statement_type,
        frequency,
        period_end,
        filed,
        end_of_day(known, zone),
        currency,
        values,
        source,
    )


def _values(row: Cells) -> dict[str, float]:
    known = {ours: row.number(theirs) for theirs, ours in NAMES.items() if theirs in row.values}
    others = set(row.values) - {*NAMES, *LABELS}
    # A text among the figures we do not interpret is a label; among those we do, it is a fault.
    figures = known | {name: as_number(row.values[name]) for name in sorted(others)}
    return {name: value for name, value in figures.items() if value}


def _currency(sheet: Cells, row: Cells) -> str:
    currency = row.text("currency_symbol") or sheet.text("currency_symbol")
    if currency is None:
        raise SchemaChanged(row.where, row.place("currency_symbol"), None, "a currency")
    return currency
