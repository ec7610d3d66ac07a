"""Prove that nothing reads the future: change it, and require earlier records to stay the same.

1. `changed_future` replaces every row after a cut by noise; `cut_short` drops those rows;
2. the day's table (`actors.pipeline`) is computed on the honest and on the changed history, for
   sessions up to the cut (`_records`);
3. the records must agree bit for bit: `first_difference` names the field that does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np

from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.config import EnginesConfig, NodeConfig
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import BAR_FIELDS, PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import BoolArray
from prometheus_nt.jobs.data import panel_of
from prometheus_nt.jobs.stores import Stores

Progress = Callable[[int, int, str], None]

SESSIONS_BEFORE_CUT = (21, 5, 1, 0)
"""How many sessions before each cut the records are compared; each hands its own to the next."""


@dataclass(frozen=True)
class Leak:
    """The first difference that a changed future made to a stage's record."""

    stage: str
    field: str
    as_of: date
    cut: date
    change: str


@dataclass(frozen=True)
class LookaheadReport:
    """How many records of each stage were compared, and the first leak of each that leaks."""

    compared: dict[str, int]
    leaks: dict[str, Leak]


def check_lookahead(
    config: NodeConfig, stores: Stores, *, cuts: int = 4, progress: Progress | None = None
) -> dict[str, LookaheadReport]:
    """Return the report of each sleeve of a node, on its own data and settings."""
    panel = panel_of(stores, config.data.dataset)
    if config.instruments != "all":
        panel = panel.select(config.instruments)
    engines = {sleeve.sleeve_id: config.engines_of(sleeve) for sleeve in config.sleeves}
    return look_ahead(panel, engines, cuts=cuts, seed=config.seed, progress=progress)


