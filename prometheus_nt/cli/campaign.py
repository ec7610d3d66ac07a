"""`prometheus campaign ...`: run many variants, see how far they are, and judge them."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.cli.meta import print_decision
from prometheus_nt.console import (
    emit,
    print_csv,
    print_fields,
    print_rows,
    print_runs,
    progress_bars,
    say,
)
from prometheus_nt.domain.runs import ExecutorKind

if TYPE_CHECKING:
    from prometheus_nt.jobs.campaign import CampaignStatus
    from prometheus_nt.jobs.meta import Decision

app = typer.Typer(
    no_args_is_help=True, help="Campaigns: many variants of a sleeve, every one counted."
)

CampaignFile = Annotated[Path, typer.Argument(help="The campaign's YAML file.")]
CampaignId = Annotated[str, typer.Argument(help="A campaign id, its beginning, or `latest`.")]
Workers = Annotated[
    int, typer.Option(min=0, max=256, help="Processes; 0 runs one after another in this one.")
]
OnExecutor = Annotated[
    ExecutorKind | None,
    typer.Option(
        "--executor",
        help="Where they run: in this process, in processes of this machine, or on a Ray cluster: "
        "that of PROMETHEUS_RAY_ADDRESS, else one of this machine's own. Default: "
        "PROMETHEUS_EXECUTOR, else process.",
    ),
]
DisableRisk = Annotated[
    bool,
    typer.Option(
        "--disable-risk",
        help="Switch the risk engine's limits off; the portfolio's own caps and the order gate "
        "stay. The runs' configurations record it.",
    ),
]
InitialCash = Annotated[
    float | None,
    typer.Option(min=1.0, help="What each sleeve begins with, USD; default 1,000,000."),
]
Base = Annotated[Path, typer.Option(help="The node whose data and settings are used.")]
DEFAULT_BASE = Path("configs/us_core_long_eq_ohlcv.yaml")
Day = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])]

TRIALS = (
    *("position", "sleeve_id", "status", "attempt", "seconds", "run_id", "settings"),
    *("gap_bps", "error", "message"),
)


@app.command("run")
def campaign_run(
    file: CampaignFile,
    workers: Workers = 2,
    executor: OnExecutor = None,
    as_json: JsonFlag = False,
) -> None:
    """Run every variant of a campaign; exit code 1 if one failed.

    Run it again, or resume it, after any crash: what has ended is not done again.
    `prometheus meta rank --campaign latest` judges them.

    Example: [cyan]prometheus campaign run configs/campaigns/us_core_grid.yaml --workers 2[/]
    """
    from prometheus_nt.campaign_config import load_campaign
    from prometheus_nt.jobs.campaign import run_campaign
    from prometheus_nt.jobs.stores import open_stores

    plan = load_campaign(file)
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        status = run_campaign(plan, stores, workers=workers, executor=executor, progress=progress)
    _print_status(status, as_json)


@app.command("resume")
def campaign_resume(
    campaign: CampaignId = "latest",
    workers: Workers = 2,
    executor: OnExecutor = None,
    retry: Annotated[bool, typer.Option(help="Also run again what failed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Go on with a campaign that was stopped; exit code 1 if a variant failed.

    Example: [cyan]prometheus campaign resume latest[/]
    """
    from prometheus_nt.jobs.campaign import resume_campaign
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        status = resume_campaign(
            campaign, stores, workers=workers, executor=executor, retry=retry, progress=progress
        )
    _print_status(status, as_json)


