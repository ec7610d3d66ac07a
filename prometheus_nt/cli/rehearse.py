"""`prometheus rehearse`: a node at the simulated broker, beside its backtest."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli.arguments import (
    Assignments,
    ConfigPaths,
    JsonFlag,
    NoApplied,
    node_of,
    read_settings,
)
from prometheus_nt.cli.paper import tell_session
from prometheus_nt.console import print_json, print_rows, say

if TYPE_CHECKING:
    from prometheus_nt.jobs.rehearse import Rehearsal


def rehearse(
    config: ConfigPaths,
    start: Annotated[
        datetime, typer.Option("--start", formats=["%Y-%m-%d"], help="First session.")
    ],
    end: Annotated[datetime, typer.Option("--end", formats=["%Y-%m-%d"], help="Last session.")],
    faults: Annotated[
        Path | None, typer.Option(help="YAML file of faults by moment; see docs/gateway.md.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="name:argument=value,... ; may be given more than once."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of a random choice of faults.")] = None,
    tolerance_bps: Annotated[
        float, typer.Option(min=0, help="Largest gap of equity that still counts as the same.")
    ] = 0.0,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the paper node at a simulated gateway over past sessions, and compare with the backtest.

    The simulator's market moves on whenever the node waits. Databases, tapes and the journal are
    in a folder of their own below `rehearsals`. The exit code is 1 if the gap is not tolerated.

    Example: [cyan]prometheus rehearse configs/us_core_long_eq_ohlcv.yaml --start 2006-01-03 --end
    2006-03-29[/]
    """
    from prometheus_nt.jobs.rehearse import RehearsalRequest
    from prometheus_nt.jobs.rehearse import rehearse as run
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign, mode="paper", applied=not no_applied)
    request = RehearsalRequest(
        start.date(), end.date(), script=faults, seed=seed, faults=tuple(fault or ())
    )
    with open_stores(read_settings(), upgrade=True) as stores:
        found = run(node, stores, request, None if as_json else tell_session)
    if as_json:
        print_json(asdict(found) | {"folder": str(found.folder)})
    else:
        _print(found)
    if not found.is_within(tolerance_bps):
        raise typer.Exit(1)


def _print(found: "Rehearsal") -> None:
    for hit in found.struck:
        say(f"{hit.session} fault: {hit.fault} {hit.symbol}".rstrip())
    if found.halted is not None:
        say(f"trading halted: {found.halted}")
        say(f"kept in {found.folder}")
        return
    columns = ("sleeve", "sessions", "orders", "fills", "differences", "gap bps")
    rows = [
        (
            each.sleeve_id,
            each.sessions,
            each.orders,
            each.fills,
            len(each.differences),
            each.gap_bps,
        )
        for each in found.comparisons
    ]
    print_rows(columns, rows, as_json=False)
    differing = [
        tuple(asdict(one).values()) for each in found.comparisons for one in each.differences
    ]
    if differing:
        names = ("session", "instrument", "what", "rehearsal", "backtest", "cause")
        print_rows(names, differing, as_json=False)
    say(f"kept in {found.folder}")
