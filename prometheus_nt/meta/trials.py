"""How many different things were really tried: copies, near-copies and idle trials counted once."""

from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.meta.sharpe import MIN_OBSERVATIONS

SAME_ABOVE = 0.95
"""Correlation of returns above which two trials are one idea."""


@dataclass(frozen=True, eq=False)
class DistinctTrials:
    """Trials grouped by what they did.

    Attributes
    ----------
    group : (N,) int array
        Same number, same idea: nearly the same as the first trial of the group; -1 for a trial
        that never moved. A later trial changes no group: it joins the first it resembles, or
        begins one, so that nobody can merge two ideas by putting a third between them.
    representatives : (G,) int array
        The first trial of each group, in the order of the trials.
    sharpe_variance : float
        Variance of the representatives' Sharpe ratios per session, at least 1 / (T - 1): that of
        trials that differ by luck alone.
    effective : float
        1 + (G - 1) (1 - mean correlation of the representatives).
    """

    group: IntArray
    representatives: IntArray
    sharpe_variance: float
    effective: float


def distinct_trials(returns: FloatArray, same_above: float = SAME_ABOVE) -> DistinctTrials:
    """Return which of the trials are different, and how much they differ.

    Parameters
    ----------
    returns : (T, N) array
        Simple returns per session on the same sessions, finite, T >= 30.

    Raises
    ------
    DataError
        If a return is unknown, there are too few sessions, or not one trial moved.
    """
    if len(returns) < MIN_OBSERVATIONS or not np.isfinite(returns).all():
        raise DataError(f"{len(returns)} sessions; at least 30 are needed, and every return known")
    moving = np.flatnonzero(np.ptp(returns, axis=0) > NEGLIGIBLE)
    if not len(moving):
        raise DataError("not one trial moved, so there is nothing to compare")
    correlation = _correlation(returns[:, moving])
    label, chosen = _led(correlation > same_above)
    group = np.full(returns.shape[1], -1, dtype=np.int64)
    group[moving] = label
    ratios = returns[:, moving[chosen]].mean(axis=0)
    ratios /= returns[:, moving[chosen]].std(axis=0, ddof=1)
    spread = float(ratios.var(ddof=1)) if len(chosen) > 1 else 0.0
    return DistinctTrials(
        group=group,
        representatives=moving[chosen],
        sharpe_variance=max(spread, 1.0 / (len(returns) - 1)),
        effective=_effective(correlation[np.ix_(chosen, chosen)]),
    )


def _led(alike: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the group of each trial and the first trial of each group."""
    leaders: list[int] = []
    label = np.zeros(len(alike), dtype=np.int64)
    for trial in range(len(alike)):
        known = np.flatnonzero(alike[trial, leaders])
        label[trial] = known[0] if len(known) else len(leaders)
        if not len(known):
            leaders.append(trial)
    return label, np.array(leaders, dtype=np.int64)


def _correlation(returns: FloatArray) -> FloatArray:
    scaled = returns - returns.mean(axis=0)
    scaled /= np.sqrt((scaled**2).sum(axis=0))
    correlation: FloatArray = scaled.T @ scaled
    return correlation


def _effective(correlation: FloatArray) -> float:
    count = len(correlation)
    if count == 1:
        return 1.0
    mean = float((correlation.sum() - np.trace(correlation)) / (count * (count - 1)))
    return 1.0 + (count - 1) * (1.0 - max(0.0, mean))
