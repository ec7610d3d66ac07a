"""What a run traded, order by order and fill by fill, as it is stored."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from persistence.database import Database
from persistence.tables import runtime as tables


@dataclass(frozen=True)
class StoredOrder:
    """An order; `session` is the one at whose close it was decided."""

    session: date
    instrument_id: str
    side: str
    quantity: int
    filled: int
    status: str


@dataclass(frozen=True)
class StoredFill:
    """A fill; `session` is the one in which it was made."""

    session: date
    instrument_id: str
    side: str
    quantity: int
    price: float
    commission: float


def stored_orders(database: Database, run_id: str, zone: ZoneInfo) -> list[StoredOrder]:
    """Return the orders of a run, oldest first; sessions are days of the market's `zone`."""
    rows = _rows(database, tables.orders, run_id)
    return [
        StoredOrder(
            session=_day(row["timestamp"], zone),
            instrument_id=row["instrument_id"],
            side=row["side"],
            quantity=round(row["quantity"]),
            filled=round(row["filled_quantity"]),
            status=row["status"],
        )
        for row in rows
    ]


def stored_fills(database: Database, run_id: str, zone: ZoneInfo) -> list[StoredFill]:
    """Return the fills of a run, oldest first; sessions are days of the market's `zone`."""
    rows = _rows(database, tables.fills, run_id)
    return [
        StoredFill(
            session=_day(row["timestamp"], zone),
            instrument_id=row["instrument_id"],
            side=row["side"],
            quantity=round(row["quantity"]),
            price=row["price"],
            commission=row["commission"],
        )
        for row in rows
    ]


def last_equity(database: Database, run_id: str) -> float | None:
    """Return the equity at a run's newest session, USD; None if it has none."""
    equity = tables.backtest_daily_equity.c
    query = sa.select(equity.equity).where(equity.run_id == run_id)
    with database.reader() as connection:
        return connection.execute(query.order_by(equity.date.desc()).limit(1)).scalar()


def _rows(database: Database, table: sa.Table, run_id: str) -> list[dict[str, Any]]:
    query = sa.select(table).where(table.c.run_id == run_id)
    with database.reader() as connection:
        found = connection.execute(query.order_by(table.c.timestamp, *table.primary_key))
        return [dict(row) for row in found.mappings()]


def _day(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()
