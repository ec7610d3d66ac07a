"""The trading day as a table: each row is one engine, its inputs and the record it makes.

After every close, `actors.market_data` publishes the panel that ends there. Each row below runs as
soon as it holds every input of that session, and publishes its own record in turn:

    MarketPanel -> stability -> assessment -> universe -> portfolio -> risk -> TargetPortfolio
         |              `-> fragility
         `-> regime

Regime and fragility are evidence: they are recorded for the reader, and run where a node asks for
them. A sleeve (`strategies.sleeve`) turns the `TargetPortfolio` into orders for the next open.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.model.identifiers import ComponentId

from prometheus_nt.bus import AsOfJoin, Published, publish, subscribe
from prometheus_nt.domain.books import BookTarget, TargetPortfolio, Universe
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import (
    FragilityMeasures,
    InstrumentScores,
    RegimeState,
    StabilityVectors,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import Params
from prometheus_nt.engines.assessment import assess
from prometheus_nt.engines.fragility import measure_fragility
from prometheus_nt.engines.portfolio import build_book
from prometheus_nt.engines.regime import classify_regime
from prometheus_nt.engines.risk import apply_limits
from prometheus_nt.engines.stability import measure_stability
from prometheus_nt.engines.universe import select_universe


@dataclass(frozen=True)
class Stage:
    """One row of the day: `compute(*inputs, params)` returns a record of type `output`.

    A row of evidence decides nothing, and runs only where the configuration names it.
    """

    name: str
    compute: Callable[..., Any]
    inputs: tuple[type, ...]
    output: type
    evidence: bool = False


PIPELINE = (
    Stage("regime", classify_regime, (MarketPanel,), RegimeState, evidence=True),
    Stage("stability", measure_stability, (MarketPanel,), StabilityVectors),
    Stage(
        "fragility",
        measure_fragility,
        (MarketPanel, StabilityVectors),
        FragilityMeasures,
        evidence=True,
    ),
    Stage("assessment", assess, (MarketPanel, StabilityVectors), InstrumentScores),
    Stage("universe", select_universe, (MarketPanel, StabilityVectors, InstrumentScores), Universe),
    Stage("portfolio", build_book, (MarketPanel, Universe, InstrumentScores), BookTarget),
    Stage("risk", apply_limits, (MarketPanel, BookTarget), TargetPortfolio),
)


class EngineActor(Actor):
    """Runs one row of the table on the bus."""

    def __init__(self, stage: Stage, params: Params) -> None:
        super().__init__(ActorConfig(component_id=ComponentId(f"ENGINE-{stage.name.upper()}")))
        self._stage, self._params = stage, params
        self._params_hash = params.digest()
        self._join = AsOfJoin(*stage.inputs)

    def on_start(self) -> None:
        subscribe(self, *self._stage.inputs)

    def on_data(self, data: Published) -> None:
        inputs = self._join.add(data)
        if inputs is None:
            return
        try:
            record = self._stage.compute(*(item.record for item in inputs), self._params)
        except InsufficientHistory as shortage:
            self.log.debug(f"stage={self._stage.name} warming up: {shortage}")
            return
        publish(
            self,
            record,
            engine=self._stage.name,
            params_hash=self._params_hash,
            inputs=inputs,
        )
