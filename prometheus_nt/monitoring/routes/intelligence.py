"""Intelligence: what the runs of a strategy teach, and proposals from first try to reversal."""

from datetime import UTC, date, datetime, timedelta
from statistics import fmean
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from persistence.pages import (
    Record,
    change_row,
    finished_run_ids,
    page_of_changes,
    page_of_proposals,
    run_facts,
    waiting_work,
)
from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs import proposals
from prometheus_nt.jobs.diagnostics import MOST_RUNS, diagnose_strategy
from prometheus_nt.jobs.elsewhere import found_elsewhere
from prometheus_nt.jobs.nodes import node_file
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.meta.proposals import Status
from prometheus_nt.monitoring.access import Caller, Role
from prometheus_nt.monitoring.answers import (
    DEFAULT_ROWS,
    Answer,
    Limit,
    Name,
    Offset,
    Page,
    Part,
    page_of,
)
from prometheus_nt.monitoring.desk import Asking, Desk, OurDesk, aside, needs
from prometheus_nt.monitoring.routes.jobs import Submitted, submitted
from prometheus_nt.settings import Settings

router = APIRouter(prefix="/api/intelligence", tags=["intelligence"])
OPERATE = [Depends(needs(Role.OPERATE))]

SERVICE = "intelligence"
Matched = tuple[dict[str, Any], datetime]
NOT_YET: dict[str, Any] = {"tests": None, "pairs": [], "skipped": []}
COMPUTING = "being computed, which takes some seconds; ask again"
UNHEARD = timedelta(seconds=60)
"""A job that could begin and waits for longer has no worker, unless one is busy."""

Fraction = Annotated[float, Query(ge=0.0, le=1.0)]
Why = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class PairRow(Part):
    """Two runs that differ in one setting; differences are those of `changed` less `base`."""

    key: str
    old: Any
    new: Any
    regime: str
    sessions: int
    mean_annual: float | None
    low: float | None
    high: float | None
    improvement: float | None
    p_value: float | None
    corrected: float | None
    survives: bool | None
    base: str
    changed: str
    why: str | None


class Diagnosis(Answer):
    """What the finished backtests of a strategy say together.

    overall_... : means over the runs. underperforming_count : runs with a Sharpe ratio below 0.
    high_risk_count : runs that a finding vetoes. config_comparisons_count : tests of pairs.
    computing : whether pairs, and runs that were skipped, are still to come; ask again then.
    """

    strategy_id: str
    overall_sharpe: float | None
    overall_return: float | None
    overall_volatility: float | None
    max_drawdown: float | None
    sample_size: int
    underperforming_count: int
    high_risk_count: int
    config_comparisons_count: int | None
    computing: bool
    pairs: list[PairRow]
    skipped: list[dict[str, str]]
    analysis_timestamp: datetime


class ProposalRow(Part):
    """A proposal to change one setting of a strategy."""

    proposal_id: str
    strategy_id: str | None
    market_id: str | None
    proposal_type: str
    target_component: str
    current_value: Any
    proposed_value: Any
    confidence_score: float | None
    expected_sharpe_improvement: float | None
    expected_return_improvement: float | None
    expected_risk_reduction: float | None
    rationale: str | None
    status: Status
    run_id: str | None
    created_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    applied_at: datetime | None
    reverted_at: datetime | None


class ProposalDetail(Answer):
    """A proposal with its trial. screen : what the trial found. notes : who moved it, and why."""

    proposal: ProposalRow
    screen: dict[str, Any]
    notes: dict[str, Any]


class ChangeRow(Part):
    """A change that was applied; `before` is the counterfactual without it, after evaluation."""

    change_id: str
    proposal_id: str | None
    strategy_id: str | None
    change_type: str
    target_component: str
    previous_value: Any
    new_value: Any
    sharpe_before: float | None
    sharpe_after: float | None
    sharpe_improvement: float | None
    evaluation_start_date: date | None
    evaluation_end_date: date | None
    is_reverted: bool
    reverted_at: datetime | None
    reversion_reason: str | None
    applied_by: str | None
    applied_at: datetime


class Decided(Answer):
    """Where a proposal stands after somebody decided."""

    proposal_id: str
    status: Status
    message: str


class Applied(Answer):
    """Whether a proposal was applied, or with `dry_run` could be."""

    success: bool
    dry_run: bool
    change_id: str | None
    proposal_id: str
    error_message: str | None
    applied_at: datetime | None


class AppliedBatch(Answer):
    """What became of each of several proposals."""

    rows: list[Applied]


class Health(Answer):
    """Whether proposals can be made and decided on. status : NO_WORKER if jobs wait unheard."""

    status: Literal["OK", "NO_WORKER"]
    service: str
    open_proposals: int
    waiting_jobs: int


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Generate(_Call):
    """What to propose. key, value, why : a change of one's own; by default the diagnosis chooses.

    config : the node's files in the configuration folder; by default the strategy's own.
    """

    config: list[str] = Field(default_factory=list, max_length=10)
    key: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    value: Any = None
    why: Why | None = None
    start: date | None = None
    end: date | None = None


class Reason(_Call):
    """Why somebody decides."""

    reason: Why


