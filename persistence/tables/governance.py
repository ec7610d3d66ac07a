"""Tables of the runtime database about who may decide and what was changed: registries, jobs, meta.

The registries (`strategies`, `portfolios`, `engine_configs`, `models`) are written when a run
begins. The others wait for the commands that write them, named at each.
"""

import sqlalchemy as sa

from persistence.tables.columns import document, key, number, table, text
from persistence.tables.types import JSON, UtcDateTime


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, UtcDateTime, nullable=nullable)


strategies = table(
    "strategies",
    key("strategy_id"),
    text("name", 200),
    text("description", 512, nullable=True),
    document("metadata"),
    _moment("created_at"),
    _moment("updated_at"),
)

portfolios = table(
    "portfolios",
    key("portfolio_id"),
    text("strategy_id"),
    text("sleeve_id"),
    text("name", 200),
    text("description", 512, nullable=True),
    text("base_currency", 10),
    document("metadata"),
    _moment("created_at"),
    _moment("updated_at"),
    sa.Index("ix_portfolios_strategy", "strategy_id"),
)

engine_configs = table(
    "engine_configs",
    # The hash of an engine's settings: the second half of the `model_id` of its rows.
    key("config_id", 32),
    text("engine_name"),
    text("version", 32),
    sa.Column("config_body", JSON, nullable=False),
    _moment("created_at"),
    text("created_by", 128),
    sa.Index("ix_engine_configs_engine", "engine_name", "created_at"),
)

models = table(
    "models",
    # What rows name is the model; the same settings in other code are another version of it.
    key("model_id", 96),
    key("code_hash", 32),
    text("engine_name"),
    text("type", 32),
    text("config_id", 32),
    text("artifact_ref", 512, nullable=True),
    document("training_data_spec"),
    document("metrics"),
    _moment("created_at"),
    text("created_by", 128),
)

