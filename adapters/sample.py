"""Real market data from installed packages: no download, no key.

`sample_sp500`: adjusted closes of twenty large companies, 1990 to 2022, and the S&P 500.

The source has one price a day, adjusted for splits and dividends. Its bars are synthetic: open,
high and low equal the close of their own session. A decision made at one close and filled at the
next "open" therefore pays the next session's close: later than a real open, never the price it was
decided on.

`sample_ohlcv`: daily bars of five companies as traded, 2000 to 2013, and the S&P 500, 1999 to 2018.

Splits and dividends are inferred from the adjusted close (see `adapters.inference`), whose
publisher relates a dividend to the close of its ex-date. They agree with the record: Apple split
2:1 on 2000-06-21 and 2005-02-28, Microsoft 2:1 on 2003-02-18 and paid 3.08 on 2004-11-15. Volumes
are shares as traded, so they need no conversion. Apple's fall of 52 % on 2000-09-29 is real.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from adapters.inference import DividendBasis, infer_actions
from adapters.source import (
    Action,
    Adjustment,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    PriceTable,
)
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.record import FloatArray

INDEX = InstrumentInfo("SPX.INDX", "SPX", "SPX", "S&P 500 price index", asset_class="INDEX")

COMPANIES = {
    "AAPL": ("Apple Inc.", "Information Technology"),
    "AMD": ("Advanced Micro Devices, Inc.", "Information Technology"),
    "BAC": ("Bank of America Corporation", "Financials"),
    "BBY": ("Best Buy Co., Inc.", "Consumer Discretionary"),
    "CVX": ("Chevron Corporation", "Energy"),
    "FB": ("Meta Platforms, Inc.", "Communication Services"),
    "GE": ("General Electric Company", "Industrials"),
    "GOOG": ("Alphabet Inc.", "Communication Services"),
    "HD": ("The Home Depot, Inc.", "Consumer Discretionary"),
    "IBM": ("International Business Machines Corporation", "Information Technology"),
    "JNJ": ("Johnson & Johnson", "Health Care"),
    "JPM": ("JPMorgan Chase & Co.", "Financials"),
    "KO": ("The Coca-Cola Company", "Consumer Staples"),
    "LLY": ("Eli Lilly and Company", "Health Care"),
    "MRK": ("Merck & Co., Inc.", "Health Care"),
    "MSFT": ("Microsoft Corporation", "Information Technology"),
    "PEP": ("PepsiCo, Inc.", "Consumer Staples"),
    "PFE": ("Pfizer Inc.", "Health Care"),
    "PG": ("The Procter & Gamble Company", "Consumer Staples"),
    "RRC": ("Range Resources Corporation", "Energy"),
    "UNH": ("UnitedHealth Group Incorporated", "Health Care"),
    "WMT": ("Walmart Inc.", "Consumer Staples"),
    "XOM": ("Exxon Mobil Corporation", "Energy"),
}
"""Symbol -> name and GICS sector; both are today's, not those of the day of a price."""

SAMPLE_SP500 = DatasetInfo(
    dataset_id="sample_sp500",
    source="skfolio.datasets",
    market_id="US_EQ",
    adjustment=Adjustment.TOTAL_RETURN,
    synthetic_bars=True,
    description="Twenty large US companies and the S&P 500, adjusted closes, 1990 to 2022",
    survivorship=(
        "Survivorship-biased: twenty companies chosen because they survived to 2022;"
        " the dead are missing and returns are flattered"
    ),
)

SAMPLE_OHLCV = DatasetInfo(
    dataset_id="sample_ohlcv",
    source="bokeh_sampledata.stocks, arch.data.sp500",
    market_id="US_EQ",
    adjustment=Adjustment.AS_TRADED,
    synthetic_bars=False,
    description="AAPL, FB, GOOG, IBM and MSFT as traded 2000 to 2013, the S&P 500 1999 to 2018",
    survivorship=(
        "Survivorship-biased: five companies chosen because they are famous today;"
        " the dead are missing and returns are flattered"
    ),
)

Loader = Callable[[], Mapping[str, PriceTable]]


