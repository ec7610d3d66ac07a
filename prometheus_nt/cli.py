"""`prometheus ...`: parses, calls a job, prints; holds no logic."""

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from adapters.inference import DividendBasis
from prometheus_nt.config import NodeConfig, Settings, load_config
from prometheus_nt.console import (
    emit,
    err,
    out,
    plain,
    print_databases,
    print_issues,
    print_json,
    print_rows,
    print_runs,
    progress_bars,
    say,
)
from prometheus_nt.domain.errors import PrometheusError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Backtest and trade on NautilusTrader. `prometheus demo` shows the main job.",
)
data_app = typer.Typer(no_args_is_help=True, help="Market data: ingest, list, check.")
db_app = typer.Typer(no_args_is_help=True, help="The historical and runtime databases.")
check_app = typer.Typer(no_args_is_help=True, help="Proofs: does anything read the future?")
config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")
app.add_typer(data_app, name="data")
app.add_typer(db_app, name="db")
app.add_typer(config_app, name="config")
app.add_typer(check_app, name="check")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConfigPaths = Annotated[
    list[Path], typer.Argument(help="YAML files; later ones override earlier ones.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, e.g. --set execution.replay=full"),
]


def main() -> None:
    """Run the command line; every error that is the user's to mend ends with exit code 1."""
    try:
        app()
    except PrometheusError as error:
        err.print(f"[bold red]error:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
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
        result = run_demo(Settings.from_environment(), config, say=say, progress=progress)
    if not as_json:
        for report in result.ingests:
            say(
                f"{report.dataset_id}: {len(report.loaded)} instruments, "
                f"{report.rows_written:,} rows written, {len(report.issues)} findings"
            )
    print_runs(result.runs, as_json)


@app.command()
def backtest(
    config: ConfigPaths,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    assign: Assignments = None,
    force: Annotated[
        bool, typer.Option(help="Run again even if recorded; the orders must be the same.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run every sleeve of a node over recorded history, record it and make its report.

    Example: [cyan]prometheus backtest configs/us_core_long_eq.yaml --start 2010-01-04[/]
    """
    from prometheus_nt.jobs.backtest import run_backtest
    from prometheus_nt.jobs.stores import open_stores

    node = _node(config, assign, start, end)
    with open_stores(Settings.from_environment()) as stores, progress_bars() as progress:
        runs = run_backtest(node, stores, force=force, progress=progress)
    print_runs(runs, as_json)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run id, its beginning, or `latest`.")] = "latest",
    as_json: JsonFlag = False,
) -> None:
    """Make the report of a finished run again, from its files.

    Example: [cyan]prometheus report latest[/]
    """
    from prometheus_nt.jobs.report import remake_report
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(Settings.from_environment()) as stores:
        path = remake_report(stores, run)
    emit({"report": str(path)}, as_json, lambda: out.print(str(path), soft_wrap=True))


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="runs, orders, fills, positions, decisions, risk-actions, alpha")
    ],
    portfolio_id: Annotated[
        str | None,
        typer.Option(
            "--portfolio-id",
            "--sleeve",
            help="A portfolio, a sleeve, or a strategy with all its sleeves.",
        ),
    ] = None,
    strategy_id: Annotated[str | None, typer.Option()] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", "--run")] = None,
    mode: Annotated[str | None, typer.Option(help="BACKTEST, PAPER or LIVE")] = None,
    as_of: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000)] = 50,
    include_outcomes: Annotated[
        bool, typer.Option(help="With decisions: what became of them.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List what runs recorded, newest first; `alpha` is how well their scores ranked what came.

    Example: [cyan]prometheus show orders --portfolio-id US_CORE_LONG_EQ --limit 50[/]
    """
    from prometheus_nt.jobs.show import Filters, listing

    filters = Filters(
        portfolio_id=portfolio_id,
        strategy_id=strategy_id,
        run_id=run_id,
        mode=None if mode is None else mode.upper(),
        as_of=None if as_of is None else as_of.date(),
        limit=limit,
    )
    columns, rows = listing(
        Settings.from_environment(), what, filters, include_outcomes=include_outcomes
    )
    print_rows(columns, rows, as_json)


@data_app.command("ingest")
def data_ingest(
    source: Annotated[str, typer.Argument(help="sample, csv or parquet")],
    path: Annotated[
        Path | None, typer.Argument(help="For csv and parquet: a folder, or one long file.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset to fill.")] = None,
    market: Annotated[str, typer.Option(help="Market whose sessions the data keep.")] = "US_EQ",
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default all.")] = None,
    split_adjusted: Annotated[
        bool, typer.Option(help="The files divide prices by later splits, as Yahoo's do.")
    ] = False,
    infer_actions: Annotated[
        DividendBasis | None,
        typer.Option(
            case_sensitive=False,
            help="Infer splits and dividends from the adjusted close: PRIOR_CLOSE where a vendor "
            "relates a dividend to the close before it (Yahoo, EODHD), EX_CLOSE to the one after.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read prices, check them, and store them under the name of a dataset.

    Bad rows are quarantined with file, row, column and remedy; good ones are kept.

    Example: [cyan]prometheus data ingest csv my_prices/ --dataset mine[/]
    """
    from prometheus_nt.jobs.data import SourceSpec, ingest_named

    chosen = None if symbols is None else tuple(item.strip() for item in symbols.split(","))
    spec = SourceSpec(source, path, dataset, market, chosen, split_adjusted, infer_actions)
    with progress_bars() as progress:
        reports = ingest_named(Settings.from_environment(), spec, progress)
    if as_json:
        print_json([asdict(item) for item in reports])
        return
    for item in reports:
        say(
            f"{item.dataset_id}: {len(item.loaded)} instruments loaded, {len(item.failed)} failed, "
            f"{item.rows_read:,} rows read, {item.rows_written:,} written, "
            f"{item.rows_quarantined:,} quarantined"
        )
        print_issues(item.issues)


@data_app.command("list")
def data_list(as_json: JsonFlag = False) -> None:
    """List the datasets and what each of them covers.

    Example: [cyan]prometheus data list[/]
    """
    from prometheus_nt.jobs.data import list_datasets

    columns, rows = list_datasets(Settings.from_environment())
    print_rows(columns, rows, as_json)


@data_app.command("check")
def data_check(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    as_json: JsonFlag = False,
) -> None:
    """List the findings about a dataset; exit code 1 if any row was quarantined.

    Example: [cyan]prometheus data check sample_ohlcv[/]
    """
    from prometheus_nt.jobs.data import check_dataset

    columns, rows, errors = check_dataset(Settings.from_environment(), dataset)
    print_rows(columns, rows, as_json)
    if errors:
        err.print(f"{errors} findings of severity ERROR in {dataset}")
        raise typer.Exit(1)


@check_app.command("lookahead")
def check_lookahead(
    config: ConfigPaths,
    assign: Assignments = None,
    cuts: Annotated[int, typer.Option(min=1, max=100, help="Dates at which to try.")] = 4,
    as_json: JsonFlag = False,
) -> None:
    """Change everything after several dates; exit code 1 if an engine's earlier record moves.

    Example: [cyan]prometheus check lookahead configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.check import check_lookahead as run_check
    from prometheus_nt.jobs.stores import open_stores

    node = _node(config, assign)
    with open_stores(Settings.from_environment()) as stores, progress_bars() as progress:
        reports = run_check(node, stores, cuts=cuts, progress=progress)
    columns = ("sleeve", "stage", "compared", "verdict", "field", "as_of", "changed_after")
    rows: list[tuple[Any, ...]] = []
    for sleeve_id, found in reports.items():
        for stage, compared in found.compared.items():
            leak = found.leaks.get(stage)
            verdict = "LEAK" if leak else ("ok" if compared else "never warm")
            where = (leak.field, leak.as_of, leak.cut) if leak else (None, None, None)
            rows.append((sleeve_id, stage, compared, verdict, *where))
    print_rows(columns, rows, as_json)
    if any(found.leaks for found in reports.values()):
        raise typer.Exit(1)


@check_app.command("alpha")
def check_alpha(config: ConfigPaths, assign: Assignments = None, as_json: JsonFlag = False) -> None:
    """Rank correlation of each alpha family with later returns, with confidence intervals.

    Example: [cyan]prometheus check alpha configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.alpha import measure_alpha
    from prometheus_nt.jobs.stores import open_stores

    node = _node(config, assign)
    with open_stores(Settings.from_environment()) as stores, progress_bars() as progress:
        found = measure_alpha(node, stores, progress)
    figures = ("sessions", "mean", "low", "high", "t_statistic", "positive_share")
    columns = ("sleeve", "family", "horizon", *figures, "turnover")
    rows = []
    for item in found:
        known = (getattr(item.ic, figure) for figure in figures)
        rows.append((item.sleeve_id, item.family, item.horizon, *known, item.turnover))
    print_rows(columns, rows, as_json)


@config_app.command("show")
def config_show(config: ConfigPaths, assign: Assignments = None, as_json: JsonFlag = False) -> None:
    """Print the resolved configuration of every sleeve, with its hash.

    Example: [cyan]prometheus config show configs/us_core_long_eq.yaml[/]
    """
    node = _node(config, assign)
    resolved = {
        sleeve.sleeve_id: {"config_hash": node.config_hash(sleeve), **node.resolved(sleeve)}
        for sleeve in node.sleeves
    }
    text = yaml.safe_dump(resolved, sort_keys=False)
    emit(resolved, as_json, lambda: out.print(text, highlight=False, markup=False))


@db_app.command("upgrade")
def db_upgrade(as_json: JsonFlag = False) -> None:
    """Bring both databases to the newest schema.

    Example: [cyan]prometheus db upgrade[/]
    """
    from prometheus_nt.jobs.stores import upgrade_schemas

    print_databases(upgrade_schemas(Settings.from_environment()), "upgraded", as_json)


@db_app.command("check")
def db_check(as_json: JsonFlag = False) -> None:
    """Require both databases to have exactly this version's schema.

    Example: [cyan]prometheus db check[/]
    """
    from prometheus_nt.jobs.stores import check_schemas

    print_databases(check_schemas(Settings.from_environment()), "up to date", as_json)


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Check what the machine needs; each failure names its remedy.

    Example: [cyan]prometheus doctor[/]
    """
    from prometheus_nt.jobs.doctor import examine

    findings = examine(Settings.from_environment())
    rows = [("ok" if item.ok else "FAIL", item.subject, item.detail) for item in findings]
    print_rows(("state", "subject", "detail"), rows, as_json)
    if not all(item.ok for item in findings):
        raise typer.Exit(1)


def _node(
    paths: list[Path],
    assign: list[str] | None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> NodeConfig:
    dates = [("start", start), ("end", end)]
    overrides = [f"sessions.{name}={day.date()}" for name, day in dates if day is not None]
    return load_config(paths, [*(assign or ()), *overrides])


if __name__ == "__main__":
    main()
