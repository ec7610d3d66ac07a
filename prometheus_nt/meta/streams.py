"""The returns that a meta-portfolio may look at: its members' own records, cut and joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

import numpy as np

from prometheus_nt.domain.record import BoolArray, FloatArray, SessionArray
from prometheus_nt.meta.findings import Finding, warning
from prometheus_nt.meta.long_space import ReturnsMatrix

MIN_SESSIONS = 20
"""Fewer say nothing of a correlation."""


@dataclass(frozen=True, eq=False)
class Stream:
    """The simple returns per session of one member, after all costs; (T,) arrays."""

    sessions: SessionArray
    returns: FloatArray

    def __len__(self) -> int:
        return len(self.sessions)

    def until(self, as_of: date) -> "Stream":
        """Return what was known at the close of `as_of`."""
        return self._where(self.sessions <= np.datetime64(as_of, "D"))

    def after(self, as_of: date) -> "Stream":
        """Return what came later."""
        return self._where(self.sessions > np.datetime64(as_of, "D"))

    def _where(self, chosen: BoolArray) -> "Stream":
        return Stream(self.sessions[chosen], self.returns[chosen])


def joined(streams: Mapping[str, Stream]) -> ReturnsMatrix:
    """Return the sessions that every member has, (T, K): nothing is filled in."""
    if not streams:
        return ReturnsMatrix(np.empty(0, "datetime64[D]"), (), np.empty((0, 0)))
    common = reduce(np.intersect1d, [stream.sessions for stream in streams.values()])
    columns = [
        stream.returns[np.searchsorted(stream.sessions, common)] for stream in streams.values()
    ]
    return ReturnsMatrix(common, tuple(streams), np.column_stack(columns))


def dropped_share(streams: Sequence[Stream]) -> float:
    """Return the part of all sessions that the inner join drops; NaN if there is none at all."""
    days = [stream.sessions for stream in streams]
    every = reduce(np.union1d, days) if days else np.empty(0)
    common = reduce(np.intersect1d, days) if days else np.empty(0)
    return 1.0 - len(common) / len(every) if len(every) else float("nan")


def join_warnings(streams: Mapping[str, Stream], warn_above: float) -> tuple[Finding, ...]:
    """Return a warning if the join drops more than `warn_above` of the sessions."""
    dropped = dropped_share(list(streams.values()))
    if not dropped > warn_above:
        return ()
    said = f"{dropped:.1%} of the sessions are not common to all members and were dropped"
    return (warning("META_DROPPED_SESSIONS", "", said),)


def blended(matrix: ReturnsMatrix, weights: Mapping[str, float]) -> Stream:
    """Return the stream of holding the columns at constant weights, rebalanced every session."""
    held = np.array([weights[name] for name in matrix.columns])
    return Stream(matrix.sessions, matrix.values @ held)


def correlation_of(returns: FloatArray) -> FloatArray:
    """Return the correlation of (T, K) returns; NaN where a column does not vary."""
    columns = returns.shape[1]
    correlation: FloatArray = np.full((columns, columns), np.nan)
    varies = np.ptp(returns, axis=0) > 0.0 if len(returns) >= MIN_SESSIONS else np.zeros(0, bool)
    if varies.any():
        found = np.atleast_2d(np.corrcoef(returns[:, varies], rowvar=False))
        correlation[np.ix_(varies, varies)] = found
    return correlation
