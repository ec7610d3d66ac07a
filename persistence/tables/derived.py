"""Tables of derived data: what prices imply, computed once per session and kept as rows.

A missing value is NULL or has no row, and is never 0. Rows follow the files that `derived_sets`
names: those hold every session, the tables as many as somebody asked for.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)
from sqlalchemy.schema import SchemaItem

from persistence.tables.historical import HISTORICAL
from persistence.tables.types import JSON, UtcDateTime


def _key(name: str, length: int = 50) -> "Column[str]":
    return Column(name, String(length), primary_key=True)


def _derived(name: str, *columns: SchemaItem, known: str = "known_at") -> Table:
    return Table(
        name,
        HISTORICAL,
        Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
        *columns,
        Column(known, UtcDateTime, nullable=False),
        Column("computed_at", UtcDateTime, nullable=False),
        Column("metadata", JSON),
        sqlite_with_rowid=False,
    )


returns_daily = _derived(
    "returns_daily",
    _key("instrument_id"),
    Column("trade_date", Date, primary_key=True),
    Column("ret_1d", Double),
    Column("ret_5d", Double),
    Column("ret_21d", Double),
    Index(None, "dataset_id", "trade_date"),
)

volatility_daily = _derived(
    "volatility_daily",
    _key("instrument_id"),
    Column("trade_date", Date, primary_key=True),
    Column("vol_21d", Double),
    Column("vol_63d", Double),
    Index(None, "dataset_id", "trade_date"),
)

factors_daily = _derived(
    "factors_daily",
    _key("factor_id", 128),
    Column("trade_date", Date, primary_key=True),
    Column("value", Double, nullable=False),
)

instrument_factors_daily = _derived(
    "instrument_factors_daily",
    _key("instrument_id"),
    Column("trade_date", Date, primary_key=True),
    _key("factor_id", 128),
    Column("exposure", Double, nullable=False),
    Index(None, "dataset_id", "trade_date"),
)

features_daily = _derived(
    "features_daily",
    Column("as_of", Date, primary_key=True),
    _key("instrument_id"),
    _key("feature", 64),
    Column("value", Double, nullable=False),
    known="available_at",
)

correlation_panels = Table(
    "correlation_panels",
    HISTORICAL,
    Column("panel_id", String(128), primary_key=True),
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date, nullable=False),
    Column("universe_spec", JSON, nullable=False),
    Column("matrix_ref", String(512), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("known_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "dataset_id", "end_date"),
)

derived_sets = Table(
    "derived_sets",
    HISTORICAL,
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("name", String(32), primary_key=True),
    # Hash of the data, the code and the last session: equal keys, equal values.
    Column("set_key", String(16), nullable=False),
    Column("data_fingerprint", String(32), nullable=False),
    Column("first_date", Date, nullable=False),
    Column("last_date", Date, nullable=False),
    # First session with rows in the table; NULL while nobody has asked for any.
    Column("rows_since", Date),
    Column("path", String(512), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("computed_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
