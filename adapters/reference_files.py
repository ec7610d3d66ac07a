"""Facts besides prices from a folder of CSV or Parquet files, one file for each kind.

- `statements`: symbol, statement_type (IS, BS, CF), frequency (QUARTERLY, ANNUAL), period_end,
  known_at or report_date, currency; every other column is a figure (revenue, equity, ...).
- `membership`: index_id, symbol, start, end, known_at.
- `sectors`: symbol, sector, industry, start, known_at.
- `news`: published_at, symbols (separated by spaces or semicolons), source, headline, body,
  language.
- `holidays`: day, name, market_id.

A time is a day, or an instant with its offset. A day is known at its end in the market's time zone;
a stay or a sector without `known_at` was known on the morning it took effect. A row with a bad cell
is left out and reported with file, row, column, value and remedy.
"""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

from adapters.files import MARKET_SUFFIX, SUFFIXES
from adapters.reference import (
    Frequency,
    Holiday,
    IndexMembership,
    NewsArticle,
    SectorAssignment,
    Statement,
    StatementType,
)
from adapters.sheet import UNKNOWN, Sheet, read_sheet
from adapters.source import FileError, Issue, MissingColumns, Severity, UnsafeName, as_issue
from prometheus_nt.domain.calendar import TIMEZONES
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.instruments import store_id
from prometheus_nt.domain.profiles import FLOWS, SHARES_ITEM, STOCKS

SPELLINGS = {
    "symbol": "symbol",
    "ticker": "symbol",
    "instrumentid": "symbol",
    "knownat": "known_at",
    "statementtype": "statement_type",
    "statement": "statement_type",
    "frequency": "frequency",
    "periodend": "period_end",
    "reportdate": "report_date",
    "filingdate": "report_date",
    "currency": "currency",
    "indexid": "index_id",
    "index": "index_id",
    "start": "start",
    "startdate": "start",
    "end": "end",
    "enddate": "end",
    "sector": "sector",
    "industry": "industry",
    "publishedat": "known_at",
    "symbols": "symbols",
    "source": "source",
    "headline": "headline",
    "body": "body",
    "language": "language",
    "day": "day",
    "date": "day",
    "name": "name",
    "marketid": "market_id",
}
"""Column name in lower case, letters and digits only -> field."""

OTHER_FIGURES = (SHARES_ITEM, "income_tax", "pretax_income", "interest_expense", "total_debt")
FIGURES = {name.replace("_", ""): name for name in (*FLOWS, *STOCKS, *OTHER_FIGURES)}
"""Spellings of the figures that we have names for; others keep the name in the file."""

FREQUENCIES = {
    "QUARTERLY": Frequency.QUARTERLY,
    "Q": Frequency.QUARTERLY,
    "ANNUAL": Frequency.ANNUAL,
    "A": Frequency.ANNUAL,
    "YEARLY": Frequency.ANNUAL,
}


ABOUT_STATEMENTS = (
    *("symbol", "statement_type", "frequency", "period_end"),
    *("report_date", "known_at", "currency"),
)

NAMED_AT_MOST = 10
"""Symbols that a message lists; the rest are counted."""

Made = TypeVar("Made")


class BadCell(FileError):
    """A cell that does not say what its column must; its row is left out."""

    rule: ClassVar[str] = "bad_cell"


