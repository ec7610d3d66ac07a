"""How far two records of the same thing are from each other."""

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR

BPS = 1e4


def yearly_gap_bps(equity: FloatArray, other: FloatArray) -> float:
    """Return the largest relative difference of two equity curves, basis points a year.

    The largest of any session, over the years of the record; a record shorter than a year counts
    as one, so that a short one has no more room than a long one.

    Parameters
    ----------
    equity, other : (T,) arrays, USD, on the same sessions

    Raises
    ------
    DataError
        If they are not on the same number of sessions, or there is none.
    """
    if equity.shape != other.shape or not len(equity):
        raise DataError(f"equity of {len(equity)} and of {len(other)} sessions do not compare")
    largest = float(np.abs(other / equity - 1.0).max())
    return largest * BPS / max(1.0, len(equity) / SESSIONS_PER_YEAR)
