"""Pictures of the system, and what a day did in them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from persistence import traces
from persistence.standing import Record
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.scenes import SCENES, Kind, laid_out, scene, works_in
from prometheus_nt.monitoring.answers import (
    DEFAULT_ROWS,
    Answer,
    AsOf,
    Limit,
    Name,
    Offset,
    Page,
    Part,
    page_of,
)
from prometheus_nt.monitoring.desk import OurDesk
from prometheus_nt.monitoring.routes.common import Market, OfMode, reasons

router = APIRouter(prefix="/api", tags=["scenes"])

COLORS: Mapping[Kind, str] = {
    "source": "#5b8def",
    "engine": "#3fb68b",
    "trader": "#e0a030",
    "store": "#9a7bd6",
    "job": "#4fb3c8",
    "phase": "#7c8798",
    "table": "#9a7bd6",
    "space": "#d66b9a",
    "block": "#c7b26a",
}
ENGINE_NODES = {"SLEEVE": "sleeve"}
LAST = datetime.max.replace(tzinfo=UTC)
NO_TIME = "a decision is stored with its session, not with a time of its own"


class SceneRow(Part):
    """A scene that can be drawn."""

    view_id: str
    display_name: str
    layout_type: str
    description: str


class Node(Part):
    """A part of a scene. pos : x, y and z; a layer further along x comes later."""

    type: Kind
    label: str
    pos: tuple[float, float, float]
    color: str


class Connection(Part):
    """What goes from one node to another. bidirectional : the same pair has one back as well.

    next_session : it is heard in the session after.
    """

    source: str = Field(serialization_alias="from")
    target: str = Field(serialization_alias="to")
    data_type: str
    bidirectional: bool
    next_session: bool


class SceneView(Answer):
    """A scene in full. works_in : phase of a day -> the nodes that are at work in it."""

    view_id: str
    layout_type: str
    nodes: dict[str, Node]
    connections: list[Connection]
    works_in: dict[str, list[str]]


class TraceRow(Part):
    """What a day did; null times are of phases that were not tried, or have not ended."""

    trace_id: str
    market_id: str
    strategy_id: str
    mode: Mode
    as_of_date: date
    phase: str
    start_time: datetime | None
    end_time: datetime | None


class TraceEvent(Part):
    """A thing that happened. node : in the scenes; timestamp : null for decisions.

    event_type : phase_started, phase_ended or decision.
    """

    timestamp: datetime | None
    event_type: Literal["phase_started", "phase_ended", "decision"]
    node: str
    sleeve: str | None
    data: dict[str, Any]


class Trace(Answer):
    """What a day did, in the order of time; decisions follow, by sleeve."""

    trace_id: str
    as_of_date: date
    mode: Mode
    events: list[TraceEvent]


@router.get("/scenes")
def scenes() -> Page[SceneRow]:
    """Return the scenes."""
    rows = [
        SceneRow(
            view_id=name,
            display_name=each.name,
            layout_type=each.layout,
            description=each.description,
        )
        for name, each in SCENES.items()
    ]
    return page_of(rows, 0, len(rows))


@router.get("/scene/{view_id}")
def scene_view(view_id: Name) -> SceneView:
    """Return a scene with its nodes in place."""
    found = scene(view_id)
    graph = found.graph()
    places = laid_out(graph)
    pairs = {(edge.source, edge.target) for edge in graph.edges}
    return SceneView(
        view_id=view_id,
        layout_type=found.layout,
        nodes={
            name: Node(
                type=kind,
                label=name.rpartition(":")[2].replace("_", " "),
                pos=places[name],
                color=COLORS[kind],
            )
            for name, kind in sorted(graph.nodes.items())
        },
        connections=[
            Connection(
                source=edge.source,
                target=edge.target,
                data_type=edge.carries,
                bidirectional=(edge.target, edge.source) in pairs,
                next_session=edge.back,
            )
            for edge in graph.edges
        ],
        works_in={phase.value: list(names) for phase, names in works_in(graph).items()},
    )


@router.get("/traces")
def traces_of_days(
    desk: OurDesk,
    market_id: Market = None,
    mode: OfMode = None,
    as_of: AsOf = None,
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[TraceRow]:
    """Return days, the newest session first."""
    region = next((name for name, market in REGIONS.items() if market == market_id), market_id)
    rows = traces.days(
        desk.stores.runtime.database,
        region=region,
        mode=mode,
        as_of=as_of,
        offset=offset,
        limit=limit + 1,
    )
    return page_of([_trace_row(row) for row in rows], offset, limit)


@router.get("/traces/{trace_id:path}")
def trace(desk: OurDesk, trace_id: Annotated[Name, Path()]) -> Trace:
    """Return what a day did: its attempts at each phase, and what engines decided."""
    database = desk.stores.runtime.database
    found = traces.day(database, trace_id)
    if found is None:
        raise DataError(f"trace {trace_id!r}: no such day; /api/traces lists them")
    tried = [event for row in traces.attempts_of(database, trace_id) for event in _attempt(row)]
    tried.sort(key=lambda event: event.timestamp or LAST)
    made = [_decision(row) for row in traces.decisions_of(database, found)]
    unknown = reasons({"events.timestamp": None}, NO_TIME) if made else {}
    return Trace(
        trace_id=trace_id,
        as_of_date=found["as_of_date"],
        mode=found["mode"],
        events=[*tried, *made],
        unknown=unknown,
    )


def _trace_row(row: Record) -> TraceRow:
    return TraceRow(
        trace_id=row["run_id"],
        market_id=row["market_id"],
        strategy_id=row["strategy_id"],
        mode=row["mode"],
        as_of_date=row["as_of_date"],
        phase=row["phase"],
        start_time=row["began"],
        end_time=row["ended"],
    )


def _attempt(row: Record) -> list[TraceEvent]:
    told = {"attempt": row["attempt"], "owner": row["owner"]}
    begun = TraceEvent(
        timestamp=row["started_at"],
        event_type="phase_started",
        node=row["phase"],
        sleeve=None,
        data=told,
    )
    if row["ended_at"] is None:
        return [begun]
    ended = TraceEvent(
        timestamp=row["ended_at"],
        event_type="phase_ended",
        node=row["phase"],
        sleeve=None,
        data=told | {"status": row["status"], "error": row["error"], "coverage": row["coverage"]},
    )
    return [begun, ended]


def _decision(row: Record) -> TraceEvent:
    engine = row["engine_name"]
    return TraceEvent(
        timestamp=None,
        event_type="decision",
        node=ENGINE_NODES.get(engine, engine.lower()),
        sleeve=row["run_id"].rpartition(":")[2],
        data={
            "decision_id": row["decision_id"],
            "inputs": row["input_refs"],
            "outputs": row["output_refs"],
        },
    )
