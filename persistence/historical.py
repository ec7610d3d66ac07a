"""The historical store: datasets, their instruments, daily prices, actions and quality findings.

Rules of the store:

- Every price belongs to a dataset. A dataset's `revision` rises when its prices, actions or
  instruments really change, and only then: writing the same facts again writes nothing.
- What a revision replaces is kept, so that an earlier one can be read again (`revisions`).
- A daily bar is known at the close of its session, an action at the open's eve, that is at the
  close before its ex-date.
- Rows that a source no longer has are kept and reported; the past is not deleted by omission.
- What one instrument brings is stored whole or not at all.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select, update

from persistence.bars import NUMBERS
from persistence.database import Database, upsert
from persistence.histories import (
    Columns,
    Fact,
    History,
    Written,
    days_of,
    stored_bars,
    write_histories,
)
from persistence.members import add_members, follow_issuers, members_of
from persistence.revisions import (
    Revision,
    Writer,
    all_revisions,
    close_writer,
    lock_dataset,
    lock_identities,
    require_revision,
)
from persistence.tables import historical as tables
from prometheus_nt.domain.calendar import REGIONS, TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.record import FloatArray, SessionArray, content_hash

PRICE_COLUMNS = NUMBERS

INGEST, AUDIT = "ingest", "audit"
"""Who finds and resolves faults of the data: the gates of an ingest, an audit of what is stored."""

EVENT_FACTS = (
    "dataset_id",
    "instrument_id",
    "trade_date",
    "rule",
    "severity",
    "value",
    "message",
    "source_file",
    "source_row",
    "source_column",
)
"""What makes a finding the same finding."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class HistoricalStore:
    """Market history in one database, by dataset."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write_dataset(self, dataset: Fact) -> None:
        """Store what a dataset is: dataset_id, source, market_id, adjustment, ... and its market.

        Raises
        ------
        StoreError
            If the dataset exists with another market or another meaning of its prices.
        """
        if not _SAFE_ID.fullmatch(dataset["dataset_id"]):
            raise ConfigError(
                f"dataset id {dataset['dataset_id']!r}: use at most 64 letters, digits, - and _"
            )
        with self.database.writer() as connection:
            market_id = dataset["market_id"]
            _merge(connection, tables.markets, [_market(market_id)])
            known = _dataset(connection, dataset["dataset_id"])
            for name in ("market_id", "adjustment"):
                if known is not None and known[name] != dataset[name]:
                    raise StoreError(
                        f"dataset {dataset['dataset_id']}: its {name} is {known[name]}, not"
                        f" {dataset[name]}; give the new data a dataset id of its own"
                    )
            _merge(connection, tables.datasets, [dataset])

    def write_instruments(
        self, dataset_id: str, instruments: Sequence[Fact], writer: Writer | None = None
    ) -> int:
        """Store who the instruments of a dataset are; return how many facts changed.

        Parameters
        ----------
        instruments : sequence of mappings
            instrument_id, symbol, issuer_id, name, sector, asset_class, exchange, currency. A
            None does not replace what another source knows.
        writer : Writer, optional
            Whose revision the change belongs to; one of its own by default.
        """
        with self.database.writer() as connection:
            lock_identities(connection)
            dataset = require_dataset(connection, dataset_id)
            market_id = dataset["market_id"]
            changed = _merge(connection, tables.issuers, [_issuer(fact) for fact in instruments])
            changed += _merge(
                connection,
                tables.instruments,
                [_instrument(fact, market_id) for fact in instruments],
            )
            writer = writer or Writer.of(dataset["source"], once=True)
            add_members(connection, dataset_id, instruments, writer)
            follow_issuers(connection, writer)
        return changed

    def write_prices(
        self,
        dataset_id: str,
        instrument_id: str,
        prices: Columns,
        *,
        source: str,
        currency: str = "USD",
    ) -> Written:
        """Store daily bars of one instrument, as a revision of its own; see `write_histories`."""
        history = History(instrument_id, prices, None, currency)
        return self.write_histories(dataset_id, [history], Writer.of(source, once=True))[0]

    def write_actions(
        self, dataset_id: str, instrument_id: str, actions: Sequence[Fact]
    ) -> Written:
        """Store splits and dividends of one instrument, as a revision of its own."""
        history = History(instrument_id, None, actions)
        return self.write_histories(dataset_id, [history], Writer.of("", once=True))[0]

    def write_history(
        self,
        dataset_id: str,
        instrument_id: str,
        prices: Columns | None,
        actions: Sequence[Fact] | None,
        labels: Mapping[str, str],
    ) -> Written:
        """Store the bars and actions of one instrument, as a revision of its own.

        Parameters
        ----------
        labels : mapping
            `source` and `currency` of the bars.
        """
        history = History(instrument_id, prices, actions, labels.get("currency", "USD"))
        writer = Writer.of(labels.get("source", ""), once=True)
        return self.write_histories(dataset_id, [history], writer)[0]

    def write_histories(
        self, dataset_id: str, histories: Sequence[History], writer: Writer
    ) -> list[Written]:
        """Store the bars and actions of several instruments in one transaction.

        Raises
        ------
        StoreError
            If the dataset or an instrument is not part of the store.
        NonSession
            If a date is no session of the dataset's market.
        """
        with self.database.writer() as connection:
            lock_dataset(connection, dataset_id)
            dataset = require_dataset(connection, dataset_id)
            return write_histories(connection, dataset, histories, writer)

    def close(self, dataset_id: str, writer: Writer) -> None:
        """Make final the revision that a writer has left open."""
        close_writer(self.database, dataset_id, writer)

    def revisions(self, dataset_id: str) -> list[Revision]:
        """Return every revision of a dataset, the newest first."""
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            return all_revisions(connection, dataset_id)

    def revision(self, dataset_id: str, wanted: int | str) -> Revision:
        """Return the revision of a number, or the newest one of a panel's fingerprint.

        Raises
        ------
        StoreError
            If there is none, or what it held was overwritten before revisions were kept.
        """
        with self.database.reader() as connection:
            return require_revision(connection, require_dataset(connection, dataset_id), wanted)

    def write_quality_events(
        self,
        dataset_id: str,
        instrument_id: str | None,
        events: Sequence[Fact],
        *,
        found_by: str = INGEST,
    ) -> int:
        """Make `events` the open findings of one finder; return how many are new.

        A finding that is known already is not repeated. One that is not among `events` any more
        is resolved: it stays, with the time and who no longer met it.

        Parameters
        ----------
        instrument_id : str or None
            None stands for what belongs to no instrument, a file that was refused for example.
        found_by : str
            `INGEST` or `AUDIT`; the findings of others are left alone.
        """
        now = datetime.now(UTC)
        found = {
            content_hash(values): values
            for values in (tuple(event.get(name) for name in EVENT_FACTS) for event in events)
        }
        rows = [(event_id, *values, now, found_by) for event_id, values in found.items()]
        columns = ("event_id", *EVENT_FACTS, "created_at", "found_by")
        with self.database.writer() as connection:
            known = _known_events(connection, (dataset_id, instrument_id), found_by)
            upsert(connection, tables.data_quality_events, columns, rows, update=False)
            gone = [key for key, resolved in known.items() if key not in found and not resolved]
            back = [key for key, resolved in known.items() if key in found and resolved]
            _set_resolved(connection, gone, now, found_by)
            _set_resolved(connection, back, None, None)
        return len(found.keys() - known.keys())

    def instruments_with_events(self, dataset_id: str) -> set[str]:
        """Return the instruments about which there is a finding, open or resolved."""
        events = tables.data_quality_events.c
        query = select(events.instrument_id).where(events.dataset_id == dataset_id).distinct()
        with self.database.reader() as connection:
            return {name for name in connection.execute(query).scalars() if name is not None}

    def datasets(self) -> list[dict[str, Any]]:
        """Return every dataset, by id."""
        with self.database.reader() as connection:
            query = select(tables.datasets).order_by(tables.datasets.c.dataset_id)
            return _dicts(connection.execute(query).all())

    def dataset(self, dataset_id: str) -> dict[str, Any]:
        """Return one dataset, or raise `StoreError` naming those that exist."""
        with self.database.reader() as connection:
            return require_dataset(connection, dataset_id)

    def instruments(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return the instruments of a dataset with their issuers, by instrument id."""
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            return instruments_of(connection, dataset_id)

    def coverage(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return first and last session and number of bars of every instrument."""
        names = ("instrument_id", "first_date", "last_date", "row_count", "ingested_at")
        return [{name: row[name] for name in names} for row in self.instruments(dataset_id)]

    def bars(self, dataset_id: str, instrument_id: str) -> tuple[SessionArray, FloatArray]:
        """Return the sessions of one instrument and its (sessions, `PRICE_COLUMNS`) values."""
        with self.database.reader() as connection:
            members = members_of(connection, dataset_id, [instrument_id])
            series = [row.series_id for row in members.values()]
            keys, values = stored_bars(connection, series)
        return days_of(keys), values

    def actions(self, dataset_id: str, instrument_id: str | None = None) -> list[dict[str, Any]]:
        """Return splits and dividends, by instrument and ex-date."""
        table = tables.corporate_actions.c
        query = select(tables.corporate_actions).where(table.dataset_id == dataset_id)
        if instrument_id is not None:
            query = query.where(table.instrument_id == instrument_id)
        with self.database.reader() as connection:
            rows = _dicts(connection.execute(query).all())
        return sorted(rows, key=lambda row: (row["instrument_id"], row["ex_date"]))

    def quality_events(
        self,
        dataset_id: str | None = None,
        limit: int = 1000,
        *,
        resolved: bool = False,
        rule: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the open findings about the data, errors first; or those that were resolved."""
        events = tables.data_quality_events
        is_open = events.c.resolved_at.is_(None)
        query = select(events).where(~is_open if resolved else is_open)
        query = query.order_by(
            events.c.severity, events.c.source_file, events.c.source_row, events.c.event_id
        )
        if dataset_id is not None:
            query = query.where(events.c.dataset_id == dataset_id)
        if rule is not None:
            query = query.where(events.c.rule == rule)
        with self.database.reader() as connection:
            return _dicts(connection.execute(query.limit(limit)).all())


def _known_events(
    connection: Connection, about: tuple[str, str | None], found_by: str
) -> dict[str, datetime | None]:
    """Return when each finding about an instrument was resolved; None while it is open."""
    events = tables.data_quality_events.c
    query = select(events.event_id, events.resolved_at).where(
        events.dataset_id == about[0],
        events.instrument_id.is_not_distinct_from(about[1]),
        events.found_by == found_by,
    )
    return {row.event_id: row.resolved_at for row in connection.execute(query)}


def _set_resolved(
    connection: Connection, event_ids: Sequence[str], moment: datetime | None, by: str | None
) -> None:
    events = tables.data_quality_events
    change = update(events).where(events.c.event_id == bindparam("key"))
    change = change.values(resolved_at=moment, resolved_by=by)
    if event_ids:
        connection.execute(change, [{"key": event_id} for event_id in event_ids])


def instruments_of(connection: Connection, dataset_id: str) -> list[dict[str, Any]]:
    """Return who the instruments of a dataset are and what is stored of them, by id."""
    member, instrument, issuer = tables.dataset_instruments, tables.instruments, tables.issuers
    query = (
        select(
            instrument.c.instrument_id,
            instrument.c.symbol,
            instrument.c.asset_class,
            instrument.c.exchange,
            instrument.c.currency,
            instrument.c.status,
            instrument.c.issuer_id,
            issuer.c.name,
            issuer.c.sector,
            issuer.c.industry,
            member.c.first_date,
            member.c.last_date,
            member.c.row_count,
            member.c.ingested_at,
        )
        .select_from(member)
        .join(instrument, instrument.c.instrument_id == member.c.instrument_id)
        .join(issuer, issuer.c.issuer_id == instrument.c.issuer_id)
        .where(member.c.dataset_id == dataset_id)
    )
    rows = _dicts(connection.execute(query).all())
    # Sorted here: the order of text depends on the database's collation.
    return sorted(rows, key=lambda row: str(row["instrument_id"]))


def _market(market_id: str) -> Fact:
    MarketCalendar.of(market_id)
    region = next(region for region, market in REGIONS.items() if market == market_id)
    names = {"market_id": market_id, "name": f"{region} equities", "region": region}
    return names | {"timezone": TIMEZONES[market_id]}


def _issuer(fact: Fact) -> Fact:
    issuer_type = "INDEX" if fact["asset_class"] == "INDEX" else "COMPANY"
    known = {name: fact.get(name) for name in ("issuer_id", "name", "sector", "industry")}
    return known | {"issuer_type": issuer_type}


def _instrument(fact: Fact, market_id: str) -> Fact:
    names = ("instrument_id", "issuer_id", "asset_class", "symbol", "exchange", "currency")
    return {name: fact.get(name) for name in names} | {"market_id": market_id}


def _merge(connection: Connection, table: Table, facts: Sequence[Fact]) -> int:
    """Insert new facts and update changed ones; a None never replaces a value."""
    (key,) = table.primary_key.columns
    stored = {row[key.name]: row for row in _dicts(connection.execute(select(table)).all())}
    now, changed = datetime.now(UTC), []
    for fact in facts:
        known = {name: value for name, value in fact.items() if value is not None}
        old = stored.get(fact[key.name], {})
        merged = {name: old.get(name) for name in fact} | known
        if any(old.get(name) != value for name, value in merged.items()):
            created = old.get("created_at", now)
            changed.append(merged | {"created_at": created, "updated_at": now})
    if changed:
        columns = list(changed[0])
        upsert(
            connection, table, columns, [tuple(row[name] for name in columns) for row in changed]
        )
    return len(changed)


def _dataset(connection: Connection, dataset_id: str) -> dict[str, Any] | None:
    query = select(tables.datasets).where(tables.datasets.c.dataset_id == dataset_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else dict(row._mapping)


def require_dataset(connection: Connection, dataset_id: str) -> dict[str, Any]:
    """Return what a dataset is, or raise `StoreError` naming those that exist."""
    dataset = _dataset(connection, dataset_id)
    if dataset is None:
        ids = connection.execute(select(tables.datasets.c.dataset_id)).scalars().all()
        known = ", ".join(sorted(ids)) or "none yet; ingest one first"
        raise StoreError(f"no dataset {dataset_id!r}; known datasets: {known}")
    return dataset


def _dicts(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in rows]
