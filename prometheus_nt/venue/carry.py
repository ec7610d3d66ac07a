"""What a position costs or earns without a trade: financing, dividends and delistings."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params, SessionArray
from prometheus_nt.domain.sessions import CorporateActions, OvernightFinancing
from prometheus_nt.domain.units import ShareUnits


class FinancingParams(Params):
    """What the simulated broker charges for lent shares and lent money; rates a year.

    The rates stand still through time and are the same for every instrument. The defaults lean to
    the expensive side, since what is charged too little looks like skill.

    Attributes
    ----------
    borrow_fee_annual
        Of the market value of short shares. Nine in ten US stocks cost less than 1 % to borrow
        (D'Avolio 2002, "The Market for Borrowing Stock"); the rest cost more than this charges,
        so a book that seeks out such names needs a higher fee.
    debit_rate_annual
        Of borrowed cash: a broker's 1.5 % over a policy rate of 4.5 %, which is more than the
        policy rate was in most years since 2000.
    credit_rate_annual
        Of free cash. Nothing by default: idle cash then never flatters a strategy, and Sharpe
        ratios, which are taken over a risk-free rate of 0, stay comparable.
    day_count
        Days of a year over which the rates are spread; 360 is the money market's custom.
    """

    borrow_fee_annual: float = Field(0.01, ge=0, le=10)
    debit_rate_annual: float = Field(0.06, ge=0, le=1)
    credit_rate_annual: float = Field(0.0, ge=0, le=1)
    day_count: Literal[360, 365] = 360


@dataclass(frozen=True, eq=False)
class Delistings:
    """The recorded ends of a panel's instruments.

    Attributes
    ----------
    on : (N,) array of datetime64[D]
        First day without a listing; NaT where no end is recorded.
    returns : (N,) array
        What holders got beyond the last price, as a fraction of it; NaN where unknown.
    final : bool
        The panel ends where the record does. Where more sessions may follow, a bar that is missing
        says nothing: holders are paid on the days given here, and nobody else is.
    """

    on: SessionArray
    returns: FloatArray
    final: bool = True

    @classmethod
    def unrecorded(cls, count: int) -> "Delistings":
        """Return what is known of `count` instruments of which nothing is recorded."""
        return cls(np.full(count, "NaT", dtype="datetime64[D]"), np.full(count, np.nan))

    @property
    def any_recorded(self) -> bool:
        return bool((~np.isnat(self.on)).any())


class Carry:
    """The financing and the corporate actions of a recorded panel, in venue shares.

    Parameters
    ----------
    panel : MarketPanel
        The whole record: only the venue may know that an instrument never trades again.
    units : ShareUnits
    financing : FinancingParams
    delistings : Delistings, optional
        Whoever is not in it is closed at its last price on the session after its last bar. Whoever
        is waits for the day of its delisting, and gets its recorded return.
    """

    def __init__(
        self,
        panel: MarketPanel,
        units: ShareUnits,
        financing: FinancingParams,
        delistings: Delistings | None = None,
    ) -> None:
        self._panel, self._units, self._financing = panel, units, financing
        self._nights: list[int] = np.diff(panel.sessions).astype(np.int64).tolist()
        self._pays = (panel.dividend != 0.0).any(axis=1)
        self._splits = unit_splits(panel, units)
        self._divides = (self._splits != 1.0).any(axis=1)
        recorded = delistings or Delistings.unrecorded(len(panel.instruments))
        self._delisted_at = delisting_rows(panel, recorded)
        self._delisting_return = recorded.returns

    def overnight(self, row: int) -> OvernightFinancing | None:
        """Return what is charged at the open of `row` for the nights since row - 1, if anything."""
        rates = self._financing
        annual = (rates.borrow_fee_annual, rates.debit_rate_annual, rates.credit_rate_annual)
        if row == 0 or not any(annual):
            return None
        nights, sessions = self._nights[row - 1], self._panel.sessions
        borrow, debit, credit = (rate * nights / rates.day_count for rate in annual)
        return OvernightFinancing(
            as_of=sessions[row - 1].astype(object),
            session=sessions[row].astype(object),
            nights=nights,
            borrow_rate=borrow,
            debit_rate=debit,
            credit_rate=credit,
        )

    def at_open(self, row: int) -> CorporateActions | None:
        """Return what holders at the close of row - 1 receive at the open of `row`, if anything."""
        delisted: IntArray = (self._delisted_at == row).nonzero()[0]
        if row == 0 or not (self._pays[row] or self._divides[row] or len(delisted)):
            return None
        sessions = self._panel.sessions
        return CorporateActions(
            as_of=sessions[row - 1].astype(object),
            session=sessions[row].astype(object),
            dividend_per_share=self._panel.dividend[row] / self._units.factor[row],
            delisted=delisted,
            delisting_return=self._delisting_return[delisted],
            split=self._splits[row] if self._divides[row] else None,
        )

    def concerns(self, first: int, after: int, columns: IntArray) -> BoolArray:
        """Return at which opens from `first` until `after` holders of `columns` receive anything.

        Returns
        -------
        (after - first,) bool array
        """
        found: BoolArray = (self._panel.dividend[first:after][:, columns] != 0.0).any(axis=1)
        found |= (self._splits[first:after][:, columns] != 1.0).any(axis=1)
        gone = self._delisted_at[columns]
        found[gone[(gone >= first) & (gone < after)] - first] = True
        return found


def unit_splits(panel: MarketPanel, units: ShareUnits) -> FloatArray:
    """Return the venue shares at each open for one held at the close before it, (T, N).

    They are 1 throughout where the unit already counts every split, and the splits themselves
    where shares are counted as traded.
    """
    ratios: FloatArray = np.ones(panel.split.shape)
    ratios[1:] = panel.split[1:] * units.factor[1:] / units.factor[:-1]
    ratios[np.isclose(ratios, 1.0, rtol=0.0, atol=1e-9)] = 1.0
    return ratios


def delisting_rows(panel: MarketPanel, delistings: Delistings) -> IntArray:
    """Return, per instrument, the row at whose open its holders are paid; -1 if in no row.

    That is the row after its last bar, or the first one of its recorded delisting if that is
    later. Bars after a recorded delisting are trades somewhere else: they go on.
    """
    traded = ~np.isnan(panel.close)
    if not delistings.final:
        paid = np.searchsorted(panel.sessions, delistings.on)
        return np.where(traded.any(axis=0) & (paid < len(panel)), paid, -1).astype(np.int64)
    last = len(panel) - 1 - np.argmax(traded[::-1], axis=0)
    # NaT sorts after every session, and would wait for ever.
    waits = np.where(np.isnat(delistings.on), 0, np.searchsorted(panel.sessions, delistings.on))
    paid = np.maximum(last + 1, waits)
    gone = traded.any(axis=0) & (paid < len(panel))
    return np.where(gone, paid, -1).astype(np.int64)
