"""The venue's share unit: shares as they will be after every split the data know of.

The simulated venue quotes split-adjusted prices, so that a split needs no surgery on positions or
resting orders. The factors use later splits, which is why only the venue and the conversion of
quantities may hold them: they scale a decision, they never inform one.
"""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray


@dataclass(frozen=True, eq=False)
class ShareUnits:
    """How many venue shares one traded share is, per session and instrument.

    Attributes
    ----------
    sessions : (T,) array
    factor : (T, N) array
        Product of the splits after each session: traded price = venue price * factor.
    """

    sessions: SessionArray
    factor: FloatArray

    @classmethod
    def of(cls, panel: MarketPanel) -> "ShareUnits":
        """Return the units of the split-adjusted venue that replays `panel`."""
        running = np.cumprod(panel.split, axis=0)
        factor: FloatArray = np.divide(running[-1:], running)
        return cls(panel.sessions, factor)

    @classmethod
    def as_traded(cls, panel: MarketPanel) -> "ShareUnits":
        """Return the units of a broker, who trades shares as they are today."""
        return cls(panel.sessions, np.ones(panel.close.shape))

    def row(self, session: date) -> int:
        """Return the row of a session; DataError if the units know no such session."""
        wanted = np.datetime64(session, "D")
        row = int(np.searchsorted(self.sessions, wanted))
        if row == len(self.sessions) or self.sessions[row] != wanted:
            raise DataError(f"{session} is not a session of these share units")
        return row

    def factor_at(self, session: date) -> FloatArray:
        """Return the (N,) factors of a session."""
        row: FloatArray = self.factor[self.row(session)]
        return row

    def lots_at(self, session: date) -> IntArray:
        """Return the (N,) lot sizes of a session: venue shares that make whole traded shares."""
        values, inverse = np.unique(self.factor_at(session), return_inverse=True)
        lots: IntArray = np.array([_lot(float(value)) for value in values], dtype=np.int64)
        return lots[inverse]


def _lot(factor: float) -> int:
    # A 2-for-1 split ahead: whole traded shares are even numbers of venue shares. After a ratio
    # like 3-for-2 no small lot does it; one venue share is then the honest approximation.
    ratio = Fraction(factor).limit_denominator(1000)
    return ratio.numerator if ratio.denominator == 1 else 1
