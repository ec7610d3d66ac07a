"""What the books hold, what that risks, what was traded, and what the risk stage changed."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from persistence.desk_books import (
    Held,
    fragility_classes,
    held_by,
    newest_fills,
    newest_orders,
    newest_risk_actions,
    newest_runs,
)
from persistence.desk_trades import slippage_of, wanted_at
from persistence.listings import Filters
from persistence.standing import Record, standing
from prometheus_nt.domain.runs import Mode
from prometheus_nt.monitoring.answers import Answer, AsOf, Limit, Name, Part
from prometheus_nt.monitoring.book import book_of
from prometheus_nt.monitoring.desk import Desk, OurDesk
from prometheus_nt.monitoring.routes.common import (
    NO_RUN,
    NO_SESSION_BEFORE,
    OfMode,
    only,
    reasons,
    whose,
)

router = APIRouter(prefix="/api/status", tags=["status"])

MOST_TRADES = 500
NO_REPORT = "no risk report of this portfolio up to this session"
NO_TARGET = "a run of the portfolio has no target up to this session that names its weights"
Trades = Annotated[int, Query(ge=1, le=MOST_TRADES)]


class Position(Part):
    """What a portfolio holds and wants of an instrument. weight, target_weight : of equity.

    target_weight : null where a run of the portfolio has no target; 0 where it wants none.
    """

    instrument_id: str
    quantity: float
    market_value: float
    weight: float | None
    target_weight: float | None


class Pnl(Part):
    """Gains as fractions of equity; null where the record begins too late."""

    today: float | None
    mtd: float | None
    ytd: float | None


class Exposures(Part):
    """Net exposures as fractions of equity, by what they are exposed to."""

    by_sector: dict[str, float]
    by_factor: dict[str, float]
    by_fragility_class: dict[str, float]


class Portfolio(Answer):
    """What a portfolio holds. A sleeve's or a strategy's name is taken as well."""

    portfolio_id: str
    as_of_date: date | None
    mode: Mode | None
    runs: list[str]
    equity: float | None
    positions: list[Position]
    pnl: Pnl
    exposures: Exposures


@router.get("/portfolio")
def portfolio(
    desk: OurDesk, portfolio_id: Name, as_of: AsOf = None, mode: OfMode = None
) -> Portfolio:
    """Return the positions, gains and exposures of a portfolio's newest run."""
    database = desk.stores.runtime.database
    filters = Filters(portfolio_id=portfolio_id, as_of=as_of, mode=mode)
    runs = newest_runs(database, filters)
    book = book_of(database, runs, as_of)
    held = held_by(database, runs, as_of)
    # Runs whose record ends earlier are no part of the book.
    current = {run_id: at for run_id, at in held.items() if at.session == book.as_of_date}
    wanted = _wanted(desk, [run for run in runs if run["run_id"] in current], current, as_of)
    positions = _positions(current, wanted)
    fields = {"as_of_date": book.as_of_date, "equity": book.equity}
    pnl = Pnl(today=book.pnl_today, mtd=book.pnl_mtd, ytd=book.pnl_ytd)
    gains = {f"pnl.{name}": value for name, value in pnl.model_dump().items()}
    found = {"mode": Mode(runs[0]["mode"]) if runs else None}
    return Portfolio(
        portfolio_id=portfolio_id,
        runs=sorted(current),
        positions=positions,
        pnl=pnl,
        exposures=_exposures(desk, current, positions),
        unknown=reasons({**fields, **found}, NO_RUN)
        | reasons(gains, NO_SESSION_BEFORE if current else NO_RUN)
        | reasons({"positions.target_weight": wanted}, NO_TARGET if current else NO_RUN),
        **fields,
        **found,
    )


class Scenario(Part):
    """What a scenario does to a portfolio. covered : share of its value that has a shock."""

    scenario: str
    pnl: float | None
    covered: float | None


class Tail(Part):
    """Losses that few sessions exceed, as returns: negative is a loss."""

    method: str
    level: float
    sessions: int
    value_at_risk: float | None
    expected_shortfall: float | None


class PortfolioRisk(Answer):
    """What a portfolio risks. volatility : annual. var_95, expected_shortfall : of one session.

    basis : `target` is the book that was decided, `held` what was held.
    component_risk : of volatility, by instrument; their sum is the volatility.
    """

    portfolio_id: str
    as_of_date: date | None
    run_id: str | None
    basis: str | None
    volatility: float | None
    var_95: float | None
    expected_shortfall: float | None
    max_drawdown: float | None
    beta: float | None
    leverage: float | None
    tails: list[Tail]
    scenarios: list[Scenario]
    component_risk: dict[str, float]


