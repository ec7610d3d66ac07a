"""What the mirror collected, as rows, in an order that satisfies every foreign key."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import sqlalchemy as sa

from persistence import rows as to_rows
from persistence.artifacts import Artifact
from persistence.blocks import Block, JsonText, Row
from persistence.mirror import FillTrace, Holdings, Mirror, OrderTrace
from persistence.rows import RunContext
from persistence.tables import runtime as tables
from prometheus_nt.bus import Published
from prometheus_nt.domain.books import BookTarget, TargetPortfolio, Universe
from prometheus_nt.domain.market import FragilityMeasures, InstrumentScores, StabilityVectors
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.domain.record import FloatArray

Batch = tuple[sa.Table, Sequence[Row]]


def run_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield the rows of one finished run, one table at a time."""
    yield from _trading_rows(mirror)
    if mirror.stages or mirror.regimes or mirror.refusals:
        yield from _engine_rows(mirror)


def _engine_rows(mirror: Mirror) -> Iterator[Batch]:
    yield from signal_rows(mirror)
    yield from universe_rows(mirror)
    yield from book_rows(mirror)
    yield from stage_decisions(mirror)


def _trading_rows(mirror: Mirror) -> Iterator[Batch]:
    run = mirror.run
    yield tables.engine_decisions, [_decision_row(mirror, item) for item in mirror.decisions]
    yield tables.orders, [_order_row(mirror, trace) for trace in mirror.orders.values()]
    yield tables.fills, [_fill_row(mirror, fill) for fill in mirror.fills]
    yield tables.executed_actions, [_action_row(mirror, fill) for fill in mirror.fills]
    yield tables.backtest_trades, [_trade_row(mirror, fill) for fill in mirror.fills]
    yield tables.positions_snapshots, _position_rows(mirror)
    flows = mirror.ledger.cash_flows
    yield tables.cash_flows, [to_rows.cash_flow_row(run, flow) for flow in flows]


def signal_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield what the engines measured of the market and its instruments."""
    yield tables.profiles, _exploded(mirror, Profiles, to_rows.profile_rows)
    yield tables.stability_vectors, _exploded(mirror, StabilityVectors, to_rows.stability_rows)
    yield tables.instrument_scores, _exploded(mirror, InstrumentScores, to_rows.score_rows)
    yield tables.fragility_measures, _exploded(mirror, FragilityMeasures, to_rows.fragility_rows)
    yield tables.soft_target_classes, _soft_target_rows(mirror)
    yield from _regime_rows(mirror)


def universe_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield who may be held."""
    yield tables.universe_members, _exploded(mirror, Universe, to_rows.universe_rows)


