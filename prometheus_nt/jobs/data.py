"""Datasets by name: fill them, list them, remember how they were made."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from adapters.continued import ContinuedSource
from adapters.gates import QualityParams
from adapters.ib.config import link_params
from adapters.inference import DividendBasis
from adapters.sample import SAMPLES
from adapters.source import Adjustment, DatasetInfo, MarketDataSource
from persistence.changes import Difference, difference
from persistence.health import HealthStore
from persistence.historical import HistoricalStore
from persistence.instruments import InstrumentStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.instruments import CONVENTIONS, BrokerContract, Instrument, store_id
from prometheus_nt.jobs.ingest import IngestOptions, IngestReport, Progress, ingest
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

if TYPE_CHECKING:
    from adapters.eodhd import EodhdSource, Selection
    from adapters.files import FileSource
    from adapters.ib.source import IbSource
    from adapters.yahoo import YahooSource

FILE_KINDS = ("csv", "parquet")
EODHD, IB = "eodhd", "ib"
VENDOR_KINDS = (EODHD, IB, "yahoo")

Listing = tuple[tuple[str, ...], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class SourceSpec:
    """What to ingest: `kind` is `sample`, `csv`, `parquet`, `eodhd`, `ib` or `yahoo`.

    Files need a path and a dataset, vendors a dataset and a choice of instruments.

    split_adjusted : the files divide prices by later splits, as Yahoo's do.
    infer_actions : how the adjusted close relates to dividends, to infer actions from it; None
        takes only the actions that the files list.
    index, exchange : instead of symbols, every past and present member of an index, or every
        common stock of an exchange (`delisted` ones as well, from `offset` on, at most `limit`).
    start, end : days to ask a vendor for, both included.
    whole : read a vendor's whole history again, not just what is new.
    gates : thresholds of the quality gates.
    workers : instruments that are read at the same time.

    A dataset remembers its spec, to be read again where it is broken: a spec holds no secret.
    """

    kind: str
    path: Path | None = None
    dataset: str | None = None
    market_id: str = "US_EQ"
    symbols: tuple[str, ...] | None = None
    split_adjusted: bool = False
    infer_actions: DividendBasis | None = None
    index: str | None = None
    exchange: str | None = None
    delisted: bool = True
    limit: int | None = None
    offset: int = 0
    start: date | None = None
    end: date | None = None
    whole: bool = False
    gates: QualityParams = field(default_factory=QualityParams)
    workers: int = 1


_OF_FILES = ("path", "dataset", "market_id", "split_adjusted", "infer_actions")
_OF_VENDORS = ("dataset", "market_id", "index", "exchange", "start", "end")
HEEDED: Mapping[str, tuple[str, ...]] = {
    "sample": (),
    **dict.fromkeys(FILE_KINDS, _OF_FILES),
    "yahoo": _OF_VENDORS,
    "ib": (*_OF_VENDORS, "whole"),
    "eodhd": (*_OF_VENDORS, "delisted", "limit", "offset", "whole"),
}
"""Kind of source -> what of a spec it heeds, besides symbols, gates and workers."""
OPTIONS = {
    "path": "a path",
    "market_id": "--market",
    "whole": "--full",
    "delisted": "--no-delisted",
}


def ingest_named(
    settings: Settings, spec: SourceSpec, progress: Progress | None = None
) -> list[IngestReport]:
    """Ingest what `spec` names.

    Raises
    ------
    ConfigError
        If the kind is unknown, a path, a dataset name, a key or a package is missing, or something
        was asked for that this kind of source does not heed.
    DataError
        If not one good row came out.
    VendorRefusal
        If a vendor answers no more; what was finished is stored.
    """
    _require_heeded(spec)
    with sources_of(settings, spec) as sources, open_stores(settings, upgrade=True) as stores:
        return [ingest_source(stores, source, spec, progress) for source in sources]


def ingest_source(
    stores: Stores, source: MarketDataSource, spec: SourceSpec, progress: Progress | None = None
) -> IngestReport:
    """Ingest one source of a spec, and let its dataset remember the spec."""
    health = HealthStore(stores.historical.database)
    try:
        return read_source(stores, source, spec, progress)
    finally:
        # Also of an ingest that failed: repairing it is what the origin is for.
        health.remember_origin(source.info.dataset_id, origin_of(spec))


def read_source(
    stores: Stores,
    source: MarketDataSource,
    spec: SourceSpec,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """Ingest one source as a spec says; its dataset goes on remembering what it was made from.

    Parameters
    ----------
    now : datetime, optional
        Aware; sessions that close later are neither expected nor stored. The clock's by default.
    """
    return ingest(
        continued(source, stores.historical, spec, now),
        stores.historical,
        symbols=spec.symbols,
        progress=progress,
        now=now,
        options=IngestOptions(spec.gates, spec.workers),
    )


def gate_params(assignments: Sequence[str]) -> QualityParams:
    """Return the thresholds of the gates with `name=value` assignments applied.

    Raises
    ------
    ConfigError
        If there is no such threshold, or the value is none of its values.
    """
    values: dict[str, str | None] = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        values[name] = None if text.lower() == "none" else text
    try:
        return QualityParams.model_validate(values)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        known = ", ".join(QualityParams.model_fields)
        raise ConfigError(
            f"--gate {first['loc'][0]}: {first['msg']}; thresholds are {known},"
            " for example --gate stall_rejected_after=10"
        ) from invalid


def origin_of(spec: SourceSpec) -> dict[str, Any]:
    """Return a spec as a document: absolute paths, and not which symbols were chosen once."""
    path = None if spec.path is None else spec.path.absolute()
    whole = replace(spec, path=path, symbols=None)
    document: dict[str, Any] = _SPEC.dump_python(whole, mode="json")
    return document


def spec_of(dataset: Mapping[str, Any]) -> SourceSpec:
    """Return the spec that a dataset was made from.

    Raises
    ------
    StoreError
        If the dataset does not remember it, or it means nothing to this version.
    """
    name, origin = dataset["dataset_id"], dataset["origin"]
    remedy = "run its `prometheus data ingest` again, which remembers it"
    if origin is None:
        raise StoreError(f"{name}: nothing is known of the source it was made from; {remedy}")
    if unknown := sorted(set(origin) - {each.name for each in fields(SourceSpec)}):
        listed = ", ".join(unknown)
        raise StoreError(f"{name}: its origin has {listed}, unknown to this version; {remedy}")
    try:
        return _SPEC.validate_python(origin)
    except ValidationError as foreign:
        first = foreign.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise StoreError(f"{name}: its origin cannot be read: {problem}; {remedy}") from foreign


_SPEC = TypeAdapter(SourceSpec)


def list_datasets(settings: Settings) -> Listing:
    """Return one row per dataset: what it is and what it covers."""
    columns = ("dataset_id", "source", "adjustment", "instruments", "first", "last", "rows")
    rows = []
    with open_stores(settings) as stores:
        for dataset in stores.historical.datasets():
            covered = stores.historical.coverage(dataset["dataset_id"])
            firsts = [row["first_date"] for row in covered if row["first_date"] is not None]
            lasts = [row["last_date"] for row in covered if row["last_date"] is not None]
            rows.append(
                (
                    dataset["dataset_id"],
                    dataset["source"],
                    dataset["adjustment"],
                    len(covered),
                    min(firsts, default=None),
                    max(lasts, default=None),
                    sum(row["row_count"] for row in covered),
                )
            )
    return columns, rows


def list_revisions(settings: Settings, dataset_id: str, limit: int = 50) -> Listing:
    """Return one row per revision of a dataset, the newest first."""
    columns = ("revision", "ingested_at", "source", "rows_changed", "fingerprint", "closed_at")
    with open_stores(settings) as stores:
        revisions = stores.historical.revisions(dataset_id)
    return columns, [tuple(getattr(each, name) for name in columns) for each in revisions[:limit]]


def compare_revisions(
    settings: Settings, dataset_id: str, before: str, after: str | None, limit: int
) -> Difference:
    """Return what differs between two revisions of a dataset, named as a person writes them."""
    wanted = None if after is None else revision_of(after)
    with open_stores(settings) as stores:
        return difference(stores.historical, dataset_id, revision_of(before), wanted, limit)


def revision_of(text: str) -> int | str:
    """Return the number or the fingerprint that `text` stands for.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if re.fullmatch(r"[0-9a-f]{16}", text):
        return text
    if not text.isdecimal():
        raise ConfigError(
            f"revision {text!r}: expected a number, or a fingerprint of 16 hexadecimal digits"
        )
    return int(text)


