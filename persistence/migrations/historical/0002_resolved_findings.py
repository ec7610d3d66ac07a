"""Findings about the data can be resolved."""  # noqa: N999

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the time at which a finding was resolved."""
    with op.batch_alter_table("data_quality_events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the time at which a finding was resolved."""
    with op.batch_alter_table("data_quality_events", schema=None) as batch_op:
        batch_op.drop_column("resolved_at")
