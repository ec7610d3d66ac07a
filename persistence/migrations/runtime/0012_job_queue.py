"""Jobs have a priority, a time before which they wait, a submitter and lines of a log."""  # noqa: N999

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns, say of older jobs what is known, then make them required."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("timeout_seconds", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("submitted_by", sa.String(length=128), nullable=True))
    op.execute("UPDATE jobs SET priority = 2, not_before = created_at, submitted_by = 'unknown'")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("priority", existing_type=sa.Integer(), nullable=False)
        batch_op.alter_column(
            "not_before", existing_type=sa.DateTime(timezone=True), nullable=False
        )
        batch_op.alter_column("submitted_by", existing_type=sa.String(length=128), nullable=False)
        batch_op.create_index("ix_jobs_kind", ["kind", "created_at"], unique=False)
        batch_op.create_index(
            "ix_jobs_claim", ["status", "priority", "created_at", "job_id"], unique=False
        )

    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sequence", name=op.f("pk_job_logs")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop what was added."""
    op.drop_table("job_logs")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_claim")
        batch_op.drop_index("ix_jobs_kind")
        for name in ("submitted_by", "timeout_seconds", "not_before", "priority"):
            batch_op.drop_column(name)
