"""`prometheus demo|backtest|report|compare`: make runs and look at them."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import (
    Assignments,
    ConfigPaths,
    JsonFlag,
    NoApplied,
    RunArgument,
    node_of,
    read_settings,
)
from prometheus_nt.console import emit, out, print_rows, print_runs, progress_bars, say


def demo(
    config: Annotated[Path, typer.Option(help="Node to run.")] = Path(
        "configs/us_core_long_eq.yaml"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Ingest the bundled real data, backtest US_CORE_LONG_EQ and make its report.

    Example: [cyan]prometheus demo[/]
    """
    from prometheus_nt.jobs.demo import run_demo

    with progress_bars() as progress:
        result = run_demo(read_settings(), config, say=say, progress=progress)
    if not as_json:
        for report in result.ingests:
            say(
                f"{report.dataset_id}: {len(report.loaded)} instruments, "
                f"{report.rows_written:,} rows written, {len(report.issues)} findings"
            )
    print_runs(result.runs, as_json)


def backtest(
    config: ConfigPaths,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    assign: Assignments = None,
    force: Annotated[
        bool, typer.Option(help="Run again even if recorded; the orders must be the same.")
    ] = False,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Run every sleeve of a node over recorded history, record it and make its report.

    Example: [cyan]prometheus backtest configs/us_core_long_eq.yaml --start 2010-01-04[/]
    """
    from prometheus_nt.jobs.backtest import run_backtest
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, start, end, mode="backtest", applied=not no_applied)
    with open_stores(read_settings()) as stores, progress_bars() as progress:
        runs = run_backtest(node, stores, force=force, progress=progress)
    print_runs(runs, as_json)


def report(
    run: RunArgument = "latest",
    as_json: JsonFlag = False,
) -> None:
    """Make the report of a finished run again, from its files.

    Example: [cyan]prometheus report latest[/]
    """
    from prometheus_nt.jobs.report import remake_report
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        path = remake_report(stores, run)
    emit({"report": str(path)}, as_json, lambda: out.print(str(path), soft_wrap=True))


def findings(
    run: RunArgument = "latest",
    veto: Annotated[
        list[str] | None,
        typer.Option(help="A code whose warning is a veto from now on, e.g. SURVIVORSHIP."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what stands against believing a run, with evidence and remedy; ask its neighbours too.

    A veto keeps the run from being selected by `prometheus meta rank` and by campaigns.

    Example: [cyan]prometheus findings latest --veto SURVIVORSHIP[/]
    """
    from prometheus_nt.jobs.findings import COLUMNS, findings_of
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        run_id, found = findings_of(stores, run, veto or ())
    told = [one.document() for one in found]
    rows = [tuple(one[name] for name in COLUMNS) for one in told]
    document = {"run_id": run_id, "findings": told}
    emit(document, as_json, lambda: print_rows(COLUMNS, rows, as_json=False))


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Run ids, their beginnings, or a node's YAML file.")
    ],
    to: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put several runs on one page: results, costs, regimes, and how alike their books are.

    A YAML file stands for the newest finished run of each of its sleeves.

    Example: [cyan]prometheus compare configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.compare import compare_runs
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        path = compare_runs(stores, runs, to)
    emit({"report": str(path)}, as_json, lambda: out.print(str(path), soft_wrap=True))
