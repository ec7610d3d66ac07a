"""Simulated joint futures, made from what had happened up to `as_of`.

1. `_history` cuts the base window and fills what is unknown: joint returns of every session.
2. `_draws` lists which sessions, or which synthetic ones, each path is made of, by category.
3. `generate_scenarios` assembles the paths and signs them with the hash of their ingredients.
4. `require_known` keeps a stored set out of sessions before its own `as_of`.
5. `path_losses` and `portfolio_pnl` say what the paths do to an instrument and to a book.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import DataError, InsufficientHistory, LookAheadError
from prometheus_nt.domain.market import RegimeLabel, ScenarioSet
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import (
    BoolArray,
    FloatArray,
    IntArray,
    Params,
    SessionArray,
    content_hash,
)
from prometheus_nt.engines.numerics.returns import equal_weighted_returns, total_returns

CRISES = {
    "dot_com": (date(2000, 3, 1), date(2002, 10, 31)),
    "global_financial_crisis": (date(2008, 9, 12), date(2009, 3, 9)),
    "euro": (date(2011, 7, 1), date(2011, 10, 31)),
    "covid": (date(2020, 2, 19), date(2020, 3, 23)),
}
"""First and last day of the falls that the market has given a name."""

LOWEST_RETURN = -0.99
"""No estimated or magnified return is below it: a simulated price stays positive."""

MOST_PATHS = 100_000
"""The 1% tail of so many paths rests on a thousand of them; more would say no more."""

MOST_RETURNS = 2**28
"""Returns that a set may hold: 2 GiB, which a path's losses need once more to be found."""

VARIANCE_FLOOR = 0.01
"""Least conditional variance, as a fraction of the base window's.

A price that stood still for months would otherwise turn its next move into a residual of
hundreds of standard deviations.
"""


class ScenarioCategory(StrEnum):
    """How paths are made from history."""

    HISTORICAL = "HISTORICAL"
    BOOTSTRAP = "BOOTSTRAP"
    STRESSED = "STRESSED"
    FILTERED = "FILTERED"
    FACTOR_SHOCK = "FACTOR_SHOCK"
    NAMED = "NAMED"
    ADVERSARIAL = "ADVERSARIAL"
    REGIME = "REGIME"


class ScenarioParams(Params):
    """Parameters of one scenario set; horizon, lookback and block length in sessions.

    Attributes
    ----------
    paths
        How many to draw, at most `MOST_PATHS`. NAMED and ADVERSARIAL take real windows, each once:
        `paths` is then the most there can be.
    lookback, base_start, base_end
        The base window: the newest `lookback` sessions of those between the two dates, each
        optional. Sessions after `as_of` do not exist yet, whatever the dates say.
    min_sessions
        Sessions that the base window must hold.
    block_length
        Mean length of the blocks of BOOTSTRAP and REGIME, and of the residuals of FACTOR_SHOCK.
    stress_quantile
        STRESSED draws from this fraction of sessions with the worst market return; ADVERSARIAL
        takes this fraction of windows with the worst result for the book.
    stress_scale
        What STRESSED multiplies returns by.
    ewma_decay
        Weight of yesterday's variance in FILTERED.
    market_shock, shock_sessions
        FACTOR_SHOCK: the market's total simple return, and the sessions over which it is spread
        evenly in logs, from the first.
    min_beta_sessions
        Known returns that a beta is estimated from; with fewer it is 1.
    regime, min_regime_sessions
        REGIME draws from the sessions with this label, and needs that many of them.
    crises
        Keys of `CRISES` for NAMED; empty means all. Those that the panel has not seen from start
        to end are left out.
    """

    name: str = Field(min_length=1)
    category: ScenarioCategory
    horizon: int = Field(21, ge=1)
    paths: int = Field(1000, ge=1, le=MOST_PATHS)
    seed: int = Field(0, ge=0)
    lookback: int | None = Field(None, ge=2)
    base_start: date | None = None
    base_end: date | None = None
    min_sessions: int = Field(63, ge=2)
    block_length: float = Field(10.0, ge=1)
    stress_quantile: float = Field(0.1, gt=0, le=0.5)
    stress_scale: float = Field(1.5, gt=0)
    ewma_decay: float = Field(0.94, gt=0, lt=1)
    market_shock: float = Field(-0.2, gt=-1)
    shock_sessions: int = Field(5, ge=1)
    min_beta_sessions: int = Field(63, ge=3)
    regime: RegimeLabel | None = None
    min_regime_sessions: int = Field(21, ge=2)
    crises: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.base_start and self.base_end and self.base_start >= self.base_end:
            raise ValueError("base_start: must be before base_end")
        if self.category is ScenarioCategory.FACTOR_SHOCK and self.shock_sessions > self.horizon:
            raise ValueError("shock_sessions: must not exceed horizon")
        if (self.category is ScenarioCategory.REGIME) != (self.regime is not None):
            raise ValueError("regime: REGIME needs the label to draw from, the others take none")
        unknown = [crisis for crisis in self.crises if crisis not in CRISES]
        if unknown:
            raise ValueError(f"crises: unknown {', '.join(unknown)}; known: {', '.join(CRISES)}")
        return self


