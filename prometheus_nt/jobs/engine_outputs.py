"""The day's table from the store: a stage that ran before on the same things is not run again.

1. `SharedDay.key` names what decides a stage's records: its code and what that imports, its
   settings, the data, the sessions, and the keys of what it hears;
2. `SharedDay.tape` finds them in the store, or lets the stage run over all sessions and stores
   them;
3. `SharedDay.table` is the day's table with every such stage read instead of run: the same records
   reach the same actors in the same order;
4. where a node writes none of its engines' records, the table is short (`SharedDay._short_table`):
   only what decides an order is read, and only on the sessions on which it may.

Stages that hear what the sleeve owns differ from book to book, and are run as ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, cached_property
from typing import Any

import numpy as np

from persistence.engine_outputs import OutputStore
from persistence.record_tape import Heard, RecordTape
from prometheus_nt.actors.market_data import newest_outlook
from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.books import BookTarget, TargetPortfolio
from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.ledger import BookState
from prometheus_nt.domain.market import RegimeState, ScenarioOutlook, SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import Params, Record, content_hash
from prometheus_nt.engines.risk import RiskParams, remembers
from prometheus_nt.jobs.identity import engine_hash, package_versions
from prometheus_nt.settings import Settings
from strategies.catalog import SleeveParams

LABELS = {"portfolio": "book_id"}
"""Settings that name a stage's record and decide nothing in it."""

ALWAYS_WRITTEN = (RegimeState,)
"""Records that become rows of a run whether or not it writes those of its engines."""


@dataclass(frozen=True)
class SharedSessions:
    """The sessions of a panel that outputs are about, and what else is known of its market.

    Attributes
    ----------
    first, last : int
        Rows of the panel, both included.
    fingerprint : str
        Content hash of everything that decides what engines see.
    scenarios : sequence of SimulatedReturns
        Sets that fragility may see.
    """

    panel: MarketPanel
    first: int
    last: int
    fingerprint: str
    scenarios: Sequence[SimulatedReturns] = ()


