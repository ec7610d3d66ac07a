"""`prometheus alerts ...`: what somebody has to know."""

import time
from datetime import UTC, datetime
from getpass import getuser
from typing import Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import print_rows, say

app = typer.Typer(no_args_is_help=True, help="What somebody has to know.")

COLUMNS = ("last_at", "severity", "rule", "subject", "message", "count", "alert_id")


@app.command("check")
def alerts_check(
    watch: Annotated[
        float | None, typer.Option(min=1, help="Check again every so many seconds, until Ctrl-C.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge every rule now, raise and resolve, and tell the channels; exit code 1 if any is open.

    Example: [cyan]prometheus alerts check --watch 60[/]
    """
    from prometheus_nt.jobs.alerting import AlertParams, check, deliver
    from prometheus_nt.jobs.stores import open_stores

    settings = read_settings()
    with open_stores(settings) as stores:
        while True:
            now = datetime.now(UTC)
            found = check(stores, AlertParams(), now)
            sent = deliver(settings, stores, now)
            if watch is None:
                break
            say(f"{now:%H:%M:%S} {len(found)} wrong, {sent} delivered")
            time.sleep(watch)
    rows = [(one.severity, one.rule, one.subject, one.message) for one in found]
    print_rows(("severity", "rule", "subject", "message"), rows, as_json)
    raise typer.Exit(1 if found else 0)


@app.command("list")
def alerts_list(
    every: Annotated[bool, typer.Option("--all", help="Those that are over as well.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List open alerts, newest first.

    Example: [cyan]prometheus alerts list --all[/]
    """
    from persistence.watch import alert_rows
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        rows = alert_rows(stores.runtime.database, only_open=not every, limit=limit)
    print_rows(COLUMNS, [tuple(row[name] for name in COLUMNS) for row in rows], as_json)


@app.command("ack")
def alerts_acknowledge(
    alert_id: Annotated[str, typer.Argument(help="Of an alert that `alerts list` shows.")],
    by: Annotated[str | None, typer.Option(help="Who; default the user of this machine.")] = None,
) -> None:
    """Say that somebody has seen an alert.

    Example: [cyan]prometheus alerts ack 0123456789abcdef --by ann[/]
    """
    from persistence.alerts import acknowledge
    from prometheus_nt.jobs.stores import open_stores

    with (
        open_stores(read_settings()) as stores,
        stores.runtime.database.writer() as connection,
    ):
        acknowledge(connection, alert_id, by or getuser())
    say(f"{alert_id} acknowledged")
