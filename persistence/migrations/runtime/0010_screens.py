"""What the screen of a campaign's variant found, and how far its run was from it."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Add the columns."""
    op.add_column("campaign_trials", sa.Column("screen", DOCUMENT, nullable=True))
    op.add_column("campaign_trials", sa.Column("gap_bps", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("campaign_trials", "gap_bps")
    op.drop_column("campaign_trials", "screen")
