"""EODHD's lists: symbols of an exchange, members of an index, holidays, articles."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters.eodhd.accounts import SOURCE, end_of_day
from adapters.eodhd.answers import Cells, objects
from adapters.http import SchemaChanged
from adapters.reference import Holiday, IndexMembership, NewsArticle
from adapters.source import InstrumentInfo

COMMON_STOCK = "Common Stock"
ASSET_CLASSES = {COMMON_STOCK: "EQUITY", "Preferred Stock": "EQUITY"}
"""The vendor's type of an instrument -> asset class; another type is its own, in capitals."""


@dataclass(frozen=True)
class Stay:
    """A member of an index from `start` until before `end`, as the vendor has it."""

    code: str
    name: str
    start: date | None
    end: date | None


def read_symbols(where: str, exchange: str, answer: Any) -> dict[str, tuple[str, InstrumentInfo]]:
    """Return type and identity of each instrument of an exchange, by instrument id."""
    listed = {}
    for row in objects(where, "", answer):
        code = row.known_text("Code")
        kind = row.known_text("Type")
        info = InstrumentInfo(
            f"{code}.{exchange}",
            code,
            code,
            row.text("Name") or code,
            asset_class=ASSET_CLASSES.get(kind, kind.upper().replace(" ", "_")),
            exchange=row.text("Exchange"),
            currency=row.known_text("Currency"),
        )
        listed[info.instrument_id] = (kind, info)
    return listed


def read_stays(where: str, answer: Any) -> list[Stay]:
    """Return every stay in an index that the vendor knows, delisted members included.

    Raises
    ------
    SchemaChanged
        If the answer holds no history of members: a list of today's members alone would make
        every backtest look at survivors only.
    """
    document = Cells.of(where, "", answer)
    history = document.values.get("HistoricalTickerComponents")
    if not history:
        raise SchemaChanged(
            where, "HistoricalTickerComponents", history, "past and present members of the index"
        )
    return [
        Stay(
            row.known_text("Code"),
            row.text("Name") or row.known_text("Code"),
            row.day("StartDate"),
            row.day("EndDate"),
        )
        for row in objects(where, "HistoricalTickerComponents", history)
    ]


def memberships_of(
    index_id: str, stays: list[Stay], suffix: str, zone: ZoneInfo, retrieved: datetime
) -> list[IndexMembership]:
    """Return what was known of each stay, and when.

    That a stay began is known at the end of its first day (it is announced days before, but the
    vendor does not say when); that it ended, at the end of the day it ended, which is a second
    record. A stay without a first day was known, as far as the vendor can tell, only at its end,
    or when it was asked for.
    """
    found = []
    for stay in stays:
        instrument_id = f"{stay.code}.{suffix}"
        if stay.start is not None:
            known = end_of_day(stay.start, zone)
            found.append(IndexMembership(index_id, instrument_id, stay.start, None, known, SOURCE))
        if stay.end is not None or stay.start is None:
            known = retrieved if stay.end is None else end_of_day(stay.end, zone)
            found.append(
                IndexMembership(index_id, instrument_id, stay.start, stay.end, known, SOURCE)
            )
    return sorted(found, key=lambda member: (member.known_at, member.instrument_id))


def read_holidays(where: str, market_id: str, answer: Any) -> list[Holiday]:
    """Return the weekdays on which the exchange stays closed, by day.

    Bank holidays on which it trades are left out.
    """
    document = Cells.of(where, "", answer)
    rows = objects(where, "ExchangeHolidays", document.require("ExchangeHolidays"))
    days = {
        row.known_day("Date"): row.text("Holiday") or "holiday"
        for row in rows
        if (row.text("Type") or "official").lower() == "official"
    }
    return [
        Holiday(market_id, day, name, SOURCE)
        for day, name in sorted(days.items())
        if day.weekday() < 5
    ]


def read_articles(where: str, answer: Any) -> Iterator[NewsArticle]:
    """Yield the articles of one page; a time without a zone is UTC."""
    if not isinstance(answer, list):
        raise SchemaChanged(where, "(the answer)", answer, "a list")
    for row in objects(where, "", answer):
        symbols = row.require("symbols") or []
        if not isinstance(symbols, list) or not all(isinstance(name, str) for name in symbols):
            raise SchemaChanged(where, row.place("symbols"), symbols, "a list of symbols")
        yield NewsArticle(
            _moment(row, "date"),
            SOURCE,
            row.known_text("title"),
            tuple(symbols),
            row.text("content"),
            None,
            {name: text for name in ("link",) if (text := row.text(name))},
        )


def _moment(row: Cells, name: str) -> datetime:
    text = row.known_text(name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SchemaChanged(row.where, row.place(name), text, "an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
