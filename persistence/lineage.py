"""What stands behind one fill: the rows of every table on the way from it to the data."""

from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.tables import historical
from persistence.tables import runtime as tables
from prometheus_nt.domain.errors import StoreError

ENTITY_TABLES = (
    tables.instrument_scores,
    tables.universe_members,
    tables.stability_vectors,
    tables.fragility_measures,
    tables.profiles,
)
"""What was measured of an instrument on the session of a decision."""


def rows_behind(database: Database, fill_id: str) -> dict[str, Any]:
    """Return the rows behind a fill, by what they are; None or an empty list where there is none.

    Raises
    ------
    StoreError
        If there is no such fill.
    """
    with database.reader() as connection:
        fill = _one(connection, tables.fills, fill_id=fill_id)
        if fill is None:
            raise StoreError(f"no fill {fill_id!r}; `prometheus show fills` lists them")
        order = _one(connection, tables.orders, order_id=fill["order_id"])
        return {"fill": fill, **_behind(connection, fill, order)}


def rows_behind_order(database: Database, order_id: str) -> dict[str, Any]:
    """Return the rows behind an order as `rows_behind` does, with its fills in place of one.

    Raises
    ------
    StoreError
        If there is no such order.
    """
    with database.reader() as connection:
        order = _one(connection, tables.orders, order_id=order_id)
        if order is None:
            raise StoreError(f"no order {order_id!r}; `prometheus show orders` lists them")
        fills = _many(connection, tables.fills, order_id=order_id)
        return {"fills": fills, **_behind(connection, order, order)}


def bars_behind(
    database: Database, dataset_id: str, instrument_id: str, as_of: date
) -> dict[str, Any] | None:
    """Return the last stored bar up to `as_of` and how many lead to it; None if there is none."""
    bars = historical.prices_daily.c
    known = (
        bars.dataset_id == dataset_id,
        bars.instrument_id == instrument_id,
        bars.trade_date <= as_of,
    )
    last = sa.select(historical.prices_daily).where(*known).order_by(bars.trade_date.desc())
    extent = sa.select(sa.func.count(), sa.func.min(bars.trade_date)).where(*known)
    with database.reader() as connection:
        row = connection.execute(last.limit(1)).mappings().first()
        if row is None:
            return None
        count, first = connection.execute(extent).one()
    return {"bars": count, "first_date": first, "last_bar": dict(row)}


def _behind(
    connection: Connection, traded: dict[str, Any], order: dict[str, Any] | None
) -> dict[str, Any]:
    """Return order, decision and run of what was traded, and the rows of the decision."""
    decision_id = None if order is None else order["decision_id"]
    decision = _one(connection, tables.engine_decisions, decision_id=decision_id)
    run = _one(connection, tables.backtest_runs, run_id=traded["run_id"])
    found = {"order": order, "decision": decision, "run": run}
    return found if decision is None else found | _of_decision(connection, traded, decision)


def _of_decision(
    connection: Connection, traded: dict[str, Any], decision: dict[str, Any]
) -> dict[str, Any]:
    """Return the rows of the session on which it was decided."""
    when = {"run_id": traded["run_id"], "as_of_date": decision["as_of_date"]}
    actions = _many(connection, tables.risk_actions, **when)
    mine = (None, traded["instrument_id"])
    target = _one(connection, tables.target_portfolios, portfolio_id=traded["portfolio_id"], **when)
    stages = _many(connection, tables.engine_decisions, **when)
    return {
        "target": target,
        "risk_actions": [row for row in actions if row["instrument_id"] in mine],
        "measured": {
            table.name: _of_instrument(connection, table, traded["instrument_id"], when)
            for table in ENTITY_TABLES
        },
        "stages": [row for row in stages if row["decision_id"] != decision["decision_id"]],
    }


def _of_instrument(
    connection: Connection, table: sa.Table, instrument_id: str, when: dict[str, Any]
) -> dict[str, Any] | None:
    entity = "instrument_id" if "instrument_id" in table.c else "entity_id"
    return _one(connection, table, **when, **{entity: instrument_id})


def _one(connection: Connection, table: sa.Table, **key: Any) -> dict[str, Any] | None:
    found = _many(connection, table, **key)
    return found[0] if found else None


def _many(connection: Connection, table: sa.Table, **key: Any) -> list[dict[str, Any]]:
    query = sa.select(table).where(*(table.c[name] == value for name, value in key.items()))
    return [dict(row) for row in connection.execute(query).mappings()]
