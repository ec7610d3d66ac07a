"""The alpha library: known anomalies, each measured for every instrument from history alone.

1. A row of `FAMILIES` names an anomaly and the function that measures it on any sessions; which
   rows are used, over which lookbacks and with which prior weight, is configuration.
2. `standardised` makes the families comparable, session by session (`_neutral`): the tails are
   pulled in, the sector's mean and what beta explains are taken out, and what is left is scaled
   to a standard deviation of 1. What is unknown stays unknown.

Sums over the cross-section are taken in the order of sector and name (`layout_of`), so that no
result depends on the order in which a panel lists its instruments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.market_relations import (
    beta_floor,
    residual_momentum,
    rolling_beta,
)
from prometheus_nt.engines.numerics.remembered import of_same_names
from prometheus_nt.engines.numerics.returns import stopped, total_return_index
from prometheus_nt.engines.numerics.rolling import rolling_volatility_per_session
from prometheus_nt.engines.ratios import QUALITY, VALUE, fundamental_ratios
from prometheus_nt.engines.technicals import (
    MOVING_AVERAGES,
    OSCILLATORS,
    combined_rating,
    technical_ratings,
)

TAIL_FRACTION = 0.025
"""Fraction of the known values in each tail that is pulled in to its first inner value."""

ROUNDING = 1e-9
"""Size relative to the raw values below which what is left of them is rounding."""

MIN_BETA_NAMES = 10
"""Instruments below which a slope on beta would mostly fit noise, so that none is taken out."""


MAX_GAP = 5
"""Sessions without a bar after which an instrument is no part of the cross-section."""


class AlphaParams(Params):
    """Parameters of the alpha families; lookbacks and skip in sessions.

    A weight is what is believed of a family before any evidence, relative to the other weights.
    A family of weight 0 takes part on evidence alone; one of weight None is not computed.

    Attributes
    ----------
    momentum_lookback, momentum_skip
        Momentum is the total return from `momentum_lookback` to `momentum_skip` sessions ago;
        residual momentum looks at the same sessions.
    short_momentum_lookback
        The same over fewer sessions; None is half of `momentum_lookback`. With the defaults the
        two are the 12-1 and 6-1 months of the literature.
    beta_lookback
        Sessions over which beta is measured against the equal-weighted market.
    quality_weight, value_weight
        Used only on panels with facts. Value divides by the market value at the close as traded:
        on a dataset of adjusted closes it means nothing, and should be None.
    recommend_ma_weight, recommend_other_weight, recommend_all_weight
        Technical ratings. Known only once a bar with a high above its low was seen: on data of
        closes alone, half of their votes would be about ranges that nobody observed.
    min_sector_names
        Sectors with fewer known names share one mean: that of two names is mostly themselves.
    """

    momentum_lookback: int = Field(252, ge=2)
    momentum_skip: int = Field(21, ge=0)
    short_momentum_lookback: int | None = Field(None, ge=2)
    reversal_lookback: int = Field(21, ge=1)
    volatility_lookback: int = Field(63, ge=4)
    beta_lookback: int = Field(252, ge=4)
    momentum_weight: float | None = Field(0.5, ge=0)
    short_momentum_weight: float | None = Field(0.25, ge=0)
    residual_momentum_weight: float | None = Field(0.25, ge=0)
    reversal_weight: float | None = Field(0.2, ge=0)
    low_volatility_weight: float | None = Field(0.3, ge=0)
    quality_weight: float | None = Field(0.3, ge=0)
    value_weight: float | None = Field(0.3, ge=0)
    recommend_ma_weight: float | None = Field(None, ge=0)
    recommend_other_weight: float | None = Field(None, ge=0)
    recommend_all_weight: float | None = Field(None, ge=0)
    min_sector_names: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _families_consistent(self) -> Self:
        if self.momentum_skip >= self.momentum_lookback:
            raise ValueError("momentum_skip: must be shorter than momentum_lookback")
        if self.short_momentum_weight is not None and self.momentum_skip >= self.short_lookback:
            raise ValueError(
                "momentum_skip: must be shorter than short_momentum_lookback "
                "(half of momentum_lookback by default)"
            )
        if not any(family.weight(self) for family in FAMILIES if not family.needs_facts):
            raise ValueError("weights: one family that needs no facts must have a positive one")
        return self

    @property
    def short_lookback(self) -> int:
        """Sessions of short momentum."""
        return self.short_momentum_lookback or self.momentum_lookback // 2

    @property
    def longest_lookback(self) -> int:
        """Sessions before `as_of` that the families of prices look back."""
        return max(self.momentum_lookback, self.short_lookback, self.reversal_lookback)


Measure = Callable[[MarketPanel, AlphaParams, IntArray], FloatArray]
"""Returns what a family measured at the given rows of the panel, higher is better, (R, N)."""


@dataclass(frozen=True)
class Family:
    """One anomaly: its name, and how it is measured."""

    name: str
    measure: Measure
    needs_facts: bool = False

    def weight(self, params: AlphaParams) -> float | None:
        """Return the prior weight; None if the family is not used."""
        weight: float | None = getattr(params, f"{self.name}_weight")
        return weight


class FamilySet(NamedTuple):
    """The families in use, in the order of the table.

    Attributes
    ----------
    names : tuple of F names
    measures : tuple of F functions
    prior : (F,) array
        Prior weights, sum 1.
    """

    names: tuple[str, ...]
    measures: tuple[Measure, ...]
    prior: FloatArray


def families_of(panel: MarketPanel, params: AlphaParams) -> FamilySet:
    """Return the families in use on this panel."""
    return _families(params, panel.facts is not None)


@lru_cache(maxsize=64)
def _families(params: AlphaParams, facts: bool) -> FamilySet:
    used = [
        (family.name, family.measure, weight)
        for family in FAMILIES
        if (weight := family.weight(params)) is not None and (facts or not family.needs_facts)
    ]
    names, measures, weights = zip(*used, strict=True)
    prior = np.array(weights, dtype=np.float64)
    prior /= prior.sum()
    prior.flags.writeable = False
    return FamilySet(names, measures, prior)


class Layout(NamedTuple):
    """The instruments by sector and name.

    Attributes
    ----------
    order : (N,) column of each place
    place : (N,) place of each column
    sector : (N,) number of each place's sector; unknown is a sector too
    starts : first place of each sector
    """

    order: IntArray
    place: IntArray
    sector: IntArray
    starts: IntArray


def layout_of(panel: MarketPanel, row: int = -1) -> Layout:
    """Return the layout of a panel's instruments, by the sectors known at the close of a row."""
    return _layout(panel.instruments, panel.sectors_at(row))


