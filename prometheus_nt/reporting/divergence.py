"""The gap between a run and the backtest of its sessions, attributed to causes that add up to it.

1. `order_matching` pairs the orders of both runs and says, share by share, how their fills differ.
2. Every cause owns a book (`cause_books`): the shares and the cash by which the two runs differ
   because of it. A cause keeps the shares that it opened until a later order of either run closes
   them, so what a missed fill costs is all that follows from it, up to the order that makes up for
   it.
3. `attribute` walks the sessions: cash flows (`_Walk.pay`), then executions and differences of the
   plans (`_Walk.trade`), then what no row explains (`_Walk.find_unexplained`).
4. A cause's part of the gap is its cash, and its shares at the backtest's marks; other marks on the
   run's shares are data (`_Walk.mark`). What is left is RESIDUAL: rounding alone, unless the
   stored rows contradict each other.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.domain.record import FloatArray, SessionArray
from prometheus_nt.reporting.cause_books import DUST_SHARES, DUST_USD, NAMED_ONLY, CauseBooks, Scope
from prometheus_nt.reporting.divergence_records import (
    CAUSES,
    CENT,
    Axis,
    Cause,
    DecisionRecord,
    Divergence,
    Evidence,
    FlowRecord,
    Movement,
    RunEvent,
    TradedRun,
)
from prometheus_nt.reporting.order_matching import count_orders, match_orders, movements_of

SAME_WEIGHT = 1e-9
"""Target weights that differ by less are one target."""

FLOW_CAUSES = {
    CashFlowKind.DIVIDEND: Cause.DATA,
    CashFlowKind.SPLIT: Cause.DATA,
    CashFlowKind.DELISTING: Cause.DATA,
    CashFlowKind.BORROW_FEE: Cause.COST,
    CashFlowKind.INTEREST: Cause.COST,
}
"""What it is if the same shares were paid another amount."""

PER_SHARE = frozenset({CashFlowKind.DIVIDEND, CashFlowKind.DELISTING, CashFlowKind.BORROW_FEE})
"""Cash flows that are so much a share: other shares explain another amount."""

SAID = {
    Cause.TIMING: "filled in another session",
    Cause.FILL_PRICE: "filled at another price",
    Cause.COST: "another commission",
    Cause.MISSED_FILL: "filled by one run only",
    Cause.MANUAL: "no decision asked for it",
}

FlowKey = tuple[CashFlowKind, str | None]


@dataclass(frozen=True)
class _Paid:
    """What a run was paid in a session, of one kind, on one instrument."""

    shares: float = 0.0
    moved: float = 0.0
    amount: float = 0.0

    def plus(self, flow: FlowRecord) -> "_Paid":
        return _Paid(self.shares + flow.shares, self.moved + flow.moved, self.amount + flow.amount)


@dataclass(frozen=True)
class _Why:
    """What a difference would be called without an event, in words, and the orders of it."""

    mechanism: Cause
    said: str
    order_a: str | None = None
    order_b: str | None = None


def attribute(
    run_a: TradedRun,
    run_b: TradedRun,
    sessions: SessionArray,
    instruments: tuple[str, ...],
    events: Sequence[RunEvent] = (),
) -> Divergence:
    """Return the gap of run A to backtest B, by cause.

    Parameters
    ----------
    sessions : (T,) array
        The sessions of both runs' equity, cash, marks and shares, T >= 1.
    instruments : tuple of N ids, the columns of marks and shares

    Raises
    ------
    DataError
        If there is no session, an array has another shape, or shares that differ were never
        marked.
    """
    axis = Axis(sessions, instruments)
    for run in (run_a, run_b):
        _require_shapes(run, axis)
    pairs = match_orders(run_a, run_b)
    walk = _Walk(run_a, run_b, axis, events)
    moved = _by_row(axis, [one for pair in pairs for one in movements_of(pair)])
    flows = _flows_by_row(axis, run_a, run_b)
    parts = np.zeros((len(sessions), len(CAUSES)))
    for row in range(len(sessions)):
        walk.pay(row, flows[row])
        walk.trade(row, moved[row])
        walk.find_unexplained(row)
        parts[row] = walk.mark(row)
    return Divergence(
        run_a=run_a.run_id,
        run_b=run_b.run_id,
        sessions=sessions,
        instruments=instruments,
        equity_a=run_a.equity,
        equity_b=run_b.equity,
        parts=parts,
        by_instrument=walk.by_instrument(),
        events=tuple(events),
        event_parts=walk.event_parts(),
        evidence=walk.evidence(),
        counts=count_orders(pairs),
    )


def holdings_of(run: TradedRun, axis: Axis) -> tuple[FloatArray, FloatArray]:
    """Return the shares (T, N) and the cash (T,) that fills and cash flows add up to."""
    moved = np.zeros((len(axis.sessions) + 1, len(axis.instruments)))
    cash = np.zeros(len(axis.sessions) + 1)
    for fill in run.fills:
        row, signed = axis.row(fill.session), fill.side * fill.quantity
        moved[row, axis.column(fill.instrument_id)] += signed
        cash[row] -= signed * fill.price + fill.commission
    for flow in run.flows:
        row = axis.row(flow.session)
        cash[row] += flow.amount
        if flow.instrument_id is not None:
            moved[row, axis.column(flow.instrument_id)] += flow.moved
    shares: FloatArray = np.cumsum(moved[:-1], axis=0)
    return shares, run.capital + np.cumsum(cash[:-1])


class _Walk:
    """The books of all causes while the sessions go by."""

    def __init__(
        self, run_a: TradedRun, run_b: TradedRun, axis: Axis, events: Sequence[RunEvent]
    ) -> None:
        self._run_a, self._run_b, self._axis = run_a, run_b, axis
        self._books = CauseBooks(len(axis.instruments), events)
        self._levels: FloatArray = np.zeros((len(axis.sessions), len(CAUSES) + len(events)))
        self._evidence: list[Evidence] = []
        shares_a, cash_a = holdings_of(run_a, axis)
        shares_b, cash_b = holdings_of(run_b, axis)
        stray_a, stray_b = _stray_shares(run_a, shares_a), _stray_shares(run_b, shares_b)
        self._shares_a = shares_a + np.cumsum(stray_a, axis=0)
        self._stray_shares = stray_a - stray_b
        self._stray_cash = np.diff((run_a.cash - cash_a) - (run_b.cash - cash_b), prepend=0.0)
        self._marks_b = np.where(np.isnan(run_b.marks), run_a.marks, run_b.marks)
        self._marks_a = np.where(np.isnan(run_a.marks), self._marks_b, run_a.marks)

    def pay(self, row: int, flows: Mapping[FlowKey, tuple[_Paid, _Paid]]) -> None:
        """Book the cash flows of a session, which come before its fills."""
        for (kind, name), (of_a, of_b) in flows.items():
            column = -1 if name is None else self._axis.column(name)
            shares, cash = of_a.moved - of_b.moved, of_a.amount - of_b.amount
            said = of_b if of_b.shares else of_a
            if kind in PER_SHARE and column >= 0 and said.shares:
                rate = said.amount / said.shares
                paid, gone = self._pay_holders(row, kind, column, rate, cash)
                shares, cash = shares + gone, cash - paid
            self._book_flow(row, kind, column, shares, cash)

    def trade(self, row: int, movements: Sequence[Movement]) -> None:
        """Book the fills of a session: executions first, then what only one plan asked for."""
        for one in movements:
            if one.rounding:
                column = self._axis.column(one.instrument_id)
                self._books.put(CAUSES.index(Cause.FILL_PRICE), column, one.shares, one.cash)
            elif one.cause is not None:
                book = self._execution_book(row, one, one.cause)
                why = _Why(one.cause, SAID[one.cause], one.order_a, one.order_b)
                column = self._axis.column(one.instrument_id)
                self._book(row, book, column, (one.shares, one.cash), why)
        for one in movements:
            if one.cause is None:
                self._trade_plan(row, one)

    def find_unexplained(self, row: int) -> None:
        """Book the positions that no fill explains, and the cash that came or went with them.

        Cash alone is booked if an event was recorded; else the rows contradict each other, and it
        stays in the residual.
        """
        shares, cash = self._stray_shares[row], float(self._stray_cash[row])
        columns = np.flatnonzero(np.abs(shares) > DUST_SHARES).tolist()
        session = self._session(row)
        for column in columns:
            book = self._books.book(Cause.MANUAL, self._scope(session, column))
            why = _Why(Cause.MANUAL, "shares that no fill explains")
            self._book(row, book, column, (float(shares[column]), 0.0), why)
        known = columns or self._books.event_book(Scope(session, session)) is not None
        if known and abs(cash) > DUST_USD:
            book = self._books.book(Cause.MANUAL, Scope(session, session))
            self._book(row, book, -1, (0.0, cash), _Why(Cause.MANUAL, "cash that no row explains"))

    def mark(self, row: int) -> FloatArray:
        """Return the part of every cause after a close, (10,)."""
        levels = self._books.cash.sum(axis=1) + self._valued(row).sum(axis=1)
        levels[CAUSES.index(Cause.DATA)] += self._other_marks(row).sum()
        gap = float(self._run_a.equity[row] - self._run_b.equity[row])
        levels[CAUSES.index(Cause.RESIDUAL)] = gap - levels.sum()
        self._levels[row] = levels
        return self._books.by_cause(levels)

    def by_instrument(self) -> FloatArray:
        """Return the parts after the last close by instrument, (10, N + 1)."""
        last = len(self._axis.sessions) - 1
        found = self._books.cash.copy()
        found[:, :-1] += self._valued(last)
        found[CAUSES.index(Cause.DATA), :-1] += self._other_marks(last)
        residual = CAUSES.index(Cause.RESIDUAL)
        found[residual, -1] = self._levels[last, residual]
        return self._books.by_cause(found)

    def event_parts(self) -> tuple[float, ...]:
        """Return the part of every event after the last close."""
        return tuple(self._levels[-1, len(CAUSES) :].tolist())

    def evidence(self) -> tuple[Evidence, ...]:
        """Return all that was found as it happened, then the marks that differ at the end."""
        return (*self._evidence, *self._other_mark_evidence())

    def _pay_holders(
        self, row: int, kind: CashFlowKind, column: int, rate: float, due: float
    ) -> tuple[float, float]:
        """Pay every cause on the shares it has open; return what was paid, and shares that went."""
        held = self._books.shares[:, column].copy()
        paid = held * rate
        if held.any() and abs(due - paid.sum()) <= DUST_USD:
            paid[int(np.argmax(np.abs(held)))] += due - paid.sum()
        gone = held if kind is CashFlowKind.DELISTING else np.zeros_like(held)
        for book in np.flatnonzero(held).tolist():
            why = _Why(self._books.cause(book), f"{_words(kind)} of the shares it has open")
            self._book(row, book, column, (-float(gone[book]), float(paid[book])), why)
        return float(paid.sum()), float(gone.sum())

    def _book_flow(
        self, row: int, kind: CashFlowKind, column: int, shares: float, cash: float
    ) -> None:
        cause = FLOW_CAUSES[kind]
        if abs(shares) <= DUST_SHARES and abs(cash) <= DUST_USD:
            self._books.put(CAUSES.index(cause), column, shares, cash)
            return
        book = self._books.book(cause, self._scope(self._session(row), column))
        why = _Why(cause, f"another {_words(kind)}")
        self._book(row, book, column, (shares, cash), why)

    def _trade_plan(self, row: int, one: Movement) -> None:
        """Close the shares that causes have open, in the order of the books; the rest is new."""
        column, left = self._axis.column(one.instrument_id), one.shares
        price = one.cash / one.shares
        for book in self._books.open_against(column, left):
            held = -float(self._books.shares[book, column])
            shares = held if abs(held) <= abs(left) else left
            cause = self._books.cause(book)
            why = _Why(cause, "closes what this cause had opened", one.order_a, one.order_b)
            self._book(row, book, column, (shares, shares * price), why)
            left -= shares
        if abs(left) > DUST_SHARES:
            book, mechanism, said = self._plan_cause(row, one)
            why = _Why(mechanism, said, one.order_a, one.order_b)
            self._book(row, book, column, (left, left * price), why)
        else:
            self._books.put(CAUSES.index(Cause.SIGNAL), column, left, left * price)

    def _execution_book(self, row: int, one: Movement, cause: Cause) -> int:
        """Return the book of a difference of execution.

        Another size moves price and fee by itself: if an event made it, they are the event's.
        """
        book = self._books.book(cause, Scope.of(one))
        if one.resized and cause in NAMED_ONLY and book < len(CAUSES):
            planned, _, _ = self._plan_cause(row, one)
            return planned if planned >= len(CAUSES) else book
        return book

    def _plan_cause(self, row: int, one: Movement) -> tuple[int, Cause, str]:
        """Return the book, the mechanism and the reason of a difference between two plans.

        Tied to an event; else other market data or another signal; else, if the target is the
        same or was made of books that differed, the cause that had moved the books apart most.
        """
        mechanism, first, said = _compare_decisions(
            self._run_a.decisions.get(one.decided), self._run_b.decisions.get(one.decided)
        )
        event = self._books.event_book(Scope.of(one))
        if event is not None:
            return event, mechanism, said
        largest = None if first is None else self._largest(row, one.decided, first)
        if largest is None:
            return CAUSES.index(mechanism), mechanism, said
        cause = self._books.cause(largest)
        return largest, cause, f"{said}; the books differed by {cause}"

    def _largest(self, row: int, decided: date, first: int) -> int | None:
        """Return the book, from `first` on, with the largest part of the gap at a decision."""
        before = min(self._axis.row(decided), row - 1)
        if before < 0:
            return None
        sizes = np.abs(self._levels[before])
        sizes[CAUSES.index(Cause.RESIDUAL)] = 0.0
        sizes[:first] = 0.0
        largest = int(np.argmax(sizes))
        return largest if sizes[largest] > CENT else None

    def _valued(self, row: int) -> FloatArray:
        """Return the open shares of every book at the backtest's marks, (books, N)."""
        shares = self._books.shares
        held = np.abs(shares).max(axis=0, initial=0.0) > 0.0
        self._require_marked(row, held)
        return np.where(held, shares * np.where(held, self._marks_b[row], 0.0), 0.0)

    def _other_marks(self, row: int) -> FloatArray:
        """Return what the run's marks add to its shares over those of the backtest, (N,)."""
        held = self._shares_a[row] != 0.0
        self._require_marked(row, held)
        differ = np.where(held, self._marks_a[row] - self._marks_b[row], 0.0)
        return np.where(held, self._shares_a[row] * differ, 0.0)

    def _require_marked(self, row: int, held: np.ndarray) -> None:
        unknown = np.flatnonzero(held & np.isnan(self._marks_b[row]))
        if len(unknown):
            names = ", ".join(self._axis.instruments[column] for column in unknown)
            raise DataError(f"{self._session(row)}: held and in no run marked: {names}")

    def _other_mark_evidence(self) -> Iterator[Evidence]:
        last = len(self._axis.sessions) - 1
        worth = self._other_marks(last)
        for column in np.flatnonzero(np.abs(worth) > CENT / 2).tolist():
            found, known = self._marks_a[last, column], self._marks_b[last, column]
            yield Evidence(
                session=self._session(last),
                instrument_id=self._axis.instruments[column],
                cause=Cause.DATA,
                event="",
                mechanism=Cause.DATA,
                shares=0.0,
                cash=0.0,
                worth=float(worth[column]),
                order_a=None,
                order_b=None,
                detail=f"marked at {found:.6g}, in the backtest at {known:.6g}",
            )

    def _book(
        self, row: int, book: int, column: int, moved: tuple[float, float], why: _Why
    ) -> None:
        """Put shares and cash into a book, and keep what it was as evidence."""
        shares, cash = moved
        self._books.put(book, column, shares, cash)
        if abs(shares) <= DUST_SHARES and abs(cash) < CENT / 2:
            return
        final = float(self._marks_b[-1, column]) if abs(shares) > DUST_SHARES else 0.0
        self._evidence.append(
            Evidence(
                session=self._session(row),
                instrument_id=None if column < 0 else self._axis.instruments[column],
                cause=self._books.cause(book),
                event=self._books.event_name(book),
                mechanism=why.mechanism,
                shares=shares,
                cash=cash,
                worth=cash + shares * final,
                order_a=why.order_a,
                order_b=why.order_b,
                detail=why.said,
            )
        )

    def _session(self, row: int) -> date:
        session: date = self._axis.sessions[row].astype("datetime64[D]").astype(object)
        return session

    def _scope(self, session: date, column: int) -> Scope:
        return Scope(session, session, None if column < 0 else self._axis.instruments[column])


