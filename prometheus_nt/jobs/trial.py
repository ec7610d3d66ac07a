"""One variant of a campaign in whatever process: screened, run, and the two compared.

1. `screen_trial` screens it, counts it, and keeps its equity curve beside the campaign;
2. `run_trial` runs it event by event, and records how far that was from the screen;
3. `variants_to_run` says which of those that were screened are worth it.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.campaigns import CampaignStore, TrialRow
from prometheus_nt.campaign_config import CampaignConfig
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import DataError, PrometheusError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.backtest import (
    SleeveScreen,
    run_backtest,
    screen_backtest,
)
from prometheus_nt.jobs.day import worker_name
from prometheus_nt.jobs.engine_outputs import output_store
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.screen import ScreenMarket
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.meta.concordance import yearly_gap_bps
from prometheus_nt.meta.folds import rows_tested, walk_forward
from prometheus_nt.meta.selection import SelectionRules, best_first, figures_of
from prometheus_nt.reporting.series import simple_returns
from prometheus_nt.settings import Settings
from prometheus_nt.yaml_models import validated

SCREENS = "screens"
"""The folder of a home that holds what screens found."""


@dataclass(frozen=True)
class TrialSpec:
    """What a worker needs to find its work: where the databases are, and which variant it is."""

    settings: Settings
    campaign_id: str
    sleeve_id: str


def screen_trial(spec: TrialSpec) -> str:
    """Screen one variant, count it, and record what was found; return its sleeve id.

    A screen that fails is recorded as such: the run will say what is wrong, and count it.
    """
    with open_stores(spec.settings) as stores:
        store = CampaignStore(stores.runtime.database)
        trial = store.trial(spec.campaign_id, spec.sleeve_id)
        outputs = output_store(spec.settings)
        try:
            screen = screen_backtest(
                node_of(trial), stores, outputs, load=kept_panel, kept=_MARKETS
            )
        except PrometheusError as failure:
            found: dict[str, Any] = {"error": type(failure).__name__, "message": str(failure)[:512]}
        else:
            stores.trials.screen(screen.identity, screen.facts, screen.found.returns)
            found = _kept_curve(stores, spec, screen)
        store.screened(spec.campaign_id, spec.sleeve_id, found)
        return spec.sleeve_id


def run_trial(spec: TrialSpec) -> str:
    """Run one variant and record how it ended; return its run id."""
    with _nothing_left_behind(), open_stores(spec.settings) as stores:
        store = CampaignStore(stores.runtime.database)
        trial = store.trial(spec.campaign_id, spec.sleeve_id)
        store.begin(spec.campaign_id, spec.sleeve_id, worker_name())
        began, outputs = perf_counter(), output_store(spec.settings)
        try:
            (summary,) = run_backtest(node_of(trial), stores, load=kept_panel, outputs=outputs)
            gap = _gap_bps(stores, trial, summary.run_id)
        except PrometheusError as failure:
            kind, message = type(failure).__name__, str(failure)
            count_failure(stores, trial, f"{kind}: {message}")
            store.end(spec.campaign_id, spec.sleeve_id, "FAILED", error=kind, message=message)
            raise
        found_ready = summary.cached and not _made_by_it(stores, trial, summary.run_id)
        status = "CACHED" if found_ready else "OK"
        seconds = None if summary.cached else perf_counter() - began
        found = {"run_id": summary.run_id, "seconds": seconds, "gap_bps": gap}
        store.end(spec.campaign_id, spec.sleeve_id, status, **found)
        return summary.run_id


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Free what was used: a run refers to itself in circles, and rarely does anybody look for them.

    A worker would else hold on to the books and the mapped files of many runs.
    """
    try:
        yield
    finally:
        gc.collect()


def _made_by_it(stores: Stores, trial: TrialRow, run_id: str) -> bool:
    """Return whether an earlier attempt made a run, and was killed before it could say so.

    `trial` is as it was before this attempt began.
    """
    if trial.started_at is None:
        return False
    return bool(stores.runtime.find_run(run_id)["created_at"] >= trial.started_at)


def variants_to_run(
    stores: Stores, config: CampaignConfig, trials: Sequence[TrialRow]
) -> frozenset[str]:
    """Return the sleeves that are run: the best of those screened, and those that failed there.

    They are judged on the sessions that the selection will judge: out of sample, where the
    campaign has folds.
    """
    assert config.screen is not None
    rules, screened = config.selection, [trial for trial in trials if is_screened(trial)]
    names = [trial.sleeve_id for trial in screened]
    chosen = {trial.sleeve_id for trial in trials} - set(names)
    if names:
        returns = np.column_stack([screened_returns(stores, one, rules) for one in screened])
        if config.folds is not None:
            folds = walk_forward(len(returns), **config.folds.model_dump())
            returns = returns[rows_tested(folds, len(returns))]
        ordered = best_first(names, returns, rules.objective)
        chosen |= set(ordered[: config.screen.kept(len(trials), rules.top_k)])
    return frozenset(chosen)