@contextmanager
def sources_of(
    settings: Settings, spec: SourceSpec, *, forgiving: bool = False
) -> Iterator[list[MarketDataSource]]:
    """Yield the sources that a spec names; a connection to a vendor is closed in the end.

    Parameters
    ----------
    forgiving : bool
        Leave out symbols that the vendor does not have any more, instead of refusing them.
    """
    if spec.kind == "sample":
        yield [load() for load in SAMPLES.values()]
    elif spec.kind in FILE_KINDS:
        yield [_files(spec)]
    elif spec.kind == "yahoo":
        yield [_yahoo(spec)]
    elif spec.kind == IB:
        with _ib(settings, spec, forgiving=forgiving) as source:
            yield [source]
    elif spec.kind == EODHD:
        selection = replace(_selection(spec), forgiving=forgiving)
        dataset = _dataset(spec, "--symbols AAPL,MSFT")
        with eodhd_source(settings, dataset, spec.market_id, selection) as source:
            yield [source]
    else:
        known = ", ".join(("sample", *FILE_KINDS, *VENDOR_KINDS))
        raise ConfigError(f"source: unknown source {spec.kind!r}; known sources: {known}")


@contextmanager
def eodhd_source(
    settings: Settings, dataset_id: str, market_id: str, selection: "Selection"
) -> Iterator["EodhdSource"]:
    """Yield EODHD as a source, at the pace that the environment allows."""
    # It brings a client of HTTP: only where the vendor is read.
    from adapters.eodhd import EodhdSource, eodhd
    from adapters.http import Limits, VendorClient

    limits = Limits(requests_per_minute=settings.eodhd_per_minute)
    with VendorClient(eodhd(settings.eodhd_key, settings.eodhd_url), limits) as client:
        yield EodhdSource(client, dataset_id, market_id, selection)


