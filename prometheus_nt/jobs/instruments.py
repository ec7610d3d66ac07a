"""Who instruments are: take it in from a file, look it up, and see whether they can be traded."""

from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from adapters.instrument_file import read_instruments
from persistence.instruments import InstrumentStore
from prometheus_nt.domain.errors import MissingMetadata, UnknownInstrument
from prometheus_nt.domain.instruments import IB_CONID, SCHEMES, InstrumentMap
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

Listing = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def import_instruments(
    settings: Settings, path: Path, source: str | None = None
) -> dict[str, int | str]:
    """Store what a CSV file says of instruments; return how much it held and changed.

    Raises
    ------
    FileError
        Naming the line and column that cannot be read.
    UnknownInstrument
        If it is about an instrument that no dataset has brought yet.
    ConfigError
        If a name would mean two instruments on some day.
    """
    found = read_instruments(path, source)
    with open_stores(settings, upgrade=True) as stores:
        changed = InstrumentStore(stores.historical.database).write(found)
    return {
        "file": str(path),
        "symbols": len(found.symbols),
        "listings": len(found.listings),
        "specs": len(found.specs),
        "changed": changed,
    }


def show_instrument(
    settings: Settings, name: str, as_of: date | None = None, scheme: str | None = None
) -> dict[str, Any]:
    """Return everything known of the instrument that goes by `name` on a day, by default today.

    Raises
    ------
    UnknownInstrument
        If none goes by it, or more than one.
    """
    day = as_of or datetime.now(UTC).date()
    with open_stores(settings) as stores:
        known = InstrumentStore(stores.historical.database).read()
    instrument_id = known.resolve(name, day, scheme)
    instrument = known.require(instrument_id)
    document = asdict(instrument) | {"as_of": day}
    document["names"] = {
        each: _symbol(known, instrument_id, each, day) for each in SCHEMES if each != IB_CONID
    }
    document["contract"] = asdict(known.contract(instrument_id, day))
    document["recorded_names"] = [asdict(use) for use in known.uses(instrument_id)]
    document["listings"] = [asdict(stay) for stay in known.stays(instrument_id)]
    try:
        (spec,) = known.trading_specs([instrument_id])
        document["trading"] = asdict(spec)
    except MissingMetadata as missing:
        document["trading"] = {"missing": list(missing.missing[instrument_id])}
    return document


def metadata_coverage(settings: Settings, dataset_id: str) -> Listing:
    """Return, per instrument of a dataset, what trading needs and what of it is missing."""
    columns = (
        *("instrument_id", "market_id", "currency", "tick_size", "lot_size"),
        *("price_precision", "source", "missing"),
    )
    with open_stores(settings) as stores:
        known = InstrumentStore(stores.historical.database).read()
        members = stores.historical.instruments(dataset_id)
    rows: list[tuple[Any, ...]] = []
    for name in (row["instrument_id"] for row in members if row["asset_class"] != "INDEX"):
        try:
            spec = asdict(known.trading_specs([name])[0]) | {"missing": None}
        except MissingMetadata as lacking:
            spec = asdict(known.require(name)) | {"missing": ", ".join(lacking.missing[name])}
        rows.append(tuple(spec.get(column) for column in columns))
    return columns, rows


def _symbol(known: InstrumentMap, instrument_id: str, scheme: str, day: date) -> str | None:
    try:
        return known.symbol(instrument_id, scheme, day)
    except UnknownInstrument:
        return None