@dataclass(frozen=True)
class _Row:
    """One row of a sheet; a getter raises `BadCell` for what cannot be understood."""

    sheet: Sheet
    line: int
    values: Mapping[str, Any]
    zone: ZoneInfo

    def bad(self, field: str, problem: str, remedy: str) -> BadCell:
        column = self.sheet.names.get(field, field)
        return BadCell(self.sheet.file, problem, remedy, row=self.line, column=column)

    def text(self, field: str) -> str | None:
        value = self.values.get(field)
        text = "" if value is None else str(value).strip()
        return None if text in UNKNOWN else text

    def required(self, field: str) -> str:
        text = self.text(field)
        if text is None:
            raise self.bad(field, "the cell is empty", "fill it in, or remove the row")
        return text

    def day(self, field: str) -> date | None:
        value = self.values.get(field)
        if isinstance(value, date):
            return value.date() if isinstance(value, datetime) else value
        text = self.text(field)
        try:
            return None if text is None else _a_day(text)
        except ValueError:
            raise self.bad(field, f"{text!r} is no day", "write it as YYYY-MM-DD") from None

    def required_day(self, field: str) -> date:
        day = self.day(field)
        if day is None:
            raise self.bad(field, "the cell is empty", "fill it in, or remove the row")
        return day

    def moment(self, field: str) -> datetime | None:
        """Return an instant; a day stands for its end."""
        value, text = self.values.get(field), self.text(field)
        try:
            if text is None:
                return None
            if not isinstance(value, date):
                value = _an_instant(text) if len(text) > DAY_LENGTH else _a_day(text)
        except ValueError:
            remedy = "write a day as YYYY-MM-DD, or an instant as 2024-02-01T16:30:00-05:00"
            raise self.bad(field, f"{text!r} is no time", remedy) from None
        if not isinstance(value, datetime):
            return datetime.combine(value, time.max, self.zone)
        if value.tzinfo is None:
            remedy = "add its offset, for example 2024-02-01T16:30:00-05:00, or write the day alone"
            raise self.bad(field, f"{text!r} has no time zone", remedy)
        return value

    def number(self, field: str) -> float | None:
        text = self.text(field)
        try:
            value = None if text is None else float(text)
        except ValueError:
            value = float("nan")
        if value is None or (isfinite(value) and "_" not in str(text)):
            return value
        remedy = "write it with a decimal point, leave it empty, or remove what is no figure"
        raise self.bad(field, f"{text!r} is no number", remedy)

    def choice(self, field: str, choices: Mapping[str, Made]) -> Made:
        text = self.required(field)
        if text.upper() not in choices:
            raise self.bad(field, f"{text!r} is unknown", f"write one of {', '.join(choices)}")
        return choices[text.upper()]

    def effective(self) -> tuple[date | None, datetime]:
        """Return from when something holds, and when that was known: that morning by default."""
        start, known_at = self.day("start"), self.moment("known_at")
        if known_at is not None:
            return start, known_at
        if start is None:
            remedy = "say from when it holds (start), or when it was known (known_at)"
            raise self.bad("known_at", "the cell is empty, and so is start", remedy)
        return start, self.morning(start)

    def morning(self, day: date) -> datetime:
        return datetime.combine(day, time.min, self.zone)


