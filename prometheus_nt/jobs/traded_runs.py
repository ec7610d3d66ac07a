"""Stored runs as a divergence report reads them: on one axis, in one unit of shares.

Backtests count shares as they will be after every split the data know of, brokers count them as
they are today: everything is turned into the first (`domain.units`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from persistence import traded_rows
from persistence.artifacts import RunFolder
from persistence.traded_rows import TradedRow
from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, SessionArray, content_hash
from prometheus_nt.domain.runs import Mode
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.divergence_records import (
    DecisionRecord,
    FillRecord,
    FlowRecord,
    OrderRecord,
    TradedRun,
)

SIGNS = {"BUY": 1, "SELL": -1}

PRICE_STEP = 2e-6
"""USD: marks are rounded to micro-dollars, and once more in other share units."""


@dataclass(frozen=True, eq=False)
class StoredRows:
    """All rows of one run."""

    run: Mapping[str, Any]
    orders: list[TradedRow]
    fills: list[TradedRow]
    flows: list[TradedRow]
    equity: list[TradedRow]
    positions: list[TradedRow]
    targets: list[TradedRow]
    market_hashes: list[TradedRow]

    @property
    def instruments(self) -> set[str]:
        """Every instrument that the run ordered, was paid for or owned."""
        tables = (self.orders, self.fills, self.flows, self.positions)
        return {row["instrument_id"] for rows in tables for row in rows} - {""}

    @property
    def sessions(self) -> list[date]:
        return [row["session"] for row in self.equity]


def read_rows(stores: Stores, run: Mapping[str, Any]) -> StoredRows:
    """Return the rows of a run; a backtest's positions are those of its folder, which has all.

    Raises
    ------
    StoreError
        If the folder of a backtest is gone.
    """
    database, run_id = stores.runtime.database, run["run_id"]
    backtest = run["mode"] == Mode.BACKTEST
    return StoredRows(
        run=run,
        orders=traded_rows.order_rows(database, run_id),
        fills=traded_rows.fill_rows(database, run_id),
        flows=traded_rows.cash_flow_rows(database, run_id),
        equity=traded_rows.equity_rows_of(database, run_id),
        positions=_folder_positions(stores, run_id)
        if backtest
        else traded_rows.position_rows(database, run_id),
        targets=traded_rows.target_rows(database, run_id),
        market_hashes=traded_rows.market_hash_rows(database, run_id),
    )


def _folder_positions(stores: Stores, run_id: str) -> list[TradedRow]:
    table = RunFolder(stores.settings.runs_dir, run_id).read_table("positions.parquet")
    columns = (
        table["session"].astype("datetime64[D]").astype(object).tolist(),
        table["instrument_id"].tolist(),
        table["quantity"].tolist(),
        table["market_value"].tolist(),
    )
    names = ("session", "instrument_id", "quantity", "market_value")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class CommonUnits:
    """The factors from a run's shares to those of backtests, and the closes in them.

    Parameters
    ----------
    panel : MarketPanel
        The recorded market of both runs.
    sessions : (T,) array
    instruments : tuple of N ids; one that the panel does not have counts as never split
    """

    def __init__(
        self, panel: MarketPanel, sessions: SessionArray, instruments: tuple[str, ...]
    ) -> None:
        self.sessions, self.instruments = sessions, instruments
        self._columns = {name: column for column, name in enumerate(instruments)}
        known = {name: column for column, name in enumerate(panel.instruments)}
        at = np.array([known.get(name, -1) for name in instruments], dtype=np.int64)
        inside, rows = at >= 0, np.searchsorted(panel.sessions, sessions, side="right") - 1
        factor = ShareUnits.of(panel).factor
        size = (len(sessions), len(instruments))
        self._factor: FloatArray = np.ones(size)
        self._factor[:, inside] = factor[rows][:, at[inside]]
        self.closes: FloatArray = np.full(size, np.nan)
        self.closes[:, inside] = _last_known(panel.close / factor)[rows][:, at[inside]]

    def factor(self, run: Mapping[str, Any], session: date, instrument_id: str) -> float:
        """Return how many common shares one share of this run is in a session."""
        if run["mode"] == Mode.BACKTEST or instrument_id not in self._columns:
            return 1.0
        row = int(np.searchsorted(self.sessions, np.datetime64(session, "D")))
        row = min(row, len(self.sessions) - 1)
        return float(self._factor[row, self._columns[instrument_id]])

    def column(self, instrument_id: str) -> int:
        return self._columns[instrument_id]


def _last_known(closes: FloatArray) -> FloatArray:
    """Return the newest close at every session, (T, N); NaN before the first."""
    newest = np.where(np.isnan(closes), 0, np.arange(len(closes))[:, None])
    newest = np.maximum.accumulate(newest, axis=0)
    found: FloatArray = np.take_along_axis(closes, newest, axis=0)
    return found


def traded_run(rows: StoredRows, units: CommonUnits) -> TradedRun:
    """Return a run on the sessions and in the units of a comparison.

    What happened after the last session is left out.
    """
    last = units.sessions[-1].astype(object)
    curve = [row for row in rows.equity if row["session"] <= last]
    equity = np.array([row["equity"] for row in curve])
    cash = np.array([row["cash"] for row in curve])
    shares, marks = _positions(rows, units, np.abs(equity - cash) < 0.005)
    return TradedRun(
        run_id=rows.run["run_id"],
        capital=float(rows.run["config_json"]["sleeve"]["capital_usd"]),
        orders=_orders(rows, units),
        fills=_fills(rows, units),
        flows=_flows(rows, units),
        decisions=_decisions(rows),
        equity=equity,
        cash=cash,
        marks=marks,
        shares=shares,
    )


def reference_marks(stored: FloatArray, other: FloatArray, closes: FloatArray) -> FloatArray:
    """Return a backtest's marks, (T, N): as stored, else the closes, as `other` rounded them."""
    same = np.abs(other - closes) <= PRICE_STEP
    known = np.where(same, other, closes)
    return np.where(np.isnan(stored), known, stored)


