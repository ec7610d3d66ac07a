"""`prometheus config|db|doctor`: what a run needs around it."""

import typer
import yaml

from prometheus_nt.cli.arguments import Assignments, ConfigPaths, JsonFlag, node_of, read_settings
from prometheus_nt.console import emit, out, print_databases, print_rows

config_app = typer.Typer(no_args_is_help=True, help="Configuration files.")
db_app = typer.Typer(no_args_is_help=True, help="The historical and runtime databases.")


@config_app.command("show")
def config_show(config: ConfigPaths, assign: Assignments = None, as_json: JsonFlag = False) -> None:
    """Print the resolved configuration of every sleeve, with its hash.

    Example: [cyan]prometheus config show configs/us_core_long_eq.yaml[/]
    """
    node = node_of(config, assign)
    resolved = {
        sleeve.sleeve_id: {"config_hash": node.config_hash(sleeve), **node.resolved(sleeve)}
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
