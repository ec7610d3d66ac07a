"""Store everything a source knows besides prices, and the ratios that follow from it.

What one instrument brings is committed before the next is asked for: a job that dies has stored
whole instruments, and running it again writes what is new or changed, and nothing else.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from adapters.eodhd import Selection
from adapters.reference import ReferenceSource
from adapters.reference_files import ReferenceFiles
from adapters.source import Issue, as_issue
from persistence.historical import HistoricalStore
from persistence.reference_store import ReferenceStore
from prometheus_nt.domain.errors import ConfigError, SourceError
from prometheus_nt.engines.period_ratios import FIGURES, StatementColumns, period_ratios
from prometheus_nt.jobs.data import eodhd_source
from prometheus_nt.jobs.ingest import Progress
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

FILE_KINDS = ("csv", "parquet")
EARLIEST = date(1980, 1, 1)


@dataclass(frozen=True)
class ReferenceScope:
    """What to ask a source for besides the instruments of the dataset.

    Attributes
    ----------
    indexes : ids of the indexes whose members are wanted
    news_from, news_to : first and last day of news; None is today
    """

    indexes: tuple[str, ...] = ()
    news_from: date = EARLIEST
    news_to: date | None = None


@dataclass(frozen=True)
class ReferenceReport:
    """What was stored: rows new or changed by kind, and what was left out."""

    dataset_id: str
    written: dict[str, int]
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class FactStores:
    """The two stores that share the historical database."""

    historical: HistoricalStore
    reference: ReferenceStore


@dataclass(frozen=True)
class ReferenceSpec:
    """Where facts come from: `kind` is `csv`, `parquet` (a folder of files) or `eodhd`.

    indexes, news_from : asked of a vendor; files bring their own.
    """

    kind: str
    dataset_id: str
    path: Path | None = None
    indexes: tuple[str, ...] = ()
    news_from: date | None = None


def ingest_reference_named(
    settings: Settings, spec: ReferenceSpec, progress: Progress | None = None
) -> ReferenceReport:
    """Store the facts that `spec` names.

    Raises
    ------
    ConfigError
        If the kind is unknown, a folder holds no file of a known name, or a key is missing.
    StoreError
        If there is no such dataset: its prices come first.
    VendorRefusal
        If a vendor answers no more; what was finished is stored.
    """
    with open_stores(settings, upgrade=True) as opened:
        stores = FactStores(opened.historical, ReferenceStore(opened.historical.database))
        dataset = opened.historical.dataset(spec.dataset_id)
        instruments = opened.historical.instruments(spec.dataset_id)
        issuers = {row["instrument_id"]: row["issuer_id"] for row in instruments}
        if spec.kind == "eodhd":
            return _from_eodhd(settings, spec, stores, dataset["market_id"], progress)
        source = _files(spec, dataset["market_id"], issuers)
        refused = tuple(source.refused())
        scope = ReferenceScope(indexes=source.index_ids)
        report = ingest_reference(source, stores, spec.dataset_id, scope, progress=progress)
    return ReferenceReport(spec.dataset_id, report.written, (*refused, *report.issues))


def _files(spec: ReferenceSpec, market_id: str, issuers: dict[str, str]) -> ReferenceFiles:
    if spec.kind not in FILE_KINDS:
        known = ", ".join((*FILE_KINDS, "eodhd"))
        raise ConfigError(f"source: unknown source of facts {spec.kind!r}; known sources: {known}")
    if spec.path is None:
        raise ConfigError(
            f"data ingest-reference {spec.kind}: a folder is missing; for example: "
            f"prometheus data ingest-reference {spec.kind} my_facts/ --dataset {spec.dataset_id}"
        )
    return ReferenceFiles(spec.path, spec.dataset_id, market_id, issuers)


def _from_eodhd(
    settings: Settings,
    spec: ReferenceSpec,
    stores: FactStores,
    market_id: str,
    progress: Progress | None,
) -> ReferenceReport:
    names = tuple(row["instrument_id"] for row in stores.historical.instruments(spec.dataset_id))
    scope = ReferenceScope(spec.indexes, spec.news_from or EARLIEST)
    selection = Selection(symbols=names)
    with eodhd_source(settings, spec.dataset_id, market_id, selection) as source:
        return ingest_reference(source, stores, spec.dataset_id, scope, progress=progress)


def ingest_reference(
    source: ReferenceSource,
    stores: FactStores,
    dataset_id: str,
    scope: ReferenceScope,
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> ReferenceReport:
    """Store everything that `source` knows about the instruments of a dataset, and its indexes.

    Parameters
    ----------
    now : datetime, optional
        Aware; from when what a source changed is known. The clock's by default.

    Raises
    ------
    StoreError
        If there is no such dataset.
    """
    now = now or datetime.now(UTC)
    dataset = stores.historical.dataset(dataset_id)
    names = [row["instrument_id"] for row in stores.historical.instruments(dataset_id)]
    written: Counter[str] = Counter(dict.fromkeys(("statements", "sectors", "news"), 0))
    issues: list[Issue] = []
    job = _Job(source, stores.reference, dataset_id, scope, now)
    for done, name in enumerate(names, start=1):
        try:
            written.update(job.store_instrument(name))
        except SourceError as unusable:
            issues.append(as_issue(unusable, dataset_id, name))
        if progress is not None:
            progress(done, len(names), name)
    written.update(job.store_market(dataset["market_id"]))
    written["ratios"] = store_ratios(stores.reference, dataset_id, now)
    return ReferenceReport(dataset_id, dict(written), tuple(issues))


def store_ratios(store: ReferenceStore, dataset_id: str, now: datetime) -> int:
    """Compute the ratios of all statements as they were known; return how many are different."""
    versions = store.statement_versions(dataset_id)
    return store.write_ratios(dataset_id, _ratio_rows(versions), now) if versions else 0


@dataclass(frozen=True)
class _Job:
    """What every step of one ingest needs."""

    source: ReferenceSource
    store: ReferenceStore
    dataset_id: str
    scope: ReferenceScope
    now: datetime

    def store_instrument(self, name: str) -> dict[str, int]:
        last = self.scope.news_to or self.now.date()
        statements = _plain(self.source.statements(name))
        sectors = _plain(self.source.sectors(name))
        news = _plain(self.source.news(name, self.scope.news_from, last))
        return {
            "statements": self.store.write_statements(self.dataset_id, statements, self.now),
            "sectors": self.store.write_sectors(self.dataset_id, sectors, self.now),
            "news": self.store.write_news(self.dataset_id, news, self.now),
        }

    def store_market(self, market_id: str) -> dict[str, int]:
        stays = _plain(
            stay for name in self.scope.indexes for stay in self.source.memberships(name)
        )
        holidays = _plain(self.source.holidays(market_id))
        return {
            "membership": self.store.write_memberships(self.dataset_id, stays, self.now),
            "holidays": self.store.write_holidays(holidays, self.now),
        }


def _plain(records: Any) -> list[dict[str, Any]]:
    return [asdict(record) for record in records]


def _ratio_rows(versions: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    columns = StatementColumns(
        **{
            field: np.array([row[name] for row in versions])
            for field, name in (
                ("issuer", "issuer_id"),
                ("kind", "statement_type"),
                ("frequency", "frequency"),
            )
        },
        period_end=np.array([row["period_end"] for row in versions], dtype="datetime64[D]"),
        stated_ns=_nanoseconds(versions, "stated_at"),
        known_ns=_nanoseconds(versions, "known_at"),
        values={
            name: np.array([row["values"].get(name, np.nan) for row in versions], dtype=np.float64)
            for names in FIGURES.values()
            for name in names
        },
    )
    ratios = period_ratios(columns)
    starts = ratios.period_start.astype(object)
    listed = {name: values.tolist() for name, values in ratios.values.items()}
    about = ("issuer_id", "frequency", "period_end", "known_at")
    for event, at in enumerate(ratios.row.tolist()):
        values = {name: column[event] for name, column in listed.items()}
        yield (
            {name: versions[at][name] for name in about} | values | {"period_start": starts[event]}
        )


def _nanoseconds(versions: Sequence[dict[str, Any]], name: str) -> Any:
    moments = [row[name].replace(tzinfo=None) for row in versions]
    return np.array(moments, dtype="datetime64[us]").astype(np.int64) * 1000
