"""How stable each instrument is: seven weaknesses, absolute and relative, and what follows them.

1. `_price_risk`, `_tail` and `_evidence` measure every session, each from it and earlier ones:
   volatility, drawdown, expected shortfall, trend, and relations to the market and to volume.
2. `_points` puts them on scales of 100 points. What is unknown leaves its weight to the others.
3. `_overall` blends the weighted points with their percentiles, among the instruments and in each
   one's own past. In a crisis somebody is still the calmest; in a calm market somebody is not.
4. `_outlook` counts how the classes of that score have followed each other, and looks ahead.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import SoftTargetClass, StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.cross_section import percentile_rank
from prometheus_nt.engines.numerics.market_relations import (
    rolling_downside_beta,
    rolling_market_correlation,
)
from prometheus_nt.engines.numerics.returns import has_bar, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    dollar_volume_fall,
    index_over_mean,
    rolling_expected_shortfall,
    rolling_illiquidity,
    rolling_max_drawdown,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.numerics.series import own_history_percentile

BLOCK_SESSIONS = 16
"""Sessions scored at a time: their temporaries then fit the processor's cache."""

COMPONENTS = ("vol", "dd", "trend", "liquidity", "downside_beta", "tail", "contagion")
"""In the order of `StabilityParams.weights`."""

EVIDENCE = (
    "trend",
    "downside_beta",
    "market_correlation",
    "illiquidity",
    "liquidity_score",
    "contagion_score",
    "complacent_pricing",
)
"""What the panel keeps of the measures beside volatility and drawdown, in single precision."""

CLASSES = len(SoftTargetClass)

CHANGES = ("p_worsen_any", "p_improve_any", "p_to_targetable_or_breaker", "p_to_breaker")


