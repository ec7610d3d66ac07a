"""From what shall be held long or short to what a solver is asked, and back.

A solver sees streams of returns to hold, not negative weights: in long space the return of a short
is its profit, and every weight is positive. The sign comes back with `from_long_space`.
"""

import numpy as np

from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.constraints import LinearLimit
from prometheus_nt.engines.numerics.cross_section import UNKNOWN_SECTOR


def to_long_space(returns: FloatArray, directions: IntArray, cap: float = 1.0) -> FloatArray:
    """Return the returns of holding each name in its direction, (T, K).

    Of a long it is r; of a short `-min(r, cap)`, the profit of a short of constant notional that
    is rebalanced every session, without borrow fees. At the default cap it cannot lose more than
    everything in a session; that is a rule of the estimate, the loss of a real short is not capped.

    Parameters
    ----------
    returns : (T, K) array of simple returns; NaN stays NaN
    directions : (K,) array of +1 (long) and -1 (short)
    """
    streams: FloatArray = np.where(directions < 0, -np.minimum(returns, cap), returns)
    return streams


def from_long_space(weights: FloatArray, directions: IntArray) -> FloatArray:
    """Return signed weights of the instruments, (K,), from weights of their streams."""
    signed: FloatArray = weights * directions
    return signed


def sector_limits(sectors: tuple[str | None, ...], cap: float) -> tuple[LinearLimit, ...]:
    """Return one limit for each sector; names of unknown sector count as one sector."""
    labels = np.array([sector or UNKNOWN_SECTOR for sector in sectors])
    return tuple(
        LinearLimit(f"sector:{name}", (labels == name).astype(np.float64), cap)
        for name in np.unique(labels).tolist()
    )


def beta_limit(beta: FloatArray, limit: float) -> LinearLimit:
    """Return the limit on the sum of weight times market beta.

    An unknown beta counts as 1, a negative one as 0: what it takes off may be gone in a crash.
    """
    known = np.where(np.isfinite(beta), beta, 1.0)
    return LinearLimit("beta", np.maximum(known, 0.0), limit)


def factor_limits(name: str, loading: FloatArray, limit: float) -> tuple[LinearLimit, LinearLimit]:
    """Return the limits on the sum of weight times factor z-score, from above and from below.

    An unknown loading counts as 0, as in the risk report: an average one.
    """
    known = np.where(np.isfinite(loading), loading, 0.0)
    return LinearLimit(f"factor:{name}", known, limit), LinearLimit(
        f"-factor:{name}", -known, limit
    )


def fragility_limit(score: FloatArray, limit: float) -> LinearLimit:
    """Return the limit on the sum of weight times fragility; an unknown score counts as 1."""
    return LinearLimit("fragility", np.where(np.isfinite(score), score, 1.0), limit)
