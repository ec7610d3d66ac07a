import asyncio
import time
from datetime import UTC, datetime

import pytest
from ib_async import Contract, LimitOrder, MarketOrder, Stock

from adapters.ib.errors import BrokerRefusal, LinkDown, NoAnswer
from adapters.ib.link import Link, LinkState
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server, serving
from prometheus_nt.domain.errors import ConfigError
from tests.integration.ib.session import Heard, inject, linked, params_for, until, with_gateway
from tests.integration.ib_gateway.market import ACCOUNT, new_gateway

pytestmark = pytest.mark.integration

AAPL = Stock("AAPL", "SMART", "USD")


def test_a_link_connects_and_knows_its_account_and_the_gateways_time():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            assert link.ready
            assert link.accounts == (ACCOUNT,)
            assert (await link.server_time()).date().isoformat() == "2024-01-03"
            first, second = link.next_id(), link.next_id()
            assert second == first + 1

    with_gateway(test)


def test_an_order_is_written_acknowledged_filled_and_found_again():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            seen, fees = [], []
            link.on_message("openOrder", lambda *row: seen.append(row))
            link.on_message("commissionReport", fees.append)
            order_id = link.next_id()

            sent = link.place_order(order_id, AAPL, MarketOrder("BUY", 10, tif="OPG"))

            assert await sent
            await until(lambda: seen)
            [working] = await link.open_orders()
            assert (working.order_id, working.contract.symbol) == (order_id, "AAPL")
            server.advance(Stage.OPEN)
            await until(lambda: fees)
            [(contract, execution)] = await link.executions()
            assert (contract.symbol, execution.shares) == ("AAPL", 10)
            [held] = await link.positions()
            assert (held.contract.symbol, held.shares) == ("AAPL", 10)
            [done] = await link.completed_orders()
            assert done.order.permId == execution.permId
            assert await link.open_orders() == []

    with_gateway(test)


@pytest.mark.parametrize("faults", [(), ("utc_time",)])
@pytest.mark.parametrize("process_zone", ["UTC", "Asia/Tokyo"])
def test_the_time_of_an_execution_is_the_same_in_both_forms_on_any_machine(
    faults, process_zone, monkeypatch
):
    monkeypatch.setenv("TZ", process_zone)
    time.tzset()

    async def test(server: Server) -> None:
        async with linked(server) as link:
            link.place_order(link.next_id(), AAPL, MarketOrder("BUY", 10, tif="OPG"))
            await link.open_orders()
            server.advance(Stage.OPEN)
            [(_, execution)] = await link.executions()
            opened = server.gateway.clock.now_ns() / 1e9
            assert execution.time == datetime.fromtimestamp(int(opened), UTC)
            assert execution.time.hour == 14

    try:
        with_gateway(test, *faults)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_message_is_seen_on_the_wire_when_it_is_written_and_when_it_is_read():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            seen: list[tuple[str, str]] = []
            link.on_wire(lambda way, fields: seen.append((way, fields[0])))

            await link.server_time()

            assert seen[:2] == [("out", "49"), ("in", "49")]

    with_gateway(test)


def test_a_socket_that_ends_is_announced_and_opened_again_with_newer_ids():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard, last = Heard(link), link.next_id()

            inject(server, "close")

            await until(lambda: heard.events == ["LOST", "UP"])
            assert link.ready
            assert link.next_id() > last

    with_gateway(test)


@pytest.mark.parametrize("fault", ["huge_length", "deaf:seconds=1", "half_frame", "reset"])
def test_a_stream_that_hangs_or_breaks_is_dropped_and_replaced(fault):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            inject(server, fault)

            await until(lambda: heard.events == ["LOST", "UP"])
            assert (await link.server_time()).year == 2024

    with_gateway(test)


def test_a_hung_stream_is_noticed_although_its_socket_looks_connected():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            inject(server, "huge_length")

            await until(lambda: heard.events)
            assert "heartbeat" in heard.reasons[0]

    with_gateway(test)


