"""Yahoo as a source of prices and corporate actions, through the optional package yfinance.

Yahoo divides prices, volumes and dividends by later splits; they are put back to what was traded.
Its adjusted close is left out for the reason given in `adapters.eodhd.prices`. Yahoo is an
unofficial source: it has no delisted names and may refuse to answer at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from adapters.files import listed_actions, restore_as_traded
from adapters.source import (
    Action,
    Adjustment,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    PriceTable,
)
from prometheus_nt.domain.errors import ConfigError, MissingExtra, SourceError
from prometheus_nt.domain.record import FloatArray

PACKAGE = "yfinance"
INSTALL = "pip install 'prometheus-nt[yahoo]'"

COLUMNS = {
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "volume": "Volume",
    "dividend": "Dividends",
    "split": "Stock Splits",
}

MARKETS = {
    "US_EQ": ("", "US", "USD"),
    "EU_EQ": (".L", "LSE", "GBX"),
    "ASIA_EQ": (".T", "TSE", "JPY"),
}
"""Market -> what Yahoo writes behind a symbol, our suffix, and the currency of Yahoo's prices."""

SURVIVORSHIP = (
    "Survivorship-biased: Yahoo has no delisted names; the dead are missing and returns are"
    " flattered"
)


@dataclass(frozen=True)
class YahooSource:
    """Daily bars of `symbols` between two days, both included.

    yfinance shares one session between its calls, so that requests are made one at a time.

    Raises
    ------
    MissingExtra
        If yfinance is not installed.
    ConfigError
        If no symbol is given, or the market is unknown.
    """

    dataset_id: str
    market_id: str
    symbols: tuple[str, ...]
    first: date | None = None
    last: date | None = None
    _package: ModuleType = field(init=False, repr=False, compare=False)
    _asking: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)
    _pending: dict[str, Sequence[Action]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.market_id not in MARKETS:
            known = ", ".join(MARKETS)
            raise ConfigError(f"unknown market {self.market_id!r}; known markets: {known}")
        if not self.symbols:
            raise ConfigError("yahoo: no symbols; for example --symbols AAPL,MSFT")
        object.__setattr__(self, "_package", _yfinance())

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo(
            dataset_id=self.dataset_id,
            source="yahoo",
            market_id=self.market_id,
            adjustment=Adjustment.AS_TRADED,
            synthetic_bars=False,
            description="Daily bars, splits and dividends from Yahoo, put back to as traded.",
            survivorship=SURVIVORSHIP,
        )

    def instruments(self) -> Sequence[InstrumentInfo]:
        _, suffix, currency = MARKETS[self.market_id]
        listed = []
        for name in sorted({symbol.upper() for symbol in self.symbols}):
            symbol = name.removesuffix(f".{suffix}")
            listed.append(
                InstrumentInfo(f"{symbol}.{suffix}", symbol, symbol, symbol, currency=currency)
            )
        return listed

    def refused(self) -> Sequence[Issue]:
        return ()

    def read(self, instrument_id: str) -> PriceTable:
        # Splits after the last day were divided out as well, so the history is read to today.
        frame = self._history(instrument_id)
        table, extra = _columns(instrument_id, frame)
        table, extra = restore_as_traded(table, extra)
        self._pending[instrument_id] = self._inside(listed_actions(table, extra))
        days, last = table.dates, self.last
        kept = days <= np.datetime64(last, "D") if last else np.ones(len(days), dtype=bool)
        return table.take(np.flatnonzero(kept))

    def actions(self, instrument_id: str) -> Sequence[Action]:
        if instrument_id not in self._pending:
            self.read(instrument_id)
        return self._pending.pop(instrument_id)

    def _inside(self, actions: Sequence[Action]) -> Sequence[Action]:
        return [action for action in actions if self.last is None or action.ex_date <= self.last]

    def _history(self, instrument_id: str) -> Any:
        symbol = f"{instrument_id.rpartition('.')[0]}{MARKETS[self.market_id][0]}"
        where = f"yahoo {symbol}"
        span = {"period": "max"} if self.first is None else {"start": str(self.first)}
        try:
            with self._asking:
                frame = self._package.Ticker(symbol).history(
                    interval="1d", auto_adjust=False, actions=True, **span
                )
        except self._package.exceptions.YFException as failure:
            problem = f"{type(failure).__name__}: {failure}"
            raise SourceError(where, problem, "try again later, or check the symbol") from None
        if not len(frame):
            # yfinance logs the reason and returns nothing.
            raise SourceError(where, "no bar", "check the symbol and the days, or try again later")
        if missing := [name for name in COLUMNS.values() if name not in frame.columns]:
            found = ", ".join(map(str, frame.columns))
            raise SourceError(
                where,
                f"no column {', '.join(missing)}; found {found}",
                f"install another version: {INSTALL}",
            )
        return frame


def _columns(instrument_id: str, frame: Any) -> tuple[PriceTable, Mapping[str, FloatArray]]:
    """Return bars and actions of a frame whose index is midnight in the market's zone."""
    # The local day counts: midnight in New York is another instant, in Tokyo another day, in UTC.
    index = frame.index.tz_localize(None) if frame.index.tz is not None else frame.index
    numbers: dict[str, Any] = {
        name: np.array(frame[column].to_numpy(), dtype=np.float64)
        for name, column in COLUMNS.items()
    }
    extra = {name: numbers.pop(name) for name in ("dividend", "split")}
    table = PriceTable(
        instrument_id,
        index.to_numpy().astype("datetime64[D]"),
        **numbers,
        adjusted_close=np.full(len(index), np.nan),
        source_file="yahoo",
        source_rows=np.arange(1, len(index) + 1),
        column_names={name: COLUMNS[name] for name in numbers},
    )
    return table, extra


def _yfinance() -> ModuleType:
    try:
        return import_module(PACKAGE)
    except ImportError:
        raise MissingExtra("data of Yahoo", PACKAGE, f"run {INSTALL}") from None
