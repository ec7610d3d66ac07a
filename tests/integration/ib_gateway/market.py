"""A small market that the gateway replays, known to the cent."""

from datetime import date

import numpy as np

from adapters.ib_gateway.account import Account
from adapters.ib_gateway.book import Terms
from adapters.ib_gateway.contracts import Contracts, Stock, contract_id, made_up_isin
from adapters.ib_gateway.faults import Faults, read_rule
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.market import Clock, Prices
from prometheus_nt.domain.calendar import MarketCalendar

ACCOUNT = "DU1234567"
HALF_SPREAD = 0.0005
SYMBOLS = ("AAPL", "IBM", "KO")


def prices() -> Prices:
    """Ten sessions of three stocks: AAPL 100 + row, IBM splits 2:1 at row 6, KO halts at row 5."""
    calendar = MarketCalendar.of("US_EQ")
    sessions = calendar.between(date(2024, 1, 2), date(2024, 1, 16))[:10]
    rows = calendar.rows(sessions)
    days = np.arange(10.0)[:, None]
    open_ = np.hstack([100 + days, 200 + days, 50 + days])
    open_[6:, 1] /= 2
    bars = {"open": open_, "high": open_ + 2, "low": open_ - 2, "close": open_ + 1}
    for array in bars.values():
        array[5, 2] = np.nan
    volume = np.full((10, 3), 1_000_000.0)
    volume[5, 2] = np.nan
    split, dividend = np.ones((10, 3)), np.zeros((10, 3))
    split[6, 1], dividend[7, 2] = 2.0, 0.5
    return Prices(
        sessions,
        calendar.opens_ns[rows],
        calendar.closes_ns[rows],
        volume=volume,
        split=split,
        dividend=dividend,
        **bars,
    )


def fill_price(row: int, column: int, side: int, shares: int, middle: float) -> float:
    return round(middle * (1 + side * HALF_SPREAD), 6)


def commission(shares: float, value: float) -> float:
    return max(0.005 * shares, 1.0)


def stocks() -> list[Stock]:
    """Return the stocks; of the last one the account may not see the ISIN."""
    numbers = [contract_id(symbol, "STK", "USD") for symbol in SYMBOLS]
    isins = [*map(made_up_isin, numbers[:-1]), None]
    return [
        Stock(number, symbol, "USD", "NASDAQ", f"{symbol} Inc.", isin=isin)
        for number, symbol, isin in zip(numbers, SYMBOLS, isins, strict=True)
    ]


def new_gateway(*faults: str, journal=None, cash=1_000_000.0, script=(), **terms) -> Gateway:
    replay = prices()
    clock = Clock(replay, first=2, last=9, settle_seconds=600.0)
    return Gateway(
        Terms(Contracts(stocks()), fill_price, commission, **terms),
        clock,
        Account(ACCOUNT, cash),
        Faults([read_rule(text) for text in faults], script),
        journal=journal,
    )
