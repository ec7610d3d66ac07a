"""Bring a source's history into the historical store, instrument by instrument.

1. `_readings` reads and checks instruments, several at once if asked to, and hands them out in
   order, so that what is stored does not depend on how many worked at it.
2. `_Keeper` stores finished instruments in batches, by the one writer of the database: each whole
   or not at all. A bad instrument costs itself only.
3. However the job ends, what was finished is stored. Running it again writes what is new or
   changed, and nothing else.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType

from adapters.gates import Case, QualityParams, check_prices
from adapters.source import (
    Action,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    MarketDataSource,
    PriceTable,
    Severity,
    as_issue,
)
from persistence.historical import PRICE_COLUMNS, HistoricalStore
from persistence.histories import History, Written
from persistence.revisions import Writer
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, StoreError
from prometheus_nt.domain.instruments import store_id

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with instruments stored, instruments in all, and the instrument just stored."""


NOTHING_OFFERED = "the source offers no instrument; check its path"

BATCH_ROWS = 50_000
"""Rows of one transaction: enough to make its own cost small, and few to lose to a crash."""
BATCH_SECONDS = 2.0
"""A slow source's instruments do not wait longer than this to be stored."""
READ_AHEAD = 4
"""Instruments read per worker before the first of them is stored: bounds the memory."""


