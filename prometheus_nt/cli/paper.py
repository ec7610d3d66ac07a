"""`prometheus paper`: trade a node on the simulated venue."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prometheus_nt.cli.arguments import (
    Assignments,
    ConfigPaths,
    JsonFlag,
    NoApplied,
    node_of,
    read_settings,
)
from prometheus_nt.console import print_json, print_rows, say

if TYPE_CHECKING:
    from prometheus_nt.jobs.paper import SessionStatus


def paper(
    config: ConfigPaths,
    fast: Annotated[
        bool, typer.Option("--fast", help="Rehearse on stored data: do not wait for new sessions.")
    ] = False,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Last session.")
    ] = None,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Trade a node on the simulated venue, session by session, as its data arrive.

    Every session is on the disk before the next one begins. Ctrl-C stops between two sessions;
    started again, even after a crash, the run goes on where it was.

    Example: [cyan]prometheus paper configs/us_core_long_eq_ohlcv.yaml --fast --until 2005-06-30[/]
    """
    from prometheus_nt.jobs.paper import PaperRequest, run_paper
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, mode="paper", applied=not no_applied)
    request = PaperRequest(
        fast=fast,
        start=None if start is None else start.date(),
        until=None if until is None else until.date(),
    )
    tell = None if as_json else _tell
    with open_stores(read_settings(), upgrade=True) as stores, _interruptible() as stop:
        runs = [asdict(run) for run in run_paper(node, stores, request, stop, tell)]
    if as_json:
        print_json(runs)
        return
    columns = tuple(runs[0])
    print_rows(columns, [tuple(run.values()) for run in runs], as_json=False)


def _tell(status: "SessionStatus") -> None:
    if status.replayed:
        return
    say(
        f"{status.session} {status.sleeve_id} equity {status.equity:,.2f} cash {status.cash:,.2f} "
        f"positions {status.positions} fills {status.fills} waiting {status.waiting_orders}"
    )


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that a session is never cut in two."""
    stop = Event()

    def ask(_number: int, _frame: Any) -> None:
        say("stopping after this session")
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
