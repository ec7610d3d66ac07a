"""Derived data: returns, volatility, factors, exposures, features, correlations."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the tables of derived data, and of the files behind them."""
    op.create_table(
        "correlation_panels",
        sa.Column("panel_id", sa.String(length=128), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=False),
        sa.Column("end_date", sa.Date(), nullable=False),
        sa.Column("universe_spec", DOCUMENT, nullable=False),
        sa.Column("matrix_ref", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_correlation_panels_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("panel_id", name=op.f("pk_correlation_panels")),
    )
    with op.batch_alter_table("correlation_panels", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_correlation_panels_dataset_id_end_date"),
            ["dataset_id", "end_date"],
            unique=False,
        )

    op.create_table(
        "derived_sets",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("set_key", sa.String(length=16), nullable=False),
        sa.Column("data_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("first_date", sa.Date(), nullable=False),
        sa.Column("last_date", sa.Date(), nullable=False),
        sa.Column("rows_since", sa.Date(), nullable=True),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_derived_sets_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("dataset_id", "name", name=op.f("pk_derived_sets")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "factors_daily",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("factor_id", sa.String(length=128), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_factors_daily_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "factor_id", "trade_date", name=op.f("pk_factors_daily")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "features_daily",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("feature", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_features_daily_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "as_of", "instrument_id", "feature", name=op.f("pk_features_daily")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "instrument_factors_daily",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("factor_id", sa.String(length=128), nullable=False),
        sa.Column("exposure", sa.Double(), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_instrument_factors_daily_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id",
            "instrument_id",
            "trade_date",
            "factor_id",
            name=op.f("pk_instrument_factors_daily"),
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("instrument_factors_daily", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_instrument_factors_daily_dataset_id_trade_date"),
            ["dataset_id", "trade_date"],
            unique=False,
        )

    op.create_table(
        "returns_daily",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("ret_1d", sa.Double(), nullable=True),
        sa.Column("ret_5d", sa.Double(), nullable=True),
        sa.Column("ret_21d", sa.Double(), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_returns_daily_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "instrument_id", "trade_date", name=op.f("pk_returns_daily")
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("returns_daily", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_returns_daily_dataset_id_trade_date"),
            ["dataset_id", "trade_date"],
            unique=False,
        )

    op.create_table(
        "volatility_daily",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("vol_21d", sa.Double(), nullable=True),
        sa.Column("vol_63d", sa.Double(), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_volatility_daily_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id", "instrument_id", "trade_date", name=op.f("pk_volatility_daily")
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("volatility_daily", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_volatility_daily_dataset_id_trade_date"),
            ["dataset_id", "trade_date"],
            unique=False,
        )


def downgrade() -> None:
    """Drop the tables of derived data."""
    with op.batch_alter_table("volatility_daily", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_volatility_daily_dataset_id_trade_date"))

    op.drop_table("volatility_daily")
    with op.batch_alter_table("returns_daily", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_returns_daily_dataset_id_trade_date"))

    op.drop_table("returns_daily")
    with op.batch_alter_table("instrument_factors_daily", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instrument_factors_daily_dataset_id_trade_date"))

    op.drop_table("instrument_factors_daily")
    op.drop_table("features_daily")
    op.drop_table("factors_daily")
    op.drop_table("derived_sets")
    with op.batch_alter_table("correlation_panels", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_correlation_panels_dataset_id_end_date"))

    op.drop_table("correlation_panels")
