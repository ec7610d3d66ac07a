"""`prometheus ...`: parses, calls a job, prints; holds no logic."""

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    print_fields,
    print_issues,
    print_json,
    print_rows,
    print_runs,
    print_similar,
    progress_bars,
    say,
)
from prometheus_nt.domain.errors import ConfigError, PrometheusError

if TYPE_CHECKING:
    from prometheus_nt.domain.panel import MarketPanel
    from prometheus_nt.jobs.check.user_strategy import UserStrategy
    from prometheus_nt.jobs.stores import Stores

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Backtest and trade on NautilusTrader. `prometheus demo` shows the main job.",
)
data_app = typer.Typer(no_args_is_help=True, help="Market data: ingest, list, check.")
db_app = typer.Typer(no_args_is_help=True, help="The historical and runtime databases.")
check_app = typer.Typer(no_args_is_help=True, help="Proofs: does anything read the future?")
scenarios_app = typer.Typer(no_args_is_help=True, help="Scenario sets: generate, list, show.")
config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")
app.add_typer(data_app, name="data")
app.add_typer(db_app, name="db")
app.add_typer(config_app, name="config")
app.add_typer(check_app, name="check")
similar_app = typer.Typer(no_args_is_help=True, help="What is like a profile, a session, a run?")
app.add_typer(similar_app, name="similar")
app.add_typer(scenarios_app, name="scenarios")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConfigPaths = Annotated[
    list[Path], typer.Argument(help="YAML files; later ones override earlier ones.")
]
OptionalConfigPaths = Annotated[
    list[Path] | None, typer.Argument(help="YAML files; later ones override earlier ones.")
]
StrategyReference = Annotated[
    str | None,
    typer.Option(metavar="FILE.py:FUNCTION", help="Check your own function instead of a node."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, e.g. --set execution.replay=full"),
]
RunArgument = Annotated[str, typer.Argument(help="A run id, its beginning, or `latest`.")]
DatasetOption = Annotated[str, typer.Option(help="Name of a dataset.")]
AsOfOption = Annotated[
    datetime, typer.Option(formats=["%Y-%m-%d"], help="Session whose close is the newest used.")
]
TopOption = Annotated[int, typer.Option(min=1, max=1000, help="Results at most.")]


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

    with open_stores(Settings.from_environment()) as stores:
        path = compare_runs(stores, runs, to)
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
    config: OptionalConfigPaths = None,
    strategy: StrategyReference = None,
    dataset: Annotated[str | None, typer.Option(help="What the strategy is checked on.")] = None,
    assign: Assignments = None,
    cuts: Annotated[
        int | None, typer.Option(min=1, max=100, help="Dates at which to try; default 6 or 18.")
    ] = None,
    sleeve_sessions: Annotated[
        int, typer.Option(min=0, help="Sessions each sleeve trades before a cut; 0: engines only.")
    ] = 63,
    as_json: JsonFlag = False,
) -> None:
    """Change everything after several dates; exit code 1 if anything decided before them moves.

    With a configuration: every engine's records, every sleeve's orders, fills and books. With
    --strategy: a function of your own from a panel to weights, one row per session and one column
    per instrument (and, if it likes, what they earned); examples/user_strategy.py shows it.

    Example: [cyan]prometheus check lookahead configs/us_core_long_eq.yaml[/]

    Example: [cyan]prometheus check lookahead --strategy examples/user_strategy.py:momentum
    --dataset sample_sp500[/]
    """
    from prometheus_nt.jobs.check import engines, report, strategies
    from prometheus_nt.jobs.check.node import check_lookahead as run_check
    from prometheus_nt.jobs.stores import open_stores

    columns: tuple[str, ...]
    with open_stores(Settings.from_environment()) as stores, progress_bars() as progress:
        if strategy is not None:
            function, panel = _user_strategy(strategy, dataset, stores)
            found = strategies.check_strategy(
                function, panel, cuts=cuts or strategies.CUTS, progress=progress
            )
            columns, rows = strategies.COLUMNS, list(found.listing())
            leaks, reacts = found.first is not None, found.reacts
        else:
            reports = run_check(
                _node(_required(config), assign),
                stores,
                cuts=cuts or engines.CUTS,
                sleeve_sessions=sleeve_sessions,
                progress=progress,
            )
            columns, rows = report.COLUMNS, list(report.listing(reports))
            leaks, reacts = any(item.leaks for item in reports.values()), True
    print_rows(columns, rows, as_json)
    if not reacts:
        say(strategies.NO_REACTION)
    if leaks:
        raise typer.Exit(1)


