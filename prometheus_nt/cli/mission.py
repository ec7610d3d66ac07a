"""`prometheus mission ...`: the names and flags that the mission's documents use for our commands.

Each inspection is `prometheus show` of one listing, under the name of the script that listed it.
"""

import inspect
from collections.abc import Callable
from datetime import datetime
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

import typer

from prometheus_nt.cli import campaign, meta, show
from prometheus_nt.cli.arguments import JsonFlag, node_of, read_settings
from prometheus_nt.cli.day import day_full, print_days
from prometheus_nt.domain.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Our commands under the mission's names.")

LISTED = {
    "show_engine_runs": ("engine-runs", "--as-of 2024-03-28 --region US"),
    "show_engine_decisions": ("engine-decisions", "--engine-name META_ORCHESTRATOR --limit 20"),
    "show_orders": ("orders", "--portfolio-id US_CORE_LONG_EQ --mode BACKTEST --limit 50"),
    "show_fills": ("fills", "--portfolio-id US_CORE_LONG_EQ --mode BACKTEST --limit 50"),
    "show_positions_snapshots": ("positions", "--portfolio-id US_CORE_LONG_EQ --limit 50"),
    "show_risk_actions": ("risk-actions", "--strategy-id US_CORE_LONG_EQ"),
    "show_backtest_runs": ("runs", "--strategy-id US_CORE_LONG_EQ"),
    "show_backtest_daily_equity": ("equity", "--portfolio-id US_CORE_LONG_EQ_H21"),
    "show_universe_members": ("universe-members", "--as-of 2024-03-28"),
    "show_portfolio_risk_reports": ("risk-reports", "--portfolio-id US_CORE_LONG_EQ_H21"),
    "show_execution_risk": ("execution-risk", "--csv"),
}
"""Script, what it lists, and the options of its example."""


def _listing(script: str, what: str, options: str) -> Callable[..., None]:
    """Return `show` of one listing as a command of its own."""

    def command(**given: Any) -> None:
        show.show(what, **given)

    signature = inspect.signature(show.show)
    rest = [one for name, one in signature.parameters.items() if name != "what"]
    command.__doc__ = (
        f"List {what}: the same as `prometheus show {what}`.\n\n"
        f"Example: [cyan]prometheus mission {script} {options}[/]"
    )
    command.__annotations__ = {one.name: one.annotation for one in rest}
    command.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return command


for name, (listed, example) in LISTED.items():
    app.command(name)(_listing(name, listed, example))

FULL_DAY = "run_full_day_core_pipeline"
app.command(
    FULL_DAY, help=cleandoc(day_full.__doc__ or "").replace("day full", f"mission {FULL_DAY}")
)(day_full)

Node = Annotated[Path, typer.Option(help="The node's YAML file.")]
DEFAULT_NODE = Path("configs/us_core_long_eq_ohlcv.yaml")


@app.command("run_engine_state")
def run_engine_state(
    as_of: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    region: Annotated[str | None, typer.Option(help="Must be the node's.")] = None,
    ensure: Annotated[bool, typer.Option(help="Make the day's run if there is none.")] = False,
    data_ready: Annotated[
        bool, typer.Option(help="Move it on if enough prices are there; they are counted.")
    ] = False,
    advance_all: Annotated[bool, typer.Option(help="Move unfinished days one phase on.")] = False,
    config: Node = DEFAULT_NODE,
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a day's run, let it see that its data are there, or move all days one phase on.

    A day on which the market is closed is refused, and the session before it named.

    Example: [cyan]prometheus mission run_engine_state --as-of 2013-02-28 --region US --ensure[/]
    """
    from prometheus_nt.jobs.day import change_engine_state
    from prometheus_nt.jobs.stores import open_stores

    node = node_of([config], assign)
    day = None if as_of is None else as_of.date()
    steps = {"ensure": ensure, "data_ready": data_ready, "advance_all": advance_all}
    with open_stores(read_settings(), upgrade=True) as stores:
        moved = change_engine_state(node, stores, day, region, steps)
    print_days(moved, as_json)


@app.command("run_campaign_and_meta")
def run_campaign_and_meta(
    strategy_id: Annotated[str, typer.Option()],
    market_id: Annotated[str, typer.Option()],
    start: campaign.Day,
    end: campaign.Day,
    top_k: Annotated[int, typer.Option(min=0)] = 3,
    initial_cash: campaign.InitialCash = None,
    disable_risk: campaign.DisableRisk = False,
    assessment_backend: Annotated[str, typer.Option(help="`basic` is the one there is.")] = "basic",
    assessment_use_joint_context: Annotated[
        bool, typer.Option("--assessment-use-joint-context", help="Refused: see below.")
    ] = False,
    assessment_context_model_id: Annotated[str | None, typer.Option(help="Refused.")] = None,
    assessment_model_id: Annotated[str | None, typer.Option(help="Refused.")] = None,
    config: campaign.Base = campaign.DEFAULT_BASE,
    workers: campaign.Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Run a strategy's sleeves and decide which go on: `prometheus campaign and-meta`.

    Models have settings here, not ids: what an assessment is made of stands in the node's file
    under `engines.assessment`, and is part of a run's id. A flag that would change nothing is
    refused rather than accepted.

    Example: [cyan]prometheus mission run_campaign_and_meta --strategy-id US_CORE_LONG_EQ
    --market-id US_EQ --start 2004-01-02 --end 2005-12-30 --top-k 3 --initial-cash 1000000[/]
    """
    asked = {
        "--assessment-backend": assessment_backend if assessment_backend != "basic" else None,
        "--assessment-use-joint-context": assessment_use_joint_context or None,
        "--assessment-context-model-id": assessment_context_model_id,
        "--assessment-model-id": assessment_model_id,
    }
    refused = [flag for flag, value in asked.items() if value is not None]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)}: an assessment has settings here, not a model's id; set "
            "engines.assessment in the node's file and name it with --config"
        )
    campaign.campaign_and_meta(
        strategy_id,
        market_id,
        start,
        end,
        top_k,
        disable_risk,
        config,
        workers,
        None,
        initial_cash,
        as_json,
    )


app.command("show_execution_status")(show.execution_status)
app.command("dump_portfolio")(show.dump_portfolio)


@app.command("find_similar_meta_runs")
def find_similar_meta_runs(
    run_id: Annotated[str, typer.Option(help="A run id, its beginning, or `latest`.")],
    model_id: Annotated[str, typer.Option(help="The one space of runs there is.")] = meta.SPACE,
    top_k: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    as_json: JsonFlag = False,
) -> None:
    """List the runs most like one by configuration and market: `prometheus meta similar`.

    Example: [cyan]prometheus mission find_similar_meta_runs --run-id latest --top-k 10[/]
    """
    meta.similar_runs(run_id, model_id, top_k, as_json=as_json)