@dataclass(frozen=True)
class SampleSource:
    """One of the two sample datasets.

    Attributes
    ----------
    load : callable
        Returns the price tables by instrument id; called once, when first needed.
    basis : DividendBasis or None
        How dividends are inferred from the adjusted close; None if they are part of the prices.
    """

    info: DatasetInfo
    load: Loader
    basis: DividendBasis | None

    @cached_property
    def _tables(self) -> Mapping[str, PriceTable]:
        return self.load()

    def instruments(self) -> Sequence[InstrumentInfo]:
        return [_instrument(instrument_id) for instrument_id in sorted(self._tables)]

    def refused(self) -> Sequence[Issue]:
        return ()

    def read(self, instrument_id: str) -> PriceTable:
        if instrument_id not in self._tables:
            known = ", ".join(sorted(self._tables))
            raise DataError(f"{self.info.dataset_id}: no {instrument_id!r}; it has {known}")
        return self._tables[instrument_id]

    def actions(self, instrument_id: str) -> Sequence[Action]:
        if self.basis is None or instrument_id == INDEX.instrument_id:
            return ()
        table = self.read(instrument_id)
        actions, _ = infer_actions(
            instrument_id, table.dates, table.close, table.adjusted_close, self.basis
        )
        return actions


def sample_sp500() -> SampleSource:
    """Return the source of the twenty companies and their index, adjusted closes."""
    return SampleSource(SAMPLE_SP500, _load_sp500, None)


def sample_ohlcv() -> SampleSource:
    """Return the source of the five companies as traded, and the index."""
    return SampleSource(SAMPLE_OHLCV, _load_ohlcv, DividendBasis.EX_CLOSE)


SAMPLES: Mapping[str, Callable[[], SampleSource]] = {
    SAMPLE_SP500.dataset_id: sample_sp500,
    SAMPLE_OHLCV.dataset_id: sample_ohlcv,
}


def _instrument(instrument_id: str) -> InstrumentInfo:
    if instrument_id == INDEX.instrument_id:
        return INDEX
    symbol = instrument_id.removesuffix(".US")
    name, sector = COMPANIES[symbol]
    return InstrumentInfo(instrument_id, symbol, symbol, name, sector)


def _load_sp500() -> Mapping[str, PriceTable]:
    datasets = _require("skfolio.datasets")
    stocks, index = datasets.load_sp500_dataset(), datasets.load_sp500_index()
    closes = {f"{symbol}.US": stocks[symbol] for symbol in stocks.columns}
    closes[INDEX.instrument_id] = index[index.columns[0]]
    return {
        instrument_id: _synthetic_bars(instrument_id, series)
        for instrument_id, series in closes.items()
    }


def _synthetic_bars(instrument_id: str, series: Any) -> PriceTable:
    close = series.to_numpy(dtype=np.float64)
    return PriceTable(
        instrument_id,
        series.index.to_numpy().astype("datetime64[D]"),
        open=close,
        high=close,
        low=close,
        close=close,
        adjusted_close=close,
        volume=np.full(len(close), np.nan),
        source_file="skfolio.datasets",
        source_rows=_lines(close),
    )


def _load_ohlcv() -> Mapping[str, PriceTable]:
    stocks, index = _require("bokeh_sampledata.stocks"), _require("arch.data.sp500")
    tables = {
        f"{symbol}.US": _bars(f"{symbol}.US", getattr(stocks, symbol))
        for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT")
    }
    frame = index.load()
    columns = {name.lower().replace(" ", "_"): frame[name].to_numpy() for name in frame.columns}
    columns["adj_close"] = columns["close"]
    columns["date"] = frame.index.to_numpy()
    return tables | {INDEX.instrument_id: _bars(INDEX.instrument_id, columns)}


def _bars(instrument_id: str, columns: Mapping[str, Any]) -> PriceTable:
    prices = {
        name: np.asarray(columns[name], dtype=np.float64)
        for name in ("open", "high", "low", "close", "adj_close", "volume")
    }
    is_index = instrument_id == INDEX.instrument_id
    return PriceTable(
        instrument_id,
        np.array(columns["date"], dtype="datetime64[D]"),
        open=prices["open"],
        high=prices["high"],
        low=prices["low"],
        close=prices["close"],
        adjusted_close=prices["adj_close"],
        volume=prices["volume"],
        source_file="arch.data.sp500" if is_index else "bokeh_sampledata.stocks",
        source_rows=_lines(prices["close"]),
    )


def _lines(values: FloatArray) -> np.ndarray:
    return np.arange(2, len(values) + 2)


def _require(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as absent:
        raise ConfigError(
            f"sample data: {module} is not installed; run pip install 'prometheus-nt[sample]'"
        ) from absent
