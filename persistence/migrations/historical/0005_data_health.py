"""Where a dataset came from, who found and resolved a fault, and how far an ingest has come."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add the origin of datasets, the finders of findings, and the status of ingests."""
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("origin", DOCUMENT, nullable=True))
    with op.batch_alter_table("data_quality_events", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("found_by", sa.String(32), nullable=False, server_default="ingest")
        )
        batch_op.add_column(sa.Column("resolved_by", sa.String(32), nullable=True))
    op.execute(
        "UPDATE data_quality_events SET resolved_by = 'ingest' WHERE resolved_at IS NOT NULL"
    )
    op.create_table(
        "data_ingestion_status",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("market_id", sa.String(50), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("last_price_timestamp", sa.DateTime(timezone=True)),
        sa.Column("instruments_received", sa.Integer(), nullable=False),
        sa.Column("instruments_expected", sa.Integer(), nullable=False),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_details", DOCUMENT),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('PENDING', 'IN_PROGRESS', 'COMPLETE', 'FAILED')",
            name=op.f("ck_data_ingestion_status_status"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name="fk_data_ingestion_status_dataset_id_datasets",
        ),
        sa.ForeignKeyConstraint(
            ["market_id"],
            ["markets.market_id"],
            name="fk_data_ingestion_status_market_id_markets",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "as_of_date", name="pk_data_ingestion_status"),
    )
    op.create_index(
        "ix_data_ingestion_status_status_as_of_date",
        "data_ingestion_status",
        ["status", "as_of_date"],
    )


def downgrade() -> None:
    """Drop the status of ingests, the finders of findings and the origin of datasets."""
    op.drop_table("data_ingestion_status")
    with op.batch_alter_table("data_quality_events", schema=None) as batch_op:
        batch_op.drop_column("resolved_by")
        batch_op.drop_column("found_by")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("origin")
