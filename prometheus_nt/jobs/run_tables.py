"""The tables that a report is made of, from what a run's mirror collected."""

from datetime import date
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.mirror import Mirror
from persistence.rows import component_risk
from persistence.run_rows import instant
from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.domain.ledger import MICROS, CashFlowKind
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.report import OTHER_FLOWS, RISK, fraction_base, write_benchmark
from prometheus_nt.reporting.series import COST_KINDS


def write_run_tables(
    folder: RunFolder,
    mirror: Mirror,
    units: ShareUnits,
    benchmark: FloatArray | None,
    sectors: tuple[str | None, ...],
) -> None:
    """Write orders, fills, positions and the equity curve as Parquet.

    Parameters
    ----------
    benchmark : (T,) array of levels on the run's own sessions, or None
    sectors : per instrument of the mirror's ledger; empty if none is known
    """
    folder.write_table("orders.parquet", _orders(mirror))
    folder.write_table("fills.parquet", _fills(mirror, units))
    folder.write_table("positions.parquet", _positions(mirror, sectors))
    equity = _equity(mirror, benchmark)
    folder.write_table("equity.parquet", equity)
    write_benchmark(folder, equity["session"], equity["benchmark"])
    newest = mirror.latest(TargetPortfolio)
    if newest is not None:
        folder.write_json(RISK, _risk(newest.record, mirror))


def _risk(target: TargetPortfolio, mirror: Mirror) -> dict[str, Any]:
    weights = target.weights
    if target.report.basis == "held":
        books = next(held for held in reversed(mirror.holdings) if held.as_of == target.as_of)
        weights = np.zeros(len(target.instruments))
        weights[books.columns] = books.values / books.equity
    held = np.flatnonzero(weights).tolist()
    return {
        "as_of": target.as_of,
        "basis": target.report.basis,
        "volatility": target.report.volatility,
        "weights": {target.instruments[row]: float(weights[row]) for row in held},
        "component_risk": list(component_risk(target.report).items()),
        "tails": target.report.tails,
        "stress": target.report.stress,
    }


def _orders(mirror: Mirror) -> dict[str, Any]:
    orders = list(mirror.orders.values())
    return {
        "order_id": [order.order_id for order in orders],
        "timestamp": [instant(order.ts_ns) for order in orders],
        "decided_on": [order.decided_on for order in orders],
        "instrument_id": [mirror.ledger.instruments[order.column] for order in orders],
        "side": [order.side for order in orders],
        "order_type": [order.order_type for order in orders],
        "quantity": [order.quantity for order in orders],
        "filled_quantity": [order.filled for order in orders],
        "status": [order.status for order in orders],
    }


def _fills(mirror: Mirror, units: ShareUnits) -> dict[str, Any]:
    fills = mirror.fills
    sessions = [instant(fill.ts_ns).date() for fill in fills]
    return {
        "fill_id": [fill.fill_id for fill in fills],
        "order_id": [fill.order.order_id for fill in fills],
        "timestamp": [instant(fill.ts_ns) for fill in fills],
        "instrument_id": [mirror.ledger.instruments[fill.order.column] for fill in fills],
        "side": [fill.order.side for fill in fills],
        "quantity": [fill.quantity for fill in fills],
        "price": [fill.price for fill in fills],
        "commission_usd": [fill.commission for fill in fills],
        "spread_cost_usd": [fill.spread_cost for fill in fills],
        "impact_cost_usd": [fill.impact_cost for fill in fills],
        "decision_price": [fill.order.decision_price for fill in fills],
        "arrival_price": [fill.arrival_price for fill in fills],
        "split_factor": [
            float(units.factor_at(session)[fill.order.column])
            for fill, session in zip(fills, sessions, strict=True)
        ],
    }


