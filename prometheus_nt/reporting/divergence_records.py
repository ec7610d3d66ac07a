"""What two runs of the same sessions did, and the gap between them: the words of a divergence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property

import numpy as np

from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.domain.record import FloatArray, SessionArray


class Cause(StrEnum):
    """Why two runs of the same sessions differ."""

    DATA = "DATA"
    SIGNAL = "SIGNAL"
    TIMING = "TIMING"
    FILL_PRICE = "FILL_PRICE"
    COST = "COST"
    MISSED_FILL = "MISSED_FILL"
    MANUAL = "MANUAL"
    HALT = "HALT"
    FAULT = "FAULT"
    RESIDUAL = "RESIDUAL"


CAUSES: tuple[Cause, ...] = tuple(Cause)

CENT = 0.01

NEGLIGIBLE = 1e-7
"""Of equity: what the rounding of prices in other share units may come to."""

MEANING = {
    Cause.DATA: "what was decided on, marked or paid out had other data",
    Cause.SIGNAL: "the same data, another target or another quantity",
    Cause.TIMING: "the same shares filled in another session",
    Cause.FILL_PRICE: "the same shares filled at another price",
    Cause.COST: "other commissions, fees or financing",
    Cause.MISSED_FILL: "ordered by both, filled by one",
    Cause.MANUAL: "a person: orders, positions or cash that no plan asked for, a wind-down",
    Cause.HALT: "what a halt kept from being traded",
    Cause.FAULT: "what is tied to a recorded fault or event of the link",
    Cause.RESIDUAL: "stored rows that contradict each other",
}


@dataclass(frozen=True)
class RunEvent:
    """Something that was recorded beside the plan: a fault, a halt, or the hand of a person.

    session, until : first and last session that it may have touched; until None is `session`.
    instrument_id, order_id : what alone it is about; None is anything of those sessions.
    cause : FAULT, MANUAL or HALT.
    """

    session: date
    name: str
    cause: Cause = Cause.FAULT
    until: date | None = None
    instrument_id: str | None = None
    order_id: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class OrderRecord:
    """An order; `session` is the one it was decided on, or sent in if no decision asked for it."""

    order_id: str
    session: date
    planned: bool
    instrument_id: str
    side: int
    quantity: float


@dataclass(frozen=True)
class FillRecord:
    """A fill; quantity > 0, `side` is 1 for a purchase and -1 for a sale; money in USD."""

    order_id: str
    session: date
    instrument_id: str
    side: int
    quantity: float
    price: float
    commission: float


@dataclass(frozen=True)
class FlowRecord:
    """Cash without a trade.

    shares : those it was paid for.
    moved : by how many shares the holding changed.
    amount : USD, > 0 is received.
    """

    session: date
    kind: CashFlowKind
    instrument_id: str | None
    shares: float
    moved: float
    amount: float


@dataclass(frozen=True)
class DecisionRecord:
    """What was decided after a close: the target weights, and hashes of what they rest on.

    market_hash : of what the engines said of the market.
    inputs_hash : of everything that the target was made of, the books included.
    """

    weights: Mapping[str, float]
    market_hash: str | None = None
    inputs_hash: str | None = None


@dataclass(frozen=True, eq=False)
class TradedRun:
    """What a run ordered, filled, was paid and owned.

    Attributes
    ----------
    capital : float, USD
    equity, cash : (T,) arrays, USD
        As stored, after each close.
    marks : (T, N) array, USD per share; NaN where unknown
    shares : (T, N) array or None
        Positions as stored; a row of NaN where none were. None if the fills are all there is.
    """

    run_id: str
    capital: float
    orders: Sequence[OrderRecord]
    fills: Sequence[FillRecord]
    flows: Sequence[FlowRecord]
    decisions: Mapping[date, DecisionRecord]
    equity: FloatArray
    cash: FloatArray
    marks: FloatArray
    shares: FloatArray | None = None


@dataclass(frozen=True)
class Evidence:
    """One difference of the two runs and what it is worth at the last marks, USD.

    mechanism : what it would be called without the event that it is tied to.
    shares, cash : run less backtest.
    """

    session: date
    instrument_id: str | None
    cause: Cause
    event: str
    mechanism: Cause
    shares: float
    cash: float
    worth: float
    order_a: str | None
    order_b: str | None
    detail: str


@dataclass(frozen=True)
class OrderCounts:
    """How many orders and fills both runs have, how many are the same, how many only one has."""

    orders_a: int
    orders_b: int
    orders_same: int
    only_a: int
    only_b: int
    fills_a: int
    fills_b: int
    fills_same: int


@dataclass(frozen=True, eq=False)
class Divergence:
    """The gap between run A and backtest B over their sessions; every amount is A less B, USD.

    Attributes
    ----------
    parts : (T, 10) array
        The gap after each close by cause, in the order of `CAUSES`; rows add up to the gap.
    by_instrument : (10, N + 1) array
        The last row of `parts` by instrument; the last column is of no instrument.
    event_parts : amount of each event after the last close, in their order
    """

    run_a: str
    run_b: str
    sessions: SessionArray
    instruments: tuple[str, ...]
    equity_a: FloatArray
    equity_b: FloatArray
    parts: FloatArray
    by_instrument: FloatArray
    events: tuple[RunEvent, ...]
    event_parts: tuple[float, ...]
    evidence: tuple[Evidence, ...]
    counts: OrderCounts

    @cached_property
    def gap(self) -> FloatArray:
        """Equity of the run less that of the backtest after each close, (T,), USD."""
        return self.equity_a - self.equity_b

    @property
    def total(self) -> float:
        """The gap after the last close, USD."""
        return float(self.gap[-1])

    @property
    def worst_bps(self) -> float:
        """The largest gap after any close, basis points of the backtest's equity, >= 0."""
        return float(1e4 * np.max(np.abs(self.gap) / np.abs(self.equity_b)))

    @property
    def residual_bps(self) -> float:
        """The largest unexplained part after any close, basis points of the backtest's equity."""
        left = self.parts[:, CAUSES.index(Cause.RESIDUAL)]
        return float(1e4 * np.max(np.abs(left) / np.abs(self.equity_b)))

    def amount(self, cause: Cause) -> float:
        """Return the part of a cause after the last close, USD."""
        return float(self.parts[-1, CAUSES.index(cause)])

    @property
    def named(self) -> tuple[Cause, ...]:
        """The causes of which there is evidence, or a part above a thousandth of a basis point."""
        seen = {item.cause for item in self.evidence}
        sizes = np.abs(self.parts / self.equity_b[:, None]).max(axis=0)
        large = sizes > NEGLIGIBLE
        return tuple(
            cause
            for cause, matters in zip(CAUSES, large.tolist(), strict=True)
            if matters or cause in seen
        )


