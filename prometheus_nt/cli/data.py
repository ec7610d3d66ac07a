"""`prometheus data ...`: ingest, list and check market data."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from adapters.inference import DividendBasis
from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import err, print_issues, print_json, print_rows, progress_bars, say
from prometheus_nt.domain.errors import ConfigError

VendorStart = Annotated[
    datetime | None,
    typer.Option("--start", "--from", formats=["%Y-%m-%d"], help="First day to ask a vendor for."),
]
VendorEnd = Annotated[
    datetime | None,
    typer.Option("--end", "--to", formats=["%Y-%m-%d"], help="Last day to ask a vendor for."),
]

app = typer.Typer(no_args_is_help=True, help="Market data: ingest, list, check.")


@app.command("ingest")
def data_ingest(
    source: Annotated[str, typer.Argument(help="sample, csv, parquet, eodhd or yahoo")],
    path: Annotated[
        Path | None, typer.Argument(help="For csv and parquet: a folder, or one long file.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset to fill.")] = None,
    market: Annotated[str, typer.Option(help="Market whose sessions the data keep.")] = "US_EQ",
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default all.")] = None,
    index: Annotated[
        str | None,
        typer.Option(help="eodhd: every past and present member of an index, e.g. GSPC."),
    ] = None,
    exchange: Annotated[
        str | None, typer.Option(help="eodhd: every common stock of an exchange, e.g. US.")
    ] = None,
    delisted: Annotated[
        bool, typer.Option(help="With --exchange: those that no longer trade as well.")
    ] = True,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --exchange: at most so many.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="With --exchange: leave out the first.")] = 0,
    start: VendorStart = None,
    end: VendorEnd = None,
    full: Annotated[
        bool, typer.Option("--full", help="eodhd: read the whole history, not just what is new.")
    ] = False,
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

    EODHD needs its key in EODHD_API_KEY; it is asked for new days only, and for everything where
    its past has changed. Yahoo needs the extra `yahoo`.

    Example: [cyan]prometheus data ingest csv my_prices/ --dataset mine[/]

    Example: [cyan]prometheus data ingest eodhd --dataset sp500 --index GSPC --start 2005-01-01[/]
    """
    from prometheus_nt.jobs.data import SourceSpec, ingest_named

    spec = SourceSpec(
        source,
        path,
        dataset,
        market,
        None if symbols is None else _names(symbols),
        split_adjusted,
        infer_actions,
        index=index,
        exchange=exchange,
        delisted=delisted,
        limit=limit,
        offset=offset,
        start=None if start is None else start.date(),
        end=None if end is None else end.date(),
        whole=full,
    )
    with progress_bars() as progress:
        reports = ingest_named(read_settings(), spec, progress)
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


@app.command("list")
def data_list(as_json: JsonFlag = False) -> None:
    """List the datasets and what each of them covers.

    Example: [cyan]prometheus data list[/]
    """
    from prometheus_nt.jobs.data import list_datasets

    columns, rows = list_datasets(read_settings())
    print_rows(columns, rows, as_json)


@app.command("check")
def data_check(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    as_json: JsonFlag = False,
) -> None:
    """List the findings about a dataset; exit code 1 if any row was quarantined.

    Example: [cyan]prometheus data check sample_ohlcv[/]
    """
    from prometheus_nt.jobs.data import check_dataset

    columns, rows, errors = check_dataset(read_settings(), dataset)
    print_rows(columns, rows, as_json)
    if errors:
        err.print(f"{errors} findings of severity ERROR in {dataset}")
        raise typer.Exit(1)


def _names(symbols: str) -> tuple[str, ...]:
    names = tuple(item.strip() for item in symbols.split(","))
    if not all(names):
        raise ConfigError(
            f"--symbols: {symbols!r} has an empty name; separate names by single commas, "
            "or leave it out for all"
        )
    return names