def _positions(mirror: Mirror, sectors: tuple[str | None, ...]) -> dict[str, Any]:
    names = mirror.ledger.instruments
    rows = [
        (held.as_of, names[column], sectors[column] if sectors else None, shares, mark, held.equity)
        for held in mirror.holdings
        for column, shares, mark in zip(
            held.columns.tolist(), held.shares.tolist(), held.marks.tolist(), strict=True
        )
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    value = np.multiply(columns[3], columns[4]) if rows else np.empty(0)
    return {
        "session": np.array(columns[0], dtype="datetime64[D]"),
        "instrument_id": columns[1],
        "sector": columns[2],
        "quantity": columns[3],
        "market_value": value,
        "weight": value / fraction_base(np.array(columns[5], dtype=float)) if rows else value,
    }


def _equity(mirror: Mirror, benchmark: FloatArray | None) -> dict[str, Any]:
    holdings = mirror.holdings
    sessions = np.array([held.as_of for held in holdings], dtype="datetime64[D]")
    equity = np.array([held.equity for held in holdings])
    values, base = [held.values for held in holdings], fraction_base(equity)
    by_session = _by_session(mirror, sessions)
    unknown = np.full(len(sessions), np.nan)
    return {
        "session": sessions,
        "equity": equity,
        "cash": np.array([held.cash for held in holdings]),
        "gross": np.array([np.abs(value).sum() for value in values]) / base,
        "net": np.array([value.sum() for value in values]) / base,
        "turnover": np.maximum(by_session["bought"], by_session["sold"]) / base,
        "benchmark": unknown if benchmark is None else benchmark,
        "regime": _known_regimes(mirror),
        **{name: by_session[name] for name in (*COST_KINDS, "dividends", *OTHER_FLOWS)},
    }


def _known_regimes(mirror: Mirror) -> list[str | None]:
    """Return, per session, the label of the close before it; None where there was none."""
    labels = {item.record.as_of: item.record.label.value for item in mirror.regimes}
    before = [None, *(held.as_of for held in mirror.holdings[:-1])]
    return [labels.get(as_of) for as_of in before]


def _by_session(mirror: Mirror, sessions: np.ndarray) -> dict[str, FloatArray]:
    fills, flows = mirror.fills, mirror.ledger.cash_flows
    rows = _rows(sessions, [instant(fill.ts_ns).date() for fill in fills])
    flow_rows = _rows(sessions, [flow.session for flow in flows])

    def total(rows: np.ndarray, amounts: list[float]) -> FloatArray:
        summed = np.zeros(len(sessions))
        np.add.at(summed, rows, amounts)
        return summed

    value = [fill.quantity * fill.price for fill in fills]
    bought = [fill.order.side == "BUY" for fill in fills]
    received = np.array([flow.amount_micros / MICROS for flow in flows])
    kinds = np.array([flow.kind.value for flow in flows], dtype=object)

    def flowed(kind: CashFlowKind, sign: float = 1.0) -> FloatArray:
        return total(flow_rows, np.where(kinds == kind.value, sign * received, 0.0).tolist())

    interest = flowed(CashFlowKind.INTEREST)
    return {
        "bought": total(rows, np.where(bought, value, 0.0).tolist()),
        "sold": total(rows, np.where(bought, 0.0, value).tolist()),
        "commission": total(rows, [fill.commission for fill in fills]),
        "spread": total(rows, [fill.spread_cost for fill in fills]),
        "impact": total(rows, [fill.impact_cost for fill in fills]),
        "borrow_fees": flowed(CashFlowKind.BORROW_FEE, -1.0),
        # One flow a night, of either sign.
        "interest_paid": np.maximum(-interest, 0.0),
        "interest_received": np.maximum(interest, 0.0),
        "dividends": flowed(CashFlowKind.DIVIDEND),
        "delistings": flowed(CashFlowKind.DELISTING),
    }


def _rows(sessions: np.ndarray, days: list[date]) -> np.ndarray:
    return np.searchsorted(sessions, np.array(days, dtype="datetime64[D]"))
