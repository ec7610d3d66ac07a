"""What the desk asks for by time or by state is found by an index."""  # noqa: N999

from alembic import op

revision = "0013"
down_revision = "0012"

INDEXES = (
    ("ix_jobs_updated", "jobs", ["updated_at"]),
    ("ix_job_executions_updated", "job_executions", ["updated_at"]),
    ("ix_engine_runs_updated", "engine_runs", ["updated_at"]),
    ("ix_backtest_runs_completed", "backtest_runs", ["completed_at"]),
    ("ix_backtest_runs_state", "backtest_runs", ["status", "created_at"]),
    ("ix_alerts_acknowledged", "alerts", ["acknowledged_at"]),
    ("ix_alerts_resolved", "alerts", ["resolved_at"]),
    ("ix_campaigns_created", "campaigns", ["created_at"]),
    ("ix_campaign_trials_status", "campaign_trials", ["campaign_id", "status"]),
    ("ix_trials_recorded", "trials", ["recorded_at"]),
    ("ix_trials_family_recorded", "trials", ["family", "recorded_at"]),
    ("ix_trials_family_status", "trials", ["family", "status"]),
    ("ix_meta_config_proposals_created", "meta_config_proposals", ["created_at"]),
    ("ix_config_change_log_applied", "config_change_log", ["applied_at"]),
)


def upgrade() -> None:
    """Create the indexes."""
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Drop them."""
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
