"""Datasets by name: fill them, list them, look at what is wrong with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.files import FileOptions, FileSource
from adapters.inference import DividendBasis
from adapters.sample import SAMPLES
from adapters.source import Adjustment, DatasetInfo, MarketDataSource, Severity
from persistence.panel_cache import load_panel
from prometheus_nt.config import Settings
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.ingest import IngestReport, Progress, ingest
from prometheus_nt.jobs.stores import Stores, open_stores

FILE_KINDS = ("csv", "parquet")

Listing = tuple[tuple[str, ...], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class SourceSpec:
    """What to ingest: `kind` is `sample`, `csv` or `parquet`; files need a path and a dataset.

    split_adjusted : the files divide prices by later splits, as Yahoo's do.
    infer_actions : how the adjusted close relates to dividends, to infer actions from it; None
        takes only the actions that the files list.
    """

    kind: str
    path: Path | None = None
    dataset: str | None = None
    market_id: str = "US_EQ"
    symbols: tuple[str, ...] | None = None
    split_adjusted: bool = False
    infer_actions: DividendBasis | None = None


def ingest_named(
    settings: Settings, spec: SourceSpec, progress: Progress | None = None
) -> list[IngestReport]:
    """Ingest what `spec` names.

    Raises
    ------
    ConfigError
        If the kind is unknown, or a path or a dataset name is missing.
    DataError
        If not one good row came out.
    """
    sources = _sources(spec)
    with open_stores(settings, upgrade=True) as stores:
        return [
            ingest(source, stores.historical, symbols=spec.symbols, progress=progress)
            for source in sources
        ]


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


def check_dataset(settings: Settings, dataset_id: str) -> tuple[tuple[str, ...], list[Any], int]:
    """Return the findings about a dataset, and how many of them are errors."""
    columns = ("severity", "rule", "instrument_id", "trade_date", "value", "message")
    with open_stores(settings) as stores:
        stores.historical.dataset(dataset_id)
        events = stores.historical.quality_events(dataset_id)
    rows = [tuple(event[name] for name in columns) for event in events]
    return columns, rows, sum(event["severity"] == Severity.ERROR for event in events)


def panel_of(stores: Stores, dataset_id: str) -> MarketPanel:
    """Return the whole panel of a dataset, from the cache where it is fresh."""
    return load_panel(stores.historical, dataset_id, stores.settings.cache_dir)


def _sources(spec: SourceSpec) -> list[MarketDataSource]:
    if spec.kind == "sample":
        return [load() for load in SAMPLES.values()]
    if spec.kind not in FILE_KINDS:
        known = ", ".join(("sample", *FILE_KINDS))
        raise ConfigError(f"source: unknown source {spec.kind!r}; known sources: {known}")
    if spec.path is None or spec.dataset is None:
        missing = "a path" if spec.path is None else "--dataset NAME"
        raise ConfigError(
            f"data ingest {spec.kind}: {missing} is missing; "
            f"for example: prometheus data ingest {spec.kind} my_prices/ --dataset mine"
        )
    info = DatasetInfo(
        dataset_id=spec.dataset,
        source=spec.kind,
        market_id=spec.market_id,
        adjustment=Adjustment.AS_TRADED,
        synthetic_bars=False,
        description=f"Daily bars from {spec.kind} files.",
        survivorship="Unknown: the files do not say whether delisted names are missing.",
    )
    options = FileOptions(split_adjusted=spec.split_adjusted, infer=spec.infer_actions)
    return [FileSource(spec.path, info, options)]
