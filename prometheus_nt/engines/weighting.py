"""Methods of weighting: each turns moments of returns into weights, before limits are enforced.

`raw_weights` is the table of them. With clusters it works on two levels: names within a cluster
by inverse variance, clusters among each other by the method, as if each were one instrument.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prometheus_nt.domain.errors import NoWeights
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.constraints import EXACT, Bounds, placed
from prometheus_nt.engines.covariance import Moments, estimate_moments
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE

NamedMethod = Literal[
    "equal",
    "inverse_volatility",
    "hrp",
    "min_variance",
    "max_ratio",
    "risk_budgeting",
    "max_diversification",
]
"""Methods that know by themselves how to weigh; a portfolio names one of them, or `score`."""

Method = Literal["given", NamedMethod]

WITHOUT_RISK = ("given", "equal")
"""Methods that need no moments."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method may look at; every array is about the same K names.

    Attributes
    ----------
    returns : (T, K) array without NaN
    moments : Moments or None
        None where there are too few sessions to tell.
    bounds : Bounds
        That some weights satisfy.
    proportions : (K,) array or None
        What the method `given` uses.
    expected_returns : (K,) array or None
        Per session; None stands for the mean of `returns`.
    previous : (K,) array of weights, or None
    max_trade : float or None
        Largest sum of absolute changes of weights from `previous`.
    cost : float
        Of trading a weight of 1, spread over the sessions it will be held.
    clusters : (K,) int array or None
    cluster_cap : float
        Largest weight of a cluster.
    """

    returns: FloatArray
    moments: Moments | None
    bounds: Bounds
    proportions: FloatArray | None = None
    expected_returns: FloatArray | None = None
    previous: FloatArray | None = None
    max_trade: float | None = None
    cost: float = 0.0
    risk_aversion: float = 1.0
    clusters: IntArray | None = None
    cluster_cap: float = 1.0


def raw_weights(method: Method, problem: Problem) -> FloatArray:
    """Return the weights of `method`, (K,); caps and linear limits are still to be enforced.

    Raises
    ------
    NoWeights
        If the method is undefined for this problem, or its solver finds nothing.
    """
    if problem.clusters is None or method in WITHOUT_RISK:
        return _one_level(method, problem)
    return _two_level(method, problem, problem.clusters)


def _one_level(method: Method, problem: Problem) -> FloatArray:
    caps, total = problem.bounds.caps, problem.bounds.total
    if float(np.sort(caps).sum()) <= total + EXACT:
        return caps  # nothing is left to decide
    if len(caps) == 1:
        return np.array([total])
    return FORMS[method](problem)


def _two_level(method: Method, problem: Problem, clusters: IntArray) -> FloatArray:
    moments = _moments(problem)
    labels, member = np.unique(clusters, return_inverse=True)
    attraction = moments.volatility**-2.0
    inside = np.zeros((len(clusters), len(labels)))
    inside[np.arange(len(clusters)), member] = attraction
    inside /= inside.sum(axis=0)
    room = np.bincount(member, weights=problem.bounds.caps)
    bounds = Bounds(problem.bounds.total, np.minimum(room, problem.cluster_cap))
    streams = problem.returns @ inside
    expected = problem.expected_returns
    among = Problem(
        returns=streams,
        moments=estimate_moments(streams),
        bounds=bounds.fitted(),
        expected_returns=None if expected is None else expected @ inside,
    )
    of_cluster = placed(_one_level(method, among), bounds.caps, among.bounds.total)
    weights = np.zeros(len(clusters))
    for label, weight in enumerate(of_cluster):
        names = member == label
        weights[names] = placed(attraction[names], problem.bounds.caps[names], weight)
    return weights


def _given(problem: Problem) -> FloatArray:
    if problem.proportions is None or not (problem.proportions > 0.0).any():
        raise NoWeights("no name is attractive")
    return problem.proportions


def _equal(problem: Problem) -> FloatArray:
    return np.ones(len(problem.bounds.caps))


def _inverse_volatility(problem: Problem) -> FloatArray:
    raw: FloatArray = 1.0 / _moments(problem).volatility
    return raw


def _max_ratio(problem: Problem) -> FloatArray:
    expected = problem.expected_returns
    expected = _moments(problem).mean if expected is None else expected
    if not (expected > 0.0).any():
        raise NoWeights("no expected return is positive")
    # The ratio does not mind the scale, a solver does.
    scale = _moments(problem).volatility.mean() / float(np.abs(expected).max())
    if problem.bounds.best(expected * scale) <= NEGLIGIBLE:
        raise NoWeights("within the limits no book has a positive expected return")
    return _convex("max_ratio")(
        replace(problem, expected_returns=expected * scale, cost=problem.cost * scale)
    )


def _convex(method: str) -> Callable[[Problem], FloatArray]:
    def weights(problem: Problem) -> FloatArray:
        moments = _moments(problem)
        # Seconds and 200 MB that only those who need a solver pay.
        from prometheus_nt.engines import convex

        expected = problem.expected_returns
        return convex.convex_weights(
            method,
            convex.ConvexProblem(
                returns=problem.returns,
                moments=moments,
                bounds=problem.bounds,
                expected_returns=moments.mean if expected is None else expected,
                previous=problem.previous,
                max_trade=problem.max_trade,
                cost=problem.cost,
                risk_aversion=problem.risk_aversion,
            ),
        )

    return weights


def _moments(problem: Problem) -> Moments:
    if problem.moments is None:
        raise NoWeights("too few sessions of returns to tell the risk")
    return problem.moments


FORMS: dict[Method, Callable[[Problem], FloatArray]] = {
    "given": _given,
    "equal": _equal,
    "inverse_volatility": _inverse_volatility,
    "hrp": _convex("hrp"),
    "min_variance": _convex("min_variance"),
    "max_ratio": _max_ratio,
    "risk_budgeting": _convex("risk_budgeting"),
    "max_diversification": _convex("max_diversification"),
}
