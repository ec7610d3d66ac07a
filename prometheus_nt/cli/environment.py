"""`prometheus config|db|doctor`: what a run needs around it."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from prometheus_nt.cli.arguments import (
    Assignments,
    ConfigPaths,
    JsonFlag,
    NoApplied,
    node_of,
    read_settings,
)
from prometheus_nt.console import emit, out, print_databases, print_rows

config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")
db_app = typer.Typer(no_args_is_help=True, help="The historical and runtime databases.")


@config_app.command("show")
def config_show(
    config: ConfigPaths,
    assign: Assignments = None,
    no_applied: NoApplied = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the resolved configuration of every sleeve, with its hash.

    `applied` lists what proposals applied to the strategy, and whether it is in force: the
    environment, --set and a sleeve's own settings win over it.

    Example: [cyan]prometheus config show configs/us_core_long_eq.yaml[/]
    """
    from prometheus_nt.jobs.applied import ORIGIN_COLUMNS, applied_origins
    from strategies.catalog import family

    node = node_of(config, assign, applied=not no_applied)
    rows = [] if no_applied else applied_origins(read_settings(), node)
    applied = [dict(zip(ORIGIN_COLUMNS, row, strict=True)) for row in rows]
    resolved = {
        sleeve.sleeve_id: {
            "config_hash": node.config_hash(sleeve),
            **node.resolved(sleeve),
            "applied": [one for one in applied if one["strategy_id"] == family(sleeve).strategy_id],
        }
        for sleeve in node.sleeves
    }
    text = yaml.safe_dump(resolved, sort_keys=False)
    emit(resolved, as_json, lambda: out.print(text, highlight=False, markup=False))


@db_app.command("upgrade")
def db_upgrade(as_json: JsonFlag = False) -> None:
    """Bring both databases to the newest schema.

    Example: [cyan]prometheus db upgrade[/]
    """
    from prometheus_nt.jobs.stores import upgrade_schemas

    print_databases(upgrade_schemas(read_settings()), "upgraded", as_json)


@db_app.command("check")
def db_check(as_json: JsonFlag = False) -> None:
    """Require both databases to have exactly this version's schema.

    Example: [cyan]prometheus db check[/]
    """
    from prometheus_nt.jobs.stores import check_schemas

    print_databases(check_schemas(read_settings()), "up to date", as_json)


@db_app.command("backup")
def db_backup(
    to: Annotated[
        Path | None, typer.Option(help="Folder; default `backups` in the home folder.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Copy both databases while they are in use, and check the copies; run folders are not copied.

    Example: [cyan]prometheus db backup --to /mnt/backups[/]
    """
    from prometheus_nt.jobs.backup import back_up_databases

    made = back_up_databases(read_settings(), to)
    rows = [(one.name, str(one.path), one.bytes, one.sha256) for one in made]
    print_rows(("database", "file", "bytes", "sha256"), rows, as_json)


@db_app.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(help="A file that `db backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup in the place of the database it is of.

    Example: [cyan]prometheus db restore backups/runtime-20250102T030405Z.db[/]
    """
    from prometheus_nt.jobs.backup import restore_backup

    held = restore_backup(read_settings(), file, force=force)
    print_rows(("database", "restored from"), [(name, str(file)) for name in held], as_json)


def metrics() -> None:
    """Print the state of the stores as numbers, in the text that a Prometheus server reads.

    Example: [cyan]prometheus metrics[/]
    """
    from prometheus_nt.jobs.metrics import metrics_text

    out.print(metrics_text(read_settings()), end="", highlight=False, markup=False, soft_wrap=True)


def doctor(as_json: JsonFlag = False) -> None:
    """Check what the machine needs; each failure names its remedy.

    Example: [cyan]prometheus doctor[/]
    """
    from prometheus_nt.jobs.doctor import examine

    findings = examine(read_settings())
    rows = [("ok" if item.ok else "FAIL", item.subject, item.detail) for item in findings]
    print_rows(("state", "subject", "detail"), rows, as_json)
    if not all(item.ok for item in findings):
        raise typer.Exit(1)
