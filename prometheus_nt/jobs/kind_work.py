"""What the kinds of jobs do: for each spec the function that does its work, in a job's process."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persistence.engine_runs import EngineRun
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import DataError, JobBusy, PhaseError
from prometheus_nt.domain.phases import CHAIN, TERMINAL, RunPhase
from prometheus_nt.jobs.backtest import RunSummary, run_backtest
from prometheus_nt.jobs.campaign import resume_campaign, run_campaign
from prometheus_nt.jobs.compare import compare_runs
from prometheus_nt.jobs.data import ingest_named
from prometheus_nt.jobs.day import DayRunner, ensure_day, session_of
from prometheus_nt.jobs.days import reason_unfinished
from prometheus_nt.jobs.derive import DeriveRequest, derive
from prometheus_nt.jobs.heartbeat import worker_name
from prometheus_nt.jobs.ingest import Progress
from prometheus_nt.jobs.kinds import (
    BacktestJob,
    CampaignJob,
    CompareJob,
    DayJob,
    DeriveJob,
    EvaluateJob,
    IngestJob,
    JobSpec,
    MetaRankJob,
    ProposeJob,
    ReportJob,
    Result,
    ScenarioJob,
    Work,
    node_of,
    plan_of_document,
)
from prometheus_nt.jobs.meta import rank_campaign, rank_strategy
from prometheus_nt.jobs.proposals import Request, apply, approve, evaluate, propose, reject
from prometheus_nt.jobs.report import remake_report
from prometheus_nt.jobs.scenarios import ScenarioRequest, generate_set
from prometheus_nt.jobs.stores import Stores


def run_backtest_job(spec: BacktestJob, stores: Stores, progress: Progress) -> Result:
    """Run the sleeves of a node; return their runs."""
    node = node_of(spec.given())
    at = {sleeve.sleeve_id: place for place, sleeve in enumerate(node.sleeves)}

    def tell(done: int, total: int, sleeve_id: str) -> None:
        progress(at[sleeve_id] * total + done, len(at) * total, sleeve_id)

    runs = run_backtest(node, stores, force=spec.force, progress=tell)
    return {"runs": [_run_document(run, stores) for run in runs]}


def run_campaign_job(spec: CampaignJob, stores: Stores, progress: Progress) -> Result:
    """Run or resume a campaign; return how its variants ended."""
    if spec.resume is not None:
        status = resume_campaign(
            spec.resume,
            stores,
            workers=spec.workers,
            executor=spec.executor,
            retry=spec.retry_failed,
            progress=progress,
        )
    else:
        plan = plan_of_document(spec.plan or {})
        status = run_campaign(
            plan, stores, workers=spec.workers, executor=spec.executor, progress=progress
        )
    return asdict(status)


def run_ingest_job(spec: IngestJob, stores: Stores, progress: Progress) -> Result:
    """Ingest what a spec names; return the counts of each dataset."""
    reports = ingest_named(stores.settings, spec.source_spec(stores.settings), progress)
    counts = ("dataset_id", "rows_read", "rows_written", "rows_quarantined")
    return {
        "datasets": [
            {name: getattr(report, name) for name in counts}
            | {"loaded": len(report.loaded), "failed": len(report.failed)}
            | {"findings": len(report.issues)}
            for report in reports
        ]
    }


def run_scenario_job(spec: ScenarioJob, stores: Stores, progress: Progress) -> Result:
    """Generate a scenario set; return its row."""
    del progress
    request = ScenarioRequest(spec.dataset, spec.params, spec.as_of, spec.run)
    return {"set": generate_set(stores, request)}


def run_day_job(spec: DayJob, stores: Stores, progress: Progress) -> Result:
    """Take a session to its end; one that failed before goes on where it failed.

    Raises
    ------
    JobBusy
        If somebody else works on the day.
    PhaseError
        If a phase failed.
    DataError
        If the day waits for its data.
    """
    node = node_of(spec.given())
    session = session_of(node, spec.as_of, roll_back=spec.roll_back)
    runner = DayRunner(node, stores, worker_name())
    run = ensure_day(node, session, stores)

    def tell(moved: EngineRun) -> None:
        if moved.phase in CHAIN:
            progress(CHAIN.index(moved.phase), len(CHAIN) - 1, moved.phase.value)

    failed = run.phase is RunPhase.FAILED
    run = runner.retry(run) if failed else runner.run_to_end(run, tell)
    _require_completed(run, node)
    return {"run_id": run.run_id, "as_of": run.as_of, "phase": run.phase.value}


def _require_completed(run: EngineRun, node: NodeConfig) -> None:
    if run.phase is RunPhase.COMPLETED:
        return
    if run.lease_until is not None and run.phase not in TERMINAL:
        raise JobBusy(f"{run.run_id}: {run.phase}", run.lease_until)
    reason = f"{run.run_id}: {run.phase}: {reason_unfinished(run, node.data.dataset)}"
    raise PhaseError(reason) if run.phase is RunPhase.FAILED else DataError(reason)


def run_meta_rank_job(spec: MetaRankJob, stores: Stores, progress: Progress) -> Result:
    """Rank and decide; return the verdict and who was selected."""
    del progress
    if spec.campaign is not None:
        decision = rank_campaign(stores, spec.campaign, spec.top_k)
    elif spec.strategy_id is not None and spec.as_of is not None:
        decision = rank_strategy(stores, spec.strategy_id, spec.as_of, spec.top_k)
    told = ("decision_id", "strategy_id", "as_of", "verdict", "selected")
    document = decision.document()
    return {name: document[name] for name in told} | {"report": _below(decision.report, stores)}


def run_report_job(spec: ReportJob, stores: Stores, progress: Progress) -> Result:
    """Make a report again; return where it is."""
    del progress
    return {"report": _below(remake_report(stores, spec.run), stores)}


def run_compare_job(spec: CompareJob, stores: Stores, progress: Progress) -> Result:
    """Compare runs; return where the page is."""
    del progress
    return {"report": _below(compare_runs(stores, spec.runs), stores)}


def run_derive_job(spec: DeriveJob, stores: Stores, progress: Progress) -> Result:
    """Derive; return what was saved."""
    request = DeriveRequest(
        spec.dataset, spec.features, spec.until, spec.rows, spec.correlations, spec.lookback
    )
    return {"saved": [asdict(each) for each in derive(stores, request, progress)]}


def run_propose_job(spec: ProposeJob, stores: Stores, progress: Progress) -> Result:
    """Propose and try; return the proposal, how its trial went and where it stands."""
    request = Request(
        spec.paths(stores.settings),
        spec.by,
        spec.assignments(),
        next(iter(spec.changes()), None),
        spec.why,
    )
    found = propose(stores, request, progress)
    below = [
        f"{name} {'unknown' if value is None else f'{value:.3g}'} is below {least:g}"
        for name, value, least in (
            ("confidence", found.confidence, spec.min_confidence),
            ("improvement of the Sharpe ratio", found.improvement, spec.min_improvement),
        )
        if least is not None and (value is None or value < least)
    ]
    if below:
        found = reject(stores, found.proposal_id, spec.by, "; ".join(below))
    elif spec.apply and found.screen["verdict"] == "BETTER":
        approve(stores, found.proposal_id, spec.by)
        found, _ = apply(stores, found.proposal_id, spec.by)
    told = {"verdict": found.screen["verdict"], "why": "; ".join(below) or None}
    return {"proposal_id": found.proposal_id, "status": found.status, **told}


def run_evaluate_job(spec: EvaluateJob, stores: Stores, progress: Progress) -> Result:
    """Evaluate an applied change; return the comparison."""
    found = evaluate(stores, spec.proposal, progress)
    return found | {"applied_at": found["applied_at"].isoformat()}


WORK: Mapping[type[JobSpec], Work] = {
    BacktestJob: run_backtest_job,
    CampaignJob: run_campaign_job,
    IngestJob: run_ingest_job,
    ScenarioJob: run_scenario_job,
    DayJob: run_day_job,
    MetaRankJob: run_meta_rank_job,
    ReportJob: run_report_job,
    CompareJob: run_compare_job,
    DeriveJob: run_derive_job,
    ProposeJob: run_propose_job,
    EvaluateJob: run_evaluate_job,
}
"""Spec -> what does its work."""


def _run_document(run: RunSummary, stores: Stores) -> dict[str, Any]:
    return asdict(run) | {"report": _below(run.report, stores)}


def _below(path: Path, stores: Stores) -> str:
    """Return a path relative to the home folder."""
    return str(path.resolve().relative_to(stores.settings.home.resolve()))
