"""What is known of instruments: how fragile they are, what is expected of them, who is eligible."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query

from persistence.desk_books import held_by, newest_runs
from persistence.listings import Filters
from persistence.standing import (
    Record,
    Standing,
    counts,
    history,
    standing,
    universe_candidates,
    universe_counts,
)
from prometheus_nt.monitoring.answers import Answer, AsOf, Limit, Name, Part
from prometheus_nt.monitoring.desk import Desk, OurDesk
from prometheus_nt.monitoring.routes.common import (
    NO_RUN,
    Region,
    Strategy,
    calm,
    of_hundred,
    only,
    reasons,
    whose,
)

router = APIRouter(prefix="/api/status", tags=["status"])

SESSIONS_OF_HISTORY = 90
MOST_NAMES = 200
MOST_OF_A_SESSION = 20_000


class FragileEntity(Part):
    """How fragile one instrument is. soft_target_score, fragility_alpha : 0 to 1, 1 is fragile."""

    entity_id: str
    entity_type: str
    soft_target_score: float | None
    fragility_alpha: float | None
    fragility_class: str | None
    drawdown_probability: float | None


class Fragility(Answer):
    """The most fragile instruments of a session."""

    region: str | None
    entity_type: str
    as_of_date: date | None
    run_id: str | None
    classes: dict[str, int]
    entities: list[FragileEntity]


Kind = Annotated[str, Query(pattern="^(ANY|INSTRUMENT)$", description="Instruments alone have it.")]
MEASURES = ("entity_id", "fragility_score", "fragility_class", "drawdown_probability")


@router.get("/fragility")
def fragility(
    desk: OurDesk,
    region: Region = None,
    entity_type: Kind = "ANY",
    as_of: AsOf = None,
    strategy_id: Strategy = None,
) -> Fragility:
    """Return the 200 most fragile instruments, the most fragile first."""
    database = desk.stores.runtime.database
    filters = Filters(as_of=as_of, region=region, strategy_id=strategy_id, limit=MOST_NAMES)
    found, rows = standing(
        database, "fragility", filters, columns=MEASURES, highest="fragility_score"
    )
    scores = _soft_scores(desk, filters)
    classes = counts(database, "fragility", found, "fragility_class") if found else {}
    return Fragility(
        region=region,
        entity_type=entity_type,
        **whose(found),
        classes={label or "UNKNOWN": number for label, number in classes.items()},
        entities=[_fragile(row, found, scores) for row in rows],
        unknown=reasons(whose(found), NO_RUN),
    )


class FragilePoint(Part):
    """The fragility of an instrument at one session."""

    date: date
    score: float | None
    alpha: float | None
    fragility_class: str | None


class Loss(Part):
    """What a scenario does to something: a return or, for a book, a fraction of its value."""

    scenario: str
    pnl: float | None


class Holding(Part):
    """How much of an instrument a book held at the close of a session. weight : of its equity."""

    portfolio_id: str
    as_of_date: date
    position: float
    market_value: float
    weight: float | None


class FragilityOf(Answer):
    """All that is known of one instrument's fragility."""

    entity_id: str
    entity_type: str | None
    as_of_date: date | None
    run_id: str | None
    soft_target_score: float | None
    fragility_alpha: float | None
    fragility_class: str | None
    drawdown_probability: float | None
    history: list[FragilePoint]
    scenarios: list[Loss]
    positions: list[Holding]


@router.get("/fragility/{entity_id}")
def fragility_of(
    desk: OurDesk, entity_id: Name, as_of: AsOf = None, strategy_id: Strategy = None
) -> FragilityOf:
    """Return one instrument's fragility, its history, what scenarios do to it, and who holds it."""
    database = desk.stores.runtime.database
    filters = Filters(as_of=as_of, strategy_id=strategy_id, entity_id=entity_id, limit=1)
    found, rows = standing(database, "fragility", filters)
    stood, row = (found, rows[0]) if rows else (None, {})
    measured = {
        **whose(stood),
        "entity_type": stood.scope if stood else None,
        "soft_target_score": _soft_scores(desk, filters).get(entity_id),
        "fragility_alpha": row.get("fragility_score"),
        **{name: row.get(name) for name in ("fragility_class", "drawdown_probability")},
    }
    losses = row.get("scenario_losses") or {}
    return FragilityOf(
        entity_id=entity_id,
        **measured,
        history=_history(desk, filters),
        scenarios=[
            Loss(scenario=name, pnl=None if loss is None else -loss)
            for name, loss in sorted(losses.items())
        ],
        positions=_holdings(desk, filters),
        unknown=reasons(measured, f"not measured of {entity_id} up to this session"),
    )


class Assessed(Part):
    """What is expected of one instrument. expected_return : over the horizon, a fraction."""

    instrument_id: str
    expected_return: float | None
    horizon_days: int
    score: float | None
    confidence: float | None
    signal_label: str
    alpha_breakdown: dict[str, Any]