@dataclass(frozen=True)
class Movement:
    """By how much shares and cash of the runs move apart in a session.

    cause : None where the plans differ; why is seen when the session comes.
    decided, last : session whose decision the order follows, and the last one that filled it.
    rounding : the prices are the same in other share units; no evidence of anything.
    resized : the orders ask for other quantities, which moves prices and fees by itself.
    """

    session: date
    instrument_id: str
    cause: Cause | None
    shares: float
    cash: float
    decided: date
    last: date
    order_a: str | None = None
    order_b: str | None = None
    rounding: bool = False
    resized: bool = False


@dataclass(frozen=True, eq=False)
class Axis:
    """The sessions and instruments of a comparison; what is after the last session has row T."""

    sessions: SessionArray
    instruments: tuple[str, ...]
    _rows: dict[date, int] = field(init=False, repr=False)
    _columns: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        days = self.sessions.astype("datetime64[D]").astype(object).tolist()
        object.__setattr__(self, "_rows", {day: row for row, day in enumerate(days)})
        columns = {name: column for column, name in enumerate(self.instruments)}
        object.__setattr__(self, "_columns", columns)

    def row(self, session: date) -> int:
        """Return the row of the first session that is not before `session`."""
        known = self._rows.get(session)
        if known is not None:
            return known
        return int(np.searchsorted(self.sessions, np.datetime64(session, "D")))

    def column(self, instrument_id: str) -> int:
        return self._columns[instrument_id]


def instruments_of(runs: Iterable[TradedRun]) -> tuple[str, ...]:
    """Return the instruments that the runs traded or were paid for, sorted."""
    names = {fill.instrument_id for run in runs for fill in run.fills}
    names |= {order.instrument_id for run in runs for order in run.orders}
    names |= {flow.instrument_id for run in runs for flow in run.flows if flow.instrument_id}
    return tuple(sorted(names))
