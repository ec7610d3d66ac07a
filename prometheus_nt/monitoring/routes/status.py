"""The day at a glance: profit, exposure, regime and stability."""

from datetime import UTC, date, datetime

from fastapi import APIRouter

from persistence.desk_books import max_drawdown, newest_runs
from persistence.listings import Filters
from persistence.standing import (
    Record,
    counts,
    history,
    open_alerts,
    stability_means,
    standing,
)
from prometheus_nt.domain.runs import Mode
from prometheus_nt.monitoring.answers import Answer, AsOf, Part
from prometheus_nt.monitoring.book import book_of
from prometheus_nt.monitoring.desk import Desk, OurDesk
from prometheus_nt.monitoring.routes.common import (
    NO_RUN,
    NO_SESSION_BEFORE,
    NOT_MEASURED,
    Region,
    Strategy,
    calm,
    only,
    reasons,
    whose,
)

router = APIRouter(prefix="/api/status", tags=["status"])

SESSIONS_OF_REGIMES = 90
SESSIONS_OF_STABILITY = 20
MOST_ALERTS = 20


class RegimeNow(Part):
    """The regime of a region."""

    region: str
    regime_label: str
    confidence: float
    as_of_date: date


class AlertNow(Part):
    """An alert that waits for somebody."""

    alert_id: str
    severity: str
    message: str


class Overview(Answer):
    """Profit, exposure, stability and regime of the newest run of each sleeve, as one book.

    pnl_* and max_drawdown : fractions of equity. Exposures : fractions of equity.
    global_stability_index : 1 is calm, 0 is not; one minus the mean stability score over 100.
    """

    timestamp: datetime
    as_of_date: date | None
    mode: Mode | None
    runs: list[str]
    equity: float | None
    pnl_today: float | None
    pnl_mtd: float | None
    pnl_ytd: float | None
    max_drawdown: float | None
    net_exposure: float | None
    gross_exposure: float | None
    leverage: float | None
    global_stability_index: float | None
    regimes: list[RegimeNow]
    alerts: list[AlertNow]


@router.get("/overview")
def overview(desk: OurDesk, as_of: AsOf = None, strategy_id: Strategy = None) -> Overview:
    """Return the day at a glance."""
    database = desk.stores.runtime.database
    filters = Filters(as_of=as_of, strategy_id=strategy_id, limit=1)
    runs = newest_runs(database, filters)
    book = book_of(database, runs, as_of)
    last = book.as_of_date
    fields = {
        **only(vars(book), Overview),
        "max_drawdown": max_drawdown(database, book.runs, last) if last else None,
    }
    means = stability_means(database, filters, [])
    stability = calm(means[0]["overall"]) if means else None
    unknown = reasons(fields, NO_SESSION_BEFORE if last else NO_RUN)
    if stability is None:
        unknown["global_stability_index"] = NOT_MEASURED if runs else NO_RUN
    if not runs:
        unknown["mode"] = NO_RUN
    return Overview(
        timestamp=datetime.now(UTC),
        mode=Mode(runs[0]["mode"]) if runs else None,
        global_stability_index=stability,
        regimes=_regimes(desk, filters),
        alerts=[AlertNow(**only(row, AlertNow)) for row in open_alerts(database, MOST_ALERTS)],
        unknown=unknown,
        **fields,
    )


class RegimePoint(Part):
    """The regime of one session."""

    date: date
    regime: str
    confidence: float


class Regime(Answer):
    """The regime of a region, and how it came there."""

    region: str | None
    as_of_date: date | None
    run_id: str | None
    current_regime: str | None
    confidence: float | None
    probabilities: dict[str, float | None]
    change_risk: dict[str, float | None]
    history: list[RegimePoint]


@router.get("/regime")
def regime(
    desk: OurDesk, region: Region = None, as_of: AsOf = None, strategy_id: Strategy = None
) -> Regime:
    """Return a region's regime with its last 90 sessions, newest first."""
    database = desk.stores.runtime.database
    filters = Filters(as_of=as_of, region=region, strategy_id=strategy_id, limit=1)
    found, rows = standing(database, "regimes", filters)
    now: Record = rows[0] if rows else {}
    columns = ("regime_label", "confidence")
    points = history(database, "regimes", filters, columns, SESSIONS_OF_REGIMES)
    current = {"current_regime": now.get("regime_label"), "confidence": now.get("confidence")}
    fields = {"region": now.get("region", region), **whose(found), **current}
    return Regime(
        **fields,
        probabilities=now.get("probabilities") or {},
        change_risk=now.get("change_risk") or {},
        history=[
            RegimePoint(
                date=row["session"], regime=row["regime_label"], confidence=row["confidence"]
            )
            for row in points
        ],
        unknown=reasons(fields, NO_RUN),
    )


class StabilityPoint(Part):
    """Means over a universe at one session; each is 1 for calm and 0 for its opposite."""

    date: date
    index: float | None
    liquidity: float | None
    volatility: float | None
    contagion: float | None


class Stability(Answer):
    """The stability of a universe, its parts, and how it came there."""

    region: str | None
    as_of_date: date | None
    run_id: str | None
    current_index: float | None
    liquidity_component: float | None
    volatility_component: float | None
    contagion_component: float | None
    classes: dict[str, int]
    history: list[StabilityPoint]


PARTS = {
    "liquidity": "liquidity_score",
    "volatility": "vol_score",
    "contagion": "contagion_score",
}
"""Name in the answer -> name in a stability vector."""


@router.get("/stability")
def stability(
    desk: OurDesk, region: Region = None, as_of: AsOf = None, strategy_id: Strategy = None
) -> Stability:
    """Return the mean stability of a universe with the sessions at which it was recorded."""
    database = desk.stores.runtime.database
    filters = Filters(
        as_of=as_of, region=region, strategy_id=strategy_id, limit=SESSIONS_OF_STABILITY
    )
    means = stability_means(database, filters, list(PARTS.values()))
    points = [_stability_point(row) for row in means]
    now = points[0] if points else None
    fields = {
        "as_of_date": now.date if now else None,
        "run_id": means[0]["run_id"] if means else None,
        "current_index": now.index if now else None,
        **{f"{part}_component": getattr(now, part, None) for part in PARTS},
    }
    return Stability(
        region=region,
        classes=_classes(desk, filters),
        history=points,
        unknown=reasons(fields, NOT_MEASURED if now else NO_RUN),
        **fields,
    )


def _stability_point(row: Record) -> StabilityPoint:
    parts = {part: calm(row[name]) for part, name in PARTS.items()}
    return StabilityPoint(date=row["session"], index=calm(row["overall"]), **parts)


def _classes(desk: Desk, filters: Filters) -> dict[str, int]:
    database = desk.stores.runtime.database
    found, _ = standing(database, "soft-targets", filters, columns=["run_id"])
    counted = counts(database, "soft-targets", found, "soft_target_class") if found else {}
    return {label or "UNKNOWN": number for label, number in counted.items()}


def _regimes(desk: Desk, filters: Filters) -> list[RegimeNow]:
    database, columns = desk.stores.runtime.database, list(RegimeNow.model_fields)
    _, rows = standing(database, "regimes", filters, columns=columns)
    return [RegimeNow(**row) for row in rows]