ANY_BOOK, EVENTS_BOOKS = 0, len(CAUSES)


def _compare_decisions(
    of_a: DecisionRecord | None, of_b: DecisionRecord | None
) -> tuple[Cause, int | None, str]:
    """Return the cause of other orders, and why.

    Between them, from which book on a difference of the books may have led to it; None if none.
    """
    if of_a is None and of_b is None:
        return Cause.SIGNAL, ANY_BOOK, "another quantity; neither run recorded its target"
    if of_a is None or of_b is None:
        # After a halt a sleeve decides on another day than it would have.
        who = "the run" if of_a is None else "the backtest"
        return Cause.SIGNAL, EVENTS_BOOKS, f"{who} decided nothing"
    names = of_a.weights.keys() | of_b.weights.keys()
    largest = max(
        (abs(of_a.weights.get(name, 0.0) - of_b.weights.get(name, 0.0)) for name in names),
        default=0.0,
    )
    if largest <= SAME_WEIGHT:
        return Cause.SIGNAL, ANY_BOOK, "the same target, another quantity"
    if of_a.market_hash != of_b.market_hash:
        return Cause.DATA, None, "the engines saw other data"
    said = f"another target, by up to {largest:.4f} of equity"
    return Cause.SIGNAL, ANY_BOOK if of_a.inputs_hash != of_b.inputs_hash else None, said


