"""How far a run that traded is from the backtest of the same sessions, and why.

1. `measure_divergence` finds the run and the backtest that corresponds: the same settings but for
   the mode, the same sessions, today's code and data; one that was not made yet is made.
2. `traded_runs` reads both into one unit of shares.
3. `reporting.divergence.attribute` splits the gap; events of the caller and those recorded beside
   the run (`run_events`) say which faults, halts and wind-downs there were.
4. The page and the same as JSON go to the run's folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.backtest import Progress, run_backtest
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.run_events import recorded_events
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.traded_runs import (
    CommonUnits,
    StoredRows,
    read_rows,
    reference_marks,
    traded_run,
)
from prometheus_nt.reporting.divergence import attribute
from prometheus_nt.reporting.divergence_figures import (
    cause_rows,
    worst_instruments,
    worst_sessions,
)
from prometheus_nt.reporting.divergence_page import render_divergence
from prometheus_nt.reporting.divergence_records import Divergence, RunEvent
from strategies.limits import MODE_LIMITS

PAGE, FIGURES = "divergence.html", "divergence.json"

TOLERANCE_BPS = 1.0
"""Of the backtest's equity, on the worst session: what rounding never reaches in years."""

WORST = 10
"""Sessions and instruments that are listed."""


@dataclass(frozen=True)
class DivergenceRequest:
    """Which runs to compare, and how.

    run : id of the run, its beginning, or `latest`: the newest that traded.
    backtest : id of the other run; None finds the backtest that corresponds, or makes it.
    events : faults and actions of people that the caller knows of, beside what is recorded.
    write_page : leave page and figures in the run's folder.
    """

    run: str
    backtest: str | None = None
    tolerance_bps: float = TOLERANCE_BPS
    events: tuple[RunEvent, ...] = ()
    write_page: bool = True


@dataclass(frozen=True, eq=False)
class DivergenceReport:
    """What was found; `made_backtest` if the backtest did not exist before."""

    found: Divergence
    tolerance_bps: float
    made_backtest: bool
    notes: tuple[str, ...]
    page: Path | None

    @property
    def within(self) -> bool:
        """Whether no session's gap exceeds the tolerance, nor what the rows leave unexplained."""
        return max(self.found.worst_bps, self.found.residual_bps) <= self.tolerance_bps

    @property
    def identical(self) -> bool:
        """Whether every order and every fill of one run is also the other's."""
        counts = self.found.counts
        return (
            counts.orders_same == counts.orders_a == counts.orders_b
            and counts.fills_same == counts.fills_a == counts.fills_b
        )


def measure_divergence(
    stores: Stores, request: DivergenceRequest, progress: Progress | None = None
) -> DivergenceReport:
    """Compare a run with the backtest of its sessions and attribute the gap.

    Raises
    ------
    StoreError
        If a run is not known, or its rows or files are gone.
    ConfigError
        If the runs do not begin in the same session with the same capital.
    PrometheusError
        If the backtest has to be made, and fails.
    """
    traded = stores.runtime.newest_traded_run
    run = traded() if request.run == "latest" else stores.runtime.find_run(request.run)
    other, made = _counterpart(stores, run, request.backtest, progress)
    rows_a, rows_b = read_rows(stores, run), read_rows(stores, other)
    _require_comparable(rows_a, rows_b)
    found = _attributed(stores, rows_a, rows_b, request.events)
    report = DivergenceReport(
        found, request.tolerance_bps, made, tuple(_notes(rows_a, rows_b, made)), None
    )
    return _written(stores, run, report) if request.write_page else report


def backtest_config(run: Mapping[str, Any]) -> NodeConfig:
    """Return the node that backtests the sessions of a run by its own settings."""
    plain = {name: value for name, value in run["config_json"].items() if name != "sleeve"}
    implied = MODE_LIMITS[plain["mode"]]
    # What nobody set, but the mode, a backtest does without.
    plain["gate"] = {
        name: value
        for name, value in plain["gate"].items()
        if name not in implied or value != implied[name]
    }
    return NodeConfig.model_validate(
        plain
        | {
            "mode": "backtest",
            "sleeves": [run["config_json"]["sleeve"]],
            "sessions": {"start": run["start_date"], "end": run["end_date"]},
        }
    )


