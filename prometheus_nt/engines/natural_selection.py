"""Natural selection: the best of every cluster, by limits that are relaxed in named stages.

1. `_measured` takes each candidate's metrics from its own past returns and its liquidity.
2. `_points` maps each metric to a probability and takes their weighted geometric mean.
3. `_vetoes` names the first limit a candidate breaks. Hard ones are never relaxed.
4. `_relaxed` picks the best of each cluster, and goes on to the next stage while there are fewer
   than `min_names`:

   - S1: strict limits;
   - S2: the limit of entropy times 1.2 (1 at most), the limit of efficiency times 0.8;
   - S3: one representative more for each cluster without a winner, if no hard limit stops it;
   - S4: the next best by score, whatever their cluster, among those within the limits of S2.

   No stage overrides a hard limit: there are then fewer names, and the rest is cash.

The metrics are those that prices and volume give. A regime survival score, a trend strength index
and analysts' recommendations are not among them, and are not made up.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import factorial, lgamma, log, pi, sqrt
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.books import Exclusion
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.clusters import UNCLUSTERED, ClusterParams, correlation_clusters
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.cross_section import percentile_rank, position_in_group
from prometheus_nt.engines.numerics.returns import total_returns, trailing_return
from prometheus_nt.engines.numerics.rolling import rolling_dollar_volume

ENTROPY_RELAXATION, EFFICIENCY_RELAXATION = 1.2, 0.8
"""What S2 multiplies the limits by."""

REPRESENTATIVE_ENTROPY = 0.999
"""Largest permutation entropy of a representative of S3."""

DISORDER, TIGHTENING = 0.95, 0.9
"""Where the candidates' mean entropy exceeds the first, its limit is multiplied by the second."""

LEAST_PROBABILITY = 0.01
"""A metric's worst probability: no single one sends a score to nothing."""

TAIL = 0.05
MISSING = 10
"""One session in so many may be missing from a lookback."""

CHUNKS = (15, 12, 10, 8, 6, 4, 3)
"""Into how many parts the path is cut for its rescaled ranges; fewer than three say too little."""


