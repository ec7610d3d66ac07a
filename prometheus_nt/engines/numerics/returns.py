"""Bars and returns of the instruments, and of the market that they make up.

Hand functions of a panel to `MarketPanel.derived`, which computes the whole history once and cuts
the rows a view may see. They are causal, row by row and bit by bit.
"""

from typing import Any

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.cross_section import sector_codes, sector_names
from prometheus_nt.engines.numerics.running import by_blocks
from prometheus_nt.engines.numerics.series import shifted


def has_bar(close: FloatArray) -> BoolArray:
    """Return where `close` is a price: finite and positive."""
    return np.isfinite(close) & (close > 0.0)


def bar_counts(panel: MarketPanel) -> Any:
    """Return how many bars each instrument has had up to each session, (T, N) of int32."""
    return np.cumsum(has_bar(panel.close), axis=0, dtype=np.int32)


def stopped(panel: MarketPanel, rows: IntArray, max_gap: int) -> BoolArray:
    """Return which instruments had no bar in the `max_gap` sessions up to each row, (R, N)."""
    bars = panel.derived(bar_counts)
    before = np.where((rows >= max_gap)[:, None], bars[np.maximum(rows - max_gap, 0)], 0)
    silent: BoolArray = bars[rows] == before
    return silent


def total_returns(panel: MarketPanel) -> FloatArray:
    """Return simple total returns per session, (T, N).

    NaN where there is no bar, or none before it. Between the last earlier bar s and t a holder of
    one share comes to own the product of the splits, and is paid the dividends on it. With C the
    running product of splits:

        r_t = (C_t close_t + sum_{s < u <= t} C_u dividend_u) / (C_s close_s) - 1

    which for consecutive bars is split_t (close_t + dividend_t) / close_s - 1. Splits and
    dividends on sessions without a bar are therefore not lost.
    """
    return by_blocks(_returns_of_holder, panel.close, panel.split, panel.dividend)


def log_total_returns(panel: MarketPanel) -> FloatArray:
    """Return ln(1 + total return) per session, (T, N); NaN where `total_returns` is."""
    return np.log1p(panel.derived(total_returns))


def total_return_index(panel: MarketPanel) -> FloatArray:
    """Return the value of 1 invested at each instrument's first close, (T, N).

    Carried forward through missing bars; NaN before the first bar.
    """

    def value(returns: FloatArray, close: FloatArray) -> FloatArray:
        growth = np.cumprod(np.where(np.isnan(returns), 1.0, 1.0 + returns), axis=0)
        listed = np.logical_or.accumulate(has_bar(close), axis=0)
        return np.where(listed, growth, np.nan)

    return by_blocks(value, panel.derived(total_returns), panel.close)


def trailing_return(panel: MarketPanel, lookback: int, skip: int = 0) -> FloatArray:
    """Return the simple total return from `lookback` to `skip` sessions before `as_of`, (N,).

    NaN where the instrument has no bar that old.
    """
    index = panel.derived(total_return_index)
    if len(panel) <= lookback:
        return np.full(len(panel.instruments), np.nan)
    change: FloatArray = index[-1 - skip] / index[-1 - lookback] - 1.0
    return change


def compound_returns(panel: MarketPanel, lookback: int, skip: int = 0) -> FloatArray:
    """Return `trailing_return` of every session, (T, N).

    The index stands still while an instrument has no bar: what it made before then shows on.
    """
    index = panel.derived(total_return_index)
    return shifted(index, skip) / shifted(index, lookback) - 1.0


def equal_weighted_returns(panel: MarketPanel) -> FloatArray:
    """Return the mean total return of the instruments with one, (T,); NaN if there is none."""
    return _mean_of_known(panel.derived(total_returns), least=1)


def market_returns(panel: MarketPanel) -> FloatArray:
    """Return `equal_weighted_returns` where two instruments or more have one, (T,), else NaN.

    A market of one says nothing about how that one moves with the others.
    """
    members = np.isfinite(panel.derived(total_returns)).sum(axis=1)
    return np.where(members > 1, panel.derived(equal_weighted_returns), np.nan)


def sector_returns(panel: MarketPanel) -> FloatArray:
    """Return the mean total return of each of S sectors, (T, S), in the order of `sector_names`.

    As `market_returns`, of those who were known on the session to belong to the sector: NaN where
    fewer than two have a return.
    """
    returns = panel.derived(total_returns)
    means = np.full((len(panel), len(sector_names(panel))), np.nan)
    for first, after in panel.sector_spans():
        codes = sector_codes(panel, first)
        for code in np.unique(codes[codes >= 0]).tolist():
            # Each row contiguous in memory: how many there are must not change how one is summed.
            members = returns[first:after].take(np.flatnonzero(codes == code), axis=1)
            means[first:after, code] = _mean_of_known(members, least=2)
    return means


def _mean_of_known(returns: FloatArray, least: int) -> FloatArray:
    """Return the mean of each row, (T,); NaN where fewer than `least` are known."""
    known = np.isfinite(returns)
    count = known.sum(axis=1)
    # Sorted first, so that the sum does not depend on the order of the instruments.
    mean = np.sort(np.where(known, returns, 0.0), axis=1).sum(axis=1) / np.maximum(count, 1)
    return np.where(count >= least, mean, np.nan)


def _returns_of_holder(close: FloatArray, split: FloatArray, dividend: FloatArray) -> FloatArray:
    traded = has_bar(close)
    shares = np.cumprod(split, axis=0)
    value = shares * close
    income = np.cumsum(shares * dividend, axis=0)
    previous = _previous_row(traded)
    rows = np.maximum(previous, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # The bracket is exactly zero when nothing was paid, whatever was paid before.
        worth = value + (income - np.take_along_axis(income, rows, axis=0))
        returns = worth / np.take_along_axis(value, rows, axis=0) - 1.0
    known = traded & (previous >= 0) & (returns > -1.0) & np.isfinite(returns)
    return np.where(known, returns, np.nan)


def _previous_row(traded: BoolArray) -> IntArray:
    newest = np.where(traded, np.arange(len(traded))[:, None], -1)
    np.maximum.accumulate(newest, axis=0, out=newest)
    previous = np.full_like(newest, -1)
    previous[1:] = newest[:-1]
    return previous
