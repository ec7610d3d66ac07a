"""Prove that no engine reads the future: change it, and require earlier records to stay the same.

1. `futures.cuts_of` makes other futures of the history at several cuts;
2. the day's table (`actors.pipeline`) is computed on the honest and on the changed histories, for
   the month of sessions up to each cut (`run_day`), and each record must agree bit for bit;
3. so must every array that the engines derived from a whole history, on every session up to the
   cut (`compare_derived`): what shows on one day of the year only is found there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prometheus_nt.actors.pipeline import PIPELINE, Stage, run_day
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.jobs.check.differences import first_difference
from prometheus_nt.jobs.check.futures import (
    DROPPED,
    MISSING,
    NOISE,
    SHUFFLED,
    WALK,
    Cut,
    cut_rows,
    cuts_of,
)
from prometheus_nt.jobs.check.report import Leak, LookaheadReport, Progress

MONTH = 22
"""Sessions before each cut whose records are compared; each hands its own to the next."""

CUTS = 6
"""One for each kind of session that `cut_rows` looks for."""

KINDS = ((WALK, DROPPED), (WALK, NOISE), (WALK, MISSING), (WALK, NOISE), (WALK, SHUFFLED))
"""Two futures a cut: every engine is computed anew on each, which is what the check costs."""

ALL_SLEEVES = "all sleeves"


def look_ahead(
    panel: MarketPanel,
    engines: Mapping[str, EnginesConfig],
    *,
    stages: Sequence[Stage] = PIPELINE,
    cuts: int = CUTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, LookaheadReport]:
    """Compare every stage's records before several cuts with those on other futures.

    Parameters
    ----------
    engines : mapping of sleeve id to the engine settings to check
    stages : sequence of Stage
        The table to check; a planted leak in it must be found.
    cuts : int
        Cuts over the last three quarters of the panel.

    Returns
    -------
    mapping of sleeve id to report; `ALL_SLEEVES` holds the derived arrays, which sleeves share
    """
    reports: dict[str, LookaheadReport] = {}
    rows = cut_rows(panel.sessions, cuts, len(panel) // 4, len(panel))
    for done, cut in enumerate(cuts_of(panel, rows, KINDS, seed), start=1):
        compare_engines(cut, engines, stages, reports)
        compare_derived(cut, reports.setdefault(ALL_SLEEVES, LookaheadReport()))
        if progress is not None:
            progress(done, len(rows), f"cut at {cut.as_of}")
    return reports


def compare_engines(
    cut: Cut,
    engines: Mapping[str, EnginesConfig],
    stages: Sequence[Stage],
    reports: dict[str, LookaheadReport],
) -> None:
    """Compare the engines of every sleeve on the histories of one cut."""
    for name, settings in engines.items():
        report = reports.setdefault(name, LookaheadReport())
        for stage in stages:
            report.count(stage.name, 0)
        _compare_records(cut, settings, stages, report)


def compare_derived(cut: Cut, report: LookaheadReport) -> None:
    """Compare every session up to the cut of what both histories have derived so far.

    Lookup tables that rows of other arrays point into are left out: the records made from them
    are compared instead.
    """
    ours = cut.honest.derivations()
    for future, history in cut.changed.items():
        theirs = history.derivations()
        for key in [key for key in ours if key in theirs and ours[key].dtype != object]:
            name = getattr(key[0], "__qualname__", repr(key[0]))
            part = f"derived: {name}"
            report.count(part, cut.row + 1)
            row = _first_differing_row(ours[key][: cut.row + 1], theirs[key][: cut.row + 1])
            if row is not None:
                as_of = cut.honest.sessions[row].astype(object)
                report.add(Leak(part, name, as_of, cut.as_of, future))


def _compare_records(
    cut: Cut, settings: EnginesConfig, stages: Sequence[Stage], report: LookaheadReport
) -> None:
    params = dict(settings)
    honest: dict[str, Any] = {}
    changed: dict[str, dict[str, Any]] = {future: {} for future in cut.changed}
    for session in cut.honest.sessions[max(0, cut.row - MONTH + 1) : cut.row + 1]:
        as_of = session.astype(object)
        honest = run_day(cut.honest.until(as_of), params, honest, stages)
        for stage in honest:
            report.count(stage, 1)
        for future, history in cut.changed.items():
            before = changed[future]
            changed[future] = run_day(history.until(as_of), params, before, stages)
            for stage, field in _differences(honest, changed[future]):
                report.add(Leak(stage, field, as_of, cut.as_of, future))


def _differences(
    honest: Mapping[str, Any], changed: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for name in {**honest, **changed}:
        field = first_difference(honest.get(name), changed.get(name))
        if field is not None:
            yield name, field


def _first_differing_row(ours: FloatArray, theirs: FloatArray) -> int | None:
    ours, theirs = _as_wide(ours, theirs), _as_wide(theirs, ours)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return 0
    same = ours == theirs
    if ours.dtype.kind == "f":
        same |= np.isnan(ours) & np.isnan(theirs)
    differing = np.flatnonzero(~same.reshape(len(same), -1).all(axis=1))
    return int(differing[0]) if len(differing) else None


def _as_wide(array: FloatArray, other: FloatArray) -> FloatArray:
    """Return an array with unknown columns behind its own, if the other has more of them.

    A sector first seen after the cut is one more column, of which nothing is known before.
    """
    if array.dtype.kind != "f" or not array.ndim == other.ndim == 2:
        return array
    missing = other.shape[1] - array.shape[1]
    if missing <= 0:
        return array
    return np.pad(array, ((0, 0), (0, missing)), constant_values=np.nan)
