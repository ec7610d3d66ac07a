"""`prometheus ...`: parses, calls a job, prints; holds no logic."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from prometheus_nt.cli import (
    alerts,
    campaign,
    check,
    data,
    day,
    divergence,
    environment,
    flow,
    gateway,
    instruments,
    jobs,
    markets,
    meta,
    meta_portfolio,
    mission,
    outcomes,
    paper,
    rehearse,
    runs,
    safety,
    scan,
    scenarios,
    serve,
    show,
    similar,
)
from prometheus_nt.cli.arguments import INTERRUPTED, asked_log
from prometheus_nt.console import err, out, plain, say
from prometheus_nt.domain.errors import PrometheusError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Backtest and trade on NautilusTrader. `prometheus demo` shows the main job.",
)


def _say_version(asked: bool) -> None:
    if asked:
        versions = [f"{name} {version(name)}" for name in ("prometheus_nt", "nautilus_trader")]
        out.print(" on ".join(versions), highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which it is."),
    ] = False,
    log: Annotated[
        str | None,
        typer.Option(help="json: log what is done to a file in the home folder's `logs`."),
    ] = None,
) -> None:
    """Options that stand before a command's name; `read_settings` heeds them."""
    asked_log.set(log)


app.command()(runs.demo)
app.command()(runs.backtest)
app.command()(paper.paper)
app.command()(paper.live)
app.command()(paper.finish)
app.command()(rehearse.rehearse)
app.command()(safety.preview)
app.command()(safety.halt)
app.command()(safety.flatten)
app.command()(safety.arm)
app.command()(safety.reconcile)
app.command()(runs.report)
app.command()(runs.findings)
app.command()(runs.compare)
app.command()(divergence.divergence)
app.command()(show.show)
app.command("execution-status")(show.execution_status)
app.command()(show.lineage)
app.command()(scan.scan)
app.command()(environment.doctor)
app.command()(environment.metrics)
app.command()(markets.markets)
app.command()(meta_portfolio.meta_portfolio)
app.command()(gateway.gateway)
app.command()(serve.serve)
app.command()(jobs.worker)
app.add_typer(jobs.app, name="jobs")
app.add_typer(alerts.app, name="alerts")
app.add_typer(data.app, name="data")
app.add_typer(day.app, name="day")
app.add_typer(campaign.app, name="campaign")
app.add_typer(meta.app, name="meta")
app.add_typer(flow.app, name="flow")
app.add_typer(instruments.app, name="instruments")
app.add_typer(environment.db_app, name="db")
app.add_typer(environment.config_app, name="config")
app.add_typer(check.app, name="check")
app.add_typer(show.dump_app, name="dump")
app.add_typer(mission.app, name="mission")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(similar.app, name="similar")
app.add_typer(scenarios.app, name="scenarios")


def main() -> None:
    """Run the command line; every error that is the user's to mend ends with exit code 1."""
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            say("interrupted; what was finished is stored, run the command again to go on")
        raise
    except PrometheusError as error:
        err.print(f"[bold red]error:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
