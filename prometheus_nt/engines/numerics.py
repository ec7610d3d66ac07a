"""Definitions that several engines share, each written once: returns, rolling risk, ranks, caps.

Functions of a panel are causal, row by row and bit by bit: a later row never changes an earlier
result. That is why sums over time are cumulative sums. Hand them to `MarketPanel.derived`, which
computes the whole history once and cuts the rows a view may see.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray

SESSIONS_PER_YEAR = 252

BLOCK_COLUMNS = 16
"""Instruments per block: the working arrays of a ten-year block then fit a core's cache."""

NEGLIGIBLE = 1e-12
"""Relative size below which a difference is rounding, not information."""


def has_bar(close: FloatArray) -> BoolArray:
    """Return where `close` is a price: finite and positive."""
    return np.isfinite(close) & (close > 0.0)


def total_returns(panel: MarketPanel) -> FloatArray:
    """Return simple total returns per session, (T, N).

    NaN where there is no bar, or none before it. Between the last earlier bar s and t a holder of
    one share comes to own the product of the splits, and is paid the dividends on it. With C the
    running product of splits:

        r_t = (C_t close_t + sum_{s < u <= t} C_u dividend_u) / (C_s close_s) - 1

    which for consecutive bars is split_t (close_t + dividend_t) / close_s - 1. Splits and
    dividends on sessions without a bar are therefore not lost.
    """
    return _by_blocks(_returns_of_holder, panel.close, panel.split, panel.dividend)


def log_total_returns(panel: MarketPanel) -> FloatArray:
    """Return ln(1 + total return) per session, (T, N); NaN where `total_returns` is."""
    return np.log1p(panel.derived(total_returns))


def total_return_index(panel: MarketPanel) -> FloatArray:
    """Return the value of 1 invested at each instrument's first close, (T, N).

    Carried forward through missing bars; NaN before the first bar.
    """
    returns = panel.derived(total_returns)
    index = np.cumprod(np.where(np.isnan(returns), 1.0, 1.0 + returns), axis=0)
    listed = np.logical_or.accumulate(has_bar(panel.close), axis=0)
    return np.where(listed, index, np.nan)


def trailing_return(panel: MarketPanel, lookback: int, skip: int = 0) -> FloatArray:
    """Return the simple total return from `lookback` to `skip` sessions before `as_of`, (N,).

    NaN where the instrument has no bar that old.
    """
    index = panel.derived(total_return_index)
    if len(panel) <= lookback:
        return np.full(len(panel.instruments), np.nan)
    change: FloatArray = index[-1 - skip] / index[-1 - lookback] - 1.0
    return change


def equal_weighted_returns(panel: MarketPanel) -> FloatArray:
    """Return the mean total return of the instruments with one, (T,); NaN if there is none."""
    returns = panel.derived(total_returns)
    known = np.isfinite(returns)
    count = known.sum(axis=1)
    # Sorted first, so that the sum does not depend on the order of the instruments.
    mean = np.sort(np.where(known, returns, 0.0), axis=1).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def market_returns(panel: MarketPanel) -> FloatArray:
    """Return `equal_weighted_returns` where two instruments or more have one, (T,), else NaN.

    A market of one says nothing about how that one moves with the others.
    """
    members = np.isfinite(panel.derived(total_returns)).sum(axis=1)
    return np.where(members > 1, panel.derived(equal_weighted_returns), np.nan)


def bar_counts(panel: MarketPanel) -> FloatArray:
    """Return how many bars each instrument has had up to each session, (T, N)."""
    return _by_blocks(lambda close: _running_sum(has_bar(close).astype(np.float64)), panel.close)