def book_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield the books: as the portfolio engine built them, and as risk let them pass."""
    yield tables.book_targets, _exploded(mirror, BookTarget, to_rows.book_target_rows)
    yield from _target_rows(mirror)


def stage_decisions(mirror: Mirror) -> Iterator[Batch]:
    """Yield one decision per stage and session: what it saw, and of how many names it knew."""
    rows = [
        _stage_decision(mirror.run, item, known)
        for record_type, known in KNOWN.items()
        for item in _published(mirror, record_type)
    ]
    kept = set(mirror.stages)
    states = (item for item in mirror.regimes if item.record.as_of in kept)
    rows.extend(_stage_decision(mirror.run, item, None) for item in states)
    yield tables.engine_decisions, rows


KNOWN: dict[type, Callable[[Any], Any]] = {
    Profiles: lambda record: record.weak_profile >= 0,
    StabilityVectors: lambda record: np.isfinite(record.overall_score),
    FragilityMeasures: lambda record: np.isfinite(record.fragility_score),
    InstrumentScores: lambda record: np.isfinite(record.score),
    Universe: lambda record: record.included,
    BookTarget: lambda record: record.weights != 0,
    TargetPortfolio: lambda record: record.weights != 0,
}
"""Of which instruments a record says something, (N,) bool."""


def _stage_decision(run: RunContext, item: Published, known: Callable[[Any], Any] | None) -> Row:
    outputs: dict[str, Any] = {"record_hash": item.record_hash}
    if known is not None:
        said = known(item.record)
        outputs |= {"instruments": len(said), "known": int(said.sum())}
    return (
        f"{run.decision_id(item.record.as_of)}:{item.engine}",
        item.engine.upper(),
        run.run_id,
        run.mode,
        run.strategy_id,
        run.market_id,
        item.record.as_of,
        item.params_hash,
        _lineage(item),
        outputs,
        None,
    )


def _exploded(mirror: Mirror, record_type: type, explode: Callable[..., Block]) -> Sequence[Row]:
    """Return the rows of the records of one type, one per instrument."""
    return Block.joined(
        explode(mirror.run, item.record, _model_id(item))
        for item in _published(mirror, record_type)
    )


def _snapshots(mirror: Mirror) -> list[Holdings]:
    if mirror.positions == "all":
        return mirror.holdings
    traded = {instant(fill.ts_ns).date() for fill in mirror.fills}
    return [held for held in mirror.holdings[:-1] if held.as_of in traded] + mirror.holdings[-1:]


def _soft_target_rows(mirror: Mirror) -> Sequence[Row]:
    profiles = {item.record.as_of: item.record for item in _published(mirror, Profiles)}
    return Block.joined(
        to_rows.soft_target_rows(
            mirror.run, item.record, _model_id(item), profiles.get(item.record.as_of)
        )
        for item in _published(mirror, StabilityVectors)
    )


def _regime_rows(mirror: Mirror) -> Iterator[Batch]:
    run = mirror.run
    states = [(item.record, _model_id(item)) for item in mirror.regimes]
    yield tables.regimes, [to_rows.regime_row(run, state, model) for state, model in states]
    changes = (to_rows.transition_row(run, state, model) for state, model in states)
    yield tables.regime_transitions, [row for row in changes if row is not None]


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
    actions = [to_rows.refusal_row(run, item.record) for item in mirror.refusals]
    for record, _, _ in targets:
        actions.extend(to_rows.risk_action_rows(run, record))
    yield tables.risk_actions, actions


def _published(mirror: Mirror, record_type: type) -> list[Published]:
    found = (mirror.on_session(as_of, record_type) for as_of in mirror.stages)
    return [item for item in found if item is not None]


def _model_id(item: Published) -> str:
    return f"{item.engine}-{item.params_hash}"


def outcome_rows(mirror: Mirror) -> Iterator[Batch]:
    """Yield what became of each decision after `OUTCOME_HORIZONS` sessions, where that is known.

    An outcome uses only sessions after its decision; one whose horizon reaches past the end of the
    run does not exist yet.
    """
    sessions = [held.as_of for held in mirror.holdings]
    equity = np.array([held.equity for held in mirror.holdings])
    rows_of = {session: row for row, session in enumerate(sessions)}
    decided = [(item.record.as_of, rows_of[item.record.as_of]) for item in mirror.decisions]
    yield (
        tables.decision_outcomes,
        [
            _outcome_row(mirror, as_of, equity[row : row + horizon + 1], sessions[row + horizon])
            for as_of, row in decided
            for horizon in OUTCOME_HORIZONS
            if row + horizon < len(sessions)
        ],
    )


OUTCOME_HORIZONS = (5, 21, 63)
"""Sessions after a decision at which its outcome is measured."""


def _outcome_row(mirror: Mirror, as_of: date, path: FloatArray, known_at: date) -> Row:
    returns = path[1:] / path[:-1] - 1.0
    return (
        mirror.run.decision_id(as_of),
        len(returns),
        mirror.run.run_id,
        float(path[-1] / path[0] - 1.0),
        float(path[-1] - path[0]),
        float((path / np.maximum.accumulate(path) - 1.0).min()),
        float(returns.std(ddof=1) * np.sqrt(252.0)),
        known_at,
        None,
    )


def equity_rows(mirror: Mirror) -> Batch:
    """Return the daily equity curve, with gross and net exposure as quotients of equity."""
    return tables.backtest_daily_equity, [_equity_row(mirror, held) for held in mirror.holdings]


def _equity_row(mirror: Mirror, held: Holdings) -> Row:
    gross, net = float(np.abs(held.values).sum()), float(held.values.sum())
    return (
        *mirror.run.head,
        held.as_of,
        held.equity,
        held.drawdown,
        held.cash,
        gross / held.equity,
        net / held.equity,
        None,
    )


def runner_decision(mirror: Mirror, manifest: dict[str, Any], metrics: dict[str, Any]) -> Batch:
    """Return the runner's own decision: that this run was made, from what, to what end."""
    run = mirror.run
    refs = ("start", "end", "dataset", "data_fingerprint", "config_hash", "code_hash", "seed")
    inputs = {"run_id": run.run_id, "sleeve_id": run.sleeve_id, "portfolio_id": run.portfolio_id}
    inputs |= {name: str(manifest[name]) for name in refs}
    row = (
        f"{run.run_id}:runner",
        "BACKTEST_SLEEVE_RUNNER",
        run.run_id,
        run.mode,
        run.strategy_id,
        run.market_id,
        manifest["end"],
        run.sleeve_id,
        inputs,
        {"metrics": metrics, "order_list_hash": manifest["order_list_hash"]},
        None,
    )
    return tables.engine_decisions, [row]


