"""What is known of each instrument after the panel's last close, (N,); NaN where unknown.

The filters of universes and of scanners ask the same functions, so that a price or a dollar volume
means the same in both.
"""

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.market_relations import beta_floor, rolling_beta
from prometheus_nt.engines.numerics.returns import bar_counts, has_bar
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_max_drawdown,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.numerics.series import last_known


def traded_within(panel: MarketPanel, sessions: int) -> BoolArray:
    """Return who has a bar in the last `sessions`."""
    traded: BoolArray = np.logical_or.reduce(has_bar(panel.close[-sessions:]), axis=0)
    return traded


def last_price(panel: MarketPanel, max_gap: int) -> FloatArray:
    """Return the newest close as traded of the last `max_gap` sessions."""
    price: FloatArray = panel.close[-1]
    missing = np.isnan(price)
    if missing.any():
        price = price.copy()
        price[missing] = last_known(panel.close[-max_gap:, missing])[-1]
    return price


def history(panel: MarketPanel) -> FloatArray:
    """Return how many bars there have been."""
    bars: FloatArray = panel.derived(bar_counts)[-1].astype(np.float64)
    return bars


def dollar_volume(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the mean of close times volume over a lookback, in money a session."""
    newest: FloatArray = panel.derived(rolling_dollar_volume, lookback)[-1]
    return newest


def volatility(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the annualised deviation of log returns, where half of the lookback is known."""
    per_session = panel.derived(rolling_volatility_per_session, lookback, lookback // 2)[-1]
    annualised: FloatArray = per_session * np.sqrt(SESSIONS_PER_YEAR)
    return annualised


def drawdown(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the deepest fall from a peak within a lookback, <= 0."""
    newest: FloatArray = panel.derived(rolling_max_drawdown, lookback)[-1]
    return newest


def beta(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the slope of returns on those of the equally weighted panel."""
    newest: FloatArray = panel.derived(rolling_beta, lookback, beta_floor(lookback))[-1]
    return newest


def membership(panel: MarketPanel, asked_by: str) -> BoolArray:
    """Return who belongs to the panel's index.

    Raises
    ------
    DataError
        If the panel keeps no index; it names `asked_by`, the setting that needs one.
    """
    if panel.membership is None:
        raise DataError(f"{asked_by}: the panel does not keep who belonged to its index")
    newest: BoolArray = panel.membership[-1]
    return newest
