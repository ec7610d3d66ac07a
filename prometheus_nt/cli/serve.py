"""`prometheus serve`: the desk in a browser, and the interface behind it."""

from typing import Annotated

import typer

from prometheus_nt.cli.arguments import read_settings
from prometheus_nt.console import say


def serve(
    host: Annotated[
        str, typer.Option(help="Address; any but loopback needs PROMETHEUS_API_TOKENS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 8000,
    worker: Annotated[
        bool, typer.Option(help="Run the jobs that are asked for; --no-worker leaves them.")
    ] = True,
    alerts: Annotated[
        bool, typer.Option(help="Judge the rules of alerts; --no-alerts leaves them.")
    ] = True,
) -> None:
    """Serve the desk and its interface until Ctrl-C.

    Example: [cyan]prometheus serve --port 8000[/]
    """
    from prometheus_nt.monitoring.access import Access
    from prometheus_nt.monitoring.server import serve as run

    settings = read_settings()
    access = Access.of_tokens(host, port, settings.api_tokens)
    run(
        settings,
        access,
        lambda address: say(f"serving on {address}"),
        worker=worker,
        alerts=alerts,
    )
