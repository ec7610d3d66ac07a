"""Executions as a broker names them: told once or ten times, each is one fill.

- An execution is known by its account and its trade id. Told again with the same content, nothing
  happens; with another content it is refused, since a broker corrects under a new trade id.
- A correction or a bust replaces: `fills` and what hangs on a fill show what is true now, and
  `executions` keeps everything that was said.
- An order's filled quantity is the sum of its active executions, always.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.tables import runtime as tables
from persistence.tables.trading import executions
from prometheus_nt.domain.errors import StoreError

ACTIVE, CORRECTED, BUSTED = "ACTIVE", "CORRECTED", "BUSTED"

_FACTS = ("order_id", "instrument_id", "side", "quantity", "price", "commission")
"""What two messages about one execution must agree in."""


@dataclass(frozen=True)
class Correction:
    """What an execution was in truth; the trade id is the one the broker gave the correction."""

    trade_id: str
    quantity: float
    price: float
    commission: float
    timestamp: datetime


class ExecutionStore:
    """Records, corrects and busts executions, each in one durable transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def record(self, execution: dict[str, Any]) -> bool:
        """Record an execution and its fill; return False if it was known already.

        Parameters
        ----------
        execution : mapping of every column of `executions` but `status` and `replaces`

        Raises
        ------
        StoreError
            If the trade id is known with another content.
        """
        row = execution | {"status": ACTIVE, "replaces": None}
        with self.database.durable_writer() as connection:
            if not record_executions(connection, [row]):
                return False
            _write_fill(connection, row)
            _refill(connection, row["order_id"], row["timestamp"])
        return True

    def correct(self, account_id: str, trade_id: str, correction: Correction) -> bool:
        """Replace an execution by what it was in truth; return False if that was done already.

        Raises
        ------
        StoreError
            If no such execution is known, or it is no longer active.
        """
        with self.database.durable_writer() as connection:
            before = _find(connection, account_id, trade_id)
            row = before | {
                "trade_id": correction.trade_id,
                "quantity": correction.quantity,
                "price": correction.price,
                "commission": correction.commission,
                "timestamp": correction.timestamp,
                "status": ACTIVE,
                "replaces": trade_id,
            }
            if before["status"] == CORRECTED and not record_executions(connection, [row]):
                return False
            _require_active(before)
            _set_status(connection, before, CORRECTED)
            record_executions(connection, [row])
            _write_fill(connection, row)
            _refill(connection, row["order_id"], row["timestamp"])
        return True

    def bust(self, account_id: str, trade_id: str, at: datetime) -> bool:
        """Undo an execution that never was; return False if that was done already.

        Raises
        ------
        StoreError
            If no such execution is known, or it was replaced by another.
        """
        with self.database.durable_writer() as connection:
            before = _find(connection, account_id, trade_id)
            if before["status"] == BUSTED:
                return False
            _require_active(before)
            _set_status(connection, before, BUSTED)
            for table, name in _OF_A_FILL:
                gone = table.c[name] == before["fill_id"]
                connection.execute(sa.delete(table).where(gone))
            _refill(connection, before["order_id"], at)
        return True


_OF_A_FILL = (
    (tables.executed_actions, "action_id"),
    (tables.backtest_trades, "trade_id"),
    (tables.fills, "fill_id"),
)
"""Tables with a row for each fill, and the column that names it."""