def generate_scenarios(
    panel: MarketPanel,
    params: ScenarioParams,
    weights: FloatArray | None = None,
    labels: Sequence[str | None] | None = None,
) -> ScenarioSet:
    """Return joint paths of the panel's instruments over the next `horizon` sessions.

    A return that is unknown on a drawn session is replaced by what the market did that day times
    the instrument's beta, or times 1 where too little is known of it. The market is the mean of
    the known returns. So a path is never NaN, and an instrument without history moves like the
    market. After a gap the first known return spans the gap, which is thus counted twice.

    Parameters
    ----------
    weights : (N,) array, optional
        The book that ADVERSARIAL works against, as fractions of equity; 0 where not held. The
        other categories do not read it.
    labels : T regime labels, optional
        One for each session of the panel, each made from no later session; None where unknown.
        Only REGIME reads them.

    Returns
    -------
    ScenarioSet
        Equal parameters, history and weights give equal bytes. The random numbers depend on the
        parameters and `as_of` alone, so a bootstrap of another universe visits the same sessions.

    Raises
    ------
    InsufficientHistory
        If the base window is shorter than `min_sessions` or `horizon`, or REGIME has fewer than
        `min_regime_sessions` to draw from.
    DataError
        If no crisis of NAMED lies inside the panel, ADVERSARIAL lacks finite weights, REGIME a
        label for each session, or the set would hold more than `MOST_RETURNS`.

    References
    ----------
    Politis and Romano (1994), "The Stationary Bootstrap". Barone-Adesi, Giannopoulos and Vosper
    (1999), "VaR without Correlations for Portfolios of Derivative Securities".
    """
    _require_room(panel, params)
    history = _history(panel, params, _has_label(labels, panel, params))
    book = _book(weights, panel, params)
    rng = np.random.default_rng(int(content_hash([params.digest(), panel.as_of]), 16))
    returns = _GENERATORS[params.category](history, params, rng, book)
    returns.flags.writeable = False
    # Not the panel's fingerprint: that hashes its whole history, and so sessions after `as_of`.
    inputs = [params.digest(), panel.as_of, panel.instruments, book]
    inputs += [history.sessions, history.returns, history.drawable]
    return ScenarioSet(
        as_of=panel.as_of,
        name=params.name,
        spec_hash=content_hash(inputs),
        category=params.category.value,
        instruments=panel.instruments,
        returns=returns,
    )


def require_known(scenarios: ScenarioSet, as_of: date) -> None:
    """Raise `LookAheadError` if the set was made from sessions after `as_of`."""
    if scenarios.as_of > as_of:
        raise LookAheadError(
            f"scenario set {scenarios.name!r} was made from data up to {scenarios.as_of}, and may "
            f"not be used at {as_of}; generate one with --as-of {as_of}"
        )


