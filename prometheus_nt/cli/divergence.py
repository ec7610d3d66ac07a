"""`prometheus divergence`: how far a run that traded is from its backtest, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import print_json, print_rows, progress_bars, say

if TYPE_CHECKING:
    from prometheus_nt.jobs.divergence import DivergenceReport

MOST_EVIDENCE = 20


def divergence(
    run: Annotated[str, typer.Argument(help="Run that traded: its id or the beginning of it.")],
    backtest: Annotated[
        str | None,
        typer.Argument(help="Run to compare with; without it, the backtest of its sessions."),
    ] = None,
    tolerance_bps: Annotated[
        float, typer.Option(min=0, help="Largest gap of a session, basis points of equity.")
    ] = 1.0,
    html: Annotated[bool, typer.Option(help="Leave a page in the run's folder.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Compare a run with the backtest of its sessions; exit code 1 if they are too far apart.

    The gap is split by cause, and the parts add up to it. If the backtest was never made, it is.

    Example: [cyan]prometheus divergence US_CORE_LONG_EQ_H21-PAPER-1a2b --tolerance-bps 2[/]
    """
    from prometheus_nt.jobs.divergence import DivergenceRequest, measure_divergence, summary
    from prometheus_nt.jobs.stores import open_stores

    request = DivergenceRequest(run, backtest, tolerance_bps, write_page=html)
    with open_stores(read_settings()) as stores, progress_bars() as progress:
        report = measure_divergence(stores, request, progress)
    if as_json:
        print_json(summary(report))
    else:
        print_report(report)
    if not report.within:
        raise typer.Exit(1)


def print_report(report: "DivergenceReport") -> None:
    """Print a divergence: causes, where it is largest, events and evidence."""
    from prometheus_nt.jobs.divergence import summary

    found = summary(report)
    for note in report.notes:
        say(note)
    _table(found["causes"], ("cause", "usd", "bps", "largest_usd", "evidence", "meaning"))
    _table(found["worst_sessions"], ("session", "usd", "bps", "causes"))
    _table(found["worst_instruments"], ("instrument_id", "usd", "causes"))
    _table(found["events"], ("name", "session", "usd"))
    largest = sorted(found["evidence"], key=lambda item: -abs(item["worth"]))[:MOST_EVIDENCE]
    columns = ("session", "instrument_id", "cause", "event", "shares", "worth", "detail")
    _table(largest, columns)
    orders, verdict = found["orders"], "within" if report.within else "OUTSIDE"
    say(
        f"{found['run']} and {found['backtest']}, {found['start']} to {found['end']}: "
        f"{orders['orders_same']} of {orders['orders_a']} orders and {orders['fills_same']} of "
        f"{orders['fills_a']} fills are the same; the gap is {found['gap_usd']:,.2f} USD at the "
        f"end and {found['worst_bps']:.3f} bps at worst, {verdict} {found['tolerance_bps']:g} bps"
    )
    if report.page is not None:
        say(str(report.page))


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if rows:
        print_rows(
            columns, [tuple(_text(row[name]) for name in columns) for row in rows], as_json=False
        )


def _text(value: Any) -> Any:
    if isinstance(value, float):
        # Not the rounding of sums that are nothing, and no -0 either.
        return round(value, 4) + 0.0
    if isinstance(value, dict):
        return ", ".join(f"{name} {amount:,.2f}" for name, amount in value.items())
    return value