def _require_heeded(spec: SourceSpec) -> None:
    if spec.kind not in HEEDED:
        return  # unknown, which `sources_of` tells
    heeded = ("kind", "symbols", "gates", "workers", *HEEDED[spec.kind])
    silent = SourceSpec(spec.kind)
    for name in (each.name for each in fields(SourceSpec)):
        if name not in heeded and getattr(spec, name) != getattr(silent, name):
            option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise ConfigError(f"data ingest {spec.kind}: {option} would go unheeded; leave it out")


def _files(spec: SourceSpec) -> "FileSource":
    # The sources are read by few commands: the others need not hold what a source brings.
    from adapters.files import FileOptions, FileSource

    if spec.path is None:
        raise ConfigError(
            f"data ingest {spec.kind}: a path is missing; "
            f"for example: prometheus data ingest {spec.kind} my_prices/ --dataset mine"
        )
    info = DatasetInfo(
        dataset_id=_dataset(spec, "my_prices/"),
        source=spec.kind,
        market_id=spec.market_id,
        adjustment=Adjustment.AS_TRADED,
        synthetic_bars=False,
        description=f"Daily bars from {spec.kind} files.",
        survivorship="Unknown: the files do not say whether delisted names are missing.",
    )
    options = FileOptions(split_adjusted=spec.split_adjusted, infer=spec.infer_actions)
    return FileSource(spec.path, info, options)


