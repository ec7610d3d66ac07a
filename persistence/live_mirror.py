"""The mirror of a node that trades in real time: what is new, phase by phase, as rows and events.

A session has two phases: its OPEN, when orders fill, and its CLOSE, when engines and sleeves have
decided. `LiveMirror.phase` returns all that happened since the phase before it:

1. the rows of every table, made by the builders that a backtest's rows are made by;
2. rows that only real time has: every status of an order, the account, the broker's executions;
3. the events that the record is checked by: one for each status, fill, cash flow, target and
   account state, and a last one with a digest of the phase's other trading rows.

A second message about one execution changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from persistence.blocks import Block, JsonText, Row
from persistence.events import Payload, texts
from persistence.mirror import FillTrace, Holdings, Mirror, OrderTrace
from persistence.run_rows import (
    OUTCOME_HORIZONS,
    Batch,
    equity_rows,
    instant,
    outcome_rows,
    run_rows,
)
from persistence.tables import runtime as tables
from persistence.tables.columns import written
from persistence.tables.trading import (
    OPEN_STATUSES,
    account_states,
    executions,
    order_status_history,
)
from prometheus_nt.bus import Published
from prometheus_nt.domain.ledger import Ledger

PhaseName = Literal["OPEN", "CLOSE"]

CURRENT = {
    "OrderInitialized": "PENDING",
    "OrderSubmitted": "SUBMITTED",
    "OrderAccepted": "ACCEPTED",
    "OrderUpdated": "RESTATED",
}
"""What an event says of an order, where its row's status is too coarse to tell."""

TOLD_ONE_BY_ONE = (
    order_status_history,
    tables.fills,
    tables.cash_flows,
    tables.target_portfolios,
    account_states,
)
TOLD_BY_DIGEST = (
    tables.orders,
    tables.executed_actions,
    tables.positions_snapshots,
    tables.backtest_daily_equity,
)

UNTOLD = (
    *("metadata", "run_id", "mode", "strategy_id", "portfolio_id", "account_id"),
    *("created_at", "config_snapshot"),
)
"""Where a row comes from and whose it is: an event is what was decided and what happened."""

MOST_REASON = 512


@dataclass(frozen=True)
class StatusChange:
    """An order as it was after one event."""

    order: OrderTrace
    ts_ns: int
    status: str
    quantity: int
    filled: int
    reason: str | None


@dataclass(frozen=True)
class Phase:
    """All that one phase of a session wrote and said.

    batches : rows by table, in an order that satisfies every foreign key
    events : (kind, payload), in the order they happened; none if nothing is written
    """

    session: date
    name: PhaseName
    batches: tuple[Batch, ...]
    events: tuple[tuple[str, Payload], ...]


@dataclass
class _Told:
    """How much of the mirror's lists earlier phases have told."""

    changes: int = 0
    fills: int = 0
    flows: int = 0
    holdings: int = 0
    decisions: int = 0
    refusals: int = 0
    regimes: int = 0
    sequence: int = 0


