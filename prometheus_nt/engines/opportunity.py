"""Where selection pays: how much a sector's members differ, and how well a signal has told them.

1. `opportunity_density` is the dispersion of a sector's returns times the past information
   coefficient of momentum within it; `opportunity_multiplier` makes a bounded factor of it.
2. `forecast_opportunity` predicts a history of densities by four simple models, walking forward.
3. `evaluate_opportunity` says how good the predictions were.

References
----------
Grinold and Kahn (2000), "Active Portfolio Management": what a forecast can earn is its information
coefficient times the dispersion of what it forecasts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.cross_section import percentile_rank, sector_codes, sector_names
from prometheus_nt.engines.numerics.returns import has_bar, total_return_index, total_returns
from prometheus_nt.engines.numerics.series import rolling_mean, shifted


class OpportunityParams(Params):
    """Parameters of the opportunity density; horizon, lookbacks and skip in sessions.

    Attributes
    ----------
    horizon
        Sessions ahead over which the information coefficient looks.
    ic_lookback
        Sessions over which past coefficients are averaged; half of them must be known.
    momentum_lookback, momentum_skip
        The signal whose coefficient is measured: total return between these two ages.
    min_names
        Members of a sector with a signal and a return, below which a session says nothing.
    """

    dispersion_lookback: int = Field(21, ge=1)
    horizon: int = Field(21, ge=1)
    ic_lookback: int = Field(126, ge=2)
    momentum_lookback: int = Field(252, ge=2)
    momentum_skip: int = Field(21, ge=0)
    min_names: int = Field(5, ge=3)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.momentum_skip >= self.momentum_lookback:
            raise ValueError("momentum_skip: must be shorter than momentum_lookback")
        return self


class ForecastParams(Params):
    """Parameters of the forecasts of a history; step and lookback in sessions.

    Attributes
    ----------
    step
        Sessions ahead of which is forecast; evaluated every `step`, so that no two outcomes share
        a session.
    trend_lookback
        The linear model's trend is the distance from the mean of so many sessions.
    min_pairs
        Past pairs of feature and outcome, over all clusters, that a fit needs.
    top_fraction, min_clusters
        Uplift compares the best fraction with all clusters, on sessions with at least so many.
    """

    step: int = Field(21, ge=1)
    trend_lookback: int = Field(63, ge=2)
    min_pairs: int = Field(60, ge=5)
    top_fraction: float = Field(0.25, gt=0, lt=1)
    min_clusters: int = Field(5, ge=2)


@dataclass(frozen=True)
class ForecastQuality:
    """How well one model forecast; NaN where it cannot be known.

    Attributes
    ----------
    observations : int
        Pairs of forecast and outcome; the same ones for every model.
    pearson, spearman : float
        Correlation of forecast and outcome over all of them.
    uplift, uplift_standard_error : float
        Mean over sessions of what the top clusters had more than all, and its standard error.
    """

    model: str
    observations: int
    pearson: float
    spearman: float
    uplift: float
    uplift_standard_error: float


def opportunity_multiplier(
    panel: MarketPanel, weight: float, params: OpportunityParams
) -> FloatArray:
    """Return a factor from 1 - `weight` to 1 + `weight` for each instrument, (N,).

    By the percentile of its sector's density among the sectors; 1 where the density is unknown.
    """
    codes = sector_codes(panel)
    density = panel.derived(opportunity_density, params)[-1]
    factors = 1.0 + weight * (2.0 * percentile_rank(density) - 1.0)
    # The last place is what the code -1 of an unknown sector finds.
    known_or_one = np.append(np.where(np.isnan(factors), 1.0, factors), 1.0)
    factor: FloatArray = known_or_one[codes]
    return factor


def opportunity_density(panel: MarketPanel, params: OpportunityParams) -> FloatArray:
    """Return dispersion times past information coefficient of every sector, (T, K).

    In the order of `sector_codes`; NaN until both are known. Negative where momentum told the
    members the wrong way round. Past scores of the assessment are not part of the panel: momentum,
    its heaviest component, stands for them. A row uses returns up to itself only, of those who
    were known to be members then.
    """
    index = panel.derived(total_return_index)
    signal, grown = _signal_and_return(index, params)
    grown[~has_bar(panel.close)] = np.nan
    returns = panel.derived(total_returns)
    spread = np.full((len(panel), len(sector_names(panel))), np.nan)
    told = spread.copy()
    for first, after in panel.sector_spans():
        rows = slice(first, after)
        for code, columns in _columns_by_sector(panel, first):
            # Each row contiguous in memory: how many there are must not change how one is summed.
            earned, told_by, outcome = (
                x[rows].take(columns, axis=1) for x in (returns, signal, grown)
            )
            spread[rows, code] = _dispersion(earned, params.min_names)
            told[rows, code] = _rank_correlation(told_by, outcome, params.min_names)
    dispersion = rolling_mean(spread, params.dispersion_lookback, params.dispersion_lookback)
    return dispersion * rolling_mean(told, params.ic_lookback, ceil(0.5 * params.ic_lookback))


def forecast_opportunity(history: FloatArray, params: ForecastParams) -> dict[str, FloatArray]:
    """Return what each of `MODELS` forecasts at row t for row t + step, from rows up to t, (T, K).

    Parameters
    ----------
    history : (T, K) array
        Densities of K clusters, NaN where unknown.
    """
    return {name: model(history, params) for name, model in MODELS.items()}


def evaluate_opportunity(
    history: FloatArray, params: ForecastParams
) -> tuple[ForecastQuality, ...]:
    """Return how well each model forecast `history`, (T, K), on the pairs that all of them have."""
    rows = np.arange(0, max(len(history) - params.step, 0), params.step)
    outcome = history[rows + params.step]
    forecasts = {name: x[rows] for name, x in forecast_opportunity(history, params).items()}
    known = np.isfinite(outcome)
    for forecast in forecasts.values():
        known &= np.isfinite(forecast)
    return tuple(
        _quality(name, np.where(known, forecast, np.nan), np.where(known, outcome, np.nan), params)
        for name, forecast in forecasts.items()
    )


def _signal_and_return(
    index: FloatArray, params: OpportunityParams
) -> tuple[FloatArray, FloatArray]:
    """Return the momentum of `horizon` sessions ago, and what was earned since, (T, N) each."""
    newest = shifted(index, params.horizon + params.momentum_skip)
    signal = newest / shifted(index, params.horizon + params.momentum_lookback) - 1.0
    return signal, index / shifted(index, params.horizon) - 1.0


def _columns_by_sector(panel: MarketPanel, row: int) -> list[tuple[int, IntArray]]:
    # Sums below go over the members: in the order of names, whatever the order of the panel.
    by_name = np.array(sorted(range(len(panel.instruments)), key=panel.instruments.__getitem__))
    codes = sector_codes(panel, row)[by_name]
    return [(code, by_name[codes == code]) for code in np.unique(codes[codes >= 0]).tolist()]


def _dispersion(returns: FloatArray, min_names: int) -> FloatArray:
    known = np.isfinite(returns)
    count = known.sum(axis=1)
    mean = np.where(known, returns, 0.0).sum(axis=1) / np.maximum(count, 1)
    deviation = np.where(known, returns - mean[:, None], 0.0)
    spread = np.sqrt((deviation * deviation).sum(axis=1) / np.maximum(count - 1, 1))
    return np.where(count >= min_names, spread, np.nan)


def _rank_correlation(left: FloatArray, right: FloatArray, min_names: int) -> FloatArray:
    """Return Spearman's correlation along each row, (T,)."""
    known = np.isfinite(left) & np.isfinite(right)
    # The mean of ranks from 0 to 1 is a half, ties or not.
    centred = [percentile_rank(np.where(known, x, np.nan)) - 0.5 for x in (left, right)]
    a, b = (np.where(known, x, 0.0) for x in centred)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    defined = (known.sum(axis=1) >= min_names) & (norm > 0.0)
    return np.where(defined, (a * b).sum(axis=1) / np.where(defined, norm, 1.0), np.nan)


