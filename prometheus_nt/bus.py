"""Domain records on the Nautilus message bus: one envelope, one topic per record type."""

from datetime import date
from functools import cache
from typing import Any, Protocol

from nautilus_trader.core.data import Data
from nautilus_trader.model.data import CustomData, DataType

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import Lineage, Record, record_hash
from prometheus_nt.domain.runs import Absent


class Published(Data):
    """The envelope of a record on the bus: when it was published, by whom, made from what."""

    __slots__ = ("_hash", "_ts", "engine", "inputs", "params_hash", "record")

    record: Any

    def __init__(
        self,
        record: Record,
        ts_ns: int,
        *,
        engine: str = "",
        params_hash: str = "",
        inputs: "tuple[Published, ...]" = (),
    ) -> None:
        self.record, self._ts = record, ts_ns
        self.engine, self.params_hash, self.inputs = engine, params_hash, inputs
        self._hash: str | None = None

    @property
    def ts_event(self) -> int:
        return self._ts

    @property
    def ts_init(self) -> int:
        return self._ts

    @property
    def record_hash(self) -> str:
        """Content hash of the record, computed when somebody asks."""
        if self._hash is None:
            self._hash = record_hash(self.record)
        return self._hash

    def lineage(self) -> Lineage:
        """Return what the record was made from."""
        hashes = tuple(item.record_hash for item in self.inputs)
        return Lineage(self.engine, self.params_hash, hashes)


class BusComponent(Protocol):
    """What a Nautilus actor, strategy or execution algorithm offers to the bus."""

    clock: Any

    def subscribe_data(self, data_type: DataType) -> None: ...

    def publish_data(self, data_type: DataType, data: Data) -> None: ...


@cache
def data_type(record_type: type) -> DataType:
    """Return the topic of a record type; exact, where a bare class name matches longer ones too."""
    return DataType(Published, metadata={"record": record_type.__name__})


@cache
def topic(record_type: type) -> str:
    """Return the raw message-bus topic of a record type."""
    return f"data.{data_type(record_type).topic}"


def subscribe(component: BusComponent, *record_types: type) -> None:
    """Deliver every published record of these types to `component.on_data`."""
    for record_type in record_types:
        component.subscribe_data(data_type(record_type))


def publish(component: BusComponent, record: Record, **made_from: Any) -> None:
    """Publish a record, stamped with the component's clock."""
    envelope = Published(record, component.clock.timestamp_ns(), **made_from)
    component.publish_data(data_type(type(record)), envelope)


def stream_item(record: Record, ts_ns: int) -> CustomData:
    """Return a record as an element of a backtest data stream."""
    return CustomData(data_type(type(record)), Published(record, ts_ns))


class AsOfJoin:
    """Pairs records by `as_of`, never by arrival.

    Nautilus delivers depth first: a consumer can hear a derived record before the one it was
    derived from, so a join fires when it holds every type of one session. An `Absent` stands in
    for the record that a stage could not make.
    """

    def __init__(self, *record_types: type) -> None:
        self._names = tuple(record_type.__name__ for record_type in record_types)
        self._held: dict[str, Published] = {}
        self._newest: date | None = None
        self._complete = False

    def add(self, item: Published) -> tuple[Published, ...] | None:
        """Hold `item`; return one item of every type, in order, once a session is complete.

        Raises
        ------
        DataError
            If `item` is older than what the join has seen, or of a session it has completed:
            records may not arrive late.
        """
        record, as_of = item.record, item.record.as_of
        name = record.record_type if isinstance(record, Absent) else type(record).__name__
        if name not in self._names:
            return None
        if self._newest is None or as_of > self._newest:
            self._newest, self._complete = as_of, False
            self._held.clear()
        elif as_of < self._newest or self._complete:
            raise DataError(f"{name} of {as_of} arrived after records of {self._newest}")
        self._held[name] = item
        if len(self._held) < len(self._names):
            return None
        complete = tuple(self._held[wanted] for wanted in self._names)
        self._complete = True
        self._held.clear()
        return complete
