"""Names, listings and trading metadata of instruments from one CSV file.

Every line names an instrument and says as much of it as it likes: a name (`scheme`, `symbol`), a
listing (`exchange` and its dates), how it trades (`tick_size`, `lot_size`, `price_precision`).
"""

import csv
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from typing import TypeVar

from adapters.source import FileError
from prometheus_nt.domain.instruments import (
    SCHEMES,
    InstrumentMap,
    Listing,
    RecordedSpec,
    SymbolUse,
)

NAME = ("scheme", "symbol", "valid_from", "valid_to")
LISTING = ("exchange", "listed_on", "delisted_on", "reason", "delisting_return")
SPEC = ("tick_size", "lot_size", "price_precision")
COLUMNS = ("instrument_id", *NAME, *LISTING, *SPEC, "source", "known_at")

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Line:
    """One line of the file: its cells, empty ones left out, and where it stands."""

    file: Path
    number: int
    cells: Mapping[str, str]
    source: str
    now: datetime

    def has(self, columns: tuple[str, ...]) -> bool:
        return any(name in self.cells for name in columns)

    def require(self, name: str) -> str:
        if name not in self.cells:
            raise self.wrong(name, "is empty", "fill it in")
        return self.cells[name]

    def read(self, name: str, convert: Callable[[str], Value], expected: str) -> Value | None:
        if name not in self.cells:
            return None
        try:
            return convert(self.cells[name])
        except (ValueError, InvalidOperation):
            raise self.wrong(name, f"{self.cells[name]!r} is not {expected}", "mend it") from None

    def day(self, name: str) -> date | None:
        return self.read(name, date.fromisoformat, "a date like 2022-06-09")

    def known_at(self) -> datetime:
        return self.read("known_at", _aware, "a time with an offset") or self.now

    def wrong(self, column: str, problem: str, remedy: str) -> FileError:
        return FileError(self.file, problem, remedy, row=self.number, column=column)


def read_instruments(
    path: Path, source: str | None = None, now: datetime | None = None
) -> InstrumentMap:
    """Return what a CSV file says of instruments.

    Parameters
    ----------
    source : str, optional
        Of lines that name none; the file's name by default.
    now : datetime, optional
        When lines without `known_at` became known; the clock's by default.

    Raises
    ------
    FileError
        Naming the file, the line and the column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise FileError(path, f"cannot be read: {unreadable}", "check the path") from unreadable
    moment = now or datetime.now(UTC)
    lines = [
        _Line(path, number, cells, source or path.name, moment)
        for number, cells in _rows(path, text)
    ]
    if not lines:
        raise FileError(path, "has no line of data", "write one instrument a line")
    return InstrumentMap(
        {},
        [_name(line) for line in lines if line.has(NAME)],
        [_listing(line) for line in lines if line.has(LISTING)],
        [_spec(line) for line in lines if line.has(SPEC)],
    )


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the cells of each line, empty cells left out."""
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        _require_columns(path, reader.fieldnames or ())
        for row in reader:
            if None in row:
                remedy = "put a text with a comma in quotes"
                raise FileError(path, "more cells than the header has", remedy, row=reader.line_num)
            yield reader.line_num, _cells(row)
    except csv.Error as malformed:
        problem = f"cannot be read as CSV: {malformed}"
        line = reader.reader.line_num
        raise FileError(path, problem, "correct its quotes", row=line) from malformed


def _require_columns(path: Path, found: Sequence[str]) -> None:
    for name in found:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(COLUMNS)}"
            raise FileError(path, "unknown column", remedy, row=1, column=name)
    if "instrument_id" not in found:
        raise FileError(path, "no column", "add it to the first line", row=1, column=COLUMNS[0])


def _cells(row: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text.strip() for name, text in row.items() if text and text.strip()}


def _name(line: _Line) -> SymbolUse:
    scheme = line.require("scheme")
    if scheme not in SCHEMES:
        raise line.wrong("scheme", f"unknown {scheme!r}", f"known: {', '.join(SCHEMES)}")
    use = SymbolUse(
        scheme=scheme,
        symbol=line.require("symbol"),
        instrument_id=line.require("instrument_id"),
        valid_from=line.day("valid_from"),
        valid_to=line.day("valid_to"),
        source=line.cells.get("source", line.source),
        known_at=line.known_at(),
    )
    _require_span(line, "valid_to", use.valid_from, use.valid_to)
    if scheme == "ib_conid":
        line.read("symbol", int, "the broker's number of a contract")
    return use


def _listing(line: _Line) -> Listing:
    listing = Listing(
        instrument_id=line.require("instrument_id"),
        exchange=line.require("exchange"),
        listed_on=line.day("listed_on"),
        delisted_on=line.day("delisted_on"),
        reason=line.cells.get("reason"),
        delisting_return=line.read("delisting_return", float, "a fraction like -0.3"),
        source=line.cells.get("source", line.source),
        known_at=line.known_at(),
    )
    _require_span(line, "delisted_on", listing.listed_on, listing.delisted_on)
    gain = listing.delisting_return
    if gain is not None and not -1.0 <= gain < float("inf"):
        raise line.wrong("delisting_return", f"{gain} is below -1 or no number", "-1 is worthless")
    if gain is not None and listing.delisted_on is None:
        raise line.wrong("delisted_on", "is empty", "a delisting return needs its day")
    return listing


def _spec(line: _Line) -> RecordedSpec:
    spec = RecordedSpec(
        instrument_id=line.require("instrument_id"),
        tick_size=line.read("tick_size", Decimal, "a price step like 0.01"),
        lot_size=line.read("lot_size", int, "a number of shares"),
        price_precision=line.read("price_precision", int, "a number of decimals"),
        source=line.cells.get("source", line.source),
        known_at=line.known_at(),
    )
    smallest = {"tick_size": spec.tick_size, "lot_size": spec.lot_size}
    for name, value in smallest.items():
        if value is not None and not (Decimal(value).is_finite() and value > 0):
            raise line.wrong(name, f"{value} is not above 0", "mend it")
    if spec.price_precision is not None and not 0 <= spec.price_precision <= 9:
        raise line.wrong("price_precision", f"{spec.price_precision}", "between 0 and 9 decimals")
    return spec


def _require_span(line: _Line, column: str, first: date | None, end: date | None) -> None:
    if first is not None and end is not None and end <= first:
        raise line.wrong(column, f"{end} is not after {first}", "it is the first day after the end")


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
