"""Prices of datasets, who is traded, corporate actions and quality findings."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create every table of the historical database."""
    op.create_table(
        "issuers",
        sa.Column("issuer_id", sa.String(50), nullable=False),
        sa.Column("issuer_type", sa.String(50), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("country", sa.String(50)),
        sa.Column("sector", sa.String(100)),
        sa.Column("industry", sa.String(100)),
        sa.Column("metadata", DOCUMENT),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("issuer_id", name="pk_issuers"),
    )
    op.create_table(
        "markets",
        sa.Column("market_id", sa.String(50), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("region", sa.String(50), nullable=False),
        sa.Column("timezone", sa.String(50), nullable=False),
        sa.Column("calendar_spec", DOCUMENT),
        sa.Column("metadata", DOCUMENT),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("market_id", name="pk_markets"),
    )
    op.create_table(
        "datasets",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("market_id", sa.String(50), nullable=False),
        sa.Column("adjustment", sa.String(16), nullable=False),
        sa.Column("synthetic_bars", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("survivorship", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "adjustment IN ('AS_TRADED', 'TOTAL_RETURN')", name=op.f("ck_datasets_adjustment")
        ),
        sa.ForeignKeyConstraint(
            ["market_id"], ["markets.market_id"], name="fk_datasets_market_id_markets"
        ),
        sa.PrimaryKeyConstraint("dataset_id", name="pk_datasets"),
    )
    op.create_table(
        "instruments",
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("issuer_id", sa.String(50)),
        sa.Column("market_id", sa.String(50)),
        sa.Column("asset_class", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("exchange", sa.String(50)),
        sa.Column("currency", sa.String(10), nullable=False),
        sa.Column("multiplier", sa.Double()),
        sa.Column("maturity_date", sa.Date()),
        sa.Column("underlying_instrument_id", sa.String(50)),
        sa.Column("status", sa.String(20), server_default="ACTIVE", nullable=False),
        sa.Column("metadata", DOCUMENT),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["issuer_id"], ["issuers.issuer_id"], name="fk_instruments_issuer_id_issuers"
        ),
        sa.ForeignKeyConstraint(
            ["market_id"], ["markets.market_id"], name="fk_instruments_market_id_markets"
        ),
        sa.PrimaryKeyConstraint("instrument_id", name="pk_instruments"),
    )
    op.create_index("ix_instruments_issuer_id", "instruments", ["issuer_id"])
    op.create_index("ix_instruments_market_id", "instruments", ["market_id"])
    op.create_index("ix_instruments_status", "instruments", ["status"])
    op.create_table(
        "data_quality_events",
        sa.Column("event_id", sa.String(16), nullable=False),
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("instrument_id", sa.String(50)),
        sa.Column("trade_date", sa.Date()),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("source_file", sa.Text()),
        sa.Column("source_row", sa.Integer()),
        sa.Column("source_column", sa.String(128)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name="fk_data_quality_events_dataset_id_datasets",
        ),
        sa.PrimaryKeyConstraint("event_id", name="pk_data_quality_events"),
    )
    op.create_index(
        "ix_data_quality_events_dataset_id_instrument_id",
        "data_quality_events",
        ["dataset_id", "instrument_id"],
    )
    op.create_table(
        "dataset_instruments",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("first_date", sa.Date()),
        sa.Column("last_date", sa.Date()),
        sa.Column("row_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name="fk_dataset_instruments_dataset_id_datasets",
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instruments.instrument_id"],
            name="fk_dataset_instruments_instrument_id_instruments",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "instrument_id", name="pk_dataset_instruments"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "corporate_actions",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("ex_date", sa.Date(), nullable=False),
        sa.Column("action_type", sa.String(16), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT),
        sa.CheckConstraint(
            "action_type IN ('SPLIT', 'DIVIDEND')", name=op.f("ck_corporate_actions_action_type")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id", "instrument_id"],
            ["dataset_instruments.dataset_id", "dataset_instruments.instrument_id"],
            name="fk_corporate_actions_dataset_id_dataset_instruments",
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "instrument_id", "ex_date", "action_type", name="pk_corporate_actions"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prices_daily",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("open", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("close", sa.Double(), nullable=False),
        sa.Column("adjusted_close", sa.Double()),
        sa.Column("volume", sa.Double()),
        sa.Column("currency", sa.String(10), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
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


def downgrade() -> None:
    """Drop every table of the historical database."""
    op.drop_table("prices_daily")
    op.drop_table("corporate_actions")
    op.drop_table("dataset_instruments")
    op.drop_table("data_quality_events")
    op.drop_table("instruments")
    op.drop_table("datasets")
    op.drop_table("markets")
    op.drop_table("issuers")
