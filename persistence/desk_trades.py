"""What was wanted of a book, and what its fills cost beyond the price of the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from persistence.database import Database
from persistence.standing import Record
from persistence.tables import runtime as tables


@dataclass(frozen=True)
class Wanted:
    """The newest target of a run.

    weights : instrument id -> fraction of equity; None where what is stored names none.
    """

    session: date
    weights: dict[str, float] | None


def wanted_at(database: Database, run: Record, as_of: date | None) -> Wanted | None:
    """Return the newest target of a run up to `as_of`; None before it had any."""
    target = tables.target_portfolios.c
    query = sa.select(target.as_of_date, target.target_positions).where(
        target.run_id == run["run_id"], target.portfolio_id == run["portfolio_id"]
    )
    if as_of is not None:
        query = query.where(target.as_of_date <= as_of)
    with database.reader() as connection:
        row = connection.execute(query.order_by(target.as_of_date.desc()).limit(1)).first()
    return None if row is None else Wanted(row.as_of_date, row.target_positions.get("weights"))


def slippage_of(database: Database, fill_ids: Sequence[str]) -> dict[str, float]:
    """Return the slippage of fills in basis points of the decision's price; a cost is positive.

    Fills without a decision price are absent.
    """
    done = tables.executed_actions.c
    query = sa.select(done.action_id, done.slippage_bps).where(
        done.action_id.in_(fill_ids), done.slippage_bps.is_not(None)
    )
    with database.reader() as connection:
        return {fill_id: slippage for fill_id, slippage in connection.execute(query)}


def last_fill(
    database: Database,
    run_ids: Sequence[str],
    instrument_id: str,
    *,
    side: str | None = None,
    before: datetime | None = None,
) -> Record | None:
    """Return the newest fill of an instrument in runs; None without one.

    Parameters
    ----------
    side : BUY or SELL; None is either
    before : only fills earlier than this
    """
    fills = tables.fills.c
    query = sa.select(tables.fills).where(fills.instrument_id == instrument_id)
    if side is not None:
        query = query.where(fills.side == side)
    if before is not None:
        query = query.where(fills.timestamp < before)
    newest = query.order_by(fills.timestamp.desc(), fills.fill_id).limit(1)
    found: list[Record] = []
    with database.reader() as connection:
        for run_id in run_ids:
            row = connection.execute(newest.where(fills.run_id == run_id)).mappings().first()
            found += [] if row is None else [dict(row)]
    return max(found, key=lambda row: row["timestamp"], default=None)
