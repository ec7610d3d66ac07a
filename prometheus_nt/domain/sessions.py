"""The moments of a trading day that everything else reacts to."""

from dataclasses import dataclass
from datetime import date

from prometheus_nt.domain.record import FloatArray, IntArray


@dataclass(frozen=True)
class SessionOpen:
    """A session has begun; `as_of` is still the session whose close is the newest one known."""

    as_of: date
    session: date


@dataclass(frozen=True)
class OvernightFinancing:
    """What a broker charges and pays, before a session's first trade, for the nights before it.

    It concerns what was held at the close of `as_of`. Rates are fractions for all `nights`
    together, >= 0.

    Attributes
    ----------
    nights : int
        Calendar days from `as_of` to `session`: a weekend is three.
    borrow_rate : float
        Charged on the market value of each instrument's short shares.
    debit_rate, credit_rate : float
        Charged on free cash below zero, and paid on free cash above it.
    """

    as_of: date
    session: date
    nights: int
    borrow_rate: float
    debit_rate: float
    credit_rate: float


@dataclass(frozen=True, eq=False)
class CorporateActions:
    """What happens to holders before a session's first trade.

    Attributes
    ----------
    dividend_per_share : (N,) array
        USD per venue share held at the close of `as_of`; 0 where there is none.
    delisted : (D,) int array
        Rows of the instruments whose last trade was at or before `as_of`.
    delisting_return : (D,) array or None
        What their holders get beyond the last price, as a fraction of it; NaN where not recorded.
        None if it is recorded of none.
    split : (N,) array or None
        Venue shares for each one held, 1 where nothing changes; before the dividend, which is per
        share after it. None where the venue's unit makes every split invisible.
    """

    as_of: date
    session: date
    dividend_per_share: FloatArray
    delisted: IntArray
    delisting_return: FloatArray | None = None
    split: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class OpeningQuotes:
    """The prices at which waiting orders can trade at a session's open.

    Attributes
    ----------
    rows : (K,) int array
        Instruments quoted.
    mid : (K,) array, USD per venue share
        The opening price itself.
    half_spread : (K,) array
        Fraction of `mid` that either side pays.
    buy_impact, sell_impact : (K,) arrays
        Fraction of `mid` that the waiting quantity moves its own price.
    """

    as_of: date
    session: date
    rows: IntArray
    mid: FloatArray
    half_spread: FloatArray
    buy_impact: FloatArray
    sell_impact: FloatArray


@dataclass(frozen=True)
class SessionClose:
    """A session has ended; `as_of` is that session."""

    as_of: date
