"""The figures of a run by key: its own record, its record against a benchmark, what it paid.

Formulas and conventions are those of `performance`; a figure that is undefined is None, never 0.
"""

from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray, SessionArray
from prometheus_nt.reporting.performance import (
    alpha_annual,
    annual_rate,
    annualised_sharpe,
    annualised_volatility,
    beta,
    cagr,
    calmar,
    correlation,
    cumulative_return,
    expected_shortfall,
    hit_rate,
    if_known,
    kurtosis,
    longest_drawdown_sessions,
    max_drawdown,
    probabilistic_sharpe_ratio,
    sharpe_standard_error,
    skew,
    sortino,
    tail_ratio,
    value_at_risk,
)
from prometheus_nt.reporting.periods import monthly_returns
from prometheus_nt.reporting.series import COST_KINDS, RunSeries, simple_returns

Metrics = dict[str, float | int | None]


def compute_metrics(series: RunSeries) -> Metrics:
    """Return every figure of the run, by key; None where it is undefined."""
    levels = np.concatenate(([series.starting_capital], series.equity))
    own = return_statistics(series.sessions, levels)
    return own | relative_statistics(series) | trading_statistics(series)


def return_statistics(sessions: SessionArray, levels: FloatArray) -> Metrics:
    """Return the figures that need one track record only.

    Parameters
    ----------
    sessions : (T,) array
    levels : (T + 1,) array
        The level before the first session, then after each.
    """
    returns = simple_returns(levels)
    sharpe = annualised_sharpe(returns)
    return {
        "cumulative_return": cumulative_return(levels),
        "cagr": cagr(levels),
        "annualised_vol": annualised_volatility(returns),
        "annualised_sharpe": sharpe,
        "sharpe_ratio": sharpe,
        "sharpe_standard_error": sharpe_standard_error(returns),
        "probabilistic_sharpe_ratio": probabilistic_sharpe_ratio(returns),
        "sortino": sortino(returns),
        "calmar": calmar(levels),
        "max_drawdown": max_drawdown(levels),
        "longest_drawdown_sessions": longest_drawdown_sessions(levels),
        "var_95": value_at_risk(returns),
        "expected_shortfall_95": expected_shortfall(returns),
        "tail_ratio": tail_ratio(returns),
        "skew": skew(returns),
        "kurtosis": kurtosis(returns),
        "hit_rate": hit_rate(returns),
        "best_session": if_known(np.max, returns),
        "worst_session": if_known(np.min, returns),
        "worst_month": if_known(np.min, monthly_returns(sessions, returns)[1]),
    }


def relative_statistics(series: RunSeries) -> Metrics:
    """Return the figures that compare the run with its benchmark, from the second session on."""
    own, other = series.returns[1:], series.benchmark_returns
    benchmark = benchmark_statistics(series)
    if other is None:
        own = other = np.empty(0)
    return {
        "beta": beta(own, other),
        "alpha_annual": alpha_annual(own, other),
        "correlation": correlation(own, other),
        "information_ratio": annualised_sharpe(own - other),
        "tracking_error": annualised_volatility(own - other),
        "benchmark_cumulative_return": benchmark.get("cumulative_return"),
        "benchmark_annualised_sharpe": benchmark.get("annualised_sharpe"),
        "benchmark_max_drawdown": benchmark.get("max_drawdown"),
    }


def benchmark_statistics(series: RunSeries) -> Metrics:
    """Return `return_statistics` of the benchmark from its first close; empty without one."""
    if series.benchmark is None:
        return {}
    return return_statistics(series.sessions[1:], series.benchmark)


def trading_statistics(series: RunSeries) -> Metrics:
    """Return what the run held, traded and paid."""
    totals = {kind: float(series.costs[kind].sum()) for kind in COST_KINDS}
    before = np.concatenate(([series.starting_capital], series.equity[:-1]))
    spent = np.sum([series.costs[kind] for kind in COST_KINDS], axis=0)
    return {
        "turnover_annual": annual_rate(series.turnover),
        "cost_commission_usd": totals["commission"],
        "cost_spread_usd": totals["spread"],
        "cost_impact_usd": totals["impact"],
        "cost_borrow_usd": totals["borrow_fees"],
        "cost_interest_usd": totals["interest_paid"],
        "cost_total_usd": sum(totals.values()),
        "cost_drag_annual": annual_rate(spent / np.where(before > 0.0, before, np.nan)),
        "dividends_usd": float(series.dividends.sum()),
        "interest_received_usd": _received(series, "interest_received"),
        "exposure_gross_mean": if_known(np.mean, series.gross),
        "exposure_net_mean": if_known(np.mean, series.net),
        "exposure_long_mean": if_known(np.mean, series.long),
        "exposure_short_mean": if_known(np.mean, series.short),
        "cash_weight_mean": if_known(np.mean, series.cash),
        "num_fills": len(series.fills),
        "num_sessions": len(series),
    }


def _received(series: RunSeries, kind: str) -> float:
    flows = series.other_cash_flows
    return float(flows[kind].sum()) if kind in flows else 0.0


@dataclass(frozen=True)
class RegimeFigures:
    """A run's sessions that began in one regime; rates are annual, None where too few to say."""

    label: str
    sessions: int
    share: float
    mean_return: float | None
    volatility: float | None
    sharpe: float | None
    worst_session: float | None
    turnover: float | None
    costs_usd: float


def regime_figures(series: RunSeries) -> list[RegimeFigures]:
    """Return the figures of each regime, the most frequent first; empty if none was recorded.

    A session belongs to the regime that was known before it began, so that the table says what a
    reader could have expected, not what the session itself turned the regime into.
    """
    if series.regimes is None:
        return []
    labels = [label for label in dict.fromkeys(series.regimes.tolist()) if label is not None]
    figures = [_of_regime(series, label, series.regimes == label) for label in labels]
    return sorted(figures, key=lambda each: -each.sessions)


def _of_regime(series: RunSeries, label: str, inside: BoolArray) -> RegimeFigures:
    returns = series.returns[inside]
    costs = sum(float(series.costs[kind][inside].sum()) for kind in COST_KINDS)
    return RegimeFigures(
        label=label,
        sessions=len(returns),
        share=len(returns) / len(series),
        mean_return=annual_rate(returns),
        volatility=annualised_volatility(returns),
        sharpe=annualised_sharpe(returns),
        worst_session=float(returns.min()) if np.isfinite(returns).all() else None,
        turnover=annual_rate(series.turnover[inside]),
        costs_usd=costs,
    )