class StabilityParams(Params):
    """Parameters of the stability engine; lookbacks, gap, step and horizon in sessions.

    Attributes
    ----------
    lookback, min_observations
        Of volatility, drawdown, trend, illiquidity and correlation, and the returns they need.
    tail_lookback, tail_fraction
        The tail is the mean of this fraction of worst log returns over the lookback.
    beta_lookback, min_falls
        Downside beta looks at the market's falls within the lookback, and needs so many.
    volume_lookback
        What the lookback's mean money traded is compared with.
    richness_lookback
        Complacency looks at the price over its own mean of the lookback.
    history_lookback, history_step, min_snapshots
        An instrument's own past: every `history_step`-th session, and how many of them it needs.
    vol_reference, drawdown_reference, trend_reference, tail_reference, beta_reference
        What earns half of a component's 100 points: a standard deviation of log returns per
        session, a drawdown, a loss, an expected shortfall and a downside beta, all positive.
    volume_reference
        Fall in money traded that earns half of the 100 points, as a fraction.
    relative_blend, history_blend
        Weights of the percentiles in the overall score, among the instruments and in the own
        past. An absolute scale alone calls every instrument fragile in a crisis, just when the
        differences matter, and none in a calm market.
    class_thresholds
        Overall scores at which WATCH, FRAGILE, TARGETABLE and BREAKER begin.
    horizon
        How far ahead the change risk looks.
    transition_prior, stickiness
        Pseudo-counts of every daily transition, and of staying on top of that.
    horizon_prior
        Pseudo-counts, in each class, of what the daily matrix says of the horizon.
    """

    lookback: int = Field(63, ge=3)
    min_observations: int = Field(42, ge=2)
    max_gap: int = Field(5, ge=1)
    tail_lookback: int = Field(63, ge=3)
    tail_fraction: float = Field(0.05, gt=0, le=1)
    beta_lookback: int = Field(252, ge=3)
    min_falls: int = Field(20, ge=2)
    volume_lookback: int = Field(252, ge=2)
    richness_lookback: int = Field(252, ge=2)
    history_lookback: int = Field(2520, ge=1)
    history_step: int = Field(42, ge=1)
    min_snapshots: int = Field(6, ge=1)
    vol_reference: float = Field(0.02, gt=0)
    drawdown_reference: float = Field(0.20, gt=0)
    trend_reference: float = Field(0.20, gt=0)
    tail_reference: float = Field(0.05, gt=0)
    beta_reference: float = Field(1.5, gt=0)
    volume_reference: float = Field(0.5, gt=0)
    vol_weight: float = Field(0.25, ge=0)
    drawdown_weight: float = Field(0.2, ge=0)
    trend_weight: float = Field(0.1, ge=0)
    liquidity_weight: float = Field(0.15, ge=0)
    beta_weight: float = Field(0.1, ge=0)
    tail_weight: float = Field(0.1, ge=0)
    contagion_weight: float = Field(0.1, ge=0)
    relative_blend: float = Field(0.4, ge=0, le=1)
    history_blend: float = Field(0.2, ge=0, lt=1)
    class_thresholds: tuple[float, float, float, float] = (30.0, 45.0, 60.0, 75.0)
    horizon: int = Field(21, ge=1)
    transition_prior: float = Field(0.5, gt=0)
    stickiness: float = Field(50.0, ge=0)
    horizon_prior: float = Field(100.0, gt=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_observations >= self.lookback:
            raise ValueError("min_observations: a lookback of n closes has n - 1 returns")
        if self.vol_weight + self.drawdown_weight + self.trend_weight <= 0.0:
            raise ValueError("vol_weight, drawdown_weight, trend_weight: one must be positive")
        if self.relative_blend + self.history_blend > 1.0:
            raise ValueError("relative_blend, history_blend: must not exceed 1 together")
        if list(self.class_thresholds) != sorted(self.class_thresholds):
            raise ValueError("class_thresholds: must ascend")
        return self

    @property
    def weights(self) -> FloatArray:
        """Weights of `COMPONENTS`, (7, 1, 1), not normalised."""
        of_prices = (self.vol_weight, self.drawdown_weight, self.trend_weight)
        others = (self.beta_weight, self.tail_weight, self.contagion_weight)
        return np.array((*of_prices, self.liquidity_weight, *others))[:, None, None]


def measure_stability(panel: MarketPanel, params: StabilityParams) -> StabilityVectors:
    """Return the fragility of each instrument after the panel's last close.

    All is unknown (NaN, class -1) where too few returns are known or the last bar is too old. A
    single component is unknown without its own input: liquidity without volume, downside beta and
    contagion without a second instrument, percentiles of the own past in the first year.

    Raises
    ------
    InsufficientHistory
        If the panel holds fewer than `lookback` sessions.
    """
    if len(panel) < params.lookback:
        raise InsufficientHistory(panel.as_of, params.lookback, len(panel))
    sigma, drawdown = panel.derived(_price_risk, params)[-1]
    shortfall = np.where(np.isnan(sigma), np.nan, _tail(panel, params)[-1])
    evidence = panel.derived(_evidence, params)[-1].astype(np.float64)
    points = np.minimum(_points(sigma, drawdown, shortfall, evidence, params), 100.0)
    classes = panel.derived(_classes, params)[-1].astype(np.int64)
    outlook = panel.derived(_outlook, params)[-1]
    named = dict(zip(EVIDENCE, evidence, strict=True))
    named |= {f"{name}_score": row for name, row in zip(COMPONENTS, points, strict=True)}
    return StabilityVectors(
        as_of=panel.as_of,
        instruments=panel.instruments,
        overall_score=panel.derived(_overall, params)[-1],
        sigma=sigma,
        max_drawdown=drawdown,
        expected_shortfall=shortfall,
        soft_target_class=classes,
        transition_matrix=outlook[:, :CLASSES],
        change_risk=_change_risk(outlook[:, CLASSES:], classes),
        **named,
    )


def _price_risk(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return volatility per session and drawdown, (T, 2, N); NaN where nothing is known."""
    risk = np.empty((len(panel), 2, len(panel.instruments)))
    # Straight into their place: kept by the panel as well, they would be held twice.
    observed = (params.lookback - 1, params.min_observations)
    risk[:, 0] = rolling_volatility_per_session(panel, *observed)
    risk[:, 1] = rolling_max_drawdown(panel, params.lookback)
    unknown = np.isnan(risk[:, 0]) | (_sessions_since_bar(panel) >= params.max_gap)
    np.copyto(risk, np.nan, where=unknown[:, None, :])
    return risk


def _sessions_since_bar(panel: MarketPanel) -> IntArray:
    rows = np.arange(len(panel))[:, None]
    newest = np.maximum.accumulate(np.where(has_bar(panel.close), rows, -len(panel)), axis=0)
    return rows - newest


def _tail(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    tail = (params.tail_lookback, params.tail_fraction, params.min_observations)
    return panel.derived(rolling_expected_shortfall, *tail)


def _evidence(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return `EVIDENCE` of every session, (T, 7, N), in single precision."""
    shape = (len(panel), len(EVIDENCE), len(panel.instruments))
    evidence: npt.NDArray[Any] = np.empty(shape, dtype=np.float32)
    # One after the other, so that few arrays of the whole history are in memory at a time.
    _fill_trends(evidence[:, 0], panel, params.lookback)
    evidence[:, 1] = rolling_downside_beta(panel, params.beta_lookback, params.min_falls)
    _fill_contagion(evidence[:, 2], evidence[:, 5], panel, params)
    _fill_liquidity(evidence[:, 3], evidence[:, 4], panel, params)
    sigma = panel.derived(_price_risk, params)[:, 0]
    calm, dear = sigma, index_over_mean(panel, params.richness_lookback)
    past = (_own_percentile(calm, params), _own_percentile(dear, params))
    _by_rows(evidence[:, 6], _complacent_pricing, *past)
    np.copyto(evidence, np.nan, where=np.isnan(sigma)[:, None])
    return evidence


def _fill_trends(trends: FloatArray, panel: MarketPanel, lookback: int) -> None:
    index = panel.derived(total_return_index)

    def trend(now: FloatArray, before: FloatArray) -> FloatArray:
        # The index is 1 at the first bar: there an instrument listed within the lookback began.
        return now / np.where(np.isnan(before), 1.0, before) - 1.0

    trends[: lookback - 1] = np.nan
    _by_rows(trends[lookback - 1 :], trend, index[lookback - 1 :], index)


def _fill_contagion(
    correlations: FloatArray, scores: FloatArray, panel: MarketPanel, params: StabilityParams
) -> None:
    observed = (params.lookback - 1, params.min_observations)
    correlation = rolling_market_correlation(panel, *observed)
    correlations[:] = correlation
    _by_rows(scores, _contagion_score, correlation, _own_percentile(correlation, params))


def _fill_liquidity(
    illiquidities: FloatArray, scores: FloatArray, panel: MarketPanel, params: StabilityParams
) -> None:
    illiquidity = rolling_illiquidity(panel, params.lookback - 1, params.min_observations)
    illiquidities[:] = illiquidity
    past = _own_percentile(illiquidity, params)
    fall = dollar_volume_fall(panel, params.lookback, params.volume_lookback)
    scale = 0.5 / params.volume_reference
    _by_rows(scores, partial(_liquidity_score, scale=scale), illiquidity, past, fall)


def _by_rows(filled: FloatArray, of: Callable[..., FloatArray], *arrays: FloatArray) -> None:
    for start in range(0, len(filled), BLOCK_SESSIONS):
        rows = slice(start, min(start + BLOCK_SESSIONS, len(filled)))
        filled[rows] = of(*(array[rows] for array in arrays))


def _liquidity_score(
    illiquidity: FloatArray, past_percentile: FloatArray, volume_fall: FloatArray, scale: float
) -> FloatArray:
    """Return 100 times the mean of what is known of three figures, (..., N).

    They are the percentile of illiquidity among the instruments, if there is another, that in the
    own past, and the fall in money traded.
    """
    among = percentile_rank(illiquidity)
    among[np.isfinite(illiquidity).sum(axis=-1) < 2] = np.nan
    fallen = np.clip(volume_fall * scale, 0.0, 1.0)
    return 100.0 * _mean_of_known(among, past_percentile, fallen)


def _contagion_score(correlation: FloatArray, past_percentile: FloatArray) -> FloatArray:
    """Return 100 times the mean of what is known of two figures, (..., N).

    They are the market's share of the variance, 0 where the correlation is negative, and the
    percentile of the correlation in the own past.
    """
    return 100.0 * _mean_of_known(np.maximum(correlation, 0.0) ** 2, past_percentile)


def _complacent_pricing(volatility: FloatArray, richness: FloatArray) -> FloatArray:
    """Return the geometric mean of how calm and how dear an instrument is, (..., N) in [0, 100].

    Both arguments are percentiles in the own past; richness is the price over its own mean.
    Whether earnings justify a price, prices do not say.
    """
    complacent: FloatArray = 100.0 * np.sqrt((1.0 - volatility) * richness)
    return complacent


def _own_percentile(x: FloatArray, params: StabilityParams) -> FloatArray:
    past = (params.history_lookback, params.history_step, params.min_snapshots)
    return own_history_percentile(x, *past)


def _mean_of_known(*parts: FloatArray) -> FloatArray:
    total, count = np.zeros(parts[0].shape), np.zeros(parts[0].shape)
    for part in parts:
        known = np.isfinite(part)
        total += np.where(known, part, 0.0)
        count += known
    return np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan)


def _points(
    sigma: FloatArray,
    drawdown: FloatArray,
    shortfall: FloatArray,
    evidence: FloatArray,
    params: StabilityParams,
) -> FloatArray:
    """Return points for `COMPONENTS`, (7, ..., N), not yet limited to 100."""
    trend, beta = evidence[..., 0, :], evidence[..., 1, :]
    points = np.empty((len(COMPONENTS), *sigma.shape))
    np.multiply(sigma, 50.0 / params.vol_reference, out=points[0])
    np.multiply(drawdown, -50.0 / params.drawdown_reference, out=points[1])
    np.multiply(trend, -50.0 / params.trend_reference, out=points[2])
    points[3] = evidence[..., EVIDENCE.index("liquidity_score"), :]
    np.multiply(beta, 50.0 / params.beta_reference, out=points[4])
    np.multiply(shortfall, 50.0 / params.tail_reference, out=points[5])
    points[6] = evidence[..., EVIDENCE.index("contagion_score"), :]
    np.maximum(points, 0.0, out=points)
    return points


def _overall(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return the overall score of every session, (T, N).

    The weighted mean of points, of their percentile among the instruments and, once known, of
    that in the own past.
    """
    risk, evidence = panel.derived(_price_risk, params), panel.derived(_evidence, params)
    tail = _tail(panel, params)
    size, blended = np.empty(tail.shape), np.empty(tail.shape)
    of_points = 1.0 - params.relative_blend - params.history_blend
    for start in range(0, len(panel), BLOCK_SESSIONS):
        rows = slice(start, start + BLOCK_SESSIONS)
        shown = evidence[rows].astype(np.float64)
        points = _points(risk[rows, 0], risk[rows, 1], tail[rows], shown, params)
        unknown = np.isnan(points) | np.isnan(risk[rows, 0])
        shares = np.where(unknown, 0.0, params.weights)
        np.copyto(points, 0.0, where=unknown)
        # Ranked before the limit: in a crash many reach it, and would tie.
        size[rows] = _mean_by(shares, points)
        blended[rows] = of_points * _mean_by(shares, np.minimum(points, 100.0, out=points))
        blended[rows] += params.relative_blend * 100.0 * percentile_rank(size[rows])
    own = params.history_blend * 100.0 * _own_percentile(size, params)
    return np.where(np.isnan(own), blended / (1.0 - params.history_blend), blended + own)


def _mean_by(shares: FloatArray, points: FloatArray) -> FloatArray:
    """Return the mean of points by their shares, (..., N); NaN where there is no share."""
    total = shares.sum(axis=0)
    mean: FloatArray = (shares * points).sum(axis=0)
    mean /= np.where(total > 0.0, total, np.nan)
    return mean


def _classes(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return the soft-target class of every session as small integers, (T, N); -1 if unknown."""
    overall = panel.derived(_overall, params)
    classes = np.where(np.isnan(overall), np.int8(-1), np.int8(0))
    for threshold in params.class_thresholds:
        classes += overall >= threshold
    return classes


def _outlook(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return what is expected of each class by every session, (T, 5, 5 + 4).

    Per class its daily transition probabilities, then `CHANGES`. The powers of a daily matrix
    overstate change, because a score near a threshold crosses it often and comes back. So the
    class at the horizon is counted directly, and the power is only what the counts start from.
    """
    classes = panel.derived(_classes, params).astype(np.int64)
    daily = _followed(classes, 1) + params.transition_prior
    daily += params.stickiness * np.eye(CLASSES)
    transition = daily / daily.sum(axis=2, keepdims=True)
    ahead = params.horizon_prior * np.linalg.matrix_power(transition, params.horizon)
    ahead += _followed(classes, params.horizon)
    ahead /= ahead.sum(axis=2, keepdims=True)
    changes = (
        np.triu(ahead, 1).sum(axis=2),
        np.tril(ahead, -1).sum(axis=2),
        ahead[:, :, SoftTargetClass.TARGETABLE :].sum(axis=2),
        ahead[:, :, SoftTargetClass.BREAKER],
    )
    # Rounding must not make a probability of several classes exceed 1.
    return np.concatenate((transition, np.minimum(np.stack(changes, axis=2), 1.0)), axis=2)


def _followed(classes: IntArray, sessions: int) -> FloatArray:
    """Return how often each class had by each session come `sessions` after each, (T, 5, 5).

    Counted over all instruments, where both classes are known.
    """
    before, after = classes[:-sessions], classes[sessions:]
    row = np.arange(len(classes))[sessions:, None]
    cells = (row * CLASSES + before) * CLASSES + after
    known = (before >= 0) & (after >= 0)
    counts = np.bincount(cells[known], minlength=len(classes) * CLASSES**2)
    return np.cumsum(counts.reshape(-1, CLASSES, CLASSES), axis=0, dtype=np.float64)


def _change_risk(changes: FloatArray, classes: IntArray) -> dict[str, FloatArray]:
    # The last place answers for -1, the class that is not known.
    table = np.full((len(CHANGES), CLASSES + 1), np.nan)
    table[:, :CLASSES] = changes.T
    return dict(zip(CHANGES, table[:, classes], strict=True))
