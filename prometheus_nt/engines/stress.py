"""What a book would earn under stress: named crises, shocks of the market, its own worst windows.

Every row is linear in the weights for a given scenario, so the worst of them scales with the book
and never grows when two books are mixed. The limit on stress loss rests on that.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import isnan
from typing import Any

import numpy as np

from prometheus_nt.domain.books import StressLoss
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.book_history import LEAST_RETURN, HeldBook
from prometheus_nt.engines.numerics.returns import equal_weighted_returns, total_return_index
from prometheus_nt.engines.scenarios import CRISES

SHOCKS = {"market_down_10": -0.10, "market_down_20": -0.20}
"""Simple returns of the market that reach each name through its beta."""

WINDOWS = (5, 21)
"""Sessions of the worst windows of the book's own history."""

CRISIS_NAMES = tuple(CRISES)
CRISIS_DAYS = np.array(list(CRISES.values()), dtype="datetime64[D]")


def stress_table(book: HeldBook) -> tuple[StressLoss, ...]:
    """Return what each stress would earn a book; empty for an empty book.

    - Each crisis that the panel has seen from start to end: the names bought before it and held.
    - Shocks of the market: beta times the shock; a name of unknown beta moves like the market.
    - The worst windows of the lookback, the book held at constant weights: the sum of its returns.

    What is unknown of a name is what the market did times its beta, and is not `covered`.
    """
    absolute = np.abs(book.weights)
    gross = float(absolute.sum())
    if gross == 0.0:
        return ()
    share = absolute / gross
    return (*_crises(book, share), *_shocks(book, share), *_worst_windows(book))


def worst_pnl(book: HeldBook) -> float:
    """Return the least P&L of the stress table, a fraction of equity; 0 for an empty book."""
    return min((row.pnl for row in stress_table(book)), default=0.0)


def _crises(book: HeldBook, share: FloatArray) -> Iterator[StressLoss]:
    history = book.history
    since = history.panel.derived(_sessions_since_crises)[-1, 1]
    seen = (since < len(history.panel)).nonzero()[0]
    if not len(seen):
        return
    market, names = history.panel.derived(_crises_known)[-1]
    own = names.take(seen, axis=0).take(history.rows, axis=1, mode="clip")
    known = np.isfinite(own)
    if not np.logical_and.reduce(known, axis=None):
        proxy = np.maximum(history.slope * market[seen, None], LEAST_RETURN)
        own = np.where(known, own, proxy)
    pnl = np.einsum("ck,k->c", own, book.weights).tolist()
    covered = np.einsum("ck,k->c", known, share).tolist()
    for crisis, earned, part in zip(seen.tolist(), pnl, covered, strict=True):
        yield StressLoss(CRISIS_NAMES[crisis], earned, min(part, 1.0))


def _crises_known(panel: MarketPanel) -> Any:
    """Return what each crisis was, as known at every session, (T,) array of pairs of arrays.

    The market's total returns in the crises, (C,), and those of each instrument, (C, N); NaN
    where a crisis is not over yet. Sessions that know the same crises share one pair.
    """
    ago = panel.derived(_sessions_since_crises)
    over = np.isfinite(ago[:, 0])
    known = np.empty(len(panel), dtype=object)
    news = np.flatnonzero((over[1:] != over[:-1]).any(axis=1)) + 1
    edges = [0, *news.tolist(), len(panel)]
    for start, stop in pairwise(edges):
        pair = _returns_in(panel, start, ago[start])
        known[start:stop] = [pair] * (stop - start)
    return known


def _returns_in(panel: MarketPanel, row: int, ago: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the total returns of market, (C,), and names, (C, N), between the sessions `ago`."""
    market = np.full(len(CRISES), np.nan)
    names = np.full((len(CRISES), len(panel.instruments)), np.nan)
    over = np.isfinite(ago[0])
    last, before = (row - ago[:, over]).astype(np.int64)
    index, level = panel.derived(total_return_index), panel.derived(market_level)
    market[over] = level[last] / level[before] - 1.0
    names[over] = index[last] / index[before] - 1.0
    return market, names


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


def _shocks(book: HeldBook, share: FloatArray) -> Iterator[StressLoss]:
    history, covered = book.history, 1.0
    exposure = float((history.beta * book.weights).sum())
    if isnan(exposure):
        exposure = float((history.slope * book.weights).sum())
        covered -= float((share * np.isnan(history.beta)).sum())
    for name, shock in SHOCKS.items():
        yield StressLoss(name, shock * exposure, covered)


def _worst_windows(book: HeldBook) -> Iterator[StressLoss]:
    running = np.zeros(len(book.earned) + 1)
    np.cumsum(book.earned, out=running[1:])
    covered = book.covered
    known = 1.0 if covered is None else float(covered.sum()) / len(covered)
    for sessions in WINDOWS:
        if len(running) > sessions:
            worst = float(np.minimum.reduce(running[sessions:] - running[:-sessions]))
            yield StressLoss(f"worst_{sessions}_sessions", worst, known)