def look_ahead(
    panel: MarketPanel,
    engines: Mapping[str, EnginesConfig],
    *,
    stages: Sequence[Stage] = PIPELINE,
    cuts: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, LookaheadReport]:
    """Compare every stage's records before several cuts with those on changed futures.

    Parameters
    ----------
    engines : mapping of sleeve id to the engine settings to check
    stages : sequence of Stage
        The table to check; a planted leak in it must be found.
    cuts : int
        Cuts, spread over the second half of the panel, where every engine has warmed up.
    """
    reports = {name: LookaheadReport({stage.name: 0 for stage in stages}, {}) for name in engines}
    rows = np.linspace(len(panel) // 2, len(panel) - 2, cuts).astype(int).tolist()
    for done, row in enumerate(rows, start=1):
        # Made once for all sleeves: what they share is then derived once.
        changes = {
            "later rows replaced by noise": changed_future(panel, row, seed + row),
            "later rows dropped": cut_short(panel, row),
        }
        for name, settings in engines.items():
            _compare(panel, row, changes, partial(_records, settings, stages), reports[name])
        if progress is not None:
            progress(done, len(rows), f"cut at {panel.sessions[row]}")
    return reports


def _compare(
    panel: MarketPanel,
    row: int,
    changes: Mapping[str, MarketPanel],
    records: Callable[[MarketPanel, Mapping[str, Any]], dict[str, Any]],
    report: LookaheadReport,
) -> None:
    cut = panel.sessions[row].astype(object)
    honest: dict[str, Any] = {}
    changed: dict[str, dict[str, Any]] = {change: {} for change in changes}
    for back in SESSIONS_BEFORE_CUT:
        as_of = panel.sessions[row - back].astype(object)
        honest = records(panel.until(as_of), honest)
        for stage in honest:
            report.compared[stage] += 1
        for change, history in changes.items():
            changed[change] = records(history.until(as_of), changed[change])
            for stage, field in _differences(honest, changed[change]):
                report.leaks.setdefault(stage, Leak(stage, field, as_of, cut, change))


def _differences(
    honest: Mapping[str, Any], changed: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for name in {**honest, **changed}:
        field = first_difference(honest.get(name), changed.get(name))
        if field is not None:
            yield name, field


def changed_future(panel: MarketPanel, row: int, seed: int) -> MarketPanel:
    """Return the panel with every field of every later row replaced by noise, some missing."""
    rng = np.random.default_rng(seed)
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    shape = arrays["close"][row + 1 :].shape
    for name in BAR_FIELDS:
        noise = rng.uniform(0.5, 500.0, shape)
        noise[rng.random(shape) < 0.05] = np.nan
        arrays[name][row + 1 :] = noise
    arrays["split"][row + 1 :] = rng.choice([1.0, 2.0, 0.1], shape)
    arrays["dividend"][row + 1 :] = rng.uniform(0.0, 5.0, shape)
    membership, facts = panel.membership, panel.facts
    if membership is not None:
        membership = membership.copy()
        membership[row + 1 :] = rng.random(shape) < 0.5
    if facts is not None:
        later = facts.known_at > panel.sessions[row]
        noise = rng.uniform(-1e9, 1e9, len(facts))
        facts = replace(facts, value=np.where(later, noise, facts.value))
    return _panel(panel, arrays, membership, facts)


def cut_short(panel: MarketPanel, row: int) -> MarketPanel:
    """Return a panel of its own that ends with `row`."""
    arrays = {name: getattr(panel, name)[: row + 1].copy() for name in PANEL_FIELDS}
    membership, facts = panel.membership, panel.facts
    if membership is not None:
        membership = membership[: row + 1].copy()
    if facts is not None:
        facts = facts.until(panel.sessions[row].astype(object))
    return _panel(panel, arrays, membership, facts)


def first_difference(honest: Any, changed: Any, path: str = "") -> str | None:
    """Return the name of the first field in which two records differ by a single bit, or None."""
    if type(honest) is not type(changed):
        return path or "record"
    if isinstance(honest, np.ndarray):
        same = np.array_equal(honest, changed, equal_nan=honest.dtype.kind == "f")
        return None if same else path
    for name, ours, theirs in _parts(honest, changed):
        found = first_difference(ours, theirs, f"{path}.{name}" if path else name)
        if found is not None:
            return found
    if is_dataclass(honest) or isinstance(honest, Mapping | tuple):
        return None
    # By their text, so that two NaN are one value and 1 is not True.
    return None if repr(honest) == repr(changed) else path


def _parts(honest: Any, changed: Any) -> Iterator[tuple[str, Any, Any]]:
    if is_dataclass(honest):
        for field in fields(honest):
            yield field.name, getattr(honest, field.name), getattr(changed, field.name)
    elif isinstance(honest, Mapping):
        for key in sorted({*honest, *changed}):
            yield str(key), honest.get(key), changed.get(key)
    elif isinstance(honest, tuple):
        yield "length", len(honest), len(changed)
        for number, (ours, theirs) in enumerate(zip(honest, changed, strict=False)):
            yield str(number), ours, theirs


def _records(
    engines: EnginesConfig, stages: Sequence[Stage], panel: MarketPanel, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of every stage that has the history for one."""
    made: dict[type, Any] = {MarketPanel: panel}
    records = {}
    for stage in stages:
        if not set(stage.inputs) <= set(made):
            continue
        try:
            record = stage.run(made, getattr(engines, stage.name, None), previous.get(stage.name))
        except InsufficientHistory:
            continue
        made[stage.output] = records[stage.name] = record
    return records


def _panel(
    panel: MarketPanel,
    arrays: dict[str, Any],
    membership: BoolArray | None,
    facts: Facts | None,
) -> MarketPanel:
    # The same fingerprint: an engine seeded by it must be caught if it reads later rows as well.
    return MarketPanel(
        sessions=panel.sessions[: len(arrays["close"])].copy(),
        instruments=panel.instruments,
        fingerprint=panel.fingerprint,
        sectors=panel.sectors,
        membership=membership,
        facts=facts,
        **arrays,
    )
