"""Scenario sets: what each was made from, and where its arrays are."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the table of scenario sets."""
    op.create_table(
        "scenario_sets",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("spec_hash", sa.String(length=32), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("num_paths", sa.Integer(), nullable=False),
        sa.Column("num_instruments", sa.Integer(), nullable=False),
        sa.Column("base_date_start", sa.Date(), nullable=True),
        sa.Column("base_date_end", sa.Date(), nullable=True),
        sa.Column("regime_filter", sa.String(length=32), nullable=True),
        sa.Column("generator_spec", DOCUMENT, nullable=False),
        sa.Column("data_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "name", "as_of_date", name=op.f("pk_scenario_sets")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("scenario_sets", schema=None) as batch_op:
        batch_op.create_index("ix_scenario_sets_name", ["name", "as_of_date"], unique=False)


def downgrade() -> None:
    """Drop the table of scenario sets."""
    with op.batch_alter_table("scenario_sets", schema=None) as batch_op:
        batch_op.drop_index("ix_scenario_sets_name")
    op.drop_table("scenario_sets")
