"""What an instrument goes through beside what scenarios put it through, in the same figures.

A window of prices and a simulated path share no session, but both are returns of one instrument
and of its market over the same number of sessions: `window_figures` asks the same of either.
"""

from math import ceil

import numpy as np

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.market import ScenarioSet
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.encoders.joint import Block, JointSpace, JointVectors, join
from prometheus_nt.encoders.scaling import anchored, robust_zscores, typical_where_unknown
from prometheus_nt.engines.numerics.returns import equal_weighted_returns, total_returns

FIGURES = (
    "volatility",
    "total_return",
    "max_drawdown",
    "shortfall",
    "downside_beta",
    "market_return",
)
SCENARIO_SPACE = JointSpace("SCENARIO_WINDOW_V0", (Block("window", (*FIGURES, "anchor")),))

NOW = "now"
"""The id of the window that ended at the newest close; the others are numbers of paths."""

WORST_FRACTION = 0.1
"""Of a window's sessions, whose mean is its shortfall."""

MOST_MISSING = 0.1
"""Fraction of a window without a return, from which on too little is known of it."""


def scenario_vectors(
    panel: MarketPanel, scenarios: ScenarioSet, instrument: str
) -> tuple[JointVectors, FloatArray]:
    """Return a vector for the instrument's newest window and for each of its S paths.

    Both are as long as the scenarios' horizon, and the market is the mean of all instruments of
    the panel and of the set. Standardised by these S + 1 windows alone.

    Returns
    -------
    JointVectors
        Row 0 is the window that ended at the panel's last close.
    (S + 1, F) array
        The `FIGURES` before they were standardised.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than the horizon.
    DataError
        If more than a tenth of the window is unknown.
    """
    horizon = scenarios.returns.shape[1]
    path = scenarios.returns[:, :, scenarios.instruments.index(instrument)]
    own, market = _newest_window(panel, instrument, horizon)
    figures = window_figures(
        np.vstack((own[None], path)), np.vstack((market[None], scenarios.returns.mean(axis=2)))
    )
    ids = (NOW, *(str(number) for number in range(len(path))))
    standardised = typical_where_unknown(robust_zscores(figures))
    return join(SCENARIO_SPACE, ids, {"window": anchored(standardised)}), figures


def window_figures(own: FloatArray, market: FloatArray) -> FloatArray:
    """Return `FIGURES` of (W, H) windows of simple returns, (W, F); volatility is per session.

    A downside beta is the slope through the origin over the sessions on which the market fell;
    NaN where it never did.
    """
    value = np.cumprod(1.0 + own, axis=1)
    peak = np.maximum(np.maximum.accumulate(value, axis=1), 1.0)
    worst = np.sort(own, axis=1)[:, : ceil(WORST_FRACTION * own.shape[1])]
    fall = np.minimum(market, 0.0)
    squares = (fall * fall).sum(axis=1)
    slope = (fall * own).sum(axis=1) / np.where(squares > 0.0, squares, 1.0)
    return np.column_stack(
        (
            own.std(axis=1),
            value[:, -1] - 1.0,
            (value / peak).min(axis=1) - 1.0,
            worst.mean(axis=1),
            np.where(squares > 0.0, slope, np.nan),
            np.prod(1.0 + market, axis=1) - 1.0,
        )
    )


def _newest_window(
    panel: MarketPanel, instrument: str, horizon: int
) -> tuple[FloatArray, FloatArray]:
    if len(panel) <= horizon:
        raise InsufficientHistory(panel.as_of, horizon + 1, len(panel))
    own = panel.derived(total_returns)[-horizon:, panel.instruments.index(instrument)]
    missing = int((~np.isfinite(own)).sum())
    if missing > MOST_MISSING * horizon:
        raise DataError(
            f"instrument: {instrument} has no return on {missing} of the {horizon} sessions up to "
            f"{panel.as_of}; choose an earlier session or another instrument"
        )
    # What a holder's account shows: the next return spans the gap.
    market = panel.derived(equal_weighted_returns)[-horizon:]
    return np.nan_to_num(own), np.nan_to_num(market)