@router.get("/diagnostics/{strategy_id}")
@aside
def diagnostics(
    desk: OurDesk,
    strategy_id: Name,
    min_sample_size: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 5,
) -> Diagnosis:
    """Return what matched pairs of a strategy's finished runs say; 400 if there are too few."""
    runs = finished_run_ids(desk.stores.runtime.database, strategy_id, MOST_RUNS)
    if len(runs) < min_sample_size:
        raise HTTPException(
            400, f"{strategy_id}: {len(runs)} finished backtests, min_sample_size {min_sample_size}"
        )
    # It reads the files of every run, and the server would keep the memory that it needs for it.
    found = desk.later.get(
        ("diagnosis", strategy_id, tuple(runs)),
        lambda: found_elsewhere(_matched, desk.settings, strategy_id),
    )
    return _diagnosis(desk, strategy_id, runs, found)


def _matched(settings: Settings, strategy_id: str) -> Matched:
    """Return what matched pairs of a strategy's runs say, and when that was found."""
    with open_stores(settings) as stores:
        return diagnose_strategy(stores, strategy_id).document(), datetime.now(UTC)


@router.post("/proposals/generate/{strategy_id}", status_code=202, dependencies=OPERATE)
def generate(
    desk: OurDesk,
    who: Asking,
    strategy_id: Name,
    asked: Generate | None = None,
    min_confidence: Fraction = 0.3,
    min_sharpe_improvement: Annotated[float, Query(ge=-100.0, le=100.0)] = 0.1,
) -> Submitted:
    """Try the change that the diagnosis finds best, or one's own, and propose it: a job.

    A proposal below either bound is rejected at once, with the reason.
    """
    asked = asked or Generate()
    config = asked.config or [node_file(desk.settings, strategy_id)]
    spec = asked.model_dump(mode="json", exclude_none=True) | {
        "config": config,
        "min_confidence": min_confidence,
        "min_improvement": min_sharpe_improvement,
    }
    return submitted(desk, who, "propose", spec)


