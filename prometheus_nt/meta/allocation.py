"""Weights across sleeves: those of a named method, brought within bounds that are proven to hold.

1. `bounds_of` says between what a sleeve's weight must lie, and refuses bounds that no weights
   satisfy;
2. the solver of portfolios weighs the sleeves by their joined returns; one that had to fall back
   on another method than the one asked for has not answered;
3. the nearest weights within the bounds are taken, and every bound is checked again on them.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.domain.record import FloatArray, Params
from prometheus_nt.engines.constraints import EXACT, Bounds, projected
from prometheus_nt.engines.solver import SolverSpec, solve
from prometheus_nt.engines.weighting import NamedMethod

MAX_WEIGHT, MAX_WEIGHT_OF_TWO = 0.50, 0.95


class MetaAllocationParams(Params):
    """How sleeves are weighed, and what the whole must keep; weights are fractions of it.

    max_weight : None is one half, and 0.95 of two sleeves.
    min_sessions : joined sessions without which nothing is allocated.
    single : whether a meta-portfolio of one sleeve is meant.
    warn_dropped : share of sessions lost by joining above which a human should look.
    warn_asset, max_asset : net weight of an instrument that is noted, and that fails.
    """

    method: NamedMethod = "hrp"
    min_weight: float = Field(0.05, ge=0.0, le=1.0)
    max_weight: float | None = Field(None, gt=0.0, le=1.0)
    min_sessions: int = Field(63, ge=20)
    single: bool = False
    warn_dropped: float = Field(0.20, ge=0.0, le=1.0)
    warn_asset: float = Field(0.15, gt=0.0)
    max_asset: float = Field(0.25, gt=0.0)

    @model_validator(mode="after")
    def _in_order(self) -> "MetaAllocationParams":
        if self.max_weight is not None and self.max_weight < self.min_weight:
            raise ValueError(f"max_weight {self.max_weight} is below min_weight {self.min_weight}")
        return self


@dataclass(frozen=True, eq=False)
class Allocation:
    """What each of K sleeves weighs.

    Attributes
    ----------
    raw, weights : (K,) arrays
        What the method said, and the nearest to it within the bounds; both sum to 1.
    low, high : float
    slack : mapping of each bound to how far it is from being broken
    sessions : int
        Joined returns that the method saw.
    """

    method: str
    raw: FloatArray
    weights: FloatArray
    low: float
    high: float
    slack: dict[str, float]
    sessions: int

    @property
    def effective_number(self) -> float:
        """Number of equal weights that would be as concentrated."""
        return 1.0 / float((self.weights**2).sum())


def bounds_of(count: int, params: MetaAllocationParams) -> tuple[float, float]:
    """Return the smallest and the largest weight of each of `count` sleeves.

    Raises
    ------
    MetaFailure
        META_INFEASIBLE_BOUNDS, if `count` such weights cannot sum to 1.
    """
    if count == 1:
        return 1.0, 1.0
    low, high = params.min_weight, params.max_weight
    if high is None:
        high = MAX_WEIGHT_OF_TWO if count == 2 else MAX_WEIGHT
    if not count * low <= 1.0 + EXACT or not count * high >= 1.0 - EXACT:
        raise MetaFailure(
            "META_INFEASIBLE_BOUNDS",
            "",
            f"{count} weights between {low:g} and {high:g} sum to between {count * low:g} and "
            f"{count * high:g}, never to 1; change min_weight or max_weight",
        )
    return low, high


def allocate(returns: FloatArray, params: MetaAllocationParams) -> Allocation:
    """Return the weights of K sleeves.

    Parameters
    ----------
    returns : (T, K) array
        Simple returns per session up to the close at which weights are decided, all known.

    Raises
    ------
    MetaFailure
        If there is too little to go by, the method finds no weights, or a bound does not hold.
    """
    sessions, count = returns.shape
    low, high = bounds_of(count, params)
    _require_enough(returns, params)
    raw = np.ones(1) if count == 1 else _raw(returns, high, params)
    weights = within_bounds(raw, low, high)
    slack = slack_of(weights, low, high)
    broken = [name for name, room in slack.items() if not room >= -EXACT]
    if broken:
        raise MetaFailure("META_BAD_WEIGHT_SUM", "", f"the weights break {', '.join(broken)}")
    return Allocation(params.method, raw, weights, low, high, slack, sessions)


def within_bounds(raw: FloatArray, low: float, high: float) -> FloatArray:
    """Return the weights nearest to `raw` (Euclidean) that lie within the bounds and sum to 1."""
    room = np.full(len(raw), high - low)
    weights: FloatArray = projected(raw - low, Bounds(1.0 - len(raw) * low, room)) + low
    return weights


def slack_of(weights: FloatArray, low: float, high: float) -> dict[str, float]:
    """Return by how much each bound is kept; below 0 it is broken."""
    return {
        "sum": -abs(float(weights.sum()) - 1.0),
        "min_weight": float((weights - low).min(initial=np.inf)),
        "max_weight": float((high - weights).min(initial=np.inf)),
    }


def _require_enough(returns: FloatArray, params: MetaAllocationParams) -> None:
    sessions, count = returns.shape
    if not count:
        raise MetaFailure("META_EMPTY_WEIGHTS", "", "there is no sleeve to weigh")
    if not np.isfinite(returns).all():
        raise MetaFailure("META_UNKNOWN_RETURNS", "", "a joined return is unknown")
    if sessions < params.min_sessions:
        raise MetaFailure(
            "META_SHORT_HISTORY",
            "",
            f"{sessions} sessions are common to all members, at least {params.min_sessions} are "
            "needed",
        )


def _raw(returns: FloatArray, high: float, params: MetaAllocationParams) -> FloatArray:
    found = solve(SolverSpec(method=params.method, cap=high), returns)
    if found.method != params.method:
        tried = "; ".join(f"{one.method}: {one.reason}" for one in found.fallbacks)
        raise MetaFailure("META_SOLVER_FAILED", params.method, f"found no weights ({tried})")
    # Weights of some would be those of a smaller meta-portfolio, which nobody asked for.
    if found.unusable.any():
        count = int(found.unusable.sum())
        said = f"{count} of {returns.shape[1]} members have returns that do not vary"
        raise MetaFailure("META_SOLVER_FAILED", params.method, said)
    return found.weights
