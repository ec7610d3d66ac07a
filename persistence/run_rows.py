"""What the mirror collected, as rows, in an order that satisfies every foreign key."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from persistence import rows as to_rows
from persistence.mirror import FillTrace, Holdings, Mirror, OrderTrace
from persistence.rows import Row
from persistence.tables import runtime as tables
from prometheus_nt.bus import Published
from prometheus_nt.domain.books import BookTarget, TargetPortfolio, Universe
from prometheus_nt.domain.market import InstrumentScores, StabilityVectors

Batch = tuple[sa.Table, Sequence[Row]]


def run_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield the rows of one finished run, one table at a time."""
    run = mirror.run
    yield tables.engine_decisions, [_decision_row(mirror, item) for item in mirror.decisions]
    yield tables.orders, [_order_row(mirror, trace) for trace in mirror.orders.values()]
    yield tables.fills, [_fill_row(mirror, fill) for fill in mirror.fills]
    yield tables.executed_actions, [_action_row(mirror, fill) for fill in mirror.fills]
    yield tables.backtest_trades, [_trade_row(mirror, fill) for fill in mirror.fills]
    yield (
        tables.positions_snapshots,
        [row for held in mirror.holdings for row in _position_rows(mirror, held)],
    )
    flows = mirror.ledger.cash_flows
    yield tables.cash_flows, [to_rows.cash_flow_row(run, flow) for flow in flows]
    for record_type, table, explode in EXPLODED:
        rows: list[Row] = []
        for item in _published(mirror, record_type):
            rows.extend(explode(run, item.record, _model_id(item)))
        yield table, rows
    yield from _target_rows(mirror)


EXPLODED: tuple[tuple[type, sa.Table, Callable[..., Iterator[Row]]], ...] = (
    (StabilityVectors, tables.stability_vectors, to_rows.stability_rows),
    (StabilityVectors, tables.soft_target_classes, to_rows.soft_target_rows),
    (InstrumentScores, tables.instrument_scores, to_rows.score_rows),
    (Universe, tables.universe_members, to_rows.universe_rows),
    (BookTarget, tables.book_targets, to_rows.book_target_rows),
)
"""Which record becomes rows of which table, one row per instrument."""


def _target_rows(mirror: Mirror) -> Iterator[Batch]:
    run = mirror.run
    equity = {held.as_of: held.equity for held in mirror.holdings}
    targets = [(item.record, _model_id(item), item) for item in _published(mirror, TargetPortfolio)]
    yield (
        tables.target_portfolios,
        [to_rows.target_row(run, record, model, _lineage(item)) for record, model, item in targets],
    )
    yield (
        tables.portfolio_risk_reports,
        [
            to_rows.risk_report_row(run, record, model, equity.get(record.as_of))
            for record, model, _ in targets
        ],
    )
    actions = [to_rows.refusal_row(run, item) for item in mirror.refusals]
    for record, _, _ in targets:
        actions.extend(to_rows.risk_action_rows(run, record))
    yield tables.risk_actions, actions


def _published(mirror: Mirror, record_type: type) -> list[Published]:
    return [
        stages[record_type]
        for as_of, stages in mirror.stages.items()
        if record_type in stages and stages[record_type].record.as_of == as_of
    ]


def _model_id(item: Published) -> str:
    return f"{item.engine}-{item.params_hash}"


def _lineage(item: Published) -> dict[str, Any]:
    lineage = item.lineage()
    return {
        "engine": lineage.engine,
        "params_hash": lineage.params_hash,
        "input_hashes": list(lineage.input_hashes),
    }


def _decision_row(mirror: Mirror, item: Published) -> Row:
    run, decision = mirror.run, item.record
    return (
        run.decision_id(decision.as_of),
        "SLEEVE",
        run.run_id,
        run.mode,
        run.strategy_id,
        run.market_id,
        decision.as_of,
        run.sleeve_id,
        _lineage(item),
        {"orders": decision.orders},
        {"held": list(decision.held), "deferred": list(decision.deferred)},
    )


def _order_row(mirror: Mirror, trace: OrderTrace) -> Row:
    run = mirror.run
    return (
        trace.order_id,
        run.run_id,
        run.mode,
        run.strategy_id,
        run.portfolio_id,
        instant(trace.ts_ns),
        instant(trace.updated_ns),
        mirror.ledger.instruments[trace.column],
        trace.side,
        trace.order_type,
        trace.quantity,
        trace.filled,
        trace.limit_price,
        trace.stop_price,
        trace.status,
        _decision_id(mirror, trace.decided_on),
        None if trace.reason is None else {"reason": trace.reason},
    )


def _fill_row(mirror: Mirror, fill: FillTrace) -> Row:
    run = mirror.run
    return (
        fill.fill_id,
        fill.order.order_id,
        run.run_id,
        run.mode,
        run.strategy_id,
        run.portfolio_id,
        instant(fill.ts_ns),
        mirror.ledger.instruments[fill.order.column],
        fill.order.side,
        fill.quantity,
        fill.price,
        fill.commission,
        {"trade_id": fill.trade_id},
    )


def _action_row(mirror: Mirror, fill: FillTrace) -> Row:
    run, slippage = mirror.run, fill.slippage
    decided = fill.order.decision_price
    traded = None if decided is None else fill.quantity * decided
    return (
        fill.fill_id,
        run.run_id,
        run.mode,
        run.strategy_id,
        run.portfolio_id,
        _decision_id(mirror, fill.order.decided_on),
        mirror.ledger.instruments[fill.order.column],
        instant(fill.ts_ns).date(),
        fill.order.side,
        fill.quantity,
        fill.price,
        decided,
        fill.arrival_price,
        slippage,
        None if slippage is None or not traded else 1e4 * slippage / traded,
        fill.spread_cost,
        fill.impact_cost,
        fill.commission,
        {"fill_id": fill.fill_id, "mode": run.mode},
    )


def _trade_row(mirror: Mirror, fill: FillTrace) -> Row:
    run = mirror.run
    instrument_id = mirror.ledger.instruments[fill.order.column]
    return (
        *run.head,
        fill.fill_id,
        instant(fill.ts_ns).date(),
        instrument_id.partition(".")[0],
        instrument_id,
        fill.order.side,
        fill.quantity,
        fill.price,
        fill.commission,
        fill.pnl,
        None,
        {"decision_id": _decision_id(mirror, fill.order.decided_on)},
    )


def _position_rows(mirror: Mirror, held: Holdings) -> list[Row]:
    run, at, instruments = mirror.run, instant(held.ts_ns), mirror.ledger.instruments
    values = held.shares * held.marks
    parts = zip(
        held.columns.tolist(),
        held.shares.tolist(),
        held.average_cost.tolist(),
        values.tolist(),
        (values - held.shares * held.average_cost).tolist(),
        held.unmarked_sessions.tolist(),
        strict=True,
    )
    return [
        (*run.head, run.portfolio_id, held.as_of, instruments[column], at, *numbers)
        for column, *numbers in parts
    ]


def _decision_id(mirror: Mirror, decided_on: date | None) -> str | None:
    return None if decided_on is None else mirror.run.decision_id(decided_on)


def instant(ts_ns: int) -> datetime:
    """Return UNIX nanoseconds as an aware UTC time, to the microsecond."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest // 1000)
