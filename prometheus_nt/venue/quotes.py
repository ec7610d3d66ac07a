"""What it costs to trade at the open: half a spread, and the order's own impact."""

from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.domain.sessions import OpeningQuotes
from prometheus_nt.engines.numerics.rolling import (
    rolling_dollar_volume,
    rolling_volatility_per_session,
)
from prometheus_nt.engines.numerics.series import last_known
from prometheus_nt.venue.params import QuoteParams
from prometheus_nt.venue.prices import to_micros

VOLATILITY_SESSIONS = 21
VOLUME_SESSIONS = 21


def usual_value(panel: MarketPanel) -> FloatArray:
    """Return the mean value traded per session, USD, (T, N); through a halt, as before it."""
    return last_known(panel.derived(rolling_dollar_volume, VOLUME_SESSIONS))


def usual_volatility(panel: MarketPanel) -> FloatArray:
    """Return the standard deviation of log returns per session, (T, N); as before a halt."""
    window = (VOLATILITY_SESSIONS, VOLATILITY_SESSIONS // 2)
    return last_known(panel.derived(rolling_volatility_per_session, *window))


@dataclass(frozen=True)
class ImpactModel:
    """The square-root law: impact = Y * volatility * sqrt(traded value / usual daily value).

    Source: Almgren, Thum, Hauptmann, Li (2005), "Direct estimation of equity market impact";
    Bouchaud et al. (2018), "Trades, Quotes and Prices", chapter 12.
    """

    panel: MarketPanel
    params: QuoteParams

    def fraction(self, row: int, columns: "np.ndarray", value_usd: FloatArray) -> FloatArray:
        """Return the price fraction each order moves, from data up to panel row `row`.

        Raises
        ------
        DataError
            If the usual volume of an instrument is unknown: impact would be a guess.
        """
        if self.params.impact_coefficient == 0.0 or not len(columns):
            return np.zeros(len(columns))
        usual = self.panel.derived(usual_value)[row, columns]
        volatility = self.panel.derived(usual_volatility)[row, columns]
        unknown = (value_usd > 0) & ~((usual > 0) & np.isfinite(volatility))
        if unknown.any():
            name = self.panel.instruments[columns[np.flatnonzero(unknown)[0]]]
            raise DataError(
                f"{name}: no volume or volatility at {self.panel.sessions[row]}, so its market "
                "impact is unknown; set execution.quotes.impact_coefficient to 0 for data "
                "without volume"
            )
        share = np.divide(value_usd, usual, out=np.zeros(len(columns)), where=value_usd > 0)
        sigma = np.where(value_usd > 0, volatility, 0.0)
        impact: FloatArray = self.params.impact_coefficient * sigma * np.sqrt(share)
        return impact


def touch(quotes: OpeningQuotes) -> tuple[IntArray, IntArray]:
    """Return the bids and asks at which orders fill, (K,) each, whole micro-dollars."""
    bids = quotes.mid * np.maximum(0.0, 1.0 - quotes.half_spread - quotes.sell_impact)
    asks = quotes.mid * (1.0 + quotes.half_spread + quotes.buy_impact)
    return to_micros(bids), to_micros(asks)
