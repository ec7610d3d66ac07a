"""Pictures of the system drawn from what it is: its pipeline, days, tables and encoders as graphs.

1. `SCENES` names each scene and the function that reads its graph from the code's own tables.
2. `laid_out` places a graph in layers: a node stands one layer after the last of what leads to it;
   connections marked `back` do not count. Within a layer nodes stand by name, around the axis.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Literal

from persistence.browse import references, table_names
from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.domain.daily_jobs import DEFAULT_RULES
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.ledger import BookState
from prometheus_nt.domain.market import ScenarioOutlook
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.phases import CHAIN, TERMINAL, RunPhase
from prometheus_nt.encoders import profile_space
from prometheus_nt.encoders.joint import JointSpace
from prometheus_nt.encoders.regime_space import REGIME_SPACE
from prometheus_nt.encoders.scenario_space import SCENARIO_SPACE

LAYER_APART, NODE_APART = 4.0, 2.0
WIDEST_LAYER = 8
"""Nodes of a layer that stand in one row; more stand in rows behind it."""

Kind = Literal["source", "engine", "trader", "store", "job", "phase", "table", "space", "block"]
MARKET_DATA, SCENARIOS, SLEEVE, RUNTIME = "market_data", "scenarios", "sleeve", "runtime_db"
HISTORICAL = "historical_db"
SOURCES: Mapping[type, str] = {
    MarketPanel: MARKET_DATA,
    ScenarioOutlook: SCENARIOS,
    BookState: SLEEVE,
}
"""Record -> who makes it that is no stage of the pipeline."""


@dataclass(frozen=True)
class Edge:
    """What goes from one node to another. back : it is for the session after."""

    source: str
    target: str
    carries: str
    back: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes by id with their kind, and what goes between them."""

    nodes: Mapping[str, Kind]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Scene:
    """A picture that can be drawn. layout : how its nodes are meant to be seen."""

    name: str
    description: str
    layout: str
    graph: Callable[[], Graph]


def scene(view_id: str) -> Scene:
    """Return a scene by its id.

    Raises
    ------
    DataError
        If there is none.
    """
    if view_id not in SCENES:
        raise DataError(f"scene {view_id!r}: no such scene; known: {', '.join(SCENES)}")
    return SCENES[view_id]


def laid_out(graph: Graph) -> dict[str, tuple[float, float, float]]:
    """Return the place of each node: x by layer, y within a row of it, z by row."""
    ahead: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for edge in graph.edges:
        if not edge.back and edge.source != edge.target:
            ahead[edge.target].add(edge.source)
    layer: dict[str, int] = {}
    for name in TopologicalSorter(ahead).static_order():
        layer[name] = 1 + max((layer[before] for before in ahead[name]), default=-1)
    rows: dict[int, list[str]] = {}
    for name in sorted(layer):
        rows.setdefault(layer[name], []).append(name)
    return {
        name: _place(depth, place, len(names))
        for depth, names in rows.items()
        for place, name in enumerate(names)
    }


def works_in(graph: Graph) -> dict[RunPhase, tuple[str, ...]]:
    """Return, of the phases that a day works through, which nodes of a graph are then at work."""
    stages = [stage.name for stage in PIPELINE]
    universe = stages.index("universe")
    work = {
        RunPhase.WAITING_FOR_DATA: (HISTORICAL, MARKET_DATA),
        RunPhase.DATA_READY: (SCENARIOS, *stages[:universe]),
        RunPhase.SIGNALS_DONE: (stages[universe],),
        RunPhase.UNIVERSES_DONE: tuple(stages[universe + 1 :]),
        RunPhase.BOOKS_DONE: (RUNTIME,),
    }
    found = {
        phase: tuple(name for name in (phase.value, *names) if name in graph.nodes)
        for phase, names in work.items()
    }
    return {phase: names for phase, names in found.items() if names}


def _place(depth: int, place: int, count: int) -> tuple[float, float, float]:
    row, column = divmod(place, WIDEST_LAYER)
    wide = min(count - row * WIDEST_LAYER, WIDEST_LAYER)
    return (depth * LAYER_APART, (column - (wide - 1) / 2) * NODE_APART, row * NODE_APART)


