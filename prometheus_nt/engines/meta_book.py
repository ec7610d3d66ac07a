"""The book of a meta-portfolio: what its members hold by their targets, times what they weigh.

1. `member_weights` moves each member's target with the prices since it was decided, as the member's
   own book moves between its rebalances;
2. `follow_members` adds them up, and requires that nothing was lost on the way.
"""

from datetime import date

import numpy as np

from prometheus_nt.domain.books import BookEvidence, BookTarget, MemberBooks
from prometheus_nt.domain.errors import AccountingError, DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.returns import has_bar, total_return_index
from prometheus_nt.engines.numerics.series import last_known
from prometheus_nt.engines.portfolio_params import PortfolioParams
from prometheus_nt.engines.turnover import one_way_turnover

CONSERVED = 1e-9
"""Difference between sums of weights that is rounding."""


def follow_members(
    panel: MarketPanel,
    held: MemberBooks,
    params: PortfolioParams,
    *,
    previous: BookTarget | None = None,
) -> BookTarget:
    """Return the weights of a meta-portfolio's book; what its members hold in cash stays cash.

    Parameters
    ----------
    previous : BookTarget or None
        This engine's record of the session before.

    Raises
    ------
    DataError
        If a member is ruined, or decided on a session that the panel does not have.
    AccountingError
        If the book's net weight is not the sum of its members': our bug.
    """
    members = member_weights(panel, held)
    weights: FloatArray = held.shares @ members
    _require_conserved(held, members, weights)
    turnover = None if previous is None else one_way_turnover(weights - previous.weights)
    return BookTarget(
        as_of=panel.as_of,
        book_id=params.book_id,
        instruments=panel.instruments,
        weights=weights,
        expected_return=None,
        binding=(),
        evidence=BookEvidence(
            method=f"members of {held.meta_id}", as_of_solved=_newest(held), turnover=turnover
        ),
    )


def member_weights(panel: MarketPanel, held: MemberBooks) -> FloatArray:
    """Return what each member holds at the panel's end, as fractions of its own equity, (K, N).

    A position grows with the price of what a share has become, the equity with what positions
    earned, dividends included. A name whose price was never known stays as it was decided.

    Raises
    ------
    DataError
        If a member's equity is no longer positive, or its session is not in the panel.
    """
    rows = np.searchsorted(panel.sessions, held.decided)
    known = rows < len(panel)
    known[known] = panel.sessions[rows[known]] == held.decided[known]
    if not known.all():
        raise DataError(f"{panel.as_of}: a member decided on a session that the panel has not")
    price = _growth(panel.derived(price_index), rows)
    earned = _growth(panel.derived(total_return_index), rows)
    equity = 1.0 + (held.books * (earned - 1.0)).sum(axis=1)
    if not (equity > 0.0).all():
        ruined = ", ".join(np.array(held.members)[~(equity > 0.0)].tolist())
        raise DataError(
            f"{panel.as_of}: nothing is left of {ruined} by its target of {_newest(held)}"
        )
    weights: FloatArray = held.books * price / equity[:, None]
    return weights


def price_index(panel: MarketPanel) -> FloatArray:
    """Return the price of what one share of the first session has become, (T, N).

    Carried forward through missing bars; NaN before the first bar.
    """
    price: FloatArray = np.cumprod(panel.split, axis=0) * panel.close
    return last_known(np.where(has_bar(panel.close), price, np.nan))


def _growth(index: FloatArray, rows: np.ndarray) -> FloatArray:
    """Return by what (T, N) levels grew from K rows to the last one, (K, N); 1 where unknown."""
    grown = index[-1] / index[rows]
    return np.where(np.isfinite(grown), grown, 1.0)


def _newest(held: MemberBooks) -> date:
    newest: date = held.decided.max().astype(object)
    return newest


def _require_conserved(held: MemberBooks, members: FloatArray, weights: FloatArray) -> None:
    expected = float(held.shares @ members.sum(axis=1))
    # Not `>`: NaN is no conservation.
    if not abs(float(weights.sum()) - expected) <= CONSERVED:
        raise AccountingError(
            f"{held.as_of}: {held.meta_id} holds {weights.sum():.12g} net, its members "
            f"{expected:.12g}"
        )