jobs = table(
    "jobs",
    # Written by whoever submits work, and by the worker that claims it.
    key("job_id", 36),
    text("kind"),
    sa.Column("spec", JSON, nullable=False),
    text("status", 16),
    number("progress", nullable=True),
    text("message", 512, nullable=True),
    text("worker", 128, nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    _moment("heartbeat_at", nullable=True),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    text("parent_id", 36, nullable=True),
    document("result"),
    document("error"),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("started_at", nullable=True),
    _moment("completed_at", nullable=True),
    sa.Column("priority", sa.Integer, nullable=False),
    # Not to be begun earlier: when it was submitted, later after a failure.
    _moment("not_before"),
    number("timeout_seconds", nullable=True),
    text("submitted_by", 128),
    sa.Index("ix_jobs_status", "status", "created_at"),
    sa.Index("ix_jobs_kind", "kind", "created_at"),
    sa.Index("ix_jobs_created", "created_at"),
    sa.Index("ix_jobs_updated", "updated_at"),
    sa.Index("ix_jobs_parent", "parent_id"),
    # Those that wait, in the order in which they are claimed, however many have ended.
    sa.Index("ix_jobs_claim", "status", "priority", "created_at", "job_id"),
)

job_logs = table(
    "job_logs",
    # Written with the heartbeats; only the newest lines of a job are kept.
    key("job_id", 36),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _moment("at"),
    text("level", 16),
    sa.Column("message", sa.Text, nullable=False),
)

job_executions = table(
    "job_executions",
    # Written by the daemon that runs the jobs of a market's day in the order of their needs.
    key("execution_id", 36),
    text("job_id", 255),
    text("job_type", 100),
    text("dag_id", 100),
    text("market_id", 32, nullable=True),
    sa.Column("as_of_date", sa.Date, nullable=False),
    text("status", 16),
    _moment("started_at", nullable=True),
    _moment("completed_at", nullable=True),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    _moment("next_attempt_at", nullable=True),
    text("owner", 128, nullable=True),
    _moment("lease_until", nullable=True),
    text("error_message", 512, nullable=True),
    document("error_details"),
    _moment("created_at"),
    _moment("updated_at"),
    sa.CheckConstraint(
        "status IN ('PENDING', 'RUNNING', 'SUCCESS', 'FAILED', 'SKIPPED')", name="status"
    ),
    sa.Index("ix_job_executions_job", "job_id", "created_at"),
    sa.Index("ix_job_executions_dag", "dag_id", "status"),
    sa.Index("ix_job_executions_date", "as_of_date"),
    sa.Index("ix_job_executions_updated", "updated_at"),
)

experiments = table(
    "experiments",
    # Written by the meta job when it has a question answered by runs.
    key("experiment_id", 36),
    text("name", 200),
    text("strategy_id", nullable=True),
    text("status", 32),
    sa.Column("spec", JSON, nullable=False),
    text("rationale", 2000, nullable=True),
    text("created_by", 128),
    _moment("created_at"),
    _moment("updated_at"),
    sa.Index("ix_experiments_status", "status", "created_at"),
)

experiment_results = table(
    "experiment_results",
    sa.Column(
        "experiment_id",
        sa.String(36),
        sa.ForeignKey("experiments.experiment_id"),
        primary_key=True,
    ),
    key("arm"),
    key("run_id", 96),
    sa.Column("metrics", JSON, nullable=False),
    text("verdict", 32, nullable=True),
    _moment("created_at"),
)

meta_config_proposals = table(
    "meta_config_proposals",
    # Written by the meta job's diagnosis; its status moves when a person decides.
    key("proposal_id", 36),
    text("run_id", 96, nullable=True),
    text("strategy_id", nullable=True),
    text("market_id", 32, nullable=True),
    text("proposal_type"),
    text("target_component", 128),
    document("current_value"),
    sa.Column("proposed_value", JSON, nullable=False),
    number("confidence_score", nullable=True),
    number("expected_sharpe_improvement", nullable=True),
    number("expected_return_improvement", nullable=True),
    number("expected_risk_reduction", nullable=True),
    text("rationale", 2000, nullable=True),
    document("supporting_metrics"),
    text("status", 16),
    text("approved_by", 128, nullable=True),
    _moment("approved_at", nullable=True),
    _moment("applied_at", nullable=True),
    _moment("reverted_at", nullable=True),
    # The hash of an open proposal's strategy and change; NULL once it is decided or applied.
    text("open_change", 32, nullable=True),
    document("metadata"),
    _moment("created_at"),
    sa.UniqueConstraint("open_change"),
    sa.CheckConstraint(
        "status IN ('PENDING', 'APPROVED', 'REJECTED', 'APPLIED', 'REVERTED')", name="status"
    ),
    sa.Index("ix_meta_config_proposals_created", "created_at"),
    sa.Index("ix_meta_config_proposals_status", "status", "created_at"),
    sa.Index("ix_meta_config_proposals_strategy", "strategy_id", "created_at"),
    sa.Index("ix_meta_config_proposals_target", "proposal_type", "target_component"),
)

config_change_log = table(
    "config_change_log",
    # Written in the transaction that changes `strategy_configs`, and again when it is reverted.
    key("change_id", 36),
    sa.Column(
        "proposal_id",
        sa.String(36),
        sa.ForeignKey("meta_config_proposals.proposal_id"),
        nullable=True,
    ),
    text("strategy_id", nullable=True),
    text("market_id", 32, nullable=True),
    text("change_type"),
    text("target_component", 128),
    document("previous_value"),
    sa.Column("new_value", JSON, nullable=False),
    number("sharpe_before", nullable=True),
    number("sharpe_after", nullable=True),
    number("return_before", nullable=True),
    number("return_after", nullable=True),
    number("risk_before", nullable=True),
    number("risk_after", nullable=True),
    sa.Column("evaluation_start_date", sa.Date, nullable=True),
    sa.Column("evaluation_end_date", sa.Date, nullable=True),
    sa.Column("is_reverted", sa.Boolean, nullable=False),
    _moment("reverted_at", nullable=True),
    text("reversion_reason", 512, nullable=True),
    text("applied_by", 128, nullable=True),
    _moment("applied_at"),
    document("metadata"),
    sa.Index("ix_config_change_log_applied", "applied_at"),
    sa.Index("ix_config_change_log_strategy", "strategy_id", "applied_at"),
    sa.Index("ix_config_change_log_target", "change_type", "target_component"),
    sa.Index("ix_config_change_log_reverted", "is_reverted", "applied_at"),
)

strategy_configs = table(
    "strategy_configs",
    # Written when a proposal is applied or reverted; a run of the strategy reads it.
    key("strategy_id"),
    # Settings that were applied, nested like a node's file: {} once all were reverted.
    sa.Column("config_json", JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    _moment("updated_at"),
)
