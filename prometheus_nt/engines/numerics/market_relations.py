"""How each instrument moves with the market over a lookback; for `MarketPanel.derived`."""

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.cross_section import sector_codes
from prometheus_nt.engines.numerics.returns import (
    market_returns,
    sector_returns,
    total_returns,
)
from prometheus_nt.engines.numerics.running import (
    by_blocks,
    rolling_count,
    rolling_scatter,
    rolling_sum,
    running_sum,
    shared_flags,
)


def rolling_beta(panel: MarketPanel, lookback: int, min_observations: int) -> FloatArray:
    """Return the slope of each instrument's returns on `market_returns`, (T, N).

    Over the sessions of the lookback on which the instrument has a return; NaN where fewer than
    `min_observations` (at least 2) of them are known, or the market did not move on them.
    """
    market = panel.derived(market_returns)[:, None]

    def slope(returns: FloatArray) -> FloatArray:
        return _slope(returns, market, lookback, min_observations)

    return by_blocks(slope, panel.derived(total_returns))


def rolling_sector_beta(panel: MarketPanel, lookback: int, min_observations: int) -> FloatArray:
    """Return the slope of each instrument's returns on its sector's `sector_returns`, (T, N).

    On those, session by session, of the sector it was known to belong to then. NaN where that is
    unknown, otherwise as `rolling_beta`.
    """
    history, sector = panel.derived(sector_returns), np.full(panel.close.shape, np.nan)
    for first, after in panel.sector_spans():
        codes = sector_codes(panel, first)
        sector[first:after, codes >= 0] = history[first:after, codes[codes >= 0]]

    def slope(returns: FloatArray, common: FloatArray) -> FloatArray:
        return _slope(returns, common, lookback, min_observations)

    return by_blocks(slope, panel.derived(total_returns), sector)


def _slope(
    returns: FloatArray, factor: FloatArray, lookback: int, min_observations: int
) -> FloatArray:
    """Return the slope of (T, n) returns on a factor, (T, 1) or (T, n), over a lookback."""
    known = shared_flags(np.isfinite(returns) & np.isfinite(factor))
    own, common = np.where(known, returns, 0.0), np.where(known, factor, 0.0)
    count = rolling_count(known, lookback)
    divisor = np.maximum(count, 2.0)
    moved = rolling_sum(common, lookback)
    squares = rolling_sum(common * common, lookback)
    scatter = squares - moved * moved / divisor
    shared = rolling_sum(own * common, lookback)
    shared -= rolling_sum(own, lookback) * moved / divisor
    # A difference of running sums is exact to rounding of the sums, not of the difference.
    told = scatter > NEGLIGIBLE * running_sum(common * common)
    estimable = (count >= max(min_observations, 2)) & told
    return np.where(estimable, shared / np.where(estimable, scatter, 1.0), np.nan)


def beta_floor(lookback: int) -> int:
    """Return how many returns a beta over `lookback` sessions needs: a quarter of them."""
    return max(lookback // 4, 3)


def residual_momentum(
    panel: MarketPanel, beta_lookback: int, lookback: int, skip: int
) -> FloatArray:
    """Return the mean over the standard deviation of what the market does not explain, (T, N).

    From `lookback` to `skip` sessions ago. What is left of a session's return is measured with
    the beta of the session before. NaN where fewer than half of the sessions are known, or the
    market explains all.

    References
    ----------
    Blitz, Huij and Martens (2011), "Residual Momentum".
    """
    market = panel.derived(market_returns)[1:, None]
    window = lookback - skip

    def standardised(returns: FloatArray, beta: FloatArray) -> FloatArray:
        left = np.zeros_like(returns)
        left[1:] = returns[1:] - beta[:-1] * market
        known = np.isfinite(left)
        known[:1] = False
        left[~known] = 0.0
        count = rolling_count(shared_flags(known), window)
        divisor, total = np.maximum(count, 2.0), rolling_sum(left, window)
        scatter = rolling_sum(left * left, window) - total * total / divisor
        # Below a thousandth of a basis point a residual is what rounding leaves.
        usable = (2.0 * count >= window) & (count >= 2.0) & (scatter > 1e-14 * divisor)
        deviation = np.sqrt(np.where(usable, scatter, 1.0) / (divisor - 1.0))
        result = np.full_like(returns, np.nan)
        score = np.where(usable, total / divisor / deviation, np.nan)
        result[skip:] = score[: max(len(score) - skip, 0)]
        return result

    beta = panel.derived(rolling_beta, beta_lookback, beta_floor(beta_lookback))
    return by_blocks(standardised, panel.derived(total_returns), beta)


def rolling_market_correlation(
    panel: MarketPanel, lookback: int, min_observations: int, *, out: FloatArray | None = None
) -> FloatArray:
    """Return the correlation with `market_returns` over `lookback` sessions, (T, N).

    NaN where fewer than `min_observations` sessions are known, or where either side stood still.
    """
    market = panel.derived(market_returns)[:, None]

    def correlation(returns: FloatArray) -> FloatArray:
        known = shared_flags(np.isfinite(returns) & np.isfinite(market))
        own = np.where(known, returns, 0.0)
        common = np.where(known, market, 0.0)
        count = rolling_count(known, lookback)
        own_sum, common_sum = rolling_sum(own, lookback), rolling_sum(common, lookback)
        divisor = np.maximum(count, 1.0)
        together = rolling_sum(own * common, lookback) - own_sum * common_sum / divisor
        scatter = rolling_scatter(own, own_sum, divisor, lookback)
        scatter *= rolling_scatter(common, common_sum, divisor, lookback)
        enough = (count >= min_observations) & (scatter > 0.0)
        ratio = together / np.sqrt(np.where(enough, scatter, 1.0))
        return np.where(enough, np.clip(ratio, -1.0, 1.0), np.nan)

    return by_blocks(correlation, panel.derived(total_returns), out=out)


def rolling_downside_beta(
    panel: MarketPanel, lookback: int, min_observations: int, *, out: FloatArray | None = None
) -> FloatArray:
    """Return how far each instrument moves per unit of a falling market, (T, N).

    The slope through the origin over those of the last `lookback` sessions on which
    `market_returns` fell: sum(m r) / sum(m m). NaN where fewer than `min_observations` (at least
    1) of them are known.

    References
    ----------
    Bawa and Lindenberg (1977), "Capital Market Equilibrium in a Mean-Lower Partial Moment
    Framework", with a target of 0.
    """
    market = panel.derived(market_returns)[:, None]
    fell = market < 0.0

    def slope(returns: FloatArray) -> FloatArray:
        known = shared_flags(np.isfinite(returns) & fell)
        fall = np.where(known, market, 0.0)
        count = rolling_count(known, lookback)
        squares = rolling_scatter(fall, 0.0, 1.0, lookback)
        products = rolling_sum(fall * np.where(known, returns, 0.0), lookback)
        enough = (count >= max(min_observations, 1)) & (squares > 0.0)
        return np.where(enough, products / np.where(enough, squares, 1.0), np.nan)

    return by_blocks(slope, panel.derived(total_returns), out=out)
