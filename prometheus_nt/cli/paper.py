"""`prometheus paper | live | finish`: trade a node, session by session."""

import getpass
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
    from prometheus_nt.config import NodeConfig
    from prometheus_nt.jobs.paper_request import SessionStatus


From = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Last session.")
]
Acknowledge = Annotated[
    str | None,
    typer.Option(help="Who has looked at the halts of the broker's account: it may go on."),
]


def paper(
    config: ConfigPaths,
    fast: Annotated[
        bool, typer.Option("--fast", help="Rehearse on stored data: do not wait for new sessions.")
    ] = False,
    start: From = None,
    until: Until = None,
    acknowledge: Acknowledge = None,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Trade a node on paper, session by session, as its data arrive.

    On the simulated venue, or with venue: ib on a paper account at Interactive Brokers. Every
    session is on the disk before the next one begins. Ctrl-C stops between two sessions; started
    again, even after a crash, the run goes on where it was.

    Example: [cyan]prometheus paper configs/us_core_long_eq_ohlcv.yaml --fast --until 2005-06-30[/]
    """
    node = node_of(config, assign, mode="paper", applied=not no_applied)
    _trade(node, _Asked(fast, start, until, acknowledge), as_json)


def live(
    config: ConfigPaths,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print the second key of this node, and stop.")
    ] = False,
    start: From = None,
    until: Until = None,
    acknowledge: Acknowledge = None,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Trade a node with real money at Interactive Brokers, session by session.

    The node's file needs mode: live and venue: ib, the environment PROMETHEUS_IB_LIVE_ACCOUNT with
    the number of the account, and PROMETHEUS_LIVE_KEY with what --show-key prints. docs/trading.md
    says what to do before, and what each alarm means.

    Example: [cyan]prometheus live configs/mine.yaml --show-key[/]
    """
    from prometheus_nt.jobs.live_keys import key_of, require_two_keys

    settings = read_settings()
    node = node_of(config, assign, applied=not no_applied)
    if show_key:
        print(key_of(node, settings))  # noqa: T201
        return
    require_two_keys(node, settings)
    _trade(node, _Asked(False, start, until, acknowledge), as_json)


class _Asked(NamedTuple):
    """What the command line says besides the node."""

    fast: bool
    start: datetime | None
    until: datetime | None
    acknowledge: str | None


def _trade(node: "NodeConfig", asked: _Asked, as_json: bool) -> None:
    from prometheus_nt.jobs.paper import run_paper
    from prometheus_nt.jobs.paper_request import PaperRequest
    from prometheus_nt.jobs.stores import open_stores

    request = PaperRequest(
        fast=asked.fast,
        start=None if asked.start is None else asked.start.date(),
        until=None if asked.until is None else asked.until.date(),
        acknowledge=asked.acknowledge,
    )
    tell = None if as_json else tell_session
    with open_stores(read_settings(), upgrade=True) as stores, _interruptible() as stop:
        runs = [asdict(run) for run in run_paper(node, stores, request, stop, tell)]
    if as_json:
        print_json(runs)
        return
    columns = tuple(runs[0])
    print_rows(columns, [tuple(run.values()) for run in runs], as_json=False)


def finish(
    run: Annotated[str, typer.Argument(help="A paper or live run's id, or its beginning.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """End a paper or live run for good; its sleeve may begin another one then.

    A sleeve has one open run of a mode: its settings cannot change while it trades. What is held
    at a broker has to be closed first; what the simulated venue holds ends with the run.

    Example: [cyan]prometheus finish US_CORE_LONG_EQ_H21-PAPER --reason "new limits"[/]
    """
    from prometheus_nt.jobs.paper_finish import finish_run
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        done = asdict(finish_run(stores, run, getpass.getuser(), reason))
    if as_json:
        print_json(done)
        return
    print_rows(tuple(done), [tuple(done.values())], as_json=False)


def tell_session(status: "SessionStatus") -> None:
    """Say where a sleeve stands after a session that is new."""
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
