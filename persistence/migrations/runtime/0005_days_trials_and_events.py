"""Days and how far they have come, the ledger of trials, and sealed streams of events."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "engine_run_attempts",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", DOCUMENT, nullable=True),
        sa.Column("coverage", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "phase", "attempt", name=op.f("pk_engine_run_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engine_runs",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("failed_phase", sa.String(length=32), nullable=True),
        sa.Column("error", DOCUMENT, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("config_hash", sa.String(length=32), nullable=True),
        sa.Column("data_fingerprint", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("phase_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase_completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_engine_runs")),
        sa.UniqueConstraint(
            "as_of_date",
            "region",
            "strategy_id",
            name=op.f("uq_engine_runs_as_of_date_region_strategy_id"),
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("engine_runs", schema=None) as batch_op:
        batch_op.create_index("ix_engine_runs_phase", ["phase", "as_of_date"], unique=False)

    op.create_table(
        "events",
        sa.Column("stream", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("stream", "sequence", name=op.f("pk_events")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trials",
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("market_id", sa.String(length=32), nullable=False),
        sa.Column("sleeve_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=512), nullable=True),
        sa.Column("params_hash", sa.String(length=32), nullable=False),
        sa.Column("data_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("code_hash", sa.String(length=32), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=False),
        sa.Column("end_date", sa.Date(), nullable=False),
        sa.Column("sharpe_per_session", sa.Double(), nullable=True),
        sa.Column("observations", sa.Integer(), nullable=True),
        sa.Column("skew", sa.Double(), nullable=True),
        sa.Column("kurtosis", sa.Double(), nullable=True),
        sa.Column("autocorrelation", sa.Double(), nullable=True),
        sa.Column("returns_hash", sa.String(length=32), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_trials")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.create_index("ix_trials_family", ["family", "start_date"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.drop_index("ix_trials_family")

    op.drop_table("trials")
    op.drop_table("events")
    with op.batch_alter_table("engine_runs", schema=None) as batch_op:
        batch_op.drop_index("ix_engine_runs_phase")

    op.drop_table("engine_runs")
    op.drop_table("engine_run_attempts")
