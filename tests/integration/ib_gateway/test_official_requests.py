"""What the official client writes at every version is what our layouts read."""

from decimal import Decimal

import pytest
from ibapi.client import EClient
from ibapi.execution import ExecutionFilter
from ibapi.order_cancel import OrderCancel
from ibapi.tag_value import TagValue
from ibapi.wrapper import EWrapper

from adapters.ib_gateway.requests import REQUESTS, Request, Unsupported, decode
from adapters.ib_gateway.wire import Frames, fields_of
from tests.integration.ib_gateway.clients import contract, order

pytestmark = pytest.mark.integration

VERSIONS = (157, 158, 159, 160, 161, 162, 165, 166, 168, 169, 170, 175, 176, 177, 178, 182, 183)
VERSIONS += (184, 186, 187)
"""Every version at which a request changes, and the one before it."""


class _Taken:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.data = b""

    def isConnected(self) -> bool:  # noqa: N802 - the official name
        return True

    def sendMsg(self, data: bytes) -> None:  # noqa: N802 - the official name
        self.data += data


def written(version: int, ask) -> Request:
    """Return what a call of the official client asks for, as we read it."""
    client = EClient(EWrapper())
    client.conn, client.serverVersion_, client.clientId = _Taken(), version, 1
    client.setConnState(EClient.CONNECTED)
    ask(client)
    [payload] = Frames().feed(client.conn.data)
    found = decode(fields_of(payload), version)
    assert found is not None
    return found


def stock():
    return contract("AAPL")


CALLS = {
    "reqMktData": lambda c: c.reqMktData(4, stock(), "233", True, False, []),
    "cancelMktData": lambda c: c.cancelMktData(4),
    "placeOrder": lambda c: c.placeOrder(4, stock(), order("BUY", 10)),
    "cancelOrder": lambda c: c.cancelOrder(4, OrderCancel()),
    "reqOpenOrders": lambda c: c.reqOpenOrders(),
    "reqAccountUpdates": lambda c: c.reqAccountUpdates(True, "DU1"),
    "reqExecutions": lambda c: c.reqExecutions(4, ExecutionFilter()),
    "reqIds": lambda c: c.reqIds(1),
    "reqContractDetails": lambda c: c.reqContractDetails(4, stock()),
    "reqAutoOpenOrders": lambda c: c.reqAutoOpenOrders(True),
    "reqAllOpenOrders": lambda c: c.reqAllOpenOrders(),
    "reqManagedAccts": lambda c: c.reqManagedAccts(),
    "reqHistoricalData": lambda c: c.reqHistoricalData(
        4, stock(), "", "5 D", "1 day", "TRADES", 1, 1, False, []
    ),
    "cancelHistoricalData": lambda c: c.cancelHistoricalData(4),
    "reqCurrentTime": lambda c: c.reqCurrentTime(),
    "reqRealTimeBars": lambda c: c.reqRealTimeBars(4, stock(), 5, "TRADES", True, []),
    "cancelRealTimeBars": lambda c: c.cancelRealTimeBars(4),
    "reqMarketDataType": lambda c: c.reqMarketDataType(3),
    "reqPositions": lambda c: c.reqPositions(),
    "reqAccountSummary": lambda c: c.reqAccountSummary(4, "All", "NetLiquidation"),
    "cancelAccountSummary": lambda c: c.cancelAccountSummary(4),
    "cancelPositions": lambda c: c.cancelPositions(),
    "startApi": lambda c: c.startApi(),
    "reqPositionsMulti": lambda c: c.reqPositionsMulti(4, "DU1", ""),
    "cancelPositionsMulti": lambda c: c.cancelPositionsMulti(4),
    "reqAccountUpdatesMulti": lambda c: c.reqAccountUpdatesMulti(4, "DU1", "", True),
    "cancelAccountUpdatesMulti": lambda c: c.cancelAccountUpdatesMulti(4),
    "reqSoftDollarTiers": lambda c: c.reqSoftDollarTiers(4),
    "reqFamilyCodes": lambda c: c.reqFamilyCodes(),
    "reqMatchingSymbols": lambda c: c.reqMatchingSymbols(4, "AA"),
    "reqMktDepthExchanges": lambda c: c.reqMktDepthExchanges(),
    "reqNewsProviders": lambda c: c.reqNewsProviders(),
    "reqHeadTimestamp": lambda c: c.reqHeadTimeStamp(4, stock(), "TRADES", 1, 1),
    "cancelHeadTimestamp": lambda c: c.cancelHeadTimeStamp(4),
    "reqMarketRule": lambda c: c.reqMarketRule(26),
    "reqPnL": lambda c: c.reqPnL(4, "DU1", ""),
    "cancelPnL": lambda c: c.cancelPnL(4),
    "reqPnLSingle": lambda c: c.reqPnLSingle(4, "DU1", "", 265598),
    "cancelPnLSingle": lambda c: c.cancelPnLSingle(4),
    "reqTickByTick": lambda c: c.reqTickByTickData(4, stock(), "BidAsk", 0, True),
    "cancelTickByTick": lambda c: c.cancelTickByTickData(4),
    "reqCompletedOrders": lambda c: c.reqCompletedOrders(True),
    "reqUserInfo": lambda c: c.reqUserInfo(4),
    "reqGlobalCancel": lambda c: c.reqGlobalCancel(),
}


