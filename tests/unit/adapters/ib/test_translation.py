from datetime import UTC, datetime

import pytest
from ib_async import Contract
from ib_async import Execution as WireExecution
from ib_async import Order as WireOrder
from nautilus_trader.common.component import TestClock
from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.model.enums import OrderSide, OrderType, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId, StrategyId, TraderId
from nautilus_trader.model.objects import Price, Quantity

from adapters.ib.journal import Intent
from adapters.ib.translation import (
    exact_price,
    execution_seen,
    nautilus_type,
    order_seen,
    wanted,
    wire_order,
)
from prometheus_nt.domain.errors import GateRefusal

APPLE = InstrumentId.from_str("AAPL.US")
FACTORY = OrderFactory(TraderId("T-1"), StrategyId("S-1"), TestClock())
TIF = TimeInForce


def market(tif=TIF.DAY, shares="100", **more):
    return FACTORY.market(
        APPLE, OrderSide.BUY, Quantity.from_str(shares), time_in_force=tif, **more
    )


def limit(tif=TIF.DAY, **more):
    return FACTORY.limit(
        APPLE,
        OrderSide.SELL,
        Quantity.from_int(100),
        Price.from_str("10.25"),
        time_in_force=tif,
        **more,
    )


def stop(tif=TIF.GTC):
    return FACTORY.stop_market(
        APPLE, OrderSide.SELL, Quantity.from_int(100), Price.from_str("9.50"), time_in_force=tif
    )


@pytest.mark.parametrize(
    ("order", "kind", "tif", "price", "trigger"),
    [
        (market(), "MKT", "DAY", None, None),
        (market(TIF.GTC), "MKT", "GTC", None, None),
        (market(TIF.IOC), "MKT", "IOC", None, None),
        (market(TIF.AT_THE_OPEN), "MKT", "OPG", None, None),
        (market(TIF.AT_THE_CLOSE), "MOC", "DAY", None, None),
        (limit(), "LMT", "DAY", 10.25, None),
        (limit(TIF.GTC), "LMT", "GTC", 10.25, None),
        (limit(TIF.IOC), "LMT", "IOC", 10.25, None),
        (limit(TIF.AT_THE_OPEN), "LMT", "OPG", 10.25, None),
        (limit(TIF.AT_THE_CLOSE), "LOC", "DAY", 10.25, None),
        (stop(), "STP", "GTC", None, 9.5),
        (stop(TIF.DAY), "STP", "DAY", None, 9.5),
    ],
)
def test_an_order_has_the_brokers_words_and_finds_back_to_ours(order, kind, tif, price, trigger):
    asked = wanted(order)

    assert (asked.kind, asked.tif, asked.limit, asked.stop) == (kind, tif, price, trigger)
    assert asked.quantity == 100
    assert asked.side == (1 if order.side == OrderSide.BUY else -1)
    assert nautilus_type(kind, tif) == (order.order_type, order.time_in_force)


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        (market(shares="10.5"), "whole shares only"),
        (market(TIF.FOK), "FOK"),
        (limit(TIF.DAY, post_only=True), "post_only"),
        (limit(TIF.DAY, display_qty=Quantity.from_int(10)), "display_qty"),
        (market(TIF.DAY, quote_quantity=True), "quote_quantity"),
        (market(TIF.AT_THE_OPEN, tags=["adaptive:Normal"]), "adaptive:Normal with MKT OPG"),
        (market(TIF.DAY, tags=["adaptive:Fast"]), "adaptive:Fast"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(order, problem):
    with pytest.raises(GateRefusal, match=problem):
        wanted(order)


def test_tags_carry_the_plan_and_the_patience_of_the_algorithm():
    asked = wanted(market(tags=["plan:p-1", "adaptive:Patient"]))

    assert (asked.plan, asked.priority) == ("p-1", "Patient")


def intent(**changed) -> Intent:
    plain = {
        "ref": "p-1-AAPL-0-0",
        "plan": "p-1",
        "instrument": "AAPL.US",
        "contract": 7,
        "side": -1,
        "quantity": 100,
        "kind": "LMT",
        "tif": "DAY",
        "limit": 10.25,
        "stop": None,
        "account": "DU1234567",
        "client_id": 1,
        "order_id": 12,
        "day": "2024-01-03",
        "written_ns": 1,
    }
    return Intent(**(plain | changed))


def test_an_intent_becomes_an_order_with_its_reference_account_and_regular_hours():
    order = wire_order(intent(priority="Urgent"))

    assert (order.action, order.totalQuantity, order.lmtPrice) == ("SELL", 100, 10.25)
    assert (order.orderRef, order.account, order.outsideRth) == (
        "p-1-AAPL-0-0",
        "DU1234567",
        False,
    )
    assert (order.algoStrategy, order.algoParams[0].value) == ("Adaptive", "Urgent")


def test_a_market_order_shows_a_limit_of_nothing_and_has_none():
    wire = WireOrder(orderType="MKT", action="BUY", totalQuantity=100, lmtPrice=0.0, permId=5)

    seen = order_seen(Contract(conId=7, symbol="AAPL"), wire, "Submitted")

    assert (seen.limit, seen.stop, seen.filled) == (None, None, 0)


@pytest.mark.parametrize("zone", [UTC, None])
def test_the_time_of_an_execution_without_a_zone_is_utc(zone):
    moment = datetime(2024, 1, 4, 14, 30, tzinfo=zone)
    wire = WireExecution(execId="0000e0d5.00000001.01.02", time=moment, side="SLD", shares=5.0)

    seen = execution_seen(Contract(conId=7), wire)

    assert seen.at_ns == 1_704_378_600 * 10**9
    assert (seen.side, seen.shares, seen.revision) == (-1, 5, 2)
    assert seen.stem == "0000e0d5.00000001.01@19726"


@pytest.mark.parametrize("price", [102.051, 0.0001, 100.0, 1234567.891234])
def test_a_price_keeps_all_of_its_decimals(price):
    assert float(exact_price(price)) == price


def test_a_type_that_is_not_ours_is_reported_as_a_market_order():
    assert nautilus_type("TRAIL", "GTC") == (OrderType.MARKET, TimeInForce.DAY)
