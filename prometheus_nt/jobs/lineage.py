"""Why a fill happened: from it to the decision, to what each engine saw, to the bars behind that.

1. `rows_behind` follows the fill to its order, the sleeve's decision, the target portfolio, the
   actions of risk, what was measured of the instrument, and the decision of every stage;
2. `_data` finds the instrument's bars up to that session, and whether the dataset is still the one
   that the engines saw: each stage's decision names its inputs by their content.
"""

from typing import Any

from persistence.lineage import bars_behind, rows_behind, rows_behind_order
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

ORDER = (
    *("order_id", "run_id", "portfolio_id", "timestamp", "instrument_id", "side", "order_type"),
    *("quantity", "status"),
)
RUN = (
    *("run_id", "mode", "strategy_id", "sleeve_id", "config_hash", "code_hash"),
    *("data_fingerprint", "order_list_hash"),
)


def lineage(settings: Settings, fill_id: str) -> dict[str, Any]:
    """Return everything that led to a fill, as one document.

    Raises
    ------
    StoreError
        If there is no such fill, or the database is missing.
    """
    with open_stores(settings) as stores:
        return lineage_of_fill(stores, fill_id)


def lineage_of_fill(stores: Stores, fill_id: str) -> dict[str, Any]:
    """Return everything that led to a fill, from stores that are open."""
    found = rows_behind(stores.runtime.database, fill_id)
    return {"fill": found["fill"], **_document(stores, found, found["fill"])}


def lineage_of_order(stores: Stores, order_id: str) -> dict[str, Any]:
    """Return everything that led to an order, and its fills, from stores that are open."""
    found = rows_behind_order(stores.runtime.database, order_id)
    return {"fills": found["fills"], **_document(stores, found, found["order"])}


def _document(stores: Stores, found: dict[str, Any], traded: dict[str, Any]) -> dict[str, Any]:
    """Return what is behind `traded`: a fill or an order. `data` is None if it was deleted."""
    decision = found["decision"]
    document: dict[str, Any] = {
        "order": _chosen(found["order"], ORDER),
        "run": _chosen(found["run"], RUN),
        "decision": decision,
    }
    if decision is None:
        return document
    document |= {
        "target": _target(found["target"], traded["instrument_id"]),
        "risk_actions": found["risk_actions"],
        "measured": found["measured"],
        "stages": [_stage(row) for row in found["stages"]],
    }
    run = found["run"]
    if run is not None:
        stored = {row["dataset_id"] for row in stores.historical.datasets()}
        gone = run["dataset_id"] not in stored
        document["data"] = None if gone else _data(stores, found, traded["instrument_id"])
    return document


def _target(target: dict[str, Any] | None, instrument_id: str) -> dict[str, Any] | None:
    """Return the target of a decision; the weight is None where what is stored names none."""
    if target is None:
        return None
    weights = target["target_positions"].get("weights")
    return {
        "portfolio_id": target["portfolio_id"],
        "as_of_date": target["as_of_date"],
        "weight": None if weights is None else weights.get(instrument_id, 0.0),
        "names": None if weights is None else len(weights),
        "optimization_params": target["optimization_params"],
    }


def _stage(row: dict[str, Any]) -> dict[str, Any]:
    inputs, outputs = row["input_refs"] or {}, row["output_refs"] or {}
    return {
        "engine": row["engine_name"],
        "model_id": f"{row['engine_name'].lower()}-{row['config_id']}",
        "input_hashes": inputs.get("input_hashes", []),
        "record_hash": outputs.get("record_hash"),
        "instruments": outputs.get("instruments"),
        "known": outputs.get("known"),
    }


def _data(stores: Stores, found: dict[str, Any], instrument_id: str) -> dict[str, Any]:
    """Return the bars behind the decision, and whether the dataset is as the engines saw it.

    `unchanged` is false where it has grown or was revised since, and None where no stage's decision
    was stored.
    """
    run, as_of = found["run"], found["decision"]["as_of_date"]
    dataset_id = run["dataset_id"]
    panel = panel_of(stores, dataset_id)
    chosen = run["config_json"].get("instruments", "all")
    if chosen != "all":
        panel = panel.select(tuple(chosen))
    seen = {
        name
        for row in found["stages"]
        for name in (row["input_refs"] or {}).get("input_hashes", [])
    }
    now = content_hash([panel.fingerprint, as_of])
    return {
        "dataset_id": dataset_id,
        "instrument_id": instrument_id,
        "up_to": as_of,
        "panel_hash": now,
        "unchanged": now in seen if seen else None,
        **(bars_behind(stores.historical.database, dataset_id, instrument_id, as_of) or {}),
    }


def _chosen(row: dict[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in names}
