from decimal import Decimal

import pytest

from adapters.ib_gateway.messages import MESSAGES, encode
from adapters.ib_gateway.wire import UNSET_DOUBLE
from tests.integration.ib_gateway.official import consume

VERSIONS = range(157, 188)

CONTRACT = {
    "conId": 265598,
    "symbol": "AAPL",
    "secType": "STK",
    "exchange": "SMART",
    "currency": "USD",
    "localSymbol": "AAPL",
    "tradingClass": "NMS",
}
ORDER = CONTRACT | {
    "orderId": 7,
    "action": "BUY",
    "totalQuantity": 100,
    "orderType": "LMT",
    "lmtPrice": 12.5,
    "tif": "GTC",
    "account": "DU1234567",
    "orderRef": "plan-1",
    "clientId": 3,
    "permId": 1_500_000_001,
    "status": "Submitted",
    "filledQuantity": 40,
    "algoStrategy": "Adaptive",
    "algoParams": [{"tag": "adaptivePriority", "value": "Normal"}],
    "completedTime": "20240102 16:00:00 America/New_York",
    "completedStatus": "Filled",
}
BAR = {
    "date": "20240102",
    "open": 1.0,
    "high": 4.0,
    "low": 0.5,
    "close": 2.0,
    "volume": 900,
    "wap": 1.5,
    "count": 3,
}
SAMPLES = {
    "tickPrice": {"reqId": 1, "tickType": 1, "price": 9.5, "size": 300, "attributes": 0},
    "tickSize": {"reqId": 1, "tickType": 8, "size": 300},
    "orderStatus": {
        "orderId": 7,
        "status": "Submitted",
        "filled": 40,
        "remaining": 60,
        "avgPrice": 12.4,
        "permId": 1_500_000_001,
        "lastPrice": 12.5,
        "clientId": 3,
    },
    "error": {"reqId": 7, "code": 201, "errorText": "Order rejected - reason:\u00e9"},
    "openOrder": ORDER,
    "accountValue": {"key": "NetLiquidation", "value": "5", "currency": "USD", "account": "DU1"},
    "portfolio": CONTRACT
    | {
        "position": 10,
        "marketPrice": 2.0,
        "marketValue": 20.0,
        "averageCost": 1.0,
        "unrealized": 10.0,
        "realized": 0.0,
        "account": "DU1",
    },
    "accountTime": {"time": "16:00"},
    "nextValidId": {"orderId": 8},
    "contractData": CONTRACT
    | {
        "reqId": 4,
        "marketName": "NMS",
        "minTick": 0.01,
        "orderTypes": "LMT,MKT",
        "validExchanges": "SMART",
        "longName": "Nestl\u00e9",
        "primaryExchange": "NASDAQ",
        "timeZoneId": "US/Eastern",
        "tradingHours": "20240102:0400-20240102:2000",
        "liquidHours": "20240102:0930-20240102:1600",
        "secIds": [{"tag": "ISIN", "value": "US0378331005"}],
        "marketRuleIds": "26",
        "stockType": "COMMON",
        "minSize": 1,
        "sizeIncrement": 1,
        "suggestedSize": 100,
        "reasons": [{"reasonId": "X", "reason": "why"}],
    },
    "execution": CONTRACT
    | {
        "orderId": 7,
        "execId": "0000e0d5.00000001.01.01",
        "time": "20240102 09:30:00 America/New_York",
        "account": "DU1",
        "execExchange": "NASDAQ",
        "side": "BOT",
        "shares": 40,
        "price": 12.4,
        "permId": 1_500_000_001,
        "clientId": 3,
        "cumQty": 40,
        "avgPrice": 12.4,
        "orderRef": "plan-1",
        "lastLiquidity": 2,
    },
    "managedAccounts": {"accounts": "DU1,DU2"},
    "historicalData": {"reqId": 4, "start": "a", "end": "b", "bars": [BAR, BAR]},
    "tickString": {"reqId": 1, "tickType": 45, "text": "1704205800"},
    "currentTime": {"epoch": 1704205800},
    "realTimeBar": BAR | {"reqId": 4, "epoch": 1704205800},
    "contractDataEnd": {"reqId": 4},
    "openOrderEnd": {},
    "accountDownloadEnd": {"account": "DU1"},
    "executionEnd": {"reqId": 4},
    "tickSnapshotEnd": {"reqId": 4},
    "marketDataType": {"reqId": 4, "type": 1},
    "commissionReport": {
        "execId": "e",
        "commission": 1.0,
        "currency": "USD",
        "realized": UNSET_DOUBLE,
    },
    "position": CONTRACT | {"account": "DU1", "position": 10, "averageCost": 1.5},
    "positionEnd": {},
    "accountSummary": {
        "reqId": 4,
        "account": "DU1",
        "tag": "NetLiquidation",
        "value": "5",
        "currency": "USD",
    },
    "accountSummaryEnd": {"reqId": 4},
    "positionMulti": CONTRACT
    | {"reqId": 4, "account": "DU1", "position": 10, "averageCost": 1.5, "modelCode": ""},
    "positionMultiEnd": {"reqId": 4},
    "accountUpdateMulti": {
        "reqId": 4,
        "account": "DU1",
        "modelCode": "",
        "key": "k",
        "value": "v",
        "currency": "USD",
    },
    "accountUpdateMultiEnd": {"reqId": 4},
    "softDollarTiers": {"reqId": 4, "tiers": []},
    "familyCodes": {"codes": [{"account": "DU1", "code": ""}]},
    "symbolSamples": {
        "reqId": 4,
        "samples": [
            CONTRACT
            | {"primaryExchange": "NASDAQ", "derivatives": [], "description": "", "issuerId": ""}
        ],
    },
    "depthExchanges": {"exchanges": []},
    "tickReqParams": {"reqId": 4, "minTick": 0.01, "bboExchange": "", "permissions": 3},
    "newsProviders": {"providers": []},
    "headTimestamp": {"reqId": 4, "timestamp": "20000103-14:30:00"},
    "historicalDataUpdate": BAR | {"reqId": 4},
    "marketRule": {"ruleId": 26, "increments": [{"lowEdge": 0.0, "increment": 0.01}]},
    "pnl": {"reqId": 4, "daily": 1.0, "unrealized": 2.0, "realized": 3.0},
    "pnlSingle": {
        "reqId": 4,
        "position": 10,
        "daily": 1.0,
        "unrealized": 2.0,
        "realized": 3.0,
        "value": 4.0,
    },
    "tickByTick": {
        "reqId": 4,
        "tickType": 3,
        "epoch": 1704205800,
        "bidAsk": True,
        "bid": 1.0,
        "ask": 2.0,
        "bidSize": 1,
        "askSize": 1,
        "mask": 0,
    },
    "completedOrder": ORDER,
    "completedOrdersEnd": {},
    "historicalSchedule": {
        "reqId": 4,
        "start": "a",
        "end": "b",
        "timeZone": "US/Eastern",
        "sessions": [{"start": "a", "end": "b", "refDate": "20240102"}],
    },
    "userInfo": {"reqId": 4, "whiteBrandingId": ""},
}


