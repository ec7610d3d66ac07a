"""The fast answer to what a sleeve would earn: the same targets, fills and costs in plain numpy.

Nothing of Nautilus runs here, and no record is published: a book is one array of shares and one
number of micro-dollars. What decides an order and what it costs is asked of the same functions as
in an event-driven run (`plan_orders`, `OrderGate`, `limit_weights`, `ImpactModel`, `touch`,
`commissions`, `Carry`); when things happen and what they do to the books is written once more, so
that a run and its screen check each other. Each session of `run_screen`:

1. `_Book.carry`: financing of the nights before, then dividends and delistings;
2. `_Simulation.fill`: waiting orders fill at the open, or wait on, or are given up;
3. `_Simulation.decide`: what was left undone is tried again, then the target is followed if it is
   due, or if the drawdown breaker turned;
4. `_Simulation.pass_quiet`: sessions on which nothing can happen are valued all at once.

Market orders at the open are all that sleeves send; a strategy with resting orders of its own has
no screen.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.books import BookTarget
from prometheus_nt.domain.errors import AccountingError, GateRefusal, InsufficientHistory
from prometheus_nt.domain.ledger import MICROS, micros
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray
from prometheus_nt.domain.sessions import CorporateActions, OpeningQuotes, OvernightFinancing
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.engines.numerics.series import last_known
from prometheus_nt.engines.risk import (
    LimitedBook,
    LimitedWeights,
    RiskParams,
    breaker_tripped,
    limit_weights,
    remembers,
)
from prometheus_nt.venue.carry import Carry, Delistings, FinancingParams
from prometheus_nt.venue.fees import commissions
from prometheus_nt.venue.params import FeeParams
from prometheus_nt.venue.quotes import ImpactModel, touch, usual_value
from strategies.catalog import SleeveParams, family
from strategies.gate import OrderGate
from strategies.planner import BookView, plan_orders
from strategies.schedule import Rebalance, period


class BookTargets(Protocol):
    """The books that a portfolio engine asked for, by panel row."""

    def has(self, row: int) -> bool:
        """Return whether there is one after the close of a row."""

    def at(self, row: int) -> BookTarget:
        """Return it."""


class ScreenMarket:
    """A recorded market and the rows of it that are traded, as every screen of it needs them.

    Parameters
    ----------
    panel : MarketPanel
        As traded; the screen counts shares as the simulated venue does, after every split.
    first, last : int
        Rows traded, both included.
    """

    def __init__(
        self, panel: MarketPanel, first: int, last: int, delistings: Delistings | None = None
    ) -> None:
        self.panel, self.first, self.last, self.delistings = panel, first, last, delistings
        self.units = ShareUnits.of(panel)
        self.opens: FloatArray = panel.open / self.units.factor
        self.closes: FloatArray = panel.close / self.units.factor
        # Books begin with the first session: a price from before it is nobody's mark.
        self.marks: FloatArray = last_known(self.closes[first : last + 1])
        self._lots: dict[bytes, IntArray] = {}
        self._periods: dict[Rebalance, IntArray] = {}
        self._carries: dict[FinancingParams, Carry] = {}

    def carry(self, financing: FinancingParams) -> Carry:
        """Return what positions cost and earn without a trade."""
        if financing not in self._carries:
            self._carries[financing] = Carry(self.panel, self.units, financing, self.delistings)
        return self._carries[financing]

    def lots(self, row: int) -> IntArray:
        """Return the venue shares that make whole traded shares at a row, (N,)."""
        key = self.units.factor[row].tobytes()
        if key not in self._lots:
            self._lots[key] = self.units.lots_at(self.panel.sessions[row].astype(object))
        return self._lots[key]

    def periods(self, rebalance: Rebalance) -> IntArray:
        """Return the number of each row's rebalance period, (T,), counted from 0."""
        if rebalance not in self._periods:
            found = [period(day, rebalance) for day in self.panel.sessions.astype(object)]
            new = [now != before for before, now in pairwise(found)]
            self._periods[rebalance] = np.concatenate(([0], np.cumsum(new))).astype(np.int64)
        return self._periods[rebalance]


