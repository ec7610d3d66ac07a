"""Weights by skfolio: convex problems by Clarabel on one thread, and hierarchical risk parity.

Importing this module imports skfolio, which takes seconds and 200 MB: `weighting` does so only when
a method needs it. Everything is handed over in shares of the book, `weights / total`, so that the
budget is 1; moments come from `covariance`, scaled so that a tolerance means the same everywhere.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from skfolio import RiskMeasure
from skfolio.exceptions import OptimizationError
from skfolio.optimization import (
    HierarchicalRiskParity,
    MaximumDiversification,
    MeanRisk,
    ObjectiveFunction,
    RiskBudgeting,
)
from skfolio.prior import BasePrior, ReturnDistribution
from threadpoolctl import ThreadpoolController

from prometheus_nt.domain.errors import NoWeights
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.constraints import Bounds
from prometheus_nt.engines.covariance import Moments

CLARABEL = {
    "solver": "CLARABEL",
    "solver_params": {"max_threads": 1, "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10},
}

THREADS = ThreadpoolController()
"""Of the linear algebra libraries, which skfolio has loaded by now."""


@dataclass(frozen=True, eq=False)
class ConvexProblem:
    """What a model is asked.

    Attributes
    ----------
    expected_returns : (K,) array per session
    previous : (K,) array of weights, or None
    max_trade : float or None
        Largest sum of absolute changes of weights from `previous`.
    cost : float
        Of trading a weight of 1, spread over the sessions it will be held.
    """

    returns: FloatArray
    moments: Moments
    bounds: Bounds
    expected_returns: FloatArray
    previous: FloatArray | None
    max_trade: float | None
    cost: float
    risk_aversion: float

    @property
    def unit(self) -> float:
        """Return per session that counts as 1: the names' mean variance, as a deviation."""
        return float(np.sqrt(np.sort(self.moments.volatility**2).mean()))

    @property
    def caps(self) -> FloatArray:
        """Caps in shares of the book."""
        # Their sum may miss the budget by a rounding, which skfolio refuses.
        caps: FloatArray = np.minimum(self.bounds.caps / self.bounds.total * (1.0 + 1e-9), 1.0)
        return caps

    @property
    def shares(self) -> FloatArray:
        """Previous weights in shares of the book; 0 if there are none."""
        nothing = np.zeros(len(self.bounds.caps))
        return nothing if self.previous is None else self.previous / self.bounds.total


def convex_weights(method: str, problem: ConvexProblem) -> FloatArray:
    """Return the weights of `method`, within the bounds as exactly as a solver can.

    Raises
    ------
    NoWeights
        If the model is infeasible, or its solver did not converge.
    """
    model = MODELS[method](problem)
    try:
        # "May be inaccurate" is a warning of skfolio's, and no weights to us.
        with warnings.catch_warnings(), THREADS.limit(limits=1):
            warnings.filterwarnings("error", category=UserWarning)
            model.fit(problem.returns / problem.unit)
    except (OptimizationError, cp.error.SolverError, ArithmeticError, ValueError, UserWarning) as e:
        # Its text may hold numbers that differ from process to process.
        raise NoWeights(f"the solver found no solution ({type(e).__name__})") from e
    weights: FloatArray = np.asarray(model.weights_, dtype=np.float64) * problem.bounds.total
    return weights


class _Known(BasePrior):
    """Moments that are already estimated, as skfolio's models want to be told."""

    def __init__(self, mu: FloatArray | None = None, covariance: FloatArray | None = None) -> None:
        self.mu, self.covariance = mu, covariance

    def fit(self, X: Any, y: Any = None, **_: Any) -> "_Known":  # noqa: ARG002, N803
        self.return_distribution_ = ReturnDistribution(
            mu=self.mu, covariance=self.covariance, returns=np.asarray(X)
        )
        return self


def _prior(problem: ConvexProblem) -> _Known:
    scale = problem.unit
    return _Known(problem.expected_returns / scale, problem.moments.covariance / scale**2)


def _limits(problem: ConvexProblem) -> dict[str, Any]:
    given: dict[str, Any] = {"prior_estimator": _prior(problem), "max_weights": problem.caps}
    linear = problem.bounds.linear
    if linear:
        given["left_inequality"] = np.array([limit.coefficients for limit in linear])
        uppers = np.array([limit.upper for limit in linear])
        given["right_inequality"] = uppers / problem.bounds.total
    return given | CLARABEL


def _min_variance(problem: ConvexProblem) -> MeanRisk:
    """Minimise half the risk aversion times variance, plus the cost of getting there.

    skfolio's own transaction costs only lower an expected return, which this objective has not;
    so they are a penalty of their own, in the same unit as the variance.
    """
    start, total = problem.shares, problem.bounds.total
    given: dict[str, Any] = {}
    if problem.max_trade is not None:
        budget = problem.max_trade / total
        given["add_constraints"] = lambda w: cp.norm1(w - start) <= budget
    if problem.cost > 0.0:
        price = 2.0 * problem.cost / (problem.risk_aversion * problem.unit**2 * total)
        given["add_objective"] = lambda w: price * cp.norm1(w - start)
    return MeanRisk(risk_measure=RiskMeasure.VARIANCE, **given, **_limits(problem))


def _max_ratio(problem: ConvexProblem) -> MeanRisk:
    """Maximise expected return after costs over standard deviation."""
    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        risk_measure=RiskMeasure.VARIANCE,
        transaction_costs=problem.cost / problem.unit,
        previous_weights=problem.shares,
        **_limits(problem),
    )


def _risk_budgeting(problem: ConvexProblem) -> RiskBudgeting:
    return RiskBudgeting(risk_measure=RiskMeasure.VARIANCE, **_limits(problem))


def _max_diversification(problem: ConvexProblem) -> MaximumDiversification:
    return MaximumDiversification(**_limits(problem))


def _hrp(problem: ConvexProblem) -> HierarchicalRiskParity:
    """Return hierarchical risk parity within the caps; it knows no linear limits."""
    return HierarchicalRiskParity(
        risk_measure=RiskMeasure.VARIANCE,
        prior_estimator=_prior(problem),
        max_weights=problem.caps,
    )


MODELS: dict[str, Callable[[ConvexProblem], Any]] = {
    "hrp": _hrp,
    "min_variance": _min_variance,
    "max_ratio": _max_ratio,
    "risk_budgeting": _risk_budgeting,
    "max_diversification": _max_diversification,
}