class MetricWeights(Params):
    """Weights of the metrics in the score: exponents of their probabilities, before scaling."""

    momentum: float = Field(1.7469, ge=0)
    efficiency: float = Field(1.5348, ge=0)
    cvar: float = Field(1.0, ge=0)
    antifragility: float = Field(0.6263, ge=0)
    skew: float = Field(0.5, ge=0)
    kurtosis: float = Field(0.5, ge=0)
    hurst: float = Field(0.3485, ge=0)
    liquidity: float = Field(0.2946, ge=0)
    stability: float = Field(0.0458, ge=0)
    entropy: float = Field(0.0322, ge=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if sum(self.model_dump().values()) <= self.liquidity:
            raise ValueError("weights: one other than liquidity must be positive")
        return self


class NaturalParams(Params):
    """Parameters of natural selection; lookbacks in sessions.

    Attributes
    ----------
    cluster_refresh
        Clusters are found anew every so many sessions of the panel.
    lookback
        Sessions of momentum, volatility, moments and tails.
    path_lookback
        Known returns of entropy, efficiency and the Hurst exponent.
    random_walk
        A Hurst exponent strictly between the two is a random walk.
    trending_hurst
        Above it a trend persists; a name with negative momentum then falls on.
    friction_hurdle
        Least annual momentum after friction, volatility * sqrt(1e6 / dollar volume). Unknown
        dollar volume fails it, so data without volume needs None, which is off.
    full_liquidity
        Mean dollar volume that earns full marks.
    max_kurtosis, max_volatility
        Limits of excess kurtosis and of annualised volatility.
    momentum_check_lookback, min_recent_return
        Least total return over the lookback; None is off.
    min_names, max_names, names_per_cluster
        Winners below which limits are relaxed; winners at most; winners of a cluster at most,
        representatives and the fill of S4 aside.
    """

    clusters: ClusterParams = ClusterParams()
    cluster_refresh: int = Field(21, ge=1)
    lookback: int = Field(252, ge=40)
    path_lookback: int = Field(120, ge=60)
    entropy_order: int = Field(5, ge=3, le=5)
    weights: MetricWeights = MetricWeights()
    max_entropy: float = Field(0.95, gt=0, le=1)
    min_efficiency: float = Field(0.05, ge=0, le=1)
    random_walk: tuple[float, float] = (0.48, 0.52)
    trending_hurst: float = Field(0.55, ge=0.5)
    friction_hurdle: float | None = 0.005
    liquidity_lookback: int = Field(63, ge=1)
    full_liquidity: float = Field(5e8, gt=0)
    max_kurtosis: float = Field(20.0, gt=0)
    max_volatility: float = Field(2.5, gt=0)
    momentum_check_lookback: int = Field(60, ge=1)
    min_recent_return: float | None = 0.0
    min_names: int = Field(15, ge=1)
    max_names: int = Field(25, ge=1)
    names_per_cluster: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.max_names < self.min_names:
            raise ValueError("max_names: must not be below min_names")
        if self.random_walk[1] < self.random_walk[0]:
            raise ValueError("random_walk: must ascend")
        return self


class Selection(NamedTuple):
    """What natural selection decided about every instrument.

    score : (N,) points, 0 to 100 times the multiplier; NaN where a metric is unknown.
    exclusion : (N,) int array of `Exclusion`; NONE for winners, and for those not candidates.
    stage : the stage that was reached, 1 to 4.
    clusters : (N,) int array, -1 where unknown.
    """

    score: FloatArray
    winners: BoolArray
    exclusion: IntArray
    stage: int
    clusters: IntArray


@dataclass(frozen=True, eq=False)
class _Metrics:
    """Measurements of the candidates, (N,) each; NaN for others, and where unknown."""

    momentum: FloatArray
    volatility: FloatArray
    skew: FloatArray
    kurtosis: FloatArray
    cvar: FloatArray
    tail_gain: FloatArray
    significance: FloatArray
    efficiency: FloatArray
    entropy: FloatArray
    hurst: FloatArray
    dollar_volume: FloatArray
    recent_return: FloatArray

    def known(self) -> BoolArray:
        """Return where everything that prices give is known."""
        prices = (self.momentum, self.skew, self.entropy, self.hurst, self.recent_return)
        return np.asarray(np.isfinite(np.array(prices)).all(axis=0))


def select_naturally(
    panel: MarketPanel, candidates: BoolArray, multiplier: FloatArray, params: NaturalParams
) -> Selection:
    """Return the winners among the candidates, and why the others are none.

    Parameters
    ----------
    candidates : (N,) bool array
        Those that passed the filters of the universe.
    multiplier : (N,) array
        Factor on the score, >= 0.

    Raises
    ------
    InsufficientHistory
        If the panel is shorter than a lookback.
    """
    needed = max(params.lookback, params.path_lookback, params.momentum_check_lookback) + 1
    if len(panel) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(panel))
    clusters = _newest_clusters(panel, params)
    metrics = _measured(panel, candidates & (clusters != UNCLUSTERED), params)
    score = _points(metrics, params) * multiplier
    hard = _vetoes(_hard_limits(metrics, params), candidates)
    contest = _Contest(score, clusters, candidates & (hard == int(Exclusion.NONE)), metrics)
    return _relaxed(contest, hard, params)


def cluster_history(panel: MarketPanel, params: ClusterParams, refresh: int) -> FloatArray:
    """Return the clusters in force after every session, (T, N); NaN before the first.

    They are found on every `refresh`-th session, counted from the panel's first, from returns up
    to that session.
    """
    returns = panel.derived(total_returns)
    history = np.full(returns.shape, np.nan)
    longest = max(params.lookbacks)
    for row in range(refresh - 1, len(panel), refresh):
        window = returns[max(row + 1 - longest, 0) : row + 1]
        history[row : row + refresh] = correlation_clusters(window, params)
    return history


def _newest_clusters(panel: MarketPanel, params: NaturalParams) -> IntArray:
    newest = panel.derived(cluster_history, params.clusters, params.cluster_refresh)[-1]
    return np.where(np.isnan(newest), UNCLUSTERED, newest).astype(np.int64)


def _measured(panel: MarketPanel, measured: BoolArray, params: NaturalParams) -> _Metrics:
    returns = panel.derived(total_returns)
    window = np.where(measured, returns[len(returns) - params.lookback :], np.nan)
    path = np.where(measured, _newest_known(returns, params.path_lookback), np.nan)
    volume = panel.derived(rolling_dollar_volume, params.liquidity_lookback)[-1]
    recent = trailing_return(panel, params.momentum_check_lookback)
    return _Metrics(
        **_moments(window),
        efficiency=_efficiency(path),
        entropy=_permutation_entropy(path, params.entropy_order),
        hurst=_hurst(path),
        dollar_volume=np.where(measured, volume, np.nan),
        recent_return=np.where(measured, recent, np.nan),
    )


