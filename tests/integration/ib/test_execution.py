"""A node against the gateway's faults: the broker, the node's cache and the desk end the same."""

import asyncio
import gc

import pytest
from nautilus_trader.model.enums import OrderStatus, TimeInForce
from nautilus_trader.model.identifiers import ClientOrderId, Venue
from nautilus_trader.model.objects import Price, Quantity

from adapters.ib.halt import HaltReason
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from tests.integration.ib.node import Node, dispose, require_same, trading_node
from tests.integration.ib.session import inject, until, with_gateway
from tests.integration.ib_gateway.market import ACCOUNT

pytestmark = pytest.mark.integration

ACCEPTED, FILLED, CANCELED = OrderStatus.ACCEPTED, OrderStatus.FILLED, OrderStatus.CANCELED
REJECTED, DENIED = OrderStatus.REJECTED, OrderStatus.DENIED
DAY, GTC = TimeInForce.DAY, TimeInForce.GTC
CLEAN = ["OrderInitialized", "OrderSubmitted", "OrderAccepted", "OrderFilled"]


@pytest.fixture(autouse=True)
def _disposed():
    yield
    dispose()
    gc.collect()


def on_a_node(path, test, *faults, **terms) -> None:
    """Run an async test of a server and a node of its own."""

    async def run(server: Server) -> None:
        async with trading_node(server.port, path) as node:
            await test(server, node)

    with_gateway(run, *faults, **terms)


async def opening(server: Server, node: Node, *rules: str) -> None:
    """Trade one order for the open under faults."""
    for rule in rules:
        inject(server, rule)
    node.send("r")
    await node.reaches("r", ACCEPTED)
    server.advance(Stage.OPEN)
    await node.reaches("r", FILLED)


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("duplicate_execution",),
        ("duplicate_status",),
        ("commission_first",),
        ("missing_status",),
        ("warn:code=10349",),
        ("garbage",),
        ("silent_fill",),
        ("correction:seconds=0.05",),
    ],
)
def test_an_order_for_the_open_has_clean_events_under(rules, tmp_path):
    async def test(server: Server, node: Node) -> None:
        await opening(server, node, *rules)
        await node.learns()

        assert node.puppet.names("r") == CLEAN
        require_same(server, node)
        [fill] = server.gateway.book.fills
        [event] = [e for e in node.puppet.heard if type(e).__name__ == "OrderFilled"]
        assert float(event.commission) == fill.commission == 1.0
        assert node.halts == []

    on_a_node(tmp_path, test)


def test_three_partial_fills_are_three_events(tmp_path):
    async def test(server: Server, node: Node) -> None:
        await opening(server, node, "three_partials")

        assert node.puppet.names("r") == [*CLEAN, "OrderFilled", "OrderFilled"]
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_a_fill_without_a_commission_is_booked_with_none(tmp_path):
    async def test(server: Server, node: Node) -> None:
        await opening(server, node, "commission_never")

        assert float(node.puppet.heard[-1].commission) == 0.0
        require_same(server, node)

    on_a_node(tmp_path, test)


@pytest.mark.parametrize("code", [201, 110, 103])
def test_a_refusal_says_its_code(code, tmp_path):
    async def test(server: Server, node: Node) -> None:
        inject(server, f"reject:code={code}")
        node.send("r")
        await node.reaches("r", REJECTED)

        assert node.puppet.heard[-1].reason.startswith(f"{code} ")
        require_same(server, node)

    on_a_node(tmp_path, test)


@pytest.mark.parametrize("limit", [None, 105.0])
def test_an_order_that_fills_while_the_socket_is_lost_is_filled(limit, tmp_path):
    async def test(server: Server, node: Node) -> None:
        node.send("r", tif=GTC if limit else TimeInForce.AT_THE_OPEN, limit=limit)
        await node.reaches("r", ACCEPTED)
        inject(server, "close")
        server.advance(Stage.OPEN)
        await node.reaches("r", FILLED)

        assert node.puppet.names("r") == CLEAN
        await node.learns()
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_an_acknowledgement_that_is_lost_with_the_socket_is_found(tmp_path):
    async def test(server: Server, node: Node) -> None:
        inject(server, "close:on=ack")
        node.send("r")
        await until(lambda: server.gateway.book.placed)
        server.advance(Stage.OPEN)
        await node.reaches("r", FILLED)
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_orders_are_denied_while_the_brokers_link_is_lost_and_sent_after_it(tmp_path):
    async def test(server: Server, node: Node) -> None:
        node.send("r")
        await node.reaches("r", ACCEPTED)
        inject(server, "link_lost")
        await until(lambda: not node.desk.ready)
        node.send("meanwhile")
        await node.reaches("meanwhile", DENIED)
        assert "1100" in node.puppet.heard[-1].reason
        server.advance(Stage.OPEN)
        inject(server, "link_back")
        await node.reaches("r", FILLED)
        await until(lambda: node.desk.ready)
        node.send("after", tif=DAY)
        await node.reaches("after", FILLED)
        require_same(server, node)

    on_a_node(tmp_path, test)