def record_executions(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Insert executions in the caller's transaction; return how many were not known.

    Raises
    ------
    StoreError
        If one is known with another content.
    """
    names = executions.columns.keys()
    known = _known(connection, rows)
    for row in rows:
        before = known.get((row["account_id"], row["trade_id"]))
        differing = [name for name in _FACTS if before is not None and before[name] != row[name]]
        if before is not None and differing:
            listed = ", ".join(f"{name} {before[name]} and {row[name]}" for name in differing)
            raise StoreError(
                f"execution {row['trade_id']} of {row['account_id']} was told twice, with {listed};"
                " a correction has a trade id of its own"
            )
    new = {key: row for row in rows if (key := (row["account_id"], row["trade_id"])) not in known}
    plain = [tuple(row[name] for name in names) for row in new.values()]
    return upsert(connection, executions, names, plain, update=False)


# Asked before every writing: building the question anew would cost more than the answer.
_OF_TRADES = sa.select(executions).where(
    executions.c.account_id.in_(sa.bindparam("account_id", expanding=True)),
    executions.c.trade_id.in_(sa.bindparam("trade_id", expanding=True)),
)


def _known(
    connection: Connection, rows: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is recorded of executions, by account and trade id."""
    asked = {name: [row[name] for row in rows] for name in ("account_id", "trade_id")}
    asked["account_id"] = sorted(set(asked["account_id"]))
    found = [dict(row) for row in connection.execute(_OF_TRADES, asked).mappings()] if rows else []
    return {(row["account_id"], row["trade_id"]): row for row in found}


def _find(connection: Connection, account_id: str, trade_id: str) -> dict[str, Any]:
    asked = {"account_id": account_id, "trade_id": trade_id}
    found = _known(connection, [asked]).get((account_id, trade_id))
    if found is None:
        raise StoreError(f"no execution {trade_id!r} of account {account_id!r} is recorded")
    return found


def _require_active(execution: dict[str, Any]) -> None:
    if execution["status"] != ACTIVE:
        raise StoreError(
            f"execution {execution['trade_id']} of {execution['account_id']} is "
            f"{execution['status']}; only an active one can be replaced"
        )


def _set_status(connection: Connection, execution: dict[str, Any], status: str) -> None:
    this = (executions.c.account_id == execution["account_id"]) & (
        executions.c.trade_id == execution["trade_id"]
    )
    connection.execute(sa.update(executions).where(this).values(status=status))


def _write_fill(connection: Connection, execution: dict[str, Any]) -> None:
    names = tables.fills.columns.keys()
    row = execution | {"metadata": {"trade_id": execution["trade_id"]}}
    upsert(connection, tables.fills, names, [tuple(row[name] for name in names)])
    _reprice(connection, execution)


def _reprice(connection: Connection, execution: dict[str, Any]) -> None:
    """Measure the slippage of a fill again, where its decision price is known."""
    actions = tables.executed_actions.c
    this = actions.action_id == execution["fill_id"]
    found = connection.execute(sa.select(actions.decision_price).where(this)).first()
    if found is None:
        return
    quantity, price = execution["quantity"], execution["price"]
    values: dict[str, Any] = {"quantity": quantity, "price": price, "fees": execution["commission"]}
    if found[0]:
        sign = 1 if execution["side"] == "BUY" else -1
        slippage = sign * quantity * (price - found[0])
        values |= {"slippage": slippage, "slippage_bps": 1e4 * slippage / (quantity * found[0])}
    connection.execute(sa.update(tables.executed_actions).where(this).values(values))
    trade = tables.backtest_trades.c.trade_id == execution["fill_id"]
    changed = {"size": quantity, "price": price, "commission": execution["commission"]}
    connection.execute(sa.update(tables.backtest_trades).where(trade).values(changed))


def _refill(connection: Connection, order_id: str, at: datetime) -> None:
    """Set what of an order is filled, and its status, from its active executions."""
    active = (executions.c.order_id == order_id) & (executions.c.status == ACTIVE)
    total = sa.select(sa.func.coalesce(sa.func.sum(executions.c.quantity), 0.0)).where(active)
    filled = float(connection.execute(total).scalar_one())
    orders = tables.orders.c
    found = connection.execute(
        sa.select(orders.quantity, orders.status).where(orders.order_id == order_id)
    ).first()
    if found is None:
        raise StoreError(f"no order {order_id!r} is recorded, so it cannot have been filled")
    values: dict[str, Any] = {"filled_quantity": filled, "updated_at": at}
    if found.status in _BY_FILLS:
        values["status"] = _status(filled, found.quantity)
    connection.execute(sa.update(tables.orders).where(orders.order_id == order_id).values(values))


_BY_FILLS = ("PENDING", "SUBMITTED", "PARTIALLY_FILLED", "FILLED")
"""Statuses that follow from what is filled; an order that was cancelled stays so."""


def _status(filled: float, quantity: float) -> str:
    if filled >= quantity:
        return "FILLED"
    return "PARTIALLY_FILLED" if filled else "SUBMITTED"
