"""Scenario sets by name: generate and store them, list them, ask what they do to a book."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from persistence.scenario_store import ScenarioStore
from prometheus_nt.domain.errors import ConfigError, DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.regime import RegimeParams, classify_regime
from prometheus_nt.engines.risk_report import tails_of
from prometheus_nt.engines.scenarios import (
    ScenarioCategory,
    ScenarioParams,
    generate_scenarios,
    portfolio_pnl,
    require_known,
)
from prometheus_nt.jobs.data import panel_of
from prometheus_nt.jobs.stores import Stores

LISTED = (
    "dataset_id",
    "name",
    "as_of_date",
    "category",
    "horizon_days",
    "num_paths",
    "num_instruments",
    "spec_hash",
    "bytes",
    "created_at",
)


@dataclass(frozen=True)
class ScenarioRequest:
    """What to generate.

    as_of : last session to use; None is the dataset's last.
    run : whose latest target ADVERSARIAL works against; None is an equally weighted book.
    """

    dataset_id: str
    params: ScenarioParams
    as_of: date | None = None
    run: str | None = None


def scenario_params(settings: dict[str, Any], assignments: Sequence[str] = ()) -> ScenarioParams:
    """Return the settings of a set, `key=value` assignments last.

    Raises
    ------
    ConfigError
        Naming each setting that is unknown or contradictory, and what was found.
    """
    merged = dict(settings)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--set {assignment!r}: expected key=value, e.g. block_length=20")
        try:
            merged[key.strip()] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as malformed:
            raise ConfigError(f"--set {assignment!r}: not a YAML value: {malformed}") from None
    try:
        return ScenarioParams.model_validate(merged)
    except ValidationError as invalid:
        lines = [
            f"{'.'.join(map(str, error['loc'])) or 'scenarios'}: "
            f"{error['msg'].removeprefix('Value error, ')}"
            + (f", found {error['input']!r}" if error["loc"] else "")
            for error in invalid.errors()
        ]
        raise ConfigError("\n".join(lines)) from None


def generate_set(stores: Stores, request: ScenarioRequest) -> dict[str, Any]:
    """Generate and store a scenario set; return its row. Doing it again changes nothing.

    Raises
    ------
    DataError
        If the dataset cannot support the request; among them `LookAheadError` for an `as_of`
        after the dataset's end.
    """
    panel = panel_of(stores, request.dataset_id)
    if request.as_of is not None:
        panel = panel.until(request.as_of)
    params, weights, labels = request.params, None, None
    if params.category is ScenarioCategory.ADVERSARIAL:
        weights = _weights(stores, request.run, panel.instruments, panel.as_of)
    if params.category is ScenarioCategory.REGIME:
        labels = _regime_labels(panel)
    scenarios = generate_scenarios(panel, params, weights, labels)
    spec = params.model_dump(mode="json")
    return scenario_store(stores).save(request.dataset_id, scenarios, spec, panel.fingerprint)


def list_sets(stores: Stores) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return one row per stored set."""
    rows = scenario_store(stores).rows()
    return LISTED, [tuple(row[column] for column in LISTED) for row in rows]


def show_set(
    stores: Stores,
    name: str,
    *,
    dataset_id: str | None = None,
    as_of: date | None = None,
    run: str | None = None,
) -> dict[str, Any]:
    """Return what a set is, and what it does to an equally weighted book or a run's latest target.

    Raises
    ------
    LookAheadError
        If the set was made from data after the run's target.
    DataError
        If the run holds a name that the set does not have.
    """
    store = scenario_store(stores)
    row = store.find(name, dataset_id=dataset_id, as_of=as_of)
    scenarios = store.load(row)
    if run is None:
        weights = np.full(len(scenarios.instruments), 1.0 / len(scenarios.instruments))
        book = "equally weighted"
    else:
        run_id = stores.runtime.find_run(run)["run_id"]
        held_on, _ = stores.runtime.latest_target(run_id)
        require_known(scenarios, held_on)
        weights = _weights(stores, run, scenarios.instruments, held_on)
        book = f"{run_id} at {held_on}"
    about = {column: row[column] for column in (*LISTED, "generator_spec", "path")}
    return {**about, "book": book, **_figures(portfolio_pnl(scenarios, weights), row)}


def scenario_store(stores: Stores) -> ScenarioStore:
    """Return the sets kept beside the other files of the home folder."""
    return ScenarioStore(stores.runtime.database, stores.settings.home)


def _figures(pnl: FloatArray, row: dict[str, Any]) -> dict[str, float]:
    figures = {"mean": float(pnl.mean()), "worst": float(pnl.min()), "best": float(pnl.max())}
    for tail in tails_of("scenario", row["horizon_days"], pnl):
        level = round(100 * tail.level)
        figures[f"var_{level}"] = tail.value_at_risk
        figures[f"expected_shortfall_{level}"] = tail.expected_shortfall
    return figures


def _weights(
    stores: Stores, run: str | None, instruments: tuple[str, ...], as_of: date
) -> FloatArray:
    if run is None:
        return np.full(len(instruments), 1.0 / len(instruments))
    run_id = stores.runtime.find_run(run)["run_id"]
    held_on, held = stores.runtime.latest_target(run_id)
    missing = sorted(set(held) - set(instruments))
    if missing:
        raise DataError(f"{run_id} at {held_on} holds names without paths: {', '.join(missing)}")
    if held_on > as_of:
        raise DataError(f"{run_id}: its latest target is of {held_on}, after {as_of}")
    return np.array([held.get(name, 0.0) for name in instruments])


def _regime_labels(panel: MarketPanel) -> list[str | None]:
    """Return the label of each session as it was known at its close; None before the first."""
    params, labels = RegimeParams(), list[str | None]()
    for session in panel.sessions.tolist():
        try:
            labels.append(classify_regime(panel.until(session), params).label.value)
        except InsufficientHistory:
            labels.append(None)
    return labels