@pytest.mark.parametrize(
    "fault", ["garbage", "bytewise", "jitter:seconds=0.05", "burst:seconds=0.1"]
)
def test_noise_and_odd_timing_do_not_end_a_link(fault):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            inject(server, fault)
            for _ in range(3):
                await link.server_time()

            assert heard.events == []

    with_gateway(test)


def test_a_message_that_cannot_be_read_is_reported():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            unread: list[tuple[str, ...]] = []
            link.on_message("unreadable", unread.append)

            inject(server, "garbage")

            await until(lambda: unread)

    with_gateway(test)


def test_what_a_handler_raises_does_not_end_the_socket():
    async def test(server: Server) -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: problems.append(about))

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        async with linked(server) as link:
            heard = Heard(link)
            link.on_message("currentTime", broken)
            await link.server_time()
            await link.server_time()
            await until(lambda: len(problems) >= 2)
            assert heard.events == []

    with_gateway(test)


@pytest.mark.parametrize(
    ("fault", "event"), [("link_back", "RESTORED"), ("link_back_empty", "RESTORED_DATA_LOST")]
)
def test_1100_stops_sending_on_a_live_socket_until_1101_or_1102(fault, event):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)
            inject(server, "link_lost")
            await until(lambda: heard.events == ["LOST"])
            assert link.state is LinkState.CUT
            with pytest.raises(LinkDown, match="1100"):
                link.place_order(link.next_id(), AAPL, MarketOrder("BUY", 1))

            inject(server, fault)

            await until(lambda: heard.events == ["LOST", event])
            assert link.ready
            assert sorted(server.gateway.sessions) == [1]
            assert not server.gateway.book.open_orders()

    with_gateway(test)


def test_the_heartbeat_goes_on_while_the_broker_is_out_of_reach():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)
            inject(server, "link_lost")
            await until(lambda: heard.events == ["LOST"])

            inject(server, "close")

            await until(lambda: heard.events == ["LOST", "UP"])

    with_gateway(test)


def test_an_id_in_use_is_named_at_once_and_tried_again():
    async def test(server: Server) -> None:
        async with linked(server):
            second = Link(params_for(server.port, start_timeout_seconds=0.4))

            with pytest.raises(LinkDown, match="326"):
                await second.start()

            assert second.state is LinkState.CLOSED

    with_gateway(test)


def test_an_id_that_becomes_free_is_taken():
    async def test(server: Server) -> None:
        first = Link(params_for(server.port))
        await first.start()
        second = Link(params_for(server.port))
        starting = asyncio.create_task(second.start())
        await until(lambda: "326" in second.reason)

        await first.close()

        await starting
        assert second.ready
        await second.close()

    with_gateway(test)


def test_a_handshake_without_an_answer_ends_after_its_time():
    async def test(server: Server) -> None:
        async with linked(server, connect_timeout_seconds=0.2) as link:
            assert link.ready

    with_gateway(test, "hang_handshake")


def test_a_port_that_is_down_is_tried_until_it_is_up():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            inject(server, "restart:seconds=0.5")

            await until(lambda: heard.events == ["LOST", "UP"])
            assert link.ready

    with_gateway(test)


def test_nobody_at_the_port_is_an_error_that_says_where():
    async def test() -> None:
        async with serving(Server(new_gateway())) as server:
            port = server.port
        link = Link(params_for(port, start_timeout_seconds=0.2))
        with pytest.raises(LinkDown, match=f"nobody listens at 127.0.0.1:{port}"):
            await link.start()

    asyncio.run(test())


def test_a_gateway_of_another_account_is_refused():
    async def test(server: Server) -> None:
        link = Link(params_for(server.port))

        with pytest.raises(
            ConfigError, match=r"does not manage DU\.\.\.567; it manages DU\.\.\.999"
        ):
            await link.start()

    with_gateway(test, "wrong_accounts")


def test_a_link_that_comes_back_to_another_account_refuses_for_good():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)
            inject(server, "wrong_accounts")

            inject(server, "close")

            await until(lambda: link.state is LinkState.REFUSED)
            assert heard.events == ["LOST"]
            with pytest.raises(ConfigError):
                await link.wait_ready(1)

    with_gateway(test)


