"""`prometheus similar ...`: find what is like a profile, a session, a run or a book."""

from datetime import datetime
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, RunArgument, read_settings
from prometheus_nt.console import print_similar

app = typer.Typer(no_args_is_help=True, help="What is like a profile, a session, a run?")

DatasetOption = Annotated[str, typer.Option(help="Name of a dataset.")]
AsOfOption = Annotated[
    datetime, typer.Option(formats=["%Y-%m-%d"], help="Session whose close is the newest used.")
]
TopOption = Annotated[int, typer.Option(min=1, max=1000, help="Results at most.")]


@app.command("profiles")
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

    settings = read_settings()
    print_similar(similar_profiles(settings, dataset, instrument, as_of.date(), top), as_json)


@app.command("regimes")
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

    settings = read_settings()
    print_similar(similar_regimes(settings, dataset, as_of.date(), top, exclude), as_json)


@app.command("runs")
def find_similar_runs(
    run: RunArgument,
    with_outcome: Annotated[
        bool, typer.Option(help="Let the runs' figures, too, decide who is similar.")
    ] = False,
    top: TopOption = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the runs most like one by configuration and market, and how they came out.

    A run of the same configuration over other sessions, or with the same orders, is counted as a
    re-run and not listed by itself.

    Example: [cyan]prometheus similar runs latest --top 5[/]
    """
    from prometheus_nt.jobs.similar import similar_runs

    settings = read_settings()
    print_similar(similar_runs(settings, run, top, with_outcome=with_outcome), as_json)


@app.command("portfolios")
def find_similar_portfolios(
    run: RunArgument, as_of: AsOfOption, top: TopOption = 10, as_json: JsonFlag = False
) -> None:
    """List the books of other runs most like that of a run by weights, sectors and risk.

    Example: [cyan]prometheus similar portfolios latest --as-of 2020-03-31[/]
    """
    from prometheus_nt.jobs.similar import similar_portfolios

    settings = read_settings()
    print_similar(similar_portfolios(settings, run, as_of.date(), top), as_json)


@app.command("scenarios")
def find_similar_scenarios(
    instrument: Annotated[str, typer.Option(help="An instrument of the set.")],
    as_of: AsOfOption,
    scenario_set: Annotated[str, typer.Option(help="Name of a stored set, made by then.")],
    dataset: Annotated[str | None, typer.Option(help="If several datasets have the name.")] = None,
    top: TopOption = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the paths of a scenario set most like what an instrument has just gone through.

    Its last sessions and each of its paths are compared by the same figures: volatility, return,
    drawdown, shortfall, downside beta, and what the market did.

    Example: [cyan]prometheus similar scenarios --instrument AAPL.US --as-of 2020-03-31
    --scenario-set covid[/]
    """
    from prometheus_nt.jobs.similar import similar_scenarios

    found = similar_scenarios(read_settings(), instrument, as_of.date(), scenario_set, dataset, top)
    print_similar(found, as_json)
