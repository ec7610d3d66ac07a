"""The order desk against the gateway's faults: each ends with the broker and the desk agreed."""

import asyncio
import os
from functools import partial

import pytest

from adapters.ib.halt import HaltReason
from adapters.ib.journal import Journal
from adapters.ib.orders import Filled, Rejected, Standing
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from prometheus_nt.domain.errors import (
    ConfigError,
    GateRefusal,
    StoreError,
    TradingHalted,
    VenueError,
)
from tests.integration.ib.session import inject, until, with_gateway
from tests.integration.ib.trading import require_agreement, trading
from tests.integration.ib_gateway.market import ACCOUNT

pytestmark = pytest.mark.integration

FILLED, CANCELLED, ACCEPTED = Standing.FILLED, Standing.CANCELLED, Standing.ACCEPTED
REJECTED = Standing.REJECTED
RESTING = {"kind": "LMT", "tif": "GTC", "limit": 50.0}
"""Terms of an order that the market never reaches."""


async def one_opening(path, server: Server, *rules: str) -> list[str]:
    """Trade one order for the open under faults; return the names of what was told of it."""
    async with trading(server, path) as trader:
        for rule in rules:
            inject(server, rule)
        trader.send("r")
        await trader.reaches("r", ACCEPTED)
        server.advance(Stage.OPEN)
        await trader.reaches("r", FILLED)
        await trader.learns()
        require_agreement(server, trader)
        assert trader.halts() == []
        return trader.names("r")


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ((), ["Accepted", "Filled"]),
        (("duplicate_execution",), ["Accepted", "Filled"]),
        (("duplicate_status",), ["Accepted", "Filled"]),
        (("three_partials",), ["Accepted", "Filled", "Filled", "Filled"]),
        (("commission_first",), ["Accepted", "Filled"]),
        (("missing_status",), ["Accepted", "Filled"]),
        (("utc_time",), ["Accepted", "Filled"]),
        (("garbage",), ["Accepted", "Filled"]),
        (("bytewise",), ["Accepted", "Filled"]),
        (("jitter:seconds=0.05",), ["Accepted", "Filled"]),
        (("silent_fill",), ["Accepted", "Filled"]),
        (("link_storm",), ["Accepted", "Filled"]),
    ],
)
def test_an_order_for_the_open_fills_once_under(rules, told, tmp_path):
    async def test(server: Server) -> None:
        said = await one_opening(tmp_path, server, *rules)
        assert said == told

    with_gateway(test)


def test_a_commission_that_never_comes_books_the_fill_without_one(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "commission_never")
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await trader.reaches("r", FILLED)

            [fill] = [event for event in trader.told if isinstance(event, Filled)]
            assert fill.commission is None
            server.gateway.faults.rules.clear()
            await until(lambda: trader.names("r")[-1] == "CommissionCorrected")
            assert trader.told[-1].amount == 1.0
            require_agreement(server, trader)

    with_gateway(test)


def test_a_corrected_execution_is_one_fill_and_a_correction(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "correction:seconds=0.05")
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await until(lambda: "FillCorrected" in trader.names("r"))

            assert trader.names("r") == ["Accepted", "Filled", "FillCorrected"]
            assert trader.desk.orders.by_ref["r"].filled == 100
            require_agreement(server, trader)

    with_gateway(test)


def test_a_busted_execution_halts(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "bust:seconds=0.05")
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await until(trader.halts)

            assert trader.halts() == [HaltReason.REVISED_FILL]
            with pytest.raises(GateRefusal, match="REVISED_FILL"):
                trader.send("next")

    with_gateway(test)


@pytest.mark.parametrize("code", [201, 110, 103])
@pytest.mark.parametrize("inactive", [0, 1])
def test_a_refused_order_is_rejected_with_its_code(code, inactive, tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, f"reject:code={code},inactive={inactive}")
            trader.send("r")
            await trader.reaches("r", REJECTED)

            [rejected] = [event for event in trader.told if isinstance(event, Rejected)]
            assert rejected.code == code
            assert rejected.text
            require_agreement(server, trader)

    with_gateway(test)


@pytest.mark.parametrize("code", [10349, 2109, 399, 404])
def test_a_notice_for_a_working_order_leaves_it_working(code, tmp_path):
    async def test(server: Server) -> None:
        said = await one_opening(tmp_path, server, f"warn:code={code}")
        assert said == ["Accepted", "Filled"]

    with_gateway(test)


