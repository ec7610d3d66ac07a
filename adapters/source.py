"""What a source of market data offers: instruments, daily bars, corporate actions, and its faults.

A source hands out one instrument at a time and keeps no order between them, so that a caller may
read instruments in parallel, resume after the last one stored, and lose no more than one to a
fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from prometheus_nt.domain.errors import DataError, SourceError
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray

PRICE_FIELDS = ("open", "high", "low", "close", "adjusted_close", "volume")


class Adjustment(StrEnum):
    """What the prices of a dataset mean."""

    AS_TRADED = "AS_TRADED"
    TOTAL_RETURN = "TOTAL_RETURN"


class ActionType(StrEnum):
    """SPLIT: new shares per old share. DIVIDEND: cash per share after that day's split."""

    SPLIT = "SPLIT"
    DIVIDEND = "DIVIDEND"


class Severity(StrEnum):
    """ERROR: the row was left out. WARNING: it was kept, and a human may need to look."""

    ERROR = "ERROR"
    WARNING = "WARNING"


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset is, and what it must not be used for.

    Attributes
    ----------
    synthetic_bars : bool
        True if open, high and low were not observed.
    survivorship : str
        Does it contain the dead? In words, for every report made from it.
    """

    dataset_id: str
    source: str
    market_id: str
    adjustment: Adjustment
    synthetic_bars: bool
    description: str
    survivorship: str


@dataclass(frozen=True)
class InstrumentInfo:
    """Who an instrument is; None where the source does not say."""

    instrument_id: str
    symbol: str
    issuer_id: str
    name: str
    sector: str | None = None
    asset_class: str = "EQUITY"
    exchange: str | None = None
    currency: str = "USD"


@dataclass(frozen=True)
class Action:
    """A split or a dividend of one instrument, effective at the open of `ex_date`."""

    instrument_id: str
    ex_date: date
    action_type: ActionType
    value: float
    source: str


@dataclass(frozen=True)
class Issue:
    """One finding about the data: what, where, the value found and the remedy."""

    dataset_id: str
    instrument_id: str | None
    trade_date: date | None
    rule: str
    severity: Severity
    value: str
    message: str
    source_file: str | None = None
    source_row: int | None = None
    source_column: str | None = None


@dataclass(frozen=True, eq=False)
class PriceTable:
    """Daily bars of one instrument as the source has them, columns of equal length.

    Attributes
    ----------
    dates : array of datetime64[D]
    open, high, low, close, adjusted_close, volume : float arrays, NaN where unknown
    source_file : str
    source_rows : int array
        Line of each bar in `source_file`, the header being line 1.
    column_names : mapping
        Field -> the source's own spelling, where it differs.
    issues : tuple of Issue
        Rows that could not be read as numbers and dates; they are not in the arrays.
    """

    instrument_id: str
    dates: SessionArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    adjusted_close: FloatArray
    volume: FloatArray
    source_file: str
    source_rows: IntArray
    column_names: Mapping[str, str] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()

    def __len__(self) -> int:
        return len(self.dates)

    def take(self, rows: IntArray) -> "PriceTable":
        """Return the bars at positions `rows`, in that order."""
        columns = {name: getattr(self, name)[rows] for name in ("dates", *PRICE_FIELDS)}
        return replace(self, **columns, source_rows=self.source_rows[rows])

    def in_order(self, kept: np.ndarray) -> "PriceTable":
        """Return the `kept` bars by date."""
        rows = np.flatnonzero(kept)
        return self.take(rows[np.argsort(self.dates[rows], kind="stable")])


class FileError(SourceError):
    """A file cannot be used as a whole; it names the file, and row and column where known."""

    rule: ClassVar[str] = "unreadable_file"

    def __init__(
        self,
        file: Path | str,
        problem: str,
        remedy: str,
        *,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        at_row = f", row {row}" if row is not None else ""
        at_column = f", column {column!r}" if column is not None else ""
        # The name of a file can be bytes that are no text, which no database stores.
        named = str(file).encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{named}{at_row}{at_column}", problem, remedy)
        self.file, self.row, self.column = named, row, column


class EmptyFile(FileError):
    """A file without a single bar."""

    rule = "empty_file"


class WrongEncoding(FileError):
    """A file whose bytes are not UTF-8 text."""

    rule = "wrong_encoding"


class MissingColumns(FileError):
    """A file without a column that daily bars need, or with two of one kind."""

    rule = "missing_columns"


class UnsafeName(FileError):
    """A symbol that could escape a folder or break an identifier."""

    rule = "unsafe_symbol"


class MarketDataSource(Protocol):
    """Daily history of many instruments.

    `read` and `actions` may be called from several threads, in any order, and again.
    """

    @property
    def info(self) -> DatasetInfo: ...

    def instruments(self) -> Sequence[InstrumentInfo]:
        """Return what can be read, by instrument id."""
        ...

    def refused(self) -> Sequence[Issue]:
        """Return what was found but cannot be offered, with the reason."""
        ...

    def read(self, instrument_id: str) -> PriceTable:
        """Return the whole history of one instrument, in the source's order.

        Raises
        ------
        SourceError
            If it cannot be read at all; other instruments are not affected.
        """
        ...

    def actions(self, instrument_id: str) -> Sequence[Action]:
        """Return the splits and dividends of one instrument, by ex-date."""
        ...


class RecentSource(MarketDataSource, Protocol):
    """A source that can be asked for a part of the history, so that a store can be continued.

    Attributes
    ----------
    first, last : date or None
        Days outside of which nothing was asked for; None: no bound.
    """

    @property
    def first(self) -> date | None: ...

    @property
    def last(self) -> date | None: ...

    def read_part(self, instrument_id: str, first: date | None, last: date | None) -> PriceTable:
        """Return the bars from `first` to `last`, both included; the table may be empty."""
        ...


def as_issue(error: DataError, dataset_id: str, instrument_id: str | None) -> Issue:
    """Return the error that stopped one instrument as a finding."""
    problem = error.problem if isinstance(error, SourceError) else type(error).__name__
    issue = Issue(
        dataset_id,
        instrument_id,
        None,
        "unreadable_source",
        Severity.ERROR,
        problem,
        str(error),
    )
    if not isinstance(error, FileError):
        return issue
    return replace(
        issue,
        rule=error.rule,
        source_file=error.file,
        source_row=error.row,
        source_column=error.column,
    )
