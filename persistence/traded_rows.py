"""What one run ordered, filled, was paid, owned and decided, as its rows say."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from persistence.database import Database
from persistence.tables import runtime as tables
from persistence.tables.trading import alerts

MARKET_ENGINES = ("PROFILES", "REGIME", "STABILITY", "FRAGILITY", "ASSESSMENT", "UNIVERSE")
"""Stages that look at the market and never at the books."""

TradedRow = Mapping[str, Any]


def order_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return the orders of a run as they were sent; `decided_on` is None without a decision."""
    orders, decisions = tables.orders, tables.engine_decisions.c
    query = (
        sa.select(orders, decisions.as_of_date.label("decided_on"))
        .select_from(orders)
        .outerjoin(tables.engine_decisions, orders.c.decision_id == decisions.decision_id)
        .where(orders.c.run_id == run_id)
        .order_by(orders.c.timestamp, orders.c.order_id)
    )
    return _read(database, query)


def fill_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return the fills of a run in the order of their times."""
    fills = tables.fills.c
    query = sa.select(tables.fills).where(fills.run_id == run_id)
    return _read(database, query.order_by(fills.timestamp, fills.fill_id))


def cash_flow_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return the cash flows of a run, session by session."""
    flows = tables.cash_flows.c
    query = sa.select(tables.cash_flows).where(flows.run_id == run_id)
    return _read(database, query.order_by(flows.session, flows.kind, flows.instrument_id))


def equity_rows_of(database: Database, run_id: str) -> list[TradedRow]:
    """Return session, equity and cash of every close of a run."""
    curve = tables.backtest_daily_equity.c
    query = sa.select(
        curve.date.label("session"), curve.equity_curve_value.label("equity"), curve.cash
    )
    return _read(database, query.where(curve.run_id == run_id).order_by(curve.date))


def position_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return session, instrument, quantity and value of the positions that were stored."""
    held = tables.positions_snapshots.c
    query = sa.select(
        held.as_of_date.label("session"), held.instrument_id, held.quantity, held.market_value
    )
    return _read(database, query.where(held.run_id == run_id).order_by(held.as_of_date))


def target_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return session, weights and input hashes of the targets of a run."""
    targets = tables.target_portfolios
    made = targets.c["metadata"]
    query = sa.select(
        targets.c.as_of_date.label("session"), targets.c.target_positions, made.label("made")
    )
    return _read(database, query.where(targets.c.run_id == run_id).order_by("session"))


def market_hash_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return session, engine and outputs of what the engines said of the market."""
    decisions = tables.engine_decisions.c
    query = (
        sa.select(
            decisions.as_of_date.label("session"), decisions.engine_name, decisions.output_refs
        )
        .where(decisions.run_id == run_id, decisions.engine_name.in_(MARKET_ENGINES))
        .order_by(decisions.as_of_date, decisions.engine_name)
    )
    return _read(database, query)


def alert_rows(database: Database, run_id: str) -> list[TradedRow]:
    """Return the alerts about a run, oldest first."""
    query = sa.select(alerts).where(alerts.c.subject == run_id)
    return _read(database, query.order_by(alerts.c.first_at))


def _read(database: Database, query: Any) -> list[TradedRow]:
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
