"""Scenario sets by name: generate and store them, list them, ask what they do to a book."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from persistence.scenario_store import ScenarioStore
from prometheus_nt.domain.errors import ConfigError, DataError, InsufficientHistory, LookAheadError
from prometheus_nt.domain.market import ScenarioSet, SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.regime import RegimeParams, classify_regime
from prometheus_nt.engines.risk_report import tails_of
from prometheus_nt.engines.scenarios import (
    ScenarioCategory,
    ScenarioParams,
    generate_scenarios,
    path_losses,
    portfolio_pnl,
    require_known,
)
from prometheus_nt.jobs.panels import panel_of
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
    panel = _panel_until(panel_of(stores, request.dataset_id), request)
    params, weights, labels = request.params, None, None
    if params.category is ScenarioCategory.ADVERSARIAL:
        weights = _weights(stores, request.run, panel.instruments, panel.as_of)
    if params.category is ScenarioCategory.REGIME:
        labels = _regime_labels(panel)
    scenarios = generate_scenarios(panel, params, weights, labels)
    spec = params.model_dump(mode="json")
    return scenario_store(stores).save(request.dataset_id, scenarios, spec, panel.fingerprint)


def _panel_until(panel: MarketPanel, request: ScenarioRequest) -> MarketPanel:
    as_of, sessions = request.as_of, panel.sessions
    if as_of is None:
        return panel
    asked = f"--as-of {as_of}: dataset {request.dataset_id!r}"
    if as_of > panel.as_of:
        raise LookAheadError(f"{asked} ends at {panel.as_of}; use a session up to then")
    if as_of < sessions[0].astype(object):
        raise DataError(f"{asked} begins at {sessions[0]}; use a later session")
    newest = sessions[np.searchsorted(sessions, np.datetime64(as_of, "D"), side="right") - 1]
    if newest != np.datetime64(as_of, "D"):
        raise DataError(f"{asked} has no such session; use the one before it, {newest}")
    return panel.until(as_of)


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


def simulated_returns(
    stores: Stores, dataset_id: str, name: str, instruments: Sequence[str], until: date
) -> tuple[SimulatedReturns, ...]:
    """Return the stored sets of a name that were made by `until`, oldest first.

    Parameters
    ----------
    instruments : sequence of N ids
        What the columns of the result are about.

    Raises
    ------
    ConfigError
        If there is none: nothing would ever be seen of the set.
    """
    store = scenario_store(stores)
    rows = [row for row in store.rows() if (row["dataset_id"], row["name"]) == (dataset_id, name)]
    known = sorted(
        (row for row in rows if row["as_of_date"] <= until), key=itemgetter("as_of_date")
    )
    if not known:
        made = ", ".join(str(row["as_of_date"]) for row in rows) or "never"
        raise ConfigError(
            f"engines.fragility.scenario_set: no set {name!r} of dataset {dataset_id!r} was made "
            f"by {until} (made: {made}); `prometheus scenarios generate {name} --dataset "
            f"{dataset_id} --as-of ...` makes one"
        )
    return tuple(_simulated(store.load(row), instruments) for row in known)


def _simulated(scenarios: ScenarioSet, instruments: Sequence[str]) -> SimulatedReturns:
    known = {name: column for column, name in enumerate(scenarios.instruments)}
    columns = np.array([known.get(name, -1) for name in instruments])
    returns = np.where(columns >= 0, path_losses(scenarios)[:, columns], np.nan)
    return SimulatedReturns(scenarios.name, scenarios.as_of, scenarios.spec_hash, returns)


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
