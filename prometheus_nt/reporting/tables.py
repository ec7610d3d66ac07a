"""The tables of a tearsheet, as HTML; every string from outside is escaped here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from prometheus_nt.meta.findings import RunFinding
from prometheus_nt.reporting.charts import Unavailable
from prometheus_nt.reporting.formats import (
    UNKNOWN,
    Number,
    bps,
    brief_percent,
    percent,
    price,
    ratio,
    usd,
    whole,
)
from prometheus_nt.reporting.metrics import Metrics, regime_figures
from prometheus_nt.reporting.periods import DrawdownPeriod, monthly_returns, yearly_returns
from prometheus_nt.reporting.series import BookRisk, FillTable, RunSeries

Table = str | Unavailable

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LAST_FILLS = 200
LARGEST_POSITIONS = 15


@dataclass(frozen=True)
class Row:
    """One line of the metrics table: where its figure is, what it is called, how it is written."""

    key: str
    label: str
    written: Callable[[Number], str]


METRIC_GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "Return",
        (
            Row("cumulative_return", "Cumulative return", brief_percent),
            Row("cagr", "Compound annual growth", percent),
            Row("best_session", "Best session", percent),
            Row("worst_session", "Worst session", percent),
            Row("worst_month", "Worst month", percent),
            Row("hit_rate", "Winning sessions", brief_percent),
        ),
    ),
    (
        "Risk-adjusted",
        (
            Row("annualised_sharpe", "Sharpe ratio", ratio),
            Row("sharpe_standard_error", "Standard error of the Sharpe ratio", ratio),
            Row("probabilistic_sharpe_ratio", "Probability that it exceeds 0", brief_percent),
            Row("sortino", "Sortino ratio", ratio),
            Row("calmar", "Calmar ratio", ratio),
        ),
    ),
    (
        "Risk",
        (
            Row("annualised_vol", "Volatility, annual", percent),
            Row("max_drawdown", "Deepest drawdown", percent),
            Row("longest_drawdown_sessions", "Longest drawdown, sessions", whole),
            Row("var_95", "Value at risk 95%, session", percent),
            Row("expected_shortfall_95", "Expected shortfall 95%, session", percent),
            Row("tail_ratio", "Tail ratio (95th over 5th percentile)", ratio),
            Row("skew", "Skew", ratio),
            Row("kurtosis", "Kurtosis (normal: 3)", ratio),
        ),
    ),
    (
        "Against the benchmark",
        (
            Row("beta", "Beta", ratio),
            Row("alpha_annual", "Alpha, annual", percent),
            Row("correlation", "Correlation", ratio),
            Row("information_ratio", "Information ratio", ratio),
            Row("tracking_error", "Tracking error, annual", percent),
        ),
    ),
    (
        "Exposure and trading",
        (
            Row("exposure_gross_mean", "Gross exposure, mean", brief_percent),
            Row("exposure_net_mean", "Net exposure, mean", brief_percent),
            Row("exposure_long_mean", "Long positions, mean", brief_percent),
            Row("exposure_short_mean", "Short positions, mean", brief_percent),
            Row("cash_weight_mean", "Cash, mean", brief_percent),
            Row("turnover_annual", "One-way turnover, annual", brief_percent),
            Row("num_fills", "Fills", whole),
            Row("num_sessions", "Sessions", whole),
        ),
    ),
    (
        "Costs and income",
        (
            Row("cost_commission_usd", "Commissions", usd),
            Row("cost_spread_usd", "Spread", usd),
            Row("cost_impact_usd", "Market impact", usd),
            Row("cost_borrow_usd", "Borrow fees of short positions", usd),
            Row("cost_interest_usd", "Interest paid on borrowed cash", usd),
            Row("cost_total_usd", "All costs", usd),
            Row("cost_drag_annual", "All costs, share of equity a year", percent),
            Row("dividends_usd", "Dividends, less those paid on short positions", usd),
            Row("interest_received_usd", "Interest received", usd),
        ),
    ),
)


def metrics_table(metrics: Metrics, benchmark: Metrics, benchmark_name: str) -> str:
    """Return the key figures, the benchmark's beside them where it has its own."""
    groups = []
    for title, rows in METRIC_GROUPS:
        compared = any(row.key in benchmark for row in rows)
        head = (title, "Strategy", benchmark_name) if compared else (title, "Strategy")
        own = [(_text(row.label), row.written(metrics.get(row.key))) for row in rows]
        other = [(row.written(benchmark[row.key]),) if compared else () for row in rows]
        lines = [(*left, *right) for left, right in zip(own, other, strict=True)]
        groups.append(html_table(head, lines, "metrics"))
    return f'<div class="columns">{"".join(groups)}</div>'


