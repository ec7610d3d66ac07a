"""The venue's numbers: instruments, and exact conversion to Nautilus's fixed-point form."""

import numpy as np
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import FIXED_PRECISION, Currency, Price, Quantity

from prometheus_nt.domain.instruments import nautilus_id
from prometheus_nt.domain.ledger import MICROS
from prometheus_nt.domain.record import FloatArray, IntArray

PRICE_DECIMALS = 6
"""Adjusted prices need more than cents, or basis points of spread are lost in the rounding."""

RAW_PER_MICRO = 10 ** (FIXED_PRECISION - PRICE_DECIMALS)
RAW_PER_SHARE = 10**FIXED_PRECISION


def equity_instrument(instrument_id: str, currency: str = "USD") -> Equity:
    """Return the venue's instrument for a store id such as `AAPL.US`."""
    identifier = InstrumentId.from_str(nautilus_id(instrument_id))
    return Equity(
        instrument_id=identifier,
        raw_symbol=identifier.symbol,
        currency=Currency.from_str(currency, strict=True),
        price_precision=PRICE_DECIMALS,
        price_increment=Price.from_str(f"{10**-PRICE_DECIMALS:.{PRICE_DECIMALS}f}"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
    )


def to_micros(prices: FloatArray) -> IntArray:
    """Return prices in whole micro-dollars; NaN becomes 0, which is never a price."""
    return np.rint(np.nan_to_num(prices) * MICROS).astype(np.int64)
