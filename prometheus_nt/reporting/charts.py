"""The charts of a tearsheet as Plotly figures: plain dictionaries, coloured by the page's theme.

A value like "--strategy" is a colour of the page's style sheet, and an `x` of "$sessions" the
run's session axis, which the page holds once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from math import ceil
from typing import Any

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray, SessionArray
from prometheus_nt.reporting.performance import rolling_sharpe
from prometheus_nt.reporting.periods import drawdowns, yearly_returns
from prometheus_nt.reporting.series import COST_KINDS, RunSeries

SESSION_AXIS = "$sessions"
ROLLING_LOOKBACK = 126
LARGEST = 10
MOST_YEAR_LABELS = 8
OTHERS = "All others"
PALETTE = 11
UNKNOWN_SECTOR = "Unknown"

PERCENT = {"tickformat": ".2~%", "hoverformat": ".2%"}
DOLLARS = {"tickformat": "$~s", "hoverformat": "$,.0f"}

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One chart: `name` identifies it on the page, `label` says what it shows to who cannot see."""

    name: str
    label: str
    traces: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    can_be_logarithmic: bool = False


@dataclass(frozen=True)
class Unavailable:
    """Why there is nothing to show."""

    reason: str


Chart = Figure | Unavailable


def equity_chart(series: RunSeries) -> Chart:
    """Return equity after each close, with the benchmark bought at its first close."""
    traces = [_strategy(series.equity, "--strategy", digits=2)]
    if series.benchmark is not None:
        level = series.benchmark / series.benchmark[0] * series.starting_capital
        traces.append(_line(_benchmark_name(series), level, "--benchmark", digits=2))
    return Figure(
        "equity",
        "Line chart of equity in dollars, strategy and benchmark",
        traces,
        {"yaxis": DOLLARS},
        can_be_logarithmic=bool((series.equity > 0.0).all()),
    )


def drawdown_chart(series: RunSeries) -> Chart:
    """Return how far equity is below its highest close so far."""
    depth = drawdowns(np.concatenate(([series.starting_capital], series.equity)))[1:]
    if not (depth < 0.0).any():
        return Unavailable("equity never closed below an earlier high")
    strategy = _strategy(depth, "--loss") | {"fill": "tozeroy", "fillcolor": "--loss-soft"}
    traces = [strategy]
    if series.benchmark is not None:
        name = _benchmark_name(series)
        traces.append(_line(name, drawdowns(series.benchmark), "--benchmark"))
    label = "Area chart of the fall of equity from its highest close so far"
    return Figure("drawdown", label, traces, {"yaxis": PERCENT})


def yearly_chart(series: RunSeries) -> Chart:
    """Return the returns of calendar years, next to the benchmark's."""
    years, own = yearly_returns(series.sessions, series.returns)
    traces = [_bars("Strategy", _numbers(years), own, "--strategy")]
    if series.benchmark_returns is not None:
        other_years, other = yearly_returns(series.sessions[1:], series.benchmark_returns)
        name = _benchmark_name(series)
        traces.append(_bars(name, _numbers(other_years), other, "--benchmark"))
    spacing = {"tickformat": "d", "dtick": ceil(len(years) / MOST_YEAR_LABELS)}
    layout = {"yaxis": PERCENT, "barmode": "group", "xaxis": spacing}
    return Figure("yearly", "Bar chart of returns by calendar year", traces, layout)


def rolling_sharpe_chart(series: RunSeries) -> Chart:
    """Return the annualised Sharpe ratio of the last 126 sessions."""
    ratio = rolling_sharpe(series.returns, ROLLING_LOOKBACK)
    if not np.isfinite(ratio).any():
        return Unavailable(
            f"it needs {ROLLING_LOOKBACK} sessions with varying returns, the run has {len(series)}"
        )
    traces = [_strategy(ratio, "--strategy", digits=3)]
    if series.benchmark_returns is not None:
        other = np.concatenate(([np.nan], rolling_sharpe(series.benchmark_returns)))
        traces.append(_line(_benchmark_name(series), other, "--benchmark", digits=3))
    layout = {"yaxis": {"tickformat": ".1f", "hoverformat": ".2f"}}
    return Figure("rolling-sharpe", "Line chart of the rolling Sharpe ratio", traces, layout)


def exposure_chart(series: RunSeries) -> Chart:
    """Return gross and net exposure and cash at each close."""
    traces = [
        _line("Gross", series.gross, "--strategy"),
        _line("Net", series.net, "--hue-3") | {"line": _pen("--hue-3", dash="dash")},
        _line("Cash", series.cash, "--benchmark"),
    ]
    return Figure("exposure", "Line chart of exposures and cash", traces, {"yaxis": PERCENT})


def turnover_chart(series: RunSeries) -> Chart:
    """Return the one-way turnover of each calendar month."""
    if not series.turnover.any():
        return Unavailable("nothing was traded")
    months, first = np.unique(series.sessions.astype("datetime64[M]"), return_index=True)
    total = np.add.reduceat(series.turnover, first)
    bars = _bars("One-way turnover", months.astype(str).tolist(), total, "--strategy")
    bars |= {"xperiod": "M1", "xperiodalignment": "middle"}
    return Figure("turnover", "Bar chart of turnover by month", [bars], {"yaxis": PERCENT})


