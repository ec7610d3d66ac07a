"""A long and a short, ten sessions, every micro-dollar of what they cost computed by hand.

The target is 100 % A and -60 % B of equity, decided once, at the close of session 0; half a spread
is 10 bps; the broker takes half a cent a share. Lent shares cost 3.6 % a year of 360 days, 1 bp a
night, and borrowed cash 7.2 %, 2 bps a night; free cash earns nothing.

- Close of session 0, a Thursday: equity 100,000; A closes at 50.00, B at 20.00.
  Whole shares: A 100,000 / 50 = 2,000; B -60,000 / 20 = -3,000.
- Open of session 1: A at 50.50 costs 50.50 * 1.001 = 50.5505, B at 19.90 brings 19.8801.
  A: 2,000 * 50.5505 = 101,101.00, fee 10.00; B: 3,000 * 19.8801 = 59,640.30, fee 15.00
  Cash: 100,000 - 101,101.00 - 10.00 + 59,640.30 - 15.00 = 58,514.30
- Open of session 2, a Monday, three nights after B closed at 20.10: 60,300.00 of shares are lent.
  Fee 60,300.00 * 3 bps = 18.09. Free cash 58,514.30 - 60,300.00 = -1,785.70, so interest on that:
  1,785.70 * 6 bps = 1.071420. Cash: 58,495.138580
- Session 3: B closed at 21.00: fee 6.30, free cash -4,504.861420, interest 0.900972.
  A pays 0.25 a share to holders: 2,000 * 0.25 = 500.00. Cash 58,987.937608
- Session 4: B closed at 22.00: fee 6.60, free cash -7,012.062392, interest 1.402412.
  Who is short of B pays its dividend of 0.10: 3,000 * 0.10 = 300.00. Cash 58,679.935196
- Session 5: B closed at 23.00: fee 6.90, free cash -10,320.064804, interest 2.064013.
- Session 6: B closed at 24.00: fee 7.20, free cash -13,329.028817, interest 2.665806.
  B splits 2 for 1: 6,000 shares are owed at half the price. Cash 58,661.105377
- Session 7, a Monday: B closed at 12.50, 75,000.00: fee 22.50, free cash -16,338.894623, interest
  9.803337. Cash 58,628.802040
- Session 8: B closed at 12.00: fee 7.20, free cash -13,371.197960, interest 2.674240.
- Session 9: B closed at 12.50: fee 7.50, free cash -16,381.072200, interest 3.276214.
- Close of session 9: A 53.00, B 12.00: 58,608.151586 + 106,000.00 - 72,000.00 = 92,608.151586
"""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa

from persistence.artifacts import RunFolder
from persistence.run_rows import equity_rows, run_rows
from persistence.runtime import RuntimeStore
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.run_tables import write_run_tables
from prometheus_nt.reporting.metrics import compute_metrics
from prometheus_nt.reporting.tearsheet import render_tearsheet
from strategies.catalog import CATALOG

pytestmark = pytest.mark.integration

CLOSE_A = [50.0, 50.8, 51.0, 51.2, 51.0, 51.5, 52.0, 52.4, 52.8, 53.0]
CLOSE_B = [20.0, 20.1, 21.0, 22.0, 23.0, 24.0, 12.5, 12.0, 12.5, 12.0]
OPEN_A = [49.9, 50.5, 50.9, 51.1, 50.9, 51.2, 51.8, 52.1, 52.5, 52.9]
OPEN_B = [20.1, 19.9, 20.2, 21.5, 22.5, 23.5, 12.1, 12.4, 12.1, 12.4]
CASH = [
    100_000_000_000,
    58_514_300_000,
    58_495_138_580,
    58_987_937_608,
    58_679_935_196,
    58_670_971_183,
    58_661_105_377,
    58_628_802_040,
    58_618_927_800,
    58_608_151_586,
]
FEES = [18.09, 6.30, 6.60, 6.90, 7.20, 22.50, 7.20, 7.50]
INTEREST = [1.071420, 0.900972, 1.402412, 2.064013, 2.665806, 9.803337, 2.674240, 3.276214]

