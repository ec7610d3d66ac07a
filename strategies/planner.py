"""From target weights to whole-share orders: pure arithmetic, no venue, no clock."""

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params


class PlannerParams(Params):
    """How closely orders follow a target.

    cash_buffer : fraction of equity never spent, against the gap between close and open.
    no_trade_band : weight difference below which a held name is left alone.
    min_notional_usd : smallest order worth its commission; closing a position ignores it.
    max_participation : largest share of the usual daily value one order may take; None is no
        limit, the only choice for data without volume.
    """

    cash_buffer: float = Field(0.01, ge=0, lt=1)
    no_trade_band: float = Field(0.002, ge=0, lt=1)
    min_notional_usd: float = Field(500.0, ge=0)
    max_participation: float | None = Field(None, gt=0, le=1)


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
        Instruments whose order was cut: to what the market can absorb in one session, or to what
        the sales of this session pay for.
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
    scale = min(1.0, (1.0 - params.cash_buffer) / gross) if gross > 0 else 1.0
    value = weights * scale * book.equity
    lot_price = np.where(actionable, book.prices * book.lots, 1.0)
    # Towards zero: rounding must never spend what the target did not grant. The nudge keeps a
    # target of exactly k lots at k when the division lands a rounding error below it.
    lots = np.trunc(np.where(actionable, value, 0.0) / lot_price * (1.0 + 1e-12))
    return lots.astype(np.int64) * book.lots


def _drop_small(
    change: IntArray, wanted: IntArray, book: BookView, params: PlannerParams
) -> IntArray:
    notional = np.abs(change) * np.nan_to_num(book.prices)
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
    lot_value = np.nan_to_num(book.prices) * book.lots
    lots = np.floor_divide(limit, lot_value, out=np.zeros(len(limit)), where=lot_value > 0)
    largest = lots.astype(np.int64) * book.lots
    capped: IntArray = np.sign(change) * np.minimum(np.abs(change), largest)
    return capped


def _trim_growth(change: IntArray, book: BookView, params: PlannerParams) -> IntArray:
    """Cut the orders that grow positions to the gross exposure that the others leave free.

    A sale that is capped, or has no price, frees nothing: what it should have paid for waits.
    """
    marks = np.nan_to_num(book.marks)
    after = np.abs(book.shares + change)
    grows = after > np.abs(book.shares)
    reduced = np.where(grows | book.working, book.committed, after)
    room = (1.0 - params.cash_buffer) * book.equity - float(reduced @ marks)
    growth = float(np.where(grows, after - np.abs(book.shares), 0) @ marks)
    if growth <= max(room, 0.0) * (1.0 + 1e-9):
        return change
    share = max(room, 0.0) / growth
    trimmed = np.trunc(change * share / book.lots * (1.0 + 1e-12)).astype(np.int64) * book.lots
    too_small = np.abs(trimmed) * marks < params.min_notional_usd
    return np.where(grows, np.where(too_small, 0, trimmed), change)


def _sells_first(change: IntArray) -> IntArray:
    rows: IntArray = np.flatnonzero(change)
    return rows[np.argsort(change[rows] > 0, kind="stable")]
