"""Tables of the historical database: who is traded, where, and at what prices."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from persistence.tables.types import JSON, NAMING_CONVENTION, UtcDateTime

HISTORICAL = MetaData(naming_convention=NAMING_CONVENTION)
VIEWS = MetaData()
"""What is read like a table and belongs to no schema comparison: views, made by migrations."""

markets = Table(
    "markets",
    HISTORICAL,
    Column("market_id", String(50), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("region", String(50), nullable=False),
    Column("timezone", String(50), nullable=False),
    Column("calendar_spec", JSON),
    Column("metadata", JSON),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

issuers = Table(
    "issuers",
    HISTORICAL,
    Column("issuer_id", String(50), primary_key=True),
    Column("issuer_type", String(50), nullable=False),
    Column("name", String(200), nullable=False),
    Column("country", String(50)),
    Column("sector", String(100)),
    Column("industry", String(100)),
    Column("metadata", JSON),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

instruments = Table(
    "instruments",
    HISTORICAL,
    Column("instrument_id", String(50), primary_key=True),
    Column("issuer_id", String(50), ForeignKey("issuers.issuer_id")),
    Column("market_id", String(50), ForeignKey("markets.market_id")),
    Column("asset_class", String(50), nullable=False),
    Column("symbol", String(50), nullable=False),
    Column("exchange", String(50)),
    Column("currency", String(10), nullable=False),
    Column("multiplier", Double),
    Column("maturity_date", Date),
    Column("underlying_instrument_id", String(50)),
    Column("status", String(20), nullable=False, server_default="ACTIVE"),
    Column("metadata", JSON),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "issuer_id"),
    Index(None, "market_id"),
    Index(None, "status"),
)

# `valid_from` and `listed_on` are part of keys, so "since ever" is the first date there is.
instrument_symbols = Table(
    "instrument_symbols",
    HISTORICAL,
    Column("scheme", String(32), primary_key=True),
    Column("symbol", String(50), primary_key=True),
    Column("instrument_id", String(50), ForeignKey("instruments.instrument_id"), primary_key=True),
    Column("valid_from", Date, primary_key=True),
    Column("valid_to", Date),
    Column("source", String(128), nullable=False),
    Column("known_at", UtcDateTime, nullable=False),
    Index(None, "instrument_id"),
)

instrument_listings = Table(
    "instrument_listings",
    HISTORICAL,
    Column("instrument_id", String(50), ForeignKey("instruments.instrument_id"), primary_key=True),
    Column("exchange", String(50), primary_key=True),
    Column("listed_on", Date, primary_key=True),
    Column("delisted_on", Date),
    Column("reason", Text),
    Column("delisting_return", Double),
    Column("source", String(128), nullable=False),
    Column("known_at", UtcDateTime, nullable=False),
)

instrument_specs = Table(
    "instrument_specs",
    HISTORICAL,
    Column("instrument_id", String(50), ForeignKey("instruments.instrument_id"), primary_key=True),
    # Text: a tick of 0.0001 must come back as it was written.
    Column("tick_size", String(32)),
    Column("lot_size", Integer),
    Column("price_precision", Integer),
    Column("source", String(128), nullable=False),
    Column("known_at", UtcDateTime, nullable=False),
)

datasets = Table(
    "datasets",
    HISTORICAL,
    Column("dataset_id", String(64), primary_key=True),
    Column("source", String(128), nullable=False),
    Column("market_id", String(50), ForeignKey("markets.market_id"), nullable=False),
    Column("adjustment", String(16), nullable=False),
    Column("synthetic_bars", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("survivorship", Text, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    # How it was made, so that what is broken can be read again: kind, path, options; no secret.
    Column("origin", JSON),
    # Earlier revisions were overwritten before the store kept what it replaces.
    Column("oldest_revision", BigInteger, nullable=False, server_default="1"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    CheckConstraint("adjustment IN ('AS_TRADED', 'TOTAL_RETURN')", name="adjustment"),
)

dataset_revisions = Table(
    "dataset_revisions",
    HISTORICAL,
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("source", String(128), nullable=False),
    # Who may add to the revision, until it is closed: one ingest is one revision.
    Column("writer", String(32), nullable=False),
    Column("rows_changed", BigInteger, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    # Of the panel, once somebody has loaded it.
    Column("fingerprint", String(16)),
    sqlite_with_rowid=False,
)

dataset_instruments = Table(
    "dataset_instruments",
    HISTORICAL,
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("instrument_id", String(50), ForeignKey("instruments.instrument_id"), primary_key=True),
    # What bars holds of the instrument, kept by the writer of prices in its transaction:
    # counting 1.3 million rows at every start would cost more than reading the cached panel.
    Column("first_date", Date),
    Column("last_date", Date),
    Column("row_count", Integer, nullable=False, server_default="0"),
    Column("ingested_at", UtcDateTime),
    Column("series_id", Integer),
    # What the panel says of the instrument, copied so that a revision keeps it.
    Column("asset_class", String(50)),
    Column("sector", String(100)),
    Column("currency", String(10)),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Index("uq_dataset_instruments_series_id", "series_id", unique=True),
    sqlite_with_rowid=False,
)

dataset_instruments_history = Table(
    "dataset_instruments_history",
    HISTORICAL,
    Column("dataset_id", String(64), primary_key=True),
    Column("instrument_id", String(50), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("superseded", BigInteger, nullable=False),
    Column("series_id", Integer, nullable=False),
    Column("first_date", Date),
    Column("last_date", Date),
    Column("row_count", Integer, nullable=False),
    Column("asset_class", String(50)),
    Column("sector", String(100)),
    sqlite_with_rowid=False,
)


def _numbers_of_a_bar() -> list[Column[Any]]:
    required = [Column(name, Double, nullable=False) for name in ("open", "high", "low", "close")]
    return [*required, Column("adjusted_close", Double), Column("volume", Double)]


bars = Table(
    "bars",
    HISTORICAL,
    # Small integer keys: half the size and three times the speed of the names they stand for.
    # No foreign key: its check per row would cost PostgreSQL more than the row itself.
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    # Days since 1970-01-01.
    Column("day", Integer, primary_key=True, autoincrement=False),
    *_numbers_of_a_bar(),
    # Seconds since 1970-01-01 UTC.
    Column("known_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

bars_history = Table(
    "bars_history",
    HISTORICAL,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    *_numbers_of_a_bar(),
    Column("known_at", BigInteger, nullable=False),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    # The revision that replaced it.
    Column("superseded", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

prices_daily = Table(
    "prices_daily",
    VIEWS,
    Column("dataset_id", String(64), primary_key=True),
    Column("instrument_id", String(50), primary_key=True),
    Column("trade_date", Date, primary_key=True),
    *_numbers_of_a_bar(),
    Column("currency", String(10), nullable=False),
    Column("source", String(128), nullable=False),
    Column("known_at", UtcDateTime, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
)


def _action() -> list[Column[Any]]:
    return [
        Column("dataset_id", String(64), primary_key=True),
        Column("instrument_id", String(50), primary_key=True),
        Column("ex_date", Date, primary_key=True),
        Column("action_type", String(16), primary_key=True),
        Column("value", Double, nullable=False),
        Column("source", String(128), nullable=False),
        Column("known_at", UtcDateTime, nullable=False),
        Column("ingested_at", UtcDateTime, nullable=False),
        Column("metadata", JSON),
    ]


corporate_actions = Table(
    "corporate_actions",
    HISTORICAL,
    *_action(),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["dataset_id", "instrument_id"],
        ["dataset_instruments.dataset_id", "dataset_instruments.instrument_id"],
    ),
    CheckConstraint("action_type IN ('SPLIT', 'DIVIDEND')", name="action_type"),
    sqlite_with_rowid=False,
)

corporate_actions_history = Table(
    "corporate_actions_history",
    HISTORICAL,
    *_action(),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("superseded", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

data_quality_events = Table(
    "data_quality_events",
    HISTORICAL,
    Column("event_id", String(16), primary_key=True),
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), nullable=False),
    Column("instrument_id", String(50)),
    Column("trade_date", Date),
    Column("rule", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("value", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("source_file", Text),
    Column("source_row", Integer),
    Column("source_column", String(128)),
    Column("created_at", UtcDateTime, nullable=False),
    # An ingest knows nothing of an audit's findings: each resolves its own.
    Column("found_by", String(32), nullable=False, server_default="ingest"),
    # When it was no longer met, and by whom: findings are resolved, never deleted.
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", String(32)),
    Index(None, "dataset_id", "instrument_id"),
)

data_ingestion_status = Table(
    "data_ingestion_status",
    HISTORICAL,
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("as_of_date", Date, primary_key=True),
    Column("market_id", String(50), ForeignKey("markets.market_id"), nullable=False),
    Column("status", String(20), nullable=False),
    Column("last_price_timestamp", UtcDateTime),
    Column("instruments_received", Integer, nullable=False),
    Column("instruments_expected", Integer, nullable=False),
    Column("error_message", Text),
    Column("error_details", JSON),
    Column("started_at", UtcDateTime),
    Column("completed_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    CheckConstraint("status IN ('PENDING', 'IN_PROGRESS', 'COMPLETE', 'FAILED')", name="status"),
    Index(None, "status", "as_of_date"),
)
