"""`prometheus outcomes ...`: what became of decisions, from data that came after them."""

import typer

from prometheus_nt.cli.arguments import Assignments, ConfigPaths, JsonFlag, node_of, read_settings
from prometheus_nt.console import print_rows

app = typer.Typer(no_args_is_help=True, help="What became of decisions.")


@app.callback()
def outcomes() -> None:
    """Keep `update` a command of its own, however few there are."""


@app.command("update")
def outcomes_update(
    config: ConfigPaths, assign: Assignments = None, as_json: JsonFlag = False
) -> None:
    """Evaluate a node's days, and its runs in paper and live, 5, 21 and 63 sessions on.

    A horizon that reaches past the data has no outcome yet; run it again when there are more.

    Example: [cyan]prometheus outcomes update configs/us_core_long_eq_ohlcv.yaml[/]
    """
    from prometheus_nt.jobs.outcomes import update_outcomes
    from prometheus_nt.jobs.stores import open_stores

    node = node_of(config, assign)
    with open_stores(read_settings()) as stores:
        rows = update_outcomes(node, stores)
    print_rows(("run_id", "outcomes"), rows, as_json)
