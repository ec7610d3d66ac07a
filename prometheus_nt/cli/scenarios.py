"""`prometheus scenarios ...`: generate, list and show joint futures."""

from datetime import datetime
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import print_fields, print_rows

app = typer.Typer(no_args_is_help=True, help="Scenario sets: generate, list, show.")


@app.command("generate")
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
    paths: Annotated[int, typer.Option(min=1, max=100_000)] = 1000,
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
    with open_stores(read_settings(), upgrade=True) as stores:
        row = generate_set(stores, request)
    print_fields(row, as_json)


@app.command("list")
def scenarios_list(as_json: JsonFlag = False) -> None:
    """List the stored sets, newest first within each name.

    Example: [cyan]prometheus scenarios list[/]
    """
    from prometheus_nt.jobs.scenarios import list_sets
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        columns, rows = list_sets(stores)
    print_rows(columns, rows, as_json)


@app.command("show")
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
    with open_stores(read_settings()) as stores:
        found = show_set(stores, name, dataset_id=dataset, as_of=day, run=run)
    print_fields(found, as_json)