class Assessment(Answer):
    """What is expected of a universe at a session."""

    strategy_id: str
    as_of_date: date | None
    run_id: str | None
    instruments: list[Assessed]


@router.get("/assessment")
def assessment(desk: OurDesk, strategy_id: Name, as_of: AsOf = None) -> Assessment:
    """Return the 200 instruments of which most is expected, the best first."""
    filters = Filters(as_of=as_of, strategy_id=strategy_id, limit=MOST_NAMES)
    database = desk.stores.runtime.database
    found, rows = standing(database, "scores", filters, highest="expected_return")
    return Assessment(
        strategy_id=strategy_id,
        **whose(found),
        instruments=[
            Assessed(**only(row, Assessed), alpha_breakdown=row["alpha_components"] or {})
            for row in rows
        ],
        unknown=reasons(whose(found), NO_RUN),
    )


class Candidate(Part):
    """Whether an instrument is in the universe, and why not.

    liquidity_score, quality_score : 1 is liquid and stable; one minus a stability score over 100.
    """

    instrument_id: str
    in_universe: bool
    tier: str
    score: float | None
    liquidity_score: float | None
    quality_score: float | None
    reasons: dict[str, Any]


class Universe(Answer):
    """The members of a universe at a session, and who was left out."""

    strategy_id: str
    as_of_date: date | None
    run_id: str | None
    universe_id: str | None
    included: int
    total: int
    candidates: list[Candidate]


@router.get("/universe")
def universe(desk: OurDesk, strategy_id: Name, as_of: AsOf = None, limit: Limit = 500) -> Universe:
    """Return the universe that stands at a session, members first."""
    database = desk.stores.runtime.database
    filters = Filters(as_of=as_of, strategy_id=strategy_id, limit=1)
    found, _ = standing(database, "universe-members", filters, columns=["run_id"])
    included, total = universe_counts(database, found) if found else (0, 0)
    rows = universe_candidates(database, found, limit) if found else []
    fields = {**whose(found), "universe_id": found.scope if found else None}
    return Universe(
        strategy_id=strategy_id,
        **fields,
        included=included,
        total=total,
        candidates=[_candidate(row) for row in rows],
        unknown=reasons(fields, NO_RUN),
    )


def _candidate(row: Record) -> Candidate:
    return Candidate(
        instrument_id=row["entity_id"],
        in_universe=row["included"],
        tier=row["tier"],
        score=row["score"],
        liquidity_score=calm(row["liquidity"]),
        quality_score=calm(row["overall_score"]),
        reasons=row["reasons"] or {},
    )


def _fragile(
    row: Record, found: Standing | None, scores: Mapping[str, float | None]
) -> FragileEntity:
    return FragileEntity(
        **only(row, FragileEntity),
        entity_type=(found and found.scope) or "",
        soft_target_score=scores.get(row["entity_id"]),
        fragility_alpha=row["fragility_score"],
    )


def _soft_scores(desk: Desk, filters: Filters) -> dict[str, float | None]:
    _, rows = standing(
        desk.stores.runtime.database,
        "soft-targets",
        Filters(
            as_of=filters.as_of,
            region=filters.region,
            strategy_id=filters.strategy_id,
            entity_id=filters.entity_id,
            limit=MOST_OF_A_SESSION,
        ),
        columns=("entity_id", "soft_target_score"),
    )
    return {row["entity_id"]: of_hundred(row["soft_target_score"]) for row in rows}


def _history(desk: Desk, filters: Filters) -> list[FragilePoint]:
    database, most = desk.stores.runtime.database, SESSIONS_OF_HISTORY
    soft = history(database, "soft-targets", filters, ["soft_target_score"], most)
    scores = {row["session"]: of_hundred(row["soft_target_score"]) for row in soft}
    measures = ("fragility_score", "fragility_class")
    return [
        FragilePoint(
            date=row["session"],
            score=scores.get(row["session"]),
            alpha=row["fragility_score"],
            fragility_class=row["fragility_class"],
        )
        for row in history(database, "fragility", filters, measures, most)
    ]


def _holdings(desk: Desk, filters: Filters) -> list[Holding]:
    """Return what the newest run of each sleeve held of an instrument."""
    database = desk.stores.runtime.database
    runs = newest_runs(database, Filters(as_of=filters.as_of, strategy_id=filters.strategy_id))
    found = held_by(database, runs, filters.as_of, filters.entity_id)
    return [
        Holding(
            portfolio_id=row["portfolio_id"],
            as_of_date=row["as_of_date"],
            position=row["quantity"],
            market_value=row["market_value"],
            weight=row["market_value"] / held.equity if held.equity > 0 else None,
        )
        for held in found.values()
        for row in held.rows
    ]
