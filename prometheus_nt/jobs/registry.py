"""Enter what a run is about into the registries, before it begins."""

from importlib.metadata import version

from persistence.registry import Registration, register
from prometheus_nt.actors.pipeline import table_of
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.runs import RunIdentity
from prometheus_nt.jobs.stores import Stores
from strategies.catalog import SleeveParams


def register_run(
    stores: Stores, config: NodeConfig, sleeve: SleeveParams, identity: RunIdentity
) -> None:
    """Register strategy, portfolio, and every engine of a run with its settings.

    The id of a configuration is the hash that ends the `model_id` of the engine's rows.
    """
    engines = config.engines_of(sleeve)
    table = table_of(config.without, follows_members=sleeve.follows_members)
    running = [stage.name for stage in table]
    params = {name: getattr(engines, name) for name in running}
    register(
        stores.runtime.database,
        Registration(
            strategy_id=identity.strategy_id,
            portfolio_id=sleeve.portfolio_id,
            sleeve_id=sleeve.sleeve_id,
            market_id=config.market,
            code_hash=identity.code_hash,
            version=version("prometheus-nt"),
            created_by=identity.sleeve_id,
            engines={
                name: (one.digest(), one.model_dump(mode="json")) for name, one in params.items()
            },
        ),
    )