@router.get("/proposals")
def list_proposals(
    desk: OurDesk,
    strategy_id: Name | None = None,
    status: Status | None = None,
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[ProposalRow]:
    """Return proposals, the newest first."""
    wanted = {"strategy_id": strategy_id, "status": status}
    rows = page_of_proposals(desk.stores.runtime.database, wanted, offset, limit + 1)
    return page_of([_proposal(row) for row in rows], offset, limit)


@router.get("/proposals/{proposal_id}")
def proposal(desk: OurDesk, proposal_id: Name) -> ProposalDetail:
    """Return a proposal with what its trial found."""
    found = proposals.store_of(desk.stores).find(proposal_id)
    database = desk.stores.runtime.database
    row = page_of_proposals(database, {"proposal_id": found.proposal_id}, 0, 1)[0]
    return ProposalDetail(
        proposal=_proposal(row), screen=dict(found.screen), notes=dict(found.notes)
    )


@router.post("/proposals/apply-batch", dependencies=OPERATE)
def apply_batch(
    desk: OurDesk,
    who: Asking,
    strategy_id: Name | None = None,
    max_proposals: Annotated[int, Query(ge=1, le=100)] = 10,
    dry_run: bool = False,
) -> AppliedBatch:
    """Apply approved proposals, the oldest first; each for itself, and each says how it went."""
    wanted = {"strategy_id": strategy_id, "status": Status.APPROVED}
    rows = page_of_proposals(desk.stores.runtime.database, wanted, 0, 1_000)
    oldest = [row["proposal_id"] for row in reversed(rows)][:max_proposals]
    return AppliedBatch(rows=[_applied(desk, who, one, dry_run) for one in oldest])


@router.post("/proposals/{proposal_id}/approve", dependencies=OPERATE)
def approve(desk: OurDesk, who: Asking, proposal_id: Name) -> Decided:
    """Approve a proposal; nothing changes until it is applied."""
    found = proposals.approve(desk.stores, proposal_id, who.name)
    message = "approved; nothing changes until it is applied"
    return Decided(proposal_id=found.proposal_id, status=Status(found.status), message=message)


@router.post("/proposals/{proposal_id}/reject", dependencies=OPERATE)
def reject(desk: OurDesk, who: Asking, proposal_id: Name, call: Reason) -> Decided:
    """Reject a proposal that is not applied; the same change may then be proposed again."""
    found = proposals.reject(desk.stores, proposal_id, who.name, call.reason)
    message = f"rejected: {call.reason}"
    return Decided(proposal_id=found.proposal_id, status=Status(found.status), message=message)


@router.post("/proposals/{proposal_id}/apply", dependencies=OPERATE)
def apply(desk: OurDesk, who: Asking, proposal_id: Name, dry_run: bool = False) -> Applied:
    """Apply an approved proposal: the next run of its strategy reads it; a refusal says why."""
    found = proposals.store_of(desk.stores).find(proposal_id)
    return _applied(desk, who, found.proposal_id, dry_run)


@router.post("/proposals/{proposal_id}/evaluate", status_code=202, dependencies=OPERATE)
def evaluate(desk: OurDesk, who: Asking, proposal_id: Name) -> Submitted:
    """Compare an applied change with what it replaced, on later sessions alone: a job."""
    found = proposals.store_of(desk.stores).find(proposal_id)
    return submitted(desk, who, "evaluate", {"proposal": found.proposal_id})


@router.get("/changes")
def changes(
    desk: OurDesk,
    strategy_id: Name | None = None,
    is_reverted: bool | None = None,
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[ChangeRow]:
    """Return what was applied, the newest first."""
    wanted = {"strategy_id": strategy_id, "is_reverted": is_reverted}
    rows = page_of_changes(desk.stores.runtime.database, wanted, offset, limit + 1)
    return page_of([_change(row) for row in rows], offset, limit)


@router.post("/changes/{change_id}/revert", dependencies=OPERATE)
def revert(
    desk: OurDesk, who: Asking, change_id: Name, call: Reason, dry_run: bool = False
) -> Decided:
    """Put back what a change replaced: the next run of its strategy reads it."""
    row = change_row(desk.stores.runtime.database, change_id)
    if row["proposal_id"] is None:
        raise HTTPException(400, f"{change_id}: comes from no proposal, so nothing to put back")
    if dry_run:
        found = proposals.rehearse_revert(desk.stores, row["proposal_id"])
        message = "it would be reverted; nothing was changed"
    else:
        found, active = proposals.revert(desk.stores, row["proposal_id"], who.name, call.reason)
        message = f"reverted; {active.strategy_id} has settings of version {active.version}"
    return Decided(proposal_id=found.proposal_id, status=Status(found.status), message=message)


@router.get("/health")
def health(desk: OurDesk) -> Health:
    """Return what waits for a decision, and whether jobs are heard."""
    found = waiting_work(desk.stores.runtime.database)
    oldest, running = found.pop("oldest"), found.pop("running")
    heard = oldest is None or running > 0 or datetime.now(UTC) - oldest < UNHEARD
    return Health(status="OK" if heard else "NO_WORKER", service=SERVICE, **found)


def _diagnosis(desk: Desk, strategy_id: str, runs: list[str], found: Matched | None) -> Diagnosis:
    facts = run_facts(desk.stores.runtime.database, runs)
    metrics = [row["metrics_json"] or {} for row in facts]
    document, when = found or (NOT_YET, datetime.now(UTC))
    sharpes = _known(metrics, "annualised_sharpe")
    figures = {
        "overall_sharpe": _mean(sharpes),
        "overall_return": _mean(_known(metrics, "cagr")),
        "overall_volatility": _mean(_known(metrics, "annualised_vol")),
        "max_drawdown": min(_known(metrics, "max_drawdown"), default=None),
    }
    return Diagnosis(
        strategy_id=strategy_id,
        **figures,
        sample_size=len(facts),
        underperforming_count=sum(sharpe < 0.0 for sharpe in sharpes),
        high_risk_count=sum(row["vetoes"] > 0 for row in facts),
        config_comparisons_count=document["tests"],
        pairs=[PairRow(**row) for row in document["pairs"]],
        skipped=document["skipped"],
        computing=found is None,
        analysis_timestamp=when,
        unknown={
            **{name: "no run has this figure" for name, value in figures.items() if value is None},
            **({} if found else {"config_comparisons_count": COMPUTING}),
        },
    )


def _known(metrics: list[Record], name: str) -> list[float]:
    return [one[name] for one in metrics if one.get(name) is not None]


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _proposal(row: Record) -> ProposalRow:
    values = {name: (row[name] or {}).get("value") for name in ("current_value", "proposed_value")}
    return ProposalRow(**row | values)


def _change(row: Record) -> ChangeRow:
    fields = {name: value for name, value in row.items() if name in ChangeRow.model_fields}
    values = {name: (row[name] or {}).get("value") for name in ("previous_value", "new_value")}
    before, after = row["sharpe_before"], row["sharpe_after"]
    better = None if before is None or after is None else after - before
    return ChangeRow(**fields | values, sharpe_improvement=better)


def _applied(desk: Desk, who: Caller, proposal_id: str, dry_run: bool) -> Applied:
    try:
        if dry_run:
            proposals.rehearse_apply(desk.stores, proposal_id)
            told: Record = {"change_id": None, "applied_at": None}
            unknown = dict.fromkeys(told, "nothing was changed, it was asked what would be")
        else:
            found, _ = proposals.apply(desk.stores, proposal_id, who.name)
            log = page_of_changes(
                desk.stores.runtime.database, {"proposal_id": found.proposal_id}, 0, 1
            )
            told = {"change_id": log[0]["change_id"], "applied_at": found.applied_at}
            unknown = {}
    except PrometheusError as refused:
        return Applied(
            success=False,
            dry_run=dry_run,
            change_id=None,
            proposal_id=proposal_id,
            error_message=str(refused),
            applied_at=None,
            unknown=dict.fromkeys(("change_id", "applied_at"), "it was not applied"),
        )
    return Applied(
        success=True,
        dry_run=dry_run,
        proposal_id=proposal_id,
        error_message=None,
        unknown=unknown,
        **told,
    )
