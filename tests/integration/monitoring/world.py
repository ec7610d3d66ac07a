"""A small recorded world: two sleeves' backtests and a day, whose numbers can be added up by hand.

`size` scales and `label` names whatever may differ, so that of two worlds no value is the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.tables import governance, operations, trading
from persistence.tables import runtime as tables
from persistence.tables.columns import written

SESSIONS = (date(2023, 12, 20), date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2))
EQUITY = {"FAST": (100.0, 110.0, 99.0, 120.0), "SLOW": (300.0, 310.0, 301.0, 300.0)}
HELD = {"A.US": (3.0, 60.0), "B.US": (-1.0, -12.0)}
"""Instrument -> shares and value."""


@dataclass(frozen=True)
class World:
    """What may differ between two worlds."""

    strategy: str = "US_CORE"
    size: float = 1.0
    label: str = "ONE"
    mode: str = "BACKTEST"
    later: int = 0
    region: str = "US"
    kind: str = "INSTRUMENT"
    names: tuple[str, ...] = ("A.US", "B.US")

    @property
    def market(self) -> str:
        return f"{self.region}_EQ"

    @property
    def sessions(self) -> tuple[date, ...]:
        return tuple(day + timedelta(days=self.later) for day in SESSIONS)

    def run_id(self, sleeve: str) -> str:
        return f"{self.sleeve(sleeve)}-{self.label}"

    def sleeve(self, name: str) -> str:
        return f"{self.strategy}_{name}"


def put(database: Database, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows; what they leave out is empty, or the plainest value where it may not be."""
    columns = [table.c[name] for name in written(table)]
    full = [tuple(row.get(each.name, _plainest(each)) for each in columns) for row in rows]
    with database.writer() as connection:
        upsert(connection, table, [each.name for each in columns], full)


def _plainest(column: Any) -> Any:
    if column.nullable:
        return None
    kinds: tuple[tuple[Any, Any], ...] = (
        (sa.Boolean, False),
        (sa.Integer, 0),
        (sa.Float, 0.0),
        (sa.Date, SESSIONS[0]),
        (sa.JSON, {}),
        (sa.types.TypeDecorator, at(SESSIONS[0])),
    )
    return next((value for kind, value in kinds if isinstance(column.type, kind)), "X")


def at(session: date, hour: int = 21) -> datetime:
    return datetime(session.year, session.month, session.day, hour, tzinfo=UTC)


def fill(database: Database, world: World) -> None:
    """Write everything that the status endpoints read."""
    put(database, governance.strategies, [{"strategy_id": world.strategy, "name": world.strategy}])
    for number, (sleeve, equity) in enumerate(EQUITY.items()):
        _run(database, world, sleeve, number)
        _equity(database, world, sleeve, equity)
        _trades(database, world, sleeve)
        _engines(database, world, sleeve)
        _risk(database, world, sleeve)
    _day(database, world)
    alert = {"alert_id": world.label, "severity": f"S{world.label}", "message": world.label}
    put(database, trading.alerts, [alert])


def _owned(world: World, sleeve: str, **values: Any) -> dict[str, Any]:
    return {
        "run_id": world.run_id(sleeve),
        "mode": world.mode,
        "strategy_id": world.strategy,
        "sleeve_id": world.sleeve(sleeve),
        "portfolio_id": f"{world.sleeve(sleeve)}_PORTFOLIO",
        **values,
    }


def _run(database: Database, world: World, sleeve: str, number: int) -> None:
    run = _owned(world, sleeve, market_id=world.market, status="COMPLETED")
    # A world that is later began earlier, so that both ends differ.
    first = world.sessions[0] - timedelta(days=2 * world.later)
    run |= {"start_date": first, "end_date": world.sessions[-1]}
    run |= {"created_at": at(date(2024, 6, 1 + number))}
    put(database, tables.backtest_runs, [run])
    put(database, governance.portfolios, [run | {"name": sleeve, "base_currency": "USD"}])


def _equity(database: Database, world: World, sleeve: str, equity: tuple[float, ...]) -> None:
    rows = [
        _owned(
            world,
            sleeve,
            date=day,
            equity_curve_value=value * world.size + 10.0 * number * (world.size - 1.0),
            drawdown=-0.1 * world.size,
            net_exposure=0.4 * world.size,
            gross_exposure=0.6 * world.size,
        )
        for number, (day, value) in enumerate(zip(world.sessions, equity, strict=True))
    ]
    put(database, tables.backtest_daily_equity, rows)


def _trades(database: Database, world: World, sleeve: str) -> None:
    size, name = world.size, f"{world.run_id(sleeve)}"
    put(
        database,
        tables.positions_snapshots,
        [
            _owned(
                world,
                sleeve,
                as_of_date=world.sessions[-1],
                instrument_id=instrument,
                quantity=shares * size,
                avg_cost=7.0 * size,
                market_value=value * size * size,
                unrealized_pnl=2.0 * size,
            )
            for instrument, (shares, value) in HELD.items()
        ],
    )
    orders = [
        _owned(
            world,
            sleeve,
            order_id=f"{name}:{number}",
            timestamp=at(day),
            instrument_id=f"{world.label}.US",
            side=f"BUY{world.label}"[:8],
            order_type=world.label,
            quantity=5.0 * size,
            filled_quantity=4.0 * size,
            status=f"FILLED{world.label}",
        )
        for number, day in enumerate(world.sessions)
    ]
    put(database, tables.orders, orders)
    fills = [
        order | {"fill_id": f"{order['order_id']}#1", "price": 11.0 * size, "commission": size}
        for order in orders
    ]
    put(database, tables.fills, fills)
    costs = [each | {"action_id": each["fill_id"], "slippage_bps": 3.0 * size} for each in fills]
    put(database, tables.executed_actions, costs)


