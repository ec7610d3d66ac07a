"""Bus to store, never back: every order, fill, position and decision becomes rows, exactly once.

During a backtest the mirror keeps references and `persistence.run_rows` turns them into rows
afterwards. It re-adds each fill and cash flow in a ledger of its own, so that a sleeve whose books
disagree with its fills is found, not stored.
"""

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np
from nautilus_trader.model.enums import order_side_to_str, order_type_to_str

from persistence.rows import RunContext
from prometheus_nt.bus import Published, topic
from prometheus_nt.domain.books import BookTarget, TargetPortfolio, Universe
from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.ledger import BookState, Ledger, micros
from prometheus_nt.domain.market import (
    FragilityMeasures,
    InstrumentScores,
    RegimeState,
    StabilityVectors,
)
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.domain.runs import OrderRefusal, SleeveDecision
from prometheus_nt.domain.sessions import CorporateActions, OpeningQuotes, OvernightFinancing

STAGE_RECORDS = (
    Profiles,
    StabilityVectors,
    FragilityMeasures,
    InstrumentScores,
    Universe,
    BookTarget,
    TargetPortfolio,
)
EVENT_RECORDS = (
    RegimeState,
    OrderRefusal,
    BookState,
    OpeningQuotes,
    OvernightFinancing,
    CorporateActions,
    SleeveDecision,
)
MIRRORED = STAGE_RECORDS + EVENT_RECORDS

STATUS = {
    "OrderSubmitted": "SUBMITTED",
    "OrderAccepted": "SUBMITTED",
    "OrderCanceled": "CANCELLED",
    "OrderExpired": "CANCELLED",
    "OrderRejected": "REJECTED",
    "OrderDenied": "REJECTED",
}


@dataclass
class OrderTrace:
    """One order and what became of it."""

    order_id: str
    column: int
    side: str
    order_type: str
    quantity: int
    limit_price: float | None
    stop_price: float | None
    decided_on: date | None
    decision_price: float | None
    ts_ns: int
    updated_ns: int
    status: str = "PENDING"
    filled: int = 0
    executions: int = 0
    reason: str | None = None

    def restate(self, quantity: int) -> None:
        """Take the quantity after a split, and the decision price of such a share."""
        if self.decision_price is not None:
            self.decision_price *= self.quantity / quantity
        self.quantity = quantity


@dataclass(frozen=True)
class FillTrace:
    """One execution, with the prices that its cost is measured against (None if unknown)."""

    fill_id: str
    order: OrderTrace
    ts_ns: int
    quantity: int
    price: float
    commission: float
    pnl: float
    trade_id: str
    arrival_price: float | None
    spread_cost: float
    impact_cost: float

    @property
    def slippage(self) -> float | None:
        """Cost against the decision price, USD; positive is worse."""
        if self.order.decision_price is None:
            return None
        sign = 1 if self.order.side == "BUY" else -1
        return sign * self.quantity * (self.price - self.order.decision_price)


@dataclass(frozen=True, eq=False)
class Holdings:
    """The non-empty part of a `BookState`."""

    as_of: date
    ts_ns: int
    cash: float
    equity: float
    drawdown: float
    columns: IntArray
    shares: IntArray
    average_cost: FloatArray
    marks: FloatArray
    unmarked_sessions: IntArray

    @property
    def values(self) -> FloatArray:
        """Signed market value of each position, USD."""
        values: FloatArray = self.shares * self.marks
        return values