OF_METRICS = {
    "basis": "basis",
    "volatility": "expected_volatility",
    "var_95": "var_95",
    "expected_shortfall": "expected_shortfall_95",
    "max_drawdown": "max_drawdown",
    "beta": "beta",
}
"""Name in the answer -> name in a stored report."""


@router.get("/portfolio_risk")
def portfolio_risk(
    desk: OurDesk, portfolio_id: Name, as_of: AsOf = None, mode: OfMode = None
) -> PortfolioRisk:
    """Return the newest risk report of a portfolio."""
    database = desk.stores.runtime.database
    filters = Filters(portfolio_id=portfolio_id, as_of=as_of, mode=mode, limit=1)
    found, rows = standing(database, "risk-reports", filters)
    row: Record = rows[0] if rows else {}
    metrics = row.get("risk_metrics") or {}
    fields = {name: metrics.get(stored) for name, stored in OF_METRICS.items()}
    fields |= {**whose(found), "leverage": row.get("leverage")}
    return PortfolioRisk(
        portfolio_id=row.get("portfolio_id", portfolio_id),
        tails=[Tail(**only(tail, Tail)) for tail in metrics.get("tails") or ()],
        scenarios=[
            Scenario(scenario=name, pnl=loss.get("pnl"), covered=loss.get("covered"))
            for name, loss in sorted((row.get("scenario_pnl") or {}).items())
        ],
        component_risk=metrics.get("component_risk") or {},
        unknown=reasons(fields, "history was too short for it" if row else NO_REPORT),
        **fields,
    )


class OrderNow(Part):
    """An order. quantity : shares asked for."""

    order_id: str
    timestamp: datetime
    instrument_id: str
    side: str
    order_type: str
    quantity: float
    filled_quantity: float
    status: str
    mode: Mode
    run_id: str


class FillNow(Part):
    """A fill. price and commission : USD.

    slippage_bps : against the price of the decision; a cost is positive, null is not known.
    """

    fill_id: str
    timestamp: datetime
    instrument_id: str
    side: str
    quantity: float
    price: float
    commission: float
    slippage_bps: float | None
    order_id: str
    mode: Mode
    run_id: str


class Holding(Part):
    """What is held of an instrument. avg_cost : USD a share."""

    instrument_id: str
    portfolio_id: str
    as_of_date: date
    quantity: float
    avg_cost: float
    market_value: float
    unrealized_pnl: float
    mode: Mode


class Execution(Answer):
    """What the newest runs of a portfolio ordered, got and hold, all of one mode."""

    portfolio_id: str
    mode: Mode | None
    runs: list[str]
    orders: list[OrderNow]
    fills: list[FillNow]
    positions: list[Holding]


@router.get("/execution")
def execution(
    desk: OurDesk,
    portfolio_id: Name,
    mode: OfMode = None,
    as_of: AsOf = None,
    limit_orders: Trades = 50,
    limit_fills: Trades = 50,
) -> Execution:
    """Return the newest orders and fills, and the positions of the newest session."""
    database = desk.stores.runtime.database
    runs = newest_runs(database, Filters(portfolio_id=portfolio_id, as_of=as_of, mode=mode))
    run_ids = [run["run_id"] for run in runs]
    orders = newest_orders(database, run_ids, as_of, limit_orders)
    fills = newest_fills(database, run_ids, as_of, limit_fills)
    slippage = slippage_of(database, [row["fill_id"] for row in fills])
    held = held_by(database, runs, as_of)
    found = {"mode": Mode(runs[0]["mode"]) if runs else None}
    return Execution(
        portfolio_id=portfolio_id,
        runs=run_ids,
        orders=[OrderNow(**only(row, OrderNow)) for row in orders],
        fills=[
            FillNow(**only(row, FillNow), slippage_bps=slippage.get(row["fill_id"]))
            for row in fills
        ],
        positions=[Holding(**only(row, Holding)) for at in held.values() for row in at.rows],
        unknown=reasons(found, NO_RUN),
        **found,
    )