def test_a_question_without_an_answer_is_no_empty_answer():
    async def test(server: Server) -> None:
        async with linked(server, request_timeout_seconds=0.1) as link:
            with pytest.raises(NoAnswer, match="open orders"):
                await link.open_orders()

    with_gateway(test, "drop_request:request=reqOpenOrders")


def test_a_refused_question_has_its_code():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            with pytest.raises(BrokerRefusal) as refused:
                await link.contract_details(AAPL)
            assert refused.value.code == 321

    with_gateway(test, "data_error:request=reqContractDetails,code=321")


def test_an_unknown_contract_is_an_empty_answer():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            assert await link.contract_details(Contract(symbol="NOPE", secType="STK")) == []

    with_gateway(test)


def test_a_question_ends_with_the_link_that_it_was_asked_on():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            asked = asyncio.ensure_future(link.open_orders())
            await asyncio.sleep(0.05)

            inject(server, "close")

            with pytest.raises(LinkDown):
                await asked

    with_gateway(test, "drop_request:request=reqOpenOrders")


def test_two_lists_of_one_kind_do_not_mix():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            link.place_order(link.next_id(), AAPL, LimitOrder("BUY", 5, 50.0, tif="GTC"))
            await until(lambda: server.gateway.book.open_orders())

            answers = await asyncio.gather(*(link.open_orders() for _ in range(3)))

            assert [len(answer) for answer in answers] == [1, 1, 1]

    with_gateway(test)


def test_a_hundred_orders_at_once_break_no_limit_and_all_arrive():
    async def test(server: Server) -> None:
        async with linked(server, heartbeat_timeout_seconds=5.0) as link:
            codes: list[int] = []
            link.on_message("error", lambda _, code, *__: codes.append(code))
            symbols = [Stock(name, "SMART", "USD") for name in ("AAPL", "IBM", "KO")]

            sent = [
                link.place_order(
                    link.next_id(),
                    symbols[n % 3],
                    MarketOrder(("BUY", "SELL")[n % 2], 1, tif="OPG"),
                )
                for n in range(100)
            ]

            assert all(await asyncio.gather(*sent))
            await until(lambda: len(server.gateway.book.open_orders()) == 100)
            assert 100 not in codes

    with_gateway(test)


def test_orders_overtake_questions_and_keep_their_own_order():
    async def test(server: Server) -> None:
        async with linked(server, messages_per_second=10, heartbeat_seconds=60) as link:
            written: list[str] = []
            link.on_wire(lambda way, fields: written.append(fields[0]) if way == "out" else None)
            for _ in range(30):
                link.send("time", lambda client: client.reqIds(1))
            number = link.next_id()

            link.place_order(number, AAPL, LimitOrder("BUY", 1, 50.0))
            await link.cancel_order(number)

            assert written.index("4") == written.index("3") + 1 < 20
            assert link.waiting > 0

    with_gateway(test)


def test_what_waits_when_the_link_ends_is_known_never_to_have_been_sent():
    async def test(server: Server) -> None:
        async with linked(server, messages_per_second=10, heartbeat_seconds=60) as link:
            heard = Heard(link)
            sent = [
                link.place_order(link.next_id(), AAPL, MarketOrder("BUY", 1, tif="OPG"))
                for _ in range(15)
            ]
            assert await sent[0]

            inject(server, "close")
            done = await asyncio.gather(*sent)

            await until(lambda: "UP" in heard.events)
            assert not done[-1]
            assert len(server.gateway.book.open_orders()) <= sum(done)

    with_gateway(test)


def test_error_100_halves_the_pace():
    async def test(server: Server) -> None:
        async with linked(server, messages_per_second=20) as link:
            inject(server, "too_fast")
            await link.server_time()
            begun = asyncio.get_running_loop().time()
            for _ in range(10):
                link.send("ids", lambda client: client.reqIds(1))

            assert asyncio.get_running_loop().time() - begun < 1
            assert link.waiting > 0

    with_gateway(test)


def test_a_bug_in_the_link_itself_closes_it_and_is_announced():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            async def broken(_: object) -> bool:
                raise RuntimeError("a bug")

            link._beats = broken

            await until(lambda: link.state is LinkState.CLOSED)
            await until(lambda: heard.events == ["LOST"])
            assert "a bug" in heard.reasons[0]

    with_gateway(test)


