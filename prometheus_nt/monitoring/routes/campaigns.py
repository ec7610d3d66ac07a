"""Campaigns and the meta job: what was tried, who was selected and why, and with which settings."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from persistence.pages import (
    Record,
    campaign_row,
    decision_figures,
    engine_settings,
    ledger_counts,
    newest_decision,
    page_of_campaigns,
    page_of_trials,
    page_of_variants,
    seconds_of_variants,
    selections,
)
from prometheus_nt.actors.pipeline import PIPELINE
from prometheus_nt.domain.errors import ConfigError
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
from prometheus_nt.monitoring.desk import OurDesk

router = APIRouter(prefix="/api", tags=["campaigns"])

ENGINES = (*(stage.name.upper() for stage in PIPELINE), "SLEEVE", "META_ORCHESTRATOR")
"""Who decides; a decision is kept under one of these names."""

NOT_JUDGED = "nobody has judged it yet; a job of kind meta_rank does"
LONGEST_PERIOD = 3_650

Period = Annotated[str, Query(pattern=r"^[1-9]\d{0,3}d$", description="Calendar days, as 30d.")]


class CampaignRow(Part):
    """A campaign in a list. progress : fraction of its variants that have ended."""

    campaign_id: str
    name: str
    status: str
    start_date: date
    end_date: date
    created_at: datetime
    updated_at: datetime
    owner: str | None
    trials: int
    done: int
    failed: int
    progress: float | None


class Variant(Part):
    """A variant of a campaign, and how it ended."""

    sleeve_id: str
    position: int
    strategy_id: str
    market_id: str
    settings: dict[str, Any] | None
    status: str
    attempt: int
    run_id: str | None
    error: str | None
    message: str | None
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    screen: dict[str, Any] | None
    gap_bps: float | None


class RankedRow(Part):
    """One candidate of a decision.

    dsr : probability that its Sharpe ratio exceeds what the best of all shows by luck.
    pbo : probability of backtest overfitting, of all candidates together.
    why : reasons of the verdict.
    """

    rank: int
    sleeve_id: str
    run_id: str | None
    verdict: str
    selected: bool
    idea: int | None
    sharpe: float | None
    dsr: float | None
    pbo: float | None
    figures: dict[str, float | None]
    not_computed: dict[str, str]
    why: list[str]


class Ranking(Answer):
    """A decision about who goes on; all is null while nobody has judged.

    pool : figures of all candidates together, such as trials, hurdle and overfitting.
    """

    decision_id: str | None
    scope: str | None
    strategy_id: str | None
    as_of_date: date | None
    verdict: str | None
    selected: list[str]
    pool: dict[str, float | None]
    not_computed: dict[str, str]
    rows: list[RankedRow]
    failed: list[dict[str, Any]]


class CampaignDetail(Answer):
    """A campaign: what it planned, how far it is, and who was selected."""

    campaign: CampaignRow
    plan: dict[str, Any]
    counts: dict[str, int]
    seconds_mean: float | None
    eta_seconds: float | None
    variants: list[Variant]
    next_offset: int | None
    ranking: Ranking


class TrialRow(Part):
    """An entry of the ledger of everything that was tried."""

    trial_id: str
    family: str
    market_id: str
    sleeve_id: str
    run_id: str
    status: str
    reason: str | None
    start_date: date
    end_date: date
    sharpe_per_session: float | None
    observations: int | None
    code_hash: str
    data_fingerprint: str
    recorded_at: datetime


class FamilyCount(Part):
    """How many trials a family has made."""

    family: str
    trials: int
    by_status: dict[str, int]


class Ledger(Answer):
    """The ledger of trials. entries, head : number and hash of the end of its sealed stream."""

    families: list[FamilyCount]
    entries: int
    head: str
    rows: list[TrialRow]
    offset: int
    next_offset: int | None


class EngineSettings(Part):
    """The newest settings of an engine."""

    engine_name: str
    config_version: str
    config_id: str
    parameters: dict[str, Any]
    last_updated: datetime
    created_by: str


class Configs(Answer):
    """The newest settings of every engine that was ever run."""

    configs: list[EngineSettings]


class Outcome(Part):
    """What came of decisions, as means of fractions over a horizon of sessions."""

    horizon_days: int
    decisions: int
    realized_return: float | None
    realized_vol: float | None
    realized_drawdown: float | None


class RegimeOutcome(Outcome):
    """What came of the decisions made in a regime; null is no label."""

    regime: str | None


class Performance(Answer):
    """What became of an engine's decisions over the calendar days before a session."""

    engine_name: str
    period: str
    run_id: str | None
    start_date: date | None
    end_date: date | None
    metrics: list[Outcome]
    by_regime: list[RegimeOutcome]


