"""The report of a run, from the files in its folder alone: it can be made again at any time."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from prometheus_nt.domain.books import StressLoss, TailRisk
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.record import FloatArray, SessionArray
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.findings import RunFinding, run_finding
from prometheus_nt.reporting.metrics import compute_metrics
from prometheus_nt.reporting.series import COST_KINDS, BookRisk, FillTable, RunSeries
from prometheus_nt.reporting.tearsheet import render_tearsheet

REPORT = "report.html"
RISK = "risk.json"
FINDINGS = "findings.json"
BENCHMARK_LEVELS = "benchmark.json"
"""Of a run's table of equity what the desk shows: to open that costs more than all else it does."""

OTHER_FLOWS = ("delistings", "interest_received")

ONE_RUN = "Selection: this is one run. It says nothing about how many others were tried."
"""What a page of one run must add; a page of several counts the others itself."""


def load_run_series(folder: RunFolder) -> RunSeries:
    """Return the run in `folder` as aligned arrays.

    Raises
    ------
    StoreError
        If a file of the run is missing.
    """
    manifest = folder.read_json("manifest.json")
    table, positions = folder.read_table("equity.parquet"), folder.read_table("positions.parquet")
    sessions = table["session"].astype("datetime64[D]")
    equity = table["equity"]
    instruments = tuple(sorted(set(positions["instrument_id"].tolist())))
    sectors = dict(zip(positions["instrument_id"], positions["sector"], strict=True))
    known = any(sector is not None for sector in sectors.values())
    benchmark, nothing = table["benchmark"], np.zeros(len(equity))
    return RunSeries(
        run_id=manifest["run_id"],
        strategy_id=manifest["strategy_id"],
        sleeve_id=manifest["sleeve_id"],
        mode=Mode(manifest["mode"]),
        sessions=sessions,
        equity=equity,
        starting_capital=float(manifest["starting_capital"]),
        benchmark=None if np.isnan(benchmark).any() else benchmark,
        benchmark_id=manifest["benchmark"],
        cash=table["cash"] / fraction_base(equity),
        gross=table["gross"],
        net=table["net"],
        turnover=table["turnover"],
        # A run recorded before financing was charged paid none.
        costs={kind: table.get(kind, nothing) for kind in COST_KINDS},
        dividends=table["dividends"],
        weights=_weights(sessions, instruments, positions),
        instruments=instruments,
        sectors=tuple(sectors[name] for name in instruments) if known else (),
        fills=_fill_table(folder),
        other_cash_flows={kind: table.get(kind, nothing) for kind in OTHER_FLOWS},
        regimes=table["regime"] if any(table["regime"]) else None,
        risk=_book_risk(folder),
    )


def write_report(
    folder: RunFolder,
    series: RunSeries,
    metrics: dict[str, Any],
    findings: Sequence[RunFinding] | None = None,
) -> None:
    """Render the tearsheet into the run's folder; None is a run that nobody looked at."""
    manifest = folder.read_json("manifest.json")
    notes = [*manifest["notes"], ONE_RUN]
    page = render_tearsheet(series, metrics, manifest, notes, findings)
    folder.write_text(REPORT, page, "html")


def remake_report(stores: Stores, run: str) -> Path:
    """Make the report of a finished run, or of one that trades, again; return where it is.

    From its files: a run that trades writes them when its node stops, and after each session.

    Parameters
    ----------
    run : str
        A run id, its beginning, or `latest`.

    Raises
    ------
    StoreError
        If no one run matches, it did not finish, or its files are gone.
    """
    row = stores.runtime.find_run(run)
    if row["mode"] == Mode.BACKTEST.value and row["status"] != "COMPLETED":
        raise StoreError(f"{row['run_id']} is {row['status']}: only a completed run has a report")
    return rewrite_report(RunFolder(stores.settings.runs_dir, row["run_id"]))


def rewrite_report(folder: RunFolder) -> Path:
    """Render the report again from the files beside it; return where it is."""
    series = load_run_series(folder)
    table = folder.read_table("equity.parquet")
    write_benchmark(folder, table["session"], table["benchmark"])
    write_report(folder, series, compute_metrics(series), _stored_findings(folder))
    return folder.path / REPORT


def write_benchmark(folder: RunFolder, sessions: SessionArray, levels: FloatArray) -> None:
    """Write a benchmark's level by session; null where it is NaN."""
    known = levels.astype(object)
    known[np.isnan(levels)] = None
    days = sessions.astype("datetime64[D]").astype(str).tolist()
    folder.write_json(BENCHMARK_LEVELS, {"sessions": days, "levels": known.tolist()})


def fraction_base(equity: FloatArray) -> FloatArray:
    """Return what fractions of equity divide by: NaN where equity is not positive."""
    return np.where(equity > 0.0, equity, np.nan)


def _stored_findings(folder: RunFolder) -> tuple[RunFinding, ...] | None:
    if not (folder.path / FINDINGS).exists():
        return None
    return tuple(run_finding(told) for told in folder.read_json(FINDINGS)["findings"])


def _book_risk(folder: RunFolder) -> BookRisk | None:
    if not (folder.path / RISK).exists():
        return None
    stored = folder.read_json(RISK)
    return BookRisk(
        as_of=date.fromisoformat(stored["as_of"]),
        basis=stored.get("basis", "target"),
        volatility=stored["volatility"],
        weights=stored["weights"],
        component_risk=dict(stored["component_risk"]),
        tails=tuple(TailRisk(*row) for row in stored["tails"]),
        stress=tuple(StressLoss(*row) for row in stored["stress"]),
    )


def _weights(
    sessions: np.ndarray, instruments: tuple[str, ...], positions: dict[str, np.ndarray]
) -> FloatArray:
    weights: FloatArray = np.zeros((len(sessions), len(instruments)))
    if instruments:
        rows = np.searchsorted(sessions, positions["session"].astype("datetime64[D]"))
        columns = np.searchsorted(instruments, positions["instrument_id"].astype(str))
        weights[rows, columns] = positions["weight"]
    return weights


def _fill_table(folder: RunFolder) -> FillTable:
    table = folder.read_table("fills.parquet")
    if not len(table["fill_id"]):
        return FillTable.empty()
    return FillTable(
        timestamps=table["timestamp"].astype("datetime64[s]"),
        instrument_id=table["instrument_id"],
        side=table["side"],
        quantity=table["quantity"],
        price=table["price"],
        commission_usd=table["commission_usd"],
        spread_cost_usd=table["spread_cost_usd"],
        impact_cost_usd=table["impact_cost_usd"],
        decision_price=table["decision_price"].astype(float),
        split_factor=table["split_factor"],
    )
