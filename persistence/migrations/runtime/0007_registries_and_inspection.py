"""Registries, jobs and what the meta layer changes; columns and indexes that people ask by."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

RARE = sa.text("mode <> 'BACKTEST'")
TRADED = {"sqlite_where": RARE, "postgresql_where": RARE}

# A later revision that copies `universe_members` drops the view first and makes it again.
UNIVERSES = """
CREATE VIEW universes AS
SELECT universe_id, as_of_date, run_id, mode, strategy_id, model_id,
       COUNT(*) AS num_candidates,
       SUM(CASE WHEN included THEN 1 ELSE 0 END) AS num_members
FROM universe_members
GROUP BY run_id, universe_id, as_of_date, mode, strategy_id, model_id
"""


def upgrade() -> None:
    """Create the tables, add the columns and indexes, and fill what is known of older rows."""
    op.create_table(
        "engine_configs",
        sa.Column("config_id", sa.String(length=32), nullable=False),
        sa.Column("engine_name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("config_body", DOCUMENT, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("config_id", name=op.f("pk_engine_configs")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("engine_configs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_engine_configs_engine", ["engine_name", "created_at"], unique=False
        )

    op.create_table(
        "experiments",
        sa.Column("experiment_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("spec", DOCUMENT, nullable=False),
        sa.Column("rationale", sa.String(length=2000), nullable=True),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_experiments")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("experiments", schema=None) as batch_op:
        batch_op.create_index("ix_experiments_status", ["status", "created_at"], unique=False)

    op.create_table(
        "job_executions",
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("job_type", sa.String(length=100), nullable=False),
        sa.Column("dag_id", sa.String(length=100), nullable=False),
        sa.Column("market_id", sa.String(length=32), nullable=True),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt_number", sa.Integer(), nullable=False),
        sa.Column("error_message", sa.String(length=512), nullable=True),
        sa.Column("error_details", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('PENDING', 'RUNNING', 'SUCCESS', 'FAILED', 'SKIPPED')",
            name=op.f("ck_job_executions_status"),
        ),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_job_executions")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("job_executions", schema=None) as batch_op:
        batch_op.create_index("ix_job_executions_dag", ["dag_id", "status"], unique=False)
        batch_op.create_index("ix_job_executions_date", ["as_of_date"], unique=False)
        batch_op.create_index("ix_job_executions_job", ["job_id", "created_at"], unique=False)

    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("spec", DOCUMENT, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("progress", sa.Double(), nullable=True),
        sa.Column("message", sa.String(length=512), nullable=True),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("result", DOCUMENT, nullable=True),
        sa.Column("error", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_created", ["created_at"], unique=False)
        batch_op.create_index("ix_jobs_parent", ["parent_id"], unique=False)
        batch_op.create_index("ix_jobs_status", ["status", "created_at"], unique=False)

    op.create_table(
        "meta_config_proposals",
        sa.Column("proposal_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=True),
        sa.Column("strategy_id", sa.String(length=64), nullable=True),
        sa.Column("market_id", sa.String(length=32), nullable=True),
        sa.Column("proposal_type", sa.String(length=64), nullable=False),
        sa.Column("target_component", sa.String(length=128), nullable=False),
        sa.Column("current_value", DOCUMENT, nullable=True),
        sa.Column("proposed_value", DOCUMENT, nullable=False),
        sa.Column("confidence_score", sa.Double(), nullable=False),
        sa.Column("expected_sharpe_improvement", sa.Double(), nullable=True),
        sa.Column("expected_return_improvement", sa.Double(), nullable=True),
        sa.Column("expected_risk_reduction", sa.Double(), nullable=True),
        sa.Column("rationale", sa.String(length=2000), nullable=True),
        sa.Column("supporting_metrics", DOCUMENT, nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("approved_by", sa.String(length=128), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reverted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('PENDING', 'APPROVED', 'REJECTED', 'APPLIED', 'REVERTED')",
            name=op.f("ck_meta_config_proposals_status"),
        ),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_meta_config_proposals")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("meta_config_proposals", schema=None) as batch_op:
        batch_op.create_index(
            "ix_meta_config_proposals_status", ["status", "created_at"], unique=False
        )
        batch_op.create_index(
            "ix_meta_config_proposals_strategy", ["strategy_id", "created_at"], unique=False
        )
        batch_op.create_index(
            "ix_meta_config_proposals_target", ["proposal_type", "target_component"], unique=False
        )

    op.create_table(
        "models",
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.Column("code_hash", sa.String(length=32), nullable=False),
        sa.Column("engine_name", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("config_id", sa.String(length=32), nullable=False),
        sa.Column("artifact_ref", sa.String(length=512), nullable=True),
        sa.Column("training_data_spec", DOCUMENT, nullable=True),
        sa.Column("metrics", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "code_hash", name=op.f("pk_models")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "portfolios",
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("sleeve_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.String(length=512), nullable=True),
        sa.Column("base_currency", sa.String(length=10), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("portfolio_id", name=op.f("pk_portfolios")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("portfolios", schema=None) as batch_op:
        batch_op.create_index("ix_portfolios_strategy", ["strategy_id"], unique=False)

    op.create_table(
        "strategies",
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.String(length=512), nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("strategy_id", name=op.f("pk_strategies")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "strategy_configs",
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("config_json", DOCUMENT, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("strategy_id", name=op.f("pk_strategy_configs")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "config_change_log",
        sa.Column("change_id", sa.String(length=36), nullable=False),
        sa.Column("proposal_id", sa.String(length=36), nullable=True),
        sa.Column("strategy_id", sa.String(length=64), nullable=True),
        sa.Column("market_id", sa.String(length=32), nullable=True),
        sa.Column("change_type", sa.String(length=64), nullable=False),
        sa.Column("target_component", sa.String(length=128), nullable=False),
        sa.Column("previous_value", DOCUMENT, nullable=True),
        sa.Column("new_value", DOCUMENT, nullable=False),
        sa.Column("sharpe_before", sa.Double(), nullable=True),
        sa.Column("sharpe_after", sa.Double(), nullable=True),
        sa.Column("return_before", sa.Double(), nullable=True),
        sa.Column("return_after", sa.Double(), nullable=True),
        sa.Column("risk_before", sa.Double(), nullable=True),
        sa.Column("risk_after", sa.Double(), nullable=True),
        sa.Column("evaluation_start_date", sa.Date(), nullable=True),
        sa.Column("evaluation_end_date", sa.Date(), nullable=True),
        sa.Column("is_reverted", sa.Boolean(), nullable=False),
        sa.Column("reverted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reversion_reason", sa.String(length=512), nullable=True),
        sa.Column("applied_by", sa.String(length=128), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["proposal_id"],
            ["meta_config_proposals.proposal_id"],
            name=op.f("fk_config_change_log_proposal_id_meta_config_proposals"),
        ),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_config_change_log")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("config_change_log", schema=None) as batch_op:
        batch_op.create_index(
            "ix_config_change_log_reverted", ["is_reverted", "applied_at"], unique=False
        )
        batch_op.create_index(
            "ix_config_change_log_strategy", ["strategy_id", "applied_at"], unique=False
        )
        batch_op.create_index(
            "ix_config_change_log_target", ["change_type", "target_component"], unique=False
        )

    op.create_table(
        "experiment_results",
        sa.Column("experiment_id", sa.String(length=36), nullable=False),
        sa.Column("arm", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("metrics", DOCUMENT, nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.experiment_id"],
            name=op.f("fk_experiment_results_experiment_id_experiments"),
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "arm", "run_id", name=op.f("pk_experiment_results")
        ),
        sqlite_with_rowid=False,
    )
    _add_computed("backtest_daily_equity", "as_of_date", "DATE", "date")
    _add_computed("backtest_daily_equity", "equity", "DOUBLE", "equity_curve_value")

    with op.batch_alter_table("backtest_runs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_backtest_runs_portfolio", ["portfolio_id", "created_at"], unique=False
        )
        batch_op.create_index("ix_backtest_runs_recent", ["created_at"], unique=False)
        batch_op.create_index("ix_backtest_runs_status", ["status", "mode"], unique=False)
        batch_op.create_index(
            "ix_backtest_runs_traded", ["mode", "created_at"], unique=False, **TRADED
        )
        batch_op.create_index("ix_backtest_runs_sleeve", ["sleeve_id", "created_at"], unique=False)

    with op.batch_alter_table("backtest_trades", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sleeve_id", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("config_snapshot", DOCUMENT, nullable=True))
    _add_computed("backtest_trades", "as_of_date", "DATE", "trade_date")
    _add_computed("backtest_trades", "side", "VARCHAR(8)", "direction")
    _add_computed("backtest_trades", "quantity", "DOUBLE", "size")

    with op.batch_alter_table("engine_decisions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_engine_decisions_engine", ["engine_name", "as_of_date"], unique=False
        )
        batch_op.create_index(
            "ix_engine_decisions_of_strategy",
            ["engine_name", "strategy_id", "as_of_date"],
            unique=False,
        )
        batch_op.create_index("ix_engine_decisions_recent", ["as_of_date"], unique=False)
        batch_op.create_index(
            "ix_engine_decisions_traded", ["mode", "as_of_date"], unique=False, **TRADED
        )

    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.create_index("ix_fills_recent", ["timestamp"], unique=False)
        batch_op.create_index("ix_fills_strategy", ["strategy_id", "timestamp"], unique=False)
        batch_op.create_index("ix_fills_traded", ["mode", "timestamp"], unique=False, **TRADED)

    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index("ix_orders_recent", ["timestamp"], unique=False)
        batch_op.create_index("ix_orders_traded", ["mode", "timestamp"], unique=False, **TRADED)

    with op.batch_alter_table("portfolio_risk_reports", schema=None) as batch_op:
        batch_op.add_column(sa.Column("report_id", sa.String(length=160), nullable=True))
        batch_op.add_column(sa.Column("metadata", DOCUMENT, nullable=True))
        batch_op.add_column(sa.Column("created_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("positions_snapshots", schema=None) as batch_op:
        batch_op.create_index(
            "ix_positions_snapshots_traded", ["mode", "as_of_date"], unique=False, **TRADED
        )

    with op.batch_alter_table("risk_actions", schema=None) as batch_op:
        batch_op.create_index("ix_risk_actions_recent", ["as_of_date"], unique=False)
        batch_op.create_index(
            "ix_risk_actions_traded", ["mode", "as_of_date"], unique=False, **TRADED
        )

    with op.batch_alter_table("target_portfolios", schema=None) as batch_op:
        batch_op.add_column(sa.Column("optimization_params", DOCUMENT, nullable=True))
        batch_op.add_column(sa.Column("created_at", sa.DateTime(timezone=True), nullable=True))

    op.execute(UNIVERSES)
    for statement in _known_of_older_rows(op.get_bind().dialect.name):
        op.execute(statement)


def _add_computed(table: str, name: str, kind: str, source: str) -> None:
    # SQLite adds a virtual column without touching a row; PostgreSQL before 18 can only store one.
    # SQLAlchemy reads an expression of SQLite up to the last bracket of its line: hence the break.
    stored = op.get_bind().dialect.name == "postgresql"
    ending = "STORED" if stored else "\n VIRTUAL"
    kind = kind.replace("DOUBLE", "DOUBLE PRECISION") if stored else kind
    column = f"{name} {kind} GENERATED ALWAYS AS ({source}) {ending}"
    op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def _known_of_older_rows(dialect: str) -> list[str]:
    """Return the statements that fill the new columns of rows written before them."""
    sqlite = dialect == "sqlite"
    document = "json_object" if sqlite else "jsonb_build_object"
    construction = (
        "json_extract(metadata, '$.construction')" if sqlite else "metadata -> 'construction'"
    )
    session = "as_of_date" if sqlite else "to_char(as_of_date, 'YYYY-MM-DD')"
    run = "FROM backtest_runs AS run WHERE run.run_id"
    began = f"(SELECT run.created_at {run}"
    return [
        f"UPDATE backtest_trades SET sleeve_id = (SELECT run.sleeve_id {run} ="
        f" backtest_trades.run_id), config_snapshot = (SELECT {document}('config_hash',"
        f" run.config_hash) {run} = backtest_trades.run_id)",
        f"UPDATE target_portfolios SET optimization_params = {construction},"
        f" created_at = {began} = target_portfolios.run_id)",
        "INSERT INTO strategies (strategy_id, name, created_at, updated_at)"
        " SELECT strategy_id, strategy_id, MIN(created_at), MAX(created_at) FROM backtest_runs"
        " GROUP BY strategy_id",
        "INSERT INTO portfolios (portfolio_id, strategy_id, sleeve_id, name, base_currency,"
        " created_at, updated_at) SELECT portfolio_id, MIN(strategy_id), MIN(sleeve_id),"
        " MIN(sleeve_id), 'USD', MIN(created_at), MAX(created_at) FROM backtest_runs"
        " GROUP BY portfolio_id",
        f"UPDATE portfolio_risk_reports SET report_id = run_id || ':' || {session},"
        f" created_at = {began} = portfolio_risk_reports.run_id)",
    ]


def downgrade() -> None:
    """Drop what the revision added."""
    op.execute("DROP VIEW universes")
    with op.batch_alter_table("target_portfolios", schema=None) as batch_op:
        batch_op.drop_column("created_at")
        batch_op.drop_column("optimization_params")

    with op.batch_alter_table("risk_actions", schema=None) as batch_op:
        batch_op.drop_index("ix_risk_actions_traded", **TRADED)
        batch_op.drop_index("ix_risk_actions_recent")

    with op.batch_alter_table("positions_snapshots", schema=None) as batch_op:
        batch_op.drop_index("ix_positions_snapshots_traded", **TRADED)

    with op.batch_alter_table("portfolio_risk_reports", schema=None) as batch_op:
        batch_op.drop_column("created_at")
        batch_op.drop_column("metadata")
        batch_op.drop_column("report_id")

    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index("ix_orders_traded", **TRADED)
        batch_op.drop_index("ix_orders_recent")

    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.drop_index("ix_fills_traded", **TRADED)
        batch_op.drop_index("ix_fills_strategy")
        batch_op.drop_index("ix_fills_recent")

    with op.batch_alter_table("engine_decisions", schema=None) as batch_op:
        batch_op.drop_index("ix_engine_decisions_traded", **TRADED)
        batch_op.drop_index("ix_engine_decisions_recent")
        batch_op.drop_index("ix_engine_decisions_of_strategy")
        batch_op.drop_index("ix_engine_decisions_engine")

    with op.batch_alter_table("backtest_trades", schema=None) as batch_op:
        batch_op.drop_column("quantity")
        batch_op.drop_column("side")
        batch_op.drop_column("as_of_date")
        batch_op.drop_column("config_snapshot")
        batch_op.drop_column("sleeve_id")

    with op.batch_alter_table("backtest_runs", schema=None) as batch_op:
        batch_op.drop_index("ix_backtest_runs_traded", **TRADED)
        batch_op.drop_index("ix_backtest_runs_status")
        batch_op.drop_index("ix_backtest_runs_sleeve")
        batch_op.drop_index("ix_backtest_runs_recent")
        batch_op.drop_index("ix_backtest_runs_portfolio")

    with op.batch_alter_table("backtest_daily_equity", schema=None) as batch_op:
        batch_op.drop_column("equity")
        batch_op.drop_column("as_of_date")

    op.drop_table("experiment_results")
    with op.batch_alter_table("config_change_log", schema=None) as batch_op:
        batch_op.drop_index("ix_config_change_log_target")
        batch_op.drop_index("ix_config_change_log_strategy")
        batch_op.drop_index("ix_config_change_log_reverted")

    op.drop_table("config_change_log")
    op.drop_table("strategy_configs")
    op.drop_table("strategies")
    with op.batch_alter_table("portfolios", schema=None) as batch_op:
        batch_op.drop_index("ix_portfolios_strategy")

    op.drop_table("portfolios")
    op.drop_table("models")
    with op.batch_alter_table("meta_config_proposals", schema=None) as batch_op:
        batch_op.drop_index("ix_meta_config_proposals_target")
        batch_op.drop_index("ix_meta_config_proposals_strategy")
        batch_op.drop_index("ix_meta_config_proposals_status")

    op.drop_table("meta_config_proposals")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_status")
        batch_op.drop_index("ix_jobs_parent")
        batch_op.drop_index("ix_jobs_created")

    op.drop_table("jobs")
    with op.batch_alter_table("job_executions", schema=None) as batch_op:
        batch_op.drop_index("ix_job_executions_job")
        batch_op.drop_index("ix_job_executions_date")
        batch_op.drop_index("ix_job_executions_dag")

    op.drop_table("job_executions")
    with op.batch_alter_table("experiments", schema=None) as batch_op:
        batch_op.drop_index("ix_experiments_status")

    op.drop_table("experiments")
    with op.batch_alter_table("engine_configs", schema=None) as batch_op:
        batch_op.drop_index("ix_engine_configs_engine")

    op.drop_table("engine_configs")
