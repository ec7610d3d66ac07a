"""Commissions of the simulated broker."""

import numpy as np
from nautilus_trader.backtest.models import FeeModel
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.objects import Money

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.venue.params import FeeParams
from prometheus_nt.venue.prices import RAW_PER_SHARE


def commission(shares: float, value_usd: float, params: FeeParams) -> float:
    """Return the fee of an order of `shares` traded shares worth `value_usd`, in USD.

    The cap wins over the floor: a 50-cent trade costs half a cent, not a dollar.
    """
    fee = max(params.per_share_usd * shares, params.minimum_usd)
    return min(fee, params.cap_fraction * value_usd)


def in_cents(fee: float) -> float:
    """Return a fee as the broker books it.

    A numpy float rounds half to even by its decimals, a Python float by its bits: callers that
    must agree to the cent hand over shares as numpy floats, as quotients of an array are.
    """
    return round(fee, 2)


def commissions(shares: FloatArray, values_usd: FloatArray, params: FeeParams) -> FloatArray:
    """Return what `in_cents(commission(...))` says of K orders at once, (K,) USD.

    Parameters
    ----------
    shares, values_usd : (K,) arrays
        Traded shares, and what they are worth.
    """
    per_share: FloatArray = params.per_share_usd * shares
    at_least = params.minimum_usd > per_share
    fees = np.where(at_least, in_cents(params.minimum_usd), np.round(per_share, 2))
    caps = params.cap_fraction * values_usd
    # A cap is a Python float to `commission`, and rounded as one; few orders are so small.
    for order in (caps < np.where(at_least, params.minimum_usd, per_share)).nonzero()[0].tolist():
        fees[order] = in_cents(float(caps[order]))
    return fees


class PerShareFees(FeeModel):
    """Charges `commission` on an order's cumulated fills, so that partial fills pay one floor.

    Parameters
    ----------
    params : FeeParams
    rows : dict of Nautilus InstrumentId to panel column
    """

    def __init__(self, params: FeeParams, rows: dict[object, int]) -> None:
        super().__init__()
        self._params, self._rows = params, rows
        self._factor: FloatArray | None = None
        self._partial: dict[object, tuple[float, float]] = {}

    def begin_session(self, factor: FloatArray) -> None:
        """Take the session's venue shares per traded share, (N,): fees are per traded share."""
        self._factor = factor
        self._partial.clear()

    def get_commission(
        self, order: object, fill_qty: object, fill_px: object, instrument: object
    ) -> Money:
        if self._factor is None:
            raise RuntimeError("an order filled before the first session began")
        filled = fill_qty.raw // RAW_PER_SHARE  # type: ignore[attr-defined]
        value = filled * fill_px.as_double()  # type: ignore[attr-defined]
        shares = filled / self._factor[self._rows[instrument.id]]  # type: ignore[attr-defined]
        order_id = order.client_order_id  # type: ignore[attr-defined]
        seen_shares, seen_value = self._partial.get(order_id, (0.0, 0.0))
        paid = commission(seen_shares, seen_value, self._params) if seen_shares else 0.0
        total = commission(seen_shares + shares, seen_value + value, self._params)
        self._partial[order_id] = (seen_shares + shares, seen_value + value)
        return Money(max(0.0, in_cents(total) - in_cents(paid)), USD)
