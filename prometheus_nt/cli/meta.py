"""`prometheus meta ...`: judge what was run; the answer may be nobody."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from prometheus_nt.cli import proposals
from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import emit, out, print_rows, print_similar, say

if TYPE_CHECKING:
    from prometheus_nt.jobs.meta import Decision

app = typer.Typer(no_args_is_help=True, help="The meta job: who of many deserves to go on.")

SPACE = "joint-meta-config-env-v1"

FIGURES = ("sharpe", "deflated", "above_zero", "max_drawdown", "cost_share")


@app.callback()
def meta() -> None:
    """Judge runs and decide who goes on."""


@app.command("rank")
def meta_rank(
    campaign: Annotated[
        str | None, typer.Option(help="A campaign id, its beginning, or `latest`.")
    ] = None,
    strategy_id: Annotated[
        str | None, typer.Option(help="Judge the finished runs of a strategy instead.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With a strategy: runs that end by this day."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Selected at most; fewer or none is an answer.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rank runs, say who is selected and why the others are not; record the decision.

    Example: [cyan]prometheus meta rank --campaign latest[/]
    """
    from prometheus_nt.jobs.meta import rank_campaign, rank_strategy
    from prometheus_nt.jobs.stores import open_stores

    if (campaign is None) == (strategy_id is None):
        raise typer.BadParameter("give either --campaign or --strategy-id")
    if strategy_id is not None and as_of is None:
        raise typer.BadParameter("--strategy-id needs --as-of")
    with open_stores(read_settings(), upgrade=True) as stores:
        if campaign is not None:
            decision = rank_campaign(stores, campaign, top_k)
        elif strategy_id is not None and as_of is not None:
            decision = rank_strategy(stores, strategy_id, as_of.date(), top_k)
    print_decision(decision, as_json)


@app.command("similar")
def similar_runs(
    run_id: Annotated[str, typer.Option(help="A run id, its beginning, or `latest`.")],
    model_id: Annotated[str, typer.Option(help="The one space of runs there is.")] = SPACE,
    top_k: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    with_outcome: Annotated[
        bool, typer.Option(help="Let the runs' figures, too, decide who is similar.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the runs most like one by settings and the market before it, and what they earned.

    Example: [cyan]prometheus meta similar --run-id latest --top-k 10[/]
    """
    from prometheus_nt.jobs.similar import similar_runs

    if model_id != SPACE:
        raise typer.BadParameter(f"expected {SPACE}, found {model_id}", param_hint="--model-id")
    report = similar_runs(read_settings(), run_id, top_k, with_outcome=with_outcome)
    print_similar(report, as_json)


for _command in (
    proposals.diagnose,
    proposals.propose,
    proposals.proposals,
    proposals.approve,
    proposals.reject,
    proposals.apply,
    proposals.revert,
    proposals.evaluate,
):
    app.command()(_command)


def print_decision(decision: "Decision", as_json: bool) -> None:
    """Print the ranking, the verdict and where the page is."""
    emit(decision.document(), as_json, lambda: _as_text(decision))


def _as_text(decision: "Decision") -> None:
    columns = ("rank", "sleeve_id", "verdict", *FIGURES)
    rows = [
        (one.rank, one.name, one.verdict.value, *(one.figures.get(name) for name in FIGURES))
        for one in decision.selection.ranked
    ]
    print_rows(columns, rows, as_json=False)
    pool = decision.selection.pool
    say(
        f"trials {pool['trials']:,.0f}, since ever {pool['trials_ever']:,.0f}, "
        f"different {_known(pool['distinct'])}, hurdle {_known(pool['hurdle'])}, "
        f"overfitting {_known(pool['overfitting'])}, p of the best {_known(pool['spa_p'])}"
    )
    say(decision.selection.verdict)
    say(f"decision {decision.decision_id}")
    out.print(str(decision.report), highlight=False, soft_wrap=True)


def _known(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.4g}"
