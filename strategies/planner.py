"""From target weights to whole-share orders: pure arithmetic, no venue, no clock."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params


class PlannerParams(Params):
    """How closely orders follow a target.

    max_gross : gross exposure of the book, as a fraction of equity. 1 is a book without borrowed
        money; 130 long and 30 short need 1.6.
    cash_buffer : fraction of equity by which plans stay below it, against the gap between close
        and open.
    min_net, max_net : net exposure within which a plan may open positions, as fractions of equity,
        once all of its orders fill; None is no limit.
    no_trade_band : weight difference below which a held name is left alone.
    min_notional_usd : smallest order worth its commission; closing a position ignores it.
    max_participation : largest share of the usual daily value one order may take; None is no
        limit, the only choice for data without volume.
    """

    max_gross: float = Field(1.0, gt=0, le=10)
    cash_buffer: float = Field(0.01, ge=0, lt=1)
    min_net: float | None = Field(None, ge=-10, le=10)
    max_net: float | None = Field(None, ge=-10, le=10)
    no_trade_band: float = Field(0.002, ge=0, lt=1)
    min_notional_usd: float = Field(500.0, ge=0)
    max_participation: float | None = Field(None, gt=0, le=1)

    @property
    def investable(self) -> float:
        """Largest gross exposure of a plan, as a fraction of equity."""
        return self.max_gross - self.cash_buffer

    @model_validator(mode="after")
    def _consistent(self) -> "PlannerParams":
        if self.cash_buffer >= self.max_gross:
            raise ValueError("cash_buffer: must be less than max_gross")
        require_band(self.min_net, self.max_net)
        return self


def require_band(least: float | None, most: float | None) -> None:
    """Raise `ValueError` for a net band that nothing can lie in."""
    if least is not None and most is not None and least > most:
        raise ValueError("min_net: must not exceed max_net")


@dataclass(frozen=True, eq=False)
class BookView:
    """What the planner may know of a book after a close; arrays are (N,), in venue shares.

    Attributes
    ----------
    equity : float, USD
    shares : int array, signed
    prices : float array
        Close of the session, USD per venue share; NaN where the instrument did not trade.
    marks : float array
        Last known close; NaN where the instrument never traded.
    lots : int array
        Venue shares that make whole traded shares.
    working : bool array
        True where an order is still on its way.
    pending : int array
        Signed shares of those orders.
    usual_value : float array
        Usual traded value per session, USD; NaN where unknown.
    """

    equity: float
    shares: IntArray
    prices: FloatArray
    marks: FloatArray
    lots: IntArray
    working: BoolArray
    pending: IntArray
    usual_value: FloatArray

    @property
    def committed(self) -> IntArray:
        """Shares held, or held once the working orders fill, whichever is more: (N,), unsigned.

        A working order that grows a position may fill at any time; one that shrinks it frees
        nothing before it has filled.
        """
        committed: IntArray = np.maximum(np.abs(self.shares), np.abs(self.shares + self.pending))
        return committed

    @cached_property
    def known_prices(self) -> FloatArray:
        """Prices, 0 where the instrument did not trade, (N,)."""
        known: FloatArray = np.nan_to_num(self.prices)
        return known

    @cached_property
    def known_marks(self) -> FloatArray:
        """Marks, 0 where the instrument never traded, (N,)."""
        known: FloatArray = np.nan_to_num(self.marks)
        return known

    @property
    def expected(self) -> IntArray:
        """Signed shares once the working orders fill, (N,)."""
        expected: IntArray = self.shares + self.pending
        return expected


@dataclass(frozen=True, eq=False)
class Plan:
    """Orders, sells before buys and by instrument within each; and who was left alone.

    Attributes
    ----------
    rows, quantities : (K,) int arrays
        Instrument and signed shares of each order.
    held : (H,) int array
        Instruments whose target could not be acted on (no price, or an order still working).
    deferred : (D,) int array
        Instruments whose order was cut: to what the market can absorb in one session, or to the
        exposure that the orders which close positions leave free.
    """

    rows: IntArray
    quantities: IntArray
    held: IntArray
    deferred: IntArray


def plan_orders(
    weights: FloatArray, book: BookView, params: PlannerParams, only: BoolArray | None = None
) -> Plan:
    """Return the orders that move `book` towards `weights`.

    Parameters
    ----------
    weights : (N,) array
        Target fractions of equity; every one must be finite.
    only : (N,) bool array, optional
        Consider these instruments alone (to finish what a participation cap deferred).

    Raises
    ------
    DataError
        If a weight is not finite or equity is not positive: there is no plan for that.

    Notes
    -----
    A missing price is not a price: the position is held. A name with a working order is left
    alone, so that no target is ever ordered twice.
    """
    _require_plannable(weights, book)
    considered = np.ones(len(weights), dtype=bool) if only is None else only
    priced = np.isfinite(book.prices) & (book.prices > 0)
    actionable = considered & priced & ~book.working
    wanted = _wanted_shares(weights, book, params, actionable)
    change = np.where(actionable, wanted - book.shares, 0)
    change = _drop_small(change, wanted, book, params)
    granted = _trim_growth(_cap_participation(change, book, params), book, params)
    after = replace(book, shares=book.shares + granted)
    rows = _sells_first(granted)
    unreachable = considered & ~actionable & ((weights != 0) | (book.shares != 0))
    return Plan(
        rows=rows,
        quantities=granted[rows],
        held=np.flatnonzero(unreachable),
        deferred=np.flatnonzero(_drop_small(change - granted, wanted, after, params)),
    )


def _require_plannable(weights: FloatArray, book: BookView) -> None:
    if not np.isfinite(weights).all():
        raise DataError(f"{int((~np.isfinite(weights)).sum())} target weights are not finite")
    if not 0 < book.equity < np.inf:
        raise DataError(f"book equity is {book.equity:.2f} USD: nothing can be sized by it")


def _wanted_shares(
    weights: FloatArray, book: BookView, params: PlannerParams, actionable: BoolArray
) -> IntArray:
    gross = float(np.abs(weights).sum())
    scale = min(1.0, params.investable / gross) if gross > 0 else 1.0
    value = weights * scale * book.equity
    lot_price = np.where(actionable, book.prices * book.lots, 1.0)
    # Towards zero: rounding must never spend what the target did not grant. The nudge keeps a
    # target of exactly k lots at k when the division lands a rounding error below it.
    lots = np.trunc(np.where(actionable, value, 0.0) / lot_price * (1.0 + 1e-12))
    return lots.astype(np.int64) * book.lots


def _drop_small(
    change: IntArray, wanted: IntArray, book: BookView, params: PlannerParams
) -> IntArray:
    notional = np.abs(change) * book.known_prices
    closing = wanted == 0
    opening = book.shares == 0
    inside_band = (notional < params.no_trade_band * book.equity) & ~opening
    too_small = notional < params.min_notional_usd
    return np.where((inside_band | too_small) & ~closing, 0, change)


def _cap_participation(change: IntArray, book: BookView, params: PlannerParams) -> IntArray:
    if params.max_participation is None:
        return change
    unknown = (change != 0) & ~(book.usual_value > 0)
    if unknown.any():
        raise DataError(
            "the usual traded value of an instrument is unknown, so no participation cap can be "
            "kept; set planner.max_participation to null for data without volume"
        )
    limit = params.max_participation * np.nan_to_num(book.usual_value)
    lot_value = book.known_prices * book.lots
    lots = np.floor_divide(limit, lot_value, out=np.zeros(len(limit)), where=lot_value > 0)
    largest = lots.astype(np.int64) * book.lots
    capped: IntArray = np.sign(change) * np.minimum(np.abs(change), largest)
    return capped


def _trim_growth(change: IntArray, book: BookView, params: PlannerParams) -> IntArray:
    """Cut what opens positions to the exposure that what closes them leaves free.

    A sale that is capped, or has no price, frees nothing: what it should have paid for waits.
    """
    closing = closing_part(change, book.shares)
    opening = _within_gross(change - closing, closing, book, params)
    return closing + _within_net(opening, closing, book, params)


def closing_part(change: IntArray, shares: IntArray) -> IntArray:
    """Return the part of each order that shrinks a position, (N,); the rest opens one.

    An order through zero does both: from 100 to -50, 100 shares close and 50 open.
    """
    back = np.sign(change) != np.sign(shares)
    return np.where(back, np.sign(change) * np.minimum(np.abs(change), np.abs(shares)), 0)


def closing_plan(book: BookView, plan: Plan | None = None) -> Plan:
    """Return the orders that close every position without a working order, and open none.

    Parameters
    ----------
    plan : Plan, optional
        Return the closing part of this plan instead.
    """
    change = np.where(book.working, 0, -book.shares)
    if plan is not None:
        change = np.zeros_like(book.shares)
        np.add.at(change, plan.rows, plan.quantities)
        change = closing_part(change, book.shares)
    rows, nobody = _sells_first(change), np.array([], dtype=np.int64)
    return Plan(rows, change[rows], held=nobody, deferred=nobody)


def _within_gross(
    opening: IntArray, closing: IntArray, book: BookView, params: PlannerParams
) -> IntArray:
    marks = book.known_marks
    reduced = np.where(book.working, book.committed, np.abs(book.shares + closing))
    room = max(params.investable * book.equity - float(reduced @ marks), 0.0)
    growth = float(np.abs(opening) @ marks)
    if growth <= room * (1.0 + ROUNDING):
        return opening
    return _cut(opening, room / growth, book, params)


def _within_net(
    opening: IntArray, closing: IntArray, book: BookView, params: PlannerParams
) -> IntArray:
    """Cut the side that takes net exposure out of its band, or further out of it."""
    if params.min_net is None and params.max_net is None:
        return opening
    marks = book.known_marks
    closed = float((book.expected + closing) @ marks)
    present = (float(book.expected @ marks), closed)
    low, high = net_band(params.min_net, params.max_net, book.equity, present)
    for _ in range(MOST_CUTS):
        bought, sold = (float(np.maximum(side, 0) @ marks) for side in (opening, -opening))
        net = closed + bought - sold
        # Whole lots end short of their room, so the other side may have to follow.
        if net > high:
            share = (high - closed + sold) / bought
            opening = np.where(opening > 0, _cut(opening, share, book, params), opening)
        elif net < low:
            share = (closed + bought - low) / sold
            opening = np.where(opening < 0, _cut(opening, share, book, params), opening)
        else:
            return opening
    return np.zeros_like(opening)


MOST_CUTS = 8
"""Cuts after which a net band counts as too narrow for whole lots, and nothing is opened."""

ROUNDING = 1e-9
"""Relative excess over a limit on a sum that is rounding, not a breach."""


def net_band(
    least: float | None, most: float | None, equity: float, present: tuple[float, float]
) -> tuple[float, float]:
    """Return the lowest and the highest net exposure that a plan may lead to, USD.

    A book outside its band may stay where it is or come nearer: `present` is where it is, and
    where the part of the plan that closes positions, which must always be possible, takes it.
    """
    slack = ROUNDING * abs(equity)
    low = -np.inf if least is None else min(least * equity, *present) - slack
    high = np.inf if most is None else max(most * equity, *present) + slack
    return low, high


def _cut(opening: IntArray, share: float, book: BookView, params: PlannerParams) -> IntArray:
    """Return a share of every order in whole lots; what is then too small waits."""
    trimmed = np.trunc(opening * share / book.lots * (1.0 + 1e-12)).astype(np.int64) * book.lots
    too_small = np.abs(trimmed) * book.known_marks < params.min_notional_usd
    return np.where(too_small, 0, trimmed)


def _sells_first(change: IntArray) -> IntArray:
    rows: IntArray = np.flatnonzero(change)
    return rows[np.argsort(change[rows] > 0, kind="stable")]
