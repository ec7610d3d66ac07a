"""Which of the server's configuration files is the node of a strategy."""

from collections.abc import Sequence

from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.settings import Settings
from strategies.catalog import family


def node_file(settings: Settings, strategy_id: str, markets: Sequence[str] = ()) -> str:
    """Return the name of the file in the configuration folder whose node trades a strategy.

    The file named after the strategy goes first where several trade it.

    Parameters
    ----------
    markets : the node's market must be the one of them; empty is any

    Raises
    ------
    ConfigError
        If no file trades it alone, or several do and none has its name.
    """
    found = {
        name: node
        for name, node in _nodes(settings).items()
        if {family(sleeve).strategy_id for sleeve in node.sleeves} == {strategy_id}
        and all(node.market == market for market in markets)
    }
    if strategy_id.lower() in found:
        return strategy_id.lower()
    if len(found) == 1:
        return next(iter(found))
    where = f"in {', '.join(markets)} " if markets else ""
    if not found:
        raise ConfigError(
            f"strategy_id: no file of the configuration folder trades {strategy_id} {where}alone; "
            "name its file, or put one there"
        )
    raise ConfigError(
        f"strategy_id: several files trade {strategy_id} {where}: {', '.join(sorted(found))}; name "
        f"one of them, or call one {strategy_id.lower()}.yaml"
    )


def _nodes(settings: Settings) -> dict[str, NodeConfig]:
    """Return the nodes of the configuration folder by the names of their files."""
    found = {}
    for path in sorted(settings.config_dir.glob("*.yaml")):
        try:
            found[path.stem] = load_config([path], mode="backtest")
        except ConfigError:
            # A layer that is no node by itself, or a file with a mistake: neither can be run.
            continue
    return found
