"""How exposed each instrument is to a deep fall, and how often such exposure was followed by one.

1. `_exposed` gathers tail, trend weakness and the worst stretch of an instrument's own history.
2. `_blended` puts each of them on a scale from 0 to 1, part percentile and part absolute size;
   `_combined` is the geometric mean of those that are known. `_with_others` takes in what does not
   come from the panel: stability and, if there are any, losses of scenarios.
3. `_outcomes` counts, by past score, how often a fall as deep as the threshold followed;
   `_isotonic` turns the counts into probabilities that do not fall as the score rises.
4. `_known_at` is what the panel says of some sessions; `measure_fragility` puts it together with
   the rest, and `_templates` suggests shorts.
"""

from functools import lru_cache, partial
from itertools import repeat
from math import ceil
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.market import (
    FragilityMeasures,
    PositionTemplate,
    ScenarioOutlook,
    SimulatedReturns,
    StabilityVectors,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.cross_section import midrank
from prometheus_nt.engines.numerics.returns import bar_counts, stopped, total_return_index
from prometheus_nt.engines.numerics.rolling import rolling_expected_shortfall, rolling_max_drawdown
from prometheus_nt.engines.numerics.running import by_blocks

COMPONENTS = ("tail", "trend_weakness", "scenario_loss", "instability")
SIMULATED_LOSS = "simulated_loss"
"""The component that only scenarios give."""

WORST_OF_HISTORY = "HISTORICAL_WORST"

SCORE_BINS = 20
"""Steps of the score that calibration tells apart."""

BLOCK_SESSIONS = 16
"""Sessions ranked at a time: their temporaries then fit the processor's cache."""


CALIBRATED_SESSIONS = 128
"""Sessions calibrated at a time: they know of bins, not of instruments."""


class FragilityParams(Params):
    """Parameters of the fragility engine; horizon, lookbacks and gap in sessions.

    Attributes
    ----------
    drawdown_threshold
        The fall whose probability is asked for, as a positive fraction of the peak.
    tail_lookback, tail_fraction
        The tail is the mean of this fraction of worst log returns over the lookback.
    trend_lookback
        Trend weakness is the distance below the highest close of the lookback.
    scenario_lookback
        Scenario loss is the worst total return over `horizon` sessions within the lookback.
    min_observations
        Returns, bars, or windows of `horizon` sessions that a component needs to be known.
    max_gap
        Sessions without a bar after which an instrument is unknown.
    simulated_weight
        Of the losses of scenarios, where some are given.
    tail_reference, trend_reference, scenario_reference
        What earns half of a component's absolute scale, as positive fractions.
    relative_blend
        Weight of the cross-sectional percentile in a component. The percentile alone calls
        somebody fragile on the calmest day; the absolute scale alone calls everybody so in a
        crisis. At 0.4 a calm market has no CRISIS, and a crisis hardly any NONE.
    class_thresholds
        Scores at which WATCHLIST, SHORT_CANDIDATE and CRISIS begin.
    min_calibration_sessions
        Sessions with known outcomes that a probability needs.
    max_templates
        Positions suggested at most; the classes still name every candidate.
    scenario_set
        Name of stored scenarios (`prometheus scenarios generate`) whose losses are one more
        component. Of several sets of the name each session sees the newest made by its close.
    """

    horizon: int = Field(21, ge=1)
    drawdown_threshold: float = Field(0.15, gt=0, lt=1)
    tail_lookback: int = Field(63, ge=3)
    tail_fraction: float = Field(0.05, gt=0, le=1)
    trend_lookback: int = Field(252, ge=2)
    scenario_lookback: int = Field(756, ge=2)
    min_observations: int = Field(42, ge=2)
    max_gap: int = Field(5, ge=1)
    instability_weight: float = Field(0.25, ge=0)
    tail_weight: float = Field(0.25, ge=0)
    trend_weight: float = Field(0.25, ge=0)
    scenario_weight: float = Field(0.25, ge=0)
    simulated_weight: float = Field(0.25, ge=0)
    tail_reference: float = Field(0.05, gt=0)
    trend_reference: float = Field(0.25, gt=0)
    scenario_reference: float = Field(0.25, gt=0)
    relative_blend: float = Field(0.4, gt=0, le=1)
    class_thresholds: tuple[float, float, float] = (0.3, 0.5, 0.7)
    min_calibration_sessions: int = Field(250, ge=1)
    max_templates: int = Field(25, ge=1)
    scenario_set: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_observations > self.tail_lookback:
            raise ValueError("min_observations: must not exceed tail_lookback")
        if ceil(self.tail_fraction * self.tail_lookback) > self.min_observations:
            raise ValueError("tail_fraction: the tail must not exceed min_observations")
        if self.scenario_lookback < self.horizon + self.min_observations:
            raise ValueError("scenario_lookback: too short for min_observations windows")
        if self.tail_weight + self.trend_weight + self.scenario_weight <= 0.0:
            raise ValueError("tail, trend, scenario weight: one must be positive")
        if list(self.class_thresholds) != sorted(self.class_thresholds):
            raise ValueError("class_thresholds: must ascend")
        return self

    @property
    def own_weights(self) -> FloatArray:
        """Weights of the components that the panel gives."""
        return np.array((self.tail_weight, self.trend_weight, self.scenario_weight))

    @property
    def references(self) -> FloatArray:
        """Half of the absolute scale of the components that the panel gives."""
        return np.array((self.tail_reference, self.trend_reference, self.scenario_reference))


def measure_fragility(
    panel: MarketPanel,
    stability: StabilityVectors,
    params: FragilityParams,
    *,
    scenarios: ScenarioOutlook | None = None,
) -> FragilityMeasures:
    """Return how fragile each instrument is after the panel's last close.

    The score is the weighted geometric mean of the known components, each blended from its
    percentile and its absolute size; so it takes several weaknesses to be fragile, not one. An
    instrument whose stability is unknown is unknown (NaN, class -1, no template). Complacent
    pricing is no component: in our sample the calm and dear fell deeply within a month less often
    than the others.

    The probability is the realised frequency of the threshold among past scores like today's. It
    compares the components that come from the panel, and needs all of them: past stability is not
    part of the input.

    Parameters
    ----------
    scenarios : ScenarioOutlook, optional
        A set's loss is the mean of its worst `tail_fraction` of paths, at least 0; the largest
        loss of the sets is a component.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than `trend_lookback`, or one session more than the tail's lookback
        or the horizon.
    DataError
        If `stability` is of another session or of other instruments, or `scenarios` are.
    """
    needed = max(params.trend_lookback, params.tail_lookback + 1, params.horizon + 1)
    if len(panel) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(panel))
    if stability.as_of != panel.as_of or stability.instruments != panel.instruments:
        raise DataError(f"stability of {stability.as_of}: not that of the panel, {panel.as_of}")
    weight, logs, probability, worst, *own = panel.newest(_known_at, params)
    losses = _simulated_losses(scenarios, panel, params)
    others = _others(stability, losses, params)
    score = _with_others(weight, logs, others)
    names = COMPONENTS[:3] + others.names
    components = dict(zip(names, (*own, *others.percentiles), strict=True))
    return FragilityMeasures(
        as_of=panel.as_of,
        horizon=params.horizon,
        drawdown_threshold=params.drawdown_threshold,
        instruments=panel.instruments,
        fragility_score=score,
        fragility_class=_classes(score, params),
        drawdown_probability=np.where(np.isfinite(score), probability, np.nan),
        components=components,
        scenario_losses={WORST_OF_HISTORY: worst} | losses,
        templates=_templates(panel.instruments, score, components, params),
    )