def summary(report: DivergenceReport) -> dict[str, Any]:
    """Return a report as plain values: causes, worst sessions and instruments, evidence."""
    found = report.found
    return {
        "run": found.run_a,
        "backtest": found.run_b,
        "made_backtest": report.made_backtest,
        "sessions": len(found.sessions),
        "start": str(found.sessions[0]),
        "end": str(found.sessions[-1]),
        "within": report.within,
        "identical": report.identical,
        "tolerance_bps": report.tolerance_bps,
        "worst_bps": found.worst_bps,
        "residual_bps": found.residual_bps,
        "gap_usd": found.total,
        "orders": asdict(found.counts),
        "causes": cause_rows(found),
        "events": [
            {"name": event.name, "session": event.session, "usd": part}
            for event, part in zip(found.events, found.event_parts, strict=True)
        ],
        "worst_sessions": worst_sessions(found, WORST),
        "worst_instruments": worst_instruments(found, WORST),
        "evidence": [asdict(item) for item in found.evidence],
        "notes": list(report.notes),
        "page": None if report.page is None else str(report.page),
    }


def _counterpart(
    stores: Stores, run: Mapping[str, Any], name: str | None, progress: Progress | None
) -> tuple[Mapping[str, Any], bool]:
    """Return the run to compare with, and whether it had to be made."""
    if name is not None:
        return stores.runtime.find_run(name), False
    if run["mode"] == Mode.BACKTEST:
        raise ConfigError(
            f"divergence: {run['run_id']} is a backtest; name the run to compare it with, or a "
            "run that traded"
        )
    (made,) = run_backtest(backtest_config(run), stores, progress=progress)
    return stores.runtime.find_run(made.run_id), not made.cached


def _require_comparable(rows_a: StoredRows, rows_b: StoredRows) -> None:
    for rows in (rows_a, rows_b):
        if not rows.equity:
            raise StoreError(f"{rows.run['run_id']}: no session has closed, nothing to compare")
    if rows_a.run["run_id"] == rows_b.run["run_id"]:
        raise ConfigError(f"divergence: {rows_a.run['run_id']} is given twice")
    said = [
        (rows.sessions[0], rows.run["config_json"]["sleeve"]["capital_usd"])
        for rows in (rows_a, rows_b)
    ]
    if said[0] != said[1]:
        words = [f"begins on {start} with {capital:,.0f} USD" for start, capital in said]
        raise ConfigError(
            f"divergence: {rows_a.run['run_id']} {words[0]}, {rows_b.run['run_id']} {words[1]}; "
            "compare runs of the same sessions and capital"
        )


def _attributed(
    stores: Stores, rows_a: StoredRows, rows_b: StoredRows, events: Sequence[RunEvent]
) -> Divergence:
    count = min(len(rows_a.sessions), len(rows_b.sessions))
    if rows_a.sessions[:count] != rows_b.sessions[:count]:
        raise ConfigError(
            f"divergence: {rows_a.run['run_id']} and {rows_b.run['run_id']} do not have the same "
            f"sessions from {rows_a.sessions[0]} on"
        )
    sessions = np.array(rows_a.sessions[:count], dtype="datetime64[D]")
    instruments = tuple(sorted(rows_a.instruments | rows_b.instruments))
    panel = node_panel(backtest_config(rows_a.run), stores)
    units = CommonUnits(panel, sessions, instruments)
    run_a, run_b = traded_run(rows_a, units), traded_run(rows_b, units)
    marks = reference_marks(run_b.marks, run_a.marks, units.closes)
    found = (*events, *recorded_events(stores, rows_a.run, sessions))
    return attribute(run_a, replace(run_b, marks=marks), sessions, instruments, found)


def _notes(rows_a: StoredRows, rows_b: StoredRows, made: bool) -> Iterator[str]:
    run_a, run_b = rows_a.run, rows_b.run
    if made:
        yield f"No backtest of these sessions and settings existed: {run_b['run_id']} was made."
    if run_a["code_hash"] != run_b["code_hash"]:
        yield "The run was begun by other code than made the backtest."
    shorter = min(len(rows_a.sessions), len(rows_b.sessions))
    left = max(len(rows_a.sessions), len(rows_b.sessions)) - shorter
    if left:
        yield f"{left} sessions that only one of the runs has are left out."
    if run_a["mode"] != Mode.BACKTEST:
        yield (
            "Shares and prices are those of the backtest: adjusted for every split that the "
            "data know of."
        )


def _written(stores: Stores, run: Mapping[str, Any], report: DivergenceReport) -> DivergenceReport:
    """Leave page and figures in the run's folder; return the report that says where."""
    settings = stores.settings
    backtest = run["mode"] == Mode.BACKTEST
    root = settings.runs_dir if backtest else settings.home / run["mode"].lower()
    folder = RunFolder(root, run["run_id"])
    page = render_divergence(report.found, report.tolerance_bps, report.notes)
    there = replace(report, page=Path(folder.write_text(PAGE, page, "html").path))
    folder.write_json(FIGURES, summary(there))
    return there
