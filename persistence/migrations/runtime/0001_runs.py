"""Runs: what they ordered, filled, held, decided and measured."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create every table of the runtime database."""
    op.create_table(
        "artifacts",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_artifacts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "backtest_daily_equity",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("equity_curve_value", sa.Double(), nullable=False),
        sa.Column("drawdown", sa.Double(), nullable=True),
        sa.Column("cash", sa.Double(), nullable=False),
        sa.Column("gross_exposure", sa.Double(), nullable=False),
        sa.Column("net_exposure", sa.Double(), nullable=False),
        sa.Column("exposure_metrics_json", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "date", name=op.f("pk_backtest_daily_equity")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "backtest_runs",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("sleeve_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("market_id", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=False),
        sa.Column("end_date", sa.Date(), nullable=False),
        sa.Column("universe_id", sa.String(length=64), nullable=True),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("data_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("config_hash", sa.String(length=32), nullable=False),
        sa.Column("code_hash", sa.String(length=32), nullable=False),
        sa.Column("order_list_hash", sa.String(length=32), nullable=True),
        sa.Column("config_json", DOCUMENT, nullable=False),
        sa.Column("metrics_json", DOCUMENT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_backtest_runs")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("backtest_runs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_backtest_runs_strategy", ["strategy_id", "created_at"], unique=False
        )

    op.create_table(
        "backtest_trades",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("trade_id", sa.String(length=128), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("ticker", sa.String(length=50), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("size", sa.Double(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("commission", sa.Double(), nullable=False),
        sa.Column("pnl", sa.Double(), nullable=False),
        sa.Column("universe_id", sa.String(length=64), nullable=True),
        sa.Column("decision_metadata_json", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "trade_id", name=op.f("pk_backtest_trades")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("backtest_trades", schema=None) as batch_op:
        batch_op.create_index("ix_backtest_trades_date", ["run_id", "trade_date"], unique=False)

    op.create_table(
        "book_targets",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("book_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("target_weight", sa.Double(), nullable=False),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id",
            "book_id",
            "as_of_date",
            "region",
            "entity_type",
            "entity_id",
            name=op.f("pk_book_targets"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cash_flows",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("amount", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "portfolio_id", "session", "kind", "instrument_id", name=op.f("pk_cash_flows")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engine_decisions",
        sa.Column("decision_id", sa.String(length=160), nullable=False),
        sa.Column("engine_name", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("market_id", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("config_id", sa.String(length=128), nullable=True),
        sa.Column("input_refs", DOCUMENT, nullable=True),
        sa.Column("output_refs", DOCUMENT, nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_engine_decisions")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("engine_decisions", schema=None) as batch_op:
        batch_op.create_index("ix_engine_decisions_run", ["run_id", "as_of_date"], unique=False)
        batch_op.create_index(
            "ix_engine_decisions_strategy", ["strategy_id", "as_of_date"], unique=False
        )

    op.create_table(
        "executed_actions",
        sa.Column("action_id", sa.String(length=168), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("decision_id", sa.String(length=160), nullable=True),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("decision_price", sa.Double(), nullable=True),
        sa.Column("arrival_price", sa.Double(), nullable=True),
        sa.Column("slippage", sa.Double(), nullable=True),
        sa.Column("slippage_bps", sa.Double(), nullable=True),
        sa.Column("spread_cost", sa.Double(), nullable=True),
        sa.Column("impact_cost", sa.Double(), nullable=True),
        sa.Column("fees", sa.Double(), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("action_id", name=op.f("pk_executed_actions")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("executed_actions", schema=None) as batch_op:
        batch_op.create_index("ix_executed_actions_run", ["run_id", "trade_date"], unique=False)

    op.create_table(
        "instrument_scores",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("market_id", sa.String(length=50), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("expected_return", sa.Double(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("signal_label", sa.String(length=32), nullable=False),
        sa.Column("alpha_components", DOCUMENT, nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id",
            "market_id",
            "as_of_date",
            "instrument_id",
            "horizon_days",
            name=op.f("pk_instrument_scores"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("order_type", sa.String(length=16), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("filled_quantity", sa.Double(), nullable=False),
        sa.Column("limit_price", sa.Double(), nullable=True),
        sa.Column("stop_price", sa.Double(), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("decision_id", sa.String(length=160), nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index("ix_orders_portfolio", ["portfolio_id", "timestamp"], unique=False)
        batch_op.create_index("ix_orders_run", ["run_id", "timestamp"], unique=False)
        batch_op.create_index("ix_orders_strategy", ["strategy_id", "timestamp"], unique=False)

    op.create_table(
        "portfolio_risk_reports",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("portfolio_value", sa.Double(), nullable=True),
        sa.Column("cash", sa.Double(), nullable=True),
        sa.Column("net_exposure", sa.Double(), nullable=False),
        sa.Column("gross_exposure", sa.Double(), nullable=False),
        sa.Column("leverage", sa.Double(), nullable=False),
        sa.Column("risk_metrics", DOCUMENT, nullable=False),
        sa.Column("scenario_pnl", DOCUMENT, nullable=True),
        sa.Column("exposures_by_sector", DOCUMENT, nullable=True),
        sa.Column("exposures_by_factor", DOCUMENT, nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "portfolio_id", "as_of_date", name=op.f("pk_portfolio_risk_reports")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "positions_snapshots",
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("avg_cost", sa.Double(), nullable=False),
        sa.Column("market_value", sa.Double(), nullable=False),
        sa.Column("unrealized_pnl", sa.Double(), nullable=False),
        sa.Column("unmarked_sessions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "portfolio_id",
            "as_of_date",
            "run_id",
            "instrument_id",
            name=op.f("pk_positions_snapshots"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "risk_actions",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("action_id", sa.String(length=192), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=True),
        sa.Column("decision_id", sa.String(length=160), nullable=True),
        sa.Column("action_type", sa.String(length=32), nullable=False),
        sa.Column("details_json", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "action_id", name=op.f("pk_risk_actions")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("risk_actions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_risk_actions_strategy", ["strategy_id", "as_of_date"], unique=False
        )

    op.create_table(
        "soft_target_classes",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("soft_target_class", sa.String(length=32), nullable=True),
        sa.Column("soft_target_score", sa.Double(), nullable=True),
        sa.Column("weak_profile", sa.Boolean(), nullable=True),
        sa.Column("instability", sa.Double(), nullable=True),
        sa.Column("high_fragility", sa.Double(), nullable=True),
        sa.Column("complacent_pricing", sa.Double(), nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "entity_type", "as_of_date", "entity_id", name=op.f("pk_soft_target_classes")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stability_vectors",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("vector_components", DOCUMENT, nullable=False),
        sa.Column("overall_score", sa.Double(), nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "entity_type", "as_of_date", "entity_id", name=op.f("pk_stability_vectors")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "target_portfolios",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("portfolio_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("target_positions", DOCUMENT, nullable=False),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint(
            "run_id", "portfolio_id", "as_of_date", name=op.f("pk_target_portfolios")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "universe_members",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("universe_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("included", sa.Boolean(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("reasons", DOCUMENT, nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id",
            "universe_id",
            "as_of_date",
            "entity_type",
            "entity_id",
            name=op.f("pk_universe_members"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "decision_outcomes",
        sa.Column("decision_id", sa.String(length=160), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("realized_return", sa.Double(), nullable=True),
        sa.Column("realized_pnl", sa.Double(), nullable=True),
        sa.Column("realized_drawdown", sa.Double(), nullable=True),
        sa.Column("realized_vol", sa.Double(), nullable=True),
        sa.Column("known_at", sa.Date(), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["engine_decisions.decision_id"],
            name=op.f("fk_decision_outcomes_decision_id_engine_decisions"),
        ),
        sa.PrimaryKeyConstraint("decision_id", "horizon_days", name=op.f("pk_decision_outcomes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fills",
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
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.order_id"], name=op.f("fk_fills_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("fill_id", name=op.f("pk_fills")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.create_index("ix_fills_order", ["order_id"], unique=False)
        batch_op.create_index("ix_fills_portfolio", ["portfolio_id", "timestamp"], unique=False)
        batch_op.create_index("ix_fills_run", ["run_id", "timestamp"], unique=False)


def downgrade() -> None:
    """Drop every table of the runtime database."""
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.drop_index("ix_fills_run")
        batch_op.drop_index("ix_fills_portfolio")
        batch_op.drop_index("ix_fills_order")

    op.drop_table("fills")
    op.drop_table("decision_outcomes")
    op.drop_table("universe_members")
    op.drop_table("target_portfolios")
    op.drop_table("stability_vectors")
    op.drop_table("soft_target_classes")
    with op.batch_alter_table("risk_actions", schema=None) as batch_op:
        batch_op.drop_index("ix_risk_actions_strategy")

    op.drop_table("risk_actions")
    op.drop_table("positions_snapshots")
    op.drop_table("portfolio_risk_reports")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index("ix_orders_strategy")
        batch_op.drop_index("ix_orders_run")
        batch_op.drop_index("ix_orders_portfolio")

    op.drop_table("orders")
    op.drop_table("instrument_scores")
    with op.batch_alter_table("executed_actions", schema=None) as batch_op:
        batch_op.drop_index("ix_executed_actions_run")

    op.drop_table("executed_actions")
    with op.batch_alter_table("engine_decisions", schema=None) as batch_op:
        batch_op.drop_index("ix_engine_decisions_strategy")
        batch_op.drop_index("ix_engine_decisions_run")

    op.drop_table("engine_decisions")
    op.drop_table("cash_flows")
    op.drop_table("book_targets")
    with op.batch_alter_table("backtest_trades", schema=None) as batch_op:
        batch_op.drop_index("ix_backtest_trades_date")

    op.drop_table("backtest_trades")
    with op.batch_alter_table("backtest_runs", schema=None) as batch_op:
        batch_op.drop_index("ix_backtest_runs_strategy")

    op.drop_table("backtest_runs")
    op.drop_table("backtest_daily_equity")
    op.drop_table("artifacts")
