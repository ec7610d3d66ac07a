import asyncio

import pytest
from ib_async import Stock

from adapters.ib.config import MarketDataType
from adapters.ib.errors import BrokerRefusal, LinkDown, NoAnswer
from adapters.ib.quotes import NoLine, Quote, Quotes
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from tests.integration.ib.session import Heard, inject, linked, until, with_gateway
from tests.integration.ib_gateway.market import HALF_SPREAD

pytestmark = pytest.mark.integration

AAPL, IBM, KO = (Stock(name, "SMART", "USD") for name in ("AAPL", "IBM", "KO"))
NOPE = Stock("NOPE", "SMART", "USD")


def lines_at(server: Server) -> int:
    """Return how many lines the gateway counts for us."""
    return sum(len(session.desk.lines) for session in server.gateway.sessions.values())


def test_a_subscription_has_a_quote_and_ends_at_the_gateway_too():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes, seen = Quotes(link), []

            quotes.subscribe("AAPL.US", AAPL, seen.append)
            await until(lambda: seen)

            [quote] = seen
            assert quote.bid == pytest.approx(102 * (1 - HALF_SPREAD))
            assert quote.ask == pytest.approx(102 * (1 + HALF_SPREAD))
            assert (quote.last, quote.close) == (102.0, 102.0)
            assert quote.bid_size == quote.ask_size == 100_000
            assert not quote.delayed and not quote.crossed
            assert quotes.latest("AAPL.US") is quote

            quotes.unsubscribe("AAPL.US")
            await until(lambda: lines_at(server) == 0)
            assert quotes.latest("AAPL.US") is None
            assert quotes.lines == 0

    with_gateway(test)


def test_ticks_that_come_together_make_one_quote():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes, seen = Quotes(link), []
            quotes.subscribe("AAPL.US", AAPL, seen.append)
            await until(lambda: seen)
            before = len(seen)

            server.advance(Stage.OPEN)
            await until(lambda: len(seen) > before)
            await link.server_time()

            # Neither side of the old session is left in any of them.
            assert {round(quote.bid, 4) for quote in seen[before:]} <= {
                round(price * (1 - HALF_SPREAD), 4) for price in (103.0,)
            }

    with_gateway(test)


def test_lines_have_a_budget_and_a_freed_one_can_be_used():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server, lines=2) as link:
            quotes = Quotes(link)
            quotes.subscribe("AAPL.US", AAPL)
            quotes.subscribe("IBM.US", IBM)
            quotes.subscribe("IBM.US", IBM)

            with pytest.raises(NoLine, match="all 2 lines are in use"):
                quotes.subscribe("KO.US", KO)
            with pytest.raises(NoLine):
                await quotes.look("KO.US", KO)

            quotes.unsubscribe("AAPL.US")
            quotes.subscribe("KO.US", KO)
            await until(lambda: quotes.latest("KO.US"))
            assert lines_at(server) == 2

    with_gateway(test)


@pytest.mark.parametrize("fault", ["close", "link_back_empty", "restart:seconds=0.2"])
def test_lines_are_opened_again_after_a_reconnect_and_after_1101(fault):
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes, heard = Quotes(link), Heard(link)
            quotes.subscribe("AAPL.US", AAPL)
            quotes.subscribe("IBM.US", IBM)
            await until(lambda: quotes.latest("AAPL.US") and quotes.latest("IBM.US"))

            inject(server, fault)
            await until(lambda: heard.events and heard.events[-1] in ("UP", "RESTORED_DATA_LOST"))

            await until(lambda: quotes.latest("AAPL.US") and quotes.latest("IBM.US"))
            assert lines_at(server) == 2
            assert quotes.lines == 2

    with_gateway(test)


def test_while_the_link_is_lost_no_quote_is_known_and_1102_leaves_the_lines():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes, heard, sent = Quotes(link), Heard(link), []
            quotes.subscribe("AAPL.US", AAPL)
            await until(lambda: quotes.latest("AAPL.US"))
            link.on_wire(lambda way, fields: sent.append(fields[0]) if way == "out" else None)

            inject(server, "link_lost")
            await until(lambda: heard.events)
            assert quotes.latest("AAPL.US") is None
            assert not quotes.healthy
            inject(server, "link_back")
            await until(lambda: heard.events[-1] == "RESTORED")
            server.advance(Stage.OPEN)
            await until(lambda: quotes.latest("AAPL.US"))

            assert "1" not in sent
            assert quotes.latest("AAPL.US").last == 103.0

    with_gateway(test)


def test_a_line_that_was_ended_while_the_link_was_down_stays_ended():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes, heard = Quotes(link), Heard(link)
            quotes.subscribe("AAPL.US", AAPL)
            quotes.subscribe("IBM.US", IBM)
            inject(server, "restart:seconds=0.4")
            await until(lambda: heard.events == ["LOST"])
            quotes.unsubscribe("AAPL.US")
            quotes.subscribe("KO.US", KO)

            await until(lambda: quotes.latest("KO.US") and quotes.latest("IBM.US"))

            assert lines_at(server) == 2

    with_gateway(test)


