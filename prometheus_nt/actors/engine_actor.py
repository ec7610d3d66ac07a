"""One row of the day's table on the Nautilus bus."""

from collections.abc import Collection
from datetime import date
from typing import Any

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.model.identifiers import ComponentId

from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.bus import AsOfJoin, Published, publish, subscribe
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.record import Params
from prometheus_nt.domain.runs import Absent


class EngineActor(Actor):
    """Runs one row of the table on the bus.

    Parameters
    ----------
    stage : Stage
    params : Params
    available : collection of record types
        What the node makes; a stage does not wait for an optional record nobody makes.
    """

    def __init__(self, stage: Stage, params: Params, available: Collection[type]) -> None:
        super().__init__(ActorConfig(component_id=ComponentId(f"ENGINE-{stage.name.upper()}")))
        self._stage, self._params = stage, params
        self._params_hash = params.digest()
        self._heard = (
            *stage.inputs,
            *(wanted for wanted in stage.optional.values() if wanted in available),
        )
        self._join = AsOfJoin(*self._heard)
        self._previous: Any = None

    def on_start(self) -> None:
        subscribe(self, *self._heard, Absent)

    def on_data(self, data: Published) -> None:
        items = self._join.add(data)
        if items is None:
            return
        made = {type(item.record): item for item in items}
        missing = [wanted for wanted in self._stage.inputs if wanted not in made]
        if missing:
            self._absent(data.record.as_of, f"no {missing[0].__name__}")
            return
        made.pop(Absent, None)
        records = {record_type: item.record for record_type, item in made.items()}
        if self._stage.unheard is not None and self._stage.unheard(records):
            return
        try:
            record = self._stage.run(records, self._params, self._previous)
        except InsufficientHistory as shortage:
            self._absent(shortage.as_of, str(shortage))
            return
        self._previous = record if self._stage.feedback else None
        publish(
            self,
            record,
            engine=self._stage.name,
            params_hash=self._params_hash,
            inputs=tuple(made.values()),
        )

    def _absent(self, as_of: date, reason: str) -> None:
        self.log.debug(f"stage={self._stage.name} warming up: {reason}")
        publish(self, Absent(as_of, self._stage.output.__name__, reason))
