"""Runs: which there are, what each found, and several beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel

from persistence.artifacts import RunFolder
from persistence.listings import Filters
from persistence.pages import Record, equity_days, equity_levels
from persistence.run_findings import FindingStore
from persistence.run_history import page_of_runs
from prometheus_nt.domain.errors import ConfigError, DataError, StoreError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.compare import YAML, chosen_runs, tried_by
from prometheus_nt.jobs.elsewhere import found_elsewhere
from prometheus_nt.jobs.report import BENCHMARK_LEVELS, FINDINGS, REPORT
from prometheus_nt.monitoring.answers import (
    DEFAULT_ROWS,
    Answer,
    AsOf,
    Limit,
    Name,
    Offset,
    Page,
    Part,
    page_of,
)
from prometheus_nt.monitoring.desk import Desk, OurDesk, aside
from prometheus_nt.reporting.luck import Luck, RecordLuck, luck_of, recounted
from prometheus_nt.reporting.page import POLICY
from prometheus_nt.reporting.series import simple_returns

router = APIRouter(prefix="/api", tags=["runs"])

MOST_COMPARED = 20
BENCHMARK = ("benchmark", "benchmark_id")
MOST_POINTS = 600
"""Of a curve among others: a screen shows no more."""
COMPUTING = "being computed, which takes some seconds; ask again"
TOO_LITTLE = "not computed: too few, too short or too similar records"
NO_FILES = "the files of the run are gone; what the database keeps is shown"
NOT_COMPUTED = (
    "a figure that is null cannot be computed from the record: without a benchmark none that needs "
    "one, without trades none of trades"
)
UNKEPT = "recorded before benchmarks were kept apart; `prometheus report {}` keeps this one"
NO_BENCHMARK_YET = "a benchmark is kept with the files of a completed backtest alone"
DIVERGENCE = "divergence.json"
CAUSE = ("cause", "usd", "bps", "meaning")
ITS_OWN_MEASURE = "a backtest is what runs on paper and live are compared with"

Status = Literal["RUNNING", "COMPLETED", "FAILED", "HALTED", "STOPPED", "FINISHED"]


class RunRow(Part):
    """A run in a list. metrics : by their names in the reports; empty until it is completed."""

    run_id: str
    strategy_id: str
    sleeve_id: str
    portfolio_id: str
    market_id: str
    mode: Mode
    status: str
    start_date: date
    end_date: date
    dataset_id: str
    created_at: datetime
    completed_at: datetime | None
    metrics: dict[str, Any]


class ArtifactRow(Part):
    """A file of a run."""

    name: str
    kind: str
    bytes: int
    rows: int | None
    sha256: str


class Divergence(Part):
    """How far a run was from the backtest of its sessions, when it was last compared.

    within : whether no session was further away than `tolerance_bps`. gap_usd : at the end.
    causes : cause, usd, bps and meaning of each part; the parts add up to the gap.
    """

    backtest: str
    start: date
    end: date
    sessions: int
    within: bool
    identical: bool
    tolerance_bps: float
    worst_bps: float
    gap_usd: float
    causes: list[dict[str, Any]]
    notes: list[str]


class RunDetail(Answer):
    """All that is kept of a run but its rows.

    findings : what stands against it; null if nobody looked. divergence : null if nobody compared.
    """

    run: RunRow
    order_list_hash: str | None
    config_hash: str
    code_hash: str
    data_fingerprint: str
    config: dict[str, Any]
    notes: list[str]
    findings: list[dict[str, Any]] | None
    divergence: Divergence | None
    artifacts: list[ArtifactRow]
    has_report: bool


class EquityCurve(Answer):
    """A run's equity by session. drawdown : a fraction, at most 0."""

    run_id: str
    sessions: list[date]
    equity: list[float]
    drawdown: list[float | None]
    gross_exposure: list[float | None]
    net_exposure: list[float | None]
    benchmark: list[float | None] | None
    benchmark_id: str | None


class ComparedRun(Part):
    """One of several runs. equity : of one unit of capital, at the sessions of the answer."""

    run_id: str
    sleeve_id: str
    metrics: dict[str, Any]
    equity: list[float]
    sharpe_low: float | None
    sharpe_high: float | None
    above_zero: float | None
    above_luck: float | None
    years_needed: float | None
    survives: bool | None


