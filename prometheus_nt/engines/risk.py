"""The last word on weights: limits in a fixed order, every intervention recorded, risk reported.

1. `breaker_tripped` says whether the sleeve's own drawdown holds its book down.
2. `limit_weights` applies the limits that are on, those of `limits.limit_table`; each cuts what
   the one before it left.
3. `_require_within` looks at every limit once more, computed another way.
4. `risk_report.report_risk` measures what is left, or what is held where nothing was decided
   (`_report_held`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prometheus_nt.domain.books import (
    BookTarget,
    RiskAction,
    RiskActionType,
    RiskReport,
    TargetPortfolio,
)
from prometheus_nt.domain.errors import LimitBreach
from prometheus_nt.domain.ledger import BookState
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.book_history import BookHistory, book_history
from prometheus_nt.engines.factors import by_id
from prometheus_nt.engines.limits import Limit, LimitInputs, LimitParams, limit_table
from prometheus_nt.engines.numerics.cross_section import named_sectors
from prometheus_nt.engines.numerics.rolling import rolling_dollar_volume
from prometheus_nt.engines.risk_report import ReportParams, report_risk


class RiskParams(LimitParams, ReportParams):
    """Parameters of the risk engine: its limits, and what its report looks at."""


class BookFigures(Protocol):
    """What limits may know of a sleeve's own book at a close; `BookState` is one."""

    @property
    def equity(self) -> float: ...

    @property
    def drawdown(self) -> float: ...


