"""Nodes as they run: their files, and what was applied to their strategy by proposals.

Settings come in layers, the later ones win: the files, what was applied, the environment, and
`--set`. A campaign states its node in full and reads nothing that was applied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persistence.database import Database
from persistence.proposals import ProposalStore
from prometheus_nt.config import Applied, NodeConfig, load_config
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.proposals import setting_of
from prometheus_nt.settings import Settings
from strategies.catalog import family

ORIGIN_COLUMNS = (
    *("strategy_id", "setting", "value", "in_force", "proposal_id"),
    *("version", "applied_by", "applied_at"),
)


def load_node(
    settings: Settings,
    paths: Sequence[Path],
    assignments: Sequence[str] = (),
    *,
    mode: str | None = None,
    applied: bool = True,
) -> NodeConfig:
    """Return the node in these files as its next run reads it.

    Parameters
    ----------
    applied : bool
        False ignores what was applied to its strategy.

    Raises
    ------
    ConfigError
        Naming the file, the field, the value found and what was expected.
    StoreError
        If it cannot be known what was applied.
    """
    if not applied:
        return load_config(paths, assignments, mode=mode)
    with _store(settings) as store:
        return load_config(paths, assignments, mode=mode, applied=store.in_force)


def stored_node(stores: Stores, paths: Sequence[Path]) -> NodeConfig:
    """Return the node in these files as its next run reads it, from stores that are open."""
    return load_config(paths, applied=applied_in(stores))


def applied_in(stores: Stores) -> Applied:
    """Return the function that tells what was applied to a strategy, from stores that are open."""
    return ProposalStore(stores.runtime.database).in_force


def applied_origins(settings: Settings, node: NodeConfig) -> list[tuple[Any, ...]]:
    """Return `ORIGIN_COLUMNS` of every setting that was applied to the strategies of a node.

    `in_force` is False where the environment, `--set` or the sleeve itself gives another value.
    """
    with _store(settings) as store:
        return [
            (name, key, found["value"], _is_in_force(node, name, key, found["value"]), *told)
            for name in sorted({family(sleeve).strategy_id for sleeve in node.sleeves})
            for key, found in (store.origins(name) if store.database.exists else {}).items()
            for told in [tuple(found[column] for column in ORIGIN_COLUMNS[4:])]
        ]


@contextmanager
def _store(settings: Settings) -> Iterator[ProposalStore]:
    database = Database.open(settings.runtime_url)
    try:
        yield ProposalStore(database)
    finally:
        database.close()


def _is_in_force(node: NodeConfig, strategy_id: str, key: str, value: Any) -> bool:
    sleeves = [one for one in node.sleeves if family(one).strategy_id == strategy_id]
    return all(setting_of(node.resolved(one), key) == {"value": value} for one in sleeves)
