"""`prometheus rehearse`: a node at the simulated broker, beside its backtest."""

from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
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
from prometheus_nt.cli.divergence import print_report
from prometheus_nt.cli.paper import tell_session
from prometheus_nt.console import print_json, say

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
        float, typer.Option(min=0, help="Largest gap of a session that is tolerated.")
    ] = 0.0,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the paper node at a simulated gateway over past sessions, and compare with the backtest.

    The simulator's market moves on whenever the node waits. Databases, tapes and the journal are
    in a folder of their own below `rehearsals`. What differs is split by cause, as `prometheus
    divergence` does it, and each fault that changed something is named. The exit code is 1 if the
    gap is not tolerated, or trading halted.

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
        print_json(_plain(found))
    else:
        _print(found)
    if not found.is_within(tolerance_bps):
        raise typer.Exit(1)


def _plain(found: "Rehearsal") -> dict[str, Any]:
    from prometheus_nt.jobs.divergence import summary

    return {
        "folder": str(found.folder),
        "halted": found.halted,
        "struck": [asdict(hit) for hit in found.struck],
        "effects": sorted(found.effects),
        "reports": [summary(report) for report in found.reports],
    }


def _print(found: "Rehearsal") -> None:
    for (session, fault), symbols in _grouped(found).items():
        say(f"{session} fault: {fault} {' '.join(symbols)}".rstrip())
    for report in found.reports:
        print_report(report)
    without = sorted({hit.fault for hit in found.struck} - found.effects)
    if without:
        say(f"changed nothing that was traded: {', '.join(without)}")
    if found.halted is not None:
        say(f"trading halted: {found.halted}")
    say(f"kept in {found.folder}")


def _grouped(found: "Rehearsal") -> dict[tuple[date, str], list[str]]:
    """Return the stocks that each fault struck in each session."""
    grouped: dict[tuple[date, str], list[str]] = {}
    for hit in found.struck:
        symbols = grouped.setdefault((hit.session, hit.fault), [])
        if hit.symbol and hit.symbol not in symbols:
            symbols.append(hit.symbol)
    return grouped
