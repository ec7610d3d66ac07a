"""`prometheus day ...`: run trading days, and see how far they have come."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prometheus_nt.cli.arguments import (
    INTERRUPTED,
    Assignments,
    ConfigPaths,
    JsonFlag,
    NoApplied,
    asked_log,
    node_of,
    read_settings,
)
from prometheus_nt.cli.campaign import (
    DEFAULT_BASE,
    Base,
    DisableRisk,
    Workers,
    print_horizons,
    tell_risk,
)
from prometheus_nt.console import err, print_fields, print_rows, progress_bars, say

if TYPE_CHECKING:
    from persistence.engine_runs import EngineRun

app = typer.Typer(no_args_is_help=True, help="Trading days: from their data to their books.")

AsOf = Annotated[datetime, typer.Option("--as-of", formats=["%Y-%m-%d"], help="The session.")]
RollBack = Annotated[
    bool, typer.Option(help="If the market is closed that day, take the session before it.")
]

STATUS = (
    *("run_id", "as_of", "region", "strategy_id", "mode", "phase", "attempt", "failed_phase"),
    *("next_attempt_at", "owner", "error"),
)


@app.command("run")
def day_run(
    config: ConfigPaths,
    as_of: AsOf,
    roll_back: RollBack = False,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Take one session through all its phases; exit code 1 unless it is completed.

    It waits for its data, measures, selects, builds the books, and may be stopped and run again at
    any time: a phase that was cut off is done again, one that was finished is not.

    Example: [cyan]prometheus day run configs/us_core_long_eq_ohlcv.yaml --as-of 2013-02-28[/]
    """
    from prometheus_nt.domain.phases import RunPhase
    from prometheus_nt.jobs.day import DayRunner, ensure_day, session_of, worker_name
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, applied=not no_applied)
    session = session_of(node, as_of.date(), roll_back=roll_back)
    with open_stores(read_settings(), upgrade=True) as stores:
        run = ensure_day(node, session, stores)
        tell = None if as_json else lambda each: say(f"{each.as_of} {each.phase}")
        run = DayRunner(node, stores, worker_name()).run_to_end(run, tell)
    print_days([run], as_json, node.data.dataset)
    if run.phase is not RunPhase.COMPLETED:
        raise typer.Exit(1)


NodeConfigs = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        help="A node's YAML file; again for another node. Of `base.yaml,mine.yaml` the later one "
        "overrides. Default: configs/us_core_long_eq_ohlcv.yaml",
    ),
]
Regions = Annotated[
    list[str] | None,
    typer.Option("--region", help="US, EU or ASIA; again for another. Default: those of the nodes"),
]


@app.command("daemon")
def day_daemon(
    region: Regions = None,
    config: NodeConfigs = None,
    once: Annotated[bool, typer.Option("--once", help="Do what can be done now, and end.")] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=["%Y-%m-%d"], help="Only this session, and end."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last session; end when it is done."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also begin anew what has failed for good.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Jobs at the same time, a process each.")
    ] = 1,
    assign: Assignments = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the days of markets as they come: data, checks, signals, universes, books, outcomes.

    Every job waits for its market's close and for the jobs that it needs, has a time limit, and is
    tried again when it fails; missed sessions are caught up. Stop it at any time, by Ctrl-C or
    SIGTERM, and start it again: it goes on where it was. Two daemons never do a job twice. A
    changed configuration file is heeded without a restart.

    Exit code 1 if a job that a day cannot do without has failed. `prometheus day dag` shows the
    jobs, `prometheus show alerts` what somebody has to know; docs/daily.md tells the rest.

    Example: [cyan]prometheus day daemon --region US -c configs/us_core_long_eq_ohlcv.yaml
    --as-of 2013-02-28[/]
    """
    from prometheus_nt.jobs.applied import applied_in
    from prometheus_nt.jobs.daemon import DaemonRequest, NodeFiles, run_daemon
    from prometheus_nt.jobs.stores import open_stores

    settings = read_settings()
    request = DaemonRequest(
        regions=_regions(region),
        once=once,
        as_of=None if as_of is None else as_of.date(),
        until=None if until is None else until.date(),
        retry=retry,
        workers=workers,
        log=asked_log.get() or settings.log,
    )
    tell = None if as_json else say
    with open_stores(settings, upgrade=True) as stores, _stoppable() as asked:
        load = NodeFiles(_node_files(config), assign or (), applied_in(stores))
        summary = run_daemon(load, stores, request, asked.stop, tell)
    print_fields({**summary.counts, "failed": list(summary.failed)}, as_json)
    if asked.interrupted:
        raise typer.Exit(INTERRUPTED)
    if summary.failed and not asked.stop.is_set():
        raise typer.Exit(1)


@app.command("dag")
def day_dag(
    as_of: AsOf,
    region: Regions = None,
    config: NodeConfigs = None,
    assign: Assignments = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the jobs of a session in the order of their needs, and how each stands.

    Example: [cyan]prometheus day dag --as-of 2013-02-28 --region US[/]
    """
    from prometheus_nt.jobs.applied import applied_in
    from prometheus_nt.jobs.daemon import NodeFiles
    from prometheus_nt.jobs.daily_dag import dag_rows
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        nodes = NodeFiles(_node_files(config), assign or (), applied_in(stores))()
        columns, rows = dag_rows(nodes, stores, as_of.date(), _regions(region))
    shown = DAG_SHOWN if not as_json else columns
    picked = [tuple(dict(zip(columns, row, strict=True))[name] for name in shown) for row in rows]
    print_rows(shown, picked, as_json)


