"""Hands the engines the panel that ends at the close they are asked about."""

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.model.identifiers import ComponentId

from prometheus_nt.bus import Published, publish, subscribe
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.sessions import SessionClose


class PanelReplay(Actor):
    """Publishes row t of a recorded panel, and everything before it, after close t."""

    def __init__(self, panel: MarketPanel) -> None:
        super().__init__(ActorConfig(component_id=ComponentId("MARKET-DATA")))
        self._panel = panel

    def on_start(self) -> None:
        subscribe(self, SessionClose)

    def on_data(self, data: Published) -> None:
        publish(self, self._panel.until(data.record.as_of))
