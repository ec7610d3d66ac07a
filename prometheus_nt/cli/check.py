"""`prometheus check ...`: proofs about a node, or about a function of the user's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli.arguments import (
    Assignments,
    ConfigPaths,
    JsonFlag,
    OptionalConfigPaths,
    node_of,
    read_settings,
)
from prometheus_nt.console import print_rows, progress_bars, say
from prometheus_nt.domain.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_nt.domain.panel import MarketPanel
    from prometheus_nt.jobs.check.user_strategy import UserStrategy
    from prometheus_nt.jobs.stores import Stores

app = typer.Typer(
    no_args_is_help=True,
    help="Proofs: does anything read the future, was anything recorded changed?",
)

StrategyReference = Annotated[
    str | None,
    typer.Option(metavar="FILE.py:FUNCTION", help="Check your own function instead of a node."),
]


@app.command("lookahead")
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
    with open_stores(read_settings()) as stores, progress_bars() as progress:
        if strategy is not None:
            _refuse_node(config, assign)
            function, panel = _user_strategy(strategy, dataset, stores)
            found = strategies.check_strategy(
                function, panel, cuts=cuts or strategies.CUTS, progress=progress
            )
            columns, rows = strategies.COLUMNS, list(found.listing())
            leaks, reacts = found.first is not None, found.reacts
        else:
            reports = run_check(
                node_of(_required(config, dataset), assign),
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


@app.command("warmup")
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

    with open_stores(read_settings()) as stores, progress_bars() as progress:
        if strategy is not None:
            _refuse_node(config, assign)
            function, panel = _user_strategy(strategy, dataset, stores)
            found = warmup.strategy_warmup(function, panel, tolerance=tolerance, progress=progress)
        else:
            node = node_of(_required(config, dataset), assign)
            found = warmup.check_warmup(node, stores, tolerance=tolerance, progress=progress)
    print_rows(warmup.COLUMNS, warmup.listing(found, whole=fields or as_json), as_json)


@app.command("alpha")
def check_alpha(config: ConfigPaths, assign: Assignments = None, as_json: JsonFlag = False) -> None:
    """Rank correlation of each alpha family with later returns, with confidence intervals.

    Example: [cyan]prometheus check alpha configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.alpha import measure_alpha
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign)
    with open_stores(read_settings()) as stores, progress_bars() as progress:
        found = measure_alpha(node, stores, progress)
    figures = ("sessions", "mean", "low", "high", "t_statistic", "positive_share")
    columns = ("sleeve", "family", "horizon", *figures, "turnover")
    rows = []
    for item in found:
        known = (getattr(item.ic, figure) for figure in figures)
        rows.append((item.sleeve_id, item.family, item.horizon, *known, item.turnover))
    print_rows(columns, rows, as_json)


@app.command("ledger")
def check_ledger(as_json: JsonFlag = False) -> None:
    """Require that nothing recorded for ever was changed since; exit code 1 and where, if it was.

    Every entry of a sealed stream is hashed over itself and the one before; every trial that the
    stream tells of must still be in the table of trials.

    Example: [cyan]prometheus check ledger[/]
    """
    from prometheus_nt.jobs.check.ledger import COLUMNS, check_streams
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        rows, whole = check_streams(stores)
    print_rows(COLUMNS, rows, as_json)
    if not whole:
        raise typer.Exit(1)


@app.command("meta")
def check_meta(
    meta_id: Annotated[str, typer.Argument(help="The META- id of a finished meta-portfolio.")],
    as_json: JsonFlag = False,
) -> None:
    """Ask every rule of a meta-portfolio again, of its files as they are; exit code 1 if one fails.

    Example: [cyan]prometheus check meta META-0123456789abcdef[/]
    """
    from prometheus_nt.jobs.meta_audit import audit_named
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = audit_named(stores, meta_id)
    rows = [(one.level, one.code, one.subject, one.message) for one in found]
    print_rows(("level", "code", "about", "finding"), rows, as_json)
    if found:
        raise typer.Exit(1)


@app.command("audit")
def check_audit(
    file: Annotated[Path, typer.Argument(help="An `audit.jsonl`.")], as_json: JsonFlag = False
) -> None:
    """Require an exported ledger to be one unbroken chain; exit code 1 and where, if it is not.

    Every line is hashed over itself and the line before, and every step that was begun has to have
    ended. No database is needed.

    Example: [cyan]prometheus check audit var/flows/FLOW-01/audit.jsonl[/]
    """
    from prometheus_nt.jobs.check.audit import COLUMNS, audit_file

    rows, whole = audit_file(file)
    print_rows(COLUMNS, rows, as_json)
    if not whole:
        raise typer.Exit(1)


def _required(config: list[Path] | None, dataset: str | None) -> list[Path]:
    if not config:
        raise ConfigError(
            "give a configuration file, or --strategy FILE.py:FUNCTION --dataset NAME"
        )
    if dataset is not None:
        raise ConfigError(
            f"--dataset {dataset!r} belongs to --strategy; a configuration names its own: "
            f"--set data.dataset={dataset}"
        )
    return config


def _refuse_node(config: list[Path] | None, assign: list[str] | None) -> None:
    given = [*map(str, config or ()), *(f"--set {item}" for item in assign or ())]
    if given:
        raise ConfigError(
            f"--strategy checks a function, and {', '.join(given)} would go unheeded; "
            "give either a configuration or --strategy"
        )


def _user_strategy(
    reference: str, dataset: str | None, stores: "Stores"
) -> tuple["UserStrategy", "MarketPanel"]:
    from prometheus_nt.jobs.check.user_strategy import load_strategy
    from prometheus_nt.jobs.panels import panel_of

    if dataset is None:
        raise ConfigError(
            "--strategy needs --dataset NAME; `prometheus data list` lists what there is"
        )
    return load_strategy(reference), panel_of(stores, dataset)
