"""The report of a meta-portfolio: what it came to, or everything that failed."""

from collections.abc import Sequence
from html import escape
from math import isfinite

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.meta.completeness import MetaPortfolio
from prometheus_nt.meta.findings import errors_of
from prometheus_nt.meta.long_space import ReturnsMatrix
from prometheus_nt.meta.streams import blended, correlation_of
from prometheus_nt.reporting.charts import Chart, Figure, Unavailable
from prometheus_nt.reporting.formats import brief_percent, percent, ratio, whole
from prometheus_nt.reporting.metrics import return_statistics
from prometheus_nt.reporting.sections import Section, render_sections
from prometheus_nt.reporting.tables import Table, html_table

TOP = 10
HUES = 11
THE_WHOLE = "Meta-portfolio"

NOTES = (
    "Members: each is a finished run; its returns are after all of its costs, and were earned "
    "with what was known at each close. What the members' settings were chosen by is not told "
    "here.",
    "Weights: decided once, from the returns up to the day named above. Up to that day they are "
    "in-sample: the figures of the whole knew the returns they are made of. Only what follows "
    "that day is a test.",
    "Rebalancing: the whole is held at constant weights, brought back to them after every session "
    "and free of charge; what moving money between sleeves costs is not deducted.",
)

NESTED = (
    "Nesting: a meta-portfolio as a member is held at its own weights throughout, so before its "
    "own day its returns are in-sample as well."
)


def render_meta_page(meta: MetaPortfolio) -> str:
    """Return one self-contained HTML page, of whatever the meta-portfolio came to."""
    day = meta.as_of or "the day of the weights"
    sections = [
        Section("findings", "Findings", _on_findings(meta), (_findings(meta),)),
        Section(
            "members",
            "Completeness",
            "What was asked for, and the record and the newest target that stand for it.",
            (_members(meta),),
        ),
        Section("weights", "Weights", _on_weights(meta), (_weights(meta),)),
        Section(
            "performance",
            "Performance, in sample",
            f"Up to {day}, of the sessions that all members have, risk-free rate 0. The line of "
            "the whole knew these returns: its weights were chosen with them.",
            (_performance(meta, meta.matrix),),
        ),
        Section(
            "later",
            "Performance, out of sample",
            f"After {day}: what no weight has seen.",
            (_performance(meta, meta.later),),
        ),
        Section("growth", "Growth of 1", _on_growth(meta), (_growth(meta),)),
        Section(
            "correlation",
            "Correlation of the members",
            f"Of session returns up to {day}.",
            (_correlation(meta),),
        ),
        Section("assets", "Largest positions", _on_assets(meta), (_assets(meta),)),
        Section(
            "signs",
            "Directional sign test",
            "Whether every position's sign survived its way through long space into the book.",
            (_signs(meta),),
        ),
    ]
    return render_sections(
        title=meta.meta_id,
        banner=_banner(meta),
        notes=(*NOTES, NESTED) if meta.metas else NOTES,
        sections=sections,
        sessions=_axis(meta),
    )


def _banner(meta: MetaPortfolio) -> str:
    colour = "--gain" if meta.passed else "--loss"
    errors = len(errors_of(meta.findings))
    said = "every gate passed" if meta.passed else f"{whole(errors)} errors; nothing may be traded"
    codes = ", ".join(meta.codes)
    return (
        '<header><div class="wide"><p class="eyebrow">Meta-portfolio</p>'
        f"<h1>{escape(meta.meta_id)}</h1>"
        f'<p id="verdict" style="display:inline-block;margin:6px 0 8px;padding:4px 14px;'
        f'border-radius:6px;color:#fff;font-weight:700;background:var({colour})">'
        f"{meta.verdict}: {escape(said)}</p>"
        f'<p class="facts">as of <b>{meta.as_of or "unknown"}</b> · '
        f"{whole(len(meta.members))} members · method <b>{escape(meta.params.method)}</b>"
        f"{f' · <b>{escape(codes)}</b>' if codes else ''}</p></div></header>"
    )


