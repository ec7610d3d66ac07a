from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.ib.provider import (
    IbInstrumentProvider,
    UnresolvedContracts,
    asked_for,
    chosen,
    liquid_hours,
)
from adapters.ib_gateway.book import Terms
from adapters.ib_gateway.contracts import Contracts, Stock, contract_id
from adapters.ib_gateway.server import Server
from prometheus_nt.domain.errors import SourceError
from prometheus_nt.domain.instruments import BrokerContract
from prometheus_nt.venue.prices import equity_instrument
from tests.integration.ib.session import linked, with_gateway
from tests.integration.ib_gateway.market import stocks

pytestmark = pytest.mark.integration


def wanted(symbol: str, **changed: object) -> BrokerContract:
    usual = BrokerContract(symbol, "STK", "SMART", "NASDAQ", "USD", None)
    return replace(usual, **changed)


WANTED = {f"{symbol}.US": wanted(symbol) for symbol in ("AAPL", "IBM", "KO")}


def with_second_listing(server: Server) -> None:
    """Let a second AAPL trade, on another exchange, in place of KO."""
    other = Stock(contract_id("AAPL2", "STK", "USD"), "AAPL", "USD", "NYSE", "Other AAPL")
    terms: Terms = server.gateway.book.terms
    contracts = Contracts([*stocks()[:2], other])
    server.gateway.book.terms = replace(terms, contracts=contracts)


def test_instruments_are_those_of_the_backtest_with_the_brokers_ids_and_ticks():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            provider = IbInstrumentProvider(link, WANTED, equity_instrument)

            await provider.load_all_async()

            apple = provider.known("AAPL.US")
            assert apple.equity == equity_instrument("AAPL.US")
            assert apple.contract.conId == contract_id("AAPL", "STK", "USD")
            assert apple.contract.exchange == "SMART"
            assert apple.tick == 0.01
            assert provider.count == 3
            assert provider.by_con_id(apple.contract.conId) is apple
            assert provider.by_con_id(1) is None
            assert provider.by_nautilus_id(apple.equity.id) is apple
            assert set(provider.con_ids()) == set(WANTED)

    with_gateway(test)


def test_a_contract_without_an_isin_is_as_good_as_any():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            provider = IbInstrumentProvider(link, WANTED, equity_instrument)
            await provider.load_all_async()
            assert provider.known("KO.US").details.secIdList == []
            assert provider.known("KO.US").isin is None

    with_gateway(test)


def test_what_is_known_is_not_asked_for_again():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            provider = IbInstrumentProvider(link, WANTED, equity_instrument)
            asked: list[str] = []
            link.on_wire(lambda way, fields: asked.append(fields[0]) if way == "out" else None)

            await provider.load_all_async()
            await provider.load_all_async()
            await provider.load_async(provider.known("KO.US").equity.id)

            assert asked.count("9") == 3

    with_gateway(test)


def test_every_unknown_symbol_is_named_at_once_and_the_others_are_known():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            names = WANTED | {"NOPE.US": wanted("NOPE"), "NADA.US": wanted("NADA")}
            provider = IbInstrumentProvider(link, names, equity_instrument)

            with pytest.raises(UnresolvedContracts, match=r"2 instruments .* NADA\.US: .* NOPE"):
                await provider.load_all_async()

            assert provider.known("IBM.US").contract.symbol == "IBM"
            with pytest.raises(UnresolvedContracts, match="not asked for yet"):
                provider.known("NOPE.US")

    with_gateway(test)


def test_an_ambiguous_symbol_is_refused_with_its_candidates():
    async def test(server: Server) -> None:
        with_second_listing(server)
        async with linked(server) as link:
            names = {"AAPL.US": wanted("AAPL", primary_exchange=None)}
            provider = IbInstrumentProvider(link, names, equity_instrument)

            with pytest.raises(UnresolvedContracts) as refused:
                await provider.load_all_async()

            said = str(refused.value)
            assert "AAPL means 2 contracts" in said
            assert "AAPL NASDAQ USD 'AAPL Inc.'" in said
            assert "AAPL NYSE USD 'Other AAPL'" in said
            assert "ib_conid" in said

    with_gateway(test)


@pytest.mark.parametrize(
    "changed",
    [{"primary_exchange": "NYSE"}, {"con_id": contract_id("AAPL2", "STK", "USD")}],
)
def test_the_exchange_or_the_id_of_the_store_decides_between_candidates(changed):
    async def test(server: Server) -> None:
        with_second_listing(server)
        async with linked(server) as link:
            provider = IbInstrumentProvider(
                link, {"AAPL.US": wanted("AAPL", **changed)}, equity_instrument
            )
            await provider.load_all_async()
            assert provider.known("AAPL.US").contract.primaryExchange == "NYSE"

    with_gateway(test)


def test_two_instruments_of_one_contract_are_refused():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            names = {"AAPL.US": wanted("AAPL"), "AAPL-OLD.US": wanted("AAPL")}
            provider = IbInstrumentProvider(link, names, equity_instrument)
            with pytest.raises(UnresolvedContracts, match=r"it has the contract of AAPL-OLD\.US"):
                await provider.load_all_async()

    with_gateway(test)


def test_an_exchange_that_the_broker_calls_otherwise_does_not_hide_the_only_contract():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            there = wanted("AAPL", primary_exchange="ISLAND")
            [details] = chosen(there, await link.contract_details(asked_for(there)))
            assert details.contract.primaryExchange == "NASDAQ"

    with_gateway(test)


@pytest.mark.parametrize(("faults", "close_hour"), [((), 21), (("half_day",), 18)])
def test_regular_hours_are_read_with_half_days(faults, close_hour):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            provider = IbInstrumentProvider(link, WANTED, equity_instrument)
            await provider.load_all_async()
            details = provider.known("AAPL.US").details
            hours = liquid_hours(details)
            day = datetime(2024, 1, 4, tzinfo=UTC).date()
            opened, closed = hours[day]
            assert (opened.hour, opened.minute, closed.hour) == (14, 30, close_hour)
            assert hours.get(datetime(2024, 1, 6, tzinfo=UTC).date()) is None

            details.liquidHours = "nonsense"
            with pytest.raises(SourceError, match="nonsense"):
                liquid_hours(details)

    with_gateway(test, *faults)
