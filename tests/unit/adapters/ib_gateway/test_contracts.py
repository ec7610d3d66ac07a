import pytest

from adapters.ib_gateway.contracts import Contracts, Stock, check_digit, contract_id, made_up_isin
from adapters.ib_gateway.requests import CONTRACT
from prometheus_nt.domain.errors import DataError

BLANK = dict.fromkeys(CONTRACT.split(), "")


@pytest.fixture
def contracts() -> Contracts:
    return Contracts(
        [
            Stock(10, "AAPL", "USD", "NASDAQ", "Apple Inc."),
            Stock(11, "BRK B", "USD", "NYSE", "Berkshire Hathaway Inc."),
            Stock(12, "ABC", "USD", "NYSE"),
            Stock(13, "ABC", "EUR", "IBIS"),
        ]
    )


def test_an_id_depends_on_the_contract_alone():
    assert contract_id("AAPL", "STK", "USD") == 1964210864
    assert contract_id("AAPL", "STK", "EUR") != contract_id("AAPL", "STK", "USD")


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ({"symbol": "AAPL", "secType": "STK"}, [0]),
        ({"conId": "11"}, [1]),
        ({"conId": "11", "symbol": "AAPL"}, []),
        ({"conId": "99"}, []),
        ({"symbol": "BRK B", "exchange": "NYSE"}, [1]),
        ({"symbol": "BRK B", "exchange": "NASDAQ"}, []),
        ({"symbol": "ABC"}, [2, 3]),
        ({"symbol": "ABC", "currency": "EUR"}, [3]),
        ({"symbol": "AAPL", "primaryExchange": "NYSE"}, []),
        ({"localSymbol": "AAPL"}, [0]),
        ({"symbol": "AAPL", "secType": "OPT"}, []),
        ({"symbol": "AAPL", "secIdType": "ISIN", "secId": "US0378331005"}, []),
        ({}, []),
    ],
)
def test_a_request_finds_the_stocks_that_fit_all_it_says(contracts, asked, columns):
    assert contracts.matching(BLANK | asked) == columns


def test_several_stocks_are_not_one(contracts):
    assert contracts.one(BLANK | {"symbol": "ABC"}) is None
    assert contracts.one(BLANK | {"symbol": "AAPL"}) == 0


def test_a_pattern_finds_symbols_and_names(contracts):
    assert [stock.symbol for stock in contracts.sampled("be")] == ["BRK B"]
    assert [stock.symbol for stock in contracts.sampled("A")] == ["AAPL", "ABC", "ABC"]


def test_two_stocks_of_one_id_are_an_error():
    with pytest.raises(DataError, match="KO and AAPL share id 10"):
        Contracts([Stock(10, "AAPL"), Stock(10, "KO")])


@pytest.mark.parametrize("isin", ["US0378331005", "GB0002634946", "DE0007164600", "JP3633400001"])
def test_the_check_digit_of_an_isin_is_that_of_real_ones(isin):
    assert check_digit(isin[:-1]) == int(isin[-1])


def test_made_up_isins_are_of_no_country_and_differ_as_ids_do():
    made = [made_up_isin(number) for number in (10_000, 10_001, 2_000_009_999)]

    assert len(set(made)) == 3
    assert all(isin.startswith("ZZ") and len(isin) == 12 for isin in made)
    assert [check_digit(isin[:-1]) for isin in made] == [int(isin[-1]) for isin in made]
