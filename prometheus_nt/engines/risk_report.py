"""The risk of a book: exposures, tails, contributions, stress, liquidity; held names only.

1. `book_history` gathers what the held names did; sessions that say too little are left out.
2. `_figures` measures the book held at constant weights over the rest: volatility, beta, tails by
   three methods (`_tails`), and how the names share the volatility (`_contributions`).
3. `stress.stress_table` adds crises, shocks and the worst windows.
4. `factors.factor_exposures` compares the names with the whole panel.
5. `_concentration` and `_sectors` need no history, `_sessions_to_liquidate` needs volume.
"""

from collections.abc import Iterator
from math import fsum, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from pydantic import Field

from prometheus_nt.domain.books import RiskBasis, RiskContributions, RiskReport, TailRisk
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.book_history import HeldBook, book_history
from prometheus_nt.engines.factors import factor_exposures
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.cross_section import named_sectors
from prometheus_nt.engines.numerics.rolling import rolling_dollar_volume
from prometheus_nt.engines.scenarios import bootstrap_rows
from prometheus_nt.engines.stress import stress_table

TAIL_PERCENTS = (5, 1)
"""Size of the tails: 95% and 99% confidence."""

NORMAL_TAILS = tuple(
    (quantile, -NormalDist().pdf(quantile) / (percent / 100.0))
    for percent in TAIL_PERCENTS
    for quantile in (NormalDist().inv_cdf(percent / 100.0),)
)
"""Quantile and mean of the tail of a standard normal variable, for each of `TAIL_PERCENTS`."""

LONG_HORIZON = 10
"""Sessions of the tails that look further ahead than one; `_over_ten_sessions` knows it too."""

LIQUIDATED = 0.95
"""Share of gross that counts as liquidated: the last shares of one name may take for ever."""


class ReportParams(Params):
    """What the risk report looks at.

    Attributes
    ----------
    risk_lookback, min_risk_sessions
        Sessions of history, and the fewest from which a figure is drawn.
    liquidation_participation, liquidity_lookback
        What selling may be of the mean dollar volume of so many sessions.
    bootstrap_paths, bootstrap_block, bootstrap_seed
        The stationary bootstrap of the book's own history: paths, mean length of a block in
        sessions, and what the draws depend on besides the number of sessions.
    """

    risk_lookback: int = Field(252, ge=2)
    min_risk_sessions: int = Field(63, ge=2)
    liquidation_participation: float = Field(0.10, gt=0, le=1)
    liquidity_lookback: int = Field(21, ge=1)
    bootstrap_paths: int = Field(500, ge=100)
    bootstrap_block: float = Field(10.0, ge=1)
    bootstrap_seed: int = Field(0, ge=0)


def report_risk(
    panel: MarketPanel,
    rows: IntArray,
    weights: FloatArray,
    params: ReportParams,
    equity: float | None,
    basis: RiskBasis = "target",
) -> RiskReport:
    """Return the risk of K `weights`, none of them 0, on the panel's columns `rows`.

    Parameters
    ----------
    equity : float or None
        The book's equity, USD; without it nobody knows how long selling takes.
    """
    history = book_history(panel, rows, params.risk_lookback, params.min_risk_sessions)
    book = history.held(weights)
    return RiskReport(
        **_concentration(weights),
        **_sectors(panel, rows, weights),
        **_figures(book, params),
        exposures_by_factor=factor_exposures(history, weights, params.liquidity_lookback),
        stress=stress_table(book),
        sessions_to_liquidate=_sessions_to_liquidate(panel, rows, weights, params, equity),
        basis=basis,
    )


def _concentration(weights: FloatArray) -> dict[str, Any]:
    absolute = np.abs(weights)
    absolute.sort()
    absolute = absolute[::-1]
    gross, net = float(np.add.reduce(absolute)), float(np.add.reduce(weights))
    shares = absolute / gross if gross > 0.0 else absolute
    return {
        "gross_exposure": gross,
        "net_exposure": net,
        "cash_weight": 1.0 - net,
        "names": len(weights),
        "herfindahl": float(np.einsum("k,k->", shares, shares)),
        "top_ten_share": min(float(np.add.reduce(shares[:10])), 1.0),
        "largest_weight": float(absolute[0]) if len(absolute) else 0.0,
    }


def _sectors(panel: MarketPanel, rows: IntArray, weights: FloatArray) -> dict[str, Any]:
    if not panel.sectors:
        return {"exposures_by_sector": {}, "gross_by_sector": {}}
    names, codes = named_sectors(panel)
    own = codes[rows]
    net, gross = (
        np.bincount(own, weights=part, minlength=len(names)) for part in (weights, np.abs(weights))
    )
    held = np.unique(own).tolist()
    return {
        "exposures_by_sector": {names[code]: float(net[code]) for code in held},
        "gross_by_sector": {names[code]: float(gross[code]) for code in held},
    }


def _figures(book: HeldBook, params: ReportParams) -> dict[str, Any]:
    """Return what history says; sessions that know less than half of gross are left out.

    Names without a return would otherwise pass for calm.
    """
    earned, returns, market = book.earned, book.history.returns, book.history.market
    if book.covered is not None:
        used = 2.0 * book.covered >= 1.0
        earned, returns, market = earned[used], returns[used], market[used]
    count = len(returns)
    if not len(book.weights) or count < params.min_risk_sessions:
        return dict(NOTHING_KNOWN)
    mean = float(np.add.reduce(earned)) / count
    own, common = earned - mean, market - np.add.reduce(market) / count
    moved, scatter = float(np.add.reduce(own * own)), float(np.add.reduce(common * common))
    sigma = sqrt(moved / (count - 1))
    left = _left(earned)
    tails = _tails(earned, left, mean, sigma, params)
    return {
        "volatility": sigma * sqrt(SESSIONS_PER_YEAR),
        "var_95": tails[0].value_at_risk,
        "expected_shortfall_95": tails[0].expected_shortfall,
        "beta": float(np.add.reduce(own * common)) / scatter if scatter > 0.0 else None,
        "max_drawdown": _deepest_drawdown(left),
        "contributions": _contributions(book, returns, own, moved) if moved > 0.0 else None,
        "tails": tails,
    }


