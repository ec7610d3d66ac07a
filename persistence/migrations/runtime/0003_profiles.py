"""Profiles of the instruments."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the table of the profiles engine."""
    op.create_table(
        "profiles",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("structured", DOCUMENT, nullable=False),
        sa.Column("risk_flags", DOCUMENT, nullable=False),
        sa.Column("weak_profile", sa.Boolean(), nullable=True),
        sa.Column("schema_id", sa.String(length=64), nullable=False),
        sa.Column("snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "as_of_date", "instrument_id", name=op.f("pk_profiles")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the table of the profiles engine."""
    op.drop_table("profiles")
