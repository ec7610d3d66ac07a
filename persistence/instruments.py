"""The store of names, listings and trading metadata of instruments.

What is written again unchanged keeps the time at which it first became known.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields, replace
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select

from persistence.database import Database, upsert
from persistence.tables import historical as tables
from prometheus_nt.domain.instruments import (
    Instrument,
    InstrumentMap,
    Listing,
    RecordedSpec,
    SymbolUse,
    require_disjoint,
)

Recorded = TypeVar("Recorded", SymbolUse, Listing, RecordedSpec)


class InstrumentStore:
    """Who instruments are, in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read(self) -> InstrumentMap:
        """Return every name of every instrument."""
        with self.database.reader() as connection:
            return _read(connection)

    def write(self, found: InstrumentMap) -> int:
        """Store names, listings and metadata; return how many were new or changed.

        Raises
        ------
        UnknownInstrument
            If one is about an instrument that no dataset has brought yet.
        ConfigError
            If, with what is stored, a name would mean two instruments on some day.
        """
        with self.database.writer() as connection:
            known = _read(connection)
            for instrument_id in found.about():
                known.require(instrument_id)
            symbols = _changed(known.symbols, found.symbols, _symbol_key)
            listings = _changed(known.listings, found.listings, _listing_key)
            specs = _changed(known.specs, found.specs, _spec_key)
            kept = {_symbol_key(use): use for use in known.symbols}
            require_disjoint([*(kept | {_symbol_key(use): use for use in symbols}).values()])
            _put(connection, tables.instrument_symbols, symbols)
            _put(connection, tables.instrument_listings, listings)
            _put(connection, tables.instrument_specs, specs)
        return len(symbols) + len(listings) + len(specs)


def _read(connection: Connection) -> InstrumentMap:
    table = tables.instruments.c
    columns = (table.instrument_id, table.market_id, table.asset_class, table.currency)
    rows = connection.execute(select(*columns, table.exchange)).all()
    known = sorted((Instrument(*row) for row in rows), key=lambda each: each.instrument_id)
    return InstrumentMap(
        {each.instrument_id: each for each in known},
        _records(connection, tables.instrument_symbols, SymbolUse),
        _records(connection, tables.instrument_listings, Listing),
        _records(connection, tables.instrument_specs, RecordedSpec),
    )


def _records(connection: Connection, table: Table, kind: type[Recorded]) -> list[Recorded]:
    names = [field.name for field in fields(kind)]
    rows = connection.execute(select(*(table.c[name] for name in names))).all()
    records = [kind(*map(_loaded, names, row)) for row in rows]
    # Sorted here: the order of text depends on the database's collation.
    return sorted(records, key=lambda each: tuple(map(str, astuple(each))))


def _put(connection: Connection, table: Table, records: Sequence[Recorded]) -> None:
    if records:
        names = [field.name for field in fields(records[0])]
        rows = [tuple(map(_stored, names, astuple(record))) for record in records]
        upsert(connection, table, names, rows)


def _stored(name: str, value: Any) -> Any:
    if name in ("valid_from", "listed_on"):
        return value or date.min
    return str(value) if isinstance(value, Decimal) else value


def _loaded(name: str, value: Any) -> Any:
    if name in ("valid_from", "listed_on"):
        return None if value == date.min else value
    return Decimal(value) if name == "tick_size" and value is not None else value


def _changed(
    known: Iterable[Recorded], found: Iterable[Recorded], key: Callable[[Any], Any]
) -> list[Recorded]:
    """Return the records that say something new; when it became known is not news."""
    stored = {key(record): record for record in known}
    newest = {key(record): record for record in found}
    return [
        record
        for name, record in newest.items()
        if name not in stored or replace(record, known_at=stored[name].known_at) != stored[name]
    ]


def _symbol_key(use: SymbolUse) -> tuple[object, ...]:
    return use.scheme, use.symbol, use.instrument_id, use.valid_from


def _listing_key(listing: Listing) -> tuple[object, ...]:
    return listing.instrument_id, listing.exchange, listing.listed_on


def _spec_key(spec: RecordedSpec) -> tuple[object, ...]:
    return (spec.instrument_id,)