@dataclass(frozen=True, eq=False)
class Screened:
    """What a screen found.

    Attributes
    ----------
    sessions : (T,) array
    equity : (T,) array, USD
        After each close.
    cash_micros : int
        In the end, micro-dollars.
    shares : (N,) int array
        In the end, in venue shares.
    fills : (K, 5) int array
        Panel row, column, signed venue shares, price and commission in micro-dollars.
    refusals : int
        Plans that the gate refused.
    """

    sessions: SessionArray
    capital_usd: float
    equity: FloatArray
    cash_micros: int
    shares: IntArray
    fills: IntArray
    refusals: int

    @property
    def returns(self) -> FloatArray:
        """Simple returns per session, (T,); the first is measured from the starting capital."""
        before = np.concatenate(([self.capital_usd], self.equity[:-1]))
        returns: FloatArray = self.equity / before - 1.0
        return returns


def run_screen(
    config: NodeConfig, sleeve: SleeveParams, market: ScreenMarket, targets: BookTargets
) -> Screened:
    """Return what a sleeve earns in a market if its portfolio engine asks for `targets`.

    Raises
    ------
    PrometheusError
        Where the event-driven run would raise one: equity is gone, an impact is unknown, a limit
        does not hold.
    """
    return _Simulation(config, sleeve, market, targets).run()


@dataclass(frozen=True)
class _Figures:
    """What limits may know of the book; see `BookFigures`."""

    equity: float
    drawdown: float


class _Book:
    """Shares and money of one sleeve, in whole shares and whole micro-dollars."""

    def __init__(self, count: int, capital_usd: float) -> None:
        self.cash = micros(capital_usd)
        self.shares: IntArray = np.zeros(count, dtype=np.int64)
        self.peak = capital_usd

    def equity(self, marks: FloatArray) -> float:
        held = self.shares.nonzero()[0]
        value = float(self.shares[held] @ marks[held])
        if np.isnan(value):
            raise AccountingError("screen: an instrument is held that was never marked")
        return self.cash / MICROS + value

    def figures(self, equity: float) -> _Figures:
        """Return the book's figures after a close, which may be its highest."""
        self.peak = max(self.peak, equity)
        return _Figures(equity, equity / max(self.peak, equity) - 1.0)

    def carry(
        self,
        overnight: OvernightFinancing | None,
        actions: CorporateActions | None,
        marks: FloatArray,
    ) -> None:
        """Pay and receive what is due before the open; `marks` are those of the close before."""
        if overnight is not None:
            self._finance(overnight, marks)
        if actions is not None:
            self._collect(actions, marks)

    def trade(self, columns: IntArray, shares: IntArray, prices: IntArray, fees: IntArray) -> None:
        """Book fills of signed shares at prices in micro-dollars."""
        self.cash -= int((shares * prices).sum()) + int(fees.sum())
        self.shares[columns] += shares

    def _finance(self, overnight: OvernightFinancing, marks: FloatArray) -> None:
        short = (self.shares < 0).nonzero()[0]
        lent = -self.shares[short] * np.rint(marks[short] * MICROS).astype(np.int64)
        free = self.cash - int(lent.sum())
        rate = overnight.debit_rate if free < 0 else overnight.credit_rate
        fees = np.rint(lent * overnight.borrow_rate).astype(np.int64)
        self.cash += round(free * rate) - int(fees.sum())

    def _collect(self, actions: CorporateActions, marks: FloatArray) -> None:
        held = self.shares.nonzero()[0]
        paid = self.shares[held] * actions.dividend_per_share[held] * MICROS
        if not np.isfinite(paid).all():
            raise AccountingError(f"screen: {actions.session}: a dividend is not a number")
        self.cash += int(np.rint(paid).astype(np.int64).sum())
        gone = actions.delisted
        gains = np.zeros(len(gone))
        if actions.delisting_return is not None:
            gains = np.nan_to_num(actions.delisting_return)
        worth = np.nan_to_num(marks[gone] * (1.0 + gains))
        self.cash += int((self.shares[gone] * np.rint(worth * MICROS).astype(np.int64)).sum())
        self.shares[gone] = 0


