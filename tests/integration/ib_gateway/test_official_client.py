from collections.abc import Iterator
from decimal import Decimal

import pytest
from ibapi.execution import ExecutionFilter
from ibapi.order_cancel import OrderCancel

from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from tests.integration.ib_gateway.clients import (
    OfficialClient,
    RunningServer,
    contract,
    order,
)
from tests.integration.ib_gateway.market import ACCOUNT, HALF_SPREAD, new_gateway

pytestmark = pytest.mark.integration


@pytest.fixture(params=[178, 187])
def running(request) -> Iterator[RunningServer]:
    with RunningServer(Server(new_gateway(), version_cap=request.param)) as server:
        yield server


@pytest.fixture
def client(running) -> Iterator[OfficialClient]:
    client = OfficialClient().begin(running.port, 3)
    client.wait("nextValidId")
    yield client
    client.end()


def test_a_client_is_greeted_with_its_account_its_next_id_and_the_farms(client):
    client.wait("error", 3)

    assert client.named("managedAccounts") == [(ACCOUNT,)]
    assert client.named("nextValidId") == [(1,)]
    assert client.errors() == [2104, 2106, 2158]


def test_account_positions_and_summary_are_told(client):
    client.reqPositions()
    client.reqAccountUpdates(True, ACCOUNT)
    client.reqAccountSummary(1, "All", "NetLiquidation,BuyingPower")
    client.wait("positionEnd")
    client.wait("accountDownloadEnd")
    client.wait("accountSummaryEnd")

    values = {args[0]: args[1] for args in client.named("updateAccountValue") if args[2] == "USD"}
    assert client.named("position") == []
    assert values["NetLiquidation"] == "1000000.00"
    assert values["AvailableFunds"] == "1000000.00"
    assert {args[2]: args[3] for args in client.named("accountSummary")} == {
        "NetLiquidation": "1000000.00",
        "BuyingPower": "2000000.00",
    }


def test_contract_details_and_daily_history_end_at_the_last_close(client):
    client.reqContractDetails(1, contract("AAPL"))
    client.reqHistoricalData(2, contract("AAPL"), "", "5 D", "1 day", "TRADES", 1, 1, False, [])
    client.wait("contractDetailsEnd")
    client.wait("historicalDataEnd")

    [(_, details)] = client.named("contractDetails")
    bars = [bar for _, bar in client.named("historicalData")]
    assert (details.longName, details.minTick) == ("AAPL Inc.", 0.01)
    assert details.liquidHours.startswith("20240103:0930-20240103:1600")
    # The replay begins after the second of its sessions: nothing later may be known.
    assert [(bar.date, bar.close) for bar in bars] == [("20240102", 101.0), ("20240103", 102.0)]


def test_an_order_for_the_open_waits_and_fills_at_the_opens_ask(client, running):
    client.placeOrder(1, contract("AAPL"), order("BUY", 100, tif="OPG", orderRef="plan-1"))
    client.wait("error", 1, lambda req_id, code, *_: (req_id, code) == (1, 399))
    assert [args[1] for args in client.named("orderStatus")] == ["PreSubmitted"]

    running.advance(Stage.OPEN)
    client.wait("commissionReport")

    [(req_id, _, execution)] = client.named("execDetails")
    [(report,)] = client.named("commissionReport")
    assert (req_id, execution.side, execution.shares) == (-1, "BOT", Decimal(100))
    assert execution.price == pytest.approx(102 * (1 + HALF_SPREAD))
    assert execution.orderRef == "plan-1"
    assert execution.time == "20240104 09:30:00 America/New_York"
    assert (report.execId, report.commission) == (execution.execId, 1.0)


def test_a_fill_tells_the_execution_then_the_state_twice_then_the_commission(client, running):
    running.advance(Stage.OPEN)
    client.calls.clear()

    client.placeOrder(1, contract("AAPL"), order("BUY", 10))
    client.wait("commissionReport")

    said = [
        (name, args[3].status if name == "openOrder" else args[1] if name == "orderStatus" else "")
        for name, args in client.calls
    ]
    assert said == [
        ("openOrder", "Submitted"),
        ("orderStatus", "Submitted"),
        ("execDetails", ""),
        ("openOrder", "Filled"),
        ("orderStatus", "Filled"),
        ("openOrder", "Filled"),
        ("orderStatus", "Filled"),
        ("commissionReport", ""),
    ]


def test_a_limit_rests_and_a_cancel_ends_it(client, running):
    running.advance(Stage.OPEN)
    client.placeOrder(1, contract("AAPL"), order("BUY", 10, "LMT", lmtPrice=90.0, tif="GTC"))
    client.wait("orderStatus")

    client.cancelOrder(1, OrderCancel())
    client.cancelOrder(9, OrderCancel())
    client.wait("error", 1, lambda req_id, code, *_: code == 10147)
    client.cancelOrder(1, OrderCancel())
    client.wait("error", 1, lambda req_id, code, *_: code == 10148)

    statuses = [args[1] for args in client.named("orderStatus")]
    assert statuses == ["Submitted", "PendingCancel", "Cancelled"]
    assert 202 in client.errors()