NOTHING_KNOWN: dict[str, Any] = {
    **dict.fromkeys(("volatility", "var_95", "expected_shortfall_95", "beta", "max_drawdown")),
    "contributions": None,
    "tails": (),
}


def _contributions(
    book: HeldBook, returns: FloatArray, own: FloatArray, moved: float
) -> RiskContributions:
    """Return the covariances of (D, K) `returns` with the book's (D,) deviations `own`.

    Over the book's volatility, they are what that gains per unit of weight. `moved` is the sum of
    the squares of `own`.
    """
    scale = sqrt(SESSIONS_PER_YEAR / (moved * (len(own) - 1)))
    marginal = scale * np.einsum("tk,t->k", returns, own)
    columns = book.history.rows.tolist()
    names = tuple(map(book.history.panel.instruments.__getitem__, columns))
    return RiskContributions(names, marginal, book.weights * marginal)


def _tails(
    earned: FloatArray, left: FloatArray, mean: float, sigma: float, params: ReportParams
) -> tuple[TailRisk, ...]:
    rows = bootstrap_rows(
        len(earned),
        params.bootstrap_paths,
        LONG_HORIZON,
        params.bootstrap_block,
        params.bootstrap_seed,
    )
    drawn = left.take(rows)
    compounded = np.multiply.reduce(drawn, axis=0)
    return (
        *tails_of("historical", 1, earned),
        *_normal_tails(1, mean, sigma),
        *tails_of("bootstrap", 1, earned.take(rows[0])),
        *tails_of("historical", LONG_HORIZON, _over_ten_sessions(left)),
        *_normal_tails(LONG_HORIZON, mean, sigma),
        *tails_of("bootstrap", LONG_HORIZON, compounded - 1.0),
    )


def _over_ten_sessions(growth: FloatArray) -> FloatArray:
    """Return the compounded returns of every ten sessions in a row, (D - 9,)."""
    two = growth[1:] * growth[:-1]
    four = two[2:] * two[:-2]
    eight = four[4:] * four[:-4]
    ten: FloatArray = eight[2:] * two[:-8] - 1.0
    return ten


def _left(returns: FloatArray) -> FloatArray:
    """Return what is left of 1: a levered book that lost more than everything has nothing."""
    return np.maximum(1.0 + returns, 0.0)


def tails_of(method: str, sessions: int, outcomes: FloatArray) -> Iterator[TailRisk]:
    """Yield the tails of equally likely outcomes; none if there are none.

    Of n, the ceil(tail n)-th lowest is the value at risk, and the mean up to it the expected
    shortfall.
    """
    if not len(outcomes):
        return
    lowest = _lowest(outcomes, -(-max(TAIL_PERCENTS) * len(outcomes) // 100))
    for percent in TAIL_PERCENTS:
        tail = lowest[: -(-percent * len(outcomes) // 100)]
        # The mean of equal numbers may round above them.
        shortfall = min(fsum(tail) / len(tail), tail[-1])
        yield TailRisk(method, sessions, 1.0 - percent / 100.0, tail[-1], shortfall)


def _lowest(outcomes: FloatArray, count: int) -> list[float]:
    # Faster than a partition: numpy sorts with vector instructions.
    ordered = outcomes.copy()
    ordered.sort()
    values: list[float] = ordered[:count].tolist()
    return values


def _normal_tails(sessions: int, mean: float, sigma: float) -> Iterator[TailRisk]:
    """Yield the tails of a normal variable whose sessions are independent."""
    centre, spread = sessions * mean, sqrt(sessions) * sigma
    for percent, (quantile, beyond) in zip(TAIL_PERCENTS, NORMAL_TAILS, strict=True):
        edge, shortfall = centre + quantile * spread, centre + beyond * spread
        yield TailRisk("parametric", sessions, 1.0 - percent / 100.0, edge, shortfall)


def _deepest_drawdown(growth: FloatArray) -> float:
    value = np.multiply.accumulate(growth)
    peak = np.maximum(np.maximum.accumulate(value), 1.0)
    value /= peak
    return min(float(np.minimum.reduce(value)) - 1.0, 0.0)


def _sessions_to_liquidate(
    panel: MarketPanel,
    rows: IntArray,
    weights: FloatArray,
    params: ReportParams,
    equity: float | None,
) -> float | None:
    """Return how long it takes to sell `LIQUIDATED` of gross, every name at once; or None.

    None where the volume of a held name, or equity, is not known, or a name has no volume at all.
    """
    if equity is None or not len(rows):
        return None
    usual = panel.derived(rolling_dollar_volume, params.liquidity_lookback)[-1].take(rows)
    rate = params.liquidation_participation * usual / equity
    if not (rate > 0.0).all():
        return None
    absolute = np.abs(weights)
    order = np.argsort(absolute / rate, kind="stable")
    absolute, rate = absolute[order], rate[order]
    # While name k is being sold those before it are gone, and it and those after it sell on.
    sold = np.cumsum(absolute)
    selling = np.cumsum(rate[::-1])[::-1]
    needed = (LIQUIDATED * sold[-1] - sold + absolute) / selling
    return float(needed[np.argmax(needed <= absolute / rate)])