def _yahoo(spec: SourceSpec) -> "YahooSource":
    from adapters.yahoo import YahooSource  # only where it is read, as files are

    if spec.index or spec.exchange:
        raise ConfigError("data ingest yahoo: Yahoo has no lists; name the --symbols")
    dataset = _dataset(spec, "--symbols AAPL,MSFT")
    return YahooSource(dataset, spec.market_id, spec.symbols or (), spec.start, spec.end)


@contextmanager
def _ib(settings: Settings, spec: SourceSpec, *, forgiving: bool) -> Iterator["IbSource"]:
    """Yield a gateway of Interactive Brokers as a source, with names as the store has them."""
    # It brings the broker's client and Nautilus: only where the broker is read.
    from adapters.ib.source import IbSource, link_thread

    if spec.index or spec.exchange:
        raise ConfigError("data ingest ib: the broker has no lists; name the --symbols")
    dataset = _dataset(spec, "--symbols AAPL,MSFT")
    wanted = _contracts(settings, spec)
    params = link_params(settings.ib, client_id=settings.ib_ingest_client_id)
    with link_thread(params, settings.ib_requests_per_ten_minutes) as thread:
        yield IbSource(
            thread, dataset, spec.market_id, wanted, spec.start, spec.end, forgiving=forgiving
        )


def _contracts(settings: Settings, spec: SourceSpec) -> dict[str, BrokerContract]:
    """Return the broker's contract of each symbol: as the store records it, else as spelled."""
    with open_stores(settings, upgrade=True) as stores:
        known = InstrumentStore(stores.historical.database).read()
    names = sorted({store_id(symbol, spec.market_id) for symbol in spec.symbols or ()})
    currency = CONVENTIONS[spec.market_id].currency
    new = {
        name: Instrument(name, spec.market_id, "EQUITY", currency)
        for name in names
        if name not in known.instruments
    }
    known = replace(known, instruments={**known.instruments, **new})
    today = datetime.now(UTC).date()
    return {name: known.contract(name, today) for name in names}


def _selection(spec: SourceSpec) -> "Selection":
    from adapters.eodhd import Selection  # only where the vendor is read

    return Selection(
        symbols=spec.symbols,
        index=spec.index,
        exchange=spec.exchange,
        delisted=spec.delisted,
        limit=spec.limit,
        offset=spec.offset,
        first=spec.start,
        last=spec.end,
    )


def _dataset(spec: SourceSpec, rest: str) -> str:
    if spec.dataset is None:
        raise ConfigError(
            f"data ingest {spec.kind}: --dataset NAME is missing; "
            f"for example: prometheus data ingest {spec.kind} {rest} --dataset mine"
        )
    return spec.dataset


def continued(
    source: MarketDataSource, store: HistoricalStore, spec: SourceSpec, now: datetime | None = None
) -> MarketDataSource:
    """Return a source that asks a vendor only for what the store does not have yet."""
    if source.info.source not in {EODHD, IB}:
        return source
    # They bring the vendors' clients, the broker's also Nautilus: only where a vendor is read.
    from adapters.eodhd import EodhdSource

    dataset_id = source.info.dataset_id
    findings = HealthStore(store.database).open_findings(dataset_id)
    # A finding stays open only while the row it is about is read again.
    doubtful = {row["instrument_id"] for row in findings}
    bars = partial(store.bars, dataset_id)

    def again(name: str) -> bool:
        return spec.whole or name in doubtful

    if isinstance(source, EodhdSource):
        return ContinuedSource(source, bars, again)
    from adapters.ib.resumed import ResumedSource
    from adapters.ib.source import IbSource

    if not isinstance(source, IbSource):
        return source
    newest = _newest_session(spec, now or datetime.now(UTC))
    return ResumedSource(source, bars, partial(store.actions, dataset_id), newest, again)


def _newest_session(spec: SourceSpec, now: datetime) -> date:
    """Return the last session of a spec that has closed at `now`."""
    calendar = MarketCalendar.of(spec.market_id)
    closed = calendar.roll_back(now.date())
    if calendar.close_time(closed) > now:
        closed = calendar.previous_session(closed)
    return closed if spec.end is None else min(closed, calendar.roll_back(spec.end))