class RiskAction(Part):
    """What the risk stage did to a wish."""

    created_at: date
    instrument_id: str | None
    decision_id: str | None
    action_type: str
    original_weight: float | None
    adjusted_weight: float | None
    reason: str | None
    run_id: str
    mode: Mode


class RiskActions(Answer):
    """The newest actions of the risk stage."""

    strategy_id: str
    actions: list[RiskAction]


@router.get("/risk_actions")
def risk_actions(
    desk: OurDesk, strategy_id: Name, as_of: AsOf = None, mode: OfMode = None, limit: Limit = 50
) -> RiskActions:
    """Return what the risk stage changed, newest first."""
    filters = Filters(as_of=as_of, strategy_id=strategy_id, mode=mode, limit=limit)
    rows = newest_risk_actions(desk.stores.runtime.database, filters)
    return RiskActions(strategy_id=strategy_id, actions=[_risk_action(row) for row in rows])


def _risk_action(row: Record) -> RiskAction:
    details = row["details_json"] or {}
    wanted = {name: details.get(name) for name in ("original_weight", "adjusted_weight", "reason")}
    return RiskAction(**only(row, RiskAction), **wanted, created_at=row["as_of_date"])


def _wanted(
    desk: Desk, runs: Sequence[Record], held: Mapping[str, Held], as_of: date | None
) -> dict[str, float] | None:
    """Return what runs want together, as weights of their equity; None if one has no target."""
    equity = sum(at.equity for at in held.values())
    total: dict[str, float] = {}
    for run in runs:
        wanted = wanted_at(desk.stores.runtime.database, run, as_of)
        if wanted is None or wanted.weights is None or equity <= 0:
            return None
        _add(total, wanted.weights, held[run["run_id"]].equity / equity)
    return total


def _positions(held: Mapping[str, Held], wanted: Mapping[str, float] | None) -> list[Position]:
    """Return what runs hold and want together, the largest first."""
    equity = sum(at.equity for at in held.values())
    together: dict[str, list[float]] = {name: [0.0, 0.0] for name in wanted or ()}
    for at in held.values():
        for row in at.rows:
            sums = together.setdefault(row["instrument_id"], [0.0, 0.0])
            sums[0] += row["quantity"]
            sums[1] += row["market_value"]
    found = [
        Position(
            instrument_id=name,
            quantity=quantity,
            market_value=value,
            weight=value / equity if equity > 0 else None,
            target_weight=None if wanted is None else wanted.get(name, 0.0),
        )
        for name, (quantity, value) in together.items()
    ]
    return sorted(found, key=lambda each: (-abs(each.market_value), each.instrument_id))


def _exposures(desk: Desk, held: Mapping[str, Held], positions: Sequence[Position]) -> Exposures:
    """Return the exposures of runs together: of sectors and factors by their newest reports."""
    database, equity = desk.stores.runtime.database, sum(at.equity for at in held.values())
    sectors: dict[str, float] = {}
    factors: dict[str, float] = {}
    for run_id, at in held.items():
        of_run = Filters(run_id=run_id, as_of=at.session, limit=1)
        columns = ("exposures_by_sector", "exposures_by_factor")
        _, rows = standing(database, "risk-reports", of_run, columns=columns)
        for row in rows:
            _add(sectors, row["exposures_by_sector"], at.equity / equity)
            _add(factors, row["exposures_by_factor"], at.equity / equity)
    return Exposures(
        by_sector=sectors, by_factor=factors, by_fragility_class=_by_class(desk, held, positions)
    )


def _add(total: dict[str, float], part: Mapping[str, Any] | None, share: float) -> None:
    for name, value in (part or {}).items():
        if value is not None:
            total[name] = total.get(name, 0.0) + share * value


def _by_class(
    desk: Desk, held: Mapping[str, Held], positions: Sequence[Position]
) -> dict[str, float]:
    """Return the weights of positions by fragility class, as the first run says that has one."""
    database, names = desk.stores.runtime.database, [each.instrument_id for each in positions]
    labels: dict[str, str] = {}
    for run_id, at in held.items():
        of_run = Filters(run_id=run_id, as_of=at.session, limit=1)
        found, _ = standing(database, "fragility", of_run, columns=["run_id"])
        labels = (fragility_classes(database, found, names) if found else {}) | labels
    sums: dict[str, float] = {}
    for each in positions:
        _add(sums, {labels.get(each.instrument_id, "UNKNOWN"): each.weight}, 1.0)
    return sums
