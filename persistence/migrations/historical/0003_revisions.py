"""Prices under small keys, and every revision of a dataset kept.

1. `bars` takes the rows of `prices_daily`, which becomes a view of them under the names it had.
2. The times at which rows were ingested become the revisions of their dataset; only the newest can
   be rebuilt, since what earlier ones held was overwritten.
3. History tables take what later revisions replace.
"""  # noqa: N999

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
NUMBERS = "open, high, low, close, adjusted_close, volume"
NAMES = f"dataset_id, instrument_id, trade_date, {NUMBERS}, currency, source, known_at, ingested_at"

SPEECH = {
    "sqlite": {
        "day": "CAST(julianday(p.trade_date) - 2440587.5 AS INTEGER)",
        "seconds": "CAST(strftime('%s', p.known_at) AS INTEGER)",
        "date": "date(b.day * 86400, 'unixepoch')",
        "moment": "datetime(b.known_at, 'unixepoch') || '.000000'",
    },
    "postgresql": {
        "day": "p.trade_date - DATE '1970-01-01'",
        "seconds": "CAST(EXTRACT(EPOCH FROM p.known_at) AS BIGINT)",
        "date": "DATE '1970-01-01' + b.day",
        "moment": "to_timestamp(b.known_at)",
    },
}
"""What the two engines say differently."""


def upgrade() -> None:
    """Move the prices under small keys, and keep what later revisions replace."""
    _add_columns()
    _create_tables()
    _number_revisions()
    _describe_members()
    _move_prices()
    op.drop_table("prices_daily")
    op.execute(_view())


def downgrade() -> None:
    """Move the newest prices back under their names; what they replaced is lost."""
    _create_prices("restored_prices")
    op.execute(f"INSERT INTO restored_prices ({NAMES}) SELECT {NAMES} FROM prices_daily")
    op.execute("DROP VIEW prices_daily")
    op.rename_table("restored_prices", "prices_daily")
    for name in ("bars", "bars_history", "corporate_actions_history"):
        op.drop_table(name)
    op.drop_table("dataset_instruments_history")
    op.drop_table("dataset_revisions")
    op.drop_index("uq_dataset_instruments_series_id", "dataset_instruments")
    for name in ("series_id", "asset_class", "sector", "currency", "revision"):
        op.drop_column("dataset_instruments", name)
    op.drop_column("corporate_actions", "revision")
    op.drop_column("datasets", "oldest_revision")


def _speech() -> dict[str, str]:
    return SPEECH[op.get_bind().dialect.name]


def _add_columns() -> None:
    one, none = {"server_default": "1"}, {"server_default": "0"}
    op.add_column("datasets", _count("oldest_revision", **one))
    op.add_column("corporate_actions", _count("revision", **none))
    for column in (
        sa.Column("series_id", sa.Integer()),
        sa.Column("asset_class", sa.String(50)),
        sa.Column("sector", sa.String(100)),
        sa.Column("currency", sa.String(10)),
        _count("revision", **none),
    ):
        op.add_column("dataset_instruments", column)


