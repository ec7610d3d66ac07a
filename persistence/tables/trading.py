"""Tables of the runtime database that only trading in real time needs: what happened, as it did."""

import sqlalchemy as sa

from persistence.tables.columns import document, key, number, table, text
from persistence.tables.types import UtcDateTime

OPEN_STATUSES = ("PENDING", "SUBMITTED", "PARTIALLY_FILLED")
"""Of orders that may still trade."""

order_status_history = table(
    "order_status_history",
    # Run, session and number within the run: a second writing of one event changes nothing.
    key("event_id", 160),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("portfolio_id"),
    text("order_id", 160),
    sa.Column("session", sa.Date, nullable=False),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    text("status", 32),
    number("quantity"),
    number("filled_quantity"),
    text("reason", 512, nullable=True),
    sa.Index("ix_order_status_history_order", "order_id", "timestamp"),
    sa.Index("ix_order_status_history_run", "run_id", "session"),
)

account_states = table(
    "account_states",
    key("event_id", 160),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("portfolio_id"),
    text("account_id", 128),
    sa.Column("as_of_date", sa.Date, nullable=False),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    number("cash"),
    number("equity"),
    number("gross_exposure"),
    number("net_exposure"),
    number("drawdown"),
    sa.Column("positions", sa.Integer, nullable=False),
    sa.Index("ix_account_states_run", "run_id", "as_of_date"),
)

executions = table(
    "executions",
    # The broker's own name of an execution: whatever is sent again finds its row.
    key("account_id", 128),
    key("trade_id", 128),
    text("fill_id", 168),
    text("order_id", 160),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("portfolio_id"),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    text("instrument_id", 50),
    text("side", 8),
    number("quantity"),
    number("price"),
    number("commission"),
    text("status", 16),
    text("replaces", 128, nullable=True),
    sa.Index("ix_executions_fill", "fill_id"),
    sa.Index("ix_executions_order", "order_id"),
)

alerts = table(
    "alerts",
    key("alert_id", 32),
    text("rule"),
    text("severity", 16),
    text("subject", 160),
    text("message", 1024),
    document("details"),
    sa.Column("first_at", UtcDateTime, nullable=False),
    sa.Column("last_at", UtcDateTime, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    text("acknowledged_by", 128, nullable=True),
    sa.Column("acknowledged_at", UtcDateTime, nullable=True),
    sa.Column("resolved_at", UtcDateTime, nullable=True),
    # Channel -> when it took the alert.
    document("delivered"),
    sa.Index("ix_alerts_rule", "rule", "subject"),
    sa.Index("ix_alerts_last", "last_at"),
    sa.Index("ix_alerts_acknowledged", "acknowledged_at"),
    sa.Index("ix_alerts_resolved", "resolved_at"),
)

trading_leases = table(
    "trading_leases",
    # Who may trade a run; a writer that finds another name here has lost it.
    key("run_id", 96),
    text("owner", 128),
    text("place", 512),
    sa.Column("taken_at", UtcDateTime, nullable=False),
    sa.Column("lease_until", UtcDateTime, nullable=False),
)
