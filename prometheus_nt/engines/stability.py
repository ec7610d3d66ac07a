"""How stable each instrument is: seven weaknesses, absolute and relative, and what follows them.

1. `_measured` gathers what is known of some sessions, each from it and earlier ones: volatility,
   drawdown, expected shortfall, trend, and relations to the market and to volume (`_evidence`).
2. `_points` puts it on scales of 100 points. What is unknown leaves its weight to the others.
3. `_overall` blends the weighted points with their percentiles, among the instruments and in each
   one's own past. In a crisis somebody is still the calmest; in a calm market somebody is not.
4. `_outlook` counts how the classes of that score have followed each other, and looks ahead.
"""

from collections.abc import Iterator
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
from prometheus_nt.engines.numerics.returns import stopped, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    dollar_volume_fall,
    index_over_mean,
    rolling_expected_shortfall,
    rolling_illiquidity,
    rolling_max_drawdown,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.numerics.series import own_history_percentiles

BLOCK_SESSIONS = 16
"""Sessions scored at a time: their temporaries then fit the processor's cache."""

COMPONENTS = ("vol", "dd", "trend", "liquidity", "downside_beta", "tail", "contagion")
"""In the order of `StabilityParams.weights`."""

MEASURES = ("sigma", "max_drawdown", "expected_shortfall", "trend")
"""Measures of prices alone."""

EVIDENCE = (
    "downside_beta",
    "market_correlation",
    "illiquidity",
    "liquidity_score",
    "contagion_score",
    "complacent_pricing",
)
"""What the panel keeps of the other measures, in single precision."""

MEASURED = MEASURES + EVIDENCE

SHOWN = MEASURED + tuple(f"{name}_score" for name in COMPONENTS)
"""What a record shows of a session; two components are scores to begin with."""

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
    shown = dict(zip(SHOWN, panel.newest(_shown, params), strict=True))
    classes = panel.derived(_classes, params)[-1].astype(np.int64)
    outlook = panel.derived(_outlook, params)[-1]
    return StabilityVectors(
        as_of=panel.as_of,
        instruments=panel.instruments,
        overall_score=panel.derived(_overall, params)[-1],
        soft_target_class=classes,
        transition_matrix=outlook[:, :CLASSES],
        change_risk=_change_risk(outlook[:, CLASSES:], classes),
        **shown,
    )


def _shown(panel: MarketPanel, rows: IntArray, params: StabilityParams) -> FloatArray:
    """Return `SHOWN` at the given rows, (R, 17, N)."""
    shown = np.empty((len(rows), len(SHOWN), len(panel.instruments)))
    measured = _measured(panel, rows, params)
    shown[:, : len(MEASURED)] = measured.swapaxes(0, 1)
    shown[:, len(MEASURED) :] = np.minimum(_points(measured, params), 100.0).swapaxes(0, 1)
    return shown


def _measured(panel: MarketPanel, rows: IntArray, params: StabilityParams) -> FloatArray:
    """Return `MEASURED` at the given rows, (10, R, N); NaN where nothing is known."""
    measured = np.empty((len(MEASURED), len(rows), len(panel.instruments)))
    measured[0] = _volatility(panel, params)[rows]
    measured[1] = panel.derived(rolling_max_drawdown, params.lookback)[rows]
    tail = (params.tail_lookback, params.tail_fraction, params.min_observations)
    measured[2] = panel.derived(rolling_expected_shortfall, *tail)[rows]
    # In single precision, as evidence is.
    measured[3] = _trend(panel, rows, params.lookback).astype(np.float32)
    measured[len(MEASURES) :] = panel.derived(_evidence, params)[rows].swapaxes(0, 1)
    unknown = np.isnan(measured[0]) | stopped(panel, rows, params.max_gap)
    np.copyto(measured, np.nan, where=unknown)
    return measured


