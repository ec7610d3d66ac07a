"""What a `TradingNode` is given to trade at the broker: factories, and the settings they need."""

import asyncio
from typing import Any

from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.config import LiveExecClientConfig, RoutingConfig
from nautilus_trader.live.config import LiveExecEngineConfig, LiveRiskEngineConfig
from nautilus_trader.live.factories import LiveExecClientFactory

from adapters.ib.data import NodeParts
from adapters.ib.execution import IbExecutionClient, TradingParts


def execution_engine_config(**changed: Any) -> LiveExecEngineConfig:
    """Return settings under which the node never decides by itself what became of an order.

    Its own checks call an order rejected or cancelled because no answer came for some seconds;
    here only the broker's lists may say that.
    """
    terms: dict[str, Any] = {
        "reconciliation": True,
        "reconciliation_startup_delay_secs": 0.1,
        "inflight_check_interval_ms": 0,
        "open_check_interval_secs": None,
        "graceful_shutdown_on_exception": True,
    }
    return LiveExecEngineConfig(**(terms | changed))


def execution_client_config() -> LiveExecClientConfig:
    """Return settings under which the client takes the orders of instruments of every exchange."""
    return LiveExecClientConfig(routing=RoutingConfig(default=True))


def risk_engine_config(**changed: Any) -> LiveRiskEngineConfig:
    """Return settings that deny no order for its pace: the link keeps the broker's pace."""
    terms: dict[str, Any] = {
        "max_order_submit_rate": "10000/00:00:01",
        "max_order_modify_rate": "10000/00:00:01",
        "graceful_shutdown_on_exception": True,
    }
    return LiveRiskEngineConfig(**(terms | changed))


def execution_client_factory(parts: TradingParts) -> type[LiveExecClientFactory]:
    """Return a factory for `TradingNode.add_exec_client_factory` over a link that is shared."""

    class IbLiveExecClientFactory(LiveExecClientFactory):
        """Makes the execution client of one link."""

        @staticmethod
        def create(
            loop: asyncio.AbstractEventLoop,
            name: str,
            config: LiveExecClientConfig,  # noqa: ARG004
            msgbus: MessageBus,
            cache: Cache,
            clock: LiveClock,
        ) -> IbExecutionClient:
            return IbExecutionClient(parts, NodeParts(loop, name, msgbus, cache, clock))

    return IbLiveExecClientFactory