def path_losses(scenarios: ScenarioSet) -> FloatArray:
    """Return the compounded simple return of each path, (S, N); a loss is negative."""
    growth = np.ones((scenarios.returns.shape[0], scenarios.returns.shape[2]))
    for session in range(scenarios.returns.shape[1]):
        growth *= 1.0 + scenarios.returns[:, session]
    losses: FloatArray = growth - 1.0
    return losses


def portfolio_pnl(scenarios: ScenarioSet, weights: FloatArray) -> FloatArray:
    """Return what each path earns a book that is held unchanged, (S,) fractions of its equity.

    Parameters
    ----------
    weights : (N,) array
        In the order of `scenarios.instruments`; negative is short, 0 is not held.

    Raises
    ------
    DataError
        If a weight is missing or not finite.
    """
    _check_weights(weights, len(scenarios.instruments))
    pnl: FloatArray = path_losses(scenarios) @ weights
    return pnl


@dataclass(frozen=True, eq=False)
class _History:
    """Joint simple returns of the base window, without gaps.

    Attributes
    ----------
    sessions : (D,) array of datetime64[D]
    returns : (D, N) array
    market : (D,) array
    beta : (N,) array
    drawable : (R,) int array
        The rows that REGIME may draw; all of them where no label is asked for.
    """

    sessions: SessionArray
    returns: FloatArray
    market: FloatArray
    beta: FloatArray
    drawable: IntArray


def _require_room(panel: MarketPanel, params: ScenarioParams) -> None:
    names = len(panel.instruments)
    # A window of NAMED or ADVERSARIAL begins on a session of its own.
    windows = params.category in (ScenarioCategory.NAMED, ScenarioCategory.ADVERSARIAL)
    paths = min(params.paths, len(panel)) if windows else params.paths
    if paths * params.horizon * names > MOST_RETURNS:
        raise DataError(
            f"paths: {paths} of {params.horizon} sessions and {names} instruments are "
            f"{paths * params.horizon * names:,} returns; a set holds {MOST_RETURNS:,}, so use at "
            f"most {MOST_RETURNS // (params.horizon * names):,} paths or a shorter horizon"
        )


_Generate = Callable[[_History, ScenarioParams, np.random.Generator, FloatArray], FloatArray]


def _history(panel: MarketPanel, params: ScenarioParams, labelled: BoolArray) -> _History:
    market = panel.derived(equal_weighted_returns)
    base = np.flatnonzero(np.isfinite(market) & _between(panel, params))
    base = base[-params.lookback :] if params.lookback else base
    needed = max(params.min_sessions, params.horizon)
    if len(base) < needed:
        raise InsufficientHistory(panel.as_of, needed, len(base))
    drawable = np.flatnonzero(labelled[base])
    if params.regime is not None and len(drawable) < params.min_regime_sessions:
        raise InsufficientHistory(panel.as_of, params.min_regime_sessions, len(drawable))
    rows, market = panel.derived(total_returns)[base], market[base]
    beta = _betas(rows, market, params.min_beta_sessions)
    estimate = np.maximum(beta * market[:, None], LOWEST_RETURN)
    return _History(
        sessions=panel.sessions[base],
        returns=np.where(np.isnan(rows), estimate, rows),
        market=market,
        beta=beta,
        drawable=drawable,
    )


def _has_label(
    labels: Sequence[str | None] | None, panel: MarketPanel, params: ScenarioParams
) -> BoolArray:
    if params.regime is None:
        return np.ones(len(panel), dtype=bool)
    if labels is None or len(labels) != len(panel):
        found = "none" if labels is None else len(labels)
        raise DataError(f"{params.name}: REGIME needs {len(panel)} labels, found {found}")
    return np.array([label == params.regime for label in labels])


def _between(panel: MarketPanel, params: ScenarioParams) -> BoolArray:
    chosen = np.ones(len(panel), dtype=bool)
    if params.base_start:
        chosen &= panel.sessions >= np.datetime64(params.base_start, "D")
    if params.base_end:
        chosen &= panel.sessions <= np.datetime64(params.base_end, "D")
    return chosen