def _persistence(history: FloatArray, _params: ForecastParams) -> FloatArray:
    return history


def _cluster_mean(history: FloatArray, _params: ForecastParams) -> FloatArray:
    return rolling_mean(history, len(history), 1)


def _global_ar1(history: FloatArray, params: ForecastParams) -> FloatArray:
    features = np.stack((np.ones_like(history), history), axis=-1)
    return _least_squares(features, history, params)


def _global_linear(history: FloatArray, params: ForecastParams) -> FloatArray:
    before = shifted(history, params.step)
    trend = history - rolling_mean(history, params.trend_lookback, 2)
    features = np.stack((np.ones_like(history), history, before, trend), axis=-1)
    return _least_squares(features, history, params)


def _least_squares(features: FloatArray, history: FloatArray, params: ForecastParams) -> FloatArray:
    """Return forecasts of one regression over all clusters, refitted at every row, (T, K)."""
    past = shifted(features, params.step)
    paired = np.isfinite(past).all(axis=-1) & np.isfinite(history)
    x = np.where(paired[..., None], past, 0.0)
    y = np.where(paired, history, 0.0)
    squares = np.cumsum((x[..., :, None] * x[..., None, :]).sum(axis=1), axis=0)
    products = np.cumsum((x * y[..., None]).sum(axis=1), axis=0)
    # Features may be collinear; the smallest solution then is as good as any.
    coefficients = (np.linalg.pinv(squares, hermitian=True) * products[:, None, :]).sum(axis=-1)
    forecast = (features * coefficients[:, None, :]).sum(axis=-1)
    enough = np.cumsum(paired.sum(axis=1)) >= params.min_pairs
    return np.where(enough[:, None], forecast, np.nan)


