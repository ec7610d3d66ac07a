"""Why something was traded: the steps from a fill or an order back to the data."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path

from prometheus_nt.jobs.lineage import lineage_of_fill, lineage_of_order
from prometheus_nt.monitoring.answers import Answer, Part
from prometheus_nt.monitoring.desk import OurDesk, aside

router = APIRouter(prefix="/api/lineage", tags=["lineage"])

Traded = Annotated[str, Path(min_length=1, max_length=300, pattern=r"^[\w.:/#\- ]+$")]
"""Id of a fill or an order; fills are numbered after a `#`."""

SAME_FOR_ALL = ("run_id", "mode", "strategy_id", "market_id", "entity_type", "entity_id")
"""What every measure of a decision has in common: the fill and the run say it once."""

NO_ORDER = "the order of this fill is not stored"
NO_DECISION = "the order names no decision that is stored"
NO_TARGET = "no target of this book is stored for the session of the decision"
NOTHING_MEASURED = "the engines stored nothing about this instrument at that session"
NO_STAGES = "no decision of an engine is stored for that session"
NO_DATA = "the dataset of the run is not stored any more"
NO_RUN = "the run is not stored, so its dataset is not known"


class Step(Part):
    """A step on the way back.

    Attributes
    ----------
    kind : fill, fills, order, decision, target, risk, scores, stages, data or run
    facts : what is stored of it, by column; of scores, by the table that holds them
    rows : where it is several things
    missing : why there is nothing
    """

    kind: str
    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    missing: str | None


class Lineage(Answer):
    """From what was traded back to the data, step by step."""

    instrument_id: str
    run_id: str
    steps: list[Step]


@router.get("/fills/{fill_id:path}")
@aside
def lineage_of_a_fill(desk: OurDesk, fill_id: Traded) -> Lineage:
    """Return why a fill happened."""
    found = lineage_of_fill(desk.stores, fill_id)
    fill = found["fill"]
    steps = [_facts("fill", fill), _facts("order", found["order"], NO_ORDER), *_behind(found)]
    return Lineage(instrument_id=fill["instrument_id"], run_id=fill["run_id"], steps=steps)


@router.get("/orders/{order_id:path}")
@aside
def lineage_of_an_order(desk: OurDesk, order_id: Traded) -> Lineage:
    """Return why an order was sent, and how it was filled."""
    found = lineage_of_order(desk.stores, order_id)
    order = found["order"]
    steps = [
        _rows("fills", found["fills"], "the order was not filled"),
        _facts("order", order),
        *_behind(found),
    ]
    return Lineage(instrument_id=order["instrument_id"], run_id=order["run_id"], steps=steps)


def _behind(found: Mapping[str, Any]) -> list[Step]:
    measured = {
        name: {key: value for key, value in row.items() if key not in SAME_FOR_ALL}
        for name, row in found.get("measured", {}).items()
        if row is not None
    }
    return [
        _facts("decision", found["decision"], NO_DECISION),
        _facts("target", found.get("target"), NO_TARGET),
        _rows("risk", [_action(row) for row in found.get("risk_actions", [])], _risk_had(found)),
        _facts("scores", measured, NOTHING_MEASURED),
        _rows("stages", found.get("stages", []), NO_STAGES),
        _facts("data", found.get("data"), NO_DATA if found["run"] else NO_RUN),
        _facts("run", found["run"], NO_RUN),
    ]


def _risk_had(found: Mapping[str, Any]) -> str:
    if found.get("target") is None:
        return NO_TARGET
    return "the risk stage changed nothing about this instrument"


def _action(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action of risk with its details beside the rest."""
    names = ("as_of_date", "instrument_id", "action_type")
    return {name: row[name] for name in names} | (row["details_json"] or {})


def _facts(kind: str, facts: Mapping[str, Any] | None, missing: str = "") -> Step:
    return Step(kind=kind, facts=dict(facts or {}), rows=[], missing=None if facts else missing)


def _rows(kind: str, rows: list[dict[str, Any]], missing: str) -> Step:
    return Step(kind=kind, facts={}, rows=rows, missing=None if rows else missing)
