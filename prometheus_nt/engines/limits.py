"""The table of limits on a book's weights: how each one cuts, and how to see that it holds.

A limit only ever moves weights towards zero. Those on single names come first, then sectors, then
the net band, which cuts the larger side alone; what follows scales the whole book. In this order
no cut can raise a later or an earlier limit's breach, and since every limit holds for an empty
book there is always an answer:

    finite  long_only  max_abs_weight_per_name  known_liquidity  max_liquidation_days
    max_sector_weight  max_net  min_net  max_gross  drawdown_breaker  max_stress_loss

Last comes `max_turnover`. It mixes the book with the previous one, the latter cut by all limits
above as of today. Each of these limits holds for every mixture of two books that keep it. They go
first: what they force to be sold is sold, even if that alone is more than `max_turnover`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.book_history import BookHistory
from prometheus_nt.engines.stress import worst_pnl
from prometheus_nt.engines.turnover import one_way_turnover

ROUNDING = 1e-9
"""Relative excess over a limit on a sum that is rounding, not a breach."""

Cut = Callable[[FloatArray], FloatArray]
Excess = Callable[[FloatArray], float]


class LimitParams(Params):
    """Limits on a book; weights are fractions of book equity, and None is off.

    Attributes
    ----------
    max_gross
        Above 1 only for books that are short as well, or borrow.
    max_sector_weight
        Largest gross weight of a sector. Instruments of unknown sector count as one sector, since
        nothing shows that they differ.
    max_net, min_net
        Band of the sum of weights. It contains 0: the engine takes exposure away and adds none.
    max_liquidation_days
        Sessions in which every name must be sold, at the report's `liquidation_participation`. A
        name of unknown volume is rejected, and without the book's equity every name.
    max_stress_loss
        Largest loss of the report's stress table, as a positive fraction of equity.
    drawdown_breaker, breaker_release, breaker_gross
        Once the sleeve's drawdown (<= 0) falls below the first, gross is at most the last until
        the drawdown has come above the second; None releases at half the breaker. A
        `breaker_gross` of 0 is for good: cash earns no recovery.
    max_turnover
        Largest one-way turnover from the previous target: the larger of bought and sold.
    """

    max_abs_weight_per_name: float = Field(0.10, ge=0, le=1)
    max_gross: float = Field(1.0, ge=0, le=5)
    long_only: bool = True
    max_sector_weight: float | None = Field(None, ge=0)
    max_net: float | None = Field(None, ge=0)
    min_net: float | None = Field(None, le=0)
    max_liquidation_days: float | None = Field(None, gt=0)
    max_stress_loss: float | None = Field(None, gt=0)
    drawdown_breaker: float | None = Field(None, gt=-1, lt=0)
    breaker_release: float | None = Field(None, gt=-1, le=0)
    breaker_gross: float = Field(0.5, ge=0)
    max_turnover: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _breaker_releases_after_it_tripped(self) -> Self:
        if self.breaker_release is None:
            return self
        if self.drawdown_breaker is None or self.breaker_release <= self.drawdown_breaker:
            raise ValueError("breaker_release: must lie above drawdown_breaker")
        return self

    @property
    def release_above(self) -> float | None:
        """The drawdown above which a tripped breaker lets go; None without a breaker."""
        if self.drawdown_breaker is None or self.breaker_release is not None:
            return self.breaker_release
        return self.drawdown_breaker / 2.0


@dataclass(frozen=True, eq=False)
class LimitInputs:
    """What limits look at besides the weights of K names, in the order of their ids.

    Attributes
    ----------
    sector : (K,) int array or None
        Equal numbers are one sector; None where no limit asks.
    capacity : (K,) array or None
        Largest absolute weight that can be sold in time, NaN where unknown; None where no limit
        asks.
    history : BookHistory or None
        None where no limit asks.
    breaker_tripped : bool
    previous : (K,) array or None
        Weights of the previous target.
    """

    sector: IntArray | None
    capacity: FloatArray | None
    history: BookHistory | None
    breaker_tripped: bool
    previous: FloatArray | None


@dataclass(frozen=True)
class Limit:
    """One row of the table.

    Attributes
    ----------
    cut : function of (K,) weights
        Returns weights within the limit; the same numbers if they already were.
    excess : function of (K,) weights
        Returns by how much they are above the limit; computed another way than `cut` does.
    """

    name: str
    value: float
    cut: Cut
    excess: Excess

    def holds(self, weights: FloatArray) -> bool:
        return self.excess(weights) <= 2.0 * ROUNDING * max(1.0, abs(self.value))


def limit_table(inputs: LimitInputs, params: LimitParams) -> tuple[Limit, ...]:
    """Return the limits that are on, in the order in which they cut."""
    hard = (
        *_name_limits(params),
        *_liquidity_limits(inputs.capacity, params.max_liquidation_days),
        *_group_limits(inputs, params),
        *_book_limits(inputs, params),
    )
    if params.max_turnover is None or inputs.previous is None:
        return hard
    return (*hard, _turnover_limit(hard, inputs.previous, params.max_turnover))


@lru_cache(maxsize=16)
def _name_limits(params: LimitParams) -> tuple[Limit, ...]:
    """Return the limits on single names that the settings alone make."""
    finite = Limit(
        "finite",
        0.0,
        _finite,
        lambda weights: float(len(weights) - np.count_nonzero(np.isfinite(weights))),
    )
    long_only = Limit(
        "long_only",
        0.0,
        _not_short,
        lambda weights: float(-np.minimum.reduce(weights, initial=0.0)),
    )
    cap = params.max_abs_weight_per_name
    capped = Limit(
        "max_abs_weight_per_name",
        cap,
        lambda weights: _capped(weights, cap),
        lambda weights: float(np.maximum.reduce(np.abs(weights), initial=0.0)) - cap,
    )
    return (finite, long_only, capped) if params.long_only else (finite, capped)


def _liquidity_limits(capacity: FloatArray | None, days: float | None) -> Iterator[Limit]:
    if capacity is None or days is None:
        return
    unknown = ~np.isfinite(capacity)
    most = np.where(unknown, 0.0, capacity)
    yield Limit(
        "known_liquidity",
        0.0,
        lambda weights: np.where(unknown, 0.0, weights),
        lambda weights: float(np.abs(weights[unknown]).sum()),
    )
    yield Limit(
        "max_liquidation_days",
        days,
        lambda weights: np.clip(weights, -most, most),
        lambda weights: float((np.abs(weights) - most).max(initial=0.0)),
    )


def _group_limits(inputs: LimitInputs, params: LimitParams) -> Iterator[Limit]:
    sector, sector_cap = inputs.sector, params.max_sector_weight
    if sector_cap is not None and sector is not None:
        yield Limit(
            "max_sector_weight",
            sector_cap,
            lambda weights: _scaled_by_sector(weights, sector, sector_cap),
            lambda weights: _largest_sector(weights, sector) - sector_cap,
        )
    if params.max_net is not None:
        most = params.max_net
        yield Limit(
            "max_net",
            most,
            lambda weights: _net_at_most(weights, most),
            lambda weights: float(weights.sum()) - most,
        )
    if params.min_net is not None:
        least = params.min_net
        yield Limit(
            "min_net",
            least,
            lambda weights: -_net_at_most(-weights, -least),
            lambda weights: least - float(weights.sum()),
        )


def _book_limits(inputs: LimitInputs, params: LimitParams) -> Iterator[Limit]:
    yield _gross_limit("max_gross", params.max_gross)
    if inputs.breaker_tripped:
        yield _gross_limit("drawdown_breaker", params.breaker_gross)
    history, loss = inputs.history, params.max_stress_loss
    if loss is not None and history is not None:
        yield Limit(
            "max_stress_loss",
            loss,
            lambda weights: _scaled(weights, -worst_pnl(history.held(weights)), loss),
            lambda weights: -worst_pnl(history.held(weights)) - loss,
        )


@lru_cache(maxsize=16)
def _gross_limit(name: str, most: float) -> Limit:
    return Limit(
        name,
        most,
        lambda weights: _scaled(weights, float(np.add.reduce(np.abs(weights))), most),
        lambda weights: fsum(np.abs(weights).tolist()) - most,
    )


def _turnover_limit(hard: tuple[Limit, ...], previous: FloatArray, most: float) -> Limit:
    kept = previous
    for limit in hard:
        kept = limit.cut(kept)
    forced = one_way_turnover(kept - previous)

    def cut(weights: FloatArray) -> FloatArray:
        if one_way_turnover(weights - previous) <= most * (1.0 + ROUNDING):
            return weights
        wanted = one_way_turnover(weights - kept)
        part = max(most - forced, 0.0) / wanted if wanted > 0.0 else 0.0
        mixed = kept + min(part, 1.0) * (weights - kept)
        # Rounding must not carry a weight past the two it lies between: they keep their caps.
        between: FloatArray = np.clip(mixed, np.minimum(kept, weights), np.maximum(kept, weights))
        return between

    def excess(weights: FloatArray) -> float:
        bought = np.maximum(weights - previous, 0.0).sum()
        sold = np.maximum(previous - weights, 0.0).sum()
        return float(max(bought, sold)) - max(most, forced)

    return Limit("max_turnover", most, cut, excess)


def _finite(weights: FloatArray) -> FloatArray:
    """Return `weights` with 0 for what is no number; themselves if all are numbers."""
    numbers = np.isfinite(weights)
    return weights if np.logical_and.reduce(numbers) else np.where(numbers, weights, 0.0)


def _not_short(weights: FloatArray) -> FloatArray:
    """Return `weights` with 0 for what is short; themselves if nothing is."""
    if np.minimum.reduce(weights, initial=0.0) >= 0.0:
        return weights
    return np.where(weights >= 0.0, weights, 0.0)


def _capped(weights: FloatArray, most: float) -> FloatArray:
    """Return `weights` between `-most` and `most`; themselves if they were."""
    lowest, highest = (
        np.minimum.reduce(weights, initial=0.0),
        np.maximum.reduce(weights, initial=0.0),
    )
    if lowest >= -most and highest <= most:
        return weights
    return np.minimum(np.maximum(weights, -most), most)


def _scaled(weights: FloatArray, size: float, most: float) -> FloatArray:
    """Return `weights`, scaled down so that their `size`, which scales with them, is `most`."""
    return weights * (most / size) if size > most * (1.0 + ROUNDING) else weights


def _scaled_by_sector(weights: FloatArray, sector: IntArray, most: float) -> FloatArray:
    gross = np.bincount(sector, weights=np.abs(weights))
    over = gross > most * (1.0 + ROUNDING)
    scale = np.where(over, most / np.where(over, gross, 1.0), 1.0)
    scaled: FloatArray = weights * scale[sector]
    return scaled


def _largest_sector(weights: FloatArray, sector: IntArray) -> float:
    totals = [float(np.abs(weights[sector == code]).sum()) for code in np.unique(sector)]
    return max(totals, default=0.0)


def _net_at_most(weights: FloatArray, most: float) -> FloatArray:
    """Return `weights` with the long ones scaled down so that the sum is at most `most`."""
    longs = float(np.maximum(weights, 0.0).sum())
    shorts = float(np.minimum(weights, 0.0).sum())
    if longs + shorts <= most + ROUNDING:
        return weights
    return np.where(weights > 0.0, weights * ((most - shorts) / longs), weights)