SHORTS = {
    "gate": {"long_only": False, "max_position_weight": 1.0, "max_gross": 2.0},
    "engines": {"risk": {"long_only": False, "max_abs_weight_per_name": 1.0, "max_gross": 2.0}},
}


@pytest.fixture
def ten_sessions():
    close, open_ = np.column_stack([CLOSE_A, CLOSE_B]), np.column_stack([OPEN_A, OPEN_B])
    split, dividend = np.ones((10, 2)), np.zeros((10, 2))
    dividend[3, 0], dividend[4, 1], split[6, 1] = 0.25, 0.10, 2.0
    return MarketPanel(
        sessions=MarketCalendar.of("US_EQ").between(date(2012, 3, 1), date(2012, 3, 14)),
        instruments=("A.US", "B.US"),
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=np.full((10, 2), 1e6),
        split=split,
        dividend=dividend,
        fingerprint="by hand",
    )


@pytest.fixture
def node_of(run, configured, fixed_book):
    """Return a function that runs a signed book over a market."""

    def node_of(market, weights, *, capital=1_000_000, rebalance=None, **execution):
        config = configured(
            sessions={"start": market.sessions[0].astype(object)},
            sleeves=[{"horizon": 63, "capital_usd": capital, "rebalance": rebalance}],
            execution={"planner": {"max_gross": 2.0}} | execution,
            **SHORTS,
        )
        with fixed_book(weights):
            return run(config, market)

    return node_of


@pytest.fixture
def by_hand(ten_sessions, node_of):
    """Return a function that runs the book of this module's docstring."""

    def by_hand(replay="sparse", financing=None):
        rates = {"borrow_fee_annual": 0.036, "debit_rate_annual": 0.072}
        return node_of(
            ten_sessions,
            {"A.US": 1.0, "B.US": -0.6},
            capital=100_000,
            replay=replay,
            quotes={"half_spread_bps": 10.0},
            planner={"max_gross": 2.0, "no_trade_band": 0.05, "cash_buffer": 0.0},
            financing=rates if financing is None else financing,
        )

    return by_hand


@pytest.mark.parametrize("replay", ["sparse", "full"])
def test_ten_sessions_agree_with_the_hand_computed_books(by_hand, replay):
    node = by_hand(replay)

    fills = [
        (fill.order.side, fill.quantity, fill.price, fill.commission) for fill in node.mirror.fills
    ]
    assert fills == [("SELL", 6000, 9.94005, 15.0), ("BUY", 2000, 50.5505, 10.0)]
    holdings = node.mirror.holdings
    assert [round(held.cash * 1e6) for held in holdings] == CASH
    assert round(holdings[9].equity, 6) == 92_608.151586
    assert node.mirror.ledger.cash_micros == node.sleeve.ledger.cash_micros == CASH[9]
    state = node.sleeve.ledger.state(date(2012, 3, 14), "BOOK")
    assert (state.borrow_fees, state.interest, state.dividends) == (82.29, -23.858414, 200.00)
    lowest = 58_628.802040 + 2_000 * 52.4 - 6_000 * 12.0
    peak = max(held.equity for held in holdings)
    assert holdings[7].drawdown == pytest.approx(lowest / max(peak, 100_000.0) - 1.0, rel=1e-9)


def test_what_financing_cost_is_written_to_the_database_night_by_night(by_hand, sqlite_database):
    node = by_hand()
    store = RuntimeStore(sqlite_database)

    store.write(run_rows(node.mirror))
    store.write([equity_rows(node.mirror)])

    flows, equity = tables.cash_flows, tables.backtest_daily_equity
    with sqlite_database.reader() as connection:
        found = connection.execute(
            sa.select(flows.c.session, flows.c.kind, flows.c.instrument_id, flows.c.amount)
            .where(flows.c.kind != "DIVIDEND")
            .order_by(flows.c.kind, flows.c.session)
        ).all()
        exposure = connection.execute(
            sa.select(equity.c.gross_exposure, equity.c.net_exposure).order_by(equity.c.date)
        ).all()
    sessions = [held.as_of for held in node.mirror.holdings][2:]
    fees = [(day, "BORROW_FEE", "B.US", -fee) for day, fee in zip(sessions, FEES, strict=True)]
    interest = [(day, "INTEREST", "", -paid) for day, paid in zip(sessions, INTEREST, strict=True)]
    assert [tuple(row) for row in found] == fees + interest
    assert exposure[0] == (0.0, 0.0)
    assert exposure[9] == pytest.approx((178_000 / 92_608.151586, 34_000 / 92_608.151586))


