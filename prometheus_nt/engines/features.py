"""Derived data: tables of what the engines measure, whole histories at a time.

1. `TABLES` says which causal functions of the panel fill the columns of each table. They are the
   ones that the engines hand to `MarketPanel.derived`, with the same arguments, so that a stored
   value is the one that an engine saw, to the last bit.
2. `derive_table` computes the columns of one table; what warms up or is unknown is NaN.
3. `correlation_panel` measures how the instruments moved together over the last sessions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray
from prometheus_nt.engines.covariance import THREADS
from prometheus_nt.engines.numerics.cross_section import sector_codes, sector_names
from prometheus_nt.engines.numerics.market_relations import (
    beta_floor,
    rolling_beta,
    rolling_sector_beta,
)
from prometheus_nt.engines.numerics.pairwise import pairwise_correlation
from prometheus_nt.engines.numerics.returns import (
    compound_returns,
    has_bar,
    log_total_returns,
    market_returns,
    sector_returns,
    total_returns,
)
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.technicals import (
    MOVING_AVERAGES,
    OSCILLATORS,
    average_directional_index,
    combined_rating,
    technical_ratings,
)

MARKET = "MARKET"
"""Factor that is the return of the equally weighted panel."""

BETA_LOOKBACK = 252
"""Sessions of the exposures: the lookback of the betas that the alpha families default to."""


@dataclass(frozen=True, eq=False)
class DerivedTable:
    """What one table holds of every session and of each of K things.

    Attributes
    ----------
    name : str
        A name in `TABLES`.
    keys : dict of tuples of K texts
        What the K things are, by name of the key: an instrument, an instrument and a factor.
    columns : dict of (T, K) arrays
        NaN where unknown.
    """

    name: str
    sessions: SessionArray
    keys: dict[str, tuple[str, ...]]
    columns: dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class CorrelationPanel:
    """How K instruments moved together over the sessions from `start` to `as_of`.

    matrix : (K, K) array
        Correlations of log total returns per session; NaN where too few sessions are common.
    """

    as_of: date
    start: date
    lookback: int
    min_observations: int
    instruments: tuple[str, ...]
    matrix: FloatArray


def derive_table(panel: MarketPanel, name: str) -> DerivedTable:
    """Return one of `TABLES` for every session of the panel.

    Prices before the first session of a view count as well: `MarketPanel.derived` cuts them off
    only afterwards.
    """
    keys, columns = TABLES[name](panel)
    return DerivedTable(name, panel.sessions, keys, columns)


def correlation_panel(
    panel: MarketPanel, lookback: int, min_observations: int | None = None
) -> CorrelationPanel:
    """Return the correlations over the last `lookback` sessions.

    Of the instruments that have `min_observations` returns in them, half by default.

    Raises
    ------
    InsufficientHistory
        If the panel has no `lookback` returns, or fewer than two instruments have enough.
    """
    floor = lookback // 2 if min_observations is None else min_observations
    if len(panel) <= lookback:
        raise InsufficientHistory(panel.as_of, lookback + 1, len(panel))
    window = panel.derived(log_total_returns)[-lookback:]
    observed = np.isfinite(window).sum(axis=0)
    columns = np.flatnonzero(observed >= floor)
    if len(columns) < 2:
        raise InsufficientHistory(panel.as_of, floor, int(observed.max(initial=0)))
    with THREADS.limit(limits=1):
        matrix = pairwise_correlation(window[:, columns], floor)
    return CorrelationPanel(
        as_of=panel.as_of,
        start=panel.sessions[-lookback].astype(object),
        lookback=lookback,
        min_observations=floor,
        instruments=tuple(panel.instruments[column] for column in columns),
        matrix=matrix,
    )


def sector_factor(sector: str) -> str:
    """Return the factor id of a sector."""
    return f"SECTOR:{sector}"


def sector_factors(panel: MarketPanel) -> tuple[str, ...]:
    """Return the factor ids of the panel's sectors, in the order of `sector_returns`."""
    return tuple(sector_factor(name) for name in sector_names(panel))


def recommend_ma(panel: MarketPanel) -> FloatArray:
    """Return the mean of fifteen votes by moving averages, -1 to 1, (T, N)."""
    return panel.derived(technical_ratings)[:, MOVING_AVERAGES]


def recommend_other(panel: MarketPanel) -> FloatArray:
    """Return the mean of the known votes of eleven oscillators, -1 to 1, (T, N)."""
    return panel.derived(technical_ratings)[:, OSCILLATORS]


