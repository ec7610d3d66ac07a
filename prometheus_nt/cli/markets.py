"""`prometheus markets`: what every market is doing."""

from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag
from prometheus_nt.console import print_rows


def markets(
    at: Annotated[
        str | None,
        typer.Option(help="An instant with its offset, 2024-03-28T15:00:00Z; default now."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the state of every market, its local time and session, and what comes next.

    Example: [cyan]prometheus markets --at 2024-03-10T23:30:00Z[/]
    """
    from prometheus_nt.jobs.markets import list_markets

    columns, rows = list_markets(at)
    print_rows(columns, rows, as_json)