@pytest.mark.parametrize("fault", ["restart:seconds=0.5", "huge_length"])
def test_a_restart_or_a_stream_that_hangs_loses_no_fill(fault, tmp_path):
    async def test(server: Server, node: Node) -> None:
        node.send("r")
        await node.reaches("r", ACCEPTED)
        inject(server, fault)
        await until(lambda: not node.desk.ready)
        server.advance(Stage.OPEN)
        await node.reaches("r", FILLED)
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_an_order_that_vanishes_is_rejected_by_the_lists(tmp_path):
    async def test(server: Server, node: Node) -> None:
        inject(server, "lose_order")
        node.send("r")
        await node.reaches("r", REJECTED)

        assert "never reached the broker" in node.puppet.heard[-1].reason
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_orders_are_changed_and_cancelled(tmp_path):
    async def test(server: Server, node: Node) -> None:
        order = node.send("r", tif=GTC, limit=50.0)
        await node.reaches("r", ACCEPTED)
        node.puppet.modify_order(order, Quantity.from_int(60), Price.from_str("51.00"))
        await until(lambda: order.quantity == Quantity.from_int(60))
        node.puppet.modify_order(order, Quantity.from_int(60), Price.from_str("-1.00"))
        await until(lambda: "OrderModifyRejected" in node.puppet.names("r"))
        node.puppet.cancel_order(order)
        await node.reaches("r", CANCELED)
        require_same(server, node)

    on_a_node(tmp_path, test)


@pytest.mark.parametrize("fault", ["cancel_races_fill", "fill_after_cancel:seconds=0.05"])
def test_a_cancel_and_a_fill_may_cross(fault, tmp_path):
    async def test(server: Server, node: Node) -> None:
        inject(server, fault)
        order = node.send("r", tif=GTC, limit=50.0)
        await node.reaches("r", ACCEPTED)
        node.puppet.cancel_order(order)
        await node.reaches("r", FILLED)
        await node.learns()
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_all_orders_of_an_instrument_are_cancelled_at_once(tmp_path):
    async def test(server: Server, node: Node) -> None:
        for number in range(3):
            node.send(f"r{number}", tif=GTC, limit=50.0)
        node.send("other", "IBM", tif=GTC, limit=50.0)
        await node.reaches("other", ACCEPTED)
        node.puppet.cancel_all_orders(node.instrument("AAPL"))
        for number in range(3):
            await node.reaches(f"r{number}", CANCELED)

        assert node.status("other") == ACCEPTED
        require_same(server, node)

    on_a_node(tmp_path, test)


def test_what_the_broker_cannot_be_asked_for_is_denied_with_a_reason(tmp_path):
    async def test(server: Server, node: Node) -> None:
        node.send("r", tif=TimeInForce.FOK, limit=50.0)
        await node.reaches("r", DENIED)

        assert "FOK" in node.puppet.heard[-1].reason
        assert server.gateway.book.placed == 0

    on_a_node(tmp_path, test)


def test_the_account_is_told_at_the_start_and_after_a_fill(tmp_path):
    async def test(server: Server, node: Node) -> None:
        account = node.cache.account_for_venue(Venue("IB"))
        assert account.id.value == f"IB-{ACCOUNT}"
        assert float(account.balance_total(account.currencies()[0])) == 1_000_000.0
        await opening(server, node)
        figures = server.gateway.book.account.figures(server.gateway.clock.price)
        wanted = figures["NetLiquidation"]
        await until(
            lambda: abs(float(account.balance_total(account.currencies()[0])) - wanted) < 0.01
        )
        assert float(account.last_event.info["TotalCashValue USD"]) == pytest.approx(
            figures["TotalCashValue"], abs=0.01
        )

    on_a_node(tmp_path, test)


def test_an_account_whose_batch_has_no_end_is_told_all_the_same(tmp_path):
    async def test(server: Server, node: Node) -> None:
        await opening(server, node)
        require_same(server, node)

    on_a_node(tmp_path, test, "no_download_end")


