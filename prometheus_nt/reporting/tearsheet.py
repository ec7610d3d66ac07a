"""A run on one page, to be shown to whoever owns the money.

1. `_banner` says what was run, and what the result rests on.
2. `_sections` lists the page from the key figures to what the run was made from.
3. `sections.render_sections` puts style, scripts and data inside, so that nothing is fetched.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from prometheus_nt.domain.record import SessionArray
from prometheus_nt.meta.findings import RunFinding
from prometheus_nt.reporting.charts import (
    ROLLING_LOOKBACK,
    Chart,
    Unavailable,
    cost_chart,
    drawdown_chart,
    equity_chart,
    exposure_chart,
    income_chart,
    position_chart,
    rolling_sharpe_chart,
    sector_chart,
    turnover_chart,
    yearly_chart,
)
from prometheus_nt.reporting.formats import Number, brief_percent, percent, ratio, usd, whole
from prometheus_nt.reporting.metrics import Metrics, benchmark_statistics
from prometheus_nt.reporting.periods import drawdown_periods
from prometheus_nt.reporting.sections import Section, render_sections
from prometheus_nt.reporting.series import BookRisk, RunSeries
from prometheus_nt.reporting.tables import (
    LAST_FILLS,
    contributions_table,
    drawdown_table,
    fills_table,
    findings_table,
    manifest_table,
    metrics_table,
    monthly_table,
    positions_table,
    regime_table,
    stress_table,
    tails_table,
)

HEADLINE = (
    ("cumulative_return", "Cumulative return", brief_percent),
    ("cagr", "Annual growth", percent),
    ("annualised_sharpe", "Sharpe ratio", ratio),
    ("annualised_vol", "Volatility", brief_percent),
    ("max_drawdown", "Deepest drawdown", brief_percent),
    ("cost_drag_annual", "Costs a year", percent),
)

METRICS_CAPTION = (
    "252 sessions a year, risk-free rate 0, after all costs; n/a where a figure is undefined. "
    "The strategy is measured from its starting capital, the benchmark from its first close, the "
    "comparison from the second session. The probability treats this run as the only one tried."
)


def render_tearsheet(
    series: RunSeries,
    metrics: Metrics,
    manifest: Mapping[str, Any],
    notes: Sequence[str],
    findings: Sequence[RunFinding] | None = None,
) -> str:
    """Return one self-contained HTML page; it fetches nothing.

    Parameters
    ----------
    metrics : dict
        From `metrics.compute_metrics`.
    manifest : mapping
        What the run was made from: hashes, versions, settings; may be nested.
    notes : sequence of str
        What a reader must know before believing a number: the data set and whether its bars are
        synthetic, survivorship, fill timing, the cost model.
    findings : sequence of RunFinding, optional
        What stands against the run; None if nobody looked.
    """
    made_from = {name: value for name, value in manifest.items() if value != notes}
    sections = [_findings_section(findings), *_sections(series, metrics, made_from)]
    return render_sections(
        title=f"{series.sleeve_id} {series.mode.value.lower()} {series.run_id}",
        banner=_banner(series, metrics),
        notes=_notes(series, notes),
        sections=sections,
        sessions=series.sessions,
    )


def _findings_section(findings: Sequence[RunFinding] | None) -> Section:
    caption = "A veto keeps the run from being selected; a warning is for a person to weigh."
    return Section("findings", "What stands against it", caption, (findings_table(findings),))


def _sections(series: RunSeries, metrics: Metrics, manifest: Mapping[str, Any]) -> list[Section]:
    return [
        *_performance_sections(series, metrics),
        *_trading_sections(series),
        *_position_sections(series),
        Section(
            "fills",
            "Fills",
            f"{_last_fills(len(series.fills))} Shares and prices as traded on the day; shortfall "
            "is the price paid against the decision price, positive if worse.",
            (fills_table(series.fills),),
        ),
        Section(
            "reproducibility",
            "Reproducibility",
            "What the run was made from: the same inputs give the same orders.",
            (manifest_table(manifest),),
        ),
    ]


def _performance_sections(series: RunSeries, metrics: Metrics) -> list[Section]:
    name = series.benchmark_id or "Benchmark"
    figures = metrics_table(metrics, benchmark_statistics(series), name)
    periods = drawdown_periods(series.sessions, series.equity, start=series.starting_capital)
    return [
        Section("metrics", "Key figures", METRICS_CAPTION, (figures,)),
        Section("equity", "Equity", _equity_caption(series), _with_benchmark(series)),
        Section(
            "drawdown",
            "Drawdown",
            "How far equity is below its highest close so far.",
            (drawdown_chart(series),),
        ),
        Section(
            "drawdown-periods",
            "Deepest drawdown periods",
            "The ten deepest stretches below an earlier high.",
            (drawdown_table(periods),),
        ),
        Section(
            "monthly",
            "Monthly returns",
            "The first and the last month count as far as the run goes.",
            (monthly_table(series),),
        ),
        Section(
            "regimes",
            "By regime",
            "Each session under the regime of the close before it, as it was known then.",
            (regime_table(series),),
        ),
        Section("yearly", "Yearly returns", "Calendar years.", (yearly_chart(series),), True),
        Section(
            "rolling-sharpe",
            "Rolling Sharpe ratio",
            f"Annualised, of the last {ROLLING_LOOKBACK} sessions.",
            (rolling_sharpe_chart(series),),
            True,
        ),
    ]


def _trading_sections(series: RunSeries) -> list[Section]:
    return [
        Section(
            "exposure",
            "Exposure",
            "Gross, net and cash at each close, as shares of equity.",
            (exposure_chart(series),),
            True,
        ),
        Section(
            "turnover",
            "Turnover",
            "One-way traded notional by month, as a share of equity.",
            (turnover_chart(series),),
            True,
        ),
        Section(
            "costs",
            "Costs",
            "Cumulated, by kind, of trading and of holding; all are in the returns above.",
            (cost_chart(series),),
            True,
        ),
        Section(
            "income",
            "Dividends and other cash flows",
            "Cumulated, by kind; all are in the returns above.",
            (income_chart(series),),
            True,
        ),
    ]


def _position_sections(series: RunSeries) -> list[Section]:
    return [
        Section(
            "positions",
            "Positions",
            "Weights at each close; largest by average absolute weight.",
            (position_chart(series), positions_table(series)),
        ),
        Section(
            "sectors",
            "Sectors",
            "Net weight of each sector at each close.",
            (sector_chart(series),),
        ),
        *_risk_sections(series.risk),
    ]


def _risk_sections(risk: BookRisk | None) -> list[Section]:
    if risk is None:
        return []
    book = "The target after" if risk.basis == "target" else "What was held at"
    return [
        Section(
            "tail-risk",
            "Tail risk of the last book",
            f"{book} the close of {risk.as_of}, held at constant weights; a loss is negative.",
            (tails_table(risk),),
        ),
        Section(
            "contributions",
            "Who carries the risk",
            "The ten largest contributions to annual volatility; negative is a hedge.",
            (contributions_table(risk),),
            True,
        ),
        Section(
            "stress",
            "Stress",
            "What has no data of its own moves as its beta times the market.",
            (stress_table(risk),),
            True,
        ),
    ]


def _banner(series: RunSeries, metrics: Metrics) -> str:
    first, last = _window(series.sessions)
    benchmark = benchmark_statistics(series)
    numbers = "".join(
        f"<div><dt>{label}</dt><dd>{written(metrics.get(key))}"
        f'<div class="beside">{_beside(benchmark, key, written)}</div></dd></div>'
        for key, label, written in HEADLINE
    )
    return (
        f'<header><div class="wide"><p class="eyebrow">{escape(series.mode.value)} tearsheet</p>'
        f"<h1>{escape(series.sleeve_id)}</h1>"
        f'<p class="facts">Strategy <b>{escape(series.strategy_id)}</b> · '
        f"Run <b>{escape(series.run_id)}</b></p>"
        f'<p class="facts"><b>{first}</b> to <b>{last}</b> · {whole(len(series))} sessions · '
        f"{usd(series.starting_capital)} became <b>{usd(float(series.equity[-1]))}</b></p>"
        f'<dl class="headline">{numbers}</dl></div></header>'
    )


def _notes(series: RunSeries, notes: Sequence[str]) -> list[str]:
    return [*notes, *_ruin(series)] or [
        "Not available: the run did not state its data set, survivorship, fill timing or costs."
    ]


def _ruin(series: RunSeries) -> list[str]:
    ruined = np.flatnonzero(series.equity <= 0.0)
    if not len(ruined):
        return []
    return [
        f"Equity was no longer positive at the close of {series.sessions[ruined[0]]}: returns "
        "after that are undefined, and so is every figure made from them."
    ]


def _with_benchmark(series: RunSeries) -> tuple[Chart, ...]:
    if series.benchmark is not None:
        return (equity_chart(series),)
    reason = "the run has no benchmark to compare with"
    if series.benchmark_id is not None:
        reason = f"{escape(series.benchmark_id)} has no level on some session of the run"
    return equity_chart(series), Unavailable(reason)


def _equity_caption(series: RunSeries) -> str:
    if series.benchmark is None:
        return "After each close."
    name = escape(series.benchmark_id or "The benchmark")
    return f"After each close. {name} is bought with the same capital at its first close."


def _beside(benchmark: Metrics, key: str, written: Callable[[Number], str]) -> str:
    return f"benchmark {written(benchmark[key])}" if key in benchmark else ""


def _last_fills(count: int) -> str:
    if count <= LAST_FILLS:
        return f"All {whole(count)} fills of the run, newest first."
    return f"The last {LAST_FILLS} of {whole(count)} fills, newest first."


def _window(sessions: SessionArray) -> tuple[str, str]:
    return str(sessions[0].astype("datetime64[D]")), str(sessions[-1].astype("datetime64[D]"))