@dataclass(frozen=True)
class SharedDay:
    """The engines of one sleeve over the sessions of one market, through a store."""

    store: OutputStore
    sessions: SharedSessions
    params: Mapping[str, Params]
    without: tuple[str, ...] = ()
    writes_records: bool = True

    @classmethod
    def of(
        cls,
        store: OutputStore,
        sessions: SharedSessions,
        config: NodeConfig,
        sleeve: SleeveParams,
    ) -> "SharedDay":
        """Return the day of a sleeve of a node."""
        engines = config.engines_of(sleeve)
        params = {stage.name: getattr(engines, stage.name) for stage in PIPELINE}
        writes = config.persistence.engine_rows != "none"
        return cls(store, sessions, params, tuple(config.without), writes)

    def table(self) -> tuple[Stage, ...]:
        """Return the stages that a node runs, the shared ones read from the store.

        What the store does not have is computed first, over all sessions.
        """
        if not self.writes_records:
            return self._short_table()
        return tuple(
            self._replayed(stage) if self._is_shared(stage) else stage for stage in self._running
        )

    def targets(self) -> "StoredTargets":
        """Return the books that the portfolio engine asks for."""
        (stage,) = (stage for stage in self._running if stage.output is BookTarget)
        return StoredTargets(self.tape(stage), self.sessions.first)

    def key(self, stage: Stage) -> str:
        """Return the hash of everything that decides a stage's records."""
        sessions = self.sessions
        days = sessions.panel.sessions[[sessions.first, sessions.last]].astype(np.int64)
        return content_hash(
            [
                stage.name,
                engine_hash(stage.compute.__module__),
                _versions(),
                _without_label(stage, self.params[stage.name]).digest(),
                sessions.fingerprint,
                days,
                [[made.name, self.key(made)] for made in self._heard_by(stage)],
                [one.spec_hash for one in self._outlooks(stage)],
            ]
        )

    def tape(self, stage: Stage) -> RecordTape:
        """Return the records of a shared stage, one a session, computed now if nobody has."""
        names = self.sessions.panel.instruments
        return self.store.tape(self.key(stage), names, lambda: self._computed(stage))

    @cached_property
    def _running(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in PIPELINE if stage.name not in self.without)

    def _heard_by(self, stage: Stage) -> list[Stage]:
        wanted = {*stage.inputs, *stage.optional.values()}
        return [made for made in self._running if made.output in wanted]

    def _is_shared(self, stage: Stage) -> bool:
        if BookState in (*stage.inputs, *stage.optional.values()):
            return False
        return all(self._is_shared(made) for made in self._heard_by(stage))

    def _outlooks(self, stage: Stage) -> Sequence[SimulatedReturns]:
        return self.sessions.scenarios if ScenarioOutlook in stage.optional.values() else ()

    def _computed(self, stage: Stage) -> Iterator[Heard]:
        """Yield what the stage makes of each session; None where something it needs is missing."""
        tapes = {made.output: self.tape(made) for made in self._heard_by(stage)}
        sets, panel, previous = self._outlooks(stage), self.sessions.panel, None
        params = _without_label(stage, self.params[stage.name])
        for row in range(self.sessions.first, self.sessions.last + 1):
            view = panel.until(panel.sessions[row].astype(object))
            made: dict[type, Any] = {MarketPanel: view}
            for output, tape in tapes.items():
                heard = tape.at(row - self.sessions.first)
                if heard is not None and not isinstance(heard, InsufficientHistory):
                    made[output] = heard
            outlook = newest_outlook(sets, view.as_of)
            if outlook is not None:
                made[ScenarioOutlook] = outlook
            if not set(stage.inputs) <= set(made):
                yield None
                continue
            try:
                record = stage.run(made, params, previous)
            except InsufficientHistory as shortage:
                yield shortage
                continue
            previous = record
            yield record

    def _short_table(self) -> tuple[Stage, ...]:
        """Return the stages that differ from book to book, and those that become rows anyway.

        The others have nobody who hears them but the next stage, which reads its tape itself.
        """
        return tuple(
            self._replayed(stage) if self._is_shared(stage) else self._reading(stage)
            for stage in self._running
            if stage.output in ALWAYS_WRITTEN or not self._is_shared(stage)
        )

    def _replayed(self, stage: Stage) -> Stage:
        read = self._reader(stage)

        def recorded(view: MarketPanel, *_: Any, **__: Any) -> Any:
            found = read(view.as_of)
            if found is None:
                raise DataError(f"{view.as_of}: {stage.name} has no record in the store")
            if isinstance(found, InsufficientHistory):
                raise found
            return found

        return replace(stage, compute=recorded, feedback=False)

    def _reading(self, stage: Stage) -> Stage:
        """Return a stage that hears shared outputs from the store, and is silent where unheard."""
        made = [one for one in self._heard_by(stage) if self._is_shared(one)]
        readers = {one.output: self._reader(one) for one in made}
        inputs = tuple(wanted for wanted in stage.inputs if wanted not in readers)
        optional = {
            name: wanted for name, wanted in stage.optional.items() if wanted not in readers
        }

        def compute(*heard: Any, previous: Any = None, **given: Any) -> Any:
            *records, params = heard
            as_of = records[0].as_of
            known = dict(zip(inputs, records, strict=True))
            known |= {optional[name]: record for name, record in given.items()}
            for output, read in readers.items():
                found = read(as_of)
                if isinstance(found, InsufficientHistory):
                    raise found
                if found is not None:
                    known[output] = found
            if not set(stage.inputs) <= set(known):
                raise InsufficientHistory(as_of, 1, 0)
            return stage.run(known, params, previous)

        return replace(
            stage,
            compute=compute,
            inputs=inputs,
            optional=optional,
            unheard=self._is_unheard(stage),
        )

    def _is_unheard(self, stage: Stage) -> Callable[[Mapping[type, Any]], bool] | None:
        """Return what tells the sessions on which a sleeve follows no target, but for the last.

        A run's report shows the risk of its last session, whatever was decided on it.
        """
        if stage.output is not TargetPortfolio or remembers(self._risk):
            return None
        last = self.sessions.panel.sessions[self.sessions.last].astype(object)

        def unheard(made: Mapping[type, Any]) -> bool:
            books = made.get(BookState)
            return books is not None and not books.follows_target and books.as_of != last

        return unheard

    @property
    def _risk(self) -> RiskParams:
        params = self.params["risk"]
        assert isinstance(params, RiskParams)
        return params

    def _reader(self, stage: Stage) -> Callable[[date], Heard]:
        """Return what finds the record of a session, under the name that this sleeve gives it."""
        tape, sessions, params = self.tape(stage), self.sessions, self.params[stage.name]
        label = LABELS.get(stage.name)
        days = sessions.panel.sessions[sessions.first : sessions.last + 1].astype(object)
        positions = {day: position for position, day in enumerate(days)}

        def read(as_of: date) -> Heard:
            found = tape.at(positions[as_of])
            if label is None or found is None or isinstance(found, InsufficientHistory):
                return found
            book: Any = found
            named: Record = replace(book, **{label: getattr(params, label)})
            return named

        return read


@dataclass(frozen=True)
class StoredTargets:
    """The books that a portfolio engine asked for, by panel row."""

    tape: RecordTape
    first: int

    def has(self, row: int) -> bool:
        """Return whether there is one after the close of a row."""
        return self.tape.has(row - self.first)

    def at(self, row: int) -> BookTarget:
        """Return the book that was asked for after the close of a row.

        Raises
        ------
        DataError
            If there was none.
        """
        found = self.tape.at(row - self.first)
        if not isinstance(found, BookTarget):
            raise DataError(f"panel row {row}: no book was asked for")
        return found


def output_store(settings: Settings) -> OutputStore:
    """Return the store of shared engine outputs of a project's home."""
    return OutputStore(settings.engine_outputs_dir)


def _without_label(stage: Stage, params: Params) -> Params:
    label = LABELS.get(stage.name)
    return params if label is None else params.model_copy(update={label: "SHARED"})


@cache
def _versions() -> dict[str, str]:
    return {name: str(version) for name, version in package_versions().items()}