def _orders(rows: StoredRows, units: CommonUnits) -> list[OrderRecord]:
    found = []
    for row in rows.orders:
        # A split restates an order that waits: its row counts as the session that touched it last.
        factor = units.factor(rows.run, row["updated_at"].date(), row["instrument_id"])
        found.append(
            OrderRecord(
                order_id=row["order_id"],
                session=row["decided_on"] or row["timestamp"].date(),
                planned=row["decided_on"] is not None,
                instrument_id=row["instrument_id"],
                side=SIGNS[row["side"]],
                quantity=row["quantity"] * factor,
            )
        )
    return found


def _fills(rows: StoredRows, units: CommonUnits) -> list[FillRecord]:
    found = []
    for row in rows.fills:
        session = row["timestamp"].date()
        factor = units.factor(rows.run, session, row["instrument_id"])
        found.append(
            FillRecord(
                order_id=row["order_id"],
                session=session,
                instrument_id=row["instrument_id"],
                side=SIGNS[row["side"]],
                quantity=row["quantity"] * factor,
                price=row["price"] / factor,
                commission=row["commission"],
            )
        )
    return found


def _flows(rows: StoredRows, units: CommonUnits) -> list[FlowRecord]:
    traded = _traded_shares(rows)
    found = []
    for row in rows.flows:
        kind, name, session = CashFlowKind(row["kind"]), row["instrument_id"], row["session"]
        factor = units.factor(rows.run, session, name)
        moved = 0.0
        if kind is CashFlowKind.DELISTING:
            moved = -row["quantity"] * factor
        elif kind is CashFlowKind.SPLIT:
            moved = _lost_in_split(rows, units, row, _held_before(traded[name], session))
        found.append(
            FlowRecord(
                session=session,
                kind=kind,
                instrument_id=name or None,
                shares=row["quantity"] * factor,
                moved=moved,
                amount=row["amount"],
            )
        )
    return found


def _traded_shares(rows: StoredRows) -> dict[str, list[tuple[date, float]]]:
    """Return what every instrument's position moved by, in shares of the day."""
    found: dict[str, list[tuple[date, float]]] = defaultdict(list)
    for row in rows.fills:
        signed = SIGNS[row["side"]] * row["quantity"]
        found[row["instrument_id"]].append((row["timestamp"].date(), signed))
    sign = {CashFlowKind.SPLIT: 1.0, CashFlowKind.DELISTING: -1.0}
    for row in rows.flows:
        moved = sign.get(CashFlowKind(row["kind"]), 0.0) * row["quantity"]
        found[row["instrument_id"]].append((row["session"], moved))
    return found


def _held_before(moves: Sequence[tuple[date, float]], session: date) -> float:
    return sum(moved for day, moved in moves if day < session)


def _lost_in_split(rows: StoredRows, units: CommonUnits, row: TradedRow, before: float) -> float:
    """Return by how many common shares a split moved a holding: the fraction paid in cash."""
    earlier = int(np.searchsorted(units.sessions, np.datetime64(row["session"], "D"))) - 1
    if earlier < 0:
        return 0.0
    name, session = row["instrument_id"], row["session"]
    day_before = units.sessions[earlier].astype(object)
    after = (before + row["quantity"]) * units.factor(rows.run, session, name)
    return float(after - before * units.factor(rows.run, day_before, name))


def _decisions(rows: StoredRows) -> dict[date, DecisionRecord]:
    said: dict[date, list[tuple[str, str]]] = defaultdict(list)
    for row in rows.market_hashes:
        said[row["session"]].append((row["engine_name"], row["output_refs"]["record_hash"]))
    return {
        row["session"]: DecisionRecord(
            weights=row["target_positions"]["weights"],
            market_hash=content_hash(said[row["session"]]) if row["session"] in said else None,
            inputs_hash=content_hash((row["made"] or {}).get("input_hashes", [])),
        )
        for row in rows.targets
    }


def _positions(
    rows: StoredRows, units: CommonUnits, flat: np.ndarray
) -> tuple[FloatArray, FloatArray]:
    """Return shares and marks as stored, (T, N); NaN in sessions without stored positions."""
    size = (len(units.sessions), len(units.instruments))
    shares: FloatArray = np.full(size, np.nan)
    marks: FloatArray = np.full(size, np.nan)
    shares[flat] = 0.0
    days = {day: row for row, day in enumerate(units.sessions.astype(object).tolist())}
    inside = [row for row in rows.positions if row["session"] in days and row["quantity"]]
    shares[sorted({days[row["session"]] for row in inside})] = 0.0
    for row in inside:
        factor = units.factor(rows.run, row["session"], row["instrument_id"])
        at = days[row["session"]], units.column(row["instrument_id"])
        shares[at] = row["quantity"] * factor
        marks[at] = row["market_value"] / (row["quantity"] * factor)
    return shares, marks
