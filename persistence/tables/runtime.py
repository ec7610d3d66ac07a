"""The runtime database: what every run ordered, filled, held, decided and measured, in every mode.

Rows are keyed by what they are about (run, session, entity), so that writing twice changes
nothing. `run_id` and `mode` stand on every row; `strategy_id` and `model_id` where they apply.
"""

import sqlalchemy as sa

from persistence.tables.columns import (
    RUNTIME,
    document,
    key,
    number,
    run_columns,
    session,
    table,
    text,
    traded_index,
)
from persistence.tables.types import JSON, UtcDateTime

__all__ = ["RUNTIME"]

backtest_runs = table(
    "backtest_runs",
    *run_columns(),
    text("sleeve_id"),
    text("portfolio_id"),
    text("market_id", 32),
    text("status", 16),
    sa.Column("start_date", sa.Date, nullable=False),
    sa.Column("end_date", sa.Date, nullable=False),
    text("universe_id", nullable=True),
    text("dataset_id"),
    text("data_fingerprint", 32),
    text("config_hash", 32),
    text("code_hash", 32),
    text("order_list_hash", 32, nullable=True),
    sa.Column("config_json", JSON, nullable=False),
    document("metrics_json"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("completed_at", UtcDateTime, nullable=True),
    sa.Index("ix_backtest_runs_strategy", "strategy_id", "created_at"),
    sa.Index("ix_backtest_runs_sleeve", "sleeve_id", "created_at"),
    sa.Index("ix_backtest_runs_portfolio", "portfolio_id", "created_at"),
    sa.Index("ix_backtest_runs_recent", "created_at"),
    sa.Index("ix_backtest_runs_completed", "completed_at"),
    sa.Index("ix_backtest_runs_state", "status", "created_at"),
    sa.Index("ix_backtest_runs_status", "status", "mode"),
    traded_index("ix_backtest_runs_traded", "mode", "created_at"),
)

backtest_daily_equity = table(
    "backtest_daily_equity",
    *run_columns(),
    session("date"),
    number("equity_curve_value"),
    number("drawdown", nullable=True),
    number("cash"),
    number("gross_exposure"),
    number("net_exposure"),
    document("exposure_metrics_json"),
    # The same under the names that the mission's documents use; no column of these is written.
    sa.Column("as_of_date", sa.Date, sa.Computed("date")),
    sa.Column("equity", sa.Double, sa.Computed("equity_curve_value")),
)

backtest_trades = table(
    "backtest_trades",
    *run_columns(),
    key("trade_id", 128),
    sa.Column("trade_date", sa.Date, nullable=False),
    text("ticker", 50),
    text("instrument_id", 50),
    text("direction", 8),
    number("size"),
    number("price"),
    number("commission"),
    number("pnl"),
    text("universe_id", nullable=True),
    document("decision_metadata_json"),
    text("sleeve_id", nullable=True),
    document("config_snapshot"),
    sa.Column("as_of_date", sa.Date, sa.Computed("trade_date")),
    sa.Column("side", sa.String(8), sa.Computed("direction")),
    sa.Column("quantity", sa.Double, sa.Computed("size")),
    sa.Index("ix_backtest_trades_date", "run_id", "trade_date"),
)

orders = table(
    "orders",
    sa.Column("order_id", sa.String(160), primary_key=True),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("portfolio_id"),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    text("instrument_id", 50),
    text("side", 8),
    text("order_type", 16),
    number("quantity"),
    number("filled_quantity"),
    number("limit_price", nullable=True),
    number("stop_price", nullable=True),
    text("status", 32),
    text("decision_id", 160, nullable=True),
    document("metadata"),
    sa.Index("ix_orders_run", "run_id", "timestamp"),
    sa.Index("ix_orders_portfolio", "portfolio_id", "timestamp"),
    sa.Index("ix_orders_strategy", "strategy_id", "timestamp"),
    sa.Index("ix_orders_recent", "timestamp"),
    traded_index("ix_orders_traded", "mode", "timestamp"),
)

fills = table(
    "fills",
    sa.Column("fill_id", sa.String(168), primary_key=True),
    sa.Column("order_id", sa.String(160), sa.ForeignKey("orders.order_id"), nullable=False),
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
    document("metadata"),
    sa.Index("ix_fills_run", "run_id", "timestamp"),
    sa.Index("ix_fills_portfolio", "portfolio_id", "timestamp"),
    sa.Index("ix_fills_strategy", "strategy_id", "timestamp"),
    sa.Index("ix_fills_recent", "timestamp"),
    traded_index("ix_fills_traded", "mode", "timestamp"),
    sa.Index("ix_fills_order", "order_id"),
)

executed_actions = table(
    "executed_actions",
    sa.Column("action_id", sa.String(168), primary_key=True),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("portfolio_id"),
    text("decision_id", 160, nullable=True),
    text("instrument_id", 50),
    sa.Column("trade_date", sa.Date, nullable=False),
    text("side", 8),
    number("quantity"),
    number("price"),
    number("decision_price", nullable=True),
    number("arrival_price", nullable=True),
    number("slippage", nullable=True),
    number("slippage_bps", nullable=True),
    number("spread_cost", nullable=True),
    number("impact_cost", nullable=True),
    number("fees"),
    document("metadata"),
    sa.Index("ix_executed_actions_run", "run_id", "trade_date"),
)

positions_snapshots = table(
    "positions_snapshots",
    # The key begins with what people ask by; a second index would cost a third of the writing.
    key("portfolio_id"),
    session(),
    *run_columns(),
    key("instrument_id", 50),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    number("quantity"),
    number("avg_cost"),
    number("market_value"),
    number("unrealized_pnl"),
    sa.Column("unmarked_sessions", sa.Integer, nullable=False),
    traded_index("ix_positions_snapshots_traded", "mode", "as_of_date"),
)

cash_flows = table(
    "cash_flows",
    *run_columns(),
    key("portfolio_id"),
    sa.Column("session", sa.Date, primary_key=True),
    key("kind", 16),
    key("instrument_id", 50),
    number("quantity"),
    number("amount"),
)

target_portfolios = table(
    "target_portfolios",
    *run_columns(),
    key("portfolio_id"),
    session(),
    sa.Column("target_positions", JSON, nullable=False),
    text("model_id", 96),
    document("metadata"),
    document("optimization_params"),
    # When its run began; unknown of rows that are older than the column.
    sa.Column("created_at", UtcDateTime, nullable=True),
)

portfolio_risk_reports = table(
    "portfolio_risk_reports",
    *run_columns(),
    key("portfolio_id"),
    session(),
    number("portfolio_value", nullable=True),
    number("cash", nullable=True),
    number("net_exposure"),
    number("gross_exposure"),
    number("leverage"),
    sa.Column("risk_metrics", JSON, nullable=False),
    document("scenario_pnl"),
    document("exposures_by_sector"),
    document("exposures_by_factor"),
    text("model_id", 96),
    # The decision that the report is about.
    text("report_id", 160, nullable=True),
    document("metadata"),
    sa.Column("created_at", UtcDateTime, nullable=True),
)

book_targets = table(
    "book_targets",
    *run_columns(),
    key("book_id"),
    session(),
    key("region", 32),
    key("entity_type", 32),
    key("entity_id"),
    number("target_weight"),
    text("model_id", 96),
)

universe_members = table(
    "universe_members",
    *run_columns(),
    key("universe_id"),
    session(),
    key("entity_type", 32),
    key("entity_id"),
    text("tier", 16),
    sa.Column("included", sa.Boolean, nullable=False),
    number("score", nullable=True),
    document("reasons"),
    text("model_id", 96),
)

instrument_scores = table(
    "instrument_scores",
    *run_columns(),
    key("market_id", 50),
    session(),
    key("instrument_id", 50),
    sa.Column("horizon_days", sa.Integer, primary_key=True),
    number("expected_return", nullable=True),
    number("score", nullable=True),
    number("confidence", nullable=True),
    text("signal_label", 32),
    document("alpha_components"),
    text("model_id", 96),
)

profiles = table(
    "profiles",
    *run_columns(),
    session(),
    key("instrument_id", 50),
    sa.Column("structured", JSON, nullable=False),
    sa.Column("risk_flags", JSON, nullable=False),
    sa.Column("weak_profile", sa.Boolean, nullable=True),
    text("schema_id"),
    text("snapshot_id", 32),
    text("model_id", 96),
)

stability_vectors = table(
    "stability_vectors",
    *run_columns(),
    key("entity_type", 32),
    session(),
    key("entity_id"),
    sa.Column("vector_components", JSON, nullable=False),
    number("overall_score", nullable=True),
    text("model_id", 96),
)

soft_target_classes = table(
    "soft_target_classes",
    *run_columns(),
    key("entity_type", 32),
    session(),
    key("entity_id"),
    text("soft_target_class", 32, nullable=True),
    number("soft_target_score", nullable=True),
    # None where too little is known of a profile to call it weak: unknown is not "no".
    sa.Column("weak_profile", sa.Boolean, nullable=True),
    number("instability", nullable=True),
    number("high_fragility", nullable=True),
    number("complacent_pricing", nullable=True),
    text("model_id", 96),
)

regimes = table(
    "regimes",
    *run_columns(),
    key("region", 32),
    session(),
    text("regime_label", 32),
    number("confidence"),
    sa.Column("probabilities", JSON, nullable=False),
    sa.Column("change_risk", JSON, nullable=False),
    sa.Column("features", JSON, nullable=False),
    text("model_id", 96),
)

regime_transitions = table(
    "regime_transitions",
    *run_columns(),
    key("region", 32),
    session(),
    text("from_regime_label", 32),
    text("to_regime_label", 32),
    text("model_id", 96),
)

fragility_measures = table(
    "fragility_measures",
    *run_columns(),
    key("entity_type", 32),
    session(),
    key("entity_id"),
    number("fragility_score", nullable=True),
    text("fragility_class", 32, nullable=True),
    number("drawdown_probability", nullable=True),
    document("scenario_losses"),
    document("components"),
    text("model_id", 96),
)

scenario_sets = table(
    "scenario_sets",
    # Not of a run: any run, report or person may use a set that existed by then.
    key("dataset_id"),
    key("name", 128),
    session(),
    text("spec_hash", 32),
    text("category", 32),
    sa.Column("horizon_days", sa.Integer, nullable=False),
    sa.Column("num_paths", sa.Integer, nullable=False),
    sa.Column("num_instruments", sa.Integer, nullable=False),
    sa.Column("base_date_start", sa.Date, nullable=True),
    sa.Column("base_date_end", sa.Date, nullable=True),
    text("regime_filter", 32, nullable=True),
    sa.Column("generator_spec", JSON, nullable=False),
    text("data_fingerprint", 32),
    text("path", 512),
    text("sha256"),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_scenario_sets_name", "name", "as_of_date"),
)

risk_actions = table(
    "risk_actions",
    *run_columns(),
    key("action_id", 192),
    sa.Column("as_of_date", sa.Date, nullable=False),
    text("instrument_id", 50, nullable=True),
    text("decision_id", 160, nullable=True),
    text("action_type", 32),
    document("details_json"),
    sa.Index("ix_risk_actions_strategy", "strategy_id", "as_of_date"),
    sa.Index("ix_risk_actions_recent", "as_of_date"),
    traded_index("ix_risk_actions_traded", "mode", "as_of_date"),
)

engine_decisions = table(
    "engine_decisions",
    sa.Column("decision_id", sa.String(160), primary_key=True),
    text("engine_name"),
    text("run_id", 96),
    text("mode", 16),
    text("strategy_id"),
    text("market_id", 32),
    sa.Column("as_of_date", sa.Date, nullable=False),
    text("config_id", 128, nullable=True),
    document("input_refs"),
    document("output_refs"),
    document("metadata"),
    sa.Index("ix_engine_decisions_strategy", "strategy_id", "as_of_date"),
    sa.Index("ix_engine_decisions_run", "run_id", "as_of_date"),
    sa.Index("ix_engine_decisions_recent", "as_of_date"),
    sa.Index("ix_engine_decisions_engine", "engine_name", "as_of_date"),
    sa.Index("ix_engine_decisions_of_strategy", "engine_name", "strategy_id", "as_of_date"),
    traded_index("ix_engine_decisions_traded", "mode", "as_of_date"),
)

decision_outcomes = table(
    "decision_outcomes",
    sa.Column(
        "decision_id",
        sa.String(160),
        sa.ForeignKey("engine_decisions.decision_id"),
        primary_key=True,
    ),
    sa.Column("horizon_days", sa.Integer, primary_key=True),
    text("run_id", 96),
    number("realized_return", nullable=True),
    number("realized_pnl", nullable=True),
    number("realized_drawdown", nullable=True),
    number("realized_vol", nullable=True),
    # The session whose close completed the outcome: nobody may read it earlier.
    sa.Column("known_at", sa.Date, nullable=False),
    document("metadata"),
)

artifacts = table(
    "artifacts",
    *run_columns(),
    key("name", 128),
    text("path", 512),
    text("sha256"),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=True),
    text("kind", 32),
)

run_findings = table(
    "run_findings",
    # What stands against believing a run; a later look replaces them all.
    *run_columns(),
    key("code", 32),
    text("severity", 8),
    text("message", 512),
    text("remedy", 512),
    sa.Column("evidence", JSON, nullable=False),
)