def test_without_live_data_a_line_has_a_problem_and_no_quote():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes = Quotes(link)
            quotes.subscribe("AAPL.US", AAPL)
            await until(lambda: quotes.problem("AAPL.US"))
            assert quotes.problem("AAPL.US").code == 10089
            assert quotes.latest("AAPL.US") is None
            with pytest.raises(BrokerRefusal, match="10089"):
                await quotes.look("IBM.US", IBM)

    with_gateway(test, "delayed_only")


def test_delayed_data_is_marked():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server, market_data_type=MarketDataType.DELAYED) as link:
            quotes = Quotes(link)
            quotes.subscribe("AAPL.US", AAPL)
            await until(lambda: quotes.latest("AAPL.US"))
            assert quotes.latest("AAPL.US").delayed
            assert (await quotes.look("IBM.US", IBM)).delayed

    with_gateway(test, "delayed_only")


def test_a_look_leaves_no_line_behind():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes = Quotes(link)
            quote = await quotes.look("KO.US", KO)
            assert quote.last == 52.0
            assert (quotes.lines, lines_at(server)) == (0, 0)

    with_gateway(test)


def test_many_names_are_looked_at_with_few_lines_and_those_without_a_quote_say_why():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server, lines=2) as link:
            quotes = Quotes(link)
            names = {f"AAPL{n}": AAPL for n in range(9)} | {"NOPE": NOPE}

            found = await quotes.look_at(names)

            assert sum(isinstance(quote, Quote) for quote in found.values()) == 9
            assert "error 200" in str(found["NOPE"])
            assert quotes.lines == 0

    with_gateway(test)


def test_a_contract_that_does_not_trade_has_no_quote_rather_than_an_old_one():
    async def test(server: Server) -> None:
        async with linked(server, request_timeout_seconds=0.2) as link:
            # KO is halted at row 5; the gateway has its last trade and neither bid nor ask.
            server.advance(Stage.OPEN, 4)
            with pytest.raises(NoAnswer, match=r"quote of KO\.US"):
                await Quotes(link).look("KO.US", KO)

    with_gateway(test)


def test_a_look_that_is_not_answered_ends_and_gives_its_line_back():
    async def test(server: Server) -> None:
        async with linked(server, request_timeout_seconds=0.1) as link:
            quotes, sent = Quotes(link), []
            link.on_wire(lambda way, fields: sent.append(fields[0]) if way == "out" else None)
            with pytest.raises(NoAnswer):
                await quotes.look("AAPL.US", AAPL)
            await until(lambda: "2" in sent)
            assert quotes.lines == 0

    with_gateway(test, "drop_request:request=reqMktData,times=1000")


def test_a_look_ends_with_its_link():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            quotes = Quotes(link)
            looking = asyncio.create_task(quotes.look("AAPL.US", AAPL))
            await asyncio.sleep(0.05)
            inject(server, "close")
            with pytest.raises(LinkDown):
                await looking

    with_gateway(test, "drop_request:request=reqMktData,times=1000")


def test_a_crossed_quote_says_so():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            assert (await Quotes(link).look("AAPL.US", AAPL)).crossed

    with_gateway(test, "crossed_quotes")


def test_a_flood_of_ticks_leaves_the_newest_quote_and_the_link():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server, heartbeat_timeout_seconds=5.0) as link:
            quotes, heard = Quotes(link), Heard(link)
            quotes.subscribe("AAPL.US", AAPL)
            await until(lambda: quotes.latest("AAPL.US"))
            server.advance(Stage.OPEN)
            await until(lambda: quotes.latest("AAPL.US").last == 103.0)
            assert heard.events == []

    with_gateway(test, "tick_flood")


def test_a_broken_farm_is_known_until_it_works_again():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            quotes = Quotes(link)
            assert quotes.healthy
            inject(server, "farms:seconds=0.2")
            await until(lambda: not quotes.healthy)
            await until(lambda: quotes.healthy)

    with_gateway(test)


def test_a_competing_session_takes_the_quotes_away():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes = Quotes(link)
            quotes.subscribe("AAPL.US", AAPL)
            await until(lambda: quotes.latest("AAPL.US"))
            inject(server, "competing")
            await until(lambda: quotes.latest("AAPL.US") is None)

    with_gateway(test)


def test_closing_ends_every_line_at_the_gateway():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            quotes = Quotes(link)
            for name, contract in {"A": AAPL, "I": IBM, "K": KO}.items():
                quotes.subscribe(name, contract)
            await until(lambda: lines_at(server) == 3)
            quotes.close()
            await until(lambda: lines_at(server) == 0)

    with_gateway(test)