@dataclass(frozen=True)
class IngestOptions:
    """How an ingest is done.

    Attributes
    ----------
    gates : QualityParams
        Thresholds of the quality gates.
    workers : int
        Instruments that are read and checked at the same time; what is stored is the same.
    """

    gates: QualityParams = field(default_factory=QualityParams)
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, found {self.workers}")


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    loaded, failed : tuples of instrument ids
        With and without a single good row.
    rows_read, rows_quarantined : int
        Bars in the source, and those left out because of an error.
    rows_written : int
        Bars and actions that were new or different; 0 if the store had them all.
    issues : tuple of Issue
        Every finding, whether or not it was known from an earlier ingest.
    """

    dataset_id: str
    loaded: tuple[str, ...]
    failed: tuple[str, ...]
    rows_read: int
    rows_written: int
    rows_quarantined: int
    issues: tuple[Issue, ...]


@dataclass(frozen=True, eq=False)
class _Reading:
    """One instrument as read and checked; `history` is None if not one row is good."""

    instrument_id: str
    source_file: str
    rows_read: int
    rows_good: int
    issues: tuple[Issue, ...]
    history: History | None


def ingest(
    source: MarketDataSource,
    store: HistoricalStore,
    *,
    symbols: Collection[str] | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
    options: IngestOptions | None = None,
) -> IngestReport:
    """Store the history of every instrument of `source`, or of `symbols` only.

    Parameters
    ----------
    symbols : collection of str, optional
        Symbols or instrument ids.
    now : datetime, optional
        Aware; sessions that close later are refused. The clock's by default.
    options : IngestOptions, optional

    Raises
    ------
    DataError
        If a symbol is unknown, or not one good row came out.
    """
    chosen = _chosen(source, symbols)
    dataset_id = source.info.dataset_id
    refused = tuple(source.refused())
    if not chosen and not refused:
        # Before anything is written: a dataset without a name in it would look like one with data.
        raise DataError(f"{dataset_id}: {NOTHING_OFFERED}")
    writer = Writer.of(source.info.source)
    store.write_dataset(asdict(source.info))
    store.write_instruments(dataset_id, [asdict(instrument) for instrument in chosen], writer)
    _store_issues(store, dataset_id, None, refused)
    keeper, began = _Keeper(store, source.info, writer, len(chosen), progress), monotonic()
    log.info("dataset=%s instruments=%d ingest began", dataset_id, len(chosen))
    with keeper, closing(_readings(source, chosen, now, options or IngestOptions())) as readings:
        for reading in readings:
            keeper.take(reading)
    report = keeper.report(refused)
    log.info(
        "dataset=%s loaded=%d failed=%d rows_read=%d rows_written=%d rows_quarantined=%d "
        "issues=%d seconds=%.1f ingest ended",
        dataset_id,
        len(report.loaded),
        len(report.failed),
        report.rows_read,
        report.rows_written,
        report.rows_quarantined,
        len(report.issues),
        monotonic() - began,
    )
    if not report.loaded:
        raise DataError(f"{dataset_id}: {_why_nothing(report)}")
    return report


class _Keeper:
    """Stores readings in batches, in the order they come, and keeps the account of them."""

    def __init__(
        self,
        store: HistoricalStore,
        source: DatasetInfo,
        writer: Writer,
        total: int,
        progress: Progress | None,
    ) -> None:
        self._store, self._dataset_id, self._writer = store, source.dataset_id, writer
        self._total, self._progress = total, progress
        # Asked once: most instruments never had a finding, and none of theirs can be resolved.
        self._suspects = store.instruments_with_events(source.dataset_id)
        self._waiting: list[_Reading] = []
        self._since = monotonic()
        self._done = 0
        self._parts: list[IngestReport] = []

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        # Interrupted or not, what was finished is stored; unless storing is what failed.
        if kind is None or not issubclass(kind, StoreError):
            self._flush()
            self._store.close(self._dataset_id, self._writer)

    def take(self, reading: _Reading) -> None:
        """Store the reading, now or together with the next ones."""
        if not self._waiting:
            self._since = monotonic()
        self._waiting.append(reading)
        rows = sum(each.rows_good for each in self._waiting)
        if rows >= BATCH_ROWS or monotonic() - self._since >= BATCH_SECONDS:
            self._flush()

    def report(self, refused: tuple[Issue, ...]) -> IngestReport:
        """Return what was done with everything that was taken and refused."""
        first = IngestReport(self._dataset_id, (), (), 0, 0, 0, refused)
        return _together(self._dataset_id, [first, *self._parts])

    def _flush(self) -> None:
        histories = [each.history for each in self._waiting if each.history is not None]
        results: Iterator[Written] = iter(())
        if histories:
            stored = self._store.write_histories(self._dataset_id, histories, self._writer)
            results = iter(stored)
        for reading in self._waiting:
            written = Written(0) if reading.history is None else next(results)
            self._account_for(reading, written)
        self._report_progress()
        self._waiting.clear()

    def _account_for(self, reading: _Reading, written: Written) -> None:
        name, dataset_id = reading.instrument_id, self._dataset_id
        issues = (*reading.issues, *_vanished(dataset_id, reading, written))
        if issues or name in self._suspects:
            _store_issues(self._store, dataset_id, name, issues)
        good = reading.history is not None
        self._parts.append(
            IngestReport(
                dataset_id,
                (name,) if good else (),
                () if good else (name,),
                reading.rows_read,
                written.rows,
                reading.rows_read - reading.rows_good,
                issues,
            )
        )

    def _report_progress(self) -> None:
        for reading in self._waiting:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total, reading.instrument_id)


def _chosen(source: MarketDataSource, symbols: Collection[str] | None) -> Sequence[InstrumentInfo]:
    offered = source.instruments()
    if symbols is None:
        return offered
    # As written, and as the store writes it: a share class may have come with a dot.
    wanted = {name.upper(): store_id(name, source.info.market_id) for name in symbols}
    names = wanted.keys() | wanted.values()
    chosen = [
        instrument
        for instrument in offered
        if {instrument.symbol.upper(), instrument.instrument_id.upper()} & names
    ]
    found = {name.upper() for each in chosen for name in (each.symbol, each.instrument_id)}
    if unknown := sorted(name for name, its_id in wanted.items() if not {name, its_id} & found):
        raise DataError(
            f"{source.info.dataset_id}: no {', '.join(unknown)};"
            f" it offers {len(offered)} instruments"
        )
    return chosen


def _readings(
    source: MarketDataSource,
    chosen: Sequence[InstrumentInfo],
    now: datetime | None,
    options: IngestOptions,
) -> Generator[_Reading, None, None]:
    """Yield the readings of the chosen instruments, in their order."""

    def read(instrument: InstrumentInfo) -> _Reading:
        return _read(source, instrument, now or datetime.now(UTC), options.gates)

    workers = options.workers
    if workers == 1:
        yield from map(read, chosen)
        return
    waiting: deque[Future[_Reading]] = deque()
    with ThreadPoolExecutor(workers, "ingest") as pool:
        try:
            for instrument in chosen:
                waiting.append(pool.submit(read, instrument))
                if len(waiting) >= workers * READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(
    source: MarketDataSource, instrument: InstrumentInfo, now: datetime, gates: QualityParams
) -> _Reading:
    info, name = source.info, instrument.instrument_id
    try:
        table, actions = source.read(name), source.actions(name)
    except DataError as unusable:
        return _Reading(name, "", 0, 0, (as_issue(unusable, info.dataset_id, name),), None)
    case = Case(info.dataset_id, table, actions, MarketCalendar.of(info.market_id), now, gates)
    kept, findings = check_prices(case)
    good = table.in_order(kept)
    return _Reading(
        name,
        table.source_file,
        len(table) + _unread_rows(table),
        len(good),
        (*table.issues, *findings),
        _history(instrument, good, actions) if len(good) else None,
    )


def _history(instrument: InstrumentInfo, good: PriceTable, actions: Sequence[Action]) -> History:
    prices = {name: getattr(good, name) for name in PRICE_COLUMNS} | {"trade_date": good.dates}
    # An action before the first bar changes no bar, and may predate the calendar.
    first = good.dates[0].astype(object)
    facts = [asdict(action) for action in actions if action.ex_date >= first]
    return History(instrument.instrument_id, prices, facts, instrument.currency)


def _unread_rows(table: PriceTable) -> int:
    errors = (issue for issue in table.issues if issue.severity is Severity.ERROR)
    return len({issue.source_row for issue in errors})


def _vanished(dataset_id: str, reading: _Reading, written: Written) -> list[Issue]:
    file = reading.source_file
    gone = [("vanished_row", "bar", day) for day in written.vanished]
    gone += [("vanished_action", "action", day) for day in written.vanished_actions]
    return [
        Issue(
            dataset_id,
            reading.instrument_id,
            day,
            rule,
            Severity.WARNING,
            str(day),
            f"{file}: has no good {what} of {day} any more; the stored {what} was kept, so check"
            " whether the source lost it",
            file,
        )
        for rule, what, day in gone
    ]


def _store_issues(
    store: HistoricalStore, dataset_id: str, instrument_id: str | None, issues: Sequence[Issue]
) -> None:
    facts = [asdict(issue) | {"severity": str(issue.severity)} for issue in issues]
    store.write_quality_events(dataset_id, instrument_id, facts)


def _together(dataset_id: str, parts: Sequence[IngestReport]) -> IngestReport:
    return IngestReport(
        dataset_id,
        tuple(name for part in parts for name in part.loaded),
        tuple(name for part in parts for name in part.failed),
        sum(part.rows_read for part in parts),
        sum(part.rows_written for part in parts),
        sum(part.rows_quarantined for part in parts),
        tuple(issue for part in parts for issue in part.issues),
    )


def _why_nothing(report: IngestReport) -> str:
    errors = [issue for issue in report.issues if issue.severity is Severity.ERROR]
    if not errors:
        return NOTHING_OFFERED
    return f"not one good row in {len(report.failed)} instruments; first: {errors[0].message}"
