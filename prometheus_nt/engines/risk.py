"""The last word on weights: limits in a fixed order, every intervention recorded, risk reported."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from pydantic import Field

from prometheus_nt.domain.books import (
    BookTarget,
    RiskAction,
    RiskActionType,
    RiskReport,
    TargetPortfolio,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import (
    SESSIONS_PER_YEAR,
    equal_weighted_returns,
    total_returns,
)

ROUNDING = 1e-9
"""Relative excess over a limit on a sum that is rounding, not a breach."""

TAIL = 0.05

UNKNOWN_SECTOR = "UNKNOWN"


class RiskParams(Params):
    """Parameters of the risk engine; weights are fractions of book equity.

    Attributes
    ----------
    max_sector_weight
        Largest gross weight of a sector; None is off. Instruments of unknown sector count as one
        sector, since nothing shows that they differ.
    risk_lookback, min_risk_sessions
        Sessions of history the report looks at, and the fewest from which it draws a figure.
    """

    max_abs_weight_per_name: float = Field(0.10, ge=0, le=1)
    max_gross: float = Field(1.0, ge=0)
    long_only: bool = True
    max_sector_weight: float | None = Field(None, ge=0)
    risk_lookback: int = Field(252, ge=2)
    min_risk_sessions: int = Field(60, ge=2)


def apply_limits(panel: MarketPanel, book: BookTarget, params: RiskParams) -> TargetPortfolio:
    """Return the weights of `book` within every limit; what a limit takes becomes cash."""
    weights = book.weights
    actions: list[RiskAction] = []
    for limit in _limits(panel, params):
        limited = limit.applied(weights)
        actions += _interventions(panel.instruments, limit, weights, limited)
        weights = limited
    return TargetPortfolio(
        as_of=panel.as_of,
        book_id=book.book_id,
        instruments=panel.instruments,
        weights=weights,
        actions=tuple(actions),
        report=_report(panel, weights, params),
    )


@dataclass(frozen=True)
class _Limit:
    name: str
    value: float
    applied: Callable[[FloatArray], FloatArray]


def _limits(panel: MarketPanel, params: RiskParams) -> Iterator[_Limit]:
    yield _Limit("finite", 0.0, lambda weights: np.where(np.isfinite(weights), weights, 0.0))
    if params.long_only:
        yield _Limit("long_only", 0.0, lambda weights: np.maximum(weights, 0.0))
    cap = params.max_abs_weight_per_name
    yield _Limit("max_abs_weight_per_name", cap, lambda weights: np.clip(weights, -cap, cap))
    sector_cap = params.max_sector_weight
    if sector_cap is not None:
        _, codes = _sectors(panel)
        yield _Limit(
            "max_sector_weight", sector_cap, lambda weights: _grouped(weights, codes, sector_cap)
        )
    one_group = np.zeros(len(panel.instruments), dtype=np.int64)
    gross = params.max_gross
    yield _Limit("max_gross", gross, lambda weights: _grouped(weights, one_group, gross))


def _grouped(weights: FloatArray, codes: IntArray, cap: float) -> FloatArray:
    """Return `weights` with each group of codes scaled down to a gross of at most `cap`."""
    gross = np.bincount(codes, weights=np.abs(weights))
    over = gross > cap * (1.0 + ROUNDING)
    scale = np.where(over, cap / np.where(over, gross, 1.0), 1.0)
    scaled: FloatArray = weights * scale[codes]
    return scaled


def _interventions(
    instruments: tuple[str, ...], limit: _Limit, before: FloatArray, after: FloatArray
) -> list[RiskAction]:
    return [
        RiskAction(
            instrument_id=instruments[row],
            action_type=RiskActionType.CAPPED if after[row] else RiskActionType.REJECTED,
            limit=limit.name,
            limit_value=limit.value,
            weight_before=float(before[row]),
            weight_after=float(after[row]),
        )
        for row in np.flatnonzero(before != after)
    ]


def _report(panel: MarketPanel, weights: FloatArray, params: RiskParams) -> RiskReport:
    """Return the report; the Herfindahl index is of the shares of gross, 0 for an empty book."""
    absolute = np.abs(weights)
    gross, net = float(absolute.sum()), float(weights.sum())
    figures = _Figures.of(*_history(panel, weights, params), params.min_risk_sessions)
    return RiskReport(
        gross_exposure=gross,
        net_exposure=net,
        cash_weight=1.0 - net,
        names=int(np.count_nonzero(weights)),
        herfindahl=float(((absolute / gross) ** 2).sum()) if gross > 0.0 else 0.0,
        largest_weight=float(absolute.max(initial=0.0)),
        volatility=figures.volatility,
        var_95=figures.var_95,
        expected_shortfall_95=figures.expected_shortfall_95,
        beta=figures.beta,
        max_drawdown=figures.max_drawdown,
        exposures_by_sector=_sector_exposures(panel, weights),
    )


def _history(
    panel: MarketPanel, weights: FloatArray, params: RiskParams
) -> tuple[FloatArray, FloatArray]:
    """Return what `weights`, held constant, would have earned per session, and the market's return.

    A missing bar of a held name counts as a return of 0. Sessions on which names with less than
    half of the gross weight have a return are left out, so that zeros cannot pass for calm.
    """
    held = np.flatnonzero(weights)
    own = weights[held]
    returns = np.take(panel.derived(total_returns)[-params.risk_lookback :], held, axis=1)
    missing = np.isnan(returns)
    returns[missing] = 0.0
    covered = np.abs(own).sum() - np.einsum("tn,n->t", missing, np.abs(own))
    used = (covered > 0.0) & (2.0 * covered >= np.abs(own).sum())
    market = panel.derived(equal_weighted_returns)[-params.risk_lookback :]
    return np.einsum("tn,n->t", returns, own)[used], market[used]


@dataclass(frozen=True)
class _Figures:
    """What a history of returns says; None where it cannot."""

    volatility: float | None = None
    var_95: float | None = None
    expected_shortfall_95: float | None = None
    beta: float | None = None
    max_drawdown: float | None = None

    @classmethod
    def of(cls, returns: FloatArray, market: FloatArray, min_sessions: int) -> "_Figures":
        """Return the figures of a history.

        Of n returns the ceil(5% n)-th lowest is the value at risk, and the mean up to it the
        expected shortfall.
        """
        if len(returns) < min_sessions:
            return cls()
        tail = np.sort(returns)[: ceil(TAIL * len(returns))]
        own, common = returns - returns.mean(), market - market.mean()
        scatter = float((common * common).sum())
        return cls(
            volatility=sqrt(float((own * own).sum()) / (len(own) - 1) * SESSIONS_PER_YEAR),
            var_95=float(tail[-1]),
            expected_shortfall_95=float(tail.mean()),
            beta=float((own * common).sum()) / scatter if scatter > 0.0 else None,
            max_drawdown=_deepest_drawdown(returns),
        )


def _deepest_drawdown(returns: FloatArray) -> float:
    value = np.cumprod(1.0 + returns)
    peak = np.maximum(np.maximum.accumulate(value), 1.0)
    return min(float((value / peak).min()) - 1.0, 0.0)


def _sector_exposures(panel: MarketPanel, weights: FloatArray) -> dict[str, float]:
    if not panel.sectors:
        return {}
    names, codes = _sectors(panel)
    net = np.bincount(codes, weights=weights)
    held = np.bincount(codes, weights=weights != 0.0)
    return {names[code]: float(net[code]) for code in np.flatnonzero(held)}


def _sectors(panel: MarketPanel) -> tuple[tuple[str, ...], IntArray]:
    return _sector_codes(panel.sectors or (None,) * len(panel.instruments))


@lru_cache(maxsize=16)
def _sector_codes(sectors: tuple[str | None, ...]) -> tuple[tuple[str, ...], IntArray]:
    labels = np.array([sector or UNKNOWN_SECTOR for sector in sectors])
    names, codes = np.unique(labels, return_inverse=True)
    return tuple(str(name) for name in names), codes.astype(np.int64)