class _Simulation:
    """One sleeve on its way through the sessions; used once."""

    def __init__(
        self, config: NodeConfig, sleeve: SleeveParams, market: ScreenMarket, targets: BookTargets
    ) -> None:
        panel, execution = market.panel, config.execution
        count = len(panel.instruments)
        self._market, self._targets, self._sleeve = market, targets, sleeve
        self._risk: RiskParams = config.engines_of(sleeve).risk
        self._planner, self._gate = config.planner_of(sleeve), OrderGate(config.gate_of(sleeve))
        self._fees: FeeParams = execution.fees
        self._patience = execution.router.patience
        self._half_spread = execution.quotes.half_spread_bps / 1e4
        self._impact = ImpactModel(panel, execution.quotes)
        self._carry = market.carry(execution.financing)
        rates = execution.financing
        self._borrow, self._debit, self._credit = (
            bool(rate)
            for rate in (rates.borrow_fee_annual, rates.debit_rate_annual, rates.credit_rate_annual)
        )
        self._usual = panel.derived(usual_value)
        self._periods = market.periods(sleeve.rebalance or family(sleeve).schedules[sleeve.horizon])
        self._followed_period = -1
        self._target: LimitedWeights | None = None
        self._book = _Book(count, sleeve.capital_usd)
        self._waiting: IntArray = np.zeros(count, dtype=np.int64)
        self._missed: IntArray = np.zeros(count, dtype=np.int64)
        self._unfinished: BoolArray = np.zeros(count, dtype=bool)
        self._before: LimitedBook | None = None
        # These limits remember yesterday's target, so no session can be left out.
        self._every_session = remembers(self._risk)
        self._fills: list[IntArray] = []
        self._refusals = 0
        self._equity: FloatArray = np.full(market.last + 1 - market.first, np.nan)

    def run(self) -> Screened:
        market, row = self._market, self._market.first
        while row <= market.last:
            if row > market.first:
                self._open(row)
            self.decide(row)
            row = self.pass_quiet(row + 1)
        fills = np.concatenate(self._fills) if self._fills else np.empty((0, 5), dtype=np.int64)
        return Screened(
            sessions=market.panel.sessions[market.first : market.last + 1],
            capital_usd=self._sleeve.capital_usd,
            equity=self._equity,
            cash_micros=self._book.cash,
            shares=self._book.shares,
            fills=fills,
            refusals=self._refusals,
        )

    def _marks(self, row: int) -> FloatArray:
        marks: FloatArray = self._market.marks[row - self._market.first]
        return marks

    def _open(self, row: int) -> None:
        overnight, actions = self._carry.overnight(row), self._carry.at_open(row)
        self._book.carry(overnight, actions, self._marks(row - 1))
        if self._waiting.any():
            self.fill(row)

    def fill(self, row: int) -> None:
        """Fill what waits and has an opening price; give up what has waited too long."""
        waits, opens = self._waiting != 0, self._market.opens[row]
        columns = (waits & (opens > 0)).nonzero()[0]
        shares = self._waiting[columns]
        bids, asks = touch(self._quotes(row, columns, shares))
        prices = np.where(shares > 0, asks, bids)
        fees = self._commissions(row, columns, np.abs(shares), prices)
        self._book.trade(columns, shares, prices, fees)
        self._fills.append(
            np.column_stack((np.full(len(columns), row), columns, shares, prices, fees))
        )
        self._waiting[columns] = 0
        waits[columns] = False
        self._missed[waits] += 1
        given_up = waits & (self._missed > self._patience)
        self._waiting[given_up] = 0
        self._unfinished |= given_up

    def _quotes(self, row: int, columns: IntArray, shares: IntArray) -> OpeningQuotes:
        sessions, mid = self._market.panel.sessions, self._market.opens[row, columns]
        # The newest fact that may price an order at this open is yesterday's close.
        bought, sold = (np.maximum(side, 0) * mid for side in (shares, -shares))
        return OpeningQuotes(
            as_of=sessions[row - 1].astype(object),
            session=sessions[row].astype(object),
            rows=columns,
            mid=mid,
            half_spread=np.full(len(columns), self._half_spread),
            buy_impact=self._impact.fraction(row - 1, columns, bought),
            sell_impact=self._impact.fraction(row - 1, columns, sold),
        )

    def _commissions(
        self, row: int, columns: IntArray, shares: IntArray, prices: IntArray
    ) -> IntArray:
        """Return what each fill costs, (K,) micro-dollars, in whole cents."""
        traded = shares / self._market.units.factor[row, columns]
        charged = commissions(traded, shares * (prices / MICROS), self._fees)
        return np.rint(charged * MICROS).astype(np.int64)

    def decide(self, row: int) -> None:
        """Value the book at the close of a row and send the orders for the next open."""
        equity = self._book.equity(self._marks(row))
        self._equity[row - self._market.first] = equity
        figures = self._book.figures(equity)
        current = int(self._periods[row])
        if self._target is not None and self._unfinished.any() and current == self._followed_period:
            self._trade(row, equity, self._unfinished)
        wanted = self._limited(row, figures, due=current != self._followed_period)
        if wanted is not None:
            self._followed_period, self._target = current, wanted
            self._trade(row, equity, None)

    def _limited(self, row: int, figures: _Figures, *, due: bool) -> LimitedWeights | None:
        """Return the weights to follow after a close; None if the book stays as it is."""
        if not self._targets.has(row) or not (due or self._every_session):
            return None
        turned = breaker_tripped(self._risk, figures, self._before) != (
            self._target is not None and self._target.breaker_tripped
        )
        if not due and not turned and self._risk.max_turnover is None:
            return None
        panel = self._market.panel
        view = panel.until(panel.sessions[row].astype(object))
        try:
            limited = limit_weights(
                view, self._targets.at(row), self._risk, books=figures, previous=self._before
            )
        except InsufficientHistory:
            return None
        self._before = limited
        followed = self._target is not None and turned
        return limited if due or followed else None

    def _trade(self, row: int, equity: float, only: BoolArray | None) -> None:
        target = self._target
        assert target is not None
        book = BookView(
            equity=equity,
            shares=self._book.shares,
            prices=self._market.closes[row],
            marks=self._marks(row),
            lots=self._market.lots(row),
            working=self._waiting != 0,
            pending=self._waiting.copy(),
            usual_value=self._usual[row],
        )
        plan = plan_orders(target.weights, book, self._planner, only)
        try:
            self._gate.approve(plan, book)
        except GateRefusal:
            self._unfinished = np.ones(len(self._waiting), dtype=bool) if only is None else only
            self._refusals += 1
            return
        self._unfinished = np.zeros(len(self._waiting), dtype=bool)
        self._unfinished[plan.deferred] = True
        self._unfinished[plan.held] = True
        self._waiting[plan.rows] = plan.quantities
        self._missed[plan.rows] = 0

    def pass_quiet(self, row: int) -> int:
        """Value the sessions from `row` on which nothing can happen; return the next other one."""
        if self._every_session or self._waiting.any() or self._unfinished.any():
            return row
        held = self._book.shares.nonzero()[0]
        if self._is_financed(held):
            return row
        after = self._next_due(row)
        busy = np.flatnonzero(self._carry.concerns(row, after, held))
        after = row + int(busy[0]) if len(busy) else after
        rows = slice(row - self._market.first, after - self._market.first)
        values = self._market.marks[rows][:, held] @ self._book.shares[held].astype(np.float64)
        self._equity[rows] = self._book.cash / MICROS + values
        if after > row:
            self._book.peak = max(self._book.peak, float(self._equity[rows].max()))
        return after

    def _is_financed(self, held: IntArray) -> bool:
        """Return whether nights cost or earn anything; without shorts all cash is free."""
        if (self._book.shares[held] < 0).any():
            return self._borrow or self._debit or self._credit
        return self._debit if self._book.cash < 0 else self._credit

    def _next_due(self, row: int) -> int:
        """Return the next row whose close asks for a rebalance."""
        found = row
        while found <= self._market.last and (
            self._periods[found] == self._followed_period or not self._targets.has(found)
        ):
            found += 1
        return found
