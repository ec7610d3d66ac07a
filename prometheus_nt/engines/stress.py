"""What a book would earn under stress: named crises, shocks of the market, its own worst windows.

Every row is linear in the weights for a given scenario, so the worst of them scales with the book
and never grows when two books are mixed. The limit on stress loss rests on that.
"""

from collections.abc import Iterator

import numpy as np

from prometheus_nt.domain.books import StressLoss
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.book_history import LEAST_RETURN, BookHistory
from prometheus_nt.engines.numerics.returns import equal_weighted_returns, total_return_index
from prometheus_nt.engines.scenarios import CRISES

SHOCKS = {"market_down_10": -0.10, "market_down_20": -0.20}
"""Simple returns of the market that reach each name through its beta."""

WINDOWS = (5, 21)
"""Sessions of the worst windows of the book's own history."""

CRISIS_NAMES = tuple(CRISES)
CRISIS_DAYS = np.array(list(CRISES.values()), dtype="datetime64[D]")


def stress_table(history: BookHistory, weights: FloatArray) -> tuple[StressLoss, ...]:
    """Return what each stress would earn a book of (K,) `weights`; empty for an empty book.

    - Each crisis that the panel has seen from start to end: the names bought before it and held.
    - Shocks of the market: beta times the shock; a name of unknown beta moves like the market.
    - The worst windows of the lookback, the book held at constant weights: the sum of its returns.

    What is unknown of a name is what the market did times its beta, and is not `covered`.
    """
    absolute = np.abs(weights)
    gross = float(absolute.sum())
    if gross == 0.0:
        return ()
    share = absolute / gross
    return (
        *_crises(history, weights, share),
        *_shocks(history, weights, share),
        *_worst_windows(history, weights),
    )


def worst_pnl(history: BookHistory, weights: FloatArray) -> float:
    """Return the least P&L of the stress table, a fraction of equity; 0 for an empty book."""
    return min((row.pnl for row in stress_table(history, weights)), default=0.0)


def _crises(history: BookHistory, weights: FloatArray, share: FloatArray) -> Iterator[StressLoss]:
    panel = history.panel
    seen, before, last = _seen_crises(panel)
    if not len(seen):
        return
    index = panel.derived(total_return_index)
    own = index[last[:, None], history.rows] / index[before[:, None], history.rows] - 1.0
    known = np.isfinite(own)
    if not known.all():
        level = panel.derived(market_level)
        market = level[last] / level[before] - 1.0
        own = np.where(known, own, np.maximum(history.slope * market[:, None], LEAST_RETURN))
    pnl = np.einsum("ck,k->c", own, weights).tolist()
    covered = np.einsum("ck,k->c", known, share).tolist()
    for crisis, earned, part in zip(seen.tolist(), pnl, covered, strict=True):
        yield StressLoss(CRISIS_NAMES[crisis], earned, min(part, 1.0))


def _seen_crises(panel: MarketPanel) -> tuple[IntArray, IntArray, IntArray]:
    """Return which crises lie inside the panel, the rows before them, and their last rows."""
    ago = panel.derived(_sessions_since_crises)[-1]
    seen = (np.isfinite(ago[0]) & (ago[1] < len(panel))).nonzero()[0]
    newest = len(panel) - 1
    ended, began = ago[:, seen].astype(np.int64)
    return seen, newest - began, newest - ended


def _sessions_since_crises(panel: MarketPanel) -> FloatArray:
    """Return sessions since the last one of each crisis, and the last one before it, (T, 2, C).

    NaN until a crisis is over, and for one that began before the history.
    """
    days, row = panel.sessions, np.arange(len(panel))[:, None]
    before = np.searchsorted(days, CRISIS_DAYS[:, 0], side="left") - 1
    last = np.searchsorted(days, CRISIS_DAYS[:, 1], side="right") - 1
    seen = (before >= 0) & (days[:, None] >= CRISIS_DAYS[:, 1])
    ago = np.stack((row - last, row - before), axis=1).astype(np.float64)
    return np.where(seen[:, None], ago, np.nan)


def market_level(panel: MarketPanel) -> FloatArray:
    """Return the value of 1 invested in the equal-weighted market, (T,)."""
    market = panel.derived(equal_weighted_returns)
    level: FloatArray = np.multiply.accumulate(np.where(np.isnan(market), 1.0, 1.0 + market))
    return level


def _shocks(history: BookHistory, weights: FloatArray, share: FloatArray) -> Iterator[StressLoss]:
    exposure = float((history.slope * weights).sum())
    covered = 1.0 - float((share * np.isnan(history.beta)).sum())
    for name, shock in SHOCKS.items():
        yield StressLoss(name, shock * exposure, covered)


def _worst_windows(history: BookHistory, weights: FloatArray) -> Iterator[StressLoss]:
    running = np.zeros(len(history.returns) + 1)
    np.cumsum(history.earned(weights), out=running[1:])
    covered = history.covered(weights)
    known = 1.0 if covered is None else float(covered.sum()) / len(covered)
    for sessions in WINDOWS:
        if len(running) > sessions:
            worst = float((running[sessions:] - running[:-sessions]).min())
            yield StressLoss(f"worst_{sessions}_sessions", worst, known)
