"""`prometheus ...`: parses, calls a job, prints; holds no logic."""

import sys

import typer

from prometheus_nt.cli import (
    check,
    data,
    day,
    environment,
    instruments,
    markets,
    runs,
    scan,
    scenarios,
    similar,
)
from prometheus_nt.console import err, plain
from prometheus_nt.domain.errors import PrometheusError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Backtest and trade on NautilusTrader. `prometheus demo` shows the main job.",
)
app.command()(runs.demo)
app.command()(runs.backtest)
app.command()(runs.report)
app.command()(runs.compare)
app.command()(runs.show)
app.command()(scan.scan)
app.command()(environment.doctor)
app.command()(markets.markets)
app.add_typer(data.app, name="data")
app.add_typer(day.app, name="day")
app.add_typer(instruments.app, name="instruments")
app.add_typer(environment.db_app, name="db")
app.add_typer(environment.config_app, name="config")
app.add_typer(check.app, name="check")
app.add_typer(similar.app, name="similar")
app.add_typer(scenarios.app, name="scenarios")


def main() -> None:
    """Run the command line; every error that is the user's to mend ends with exit code 1."""
    try:
        app()
    except PrometheusError as error:
        err.print(f"[bold red]error:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
