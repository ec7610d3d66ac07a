"""`prometheus jobs ...` and `prometheus worker`: ask for work, see how it goes, and do it."""

import getpass
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import emit, out, print_fields, print_json, print_rows, say

if TYPE_CHECKING:
    from persistence.job_queue import Job, LogLine
    from prometheus_nt.jobs.stores import Stores

app = typer.Typer(no_args_is_help=True, help="Jobs: submit work, follow it, cancel and retry it.")

JobArgument = Annotated[str, typer.Argument(help="A job id, its beginning, or `latest`.")]
Follow = Annotated[bool, typer.Option("--follow", help="Print its log until it has ended.")]

LISTED = (
    *("job_id", "kind", "status", "progress", "message", "attempt", "submitted_by"),
    *("created_at", "started_at", "completed_at"),
)
FOLLOW_SECONDS = 0.5


@app.command("submit")
def jobs_submit(
    kind: Annotated[str, typer.Argument(help="`prometheus jobs kinds` lists them.")],
    spec: Annotated[
        str | None, typer.Option(help="A JSON object, or @FILE to read it from a file.")
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "-c", "--config", help="YAML files of the node or the campaign; later ones override."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The same key again is the same job, not a second one.")
    ] = None,
    priority: Annotated[str, typer.Option(help="CRITICAL, STANDARD or OPTIONAL.")] = "STANDARD",
    delay: Annotated[float, typer.Option(min=0, help="Seconds to wait at least.")] = 0.0,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds of running; default that of the kind.")
    ] = None,
    follow: Follow = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask for work; a worker does it.

    Example: [cyan]prometheus jobs submit backtest -c configs/us_core_long_eq_ohlcv.yaml[/]

    Example: [cyan]prometheus jobs submit report --spec '{"run": "latest"}'[/]
    """
    from prometheus_nt.jobs.applied import applied_in
    from prometheus_nt.jobs.queue import Terms, priority_of, submit, with_files
    from prometheus_nt.jobs.stores import open_stores

    asked = _document(spec)
    terms = Terms(
        priority=priority_of(priority),
        key=key,
        not_before=datetime.now().astimezone() + timedelta(seconds=delay) if delay else None,
        timeout_seconds=timeout,
    )
    with open_stores(read_settings(), upgrade=True) as stores:
        content = with_files(kind, asked, config or [], applied_in(stores))
        job = submit(stores, kind, content, getpass.getuser(), terms)
        if follow:
            _follow(stores, job, as_json)
            return
    emit(asdict(job), as_json, lambda: out.print(job.job_id, highlight=False))
    if not as_json:
        say(f"waits for a worker; `prometheus jobs show {job.job_id}` tells how it goes")


@app.command("kinds")
def jobs_kinds(as_json: JsonFlag = False) -> None:
    """List the kinds of jobs and the fields of their specs.

    Example: [cyan]prometheus jobs kinds[/]
    """
    from prometheus_nt.jobs.queue import list_kinds

    columns, rows = list_kinds()
    print_rows(columns, rows, as_json)


@app.command("list")
def jobs_list(
    status: Annotated[
        str | None, typer.Option(help="PENDING, RUNNING, COMPLETED, FAILED or CANCELLED.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    by: Annotated[str | None, typer.Option(help="Only jobs that this user submitted.")] = None,
    after: Annotated[
        str | None, typer.Option(help="The last job of the page before this one.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first.

    Example: [cyan]prometheus jobs list --status FAILED[/]
    """
    from prometheus_nt.jobs.queue import JobFilters, kind_of, listing
    from prometheus_nt.jobs.stores import open_stores

    asked = None if status is None else status.upper()
    if kind is not None:
        kind_of(kind)
    filters = JobFilters(status=asked, kind=kind, submitted_by=by, after=after, limit=limit)
    with open_stores(read_settings()) as stores:
        found = listing(stores, filters)
    print_rows(LISTED, [tuple(getattr(job, name) for name in LISTED) for job in found], as_json)


@app.command("show")
def jobs_show(job: JobArgument = "latest", as_json: JsonFlag = False) -> None:
    """Say how a job stands, what it came to, or why it failed.

    Example: [cyan]prometheus jobs show latest[/]
    """
    from prometheus_nt.jobs.queue import find
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = find(stores, job)
    print_fields(asdict(found), as_json)
    if not as_json:
        _explain(found)


