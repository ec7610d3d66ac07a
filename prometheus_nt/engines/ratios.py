"""Quality and value from reported figures, as they were known at each session.

1. `_figures` looks up what `accounts` knew of each item, and restates shares by later splits;
2. `_ratios` makes three ratios of quality and three of value of them; `_composite` averages the
   z-scores of the known ones, of which there must be two.

Facts have the names that `domain.profiles` gives them: a flow reported by year only has no trailing
sum. Shares are those of the quarter's end, to which the panel's later splits are added.
"""

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import QUARTERLY
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.accounts import FLOW, STOCK, known_over
from prometheus_nt.engines.numerics.cross_section import cross_sectional_zscore
from prometheus_nt.engines.numerics.returns import has_bar

ITEMS = (
    *((flow + QUARTERLY, FLOW) for flow in ("revenue", "net_income", "gross_profit")),
    *((stock, STOCK) for stock in ("equity", "total_assets", "total_liabilities")),
    ("shares_outstanding", STOCK),
)
SHARES = len(ITEMS) - 1

QUALITY, VALUE = 0, 1

MAX_AGE = 285
"""Days after the end of its period from which a figure no longer says what a company is like: three
quarters, and the two weeks by which a fiscal quarter may end late."""

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
    for start in range(0, len(panel), BLOCK_SESSIONS):
        stop = min(start + BLOCK_SESSIONS, len(panel))
        figures = _figures(panel, slice(start, stop))
        ratios = _ratios(figures, panel.close[start:stop])
        result[start:stop, QUALITY] = _composite(ratios[:3])
        result[start:stop, VALUE] = _composite(ratios[3:])
    return result


def _figures(panel: MarketPanel, rows: slice) -> FloatArray:
    """Return the newest figures known at each session, (K, R, N), shares as of that session."""
    known = np.moveaxis(known_over(panel, ITEMS, rows), -1, 0)
    figures, ended = known[..., 0], known[..., 1]
    today = panel.sessions[rows].astype(np.int64)[:, None]
    with np.errstate(invalid="ignore"):
        figures = np.where(today - ended <= MAX_AGE, figures, np.nan)
    split = panel.derived(_shares_after_splits)
    days = np.where(np.isfinite(ended[SHARES]), ended[SHARES], 0.0).astype("datetime64[D]")
    then = np.searchsorted(panel.sessions, days, side="right") - 1
    of_then = np.take_along_axis(split, np.maximum(then, 0), axis=0)
    figures[SHARES] *= split[rows] / np.where(then >= 0, of_then, 1.0)
    return figures


def _shares_after_splits(panel: MarketPanel) -> FloatArray:
    """Return what one share of before the panel has become by splits, (T, N)."""
    shares: FloatArray = np.cumprod(panel.split, axis=0, dtype=np.float64)
    return shares


def _ratios(figures: FloatArray, close: FloatArray) -> FloatArray:
    """Return three ratios of quality, then three of value, (6, R, N), of (K, R, N) figures."""
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
