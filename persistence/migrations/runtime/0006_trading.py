"""Order histories, account states, executions, alerts and leases of trading in real time."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "account_states",
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cash", sa.Double(), nullable=False),
        sa.Column("equity", sa.Double(), nullable=False),
        sa.Column("gross_exposure", sa.Double(), nullable=False),
        sa.Column("net_exposure", sa.Double(), nullable=False),
        sa.Column("drawdown", sa.Double(), nullable=False),
        sa.Column("positions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_account_states")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("account_states", schema=None) as batch_op:
        batch_op.create_index("ix_account_states_run", ["run_id", "as_of_date"], unique=False)

    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("message", sa.String(length=1024), nullable=False),
        sa.Column("details", DOCUMENT, nullable=True),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("acknowledged_by", sa.String(length=128), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index("ix_alerts_last", ["last_at"], unique=False)
        batch_op.create_index("ix_alerts_rule", ["rule", "subject"], unique=False)

    op.create_table(
        "executions",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("trade_id", sa.String(length=128), nullable=False),
        sa.Column("fill_id", sa.String(length=168), nullable=False),
        sa.Column("order_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("commission", sa.Double(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("replaces", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "trade_id", name=op.f("pk_executions")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("executions", schema=None) as batch_op:
        batch_op.create_index("ix_executions_fill", ["fill_id"], unique=False)
        batch_op.create_index("ix_executions_order", ["order_id"], unique=False)

    op.create_table(
        "order_status_history",
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=160), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("filled_quantity", sa.Double(), nullable=False),
        sa.Column("reason", sa.String(length=512), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_order_status_history")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("order_status_history", schema=None) as batch_op:
        batch_op.create_index(
            "ix_order_status_history_order", ["order_id", "timestamp"], unique=False
        )
        batch_op.create_index("ix_order_status_history_run", ["run_id", "session"], unique=False)

    op.create_table(
        "trading_leases",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("place", sa.String(length=512), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_trading_leases")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("trading_leases")
    with op.batch_alter_table("order_status_history", schema=None) as batch_op:
        batch_op.drop_index("ix_order_status_history_run")
        batch_op.drop_index("ix_order_status_history_order")

    op.drop_table("order_status_history")
    with op.batch_alter_table("executions", schema=None) as batch_op:
        batch_op.drop_index("ix_executions_order")
        batch_op.drop_index("ix_executions_fill")

    op.drop_table("executions")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index("ix_alerts_rule")
        batch_op.drop_index("ix_alerts_last")

    op.drop_table("alerts")
    with op.batch_alter_table("account_states", schema=None) as batch_op:
        batch_op.drop_index("ix_account_states_run")

    op.drop_table("account_states")
