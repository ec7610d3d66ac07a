"""`prometheus show|dump`: what runs recorded."""

from datetime import datetime
from typing import Annotated, Any

import typer

from prometheus_nt.cli.arguments import CsvFlag, JsonFlag, read_settings
from prometheus_nt.console import emit, print_fields, print_rows, print_status, say

PortfolioOption = Annotated[
    str | None,
    typer.Option(
        "--portfolio-id",
        "--sleeve",
        help="A portfolio, a sleeve, or a strategy with all its sleeves.",
    ),
]
ModeOption = Annotated[str | None, typer.Option(help="BACKTEST, PAPER or LIVE")]
DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
PositiveOption = Annotated[int, typer.Option(min=1, max=1_000_000)]

dump_app = typer.Typer(no_args_is_help=True, help="Everything about one thing.")


def show(
    what: Annotated[
        str,
        typer.Argument(
            help="runs, orders, fills, positions, equity, trades, executed-actions, cash-flows, "
            "order-history; "
            "engine-runs, engine-decisions, risk-actions, trials; of the newest run that fits: "
            "scores, stability, soft-targets, fragility, regimes, regime-transitions, profiles, "
            "universe-members, targets, book-targets, risk-reports, findings; jobs, "
            "job-executions, alerts, proposals, changes, experiments, experiment-results, "
            "strategies, portfolios, engine-configs, models; alpha; execution-risk; of a "
            "--dataset: statements, ratios, news, membership, sectors, embeddings, filings, "
            "earnings-calls, macro-events, returns, volatility, "
            "factors, exposures, features, correlations"
        ),
    ],
    portfolio_id: PortfolioOption = None,
    strategy_id: Annotated[str | None, typer.Option()] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", "--run")] = None,
    mode: ModeOption = None,
    as_of: DayOption = None,
    market_id: Annotated[str | None, typer.Option(help="For example US_EQ.")] = None,
    engine_name: Annotated[str | None, typer.Option(help="Of decisions: who decided.")] = None,
    region: Annotated[str | None, typer.Option(help="US, EU or ASIA")] = None,
    phase: Annotated[str | None, typer.Option(help="Of engine-runs: where they stand.")] = None,
    status: Annotated[str | None, typer.Option(help="Of runs, trials, jobs, proposals.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Whose facts or derived data to list.")
    ] = None,
    instrument_id: Annotated[
        str | None,
        typer.Option("--instrument-id", "--instrument", help="Rows about one instrument."),
    ] = None,
    limit: PositiveOption = 50,
    include_outcomes: Annotated[
        bool, typer.Option(help="With decisions: what became of them.")
    ] = False,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List what runs recorded, newest first; `alpha` is how well their scores ranked what came.

    What engines measured is listed of one run: the newest that fits, or that of --run-id. With
    --dataset: what was known of its instruments at the close of --as-of, today by default.

    Example: [cyan]prometheus show orders --portfolio-id US_CORE_LONG_EQ --limit 50[/]
    """
    from prometheus_nt.jobs.known import FACT_LISTINGS, WITHOUT_SOURCE, FactFilters, known_facts
    from prometheus_nt.jobs.show import (
        EXECUTION_RISK,
        Filters,
        derived_listing,
        execution_risk,
        listing,
        require_heeded,
    )

    filters = Filters(
        portfolio_id=portfolio_id,
        strategy_id=strategy_id,
        run_id=run_id,
        mode=None if mode is None else mode.upper(),
        as_of=None if as_of is None else as_of.date(),
        limit=limit,
        market_id=market_id,
        engine_name=engine_name,
        region=region,
        phase=None if phase is None else phase.upper(),
        status=None if status is None else status.upper(),
        entity_id=instrument_id if dataset is None else None,
    )
    of_dataset = dataset is not None
    require_heeded(what, filters, of_dataset=of_dataset, include_outcomes=include_outcomes)
    settings = read_settings()
    if what == EXECUTION_RISK:
        columns, rows = execution_risk(settings)
    elif what in FACT_LISTINGS:
        facts = FactFilters(dataset, instrument_id, filters.as_of, limit)
        columns, rows = known_facts(settings, what, facts)
    elif dataset is None:
        columns, rows = listing(settings, what, filters, include_outcomes=include_outcomes)
    else:
        columns, rows = derived_listing(settings, what, filters, dataset, instrument_id)
    if not rows and what in WITHOUT_SOURCE:
        say(WITHOUT_SOURCE[what])
    print_rows(columns, rows, as_json, as_csv=as_csv)


def execution_status(
    portfolio_id: Annotated[str, typer.Option("--portfolio-id", "--sleeve")],
    mode: ModeOption = None,
    limit_orders: PositiveOption = 25,
    limit_fills: PositiveOption = 25,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest orders and fills of a portfolio, and how its orders stand.

    Example: [cyan]prometheus execution-status --portfolio-id US_CORE_LONG_EQ[/]

    Example: [cyan]prometheus mission show_execution_status --portfolio-id US_CORE_LONG_EQ[/]
    """
    from prometheus_nt.jobs.show import execution_status as status_of

    mode = None if mode is None else mode.upper()
    document = status_of(read_settings(), portfolio_id, mode, (limit_orders, limit_fills))
    print_status(document, as_json)


@dump_app.command("portfolio")
def dump_portfolio(
    portfolio_id: Annotated[str, typer.Option("--portfolio-id", "--sleeve")],
    as_of: DayOption = None,
    limit: PositiveOption = 25,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest target of a portfolio, its largest weights first, and its risk report.

    Example: [cyan]prometheus dump portfolio --portfolio-id US_CORE_LONG_EQ_H21[/]

    Example: [cyan]prometheus mission dump_portfolio --portfolio-id US_CORE_LONG_EQ_H21[/]
    """
    from prometheus_nt.jobs.show import portfolio

    day = None if as_of is None else as_of.date()
    document = portfolio(read_settings(), portfolio_id, day, limit)
    emit(document, as_json, lambda: _print_portfolio(document))


def _print_portfolio(document: "dict[str, Any]") -> None:
    apart = ("weights", "risk_report")
    print_fields({name: one for name, one in document.items() if name not in apart}, False)
    weights, report = document["weights"], document["risk_report"]
    if isinstance(weights, dict):
        print_rows(("instrument_id", "weight"), list(weights.items()), as_json=False)
    if isinstance(report, dict):
        print_fields(report, False)


def lineage(
    fill_id: Annotated[str, typer.Argument(help="A fill; `prometheus show fills` lists them.")],
    as_json: JsonFlag = False,
) -> None:
    """Show why a fill happened: order, decision, target, risk, scores, engines, bars.

    `data.unchanged` says whether the dataset is still what the engines saw.

    Example: [cyan]prometheus lineage 'US_CORE_LONG_EQ_H21-0c278200ff36:O-1#1' --json[/]
    """
    from prometheus_nt.jobs.lineage import lineage as lineage_of

    document = lineage_of(read_settings(), fill_id)
    emit(document, as_json, lambda: _print_lineage(document))


def _print_lineage(document: "dict[str, Any]") -> None:
    for name, part in document.items():
        say(name)
        if isinstance(part, list) and part:
            print_rows(tuple(part[0]), [tuple(row.values()) for row in part], as_json=False)
        elif isinstance(part, dict):
            print_fields(part, False)
        else:
            say("  nothing")
