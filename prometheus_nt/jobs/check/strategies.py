"""Prove that a user's strategy does not read the future.

1. The strategy runs twice on the same history: it has to be deterministic;
2. `futures.cuts_of` makes other futures at many cuts; whatever the strategy decided up to a cut
   must be the same on all of them (`_compare`), to within rounding;
3. where it reports its own profit and loss, that of a session may not depend on what was decided
   at that session's close (`same_bar`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from prometheus_nt.domain.errors import StrategyError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray
from prometheus_nt.jobs.check.futures import FUTURES, Cut, cut_rows, cuts_of
from prometheus_nt.jobs.check.report import Progress
from prometheus_nt.jobs.check.same_bar import same_bar_fill
from prometheus_nt.jobs.check.user_strategy import Decisions, UserStrategy

CUTS = 18
"""Three for each kind of session that `cut_rows` looks for."""

TOLERANCE = 1e-9
"""Difference, relative to the session's largest figure, that is rounding: libraries add up long
arrays in another order than short ones."""

MONTH = 22
"""Sessions before each cut on which a strategy that decides session by session is called."""

WEIGHTS, EARNED = "weights", "profit and loss"
SAME_BAR = "the session's own close"

NO_REACTION = (
    "no decision ever reacted to another future: the strategy is constant, or reads something "
    "other than the panel it is given; then this proves nothing"
)

COLUMNS = (
    "change",
    "compared",
    "verdict",
    "field",
    "as_of",
    "instrument",
    "honest",
    "changed",
    "changed_after",
    "reads_ahead",
    "note",
)


@dataclass(frozen=True)
class Finding:
    """The first decision that moved when only later sessions had changed.

    instrument : None for profit and loss.
    cut : last session that was left as it was.
    """

    field: str
    as_of: date
    instrument: str | None
    honest: float
    changed: float
    cut: date
    reads_ahead: int | None
    """Sessions, at least, between the decision and what it has read."""


@dataclass
class ChangeReport:
    """What one kind of change did; `note` says why nothing was compared, where that is so."""

    change: str
    compared: int = 0
    finding: Finding | None = None
    note: str | None = None

    def add(self, found: Finding | None) -> None:
        """Keep the finding with the earliest session."""
        if found is not None and (self.finding is None or found.as_of < self.finding.as_of):
            self.finding = found

    @property
    def verdict(self) -> str:
        if self.finding is not None:
            return "LEAK"
        return "ok" if self.compared else "nothing to compare"


@dataclass
class StrategyReport:
    """What every kind of change did to a strategy's past decisions.

    reacts : whether any decision after a cut moved; where none did, the strategy is constant or
        reads something other than the panel, and the check proves nothing.
    """

    name: str
    changes: dict[str, ChangeReport] = field(default_factory=dict)
    reacts: bool = False

    @property
    def first(self) -> Finding | None:
        """The finding with the earliest session, over all changes."""
        found = [item.finding for item in self.changes.values() if item.finding is not None]
        return min(found, key=lambda item: item.as_of, default=None)

    def listing(self) -> Iterator[tuple[Any, ...]]:
        """Yield one row of `COLUMNS` per kind of change."""
        for item in self.changes.values():
            found = item.finding
            facts = (None,) * 7 if found is None else tuple(vars(found).values())
            yield (item.change, item.compared, item.verdict, *facts, item.note)


def check_strategy(
    strategy: UserStrategy,
    panel: MarketPanel,
    *,
    cuts: int = CUTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> StrategyReport:
    """Run a strategy on other futures of a panel and compare what it decided before them.

    Raises
    ------
    StrategyError
        If it fails on the honest history, is not deterministic, or fails on every other one.
    DataError
        If the panel has too few sessions.
    """
    honest = strategy.decide(panel)
    _require_deterministic(strategy, honest, panel)
    report = StrategyReport(strategy.name, {future: ChangeReport(future) for future in FUTURES})
    rows = cut_rows(panel.sessions, cuts, len(panel) // 4, len(panel))
    for done, cut in enumerate(cuts_of(panel, rows, [tuple(FUTURES)], seed), start=1):
        for future, history in cut.changed.items():
            _compare(strategy, honest, cut, history, report, report.changes[future])
        if progress is not None:
            progress(done, len(rows), f"cut at {cut.as_of}")
    if honest.earned is not None:
        report.changes[SAME_BAR] = _same_bar(strategy, panel, rows, seed)
    _require_compared(report)
    return report


def _require_deterministic(strategy: UserStrategy, first: Decisions, panel: MarketPanel) -> None:
    second = strategy.decide(panel)
    pairs = [(first.weights, second.weights), (first.earned, second.earned)]
    for one, other in pairs:
        if one is not None and not np.array_equal(one, other, equal_nan=True):  # type: ignore[arg-type]
            raise StrategyError(
                f"{strategy.name}: not deterministic: two runs on the same panel differ; seed its "
                "random numbers, and keep nothing between two calls"
            )


def _require_compared(report: StrategyReport) -> None:
    if not any(item.compared for item in report.changes.values()):
        notes = [item.note for item in report.changes.values() if item.note]
        raise StrategyError(
            f"{report.name}: nothing could be compared: "
            + (notes[0] if notes else "it decided nothing before any cut")
        )


def _compare(
    strategy: UserStrategy,
    honest: Decisions,
    cut: Cut,
    history: MarketPanel,
    report: StrategyReport,
    change: ChangeReport,
) -> None:
    try:
        if honest.per_session:
            _compare_sessions(strategy, cut, history, change)
            report.reacts = True  # a view has no rows after its cut that could be read
            return
        changed = strategy.decide(history)
    except StrategyError as failure:
        change.note = str(failure)
        return
    pairs = [(WEIGHTS, honest.weights, changed.weights)]
    if honest.earned is not None and changed.earned is not None:
        pairs.append((EARNED, honest.earned[:, None], changed.earned[:, None]))
    for name, ours, theirs in pairs:
        change.compared += int(np.isfinite(ours[: cut.row + 1]).sum())
        change.add(_first_difference(name, ours, theirs, cut))
        later = slice(cut.row + 1, min(len(ours), len(theirs)))
        report.reacts |= bool(_differing(ours[later], theirs[later]).any())


def _compare_sessions(
    strategy: UserStrategy, cut: Cut, history: MarketPanel, change: ChangeReport
) -> None:
    shape = (cut.row + 1, cut.honest.close.shape[1])
    ours, theirs = np.full(shape, np.nan), np.full(shape, np.nan)
    for row in range(max(0, cut.row - MONTH + 1), cut.row + 1):
        as_of = cut.honest.sessions[row].astype(object)
        ours[row] = strategy.decide(cut.honest.until(as_of)).weights
        theirs[row] = strategy.decide(history.until(as_of)).weights
    change.compared += int(np.isfinite(ours).sum())
    change.add(_first_difference(WEIGHTS, ours, theirs, cut))


def _first_difference(name: str, ours: FloatArray, theirs: FloatArray, cut: Cut) -> Finding | None:
    differing = _differing(ours[: cut.row + 1], theirs[: cut.row + 1])
    if not differing.any():
        return None
    row, column = np.unravel_index(int(np.argmax(differing)), differing.shape)
    return Finding(
        field=name,
        as_of=cut.honest.sessions[row].astype(object),
        instrument=cut.honest.instruments[column] if name == WEIGHTS else None,
        honest=float(ours[row, column]),
        changed=float(theirs[row, column]),
        cut=cut.as_of,
        reads_ahead=cut.row - int(row) + 1,
    )


def _differing(ours: FloatArray, theirs: FloatArray) -> BoolArray:
    """Return where two (R, N) arrays differ by more than rounding; unknown equals unknown."""
    known = np.isfinite(ours) & np.isfinite(theirs)
    sizes = np.maximum(np.abs(np.where(known, ours, 0.0)), np.abs(np.where(known, theirs, 0.0)))
    allowed = TOLERANCE * sizes.max(axis=1, keepdims=True, initial=0.0)
    apart = np.abs(np.where(known, ours, 0.0) - np.where(known, theirs, 0.0)) > allowed
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    differing: BoolArray = np.where(known, apart, ~same)
    return differing


def _same_bar(
    strategy: UserStrategy, panel: MarketPanel, rows: list[int], seed: int
) -> ChangeReport:
    report = ChangeReport(SAME_BAR)
    for row in rows:
        try:
            bend = same_bar_fill(strategy, panel, row, seed)
        except StrategyError as failure:
            report.note = str(failure)
            continue
        report.compared += 1
        if bend is not None:
            session = panel.sessions[row].astype(object)
            before = panel.sessions[row - 1].astype(object)
            report.add(Finding(EARNED, session, None, *bend, cut=before, reads_ahead=None))
    if report.finding is not None:
        report.note = (
            "the session's profit and loss depends on what was decided at its own close: earn "
            "returns, and book costs, on the weights of the session before"
        )
    return report