def _words(kind: CashFlowKind) -> str:
    return kind.value.lower().replace("_", " ")


def _require_shapes(run: TradedRun, axis: Axis) -> None:
    count, size = len(axis.sessions), (len(axis.sessions), len(axis.instruments))
    shares = run.marks if run.shares is None else run.shares
    wrong = {run.equity.shape, run.cash.shape} != {(count,)} or {run.marks.shape, shares.shape} != {
        size
    }
    if not count or wrong:
        raise DataError(
            f"{run.run_id}: equity {run.equity.shape}, cash {run.cash.shape}, marks "
            f"{run.marks.shape} and shares {shares.shape} are to be of {size[0]} sessions, at "
            f"least one, and {size[1]} instruments"
        )


def _stray_shares(run: TradedRun, explained: FloatArray) -> FloatArray:
    """Return the shares that appear in each session without a fill or a flow, (T, N)."""
    if run.shares is None:
        return np.zeros_like(explained)
    stray = run.shares - explained
    known = ~np.isnan(stray).any(axis=1)
    # Where no positions were stored, those of the session before still hold.
    newest = np.maximum.accumulate(np.where(known, np.arange(len(stray)), -1))
    levels = np.where(newest[:, None] >= 0, stray[newest], 0.0)
    return np.diff(levels, axis=0, prepend=np.zeros((1, levels.shape[1])))


def _by_row(axis: Axis, movements: Sequence[Movement]) -> dict[int, list[Movement]]:
    found: dict[int, list[Movement]] = defaultdict(list)
    for one in movements:
        found[axis.row(one.session)].append(one)
    return found


def _flows_by_row(
    axis: Axis, run_a: TradedRun, run_b: TradedRun
) -> dict[int, dict[FlowKey, tuple[_Paid, _Paid]]]:
    found: dict[int, dict[FlowKey, tuple[_Paid, _Paid]]] = defaultdict(dict)
    for number, run in enumerate((run_a, run_b)):
        for flow in run.flows:
            of_session = found[axis.row(flow.session)]
            key = (flow.kind, flow.instrument_id)
            both = list(of_session.get(key, (_Paid(), _Paid())))
            both[number] = both[number].plus(flow)
            of_session[key] = (both[0], both[1])
    return found