def _newest_known(returns: FloatArray, count: int) -> FloatArray:
    """Return each column's newest `count` known returns in order; NaN first if they are fewer."""
    window = returns[-(count + count // MISSING) :]
    known_last = np.argsort(np.isfinite(window), axis=0, kind="stable")
    newest: FloatArray = np.take_along_axis(window, known_last, axis=0)[-count:]
    return newest


def _moments(window: FloatArray) -> dict[str, FloatArray]:
    """Return moments and tails of each column; NaN where a tenth is missing or nothing varies."""
    count = np.isfinite(window).sum(axis=0)
    ordered = np.sort(np.where(np.isfinite(window), window, np.nan), axis=0)
    known = np.arange(len(ordered))[:, None] < count
    values = np.where(known, ordered, 0.0)
    divisor = np.maximum(count, 2)
    mean = values.sum(axis=0) / divisor
    deviation = np.where(known, values - mean, 0.0)
    squared = deviation * deviation
    second = squared.sum(axis=0) / divisor
    usable = (MISSING * count >= (MISSING - 1) * len(window)) & (
        np.sqrt(second) > NEGLIGIBLE * np.abs(values).max(axis=0)
    )
    spread = np.where(usable, second, np.nan)
    tail = np.ceil(TAIL * divisor)
    row = np.arange(len(ordered))[:, None]
    moments = {
        "momentum": SESSIONS_PER_YEAR * mean,
        "volatility": np.sqrt(SESSIONS_PER_YEAR * spread * divisor / (divisor - 1)),
        "skew": (squared * deviation).sum(axis=0) / divisor / spread**1.5,
        "kurtosis": (squared * squared).sum(axis=0) / divisor / spread**2 - 3.0,
        "cvar": np.where(row < tail, values, 0.0).sum(axis=0) / tail,
        "tail_gain": np.where(row >= count - tail, values, 0.0).sum(axis=0) / tail,
        "significance": np.minimum(count / SESSIONS_PER_YEAR, 1.0),
    }
    return {name: np.where(usable, values, np.nan) for name, values in moments.items()}


def _efficiency(path: FloatArray) -> FloatArray:
    """Return how straight the path is: the net move over the sum of moves, 0 to 1."""
    length = np.abs(path).sum(axis=0)
    ratio: FloatArray = np.abs(path.sum(axis=0)) / np.where(length > 0.0, length, np.nan)
    return ratio


def _permutation_entropy(path: FloatArray, order: int) -> FloatArray:
    """Return the entropy of the order of `order` successive returns, 0 to 1 (any order alike).

    References
    ----------
    Bandt and Pompe (2002), "Permutation entropy: a natural complexity measure for time series".
    """
    windows = len(path) - order + 1
    # Which of each two is larger tells an order from every other; a tie keeps the earlier first.
    pattern = np.zeros((windows, path.shape[1]), dtype=np.int64)
    pairs = list(combinations(range(order), 2))
    for bit, (first, second) in enumerate(pairs):
        pattern |= (path[first : first + windows] > path[second : second + windows]) << bit
    patterns = 1 << len(pairs)
    column = patterns * np.arange(path.shape[1])
    counts = np.bincount((pattern + column).ravel(), minlength=patterns * path.shape[1])
    count_log_count = np.arange(windows + 1) * np.log(np.maximum(np.arange(windows + 1), 1))
    surprise = count_log_count[counts].reshape(path.shape[1], patterns).sum(axis=1)
    entropy = (log(windows) - surprise / windows) / log(factorial(order))
    return np.where(np.isfinite(path).all(axis=0), entropy, np.nan)


def _hurst(path: FloatArray) -> FloatArray:
    """Return the Hurst exponent by rescaled range, 0.5 being a random walk.

    The slope of ln(R/S) on the length of the stretch, less the slope a random walk shows at these
    lengths: uncorrected, short random walks seem to trend.

    References
    ----------
    Anis and Lloyd (1976), "The expected value of the adjusted rescaled Hurst range".
    """
    lengths = np.array([len(path) // chunks for chunks in CHUNKS])
    expected = np.array([_expected_rescaled_range(int(length)) for length in lengths])
    ranges = np.array([_rescaled_range(path, int(length)) for length in lengths])
    excess = np.log(ranges / expected[:, None])
    x = np.log(lengths) - np.log(lengths).mean()
    slope: FloatArray = (x[:, None] * excess).sum(axis=0) / (x * x).sum()
    return 0.5 + slope


def _rescaled_range(path: FloatArray, length: int) -> FloatArray:
    """Return the mean of range over deviation of the newest stretches; NaN if none varies."""
    chunks = len(path) // length
    stretches = path[len(path) - chunks * length :].reshape(chunks, length, -1)
    deviation = stretches - stretches.mean(axis=1, keepdims=True)
    profile = np.cumsum(deviation, axis=1)
    scale = np.sqrt((deviation * deviation).mean(axis=1))
    varies = scale > NEGLIGIBLE * np.abs(stretches).max(axis=1)
    ratio = (profile.max(axis=1) - profile.min(axis=1)) / np.where(varies, scale, 1.0)
    count = varies.sum(axis=0)
    mean = np.where(varies, ratio, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


@lru_cache(maxsize=64)
def _expected_rescaled_range(length: int) -> float:
    """Return the expected rescaled range of `length` independent normal values."""
    gamma = lgamma(0.5 * (length - 1)) - lgamma(0.5 * length) - 0.5 * log(pi)
    return float(np.exp(gamma)) * sum(sqrt((length - i) / i) for i in range(1, length))


def _points(metrics: _Metrics, params: NaturalParams) -> FloatArray:
    """Return 100 times the weighted geometric mean of the metrics' probabilities, (N,).

    Over the candidates whose metrics are all known. Liquidity counts only if it is known of all
    of them: scores of different metrics do not compare.
    """
    known = metrics.known()
    weights = params.weights.model_dump()
    parts = _probabilities(metrics, known, params.full_liquidity)
    if not np.isfinite(parts["liquidity"][known]).all():
        del parts["liquidity"]
    log_score = np.zeros(len(known))
    for name, probability in parts.items():
        log_score += weights[name] * np.log(np.maximum(probability, LEAST_PROBABILITY))
    log_score /= sum(weights[name] for name in parts)
    return np.where(known, 100.0 * np.exp(log_score), np.nan)


def _probabilities(
    metrics: _Metrics, known: BoolArray, full_liquidity: float
) -> dict[str, FloatArray]:
    # Imported where something is selected: most nodes never do, and it takes 11 MB.
    from scipy.special import ndtr

    def rank(values: FloatArray) -> FloatArray:
        return LEAST_PROBABILITY + (1.0 - LEAST_PROBABILITY) * _percentile(values, known)

    antifragility = _percentile(metrics.skew, known) + _percentile(metrics.tail_gain, known)
    return {
        "momentum": rank(metrics.momentum),
        "efficiency": metrics.efficiency,
        "cvar": np.asarray(ndtr(_zscore(metrics.cvar, known))),
        "antifragility": rank(antifragility * metrics.significance),
        "skew": rank(-np.abs(metrics.skew)),
        "kurtosis": rank(-metrics.kurtosis),
        "hurst": rank(1.0 - 2.0 * np.abs(metrics.hurst - 0.5)),
        "liquidity": np.minimum(metrics.dollar_volume / full_liquidity, 1.0),
        "stability": rank(-metrics.volatility),
        "entropy": rank(-metrics.entropy),
    }


def _percentile(values: FloatArray, known: BoolArray) -> FloatArray:
    return percentile_rank(np.where(known, values, np.nan))


def _zscore(values: FloatArray, known: BoolArray) -> FloatArray:
    ordered = np.sort(values[known])
    if not len(ordered) or ordered[0] == ordered[-1]:
        return np.where(known, 0.0, np.nan)
    return np.where(known, (values - ordered.mean()) / ordered.std(), np.nan)


def _hard_limits(
    metrics: _Metrics, params: NaturalParams
) -> tuple[tuple[Exclusion, BoolArray], ...]:
    """Return each hard limit and where it is kept; an unknown metric keeps none."""
    low, high = params.random_walk
    falls_on = (metrics.hurst > params.trending_hurst) & (metrics.momentum < 0.0)
    tame = (metrics.kurtosis <= params.max_kurtosis) & (metrics.volatility <= params.max_volatility)
    limits = [(Exclusion.UNKNOWN_METRICS, metrics.known())]
    if params.friction_hurdle is not None:
        friction = _friction(metrics)
        limits.append((Exclusion.UNKNOWN_LIQUIDITY, np.isfinite(metrics.dollar_volume)))
        limits.append((Exclusion.FRICTION, metrics.momentum - friction >= params.friction_hurdle))
    limits += [
        (Exclusion.FAT_TAILS, tame),
        (Exclusion.RANDOM_WALK, (metrics.hurst <= low) | (metrics.hurst >= high)),
        (Exclusion.FALLING_TREND, ~falls_on),
    ]
    if params.min_recent_return is not None:
        rising = metrics.recent_return >= params.min_recent_return
        limits.append((Exclusion.WEAK_MOMENTUM, rising))
    return tuple(limits)


def _friction(metrics: _Metrics) -> FloatArray:
    traded = metrics.dollar_volume
    per_million = np.where(traded > 0.0, 1e6 / np.where(traded > 0.0, traded, 1.0), np.inf)
    return metrics.volatility * np.sqrt(per_million)


def _vetoes(limits: tuple[tuple[Exclusion, BoolArray], ...], asked: BoolArray) -> IntArray:
    """Return the first limit that each of those asked breaks, (N,); NONE for the others."""
    veto = np.zeros(len(asked), dtype=np.int64)
    for code, kept in limits:
        veto[asked & (veto == int(Exclusion.NONE)) & ~kept] = int(code)
    return veto


class _Contest(NamedTuple):
    """Those no hard limit stops (`standing`), and what their rank is decided by."""

    score: FloatArray
    clusters: IntArray
    standing: BoolArray
    metrics: _Metrics

    def soft_limits(
        self, max_entropy: float, min_efficiency: float
    ) -> tuple[tuple[Exclusion, BoolArray], ...]:
        """Return the limits that stages relax, and where they are kept."""
        return (
            (Exclusion.HIGH_ENTROPY, self.metrics.entropy <= max_entropy),
            (Exclusion.INEFFICIENT, self.metrics.efficiency >= min_efficiency),
        )

    def best_of_clusters(self, allowed: BoolArray, count: int) -> BoolArray:
        """Return the best `count` of each cluster among those allowed."""
        order = self.best_first(allowed)
        position = position_in_group(self.clusters[order])
        best = np.zeros(len(allowed), dtype=np.bool_)
        best[order[position < count]] = True
        return best

    def best_first(self, allowed: BoolArray) -> IntArray:
        """Return those allowed, best first; equal scores in the order of the instruments."""
        keyed = np.where(allowed, -self.score, np.inf)
        return np.argsort(keyed, kind="stable")[: int(allowed.sum())]


def _relaxed(contest: _Contest, hard: IntArray, params: NaturalParams) -> Selection:
    limits = _strict_limits(contest, params)
    soft = _vetoes(contest.soft_limits(*limits), contest.standing)
    allowed = contest.standing & (soft == int(Exclusion.NONE))
    winners, stage = contest.best_of_clusters(allowed, params.names_per_cluster), 1
    if winners.sum() < params.min_names:
        stage = 2
        relaxed = (min(ENTROPY_RELAXATION * limits[0], 1.0), EFFICIENCY_RELAXATION * limits[1])
        soft = _vetoes(contest.soft_limits(*relaxed), contest.standing)
        allowed = contest.standing & (soft == int(Exclusion.NONE))
        winners = contest.best_of_clusters(allowed, params.names_per_cluster)
    if winners.sum() < params.min_names:
        stage = 3
        winners |= _representatives(contest, winners)
    if winners.sum() < params.min_names:
        stage = 4
        next_best = contest.best_first(allowed & ~winners)
        winners[next_best[: params.min_names - int(winners.sum())]] = True
    return _decided(contest, winners, hard + soft, stage, params)


def _strict_limits(contest: _Contest, params: NaturalParams) -> tuple[float, float]:
    # Sorted, so that the mean does not depend on the order of the instruments.
    entropy = np.sort(contest.metrics.entropy[contest.metrics.known()])
    disordered = len(entropy) > 0 and float(entropy.mean()) > DISORDER
    max_entropy = params.max_entropy * TIGHTENING if disordered else params.max_entropy
    return max_entropy, params.min_efficiency


def _representatives(contest: _Contest, winners: BoolArray) -> BoolArray:
    empty = ~np.isin(contest.clusters, contest.clusters[winners])
    fit = contest.standing & empty & (contest.metrics.entropy <= REPRESENTATIVE_ENTROPY)
    return contest.best_of_clusters(fit, 1)


def _decided(
    contest: _Contest, winners: BoolArray, vetoes: IntArray, stage: int, params: NaturalParams
) -> Selection:
    none = int(Exclusion.NONE)
    exclusion = np.where(winners, none, vetoes)
    passed_over = contest.standing & ~winners & (exclusion == none)
    exclusion[passed_over] = int(Exclusion.CLUSTER_FULL)
    surplus = contest.best_first(winners)[params.max_names :]
    exclusion[surplus] = int(Exclusion.MAX_UNIVERSE_SIZE)
    within = winners.copy()
    within[surplus] = False
    return Selection(contest.score, within, exclusion, stage, contest.clusters)
