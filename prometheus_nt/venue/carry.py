"""What happens to holders without a trade: dividends and delistings of the simulated market."""

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.domain.sessions import CorporateActions
from prometheus_nt.domain.units import ShareUnits


class Carry:
    """The corporate actions of a recorded panel, in venue shares.

    Parameters
    ----------
    panel : MarketPanel
        The whole record: only the venue may know that an instrument never trades again.
    units : ShareUnits
    """

    def __init__(self, panel: MarketPanel, units: ShareUnits) -> None:
        self._panel = panel
        self._per_share: FloatArray = panel.dividend / units.factor
        self._pays = (panel.dividend != 0.0).any(axis=1)
        self._delisted_at = _delisting_rows(panel)

    def at_open(self, row: int) -> CorporateActions | None:
        """Return what holders at the close of row - 1 receive at the open of `row`, if anything."""
        delisted: IntArray = np.flatnonzero(self._delisted_at == row)
        if row == 0 or not (self._pays[row] or len(delisted)):
            return None
        sessions = self._panel.sessions
        return CorporateActions(
            as_of=sessions[row - 1].astype(object),
            session=sessions[row].astype(object),
            dividend_per_share=self._per_share[row],
            delisted=delisted,
        )


def _delisting_rows(panel: MarketPanel) -> IntArray:
    """Return, per instrument, the row after its last bar; -1 if it still trades at the end."""
    traded = ~np.isnan(panel.close)
    last = len(panel) - 1 - np.argmax(traded[::-1], axis=0)
    gone = traded.any(axis=0) & (last < len(panel) - 1)
    return np.where(gone, last + 1, -1).astype(np.int64)