MODELS: dict[str, Callable[[FloatArray, ForecastParams], FloatArray]] = {
    "persistence": _persistence,
    "cluster_mean": _cluster_mean,
    "global_ar1": _global_ar1,
    "global_linear": _global_linear,
}


def _quality(
    model: str, forecast: FloatArray, outcome: FloatArray, params: ForecastParams
) -> ForecastQuality:
    known = np.isfinite(outcome)
    uplift, standard_error = _uplift(forecast, outcome, params)
    x, y = forecast[known], outcome[known]
    return ForecastQuality(
        model=model,
        observations=int(known.sum()),
        pearson=_correlation(x, y),
        spearman=_correlation(percentile_rank(x), percentile_rank(y)),
        uplift=uplift,
        uplift_standard_error=standard_error,
    )


def _correlation(x: FloatArray, y: FloatArray) -> float:
    if len(x) < 2:
        return float("nan")
    a, b = x - x.mean(), y - y.mean()
    norm = sqrt(float(a @ a) * float(b @ b))
    size = float(np.abs(x).max() * np.abs(y).max()) * len(x)
    return float(a @ b) / norm if norm > NEGLIGIBLE * size else float("nan")


def _uplift(
    forecast: FloatArray, outcome: FloatArray, params: ForecastParams
) -> tuple[float, float]:
    count = np.isfinite(outcome).sum(axis=1)
    used = count >= params.min_clusters
    if not used.any():
        return float("nan"), float("nan")
    best_first = np.argsort(-forecast[used], axis=1, kind="stable")
    ordered = np.take_along_axis(outcome[used], best_first, axis=1)
    top = np.ceil(params.top_fraction * count[used])
    in_top = np.arange(ordered.shape[1]) < top[:, None]
    best = np.where(in_top, ordered, 0.0).sum(axis=1) / top
    gains = best - np.nansum(ordered, axis=1) / count[used]
    error = gains.std(ddof=1) / sqrt(len(gains)) if len(gains) > 1 else float("nan")
    return float(gains.mean()), float(error)