def test_a_client_that_comes_back_finds_its_orders_executions_and_completed_orders(client, running):
    client.placeOrder(1, contract("AAPL"), order("BUY", 10, tif="OPG", orderRef="a"))
    client.placeOrder(2, contract("IBM"), order("BUY", 5, "LMT", lmtPrice=1.0, tif="GTC"))
    client.wait("orderStatus", 2)
    client.end()
    running.advance(Stage.OPEN)

    again = OfficialClient().begin(running.port, 3)
    again.wait("nextValidId")
    again.reqOpenOrders()
    again.reqExecutions(7, ExecutionFilter())
    again.reqCompletedOrders(True)
    again.reqPositions()
    for name in ("openOrderEnd", "execDetailsEnd", "completedOrdersEnd", "positionEnd"):
        again.wait(name)
    again.end()

    assert again.named("nextValidId") == [(3,)]
    [(order_id, _, resting, state)] = again.named("openOrder")
    assert (order_id, resting.lmtPrice, resting.tif, state.status) == (2, 1.0, "GTC", "Submitted")
    [(req_id, _, execution)] = again.named("execDetails")
    assert (req_id, execution.orderRef, execution.shares) == (7, "a", Decimal(10))
    assert len(again.named("commissionReport")) == 1
    [(_, done, state)] = again.named("completedOrder")
    assert (done.orderRef, done.filledQuantity, state.status) == ("a", Decimal(10), "Filled")
    assert done.permId == execution.permId
    [(account, held, shares, cost)] = again.named("position")
    assert (account, held.symbol, shares) == (ACCOUNT, "AAPL", Decimal(10))
    assert cost == pytest.approx(102 * (1 + HALF_SPREAD) + 0.1)


def test_a_client_id_in_use_is_turned_away(client, running):
    other = OfficialClient().begin(running.port, 3)
    other.wait("error", 1, lambda req_id, code, *_: code == 326)
    other.wait("connectionClosed")

    assert other.named("nextValidId") == []


def test_a_what_if_tells_margins_and_trades_nothing(client, running):
    client.placeOrder(1, contract("AAPL"), order("BUY", 100, whatIf=True))
    [(_, _, _, state)] = client.wait("openOrder")

    assert float(state.initMarginChange) == pytest.approx(0.5 * 100 * 102)
    assert state.commission == 1.0
    assert running.server.gateway.book.open_orders() == []


def test_quotes_come_at_the_open_and_again_at_the_close(client, running):
    client.reqMktData(5, contract("AAPL"), "", False, False, [])
    client.wait("tickPrice", 2)
    client.calls.clear()

    running.advance(Stage.OPEN)
    client.wait("tickPrice", 4)
    ticks = {args[1]: args[2] for args in client.named("tickPrice")}

    assert ticks[4] == 102.0
    assert ticks[9] == 102.0
    assert ticks[1] == pytest.approx(102 * (1 - HALF_SPREAD))
    assert ticks[2] == pytest.approx(102 * (1 + HALF_SPREAD))


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (order("BUY", 0), 434),
        (order("BUY", Decimal("1.5")), 10243),
        (order("BUY", 1, "LMT", lmtPrice=10.001), 110),
        (order("BUY", 1, "MOC", tif="GTC"), 113),
        (order("BUY", 1, "TRAIL", auxPrice=1.0), 387),
        (order("BUY", 1, "STP", auxPrice=1.0, tif="OPG"), 111),
        (order("BUY", 1, "LMT"), 107),
        (order("BUY", 1, account="DU7"), 321),
        (order("BUY", 1_000_000), 201),
        (order("BUY", 1, algoStrategy="Vwap"), 439),
    ],
)
def test_an_order_that_breaks_a_rule_is_refused_with_its_code(client, wanted, code):
    client.placeOrder(1, contract("AAPL"), wanted)

    [(req_id, found, *_)] = client.wait("error", 1, lambda req_id, *_: req_id == 1)
    assert (req_id, found) == (1, code)


def test_unknown_contracts_and_unsimulated_requests_get_the_code_of_a_gateway(client):
    client.reqContractDetails(1, contract("NOPE"))
    client.reqMktDepth(2, contract("AAPL"), 5, False, [])
    client.reqFundamentalData(3, contract("AAPL"), "ReportSnapshot", [])
    client.reqHistoricalData(4, contract("AAPL"), "", "1 D", "1 min", "TRADES", 1, 1, False, [])
    client.wait("error", 4, lambda req_id, *_: req_id > 0)

    found = {args[0]: args[1] for args in client.named("error") if args[0] > 0}
    assert found == {1: 200, 2: 10092, 3: 430, 4: 162}


def test_an_order_with_conditions_is_refused_under_its_own_number(client):
    from ibapi.order_condition import TimeCondition

    wanted = order("BUY", 1)
    wanted.conditions = [TimeCondition(True, "20240104 10:00:00 US/Eastern")]
    client.placeOrder(1, contract("AAPL"), wanted)

    [(_, code, *_)] = client.wait("error", 1, lambda req_id, *_: req_id == 1)
    assert code == 320


def test_an_adaptive_order_keeps_its_algorithm(client, running):
    from ibapi.tag_value import TagValue

    wanted = order("BUY", 10, algoStrategy="Adaptive")
    wanted.algoParams = [TagValue("adaptivePriority", "Patient")]
    client.placeOrder(1, contract("AAPL"), wanted)
    [(_, _, shown, _)] = client.wait("openOrder")

    assert (shown.algoStrategy, shown.algoParams[0].value) == ("Adaptive", "Patient")
    running.advance(Stage.OPEN)
    client.wait("commissionReport")


def test_the_fifty_first_message_of_a_second_is_lost_with_error_100(client):
    for _ in range(60):
        client.reqMarketRule(26)

    found = client.wait("error", 1, lambda req_id, code, *_: code == 100)
    assert found[0][0] == -1
    client.wait("connectionClosed")
