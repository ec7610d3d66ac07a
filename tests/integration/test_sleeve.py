"""What a sleeve does after its first plan: try again, go on, and never order twice."""

from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.books import RiskActionType
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import BAR_FIELDS, MarketPanel

pytestmark = pytest.mark.integration

FREE = {"quotes": {"half_spread_bps": 0.0}, "fees": {"per_share_usd": 0.0, "minimum_usd": 0.0}}
QUARTERLY = {"horizon": 63, "capital_usd": 100_000}
WARM = 21
"""Sessions after which the usual value of a stock is known."""


@pytest.fixture
def quiet_market():
    """Return a function that makes 36 sessions of one quarter: A at 10.00, B at 5.00."""

    def quiet_market(**changes) -> MarketPanel:
        sessions = MarketCalendar.of("US_EQ").between(date(2012, 4, 2), date(2012, 6, 29))[:36]
        prices = np.tile([10.0, 5.0], (36, 1))
        bars = {name: prices.copy() for name in BAR_FIELDS}
        bars["volume"] = np.tile([1e5, 1e8], (36, 1))
        for name, rows in changes.items():
            for row, value in rows.items():
                bars[name][row, 0] = value
        return MarketPanel(
            sessions=sessions,
            instruments=("A.US", "B.US"),
            split=np.ones((36, 2)),
            dividend=np.zeros((36, 2)),
            fingerprint="quiet",
            **bars,
        )

    return quiet_market


@pytest.fixture
def node_of(configured):
    """Return a node without trading costs that lets a stock be half of the book."""

    def node_of(*, gate=None, planner=None, **sleeve):
        return configured(
            sessions={"start": date(2012, 4, 2)},
            sleeves=[QUARTERLY | sleeve],
            gate={"max_position_weight": 0.5} | (gate or {}),
            engines={"risk": {"max_abs_weight_per_name": 0.5}},
            execution=FREE | {"planner": planner or {}},
        )

    return node_of


def _orders(node):
    return [
        (trace.decided_on, trace.column, trace.side, trace.quantity, trace.status)
        for trace in node.mirror.orders.values()
    ]


def _fills(node):
    return [
        (np.datetime64(fill.ts_ns, "ns").astype("M8[D]"), fill.order.column, fill.quantity)
        for fill in node.mirror.fills
    ]


def _refusals(node):
    records = [item.record for item in node.mirror.refusals]
    return [
        (record.as_of, record.limit, record.detail.partition(":")[0], record.orders)
        for record in records
    ]


def _decisions(node):
    return [
        (item.record.as_of, item.record.orders, item.record.held, item.record.deferred)
        for item in node.mirror.decisions
    ]


def test_a_refused_plan_is_tried_again_at_every_close(quiet_market, run, node_of, fixed_book):
    market = quiet_market()
    days = market.sessions.astype(object).tolist()

    with fixed_book({"A.US": 0.4, "B.US": 0.01}):
        node = run(node_of(gate={"max_order_notional_usd": 1_000.0}), market, 9)

    # B's 200 shares are worth 1 000 dollars and would pass alone: a plan is sent whole or not.
    refused = ("max_order_notional_usd", "A.US", 2)
    assert _refusals(node) == [(day, *refused) for day in days[:10]]
    for item in node.mirror.refusals:
        assert item.record.book_id == "US_CORE_LONG_EQ_H63_PORTFOLIO"
        assert item.record.action_type is RiskActionType.EXECUTION_REJECT
    assert (_orders(node), _decisions(node)) == ([], [])
    assert node.sleeve.ledger.cash == 100_000.0


def test_a_refused_plan_is_sent_whole_at_the_first_close_that_allows_it(
    quiet_market, run, node_of, fixed_book
):
    # At 10.00 A's order is worth 40 000; from session 3 on at 30.00 it is 1 333 shares or 39 990.
    later = dict.fromkeys(range(3, 36), 30.0)
    market = quiet_market(**dict.fromkeys(("open", "high", "low", "close"), later))
    days = market.sessions.astype(object).tolist()

    with fixed_book({"A.US": 0.4, "B.US": 0.01}):
        node = run(node_of(gate={"max_order_notional_usd": 39_995.0}), market)

    refused = ("max_order_notional_usd", "A.US", 2)
    assert _refusals(node) == [(day, *refused) for day in days[:3]]
    assert _orders(node) == [
        (days[3], 0, "BUY", 1_333, "FILLED"),
        (days[3], 1, "BUY", 200, "FILLED"),
    ]
    assert {day for day, _, _ in _fills(node)} == {market.sessions[4]}
    assert _decisions(node) == [(days[3], 2, (), ())]


def test_a_refused_plan_is_given_up_when_the_next_target_is_due(
    quiet_market, run, node_of, fixed_book
):
    market = quiet_market()
    config = node_of(gate={"max_order_notional_usd": 1_000.0}, rebalance="daily")

    with fixed_book({"A.US": 0.4}):
        node = run(config, market, 4)

    # Every close has a target of its own, refused once: not once more for the one before.
    refused = ("max_order_notional_usd", "A.US", 1)
    assert _refusals(node) == [(day, *refused) for day in market.sessions[:5].astype(object)]


