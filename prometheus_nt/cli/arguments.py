"""Arguments that several commands share, and the settings and the node that they make up.

The configuration knows every engine, and so takes a second to import: a command imports it when it
runs, and help does not.
"""

from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prometheus_nt.config import NodeConfig
    from prometheus_nt.settings import Settings

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
CsvFlag = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]
ConfigPaths = Annotated[
    list[Path], typer.Argument(help="YAML files; later ones override earlier ones.")
]
OptionalConfigPaths = Annotated[
    list[Path] | None, typer.Argument(help="YAML files; later ones override earlier ones.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, e.g. --set execution.replay=full"),
]
NoApplied = Annotated[
    bool,
    typer.Option("--no-applied", help="Ignore what was applied to the strategy by proposals."),
]
RunArgument = Annotated[str, typer.Argument(help="A run id, its beginning, or `latest`.")]

INTERRUPTED = 130
"""Exit code of Ctrl-C, as shells count it."""

asked_log: ContextVar[str | None] = ContextVar("asked_log", default=None)
"""The form of log that was asked for before the command's name."""


def read_settings() -> "Settings":
    """Return what the environment says: where things are; begin to log if it says so."""
    from prometheus_nt.settings import Settings

    settings = Settings.from_environment()
    form = asked_log.get() or settings.log
    if form is not None:
        from prometheus_nt.jobs.observability import start_logging

        start_logging(settings, form)
    return settings


def node_of(
    paths: list[Path],
    assign: list[str] | None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    mode: str | None = None,
    applied: bool = True,
) -> "NodeConfig":
    """Return the validated node of YAML files, `--set`, the sessions and the mode asked for.

    Between the files and `--set` lies what was applied to its strategy, unless told otherwise.
    """
    from prometheus_nt.jobs.applied import load_node
    from prometheus_nt.settings import Settings

    dates = [("start", start), ("end", end)]
    overrides = [f"sessions.{name}={day.date()}" for name, day in dates if day is not None]
    asked = [*(assign or ()), *overrides]
    return load_node(Settings.from_environment(), paths, asked, mode=mode, applied=applied)
