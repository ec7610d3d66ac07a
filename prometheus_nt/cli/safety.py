"""`prometheus halt | flatten | arm | reconcile | preview | live`: stop trading, and look first."""

import getpass
from dataclasses import asdict
from datetime import datetime
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
from prometheus_nt.domain.errors import VenueError
from prometheus_nt.domain.safety import ALL, SwitchState

if TYPE_CHECKING:
    from prometheus_nt.jobs.preview import OrderPreview

SleeveOrNone = Annotated[str | None, typer.Argument(help="A sleeve's id.")]
AllFlag = Annotated[bool, typer.Option("--all", help="Every sleeve.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
Confirmation = Annotated[
    str | None,
    typer.Option("--confirm", help="The name of what is armed or closed, instead of typing it."),
]


def halt(
    sleeve: SleeveOrNone = None,
    every: AllFlag = False,
    reason: Reason = "",
    listed: Annotated[bool, typer.Option("--list", help="Show every switch instead.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also a sleeve that has never begun a run.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Pull the kill switch: no order of a sleeve, or of any, leaves until it is armed again.

    A running node sees it before its next orders leave, and orders that wait are cancelled.
    Positions stay. It holds over restarts. A name that no run has is refused, for a misspelt halt
    stops nobody.

    Example: [cyan]prometheus halt --all --reason "prices look wrong"[/]
    """
    from prometheus_nt.jobs.safety import halt as pull
    from prometheus_nt.jobs.safety import require_known_sleeve, switch_states
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        if listed:
            _print_states(switch_states(stores), as_json)
            return
        scope = _scope(sleeve, every)
        if scope != ALL and not force:
            require_known_sleeve(stores, scope)
        done = pull(stores, scope, reason, getpass.getuser())
    _print_states([done], as_json)


def arm(
    sleeve: SleeveOrNone = None,
    every: AllFlag = False,
    reason: Reason = "",
    confirm: Confirmation = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a sleeve trade again after a halt; the only way back.

    Asks for the sleeve's name, or ALL, as confirmation.

    Example: [cyan]prometheus arm US_CORE_LONG_EQ_H21 --reason "feed is back, books agree"[/]
    """
    from prometheus_nt.jobs.safety import arm as release
    from prometheus_nt.jobs.safety import switch_state
    from prometheus_nt.jobs.stores import open_stores

    scope = _scope(sleeve, every)
    with open_stores(read_settings()) as stores:
        say(str(switch_state(stores, scope)))
        typed = _typed(confirm, f"type {scope} to arm it")
        done = release(stores, scope, reason, getpass.getuser(), typed)
        held = switch_state(stores, scope)
    _print_states([done] if held.scope == scope else [done, held], as_json)


def flatten(
    sleeve: Annotated[str, typer.Argument(help="A sleeve's id.")],
    reason: Reason = "",
    confirm: Confirmation = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Close everything that a sleeve holds, and nothing else; then it is halted.

    Shows the orders first. What waits is cancelled, at the broker too; the closing orders are
    decided at the next close of the node that trades it, and fill at the open after.

    Example: [cyan]prometheus flatten US_CORE_LONG_EQ_H21 --reason "strategy retired"[/]
    """
    from prometheus_nt.jobs.preview import flatten_preview
    from prometheus_nt.jobs.safety import flatten as wind_down
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        try:
            found = flatten_preview(stores, sleeve)
        except VenueError as unknown:
            # Getting out must not wait for a picture of it.
            say(f"the orders cannot be shown: {unknown}")
            found = None
        if found is not None:
            _require_passing(found, as_json)
        typed = sleeve if yes else _typed(confirm, f"type {sleeve} to close all of it")
        if typed != sleeve:
            say(f"{sleeve} stays as it is")
            raise typer.Exit(1)
        done = wind_down(stores, sleeve, reason, getpass.getuser())
    if as_json:
        orders = None if found is None else [asdict(row) for row in found.rows]
        print_json({"switch": asdict(done), "orders": orders})
        return
    _print_states([done], as_json=False)


def _require_passing(found: "OrderPreview", as_json: bool) -> None:
    """Show what would close a sleeve, and end if the gate refuses it."""
    if not as_json:
        _print_preview(found)
    if found.refusal is not None:
        say(f"the gate refuses this: {found.refusal}")
        raise typer.Exit(1)


def reconcile(
    sleeve: Annotated[str, typer.Argument(help="A sleeve's id.")],
    pull: Annotated[
        bool, typer.Option("--halt/--no-halt", help="Halt the sleeve if anything differs.")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Compare what is recorded of a sleeve with its venue: positions, open orders, cash.

    At a broker its own lists are asked for, beside the node that trades there, and all sleeves of
    the node are compared together. Lists every break and ends with exit code 1 if there is one;
    corrects nothing.

    Example: [cyan]prometheus reconcile US_CORE_LONG_EQ_H21[/]
    """
    from prometheus_nt.jobs.reconcile import reconcile as compare
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings()) as stores:
        found = compare(stores, sleeve, f"{getpass.getuser()}: reconcile", pull=pull)
    if as_json:
        print_json(asdict(found))
    else:
        columns = ("kind", "subject", "recorded", "at_venue", "difference")
        if found.breaks:
            rows = [tuple(asdict(each).values()) for each in found.breaks]
            print_rows(columns, rows, as_json=False)
        say(
            f"{found.run_id} as of {found.as_of}: {found.positions} positions,"
            f" {found.open_orders} open orders, {len(found.breaks)} breaks; {found.switch}"
        )
        for note in found.notes:
            say(note)
    if found.breaks:
        raise typer.Exit(1)


def preview(
    config: ConfigPaths,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")
    ] = None,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a paper node would send at the next open; nothing is sent or written.

    Goes on from the paper run of this configuration; without one, a run begins at the newest
    session. Of a node at a broker it knows what that node has recorded; the broker is not asked.

    Example: [cyan]prometheus preview configs/us_core_long_eq_ohlcv.yaml[/]
    """
    from prometheus_nt.jobs.preview import preview as rehearse
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, mode="paper", applied=not no_applied)
    with open_stores(read_settings()) as stores:
        found = rehearse(node, stores, None if start is None else start.date())
    if as_json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        _print_preview(each)


def _scope(sleeve: str | None, every: bool) -> str:
    if every == (sleeve is not None):
        raise typer.BadParameter("name one sleeve, or --all")
    return ALL if sleeve is None else sleeve


def _typed(given: str | None, prompt: str) -> str:
    return given if given is not None else str(typer.prompt(prompt, err=True))


def _print_states(states: list[SwitchState], as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in states])
        return
    columns = ("scope", "state", "cause", "by", "at", "reason")
    rows: list[tuple[Any, ...]] = [
        (each.scope, each.state.value, each.cause, each.by, each.at, each.reason) for each in states
    ]
    print_rows(columns, rows, as_json=False)


def _print_preview(found: "OrderPreview") -> None:
    columns = (
        *("instrument", "side", "shares", "weight_before", "weight_after"),
        *("notional", "cost", "verdict"),
    )
    rows = [tuple(asdict(row).values()) for row in found.rows]
    if rows:
        print_rows(columns, rows, as_json=False)
    cost = sum(row.cost or 0.0 for row in found.rows)
    say(
        f"{found.sleeve_id} after the close of {found.as_of}: {len(rows)} orders, turnover "
        f"{found.turnover:.1%} of {found.equity:,.2f} USD, about {cost:,.2f} USD of costs; "
        f"{found.switch}"
    )
