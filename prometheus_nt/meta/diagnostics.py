"""Matched pairs of runs: what one setting changed, and whether chance explains it.

1. `matched_pairs` finds the runs of the same sessions that differ in exactly one setting;
2. `tested` says what a pair earned differently: the mean of its daily differences, a p-value that
   allows for dependence (`hac_p_value`), and an interval from resampled blocks of sessions;
3. `diagnose` does so for every pair, over all sessions and by regime, and corrects the p-values
   for all that were tested: a pair that could not be tested says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import erfc, floor, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.meta.bootstrap import (
    MIN_OBSERVATIONS,
    Interval,
    block_length,
    resampled_rows,
)
from prometheus_nt.meta.sharpe import haircut

ALL = "ALL"
"""Every session, whatever its regime."""

PATHS_AT_ONCE = 250

IDENTITIES = frozenset(
    {
        *("sleeve.sleeve_id", "sleeve.variant", "sleeve.portfolio_id"),
        *("engines.portfolio.book_id", "engines.universe.universe_id"),
        *("data.revision", "data.benchmark", "data.benchmark_dataset"),
    }
)
"""Settings that name a run, or what it is compared with, and decide no order."""


class DiagnosisRules(Params):
    """How pairs are tested; fixed before they are looked at.

    Attributes
    ----------
    method
        `holm` bounds the chance of one false discovery among all tests, `bhy` their share
        (Benjamini, Hochberg and Yekutieli: valid however the tests depend on each other).
    level
        A corrected p-value at most so large survives.
    confidence, paths
        Of the interval from resampled sessions.
    """

    method: Literal["holm", "bhy"] = "holm"
    level: float = Field(0.05, gt=0, lt=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    paths: int = Field(2000, ge=100)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Arm:
    """One finished run.

    Attributes
    ----------
    scope : what must be the same for two runs to be compared: sessions and data
    settings : mapping of dotted settings to plain values
    returns : (T,) array
        Simple returns per session, after all costs.
    regimes : (T,) array of labels, None where unknown; or None
    """

    run_id: str
    scope: tuple[Any, ...]
    settings: Mapping[str, Any]
    returns: FloatArray
    regimes: npt.NDArray[np.object_] | None = None


@dataclass(frozen=True)
class Pair:
    """Two runs that differ in one setting; differences are those of `changed` less `base`."""

    base: Arm
    changed: Arm
    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Tested:
    """What one pair earned differently over all sessions, or those of a regime.

    Attributes
    ----------
    mean_annual : mean of the daily differences x 252; None where it was not computed
    interval : of `mean_annual`, from resampled blocks
    sharpe_base, sharpe_changed : annual
    p_value, corrected : of the mean being 0, for itself and among all tests
    why : why figures are missing; None if none is
    """

    base: str
    changed: str
    key: str
    old: Any
    new: Any
    regime: str
    sessions: int
    mean_annual: float | None = None
    interval: Interval | None = None
    sharpe_base: float | None = None
    sharpe_changed: float | None = None
    p_value: float | None = None
    corrected: float | None = None
    why: str | None = None

    @property
    def improvement(self) -> float | None:
        """The change of the annual Sharpe ratio."""
        if self.sharpe_base is None or self.sharpe_changed is None:
            return None
        return self.sharpe_changed - self.sharpe_base


@dataclass(frozen=True)
class Diagnosis:
    """Every test that was made, of whole records first.

    Attributes
    ----------
    tests : how many p-values were corrected together, of whole records and by regime
    """

    rules: DiagnosisRules
    pairs: tuple[Tested, ...]
    by_regime: tuple[Tested, ...]

    @property
    def tests(self) -> int:
        return sum(one.p_value is not None for one in (*self.pairs, *self.by_regime))

    def survives(self, one: Tested) -> bool:
        """Return whether chance is no good explanation of a difference, among all tests."""
        return one.corrected is not None and one.corrected <= self.rules.level

    def best(self, current: Mapping[str, Any]) -> Tested | None:
        """Return the surviving change that improves settings most; None if none does.

        Parameters
        ----------
        current : mapping of dotted settings
            Only a change away from these values counts.
        """
        found = [
            one
            for each in self.pairs
            if self.survives(each)
            for one in (each, reversed_(each))
            if one.key in current
            and current[one.key] == one.old
            and (one.mean_annual or 0.0) > 0.0
            and (one.improvement or 0.0) > 0.0
        ]
        return max(found, key=lambda one: one.mean_annual or 0.0, default=None)


def matched_pairs(arms: Sequence[Arm]) -> Iterator[Pair]:
    """Yield the pairs of one scope that differ in exactly one setting, the smaller value first."""
    for one, other in combinations(arms, 2):
        if one.scope != other.scope:
            continue
        names = (one.settings.keys() | other.settings.keys()) - IDENTITIES
        absent = object()
        different = [
            name
            for name in names
            if one.settings.get(name, absent) != other.settings.get(name, absent)
        ]
        if len(different) == 1:
            yield _ordered(one, other, different[0])


def diagnose(arms: Sequence[Arm], rules: DiagnosisRules) -> Diagnosis:
    """Return every matched pair tested, with p-values corrected for all the tests together."""
    pairs = list(matched_pairs(arms))
    whole = [tested(pair, rules) for pair in pairs]
    by_regime = [
        tested(pair, rules, label) for pair in pairs for label in _labels(pair.base.regimes)
    ]
    corrected = _corrected([*whole, *by_regime], rules)
    return Diagnosis(rules, tuple(corrected[: len(whole)]), tuple(corrected[len(whole) :]))


def difference(differences: FloatArray, rules: DiagnosisRules) -> tuple[float, float, Interval]:
    """Return mean, p-value of its being 0, and interval of the mean, all per session.

    Parameters
    ----------
    differences : (T,) array, T >= 30, finite

    Raises
    ------
    DataError
        If there are too few, one is unknown, or they do not vary.
    """
    unknown = int(np.count_nonzero(~np.isfinite(differences)))
    if unknown:
        raise DataError(f"{unknown} returns of the two runs are unknown")
    if not len(differences) or not np.ptp(differences) > NEGLIGIBLE:
        raise DataError("the two runs earned the same on every session")
    length = block_length(differences)
    rows = resampled_rows(len(differences), rules.paths, length, rules.seed)
    means = np.concatenate(
        [
            differences[rows[:, start : start + PATHS_AT_ONCE]].mean(axis=0)
            for start in range(0, rules.paths, PATHS_AT_ONCE)
        ]
    )
    tail = (1.0 - rules.confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    interval = Interval(float(low), float(high), rules.confidence)
    return float(differences.mean()), hac_p_value(differences), interval


def hac_p_value(values: FloatArray) -> float:
    """Return the two-sided p-value of a mean of 0, allowing for dependence between sessions.

    Raises
    ------
    DataError
        If the values do not vary in the long run.

    References
    ----------
    Newey and West (1987), Bartlett weights; floor(4 (T/100)^(2/9)) lags as in Newey and West
    (1994). The sum is divided by T - 1.
    """
    count = len(values)
    own = values - values.mean()
    lags = min(floor(4.0 * (count / 100.0) ** (2.0 / 9.0)), count - 1)
    covariances = np.array([own[lag:] @ own[: count - lag] for lag in range(lags + 1)])
    weights = np.where(np.arange(lags + 1) == 0, 1.0, 2.0 - 2.0 * np.arange(lags + 1) / (lags + 1))
    long_run = float(weights @ covariances) / (count - 1)
    if long_run <= 0.0:
        raise DataError("the differences do not vary in the long run")
    return erfc(abs(float(values.mean())) / sqrt(long_run / count) / sqrt(2.0))


def reversed_(one: Tested) -> Tested:
    """Return the same test, read as the change back."""
    interval = one.interval
    if interval is not None:
        interval = Interval(-interval.high, -interval.low, interval.confidence)
    return replace(
        one,
        base=one.changed,
        changed=one.base,
        old=one.new,
        new=one.old,
        mean_annual=None if one.mean_annual is None else -one.mean_annual,
        interval=interval,
        sharpe_base=one.sharpe_changed,
        sharpe_changed=one.sharpe_base,
    )


def _ordered(one: Arm, other: Arm, key: str) -> Pair:
    first, second = one.settings.get(key), other.settings.get(key)
    if _rank(second) < _rank(first):
        return Pair(other, one, key, second, first)
    return Pair(one, other, key, first, second)


def _rank(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, int | float)
    return (0 if number else 1, float(value) if number else 0.0, str(value))


def _labels(regimes: npt.NDArray[np.object_] | None) -> list[str]:
    return [] if regimes is None else sorted({label for label in regimes.tolist() if label})


def tested(pair: Pair, rules: DiagnosisRules, regime: str = ALL) -> Tested:
    """Return what a pair earned differently, over all sessions or those of a regime."""
    base, changed = pair.base.returns, pair.changed.returns
    if regime != ALL:
        within = pair.base.regimes == regime
        base, changed = base[within], changed[within]
    found = Tested(
        pair.base.run_id,
        pair.changed.run_id,
        pair.key,
        pair.old,
        pair.new,
        regime,
        len(base),
    )
    if len(base) < MIN_OBSERVATIONS:
        return replace(found, why=f"{len(base)} sessions, at least {MIN_OBSERVATIONS} are needed")
    try:
        mean, p_value, interval = difference(changed - base, rules)
    except DataError as undefined:
        return replace(found, why=str(undefined))
    year = SESSIONS_PER_YEAR
    return replace(
        found,
        mean_annual=mean * year,
        interval=Interval(interval.low * year, interval.high * year, interval.confidence),
        sharpe_base=_sharpe(base),
        sharpe_changed=_sharpe(changed),
        p_value=p_value,
    )


def _sharpe(returns: FloatArray) -> float | None:
    deviation = float(returns.std(ddof=1))
    if deviation <= NEGLIGIBLE:
        return None
    return float(returns.mean()) / deviation * sqrt(SESSIONS_PER_YEAR)


def _corrected(tests: Sequence[Tested], rules: DiagnosisRules) -> list[Tested]:
    known = [at for at, one in enumerate(tests) if one.p_value is not None]
    found = list(tests)
    if not known:
        return found
    values = haircut(np.array([tests[at].p_value for at in known], dtype=float), rules.method)
    for at, value in zip(known, values.tolist(), strict=True):
        found[at] = replace(found[at], corrected=value)
    return found