def drawdown_table(periods: Sequence[DrawdownPeriod]) -> Table:
    """Return the deepest drawdown periods."""
    if not periods:
        return Unavailable("equity never closed below an earlier high")
    rows = [
        (
            str(number),
            percent(period.depth),
            period.start.isoformat(),
            period.trough.isoformat(),
            period.recovery.isoformat() if period.recovery else "not yet",
            whole(period.sessions),
        )
        for number, period in enumerate(periods, start=1)
    ]
    return html_table(
        ("No.", "Depth", "First below", "Trough", "Recovered", "Sessions below"), rows
    )


def regime_table(series: RunSeries) -> Table:
    """Return the run's figures by the regime known before each session."""
    found = regime_figures(series)
    if not found:
        return Unavailable("the node runs without the regime engine (`without`)")
    rows = [
        (
            _text(each.label),
            whole(each.sessions),
            brief_percent(each.share),
            percent(each.mean_return),
            percent(each.volatility),
            ratio(each.sharpe),
            percent(each.worst_session),
            brief_percent(each.turnover),
            usd(each.costs_usd),
        )
        for each in found
    ]
    head = ("Regime", "Sessions", "Share", "Mean return, annual", "Volatility, annual")
    return html_table((*head, "Sharpe ratio", "Worst session", "Turnover, annual", "Costs"), rows)


def monthly_table(series: RunSeries) -> str:
    """Return the returns of calendar months, shaded by size, and of years."""
    months, values = monthly_returns(series.sessions, series.returns)
    years, totals = yearly_returns(series.sessions, series.returns)
    scale = max(float(np.abs(np.nan_to_num(values)).max()), 1e-9)
    by_month = dict(zip(months.astype(str).tolist(), values.tolist(), strict=True))
    lines = []
    for year, total in zip(years.astype(str).tolist(), totals.tolist(), strict=True):
        cells = [_shaded(by_month.get(f"{year}-{number:02d}"), scale) for number in range(1, 13)]
        total_cell = f'<td class="total">{brief_percent(total)}</td>'
        lines.append(f'<tr><th scope="row">{year}</th>{"".join(cells)}{total_cell}</tr>')
    return _frame(_head(("Year", *MONTHS, "Year total")), lines, "heat")


def positions_table(series: RunSeries) -> Table:
    """Return the positions with the largest average weight, and what is left of them."""
    weights = series.weights[np.isfinite(series.weights).all(axis=1)]
    if not weights.any():
        return Unavailable("nothing was ever held")
    size = np.abs(weights).mean(axis=0)
    order = np.argsort(-size, kind="stable")[:LARGEST_POSITIONS]
    rows = [
        (
            _text(series.instruments[row]),
            _text(series.sectors[row] or "unknown" if series.sectors else "unknown"),
            percent(float(weights[:, row].mean())),
            percent(float(weights[np.argmax(np.abs(weights[:, row])), row])),
            percent(float(weights[-1, row])),
            brief_percent(float((weights[:, row] != 0.0).mean())),
        )
        for row in order
        if size[row] > 0.0
    ]
    head = ("Instrument", "Sector", "Average", "Largest", "Final", "Sessions held")
    return html_table(head, rows, "positions")


def fills_table(fills: FillTable) -> Table:
    """Return the newest fills first, in shares and prices as traded on the day."""
    if not len(fills):
        return Unavailable("the run has no fills")
    rows = [_fill_cells(fills, row) for row in range(len(fills) - 1, -1, -1)[:LAST_FILLS]]
    head = (
        "Time (UTC)",
        "Instrument",
        "Side",
        "Shares",
        "Price",
        "Notional",
        "Commission",
        "Spread",
        "Impact",
        "Decision price",
        "Shortfall, bps",
    )
    return html_table(head, rows, "fills")


def tails_table(risk: BookRisk) -> Table:
    """Return value at risk and expected shortfall of the last book, by method and horizon."""
    if not risk.tails:
        return Unavailable("the last book has too little history")
    found = {(tail.method, tail.sessions, tail.level): tail for tail in risk.tails}
    rows = []
    for method, sessions in dict.fromkeys(key[:2] for key in found):
        both = [found[method, sessions, level] for level in (0.95, 0.99)]
        figures = [(tail.value_at_risk, tail.expected_shortfall) for tail in both]
        cells = [percent(figure) for pair in figures for figure in pair]
        span = "1 session" if sessions == 1 else f"{sessions} sessions"
        rows.append((_text(f"{method.capitalize()}, {span}"), *cells))
    levels = [f"{kind} {level}%" for level in (95, 99) for kind in ("VaR", "Shortfall")]
    return html_table(("Method", *levels), rows)


