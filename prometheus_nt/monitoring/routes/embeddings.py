"""What is alike stands together: stored vectors of instruments in three dimensions.

`profiles` are the features of each instrument's profile at a session, `stability` and `fragility`
the components of its vectors there.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query

from persistence.listings import Filters
from persistence.standing import standing
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.jobs.projection import Projection, project
from prometheus_nt.monitoring.answers import Answer, AsOf, Part
from prometheus_nt.monitoring.desk import Desk, OurDesk
from prometheus_nt.monitoring.routes.common import NO_RUN, Strategy, reasons, whose

router = APIRouter(prefix="/api/embedding_space", tags=["embeddings"])

MOST_POINTS = 2_000
COLORS = ("#5b8def", "#3fb68b", "#e0a030", "#d66b9a", "#9a7bd6", "#4fb3c8", "#c7b26a", "#e06c5b")
TOO_ALIKE = "too few vectors, or none that differ, stand at this session"
NO_CLASS = "no class of the instruments stands at this session"

Points = Annotated[int, Query(ge=1, le=MOST_POINTS, description="Points at most.")]


class Space(StrEnum):
    """A space whose vectors are stored."""

    PROFILES = "profiles"
    STABILITY = "stability"
    FRAGILITY = "fragility"


DOCUMENTS: Mapping[Space, tuple[str, str, str]] = {
    Space.PROFILES: ("profiles", "instrument_id", "structured"),
    Space.STABILITY: ("stability", "entity_id", "vector_components"),
    Space.FRAGILITY: ("fragility", "entity_id", "components"),
}
"""Space -> its listing, who a row is of, and the document that holds its vector."""


class AxisRow(Part):
    """An axis. label : the columns that weigh most on it; explained : share of the variance."""

    label: str
    explained: float
    loadings: dict[str, float]


class Point(Part):
    """An instrument. vector : along the axes; known : share of the columns that it knows.

    cluster : its stability class at that session; null where none stands.
    """

    id: str
    vector: list[float]
    cluster: str | None
    color: str
    known: float


class EmbeddingSpace(Answer):
    """The instruments of a session in the space of their vectors."""

    space_id: Space
    as_of_date: date | None
    run_id: str | None
    columns: list[str]
    explained: float | None
    axes: list[AxisRow]
    vectors: list[Point]


@router.get("/{space_id}")
def embedding_space(
    desk: OurDesk,
    space_id: Space,
    as_of: AsOf = None,
    strategy_id: Strategy = None,
    limit: Points = 1_000,
) -> EmbeddingSpace:
    """Return the vectors that stand at a session, projected on the axes of largest variance."""
    listing, who, document = DOCUMENTS[space_id]
    filters = Filters(as_of=as_of, strategy_id=strategy_id, limit=limit)
    database = desk.stores.runtime.database
    found, rows = standing(database, listing, filters, columns=(who, document))
    rows.sort(key=lambda row: str(row[who]))
    columns, vectors = _vectors([row[document] or {} for row in rows])
    made = project(vectors, columns) if len(rows) > 1 and columns else None
    classes = _classes(desk, filters)
    fields = {"explained": None if made is None else sum(axis.explained for axis in made.axes)}
    unknown = reasons(whose(found), NO_RUN) | reasons(fields, TOO_ALIKE)
    names = [str(row[who]) for row in rows]
    if not classes or not all(name in classes for name in names):
        unknown |= {"vectors.cluster": NO_CLASS}
    return EmbeddingSpace(
        space_id=space_id,
        columns=[] if made is None else list(made.columns),
        axes=[] if made is None else _axes(made),
        vectors=[] if made is None else _points(names, made, vectors, classes),
        unknown=unknown,
        **whose(found),
        **fields,
    )


def _axes(made: Projection) -> list[AxisRow]:
    return [
        AxisRow(label=axis.label, explained=axis.explained, loadings=axis.loadings)
        for axis in made.axes
    ]


def _vectors(documents: Sequence[Mapping[str, Any]]) -> tuple[list[str], FloatArray]:
    """Return the columns of documents, sorted, and their numbers; NaN where one is not a number."""
    columns = sorted({name for each in documents for name in each})
    table = [[_number(each.get(name)) for name in columns] for each in documents]
    return columns, np.array(table, dtype=float).reshape(len(documents), len(columns))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _classes(desk: Desk, filters: Filters) -> dict[str, str]:
    database = desk.stores.runtime.database
    columns = ("entity_id", "soft_target_class")
    _, rows = standing(database, "soft-targets", filters, columns=columns)
    return {row["entity_id"]: row["soft_target_class"] for row in rows if row["soft_target_class"]}


def _points(
    names: Sequence[str], made: Projection, vectors: FloatArray, classes: Mapping[str, str]
) -> list[Point]:
    known = np.isfinite(vectors).mean(axis=1)
    colors = {label: number for number, label in enumerate(sorted(set(classes.values())))}
    return [
        Point(
            id=name,
            vector=[round(float(value), 6) for value in place],
            cluster=classes.get(name),
            color=COLORS[colors.get(classes.get(name, ""), len(COLORS) - 1) % len(COLORS)],
            known=float(share),
        )
        for name, place, share in zip(names, made.points, known, strict=True)
    ]
