"""Several runs on one page: what they earned and paid, in which regimes, and how alike they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.reporting.charts import DOLLARS, Chart, Figure, Unavailable
from prometheus_nt.reporting.formats import (
    Number,
    brief_percent,
    percent,
    ratio,
    signed,
    usd,
    whole,
)
from prometheus_nt.reporting.isolation import Isolation, decay
from prometheus_nt.reporting.luck import Luck, luck_of
from prometheus_nt.reporting.metrics import Metrics, compute_metrics, regime_figures
from prometheus_nt.reporting.overlap import book_overlap, require_same_sessions, return_correlation
from prometheus_nt.reporting.sections import Section, render_sections
from prometheus_nt.reporting.series import COST_KINDS, RunSeries
from prometheus_nt.reporting.tables import Table, html_table

HUES = 11
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class FamilyQuality:
    """How one family of a sleeve's scores ranked the returns of the next `horizon` sessions.

    mean, low, high : rank information coefficient and its 95 % interval; None where unknown.
    turnover : share of the ranking that was new from one decision to the next.
    """

    sleeve_id: str
    family: str
    horizon: int
    decisions: int
    mean: float | None
    low: float | None
    high: float | None
    turnover: float | None


def render_comparison(
    runs: Sequence[RunSeries],
    alpha: Sequence[FamilyQuality],
    title: str,
    notes: Sequence[str],
    tried: int = 0,
    parts: Sequence[Isolation] = (),
) -> str:
    """Return one self-contained HTML page.

    Parameters
    ----------
    runs : sequence of RunSeries over the same sessions, in the order to be shown
    alpha : sequence of FamilyQuality
        Empty if no run stored its scores.
    tried : int
        What the families of these runs tried on these sessions, as the ledger counts it.
    parts : sequence of Isolation, one a run
        Empty where the runs' data are not at hand.

    Raises
    ------
    DataError
        If the runs do not cover the same sessions.
    """
    require_same_sessions(runs)
    figures = [compute_metrics(run) for run in runs]
    luck = luck_of(np.column_stack([run.returns for run in runs]), tried)
    sections = [
        Section(
            "sleeves",
            "Sleeves",
            "After all costs, risk-free rate 0. The interval is the Sharpe ratio's own 95% "
            "interval, as if each sleeve had been the only one tried.",
            (_sleeves(runs, figures),),
        ),
        Section("luck", "Luck", _on_luck(luck), (_luck(runs, luck),)),
        Section("equity", "Equity", "After each close.", (_equity(runs),)),
        Section(
            "costs",
            "Costs and cash flows",
            "Whole run in dollars, and all of it as a share of equity a year; what is received is "
            "positive in the columns of cash flows.",
            (_costs(runs, figures),),
        ),
        Section(
            "isolation",
            "Choice, weights and costs",
            "Means a year. Selection: the names held, equally weighted, less all names, equally "
            "weighted. Weights: the run's own per unit of gross, less the same names equally "
            "weighted. Before costs adds back all that was paid. An account, not a cause: in "
            "sample it flatters what was tuned.",
            (_parts(runs, parts),),
        ),
        Section(
            "regimes",
            "By regime",
            "Each session under the regime of the close before it, as it was known then.",
            (_regimes(runs),),
        ),
        Section(
            "alpha",
            "Alpha families, out of sample",
            "Mean rank correlation of each family's scores with the returns that followed its "
            "decisions, from the next close on, over as many sessions as the column says; in "
            "brackets its 95% interval, which allows for overlap. In bold where the interval "
            "leaves out zero: of twenty useless families one does so by luck.",
            (_alpha(alpha),),
        ),
        Section(
            "books",
            "Books in common",
            "Mean share of two books that is the same name on the same side: 100% is the same "
            "book, 0% one without a common name.",
            (_matrix(runs, book_overlap(runs), brief_percent),),
        ),
        Section(
            "correlation",
            "Correlation of returns",
            "Of session returns.",
            (_matrix(runs, return_correlation(runs), ratio),),
        ),
    ]
    return render_sections(
        title=title,
        banner=_banner(runs, title),
        notes=notes,
        sections=sections,
        sessions=runs[0].sessions,
    )


def _banner(runs: Sequence[RunSeries], title: str) -> str:
    sessions = runs[0].sessions
    return (
        '<header><div class="wide"><p class="eyebrow">Comparison of runs</p>'
        f"<h1>{escape(title)}</h1>"
        f'<p class="facts"><b>{sessions[0]}</b> to <b>{sessions[-1]}</b> · '
        f"{whole(len(sessions))} sessions · {whole(len(runs))} sleeves</p></div></header>"
    )


def _sleeves(runs: Sequence[RunSeries], figures: Sequence[Metrics]) -> Table:
    rows = [
        (
            escape(run.sleeve_id),
            percent(found["cagr"]),
            percent(found["annualised_vol"]),
            ratio(found["annualised_sharpe"]),
            _interval(found),
            brief_percent(found["max_drawdown"]),
            brief_percent(found["exposure_gross_mean"]),
            brief_percent(found["exposure_net_mean"]),
            brief_percent(found["turnover_annual"]),
            percent(found["cost_drag_annual"]),
            ratio(found["beta"]),
            whole(found["num_fills"]),
        )
        for run, found in zip(runs, figures, strict=True)
    ]
    earned = ("Sleeve", "Annual growth", "Volatility", "Sharpe ratio", "95% interval")
    risked = ("Deepest drawdown", "Gross, mean", "Net, mean", "Turnover, annual")
    return html_table((*earned, *risked, "Costs a year", "Beta", "Fills"), rows)


def _interval(figures: Metrics) -> str:
    sharpe, error = figures["annualised_sharpe"], figures["sharpe_standard_error"]
    if sharpe is None or error is None:
        return ratio(None)
    return _between(sharpe - NORMAL_95 * error, sharpe + NORMAL_95 * error)


def _on_luck(luck: Luck) -> str:
    return (
        f"{whole(len(luck.records))} records, {whole(luck.distinct)} of them different; their "
        f"families made {whole(luck.trials)} trials on these sessions, as the ledger counts them "
        "from the first day on. The "
        f"best of as many is expected to show a Sharpe ratio of {ratio(luck.hurdle)} by luck "
        "alone; the deflated ratio is the probability that the true one exceeds that (formula of "
        f"2014). That the best in one half of the sessions is below the middle in the other: "
        f"{brief_percent(luck.overfitting)}. That the best of all earns nothing in truth: p = "
        f"{ratio(luck.best_is_luck)}. A survivor earns more than nothing with 5% chance of one "
        "mistake among all; the interval and the drawdown are those of resampled records."
    )


def _luck(runs: Sequence[RunSeries], luck: Luck) -> Table:
    rows = [
        (
            escape(run.sleeve_id),
            ratio(None) if one.sharpe is None else _between(one.sharpe.low, one.sharpe.high),
            brief_percent(one.above_zero),
            brief_percent(one.above_luck),
            ratio(one.years_needed),
            {True: "yes", False: "no", None: ratio(None)}[one.survives],
            brief_percent(one.deepest_drawdown),
        )
        for run, one in zip(runs, luck.records, strict=True)
    ]
    head = ("Sleeve", "Sharpe ratio, resampled", "Above zero", "Deflated", "Years needed")
    return html_table((*head, "Survivor", "Drawdown in one of forty"), rows)


def _between(low: float, high: float) -> str:
    return f"{ratio(low)} to {ratio(high)}"


def _equity(runs: Sequence[RunSeries]) -> Chart:
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": escape(run.sleeve_id),
            "x": "$sessions",
            "y": [round(value, 2) for value in run.equity.tolist()],
            "line": {"color": f"--hue-{number % HUES}", "width": 1.5},
        }
        for number, run in enumerate(runs)
    ]
    positive = all(bool((run.equity > 0.0).all()) for run in runs)
    label = "Line chart of the equity of every sleeve in dollars"
    return Figure("equity", label, traces, {"yaxis": DOLLARS}, can_be_logarithmic=positive)


def _costs(runs: Sequence[RunSeries], figures: Sequence[Metrics]) -> Table:
    costs = list(dict.fromkeys(kind for run in runs for kind in run.costs))
    flows = list(dict.fromkeys(kind for run in runs for kind in run.other_cash_flows))
    rows = []
    for run, found in zip(runs, figures, strict=True):
        nothing = np.zeros(len(run))
        paid = [usd(float(run.costs.get(kind, nothing).sum())) for kind in costs]
        received = [usd(float(run.other_cash_flows.get(kind, nothing).sum())) for kind in flows]
        drag = percent(found["cost_drag_annual"])
        dividends = usd(float(run.dividends.sum()))
        rows.append((escape(run.sleeve_id), *paid, drag, dividends, *received))
    kinds = (*map(_named, costs), "All costs a year", "Dividends", *map(_named, flows))
    return html_table(("Sleeve", *kinds), rows)


def _parts(runs: Sequence[RunSeries], parts: Sequence[Isolation]) -> Table:
    if not parts:
        return Unavailable("the runs' data are not at hand")
    rows = []
    for run, part in zip(runs, parts, strict=True):
        costs = np.sum([run.costs[kind] for kind in COST_KINDS], axis=0)
        lost = decay(run.equity, run.starting_capital, costs)
        rows.append(
            (
                escape(run.sleeve_id),
                percent(part.pool),
                percent(part.selection_alpha),
                percent(part.optimisation_alpha),
                percent(lost.return_before),
                percent(lost.return_after),
                ratio(lost.sharpe_before),
                ratio(lost.sharpe_after),
            )
        )
    head = ("Sleeve", "All names", "Selection", "Weights", "Return before costs", "After costs")
    return html_table((*head, "Sharpe ratio before", "After"), rows)


def _regimes(runs: Sequence[RunSeries]) -> Table:
    rows = [
        (
            escape(run.sleeve_id),
            escape(each.label),
            whole(each.sessions),
            percent(each.mean_return),
            percent(each.volatility),
            ratio(each.sharpe),
            brief_percent(each.turnover),
            usd(each.costs_usd),
        )
        for run in runs
        for each in regime_figures(run)
    ]
    if not rows:
        return Unavailable("no run recorded a regime")
    head = ("Sleeve", "Regime", "Sessions", "Mean return, annual", "Volatility, annual")
    return html_table((*head, "Sharpe ratio", "Turnover, annual", "Costs"), rows)


def _alpha(qualities: Sequence[FamilyQuality]) -> Table:
    if not qualities:
        return Unavailable("no run stored its scores (`persistence.engine_rows`)")
    horizons = sorted({one.horizon for one in qualities})
    by_key = {(one.sleeve_id, one.family, one.horizon): one for one in qualities}
    rows = []
    for sleeve_id, family in dict.fromkeys((one.sleeve_id, one.family) for one in qualities):
        of_family = [by_key.get((sleeve_id, family, horizon)) for horizon in horizons]
        known = [one for one in of_family if one is not None]
        rows.append(
            (
                escape(sleeve_id),
                escape(family.replace("_", " ")),
                whole(max(one.decisions for one in known)),
                *map(_coefficient, of_family),
                brief_percent(known[0].turnover),
            )
        )
    ahead = (f"{horizon} sessions" for horizon in horizons)
    return html_table(("Sleeve", "Family", "Decisions", *ahead, "New ranks a decision"), rows)


def _coefficient(one: FamilyQuality | None) -> str:
    if one is None or one.mean is None:
        return ratio(None)
    text = signed(one.mean)
    if one.low is None or one.high is None:
        return text
    text = f"{text} ({signed(one.low)} to {signed(one.high)})"
    return f"<b>{text}</b>" if one.low > 0.0 or one.high < 0.0 else text


def _matrix(
    runs: Sequence[RunSeries], values: FloatArray, written: Callable[[Number], str]
) -> Table:
    names = [run.sleeve_id for run in runs]
    rows = [
        (escape(name), *(written(value) for value in line))
        for name, line in zip(names, values.tolist(), strict=True)
    ]
    return html_table(("Sleeve", *names), rows)


def _named(kind: str) -> str:
    return kind.replace("_", " ").capitalize()