class LimitedBook(Protocol):
    """What limits remember of the session before; `TargetPortfolio` is one."""

    @property
    def instruments(self) -> tuple[str, ...]: ...

    @property
    def weights(self) -> FloatArray: ...

    @property
    def breaker_tripped(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class LimitedWeights:
    """Weights within every limit, (N,), and what that took; no target until `apply_limits`."""

    instruments: tuple[str, ...]
    weights: FloatArray
    actions: tuple[RiskAction, ...]
    breaker_tripped: bool


def apply_limits(
    panel: MarketPanel,
    book: BookTarget,
    params: RiskParams,
    *,
    books: BookState | None = None,
    previous: TargetPortfolio | None = None,
) -> TargetPortfolio:
    """Return the weights of `book` within every limit; what a limit takes becomes cash.

    Parameters
    ----------
    books : BookState, optional
        The sleeve's holdings, equity and drawdown at this close. Without it the breaker stays as
        it was, no name passes a limit on liquidity, and the report is of the target.
    previous : TargetPortfolio, optional
        The target of the session before: the limit on turnover measures from its weights, and it
        remembers whether the breaker had tripped. Without it there is no limit on turnover.

    Raises
    ------
    LimitBreach
        If a limit does not hold in the end: our bug.
    """
    limited, rows = _limited(panel, book, params, books, previous)
    tripped = limited.breaker_tripped
    held = rows[limited.weights[rows] != 0.0]
    return TargetPortfolio(
        as_of=panel.as_of,
        book_id=book.book_id,
        instruments=panel.instruments,
        weights=limited.weights,
        actions=limited.actions,
        report=_report_held(panel, params, books, tripped=tripped, previous=previous)
        or report_risk(panel, held, limited.weights[held], params, _equity(books)),
        breaker_tripped=tripped,
    )


def limit_weights(
    panel: MarketPanel,
    book: BookTarget,
    params: RiskParams,
    *,
    books: BookFigures | None = None,
    previous: LimitedBook | None = None,
) -> LimitedWeights:
    """Return what `apply_limits` does to weights, without its report; the same arguments."""
    return _limited(panel, book, params, books, previous)[0]


def _limited(
    panel: MarketPanel,
    book: BookTarget,
    params: RiskParams,
    books: BookFigures | None,
    previous: LimitedBook | None,
) -> tuple[LimitedWeights, IntArray]:
    """Return the limited weights, and which rows they may stand in."""
    tripped = breaker_tripped(params, books, previous)
    before = _weights_of(previous, panel) if params.max_turnover is not None else None
    rows = _touched(panel, book, before)
    inputs = LimitInputs(
        sector=None if params.max_sector_weight is None else named_sectors(panel)[1][rows],
        capacity=_capacity(panel, rows, params, books),
        history=_stress_history(panel, rows, params),
        breaker_tripped=tripped,
        previous=None if before is None else before[rows],
    )
    limits = limit_table(inputs, params)
    weights, actions = _cut(limits, panel, rows, book.weights.take(rows))
    _require_within(panel, limits, weights)
    whole = np.zeros(len(panel.instruments))
    whole[rows] = weights
    return LimitedWeights(panel.instruments, whole, actions, tripped), rows


def _report_held(
    panel: MarketPanel,
    params: RiskParams,
    books: BookState | None,
    *,
    tripped: bool,
    previous: TargetPortfolio | None,
) -> RiskReport | None:
    """Return the risk of what the sleeve holds and will hold on; None if it follows the target.

    A breaker that trips or lets go waits for no schedule. Of a book without equity, or of other
    instruments than the panel's, nobody can tell the weights.
    """
    turned = previous is not None and previous.breaker_tripped != tripped
    if books is None or books.follows_target or turned:
        return None
    weights = books.weights
    if weights is None or books.instruments != panel.instruments:
        return None
    order = by_id(panel.instruments)
    rows = order[weights[order] != 0.0]
    return report_risk(panel, rows, weights[rows], params, books.equity, "held")


def remembers(params: RiskParams) -> bool:
    """Return whether what limits do to a session depends on the session before."""
    return params.max_turnover is not None or params.drawdown_breaker is not None


def breaker_tripped(
    params: RiskParams, books: BookFigures | None, previous: LimitedBook | None
) -> bool:
    """Return whether the sleeve's own drawdown holds its book down after this close."""
    release = params.release_above
    if params.drawdown_breaker is None or release is None:
        return False
    tripped = previous is not None and previous.breaker_tripped
    if books is None:
        return tripped
    # A drawdown that is not a number must trip, so each question is asked the safe way round.
    return not books.drawdown > (release if tripped else params.drawdown_breaker - NEAR)


NEAR = 1e-12
"""A drawdown equal to the breaker has not fallen below it."""


def _weights_of(previous: LimitedBook | None, panel: MarketPanel) -> FloatArray | None:
    if previous is None or previous.instruments == panel.instruments:
        return None if previous is None else previous.weights
    known = dict(zip(previous.instruments, previous.weights.tolist(), strict=True))
    return np.array([known.get(name, 0.0) for name in panel.instruments])


def _touched(panel: MarketPanel, book: BookTarget, before: FloatArray | None) -> IntArray:
    """Return the columns with a weight now or before, by instrument id.

    Sums over them then do not depend on the order of the panel's columns.
    """
    used = book.weights if before is None else (book.weights != 0.0) | (before != 0.0)
    order = by_id(panel.instruments)
    rows: IntArray = order.take(used.take(order).nonzero()[0])
    return rows


def _capacity(
    panel: MarketPanel, rows: IntArray, params: RiskParams, books: BookFigures | None
) -> FloatArray | None:
    """Return the absolute weight that `max_liquidation_days` can sell; NaN where unknown."""
    if params.max_liquidation_days is None:
        return None
    equity = _equity(books)
    if equity is None:
        return np.full(len(rows), np.nan)
    usual = panel.derived(rolling_dollar_volume, params.liquidity_lookback)[-1, rows]
    share = params.max_liquidation_days * params.liquidation_participation
    capacity: FloatArray = share * usual / equity
    return capacity


def _equity(books: BookFigures | None) -> float | None:
    return books.equity if books is not None and books.equity > 0.0 else None


def _stress_history(panel: MarketPanel, rows: IntArray, params: RiskParams) -> BookHistory | None:
    if params.max_stress_loss is None:
        return None
    return book_history(panel, rows, params.risk_lookback, params.min_risk_sessions)


def _cut(
    limits: tuple[Limit, ...], panel: MarketPanel, rows: IntArray, weights: FloatArray
) -> tuple[FloatArray, tuple[RiskAction, ...]]:
    actions: list[RiskAction] = []
    for limit in limits:
        limited = limit.cut(weights)
        if limited is not weights:
            names = [panel.instruments[row] for row in rows.tolist()]
            actions += _interventions(names, limit, weights, limited)
            weights = limited
    return weights, tuple(actions)


def _interventions(
    names: Sequence[str], limit: Limit, before: FloatArray, after: FloatArray
) -> list[RiskAction]:
    return [
        RiskAction(
            instrument_id=names[row],
            action_type=RiskActionType.CAPPED if after[row] else RiskActionType.REJECTED,
            limit=limit.name,
            limit_value=limit.value,
            weight_before=float(before[row]),
            weight_after=float(after[row]),
        )
        for row in (before != after).nonzero()[0].tolist()
    ]


def _require_within(panel: MarketPanel, limits: tuple[Limit, ...], weights: FloatArray) -> None:
    for limit in limits:
        if not limit.holds(weights):
            raise LimitBreach(panel.as_of, limit.name, limit.value, limit.excess(weights))