def test_a_new_process_finds_its_open_order_and_its_fills_and_sends_nothing_again(tmp_path):
    async def test(server: Server) -> None:
        async with trading_node(server.port, tmp_path) as node:
            node.send("done")
            node.send("rest", "IBM", tif=GTC, limit=50.0)
            await node.reaches("rest", ACCEPTED)
        server.advance(Stage.OPEN)

        async with trading_node(server.port, tmp_path) as node:
            assert node.status("done") == FILLED
            assert node.status("rest") == ACCEPTED
            assert node.net("AAPL") == 100
            require_same(server, node)
            assert server.gateway.book.placed == 2
            await asyncio.sleep(1.5)
            assert node.halts == []

    with_gateway(test)


def test_a_new_process_finds_a_partly_filled_order(tmp_path):
    async def test(server: Server) -> None:
        async with trading_node(server.port, tmp_path) as node:
            inject(server, "partial_then_stop")
            node.send("r", tif=GTC, limit=105.0)
            await node.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await node.reaches("r", OrderStatus.PARTIALLY_FILLED)

        async with trading_node(server.port, tmp_path) as node:
            assert node.status("r") == OrderStatus.PARTIALLY_FILLED
            server.gateway.faults.stopped.clear()
            server.advance(Stage.CLOSED)
            await node.reaches("r", FILLED)
            require_same(server, node)

    with_gateway(test)


def test_positions_of_days_before_are_there_after_a_restart(tmp_path):
    async def test(server: Server) -> None:
        async with trading_node(server.port, tmp_path) as node:
            await opening(server, node)
        server.advance(Stage.OPEN)

        async with trading_node(server.port, tmp_path) as node:
            assert node.net("AAPL") == 100
            node.send("close", shares=-100, tif=DAY)
            await node.reaches("close", FILLED)
            await until(lambda: node.net("AAPL") == 0)
            await asyncio.sleep(1.5)
            assert node.halts == []

    with_gateway(test)


def test_an_order_of_an_old_plan_is_not_sent_again_by_a_new_process(tmp_path):
    async def test(server: Server) -> None:
        async with trading_node(server.port, tmp_path) as node:
            await opening(server, node)
        server.advance(Stage.OPEN)

        async with trading_node(server.port, tmp_path) as node:
            node.send("r", tif=DAY)
            await node.reaches("r", DENIED)
            assert "never resent" in node.puppet.heard[-1].reason
            assert server.gateway.book.placed == 1

    with_gateway(test)


def test_a_position_that_the_node_does_not_know_halts_after_a_while(tmp_path):
    async def test(server: Server, node: Node) -> None:
        await opening(server, node)
        server.gateway.book.account.trade(0, 7, 100.0, 0.0)
        await until(lambda: node.halts)

        [halt] = node.halts
        assert halt.reason is HaltReason.POSITION_BREAK
        assert "107" in halt.detail
        node.send("next", tif=DAY)
        await node.reaches("next", DENIED)

    on_a_node(tmp_path, test)


def test_an_order_of_somebody_else_halts_the_node(tmp_path):
    async def test(server: Server, node: Node) -> None:
        inject(server, "foreign_order")
        await until(lambda: node.halts)

        assert node.halts[0].reason is HaltReason.UNKNOWN_ORDER

    on_a_node(tmp_path, test)


def test_two_hundred_orders_of_a_node_all_fill(tmp_path):
    async def test(server: Server, node: Node) -> None:
        codes: list[int] = []
        node.desk.link.on_message("error", lambda _, code, *__: codes.append(code))
        server.advance(Stage.OPEN)
        for number in range(200):
            node.send(f"plan-{number}", ("AAPL", "IBM", "KO")[number % 3], 1, tif=DAY)
        for number in range(200):
            await node.reaches(f"plan-{number}", FILLED)
        await node.learns()
        require_same(server, node)
        assert 100 not in codes

    on_a_node(tmp_path, test)


def test_a_report_of_an_order_that_nobody_knows_is_none(tmp_path):
    async def test(server: Server, node: Node) -> None:
        from nautilus_trader.core.uuid import UUID4
        from nautilus_trader.execution.messages import GenerateOrderStatusReport

        asked = GenerateOrderStatusReport(None, ClientOrderId("unknown"), None, UUID4(), 0)
        assert await node.client.generate_order_status_report(asked) is None

    on_a_node(tmp_path, test)