def _day() -> Graph:
    """Return the whole day: data, every stage, the sleeve that trades, and the record of it."""
    edges = [
        Edge(HISTORICAL, MARKET_DATA, "bars"),
        Edge(HISTORICAL, SCENARIOS, "panels"),
        *_inputs(PIPELINE),
        Edge("risk", SLEEVE, TargetPortfolio.__name__),
        *(Edge(stage.name, RUNTIME, stage.output.__name__) for stage in PIPELINE),
        Edge(SLEEVE, RUNTIME, "orders, fills and positions"),
    ]
    return _graph(edges)


def _around(*names: str) -> Callable[[], Graph]:
    """Return the graph of some stages, of what they hear, and of who hears them."""

    def graph() -> Graph:
        known = _day().edges
        return _graph(edge for edge in known if {edge.source, edge.target} & set(names))

    return graph


def _inputs(stages: Sequence[Stage]) -> list[Edge]:
    makers = {**SOURCES, **{stage.output: stage.name for stage in stages}}
    return [
        Edge(makers[kind], stage.name, kind.__name__, back=kind is BookState)
        for stage in stages
        for kind in (*stage.inputs, *stage.optional.values())
    ] + [
        Edge(stage.name, stage.name, stage.output.__name__, back=True)
        for stage in stages
        if stage.feedback
    ]


def _graph(edges: Iterable[Edge]) -> Graph:
    found = tuple(edges)
    names = {name for edge in found for name in (edge.source, edge.target)}
    stages = {stage.name for stage in PIPELINE}
    other: dict[str, Kind] = {SLEEVE: "trader", RUNTIME: "store", HISTORICAL: "store"}
    return Graph(
        {name: "engine" if name in stages else other.get(name, "source") for name in names}, found
    )


def _orchestration() -> Graph:
    """Return the phases of a day, and the jobs that lead through it by what each needs."""
    moves = [Edge(before, after, "done") for before, after in pairwise(CHAIN)]
    failures = [Edge(phase, RunPhase.FAILED, "failed") for phase in CHAIN if phase not in TERMINAL]
    needs = [
        Edge(before.value, kind.value, "is over")
        for kind, rule in DEFAULT_RULES.items()
        for before in rule.needs
    ]
    nodes: dict[str, Kind] = {phase.value: "phase" for phase in RunPhase}
    nodes |= {kind.value: "job" for kind in DEFAULT_RULES}
    return Graph(nodes, (*moves, *failures, *needs))


def _database(branch: str) -> Callable[[], Graph]:
    """Return the graph of the tables of a database, by what refers to what."""

    def graph() -> Graph:
        edges = [Edge(to, table, column) for table, column, to in references(branch)]
        return Graph({name: "table" for name in table_names(branch)}, tuple(edges))

    return graph


def _encoders() -> Graph:
    """Return the joint spaces by their blocks, and what each block is made of."""
    blocks: dict[str, tuple[str, ...]] = {profile_space.SPACE: tuple(profile_space.WEIGHTS)}
    fixed: tuple[JointSpace, ...] = (REGIME_SPACE, SCENARIO_SPACE)
    blocks |= {each.name: tuple(block.name for block in each.blocks) for each in fixed}
    nodes: dict[str, Kind] = {}
    edges = []
    for space, names in blocks.items():
        nodes[space] = "space"
        for name in names:
            nodes[f"{space}:{name}"] = "block"
            edges.append(Edge(f"{space}:{name}", space, name))
    return Graph(nodes, tuple(edges))


SCENES: Mapping[str, Scene] = {
    "root": Scene("The day", "Every stage of a trading day, from data to orders", "flow", _day),
    "regime": Scene(
        "Regime", "What the regime engine hears, and who hears it", "flow", _around("regime")
    ),
    "stability": Scene(
        *("Stability", "Stability and fragility, what they hear, and who hears them", "flow"),
        _around("stability", "fragility"),
    ),
    "portfolio": Scene(
        *("Portfolio", "From the universe to the target after risk limits", "flow"),
        _around("universe", "portfolio", "risk"),
    ),
    "orchestration": Scene(
        *("Orchestration", "The phases of a day, and its jobs by what they need", "flow"),
        _orchestration,
    ),
    "runtime_db": Scene(
        *("Runtime database", "Its tables, by what refers to what", "tables"),
        _database("runtime"),
    ),
    "historical_db": Scene(
        *("Historical database", "Its tables, by what refers to what", "tables"),
        _database("historical"),
    ),
    "encoders": Scene("Encoders", "The joint spaces, and their blocks", "flow", _encoders),
}
