"""How much of several track records luck alone would explain, given that all of them were tried.

A figure that the records cannot support is None.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import TypeVar

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.meta.bootstrap import Interval, block_length, bootstrap_intervals
from prometheus_nt.meta.overfitting import overfitting_probability
from prometheus_nt.meta.sharpe import (
    deflated_sharpe_ratio,
    minimum_track_record,
    probabilistic_sharpe_ratio,
    sharpe_hurdle,
    sharpe_moments,
)
from prometheus_nt.meta.superiority import stepwise_survivors, superior_predictive_ability
from prometheus_nt.meta.trials import DistinctTrials, distinct_trials

Found = TypeVar("Found")

ANNUAL = sqrt(SESSIONS_PER_YEAR)


@dataclass(frozen=True)
class RecordLuck:
    """One record among all that were tried; Sharpe ratios are annual.

    Attributes
    ----------
    sharpe : Interval or None
        95 % interval of the ratio, by the stationary bootstrap.
    deepest_drawdown : float or None
        Deeper than this in one of forty resampled records.
    above_zero, above_luck : float or None
        Probability that the true ratio exceeds 0, and what the best of all is expected to show
        by luck (the deflated ratio of 2014).
    years_needed : float or None
        Record that would show, with 95 % confidence, a ratio above 0.
    survives : bool or None
        True if it earns more than nothing, with 5 % chance of one such mistake among all.
    """

    sharpe: Interval | None
    deepest_drawdown: float | None
    above_zero: float | None
    above_luck: float | None
    years_needed: float | None
    survives: bool | None


@dataclass(frozen=True)
class Luck:
    """What all records together say.

    Attributes
    ----------
    trials : int
        Everything that was tried, these records among it.
    distinct : int or None
        Records that are not nearly the same.
    hurdle : float or None
        Annual Sharpe ratio that the best of them is expected to reach by luck.
    overfitting : float or None
        Probability that the best in one half of the sessions is below the middle in the other.
    best_is_luck : float or None
        p-value of the best of them (Hansen's consistent one).
    """

    trials: int
    distinct: int | None
    hurdle: float | None
    overfitting: float | None
    best_is_luck: float | None
    records: tuple[RecordLuck, ...]


def luck_of(returns: FloatArray, tried: int = 0) -> Luck:
    """Return how much of the records luck explains.

    Parameters
    ----------
    returns : (T, N) array
        Simple returns per session, after all costs.
    tried : int
        What was tried on these sessions in all; never less than the N records at hand.
    """
    records_at_hand = returns.shape[1]
    trials = max(tried, records_at_hand)
    distinct = _if_possible(lambda: distinct_trials(returns))
    moving = np.flatnonzero(np.ptp(returns, axis=0) > 0.0)
    block = _if_possible(lambda: max(block_length(returns[:, each]) for each in moving))
    survives = None if block is None else _survivors(returns, moving, block)
    records = [
        _record(returns[:, each], distinct, trials, None if survives is None else survives[each])
        for each in range(records_at_hand)
    ]
    best = None
    if block is not None:
        best = _if_possible(lambda: superior_predictive_ability(returns[:, moving], block=block))
    return Luck(
        trials=trials,
        distinct=None if distinct is None else len(distinct.representatives),
        hurdle=None if distinct is None else ANNUAL * _hurdle(distinct, trials),
        overfitting=None if distinct is None else _overfitting(returns, distinct),
        best_is_luck=None if best is None else best.consistent,
        records=tuple(records),
    )


def recounted(luck: Luck, returns: FloatArray, tried: int) -> Luck:
    """Return what the same records say among another number of trials; nothing is resampled.

    Parameters
    ----------
    luck, returns : what `luck_of` returned, and of what
    """
    trials = max(tried, returns.shape[1])
    distinct = _if_possible(lambda: distinct_trials(returns))
    if distinct is None:
        return replace(luck, trials=trials)
    records = tuple(
        record
        if record.sharpe is None
        else replace(record, above_luck=_above_luck(returns[:, each], distinct, trials))
        for each, record in enumerate(luck.records)
    )
    hurdle = ANNUAL * _hurdle(distinct, trials)
    return replace(luck, trials=trials, hurdle=hurdle, records=records)


def _above_luck(returns: FloatArray, distinct: DistinctTrials, trials: int) -> float | None:
    variance = distinct.sharpe_variance
    return _if_possible(lambda: deflated_sharpe_ratio(sharpe_moments(returns), variance, trials))


def _record(
    returns: FloatArray, distinct: DistinctTrials | None, trials: int, survives: bool | None
) -> RecordLuck:
    moments = _if_possible(lambda: sharpe_moments(returns))
    intervals = _if_possible(lambda: bootstrap_intervals(returns))
    if moments is None or distinct is None or intervals is None:
        return RecordLuck(None, None, None, None, None, None)
    sharpe = intervals["sharpe"]
    needed = _if_possible(lambda: minimum_track_record(moments))
    return RecordLuck(
        sharpe=Interval(sharpe.low * ANNUAL, sharpe.high * ANNUAL, sharpe.confidence),
        deepest_drawdown=intervals["max_drawdown"].low,
        above_zero=_if_possible(lambda: probabilistic_sharpe_ratio(moments)),
        above_luck=_if_possible(
            lambda: deflated_sharpe_ratio(moments, distinct.sharpe_variance, trials)
        ),
        years_needed=None if needed is None else needed / SESSIONS_PER_YEAR,
        survives=survives,
    )


def _survivors(returns: FloatArray, moving: IntArray, block: float) -> BoolArray | None:
    found = _if_possible(lambda: stepwise_survivors(returns[:, moving], block=block))
    if found is None:
        return None
    survives = np.zeros(returns.shape[1], dtype=bool)
    survives[moving] = found
    return survives


def _hurdle(distinct: DistinctTrials, trials: int) -> float:
    # Every attempt counts; how much they differ is measured on those that are different.
    return sharpe_hurdle(distinct.sharpe_variance, trials)


def _overfitting(returns: FloatArray, distinct: DistinctTrials) -> float | None:
    found = _if_possible(lambda: overfitting_probability(returns[:, distinct.representatives]))
    return None if found is None else found.probability


def _if_possible(of: Callable[[], Found]) -> Found | None:
    try:
        return of()
    except DataError:
        return None