@app.command("logs")
def jobs_logs(
    job: JobArgument = "latest", follow: Follow = False, as_json: JsonFlag = False
) -> None:
    """Print what a job has logged; with --follow, until it has ended: exit code 1 if it failed.

    Example: [cyan]prometheus jobs logs latest --follow[/]
    """
    from prometheus_nt.jobs.queue import all_logs, find
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = find(stores, job)
        if follow:
            _follow(stores, found, as_json)
            return
        lines = list(all_logs(stores, found.job_id))
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    for line in lines:
        _print_line(line, as_json)


@app.command("cancel")
def jobs_cancel(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Cancel a job that waits, or ask for one that runs to be stopped.

    Example: [cyan]prometheus jobs cancel latest[/]
    """
    from prometheus_nt.jobs.queue import cancel, find
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = cancel(stores, find(stores, job).job_id)
    _print_state(found, as_json)


@app.command("retry")
def jobs_retry(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Let a job that failed or was cancelled wait for a worker again.

    Example: [cyan]prometheus jobs retry latest[/]
    """
    from prometheus_nt.jobs.queue import find, retry
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = retry(stores, find(stores, job).job_id)
    _print_state(found, as_json)


def worker(
    once: Annotated[bool, typer.Option("--once", help="Run what waits now, then end.")] = False,
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Jobs at the same time, a process each.")
    ] = 1,
    kinds: Annotated[
        list[str] | None, typer.Option(help="Only jobs of this kind; may be repeated.")
    ] = None,
    drain: Annotated[
        float,
        typer.Option(min=0, help="Seconds for running jobs when the worker is asked to stop."),
    ] = 0.0,
    silence: Annotated[
        float,
        typer.Option(
            min=2,
            help="Seconds without a heartbeat after which a worker counts as dead; the same for "
            "all workers.",
        ),
    ] = 60.0,
) -> None:
    """Run jobs until it is stopped; what is not done then is given back and done by another.

    Example: [cyan]prometheus worker --concurrency 2[/]
    """
    from prometheus_nt.jobs.worker import Worker, WorkerOptions

    options = WorkerOptions(
        concurrency=concurrency,
        kinds=tuple(kinds) if kinds else None,
        once=once,
        drain_seconds=drain,
        silence=timedelta(seconds=silence),
    )
    working = Worker(read_settings(), options)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: working.request_stop())
    say(f"{working.name} works; Ctrl-C gives back what is not done")
    settled = working.run()
    say(f"{settled} jobs settled")


def _document(spec: str | None) -> dict[str, Any]:
    from prometheus_nt.domain.errors import ConfigError

    if spec is None:
        return {}
    try:
        text = Path(spec[1:]).read_text(encoding="utf-8") if spec.startswith("@") else spec
        content = json.loads(text)
    except (OSError, ValueError) as unreadable:
        raise ConfigError(f"--spec: cannot be read as JSON: {unreadable}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--spec: expected a JSON object, found {type(content).__name__}")
    return content


def _follow(stores: "Stores", job: "Job", as_json: bool) -> None:
    """Print the log of a job until it has ended, then how it ended; exit code 1 unless it is done.

    As JSON, a document a line.
    """
    from prometheus_nt.jobs.queue import find

    for line in _lines_until_the_end(stores, job):
        _print_line(line, as_json)
    found = find(stores, job.job_id)
    if as_json:
        _print_document(asdict(found))
    else:
        _explain(found)
    if found.status != "COMPLETED":
        raise typer.Exit(1)


def _lines_until_the_end(stores: "Stores", job: "Job") -> "Iterator[LogLine]":
    from prometheus_nt.jobs.queue import all_logs, find

    after = 0
    while True:
        # Asked before the lines are read: the last of them are written with the end.
        ended = find(stores, job.job_id).ended
        for line in all_logs(stores, job.job_id, after):
            after = line.sequence
            yield line
        if ended:
            return
        time.sleep(FOLLOW_SECONDS)


def _print_line(line: "LogLine", as_json: bool) -> None:
    if as_json:
        _print_document(asdict(line))
        return
    text = f"{line.at:%Y-%m-%d %H:%M:%S} {line.level} {line.message}"
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_document(document: dict[str, Any]) -> None:
    text = json.dumps(document, default=str)
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_state(job: "Job", as_json: bool) -> None:
    emit(
        asdict(job),
        as_json,
        lambda: print_fields({"job_id": job.job_id, "status": job.status}, as_json=False),
    )
    if job.cancel_requested and not job.ended and not as_json:
        say("its worker stops it within seconds")


def _explain(job: "Job") -> None:
    if job.error is not None:
        say(f"{job.job_id} {job.status}: {job.error['type']}: {job.error['message']}")
        if job.error.get("remedy"):
            say(f"remedy: {job.error['remedy']}")
    elif job.ended:
        say(f"{job.job_id} {job.status}")