def _simulated_losses(
    scenarios: ScenarioOutlook | None, panel: MarketPanel, params: FragilityParams
) -> dict[str, FloatArray]:
    """Return the mean loss of the worst paths of each set, (N,) >= 0."""
    if scenarios is None:
        return {}
    if scenarios.as_of != panel.as_of:
        raise DataError(f"scenarios of {scenarios.as_of}: not those of {panel.as_of}")
    expected = len(panel.instruments)
    for one in scenarios.sets:
        paths = one.returns
        if paths.ndim != 2 or not len(paths) or paths.shape[1] != expected:
            raise DataError(f"scenarios {one.name}: expected (S, {expected}), found {paths.shape}")
    return {one.name: _tail_loss(one, params.tail_fraction) for one in scenarios.sets}


@lru_cache(maxsize=8)
def _tail_loss(simulated: SimulatedReturns, tail_fraction: float) -> FloatArray:
    """Return the mean loss of the worst paths, (N,); of one set it is the same for many days."""
    worst = ceil(tail_fraction * len(simulated.returns))
    tail = np.sort(np.partition(simulated.returns, worst - 1, axis=0)[:worst], axis=0)
    loss: FloatArray = np.maximum(-tail.mean(axis=0), 0.0)
    loss.flags.writeable = False
    return loss