@dataclass(frozen=True)
class ReferenceFiles:
    """The facts in `folder` about the instruments of a dataset.

    Attributes
    ----------
    issuers : mapping of instrument id to issuer id
        The instruments of the dataset. Accounts, sectors and news of others are left out and
        counted; members of an index are kept, whether or not there are prices of them.

    Raises
    ------
    ConfigError
        If `folder` is none, or holds no file of a known name.
    """

    folder: Path
    dataset_id: str
    market_id: str
    issuers: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder}: no such folder; check the path")
        if not any(file.stem.lower() in KINDS for file in self._files()):
            known = ", ".join(f"{kind}.csv" for kind in KINDS)
            raise ConfigError(f"{self.folder}: no file of a known name; expected any of {known}")

    @property
    def index_ids(self) -> tuple[str, ...]:
        """The indexes whose members the files list."""
        return tuple(sorted({stay.index_id for stay in self._stays}))

    def statements(self, instrument_id: str) -> Sequence[Statement]:
        return self._statements.get(self.issuers.get(instrument_id, ""), [])

    def sectors(self, instrument_id: str) -> Sequence[SectorAssignment]:
        return self._sectors.get(self.issuers.get(instrument_id, ""), [])

    def news(self, instrument_id: str, start: date, end: date) -> Iterable[NewsArticle]:
        """Return the articles published from `start` to `end`, both included."""
        zone = self._zone
        return [
            article
            for article in self._news.get(instrument_id, [])
            if start <= article.known_at.astimezone(zone).date() <= end
        ]

    def memberships(self, index_id: str) -> Sequence[IndexMembership]:
        return [stay for stay in self._stays if stay.index_id == index_id]

    def holidays(self, market_id: str) -> Sequence[Holiday]:
        return [holiday for holiday in self._holidays if holiday.market_id == market_id]

    def refused(self) -> Sequence[Issue]:
        """Return what was left out, with the reason, after reading every file."""
        for kept in ("_statements", "_sectors", "_news", "_stays", "_holidays"):
            getattr(self, kept)
        return [*self._unknown_files(), *self._issues]

    @cached_property
    def _issues(self) -> list[Issue]:
        return []

    @cached_property
    def _strangers(self) -> dict[str, set[str]]:
        return defaultdict(set)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(TIMEZONES[self.market_id])

    @cached_property
    def _statements(self) -> Mapping[str, list[Statement]]:
        return _by((one.issuer_id, one) for one in self._made("statements", self._statement))

    @cached_property
    def _sectors(self) -> Mapping[str, list[SectorAssignment]]:
        return _by((one.issuer_id, one) for one in self._made("sectors", self._assignment))

    @cached_property
    def _news(self) -> Mapping[str, list[NewsArticle]]:
        made = self._made("news", self._article)
        return _by((name, one) for one in made for name in one.instrument_ids)

    @cached_property
    def _stays(self) -> list[IndexMembership]:
        return self._made("membership", self._stay)

    @cached_property
    def _holidays(self) -> list[Holiday]:
        return self._made("holidays", self._holiday)

    def _statement(self, row: _Row) -> Sequence[Statement]:
        issuer_id = self._issuer("statements", row)
        ends = row.required_day("period_end")
        known_at = row.moment("known_at") or row.moment("report_date")
        if known_at is None:
            remedy = "say when it was published: it must not be used before"
            raise row.bad("known_at", "the cell is empty, and so is report_date", remedy)
        if known_at.astimezone(row.zone).date() < ends:
            problem = f"{known_at.isoformat()} is before the period ended, {ends}"
            raise row.bad("known_at", problem, "correct one of the two; an estimate is no account")
        statement_type = row.choice("statement_type", {str(one): one for one in StatementType})
        frequency = row.choice("frequency", FREQUENCIES)
        values = self._figures(row)
        if issuer_id is None:
            return ()
        currency = row.text("currency") or MARKET_SUFFIX[self.market_id][1]
        about = (issuer_id, statement_type, frequency, ends, row.day("report_date"))
        return (Statement(*about, known_at, currency, values, self._source(row)),)

    def _figures(self, row: _Row) -> dict[str, float]:
        names = {
            field: FIGURES.get(field, row.sheet.names[field])
            for field in row.values
            if field not in ABOUT_STATEMENTS
        }
        figures = {name: row.number(field) for field, name in names.items()}
        return {name: value for name, value in figures.items() if value is not None}

    def _assignment(self, row: _Row) -> Sequence[SectorAssignment]:
        issuer_id = self._issuer("sectors", row)
        start, known_at = row.effective()
        sector, industry = row.required("sector"), row.text("industry")
        if issuer_id is None:
            return ()
        return (SectorAssignment(issuer_id, sector, industry, start, known_at, self._source(row)),)

    def _article(self, row: _Row) -> Sequence[NewsArticle]:
        known_at = row.moment("known_at")
        if known_at is None:
            raise row.bad("known_at", "the cell is empty", "say when it was published")
        source, headline = row.text("source") or self._source(row), row.required("headline")
        symbols = row.required("symbols").replace(";", " ").split()
        names = [self._known("news", self._instrument_id(symbol)) for symbol in symbols]
        about = tuple(name for name in names if name is not None)
        if not about:
            return ()
        return (
            NewsArticle(known_at, source, headline, about, row.text("body"), row.text("language")),
        )

    def _stay(self, row: _Row) -> Sequence[IndexMembership]:
        index_id = row.required("index_id")
        instrument_id = self._instrument_id(row.required("symbol"))
        start, known_at = row.effective()
        end = row.day("end")
        if start is not None and end is not None and end < start:
            raise row.bad("end", f"{end} is before the start, {start}", "correct one of the two")
        self._known("membership", instrument_id)
        source = self._source(row)
        stay = IndexMembership(index_id, instrument_id, start, end, known_at, source)
        if end is None or row.text("known_at") is not None:
            return (stay,)
        # Nobody says when the end was known: on its morning, and at the start it was not.
        return (replace(stay, end=None), replace(stay, known_at=row.morning(end)))

    def _holiday(self, row: _Row) -> Sequence[Holiday]:
        market_id = row.text("market_id") or self.market_id
        name = row.required("name")
        return (Holiday(market_id, row.required_day("day"), name, self._source(row)),)

    def _source(self, row: _Row) -> str:
        return Path(row.sheet.file).name

    def _issuer(self, kind: str, row: _Row) -> str | None:
        """Return the issuer of a row's symbol; None, and note it, if the dataset has none."""
        name = self._known(kind, self._instrument_id(row.required("symbol")))
        return None if name is None else self.issuers[name]

    def _known(self, kind: str, instrument_id: str) -> str | None:
        if instrument_id in self.issuers:
            return instrument_id
        self._strangers[kind].add(instrument_id)
        return None

    def _instrument_id(self, symbol: str) -> str:
        return store_id(symbol, self.market_id)

    def _made(self, kind: str, make: Callable[[_Row], Sequence[Made]]) -> list[Made]:
        """Return what the file of a kind holds; what it cannot mean becomes issues."""
        try:
            sheet = self._sheet(kind)
        except FileError as unusable:
            self._issues.append(as_issue(unusable, self.dataset_id, None))
            return []
        if sheet is None:
            return []
        made: dict[Any, tuple[Made, int]] = {}
        for row in _rows(sheet, self._zone):
            try:
                for one in make(row):
                    _add(made, one, row)
            except BadCell as bad:
                self._issues.append(as_issue(bad, self.dataset_id, None))
        self._issues.extend(self._malformed(sheet))
        self._note_strangers(kind, sheet)
        return [one for one, _ in made.values()]

    def _sheet(self, kind: str) -> Sheet | None:
        files = [file for file in self._files() if file.stem.lower() == kind]
        if len(files) > 1:
            raise UnsafeName(files[1], f"{files[0].name} holds {kind} too", "remove one of them")
        if not files:
            return None
        spellings = _AnyColumn(SPELLINGS) if kind == "statements" else SPELLINGS
        sheet = read_sheet(files[0], spellings)
        missing = [field for field in KINDS[kind] if field not in sheet.columns]
        if missing:
            found = ", ".join(sheet.names.values()) or "none that is known"
            problem = f"no column for {', '.join(missing)}; found {found}"
            remedy = "add it to the first line of the file"
            raise MissingColumns(files[0], problem, remedy, row=1, column=missing[0])
        return sheet

    def _files(self) -> list[Path]:
        return [file for file in sorted(self.folder.iterdir()) if file.suffix.lower() in SUFFIXES]

    def _unknown_files(self) -> Iterator[Issue]:
        for file in self._files():
            if file.stem.lower() not in KINDS:
                close = difflib.get_close_matches(file.stem.lower(), KINDS, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KINDS)}"
                error = UnsafeName(file, "the name says no kind of fact", hint)
                issue = as_issue(error, self.dataset_id, None)
                yield replace(issue, rule="unknown_file", severity=Severity.WARNING)

    def _malformed(self, sheet: Sheet) -> Iterator[Issue]:
        for line, text in sheet.malformed:
            problem = f"{text!r} has not as many cells as the header"
            error = FileError(sheet.file, problem, "correct the row", row=line)
            yield replace(as_issue(error, self.dataset_id, None), rule="malformed_row")

    def _note_strangers(self, kind: str, sheet: Sheet) -> None:
        names = sorted(self._strangers[kind])
        if not names:
            return
        kept = "kept, though no result can hold them" if kind == "membership" else "left out"
        some = ", ".join(names[:NAMED_AT_MOST])
        more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
        problem = f"{len(names)} symbols have no prices in {self.dataset_id}: {some}{more}"
        error = FileError(sheet.file, problem, f"they were {kept}; ingest their prices first")
        issue = replace(as_issue(error, self.dataset_id, None), rule="unknown_symbols")
        self._issues.append(replace(issue, severity=Severity.WARNING))