@dataclass(eq=False, repr=False)
class Mirror:
    """Collects what one run says on the bus.

    Parameters
    ----------
    run : RunContext
    ledger : Ledger
        A second set of books, opened with the sleeve's own capital.
    engine_rows : "rebalance", "all" or "none"
        Keep the engines' records of sessions with a decision, of every session, or of none.
    positions : "all" or "trades"
        Write position snapshots of every session, or of those with a fill and the last one.
    """

    run: RunContext
    ledger: Ledger
    engine_rows: Literal["rebalance", "all", "none"] = "rebalance"
    positions: Literal["all", "trades"] = "all"
    orders: dict[str, OrderTrace] = field(default_factory=dict)
    fills: list[FillTrace] = field(default_factory=list)
    holdings: list[Holdings] = field(default_factory=list)
    decisions: list[Published] = field(default_factory=list)
    refusals: list[Published] = field(default_factory=list)
    regimes: list[Published] = field(default_factory=list)
    stages: dict[date, dict[type, Published]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._current: dict[type, Published] = {}
        self._quotes: dict[int, tuple[float, float, float, float]] = {}
        self._marks: FloatArray = np.full(len(self.ledger.instruments), np.nan)

    @cached_property
    def _columns(self) -> dict[str, int]:
        # Not of a mirror that is only read: one is made for every phase of a session.
        return {name: row for row, name in enumerate(self.ledger.instruments)}

    def attach(self, msgbus: Any) -> None:
        """Subscribe before the run starts: what an actor hears in `on_start` comes too late."""
        msgbus.subscribe("events.order.*", self.on_order_event)
        for stage_type in STAGE_RECORDS:
            msgbus.subscribe(topic(stage_type), self._on_stage)
        handlers = (
            self.regimes.append,
            self.refusals.append,
            self._on_state,
            self._on_quotes,
            self._on_overnight,
            self._on_actions,
            self._on_decision,
        )
        for record_type, handler in zip(EVENT_RECORDS, handlers, strict=True):
            msgbus.subscribe(topic(record_type), handler)

    def latest(self, stage_type: type) -> Published | None:
        """Return the newest record of a stage, or None if it never made one."""
        return self._current.get(stage_type)

    def on_session(self, as_of: date, stage_type: type) -> Published | None:
        """Return the record that a stage made of a session, or None if none was kept."""
        item = self.stages.get(as_of, {}).get(stage_type)
        return item if item is not None and item.record.as_of == as_of else None

    def of_last_session(self, run: RunContext) -> "Mirror":
        """Return what was said of the newest session alone, as rows of `run`."""
        as_of = self.holdings[-1].as_of
        return Mirror(
            run=run,
            ledger=self.ledger,
            holdings=self.holdings[-1:],
            decisions=[item for item in self.decisions if item.record.as_of == as_of],
            refusals=[item for item in self.refusals if item.record.as_of == as_of],
            regimes=[item for item in self.regimes[-1:] if item.record.as_of == as_of],
            stages={as_of: dict(self._current)},
        )

    def _on_stage(self, item: Published) -> None:
        record = item.record
        self._current[type(record)] = item
        if self.engine_rows == "all":
            self.stages.setdefault(record.as_of, {})[type(record)] = item

    def _on_decision(self, item: Published) -> None:
        self.decisions.append(item)
        if self.engine_rows == "rebalance":
            self.stages[item.record.as_of] = dict(self._current)

    def _on_overnight(self, item: Published) -> None:
        self.ledger.finance(item.record)

    def _on_actions(self, item: Published) -> None:
        actions = item.record
        if actions.split is not None:
            self.ledger.split(actions.session, actions.split)
        self.ledger.pay_dividends(actions.session, actions.dividend_per_share)
        self.ledger.close_delisted(actions.session, actions.delisted, actions.delisting_return)

    def on_order_event(self, event: Any) -> None:
        name = type(event).__name__
        if name == "OrderInitialized":
            self._on_initialized(event)
            return
        trace = self.orders[event.client_order_id.value]
        trace.updated_ns = event.ts_event
        if name == "OrderFilled":
            self._on_filled(trace, event)
        elif name == "OrderUpdated":
            trace.restate(int(event.quantity.as_decimal()))
        elif name in STATUS:
            trace.status = STATUS[name]
            trace.reason = getattr(event, "reason", None)

    def _on_initialized(self, event: Any) -> None:
        decided = [tag.removeprefix("as_of:") for tag in event.tags or () if "as_of:" in tag]
        limit, stop = event.options.get("price"), event.options.get("trigger_price")
        column = self._columns[event.instrument_id.value]
        mark = float(self._marks[column])
        self.orders[event.client_order_id.value] = OrderTrace(
            order_id=f"{self.run.run_id}:{event.client_order_id.value}",
            column=column,
            side=order_side_to_str(event.side),
            order_type=order_type_to_str(event.order_type),
            quantity=int(event.quantity.as_decimal()),
            limit_price=None if limit is None else float(limit),
            stop_price=None if stop is None else float(stop),
            decided_on=date.fromisoformat(decided[0]) if decided else None,
            decision_price=None if np.isnan(mark) else mark,
            ts_ns=event.ts_init,
            updated_ns=event.ts_init,
        )

    def _on_filled(self, trace: OrderTrace, event: Any) -> None:
        quantity = int(event.last_qty.as_decimal())
        price, paid = event.last_px.as_decimal(), event.commission.as_decimal()
        signed = quantity if trace.side == "BUY" else -quantity
        pnl = self.ledger.fill(trace.column, signed, micros(price), micros(paid))
        trace.filled += quantity
        trace.status = "FILLED" if trace.filled >= trace.quantity else "PARTIALLY_FILLED"
        self.fills.append(self._fill(trace, event, quantity, pnl))

    def _fill(self, trace: OrderTrace, event: Any, quantity: int, pnl: float) -> FillTrace:
        trace.executions += 1
        mid, half_spread, buy, sell = self._quotes.get(trace.column, (None, 0.0, 0.0, 0.0))
        impact = buy if trace.side == "BUY" else sell
        return FillTrace(
            fill_id=f"{trace.order_id}#{trace.executions}",
            order=trace,
            ts_ns=event.ts_event,
            quantity=quantity,
            price=float(event.last_px.as_decimal()),
            commission=float(event.commission.as_decimal()),
            pnl=pnl,
            trade_id=event.trade_id.value,
            arrival_price=mid,
            spread_cost=0.0 if mid is None else quantity * mid * half_spread,
            impact_cost=0.0 if mid is None else quantity * mid * impact,
        )

    def _on_quotes(self, item: Published) -> None:
        quotes: OpeningQuotes = item.record
        parts = (quotes.mid, quotes.half_spread, quotes.buy_impact, quotes.sell_impact)
        values = zip(*(part.tolist() for part in parts), strict=True)
        self._quotes = dict(zip(quotes.rows.tolist(), values, strict=True))

    def _on_state(self, item: Published) -> None:
        state: BookState = item.record
        # Orders fill at the opening quotes; at the close they are history.
        self._quotes = {}
        # A copy: a first fill marks its instrument, and what was published may not change.
        self._marks = self.ledger.marks = state.marks.copy()
        held: IntArray = state.shares.nonzero()[0]
        self.holdings.append(
            Holdings(
                as_of=state.as_of,
                ts_ns=item.ts_event,
                cash=state.cash,
                equity=state.equity,
                drawdown=state.drawdown,
                columns=held,
                shares=state.shares[held],
                average_cost=state.average_cost[held],
                marks=state.marks[held],
                unmarked_sessions=state.unmarked_sessions[held],
            )
        )

    def require_same_books(self) -> None:
        """Raise `AccountingError` unless the sleeve's last state agrees with its fills and flows.

        Cash must agree to the micro-dollar and every position to the share.
        """
        self.ledger.check()
        if not self.holdings:
            return
        last = self.holdings[-1]
        shares: IntArray = np.zeros(len(self._columns), dtype=np.int64)
        shares[last.columns] = last.shares
        differing = np.flatnonzero(shares != self.ledger.shares)
        if len(differing):
            names = ", ".join(self.ledger.instruments[column] for column in differing)
            raise AccountingError(f"{self.run.run_id}: shares disagree with the fills in {names}")
        if micros(last.cash) != self.ledger.cash_micros:
            raise AccountingError(
                f"{self.run.run_id}: cash is {last.cash:.6f}, the fills explain "
                f"{self.ledger.cash:.6f}"
            )