def _on_findings(meta: MetaPortfolio) -> str:
    failed = len(errors_of(meta.findings))
    return (
        f"{whole(failed)} errors and {whole(len(meta.findings) - failed)} warnings. One error "
        "fails the whole, and then there are neither weights nor targets."
    )


def _findings(meta: MetaPortfolio) -> Table:
    if not meta.findings:
        return Unavailable("nothing was found")
    rows = [
        (
            escape(one.code),
            _level(one.level),
            escape(one.subject or "the whole"),
            escape(one.message),
        )
        for one in meta.findings
    ]
    return html_table(("Code", "Level", "About", "What was found"), rows, "worded")


def _level(level: str) -> str:
    # In one piece, however narrow the column.
    return f'<span style="white-space:nowrap">{level}</span>'


def _names(meta: MetaPortfolio) -> list[str]:
    """Return what the members are called: by run where two are of one sleeve."""
    names = [member.name for member in meta.members]
    if len(set(names)) < len(names):
        return [member.member_id for member in meta.members]
    return names


def _members(meta: MetaPortfolio) -> Table:
    if not meta.members:
        return Unavailable("no member was asked for")
    rows = []
    for member in meta.members:
        stream, sleeve = member.stream, meta.sleeves.get(member.member_id)
        decided = member.decided if sleeve is None else sleeve.decided
        rows.append(
            (
                escape(member.name),
                escape(member.member_id),
                "missing" if stream is None else "present",
                whole(None if stream is None else len(stream)),
                *_span(None if stream is None else stream.sessions),
                "none" if decided is None else str(decided),
            )
        )
    head = ("Member", "Run", "Record", "Sessions", "First", "Last", "Decided")
    return html_table(head, rows, "positions")


def _span(sessions: Sequence[object] | np.ndarray | None) -> tuple[str, str]:
    if sessions is None or not len(sessions):
        return "none", "none"
    return str(sessions[0]), str(sessions[-1])


def _on_weights(meta: MetaPortfolio) -> str:
    found = meta.allocation
    if found is None:
        return "Between the sleeves."
    return (
        f"By {escape(found.method)} from {whole(found.sessions)} sessions, then the nearest "
        f"weights between {brief_percent(found.low)} and {brief_percent(found.high)} that sum to "
        "1; sum and bounds were checked again on them, to a billionth. Effective number of "
        f"members: {ratio(found.effective_number)}."
    )


def _weights(meta: MetaPortfolio) -> Table:
    found = meta.allocation
    if found is None:
        return Unavailable("nothing was allocated")
    rows = [
        (escape(name), percent(raw), percent(weight), percent(weight - raw))
        for name, raw, weight in zip(
            _names(meta), found.raw.tolist(), found.weights.tolist(), strict=True
        )
    ]
    return html_table(("Member", "By the method", "Within bounds", "Moved"), rows)


def _performance(meta: MetaPortfolio, matrix: ReturnsMatrix | None) -> Table:
    if matrix is None or meta.allocation is None:
        return Unavailable("nothing was allocated")
    if not len(matrix):
        return Unavailable("the members have no session in common there")
    rows = []
    for name, returns in _records(meta, matrix):
        levels = _levels(returns)
        found = return_statistics(matrix.sessions, levels)
        rows.append(
            (
                escape(name),
                percent(found["cumulative_return"]),
                percent(found["cagr"]),
                percent(found["annualised_vol"]),
                ratio(found["annualised_sharpe"]),
                percent(found["max_drawdown"]),
                brief_percent(found["hit_rate"]),
                whole(len(returns)),
            )
        )
    head = ("Record", "Cumulative", "Annual growth", "Volatility", "Sharpe ratio")
    return html_table((*head, "Deepest drawdown", "Winning sessions", "Sessions"), rows)


def _records(meta: MetaPortfolio, matrix: ReturnsMatrix) -> list[tuple[str, FloatArray]]:
    """Return the names and returns of the whole and of its members."""
    members = [(name, matrix.values[:, at]) for at, name in enumerate(_names(meta))]
    return [(THE_WHOLE, blended(matrix, meta.weights).returns), *members]


