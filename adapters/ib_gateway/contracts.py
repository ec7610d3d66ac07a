"""The stocks that the simulator knows, and how a client may ask for them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adapters.ib_gateway.wire import Values, integer
from prometheus_nt.domain.errors import DataError

SMALLEST_ID, IDS = 10_000, 2_000_000_000
ORDER_TYPES = "ADAPTIVE,DAY,GTC,IOC,LMT,LOC,MKT,MOC,OPG,STP,STPLMT,WHATIF"
MARKET_RULE = 26
"""The broker's rule of one-cent ticks."""


def contract_id(symbol: str, sec_type: str, currency: str) -> int:
    """Return a contract id that depends on nothing but what the contract is."""
    digest = hashlib.blake2b(f"{symbol}|{sec_type}|{currency}".encode(), digest_size=8).digest()
    return SMALLEST_ID + int.from_bytes(digest, "big") % IDS


def made_up_isin(con_id: int) -> str:
    """Return an ISIN of no country, `ZZ`, for clients who must have one; no real one is known."""
    body = f"ZZ{np.base_repr(con_id, 36):0>9}"
    return f"{body}{check_digit(body)}"


def check_digit(body: str) -> int:
    """Return the last digit of an ISIN (ISO 6166) from the eleven signs before it."""
    digits = "".join(str(int(sign, 36)) for sign in body)
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits)))
    return -sum(sum(divmod(each, 10)) for each in doubled) % 10


@dataclass(frozen=True)
class Stock:
    """A stock or fund, in the broker's words.

    Attributes
    ----------
    con_id : int
    symbol : str
        The broker's, such as `BRK B`.
    primary_exchange : str
        Empty if it is not known.
    long_name : str
        Empty if it is not known.
    min_tick : float
        In units of its currency.
    isin : str or None
        None: the account may not see it, as many may not.
    """

    con_id: int
    symbol: str
    currency: str = "USD"
    primary_exchange: str = ""
    long_name: str = ""
    min_tick: float = 0.01
    isin: str | None = None

    def wire(self, exchange: str = "SMART") -> dict[str, Any]:
        """Return the fields of a contract in answers."""
        return {
            "conId": self.con_id,
            "symbol": self.symbol,
            "secType": "STK",
            "exchange": exchange,
            "currency": self.currency,
            "localSymbol": self.symbol,
            "tradingClass": "",
        }

    @property
    def home(self) -> str:
        """Where it trades: its own exchange, or the router if that is not known."""
        return self.primary_exchange or "SMART"


@dataclass(frozen=True)
class Contracts:
    """All stocks, in the order of the columns of the prices.

    Raises
    ------
    DataError
        If two of them have one id.
    """

    stocks: Sequence[Stock]
    _columns: Mapping[int, int] = field(init=False)

    def __post_init__(self) -> None:
        columns: dict[int, int] = {}
        for column, stock in enumerate(self.stocks):
            if stock.con_id in columns:
                other = self.stocks[columns[stock.con_id]].symbol
                raise DataError(f"contracts: {stock.symbol} and {other} share id {stock.con_id}")
            columns[stock.con_id] = column
        object.__setattr__(self, "_columns", columns)

    def column(self, con_id: int) -> int | None:
        """Return the column of a contract id, None if there is none."""
        return self._columns.get(con_id)

    def matching(self, asked: Values) -> list[int]:
        """Return the columns of every stock that fits the contract fields of a request."""
        if asked["secType"] not in ("STK", "") or asked.get("secIdType"):
            return []
        con_id = integer(asked["conId"])
        if con_id:
            column = self.column(con_id)
            candidates = [] if column is None else [column]
        else:
            candidates = list(range(len(self.stocks)))
        return [column for column in candidates if self._fits(self.stocks[column], asked)]

    def one(self, asked: Values) -> int | None:
        """Return the only column that fits, None if none does or several do."""
        found = self.matching(asked)
        return found[0] if len(found) == 1 else None

    def sampled(self, pattern: str, most: int = 16) -> list[Stock]:
        """Return the stocks whose symbol or name begins with `pattern`, at most `most`."""
        wanted = pattern.upper()
        return [
            stock
            for stock in self.stocks
            if stock.symbol.upper().startswith(wanted) or stock.long_name.upper().startswith(wanted)
        ][:most]

    @staticmethod
    def _fits(stock: Stock, asked: Values) -> bool:
        symbol = asked["symbol"] or asked["localSymbol"]
        if not symbol and not integer(asked["conId"]):
            return False
        known = {
            "symbol": stock.symbol,
            "localSymbol": stock.symbol,
            "currency": stock.currency,
            "primaryExchange": stock.primary_exchange or asked["primaryExchange"],
        }
        if any(asked[name] not in ("", value) for name, value in known.items()):
            return False
        return asked["exchange"] in ("", "SMART", stock.primary_exchange)


def details_of(stock: Stock, hours: tuple[str, str], zone: str) -> dict[str, Any]:
    """Return the values of a contract data message; `hours` are trading and liquid hours."""
    return stock.wire() | {
        "marketName": stock.symbol,
        "minTick": stock.min_tick,
        "orderTypes": ORDER_TYPES,
        "validExchanges": ",".join(dict.fromkeys(("SMART", stock.home))),
        "longName": stock.long_name,
        "primaryExchange": stock.primary_exchange,
        "timeZoneId": zone,
        "tradingHours": hours[0],
        "liquidHours": hours[1],
        "secIds": [] if stock.isin is None else [{"tag": "ISIN", "value": stock.isin}],
        "marketRuleIds": str(MARKET_RULE),
        "stockType": "",
        "minSize": 1,
        "sizeIncrement": 1,
        "suggestedSize": 100,
        "reasons": [],
    }