def test_every_request_has_a_call():
    assert set(CALLS) == set(REQUESTS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CALLS)
def test_what_the_official_client_writes_is_read_to_its_last_field(name, version):
    if name == "reqUserInfo" and version < 167:
        pytest.skip("the client refuses to send it before version 167")

    assert written(version, CALLS[name]).name == name


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "terms",
    [
        {"orderType": "LMT", "lmtPrice": 12.5, "tif": "GTC"},
        {"orderType": "MKT", "algoStrategy": "Adaptive"},
        {"orderType": "PEG BENCH", "lmtPrice": 12.5},
        {"orderType": "PEG MID", "lmtPrice": 12.5},
        {"orderType": "PEG BEST", "lmtPrice": 12.5},
        {"orderType": "LMT", "lmtPrice": 12.5, "scalePriceIncrement": 0.1},
        {"orderType": "LMT", "lmtPrice": 12.5, "hedgeType": "D", "hedgeParam": "1"},
        {"orderType": "VOL", "deltaNeutralOrderType": "MKT", "volatility": 0.2},
    ],
)
def test_orders_of_every_form_are_read_field_by_field(version, terms):
    wanted = order("SELL", Decimal("7"), orderRef="plan-1", account="DU1", **terms)
    wanted.orderType = terms["orderType"]
    if wanted.algoStrategy:
        wanted.algoParams = [TagValue("adaptivePriority", "Urgent")]

    values = written(version, lambda client: client.placeOrder(9, stock(), wanted)).values

    expected = {
        "orderId": "9",
        "symbol": "AAPL",
        "action": "SELL",
        "totalQuantity": "7",
        "orderType": terms["orderType"],
        "tif": terms.get("tif", ""),
        "account": "DU1",
        "orderRef": "plan-1",
        "whatIf": "0",
        "transmit": "1",
        "algoStrategy": terms.get("algoStrategy", ""),
        "hedgeType": terms.get("hedgeType", ""),
        "autoCancelParent": "0" if version >= 162 else None,
    }
    assert {name: values.get(name) for name in expected} == expected
    if wanted.algoStrategy:
        assert values["algoParams"] == [{"tag": "adaptivePriority", "value": "Urgent"}]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("ask", "req_id", "code"),
    [
        (lambda c: c.reqMktDepth(7, stock(), 5, False, []), 7, 10092),
        (lambda c: c.reqFundamentalData(7, stock(), "ReportSnapshot", []), 7, 430),
        (lambda c: c.reqSecDefOptParams(7, "AAPL", "", "STK", 265598), 7, 200),
        (lambda c: c.calculateImpliedVolatility(7, stock(), 1.0, 2.0, []), 7, 200),
        (lambda c: c.calculateOptionPrice(7, stock(), 1.0, 2.0, []), 7, 200),
        (lambda c: c.reqHistogramData(7, stock(), True, "3 days"), 7, 162),
        (
            lambda c: c.reqHistoricalTicks(7, stock(), "", "x", 9, "TRADES", 1, True, []),
            7,
            162,
        ),
        (lambda c: c.reqNewsArticle(7, "A", "b", []), 7, 10276),
        (lambda c: c.reqHistoricalNews(7, 1, "A", "", "", 5, []), 7, 10276),
        (lambda c: c.requestFA(1), -1, 321),
    ],
)
def test_what_is_not_simulated_is_refused_under_the_requests_own_number(ask, req_id, code, version):
    with pytest.raises(Unsupported) as refusal:
        written(version, ask)

    assert (refusal.value.req_id, refusal.value.code) == (req_id, code)