def _engines(database: Database, world: World, sleeve: str) -> None:
    size = world.size
    for session in world.sessions[1:]:
        own = _owned(world, sleeve, as_of_date=session, entity_type=world.kind)
        names = [
            own | {"entity_id": instrument, "instrument_id": instrument, "number": number}
            for number, instrument in enumerate(world.names)
        ]
        parts = {"liquidity_score": 10.0 * size, "vol_score": 20.0 * size}
        parts |= {"contagion_score": 30.0 * size}
        put(
            database,
            tables.stability_vectors,
            [
                row | {"vector_components": parts, "overall_score": 10.0 * size + row["number"]}
                for row in names
            ],
        )
        put(
            database,
            tables.soft_target_classes,
            [row | {"soft_target_class": world.label, "soft_target_score": size} for row in names],
        )
        put(
            database,
            tables.fragility_measures,
            [
                row
                | {
                    "fragility_score": 0.1 * size + 0.1 * row["number"],
                    "fragility_class": f"{world.label}{min(row['number'], 1)}",
                    "drawdown_probability": 0.2 * size,
                    "scenario_losses": {world.label: 0.3 * size},
                }
                for row in names
            ],
        )
        put(
            database,
            tables.instrument_scores,
            [
                row
                | {
                    "market_id": world.market,
                    "horizon_days": int(5 * size),
                    "expected_return": 0.01 * size + 0.01 * row["number"],
                    "score": size,
                    "confidence": 0.5 * size,
                    "signal_label": world.label,
                    "alpha_components": {world.label: size},
                }
                for row in names
            ],
        )
        put(
            database,
            tables.universe_members,
            [
                row
                | {
                    "universe_id": f"U{world.label}",
                    "included": row["number"] == 0 or size > 1,
                    "tier": world.label,
                    "score": size,
                    "reasons": {world.label: size},
                }
                for row in names
            ],
        )
        regime = {
            "region": world.region,
            "regime_label": world.label,
            "confidence": 0.3 * size,
            "probabilities": {world.label: 0.3 * size},
            "change_risk": {world.label: 0.1 * size},
        }
        put(database, tables.regimes, [own | regime])


def _risk(database: Database, world: World, sleeve: str) -> None:
    size, session = world.size, world.sessions[-1]
    tail = {"method": world.label, "level": 0.3 * size, "sessions": int(10 * size)}
    metrics = {
        "basis": world.label,
        "expected_volatility": 0.16 * size,
        "var_95": -0.01 * size,
        "expected_shortfall_95": -0.02 * size,
        "max_drawdown": -0.03 * size,
        "beta": 0.7 * size,
        "tails": [tail | {"value_at_risk": -0.04 * size, "expected_shortfall": -0.05 * size}],
        "component_risk": {world.label: 0.06 * size},
    }
    report = _owned(world, sleeve, as_of_date=session, leverage=0.8 * size, risk_metrics=metrics)
    report |= {"scenario_pnl": {world.label: {"covered": 0.5 * size, "pnl": -0.07 * size}}}
    report |= {"exposures_by_sector": {world.label: 0.2 * size}}
    report |= {"exposures_by_factor": {world.label: 0.9 * size}}
    put(database, tables.portfolio_risk_reports, [report])
    target = _owned(world, sleeve, as_of_date=session)
    target |= {"target_positions": {"weights": {"A.US": 0.3 * size}}}
    put(database, tables.target_portfolios, [target])
    details = {"original_weight": 0.2 * size, "adjusted_weight": 0.1 * size, "reason": world.label}
    action = _owned(world, sleeve, action_id=world.run_id(sleeve), as_of_date=session)
    action |= {"instrument_id": world.label, "decision_id": world.label}
    action |= {"action_type": world.label, "details_json": details}
    put(database, tables.risk_actions, [action])


def _day(database: Database, world: World) -> None:
    session, begun = world.sessions[-1], at(world.sessions[-1])
    day = {
        "run_id": f"{world.strategy}-{world.label}",
        "as_of_date": session,
        "region": world.region,
    }
    day |= {"mode": world.mode, "strategy_id": world.strategy, "phase": "COMPLETED"}
    put(database, operations.engine_runs, [day])
    ended = {"started_at": begun, "ended_at": begun + timedelta(seconds=world.size)}
    phase = "DATA_READY" if world.size > 1 else "WAITING_FOR_DATA"
    status = {"phase": phase, "attempt": 1, "status": world.label}
    put(database, operations.engine_run_attempts, [day | status | ended])
    job = {"execution_id": world.label, "job_id": f"job_{world.label}", "market_id": world.market}
    job |= {"job_type": "check_data", "as_of_date": session, "status": "SUCCESS"}
    job |= {"started_at": begun, "completed_at": begun + timedelta(seconds=2 * world.size)}
    put(database, governance.job_executions, [job])