@dataclass(eq=False, repr=False)
class LiveMirror(Mirror):
    """A mirror that can say what is new.

    Parameters
    ----------
    account_id : str
        Whose executions these are; with a trade id it names one for good.
    """

    account_id: str = ""
    changes: list[StatusChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._told = _Told()
        self._trades: set[str] = set()
        self._bare = Ledger(self.ledger.instruments, 0.0)

    def on_order_event(self, event: Any) -> None:
        name = type(event).__name__
        if name == "OrderFilled":
            if event.trade_id.value in self._trades:
                return
            self._trades.add(event.trade_id.value)
        super().on_order_event(event)
        order = self.orders[event.client_order_id.value]
        self.changes.append(
            StatusChange(
                order=order,
                ts_ns=event.ts_event,
                status=CURRENT.get(name, order.status),
                quantity=order.quantity,
                filled=order.filled,
                reason=getattr(event, "reason", None),
            )
        )

    def phase(self, session: date, name: PhaseName) -> Phase:
        """Return what happened since the last phase."""
        told, new = self._told, self._new(session)
        changes = self.changes[told.changes :]
        batches = [*run_rows(new)]
        batches.append((order_status_history, self._status_rows(session, changes)))
        batches.append((executions, [self._execution_row(fill) for fill in new.fills]))
        batches.append((account_states, [self._account_row(held) for held in new.holdings]))
        batches.append(equity_rows(new))
        batches.extend(self._outcomes(session) if new.holdings else ())
        told.changes, told.fills = len(self.changes), len(self.fills)
        told.flows, told.holdings = len(self.ledger.cash_flows), len(self.holdings)
        told.decisions, told.refusals = len(self.decisions), len(self.refusals)
        told.regimes = len(self.regimes)
        written = tuple((table, rows) for table, rows in batches if rows)
        events = tuple(_events(session, name, written)) if written else ()
        return Phase(session, name, written, events)

    def open_orders(self) -> set[str]:
        """Return the ids of the orders that may still fill."""
        return {order.order_id for order in self.orders.values() if order.status in OPEN_STATUSES}

    def _new(self, session: date) -> Mirror:
        """Return a mirror of what was not told yet."""
        told = self._told
        touched = (change.order for change in self.changes[told.changes :])
        orders = {order.order_id: order for order in touched}
        ledger = self._bare_ledger()
        ledger.cash_flows = self.ledger.cash_flows[told.flows :]
        return Mirror(
            run=self.run,
            ledger=ledger,
            orders=orders,
            fills=self.fills[told.fills :],
            holdings=self.holdings[told.holdings :],
            decisions=self.decisions[told.decisions :],
            refusals=self.refusals[told.refusals :],
            regimes=self.regimes[told.regimes :],
            stages={session: self.stages[session]} if session in self.stages else {},
        )

    def _bare_ledger(self) -> Ledger:
        """Return a ledger of the same instruments that says nothing but what it is given."""
        if self._bare.instruments is not self.ledger.instruments:
            self._bare = Ledger(self.ledger.instruments, 0.0)
        return self._bare

    def _outcomes(self, session: date) -> Iterator[Batch]:
        """Yield the outcomes of older decisions that this session's close completes."""
        recent = self.holdings[-max(OUTCOME_HORIZONS) - 1 :]
        due = {recent[-horizon - 1].as_of for horizon in OUTCOME_HORIZONS if horizon < len(recent)}
        decisions = [each for each in self._recent_decisions() if each.record.as_of in due]
        if not decisions:
            return
        window = Mirror(self.run, self.ledger, holdings=recent, decisions=decisions)
        known_at = tables.decision_outcomes.columns.keys().index("known_at")
        for table, rows in outcome_rows(window):
            yield table, [row for row in rows if row[known_at] == session]

    def _recent_decisions(self) -> list[Published]:
        # At most one a session, so that these reach back to the longest horizon.
        return self.decisions[-max(OUTCOME_HORIZONS) - 1 :]

    def _event_ids(self, session: date, many: int) -> list[str]:
        first = self._told.sequence + 1
        self._told.sequence += many
        head = f"{self.run.run_id}:{session}:"
        return [f"{head}{number}" for number in range(first, first + many)]

    def _status_rows(self, session: date, changes: Sequence[StatusChange]) -> list[Row]:
        run = self.run
        return [
            (
                event_id,
                run.run_id,
                run.mode,
                run.strategy_id,
                run.portfolio_id,
                change.order.order_id,
                session,
                instant(change.ts_ns),
                change.status,
                change.quantity,
                change.filled,
                None if change.reason is None else change.reason[:MOST_REASON],
            )
            for event_id, change in zip(
                self._event_ids(session, len(changes)), changes, strict=True
            )
        ]

    def _execution_row(self, fill: FillTrace) -> Row:
        run = self.run
        return (
            self.account_id,
            fill.trade_id,
            fill.fill_id,
            fill.order.order_id,
            run.run_id,
            run.mode,
            run.strategy_id,
            run.portfolio_id,
            instant(fill.ts_ns),
            self.ledger.instruments[fill.order.column],
            fill.order.side,
            fill.quantity,
            fill.price,
            fill.commission,
            "ACTIVE",
            None,
        )

    def _account_row(self, held: Holdings) -> Row:
        run, values = self.run, held.values
        return (
            self._event_ids(held.as_of, 1)[0],
            run.run_id,
            run.mode,
            run.strategy_id,
            run.portfolio_id,
            self.account_id,
            held.as_of,
            instant(held.ts_ns),
            held.cash,
            held.equity,
            float(np.abs(values).sum()),
            float(values.sum()),
            held.drawdown,
            len(held.columns),
        )


def _events(
    session: date, name: PhaseName, batches: Sequence[Batch]
) -> Iterator[tuple[str, Payload]]:
    for table, rows in batches:
        if table in TOLD_ONE_BY_ONE:
            columns = [*zip(*rows, strict=True)]
            told = {name: columns[place] for name, place in _told_columns(table)}
            yield from zip(repeat(table.name), texts(told))
    digests = {table.name: digest(rows) for table, rows in batches if table in TOLD_BY_DIGEST}
    yield name, {"session": session, "digests": digests}


@lru_cache(maxsize=len(TOLD_ONE_BY_ONE))
def _told_columns(table: sa.Table) -> tuple[tuple[str, int], ...]:
    """Return the columns of a table that its events tell, and where a row has them."""
    columns = enumerate(written(table))
    return tuple((name, place) for place, name in columns if name not in UNTOLD)


def digest(rows: Sequence[Row]) -> str:
    """Return a short hash of what `repr` says of the rows as a list of tuples."""
    columns = rows.plain_columns() if isinstance(rows, Block) else zip(*rows, strict=True)
    said = zip(*map(_reprs, columns), strict=True)
    text = "), (".join(map(", ".join, said))
    return blake2b(f"[({text})]".encode(), digest_size=8).hexdigest()


def _reprs(values: Sequence[Any]) -> Iterable[str]:
    """Return what `repr` says of each value; a text or a time that comes again is told once."""
    if not set(map(type, values)) <= REPEATING:
        return map(repr, values)
    known = {value: repr(value) for value in set(values)}
    return [known[value] for value in values]


REPEATING = {str, date, datetime, JsonText, type(None)}
"""Of equal ones `repr` says the same: all times here are in UTC."""