def _volatility(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    observed = (params.lookback - 1, params.min_observations)
    return panel.derived(rolling_volatility_per_session, *observed)


def _trend(panel: MarketPanel, rows: IntArray, lookback: int) -> FloatArray:
    """Return the simple total return over the lookback, (R, N); NaN on its first rows."""
    index = panel.derived(total_return_index)
    before = index[np.maximum(rows - lookback + 1, 0)]
    # The index is 1 at the first bar: there an instrument listed within the lookback began.
    trend: FloatArray = index[rows] / np.where(np.isnan(before), 1.0, before) - 1.0
    trend[rows < lookback - 1] = np.nan
    return trend


def _evidence(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return `EVIDENCE` of every session, (T, 6, N), in single precision."""
    shape = (len(panel), len(EVIDENCE), len(panel.instruments))
    evidence: npt.NDArray[Any] = np.empty(shape, dtype=np.float32)
    # Two arrays of the whole history take turns: each new one would cost as much as its figures.
    spare = np.empty((2, *panel.close.shape))
    betas = (params.beta_lookback, params.min_falls)
    evidence[:, 0] = rolling_downside_beta(panel, *betas, out=spare[0])
    _fill_contagion(evidence, panel, params, spare)
    _fill_liquidity(evidence, panel, params, spare)
    _fill_complacency(evidence, panel, params, spare)
    return evidence


def _fill_contagion(
    evidence: FloatArray, panel: MarketPanel, params: StabilityParams, spare: FloatArray
) -> None:
    observed = (params.lookback - 1, params.min_observations)
    correlation = rolling_market_correlation(panel, *observed, out=spare[0])
    evidence[:, 1] = correlation
    for rows, past in _own_percentiles(correlation, params):
        evidence[rows, 4] = _contagion_score(correlation[rows], past)


def _fill_liquidity(
    evidence: FloatArray, panel: MarketPanel, params: StabilityParams, spare: FloatArray
) -> None:
    observed = (params.lookback - 1, params.min_observations)
    illiquidity = rolling_illiquidity(panel, *observed, out=spare[0])
    evidence[:, 2] = illiquidity
    fall = dollar_volume_fall(panel, params.lookback, params.volume_lookback, out=spare[1])
    fall *= 0.5 / params.volume_reference
    for rows, past in _own_percentiles(illiquidity, params):
        evidence[rows, 3] = _liquidity_score(illiquidity[rows], past, fall[rows])


def _fill_complacency(
    evidence: FloatArray, panel: MarketPanel, params: StabilityParams, spare: FloatArray
) -> None:
    calm, dear = spare
    calm[:] = _volatility(panel, params)
    for start in range(0, len(panel), BLOCK_SESSIONS):
        rows = np.arange(start, min(start + BLOCK_SESSIONS, len(panel)))
        calm[rows] = np.where(stopped(panel, rows, params.max_gap), np.nan, calm[rows])
    index_over_mean(panel, params.richness_lookback, out=dear)
    places = zip(_own_percentiles(calm, params), _own_percentiles(dear, params), strict=True)
    for (block, quiet), (_, rich) in places:
        evidence[block, 5] = _complacent_pricing(quiet, rich)


def _liquidity_score(
    illiquidity: FloatArray, past_percentile: FloatArray, fallen: FloatArray
) -> FloatArray:
    """Return 100 times the mean of what is known of three figures, (..., N).

    They are the percentile of illiquidity among the instruments, if there is another, that in the
    own past, and how much of the scale the fall in money traded fills.
    """
    among = percentile_rank(illiquidity)
    among[np.isfinite(illiquidity).sum(axis=-1) < 2] = np.nan
    return 100.0 * _mean_of_known(among, past_percentile, np.clip(fallen, 0.0, 1.0))


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


def _own_percentiles(x: FloatArray, params: StabilityParams) -> Iterator[tuple[slice, FloatArray]]:
    past = (params.history_lookback, params.history_step, params.min_snapshots)
    return own_history_percentiles(x, *past)


def _mean_of_known(*parts: FloatArray) -> FloatArray:
    everything: FloatArray = sum(parts[1:], parts[0]) / len(parts)
    if np.isfinite(everything).all():
        return everything
    total, count = np.zeros(parts[0].shape), np.zeros(parts[0].shape)
    for part in parts:
        known = np.isfinite(part)
        total += np.where(known, part, 0.0)
        count += known
    return np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan)


def _points(measured: FloatArray, params: StabilityParams) -> FloatArray:
    """Return points for `COMPONENTS`, (7, R, N), of `MEASURED`; not yet limited to 100."""
    of = dict(zip(MEASURED, measured, strict=True))
    points = np.empty((len(COMPONENTS), *measured.shape[1:]))
    np.multiply(of["sigma"], 50.0 / params.vol_reference, out=points[0])
    np.multiply(of["max_drawdown"], -50.0 / params.drawdown_reference, out=points[1])
    np.multiply(of["trend"], -50.0 / params.trend_reference, out=points[2])
    points[3] = of["liquidity_score"]
    np.multiply(of["downside_beta"], 50.0 / params.beta_reference, out=points[4])
    np.multiply(of["expected_shortfall"], 50.0 / params.tail_reference, out=points[5])
    points[6] = of["contagion_score"]
    np.maximum(points, 0.0, out=points)
    return points


def _overall(panel: MarketPanel, params: StabilityParams) -> FloatArray:
    """Return the overall score of every session, (T, N).

    The weighted mean of points, of their percentile among the instruments and, once known, of
    that in the own past.
    """
    # Places in the own past are told apart in single precision only.
    sizes: npt.NDArray[Any] = np.empty(panel.close.shape, dtype=np.float32)
    overall = np.empty(panel.close.shape)
    of_points = 1.0 - params.relative_blend - params.history_blend
    for start in range(0, len(panel), BLOCK_SESSIONS):
        rows = np.arange(start, min(start + BLOCK_SESSIONS, len(panel)))
        measured = _measured(panel, rows, params)
        points = _points(measured, params)
        unknown = np.isnan(points) | np.isnan(measured[0])
        shares = np.where(unknown, 0.0, params.weights)
        np.copyto(points, 0.0, where=unknown)
        total = shares.sum(axis=0)
        np.copyto(total, np.nan, where=total == 0.0)
        # Ranked before the limit: in a crash many reach it, and would tie.
        size = (shares * points).sum(axis=0) / total
        shares *= np.minimum(points, 100.0, out=points)
        blended = of_points * (shares.sum(axis=0) / total)
        overall[rows] = blended + params.relative_blend * 100.0 * percentile_rank(size)
        sizes[rows] = size
    for block, past in _own_percentiles(sizes, params):
        blended, own = overall[block], params.history_blend * 100.0 * past
        alone = blended / (1.0 - params.history_blend)
        overall[block] = np.where(np.isnan(own), alone, blended + own)
    return overall


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
    classes: npt.NDArray[Any] = panel.derived(_classes, params)
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


def _followed(classes: npt.NDArray[Any], sessions: int) -> FloatArray:
    """Return how often each class had by each session come `sessions` after each, (T, 5, 5).

    Counted over all instruments, where both classes are known.
    """
    counts = np.zeros((len(classes), CLASSES**2))
    for start in range(sessions, len(classes), BLOCK_SESSIONS):
        after = classes[start : start + BLOCK_SESSIONS].astype(np.int64)
        before = classes[start - sessions : start - sessions + len(after)].astype(np.int64)
        cells = (np.arange(len(after))[:, None] * CLASSES + before) * CLASSES + after
        cells = cells[(before >= 0) & (after >= 0)]
        block = counts[start : start + len(after)]
        block[:] = np.bincount(cells, minlength=block.size).reshape(block.shape)
    return np.cumsum(counts.reshape(-1, CLASSES, CLASSES), axis=0)


def _change_risk(changes: FloatArray, classes: IntArray) -> dict[str, FloatArray]:
    # The last place answers for -1, the class that is not known.
    table = np.full((len(CHANGES), CLASSES + 1), np.nan)
    table[:, :CLASSES] = changes.T
    return dict(zip(CHANGES, table.take(classes, axis=1), strict=True))