class _Others(NamedTuple):
    """Components that do not come from the panel, with percentiles and scales of (K, N)."""

    names: tuple[str, ...]
    percentiles: FloatArray
    scales: FloatArray
    weights: FloatArray


def _others(
    stability: StabilityVectors, losses: dict[str, FloatArray], params: FragilityParams
) -> _Others:
    names: tuple[str, ...] = COMPONENTS[3:]
    sizes = [0.01 * stability.overall_score]
    weights = [params.instability_weight]
    if losses:
        worst = np.max(list(losses.values()), axis=0)
        names = (*names, SIMULATED_LOSS)
        sizes.append(worst / (worst + params.scenario_reference))
        weights.append(params.simulated_weight)
    absolute = np.array(sizes)
    percentiles = midrank(absolute)
    scales = percentiles - absolute
    scales *= params.relative_blend
    scales += absolute
    return _Others(names, percentiles, scales, np.array(weights))


def _ranked(panel: MarketPanel, params: FragilityParams) -> FloatArray:
    """Return what is known of every session without stability, (T, 5, N).

    The percentiles of tail, trend weakness and scenario loss; the score they combine to; and the
    scenario loss itself, negative where the worst window gained.
    """
    index = panel.derived(total_return_index)
    ranked = np.empty((len(panel), 5, len(panel.instruments)))
    # What is measured first stands in the places of what it becomes: new memory costs time.
    by_blocks(partial(_trend_weakness, params=params), index, out=ranked[:, 1])
    by_blocks(partial(_worst_loss, params=params), index, out=ranked[:, 2])
    for start in range(0, len(panel), BLOCK_SESSIONS):
        rows = np.arange(start, min(start + BLOCK_SESSIONS, len(panel)))
        block = ranked[rows[0] : rows[-1] + 1]
        raw = _exposed(panel, rows, block[:, 1], block[:, 2], params)
        block[:, :3] = midrank(raw)
        block[:, 3] = _combined(_blended(raw, block[:, :3], params), params.own_weights[:, None])
        block[:, 4] = raw[:, 2]
    return ranked


def _exposed(
    panel: MarketPanel,
    rows: IntArray,
    weakness: FloatArray,
    losses: FloatArray,
    params: FragilityParams,
) -> FloatArray:
    """Return tail, trend weakness and scenario loss at R rows, larger is worse, (R, 3, N).

    Each is measured on total returns. Those of an instrument listed within a lookback begin with
    its first bar; NaN where the last bar is too old.
    """
    tail = (params.tail_lookback, params.tail_fraction, params.min_observations)
    exposed = np.empty((len(rows), 3, len(panel.instruments)))
    exposed[:, 0] = panel.derived(rolling_expected_shortfall, *tail)[rows]
    exposed[:, 1], exposed[:, 2] = weakness, losses
    young = panel.derived(bar_counts)[rows] < params.min_observations
    np.copyto(exposed[:, 1], np.nan, where=young)
    np.copyto(exposed, np.nan, where=stopped(panel, rows, params.max_gap)[:, None])
    return exposed


def _trend_weakness(index: FloatArray, params: FragilityParams) -> FloatArray:
    """Return the distance below the highest close of the lookback, as a fraction of it, (T, n)."""
    closes = np.where(np.isnan(index), -np.inf, index)
    weakness: FloatArray = 1.0 - index / _rolling_maximum(closes, params.trend_lookback)
    return weakness


def _worst_loss(index: FloatArray, params: FragilityParams) -> FloatArray:
    """Return the largest loss over `horizon` sessions within the lookback, (T, N).

    Negative where every window gained. NaN until `min_observations` windows are complete.
    """
    loss = np.full_like(index, np.nan)
    loss[params.horizon :] = 1.0 - index[params.horizon :] / index[: -params.horizon]
    windows = params.scenario_lookback - params.horizon
    worst = _rolling_maximum(np.where(np.isnan(loss), -np.inf, loss), windows)
    complete = np.cumsum(~np.isnan(loss), axis=0)
    return np.where(complete >= params.min_observations, worst, np.nan)


def _rolling_maximum(x: FloatArray, lookback: int) -> FloatArray:
    """Return the largest of the last `lookback` rows, or of as many as there are, (T, N)."""
    largest, spare, covered = x.copy(), np.empty_like(x), 1
    while covered < lookback:
        step = min(covered, lookback - covered)
        spare[:step] = largest[:step]
        np.maximum(largest[step:], largest[:-step], out=spare[step:])
        largest, spare, covered = spare, largest, covered + step
    return largest