def standardised(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    """Return the z-scores of every family in use at `rows`, in the layout's order, (R, F, N).

    The rows must lie in one of the panel's `sector_spans`: they share its layout.

    Over the known names of a session and family: mean 0 in each sector of enough names and in the
    rest together, no covariance with beta, standard deviation 1. All 0 where nothing is left.
    """
    layout = layout_of(panel, int(rows[-1]))
    measured = [measure(panel, params, rows) for measure in families_of(panel, params).measures]
    stacked = np.array(measured).swapaxes(0, 1)
    # The index of a name that died stands still, for ever: that is no return of 0.
    np.copyto(stacked, np.nan, where=stopped(panel, rows, MAX_GAP)[:, None])
    raw = stacked.take(layout.order, axis=-1)
    beta = panel.derived(rolling_beta, params.beta_lookback, beta_floor(params.beta_lookback))[
        rows
    ].take(layout.order, axis=-1)
    return _neutral(raw, beta[:, None], layout, params.min_sector_names)


def _neutral(raw: FloatArray, beta: FloatArray, layout: Layout, min_names: int) -> FloatArray:
    known = np.isfinite(raw)
    # A name of unknown beta counts as average: nothing is taken out of it.
    masks = np.array((known, known & np.isfinite(beta)))
    values, size = _winsorised(raw, known)
    both = np.array((values, np.where(masks[1], beta, 0.0)))
    count = masks.sum(axis=-1, keepdims=True)
    if len(layout.starts) == 1:
        z, exposure = (both - both.sum(axis=-1, keepdims=True) / np.maximum(count, 1)) * masks
    else:
        z, exposure = _less_sector_means(both, masks, layout, min_names)
    square = (exposure * exposure).sum(axis=-1, keepdims=True)
    fitted = (count[1] >= MIN_BETA_NAMES) & (square > NEGLIGIBLE)
    slope = (z * exposure).sum(axis=-1, keepdims=True) / np.where(fitted, square, np.inf)
    z -= slope * exposure
    spread = np.sqrt((z * z).sum(axis=-1, keepdims=True) / np.maximum(count[0], 1))
    # Nothing is left where the values do not vary, or sector and beta explain all of them.
    z /= np.where(spread > ROUNDING * size, spread, np.inf)
    return np.where(known, z, np.nan)


def _winsorised(raw: FloatArray, known: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the values with their tails pulled in, 0 where unknown, and their largest size."""
    low, high = tails(raw, known)
    size = np.maximum(np.abs(low), np.abs(high))
    return np.where(known, np.minimum(np.maximum(raw, low), high), 0.0), size


def tails(raw: FloatArray, known: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the first value inside each tail of the known ones, (..., 1) each, of (..., N)."""
    count = known.sum(axis=-1)
    tail = (TAIL_FRACTION * count).astype(np.int64)
    top = np.maximum(count - 1 - tail, 0)
    # Faster than a partition: numpy sorts with vector instructions.
    ordered = np.sort(np.where(known, raw, np.inf), axis=-1)
    first = raw.shape[-1] * np.arange(count.size).reshape(count.shape)
    low: FloatArray = ordered.take(first + tail)
    high: FloatArray = ordered.take(first + top)
    return low[..., None], high[..., None]


def _less_sector_means(
    values: FloatArray, known: BoolArray, layout: Layout, min_names: int
) -> FloatArray:
    """Return the known values less their sector's mean; unknown ones must be, and stay, 0."""
    sums = np.add.reduceat(values, layout.starts, axis=-1)
    counts = np.add.reduceat(known, layout.starts, axis=-1, dtype=np.float64)
    few = counts < min_names
    shared = (sums * few).sum(axis=-1, keepdims=True)
    shared /= np.maximum((counts * few).sum(axis=-1, keepdims=True), 1.0)
    means = np.where(few, shared, sums / np.maximum(counts, 1.0))
    centred: FloatArray = (values - means.take(layout.sector, axis=-1)) * known
    return centred


@of_same_names
def _layout(instruments: tuple[str, ...], sectors: tuple[str | None, ...]) -> Layout:
    named = [sector or "" for sector in sectors] or [""] * len(instruments)
    order = sorted(range(len(instruments)), key=lambda column: (named[column], instruments[column]))
    ordered = np.array([named[column] for column in order])
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    places = np.argsort(np.array(order))
    return Layout(np.array(order), places, np.cumsum(first) - 1, np.flatnonzero(first))


def _momentum(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    return _change(panel, rows, params.momentum_lookback, params.momentum_skip)


def _short_momentum(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    return _change(panel, rows, params.short_lookback, params.momentum_skip)


def _residual_momentum(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    spans = (params.beta_lookback, params.momentum_lookback, params.momentum_skip)
    return panel.derived(residual_momentum, *spans)[rows]


def _reversal(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    return -_change(panel, rows, params.reversal_lookback, 0)


def _low_volatility(panel: MarketPanel, params: AlphaParams, rows: IntArray) -> FloatArray:
    lookback = params.volatility_lookback
    return -panel.derived(rolling_volatility_per_session, lookback, lookback // 2)[rows]


def _quality(panel: MarketPanel, _: AlphaParams, rows: IntArray) -> FloatArray:
    return _column(panel.derived(fundamental_ratios), rows, QUALITY)


def _value(panel: MarketPanel, _: AlphaParams, rows: IntArray) -> FloatArray:
    return _column(panel.derived(fundamental_ratios), rows, VALUE)


def _recommend_ma(panel: MarketPanel, _: AlphaParams, rows: IntArray) -> FloatArray:
    return _column(panel.derived(technical_ratings), rows, MOVING_AVERAGES)


def _recommend_other(panel: MarketPanel, _: AlphaParams, rows: IntArray) -> FloatArray:
    return _column(panel.derived(technical_ratings), rows, OSCILLATORS)


def _recommend_all(panel: MarketPanel, _: AlphaParams, rows: IntArray) -> FloatArray:
    rating: FloatArray = panel.derived(combined_rating)[rows]
    return rating


def _column(derived: FloatArray, rows: IntArray, number: int) -> FloatArray:
    measured: FloatArray = derived[rows, number]
    return measured


def _change(panel: MarketPanel, rows: IntArray, lookback: int, skip: int) -> FloatArray:
    """Return the total return from `lookback` to `skip` sessions before each row, (R, N)."""
    index = panel.derived(total_return_index)
    # The row of a session before the first would be one from the end: of the future.
    early = rows < lookback
    change: FloatArray = index[np.where(early, 0, rows - skip)]
    change /= index[np.where(early, 0, rows - lookback)]
    change -= 1.0
    if early.any():
        change[early] = np.nan
    return change


FAMILIES = (
    Family("momentum", _momentum),
    Family("short_momentum", _short_momentum),
    Family("residual_momentum", _residual_momentum),
    Family("reversal", _reversal),
    Family("low_volatility", _low_volatility),
    Family("quality", _quality, needs_facts=True),
    Family("value", _value, needs_facts=True),
    Family("recommend_ma", _recommend_ma),
    Family("recommend_other", _recommend_other),
    Family("recommend_all", _recommend_all),
)
"""Every family there is; a name is also that of its parameter, `<name>_weight`."""