def test_many_1100_and_1102_end_with_a_link_that_is_up():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard = Heard(link)

            inject(server, "link_storm:count=20")

            await until(lambda: len(heard.events) == 40)
            assert heard.events == ["LOST", "RESTORED"] * 20
            assert link.ready

    with_gateway(test)


def test_what_was_filled_while_the_link_was_away_is_found_with_its_commission():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard, fees = Heard(link), []
            link.on_message("commissionReport", fees.append)
            await link.place_order(link.next_id(), AAPL, MarketOrder("BUY", 10, tif="OPG"))
            await link.open_orders()
            inject(server, "restart:seconds=0.3")
            await until(lambda: heard.events == ["LOST"])
            server.advance(Stage.OPEN)
            await until(lambda: link.ready)
            assert fees == []

            [(_, execution)] = await link.executions()

            await until(lambda: fees)
            assert (execution.shares, fees[0].execId) == (10, execution.execId)
            assert fees[0].commission == 1.0

    with_gateway(test)


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("commission_first", ["commissionReport", "execDetails"]),
        ("duplicate_execution", ["execDetails", "execDetails", "commissionReport"]),
        ("correction:seconds=0", ["execDetails", "commissionReport", "execDetails"]),
    ],
)
def test_executions_and_commissions_come_as_they_were_sent(fault, names):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            heard: list[str] = []
            for name in ("execDetails", "commissionReport"):
                link.on_message(name, lambda *_, name=name: heard.append(name))
            await link.place_order(link.next_id(), AAPL, MarketOrder("BUY", 10, tif="OPG"))
            await link.open_orders()

            server.advance(Stage.OPEN)

            await until(lambda: len(heard) >= len(names))
            assert heard[: len(names)] == names

    with_gateway(test, fault)


def test_a_notice_about_a_live_order_comes_as_a_code_and_ends_nothing():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            codes, statuses = [], []
            link.on_message("error", lambda number, code, *_: codes.append((number, code)))
            link.on_message("orderStatus", lambda _, status, *__: statuses.append(status))
            number = link.next_id()
            link.place_order(number, AAPL, MarketOrder("BUY", 10, tif="OPG"))

            await until(lambda: (number, 10349) in codes)

            assert "Cancelled" not in statuses
            assert [order.order_id for order in await link.open_orders()] == [number]

    with_gateway(test, "warn:code=10349")


@pytest.mark.parametrize(("minute", "level"), [(45, "INFO"), (30, "WARNING")])
def test_a_loss_in_the_nightly_window_is_no_alarm(minute, level, caplog):
    # 23:45 in New York is inside the window of the restart, 23:30 is not.
    night = datetime(2024, 1, 4, 4, minute, tzinfo=UTC)

    async def test(server: Server) -> None:
        link = Link(params_for(server.port), now=lambda: night)
        await link.start()
        heard = Heard(link)
        inject(server, "restart:seconds=0.2")
        await until(lambda: heard.events == ["LOST", "UP"])
        await link.close()

    with caplog.at_level("INFO", logger="adapters.ib.link"):
        with_gateway(test)
    assert {record.levelname for record in caplog.records} == {level}


def test_a_gateway_that_hangs_up_in_the_handshake_costs_no_timeout():
    async def test() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = rude.sockets[0].getsockname()[1]
        link = Link(params_for(port, connect_timeout_seconds=60, start_timeout_seconds=0.5))
        with pytest.raises(LinkDown, match="closed the connection"):
            await link.start()
        rude.close()
        await rude.wait_closed()

    asyncio.run(test())


def test_closing_leaves_no_task_and_no_client_behind():
    async def test(server: Server) -> None:
        before = asyncio.all_tasks()
        async with linked(server) as link:
            assert link.ready
        await until(lambda: not server.gateway.sessions)
        left = {task for task in asyncio.all_tasks() - before if "link" in task.get_name()}

        assert left == set()
        assert link.state is LinkState.CLOSED
        with pytest.raises(LinkDown, match="CLOSED"):
            link.send("ids", lambda client: client.reqIds(1))

    with_gateway(test)
