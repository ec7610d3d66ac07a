"""What kind of market it is: a Gaussian mixture of daily features, filtered through time.

1. `regime_features` describes every session by six numbers, each from that session and earlier
   ones.
2. Every `refit_every` sessions `_fitted` fits a Gaussian mixture to all features known so far, and
   `_labels_of` names its components by volatility and trend.
3. `_expected_transitions` counts how the components followed each other in that window, each
   session judged by itself and those before; with a sticky prior they make a Markov chain.
4. Until the next refit `_filtered` carries the components' probabilities forward, one session at
   a time, and `_label_probabilities` adds up those of the same name. No later session is used.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import RegimeLabel, RegimeState
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.returns import (
    equal_weighted_returns,
    has_bar,
    total_return_index,
    total_returns,
)
from prometheus_nt.engines.numerics.rolling import rolling_volatility_per_session
from prometheus_nt.engines.numerics.series import last_known

LABELS = tuple(RegimeLabel)
BLOCK_SESSIONS = 512
"""Sessions per matrix product. Larger ones BLAS would divide among threads, whose waiting for each
other costs far more than the product, above all on a busy machine."""

MAX_ITERATIONS = 100
TOLERANCE = 1e-5
"""Gain in mean ln likelihood below which expectation maximisation has converged."""

CLEARLY_BETTER = 0.01
"""Gain in mean ln likelihood for which the mixture of the refit before is given up."""

IMPOSSIBLE = -200.0
"""Least ln likelihood, relative to the likeliest component, that is told from a lesser one."""

FLAT = 1e-9
"""Standard deviation of a feature, relative to its size, below which it does not vary."""

CRISIS, RISK_OFF, CARRY, NEUTRAL = range(len(LABELS))

CHANGES = ("p_change_any", "p_to_crisis_or_risk_off", "p_to_carry")

FEATURES = ("trend", "volatility", "drawdown", "breadth", "dispersion", "correlation")
TREND, VOLATILITY = FEATURES.index("trend"), FEATURES.index("volatility")


class RegimeParams(Params):
    """Parameters of the regime engine; lookbacks, refits and horizon in sessions.

    Attributes
    ----------
    components
        Gaussians of the mixture; several may come to share a label.
    min_history
        Sessions with every feature known before the first fit.
    component_prior
        Pseudo-sessions, spread like the whole fitting window, that each component is given: an
        empty component stays defined and a small one cannot collapse.
    transition_prior, stickiness
        Pseudo-counts of every transition, and of staying on top of that.
    evidence_weight
        Power to which a session's likelihood is raised. Features of overlapping windows repeat
        most of the evidence of the session before; counted in full, it would feign certainty.
    crisis_volatility
        Least volatility of a component called CRISIS, as a multiple of the window's average.
    horizon
        How far ahead the change risk looks.
    """

    region: str = "US"
    trend_lookback: int = Field(63, ge=2)
    volatility_lookback: int = Field(21, ge=2)
    drawdown_lookback: int = Field(252, ge=2)
    breadth_lookback: int = Field(100, ge=2)
    dispersion_lookback: int = Field(21, ge=1)
    correlation_lookback: int = Field(63, ge=3)
    components: int = Field(4, ge=2, le=8)
    refit_every: int = Field(126, ge=1)
    min_history: int = Field(504, ge=20)
    component_prior: float = Field(10.0, gt=0)
    transition_prior: float = Field(0.5, gt=0)
    stickiness: float = Field(50.0, ge=0)
    evidence_weight: float = Field(0.25, gt=0, le=1)
    crisis_volatility: float = Field(1.5, ge=1)
    horizon: int = Field(21, ge=1)

    @property
    def sessions_needed(self) -> int:
        """Sessions before the first classification."""
        return self.min_history + max(
            self.trend_lookback,
            self.volatility_lookback,
            self.drawdown_lookback,
            self.breadth_lookback,
            self.dispersion_lookback,
            self.correlation_lookback,
        )


class _Mixture(NamedTuple):
    """K Gaussians, fitted to the features of a window and named.

    Attributes
    ----------
    moves : (F,) array
        Which features vary in the window; `centre` and `scale` standardise these.
    shares : (K,) array
    density : (K, D) array
        Coefficients of `_monomials` in each component's ln density, up to a common constant.
    labels : (K,) array of positions in `LABELS`
    """

    moves: BoolArray
    centre: FloatArray
    scale: FloatArray
    shares: FloatArray
    density: FloatArray
    labels: IntArray

    def monomials(self, features: FloatArray) -> FloatArray:
        return _monomials((features[:, self.moves] - self.centre) / self.scale)


class _Model(NamedTuple):
    """A mixture, and how its components, (K, K), and their labels, (4, 4), follow each other."""

    mixture: _Mixture
    transition: FloatArray
    label_transition: FloatArray


def classify_regime(panel: MarketPanel, params: RegimeParams) -> RegimeState:
    """Return the market's regime after the panel's last close.

    A session without any bar keeps the features of the one before. Where a fitting window shows
    no variation at all, the four regimes are equally probable until the next refit, and the label
    is NEUTRAL; so it is in every other tie that includes NEUTRAL.

    Raises
    ------
    InsufficientHistory
        If the panel holds fewer sessions than the longest lookback and `min_history` together, or
        too few of them have bars.
    """
    features = panel.derived(regime_features, params)
    classified = panel.derived(_classified, params)
    if len(panel) < params.sessions_needed or np.isnan(classified[-1, 0]):
        known = np.isfinite(features).all(axis=1).sum()
        lookback = params.sessions_needed - params.min_history
        available = min(len(panel), lookback + int(known))
        raise InsufficientHistory(panel.as_of, params.sessions_needed, available)
    probabilities = classified[-1, : len(LABELS)]
    label = _most_probable(probabilities)
    return RegimeState(
        as_of=panel.as_of,
        region=params.region,
        label=LABELS[label],
        confidence=float(probabilities[label]),
        probabilities=probabilities,
        transition_matrix=_transitions(classified[-1]),
        change_risk=dict(
            zip(CHANGES, panel.derived(_change_risk, params)[-1].tolist(), strict=True)
        ),
        features=dict(zip(FEATURES, features[-1].tolist(), strict=True)),
        previous_label=_label_of_row(classified[-2]),
    )


def regime_features(panel: MarketPanel, params: RegimeParams) -> FloatArray:
    """Return `FEATURES` of every session, (T, F); NaN until each is known.

    Of the equally weighted market, in log returns: trend (their sum), annualised volatility, and
    drawdown (<= 0) from the peak. Of its members: breadth, dispersion and correlation.
    """
    market = np.log1p(panel.derived(equal_weighted_returns))
    trend = _over_windows(market, params.trend_lookback).sum(axis=1)
    variance = _over_windows(market, params.volatility_lookback).var(axis=1, ddof=1)
    columns = (
        trend,
        np.sqrt(SESSIONS_PER_YEAR * variance),
        _drawdown(market, params.drawdown_lookback),
        _breadth(panel, params.breadth_lookback),
        _over_windows(_dispersion(panel), params.dispersion_lookback).mean(axis=1),
        _correlation(panel, market, params.correlation_lookback),
    )
    features = np.full((len(panel), len(FEATURES)), np.nan)
    for column, values in enumerate(columns):
        features[len(features) - len(values) :, column] = values
    return last_known(np.where(np.isfinite(features), features, np.nan))


def _most_probable(probabilities: FloatArray) -> int:
    best = int(probabilities.argmax())
    return NEUTRAL if probabilities[NEUTRAL] == probabilities[best] else best


def _label_of_row(classified: FloatArray) -> RegimeLabel | None:
    unknown = np.isnan(classified[0])
    return None if unknown else LABELS[_most_probable(classified[: len(LABELS)])]


def _transitions(classified: FloatArray) -> FloatArray:
    """Return the transition matrices of rows of `_classified`, (..., 4, 4)."""
    square = (*classified.shape[:-1], len(LABELS), len(LABELS))
    return classified[..., len(LABELS) :].reshape(square)


def _change_risk(panel: MarketPanel, params: RegimeParams) -> FloatArray:
    """Return `CHANGES` of every session, (T, 3); NaN where nothing is classified.

    The probabilities that the regime differs, or is a given one, in `horizon` sessions. The
    regime of the session is weighed by its probability, not taken for certain.
    """
    classified = panel.derived(_classified, params)
    now = classified[:, None, : len(LABELS)]
    ahead = np.linalg.matrix_power(_transitions(classified), params.horizon)
    arrived = (now @ ahead)[:, 0]
    stayed = (now @ np.diagonal(ahead, axis1=1, axis2=2)[:, :, None])[:, 0, 0]
    stressed = arrived[:, CRISIS] + arrived[:, RISK_OFF]
    return np.stack((1.0 - stayed, stressed, arrived[:, CARRY]), axis=1)


def _over_windows(x: FloatArray, lookback: int) -> FloatArray:
    """Return each session's last `lookback` values, (T - lookback + 1, lookback).

    After the first known value, an unknown one counts as 0: a market without a bar has not moved.
    """
    began = np.logical_or.accumulate(np.isfinite(x))
    values = np.where(began & ~np.isfinite(x), 0.0, x)
    if len(x) < lookback:
        return np.empty((0, lookback))
    return sliding_window_view(values, lookback)


def _drawdown(market: FloatArray, lookback: int) -> FloatArray:
    # Falls from each of the window's closes to the last one; the window's own close counts as 0.
    windows = _over_windows(market, lookback)
    falls = np.cumsum(windows[:, ::-1], axis=1).min(axis=1, initial=np.inf)
    drawdown: FloatArray = np.expm1(np.minimum(falls, 0.0))
    return drawdown


def _breadth(panel: MarketPanel, lookback: int) -> FloatArray:
    """Return the share of the traded instruments that closed above their own average, (T,)."""
    index = panel.derived(total_return_index)
    running = np.cumsum(np.where(np.isnan(index), 0.0, index), axis=0)
    running[lookback:] -= running[:-lookback].copy()
    counted = has_bar(panel.close)
    counted[: lookback - 1] = False
    counted[lookback - 1 :] &= ~np.isnan(index[: max(len(index) - lookback + 1, 0)])
    with np.errstate(invalid="ignore"):
        above = counted & (lookback * index > running * (1.0 + NEGLIGIBLE))
    count = counted.sum(axis=1)
    return np.where(count > 0, above.sum(axis=1) / np.maximum(count, 1), np.nan)


def _dispersion(panel: MarketPanel) -> FloatArray:
    """Return the standard deviation of each session's returns across instruments, (T,)."""
    returns = panel.derived(total_returns)
    mean = panel.derived(equal_weighted_returns)
    known = np.isfinite(returns)
    deviation = np.where(known, returns - mean[:, None], 0.0)
    count = known.sum(axis=1)
    spread = np.sqrt((deviation * deviation).sum(axis=1) / np.maximum(count, 1))
    return last_known(np.where(count > 0, spread, np.nan)[:, None])[:, 0]