class Comparison(Answer):
    """Several runs on their common sessions, and how much of them luck explains.

    sessions : the first, the last, and of long records some in between.
    computing : whether what luck explains is still to come; ask again then.
    hurdle : annual Sharpe ratio that the best of `trials` is expected to reach by luck.
    overfitting : probability of backtest overfitting. best_is_luck : p-value of the best.
    """

    sessions: list[date]
    runs: list[ComparedRun]
    trials: int
    computing: bool
    distinct: int | None
    hurdle: float | None
    overfitting: float | None
    best_is_luck: float | None


async def _filters(
    strategy_id: Name | None = None,
    sleeve_id: Name | None = None,
    mode: Mode | None = None,
    status: Status | None = None,
) -> Filters:
    return Filters(
        strategy_id=strategy_id,
        portfolio_id=sleeve_id,
        mode=mode.value if mode else None,
        status=status,
    )


@router.get("/runs")
def runs(
    desk: OurDesk,
    filters: Annotated[Filters, Depends(_filters)],
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[RunRow]:
    """Return runs, the newest first."""
    rows = page_of_runs(desk.stores.runtime.database, filters, offset, limit + 1)
    page = page_of([_row(row) for row in rows], offset, limit)
    return page.model_copy(update={"unknown": _uncomputed("rows.metrics", page.rows)})


@router.get("/runs/{run_id}")
def run(desk: OurDesk, run_id: Name) -> RunDetail:
    """Return a run by its id, or by a beginning that no other run has."""
    row = desk.stores.runtime.find_run(run_id)
    folder = RunFolder(desk.settings.runs_dir, row["run_id"])
    manifest = _json(folder, "manifest.json")
    judged = {"findings": _findings(desk, folder, row), "divergence": _divergence(desk, row)}
    unknown = {"notes": NO_FILES} if manifest is None and row["status"] == "COMPLETED" else {}
    unknown |= {name: why for name, why in _unjudged(row).items() if judged[name] is None}
    artifacts, told = desk.stores.runtime.artifacts(row["run_id"]), _row(row)
    return RunDetail(
        run=told,
        **{name: row[name] for name in ("order_list_hash", "config_hash", "code_hash")},
        data_fingerprint=row["data_fingerprint"],
        config=row["config_json"],
        notes=(manifest or {}).get("notes", []),
        **judged,
        artifacts=[ArtifactRow(**_only(each, ArtifactRow)) for each in artifacts],
        has_report=_report(desk, row["run_id"]) is not None,
        unknown=unknown | _uncomputed("run.metrics", [told]),
    )


@router.get("/runs/{run_id}/equity")
def run_equity(desk: OurDesk, run_id: Name, as_of: AsOf = None) -> EquityCurve:
    """Return a run's equity by session, with its benchmark where its files are kept."""
    row = desk.stores.runtime.find_run(run_id)
    if row["status"] != "COMPLETED":
        return _equity(desk, row, as_of)
    key = ("equity", row["run_id"], row["completed_at"], as_of)
    return desk.memo.get(key, lambda: _equity(desk, row, as_of))


def _equity(desk: Desk, row: Record, as_of: date | None) -> EquityCurve:
    days = equity_days(desk.stores.runtime.database, row["run_id"], as_of)
    levels, name, unknown = _benchmark(desk, row, [day["date"] for day in days])
    return EquityCurve(
        run_id=row["run_id"],
        sessions=[day["date"] for day in days],
        equity=[day["equity_curve_value"] for day in days],
        drawdown=[day["drawdown"] for day in days],
        gross_exposure=[day["gross_exposure"] for day in days],
        net_exposure=[day["net_exposure"] for day in days],
        benchmark=levels,
        benchmark_id=name,
        unknown=unknown,
    )


@router.get("/runs/{run_id}/report", response_class=FileResponse)
def run_report(desk: OurDesk, run_id: Name) -> FileResponse:
    """Return a run's report: a page that needs nothing but itself."""
    row = desk.stores.runtime.find_run(run_id)
    page = _report(desk, row["run_id"])
    if page is None:
        raise StoreError(
            f"{row['run_id']}: it has no report; `prometheus report {row['run_id']}` makes one of "
            "a finished run"
        )
    # The page brings its own script and style, and may fetch nothing.
    return _Page(page, media_type="text/html", headers={"content-security-policy": POLICY})


class _Page(FileResponse):
    """A file of megabytes, sent in few parts: each is read by a thread."""

    chunk_size = 1 << 20


@router.get("/compare")
@aside
def compare(
    desk: OurDesk, run_id: Annotated[list[Name], Query(min_length=2, max_length=MOST_COMPARED)]
) -> Comparison:
    """Return finished runs beside each other; they must cover the same sessions."""
    if files := [name for name in run_id if name.endswith(YAML)]:
        raise ConfigError(f"run_id: name runs, not files: {', '.join(files)}")
    rows = chosen_runs(desk.stores, run_id)
    key = ("compare", *((row["run_id"], row["completed_at"]) for row in rows))
    records = desk.memo.get(key, lambda: _records(desk, rows))
    # Resampling takes seconds and hundreds of megabytes, which the server would keep.
    luck = desk.later.get(key, lambda: found_elsewhere(luck_of, records.returns))
    # What was tried since then counts as well.
    tried = tried_by(desk.stores, rows)
    if luck is None:
        return _comparison(rows, records, _no_luck_yet(len(rows), tried), COMPUTING)
    recount = partial(recounted, luck, records.returns, tried)
    return _comparison(rows, records, desk.memo.get((*key, tried), recount), TOO_LITTLE)


def _comparison(rows: list[Record], records: "_Records", luck: Luck, why: str) -> Comparison:
    told = {name: getattr(luck, name) for name in _TOLD}
    runs = [
        _compared(row, equity, record)
        for row, equity, record in zip(rows, records.equity, luck.records, strict=True)
    ]
    of_runs = {f"runs.{name}": why for name in _OF_RUNS if _any_null(runs, name)}
    return Comparison(
        sessions=records.sessions,
        runs=runs,
        trials=luck.trials,
        computing=why == COMPUTING,
        **told,
        unknown={name: why for name, value in told.items() if value is None}
        | of_runs
        | _uncomputed("runs.metrics", runs),
    )


def _any_null(runs: Sequence[ComparedRun], name: str) -> bool:
    return any(getattr(run, name) is None for run in runs)


@dataclass(frozen=True, eq=False)
class _Records:
    """The records of finished runs, which never change. returns : (T, N), of every session."""

    sessions: list[date]
    equity: list[list[float]]
    returns: FloatArray


def _records(desk: Desk, rows: list[Record]) -> _Records:
    sessions, levels = [], []
    for row in rows:
        days = equity_levels(desk.stores.runtime.database, row["run_id"])
        sessions.append([day for day, _ in days])
        capital = row["config_json"]["sleeve"]["capital_usd"]
        levels.append(np.array([capital, *(level for _, level in days)]) / capital)
    _require_same(rows, sessions)
    shown = np.unique(np.linspace(0, len(sessions[0]) - 1, MOST_POINTS).astype(int))
    return _Records(
        sessions=[sessions[0][each] for each in shown],
        equity=[level[1:][shown].tolist() for level in levels],
        returns=np.column_stack([simple_returns(level) for level in levels]),
    )


def _require_same(rows: list[Record], sessions: list[list[date]]) -> None:
    """Raise unless all runs have kept a curve, over the same sessions."""
    for row, own in zip(rows, sessions, strict=True):
        if not own:
            raise StoreError(
                f"{row['run_id']}: no equity of it is recorded; run the backtest again with --force"
            )
        if own != sessions[0]:
            raise DataError(
                f"{row['run_id']} runs {_span(own)}, {rows[0]['run_id']} {_span(sessions[0])}: "
                "compare runs of the same sessions"
            )


def _span(sessions: list[date]) -> str:
    return f"{sessions[0]}..{sessions[-1]} ({len(sessions)} sessions)"


def _no_luck_yet(runs: int, tried: int) -> Luck:
    nothing = RecordLuck(None, None, None, None, None, None)
    return Luck(max(tried, runs), None, None, None, None, (nothing,) * runs)


def _compared(row: Record, equity: list[float], record: RecordLuck) -> ComparedRun:
    interval = record.sharpe
    return ComparedRun(
        run_id=row["run_id"],
        sleeve_id=row["sleeve_id"],
        metrics=row["metrics_json"] or {},
        equity=equity,
        sharpe_low=interval.low if interval else None,
        sharpe_high=interval.high if interval else None,
        **{name: getattr(record, name) for name in _OF_LUCK},
    )


_OF_LUCK = ("above_zero", "above_luck", "years_needed", "survives")
_OF_RUNS = ("sharpe_low", "sharpe_high", *_OF_LUCK)
_TOLD = ("distinct", "hurdle", "overfitting", "best_is_luck")


def _uncomputed(name: str, rows: Sequence[RunRow | ComparedRun]) -> dict[str, str]:
    """Return why some figures of runs are null, if some are."""
    some = any(value is None for row in rows for value in row.metrics.values())
    return {name: NOT_COMPUTED} if some else {}


def _row(row: Record) -> RunRow:
    return RunRow(**_only(row, RunRow), metrics=row["metrics_json"] or {})


def _only(row: Record, model: type[BaseModel]) -> Record:
    return {name: value for name, value in row.items() if name in model.model_fields}


def _json(folder: RunFolder, name: str) -> dict[str, Any] | None:
    try:
        return folder.read_json(name)
    except StoreError:
        return None


def _findings(desk: Desk, folder: RunFolder, row: Record) -> list[dict[str, Any]] | None:
    """Return what stands against a run, from its files, else from the database; None if unknown."""
    kept = _json(folder, FINDINGS)
    if kept is not None:
        found: list[dict[str, Any]] = kept["findings"]
        return found
    rows = FindingStore(desk.stores.runtime.database).read(row["run_id"])
    return [one.document() for one in rows] or None


def _divergence(desk: Desk, row: Record) -> Divergence | None:
    if row["mode"] == Mode.BACKTEST:
        return None
    kept = _json(RunFolder(desk.settings.home / row["mode"].lower(), row["run_id"]), DIVERGENCE)
    if kept is None:
        return None
    told = {name: kept[name] for name in Divergence.model_fields if name != "causes"}
    causes = [{name: each[name] for name in CAUSE} for each in kept["causes"]]
    return Divergence(**told, causes=causes)


def _unjudged(row: Record) -> dict[str, str]:
    """Return why findings and divergence of a run are not known, where they are not."""
    run_id, traded = row["run_id"], row["mode"] != Mode.BACKTEST
    if traded or row["status"] != "COMPLETED":
        findings = f"only completed backtests are judged; it is {row['mode']} and {row['status']}"
    else:
        findings = f"nobody has looked yet; `prometheus findings {run_id}` does"
    compare = f"nobody has compared it; `prometheus divergence {run_id}` does"
    return {"findings": findings, "divergence": compare if traded else ITS_OWN_MEASURE}


def _report(desk: Desk, run_id: str) -> Path | None:
    root = desk.settings.runs_dir.resolve()
    path = (root / run_id / REPORT).resolve()
    # A link in a run's folder may lead anywhere; nothing is read that lies outside.
    if not path.is_relative_to(root / run_id) or not path.is_file():
        return None
    return path


def _benchmark(
    desk: Desk, row: Record, sessions: list[date]
) -> tuple[list[float | None] | None, str | None, dict[str, str]]:
    """Return the benchmark's levels on the sessions, its name, and why there are none."""
    folder = RunFolder(desk.settings.runs_dir, row["run_id"])
    manifest = _json(folder, "manifest.json")
    if manifest is None:
        finished = row["mode"] == Mode.BACKTEST and row["status"] == "COMPLETED"
        return None, None, dict.fromkeys(BENCHMARK, NO_FILES if finished else NO_BENCHMARK_YET)
    kept = _json(folder, BENCHMARK_LEVELS)
    if kept is None:
        return None, None, dict.fromkeys(BENCHMARK, UNKEPT.format(row["run_id"]))
    of_day = dict(zip(kept["sessions"], kept["levels"], strict=True))
    levels = [of_day.get(session.isoformat()) for session in sessions]
    if all(level is None for level in levels):
        return None, None, dict.fromkeys(BENCHMARK, "the run has no benchmark")
    return levels, manifest["benchmark"], {}
