"""The page of a selection: the verdict first, then every trial, what was tried, and what failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from prometheus_nt.domain.record import FloatArray, SessionArray
from prometheus_nt.meta.findings import RunFinding, Severity
from prometheus_nt.meta.folds import Fold
from prometheus_nt.meta.selection import Ranked, Selection
from prometheus_nt.reporting.charts import Chart, Figure, Unavailable
from prometheus_nt.reporting.formats import UNKNOWN, Number, brief_percent, percent, ratio, whole
from prometheus_nt.reporting.sections import Section, render_sections
from prometheus_nt.reporting.tables import Table, html_table

HUES = 11
MOST_LINES = 11
"""Curves that one chart can tell apart."""

COMMON = ("family", "market")


@dataclass(frozen=True, eq=False, kw_only=True)
class WalkForward:
    """The record of choosing itself: who was best in each training, and what came of it.

    Attributes
    ----------
    chosen : names, one a fold
    returns : (tested sessions,) array
    """

    folds: tuple[Fold, ...]
    chosen: tuple[str, ...]
    returns: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectionView:
    """What the page shows.

    Attributes
    ----------
    sessions : (T,) array
        Of the whole record.
    tested : (S,) int array
        Its rows out of sample: those that everything was judged on.
    returns : (S, N) array
        In the order of `names`.
    settings : mapping of names to what distinguishes them
    failed : pairs of a name and why it has no record
    findings : mapping of names to what stands against their runs
    """

    title: str
    scope: str
    selection: Selection
    sessions: SessionArray
    tested: np.ndarray
    names: tuple[str, ...]
    returns: FloatArray
    settings: Mapping[str, Mapping[str, object]]
    failed: Sequence[tuple[str, str]]
    walk_forward: WalkForward | None
    notes: Sequence[str]
    findings: Mapping[str, Sequence[RunFinding]] = field(default_factory=dict)


def render_selection(view: SelectionView) -> str:
    """Return one self-contained HTML page."""
    sections = [
        Section("ranking", "Ranking", _on_ranking(view.selection), (_ranking(view.selection),)),
        Section(
            "reasons",
            "Why the verdict is no better",
            "What could not be computed says why.",
            (_reasons(view.selection),),
        ),
        Section(
            "findings",
            "What stands against their runs",
            "A veto rejects, whatever was earned; each run's own page shows the evidence.",
            (_findings(view),),
        ),
        Section("pool", "All trials together", _on_pool(view.selection), (_pool(view.selection),)),
        Section(
            "walk-forward",
            "Choosing, walked forward",
            "Whoever had the best Sharpe ratio in a training is followed through the test after "
            "it: the record of the selection itself, not of its winner."
            + _on_difference(view.selection),
            (_folds(view),),
        ),
        Section(
            "equity",
            "Growth of one dollar out of sample",
            "After all costs, the best ranked; of near-copies only the last drawn can be seen."
            + _on_difference(view.selection),
            (_equity(view),),
        ),
        Section("variants", "What distinguishes them", "", (_settings(view),)),
        Section(
            "failed",
            "Failed trials",
            "They have no record, and are counted.",
            (_failed(view.failed),),
        ),
    ]
    return render_sections(
        title=view.title,
        banner=_banner(view),
        notes=view.notes,
        sections=sections,
        sessions=view.sessions[view.tested],
    )


def _banner(view: SelectionView) -> str:
    pool, selection = view.selection.pool, view.selection
    tested = view.sessions[view.tested]
    span = f"<b>{tested[0]}</b> to <b>{tested[-1]}</b>" if len(tested) else "no session"
    cells = (
        ("Trials", whole(pool["trials"]), f"{whole(pool['trials_ever'])} since ever"),
        ("Effective", ratio(pool["effective"]), f"{whole(pool['distinct'])} different ideas"),
        ("Hurdle of luck", ratio(pool["hurdle"]), "annual Sharpe ratio"),
        ("Overfitting", brief_percent(pool["overfitting"]), "probability (PBO)"),
        ("Best is luck", percent(pool["spa_p"]), "p-value (SPA)"),
        ("Length", f"{ratio(pool['years'])} y", f"{ratio(pool['min_backtest_years'])} y needed"),
    )
    figures = "".join(
        f'<div><dt>{name}</dt><dd>{value}<div class="beside">{beside}</div></dd></div>'
        for name, value, beside in cells
    )
    return (
        f'<header><div class="wide"><p class="eyebrow">{escape(view.scope)}</p>'
        f"<h1>{escape(selection.verdict)}</h1>"
        f'<p class="facts">{escape(view.title)} · {span} · {whole(len(tested))} sessions out of '
        f'sample</p><dl class="headline">{figures}</dl></div></header>'
    )


OBJECTIVES = {
    "sharpe": "Sharpe ratio",
    "cumulative_return": "total return",
    "calmar": "Calmar ratio",
}


def _on_ranking(selection: Selection) -> str:
    rules = selection.rules
    less = "" if rules.against == "zero" else " less those of the benchmark"
    return (
        f"By {OBJECTIVES[rules.objective]}, on returns after all costs{less}, out of "
        "sample. Above zero: probability that the true Sharpe ratio is; deflated: that it exceeds "
        f"the hurdle of luck (formula of {rules.revision}). A survivor earns more than nothing "
        f"with {rules.level:.0%} chance of one mistake among all. Intervals are those of "
        "resampled records; a drawdown deeper than the last one comes in one of forty. Rejected "
        "is whoever has a veto, a record that is too short, or a screen and no run."
        + _on_difference(selection)
    )


def _on_difference(selection: Selection) -> str:
    """Return what growth and drawdowns are of, where they are not of a book alone."""
    if selection.rules.against == "zero":
        return ""
    return (
        " Total returns, drawdowns and growth are those of the difference from the benchmark, "
        "session by session, not of the book."
    )


def _ranking(selection: Selection) -> Table:
    if not selection.ranked:
        return Unavailable("there is no record to judge")
    rows = [_ranking_row(one) for one in selection.ranked]
    head = ("Variant", "Rank", "Verdict", "Selected", "Sharpe ratio", "95% interval")
    proof = ("Above zero", "Deflated", "Sessions", "Needed", "Survivor")
    risk = ("Total return", "Drawdown", "One of forty", "Costs of gross profit")
    return html_table((*head, *proof, *risk), rows)


def _ranking_row(one: Ranked) -> tuple[str, ...]:
    found = one.figures
    low, high = found.get("sharpe_low"), found.get("sharpe_high")
    interval = UNKNOWN if low is None else f"{ratio(low)} to {ratio(high)}"
    survives = found["survives"]
    return (
        escape(one.name),
        whole(one.rank),
        one.verdict.lower(),
        "<b>yes</b>" if one.selected else "no",
        ratio(found["sharpe"]),
        interval,
        brief_percent(found["above_zero"]),
        brief_percent(found["deflated"]),
        whole(found["sessions"]),
        whole(found["sessions_needed"]),
        UNKNOWN if survives is None else ("yes" if survives else "no"),
        percent(found["cumulative_return"]),
        brief_percent(found["max_drawdown"]),
        brief_percent(found.get("drawdown_low")),
        brief_percent(found.get("cost_share")),
    )


def _reasons(selection: Selection) -> Table:
    rows = []
    for one in selection.ranked:
        told = [*one.reasons]
        told += [
            f"{figure.replace('_', ' ')}: not computed, because {why}"
            for figure, why in one.not_computed.items()
        ]
        rows.append((escape(one.name), escape("; ".join(told)) or "nothing stands against it"))
    if not rows:
        return Unavailable("there is no record to judge")
    return html_table(("Variant", "Reasons"), rows, "worded")


def _findings(view: SelectionView) -> Table:
    rows = [
        (escape(one.name), found.severity.value.lower(), *map(escape, _told(found)))
        for one in view.selection.ranked
        for found in view.findings.get(one.name, ())
        if found.severity is not Severity.INFO
    ]
    if not rows:
        return Unavailable("nothing was found")
    return html_table(("Variant", "Weight", "Code", "What was found", "Remedy"), rows, "worded")


def _told(found: RunFinding) -> tuple[str, str, str]:
    return found.code, found.message, found.remedy


def _on_pool(selection: Selection) -> str:
    return (
        "Trials are everything that the families tried on data that overlap, as the ledger counts "
        "them from the first day on, not only what this page lists. The hurdle uses their raw "
        "number. That the best in one half of the sessions is below the middle in the other is "
        f"the probability of overfitting; above {selection.rules.max_overfitting:.0%} nobody is "
        "a candidate."
    )


POOL = (
    ("trials", "Trials on these data", whole),
    ("trials_ever", "Trials since ever", whole),
    ("records", "Records at hand", whole),
    ("failed", "Failed, without a record", whole),
    ("moving", "Records that moved", whole),
    ("distinct", "Different ideas", whole),
    ("effective", "Effective number of ideas", ratio),
    ("hurdle", "Sharpe ratio that luck reaches, annual", ratio),
    ("overfitting", "Probability of overfitting", brief_percent),
    ("loss_probability", "That the best in sample loses out of sample", brief_percent),
    ("slope", "Slope of out of sample on in sample", ratio),
    ("spa_p", "That the best earns nothing in truth, p", percent),
    ("survivors", "Survivors of the stepwise test", whole),
    ("years", "Years of record", ratio),
    ("min_backtest_years", "Years below which luck reaches the target ratio", ratio),
    ("block", "Mean block of the bootstrap, sessions", ratio),
)


def _pool(selection: Selection) -> Table:
    missing = selection.not_computed
    rows = [
        (label, _of_pool(written, selection.pool[key], missing.get(key)))
        for key, label, written in POOL
    ]
    return html_table(("Figure", "Value"), rows)


def _of_pool(written: Callable[[Number], str], value: float | None, why: str | None) -> str:
    if value is not None:
        return written(value)
    return f"not computed, because {escape(why or 'a figure that it needs is unknown')}"


def _folds(view: SelectionView) -> Table:
    walked = view.walk_forward
    if walked is None:
        return Unavailable("the campaign has no folds: every session is judged")
    ends = np.cumsum([fold.test[1] - fold.test[0] for fold in walked.folds])
    rows = []
    for fold, name, end in zip(walked.folds, walked.chosen, ends.tolist(), strict=True):
        earned = walked.returns[end - (fold.test[1] - fold.test[0]) : end]
        rows.append(
            (
                f"{view.sessions[fold.test[0]]} to {view.sessions[fold.test[1] - 1]}",
                f"{view.sessions[fold.train[0]]} to {view.sessions[fold.train[1] - 1]}",
                escape(name),
                percent(float(np.prod(1.0 + earned)) - 1.0),
            )
        )
    whole_record = float(np.prod(1.0 + walked.returns)) - 1.0
    changes = len(set(walked.chosen))
    rows.append(("All tests", "", f"{changes} different choices", percent(whole_record)))
    return html_table(("Test", "Training", "Best in training", "Return in the test"), rows)


def _equity(view: SelectionView) -> Chart:
    if not view.selection.ranked or not len(view.tested):
        return Unavailable("there is no record to draw")
    columns = {name: column for column, name in enumerate(view.names)}
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": escape(one.name),
            "x": "$sessions",
            "y": np.cumprod(1.0 + view.returns[:, columns[one.name]]).round(5).tolist(),
            "line": {"color": f"--hue-{number % HUES}", "width": 1.5},
        }
        for number, one in enumerate(view.selection.ranked[:MOST_LINES])
    ]
    label = "Line chart of the growth of one dollar of the best ranked variants"
    return Figure("equity", label, traces, {}, can_be_logarithmic=True)


def _settings(view: SelectionView) -> Table:
    names = list(
        dict.fromkeys(name for one in view.settings.values() for name in one if name not in COMMON)
    )
    if not names:
        return Unavailable("no settings were recorded")
    rows = [
        (
            escape(name),
            *(escape(str(view.settings.get(name, {}).get(setting, UNKNOWN))) for setting in names),
        )
        for name in [one.name for one in view.selection.ranked] + [name for name, _ in view.failed]
    ]
    return html_table(("Variant", *names), rows)


def _failed(failed: Sequence[tuple[str, str]]) -> Table:
    if not failed:
        return Unavailable("none failed")
    return html_table(
        ("Variant", "Why"), [(escape(name), escape(why)) for name, why in failed], "worded"
    )