def recommend_all(panel: MarketPanel) -> FloatArray:
    """Return the mean of both ratings, (T, N); NaN unless both are known."""
    return panel.derived(combined_rating)


def adx(panel: MarketPanel) -> FloatArray:
    """Return the strength of the trend by Wilder's ADX of 14 bars, 0 to 100, (T, N)."""
    return panel.derived(average_directional_index)


class Measure(NamedTuple):
    """A causal function of the panel, and what it is called with."""

    of: Callable[..., FloatArray]
    arguments: tuple[int, ...] = ()


RETURNS = {"ret_5d": 5, "ret_21d": 21}
"""Sessions of the simple total returns besides that of one session."""

VOLATILITY = {"vol_21d": Measure(rolling_volatility_per_session, (21, 10))}
VOLATILITY["vol_63d"] = Measure(rolling_volatility_per_session, (63, 31))
"""Standard deviations of log returns per session, of those known: half of them at least."""

FEATURES = {
    "recommend_ma": Measure(recommend_ma),
    "recommend_other": Measure(recommend_other),
    "recommend_all": Measure(recommend_all),
    "adx_14": Measure(adx),
    "dollar_volume_63": Measure(rolling_dollar_volume, (63,)),
}
"""What `features_daily` knows of an instrument, by name."""

_Content = tuple[dict[str, tuple[str, ...]], dict[str, FloatArray]]


def _returns(panel: MarketPanel) -> _Content:
    columns = {"ret_1d": panel.derived(total_returns)}
    # Without a bar there is no return, however the index has moved before.
    traded = has_bar(panel.close)
    for name, lookback in RETURNS.items():
        columns[name] = np.where(traded, panel.derived(compound_returns, lookback), np.nan)
    return {"instrument_id": panel.instruments}, columns


def _volatility(panel: MarketPanel) -> _Content:
    columns = {name: panel.derived(of, *given) for name, (of, given) in VOLATILITY.items()}
    return {"instrument_id": panel.instruments}, columns


def _factors(panel: MarketPanel) -> _Content:
    market = panel.derived(market_returns)[:, None]
    factors = sector_factors(panel)
    # A view names the sectors seen so far; those first seen later are the last columns.
    sectors = panel.derived(sector_returns)[:, : len(factors)]
    values = np.concatenate((market, sectors), axis=1)
    return {"factor_id": (MARKET, *factors)}, {"value": values}


def _exposures(panel: MarketPanel) -> _Content:
    given = (BETA_LOOKBACK, beta_floor(BETA_LOOKBACK))
    codes = _sector_codes_of_sessions(panel)
    known, code = _pairs(codes)
    factors = sector_factors(panel)
    sectors = tuple(factors[number] for number in code)
    keys = {
        "instrument_id": (*panel.instruments, *(panel.instruments[column] for column in known)),
        "factor_id": (*(MARKET,) * len(panel.instruments), *sectors),
    }
    market, sector = panel.derived(rolling_beta, *given), panel.derived(rolling_sector_beta, *given)
    own = np.where(codes[:, known] == code, sector[:, known], np.nan)
    return keys, {"exposure": np.concatenate((market, own), axis=1)}


def _sector_codes_of_sessions(panel: MarketPanel) -> IntArray:
    """Return `sector_codes` of every session, (T, N)."""
    codes = np.empty(panel.close.shape, dtype=np.int64)
    for first, after in panel.sector_spans():
        codes[first:after] = sector_codes(panel, first)
    return codes


def _pairs(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Return each column with each code that it ever has, but for -1, in their order."""
    width = int(codes.max(initial=-1)) + 2
    numbered = np.unique(codes + 1 + width * np.arange(codes.shape[1]))
    column, code = np.divmod(numbered, width)
    return column[code > 0], code[code > 0] - 1


def _features(panel: MarketPanel) -> _Content:
    count = len(panel.instruments)
    keys = {
        "instrument_id": panel.instruments * len(FEATURES),
        "feature": tuple(name for name in FEATURES for _ in range(count)),
    }
    values = [panel.derived(of, *given) for of, given in FEATURES.values()]
    return keys, {"value": np.concatenate(values, axis=1)}


TABLES: dict[str, Callable[[MarketPanel], _Content]] = {
    "returns": _returns,
    "volatility": _volatility,
    "factors": _factors,
    "exposures": _exposures,
    "features": _features,
}
"""Each derived table by name, with what fills it."""
