"""What became of a run's decisions: how well the scores of the day ranked the returns after it.

For each decision with stored scores, and each horizon whose sessions are all in the dataset:

1. outcomes are total returns from the close of the session after the decision, when its orders
   had been filled, to `horizon` sessions later; the outcome is known from that close on;
2. `_evaluation` correlates with them the ranks of every raw family, of the assessment's score
   (`combined`) and of the universe's, by which candidates are bought and sold (`traded`); and adds
   what the target portfolio earned if held unchanged and without costs;
3. the result is written into the metadata of the decision's outcome. Writing it again changes
   nothing, and what the sleeve's own book earned, costs included, stays beside it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from persistence.blocks import Row
from persistence.engine_runs import EngineRunStore, RunFilters
from persistence.evaluation import (
    score_days,
    sleeve_decisions,
    target_weights,
    traded_runs,
    universe_scores,
    write_evaluations,
    write_target_outcomes,
)
from persistence.run_rows import OUTCOME_HORIZONS
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.runs import day_run_id
from prometheus_nt.engines.numerics.returns import total_return_index
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.alpha import rank_ic
from strategies.catalog import family

COMBINED, TRADED = "combined", "traded"
"""The scores that families are made into: with the penalty of the assessment for fragility, and
with that of the universe as well."""
MOST_DAYS = 10_000
SESSIONS_A_YEAR = 252.0


def record_outcomes(stores: Stores, run_id: str, panel: MarketPanel | None = None) -> int:
    """Evaluate the decisions of a completed run as far as the data reach; return the rows written.

    Parameters
    ----------
    panel : MarketPanel or None
        The panel of the run's dataset, if the caller holds it.

    Raises
    ------
    DataError
        If the run has not been completed.
    """
    run = stores.runtime.find_run(run_id)
    if run["status"] != "COMPLETED":
        raise DataError(f"{run_id}: {run['status']}; only a completed run has outcomes")
    return evaluate_run(
        stores, run_id, panel_of(stores, run["dataset_id"]) if panel is None else panel
    )


def evaluate_run(stores: Stores, run_id: str, panel: MarketPanel) -> int:
    """Evaluate the decisions that a run has recorded so far; return the rows written."""
    database = stores.runtime.database
    rows = list(_evaluations(stores, run_id, panel, sleeve_decisions(database, run_id)))
    return write_evaluations(database, rows) if rows else 0


def _evaluations(
    stores: Stores, run_id: str, panel: MarketPanel, decisions: Mapping[date, str]
) -> Iterator[Row]:
    """Yield decision, horizon, run, session it is known from, and evaluation, where complete."""
    database = stores.runtime.database
    targets = target_weights(database, run_id)
    candidates = universe_scores(database, run_id)
    before: _Day | None = None
    for as_of, stored in score_days(database, run_id):
        if as_of not in decisions:
            continue
        day = _day(panel, as_of, stored, candidates.get(as_of, {}))
        for horizon, known_at, found in _evaluated(panel, day, before, targets.get(as_of)):
            yield decisions[as_of], horizon, run_id, known_at, found
        before = day


def update_outcomes(config: NodeConfig, stores: Stores) -> list[tuple[str, int]]:
    """Evaluate the decisions of a node's days, and of its runs in paper and live, with later data.

    A day has no book of its own: its outcome is what its target earned, held unchanged and without
    costs, from the close of the session after it.

    Returns
    -------
    list of (run id, rows written)
        Runs without an outcome so far are left out. Written again, nothing changes.
    """
    panel = panel_of(stores, config.data.dataset)
    if config.instruments != "all":
        panel = panel.select(config.instruments)
    strategies = sorted({family(sleeve).strategy_id for sleeve in config.sleeves})
    database = stores.runtime.database
    days = EngineRunStore(database).listing(
        RunFilters(region=config.region, phase=RunPhase.COMPLETED, limit=MOST_DAYS)
    )
    counts = [
        (run_id, _record_day(stores, run_id, panel))
        for day in reversed(days)
        if day.strategy_id in strategies
        for run_id in (day_run_id(day.run_id, sleeve.sleeve_id) for sleeve in config.sleeves)
    ]
    for run_id in traded_runs(database, strategies):
        counts.append((run_id, evaluate_run(stores, run_id, panel)))
    return [(run_id, count) for run_id, count in counts if count]


def _record_day(stores: Stores, run_id: str, panel: MarketPanel) -> int:
    database = stores.runtime.database
    targets = target_weights(database, run_id)
    decisions = sleeve_decisions(database, run_id, "RISK")
    sessions = {decision_id: as_of for as_of, decision_id in decisions.items()}
    rows = []
    for row in _evaluations(stores, run_id, panel, decisions):
        as_of = sessions[row[0]]
        path = _held(panel, targets.get(as_of), as_of, row[1])
        rows.append((*row, *_figures(path)))
    return write_target_outcomes(database, rows) if rows else 0


def _held(
    panel: MarketPanel, target: Mapping[str, float] | None, as_of: date, horizon: int
) -> FloatArray | None:
    """Return the value of a target held unchanged, (horizon + 1,), 1 at the first close after it.

    None if there was none, or a price of it is unknown on the way.
    """
    if target is None or not set(target) <= set(panel.instruments):
        return None
    first = int(np.searchsorted(panel.sessions, np.datetime64(as_of, "D"))) + 1
    columns = [panel.instruments.index(name) for name in sorted(target)]
    weights = np.array([target[name] for name in sorted(target)])
    index = panel.derived(total_return_index)[first : first + horizon + 1, columns]
    path: FloatArray = 1.0 + (index / index[0] - 1.0) @ weights
    return path if np.isfinite(path).all() else None


def _figures(path: FloatArray | None) -> tuple[float | None, float | None, float | None]:
    """Return return, deepest drawdown and annualised volatility of a path; None if unknown."""
    if path is None:
        return None, None, None
    returns = path[1:] / path[:-1] - 1.0
    drawdown = path / np.maximum.accumulate(path) - 1.0
    volatility = float(returns.std(ddof=1) * np.sqrt(SESSIONS_A_YEAR))
    return float(path[-1] - 1.0), float(drawdown.min()), volatility


@dataclass(frozen=True, eq=False)
class _Day:
    """The scores stored on one session: its row, the families, and their (F, N) values.

    The last family is `COMBINED`, the one before it `TRADED`.
    """

    row: int
    families: tuple[str, ...]
    values: FloatArray


def _day(
    panel: MarketPanel, as_of: date, stored: list[Row], candidates: Mapping[str, float]
) -> _Day:
    columns = {name: column for column, name in enumerate(panel.instruments)}
    families = (*sorted(stored[0][2] or {}), TRADED, COMBINED)
    values = np.full((len(families), len(columns)), np.nan)
    for instrument, score, components in stored:
        parts = (components or {}) | {TRADED: candidates.get(instrument), COMBINED: score}
        known = [parts.get(family) for family in families]
        if instrument in columns:
            values[:, columns[instrument]] = [np.nan if part is None else part for part in known]
    row = int(np.searchsorted(panel.sessions, np.datetime64(as_of, "D")))
    if row == len(panel) or panel.sessions[row] != np.datetime64(as_of, "D"):
        raise DataError(f"{as_of}: decided on, but no session of the panel; was it made anew?")
    return _Day(row, families, values)


def _evaluated(
    panel: MarketPanel, day: _Day, before: _Day | None, target: Mapping[str, float] | None
) -> Iterator[tuple[int, date, dict[str, Any]]]:
    """Yield horizon, first session on which it is known, and the evaluation, where complete."""
    index = panel.derived(total_return_index)
    first = day.row + 1
    for horizon in OUTCOME_HORIZONS:
        if first + horizon >= len(panel):
            return
        returns: FloatArray = index[first + horizon] / index[first] - 1.0
        known_at = panel.sessions[first + horizon].astype(object)
        yield horizon, known_at, _evaluation(panel, day, before, target, returns)


def _evaluation(
    panel: MarketPanel,
    day: _Day,
    before: _Day | None,
    target: Mapping[str, float] | None,
    returns: FloatArray,
) -> dict[str, Any]:
    coefficients = rank_ic(day.values, np.broadcast_to(returns, day.values.shape))
    names = np.isfinite(day.values[-1]) & np.isfinite(returns)
    return {
        "ic": _named(day.families, coefficients),
        "names": int(names.sum()),
        "target_return": _earned(panel, target, returns),
        "turnover": _turnover(day, before),
        "sessions_since": None if before is None else day.row - before.row,
    }


def _turnover(day: _Day, before: _Day | None) -> dict[str, float | None]:
    """Return how much of each family's ranking is new since the decision before."""
    if before is None or before.families != day.families:
        return dict.fromkeys(day.families)
    return _named(day.families, 1.0 - rank_ic(before.values, day.values))


def _earned(
    panel: MarketPanel, target: Mapping[str, float] | None, returns: FloatArray
) -> float | None:
    """Return what the weights earned, cash at nothing; None if a return of theirs is unknown."""
    if target is None or not set(target) <= set(panel.instruments):
        return None
    columns = [panel.instruments.index(name) for name in sorted(target)]
    weights = np.array([target[name] for name in sorted(target)])
    earned = float((weights * returns[columns]).sum())
    return earned if np.isfinite(earned) else None


def _named(families: tuple[str, ...], values: FloatArray) -> dict[str, float | None]:
    known = np.isfinite(values)
    return {
        family: float(value) if is_known else None
        for family, value, is_known in zip(families, values, known, strict=True)
    }