def _create_tables() -> None:
    op.create_table(
        "dataset_revisions",
        _text("dataset_id", 64),
        _count("revision"),
        _text("source", 128),
        _text("writer", 32),
        _count("rows_changed"),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("fingerprint", sa.String(16)),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.dataset_id"], name="fk_dataset_revisions_dataset_id_datasets"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "revision", name="pk_dataset_revisions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dataset_instruments_history",
        _text("dataset_id", 64),
        _text("instrument_id", 50),
        _count("revision"),
        _count("superseded"),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("first_date", sa.Date()),
        sa.Column("last_date", sa.Date()),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("asset_class", sa.String(50)),
        sa.Column("sector", sa.String(100)),
        sa.PrimaryKeyConstraint(
            "dataset_id", "instrument_id", "revision", name="pk_dataset_instruments_history"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bars",
        *_bar(),
        sa.PrimaryKeyConstraint("series_id", "day", name="pk_bars"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bars_history",
        *_bar(),
        _count("superseded"),
        sa.PrimaryKeyConstraint("series_id", "day", "revision", name="pk_bars_history"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "corporate_actions_history",
        _text("dataset_id", 64),
        _text("instrument_id", 50),
        sa.Column("ex_date", sa.Date(), nullable=False),
        _text("action_type", 16),
        sa.Column("value", sa.Double(), nullable=False),
        _text("source", 128),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT),
        _count("revision"),
        _count("superseded"),
        sa.PrimaryKeyConstraint(
            *("dataset_id", "instrument_id", "ex_date", "action_type", "revision"),
            name="pk_corporate_actions_history",
        ),
        sqlite_with_rowid=False,
    )


def _number_revisions() -> None:
    op.execute(
        "INSERT INTO dataset_revisions"
        " (dataset_id, revision, source, writer, rows_changed, ingested_at, closed_at)"
        " SELECT dataset_id, row_number() OVER (PARTITION BY dataset_id ORDER BY ingested_at),"
        " min(source), 'migration', count(*), ingested_at, ingested_at"
        " FROM prices_daily GROUP BY dataset_id, ingested_at"
    )
    op.execute(f"UPDATE datasets SET revision = {_newest('datasets')}")
    op.execute("UPDATE datasets SET oldest_revision = revision WHERE revision > 0")
    op.execute(f"UPDATE corporate_actions SET revision = {_newest('corporate_actions')}")


def _newest(table: str) -> str:
    return (
        "(SELECT coalesce(max(r.revision), 0) FROM dataset_revisions r"
        f" WHERE r.dataset_id = {table}.dataset_id)"
    )


def _describe_members() -> None:
    of_member = (
        "d.dataset_id = dataset_instruments.dataset_id"
        " AND d.instrument_id = dataset_instruments.instrument_id"
    )
    op.execute(
        "UPDATE dataset_instruments SET series_id = d.number,"
        f" revision = {_newest('dataset_instruments')} FROM (SELECT dataset_id, instrument_id,"
        " row_number() OVER (ORDER BY dataset_id, instrument_id) AS number"
        f" FROM dataset_instruments) AS d WHERE {of_member}"
    )
    op.execute(
        "UPDATE dataset_instruments SET asset_class = d.asset_class, sector = d.sector,"
        " currency = d.currency FROM (SELECT m.dataset_id, m.instrument_id, i.asset_class,"
        " s.sector, coalesce((SELECT max(p.currency) FROM prices_daily p WHERE"
        " p.dataset_id = m.dataset_id AND p.instrument_id = m.instrument_id), i.currency)"
        " AS currency FROM dataset_instruments m"
        " JOIN instruments i ON i.instrument_id = m.instrument_id"
        f" JOIN issuers s ON s.issuer_id = i.issuer_id) AS d WHERE {of_member}"
    )
    op.create_index(
        "uq_dataset_instruments_series_id", "dataset_instruments", ["series_id"], unique=True
    )


def _move_prices() -> None:
    speech = _speech()
    op.execute(
        f"INSERT INTO bars (series_id, day, {NUMBERS}, known_at, revision)"
        f" SELECT m.series_id, {speech['day']}, {NUMBERS}, {speech['seconds']}, r.revision"
        " FROM prices_daily p JOIN dataset_instruments m"
        " ON m.dataset_id = p.dataset_id AND m.instrument_id = p.instrument_id"
        " JOIN dataset_revisions r"
        " ON r.dataset_id = p.dataset_id AND r.ingested_at = p.ingested_at"
    )


def _view() -> str:
    speech = _speech()
    return (
        f"CREATE VIEW prices_daily AS SELECT m.dataset_id, m.instrument_id,"
        f" {speech['date']} AS trade_date, {NUMBERS}, m.currency, r.source,"
        f" {speech['moment']} AS known_at, r.ingested_at, NULL AS metadata, b.revision"
        " FROM bars b JOIN dataset_instruments m ON m.series_id = b.series_id"
        " JOIN dataset_revisions r ON r.dataset_id = m.dataset_id AND r.revision = b.revision"
    )


def _create_prices(name: str) -> None:
    op.create_table(
        name,
        _text("dataset_id", 64),
        _text("instrument_id", 50),
        sa.Column("trade_date", sa.Date(), nullable=False),
        *_numbers(),
        _text("currency", 10),
        _text("source", 128),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT),
        sa.ForeignKeyConstraint(
            ["dataset_id", "instrument_id"],
            ["dataset_instruments.dataset_id", "dataset_instruments.instrument_id"],
            name="fk_prices_daily_dataset_id_dataset_instruments",
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "instrument_id", "trade_date", name="pk_prices_daily"
        ),
        sqlite_with_rowid=False,
    )


def _bar() -> list[sa.Column[Any]]:
    keys = [sa.Column(name, sa.Integer(), nullable=False) for name in ("series_id", "day")]
    return [*keys, *_numbers(), _count("known_at"), _count("revision")]


def _numbers() -> list[sa.Column[Any]]:
    required = ("open", "high", "low", "close")
    return [
        sa.Column(name, sa.Double(), nullable=name not in required) for name in NUMBERS.split(", ")
    ]


def _text(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=False)


def _count(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False, **options)