DAG_SHOWN = (
    *("job_id", "priority", "mandatory", "starts_at", "late_at", "timeout_seconds", "status"),
    *("attempt", "max_attempts", "next_attempt_at", "owner", "message"),
)


@dataclass
class _Asked:
    """Whether somebody asked to stop, and whether it was by Ctrl-C."""

    stop: Event
    interrupted: bool = False


@contextmanager
def _stoppable() -> Iterator[_Asked]:
    """Yield what Ctrl-C and SIGTERM set, so that what runs is ended in order."""
    asked = _Asked(Event())

    def ask(number: int, _frame: Any) -> None:
        asked.interrupted = number == signal.SIGINT
        asked.stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _regions(asked: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.upper() for name in asked or ()))


def _node_files(asked: list[str] | None) -> list[list[Path]]:
    """Return the files of each node asked for."""
    return [[Path(name) for name in each.split(",")] for each in asked or [str(DEFAULT_BASE)]]


@app.command("full")
def day_full(
    as_of: AsOf,
    strategy_id: Annotated[str, typer.Option()],
    market_id: Annotated[str, typer.Option()],
    region: Annotated[str, typer.Option(help="US, EU or ASIA")] = "US",
    campaign_start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Default: the node's first session."),
    ] = None,
    campaign_end: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Default: the day itself.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=0)] = 3,
    disable_risk: DisableRisk = False,
    skip_engine: Annotated[bool, typer.Option("--skip-engine", help="Campaign only.")] = False,
    skip_campaign: Annotated[bool, typer.Option("--skip-campaign", help="Day only.")] = False,
    even_if_failed: Annotated[
        bool,
        typer.Option("--even-if-failed", help="Run the campaign although the day is not done."),
    ] = False,
    max_engine_steps: Annotated[int, typer.Option(min=1)] = 8,
    roll_back: RollBack = False,
    config: Base = DEFAULT_BASE,
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Take a session through its phases, then run its strategy's campaign and decide.

    The campaign needs a completed day. Exit code 1 if the day is not completed or a variant failed.

    To compare with and without risk limits, run it twice, once with --skip-engine --disable-risk:
    only the campaign's sleeves lose the limits, the day itself keeps them. `prometheus show
    risk-actions` lists what they changed.

    Example: [cyan]prometheus day full --as-of 2013-02-28 --strategy-id US_CORE_LONG_EQ
    --market-id US_EQ --campaign-start 2011-01-03 --campaign-end 2013-02-28[/]
    """
    from prometheus_nt.jobs.day import session_of
    from prometheus_nt.jobs.full_day import (
        Horizons,
        completed,
        require_known_by,
        require_same_day,
        run_day,
        run_horizons,
    )
    from prometheus_nt.jobs.stores import open_stores

    if skip_engine and skip_campaign:
        raise typer.BadParameter("--skip-engine and --skip-campaign leave nothing to do")
    node = node_of([config], None)
    require_same_day(node, region, strategy_id, market_id)
    session = session_of(node, as_of.date(), roll_back=roll_back)
    start = campaign_start.date() if campaign_start else node.sessions.start
    end = campaign_end.date() if campaign_end else session
    require_known_by(session, end)
    asked = Horizons(strategy_id, market_id, start, end, config, top_k, disable_risk, workers)
    tell = None if as_json else lambda each: say(f"{each.as_of} {each.phase}")
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        run = None if skip_engine else run_day(node, session, stores, max_engine_steps, tell)
        if run is not None and (not as_json or skip_campaign):
            print_days([run], as_json)
        if skip_campaign or not (completed(run) or even_if_failed):
            if not completed(run):
                say(
                    "the day is not completed"
                    + ("" if skip_campaign else ", so its campaign was not run")
                )
                raise typer.Exit(1)
            return
        tell_risk(disable_risk)
        status, decision = run_horizons(asked, stores, progress)
    print_horizons(status, decision, as_json)
    if not completed(run):
        raise typer.Exit(1)


@app.command("advance")
def day_advance(
    config: ConfigPaths,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    retry: Annotated[bool, typer.Option(help="Also retry failed days that are due.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Move every unfinished day of a node's region one phase on; exit code 1 if one failed.

    Example: [cyan]prometheus day advance configs/us_core_long_eq_ohlcv.yaml[/]
    """
    from prometheus_nt.domain.phases import RunPhase
    from prometheus_nt.jobs.day import DayRunner, worker_name
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, applied=not no_applied)
    with open_stores(read_settings(), upgrade=True) as stores:
        moved = DayRunner(node, stores, worker_name()).advance_all(retry=retry)
    print_days(moved, as_json, node.data.dataset)
    if any(run.phase is RunPhase.FAILED for run in moved):
        raise typer.Exit(1)


@app.command("retry")
def day_retry(
    config: ConfigPaths,
    as_of: AsOf,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a failed day back to the phase it failed in, and go on from there.

    Example: [cyan]prometheus day retry configs/us_core_long_eq_ohlcv.yaml --as-of 2013-02-28[/]
    """
    from prometheus_nt.domain.phases import RunPhase
    from prometheus_nt.jobs.day import DayRunner, ensure_day, worker_name
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, applied=not no_applied)
    with open_stores(read_settings(), upgrade=True) as stores:
        run = DayRunner(node, stores, worker_name()).retry(ensure_day(node, as_of.date(), stores))
    print_days([run], as_json, node.data.dataset)
    if run.phase is not RunPhase.COMPLETED:
        raise typer.Exit(1)


@app.command("status")
def day_status(
    as_of: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    region: Annotated[str | None, typer.Option(help="US, EU or ASIA")] = None,
    phase: Annotated[str | None, typer.Option(help="Only days in this phase.")] = None,
    active: Annotated[bool, typer.Option(help="Only days that are not done.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List days and how far they have come, newest first.

    Example: [cyan]prometheus day status --active[/]
    """
    from prometheus_nt.jobs.days import RunFilters, list_days

    filters = RunFilters(
        as_of=None if as_of is None else as_of.date(),
        region=None if region is None else region.upper(),
        phase=None if phase is None else phase.upper(),
        active=active,
        limit=limit,
    )
    print_days(list_days(read_settings(), filters), as_json)


def print_days(runs: "list[EngineRun]", as_json: bool, dataset_id: str | None = None) -> None:
    """Print runs, and why each that is not completed is not; of a node's, what helps as well."""
    from prometheus_nt.jobs.days import reason_unfinished

    rows = [tuple(getattr(run, name) for name in STATUS) for run in runs]
    print_rows(STATUS, rows, as_json)
    for run in runs:
        reason = reason_unfinished(run, dataset_id)
        if reason is not None and not as_json:
            err.print(f"{run.as_of}: {reason}", highlight=False, markup=False, soft_wrap=True)
