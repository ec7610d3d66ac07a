"""Quality and value from reported figures, as they were known at each session.

1. `_entries` puts every usable fact on the session from which it was known;
2. `_figures` enters them session by session in a book of quarters, where a restated figure
   replaces the first, and yields what was then the newest of each item: `FLOWS` summed over four
   quarters in a row, `STOCKS` as they stood (`_newest`);
3. `_ratios` makes three ratios of quality and three of value of them; `_composite` averages the
   z-scores of the known ones, of which there must be two.

Facts have the names that `domain.profiles` gives them: a flow reported by year only has no trailing
sum. Shares are those of the quarter's end, to which the panel's later splits are added.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import QUARTERLY
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray
from prometheus_nt.engines.numerics.cross_section import cross_sectional_zscore
from prometheus_nt.engines.numerics.returns import has_bar

FLOWS = tuple(flow + QUARTERLY for flow in ("revenue", "net_income", "gross_profit"))
STOCKS = ("equity", "total_assets", "total_liabilities", "shares_outstanding")
ITEMS = FLOWS + STOCKS

QUALITY, VALUE = 0, 1

MAX_QUARTERS = 3
"""Quarters after which a figure no longer says what a company is like."""

BLOCK_SESSIONS = 64


def fundamental_ratios(panel: MarketPanel) -> FloatArray:
    """Return quality and value of every session, (T, 2, N); NaN where unknown.

    Quality averages gross profit to assets, income to equity, and minus liabilities to assets.
    Value averages income, equity and revenue to the market value at the close as traded. What
    divides must be positive, and so must an equity that is divided.

    References
    ----------
    Novy-Marx (2013), "The Other Side of Value". Asness, Frazzini and Pedersen (2019), "Quality
    minus Junk". Lakonishok, Shleifer and Vishny (1994), "Contrarian Investment".
    """
    result = np.full((len(panel), 2, len(panel.instruments)), np.nan)
    if panel.facts is None or not len(panel.facts):
        return result
    known = _figures(panel, panel.facts)
    for start in range(0, len(panel), BLOCK_SESSIONS):
        stop = min(start + BLOCK_SESSIONS, len(panel))
        figures = np.stack([next(known) for _ in range(start, stop)], axis=1)
        ratios = _ratios(figures, panel.close[start:stop])
        result[start:stop, QUALITY] = _composite(ratios[:3])
        result[start:stop, VALUE] = _composite(ratios[3:])
    return result


class _Entries(NamedTuple):
    """The usable facts in the order in which they became known; `row` is the session."""

    item: IntArray
    column: IntArray
    quarter: IntArray
    value: FloatArray
    row: IntArray


def _entries(panel: MarketPanel, facts: Facts) -> _Entries:
    numbered = np.array([ITEMS.index(name) if name in ITEMS else -1 for name in facts.items])
    row = np.searchsorted(panel.sessions, facts.known_at)
    item = numbered[facts.item]
    used = np.flatnonzero((item >= 0) & (row < len(panel)) & np.isfinite(facts.value))
    item, column, row, value = item[used], facts.column[used], row[used], facts.value[used]
    ended = np.searchsorted(panel.sessions, facts.period_end[used], side="right") - 1
    # A period that ends after it was reported is a mistake of the source, and no way to see ahead.
    then = np.minimum(ended, row)
    factor = np.where(then >= 0, np.cumprod(panel.split, axis=0)[np.maximum(then, 0), column], 1.0)
    shares = item == ITEMS.index("shares_outstanding")
    quarter = _quarter(facts.period_end[used])
    return _Entries(item, column, quarter, np.where(shares, value / factor, value), row)


def _quarter(days: SessionArray) -> IntArray:
    # Two weeks earlier: a fiscal quarter may end a few days after the calendar's.
    months = (days - np.timedelta64(14, "D")).astype("datetime64[M]").astype(np.int64)
    quarter: IntArray = months // 3
    return quarter


def _figures(panel: MarketPanel, facts: Facts) -> Iterator[FloatArray]:
    """Yield the newest figures known at each session, (items, N), shares as of that session."""
    entries = _entries(panel, facts)
    first = int(entries.quarter.min(initial=np.iinfo(np.int64).max))
    quarters = int(entries.quarter.max(initial=first)) - first + 1
    shape = (len(ITEMS), len(panel.instruments))
    book = np.full((*shape, quarters), np.nan)
    figures, newest = np.full(shape, np.nan), np.full(shape, -1)
    bounds = np.searchsorted(entries.row, np.arange(len(panel) + 1))
    now = _quarter(panel.sessions) - first
    split = np.cumprod(panel.split, axis=0)
    for row in range(len(panel)):
        today = slice(bounds[row], bounds[row + 1])
        if bounds[row] < bounds[row + 1]:
            item, column = entries.item[today], entries.column[today]
            book[item, column, entries.quarter[today] - first] = entries.value[today]
            touched = np.unique(column)
            figures[:, touched], newest[:, touched] = _newest(book[:, touched])
        current = np.where(now[row] - newest <= MAX_QUARTERS, figures, np.nan)
        current[ITEMS.index("shares_outstanding")] *= split[row]
        yield current


def _newest(book: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the newest figure of each item and its quarter, (items, n) each, of (items, n, Q)."""
    known = np.isfinite(book)
    last = book.shape[-1] - 1 - np.argmax(known[..., ::-1], axis=-1)
    figures = np.take_along_axis(book, last[..., None], axis=-1)[..., 0]
    year = last[: len(FLOWS), :, None] - np.arange(4)
    flows = np.take_along_axis(book[: len(FLOWS)], np.maximum(year, 0), axis=-1).sum(axis=-1)
    figures[: len(FLOWS)] = np.where(year.min(axis=-1) >= 0, flows, np.nan)
    return figures, last


def _ratios(figures: FloatArray, close: FloatArray) -> FloatArray:
    """Return three ratios of quality, then three of value, (6, R, N), of (items, R, N) figures."""
    revenue, income, gross, equity, assets, liabilities, shares = figures
    equity, assets = _positive(equity), _positive(assets)
    market_value = _positive(np.where(has_bar(close), close, np.nan) * shares)
    return np.stack(
        [
            gross / assets,
            income / equity,
            -liabilities / assets,
            income / market_value,
            equity / market_value,
            revenue / market_value,
        ]
    )


def _positive(x: FloatArray) -> FloatArray:
    return np.where(x > 0.0, x, np.nan)


def _composite(ratios: FloatArray) -> FloatArray:
    """Return the mean z-score of the known ratios, (R, N); NaN where fewer than two are known."""
    z = cross_sectional_zscore(ratios)
    known = np.isfinite(z)
    count = known.sum(axis=0)
    mean = np.where(known, z, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count >= 2, mean, np.nan)
