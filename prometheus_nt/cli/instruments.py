"""`prometheus instruments ...`: names, listings and trading metadata."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import err, print_fields, print_rows

app = typer.Typer(
    no_args_is_help=True, help="Who instruments are to store, venue, vendors and broker."
)


@app.command("import")
def instruments_import(
    file: Annotated[Path, typer.Argument(help="A CSV file; its columns are all optional but one.")],
    source: Annotated[
        str | None, typer.Option(help="Who says so; default the file's name.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take in names, listings, delistings, ticks and lots from a CSV file.

    Columns: instrument_id; scheme, symbol, valid_from, valid_to; exchange, listed_on, delisted_on,
    reason, delisting_return; tick_size, lot_size, price_precision; source, known_at.

    Example: [cyan]prometheus instruments import names.csv[/]
    """
    from prometheus_nt.jobs.instruments import import_instruments

    print_fields(import_instruments(read_settings(), file, source), as_json)


@app.command("show")
def instruments_show(
    symbol: Annotated[str, typer.Argument(help="A store id, or a name in any scheme.")],
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day; default today.")
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Whose name it is: exchange, ib, yahoo, eodhd, stooq, ...")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the instrument that goes by a name on a day, and all its other names.

    Example: [cyan]prometheus instruments show FB --as-of 2015-01-02[/]
    """
    from prometheus_nt.jobs.instruments import show_instrument

    day = None if as_of is None else as_of.date()
    print_fields(show_instrument(read_settings(), symbol, day, scheme), as_json)


@app.command("check")
def instruments_check(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    as_json: JsonFlag = False,
) -> None:
    """List tick, lot, precision and currency of a dataset's instruments; exit code 1 if any lacks.

    Example: [cyan]prometheus instruments check sample_sp500[/]
    """
    from prometheus_nt.jobs.instruments import metadata_coverage

    columns, rows = metadata_coverage(read_settings(), dataset)
    print_rows(columns, rows, as_json)
    lacking = sum(row[-1] is not None for row in rows)
    if lacking:
        err.print(f"{lacking} of {len(rows)} instruments lack what trading needs")
        raise typer.Exit(1)