def _correlation(panel: MarketPanel, market: FloatArray, lookback: int) -> FloatArray:
    """Return the market's variance over its members' mean variance, at most 1.

    Of N members with equal variances it is rho + (1 - rho) / N, rho their mean correlation: 1 for
    a single member. 0 where nothing moves.
    """
    enough = max(2, 2 * lookback // 3)
    sigma = panel.derived(rolling_volatility_per_session, lookback, enough)[lookback - 1 :]
    known = np.isfinite(sigma)
    count = known.sum(axis=1)
    own = np.where(known, sigma * sigma, 0.0).sum(axis=1) / np.maximum(count, 1)
    common = _over_windows(market, lookback).var(axis=1, ddof=1)
    ratio = np.minimum(common / np.where(own > 0.0, own, np.inf), 1.0)
    return np.where(count > 0, ratio, np.nan)


def _classified(panel: MarketPanel, params: RegimeParams) -> FloatArray:
    """Return probabilities and transition matrix of every session, (T, 4 + 16); NaN before any."""
    features = panel.derived(regime_features, params)
    classified = np.full((len(features), len(LABELS) * (1 + len(LABELS))), np.nan)
    known = np.isfinite(features).all(axis=1)
    first = int(known.argmax()) if known.any() else len(features)
    undecided = _transition(np.zeros((len(LABELS), len(LABELS))), params)
    mixture = None
    # The schedule follows from the first sessions alone, so no view and no later row can move it.
    for refit in range(first + params.min_history - 1, len(features), params.refit_every):
        model = _modelled(features[first : refit + 1], mixture, params)
        block = classified[refit : refit + params.refit_every]
        if model is None:
            mixture = None
            block[:, : len(LABELS)] = 1.0 / len(LABELS)
            block[:, len(LABELS) :] = undecided.ravel()
            continue
        mixture = model.mixture
        # The filter starts an interval early, to forget its start in terms of the new components.
        early = max(first, refit - params.refit_every)
        rows = features[early : refit + params.refit_every]
        block[:, : len(LABELS)] = _label_probabilities(rows, model, params)[refit - early :]
        block[:, len(LABELS) :] = model.label_transition.ravel()
    return classified


def _label_probabilities(rows: FloatArray, model: _Model, params: RegimeParams) -> FloatArray:
    likelihood = _likelihood(rows, model.mixture, params.evidence_weight)
    filtered = _filtered(likelihood, model.mixture.shares, model.transition)
    members = (filtered[:, model.mixture.labels == label] for label in range(len(LABELS)))
    return np.stack([of_label.sum(axis=1) for of_label in members], axis=1)


def _likelihood(features: FloatArray, model: _Mixture, weight: float) -> FloatArray:
    """Return how likely each component makes each session, (n, K), the likeliest being 1."""
    monomials = model.monomials(features)
    # Not a matrix product: BLAS may round a row differently when there are more rows.
    evidence = weight * (monomials[:, None, :] * model.density).sum(axis=2)
    behind = evidence - evidence.max(axis=1, keepdims=True)
    likelihood: FloatArray = np.exp(np.maximum(behind, IMPOSSIBLE))
    return likelihood


def _filtered(likelihood: FloatArray, start: FloatArray, transition: FloatArray) -> FloatArray:
    """Return the components' probabilities given each session and those before it, (n, K)."""
    filtered = np.empty_like(likelihood)
    before, arrived = start, np.empty_like(start)
    for likely, now in zip(likelihood, filtered, strict=True):
        # The largest likelihood is 1 and every transition possible: the sum cannot vanish.
        np.multiply(likely, before.dot(transition, arrived), now)
        now /= np.add.reduce(now)
        before = now
    return filtered


def _expected_transitions(
    likelihood: FloatArray, start: FloatArray, transition: FloatArray
) -> FloatArray:
    """Return the expected count of each transition, (K, K), from filtered probabilities."""
    before = _filtered(likelihood, start, transition)[:-1]
    expected = (before[:, :, None] * transition).sum(axis=1)
    now = likelihood[1:] / (expected * likelihood[1:]).sum(axis=1, keepdims=True)
    counts: FloatArray = transition * _summed_products(before.T, now)
    return counts


def _modelled(window: FloatArray, before: _Mixture | None, params: RegimeParams) -> _Model | None:
    """Return the model of a fitting window; None if nothing moves in it."""
    mixture = _fitted(window, before, params)
    if mixture is None:
        return None
    likelihood = _likelihood(window, mixture, params.evidence_weight)
    unobserved = _transition(np.zeros((params.components, params.components)), params)
    counts = _expected_transitions(likelihood, mixture.shares, unobserved)
    named = (mixture.labels[:, None] == np.arange(len(LABELS))).astype(np.float64)
    # Counts add up, probabilities do not: a label's row weighs its components by how often they
    # occurred.
    return _Model(
        mixture, _transition(counts, params), _transition(named.T @ counts @ named, params)
    )


def _fitted(window: FloatArray, before: _Mixture | None, params: RegimeParams) -> _Mixture | None:
    """Return the mixture that fits the window; None if nothing moves in it.

    Expectation maximisation begins where `before` ended, and begins anew with equal groups of
    sessions in the order of their volatility. The second result is taken if it is clearly better:
    what the first windows never saw could otherwise stay unseen for ever.
    """
    centre, scale = window.mean(axis=0), window.std(axis=0)
    moves = scale > FLAT * np.abs(window).max(axis=0)
    if not moves.any():
        return None
    monomials = _monomials((window[:, moves] - centre[moves]) / scale[moves])
    best = _maximum(monomials, _groups_by_volatility(window, params.components), params)
    if before is not None:
        members, _ = _memberships(before.monomials(window), before.shares, before.density)
        continued = _maximum(monomials, members, params)
        best = best if best.fit > continued.fit + CLEARLY_BETTER else continued
    labels = _labels_of(best.members, window, params.crisis_volatility)
    return _Mixture(moves, centre[moves], scale[moves], best.shares, best.density, labels)


class _Maximum(NamedTuple):
    """Where expectation maximisation ended, and its mean ln likelihood."""

    shares: FloatArray
    density: FloatArray
    members: FloatArray
    fit: float


def _maximum(monomials: FloatArray, members: FloatArray, params: RegimeParams) -> _Maximum:
    fit = -np.inf
    for _ in range(MAX_ITERATIONS):
        before = fit
        shares, density = _maximised(monomials, members, params.component_prior)
        members, fit = _memberships(monomials, shares, density)
        if fit - before < TOLERANCE:
            break
    return _Maximum(shares, density, members, fit)


def _groups_by_volatility(window: FloatArray, groups: int) -> FloatArray:
    rank = window[:, VOLATILITY].argsort(kind="stable").argsort(kind="stable")
    members = rank * groups // len(window) == np.arange(groups)[:, None]
    return np.asarray(members, dtype=np.float64)


def _monomials(z: FloatArray) -> FloatArray:
    """Return 1, z and every product of two of z, (n, 1 + F + F * F)."""
    products = (z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    return np.concatenate((np.ones((len(z), 1)), z, products), axis=1)


def _memberships(
    monomials: FloatArray, shares: FloatArray, density: FloatArray
) -> tuple[FloatArray, float]:
    """Return each component's share of each session, (K, n), and the mean ln likelihood."""
    members = np.empty((len(density), len(monomials)))
    for rows in _blocks(len(monomials)):
        np.matmul(density, monomials[rows].T, out=members[:, rows])
    members += np.log(shares)[:, None]
    peak = np.maximum.reduce(members, axis=0)
    members -= peak
    np.exp(members, out=members)
    total = np.add.reduce(members, axis=0)
    members /= total
    return members, float(np.add.reduce(np.log(total) + peak)) / len(monomials)


def _maximised(
    monomials: FloatArray, members: FloatArray, prior: float
) -> tuple[FloatArray, FloatArray]:
    """Return the shares and ln densities of the components that best explain their members."""
    moments = _summed_products(members, monomials)
    size = moments[:, 0] + prior
    width = int(np.sqrt(monomials.shape[1]))  # of F + 1: F * F < 1 + F + F * F < (F + 1)**2
    mean = moments[:, 1 : 1 + width] / size[:, None]
    second = moments[:, 1 + width :].reshape(-1, width, width) + prior * np.eye(width)
    covariance = second / size[:, None, None] - mean[:, :, None] * mean[:, None, :]
    precision = np.linalg.inv(covariance)
    slope = (precision @ mean[:, :, None])[:, :, 0]
    constant = -0.5 * ((slope * mean).sum(axis=1) + np.linalg.slogdet(covariance)[1])
    curvature = -0.5 * precision.reshape(len(size), -1)
    density = np.concatenate((constant[:, None], slope, curvature), axis=1)
    return size / size.sum(), density


def _summed_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return `left @ right`, (K, n) by (n, D)."""
    products = [left[:, rows] @ right[rows] for rows in _blocks(len(right))]
    total: FloatArray = np.sum(products, axis=0)
    return total


def _blocks(sessions: int) -> list[slice]:
    starts = range(0, sessions, BLOCK_SESSIONS)
    return [slice(start, start + BLOCK_SESSIONS) for start in starts]


def _transition(counts: FloatArray, params: RegimeParams) -> FloatArray:
    """Return the mean transition probabilities under a Dirichlet prior that favours staying."""
    weighed = counts + params.transition_prior + params.stickiness * np.eye(len(counts))
    rows: FloatArray = weighed / weighed.sum(axis=1, keepdims=True)
    return rows


def _labels_of(members: FloatArray, window: FloatArray, crisis_volatility: float) -> IntArray:
    """Name the components by their mean volatility and trend, against those of the window.

    - CRISIS: the most volatile component, if it falls or rises less than average, and its
      volatility is at least `crisis_volatility` times the average.
    - CARRY: the calmest one, if it rises and is calmer than average.
    - RISK_OFF: any other that is as volatile as that, whatever its trend, or that is more volatile
      than average and falls or rises less than average.
    - NEUTRAL: what is left, components without members among it.

    So a history without a crisis has none, and a violent recovery is not one.
    """
    size = members.sum(axis=1)
    present = size >= 1.0
    means = _summed_products(members, window) / np.maximum(size, 1.0)[:, None]
    trend, volatility = means[:, TREND], means[:, VOLATILITY]
    usual_trend, usual_volatility = window[:, (TREND, VOLATILITY)].mean(axis=0)
    weak = trend < max(usual_trend, 0.0)
    violent = present & (volatility >= crisis_volatility * usual_volatility)
    stressed = present & (volatility > usual_volatility) & weak
    labels = np.where(stressed | violent, RISK_OFF, NEUTRAL)
    wildest = np.where(present, volatility, -np.inf).argmax()
    if weak[wildest] and violent[wildest]:
        labels[wildest] = CRISIS
    calmest = np.where(present, volatility, np.inf).argmin()
    if trend[calmest] > 0.0 and volatility[calmest] < usual_volatility:
        labels[calmest] = CARRY
    return labels
