"""`prometheus meta diagnose|propose|proposals|approve|reject|apply|revert|evaluate`."""

from datetime import datetime
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prometheus_nt.cli.arguments import ConfigPaths, JsonFlag, read_settings
from prometheus_nt.console import emit, print_fields, print_rows, progress_bars, say

if TYPE_CHECKING:
    from persistence.proposals import Active, Proposal

ProposalArgument = Annotated[str, typer.Argument(help="A proposal id, its beginning, or `latest`.")]
By = Annotated[str | None, typer.Option(help="Who decides; the user of this machine by default.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]


def diagnose(
    strategy_id: Annotated[str, typer.Option(help="Whose finished backtests to compare.")],
    method: Annotated[
        str, typer.Option(help="holm: no false discovery; bhy: few among those that survive.")
    ] = "holm",
    level: Annotated[float, typer.Option(min=0.0001, max=0.5)] = 0.05,
    as_json: JsonFlag = False,
) -> None:
    """Compare runs of the same sessions that differ in one setting; count every test that is made.

    The mean of the daily differences, its interval, and a p-value corrected for all the tests, of
    whole records and by regime. What could not be computed says why.

    Example: [cyan]prometheus meta diagnose --strategy-id US_CORE_LONG_EQ --json[/]
    """
    from prometheus_nt.jobs.diagnostics import COLUMNS, diagnose_strategy
    from prometheus_nt.jobs.stores import open_stores
    from prometheus_nt.meta.diagnostics import DiagnosisRules
    from prometheus_nt.yaml_models import validated

    rules = validated(DiagnosisRules, {"method": method, "level": level}, "meta diagnose")
    with open_stores(read_settings(), upgrade=True) as stores:
        found = diagnose_strategy(stores, strategy_id, rules)
    emit(found.document(), as_json, lambda: print_rows(COLUMNS, found.rows(), as_json=False))
    if not as_json:
        say(f"{found.runs} runs, {found.diagnosis.tests} tests, corrected together by {method}")


def propose(
    config: ConfigPaths,
    change: Annotated[
        str | None,
        typer.Option(
            "--set",
            help="The setting, e.g. engines.portfolio.max_names=4; by default "
            "the best change that survives the diagnosis.",
        ),
    ] = None,
    why: Annotated[str | None, typer.Option(help="Why; needed with --set.")] = None,
    start: Day = None,
    end: Day = None,
    by: By = None,
    as_json: JsonFlag = False,
) -> None:
    """Propose a change of a strategy's settings: validate it, run it against the node as it is.

    Nothing is changed by it. The same change is refused while it is open.

    Example: [cyan]prometheus meta propose configs/us_core_long_eq_ohlcv.yaml
    --set engines.portfolio.max_names=4 --why "fewer names, less cost"[/]
    """
    from prometheus_nt.jobs.proposals import Request
    from prometheus_nt.jobs.proposals import propose as propose_change
    from prometheus_nt.jobs.stores import open_stores

    days = [("start", start), ("end", end)]
    assignments = [f"sessions.{name}={day.date()}" for name, day in days if day is not None]
    request = Request([Path(one) for one in config], _who(by), assignments, change, why)
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        _print(propose_change(stores, request, progress), as_json)


def proposals(
    strategy_id: Annotated[str | None, typer.Option(help="Of one strategy alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the proposals, newest first; `prometheus show changes` lists what was applied.

    Example: [cyan]prometheus meta proposals --strategy-id US_CORE_LONG_EQ[/]
    """
    from prometheus_nt.jobs.proposals import LISTED, document, listed, store_of
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        found = store_of(stores).proposals(strategy_id, limit)
    emit(
        [document(one) for one in found],
        as_json,
        lambda: print_rows(LISTED, [listed(one) for one in found], as_json=False),
    )


def approve(proposal: ProposalArgument, by: By = None, as_json: JsonFlag = False) -> None:
    """Approve a proposal; nothing changes until it is applied.

    Example: [cyan]prometheus meta approve latest --by ann[/]
    """
    from prometheus_nt.jobs.proposals import approve as approve_proposal
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        _print(approve_proposal(stores, proposal, _who(by)), as_json)


def reject(
    proposal: ProposalArgument,
    why: Annotated[str, typer.Option(help="Why not.")],
    by: By = None,
    as_json: JsonFlag = False,
) -> None:
    """Reject a proposal that is not applied; the same change may then be proposed again.

    Example: [cyan]prometheus meta reject latest --why "too few names"[/]
    """
    from prometheus_nt.jobs.proposals import reject as reject_proposal
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        _print(reject_proposal(stores, proposal, _who(by), why), as_json)


def apply(proposal: ProposalArgument, by: By = None, as_json: JsonFlag = False) -> None:
    """Apply an approved proposal: the next run of its strategy reads it, in every mode.

    Example: [cyan]prometheus meta apply latest[/]
    """
    from prometheus_nt.jobs.proposals import apply as apply_proposal
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        _print_active(*apply_proposal(stores, proposal, _who(by)), as_json)


def revert(
    proposal: ProposalArgument,
    why: Annotated[str | None, typer.Option(help="Why.")] = None,
    by: By = None,
    as_json: JsonFlag = False,
) -> None:
    """Revert an applied proposal: the next run of its strategy reads what was before.

    Example: [cyan]prometheus meta revert latest --why "it lost money"[/]
    """
    from prometheus_nt.jobs.proposals import revert as revert_proposal
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        _print_active(*revert_proposal(stores, proposal, _who(by), why), as_json)


def evaluate(proposal: ProposalArgument, as_json: JsonFlag = False) -> None:
    """Compare an applied change with what it replaced, on sessions after it was applied.

    Example: [cyan]prometheus meta evaluate latest[/]
    """
    from prometheus_nt.jobs.proposals import evaluate as evaluate_proposal
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        found = evaluate_proposal(stores, proposal, progress)
    shown = {name: value for name, value in found.items() if name != "sleeves"}
    emit(found, as_json, lambda: print_fields(shown, False))


def _who(by: str | None) -> str:
    return by or getuser()


def _print(proposal: "Proposal", as_json: bool) -> None:
    from prometheus_nt.jobs.proposals import LISTED, document, listed

    found: dict[str, Any] = document(proposal)
    shown = dict(zip(LISTED, listed(proposal), strict=True))
    emit(found, as_json, lambda: print_fields(shown, False))


def _print_active(proposal: "Proposal", active: "Active", as_json: bool) -> None:
    found = {
        "proposal_id": proposal.proposal_id,
        "status": proposal.status,
        "strategy_id": active.strategy_id,
        "version": active.version,
        "settings": dict(active.settings),
    }
    emit(found, as_json, lambda: print_fields(found, False))