def rolling_volatility_per_session(
    panel: MarketPanel, lookback: int, min_observations: int
) -> FloatArray:
    """Return the standard deviation (ddof 1) of the log returns of `lookback` sessions, (T, N).

    NaN where fewer than `min_observations` (at least 2) of them are known.
    """
    floor = max(min_observations, 2)

    def deviation(log_returns: FloatArray) -> FloatArray:
        known = np.isfinite(log_returns)
        values = np.where(known, log_returns, 0.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        divisor = np.maximum(count, 2.0)
        squares = _rolling_sum(values * values, lookback)
        scatter = squares - _rolling_sum(values, lookback) ** 2 / divisor
        sigma = np.sqrt(np.maximum(scatter, 0.0) / (divisor - 1.0))
        return np.where(count >= floor, sigma, np.nan)

    return _by_blocks(deviation, log_total_returns(panel))


def rolling_beta(panel: MarketPanel, lookback: int, min_observations: int) -> FloatArray:
    """Return the slope of each instrument's returns on `market_returns`, (T, N).

    Over the sessions of the lookback on which the instrument has a return; NaN where fewer than
    `min_observations` (at least 2) of them are known, or the market did not move on them.
    """
    market = panel.derived(market_returns)[:, None]
    floor = max(min_observations, 2)

    def slope(returns: FloatArray) -> FloatArray:
        known = np.isfinite(returns) & np.isfinite(market)
        own, common = np.where(known, returns, 0.0), np.where(known, market, 0.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        divisor = np.maximum(count, 2.0)
        moved = _rolling_sum(common, lookback)
        squares = _rolling_sum(common * common, lookback)
        scatter = squares - moved * moved / divisor
        shared = _rolling_sum(own * common, lookback)
        shared -= _rolling_sum(own, lookback) * moved / divisor
        # A difference of running sums is exact to rounding of the sums, not of the difference.
        told = scatter > NEGLIGIBLE * _running_sum(common * common)
        estimable = (count >= floor) & told
        return np.where(estimable, shared / np.where(estimable, scatter, 1.0), np.nan)

    return _by_blocks(slope, panel.derived(total_returns))


def beta_floor(lookback: int) -> int:
    """Return how many returns a beta over `lookback` sessions needs: a quarter of them."""
    return max(lookback // 4, 3)


def rolling_dollar_volume(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the mean of close times volume, as traded, over `lookback` sessions, (T, N).

    Sessions without a bar or a volume do not count; NaN where fewer than half are left.
    """

    def mean_traded(close: FloatArray, volume: FloatArray) -> FloatArray:
        known = has_bar(close) & np.isfinite(volume) & (volume >= 0.0)
        traded = np.where(known, close, 0.0) * np.where(known, volume, 0.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        mean = _rolling_sum(traded, lookback) / np.maximum(count, 1.0)
        return np.where(2.0 * count >= lookback, mean, np.nan)

    return _by_blocks(mean_traded, panel.close, panel.volume)


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
        count = _rolling_sum(known.astype(np.float64), window)
        divisor, total = np.maximum(count, 2.0), _rolling_sum(left, window)
        scatter = _rolling_sum(left * left, window) - total * total / divisor
        # Below a thousandth of a basis point a residual is what rounding leaves.
        usable = (2.0 * count >= window) & (count >= 2.0) & (scatter > 1e-14 * divisor)
        deviation = np.sqrt(np.where(usable, scatter, 1.0) / (divisor - 1.0))
        result = np.full_like(returns, np.nan)
        score = np.where(usable, total / divisor / deviation, np.nan)
        result[skip:] = score[: max(len(score) - skip, 0)]
        return result

    beta = panel.derived(rolling_beta, beta_lookback, beta_floor(beta_lookback))
    return _by_blocks(standardised, panel.derived(total_returns), beta)


def rolling_mean(x: FloatArray, lookback: int, min_observations: int) -> FloatArray:
    """Return the mean of the known values of `lookback` rows, (T, ...).

    NaN where fewer than `min_observations` (at least 1) of them are known.
    """
    known = np.isfinite(x)
    count = _rolling_sum(known.astype(np.float64), lookback)
    total = _rolling_sum(np.where(known, x, 0.0), lookback)
    return np.where(count >= max(min_observations, 1), total / np.maximum(count, 1.0), np.nan)


def shifted(x: FloatArray, rows: int) -> FloatArray:
    """Return `x` as it was `rows` rows before, (T, ...); NaN where that is before the first."""
    before = np.full(x.shape, np.nan)
    before[rows:] = x[: max(len(x) - rows, 0)]
    return before


def position_in_group(groups: IntArray) -> IntArray:
    """Return how many earlier elements belong to the same group, (n,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    position = np.empty(len(groups), dtype=np.int64)
    position[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return position


def sector_codes(panel: MarketPanel) -> IntArray:
    """Return the number of each instrument's sector in alphabetical order, (N,); -1 if unknown."""
    return _codes_of(panel.sectors or (None,) * len(panel.instruments))


def dollar_volume_fall(panel: MarketPanel, lookback: int, usual_lookback: int) -> FloatArray:
    """Return how far `lookback`'s mean dollar volume is below `usual_lookback`'s, (T, N), <= 1.

    Both as in `rolling_dollar_volume`; negative where it rose, NaN where either is unknown or
    nothing was traded in the longer one.
    """

    def fall(close: FloatArray, volume: FloatArray) -> FloatArray:
        known = has_bar(close) & np.isfinite(volume) & (volume >= 0.0)
        traded = _running_sum(np.where(known, close, 0.0) * np.where(known, volume, 0.0))
        sessions = _running_sum(known.astype(np.float64))
        count, usual_count = _window(sessions, lookback), _window(sessions, usual_lookback)
        usual = _window(traded, usual_lookback)
        enough = (2.0 * count >= lookback) & (2.0 * usual_count >= usual_lookback) & (usual > 0.0)
        share = _window(traded, lookback) * usual_count
        share /= np.where(enough, usual * count, 1.0)
        return np.where(enough, 1.0 - share, np.nan)

    return _by_blocks(fall, panel.close, panel.volume)


def last_known(x: FloatArray) -> FloatArray:
    """Return `x` with each NaN replaced by the newest earlier value of its column, (T, N)."""
    newest = np.where(np.isnan(x), 0, np.arange(len(x))[:, None])
    np.maximum.accumulate(newest, axis=0, out=newest)
    filled: FloatArray = np.take_along_axis(x, newest, axis=0)
    return filled


def rolling_max_drawdown(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the deepest fall from a peak within the last `lookback` closes, (T, N), <= 0.

    On total returns; a window that begins before the first bar starts there. NaN before it.

    The deepest fall of two adjacent stretches of history is the deepest of either, or the fall
    from the older one's peak to the newer one's trough.
    """

    def drawdown(index: FloatArray) -> FloatArray:
        return np.where(np.isnan(index), np.nan, np.expm1(_deepest_fall(np.log(index), lookback)))

    return _by_blocks(drawdown, panel.derived(total_return_index))


def rolling_expected_shortfall(
    panel: MarketPanel, lookback: int, tail_fraction: float, min_observations: int
) -> FloatArray:
    """Return minus the mean of the worst log returns of `lookback` sessions, (T, N).

    The worst are ceil(tail_fraction * lookback) of them. NaN where fewer than `min_observations`
    (at least as many as the worst) are known, and before `lookback` sessions have passed.
    """
    worst = ceil(tail_fraction * lookback)
    floor = float(max(min_observations, worst))

    def shortfall(log_returns: FloatArray) -> FloatArray:
        known = np.isfinite(log_returns)
        tail = _smallest(np.where(known, log_returns, np.inf), worst, lookback)
        mean = sum(tail[1:], tail[0]) / worst
        count = _rolling_sum(known.astype(np.float64), lookback)
        count[: lookback - 1] = 0.0
        return np.where(count >= floor, -mean, np.nan)

    return _by_blocks(shortfall, log_total_returns(panel))


def rolling_market_correlation(
    panel: MarketPanel, lookback: int, min_observations: int
) -> FloatArray:
    """Return the correlation with `market_returns` over `lookback` sessions, (T, N).

    NaN where fewer than `min_observations` sessions are known, or where either side stood still.
    """
    market = panel.derived(market_returns)[:, None]

    def correlation(returns: FloatArray) -> FloatArray:
        known = np.isfinite(returns) & np.isfinite(market)
        own = np.where(known, returns, 0.0)
        common = np.where(known, market, 0.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        own_sum, common_sum = _rolling_sum(own, lookback), _rolling_sum(common, lookback)
        divisor = np.maximum(count, 1.0)
        together = _rolling_sum(own * common, lookback) - own_sum * common_sum / divisor
        scatter = _rolling_scatter(own, own_sum, divisor, lookback)
        scatter *= _rolling_scatter(common, common_sum, divisor, lookback)
        enough = (count >= min_observations) & (scatter > 0.0)
        ratio = together / np.sqrt(np.where(enough, scatter, 1.0))
        return np.where(enough, np.clip(ratio, -1.0, 1.0), np.nan)

    return _by_blocks(correlation, panel.derived(total_returns))


def rolling_downside_beta(panel: MarketPanel, lookback: int, min_observations: int) -> FloatArray:
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
        known = np.isfinite(returns) & fell
        fall = np.where(known, market, 0.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        squares = _rolling_scatter(fall, 0.0, 1.0, lookback)
        products = _rolling_sum(fall * np.where(known, returns, 0.0), lookback)
        enough = (count >= max(min_observations, 1)) & (squares > 0.0)
        return np.where(enough, products / np.where(enough, squares, 1.0), np.nan)

    return _by_blocks(slope, panel.derived(total_returns))


def rolling_illiquidity(panel: MarketPanel, lookback: int, min_observations: int) -> FloatArray:
    """Return the mean absolute total return per unit of money traded, (T, N).

    Over those of the last `lookback` sessions with a return and with money traded; NaN where fewer
    than `min_observations` (at least 1) are.

    References
    ----------
    Amihud (2002), "Illiquidity and Stock Returns: Cross-Section and Time-Series Effects".
    """

    def impact(returns: FloatArray, close: FloatArray, volume: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            traded = close * volume
        known = np.isfinite(returns) & np.isfinite(traded) & (traded > 0.0)
        ratio = np.where(known, np.abs(returns), 0.0) / np.where(known, traded, 1.0)
        count = _rolling_sum(known.astype(np.float64), lookback)
        # What is left of larger sums when all is still can be a little below zero.
        mean = np.maximum(_rolling_sum(ratio, lookback), 0.0) / np.maximum(count, 1.0)
        return np.where(count >= max(min_observations, 1), mean, np.nan)

    return _by_blocks(impact, panel.derived(total_returns), panel.close, panel.volume)


def index_over_mean(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return `total_return_index` over its own mean of `lookback` sessions, (T, N).

    NaN until that many have passed since the first bar.
    """

    def ratio(index: FloatArray) -> FloatArray:
        listed = np.isfinite(index)
        total = _rolling_sum(np.where(listed, index, 0.0), lookback)
        complete = _running_sum(listed.astype(np.float64)) >= lookback
        return np.where(complete, lookback * index / np.where(complete, total, 1.0), np.nan)

    return _by_blocks(ratio, panel.derived(total_return_index))


def own_history_percentile(
    x: FloatArray, lookback: int, step: int, min_snapshots: int
) -> FloatArray:
    """Return the share of each instrument's own past that was below its value now, (T, N).

    Rows fall into blocks of `step`. A value is compared with the first row of each earlier block
    that began within `lookback` rows: neighbours of a rolling measure repeat each other, so
    little is lost. Equal values count half. NaN where `x` is, and where fewer than
    `min_snapshots` (at least 1) of those rows are known.
    """
    # In single precision rounding does not pass for a difference, and half the bytes move.
    narrow = x.astype(np.float32)
    snapshots = narrow[::step]
    known = np.cumsum(np.isfinite(snapshots), axis=0)
    percentile = np.full(x.shape, np.nan)
    for block in range(1, len(snapshots)):
        rows = slice(block * step, (block + 1) * step)
        oldest = max(0, block - lookback // step)
        past, now = snapshots[oldest:block, None], narrow[rows]
        count = known[block - 1] - (known[oldest - 1] if oldest else 0)
        share = 0.5 * (_counted(past < now) + _counted(past <= now)) / np.maximum(count, 1)
        enough = np.isfinite(now) & (count >= max(min_snapshots, 1))
        np.copyto(percentile[rows], share, where=enough)
    return percentile


def cross_sectional_zscore(x: FloatArray, tail_fraction: float = 0.025) -> FloatArray:
    """Return z-scores along the last axis, after pulling each tail in to its first inner value.

    Parameters
    ----------
    x : (..., N) array
        NaN (or infinite) where unknown; the result is NaN there.
    tail_fraction : float
        Fraction of the known values in each tail that is winsorised.

    Returns
    -------
    (..., N) array
        Mean 0 and standard deviation 1 over the known values; all 0 where they do not vary.
    """
    known = np.where(np.isfinite(x), x, np.nan)
    # Sums over sorted values do not depend on the order of the instruments; NaN sorts last.
    ordered = np.sort(known, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    if tail_fraction > 0.0:
        tail = (tail_fraction * count).astype(np.int64)
        low = np.take_along_axis(ordered, tail, axis=-1)
        high = np.take_along_axis(ordered, np.maximum(count - 1 - tail, 0), axis=-1)
        known, ordered = np.clip(known, low, high), np.clip(ordered, low, high)
    divisor = np.maximum(count, 1)
    unknown = np.isnan(ordered)
    ordered[unknown] = 0.0
    size = np.maximum(-ordered.min(axis=-1, keepdims=True), ordered.max(axis=-1, keepdims=True))
    centre = ordered.sum(axis=-1, keepdims=True) / divisor
    deviation = ordered - centre
    deviation[unknown] = 0.0
    spread = np.sqrt((deviation * deviation).sum(axis=-1, keepdims=True) / divisor)
    flat = spread <= NEGLIGIBLE * size
    z: FloatArray = (known - centre) / np.where(flat, np.inf, spread)
    return z


def percentile_rank(x: FloatArray) -> FloatArray:
    """Return each value's rank among the known ones of its row, 0 lowest to 1 highest, (..., N).

    Ties share the average of their ranks, a single value ranks 0.5, and NaN stays NaN.
    """
    known = np.isfinite(x)
    count = known.sum(axis=-1, keepdims=True)
    keyed = np.where(known, x, np.inf)
    order = keyed.argsort(axis=-1)
    if x.ndim > 1:
        order += np.arange(0, x.size, x.shape[-1]).reshape(count.shape)
    ordered = keyed.take(order)
    position = np.arange(x.shape[-1], dtype=np.float64)
    ranks = position + 0.5 * (count == 1)
    differs = ordered[..., 1:] != ordered[..., :-1]
    if not differs.all():
        differs |= np.isinf(ordered[..., 1:])  # what is unknown is not tied
        tied = ~differs.all(axis=-1)
        ranks[tied] = _shared(differs[tied], position)
    ranks /= np.maximum(count - 1, 1)
    result = np.empty(x.size)
    result[order] = np.where(position < count, ranks, np.nan)
    return result.reshape(x.shape)


def waterfill(raw_weights: FloatArray, cap: float, total: float = 1.0) -> FloatArray:
    """Return weights in proportion to `raw_weights`, none above `cap`, that sum to `total`.

    What the cap takes from a name goes to the names below it, in proportion. What no name can
    take stays unplaced: the sum is then below `total`, and the cap holds.

    Parameters
    ----------
    raw_weights : (N,) array
        Relative attractiveness; not positive or not finite means no weight. So does less than
        1e-12 of the largest.
    cap : float
        Largest weight of a name, as a fraction of the same whole as `total`.
    """
    positive = np.where(np.isfinite(raw_weights) & (raw_weights > 0.0), raw_weights, 0.0)
    peak = float(positive.max(initial=0.0))
    if peak == 0.0:
        return np.zeros(len(positive))
    shares = np.where(positive > NEGLIGIBLE * peak, positive / peak, 0.0)
    ordered = np.sort(shares[shares > 0.0])[::-1]
    if cap * len(ordered) <= total:
        return np.where(shares > 0.0, cap, 0.0)
    # If the k largest are capped, the others divide what is left in proportion. The first k at
    # which the largest of those others fits under the cap is the answer.
    left = total - cap * np.arange(len(ordered))
    scale = left / np.cumsum(ordered[::-1])[::-1]
    fits = ordered * scale <= cap * (1.0 + NEGLIGIBLE)
    weights: FloatArray = np.minimum(shares * scale[np.argmax(fits)], cap)
    return weights


@lru_cache(maxsize=16)
def _codes_of(sectors: tuple[str | None, ...]) -> IntArray:
    names = sorted({sector for sector in sectors if sector})
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([number[name] if name else -1 for name in sectors], dtype=np.int64)
    codes.flags.writeable = False
    return codes


def _shared(differs: BoolArray, position: FloatArray) -> FloatArray:
    """Return the mean position of each run of equal neighbours, (..., N)."""
    edge = np.ones((*differs.shape[:-1], 1), dtype=bool)
    first = np.where(np.concatenate((edge, differs), axis=-1), position, -np.inf)
    last = np.where(np.concatenate((differs, edge), axis=-1), position, np.inf)
    np.maximum.accumulate(first, axis=-1, out=first)
    backwards = last[..., ::-1]
    np.minimum.accumulate(backwards, axis=-1, out=backwards)
    mean: FloatArray = 0.5 * (first + last)
    return mean


_Stretch = tuple[FloatArray, ...]
"""What is known of the stretch of history that begins at each row."""


def _deepest_fall(log_price: FloatArray, lookback: int) -> FloatArray:
    unlisted = np.isnan(log_price)
    peak = _after_nothing(np.where(unlisted, -np.inf, log_price), lookback, -np.inf)
    trough = _after_nothing(np.where(unlisted, np.inf, log_price), lookback, np.inf)
    return _over_window((peak, trough, np.zeros_like(peak)), _joined_falls, lookback)[2]


def _joined_falls(older: _Stretch, newer: _Stretch) -> _Stretch:
    fall = newer[1] - older[0]
    np.minimum(fall, older[2], out=fall)
    np.minimum(fall, newer[2], out=fall)
    return np.maximum(older[0], newer[0]), np.minimum(older[1], newer[1]), fall


def _smallest(x: FloatArray, count: int, lookback: int) -> _Stretch:
    """Return the `count` smallest values of the last `lookback` rows, the smallest first."""
    width = 1 << (count - 1).bit_length()

    def joined(older: _Stretch, newer: _Stretch) -> _Stretch:
        if len(newer) == 1:
            return _inserted(older, newer[0], width)
        return _merged(older, newer, width)

    return _over_window((_after_nothing(x, lookback, np.inf),), joined, lookback)[:count]


def _inserted(ascending: _Stretch, value: FloatArray, width: int) -> _Stretch:
    """Return the `width` smallest of an ascending list and one value more, ascending."""
    widened = []
    for place in ascending:
        widened.append(np.minimum(place, value))
        value = np.maximum(place, value)
    return (*widened, value)[:width]


def _merged(older: _Stretch, newer: _Stretch, width: int) -> _Stretch:
    """Return the `width`, a power of 2, smallest of two ascending lists, ascending.

    The smaller of one list's i-th and the other's i-th last are the smaller half. They rise and
    then fall, or the other way round, and such a sequence Batcher's bitonic network sorts.
    """
    nothing = np.full_like(newer[0], np.inf)
    older, newer = (part + (nothing,) * (width - len(part)) for part in (older, newer))
    half = [np.minimum(one, other) for one, other in zip(older, reversed(newer), strict=True)]
    distance = width // 2
    while distance:
        for low in (place for place in range(width) if not place & distance):
            one, other = half[low], half[low + distance]
            half[low], half[low + distance] = np.minimum(one, other), np.maximum(one, other)
        distance //= 2
    return tuple(half)


def _over_window(
    days: _Stretch, joined: Callable[[_Stretch, _Stretch], _Stretch], lookback: int
) -> _Stretch:
    """Return what `joined` makes of each `lookback` rows in a row, given what is known of each.

    A length that 3 or 2 divides is made of equal parts, any other of one row less and that row.
    """
    if lookback == 1:
        return days
    parts = next((parts for parts in (3, 2) if lookback % parts == 0), 0)
    length = lookback // parts if parts else lookback - 1
    older = _over_window(days, joined, length)
    newer = older if parts else days
    for start in range(length, lookback, length if parts else 1):
        later = tuple(part[start:] for part in newer)
        older = joined(tuple(part[: len(later[0])] for part in older), later)
    return older


def _after_nothing(x: FloatArray, lookback: int, nothing: float) -> FloatArray:
    """Return `x` after so many rows of `nothing` that a window ends at each of its own."""
    padded = np.empty((lookback - 1 + len(x), *x.shape[1:]))
    padded[: lookback - 1] = nothing
    padded[lookback - 1 :] = x
    return padded


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


def _rolling_sum(x: FloatArray, lookback: int) -> FloatArray:
    return _window(_running_sum(x), lookback)


def _running_sum(x: FloatArray) -> FloatArray:
    if x.ndim == 1 or x.shape[-1] % 2 or not x.flags.c_contiguous:
        return np.cumsum(x, axis=0)
    # Each addition waits for the one before. A complex number is two columns that wait together.
    pairs: FloatArray = np.cumsum(x.view(np.complex128), axis=0).view(np.float64)
    return pairs


def _window(running: FloatArray, lookback: int) -> FloatArray:
    windowed = running.copy()
    windowed[lookback:] -= running[:-lookback]
    return windowed


def _rolling_scatter(
    x: FloatArray, rolling_sum: FloatArray | float, divisor: FloatArray | float, lookback: int
) -> FloatArray:
    """Return the squared deviations from the mean of `lookback` rows, 0 where it is rounding."""
    running = _running_sum(x * x)
    scatter = _window(running, lookback) - rolling_sum * rolling_sum / divisor
    return np.where(scatter > NEGLIGIBLE * running, scatter, 0.0)


def _counted(flags: BoolArray) -> IntArray:
    # Bytes add up many times faster than wider integers.
    width = np.uint8 if len(flags) <= np.iinfo(np.uint8).max else np.uint32
    counted: IntArray = np.add.reduce(flags.view(np.uint8), axis=0, dtype=width).astype(np.int64)
    return counted


def _by_blocks(of: Callable[..., FloatArray], *arrays: FloatArray) -> FloatArray:
    # Whatever the order of the input in memory: it decides how sums over the names are rounded.
    result: FloatArray = np.empty(arrays[0].shape)
    for start in range(0, result.shape[1], BLOCK_COLUMNS):
        columns = slice(start, start + BLOCK_COLUMNS)
        result[:, columns] = of(*(np.ascontiguousarray(array[:, columns]) for array in arrays))
    return result