KINDS: Mapping[str, tuple[str, ...]] = {
    "statements": ("symbol", "statement_type", "frequency", "period_end"),
    "membership": ("index_id", "symbol"),
    "sectors": ("symbol", "sector"),
    "news": ("known_at", "symbols", "headline"),
    "holidays": ("day", "name"),
}
"""Name of a file -> the columns that it cannot do without."""


DAY_LENGTH = len("YYYY-MM-DD")


def _a_day(text: str) -> date:
    return _an_instant(text).date() if len(text) > DAY_LENGTH else date.fromisoformat(text)


def _an_instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


class _AnyColumn(dict[str, str]):
    """Spellings by which a column of unknown name is a field of that name."""

    def get(self, name: str, default: Any = None) -> Any:
        del default
        return super().get(name, name)


def _rows(sheet: Sheet, zone: ZoneInfo) -> Iterator[_Row]:
    columns = {field: column.to_pylist() for field, column in sheet.columns.items()}
    for at, line in enumerate(sheet.lines.tolist()):
        yield _Row(sheet, line, {field: cells[at] for field, cells in columns.items()}, zone)


def _add(made: dict[Any, tuple[Any, int]], one: Any, row: _Row) -> None:
    """File a record under what it is about; two that contradict each other cannot both be true."""
    key = _about(one)
    before, line = made.setdefault(key, (one, row.line))
    if before != one:
        problem = f"contradicts row {line}, which is about the same thing at the same time"
        raise row.bad("known_at", problem, "remove one, or say when the later one was known")


def _about(one: Any) -> tuple[Any, ...]:
    match one:
        case Statement():
            period = (one.issuer_id, one.statement_type, one.frequency, one.period_end)
            return (*period, one.known_at)
        case SectorAssignment():
            return (one.issuer_id, one.start, one.known_at)
        case IndexMembership():
            return (one.index_id, one.instrument_id, one.start, one.known_at)
        case Holiday():
            return (one.market_id, one.day)
        case _:
            return (one.known_at, one.source, one.headline)


def _by(pairs: Iterable[tuple[str, Made]]) -> Mapping[str, list[Made]]:
    grouped: dict[str, list[Made]] = defaultdict(list)
    for key, one in pairs:
        grouped[key].append(one)
    return dict(grouped)
