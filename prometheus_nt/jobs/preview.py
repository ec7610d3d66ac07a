"""A dry run: what a paper node would send at the next open, and what a wind-down would; nothing is.

1. A rehearsal (`jobs.paper_rehearsal`) runs the sessions of a run's tape again on a copy of its
   files; without a run it begins one at the newest session. What a broker answered comes from the
   node's own records (`recorded_venue`).
2. `preview` lets it trade what the dataset has besides, and reads the orders that wait.
3. `flatten_preview` asks the same node's gate what of its positions could be closed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from threading import Event
from typing import Any

import numpy as np

from prometheus_nt.actors.session_clock import wall_clock
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import IntArray
from prometheus_nt.domain.runs import Mode
from prometheus_nt.domain.safety import SwitchState, TradingState
from prometheus_nt.jobs.paper_rehearsal import rehearsal, rehearse_stored
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.recorded_venue import venue_on_record
from prometheus_nt.jobs.safety import switch_state
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.venue.fees import commission, in_cents
from prometheus_nt.venue.quotes import ImpactModel
from prometheus_nt.yaml_models import validated
from strategies.catalog import SleeveParams
from strategies.planner import closing_plan

WAITS = "waits for the open"


@dataclass(frozen=True)
class PreviewRow:
    """One order: weights are fractions of equity at the last marks, money is USD.

    cost : estimated commission, half spread and impact; None if the instrument has no price.
    verdict : what the gate says, or that the order waits for the open.
    """

    instrument: str
    side: str
    shares: int
    weight_before: float
    weight_after: float
    notional: float | None
    cost: float | None
    verdict: str


@dataclass(frozen=True)
class OrderPreview:
    """The orders of one sleeve after the close of `as_of`.

    switch : how its kill switch stands; orders leave only while it is armed.
    refusal : why the newest plan was refused; None if it passed or there was none.
    """

    sleeve_id: str
    run_id: str
    as_of: date
    equity: float
    switch: SwitchState
    refusal: str | None
    rows: tuple[PreviewRow, ...]

    @property
    def turnover(self) -> float:
        """Notional of all orders as a fraction of equity, one way for each."""
        return sum(row.notional or 0.0 for row in self.rows) / self.equity


def preview(
    config: NodeConfig,
    stores: Stores,
    start: date | None = None,
    now: Callable[[], datetime] = wall_clock,
) -> list[OrderPreview]:
    """Return what each sleeve of a paper node would send at the next open; nothing is written."""
    found = []
    for sleeve in config.sleeves:
        venue = venue_on_record(config, stores, sleeve.sleeve_id)
        with rehearsal(config, sleeve, stores, start, venue) as trader:
            rehearse_stored(config, stores, trader, now)
            found.append(_preview_of(config, stores, trader))
    return found


def flatten_preview(stores: Stores, sleeve_id: str) -> OrderPreview:
    """Return the orders that would close what the newest run of a sleeve holds."""
    config, sleeve, run = newest_traded_run(stores, sleeve_id)
    venue = venue_on_record(config, stores, sleeve_id)
    with rehearsal(config, sleeve, stores, run["start_date"], venue) as trader:
        trader.trade(Event(), None)
        strategy, panel = trader.node.sleeve, trader.tape.panel()
        book = strategy.book(panel)
        # What still waits is cancelled before anything is closed.
        book = replace(
            book, working=np.zeros_like(book.working), pending=np.zeros_like(book.pending)
        )
        plan = closing_plan(book)
        facts = replace(strategy.facts(panel), state=TradingState.FLATTENING)
        verdict = strategy.parts.gate.verdict(plan, book, lambda: facts)
        change = np.zeros_like(book.shares)
        change[plan.rows] = plan.quantities
        rows = _rows(config, trader, change, lambda _: verdict)
        refusal = None if verdict == "passes" else verdict
        return _of(stores, trader, rows, refusal)


def newest_traded_run(
    stores: Stores, sleeve_id: str, mode: Mode | None = None
) -> tuple[NodeConfig, SleeveParams, dict[str, Any]]:
    """Return the newest run of a sleeve, paper or live, and the node and sleeve that it trades by.

    Raises
    ------
    ConfigError
        If it has none, or this version reads its settings differently.
    """
    modes = (Mode.PAPER, Mode.LIVE) if mode is None else (mode,)
    runs = [run for each in modes for run in stores.runtime.trading_runs(sleeve_id, each.value)]
    if not runs:
        raise ConfigError(f"{sleeve_id} has traded nothing; `prometheus show runs --mode PAPER`")
    run = max(runs, key=lambda run: run["created_at"])
    content = {**run["config_json"], "sleeves": [run["config_json"]["sleeve"]]}
    del content["sleeve"]
    config = validated(NodeConfig, content, f"run {run['run_id']}")
    if config.trading_hash(config.sleeves[0]) != run["config_hash"]:
        raise ConfigError(
            f"run {run['run_id']}: this version reads its settings differently than the one that "
            "began it; start it again from its own files"
        )
    return config, config.sleeves[0], run


def _preview_of(config: NodeConfig, stores: Stores, trader: PaperTrader) -> OrderPreview:
    waiting = waiting_shares(trader)
    proposed, refusal = trader.node.sleeve.proposed, None
    if proposed is not None and proposed.as_of == trader.last and proposed.verdict != "passes":
        refusal = proposed.verdict
    rows = _rows(config, trader, waiting, lambda _: WAITS)
    if refusal is not None and proposed is not None:
        planned = np.zeros_like(waiting)
        planned[proposed.plan.rows] = proposed.plan.quantities
        left = np.where(waiting == 0, planned, 0)
        rows += _rows(config, trader, left, lambda _: str(refusal))
    return _of(stores, trader, rows, refusal)


def waiting_shares(trader: PaperTrader) -> IntArray:
    """Return the signed shares of the orders that wait for an open, (N,)."""
    sleeve = trader.node.sleeve
    columns = {item.id: column for column, item in enumerate(sleeve.parts.instruments)}
    waiting: IntArray = np.zeros(len(columns), dtype=np.int64)
    for order in trader.node.feed.router.waiting():
        shares = int(order.quantity.as_decimal())
        waiting[columns[order.instrument_id]] += shares if order.is_buy else -shares
    return waiting


def _of(
    stores: Stores, trader: PaperTrader, rows: list[PreviewRow], refusal: str | None
) -> OrderPreview:
    return OrderPreview(
        sleeve_id=trader.sleeve.sleeve_id,
        run_id=trader.identity.run_id,
        as_of=trader.last or datetime.now(UTC).date(),
        equity=trader.node.sleeve.ledger.equity,
        switch=switch_state(stores, trader.sleeve.sleeve_id),
        refusal=refusal,
        rows=tuple(rows),
    )


def _rows(
    config: NodeConfig, trader: PaperTrader, change: IntArray, verdict: Callable[[int], str]
) -> list[PreviewRow]:
    columns, ledger = np.flatnonzero(change), trader.node.sleeve.ledger
    marks, equity = ledger.marks, ledger.equity
    costs = _costs(config, trader, columns, np.abs(change[columns]))
    rows = []
    for column, cost in zip(columns.tolist(), costs.tolist(), strict=True):
        held, shares, mark = int(ledger.shares[column]), int(change[column]), float(marks[column])
        rows.append(
            PreviewRow(
                instrument=ledger.instruments[column],
                side="BUY" if shares > 0 else "SELL",
                shares=abs(shares),
                weight_before=held * mark / equity if held else 0.0,
                weight_after=(held + shares) * mark / equity if held + shares else 0.0,
                notional=None if np.isnan(mark) else abs(shares) * mark,
                cost=None if np.isnan(cost) else cost,
                verdict=verdict(column),
            )
        )
    return rows


def _costs(
    config: NodeConfig, trader: PaperTrader, columns: IntArray, shares: IntArray
) -> "np.ndarray":
    """Return what orders are expected to cost at their marks, USD, (K,)."""
    quotes, fees = config.execution.quotes, config.execution.fees
    panel, marks = trader.tape.panel(), trader.node.sleeve.ledger.marks[columns]
    value = shares * marks
    impact = ImpactModel(panel, quotes).fraction(len(panel) - 1, columns, np.nan_to_num(value))
    paid = [
        in_cents(commission(float(count), float(worth), fees)) if np.isfinite(worth) else np.nan
        for count, worth in zip(shares, value, strict=True)
    ]
    costs: np.ndarray = value * (quotes.half_spread_bps / 1e4 + impact) + np.array(paid)
    return costs