def contributions_table(risk: BookRisk) -> Table:
    """Return the largest contributions to the last book's volatility."""
    if not risk.volatility:
        return Unavailable("the last book has no known volatility")
    rows = [
        (
            _text(name),
            percent(risk.weights.get(name)),
            percent(part),
            brief_percent(part / risk.volatility),
        )
        for name, part in risk.component_risk.items()
    ]
    return html_table(("Instrument", "Weight", "Of volatility", "Share"), rows)


def stress_table(risk: BookRisk) -> Table:
    """Return what stress would earn the last book."""
    if not risk.stress:
        return Unavailable("the last book is empty")
    rows = [
        (
            _text(row.name.replace("_", " ").capitalize()),
            percent(row.pnl),
            brief_percent(row.covered),
        )
        for row in risk.stress
    ]
    return html_table(("Stress", "Result", "Own data"), rows)


def manifest_table(manifest: Mapping[str, Any]) -> Table:
    """Return what the run was made from, nested names joined by dots."""
    if not manifest:
        return Unavailable("the run has no manifest")
    rows = [(_text(name), _text(value)) for name, value in _flat(manifest)]
    return html_table(("Name", "Value"), rows, "manifest")


def _fill_cells(fills: FillTable, row: int) -> tuple[str, ...]:
    factor = float(fills.split_factor[row])
    paid, decided = float(fills.price[row]), float(fills.decision_price[row])
    direction = 1.0 if fills.side[row] == "BUY" else -1.0
    return (
        str(fills.timestamps[row]).replace("T", " "),
        _text(fills.instrument_id[row]),
        _text(fills.side[row]),
        whole(float(fills.quantity[row]) / factor),
        price(paid * factor),
        usd(float(fills.quantity[row]) * paid),
        usd(float(fills.commission_usd[row])),
        usd(float(fills.spread_cost_usd[row])),
        usd(float(fills.impact_cost_usd[row])),
        price(decided * factor),
        bps(direction * (paid / decided - 1.0)) if decided > 0.0 else bps(None),
    )


def _shaded(value: float | None, scale: float) -> str:
    if value is None:
        return "<td></td>"
    tone = "gain" if value >= 0.0 else "loss"
    strength = 0 if np.isnan(value) else round(55.0 * abs(value) / scale)
    return f'<td class="{tone}" style="--strength:{strength}%">{brief_percent(value)}</td>'


def html_table(head: Iterable[str], rows: Iterable[tuple[str, ...]], kind: str = "") -> str:
    """Return a table; its head is escaped here, its cells have been."""
    lines = [
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    ]
    return _frame(_head(head), lines, kind)


def _head(names: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{_text(name)}</th>' for name in names)


def _frame(head: str, lines: Iterable[str], kind: str) -> str:
    body = "\n".join(lines)
    size = "scroll long" if kind == "fills" else "scroll"
    return (
        f'<div class="{size}" tabindex="0"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _flat(manifest: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in manifest.items():
        match value:
            case Mapping():
                yield from _flat(value, f"{prefix}{name}.")
            case list() | tuple():
                yield f"{prefix}{name}", ", ".join(str(item) for item in value)
            case _:
                yield f"{prefix}{name}", "not stated" if value is None else str(value)


def _text(value: object) -> str:
    return escape(str(value))


def findings_table(findings: Sequence[RunFinding] | None) -> Table:
    """Return what stands against a run, the gravest first, with the evidence and the remedy."""
    if findings is None:
        return Unavailable("the run was recorded before anybody looked; make it again")
    if not findings:
        return "<p>Nothing was found.</p>"
    rows = [
        (
            escape(one.severity.value.lower()),
            escape(one.code),
            escape(one.message),
            "<br>".join(_evidence_row(row) for row in one.evidence) or UNKNOWN,
            escape(one.remedy) or UNKNOWN,
        )
        for one in findings
    ]
    return html_table(("Weight", "Code", "What was found", "Evidence", "Remedy"), rows, "worded")


def _evidence_row(row: Mapping[str, Any]) -> str:
    return escape(", ".join(f"{name} {_figure(value)}" for name, value in row.items()))


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
