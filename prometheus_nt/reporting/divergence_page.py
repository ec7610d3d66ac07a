"""A divergence on one page: the gap, its causes, when and where it opened, and the evidence."""

from collections.abc import Sequence
from html import escape

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.reporting.charts import DOLLARS, Chart, Figure, Trace, Unavailable
from prometheus_nt.reporting.divergence_figures import (
    cause_rows,
    worst_instruments,
    worst_sessions,
)
from prometheus_nt.reporting.divergence_records import (
    CAUSES,
    CENT,
    Divergence,
    Evidence,
)
from prometheus_nt.reporting.formats import ratio, usd, whole
from prometheus_nt.reporting.sections import Section, render_sections
from prometheus_nt.reporting.tables import Table, html_table

HUES = (3, 1, 9, 5, 4, 8, 10, 0, 7, 6)
"""Colours of the causes, apart from each other on light and dark."""

MOST_EVIDENCE = 200
MOST_LISTED = 15


def render_divergence(found: Divergence, tolerance_bps: float, notes: Sequence[str]) -> str:
    """Return one self-contained HTML page.

    Parameters
    ----------
    tolerance_bps : float
        The largest gap of any session that passes, basis points of the backtest's equity.
    notes : sequence of str
        What a reader must know before believing a number; plain text.
    """
    sections = [
        Section(
            "causes",
            "Causes",
            "Run less backtest after the last close. The parts add up to the whole; a cause keeps "
            "the shares it opened until a later order closes them.",
            (_causes(found),),
        ),
        Section("gap", "Gap", "After each close, and its parts.", (_gap_chart(found),)),
        Section("equity", "Equity", "After each close.", (_equity_chart(found),)),
        Section(
            "sessions",
            "Worst sessions",
            "Where the gap or its parts changed most.",
            (_sessions(found),),
            half_width=True,
        ),
        Section(
            "instruments",
            "Worst instruments",
            "Parts of the gap after the last close.",
            (_instruments(found),),
            half_width=True,
        ),
        Section("events", "Faults and actions", ON_EVENTS, (_events(found),)),
        Section("evidence", "Evidence", _on_evidence(found), (_evidence(found),)),
    ]
    return render_sections(
        title=f"Divergence of {found.run_a}",
        banner=_banner(found, tolerance_bps),
        notes=notes,
        sections=sections,
        sessions=found.sessions,
    )


ON_EVENTS = (
    "What was recorded beside the plans, and what it comes to. An event without a part touched no "
    "order, or what it touched came out the same."
)


def _on_evidence(found: Divergence) -> str:
    shown = min(MOST_EVIDENCE, len(found.evidence))
    return (
        f"{whole(shown)} of {whole(len(found.evidence))} differences, the largest first. Shares "
        "and cash are run less backtest; worth is their sum at the last marks. Under an event, "
        "the words in brackets are what the difference would be called without it."
    )


def _banner(found: Divergence, tolerance_bps: float) -> str:
    passed = max(found.worst_bps, found.residual_bps) <= tolerance_bps
    counts = found.counts
    figures = (
        ("Gap at the end", usd(found.total), ""),
        ("Worst session", f"{ratio(found.worst_bps)} bps", f"of {ratio(tolerance_bps)} allowed"),
        ("Verdict", "Within" if passed else "Outside", "tolerance"),
        (
            "Orders the same",
            whole(counts.orders_same),
            f"of {whole(counts.orders_a)} and {whole(counts.orders_b)}",
        ),
        (
            "Fills the same",
            whole(counts.fills_same),
            f"of {whole(counts.fills_a)} and {whole(counts.fills_b)}",
        ),
        ("Unexplained", f"{ratio(found.residual_bps)} bps", "at most"),
    )
    cells = "".join(
        f'<div><dt>{label}</dt><dd>{value}</dd><div class="beside">{beside}</div></div>'
        for label, value, beside in figures
    )
    sessions = found.sessions
    return (
        '<header><div class="wide"><p class="eyebrow">Divergence</p>'
        f"<h1>{escape(found.run_a)}</h1>"
        f'<p class="facts">beside <b>{escape(found.run_b)}</b> · <b>{sessions[0]}</b> to '
        f"<b>{sessions[-1]}</b> · {whole(len(sessions))} sessions</p>"
        f'<dl class="headline">{cells}</dl></div></header>'
    )


