"""Find how much history an output needs before more of it changes nothing.

The newest session is computed from the last half year of the data, the last year, two, four and
so on, up to all of it (`LENGTHS`); each output is compared with that of the whole history. What an
engine estimates on an expanding window never settles, by design: the size of the change then says
how much a backtest's result depends on the day its data begin.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prometheus_nt.actors.pipeline import PIPELINE, Stage, run_day
from prometheus_nt.config import EnginesConfig, NodeConfig
from prometheus_nt.domain.errors import DataError, StrategyError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.check.differences import identical, leaves, relative_change
from prometheus_nt.jobs.check.engines import MONTH
from prometheus_nt.jobs.check.report import Progress
from prometheus_nt.jobs.check.user_strategy import UserStrategy
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.stores import Stores

LENGTHS = (126, 252, 504, 1008, 2016, 4032, 8064)
"""Sessions of history, doubling from half a year on, as far as a third is left out."""

COLUMNS = (
    "sleeve",
    "output",
    "first_known_at",
    "same_from",
    "close_from",
    "longest",
    "change_at_longest",
    "whole",
)

Outputs = Mapping[str, Any]
"""Every elementary value of the newest session by its dotted name."""


@dataclass(frozen=True)
class Settling:
    """From how many sessions of history on an output is known, and no longer changes.

    Attributes
    ----------
    first_known : shortest length with any value; None if only the whole history has one
    same_from : shortest length from which on it equals that of the whole history in every bit
    close_from : the same, to within the tolerance
    longest : longest length tried that is not the whole history
    change_at_longest : relative change from there to the whole; None where it is not a number
    whole : length of the whole history
    """

    sleeve: str
    output: str
    first_known: int | None
    same_from: int | None
    close_from: int | None
    longest: int
    change_at_longest: float | None
    whole: int

    @property
    def settles(self) -> bool:
        """Whether the whole history and shorter ones agree, at least to within the tolerance."""
        return self.close_from is not None


def check_warmup(
    config: NodeConfig,
    stores: Stores,
    *,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> list[Settling]:
    """Return how every field of every stage of a node's sleeves settles."""
    panel = node_panel(config, stores)
    if config.sessions.end is not None:
        stop = int(np.searchsorted(panel.sessions, np.datetime64(config.sessions.end), "right"))
        panel = panel.until(panel.sessions[max(stop, 1) - 1].astype(object))
    engines = {sleeve.sleeve_id: config.engines_of(sleeve) for sleeve in config.sleeves}
    return engines_warmup(panel, engines, tolerance=tolerance, progress=progress)