def is_screened(trial: TrialRow) -> bool:
    """Return whether a variant has a screen that found figures."""
    return trial.screen is not None and "error" not in trial.screen


def screened_returns(stores: Stores, trial: TrialRow, rules: SelectionRules) -> FloatArray:
    """Return the returns of a variant's screen that rules judge, one a session.

    Simple returns of every session, (T,); of every session but the first less those of the
    benchmark, (T - 1,), where the rules judge against it.

    Raises
    ------
    DataError
        If there is no benchmark to judge against.
    StoreError
        If the file is gone.
    """
    curve = _curve(stores, trial)
    returns = simple_returns(curve["equity"])
    if rules.against == "zero":
        return returns
    levels = curve["benchmark"][1:]
    if np.isnan(levels).any():
        raise DataError(
            f"{trial.sleeve_id}: its screen has no benchmark to be judged against; set "
            "data.benchmark, or selection.against to zero"
        )
    excess: FloatArray = returns[1:] - simple_returns(levels)
    return excess


def node_of(trial: TrialRow) -> NodeConfig:
    """Return the node that a variant is."""
    return validated(NodeConfig, trial.node, f"{trial.campaign_id}: {trial.sleeve_id}")


def count_failure(stores: Stores, trial: TrialRow, reason: str) -> None:
    """Count a variant that failed before its run could count itself."""
    node = node_of(trial)
    sleeve = node.sleeves[0]
    params = node.config_hash(sleeve)
    if stores.trials.knows(trial.strategy_id, params):
        return
    identity = RunIdentity(
        strategy_id=trial.strategy_id,
        sleeve_id=trial.sleeve_id,
        mode=Mode.BACKTEST,
        code_hash=code_hash(),
        config_hash=params,
        data_fingerprint="unknown",
        seed=node.seed,
    )
    window = {"start_date": node.sessions.start, "end_date": node.sessions.end}
    stores.trials.begin(identity, {"market_id": trial.market_id, **window})
    stores.trials.fail(identity, reason)


_KEPT: dict[str, MarketPanel] = {}
"""The panel of the last run in this process, with everything that was derived from it."""

_MARKETS: dict[str, ScreenMarket] = {}
"""The market of the last screen in this process."""


def kept_panel(
    stores: Stores, dataset_id: str, index: str | None, revision: int | str | None
) -> MarketPanel:
    """Return the panel of a dataset: that of the run before if nothing has changed.

    Variants of one campaign share what engines derive from prices with the same settings.
    """
    panel = panel_of(stores, dataset_id, index, revision)
    key = f"{stores.historical.database.safe_url} {dataset_id} {index} {panel.fingerprint}"
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = panel
    return _KEPT[key]


def _kept_curve(stores: Stores, spec: TrialSpec, screen: SleeveScreen) -> dict[str, Any]:
    """Keep the equity curve of a screen; return its figures."""
    found = screen.found
    # The capital first: returns are measured from it.
    equity = np.concatenate(([found.capital_usd], found.equity))
    benchmark = np.full(len(equity), np.nan)
    if screen.benchmark is not None:
        benchmark[1:] = screen.benchmark
    folder = _screen_folder(stores, spec.campaign_id)
    columns = {"equity": equity, "benchmark": benchmark}
    artifact = folder.write_table(f"{spec.sleeve_id}.parquet", columns)
    return {
        **figures_of(found.returns),
        "fills": len(found.fills),
        "refusals": found.refusals,
        "sha256": artifact.sha256,
    }


def _gap_bps(stores: Stores, trial: TrialRow, run_id: str) -> float | None:
    if not is_screened(trial):
        return None
    curve = _curve(stores, trial)
    run = load_run_series(RunFolder(stores.settings.runs_dir, run_id))
    return yearly_gap_bps(run.equity, curve["equity"][1:])


def _curve(stores: Stores, trial: TrialRow) -> dict[str, np.ndarray]:
    return _screen_folder(stores, trial.campaign_id).read_table(f"{trial.sleeve_id}.parquet")


def _screen_folder(stores: Stores, campaign_id: str) -> RunFolder:
    return RunFolder(stores.settings.home / SCREENS, campaign_id)
