"""Why a fill happened: from it to the decision, to what each engine saw, to the bars behind that.

1. `rows_behind` follows the fill to its order, the sleeve's decision, the target portfolio, the
   actions of risk, what was measured of the instrument, and the decision of every stage;
2. `_data` finds the instrument's bars up to that session, and whether the dataset is still the one
   that the engines saw: each stage's decision names its inputs by their content.
"""

from typing import Any

from persistence.lineage import bars_behind, rows_behind
from prometheus_nt.config import Settings
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores, open_stores

ORDER = ("order_id", "timestamp", "side", "order_type", "quantity", "status")
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
        found = rows_behind(stores.runtime.database, fill_id)
        document = _document(found)
        if found["decision"] is not None and found["run"] is not None:
            document["data"] = _data(stores, found)
    return document


def _document(found: dict[str, Any]) -> dict[str, Any]:
    fill, decision = found["fill"], found["decision"]
    document: dict[str, Any] = {
        "fill": fill,
        "order": _chosen(found["order"], ORDER),
        "run": _chosen(found["run"], RUN),
        "decision": decision,
    }
    if decision is None:
        return document
    target = found["target"]
    weights = {} if target is None else target["target_positions"]["weights"]
    return document | {
        "target": None
        if target is None
        else {
            "portfolio_id": target["portfolio_id"],
            "as_of_date": target["as_of_date"],
            "weight": weights.get(fill["instrument_id"], 0.0),
            "names": len(weights),
            "optimization_params": target["optimization_params"],
        },
        "risk_actions": found["risk_actions"],
        "measured": found["measured"],
        "stages": [_stage(row) for row in found["stages"]],
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


def _data(stores: Stores, found: dict[str, Any]) -> dict[str, Any]:
    """Return the bars behind the decision, and whether the dataset is as the engines saw it.

    `unchanged` is false where it has grown or was revised since, and None where no stage's decision
    was stored.
    """
    run, as_of = found["run"], found["decision"]["as_of_date"]
    dataset_id = run["dataset_id"]
    instrument_id = found["fill"]["instrument_id"]
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
