"""`prometheus scan`: who passes a scanner, as it was known on a day."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import print_json, print_rows, progress_bars, say


def scan(
    scanner: Annotated[Path, typer.Argument(help="A scanner's YAML file.")],
    dataset: Annotated[str, typer.Option(help="Dataset to scan.")],
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Session to scan after; default the last."),
    ] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    every: Annotated[
        str,
        typer.Option(
            help="With --start and --end: scan the first session of each session, week, month or "
            "quarter."
        ),
    ] = "month",
    rejected: Annotated[
        bool, typer.Option(help="List the others too, with what they fail.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Select instruments by a scanner's filters from what was known on a day, and store them.

    The selected and the others, with the filters they fail, become rows of universe_members.
    Exit code 1 if nobody is selected.

    Example: [cyan]prometheus scan configs/scanners/us_liquid.yaml --dataset sample_ohlcv[/]
    """
    from prometheus_nt.jobs.scan import ScanRequest, listing, load_scanner
    from prometheus_nt.jobs.scan import scan as run_scan
    from prometheus_nt.jobs.stores import open_stores

    params = load_scanner(scanner)
    day, first, last = (None if day is None else day.date() for day in (as_of, start, end))
    request = ScanRequest(dataset, day, first, last, every)
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        recorded = run_scan(stores, params, request, progress)
    columns, rows = listing(recorded, params, rejected=rejected)
    if as_json:
        print_json(
            [
                {
                    "run_id": item.run_id,
                    "as_of": item.scan.as_of,
                    "rows_written": item.rows_written,
                    "failures": item.scan.failures(),
                    "instruments": [
                        dict(zip(columns, row, strict=True))
                        for row in rows
                        if row[0] == item.scan.as_of
                    ],
                }
                for item in recorded
            ]
        )
        return
    print_rows(columns, rows, as_json=False)
    for item in recorded:
        say(f"{item.run_id}: {item.rows_written} rows written")
