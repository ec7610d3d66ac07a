"""Leases and waits of a day's jobs; a day of each mode is a run of its own."""  # noqa: N999

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

NARROW = "uq_engine_runs_as_of_date_region_strategy_id"
WIDE = f"{NARROW}_mode"
DAY = ["as_of_date", "region", "strategy_id"]
WITHOUT_ROWID = {"sqlite_with_rowid": False}


def upgrade() -> None:
    """Add the columns, and the mode to what makes a day unique; runs keep their ids."""
    with op.batch_alter_table("job_executions", table_kwargs=WITHOUT_ROWID) as batch_op:
        batch_op.add_column(sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("owner", sa.String(length=128), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("engine_runs", table_kwargs=WITHOUT_ROWID) as batch_op:
        batch_op.drop_constraint(op.f(NARROW), type_="unique")
        batch_op.create_unique_constraint(op.f(WIDE), [*DAY, "mode"])


def downgrade() -> None:
    """Take them away; it fails where a day has runs of two modes."""
    with op.batch_alter_table("engine_runs", table_kwargs=WITHOUT_ROWID) as batch_op:
        batch_op.drop_constraint(op.f(WIDE), type_="unique")
        batch_op.create_unique_constraint(op.f(NARROW), DAY)
    with op.batch_alter_table("job_executions", table_kwargs=WITHOUT_ROWID) as batch_op:
        batch_op.drop_column("lease_until")
        batch_op.drop_column("owner")
        batch_op.drop_column("next_attempt_at")