def _betas(returns: FloatArray, market: FloatArray, min_sessions: int) -> FloatArray:
    """Return the slope of each instrument on the market over the sessions it knows, (N,)."""
    known = np.isfinite(returns)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, returns, 0.0)
    observed = np.where(known, market[:, None], 0.0)
    deviation = np.where(known, observed - observed.sum(axis=0) / count, 0.0)
    scatter = (deviation * deviation).sum(axis=0)
    estimable = (count >= min_sessions) & (scatter > 0.0)
    slope = (deviation * values).sum(axis=0) / np.where(estimable, scatter, 1.0)
    return np.where(estimable, slope, 1.0)


def _historical(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    windows = len(history.returns) - params.horizon + 1
    # Shuffled and repeated, not drawn: no window comes twice before each came once.
    starts = np.resize(rng.permutation(windows), params.paths)
    return _windows(history.returns, starts, params.horizon)


def _bootstrap(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    return history.returns[_path_rows(len(history.returns), params, rng)]


def _stressed(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    worst = np.flatnonzero(history.market <= np.quantile(history.market, params.stress_quantile))
    rows = worst[rng.integers(0, len(worst), (params.paths, params.horizon))]
    magnified = np.maximum(params.stress_scale * history.returns, LOWEST_RETURN)
    return magnified[rows]


def _filtered(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    """Simulate r = sigma z with z drawn jointly, and the variance following what it draws."""
    decay = params.ewma_decay
    log_returns = np.log1p(history.returns)
    floor = VARIANCE_FLOOR * (log_returns * log_returns).mean(axis=0)
    variances = _ewma_variances(log_returns, decay)
    sigma = np.sqrt(np.maximum(variances, floor))
    moves = sigma[:-1] > 0.0
    residuals = np.where(moves, log_returns / np.where(moves, sigma[:-1], 1.0), 0.0)
    drawn = rng.integers(0, len(residuals), (params.paths, params.horizon))
    returns = np.empty((params.paths, params.horizon, residuals.shape[1]))
    variance = np.broadcast_to(sigma[-1] ** 2, (params.paths, residuals.shape[1]))
    for session in range(params.horizon):
        step = np.sqrt(variance) * residuals[drawn[:, session]]
        variance = np.maximum(decay * variance + (1.0 - decay) * step * step, floor)
        returns[:, session] = np.maximum(np.expm1(step), LOWEST_RETURN)
    return returns


def _factor_shock(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    residuals = history.returns - history.beta * history.market[:, None]
    market = np.zeros((params.horizon, 1))
    market[: params.shock_sessions] = np.expm1(
        np.log1p(params.market_shock) / params.shock_sessions
    )
    paths = residuals[_path_rows(len(residuals), params, rng)]
    paths += history.beta * market
    return np.maximum(paths, LOWEST_RETURN, out=paths)


def _named(
    history: _History, params: ScenarioParams, _: np.random.Generator, __: FloatArray
) -> FloatArray:
    """Return the windows that lie in the crises, evenly thinned out to at most `paths`.

    A crisis shorter than the horizon gives the one window that begins with it. One that is not
    over by `as_of` has no name yet.
    """
    starts = [
        start
        for crisis in params.crises or tuple(CRISES)
        for start in _starts_within(history.sessions, CRISES[crisis], params.horizon)
    ]
    if not starts:
        seen = f"{history.sessions[0]} to {history.sessions[-1]}"
        wanted = ", ".join(params.crises or tuple(CRISES))
        raise DataError(f"{params.name}: expected the whole of {wanted}, found returns of {seen}")
    thinned = np.linspace(0, len(starts) - 1, min(params.paths, len(starts))).astype(np.int64)
    return _windows(history.returns, np.array(starts)[thinned], params.horizon)


def _starts_within(sessions: SessionArray, crisis: tuple[date, date], horizon: int) -> range:
    begins, ends = np.array(crisis, dtype="datetime64[D]")
    if sessions[0] > begins or sessions[-1] < ends:
        return range(0)
    first = int(np.searchsorted(sessions, begins, side="left"))
    after = int(np.searchsorted(sessions, ends, side="right"))
    newest = len(sessions) - horizon
    return range(first, min(max(first, after - horizon), newest) + 1)


def _adversarial(
    history: _History, params: ScenarioParams, _: np.random.Generator, book: FloatArray
) -> FloatArray:
    """Return the windows that were worst for the book, worst first."""
    wealth = np.zeros((len(history.returns) + 1, history.returns.shape[1]))
    np.cumsum(np.log1p(history.returns), axis=0, out=wealth[1:])
    pnl = np.expm1(wealth[params.horizon :] - wealth[: -params.horizon]) @ book
    worst = min(params.paths, int(np.ceil(params.stress_quantile * len(pnl))))
    return _windows(history.returns, np.argsort(pnl, kind="stable")[:worst], params.horizon)


def _in_regime(
    history: _History, params: ScenarioParams, rng: np.random.Generator, _: FloatArray
) -> FloatArray:
    """Bootstrap the regime's sessions, put one after the other: a block may span two spells."""
    rows = history.drawable[_path_rows(len(history.drawable), params, rng)]
    return history.returns[rows]


_GENERATORS: dict[ScenarioCategory, _Generate] = {
    ScenarioCategory.HISTORICAL: _historical,
    ScenarioCategory.BOOTSTRAP: _bootstrap,
    ScenarioCategory.STRESSED: _stressed,
    ScenarioCategory.FILTERED: _filtered,
    ScenarioCategory.FACTOR_SHOCK: _factor_shock,
    ScenarioCategory.NAMED: _named,
    ScenarioCategory.ADVERSARIAL: _adversarial,
    ScenarioCategory.REGIME: _in_regime,
}


@lru_cache(maxsize=64)
def bootstrap_rows(
    sessions: int, paths: int, horizon: int, block_length: float, seed: int
) -> IntArray:
    """Return the rows of a history that stationary bootstrap paths visit, (H, S), read-only.

    Blocks have geometric length with mean `block_length`, and wrap around the end of history.
    """
    rng = np.random.default_rng([seed, sessions])
    rows = np.ascontiguousarray(_stationary_rows(sessions, (paths, horizon), block_length, rng).T)
    rows.flags.writeable = False
    return rows


def _windows(returns: FloatArray, starts: IntArray, horizon: int) -> FloatArray:
    rows: FloatArray = returns[starts[:, None] + np.arange(horizon)]
    return rows


def _stationary_rows(
    sessions: int, shape: tuple[int, int], block_length: float, rng: np.random.Generator
) -> IntArray:
    """Return rows in blocks of geometric length, wrapped around the end of history, (S, H)."""
    begins = rng.random(shape) < 1.0 / block_length
    begins[:, 0] = True
    start = rng.integers(0, sessions, shape)
    position = np.arange(shape[1])
    newest = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    rows: IntArray = (np.take_along_axis(start, newest, axis=1) + position - newest) % sessions
    return rows


def _path_rows(sessions: int, params: ScenarioParams, rng: np.random.Generator) -> IntArray:
    return _stationary_rows(sessions, (params.paths, params.horizon), params.block_length, rng)


def _ewma_variances(log_returns: FloatArray, decay: float) -> FloatArray:
    """Return the variance expected before each session, and after the last, (D + 1, N)."""
    variances = np.empty((len(log_returns) + 1, log_returns.shape[1]))
    variances[0] = (log_returns * log_returns).mean(axis=0)
    for session, row in enumerate(log_returns):
        variances[session + 1] = decay * variances[session] + (1.0 - decay) * row * row
    return variances


def _book(weights: FloatArray | None, panel: MarketPanel, params: ScenarioParams) -> FloatArray:
    if params.category is not ScenarioCategory.ADVERSARIAL:
        return np.zeros(0)
    if weights is None:
        raise DataError(f"{params.name}: {params.category} needs the weights it works against")
    _check_weights(weights, len(panel.instruments))
    return weights


def _check_weights(weights: FloatArray, names: int) -> None:
    if weights.shape != (names,) or not np.isfinite(weights).all():
        raise DataError(f"weights: expected {names} finite numbers, shape found {weights.shape}")
