"""Daily bars from CSV and Parquet files: a file per symbol, or one file with a symbol column.

Yahoo, Stooq and EODHD spellings of the columns are known; case, spaces and underscores do not
matter. In a folder the stem of a file is its symbol. A cell that is no number, or a date that is
none, costs its row only, and is reported with file, row and column.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from adapters.inference import DividendBasis, Unexplained, infer_actions
from adapters.sheet import Sheet, parse_dates, parse_numbers, read_sheet, require_types, shown
from adapters.source import (
    PRICE_FIELDS,
    Action,
    ActionType,
    DatasetInfo,
    EmptyFile,
    FileError,
    InstrumentInfo,
    Issue,
    MissingColumns,
    PriceTable,
    Severity,
    UnsafeName,
    as_issue,
)
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.instruments import CONVENTIONS, store_id
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray

SUFFIXES = (".csv", ".txt", ".parquet")

SPELLINGS = {
    "date": "date",
    "datetime": "date",
    "tradedate": "date",
    "symbol": "symbol",
    "ticker": "symbol",
    "instrumentid": "symbol",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "adjclose": "adjusted_close",
    "adjustedclose": "adjusted_close",
    "volume": "volume",
    "vol": "volume",
    "dividend": "dividend",
    "dividends": "dividend",
    "split": "split",
    "splits": "split",
    "stocksplits": "split",
}
"""Column name in lower case, letters and digits only -> field."""

REQUIRED = ("date", "open", "high", "low", "close")
NUMBERS = (*PRICE_FIELDS, "dividend", "split")

MARKET_SUFFIX = {market: (usual.suffix, usual.currency) for market, usual in CONVENTIONS.items()}
"""Market id -> suffix of its instrument ids, and its currency."""

_SAFE_SYMBOL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class FileOptions:
    """How the files are to be understood.

    Attributes
    ----------
    split_adjusted : bool
        True if prices and volume are divided by later splits, as Yahoo's are: they are put back
        to what was traded, with the splits in the file.
    infer : DividendBasis or None
        Infer splits and dividends from the adjusted close, where the file lists none.
    """

    split_adjusted: bool = False
    infer: DividendBasis | None = None


@dataclass(frozen=True, eq=False)
class _Listing:
    """Instrument id -> its file, or its rows of the one file; and what was refused."""

    found: Mapping[str, Path | IntArray]
    refused: tuple[Issue, ...]


@dataclass(frozen=True, eq=False)
class _Cells:
    """The cells of a sheet as dates and numbers.

    Attributes
    ----------
    numbers : mapping of field -> numbers, of the columns there are
    unreadable : mapping of field -> mask of the cells that are neither; only where there is one
    """

    sheet: Sheet
    dates: SessionArray
    numbers: Mapping[str, FloatArray]
    unreadable: Mapping[str, BoolArray]


@dataclass(frozen=True)
class FileSource:
    """Market data in the file or folder `path`.

    Attributes
    ----------
    path : Path
        A folder of files named by symbol, or one file with a symbol column.

    Raises
    ------
    ConfigError
        If `path` does not exist, or the market is unknown.
    """

    path: Path
    info: DatasetInfo
    options: FileOptions = field(default_factory=FileOptions)
    _pending: dict[str, Sequence[Action]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise ConfigError(f"{self.path}: no such file or folder; check the path of the data")
        if self.info.market_id not in MARKET_SUFFIX:
            known = ", ".join(MARKET_SUFFIX)
            raise ConfigError(f"unknown market {self.info.market_id!r}; known markets: {known}")

    def instruments(self) -> Sequence[InstrumentInfo]:
        suffix, currency = MARKET_SUFFIX[self.info.market_id]
        listed = []
        for instrument_id in sorted(self._listing.found):
            symbol = instrument_id.removesuffix(f".{suffix}")
            listed.append(InstrumentInfo(instrument_id, symbol, symbol, symbol, currency=currency))
        return listed

    def refused(self) -> Sequence[Issue]:
        return self._listing.refused

    def read(self, instrument_id: str) -> PriceTable:
        table, actions = self._bars(instrument_id)
        # Kept for the call of `actions` that follows: the file is then parsed once.
        self._pending[instrument_id] = actions
        return table

    def actions(self, instrument_id: str) -> Sequence[Action]:
        pending = self._pending.pop(instrument_id, None)
        return self._bars(instrument_id)[1] if pending is None else pending

    @cached_property
    def _listing(self) -> _Listing:
        return self._list_folder() if self.path.is_dir() else self._list_rows()

    @cached_property
    def _sheet(self) -> Sheet:
        return _usable_sheet(self.path, ("symbol", *REQUIRED))

    @cached_property
    def _cells(self) -> _Cells:
        # Once for all symbols: a long file is parsed as a whole, then cut.
        return _cells(self._sheet)

    def _list_folder(self) -> _Listing:
        found: dict[str, Path] = {}
        refused = []
        try:
            files = sorted(self.path.iterdir())
        except OSError as unreadable:
            raise ConfigError(
                f"{self.path}: {unreadable.strerror}; check that the folder may be read"
            ) from unreadable
        for file in (file for file in files if file.suffix.lower() in SUFFIXES):
            try:
                instrument_id = _instrument_id(file.stem, self.info.market_id, file)
                if instrument_id in found:
                    other = found[instrument_id]
                    raise UnsafeName(file, f"{other} is the same symbol", "remove one of the files")
                found[instrument_id] = file
            except FileError as unusable:
                refused.append(as_issue(unusable, self.info.dataset_id, None))
        return _Listing(found, tuple(refused))

    def _list_rows(self) -> _Listing:
        found: dict[str, IntArray] = {}
        refused = []
        for symbol, rows in _rows_by_symbol(self._sheet):
            line = int(self._sheet.lines[rows[0]])
            column = self._sheet.names["symbol"]
            try:
                instrument_id = _instrument_id(
                    symbol, self.info.market_id, self.path, row=line, column=column
                )
                found[instrument_id] = np.append(found.get(instrument_id, rows[:0]), rows)
            except FileError as unusable:
                refused.append(as_issue(unusable, self.info.dataset_id, None))
        refused.extend(_malformed(self._sheet, self.info.dataset_id, None))
        return _Listing(found, tuple(refused))

    def _bars(self, instrument_id: str) -> tuple[PriceTable, Sequence[Action]]:
        place = self._listing.found.get(instrument_id)
        if place is None:
            raise DataError(f"{self.path}: no {instrument_id!r}; list what there is first")
        if isinstance(place, Path):
            sheet = _usable_sheet(place, REQUIRED)
            _require_one_symbol(sheet)
            cells, rows = _cells(sheet), np.arange(len(sheet.lines))
            issues = _malformed(sheet, self.info.dataset_id, instrument_id)
        else:
            cells, rows, issues = self._cells, place, []
        table, extra = _parse(cells, rows, instrument_id, self.info.dataset_id)
        table = replace(table, issues=(*issues, *table.issues))
        return _with_actions(table, extra, self.options, self.info.dataset_id)


def _instrument_id(
    symbol: str, market_id: str, file: Path, *, row: int | None = None, column: str | None = None
) -> str:
    if not _SAFE_SYMBOL.fullmatch(symbol):
        remedy = "name it with letters, digits, dot, dash and underscore, not starting with a dot"
        raise UnsafeName(file, f"{shown(symbol)!r} is no symbol", remedy, row=row, column=column)
    return store_id(symbol, market_id)


def _usable_sheet(path: Path, required: Sequence[str]) -> Sheet:
    sheet = read_sheet(path, SPELLINGS)
    missing = [name for name in required if name not in sheet.columns]
    if missing:
        found = ", ".join(sheet.names.values()) or "none that is known"
        raise MissingColumns(
            path,
            f"no column for {', '.join(missing)}; found {found}",
            "add it to the first line of the file",
            row=1,
            column=missing[0],
        )
    require_types(sheet, NUMBERS)
    return sheet


def _require_one_symbol(sheet: Sheet) -> None:
    if "symbol" not in sheet.columns:
        return
    symbols = sheet.columns["symbol"].unique().to_pylist()
    if len(symbols) > 1:
        remedy = "give the file itself as the path, not its folder"
        problem = f"{len(symbols)} symbols in a file that should hold one"
        raise FileError(sheet.file, problem, remedy, column=sheet.names["symbol"])


def _rows_by_symbol(sheet: Sheet) -> Iterator[tuple[str, IntArray]]:
    symbols = sheet.columns["symbol"].cast(pa.string())
    encoded = pc.fill_null(pc.utf8_trim_whitespace(symbols), "").combine_chunks()
    encoded = encoded.dictionary_encode()
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, edges):
        if len(rows):
            yield encoded.dictionary[int(codes[rows[0]])].as_py(), rows


def _cells(sheet: Sheet) -> _Cells:
    """Return the cells of a sheet as dates and numbers."""
    dates, undated = parse_dates(sheet.columns["date"])
    numbers, bad = {}, {"date": undated}
    for name in NUMBERS:
        if name in sheet.columns:
            numbers[name], bad[name] = parse_numbers(sheet.columns[name])
    return _Cells(sheet, dates, numbers, {name: rows for name, rows in bad.items() if rows.any()})


def _parse(
    cells: _Cells, rows: IntArray, instrument_id: str, dataset_id: str
) -> tuple[PriceTable, Mapping[str, FloatArray]]:
    """Return the bars of `rows` whose cells are readable, and their dividends and splits."""
    sheet = cells.sheet
    if not len(rows):
        raise EmptyFile(sheet.file, "no row has as many cells as the header", "download it again")
    unreadable = np.zeros(len(rows), dtype=bool)
    issues: list[Issue] = []
    for name, bad in cells.unreadable.items():
        issues.extend(_cell_issues(sheet, rows[bad[rows]], name))
        unreadable |= bad[rows]
    good = rows[~unreadable]
    unknown = np.full(len(good), np.nan)
    numbers = {
        name: cells.numbers[name][good] if name in cells.numbers else unknown for name in NUMBERS
    }
    table = PriceTable(
        instrument_id,
        cells.dates[good],
        **{name: numbers[name] for name in PRICE_FIELDS},
        source_file=sheet.file,
        source_rows=sheet.lines[good],
        column_names=sheet.names,
        issues=tuple(
            replace(issue, dataset_id=dataset_id, instrument_id=instrument_id) for issue in issues
        ),
    )
    return table, {name: numbers[name] for name in ("dividend", "split")}


def _cell_issues(sheet: Sheet, rows: IntArray, name: str) -> Iterator[Issue]:
    column = sheet.names[name]
    is_date = name == "date"
    problem = "is no date" if is_date else "is no number"
    remedy = "write it as YYYY-MM-DD" if is_date else "write it with a decimal point, or empty"
    for row in rows.tolist():
        line, value = int(sheet.lines[row]), shown(str(sheet.columns[name][row].as_py()))
        yield Issue(
            "",
            None,
            None,
            "unreadable_date" if is_date else "unreadable_number",
            Severity.ERROR,
            value,
            f"{sheet.file}, row {line}, column {column!r}: {value!r} {problem}; {remedy}",
            sheet.file,
            line,
            column,
        )


def _malformed(sheet: Sheet, dataset_id: str, instrument_id: str | None) -> list[Issue]:
    return [
        Issue(
            dataset_id,
            instrument_id,
            None,
            "malformed_row",
            Severity.ERROR,
            text,
            f"{sheet.file}, row {line}: {text!r} has not as many cells as the header;"
            " correct the row",
            sheet.file,
            line,
        )
        for line, text in sheet.malformed
    ]


def _with_actions(
    table: PriceTable, extra: Mapping[str, FloatArray], options: FileOptions, dataset_id: str
) -> tuple[PriceTable, Sequence[Action]]:
    if options.split_adjusted:
        table, extra = restore_as_traded(table, extra)
    listed = listed_actions(table, extra)
    if listed or options.infer is None:
        return table, listed
    usable = (table.close > 0) & (table.adjusted_close > 0) & np.isfinite(table.close)
    clean = table.in_order(usable)
    actions, unexplained = infer_actions(
        table.instrument_id, clean.dates, clean.close, clean.adjusted_close, options.infer
    )
    found = [_unexplained(step, table, dataset_id) for step in unexplained]
    return replace(table, issues=(*table.issues, *found)), actions


def restore_as_traded(
    table: PriceTable, extra: Mapping[str, FloatArray]
) -> tuple[PriceTable, Mapping[str, FloatArray]]:
    """Undo the division by later splits: prices, volume and dividends as they were on the day.

    Parameters
    ----------
    extra : mapping
        `split`, new shares per old share, 0, 1 or NaN on ordinary days; `dividend`, cash per
        share of the newest share.
    """
    order = np.argsort(table.dates, kind="stable")
    split = np.where(extra["split"] > 0, extra["split"], 1.0)[order]
    later = np.empty(len(order))
    later[order] = np.cumprod(split[::-1])[::-1] / split
    restored = {name: getattr(table, name) * later for name in ("open", "high", "low", "close")}
    return (
        replace(table, **restored, volume=table.volume / later),
        {"split": extra["split"], "dividend": extra["dividend"] * later},
    )


def listed_actions(table: PriceTable, extra: Mapping[str, FloatArray]) -> list[Action]:
    """Return the splits and dividends of `extra`, as they stand beside the bars, by ex-date."""
    is_action = {
        ActionType.SPLIT: (extra["split"] > 0) & (extra["split"] != 1),
        ActionType.DIVIDEND: extra["dividend"] > 0,
    }
    values = {ActionType.SPLIT: extra["split"], ActionType.DIVIDEND: extra["dividend"]}
    return sorted(
        (
            Action(
                table.instrument_id,
                table.dates[row].astype(object),
                action_type,
                float(values[action_type][row]),
                Path(table.source_file).name,
            )
            for action_type, rows in is_action.items()
            for row in np.flatnonzero(rows)
        ),
        key=lambda action: (action.ex_date, action.action_type),
    )


def _unexplained(step: Unexplained, table: PriceTable, dataset_id: str) -> Issue:
    column = table.column_names.get("adjusted_close", "adjusted_close")
    return Issue(
        dataset_id,
        table.instrument_id,
        step.ex_date,
        "unexplained_adjustment",
        Severity.WARNING,
        f"{step.step:.6g}",
        f"{table.source_file}, column {column!r}, {step.ex_date}: the adjustment changes by"
        f" {step.step:.6g}, neither a split nor a dividend; check the adjusted close",
        table.source_file,
        None,
        column,
    )