@pytest.mark.parametrize("fault", ["close", "close_after", "reset", "half_frame", "huge_length"])
def test_an_order_whose_acknowledgement_is_lost_with_the_socket_fills_while_away(fault, tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            server.gateway.faults.rules.clear()
            inject(server, f"{fault}:on=ack")
            trader.send("r")
            await trader.loses()
            server.advance(Stage.OPEN)
            await trader.reaches("r", FILLED)

            assert trader.names("r") == ["Accepted", "Filled"]
            await trader.learns()
            require_agreement(server, trader)
            assert trader.halts() == []

    with_gateway(test)


def test_a_limit_order_that_fills_while_the_socket_is_lost_is_found(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", kind="LMT", tif="GTC", limit=105.0)
            await trader.reaches("r", ACCEPTED)
            inject(server, "close")
            await trader.loses()
            server.advance(Stage.OPEN)
            await trader.reaches("r", FILLED)
            await trader.learns()
            require_agreement(server, trader)

    with_gateway(test)


@pytest.mark.parametrize("back", ["link_back", "link_back_empty"])
def test_the_gateways_own_link_may_go_and_come_back_while_an_order_fills(back, tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
            inject(server, "link_lost")
            await until(lambda: not trader.desk.ready)
            with pytest.raises(GateRefusal, match="link"):
                trader.send("refused")
            server.advance(Stage.OPEN)
            await asyncio.sleep(0.1)
            assert trader.standing("r") is ACCEPTED
            inject(server, back)
            await trader.reaches("r", FILLED)

            await trader.learns()
            require_agreement(server, trader)
            trader.send("next", "IBM", kind="MKT", tif="DAY")
            await trader.reaches("next", FILLED)

    with_gateway(test)


def test_a_gateway_that_restarts_for_a_while_loses_nothing(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
            inject(server, "restart:seconds=0.5")
            await until(lambda: not trader.desk.ready)
            with pytest.raises(GateRefusal):
                trader.send("meanwhile")
            server.advance(Stage.OPEN)
            await trader.reaches("r", FILLED)

            await trader.desk.resynced(5)
            trader.send("next", tif="DAY")
            await trader.reaches("next", FILLED)
            require_agreement(server, trader)
            assert "meanwhile" not in trader.desk.journal.intents

    with_gateway(test)


@pytest.mark.parametrize("fault", ["late_ack", "missing_ack"])
def test_an_acknowledgement_that_comes_late_or_never_is_looked_up(fault, tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            server.advance(Stage.OPEN)
            inject(server, fault)
            trader.send("r", tif="DAY")
            await trader.reaches("r", FILLED)
            assert trader.names("r") == ["Accepted", "Filled"]

            inject(server, fault)
            trader.send("rest", **RESTING)
            await trader.reaches("rest", ACCEPTED)
            require_agreement(server, trader)

    with_gateway(test)


def test_an_order_that_vanishes_is_rejected_after_two_rounds_of_lists_and_never_sent_again(
    tmp_path,
):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "lose_order")
            trader.send("r")
            await trader.reaches("r", REJECTED)

            assert trader.told[-1] == Rejected("r", 0, "never reached the broker")
            with pytest.raises(VenueError, match="never resent"):
                trader.send("r")
            assert server.gateway.book.placed == 1
            trader.send("again")
            await trader.reaches("again", ACCEPTED)
            require_agreement(server, trader)

    with_gateway(test)


def test_an_order_that_is_written_to_a_dead_socket_is_rejected_and_never_sent_again(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "reset")
            trader.send("r")
            await trader.reaches("r", REJECTED)
            assert server.gateway.book.placed == 0
            assert trader.halts() == []

    with_gateway(test)


def test_an_order_that_is_in_no_list_the_day_after_halts_instead(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "lose_order")
            trader.send("r")
            server.advance(Stage.NIGHT, 2)
            await until(trader.halts)

            assert trader.halts() == [HaltReason.UNRESOLVED_ORDER]
            assert trader.standing("r") is Standing.SENT

    with_gateway(test)


def test_an_order_dropped_for_pacing_is_found_missing_and_not_sent_again(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "drop_request:request=placeOrder,times=0")
            trader.send("r")
            inject(server, "too_fast")
            await trader.reaches("r", REJECTED)
            require_agreement(server, trader)

    with_gateway(test)


def test_a_cancel_ends_an_order(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            trader.desk.cancel("r")
            await trader.reaches("r", CANCELLED)

            assert trader.names("r") == ["Accepted", "Cancelled"]
            require_agreement(server, trader)
            with pytest.raises(GateRefusal, match="cancelled"):
                trader.desk.cancel("r")

    with_gateway(test)


def test_a_cancel_that_races_the_fill_leaves_the_order_filled(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "cancel_races_fill")
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            trader.desk.cancel("r")
            await trader.reaches("r", FILLED)
            await trader.learns()

            assert trader.names("r") == ["Accepted", "Filled"]
            require_agreement(server, trader)

    with_gateway(test)


def test_a_cancelled_order_that_fills_after_all_is_filled(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "fill_after_cancel:seconds=0.05")
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            trader.desk.cancel("r")
            await trader.reaches("r", FILLED)

            assert trader.names("r") == ["Accepted", "Cancelled", "Filled"]
            require_agreement(server, trader)

    with_gateway(test)


def test_a_cancel_that_stays_pending_alerts_and_the_order_stays_open(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "cancel_pending:times=0")
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            trader.desk.cancel("r")
            await until(lambda: "Alert" in trader.names("r"))

            assert trader.standing("r") is ACCEPTED
            require_agreement(server, trader)

    with_gateway(test)


def test_a_cancel_that_is_lost_with_the_socket_is_asked_for_again(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            inject(server, "drop_request:request=cancelOrder,nth=1,times=3")
            trader.desk.cancel("r")
            inject(server, "close")
            await trader.reaches("r", CANCELLED)
            require_agreement(server, trader)

    with_gateway(test)


def test_a_change_is_an_update_and_a_refused_one_leaves_the_order(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            trader.desk.modify("r", (50, 51.0, None))
            await until(lambda: "Updated" in trader.names("r"))
            trader.desk.modify("r", (50, 51.005, None))
            await until(lambda: "ModifyRejected" in trader.names("r"))

            assert trader.told[-1].code == 110
            [order] = server.gateway.book.open_orders()
            assert (order.quantity, order.limit) == (50, 51.0)
            require_agreement(server, trader)

    with_gateway(test)


def test_a_change_without_an_answer_is_refused_once_the_list_shows_the_old_terms(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            inject(server, "drop_request:request=placeOrder,times=0")
            trader.desk.modify("r", (50, 51.0, None))
            await until(lambda: "ModifyRejected" in trader.names("r"))
            require_agreement(server, trader)

    with_gateway(test)


def test_somebody_at_the_terminal_may_edit_and_cancel(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", **RESTING)
            await trader.reaches("r", ACCEPTED)
            inject(server, "user_edits:factor=0.5")
            await until(lambda: "Updated" in trader.names("r"))
            inject(server, "user_cancels")
            await trader.reaches("r", CANCELLED)
            require_agreement(server, trader)

    with_gateway(test)


def test_an_order_that_fills_in_part_and_expires_is_cancelled_with_its_part(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "partial_then_stop")
            trader.send("r", tif="DAY")
            await trader.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await trader.reaches("r", Standing.PARTLY_FILLED)
            server.advance(Stage.CLOSED)
            await trader.reaches("r", CANCELLED)

            assert trader.desk.orders.by_ref["r"].filled == 40
            require_agreement(server, trader)

    with_gateway(test)


def test_an_order_of_somebody_else_halts(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "foreign_order")
            await until(trader.halts)

            assert trader.halts() == [HaltReason.UNKNOWN_ORDER]

    with_gateway(test)


def test_order_ids_that_begin_anew_do_not_mix_orders_up(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("first")
            await trader.reaches("first", ACCEPTED)
            server.advance(Stage.OPEN)
            await trader.reaches("first", FILLED)
            inject(server, "ids_restart")
            trader.send("second", "IBM", tif="DAY")
            await trader.reaches("second", FILLED)
            require_agreement(server, trader)
            assert trader.halts() == []

    with_gateway(test)


def test_a_restart_knows_its_orders_and_says_nothing_twice(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("done")
            trader.send("rest", "IBM", **RESTING)
            await trader.reaches("rest", ACCEPTED)
        server.advance(Stage.OPEN)

        async with trading(server, tmp_path) as trader:
            await trader.reaches("done", FILLED)
            require_agreement(server, trader)
            for ref in ("done", "rest"):
                with pytest.raises(VenueError, match="never resent"):
                    trader.send(ref)
            trader.desk.cancel("rest")
            await trader.reaches("rest", CANCELLED)

        async with trading(server, tmp_path) as trader:
            assert trader.told == []
            assert trader.standing("done") is FILLED
            assert trader.standing("rest") is CANCELLED
            assert trader.halts() == []

    with_gateway(test)


def test_a_partly_filled_order_is_whole_after_a_restart(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "partial_then_stop")
            trader.send("r", kind="LMT", tif="GTC", limit=105.0)
            await trader.reaches("r", ACCEPTED)
            server.advance(Stage.OPEN)
            await trader.reaches("r", Standing.PARTLY_FILLED)
        server.gateway.faults.stopped.clear()
        server.advance(Stage.CLOSED)

        async with trading(server, tmp_path) as trader:
            await trader.reaches("r", FILLED)
            assert trader.desk.orders.by_ref["r"].filled == 100
            require_agreement(server, trader)

    with_gateway(test)


def test_an_acknowledged_order_that_no_list_explains_is_over_for_good(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            inject(server, "lose_order")
            trader.send("r")
            server.advance(Stage.NIGHT, 2)
            await until(trader.halts)
            trader.desk.acknowledge("operator")

            assert trader.standing("r") is REJECTED

        async with trading(server, tmp_path) as trader:
            await trader.learns()
            assert trader.standing("r") is REJECTED
            assert trader.desk.ready

    with_gateway(test)


def test_an_order_that_fills_and_is_forgotten_by_the_lists_while_away_halts(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.send("r", kind="LMT", tif="GTC", limit=105.0)
            await trader.reaches("r", ACCEPTED)
        server.advance(Stage.OPEN, 2)

        async with trading(server, tmp_path) as trader:
            await until(trader.halts)
            assert trader.halts() == [HaltReason.UNRESOLVED_ORDER]

    with_gateway(test)


def test_a_halt_survives_a_restart_until_somebody_acknowledges_it(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            trader.desk.halt(HaltReason.POSITION_BREAK, "AAPL", "10 here, 20 there")
        async with trading(server, tmp_path) as trader:
            with pytest.raises(GateRefusal, match="POSITION_BREAK AAPL"):
                trader.send("r")
            trader.desk.acknowledge("operator")
            trader.send("r")
            await trader.reaches("r", ACCEPTED)
        async with trading(server, tmp_path) as trader:
            assert trader.desk.ready

    with_gateway(test)


def test_nothing_is_sent_that_the_journal_cannot_keep(tmp_path, monkeypatch):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:

            def full(*_):
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", full)
                with pytest.raises(TradingHalted, match="No space left"):
                    trader.send("r")
            await trader.learns()

            assert trader.halts() == [HaltReason.JOURNAL]
            assert server.gateway.book.placed == 0
            with pytest.raises(GateRefusal, match="JOURNAL"):
                trader.send("next")

    with_gateway(test)


def test_a_gateway_of_another_account_is_refused_before_anything_is_sent(tmp_path):
    async def test(server: Server) -> None:
        with pytest.raises(ConfigError, match="does not manage"):
            async with trading(server, tmp_path):
                pass
        assert server.gateway.book.placed == 0

    with_gateway(test, "wrong_accounts")


def test_a_second_desk_of_the_same_state_is_refused(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path):
            with pytest.raises(StoreError, match="another process"):
                Journal(tmp_path / "orders.journal", ACCOUNT, 1)

    with_gateway(test)


def test_two_hundred_orders_at_once_all_fill_and_keep_the_gateways_pace(tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path, heartbeat_timeout_seconds=2.0) as trader:
            codes: list[int] = []
            trader.desk.link.on_message("error", lambda _, code, *__: codes.append(code))
            server.advance(Stage.OPEN)
            symbols = ("AAPL", "IBM", "KO")
            trader.desk.submit(
                *(trader.intent(f"plan-{n}", symbols[n % 3], 1, tif="DAY") for n in range(200))
            )
            for n in range(200):
                await trader.reaches(f"plan-{n}", FILLED)

            assert 100 not in codes
            assert len(server.gateway.book.fills) == 200
            await trader.learns()
            require_agreement(server, trader)

    with_gateway(test)


def test_no_log_line_shows_the_account(tmp_path, caplog):
    async def test(server: Server) -> None:
        await one_opening(tmp_path, server, "close:on=fill")

    with caplog.at_level(0):
        with_gateway(partial(test))

    assert ACCOUNT not in "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("adapters.ib.")
    )
