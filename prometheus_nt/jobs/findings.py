"""What stands against a run: found from its files and its panel, stored, and shown.

1. `record_findings` is called when a run ends, before its report is made;
2. `findings_of` adds what its neighbours say, which nobody can know when it ends;
3. `vetoes` are the reasons for which a run cannot be selected.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.campaigns import CampaignStore
from persistence.run_findings import FindingStore
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.jobs.diagnostics import MOST_RUNS, SAME, settings_of
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.report import FINDINGS, load_run_series, write_report
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.findings import RunFinding
from prometheus_nt.meta.run_findings import (
    CODES,
    OF_NEIGHBOURS,
    Evidence,
    FindingRules,
    Neighbour,
    neighbour_findings,
    ordered,
    run_findings,
    vetoes_of,
)
from prometheus_nt.reporting.metrics import compute_metrics
from prometheus_nt.reporting.series import COST_KINDS, RunSeries

COLUMNS = ("code", "severity", "message", "remedy", "evidence")

LAST_MONTH = SESSIONS_PER_YEAR // 12
"""A name without a bar in so many last sessions of a panel has ended."""


def record_findings(
    stores: Stores,
    folder: RunFolder,
    series: RunSeries,
    panel: MarketPanel,
    rules: FindingRules | None = None,
) -> tuple[RunFinding, ...]:
    """Look at a run whose tables are written, and store what stands against it.

    Parameters
    ----------
    panel : MarketPanel
        What the run read; its sessions hold those of the run.
    """
    found = run_findings(_evidence(stores, folder, series, panel), rules)
    folder.write_json(FINDINGS, {"findings": [one.document() for one in found]})
    head = {"run_id": series.run_id, "mode": series.mode, "strategy_id": series.strategy_id}
    FindingStore(stores.runtime.database).replace(head, found)
    return found


def findings_of(
    stores: Stores, run: str, veto: Sequence[str] = ()
) -> tuple[str, tuple[RunFinding, ...]]:
    """Return a finished run's id and all that stands against it, its neighbours asked as well.

    Parameters
    ----------
    run : str
        A run id, its beginning, or `latest`.
    veto : codes whose warnings are vetoes from now on

    Raises
    ------
    ConfigError
        If a code is unknown: its veto would never be heard.
    StoreError
        If no one run matches, it did not finish, or its files are gone.
    """
    _require_known(veto)
    row = stores.runtime.find_run(run)
    if row["status"] != "COMPLETED":
        raise StoreError(f"{row['run_id']} is {row['status']}: only a completed run can be judged")
    others = CampaignStore(stores.runtime.database).finished_runs(row["strategy_id"], date.max)
    same = [other for other in others[:MOST_RUNS] if all(other[one] == row[one] for one in SAME)]
    found = _all_findings(stores, row, same, FindingRules(veto=tuple(veto)))
    store = FindingStore(stores.runtime.database)
    store.replace(row, found)
    if veto:
        _write_again(stores, row, found)
    return row["run_id"], found


def _require_known(veto: Sequence[str]) -> None:
    for code in veto:
        if code not in CODES:
            close = get_close_matches(code.upper(), CODES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(CODES)}"
            raise ConfigError(f"veto: unknown code {code!r}; {hint}")


def findings_of_runs(
    stores: Stores, runs: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[RunFinding, ...]]:
    """Return, by run, what stands against runs of the same sessions and data; store it."""
    store = FindingStore(stores.runtime.database)
    found = {run["run_id"]: _all_findings(stores, run, runs, FindingRules()) for run in runs}
    for run in runs:
        store.replace(run, found[run["run_id"]])
    return found


def vetoes(found: Sequence[RunFinding]) -> str | None:
    """Return why a run cannot be selected, or None."""
    reasons = [f"{one.code}: {one.message}" for one in vetoes_of(found)]
    return "; ".join(reasons) or None


def _all_findings(
    stores: Stores,
    run: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    rules: FindingRules,
) -> tuple[RunFinding, ...]:
    own = FindingStore(stores.runtime.database).read(run["run_id"]) or _looked_at_again(stores, run)
    # Whoever made a code a veto meant it, also of what its neighbours say anew.
    raised = (*rules.veto, *(one.code for one in vetoes_of(own)))
    rules = rules.model_copy(update={"veto": raised})
    beside = neighbour_findings(_neighbour(run), [_neighbour(other) for other in others], rules)
    kept = [one for one in own if one.code not in OF_NEIGHBOURS]
    return ordered([*kept, *beside], rules)


def _looked_at_again(stores: Stores, run: Mapping[str, Any]) -> tuple[RunFinding, ...]:
    folder = RunFolder(stores.settings.runs_dir, run["run_id"])
    revision = folder.read_json("manifest.json").get("data_revision")
    panel = panel_of(stores, run["dataset_id"], revision=revision)
    return record_findings(stores, folder, load_run_series(folder), panel)


def _write_again(stores: Stores, run: Mapping[str, Any], found: Sequence[RunFinding]) -> None:
    folder = RunFolder(stores.settings.runs_dir, run["run_id"])
    folder.write_json(FINDINGS, {"findings": [one.document() for one in found]})
    series = load_run_series(folder)
    write_report(folder, series, compute_metrics(series), found)


def _neighbour(run: Mapping[str, Any]) -> Neighbour:
    sharpe = (run["metrics_json"] or {}).get("annualised_sharpe")
    return Neighbour(run["run_id"], settings_of(run), sharpe)


def _evidence(stores: Stores, folder: RunFolder, series: RunSeries, panel: MarketPanel) -> Evidence:
    manifest = folder.read_json("manifest.json")
    fills, orders = folder.read_table("fills.parquet"), folder.read_table("orders.parquet")
    decided = dict(zip(orders["order_id"], orders["decided_on"], strict=True))
    filled_on = fills["timestamp"].astype("datetime64[D]")
    rows, columns = _places(panel, series.sessions, series.instruments)
    ended = ~np.isfinite(panel.close[-LAST_MONTH:]).any(axis=0)
    return Evidence(
        sessions=series.sessions,
        returns=series.returns,
        profit=float(series.equity[-1]) - series.starting_capital,
        costs={kind: float(series.costs[kind].sum()) for kind in COST_KINDS},
        profits=_profits(stores, folder, series),
        filled_on=filled_on,
        decided_on=np.array(
            [decided.get(order) for order in fills["order_id"]], dtype="datetime64[D]"
        ),
        fill_names=fills["instrument_id"],
        participation=_participation(panel, fills, filled_on),
        impact_charged=manifest["config"]["execution"]["quotes"]["impact_coefficient"] > 0.0,
        instruments=series.instruments,
        held=series.weights != 0.0,
        barless=~np.isfinite(panel.close[np.ix_(rows, columns)]),
        regimes=series.regimes,
        survivorship=stores.historical.dataset(manifest["dataset"])["survivorship"],
        listed=len(panel.instruments),
        ended=int(ended.sum()),
    )


def _places(
    panel: MarketPanel, sessions: np.ndarray, names: Sequence[str]
) -> tuple[IntArray, IntArray]:
    """Return the rows and the columns of a panel that sessions and instruments have."""
    at = {name: column for column, name in enumerate(panel.instruments)}
    columns = np.array([at[name] for name in names], dtype=np.int64)
    return np.searchsorted(panel.sessions, sessions), columns


def _participation(
    panel: MarketPanel, fills: Mapping[str, np.ndarray], filled_on: np.ndarray
) -> FloatArray:
    """Return the share of its session's volume that each fill took; NaN where it is unknown."""
    rows, columns = _places(panel, filled_on, fills["instrument_id"].tolist())
    volume = panel.volume[rows, columns]
    # A table without a row does not know what its columns hold.
    traded = fills["quantity"].astype(float) / fills["split_factor"].astype(float)
    share: FloatArray = traded / np.where(volume > 0.0, volume, np.nan)
    return share


def _profits(stores: Stores, folder: RunFolder, series: RunSeries) -> dict[str, float]:
    """Return what each instrument earned: cash in less cash out, and its value at the end."""
    fills, positions = series.fills, folder.read_table("positions.parquet")
    sign = np.where(fills.side == "SELL", 1.0, -1.0)
    cash = sign * fills.quantity * fills.price - fills.commission_usd
    last = positions["session"].astype("datetime64[D]") == series.sessions[-1]
    names = np.concatenate((fills.instrument_id, positions["instrument_id"][last])).astype(str)
    amounts = np.concatenate((cash, positions["market_value"][last].astype(float)))
    unique, at = np.unique(names, return_inverse=True)
    earned = np.bincount(at, weights=amounts, minlength=len(unique))
    other = FindingStore(stores.runtime.database).cash_by_instrument(series.run_id)
    return {
        str(name): float(usd) + other.get(str(name), 0.0)
        for name, usd in zip(unique, earned, strict=True)
    }
