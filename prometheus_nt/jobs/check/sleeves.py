"""Prove that no order or fill depends on the future: trade on two histories, compare every one.

A sleeve is wired as for a backtest and trades the sessions before a cut, once on the honest
history and once on one with another future. Orders decided at or before the close of the cut,
fills up to it and the books after every close have to be the same, to the share and micro-dollar.
"""

from collections.abc import Iterator
from datetime import date
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.check.futures import WALK, Cut
from prometheus_nt.jobs.check.report import Leak, LookaheadReport
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.wiring import BacktestNode, wire_backtest
from strategies.catalog import SleeveParams, family

SLEEVE_SESSIONS = 63
"""Sessions traded before each cut: at least one rebalance of every schedule."""

FUTURE = WALK
"""The one future in which a venue can open and close; see `futures.random_walk`."""


class _Order(NamedTuple):
    as_of: date
    instrument: str
    side: str
    quantity: int
    order_type: str
    limit_price: float | None
    stop_price: float | None


class _Fill(NamedTuple):
    as_of: date
    instrument: str
    side: str
    quantity: int
    price: float
    commission: float


class _Books(NamedTuple):
    as_of: date
    cash: float
    equity: float


def compare_sleeve(
    cut: Cut, config: NodeConfig, sleeve: SleeveParams, sessions: int, report: LookaheadReport
) -> None:
    """Trade `sessions` sessions up to the cut on both histories; compare what was done."""
    first = max(0, cut.row - sessions + 1)
    honest = _traded(config, sleeve, cut.honest, first, cut.row)
    changed = _traded(config, sleeve, cut.changed[FUTURE], first, cut.row)
    for part, ours in honest.items():
        report.count(part, len(ours))
        found = _first_difference(ours, changed[part])
        if found is not None:
            field, as_of = found
            report.add(Leak(part, field, as_of, cut.as_of, FUTURE))


def _traded(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, first: int, last: int
) -> dict[str, list[Any]]:
    identity = RunIdentity(
        strategy_id=family(sleeve).strategy_id,
        sleeve_id=sleeve.sleeve_id,
        mode=Mode.BACKTEST,
        code_hash="check",
        config_hash="check",
        data_fingerprint=panel.fingerprint,
        seed=config.seed,
    )
    node = wire_backtest(config, sleeve, panel, identity)
    try:
        node.mirror.attach(node.engine.kernel.msgbus)
        with calm_collector():
            node.feed.run(first, last)
        return {
            "orders": list(_orders(node)),
            "fills": list(_fills(node)),
            "books": [_Books(held.as_of, held.cash, held.equity) for held in node.mirror.holdings],
        }
    finally:
        node.close()


def _orders(node: BacktestNode) -> Iterator[_Order]:
    for order in node.mirror.orders.values():
        yield _Order(
            as_of=order.decided_on or _day(order.ts_ns),
            instrument=node.mirror.ledger.instruments[order.column],
            side=order.side,
            quantity=order.quantity,
            order_type=order.order_type,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )


def _fills(node: BacktestNode) -> Iterator[_Fill]:
    for fill in node.mirror.fills:
        yield _Fill(
            as_of=_day(fill.ts_ns),
            instrument=node.mirror.ledger.instruments[fill.order.column],
            side=fill.order.side,
            quantity=fill.quantity,
            price=fill.price,
            commission=fill.commission,
        )


def _day(ts_ns: int) -> date:
    day: date = np.datetime64(ts_ns, "ns").astype("datetime64[D]").astype(object)
    return day


def _first_difference(ours: list[Any], theirs: list[Any]) -> tuple[str, date] | None:
    """Return field and session of the first item that differs between two lists."""
    for one, other in zip_longest(ours, theirs):
        if one == other:
            continue
        if one is None or other is None:
            return "one more or one fewer", (one or other).as_of
        field = next(name for name in one._fields if getattr(one, name) != getattr(other, name))
        named = field if isinstance(one, _Books) else f"{one.instrument}.{field}"
        return named, min(one.as_of, other.as_of)
    return None