def artifact_rows(head: tuple[str, str, str], artifacts: Iterable[Artifact]) -> Batch:
    """Return the files of a run; `head` is its id, its mode and its strategy."""
    return tables.artifacts, [
        (*head, item.name, item.path, item.sha256, item.bytes, item.rows, item.kind)
        for item in artifacts
    ]


def _lineage(item: Published) -> dict[str, Any]:
    lineage = item.lineage()
    found: dict[str, Any] = {
        "engine": lineage.engine,
        "params_hash": lineage.params_hash,
        "input_hashes": list(lineage.input_hashes),
    }
    for made in item.inputs:
        if isinstance(made.record, BookTarget):
            found["construction"] = to_rows.construction(made.record)
    return found


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
        _said("trade_id", fill.trade_id),
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
        _said("decision_id", _decision_id(mirror, fill.order.decided_on)),
        run.sleeve_id,
        None if run.config_hash is None else _said("config_hash", run.config_hash),
    )


def _position_rows(mirror: Mirror) -> Sequence[Row]:
    run, snapshots = mirror.run, [held for held in _snapshots(mirror) if len(held.columns)]
    return Block.joined(_positions(run, mirror.ledger.instruments, held) for held in snapshots)


def _positions(run: RunContext, instruments: Sequence[str], held: Holdings) -> Block:
    values = held.values
    return Block.of(
        len(held.columns),
        run.portfolio_id,
        held.as_of,
        *run.head,
        [instruments[column] for column in held.columns.tolist()],
        instant(held.ts_ns),
        held.shares.tolist(),
        held.average_cost.tolist(),
        values.tolist(),
        (values - held.shares * held.average_cost).tolist(),
        held.unmarked_sessions.tolist(),
    )


# A day's trades share what is said of them; only the text of it is wanted, and only once.
@lru_cache(maxsize=256)
def _said(name: str, value: str | None) -> JsonText:
    return JsonText(json.dumps({name: value}, ensure_ascii=False))


def _decision_id(mirror: Mirror, decided_on: date | None) -> str | None:
    return None if decided_on is None else mirror.run.decision_id(decided_on)


# The rows of a session share few instants, and making one costs more than the rest of a row.
@lru_cache(maxsize=256)
def instant(ts_ns: int) -> datetime:
    """Return UNIX nanoseconds as an aware UTC time, to the microsecond."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest // 1000)