def _blended(raw: FloatArray, percentiles: FloatArray, params: FragilityParams) -> FloatArray:
    """Return the components of the panel on their scales, in (0, 1), (..., 3, N)."""
    absolute = np.maximum(raw, 0.0)
    absolute /= absolute + params.references[:, None]
    blended: FloatArray = percentiles - absolute
    blended *= params.relative_blend
    blended += absolute
    return blended


def _combined(components: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted geometric mean of the known components, (..., N); NaN without any."""
    known = np.isfinite(components)
    shares = known * weights
    total = shares.sum(axis=-2)
    logs = np.log(np.where(known, components, 1.0))
    logs *= shares
    informed = total > 0.0
    mean = logs.sum(axis=-2) / np.where(informed, total, 1.0)
    return np.where(informed, np.exp(mean), np.nan)


def _known_at(panel: MarketPanel, rows: IntArray, params: FragilityParams) -> FloatArray:
    """Return what the panel says at the given rows, (R, 4 + 3, N).

    The weight of the components that it knows, that times the logarithm of their score, the
    probability of the fall, the scenario loss at least 0, and the percentiles of the components.
    """
    ranked = panel.derived(_ranked, params)[rows[0] : rows[-1] + 1]
    known = np.empty((len(rows), 7, ranked.shape[2]))
    known[:, 0] = (np.isfinite(ranked[:, :3]) * params.own_weights[:, None]).sum(axis=1)
    known[:, 1] = np.log(np.where(known[:, 0] > 0.0, ranked[:, 3], 1.0)) * known[:, 0]
    bins, calibrated = _bins(ranked), panel.derived(_calibration, params)[rows]
    frequencies = np.take_along_axis(calibrated, np.maximum(bins, 0), axis=1)
    known[:, 2] = np.where(bins >= 0, frequencies, np.nan)
    known[:, 3] = np.maximum(ranked[:, 4], 0.0)
    known[:, 4:] = ranked[:, :3]
    return known


def _with_others(weight: FloatArray, logs: FloatArray, others: _Others) -> FloatArray:
    """Return the score of all components, (N,); NaN where stability is.

    `weight` is that of the panel's own components, and `logs` that times the logarithm of their
    score; so the geometric mean is taken up where `_known_at` left it.
    """
    total, logs = weight.copy(), logs.copy()
    for scale, importance in zip(others.scales, others.weights.tolist(), strict=True):
        known = np.isfinite(scale)
        share = known * importance
        total += share
        share *= np.log(np.where(known, scale, 1.0))
        logs += share
    informed = (total > 0.0) & ~np.isnan(others.scales[0])
    logs /= np.where(informed, total, 1.0)
    return np.where(informed, np.exp(logs, out=logs), np.nan)


def _bins(ranked: FloatArray) -> IntArray:
    """Return the bin of each score without stability; -1 unless all its components are known."""
    # One number that is not known makes the sum unknown.
    known = np.isfinite(ranked[..., 0, :] + ranked[..., 1, :] + ranked[..., 2, :])
    step = np.where(known, SCORE_BINS * ranked[..., 3, :], -1.0)
    return np.minimum(step.astype(np.int64), SCORE_BINS - 1)


def _outcomes(panel: MarketPanel, params: FragilityParams) -> FloatArray:
    """Return, for each session, what had become of earlier scores by then, (T, 2 bins + 1).

    Row t counts the scores of sessions s with s + horizon <= t: per bin how many there were, per
    bin how many were followed by the fall, and last the number of such sessions. A fall is
    measured on closes, from the highest since s to the lowest after it.
    """
    ranked = panel.derived(_ranked, params)
    # Where trading stopped the index stands still: the fall is the one that could be seen.
    fell = panel.derived(rolling_max_drawdown, params.horizon + 1) <= -params.drawdown_threshold
    counts = np.zeros((len(panel), 2 * SCORE_BINS + 1))
    scored = len(panel) - params.horizon
    for start in range(0, scored, BLOCK_SESSIONS):
        stop = min(start + BLOCK_SESSIONS, scored)
        bins = _bins(ranked[start:stop])
        later = slice(start + params.horizon, stop + params.horizon)
        counts[later, :SCORE_BINS] = _tally(bins, bins >= 0)
        counts[later, SCORE_BINS:-1] = _tally(bins, (bins >= 0) & fell[later])
    counts[:, -1] = counts[:, :SCORE_BINS].any(axis=1)
    return np.cumsum(counts, axis=0)


def _tally(bins: IntArray, chosen: BoolArray) -> FloatArray:
    cells = (np.arange(len(bins))[:, None] * SCORE_BINS + bins)[chosen]
    counts = np.bincount(cells, minlength=bins.shape[0] * SCORE_BINS)
    return counts.reshape(-1, SCORE_BINS).astype(np.float64)


def _calibration(panel: MarketPanel, params: FragilityParams) -> FloatArray:
    """Return the probability of the fall by bin, as known at each session, (T, bins)."""
    counts = panel.derived(_outcomes, params)
    calibrated = np.full((len(panel), SCORE_BINS), np.nan)
    first = int(np.searchsorted(counts[:, -1], params.min_calibration_sessions))
    for start in range(first, len(panel), CALIBRATED_SESSIONS):
        rows = slice(start, start + CALIBRATED_SESSIONS)
        calibrated[rows] = _isotonic(counts[rows, SCORE_BINS:-1], counts[rows, :SCORE_BINS])
    return calibrated


def _isotonic(hits: FloatArray, trials: FloatArray) -> FloatArray:
    """Return frequencies that never fall from bin to bin, strictly between 0 and 1, (T, bins).

    Each bin is smoothed by one trial at the frequency of them all (Laplace's, so not 0 or 1).
    Then the max-min formula: bin b is the largest over i <= b of the smallest over j >= b of the
    pooled frequency of bins i to j. That is the least-squares monotone fit, weighted by trials.
    """
    overall = (hits.sum(axis=1, keepdims=True) + 1.0) / (trials.sum(axis=1, keepdims=True) + 2.0)
    nothing = np.zeros((len(hits), 1))
    hits_before = np.concatenate((nothing, np.cumsum(hits + overall, axis=1)), axis=1)
    trials_before = np.concatenate((nothing, np.cumsum(trials + 1.0, axis=1)), axis=1)
    bins = hits.shape[1]
    first, last = np.triu_indices(bins)
    pooled = np.full((len(hits), bins, bins), np.inf)
    pooled[:, first, last] = (hits_before[:, last + 1] - hits_before[:, first]) / (
        trials_before[:, last + 1] - trials_before[:, first]
    )
    smallest = np.minimum.accumulate(pooled[:, :, ::-1], axis=2)[:, :, ::-1]
    after, before = np.tril_indices(bins, -1)
    smallest[:, after, before] = -np.inf
    calibrated: FloatArray = smallest.max(axis=1)
    return calibrated


def _classes(score: FloatArray, params: FragilityParams) -> IntArray:
    # Flags are added as bytes: to widen each of them takes longer than all the rest.
    reached = -np.isnan(score).view(np.int8)
    for threshold in params.class_thresholds:
        reached += (score >= threshold).view(np.int8)
    return reached.astype(np.int64)


def _templates(
    instruments: tuple[str, ...],
    score: FloatArray,
    components: dict[str, FloatArray],
    params: FragilityParams,
) -> tuple[PositionTemplate, ...]:
    """Return a short of each of the most fragile, by name among equals."""
    columns = _most_fragile(instruments, score, params)
    scores = score.take(columns)
    percentiles = np.array([values.take(columns) for values in components.values()])
    np.copyto(percentiles, -np.inf, where=np.isnan(percentiles))
    names = tuple(components)
    rationales = [
        f"fragility {value:.2f}, ranks worst by {names[weakest]}"
        for value, weakest in zip(scores.tolist(), percentiles.argmax(axis=0).tolist(), strict=True)
    ]
    ids = map(instruments.__getitem__, columns)
    hints = np.minimum(np.maximum(0.05 * scores, 0.01), 0.05).tolist()
    rows = zip(ids, repeat("SHORT"), hints, repeat(params.horizon), rationales)
    return tuple(map(PositionTemplate._make, rows))


def _most_fragile(
    instruments: tuple[str, ...], score: FloatArray, params: FragilityParams
) -> list[int]:
    """Return the columns of the candidates for a short, the most fragile first."""
    fragile = (score >= params.class_thresholds[1]).nonzero()[0]
    scores = score.take(fragile)
    if len(fragile) > params.max_templates:
        first = scores >= np.sort(scores)[-params.max_templates]
        fragile, scores = fragile[first], scores[first]
    columns = fragile.tolist()
    ids = map(instruments.__getitem__, columns)
    ordered = sorted(zip((-scores).tolist(), ids, columns, strict=True))
    return [column for _, _, column in ordered[: params.max_templates]]
