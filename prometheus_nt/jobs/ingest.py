"""Bring a source's history into the historical store, instrument by instrument.

Each instrument is read, checked and committed by itself: a bad one costs itself only, and a job
that dies has stored whole instruments. Running it again writes what is new or changed, and nothing
else.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

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
from persistence.historical import PRICE_COLUMNS, HistoricalStore, Written
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError

Progress = Callable[[int, int, str], None]
"""Called with instruments done, instruments in all, and the instrument just done."""


NOTHING_OFFERED = "the source offers no instrument; check its path"


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


def ingest(
    source: MarketDataSource,
    store: HistoricalStore,
    *,
    symbols: Collection[str] | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
    gates: QualityParams | None = None,
) -> IngestReport:
    """Store the history of every instrument of `source`, or of `symbols` only.

    Parameters
    ----------
    symbols : collection of str, optional
        Symbols or instrument ids.
    now : datetime, optional
        Aware; sessions that close later are refused. The clock's by default.
    gates : QualityParams, optional
        Thresholds of the quality gates.

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
    store.write_dataset(asdict(source.info))
    store.write_instruments(dataset_id, [asdict(instrument) for instrument in chosen])
    report = IngestReport(dataset_id, (), (), 0, 0, 0, refused)
    _store_issues(store, dataset_id, None, report.issues)
    for done, instrument in enumerate(chosen, start=1):
        moment, params = now or datetime.now(UTC), gates or QualityParams()
        one = _ingest_one(source, store, instrument, moment, params)
        report = _together(report, one)
        if progress is not None:
            progress(done, len(chosen), instrument.instrument_id)
    if not report.loaded:
        raise DataError(f"{dataset_id}: {_why_nothing(report)}")
    return report


def _chosen(source: MarketDataSource, symbols: Collection[str] | None) -> Sequence[InstrumentInfo]:
    offered = source.instruments()
    if symbols is None:
        return offered
    wanted = {symbol.upper() for symbol in symbols}
    chosen = [
        instrument
        for instrument in offered
        if {instrument.symbol.upper(), instrument.instrument_id.upper()} & wanted
    ]
    found = {name.upper() for each in chosen for name in (each.symbol, each.instrument_id)}
    if unknown := sorted(wanted - found):
        raise DataError(
            f"{source.info.dataset_id}: no {', '.join(unknown)};"
            f" it offers {len(offered)} instruments"
        )
    return chosen


def _ingest_one(
    source: MarketDataSource,
    store: HistoricalStore,
    instrument: InstrumentInfo,
    now: datetime,
    gates: QualityParams,
) -> IngestReport:
    info, instrument_id = source.info, instrument.instrument_id
    try:
        table, actions = source.read(instrument_id), source.actions(instrument_id)
    except DataError as unusable:
        issues: tuple[Issue, ...] = (as_issue(unusable, info.dataset_id, instrument_id),)
        _store_issues(store, info.dataset_id, instrument_id, issues)
        return IngestReport(info.dataset_id, (), (instrument_id,), 0, 0, 0, issues)
    case = Case(info.dataset_id, table, actions, MarketCalendar.of(info.market_id), now, gates)
    kept, findings = check_prices(case)
    good = table.in_order(kept)
    written = _store(store, info, instrument, good, actions)
    issues = (*table.issues, *findings, *_vanished(case, written))
    _store_issues(store, info.dataset_id, instrument_id, issues)
    read = len(table) + _unread_rows(table)
    return IngestReport(
        info.dataset_id,
        (instrument_id,) if len(good) else (),
        () if len(good) else (instrument_id,),
        read,
        written.rows,
        read - len(good),
        issues,
    )


def _store(
    store: HistoricalStore,
    info: DatasetInfo,
    instrument: InstrumentInfo,
    good: PriceTable,
    actions: Sequence[Action],
) -> Written:
    if not len(good):
        return Written(0)
    prices = {name: getattr(good, name) for name in PRICE_COLUMNS} | {"trade_date": good.dates}
    # An action before the first bar changes no bar, and may predate the calendar.
    first = good.dates[0].astype(object)
    facts = [asdict(action) for action in actions if action.ex_date >= first]
    labels = {"source": info.source, "currency": instrument.currency}
    return store.write_history(info.dataset_id, instrument.instrument_id, prices, facts, labels)


def _unread_rows(table: PriceTable) -> int:
    errors = (issue for issue in table.issues if issue.severity is Severity.ERROR)
    return len({issue.source_row for issue in errors})


def _vanished(case: Case, written: Written) -> list[Issue]:
    file = case.table.source_file
    gone = [("vanished_row", "bar", day) for day in written.vanished]
    gone += [("vanished_action", "action", day) for day in written.vanished_actions]
    return [
        Issue(
            case.dataset_id,
            case.table.instrument_id,
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


def _together(report: IngestReport, one: IngestReport) -> IngestReport:
    return IngestReport(
        report.dataset_id,
        report.loaded + one.loaded,
        report.failed + one.failed,
        report.rows_read + one.rows_read,
        report.rows_written + one.rows_written,
        report.rows_quarantined + one.rows_quarantined,
        report.issues + one.issues,
    )


def _why_nothing(report: IngestReport) -> str:
    errors = [issue for issue in report.issues if issue.severity is Severity.ERROR]
    if not errors:
        return NOTHING_OFFERED
    return f"not one good row in {len(report.failed)} instruments; first: {errors[0].message}"