def _causes(found: Divergence) -> Table:
    rows = [
        (
            row["cause"],
            usd(row["usd"]),
            ratio(row["bps"]),
            usd(row["largest_usd"]),
            whole(row["evidence"]),
            row["meaning"],
        )
        for row in cause_rows(found)
    ]
    total = (
        "<b>All</b>",
        f"<b>{usd(found.total)}</b>",
        ratio(1e4 * found.total / float(found.equity_b[-1])),
        usd(float(found.gap[np.argmax(np.abs(found.gap))])),
        whole(len(found.evidence)),
        "",
    )
    head = ("Cause", "At the end", "Basis points", "Largest", "Differences", "What it is")
    return html_table(head, [*rows, total])


def _gap_chart(found: Divergence) -> Chart:
    if float(np.abs(found.parts).max()) < CENT / 2:
        return Unavailable("no session has a gap")
    traces = [_line("Gap", found.gap, "--strategy", 2.5)]
    for cause, hue, part in zip(CAUSES, HUES, found.parts.T, strict=True):
        if float(np.abs(part).max()) > CENT / 2:
            traces.append(_line(cause.value, part, f"--hue-{hue}", 1.2))
    label = "Line chart of the gap and of each cause's part in dollars"
    return Figure("gap", label, traces, {"yaxis": DOLLARS})


def _equity_chart(found: Divergence) -> Chart:
    traces = [
        _line("Run", found.equity_a, "--strategy", 2.0),
        _line("Backtest", found.equity_b, "--benchmark", 1.5),
    ]
    label = "Line chart of the equity of the run and of the backtest in dollars"
    return Figure("equity", label, traces, {"yaxis": DOLLARS})


def _line(name: str, values: FloatArray, colour: str, width: float) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": "$sessions",
        "y": [round(value, 2) for value in values.tolist()],
        "line": {"color": colour, "width": width},
    }


def _sessions(found: Divergence) -> Table:
    rows = [
        (row["session"], usd(row["usd"]), ratio(row["bps"]), _list(row["causes"]))
        for row in worst_sessions(found, MOST_LISTED)
    ]
    if not rows:
        return Unavailable("no session has a gap")
    return html_table(("Session", "Change", "Basis points", "Causes"), rows)


def _instruments(found: Divergence) -> Table:
    rows = [
        (escape(row["instrument_id"] or "none"), usd(row["usd"]), _list(row["causes"]))
        for row in worst_instruments(found, MOST_LISTED)
    ]
    if not rows:
        return Unavailable("no instrument has a gap")
    return html_table(("Instrument", "At the end", "Causes"), rows)


def _list(causes: dict[str, float]) -> str:
    return "<br>".join(f"{cause} {usd(amount)}" for cause, amount in causes.items())


def _events(found: Divergence) -> Table:
    if not found.events:
        return Unavailable("none was recorded")
    rows = [
        (
            escape(event.name),
            event.session.isoformat(),
            escape(event.instrument_id or "any"),
            usd(part),
            escape(event.detail),
        )
        for event, part in zip(found.events, found.event_parts, strict=True)
    ]
    return html_table(("Event", "Session", "Instrument", "At the end", "What was recorded"), rows)


def _evidence(found: Divergence) -> Table:
    largest = sorted(found.evidence, key=lambda item: -abs(item.worth))[:MOST_EVIDENCE]
    if not largest:
        return Unavailable("the runs are the same, order for order and fill for fill")
    rows = [
        (
            item.session.isoformat(),
            escape(item.instrument_id or "none"),
            _named(item),
            f"{item.shares:,.6g}",
            usd(item.cash),
            usd(item.worth),
            escape(item.detail),
        )
        for item in largest
    ]
    head = ("Session", "Instrument", "Cause", "Shares", "Cash", "Worth", "Why")
    return html_table(head, rows)


def _named(item: Evidence) -> str:
    if not item.event:
        return item.cause.value
    return f"{item.cause.value}: {escape(item.event)} ({item.mechanism.value})"