@check_app.command("warmup")
def check_warmup(
    config: OptionalConfigPaths = None,
    strategy: StrategyReference = None,
    dataset: Annotated[str | None, typer.Option(help="What the strategy is checked on.")] = None,
    assign: Assignments = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Relative change that counts as none in `close_from`.")
    ] = 1e-6,
    fields: Annotated[bool, typer.Option(help="One row per field, settled or not.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell how much history each output needs before more of it changes nothing.

    Outputs of the newest session are made from half a year of data, a year, two, and so on. Empty
    `same_from`: it never settles, and `change_at_longest` says what leaving data out does.

    Example: [cyan]prometheus check warmup configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.check import warmup
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(Settings.from_environment()) as stores, progress_bars() as progress:
        if strategy is not None:
            function, panel = _user_strategy(strategy, dataset, stores)
            found = warmup.strategy_warmup(function, panel, tolerance=tolerance, progress=progress)
        else:
            node = _node(_required(config), assign)
            found = warmup.check_warmup(node, stores, tolerance=tolerance, progress=progress)
    print_rows(warmup.COLUMNS, warmup.listing(found, whole=fields or as_json), as_json)


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


@similar_app.command("profiles")
def find_similar_profiles(
    instrument: Annotated[str, typer.Argument(help="An instrument of the dataset.")],
    dataset: DatasetOption,
    as_of: AsOfOption,
    top: TopOption = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the instruments most like one by price, accounts and sector, as known after a close.

    Example: [cyan]prometheus similar profiles AAPL.US --dataset sample_sp500 --as-of 2020-03-31[/]
    """
    from prometheus_nt.jobs.similar import similar_profiles

    settings = Settings.from_environment()
    print_similar(similar_profiles(settings, dataset, instrument, as_of.date(), top), as_json)


@similar_app.command("regimes")
def find_similar_regimes(
    dataset: DatasetOption,
    as_of: AsOfOption,
    top: TopOption = 10,
    exclude: Annotated[
        int, typer.Option(min=0, help="Sessions just before the close that are left out.")
    ] = 63,
    as_json: JsonFlag = False,
) -> None:
    """List the past sessions whose market was most like that of a close, and what followed them.

    Example: [cyan]prometheus similar regimes --dataset sample_sp500 --as-of 2020-03-31[/]
    """
    from prometheus_nt.jobs.similar import similar_regimes

    settings = Settings.from_environment()
    print_similar(similar_regimes(settings, dataset, as_of.date(), top, exclude), as_json)


@similar_app.command("runs")
def find_similar_runs(
    run: RunArgument,
    with_outcome: Annotated[
        bool, typer.Option(help="Let the runs' figures, too, decide who is similar.")
    ] = False,
    top: TopOption = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the runs most like one by configuration and market, and how they came out.

    Example: [cyan]prometheus similar runs latest --top 5[/]
    """
    from prometheus_nt.jobs.similar import similar_runs

    settings = Settings.from_environment()
    print_similar(similar_runs(settings, run, top, with_outcome=with_outcome), as_json)


@similar_app.command("portfolios")
def find_similar_portfolios(
    run: RunArgument, as_of: AsOfOption, top: TopOption = 10, as_json: JsonFlag = False
) -> None:
    """List the books of other runs most like that of a run by weights, sectors and risk.

    Example: [cyan]prometheus similar portfolios latest --as-of 2020-03-31[/]
    """
    from prometheus_nt.jobs.similar import similar_portfolios

    settings = Settings.from_environment()
    print_similar(similar_portfolios(settings, run, as_of.date(), top), as_json)


@scenarios_app.command("generate")
def scenarios_generate(
    name: Annotated[str, typer.Argument(help="What the set is called from now on.")],
    dataset: Annotated[str, typer.Option(help="Dataset to make it from.")],
    category: Annotated[
        str,
        typer.Option(
            help="HISTORICAL, BOOTSTRAP, STRESSED, FILTERED, FACTOR_SHOCK, NAMED, ADVERSARIAL or "
            "REGIME (with --set regime=CRISIS)"
        ),
    ] = "BOOTSTRAP",
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last session to use; default the dataset's."),
    ] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Sessions of each path.")] = 21,
    paths: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    run: Annotated[
        str | None,
        typer.Option(help="ADVERSARIAL: the run whose latest target it works against."),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, e.g. --set block_length=20"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make joint futures from a dataset's past, and store them; made twice, nothing changes.

    Example: [cyan]prometheus scenarios generate covid --dataset sample_ohlcv --category NAMED[/]
    """
    from prometheus_nt.jobs.scenarios import ScenarioRequest, generate_set, scenario_params
    from prometheus_nt.jobs.stores import open_stores

    settings = {
        "name": name,
        "category": category.upper(),
        "horizon": horizon,
        "paths": paths,
        "seed": seed,
    }
    params = scenario_params(settings, assign or ())
    request = ScenarioRequest(dataset, params, None if as_of is None else as_of.date(), run)
    with open_stores(Settings.from_environment(), upgrade=True) as stores:
        row = generate_set(stores, request)
    print_fields(row, as_json)


@scenarios_app.command("list")
def scenarios_list(as_json: JsonFlag = False) -> None:
    """List the stored sets, newest first within each name.

    Example: [cyan]prometheus scenarios list[/]
    """
    from prometheus_nt.jobs.scenarios import list_sets
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(Settings.from_environment()) as stores:
        columns, rows = list_sets(stores)
    print_rows(columns, rows, as_json)


@scenarios_app.command("show")
def scenarios_show(
    name: Annotated[str, typer.Argument(help="Name of a set.")],
    dataset: Annotated[str | None, typer.Option(help="If several datasets have the name.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Default the newest.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Run whose latest target to hold; default is equal weights."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a set is, and what its paths earn a book held unchanged.

    Example: [cyan]prometheus scenarios show covid --run latest[/]
    """
    from prometheus_nt.jobs.scenarios import show_set
    from prometheus_nt.jobs.stores import open_stores

    day = None if as_of is None else as_of.date()
    with open_stores(Settings.from_environment()) as stores:
        found = show_set(stores, name, dataset_id=dataset, as_of=day, run=run)
    print_fields(found, as_json)


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


def _required(config: list[Path] | None) -> list[Path]:
    if not config:
        raise ConfigError(
            "give a configuration file, or --strategy FILE.py:FUNCTION --dataset NAME"
        )
    return config


def _user_strategy(
    reference: str, dataset: str | None, stores: "Stores"
) -> tuple["UserStrategy", "MarketPanel"]:
    from prometheus_nt.jobs.check.user_strategy import load_strategy
    from prometheus_nt.jobs.data import panel_of

    if dataset is None:
        raise ConfigError(
            "--strategy needs --dataset NAME; `prometheus data list` lists what there is"
        )
    return load_strategy(reference), panel_of(stores, dataset)


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
