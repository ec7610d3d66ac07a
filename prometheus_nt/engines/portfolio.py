"""What to hold: long-only weights of the best members of the universe, capped, the rest cash."""

from typing import Literal

import numpy as np
from pydantic import Field

from prometheus_nt.domain.books import BookTarget, Universe
from prometheus_nt.domain.market import InstrumentScores
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics import (
    percentile_rank,
    rolling_volatility_per_session,
    waterfill,
)


class PortfolioParams(Params):
    """Parameters of the portfolio engine; weights are fractions of book equity.

    Attributes
    ----------
    max_names
        Hold only the best of the universe; None holds all of it.
    weighting
        'score' weights names by rank, from k for the best of k to 1 for the worst, so that no
        outlier decides the book; 'equal'; or 'inverse_volatility'.
    cash_buffer
        Least cash, so that costs and a gap at the open do not overdraw the account.
    volatility_floor
        Least standard deviation per session that 'inverse_volatility' believes.
    """

    book_id: str = Field("US_CORE_LONG_EQ", min_length=1)
    max_names: int | None = Field(None, ge=1)
    max_weight: float = Field(0.10, gt=0, le=1)
    max_gross: float = Field(1.0, gt=0, le=1)
    cash_buffer: float = Field(0.01, ge=0, lt=1)
    weighting: Literal["score", "equal", "inverse_volatility"] = "score"
    volatility_lookback: int = Field(63, ge=3)
    volatility_floor: float = Field(0.001, gt=0)


def build_book(
    panel: MarketPanel, universe: Universe, scores: InstrumentScores, params: PortfolioParams
) -> BookTarget:
    """Return the weights of the best members; an empty universe is a book of cash."""
    selected = _best(universe, params.max_names)
    raw = np.zeros(len(panel.instruments))
    raw[selected] = _raw_weights(panel, universe, selected, params)
    investable = min(params.max_gross, 1.0 - params.cash_buffer)
    weights = waterfill(raw, params.max_weight, investable)
    bound = {
        "empty_universe": not universe.included.any(),
        "max_names": len(selected) < int(universe.included.sum()),
        "unknown_volatility": bool((raw[selected] == 0.0).any()),
        "max_weight": bool((weights >= params.max_weight).any()),
    }
    return BookTarget(
        as_of=panel.as_of,
        book_id=params.book_id,
        instruments=panel.instruments,
        weights=weights,
        expected_return=_expected_return(weights, scores),
        binding=tuple(name for name, binds in bound.items() if binds),
    )


def _best(universe: Universe, max_names: int | None) -> IntArray:
    """Return the rows of the members to hold, best first; ties in the order of instruments."""
    members = np.flatnonzero(universe.included)
    return members[np.argsort(-universe.score[members], kind="stable")][:max_names]


def _raw_weights(
    panel: MarketPanel, universe: Universe, selected: IntArray, params: PortfolioParams
) -> FloatArray:
    match params.weighting:
        case "equal":
            return np.ones(len(selected))
        case "score":
            return 1.0 + (len(selected) - 1) * percentile_rank(universe.score[selected])
        case "inverse_volatility":
            lookback = params.volatility_lookback
            history = panel.derived(rolling_volatility_per_session, lookback, lookback // 2)
            sigma = history[-1][selected]
            return np.where(np.isnan(sigma), 0.0, 1.0 / np.fmax(sigma, params.volatility_floor))


def _expected_return(weights: FloatArray, scores: InstrumentScores) -> float | None:
    known = (weights != 0.0) & np.isfinite(scores.expected_return)
    if not known.any():
        return None
    return float((weights[known] * scores.expected_return[known]).sum())