@router.get("/campaigns")
def campaigns(desk: OurDesk, limit: Limit = DEFAULT_ROWS, offset: Offset = 0) -> Page[CampaignRow]:
    """Return campaigns, the newest first."""
    rows = page_of_campaigns(desk.stores.runtime.database, offset, limit + 1)
    return page_of([_campaign(row) for row in rows], offset, limit)


@router.get("/campaigns/{campaign_id}")
def campaign(
    desk: OurDesk, campaign_id: Name, limit: Limit = 200, offset: Offset = 0
) -> CampaignDetail:
    """Return a campaign, a page of its variants, and the newest decision about it."""
    database = desk.stores.runtime.database
    row = campaign_row(database, campaign_id)
    variants = page_of_variants(database, campaign_id, offset, limit + 1)
    seconds = seconds_of_variants(database, campaign_id)
    counts = row["counts"]
    left = counts.get("PENDING", 0) + counts.get("RUNNING", 0)
    eta = None if seconds is None else seconds * left / max(counts.get("RUNNING", 0), 1)
    page = page_of([Variant(**one) for one in variants], offset, limit)
    return CampaignDetail(
        campaign=_campaign(row),
        plan=row["plan"] or {},
        counts=counts,
        seconds_mean=seconds,
        eta_seconds=eta,
        variants=page.rows,
        next_offset=page.next_offset,
        ranking=_ranking(selections(database, scope=campaign_id)),
        unknown={}
        if seconds is not None
        else dict.fromkeys(("seconds_mean", "eta_seconds"), "no run of it was measured yet"),
    )


@router.get("/meta/ranking")
def ranking(desk: OurDesk, strategy_id: Name | None = None, as_of: AsOf = None) -> Ranking:
    """Return the newest decision about who goes on, of a strategy or of any."""
    database = desk.stores.runtime.database
    return _ranking(selections(database, strategy_id=strategy_id, as_of=as_of))


