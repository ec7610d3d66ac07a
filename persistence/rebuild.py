"""A run's books from its rows alone: what a node would have to know if nothing else were left."""

from dataclasses import dataclass

import sqlalchemy as sa

from persistence.database import Database
from persistence.live_mirror import LiveMirror
from persistence.tables import runtime as tables
from persistence.tables.trading import OPEN_STATUSES
from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.ledger import CashFlowKind, micros


@dataclass(frozen=True)
class Books:
    """What a run owns.

    Attributes
    ----------
    shares : mapping of instrument to signed shares; nothing that is flat
    open_orders : ids of the orders that may still fill
    """

    cash_micros: int
    shares: dict[str, int]
    open_orders: frozenset[str]


def rebuild_books(database: Database, run_id: str, capital_usd: float) -> Books:
    """Return the books that fills, cash flows and orders add up to.

    Splits and delistings move shares without a fill: their cash flows say how many.
    """
    cash, shares = micros(capital_usd), dict[str, int]()
    fills, flows, orders = tables.fills.c, tables.cash_flows.c, tables.orders.c
    traded = sa.select(
        fills.instrument_id, fills.side, fills.quantity, fills.price, fills.commission
    ).where(fills.run_id == run_id)
    flowed = sa.select(flows.kind, flows.instrument_id, flows.quantity, flows.amount)
    working = sa.select(orders.order_id).where(orders.status.in_(OPEN_STATUSES))
    with database.reader() as connection:
        for name, side, quantity, price, commission in connection.execute(traded):
            signed = round(quantity) if side == "BUY" else -round(quantity)
            shares[name] = shares.get(name, 0) + signed
            cash -= signed * micros(price) + micros(commission)
        for kind, name, quantity, amount in connection.execute(
            flowed.where(flows.run_id == run_id)
        ):
            cash += micros(amount)
            moved = {CashFlowKind.SPLIT: 1, CashFlowKind.DELISTING: -1}.get(kind, 0)
            shares[name] = shares.get(name, 0) + moved * round(quantity)
        still_open = connection.execute(working.where(orders.run_id == run_id)).scalars()
        held = {name: count for name, count in shares.items() if count}
        return Books(cash, held, frozenset(still_open))


def books_of(mirror: LiveMirror) -> Books:
    """Return the books of a node, as its own mirror has them."""
    ledger = mirror.ledger
    held = zip(ledger.instruments, ledger.shares.tolist(), strict=True)
    shares = {name: count for name, count in held if count}
    return Books(ledger.cash_micros, shares, frozenset(mirror.open_orders()))


def require_equal(run_id: str, stored: Books, replayed: Books) -> None:
    """Raise `AccountingError` unless the rows alone say what the replayed node says."""
    if stored == replayed:
        return
    for name in ("cash_micros", "open_orders", "shares"):
        before, after = getattr(stored, name), getattr(replayed, name)
        if before != after:
            raise AccountingError(
                f"{run_id}: the rows add up to {name} {before}, the replayed node has {after}; "
                "trading halts"
            )