def engines_warmup(
    panel: MarketPanel,
    engines: Mapping[str, EnginesConfig],
    *,
    stages: tuple[Stage, ...] = PIPELINE,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> list[Settling]:
    """Return how every field that the stages publish of the panel's last session settles."""

    def outputs(history: MarketPanel) -> dict[str, Outputs]:
        return {
            name: _fields(_newest_records(settings, stages, history))
            for name, settings in engines.items()
        }

    return _settled(panel, outputs, tolerance, progress)


def strategy_warmup(
    strategy: UserStrategy,
    panel: MarketPanel,
    *,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> list[Settling]:
    """Return how the newest decision of a user's strategy settles.

    Raises
    ------
    StrategyError
        If it fails on the whole history; a shorter one may be too short for it.
    """
    strategy.decide(panel)

    def outputs(history: MarketPanel) -> dict[str, Outputs]:
        try:
            decisions = strategy.decide(history)
        except StrategyError:
            return {strategy.name: {}}
        newest = decisions.weights if decisions.per_session else decisions.weights[-1]
        return {strategy.name: {"weights": newest} if np.isfinite(newest).any() else {}}

    return _settled(panel, outputs, tolerance, progress)


def listing(found: list[Settling], *, whole: bool = False) -> Iterator[tuple[Any, ...]]:
    """Yield rows of `COLUMNS`: one for what settles of a stage, one per field that does not.

    whole : one per field instead, settled or not.
    """
    stages: dict[tuple[str, str], list[Settling]] = {}
    for item in found:
        stages.setdefault((item.sleeve, item.output.partition(".")[0]), []).append(item)
    for (sleeve, stage), items in stages.items():
        settled = [item for item in items if item.settles]
        if settled and not whole:
            yield (sleeve, f"{stage}: {len(settled)} fields", *_slowest(settled))
        for item in items:
            if whole or not item.settles:
                yield tuple(vars(item).values())


def _slowest(items: list[Settling]) -> tuple[Any, ...]:
    """Return the figures of fields that settle, each the worst of any of them."""
    last = items[0]
    known = [item.first_known or last.whole for item in items]
    same = [item.same_from for item in items]
    close = [item.close_from or last.whole for item in items]
    changes = [item.change_at_longest or 0.0 for item in items]
    exact = None if None in same else max(number or 0 for number in same)
    return (max(known), exact, max(close), last.longest, max(changes), last.whole)


def _settled(
    panel: MarketPanel,
    outputs: Callable[[MarketPanel], dict[str, Outputs]],
    tolerance: float,
    progress: Progress | None,
) -> list[Settling]:
    lengths = [length for length in LENGTHS if length * 3 <= len(panel) * 2]
    if not lengths:
        raise DataError(f"{len(panel)} sessions: at least {LENGTHS[0] * 3 // 2} are needed")
    by_length: dict[int, dict[str, Outputs]] = {}
    for done, length in enumerate([*lengths, len(panel)], start=1):
        by_length[length] = outputs(_newest(panel, length))
        if progress is not None:
            progress(done, len(lengths) + 1, f"{length:,} sessions of history")
    whole = by_length[len(panel)]
    return [
        _settling(sleeve, name, {n: by_length[n][sleeve] for n in by_length}, tolerance)
        for sleeve, fields in whole.items()
        for name in fields
    ]


def _settling(
    sleeve: str, name: str, by_length: Mapping[int, Outputs], tolerance: float
) -> Settling:
    *lengths, whole = by_length
    final = by_length[whole][name]
    known = [length for length in lengths if name in by_length[length]]
    changes = {length: relative_change(by_length[length][name], final) for length in known}
    exact = [length for length in known if identical(by_length[length][name], final)]
    close = [n for n in known if (change := changes[n]) is not None and change <= tolerance]
    return Settling(
        sleeve=sleeve,
        output=name,
        first_known=known[0] if known else None,
        same_from=_unbroken(lengths, exact),
        close_from=_unbroken(lengths, close),
        longest=lengths[-1],
        change_at_longest=changes.get(lengths[-1]),
        whole=whole,
    )


def _unbroken(lengths: list[int], good: list[int]) -> int | None:
    """Return the shortest of `lengths` from which on all are good, or None."""
    start = None
    for length in reversed(lengths):
        if length not in good:
            break
        start = length
    return start


def _newest_records(
    settings: EnginesConfig, stages: tuple[Stage, ...], panel: MarketPanel
) -> dict[str, Any]:
    records: dict[str, Any] = {}
    # A month, so that a stage that remembers its last record has one.
    for session in panel.sessions[-MONTH:]:
        records = run_day(panel.until(session.astype(object)), dict(settings), records, stages)
    return records


def _fields(records: Mapping[str, Any]) -> Outputs:
    return {
        f"{stage}.{path}": value
        for stage, record in records.items()
        for path, value, _ in leaves(record, record)
    }


def _newest(panel: MarketPanel, sessions: int) -> MarketPanel:
    """Return the newest rows as a history of its own, in which nothing before was ever known."""
    fingerprint = content_hash([panel.fingerprint, sessions])
    return replace(panel.last(sessions), _wall=None, fingerprint=fingerprint)