def _levels(returns: FloatArray) -> FloatArray:
    return np.concatenate(([1.0], np.cumprod(1.0 + returns)))


def _axis(meta: MetaPortfolio) -> np.ndarray:
    parts = [part.sessions for part in (meta.matrix, meta.later) if part is not None]
    return np.concatenate(parts) if parts else np.empty(0, "datetime64[D]")


def _on_growth(meta: MetaPortfolio) -> str:
    told = "After each close"
    if meta.later is not None and len(meta.later):
        told += f"; the dotted line is {meta.as_of}, after which the weights are out of sample"
    return told + "."


def _growth(meta: MetaPortfolio) -> Chart:
    if meta.matrix is None or meta.later is None or meta.allocation is None:
        return Unavailable("nothing was allocated")
    whole_span = ReturnsMatrix(
        _axis(meta), meta.matrix.columns, np.concatenate((meta.matrix.values, meta.later.values))
    )
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": escape(name),
            "x": "$sessions",
            "y": [round(level, 6) if isfinite(level) else None for level in _levels(returns)[1:]],
            "line": {
                "color": "--strategy" if not number else f"--hue-{(3 * number) % HUES}",
                "width": 2.5 if not number else 1.2,
            },
        }
        for number, (name, returns) in enumerate(_records(meta, whole_span))
    ]
    line = {"dash": "dot", "color": "#888", "width": 1}
    day = {"type": "line", "x0": str(meta.as_of), "x1": str(meta.as_of), "yref": "paper"}
    layout = {"shapes": [day | {"y0": 0, "y1": 1, "line": line}]} if len(meta.later) else {}
    label = "Line chart of the value of 1 invested in the whole and in each member"
    return Figure("growth", label, traces, layout, can_be_logarithmic=True)


def _correlation(meta: MetaPortfolio) -> Table:
    if meta.matrix is None or not len(meta.matrix):
        return Unavailable("no returns were joined")
    names = _names(meta)
    rows = [
        (escape(name), *map(ratio, line))
        for name, line in zip(names, correlation_of(meta.matrix.values).tolist(), strict=True)
    ]
    return html_table(("Member", *names), rows)


def _on_assets(meta: MetaPortfolio) -> str:
    if meta.book is None:
        return "Of the flattened book."
    gross, net = float(meta.book.gross.sum()), float(meta.book.net.sum())
    return (
        f"{whole(len(meta.book.instruments))} instruments; the sleeves' positions sum to "
        f"{brief_percent(gross)} gross and {brief_percent(net)} net, the rest is cash. Volatility "
        f"of this book held constant, by the year before: {percent(meta.volatility)}."
    )


def _assets(meta: MetaPortfolio) -> Table:
    if meta.book is None or not meta.book.instruments:
        return Unavailable("nothing was flattened")
    ids = {run_id: sleeve.sleeve_id for run_id, sleeve in meta.sleeves.items()}
    rows = [
        (
            escape(row["instrument_id"]),
            row["direction"],
            percent(row["net"]),
            percent(row["gross"]),
            escape(
                ", ".join(
                    f"{one['sleeve_id']} {percent(one['weight'])}" for one in row["contributors"]
                )
            ),
        )
        for row in meta.book.targets(ids)[:TOP]
    ]
    return html_table(("Instrument", "Direction", "Net", "Gross", "Contributors"), rows)


def _signs(meta: MetaPortfolio) -> Table:
    test = meta.sign_test
    if test is None:
        return Unavailable("the test was not reached")
    document = test.document(meta.meta_id)
    labels = {
        "errors": "Errors",
        "warnings": "Warnings",
        "n_atoms": "Atoms",
        "n_long": "Long",
        "n_short": "Short",
        "n_rows": "Sessions compared",
        "capped_days": "Returns of shorts beyond the cap",
    }
    rows = [(label, whole(document[name])) for name, label in labels.items()]
    return html_table(("Sign test", "PASS" if test.passed else "FAIL"), rows)
