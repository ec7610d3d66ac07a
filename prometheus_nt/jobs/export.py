"""Hand a dataset to other tools: one Parquet file for notebooks, or a Nautilus catalog.

1. the selection is read as a panel (`selection.select_panel`);
2. it is written into a new folder beside the one asked for (`_write_parquet`, `_write_catalog`),
   with `export.json`, which says what it is and which files belong to it;
3. the new folder takes the place of an older export (`_replace`). A folder that holds anything
   else is never touched, and an export of the same data is left as it is.

`parquet` has prices as traded, splits and dividends. A Nautilus venue knows no splits, so
`nautilus` has prices and volume adjusted for the splits within the selection, and no dividends.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.persistence.catalog import ParquetDataCatalog

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.ledger import MICROS
from prometheus_nt.domain.panel import BAR_FIELDS, PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import IntArray, content_hash
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.metadata import read_metadata
from prometheus_nt.jobs.selection import Selection, select_panel
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings
from prometheus_nt.venue.prices import PRICE_DECIMALS, equity_instrument, to_micros

Progress = Callable[[int, int, str], None]

MANIFEST = "export.json"
PRICES = "prices.parquet"
_FORMAT = 1


class ExportKind(StrEnum):
    """PARQUET: one long table. NAUTILUS: a `ParquetDataCatalog` of instruments and daily bars."""

    PARQUET = "parquet"
    NAUTILUS = "nautilus"


@dataclass(frozen=True)
class ExportReport:
    """What an export holds; `unchanged` if the same data were there before."""

    folder: str
    kind: str
    dataset: str
    instruments: int
    first: str
    last: str
    bars: int
    unchanged: bool


def export_named(
    settings: Settings,
    wanted: Selection,
    kind: str,
    folder: Path,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a selection of a dataset into `folder`; see `export_dataset`.

    Raises
    ------
    ConfigError
        If there is no such kind of export.
    """
    if kind not in list(ExportKind):
        raise ConfigError(f"--to: unknown {kind!r}; known: {', '.join(ExportKind)}")
    with open_stores(settings) as stores:
        return export_dataset(stores, wanted, ExportKind(kind), folder, progress)


def export_dataset(
    stores: Stores,
    wanted: Selection,
    kind: ExportKind,
    folder: Path,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a selection of a dataset into `folder`.

    Raises
    ------
    StoreError
        If `folder` holds anything but an earlier export of this dataset, or cannot be written.
    PrometheusError
        If there is nothing to select, or the metadata of an instrument are missing.
    """
    panel = select_panel(stores, wanted)
    market_id = stores.historical.dataset(wanted.dataset)["market_id"]
    parts = [_FORMAT, kind.value, panel.fingerprint, panel.sessions, panel.instruments]
    report = ExportReport(
        folder=str(folder),
        kind=kind.value,
        dataset=wanted.dataset,
        instruments=len(panel.instruments),
        first=str(panel.sessions[0]),
        last=str(panel.sessions[-1]),
        bars=int((panel.close > 0).sum()),
        unchanged=False,
    )
    content = content_hash(parts)
    if _earlier(folder, wanted.dataset) == content:
        return replace(report, unchanged=True)
    terms = (MarketCalendar.of(market_id), read_metadata(stores, panel).specs[0].currency)
    described = {"dataset": wanted.dataset, "content": content, "export": asdict(report)}
    _fill(folder, described, lambda new: _WRITERS[kind](new, panel, terms, progress))
    return report


def _earlier(folder: Path, dataset: str) -> str | None:
    """Return the content hash of the export in `folder`; None if there is no whole one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        owned, whose, content = dict(manifest["files"]), manifest["dataset"], manifest["content"]
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder}: holds files that no export wrote; choose an empty or a new folder"
        ) from None
    found = _files(folder)
    foreign = sorted(found.keys() - owned.keys() - {MANIFEST})
    if foreign:
        raise StoreError(f"{folder}: {foreign[0]} is not of the export; move it elsewhere first")
    if whose != dataset:
        raise StoreError(f"{folder}: holds an export of dataset {whose!r}; choose another folder")
    whole = all(found.get(name) == size for name, size in owned.items())
    return str(content) if whole else None


def _fill(folder: Path, described: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Write a new folder and put it in the place of `folder`, whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write(new)
            document = described | {"files": _files(new)}
            (new / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            new.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            new.replace(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as unwritable:
        raise StoreError(f"{folder}: cannot be written: {unwritable}") from unwritable


def _files(folder: Path) -> dict[str, int]:
    """Return the size of every file in `folder`, by its path within."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _write_parquet(
    folder: Path,
    panel: MarketPanel,
    _terms: tuple[MarketCalendar, str],
    progress: Progress | None,
) -> None:
    """Write one row per instrument and session with a bar or an action, by instrument and time."""
    acted = (panel.split != 1.0) | (panel.dividend != 0.0)
    columns, rows = np.nonzero((~np.isnan(panel.close) | acted).T)
    names = pa.array(panel.instruments, pa.string())
    table = {
        "session": pa.array(panel.sessions[rows].astype("datetime64[ms]")),
        "instrument_id": pa.DictionaryArray.from_arrays(pa.array(columns, pa.int32()), names),
    }
    # NaN and NULL are two things in a file; pandas reads NULL as the NaN it was.
    for done, name in enumerate(PANEL_FIELDS, start=1):
        table[name] = pa.array(getattr(panel, name)[rows, columns], from_pandas=True)
        if progress is not None:
            progress(done, len(PANEL_FIELDS), name)
    pq.write_table(pa.table(table), folder / PRICES, compression="zstd")


def _write_catalog(
    folder: Path,
    panel: MarketPanel,
    terms: tuple[MarketCalendar, str],
    progress: Progress | None,
) -> None:
    """Write the instruments and the bars of each, known at the close of their session."""
    calendar, currency = terms
    catalog = ParquetDataCatalog(folder)
    units, closes_ns = ShareUnits.of(panel), calendar.closes_ns[calendar.rows(panel.sessions)]
    for column, name in enumerate(panel.instruments):
        instrument = equity_instrument(name, currency)
        catalog.write_data([instrument])
        bars = _bars(panel, units, column, (f"{instrument.id}-1-DAY-LAST-EXTERNAL", closes_ns))
        if bars:
            catalog.write_data(bars)
        if progress is not None:
            progress(column + 1, len(panel.instruments), name)


def _bars(
    panel: MarketPanel, units: ShareUnits, column: int, labels: tuple[str, IntArray]
) -> list[Bar]:
    rows = np.flatnonzero(panel.close[:, column] > 0)
    factor = units.factor[rows, column]
    fields = [getattr(panel, name)[rows, column] for name in BAR_FIELDS]
    prices = [to_micros(field / factor) / MICROS for field in fields[:4]]
    # A bar of Nautilus must have a volume; 0 is what it calls one without.
    volume = np.rint(np.nan_to_num(fields[4]) * factor)
    instants = labels[1][rows].astype(np.uint64)
    bars: list[Bar] = Bar.from_raw_arrays_to_list(
        BarType.from_str(labels[0]), PRICE_DECIMALS, 0, *prices, volume, instants, instants
    )
    return bars


_WRITERS = {ExportKind.PARQUET: _write_parquet, ExportKind.NAUTILUS: _write_catalog}
