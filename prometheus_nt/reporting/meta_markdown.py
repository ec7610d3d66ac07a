"""The report of a meta-portfolio as plain text: every section is there, and none of them is empty.

A section that has nothing to tell says why. `unfinished_sections` reads a report again and names
those that are absent or empty, so that a report that was cut off is no report.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.meta.completeness import MetaPortfolio
from prometheus_nt.meta.findings import errors_of
from prometheus_nt.meta.streams import Stream, blended, correlation_of
from prometheus_nt.reporting.formats import brief_percent, percent, ratio, whole
from prometheus_nt.reporting.metrics import return_statistics

SECTIONS = (
    "Trace",
    "Completeness",
    "Directional sign test",
    "Performance",
    "Weights",
    "Correlation",
    "Largest positions",
    "Record health",
    "Anomalies",
    "Findings",
)

TOP = 10
WINDOW = 63
"""Sessions over which a record is looked at for what cannot be true."""

MAX_SHARPE, MAX_VOLATILITY = 10.0, 2.0
"""Annual; beyond them a window is told, because data are likelier to be wrong."""

Row = Sequence[str]


def render_meta_markdown(meta: MetaPortfolio) -> str:
    """Return the whole report, of whatever the meta-portfolio came to."""
    made = (
        _trace(meta),
        _completeness(meta),
        _signs(meta),
        _performance(meta),
        _weights(meta),
        _correlation(meta),
        _positions(meta),
        _health(meta),
        _anomalies(meta),
        _findings(meta),
    )
    parts = [_banner(meta)]
    parts += [f"## {name}\n\n{text}" for name, text in zip(SECTIONS, made, strict=True)]
    return "\n\n".join(parts) + "\n"


def unfinished_sections(report: str) -> list[str]:
    """Return the sections of a report that are absent or empty, in order."""
    found = {}
    for part in report.split("\n## ")[1:]:
        name, _, text = part.partition("\n")
        found[name] = text.strip()
    return [name for name in SECTIONS if not found.get(name)]


def _banner(meta: MetaPortfolio) -> str:
    failed = len(errors_of(meta.findings))
    said = "every gate passed" if meta.passed else f"{failed} errors; nothing may be traded"
    codes = f"\n\nCodes: {', '.join(meta.codes)}" if meta.codes else ""
    return (
        f"# {meta.meta_id}\n\n**{meta.verdict}**: {said}{codes}\n\n"
        f"As of {meta.as_of or 'an unknown day'}, {whole(len(meta.members))} members, method "
        f"{meta.params.method}."
    )


def _trace(meta: MetaPortfolio) -> str:
    stages = {
        "members gathered": bool(meta.members),
        "returns joined": meta.matrix is not None,
        "weights allocated": meta.allocation is not None,
        "book flattened": meta.book is not None,
        "signs tested": meta.sign_test is not None,
    }
    rows = [(name, "done" if done else "not reached") for name, done in stages.items()]
    return _table(("Stage", "State"), rows) + "\n\nHashes of every file: `completeness.json`."


def _completeness(meta: MetaPortfolio) -> str:
    rows = []
    for member in meta.members:
        there, sleeve = member.stream is not None, meta.sleeves.get(member.member_id)
        decided = member.decided if sleeve is None else sleeve.decided
        rows.append(
            (
                member.name,
                member.member_id,
                "present" if there else "missing",
                whole(len(member.stream)) if member.stream is not None else "0",
                str(decided or "none"),
            )
        )
    return _table(("Member", "Run", "Record", "Sessions", "Decided"), rows, "no member was named")


def _signs(meta: MetaPortfolio) -> str:
    if meta.sign_test is None:
        return "FAIL: the test was not reached."
    told = meta.sign_test.document(meta.meta_id)
    rows = [(name, whole(told[name])) for name in ("errors", "warnings", "n_atoms", "n_short")]
    rows += [(one["code"], one["message"]) for one in told["findings"]]
    verdict = "PASS" if meta.sign_test.passed else "FAIL"
    return f"{verdict}\n\n" + _table(("Sign test", "Found"), rows)


def _performance(meta: MetaPortfolio) -> str:
    if meta.matrix is None or meta.allocation is None or not len(meta.matrix):
        return "Nothing was allocated."
    whole_book = blended(meta.matrix, meta.weights).returns
    records = {"the whole, in sample": whole_book}
    records |= dict(zip(_names(meta), meta.matrix.values.T, strict=True))
    rows = []
    for name, returns in records.items():
        found = return_statistics(
            meta.matrix.sessions, np.concatenate(([1.0], np.cumprod(1.0 + returns)))
        )
        figures = ("annualised_sharpe", "cagr", "annualised_vol", "max_drawdown", "hit_rate")
        shown = (ratio, percent, percent, percent, brief_percent)
        rows.append((name, *(show(found[one]) for show, one in zip(shown, figures, strict=True))))
    head = ("Record", "Sharpe ratio", "Annual growth", "Volatility", "Deepest drawdown", "Winning")
    return _table(head, rows)


def _weights(meta: MetaPortfolio) -> str:
    found = meta.allocation
    if found is None:
        return "Nothing was allocated."
    rows = [
        (name, percent(raw), percent(weight))
        for name, raw, weight in zip(
            _names(meta), found.raw.tolist(), found.weights.tolist(), strict=True
        )
    ]
    return (
        _table(("Member", "By the method", "Within bounds"), rows)
        + f"\n\nEffective number of members: {ratio(found.effective_number)}."
    )


def _correlation(meta: MetaPortfolio) -> str:
    if meta.matrix is None or not len(meta.matrix):
        return "No returns were joined."
    names, found = _names(meta), correlation_of(meta.matrix.values).tolist()
    rows = [(name, *map(ratio, line)) for name, line in zip(names, found, strict=True)]
    return _table(("Member", *names), rows)


def _positions(meta: MetaPortfolio) -> str:
    if meta.book is None:
        return "Nothing was flattened."
    ids = {run_id: sleeve.sleeve_id for run_id, sleeve in meta.sleeves.items()}
    rows = [
        (
            row["instrument_id"],
            row["direction"],
            percent(row["net"]),
            percent(row["gross"]),
            ", ".join(
                f"{one['sleeve_id']} {percent(one['weight'])}" for one in row["contributors"]
            ),
        )
        for row in meta.book.targets(ids)[:TOP]
    ]
    head = ("Instrument", "Direction", "Net", "Gross", "Contributors")
    return _table(head, rows, "the book holds nothing")


def _health(meta: MetaPortfolio) -> str:
    rows = [
        (sleeve.sleeve_id, sleeve.run_id, _state(sleeve.stream, sleeve.book is not None))
        for sleeve in meta.sleeves.values()
    ]
    rows += [
        (member.name, member.member_id, "MISSING")
        for member in meta.members
        if member.stream is None
    ]
    return _table(("Sleeve", "Run", "Health"), rows, "there is no sleeve")


def _state(stream: Stream, has_book: bool) -> str:
    whole_record = bool(len(stream)) and bool(np.isfinite(stream.returns).all())
    return "HEALTHY" if whole_record and has_book else "DEGRADED"


def _anomalies(meta: MetaPortfolio) -> str:
    rows: list[tuple[float, Row]] = []
    for sleeve in meta.sleeves.values():
        ends, sharpe, volatility = _windows(sleeve.stream)
        odd = (np.abs(sharpe) > MAX_SHARPE) | (volatility > MAX_VOLATILITY)
        for at in np.flatnonzero(odd).tolist():
            told = (sleeve.run_id, str(ends[at]), ratio(sharpe[at]), percent(volatility[at]))
            rows.append((abs(float(sharpe[at])), told))
    worst = [row for _, row in sorted(rows, key=lambda one: -one[0])[:TOP]]
    head = ("Run", f"{WINDOW} sessions to", "Sharpe ratio", "Volatility")
    nothing = f"no {WINDOW} sessions of a record are too good or too wild to be true"
    return _table(head, worst, nothing)


def _windows(stream: Stream) -> tuple[np.ndarray, FloatArray, FloatArray]:
    """Return the ends, Sharpe ratios and volatilities of consecutive windows of a record."""
    count = len(stream) // WINDOW
    if not count:
        return np.empty(0), np.empty(0), np.empty(0)
    returns = stream.returns[-count * WINDOW :].reshape(count, WINDOW)
    deviation = returns.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpe = returns.mean(axis=1) / deviation * sqrt(SESSIONS_PER_YEAR)
    ends = stream.sessions[-count * WINDOW :].reshape(count, WINDOW)[:, -1]
    return ends, sharpe, deviation * sqrt(SESSIONS_PER_YEAR)


def _findings(meta: MetaPortfolio) -> str:
    rows = [(one.level, one.code, one.subject or "the whole", one.message) for one in meta.findings]
    return _table(("Level", "Code", "About", "What was found"), rows, "nothing was found")


def _names(meta: MetaPortfolio) -> list[str]:
    """Return what the members are called: by run where two are of one sleeve."""
    names = [member.name for member in meta.members]
    return names if len(set(names)) == len(names) else [one.member_id for one in meta.members]


def _table(head: Row, rows: Sequence[Row], nothing: str = "nothing") -> str:
    if not rows:
        return f"None: {nothing}."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