def test_the_report_shows_fees_and_interest_as_costs_of_their_own(by_hand, tmp_path):
    node = by_hand()
    folder = RunFolder(tmp_path, "RUN")
    write_run_tables(folder, node.mirror, node.feed.units, None, ())
    names = ("run_id", "strategy_id", "sleeve_id")
    facts = {"mode": "BACKTEST", "starting_capital": 1e5, "benchmark": None}
    folder.write_json("manifest.json", dict.fromkeys(names, "RUN") | facts)

    series = load_run_series(folder)

    metrics = compute_metrics(series)
    assert metrics["cost_borrow_usd"] == pytest.approx(82.29)
    assert metrics["cost_interest_usd"] == pytest.approx(23.858414)
    assert metrics["interest_received_usd"] == 0.0
    assert metrics["dividends_usd"] == pytest.approx(200.00)
    assert metrics["cost_commission_usd"] == pytest.approx(25.00)
    spread = 0.001 * (2_000 * 50.50 + 3_000 * 19.90)
    assert metrics["cost_spread_usd"] == pytest.approx(spread)
    assert metrics["cost_total_usd"] == pytest.approx(25.00 + spread + 82.29 + 23.858414)
    long, short = 106_000 / 92_608.151586, -72_000 / 92_608.151586
    assert (series.gross[9], series.net[9]) == pytest.approx((long - short, long + short))
    page = render_tearsheet(series, metrics, {}, [])
    assert "Borrow fees" in page and "Interest paid" in page


def test_without_rates_the_same_book_pays_for_its_trades_alone(by_hand):
    node = by_hand(financing={"borrow_fee_annual": 0.0, "debit_rate_annual": 0.0})

    assert {flow.kind for flow in node.sleeve.ledger.cash_flows} == {CashFlowKind.DIVIDEND}
    assert round(node.mirror.holdings[9].cash, 2) == 58_514.30 + 500.00 - 300.00


def test_a_long_book_without_a_loan_is_the_same_with_and_without_financing(market, node_of, fills):
    free = {"borrow_fee_annual": 0.0, "debit_rate_annual": 0.0}
    weights = {"N00.US": 0.4, "N03.US": 0.4}

    charged = node_of(market, weights, rebalance="weekly")
    uncharged = node_of(market, weights, rebalance="weekly", financing=free)

    assert fills(charged) == fills(uncharged)
    assert charged.sleeve.ledger.cash_flows == uncharged.sleeve.ledger.cash_flows
    ours, theirs = ([held.equity for held in node.mirror.holdings] for node in (charged, uncharged))
    assert ours == theirs


def test_a_long_book_pays_for_a_loan_that_a_missed_sale_made_it_take(market, run, configured):
    node = run(configured(), market)

    # A halted name misses its open while what it should have paid for is bought.
    overdrawn = [row for row, held in enumerate(node.mirror.holdings) if held.cash < 0.0]
    flows = [flow for flow in node.sleeve.ledger.cash_flows if flow.kind == "INTEREST"]
    days = [held.as_of for held in node.mirror.holdings]
    assert overdrawn
    assert [flow.session for flow in flows] == [days[row + 1] for row in overdrawn]
    assert all(flow.amount_micros < 0 for flow in flows)


def test_cash_earns_nothing_for_nights_before_the_first_session(ten_sessions, run, configured):
    credit = {"financing": {"credit_rate_annual": 0.036}}

    node = run(configured(execution=credit), ten_sessions, first=1)

    # 1 bp a night of a million, first over a weekend, then over one night with what that earned.
    flows = [(flow.session, flow.amount_micros) for flow in node.sleeve.ledger.cash_flows[:2]]
    days = ten_sessions.sessions.astype(object)
    assert flows == [(days[2], 300_000_000), (days[3], 100_030_000)]
    assert node.mirror.holdings[0].cash == 1_000_000.0


