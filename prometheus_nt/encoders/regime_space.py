"""Sessions side by side: what kind of market each of them was, seen from one close."""

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.encoders.joint import Block, JointSpace, JointVectors, join
from prometheus_nt.encoders.scaling import anchored, robust_zscores
from prometheus_nt.engines.numerics.returns import equal_weighted_returns
from prometheus_nt.engines.regime import FEATURES, RegimeParams, regime_features

REGIME_SPACE = JointSpace("REGIME_CONTEXT_V0", (Block("market", (*FEATURES, "anchor")),))


def regime_vectors(panel: MarketPanel, params: RegimeParams) -> JointVectors:
    """Return a vector for every session of the panel, standardised by these sessions alone.

    A session without every feature has no known block.
    """
    features = panel.derived(regime_features, params)
    sessions = tuple(str(session) for session in panel.sessions)
    return join(REGIME_SPACE, sessions, {"market": anchored(robust_zscores(features))})


def market_outcomes(panel: MarketPanel, horizon: int) -> FloatArray:
    """Return what the equally weighted market earned over the next `horizon` sessions, (T,).

    NaN where these sessions are not over by the panel's last close.
    """
    returns = panel.derived(equal_weighted_returns)
    path = np.cumsum(np.log1p(np.where(np.isfinite(returns), returns, 0.0)))
    outcomes: FloatArray = np.full(len(panel), np.nan)
    if len(panel) > horizon:
        outcomes[:-horizon] = np.expm1(path[horizon:] - path[:-horizon])
    return outcomes
