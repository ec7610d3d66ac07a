"""Bring a database to its newest schema, and prove that it is there.

Each branch, `historical` and `runtime`, has its own metadata, revisions and version table, so both
may live in one PostgreSQL database.
"""

from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, MetaData

from persistence.database import Database
from persistence.tables.types import UtcDateTime
from prometheus_nt.domain.errors import ConfigError, StoreError

TABLES = {
    "historical": ("historical", "reference", "derived"),
    "runtime": ("runtime", "operations", "trading", "governance", "campaigns"),
}
"""The modules of `persistence.tables` that belong to each branch; the first holds its metadata."""

BRANCHES = tuple(TABLES)
MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(database: Database, branch: str, to: str = "head") -> None:
    """Run every missing revision of `branch` up to `to`, all of them or none."""
    config = _config(branch)
    with database.migration() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def check(database: Database, branch: str) -> None:
    """Require that the database has exactly the schema of this version.

    Raises
    ------
    StoreError
        If revisions are missing, or tables differ from the metadata; the difference is named.
    """
    options = _options(branch)
    with database.reader() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found = set(context.get_current_heads())
        expected = set(ScriptDirectory.from_config(_config(branch)).get_heads())
        if found != expected:
            raise StoreError(
                f"{database.safe_url}: the {branch} schema is at {sorted(found) or 'nothing'},"
                f" expected {sorted(expected)}; run `prometheus db upgrade`"
            )
        differences = compare_metadata(context, options["target_metadata"])
    if differences:
        listed = "; ".join(_described(difference) for difference in differences)
        raise StoreError(f"{database.safe_url}: the {branch} schema differs: {listed}")


def state_of(database: Database, branch: str) -> tuple[object, ...]:
    """Return what differs once the schema of `branch` or its revision has moved; cheap to ask."""
    with database.reader() as connection:
        heads = MigrationContext.configure(connection, opts=_options(branch)).get_current_heads()
    return database.schema_mark(), *sorted(heads)


def revisions(branch: str) -> list[str]:
    """Return the revisions of a branch, the first one first."""
    walked = ScriptDirectory.from_config(_config(branch)).walk_revisions()
    return [one.revision for one in walked][::-1]


def revision(database: Database, branch: str, revision_id: str, message: str) -> None:
    """Write a draft revision that takes the database from its schema to the metadata."""
    config = _config(branch)
    with database.migration() as connection:
        config.attributes["connection"] = connection
        command.revision(config, message, autogenerate=True, rev_id=revision_id)


def _config(branch: str) -> Config:
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(MIGRATIONS / branch).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["options"] = _options(branch)
    return config


def _options(branch: str) -> dict[str, Any]:
    metadata = metadata_of(branch)
    others = {name for other in BRANCHES if other != branch for name in metadata_of(other).tables}
    versions = {_version_table(other) for other in BRANCHES}

    def include_name(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name not in others | versions

    return {
        "target_metadata": metadata,
        "version_table": _version_table(branch),
        "render_as_batch": True,
        "compare_server_default": True,
        "include_name": include_name,
        "render_item": _render_item,
    }


def _version_table(branch: str) -> str:
    return f"alembic_version_{branch}"


def metadata_of(branch: str) -> MetaData:
    """Return the tables of a branch, as this version has them."""
    if branch not in BRANCHES:
        known = ", ".join(BRANCHES)
        raise ConfigError(f"branch: unknown schema {branch!r}; known schemas: {known}")
    first, *_ = [import_module(f"persistence.tables.{name}") for name in TABLES[branch]]
    metadata: MetaData = getattr(first, branch.upper())
    return metadata


def _render_item(kind: str, item: object, _context: object) -> str | bool:
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, JSON):
        return "DOCUMENT"
    return False


def _described(difference: Any) -> str:
    """Return one difference as words: `add_column prices_daily.known_at`."""
    if isinstance(difference, list):
        return "; ".join(_described(part) for part in difference)
    names = [getattr(part, "name", part) for part in difference[1:]]
    return " ".join(str(part) for part in (difference[0], *names) if part not in (None, {}))
