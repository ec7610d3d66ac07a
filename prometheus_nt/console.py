"""What commands print: tables, documents, progress and complaints; no logic."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console, JustifyMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

out = Console()
err = Console(stderr=True)


@contextmanager
def progress_bars(*, one: bool = False) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a progress callback that draws bars on a terminal, and None elsewhere.

    Parameters
    ----------
    one : bool
        True if every call is about the same job, so that one bar shows it.
    """
    if err.is_terminal:
        with _bars(one) as advance:
            yield advance
    else:
        yield None


@contextmanager
def _bars(one: bool) -> Iterator[Callable[[int, int, str], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(done: int, total: int, label: str) -> None:
            key = label if total > 1000 and not one else str(total)
            if key not in tasks:
                tasks[key] = bars.add_task(label, total=total)
            bars.update(tasks[key], completed=done, description=label)

        yield advance


def say(text: str) -> None:
    """Print a line for the person who watches, not for a program that reads."""
    err.print(text, highlight=False, soft_wrap=True)


def emit(document: Any, as_json: bool, print_text: Callable[[], None]) -> None:
    """Print `document` as JSON, or let the caller print it as text."""
    if as_json:
        print_json(document)
    else:
        print_text()


def print_json(document: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    as_json: bool,
    *,
    as_csv: bool = False,
) -> None:
    """Print rows as a table, as a JSON list of objects, or as CSV with its heading."""
    rows = list(rows)
    if as_csv:
        print_csv(columns, rows)
        return
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    if not rows:
        say("nothing found")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, column in enumerate(columns):
        justify: JustifyMethod = "right" if _numeric(row[at] for row in rows) else "left"
        table.add_column(column, no_wrap=True, justify=justify)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    # A terminal wraps a long line better than rich squeezes a column.
    Console(width=MOST_COLUMNS).print(table, crop=False)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print comma-separated values: unknown is empty, a document is JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)


def _csv_cell(value: Any) -> Any:
    match value:
        case dict() | list():
            return json.dumps(value, default=str)
        case datetime():
            return value.isoformat()
        case _:
            return value


def print_status(document: dict[str, Any], as_json: bool) -> None:
    """Print how the orders of a portfolio stand, then the newest orders and fills."""
    if as_json:
        print_json(document)
        return
    print_rows(("state", "orders"), list(document["states"].items()), as_json=False)
    for name in ("orders", "fills"):
        rows = document[name]
        if rows:
            print_rows(tuple(rows[0]), [tuple(row.values()) for row in rows], as_json=False)


def print_fields(document: dict[str, Any], as_json: bool) -> None:
    """Print the fields of one thing, a line each, or as a JSON object."""
    if as_json:
        print_json(document)
        return
    print_rows(("field", "value"), list(document.items()), as_json=False)


MOST_COLUMNS = 1000
MOST_JSON = 60
"""Characters of a document in a table; `--json` prints all of it."""


def _numeric(values: Iterable[Any]) -> bool:
    """Return whether the known values of a column are numbers, and there is one."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float() if value.is_integer():
            return f"{value:,.0f}"
        case float():
            return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.2f}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case dict() | list():
            text = json.dumps(value, default=str)
            return plain(text if len(text) <= MOST_JSON else f"{text[:MOST_JSON]}...")
        case _:
            return plain(str(value))


def plain(text: str) -> str:
    """Return text that rich prints as it is written."""
    # Square brackets are markup to rich; a message must be shown as it was written.
    return text.replace("[", "\\[")


RUN_FIGURES = (
    ("CAGR", "cagr", ".2%"),
    ("volatility", "annualised_vol", ".2%"),
    ("Sharpe", "annualised_sharpe", ".2f"),
    ("max drawdown", "max_drawdown", ".2%"),
    ("turnover/yr", "turnover_annual", ".2f"),
    ("costs/yr", "cost_drag_annual", ".2%"),
    ("beta", "beta", ".2f"),
    ("fills", "num_fills", ",d"),
)


def print_runs(runs: Sequence[Any], as_json: bool) -> None:
    """Print the headline figures of runs, and where their reports are."""
    if as_json:
        print_json([asdict(run) for run in runs])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("sleeve")
    table.add_column("sessions")
    for title, _, _ in RUN_FIGURES:
        table.add_column(title, justify="right")
    table.add_column("orders hash")
    for run in runs:
        figures = [_figure(run.metrics.get(key), spec) for _, key, spec in RUN_FIGURES]
        table.add_row(run.sleeve_id, f"{run.start}..{run.end}", *figures, run.order_list_hash)
    Console(width=MOST_COLUMNS).print(table, crop=False)
    for run in runs:
        note = "  (recorded before; --force runs it again)" if run.cached else ""
        out.print(f"{run.report}{note}", highlight=False, soft_wrap=True)
    idle = [run.sleeve_id for run in runs if not run.metrics.get("num_fills")]
    if idle:
        say(
            f"never traded: {', '.join(idle)}; engines need history before the first session, "
            "`prometheus check warmup` tells how much"
        )


def _figure(value: float | None, spec: str) -> str:
    return "n/a" if value is None else format(value, spec)


def print_issues(issues: Sequence[Any], most: int = 20) -> None:
    """Print the first findings about data, and how many more there are."""
    for issue in issues[:most]:
        say(f"  {issue.severity}: {plain(issue.message)}")
    if len(issues) > most:
        say(f"  and {len(issues) - most} more: prometheus data check DATASET lists them all")


def print_audit(audit: Any, findings: Sequence[Any], most: int = 20) -> None:
    """Print the health of every instrument, the first findings, and a summary."""
    print_rows(audit.columns, audit.rows(), as_json=False)
    for finding in findings[:most]:
        say(f"  {finding['severity']}: {plain(finding['message'])}")
    if len(findings) > most:
        say(f"  and {len(findings) - most} more: --rule RULE or --json lists them")
    rules: dict[str, int] = {}
    for finding in findings:
        rules[finding["rule"]] = rules.get(finding["rule"], 0) + 1
    if rules:
        say("open findings: " + ", ".join(f"{count} {rule}" for rule, count in rules.items()))
    counted = ", ".join(f"{count} {health}" for health, count in audit.summary().items() if count)
    say(
        f"{audit.dataset_id} as of {audit.as_of}: {counted or 'no instrument'};"
        f" {audit.received} of {audit.expected} have that session's bar"
    )
    if audit.compared is not None:
        say(f"{audit.differing} of {audit.compared:,} returns differ between the sources")


def print_difference(found: Any, as_json: bool) -> None:
    """Print what differs between two revisions: one by one if short, else per instrument."""
    if as_json:
        print_json(asdict(found) | {"total": found.total})
        return
    say(
        f"{found.before.dataset_id}: revision {found.before.revision} to {found.after.revision},"
        f" {found.total:,} facts differ"
    )
    if found.complete:
        columns = ("instrument_id", "date", "field", "kind", "old", "new")
        rows = [tuple(getattr(each, name) for name in columns) for each in found.changes]
    else:
        columns = ("instrument_id", "field", "kind", "changes", "first", "last")
        rows = [tuple(getattr(each, name) for name in columns) for each in found.counts]
        say("counted per instrument; a higher --limit lists every change")
    print_rows(columns, rows, as_json=False)


def print_similar(report: Any, as_json: bool) -> None:
    """Print what a search found, and what the neighbours' outcomes suggest."""
    if as_json:
        print_json(report.document())
        return
    print_rows(report.columns, report.rows, as_json=False)
    for name, figure in report.expected.items():
        if figure["mean"] is not None:
            error = figure["standard_error"]
            spread = "" if error is None else f" +- {error:.4g}"
            say(f"{name} of the similar: {figure['mean']:.4g}{spread} ({figure['count']})")


def print_databases(urls: Sequence[str], state: str, as_json: bool) -> None:
    """Print the addresses of both databases and their state."""
    rows = list(zip(("historical", "runtime"), urls, (state, state), strict=True))
    print_rows(("database", "url", "state"), rows, as_json)
