"""The runtime database: what every run ordered, filled, held, decided and measured, in every mode.

Rows are keyed by what they are about (run, session, entity), so that writing twice changes
nothing. `run_id` and `mode` stand on every row; `strategy_id` and `model_id` where they apply.
"""

import sqlalchemy as sa

from persistence.tables.types import JSON, NAMING_CONVENTION, UtcDateTime

RUNTIME = sa.MetaData(naming_convention=NAMING_CONVENTION)


def _run() -> list[sa.Column[str]]:
    return [
        sa.Column("run_id", sa.String(96), primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("strategy_id", sa.String(64), nullable=False),
    ]


def _session(name: str = "as_of_date") -> "sa.Column[object]":
    return sa.Column(name, sa.Date, primary_key=True)


def _key(name: str, length: int = 64) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), primary_key=True)


def _text(name: str, length: int = 64, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _json(name: str) -> "sa.Column[object]":
    return sa.Column(name, JSON, nullable=True)


def _table(name: str, *columns: "sa.schema.SchemaItem") -> sa.Table:
    return sa.Table(name, RUNTIME, *columns, sqlite_with_rowid=False)


backtest_runs = _table(
    "backtest_runs",
    *_run(),
    _text("sleeve_id"),
    _text("portfolio_id"),
    _text("market_id", 32),
    _text("status", 16),
    sa.Column("start_date", sa.Date, nullable=False),
    sa.Column("end_date", sa.Date, nullable=False),
    _text("universe_id", nullable=True),
    _text("dataset_id"),
    _text("data_fingerprint", 32),
    _text("config_hash", 32),
    _text("code_hash", 32),
    _text("order_list_hash", 32, nullable=True),
    sa.Column("config_json", JSON, nullable=False),
    _json("metrics_json"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("completed_at", UtcDateTime, nullable=True),
    sa.Index("ix_backtest_runs_strategy", "strategy_id", "created_at"),
)

backtest_daily_equity = _table(
    "backtest_daily_equity",
    *_run(),
    _session("date"),
    _number("equity_curve_value"),
    _number("drawdown", nullable=True),
    _number("cash"),
    _number("gross_exposure"),
    _number("net_exposure"),
    _json("exposure_metrics_json"),
)

backtest_trades = _table(
    "backtest_trades",
    *_run(),
    _key("trade_id", 128),
    sa.Column("trade_date", sa.Date, nullable=False),
    _text("ticker", 50),
    _text("instrument_id", 50),
    _text("direction", 8),
    _number("size"),
    _number("price"),
    _number("commission"),
    _number("pnl"),
    _text("universe_id", nullable=True),
    _json("decision_metadata_json"),
    sa.Index("ix_backtest_trades_date", "run_id", "trade_date"),
)

orders = _table(
    "orders",
    sa.Column("order_id", sa.String(160), primary_key=True),
    _text("run_id", 96),
    _text("mode", 16),
    _text("strategy_id"),
    _text("portfolio_id"),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    _text("instrument_id", 50),
    _text("side", 8),
    _text("order_type", 16),
    _number("quantity"),
    _number("filled_quantity"),
    _number("limit_price", nullable=True),
    _number("stop_price", nullable=True),
    _text("status", 32),
    _text("decision_id", 160, nullable=True),
    _json("metadata"),
    sa.Index("ix_orders_run", "run_id", "timestamp"),
    sa.Index("ix_orders_portfolio", "portfolio_id", "timestamp"),
    sa.Index("ix_orders_strategy", "strategy_id", "timestamp"),
)

fills = _table(
    "fills",
    sa.Column("fill_id", sa.String(168), primary_key=True),
    sa.Column("order_id", sa.String(160), sa.ForeignKey("orders.order_id"), nullable=False),
    _text("run_id", 96),
    _text("mode", 16),
    _text("strategy_id"),
    _text("portfolio_id"),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    _text("instrument_id", 50),
    _text("side", 8),
    _number("quantity"),
    _number("price"),
    _number("commission"),
    _json("metadata"),
    sa.Index("ix_fills_run", "run_id", "timestamp"),
    sa.Index("ix_fills_portfolio", "portfolio_id", "timestamp"),
    sa.Index("ix_fills_order", "order_id"),
)

executed_actions = _table(
    "executed_actions",
    sa.Column("action_id", sa.String(168), primary_key=True),
    _text("run_id", 96),
    _text("mode", 16),
    _text("strategy_id"),
    _text("portfolio_id"),
    _text("decision_id", 160, nullable=True),
    _text("instrument_id", 50),
    sa.Column("trade_date", sa.Date, nullable=False),
    _text("side", 8),
    _number("quantity"),
    _number("price"),
    _number("decision_price", nullable=True),
    _number("arrival_price", nullable=True),
    _number("slippage", nullable=True),
    _number("slippage_bps", nullable=True),
    _number("spread_cost", nullable=True),
    _number("impact_cost", nullable=True),
    _number("fees"),
    _json("metadata"),
    sa.Index("ix_executed_actions_run", "run_id", "trade_date"),
)

positions_snapshots = _table(
    "positions_snapshots",
    # The key begins with what people ask by; a second index would cost a third of the writing.
    _key("portfolio_id"),
    _session(),
    *_run(),
    _key("instrument_id", 50),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    _number("quantity"),
    _number("avg_cost"),
    _number("market_value"),
    _number("unrealized_pnl"),
    sa.Column("unmarked_sessions", sa.Integer, nullable=False),
)

cash_flows = _table(
    "cash_flows",
    *_run(),
    _key("portfolio_id"),
    sa.Column("session", sa.Date, primary_key=True),
    _key("kind", 16),
    _key("instrument_id", 50),
    _number("quantity"),
    _number("amount"),
)

target_portfolios = _table(
    "target_portfolios",
    *_run(),
    _key("portfolio_id"),
    _session(),
    sa.Column("target_positions", JSON, nullable=False),
    _text("model_id", 96),
    _json("metadata"),
)

portfolio_risk_reports = _table(
    "portfolio_risk_reports",
    *_run(),
    _key("portfolio_id"),
    _session(),
    _number("portfolio_value", nullable=True),
    _number("cash", nullable=True),
    _number("net_exposure"),
    _number("gross_exposure"),
    _number("leverage"),
    sa.Column("risk_metrics", JSON, nullable=False),
    _json("scenario_pnl"),
    _json("exposures_by_sector"),
    _json("exposures_by_factor"),
    _text("model_id", 96),
)

book_targets = _table(
    "book_targets",
    *_run(),
    _key("book_id"),
    _session(),
    _key("region", 32),
    _key("entity_type", 32),
    _key("entity_id"),
    _number("target_weight"),
    _text("model_id", 96),
)

universe_members = _table(
    "universe_members",
    *_run(),
    _key("universe_id"),
    _session(),
    _key("entity_type", 32),
    _key("entity_id"),
    _text("tier", 16),
    sa.Column("included", sa.Boolean, nullable=False),
    _number("score", nullable=True),
    _json("reasons"),
    _text("model_id", 96),
)

instrument_scores = _table(
    "instrument_scores",
    *_run(),
    _key("market_id", 50),
    _session(),
    _key("instrument_id", 50),
    sa.Column("horizon_days", sa.Integer, primary_key=True),
    _number("expected_return", nullable=True),
    _number("score", nullable=True),
    _number("confidence", nullable=True),
    _text("signal_label", 32),
    _json("alpha_components"),
    _text("model_id", 96),
)

profiles = _table(
    "profiles",
    *_run(),
    _session(),
    _key("instrument_id", 50),
    sa.Column("structured", JSON, nullable=False),
    sa.Column("risk_flags", JSON, nullable=False),
    sa.Column("weak_profile", sa.Boolean, nullable=True),
    _text("schema_id"),
    _text("snapshot_id", 32),
    _text("model_id", 96),
)

stability_vectors = _table(
    "stability_vectors",
    *_run(),
    _key("entity_type", 32),
    _session(),
    _key("entity_id"),
    sa.Column("vector_components", JSON, nullable=False),
    _number("overall_score", nullable=True),
    _text("model_id", 96),
)

soft_target_classes = _table(
    "soft_target_classes",
    *_run(),
    _key("entity_type", 32),
    _session(),
    _key("entity_id"),
    _text("soft_target_class", 32, nullable=True),
    _number("soft_target_score", nullable=True),
    # None where too little is known of a profile to call it weak: unknown is not "no".
    sa.Column("weak_profile", sa.Boolean, nullable=True),
    _number("instability", nullable=True),
    _number("high_fragility", nullable=True),
    _number("complacent_pricing", nullable=True),
    _text("model_id", 96),
)

regimes = _table(
    "regimes",
    *_run(),
    _key("region", 32),
    _session(),
    _text("regime_label", 32),
    _number("confidence"),
    sa.Column("probabilities", JSON, nullable=False),
    sa.Column("change_risk", JSON, nullable=False),
    sa.Column("features", JSON, nullable=False),
    _text("model_id", 96),
)

regime_transitions = _table(
    "regime_transitions",
    *_run(),
    _key("region", 32),
    _session(),
    _text("from_regime_label", 32),
    _text("to_regime_label", 32),
    _text("model_id", 96),
)

fragility_measures = _table(
    "fragility_measures",
    *_run(),
    _key("entity_type", 32),
    _session(),
    _key("entity_id"),
    _number("fragility_score", nullable=True),
    _text("fragility_class", 32, nullable=True),
    _number("drawdown_probability", nullable=True),
    _json("scenario_losses"),
    _json("components"),
    _text("model_id", 96),
)

risk_actions = _table(
    "risk_actions",
    *_run(),
    _key("action_id", 192),
    sa.Column("as_of_date", sa.Date, nullable=False),
    _text("instrument_id", 50, nullable=True),
    _text("decision_id", 160, nullable=True),
    _text("action_type", 32),
    _json("details_json"),
    sa.Index("ix_risk_actions_strategy", "strategy_id", "as_of_date"),
)

engine_decisions = _table(
    "engine_decisions",
    sa.Column("decision_id", sa.String(160), primary_key=True),
    _text("engine_name"),
    _text("run_id", 96),
    _text("mode", 16),
    _text("strategy_id"),
    _text("market_id", 32),
    sa.Column("as_of_date", sa.Date, nullable=False),
    _text("config_id", 128, nullable=True),
    _json("input_refs"),
    _json("output_refs"),
    _json("metadata"),
    sa.Index("ix_engine_decisions_strategy", "strategy_id", "as_of_date"),
    sa.Index("ix_engine_decisions_run", "run_id", "as_of_date"),
)

decision_outcomes = _table(
    "decision_outcomes",
    sa.Column(
        "decision_id",
        sa.String(160),
        sa.ForeignKey("engine_decisions.decision_id"),
        primary_key=True,
    ),
    sa.Column("horizon_days", sa.Integer, primary_key=True),
    _text("run_id", 96),
    _number("realized_return", nullable=True),
    _number("realized_pnl", nullable=True),
    _number("realized_drawdown", nullable=True),
    _number("realized_vol", nullable=True),
    # The session whose close completed the outcome: nobody may read it earlier.
    sa.Column("known_at", sa.Date, nullable=False),
    _json("metadata"),
)

artifacts = _table(
    "artifacts",
    *_run(),
    _key("name", 128),
    _text("path", 512),
    _text("sha256"),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=True),
    _text("kind", 32),
)
