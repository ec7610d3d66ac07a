"""The pre-trade gate: every order passes here or goes nowhere."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import GateRefusal
from prometheus_nt.domain.record import Params
from strategies.planner import BookView, Plan, closing_part, net_band, require_band


class GateParams(Params):
    """Hard limits on what may leave a sleeve, whatever its target says.

    max_position_weight : largest |position| after the order, as a fraction of equity.
    max_gross : largest gross exposure after all orders, as a fraction of equity.
    min_net, max_net : net exposure once all orders have filled, as fractions of equity; None is no
        limit. A book outside may come nearer, and may always close positions.
    max_order_notional_usd : largest single order; None is no limit.
    """

    long_only: bool = True
    max_position_weight: float = Field(0.25, gt=0, le=1)
    max_gross: float = Field(1.0, gt=0, le=10)
    min_net: float | None = Field(None, ge=-10, le=10)
    max_net: float | None = Field(None, ge=-10, le=10)
    max_order_notional_usd: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> "GateParams":
        require_band(self.min_net, self.max_net)
        return self


@dataclass(frozen=True, eq=False)
class Approved:
    """A plan that passed the gate; `OrderGate` alone makes one, and sleeves submit nothing else."""

    plan: Plan


class OrderGate:
    """Checks a whole plan before any of it is sent, so that nothing is ever half sent.

    Parameters
    ----------
    params : GateParams
    """

    def __init__(self, params: GateParams) -> None:
        self._params = params

    def approve(self, plan: Plan, book: BookView) -> Approved:
        """Return the plan as approved.

        Raises
        ------
        GateRefusal
            If any order breaks any limit, or cannot be judged. Orders that only reduce a
            position are never the reason: they must always be possible.
        """
        after = book.shares.copy()
        np.add.at(after, plan.rows, plan.quantities)
        self._check_orders(plan, book, after)
        self._check_gross(book, after)
        self._check_net(book, after - book.shares)
        return Approved(plan)

    def _check_orders(self, plan: Plan, book: BookView, after: np.ndarray) -> None:
        rows = plan.rows
        prices = book.prices[rows]
        self._refuse("working order", rows, book.working[rows])
        self._refuse("duplicate order", rows, np.bincount(rows, minlength=len(after))[rows] > 1)
        change = after - book.shares
        grows = (change != closing_part(change, book.shares))[rows]
        self._refuse("price", rows, grows & ~(np.isfinite(prices) & (prices > 0)))
        if self._params.long_only:
            self._refuse("long_only", rows, grows & (after[rows] < 0))
        # As a product, not a quotient: equity that is negative or unknown then refuses too.
        within = np.abs(after[rows]) * prices <= self._params.max_position_weight * book.equity
        self._refuse("max_position_weight", rows, grows & ~within)
        if self._params.max_order_notional_usd is not None:
            notional = np.abs(plan.quantities) * prices
            too_large = grows & (notional > self._params.max_order_notional_usd)
            self._refuse("max_order_notional_usd", rows, too_large)

    def _check_gross(self, book: BookView, after: np.ndarray) -> None:
        before = _exposure_usd(book, book.committed)
        gross = _exposure_usd(book, np.where(book.working, book.committed, np.abs(after)))
        limit = self._params.max_gross
        if not gross <= max(limit * book.equity, before):
            found = f"{gross:,.2f} USD on equity of {book.equity:,.2f} USD"
            raise GateRefusal("max_gross", f"{found}, limit {limit} times equity")

    def _check_net(self, book: BookView, change: np.ndarray) -> None:
        least, most = self._params.min_net, self._params.max_net
        closing = closing_part(change, book.shares)
        if (least is None and most is None) or np.array_equal(change, closing):
            return
        present = (_exposure_usd(book, book.expected), _exposure_usd(book, book.expected + closing))
        low, high = net_band(least, most, book.equity, present)
        net = _exposure_usd(book, book.expected + change)
        if not low <= net <= high:
            limit, value = ("max_net", most) if net > high else ("min_net", least)
            found = f"{net:,.2f} USD on equity of {book.equity:,.2f} USD"
            raise GateRefusal(limit, f"{found}, limit {value} times equity")

    def _refuse(self, limit: str, rows: np.ndarray, broken: np.ndarray) -> None:
        if broken.any():
            raise GateRefusal(limit, f"instrument columns {rows[broken].tolist()}")


def _exposure_usd(book: BookView, shares: np.ndarray) -> float:
    held = np.flatnonzero(shares)
    return float(shares[held] @ book.marks[held])
