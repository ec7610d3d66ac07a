"""The paper venue counts shares as traded: the same trades as the backtest's, in other shares."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.runs import Mode, TradingIdentity
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.jobs.wiring import PaperRecord, Recorded, wire_paper
from prometheus_nt.venue.carry import Delistings

pytestmark = pytest.mark.integration

LAST = 280
"""Before the first delisting, which a paper venue does not know of without a record."""


def open_ended(panel):
    count = len(panel.instruments)
    unrecorded = Delistings.unrecorded(count)
    return Delistings(unrecorded.on, unrecorded.returns, final=False)


BEGAN = datetime(2010, 1, 4, 22, tzinfo=UTC)


def paper_node(config, panel):
    sleeve = config.sleeves[0]
    identity = TradingIdentity(
        "US_CORE_LONG_EQ", sleeve.sleeve_id, Mode.PAPER, "c", "h", "d", 0, date(2010, 1, 4)
    )
    record = PaperRecord(BEGAN)
    node = wire_paper(config, sleeve, panel, identity, Recorded(open_ended(panel)), record)
    node.mirror.attach(node.engine.kernel.msgbus)
    node.feed.begin()
    return node


def drive(node, panel, rows):
    phases = []
    for row in rows:
        session = panel.sessions[row].item()
        node.feed.open_session(row)
        phases.append(node.mirror.phase(session, "OPEN"))
        node.feed.close_session(row)
        node.mirror.require_same_books()
        phases.append(node.mirror.phase(session, "CLOSE"))
    return phases


def row_of(panel, fill):
    day = np.datetime64(fill.ts_ns, "ns").astype("datetime64[D]")
    return int(np.searchsorted(panel.sessions, day))


def split_at(panel, row, column, ratio):
    """Return the market in which an instrument is split, and nothing else happens."""
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for name in ("open", "high", "low", "close", "dividend"):
        arrays[name][row:, column] /= ratio
    arrays["volume"][row:, column] *= ratio
    arrays["split"][row, column] *= ratio
    return MarketPanel(
        sessions=panel.sessions.copy(),
        instruments=panel.instruments,
        fingerprint=f"{panel.fingerprint}-{row}",
        **arrays,
    )


@pytest.fixture
def daily(configured):
    costs = {"quotes": {"half_spread_bps": 5.0, "impact_coefficient": 0.5}}
    sleeves = [{"horizon": 5, "capital_usd": 10_000_000, "rebalance": "daily"}]
    return configured(execution=costs, sleeves=sleeves)


def test_orders_that_wait_across_a_split_are_restated_and_fill_as_in_the_backtest(
    market, run, daily
):
    plain = run(daily, market, last=LAST)
    traded = {}
    for fill in plain.mirror.fills:
        traded.setdefault(row_of(market, fill), fill.order.column)
    first, second = (next(row for row in traded if row >= after) for after in (150, 230))
    market = split_at(market, first, traded[first], 2.0)
    market = split_at(market, second, traded[second], 3.0)
    backtest = run(daily, market, last=LAST)
    factor = ShareUnits.of(market).factor

    paper = paper_node(daily, market)
    drive(paper, market, range(LAST + 1))

    restated = [change for change in paper.mirror.changes if change.status == "RESTATED"]
    assert {change.order.column for change in restated} >= {traded[first], traded[second]}
    assert len(paper.mirror.fills) == len(backtest.mirror.fills) > 300
    for found, expected in zip(paper.mirror.fills, backtest.mirror.fills, strict=True):
        ratio = factor[row_of(market, found), found.order.column]
        assert (found.ts_ns, found.order.side) == (expected.ts_ns, expected.order.side)
        assert found.quantity * ratio == pytest.approx(expected.quantity, abs=ratio + 1)
        assert found.price / ratio == pytest.approx(expected.price, rel=1e-6)
        assert found.slippage == pytest.approx(expected.slippage, rel=0.02, abs=5.0)
    curves = [[held.equity for held in node.mirror.holdings] for node in (backtest, paper)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    kinds = [flow.kind for flow in paper.mirror.ledger.cash_flows]
    assert kinds.count(CashFlowKind.SPLIT) >= 1


def _rows(phase):
    return [(table.name, list(rows)) for table, rows in phase.batches]


def test_a_panel_that_grows_gives_every_phase_of_the_whole_panel(market, daily):
    whole = paper_node(daily, market)
    expected = drive(whole, market, range(180, 270))

    growing = paper_node(daily, market.until(market.sessions[180].item()))
    found = []
    for row in range(180, 270):
        panel = market.until(market.sessions[row].item())
        growing.extend(panel, open_ended(panel))
        found += drive(growing, panel, [row])

    assert [phase.events for phase in found] == [phase.events for phase in expected]
    assert [_rows(phase) for phase in found] == [_rows(phase) for phase in expected]


def test_an_execution_that_is_told_again_is_one_fill(market, daily):
    node = paper_node(daily, market)
    told = []
    node.engine.kernel.msgbus.subscribe("events.order.*", told.append)
    drive(node, market, range(180, 190))
    fills, shares = len(node.mirror.fills), node.mirror.ledger.shares.tolist()

    for event in told:
        if type(event).__name__ == "OrderFilled":
            node.mirror.on_order_event(event)

    assert fills > 0
    assert (len(node.mirror.fills), node.mirror.ledger.shares.tolist()) == (fills, shares)
    assert node.mirror.phase(market.sessions[190].item(), "OPEN").batches == ()
