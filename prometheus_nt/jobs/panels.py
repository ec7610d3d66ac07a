"""Panels of datasets and nodes, from the cache where it is fresh."""

from collections.abc import Callable

from persistence.panel_cache import load_panel
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.stores import Stores

LoadPanel = Callable[[Stores, str, str | None, int | str | None], MarketPanel]
"""Of a dataset, with the members of an index, at a revision."""


def panel_of(
    stores: Stores,
    dataset_id: str,
    index: str | None = None,
    revision: int | str | None = None,
) -> MarketPanel:
    """Return the whole panel of a dataset, from the cache where it is fresh.

    With the facts that the dataset keeps, and the members of `index` if one is named.
    """
    cache = stores.settings.cache_dir
    return load_panel(stores.historical, dataset_id, cache, index, revision=revision)


def node_panel(
    config: NodeConfig,
    stores: Stores,
    revision: int | str | None = None,
    load: LoadPanel | None = None,
) -> MarketPanel:
    """Return the panel of a node's dataset and index, with the node's own instruments.

    Of the revision that the node names, or of `revision` where it names none; from `load` in
    place of `panel_of` if given.
    """
    data = config.data
    panel = (load or panel_of)(stores, data.dataset, data.index, data.revision or revision)
    return panel if config.instruments == "all" else panel.select(config.instruments)