@router.get("/meta/ledger")
def ledger(
    desk: OurDesk,
    strategy_id: Name | None = None,
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Ledger:
    """Return everything that was tried, newest first, and how much that is by family."""
    database = desk.stores.runtime.database
    counts, entries, head = ledger_counts(database)
    rows = page_of_trials(database, strategy_id, offset, limit + 1)
    page = page_of([TrialRow(**_only(row, TrialRow)) for row in rows], offset, limit)
    return Ledger(
        families=[
            FamilyCount(family=name, trials=sum(found.values()), by_status=found)
            for name, found in sorted(counts.items())
            if strategy_id in (None, name)
        ],
        entries=entries,
        head=head,
        rows=page.rows,
        offset=offset,
        next_offset=page.next_offset,
    )


@router.get("/meta/configs")
def configs(desk: OurDesk, as_of: AsOf = None) -> Configs:
    """Return the newest settings of every engine."""
    return Configs(
        configs=[
            EngineSettings(
                engine_name=row["engine_name"],
                config_version=row["version"],
                config_id=row["config_id"],
                parameters=row["config_body"],
                last_updated=row["created_at"],
                created_by=row["created_by"],
            )
            for row in engine_settings(desk.stores.runtime.database, as_of)
        ]
    )


@router.get("/meta/performance")
def performance(
    desk: OurDesk,
    engine_name: Name,
    period: Period = "30d",
    as_of: AsOf = None,
    strategy_id: Name | None = None,
    run_id: Name | None = None,
) -> Performance:
    """Return what became of an engine's newest decisions: of a run, else of the newest run."""
    if engine_name not in ENGINES:
        known = ", ".join(ENGINES)
        raise ConfigError(f"engine_name: unknown engine {engine_name!r}; known engines: {known}")
    database = desk.stores.runtime.database
    wanted = {"run_id": run_id, "strategy_id": strategy_id}
    newest = newest_decision(database, engine_name, wanted, as_of)
    if newest is None:
        why = f"no decision of {engine_name} up to this session; SLEEVE decides for every book"
        told = dict.fromkeys(("run_id", "start_date", "end_date"), why)
        return _nothing(engine_name, period, told)
    name, end = newest
    start = end - timedelta(days=min(int(period[:-1]), LONGEST_PERIOD) - 1)
    rows = decision_figures(database, name, engine_name, (start, end))
    return Performance(
        engine_name=engine_name,
        period=period,
        run_id=name,
        start_date=start,
        end_date=end,
        metrics=_over_regimes(rows),
        by_regime=[RegimeOutcome(**row) for row in rows],
        unknown={} if rows else {"metrics": "no outcome of these decisions is known yet"},
    )


def _nothing(engine_name: str, period: str, unknown: dict[str, str]) -> Performance:
    return Performance(
        engine_name=engine_name,
        period=period,
        run_id=None,
        start_date=None,
        end_date=None,
        metrics=[],
        by_regime=[],
        unknown=unknown,
    )


MEANS = ("realized_return", "realized_vol", "realized_drawdown")


def _over_regimes(rows: list[Record]) -> list[Outcome]:
    """Return the means by horizon, of the means by regime weighted by their decisions."""
    found = []
    for horizon in sorted({row["horizon_days"] for row in rows}):
        of_horizon = [row for row in rows if row["horizon_days"] == horizon]
        decisions = sum(row["decisions"] for row in of_horizon)
        means = {name: _mean(of_horizon, name) for name in MEANS}
        found.append(Outcome(horizon_days=horizon, decisions=decisions, **means))
    return found


def _mean(rows: list[Record], name: str) -> float | None:
    known = [(row[name], row["decisions"]) for row in rows if row[name] is not None]
    weight = sum(decisions for _, decisions in known)
    return sum(value * decisions for value, decisions in known) / weight if weight else None


def _campaign(row: Record) -> CampaignRow:
    counts = row["counts"]
    total = sum(counts.values())
    done = total - counts.get("PENDING", 0) - counts.get("RUNNING", 0)
    return CampaignRow(
        **{name: row[name] for name in row if name in CampaignRow.model_fields},
        trials=total,
        done=done,
        failed=counts.get("FAILED", 0),
        progress=done / total if total else None,
    )


def _ranking(found: list[Record]) -> Ranking:
    """Return the decision with the newest session that counted most trials."""
    if not found:
        told = ("decision_id", "scope", "strategy_id", "as_of_date", "verdict")
        return Ranking(
            **dict.fromkeys(told),
            selected=[],
            pool={},
            not_computed={},
            rows=[],
            failed=[],
            unknown=dict.fromkeys(told, NOT_JUDGED),
        )
    newest = [row for row in found if row["as_of_date"] == found[0]["as_of_date"]]
    # The ledger only grows: of two decisions of one session the later counted no less.
    row = max(newest, key=lambda one: _pool(one).get("trials_ever") or 0.0)
    inputs, outputs, pool = row["input_refs"], row["output_refs"], _pool(row)
    return Ranking(
        decision_id=row["decision_id"],
        scope=row["run_id"],
        strategy_id=row["strategy_id"],
        as_of_date=row["as_of_date"],
        verdict=outputs["verdict"],
        selected=[one["run_id"] for one in outputs["selected_sleeves"]],
        pool=pool,
        not_computed=_metadata(row).get("not_computed", {}),
        rows=[_ranked(one, pool) for one in inputs.get("candidates", [])],
        failed=inputs.get("failed", []),
    )


def _ranked(one: Record, pool: dict[str, float | None]) -> RankedRow:
    figures = one["figures"]
    return RankedRow(
        **_only(one, RankedRow) | {"figures": figures},
        sharpe=figures.get("sharpe"),
        dsr=figures.get("deflated"),
        pbo=pool.get("overfitting"),
        why=one["reasons"],
    )


def _metadata(row: Record) -> Record:
    found: Record | None = row["metadata"]
    return found or {}


def _pool(row: Record) -> dict[str, float | None]:
    pool: dict[str, float | None] = _metadata(row).get("pool", {})
    return pool


def _only(row: Record, model: type[Part]) -> Record:
    return {name: value for name, value in row.items() if name in model.model_fields}
