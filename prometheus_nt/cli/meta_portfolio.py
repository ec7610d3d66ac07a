"""`prometheus meta-portfolio`: finished sleeves as one book, or a report of why not."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import emit, out, print_rows

if TYPE_CHECKING:
    from prometheus_nt.jobs.meta_portfolio import MetaSummary


def meta_portfolio(
    run: Annotated[
        list[str] | None,
        typer.Option(help="A run id or its beginning, or a META- id; once for each member."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A node's file: the newest run of each of its sleeves.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Weights use returns up to this close."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="hrp, risk_budgeting, min_variance, max_ratio, max_diversification, "
            "inverse_volatility or equal"
        ),
    ] = "hrp",
    min_weight: Annotated[float, typer.Option(help="Least weight of a member.")] = 0.05,
    max_weight: Annotated[
        float | None, typer.Option(help="Largest; one half by default, 0.95 of two.")
    ] = None,
    max_asset: Annotated[
        float, typer.Option(help="Largest net weight of one instrument in the book.")
    ] = 0.25,
    single: Annotated[bool, typer.Option(help="One member is meant.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Weigh finished sleeves and flatten them into one book; exit code 1 if a gate fails.

    Example: [cyan]prometheus meta-portfolio --config configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.meta_portfolio import MetaRequest, make_meta_portfolio, meta_params
    from prometheus_nt.jobs.stores import open_stores

    params = meta_params(
        method=method,
        min_weight=min_weight,
        max_weight=max_weight,
        max_asset=max_asset,
        single=single,
    )
    day = None if as_of is None else as_of.date()
    request = MetaRequest(tuple(run or ()), config, day, params)
    with open_stores(read_settings()) as stores:
        made = make_meta_portfolio(stores, request)
    emit(asdict(made), as_json, lambda: _print(made))
    if made.verdict != "PASS":
        raise typer.Exit(1)


def _print(made: "MetaSummary") -> None:
    weights = [(one["name"], one["member_id"], one["weight"]) for one in made.members]
    print_rows(("member", "run", "weight"), weights, as_json=False)
    for one in made.findings:
        said = f"{one['level']} {one['code']} {one['subject']}: {one['message']}"
        out.print(said, markup=False, highlight=False, soft_wrap=True)
    state = f"{made.verdict} as of {made.as_of}{' (made before)' if made.cached else ''}"
    out.print(state, highlight=False, soft_wrap=True)
    out.print(str(made.report), highlight=False, soft_wrap=True)