@app.command("status")
def campaign_show(
    campaign: CampaignId = "latest",
    trials: Annotated[bool, typer.Option(help="Also every variant.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how far a campaign is.

    Example: [cyan]prometheus campaign status latest --trials[/]
    """
    from prometheus_nt.jobs.campaign import campaign_status, trial_rows
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        status = campaign_status(stores, campaign)
        rows = trial_rows(stores, campaign, TRIALS) if trials else []
    if as_json:
        listed = [dict(zip(TRIALS, row, strict=True)) for row in rows]
        emit({**asdict(status), "trials": listed}, as_json, lambda: None)
        return
    print_fields(asdict(status), as_json)
    if trials:
        print_rows(TRIALS, rows, as_json)


@app.command("estimate")
def campaign_estimate(file: CampaignFile, workers: Workers = 2, as_json: JsonFlag = False) -> None:
    """Say how many variants a campaign has and how long it will take; run nothing.

    Example: [cyan]prometheus campaign estimate configs/campaigns/us_core_grid.yaml[/]
    """
    from prometheus_nt.campaign_config import load_campaign
    from prometheus_nt.jobs.campaign import estimate_campaign
    from prometheus_nt.jobs.stores import open_stores

    plan = load_campaign(file)
    with open_stores(read_settings(), upgrade=True) as stores:
        print_fields(asdict(estimate_campaign(plan, stores, workers)), as_json)


@app.command("list")
def campaign_list(
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50, as_json: JsonFlag = False
) -> None:
    """List campaigns, newest first.

    Example: [cyan]prometheus campaign list[/]
    """
    from prometheus_nt.jobs.campaign import list_campaigns
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        columns, rows = list_campaigns(stores, limit)
    print_rows(columns, rows, as_json)


@app.command("holdout")
def campaign_holdout(
    campaign: CampaignId,
    sleeve_id: Annotated[str, typer.Argument(help="One of its variants.")],
    as_json: JsonFlag = False,
) -> None:
    """Run one variant on the sealed hold-out: a look that is counted, whatever it shows.

    Example: [cyan]prometheus campaign holdout latest US_CORE_LONG_EQ_H21_V81768AE1D2[/]
    """
    from prometheus_nt.jobs.campaign import look_at_holdout
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        summary, looks = look_at_holdout(stores, campaign, sleeve_id, progress)
    if not as_json:
        say(f"look number {looks} of this family at this hold-out")
    print_runs([summary], as_json)


@app.command("and-meta")
def campaign_and_meta(
    strategy_id: Annotated[str, typer.Option()],
    market_id: Annotated[str, typer.Option()],
    start: Day,
    end: Day,
    top_k: Annotated[int, typer.Option(min=0)] = 3,
    disable_risk: DisableRisk = False,
    config: Base = DEFAULT_BASE,
    workers: Workers = 2,
    executor: OnExecutor = None,
    initial_cash: InitialCash = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a strategy's sleeves, one a horizon, and decide which go on; print runs as CSV.

    To compare with and without risk limits, run it twice, once with --disable-risk: both runs keep
    their rows, and `prometheus show risk-actions` lists what the limits changed.

    Example: [cyan]prometheus campaign and-meta --strategy-id US_CORE_LONG_EQ --market-id US_EQ
    --start 2004-01-02 --end 2005-12-30 --top-k 3[/]
    """
    from prometheus_nt.jobs.full_day import Horizons, run_horizons
    from prometheus_nt.jobs.stores import open_stores

    window = (start.date(), end.date())
    asked = Horizons(
        strategy_id,
        market_id,
        *window,
        config,
        top_k,
        disable_risk,
        workers,
        executor,
        initial_cash,
    )
    tell_risk(disable_risk)
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        status, decision = run_horizons(asked, stores, progress)
    print_horizons(status, decision, as_json)


def tell_risk(disable_risk: bool) -> None:
    """Say what is disabled, where something is."""
    from prometheus_nt.campaign_config import RISK_OFF_NOTE

    if disable_risk:
        say(RISK_OFF_NOTE)


def print_horizons(status: "CampaignStatus", decision: "Decision", as_json: bool) -> None:
    """Print the runs as CSV and the decision; exit code 1 if a variant failed."""
    from prometheus_nt.jobs.meta import RUN_COLUMNS

    if as_json:
        emit({"campaign": asdict(status), **decision.document()}, as_json, lambda: None)
    else:
        print_csv(RUN_COLUMNS, decision.runs)
        print_decision(decision, as_json)
    if status.failed:
        raise typer.Exit(1)


def _print_status(status: "CampaignStatus", as_json: bool) -> None:
    print_fields(asdict(status), as_json)
    if status.failed:
        if not as_json:
            say(f"{status.failed} failed; `prometheus campaign status --trials` says why")
        raise typer.Exit(1)