def test_every_message_has_a_sample():
    assert set(SAMPLES) == set(MESSAGES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MESSAGES)
def test_the_official_decoder_consumes_every_message_to_its_last_field(name, version):
    calls = consume(encode(name, SAMPLES[name], version), version)

    assert calls, f"{name}: no callback"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_open_order_means_the_same_at_every_version(version):
    [(name, (order_id, contract, order, state))] = consume(
        encode("openOrder", ORDER, version), version
    )

    assert (name, order_id, contract.conId, contract.symbol) == ("openOrder", 7, 265598, "AAPL")
    assert (order.action, order.totalQuantity, order.orderType) == ("BUY", Decimal(100), "LMT")
    assert (order.lmtPrice, order.tif, order.account) == (12.5, "GTC", "DU1234567")
    assert (order.orderRef, order.clientId, order.permId) == ("plan-1", 3, 1_500_000_001)
    assert (order.algoStrategy, state.status) == ("Adaptive", "Submitted")
    assert [(param.tag, param.value) for param in order.algoParams] == [
        ("adaptivePriority", "Normal")
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_completed_order_means_the_same_at_every_version(version):
    [(_, (contract, order, state))] = consume(encode("completedOrder", ORDER, version), version)

    assert (contract.symbol, order.permId, order.filledQuantity) == (
        "AAPL",
        1_500_000_001,
        Decimal(40),
    )
    assert (order.orderRef, state.completedStatus) == ("plan-1", "Filled")
    assert state.completedTime == "20240102 16:00:00 America/New_York"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_execution_means_the_same_at_every_version(version):
    [(_, (req_id, contract, execution))] = consume(
        encode("execution", SAMPLES["execution"], version), version
    )

    assert (req_id, contract.symbol, execution.execId) == (-1, "AAPL", "0000e0d5.00000001.01.01")
    assert (execution.side, execution.shares, execution.price) == ("BOT", Decimal(40), 12.4)
    assert (execution.cumQty, execution.orderRef, execution.lastLiquidity) == (
        Decimal(40),
        "plan-1",
        2,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_names_and_errors_outside_ascii_arrive_whole(version):
    [(_, (_, details))] = consume(encode("contractData", SAMPLES["contractData"], version), version)
    [(_, (_, code, text, _))] = consume(encode("error", SAMPLES["error"], version), version)

    assert (details.longName, details.minTick, details.contract.conId) == (
        "Nestl\u00e9",
        0.01,
        265598,
    )
    assert (code, text) == (201, "Order rejected - reason:\u00e9")


def test_an_unset_realised_profit_stays_unset():
    sample = SAMPLES["commissionReport"]

    [(_, (report,))] = consume(encode("commissionReport", sample, 187), 187)

    assert report.realizedPNL == UNSET_DOUBLE


def test_the_oracle_complains_about_a_field_too_many():
    payload = encode("error", SAMPLES["error"], 187) + b"more\0"

    with pytest.raises(AssertionError, match="left over"):
        consume(payload, 187)
