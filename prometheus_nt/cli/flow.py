"""`prometheus flow ...`: the production workflow's three phases, each step a gate on the record."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import emit, out, print_rows, say

if TYPE_CHECKING:
    from prometheus_nt.jobs.flow import FlowRequest, FlowSummary

app = typer.Typer(
    no_args_is_help=True,
    help="The production workflow: data, production, meta. Run one again and it goes on where it "
    "stopped.",
)

SkipAnalysis = Annotated[bool, typer.Option("--skip-analysis", help="Leave out what only tells.")]
SkipValidation = Annotated[
    bool, typer.Option("--skip-validation", help="Leave out the proofs that take long.")
]
StartStep = Annotated[
    int | None,
    typer.Option(min=1, help="Do this step and those after it again; take what came before."),
]
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Stale and degraded instruments do not fail the data.")
]
STEPS = ("step", "name", "state", "code", "detail")


@app.command("data")
def flow_data(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
    source: Annotated[
        str | None, typer.Option(help="Where a new one comes from: sample, or ingest it first.")
    ] = None,
    scanner: Annotated[Path | None, typer.Option(help="A scanner's YAML file.")] = None,
    lenient: Lenient = False,
    start_step: StartStep = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a dataset, check it, repair it, derive from it and scan it; exit code 1 if a gate fails.

    Example: [cyan]prometheus flow data sample_ohlcv --source sample --lenient
    --scanner configs/scanners/us_liquid.yaml[/]
    """
    from prometheus_nt.jobs.data import SourceSpec
    from prometheus_nt.jobs.flow_steps import Skips, data_flow

    spec = None if source is None else SourceSpec(source)
    skips = Skips(start_step=start_step)
    _run(data_flow(dataset, spec, scanner, strict=not lenient, skips=skips), as_json)


@app.command("production")
def flow_production(
    campaign: Annotated[Path, typer.Argument(help="A campaign's YAML file.")],
    workers: Annotated[int, typer.Option(min=0, max=256, help="Processes; 0 is this one.")] = 2,
    lenient: Lenient = False,
    skip_analysis: SkipAnalysis = False,
    skip_validation: SkipValidation = False,
    start_step: StartStep = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a campaign on data that are whole, diagnose it and select; exit code 1 if a gate fails.

    Example: [cyan]prometheus flow production configs/campaigns/us_core_grid.yaml --lenient[/]
    """
    from prometheus_nt.jobs.flow_steps import Skips, production_flow

    skips = Skips(skip_analysis, skip_validation, start_step)
    _run(production_flow(campaign, workers, strict=not lenient, skips=skips), as_json)


@app.command("meta")
def flow_meta(
    run: Annotated[
        list[str] | None, typer.Option(help="A run id or its beginning, or a META- id.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A node's file; sleeves without a run are run.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Weights use returns up to this close."),
    ] = None,
    method: Annotated[str, typer.Option(help="As in `prometheus meta-portfolio`.")] = "hrp",
    max_asset: Annotated[float, typer.Option(help="Largest net weight of an instrument.")] = 0.25,
    skip_analysis: SkipAnalysis = False,
    skip_validation: SkipValidation = False,
    start_step: StartStep = None,
    as_json: JsonFlag = False,
) -> None:
    """Make one book of sleeves, ask every rule of its files and trade it; exit code 1 if one fails.

    Example: [cyan]prometheus flow meta --config configs/us_core_long_eq.yaml --as-of 2015-12-31[/]
    """
    from prometheus_nt.jobs.flow_steps import MetaFlow, Skips, meta_flow
    from prometheus_nt.jobs.meta_portfolio import meta_params

    params = meta_params(method=method, max_asset=max_asset)
    day = None if as_of is None else as_of.date()
    asked = MetaFlow(tuple(run or ()), config, day, params)
    _run(meta_flow(asked, skips=Skips(skip_analysis, skip_validation, start_step)), as_json)


@app.command("status")
def flow_status(
    flow_id: Annotated[str | None, typer.Argument(help="One flow; without it, all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how far flows are, by their sealed ledgers; of one, every step.

    Example: [cyan]prometheus flow status[/]
    """
    from prometheus_nt.domain.errors import ConfigError
    from prometheus_nt.jobs.flow import flow_statuses
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = flow_statuses(stores)
    if flow_id is None:
        rows = [
            (one.flow_id, one.phase, one.verdict, one.code, _passed(one), len(one.steps))
            for one in found
        ]
        columns = ("flow", "phase", "verdict", "code", "steps_passed", "steps")
        print_rows(columns, rows, as_json)
        return
    named = [one for one in found if one.flow_id == flow_id]
    if not named:
        raise ConfigError(f"{flow_id}: no such flow; `prometheus flow status` lists them")
    _print(named[0], as_json)


def _passed(summary: "FlowSummary") -> int:
    return sum(state == "PASS" for _, _, state, _, _ in summary.steps)


def _run(request: "FlowRequest", as_json: bool) -> None:
    from prometheus_nt.jobs.flow import run_flow
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        summary = run_flow(stores, request, None if as_json else say)
    _print(summary, as_json)
    if summary.verdict != "PASS":
        raise typer.Exit(1)


def _print(summary: "FlowSummary", as_json: bool) -> None:
    def told() -> None:
        print_rows(STEPS, summary.steps, as_json=False)
        code = f" {summary.code}" if summary.code else ""
        out.print(f"{summary.verdict}{code} {summary.flow_id}", highlight=False, soft_wrap=True)
        out.print(str(summary.folder / "INDEX.md"), highlight=False, soft_wrap=True)

    document = asdict(summary)
    document["steps"] = [dict(zip(STEPS, row, strict=True)) for row in summary.steps]
    emit(document, as_json, told)
