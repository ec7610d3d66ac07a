"""Frames as yfinance 1.7 makes them, put back to what was traded."""

import sys
from datetime import date
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from adapters import yahoo
from adapters.source import ActionType
from adapters.yahoo import YahooSource
from prometheus_nt.domain.errors import ConfigError, MissingExtra, SourceError

DAYS = ["2020-08-28", "2020-08-31", "2020-09-01"]


def frame(zone="America/New_York", **columns):
    index = pd.DatetimeIndex(pd.to_datetime(DAYS).tz_localize(zone), name="Date")
    values = {
        "Open": [126.0, 127.5, 132.7],
        "High": [126.4, 131.0, 134.8],
        "Low": [124.5, 126.0, 130.5],
        "Close": [125.0, 129.0, 134.1],
        "Adj Close": [122.0, 126.0, 131.0],
        "Volume": [187_630_000, 225_702_700, 151_948_100],
        "Dividends": [0.205, 0.0, 0.2],
        "Stock Splits": [0.0, 4.0, 0.0],
    }
    return pd.DataFrame(values | columns, index=index)


class YFException(Exception):
    pass


@pytest.fixture
def package(monkeypatch):
    """Put a module in the place of yfinance; its `answer` is what `history` returns."""
    module = ModuleType("yfinance")
    module.exceptions = SimpleNamespace(YFException=YFException)
    module.asked, module.answer = [], frame()

    def history(symbol, **options):
        module.asked.append((symbol, options))
        if isinstance(module.answer, Exception):
            raise module.answer
        return module.answer

    module.Ticker = lambda symbol: SimpleNamespace(
        history=lambda **options: history(symbol, **options)
    )
    monkeypatch.setitem(sys.modules, "yfinance", module)
    return module


def test_prices_volumes_and_dividends_are_put_back_to_as_traded(package):
    source = YahooSource("y", "US_EQ", ("aapl",), first=date(2020, 8, 28))

    table, actions = source.read("AAPL.US"), source.actions("AAPL.US")

    assert table.dates.astype(str).tolist() == DAYS
    assert table.close.tolist() == [500.0, 129.0, 134.1]
    assert table.volume.tolist() == [46_907_500.0, 225_702_700.0, 151_948_100.0]
    assert np.isnan(table.adjusted_close).all()
    assert [(str(item.ex_date), item.action_type, item.value) for item in actions] == [
        ("2020-08-28", ActionType.DIVIDEND, 0.82),
        ("2020-08-31", ActionType.SPLIT, 4.0),
        ("2020-09-01", ActionType.DIVIDEND, 0.2),
    ]
    options = {"interval": "1d", "auto_adjust": False, "actions": True, "start": "2020-08-28"}
    assert package.asked == [("AAPL", options)]


def test_a_split_after_the_last_day_is_divided_out_all_the_same(package):
    source = YahooSource("y", "US_EQ", ("AAPL",), last=date(2020, 8, 28))

    table, actions = source.read("AAPL.US"), source.actions("AAPL.US")

    assert table.close.tolist() == [500.0]
    assert [str(item.ex_date) for item in actions] == ["2020-08-28"]
    assert "end" not in package.asked[0][1]


def test_midnight_in_the_market_is_the_day_and_not_the_one_of_greenwich(package):
    package.answer = frame("Asia/Tokyo")

    table = YahooSource("y", "ASIA_EQ", ("7203",)).read("7203.TSE")

    assert table.dates.astype(str).tolist() == DAYS
    assert package.asked[0][0] == "7203.T"


def test_instruments_are_the_symbols(package):
    source = YahooSource("y", "US_EQ", ("msft", "AAPL.US", "MSFT"))

    found = [(info.instrument_id, info.symbol, info.currency) for info in source.instruments()]

    assert found == [("AAPL.US", "AAPL", "USD"), ("MSFT.US", "MSFT", "USD")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (YFException("Too Many Requests"), "yahoo AAPL: YFException: Too Many Requests; try again"),
        (frame().iloc[:0], "yahoo AAPL: no bar; check the symbol and the days"),
        (frame().drop(columns=["Volume"]), "no column Volume; found Open, High"),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_named_error(package, answer, words):
    package.answer = answer

    with pytest.raises(SourceError, match=words):
        YahooSource("y", "US_EQ", ("AAPL",)).read("AAPL.US")


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(yahoo, "PACKAGE", "no_such_package_of_yahoo")

    with pytest.raises(MissingExtra, match=r"pip install 'prometheus-nt\[yahoo\]'"):
        YahooSource("y", "US_EQ", ("AAPL",))


@pytest.mark.parametrize(
    ("market", "symbols", "words"),
    [("MARS", ("A",), "unknown market 'MARS'"), ("US_EQ", (), "no symbols")],
)
def test_a_wrong_request_is_refused(package, market, symbols, words):
    with pytest.raises(ConfigError, match=words):
        YahooSource("y", market, symbols)
