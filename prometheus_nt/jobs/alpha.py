"""Measure how well each alpha family of a sleeve ranked the returns that followed.

A score of session t is compared with returns from the close of t + 1 on: what was decided at a
close could not be bought before the next session. `measure_alpha` does so on every session of a
node; `stored_alpha` summarises what `jobs.outcomes` found on the days of a run's decisions.

Two controls keep the measurement honest: a random score, which must show nothing, and the
reversed combined score, which must show the opposite. Families have no fitted parameter, and the
combination learns from outcomes that were known at the time, so every session is out of sample;
what nobody can count here is how many other families were tried before these.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from persistence.evaluation import evaluations, newest_runs
from persistence.runtime import Filters
from prometheus_nt.config import EnginesConfig, NodeConfig
from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.assessment import assess
from prometheus_nt.engines.numerics.returns import total_return_index
from prometheus_nt.engines.stability import measure_stability
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.alpha import ICSummary, rank_ic, rank_turnover, summarise_ic

Progress = Callable[[int, int, str], None]

HORIZONS = (1, 5, 21, 63)
"""Sessions over which a score's decay is followed."""

MIN_DECISIONS = 24
"""Decisions below which their coefficients are listed without an interval."""

FIGURES = ("mean", "low", "high", "t_statistic", "positive_share")
STORED = ("sleeve", "run_id", "family", "horizon", "decisions", *FIGURES, "turnover")
"""Columns of `stored_alpha`."""


@dataclass(frozen=True)
class AlphaQuality:
    """One family of one sleeve over one horizon; turnover is over that horizon too."""

    sleeve_id: str
    family: str
    horizon: int
    ic: ICSummary
    turnover: float | None


def measure_alpha(
    config: NodeConfig, stores: Stores, progress: Progress | None = None
) -> list[AlphaQuality]:
    """Return the quality of every family of every sleeve, over the node's own sessions.

    Raises
    ------
    DataError
        If no session of the window has a score.
    """
    panel = node_panel(config, stores)
    found: list[AlphaQuality] = []
    for done, sleeve in enumerate(config.sleeves, start=1):
        scores = _scores(panel, config, config.engines_of(sleeve))
        found.extend(_qualities(sleeve.sleeve_id, scores, panel))
        if progress is not None:
            progress(done, len(config.sleeves), sleeve.sleeve_id)
    return found


def stored_alpha(stores: Stores, filters: Filters) -> list[tuple[Any, ...]]:
    """Return the stored quality of each family and horizon, a row of `STORED` each.

    Of the run asked for, else of the newest completed run of each sleeve. Turnover is from one
    decision to the next.

    Raises
    ------
    DataError
        If not one of the runs has evaluated scores.
    """
    runs = newest_runs(stores.runtime, filters)
    found = [line for run in runs for line in followed_scores(stores, run)]
    if not found:
        names = ", ".join(run["run_id"] for run in runs) or "no completed run"
        raise DataError(
            f"show alpha: {names}: no scores were stored and followed; run "
            "`prometheus backtest CONFIG --force --set persistence.engine_rows=rebalance`"
        )
    return found


def followed_scores(stores: Stores, run: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of `STORED` of one run; none if it stored no scores."""
    rows = evaluations(stores.runtime.database, run["run_id"])
    return [(run["sleeve_id"], run["run_id"], *figures) for figures in _summaries(rows)]


def _summaries(rows: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield family, horizon and figures of evaluated decisions, oldest first."""
    by_key: dict[tuple[str, int], list[float | None]] = defaultdict(list)
    turnover: dict[tuple[str, int], list[float]] = defaultdict(list)
    spacing: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        found, horizon = row["metadata"], row["horizon_days"]
        if found["sessions_since"] is not None:
            spacing[horizon].append(found["sessions_since"])
        for family, coefficient in found["ic"].items():
            by_key[family, horizon].append(coefficient)
            new = found["turnover"].get(family)
            turnover[family, horizon] += [] if new is None else [new]
    for (family, horizon), coefficients in sorted(by_key.items()):
        apart = max(int(median(spacing[horizon] or [1])), 1)
        known = np.array(coefficients, dtype=np.float64)
        ic = summarise_ic(known, overlap=(horizon - 1) // apart, least=MIN_DECISIONS)
        new_share = fmean(turnover[family, horizon]) if turnover[family, horizon] else None
        figures = (getattr(ic, figure) for figure in FIGURES)
        yield family, horizon, ic.sessions, *figures, new_share


def _scores(
    panel: MarketPanel, config: NodeConfig, engines: EnginesConfig
) -> dict[str, FloatArray]:
    """Return the scores of each family, (T, N), NaN outside the node's sessions."""
    families: dict[str, FloatArray] = {}
    for row, session in enumerate(panel.sessions.astype(object).tolist()):
        if session < config.sessions.start or session > (config.sessions.end or session):
            continue
        view = panel.until(session)
        try:
            record = assess(view, measure_stability(view, engines.stability), engines.assessment)
        except InsufficientHistory:
            continue
        for family, values in {**record.alpha_components, "combined": record.score}.items():
            families.setdefault(family, np.full(panel.close.shape, np.nan))[row] = values
    if not families:
        raise DataError(
            f"no session from {config.sessions.start} on has a score: the dataset ends at "
            f"{panel.as_of}, or its history is shorter than the lookbacks"
        )
    return families | _controls(families["combined"], config.seed)


def _controls(combined: FloatArray, seed: int) -> dict[str, FloatArray]:
    noise = np.random.default_rng(seed).standard_normal(combined.shape)
    return {
        "control: random": np.where(np.isnan(combined), np.nan, noise),
        "control: reversed": -combined,
    }


def _qualities(
    sleeve_id: str, scores: dict[str, FloatArray], panel: MarketPanel
) -> Iterator[AlphaQuality]:
    for horizon in HORIZONS:
        outcomes = forward_returns(panel, horizon)
        for family, values in scores.items():
            ic = summarise_ic(rank_ic(values, outcomes), overlap=horizon)
            yield AlphaQuality(sleeve_id, family, horizon, ic, rank_turnover(values, horizon))


def forward_returns(panel: MarketPanel, horizon: int) -> FloatArray:
    """Return the total return from the close of t + 1 to that of t + 1 + `horizon`, (T, N)."""
    index = panel.derived(total_return_index)
    returns: FloatArray = np.full(index.shape, np.nan)
    returns[: -horizon - 1] = index[horizon + 1 :] / index[1:-horizon] - 1.0
    return returns