def cost_chart(series: RunSeries) -> Chart:
    """Return what trading and holding have cost so far, by kind, stacked."""
    charged = [
        (hue, kind)
        for hue, kind in zip((0, 3, 5, 7, 9), COST_KINDS, strict=True)
        if series.costs[kind].any()
    ]
    if not charged:
        return Unavailable("no cost was charged")
    traces = [
        _area(_worded(kind), np.cumsum(series.costs[kind]), f"--hue-{hue}", digits=2)
        for hue, kind in charged
    ]
    label = "Stacked area chart of cumulated costs in dollars"
    return Figure("costs", label, traces, {"yaxis": DOLLARS})


def income_chart(series: RunSeries) -> Chart:
    """Return the cash that came without a trade so far, by kind."""
    flows = {"dividends": series.dividends, **series.other_cash_flows}
    paid = {kind: flow for kind, flow in flows.items() if flow.any()}
    if not paid:
        return Unavailable("no dividend or other cash flow was booked")
    traces = [
        _line(escape(_worded(kind)), np.cumsum(flow), hue, digits=2)
        for (kind, flow), hue in zip(paid.items(), _hues(len(paid)), strict=True)
    ]
    label = "Line chart of cumulated dividends and other cash flows in dollars"
    return Figure("income", label, traces, {"yaxis": DOLLARS})


def position_chart(series: RunSeries) -> Chart:
    """Return the weights of the largest positions over time, the others added up."""
    size = np.nan_to_num(np.abs(series.weights)).sum(axis=0)
    if not size.any():
        return Unavailable("nothing was ever held")
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    top, others = order[:LARGEST], order[LARGEST:]
    groups = {escape(series.instruments[row]): series.weights[:, row] for row in top}
    if len(others):
        groups[OTHERS] = series.weights[:, others].sum(axis=1)
    label = "Chart of the weights of the largest positions over time"
    return _composition("positions", label, groups)


def sector_chart(series: RunSeries) -> Chart:
    """Return the net weight of each sector over time."""
    if not any(series.sectors):
        return Unavailable("no sector is known for these instruments")
    if not np.nan_to_num(series.weights).any():
        return Unavailable("nothing was ever held")
    names = np.array([sector or UNKNOWN_SECTOR for sector in series.sectors])
    totals = {name: series.weights[:, names == name].sum(axis=1) for name in np.unique(names)}
    held = {name: total for name, total in totals.items() if np.nan_to_num(total).any()}
    order = sorted(held, key=lambda name: -float(np.nansum(held[name])))
    label = "Chart of sector weights over time"
    return _composition("sectors", label, {escape(str(name)): held[name] for name in order})


def _composition(name: str, label: str, groups: dict[str, FloatArray]) -> Figure:
    # Areas cannot be stacked across zero: with short positions the weights are lines.
    draw = _line if any(np.nanmin(weights) < 0.0 for weights in groups.values()) else _area
    traces = [
        draw(group, weights, "--benchmark" if group == OTHERS else hue, digits=4)
        for (group, weights), hue in zip(groups.items(), _hues(len(groups)), strict=True)
    ]
    return Figure(name, label, traces, {"yaxis": PERCENT})


def _worded(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def _line(name: str, values: FloatArray, colour: str, digits: int = 5) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": SESSION_AXIS,
        "y": _plain(values, digits),
        "line": _pen(colour),
    }


def _strategy(values: FloatArray, colour: str, digits: int = 5) -> Trace:
    # Named first, yet drawn over the benchmark.
    return _line("Strategy", values, colour, digits) | {"zorder": 1}


def _area(name: str, values: FloatArray, colour: str, digits: int = 5) -> Trace:
    trace = _line(name, values, colour, digits)
    return trace | {"line": {"width": 0.5, "color": colour}, "stackgroup": "1"}


def _bars(name: str, axis: list[Any], values: FloatArray, colour: str) -> Trace:
    marker = {"color": colour}
    return {"type": "bar", "name": name, "x": axis, "y": _plain(values, 5), "marker": marker}


def _numbers(years: SessionArray) -> list[int]:
    return [int(year) for year in years.astype(str).tolist()]


def _pen(colour: str, dash: str = "solid") -> dict[str, Any]:
    return {"color": colour, "width": 1.5, "dash": dash}


def _hues(count: int) -> Iterator[str]:
    return (f"--hue-{number % PALETTE}" for number in range(count))


def _benchmark_name(series: RunSeries) -> str:
    return escape(series.benchmark_id or "Benchmark")


def _plain(values: FloatArray, digits: int) -> list[float | None]:
    known: BoolArray = np.isfinite(values)
    rounded = np.round(values, digits).tolist()
    return [value if ok else None for value, ok in zip(rounded, known.tolist(), strict=True)]