def test_what_the_market_could_not_absorb_is_finished_session_by_session(
    quiet_market, run, node_of, fixed_book
):
    market = quiet_market()
    days = market.sessions.astype(object).tolist()

    with fixed_book({"A.US": 0.4, "B.US": 0.2}):
        node = run(node_of(planner={"max_participation": 0.01}), market, first=WARM)

    # A usually trades a million dollars, so 1 000 of the 4 000 shares wanted are a session's share.
    slices = [(days[WARM + number], 0, "BUY", 1_000, "FILLED") for number in range(4)]
    assert _orders(node) == [slices[0], (days[WARM], 1, "BUY", 4_000, "FILLED"), *slices[1:]]
    assert _decisions(node) == [
        (days[WARM], 2, (), ("A.US",)),
        (days[WARM + 1], 1, (), ("A.US",)),
        (days[WARM + 2], 1, (), ("A.US",)),
        (days[WARM + 3], 1, (), ()),
    ]
    assert node.sleeve.ledger.shares.tolist() == [4_000, 4_000]
    assert node.sleeve.ledger.cash == 40_000.0


def test_a_slice_that_is_refused_is_tried_again_and_finished_names_are_left_alone(
    quiet_market, run, node_of, fixed_book
):
    # Unusual volume makes a slice of 1 040 shares, too large an order, until a quiet session.
    market = quiet_market(volume={WARM + 1: 184_000.0, WARM + 4: 16_000.0})
    days = market.sessions.astype(object).tolist()
    config = node_of(gate={"max_order_notional_usd": 10_200.0}, planner={"max_participation": 0.01})

    with fixed_book({"A.US": 0.4, "B.US": 0.1}):
        node = run(config, market, first=WARM)

    refused = ("max_order_notional_usd", "A.US", 1)
    assert _refusals(node) == [(days[WARM + number], *refused) for number in (1, 2, 3)]
    assert _orders(node) == [
        (days[WARM], 0, "BUY", 1_000, "FILLED"),
        (days[WARM], 1, "BUY", 2_000, "FILLED"),
        *((days[WARM + number], 0, "BUY", 1_000, "FILLED") for number in (4, 5, 6)),
    ]


@pytest.mark.parametrize("fields", [("open",), BAR_FIELDS], ids=["no open", "no bar"])
@pytest.mark.parametrize("rebalance", ["daily", "quarterly"])
def test_an_order_that_misses_an_open_is_carried_and_not_ordered_twice(
    quiet_market, run, node_of, fixed_book, fields, rebalance
):
    market = quiet_market(**{name: {1: np.nan, 2: np.nan} for name in fields})
    days = market.sessions.astype(object).tolist()

    with fixed_book({"A.US": 0.4}):
        node = run(node_of(rebalance=rebalance), market, 6)

    assert _orders(node) == [(days[0], 0, "BUY", 4_000, "FILLED")]
    assert _fills(node) == [(market.sessions[3], 0, 4_000)]
    assert _decisions(node)[0] == (days[0], 1, (), ())
    later = [(day, 0, ("A.US",) if day in days[1:3] else (), ()) for day in days[1:7]]
    assert _decisions(node)[1:] == (later if rebalance == "daily" else [])


def test_a_name_without_a_price_is_bought_when_it_has_one_again(
    quiet_market, run, node_of, fixed_book
):
    halted = dict.fromkeys(range(3), np.nan)
    market = quiet_market(**dict.fromkeys(BAR_FIELDS, halted))
    days = market.sessions.astype(object).tolist()

    with fixed_book({"A.US": 0.4, "B.US": 0.2}):
        node = run(node_of(), market)

    # Looking again without an order to send is no decision.
    assert _orders(node) == [
        (days[0], 1, "BUY", 4_000, "FILLED"),
        (days[3], 0, "BUY", 4_000, "FILLED"),
    ]
    assert _decisions(node) == [(days[0], 1, ("A.US",), ()), (days[3], 1, (), ())]


def test_an_order_that_was_cancelled_for_want_of_a_quote_is_asked_again(
    quiet_market, run, node_of, fixed_book
):
    market = quiet_market(open={WARM + 1: np.nan})
    node = node_of()
    dropping = node.model_copy(
        update={
            "execution": node.execution.model_copy(
                update={"router": node.execution.router.model_copy(update={"unquoted": "drop"})}
            )
        }
    )

    with fixed_book({"A.US": 0.4}):
        finished = run(dropping, market, first=WARM)

    statuses = [status for *_, status in _orders(finished)]
    assert statuses == ["CANCELLED", "FILLED"]
    assert finished.sleeve.ledger.shares.tolist() == [4_000, 0]