def test_sparse_replay_is_full_replay_for_a_signed_book(market, node_of, fills):
    weights = {name: (0.20, -0.12)[row % 2] for row, name in enumerate(market.instruments)}

    sparse = node_of(market, weights, rebalance="weekly", replay="sparse")
    full = node_of(market, weights, rebalance="weekly", replay="full")

    assert len(fills(sparse)) > 200
    assert fills(sparse) == fills(full)
    assert sparse.sleeve.ledger.cash_flows == full.sleeve.ledger.cash_flows
    assert sparse.sleeve.ledger.cash_micros == full.sleeve.ledger.cash_micros
    kinds = {flow.kind for flow in sparse.sleeve.ledger.cash_flows}
    # Shares are counted as of the last session, so that no split moves any.
    assert kinds == set(CashFlowKind) - {CashFlowKind.SPLIT}


def test_nothing_denies_a_hundred_long_and_a_hundred_short(market, node_of):
    weights = {name: (0.16, -0.16)[row % 2] for row, name in enumerate(market.instruments)}

    node = node_of(market, weights, rebalance="weekly")

    assert {trace.status for trace in node.mirror.orders.values()} == {"FILLED"}
    assert node.mirror.refusals == []
    value = node.mirror.holdings[-1].values / node.mirror.holdings[-1].equity
    assert np.abs(value).sum() > 1.5


def test_a_book_of_50_long_and_50_short_survives_250_sessions(market, node_of, tmp_path):
    halves = {"N00.US": 0.25, "N01.US": -0.25, "N02.US": 0.25, "N03.US": -0.25}

    node = node_of(market, halves, rebalance="daily")

    exposure = np.array(
        [(np.abs(held.values).sum(), held.values.sum()) for held in node.mirror.holdings]
    ) / np.array([[held.equity] for held in node.mirror.holdings])
    assert len(exposure) > 250
    assert np.isfinite(exposure).all()
    assert exposure[:, 0].max() < 1.1
    assert np.abs(exposure[:, 1]).max() < 0.1
    # Free cash is what the longs leave of equity, so such a book borrows shares and no money.
    kinds = {flow.kind for flow in node.sleeve.ledger.cash_flows}
    assert kinds == {CashFlowKind.BORROW_FEE, CashFlowKind.DIVIDEND}


def test_a_familys_limits_reach_its_planner_and_its_gate(
    market, run, configured, fixed_book, monkeypatch
):
    signed = replace(
        CATALOG["US_CORE_LONG_EQ"],
        planner_overrides={"max_gross": 1.2},
        gate_overrides=SHORTS["gate"] | {"max_net": 0.5},
    )
    monkeypatch.setitem(CATALOG, "US_CORE_LONG_EQ", signed)
    config = configured(sleeves=[{"horizon": 63}], engines=SHORTS["engines"])

    with fixed_book({"N00.US": 0.8, "N02.US": -0.8}):
        neutral = run(config, market, 5)
    with fixed_book({"N00.US": 0.8, "N02.US": 0.0}):
        long = run(config, market, 5)

    orders = neutral.mirror.orders.values()
    ordered = [trace.quantity * trace.decision_price for trace in orders]
    # 1.2 of a million less the buffer of one per cent, in halves.
    assert ordered == pytest.approx([595_000, 595_000], abs=500)
    assert {item.record.limit for item in long.mirror.refusals} == {"max_net"}
    assert long.mirror.fills == []


def test_a_short_that_is_delisted_is_bought_back_at_its_last_price(market, node_of):
    node = node_of(market, {"N00.US": 0.2, "N06.US": -0.2}, rebalance="daily")

    (closed,) = (flow for flow in node.sleeve.ledger.cash_flows if flow.kind == "DELISTING")
    last = market.close[:300, 6][np.isfinite(market.close[:300, 6])][-1]
    assert (closed.instrument_id, closed.session) == ("N06.US", market.sessions[300].astype(object))
    assert closed.amount_micros == closed.shares * round(float(last) * 1e6) < 0
    fees = [flow for flow in node.sleeve.ledger.cash_flows if flow.kind == "BORROW_FEE"]
    assert fees[-1].session == closed.session, "the last night is charged too"
    assert node.sleeve.ledger.shares[6] == 0
