"""One trading day of a node, from waiting for its data to its books, phase by phase.

1. `ensure_day` makes the run of a session that waits for its data;
2. `DayRunner.advance` claims it, does the work of its present phase and moves it on: `_await_data`
   asks whether enough prices have arrived, `_signals`, `_universes` and `_books` write what the
   engines made of the day;
3. a phase that fails leaves the run FAILED, with what went wrong and when to try again.

The engines run as they do in a backtest, over the node's sessions up to the day, so that a day
decides what a backtest would have decided; the records of its last session are what is written.
Every write is an upsert: a phase that was cut off is simply done again.
"""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import numpy as np

from persistence.engine_outputs import OutputStore
from persistence.engine_runs import LEASE, EngineRun, EngineRunStore, RunFilters
from persistence.mirror import Mirror
from persistence.run_rows import Batch, book_rows, signal_rows, stage_decisions, universe_rows
from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.books import BookTarget, Universe
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, PrometheusError
from prometheus_nt.domain.market import InstrumentScores
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.phases import CHAIN, TERMINAL, RunPhase, next_phase
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity, day_run_id
from prometheus_nt.jobs.backtest_market import require_fitting, visible_scenarios
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.day_table import OrderSessions, silent_between
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.heartbeat import Heartbeat, renewed, worker_name
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.metadata import NodeMetadata, delistings_at_close, read_metadata
from prometheus_nt.jobs.observability import about_run
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.readiness import IngestionState, ingestion_status
from prometheus_nt.jobs.registry import register_run
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.wiring import Recorded, wire_backtest
from strategies.catalog import SleeveParams, family

__all__ = ["DayRunner", "ensure_day", "session_of", "worker_name"]

log = logging.getLogger(__name__)

SHARED_FROM = 2
"""Sleeves of a node from which on its engines' outputs are kept for the next one."""

BEATS = 5
"""Times that a lease is renewed before it would end: one beat that fails costs nothing."""

Coverage = dict[str, Any]
"""What a phase achieved; None where it has to wait."""


def session_of(config: NodeConfig, day: date, *, roll_back: bool = False) -> date:
    """Return the session a day is run for.

    Parameters
    ----------
    roll_back : bool
        Take the session before a day on which the market is closed, instead of refusing it.

    Raises
    ------
    NonSession
        If the market is closed on `day`; the message names the sessions around it.
    """
    calendar = MarketCalendar.of(config.market)
    return calendar.roll_back(day) if roll_back else calendar.require_session(day)


def ensure_day(config: NodeConfig, as_of: date, stores: Stores) -> EngineRun:
    """Return the run of a session, making one that waits for its data if there is none.

    Raises
    ------
    ConfigError
        If the node does not trade on that session, or its sleeves are of several strategies.
    """
    end = config.sessions.end
    if as_of < config.sessions.start or (end is not None and as_of > end):
        raise ConfigError(
            f"--as-of: {as_of} is not between {config.sessions.start} and {end or 'today'}, the "
            "node's sessions; use another day, or change sessions.start and sessions.end"
        )
    strategy_id = strategy_of(config)
    runs = EngineRunStore(stores.runtime.database)
    return runs.ensure(as_of, config.region, strategy_id, config.mode.upper())


def strategy_of(config: NodeConfig) -> str:
    """Return the strategy whose days a node runs; raise `ConfigError` if there are several."""
    strategies = sorted({family(sleeve).strategy_id for sleeve in config.sleeves})
    if len(strategies) > 1:
        raise ConfigError(
            f"sleeves: a day is run for one strategy, found {', '.join(strategies)}; "
            "keep those of one in the file"
        )
    return strategies[0]


def change_engine_state(
    config: NodeConfig,
    stores: Stores,
    as_of: date | None,
    region: str | None,
    steps: Mapping[str, bool],
) -> list[EngineRun]:
    """Make or move runs of days as the mission's `run_engine_state` does; return them.

    Parameters
    ----------
    steps : which of `ensure`, `data_ready` and `advance_all` are asked for
        `data_ready` counts the prices of the day; nobody can declare them to be there.

    Raises
    ------
    ConfigError
        If the region is not the node's, nothing is asked for, or the day is missing.
    """
    if region not in (None, config.region):
        raise ConfigError(
            f"--region: the node trades {config.region}, found {region}; name its node by --config"
        )
    runner = DayRunner(config, stores, worker_name())
    if steps["advance_all"]:
        return runner.advance_all()
    if as_of is None or not (steps["ensure"] or steps["data_ready"]):
        raise ConfigError("give --advance-all, or --as-of DAY with --ensure and --data-ready")
    run = ensure_day(config, session_of(config, as_of), stores)
    waiting = run.phase is RunPhase.WAITING_FOR_DATA
    return [runner.advance(run) if steps["data_ready"] and waiting else run]


@dataclass(frozen=True)
class _Replayed:
    """What one sleeve's node said of the day."""

    sleeve: SleeveParams
    mirror: Mirror

    def record(self, as_of: date, record_type: type) -> Any:
        item = self.mirror.on_session(as_of, record_type)
        return None if item is None else item.record


Replays = dict[tuple[str, str], list[_Replayed]]
"""What every sleeve said of a day, by its run and the fingerprint of its data."""


class DayRunner:
    """Moves the days of one node on.

    Parameters
    ----------
    owner : str
        Who claims the runs: a name that no other worker has.
    kept : dict, optional
        Where the last replay of this configuration is kept for the next runner of the process.
    """

    def __init__(
        self, config: NodeConfig, stores: Stores, owner: str, kept: Replays | None = None
    ) -> None:
        self._config, self._stores, self._owner = config, stores, owner
        self._runs = EngineRunStore(stores.runtime.database)
        self._replayed: Replays = {} if kept is None else kept
        self._heart: Heartbeat | None = None

    def advance(self, run: EngineRun) -> EngineRun:
        """Do the work of the run's phase, if nobody else does; return the run as it is then.

        A phase that cannot begin yet leaves the run where it is.
        """
        held = self._runs.claim(run.run_id, self._owner)
        if held is None:
            return self._runs.run(run.run_id)
        with about_run(run.run_id):
            return self._advanced(held)

    def _advanced(self, held: EngineRun) -> EngineRun:
        began = monotonic()
        try:
            coverage = self._do(held)
        except PrometheusError as failure:
            reason, seconds = type(failure).__name__, monotonic() - began
            log.exception(
                "run=%s phase=%s attempt=%s reason=%s seconds=%.1f failed",
                *(held.run_id, held.phase, held.attempt, reason, seconds),
            )
            return self._runs.fail(held, _told(held, failure))
        except KeyboardInterrupt:
            # Who stops a day may run it again at once, and not when the lease has run out.
            self._runs.release(held)
            raise
        if coverage is None:
            log.info("run=%s phase=%s waits for its data", held.run_id, held.phase)
            self._runs.release(held)
            return self._runs.run(held.run_id)
        log.info(
            "run=%s phase=%s attempt=%s coverage=%s seconds=%.1f completed",
            *(held.run_id, held.phase, held.attempt, coverage, monotonic() - began),
        )
        return self._runs.complete_phase(held, next_phase(held.phase), coverage)

    def _do(self, held: EngineRun) -> Coverage | None:
        """Do the work of a phase, however long it takes, without losing its lease."""
        with renewed(held.run_id, lambda: self._runs.renew(held), LEASE / BEATS) as self._heart:
            coverage = PHASES[held.phase](self, held)
            self._heart.require_held()
        return coverage

    def run_to_end(
        self,
        run: EngineRun,
        tell: Callable[[EngineRun], None] | None = None,
        most_phases: int = len(CHAIN),
    ) -> EngineRun:
        """Advance until the run is completed, has failed, has to wait, or went `most_phases`."""
        for _ in range(most_phases):
            if run.phase in TERMINAL:
                break
            moved = self.advance(run)
            if tell is not None:
                tell(moved)
            if moved.phase is run.phase:
                return moved
            run = moved
        return run

    def advance_all(self, *, retry: bool = False) -> list[EngineRun]:
        """Move every unfinished day of the node's strategy one phase on, oldest first.

        Parameters
        ----------
        retry : bool
            Also put failed days whose wait is over back to work, until their attempts run out.
        """
        if retry:
            for failed in self._runs.due(datetime.now(UTC), self._config.day.max_attempts):
                if self._is_ours(failed):
                    self._runs.retry(failed.run_id)
        every = RunFilters(region=self._config.region, active=True, limit=None)
        waiting = self._runs.listing(every)
        return [self.advance(run) for run in reversed(waiting) if self._is_ours(run)]

    def _is_ours(self, run: EngineRun) -> bool:
        strategies = {family(sleeve).strategy_id for sleeve in self._config.sleeves}
        return run.strategy_id in strategies and run.mode == self._config.mode.upper()

    def retry(self, run: EngineRun) -> EngineRun:
        """Put a failed day back to the phase it failed in, and go on from there."""
        return self.run_to_end(self._runs.retry(run.run_id))

    def await_data(self, run: EngineRun) -> Coverage | None:
        """Return how many of the expected prices there are, or None while they are too few."""
        minimum = self._config.day.min_data_coverage
        dataset = self._config.data.dataset
        status = ingestion_status(self._stores.historical, dataset, run.as_of, minimum)
        if status.status is not IngestionState.COMPLETE:
            return None
        return {
            "received": status.instruments_received,
            "expected": status.instruments_expected,
            "share": status.share,
        }

    def signals(self, run: EngineRun) -> Coverage:
        """Write what the engines measured; return how many instruments have a score."""
        coverage: Coverage = {}
        for replayed in self._replay(run):
            scores: InstrumentScores | None = replayed.record(run.as_of, InstrumentScores)
            if scores is None:
                raise DataError(f"{run.as_of}: {_name(replayed)} has too little history to score")
            known = float(np.isfinite(scores.score).sum())
            live = float((self._panel().until(run.as_of).close[-1] > 0).sum())
            share = known / live
            minimum = self._config.day.min_signal_coverage
            if share < minimum:
                raise DataError(
                    f"{run.as_of}: {_name(replayed)} scores {known:.0f} of {live:.0f} instruments, "
                    f"{share:.0%}; day.min_signal_coverage is {minimum:.0%}"
                )
            self._write(replayed, signal_rows)
            coverage[_name(replayed)] = {"scored": known, "live": live}
        return coverage

    def universes(self, run: EngineRun) -> Coverage:
        """Write who may be held; return how many."""
        coverage: Coverage = {}
        for replayed in self._replay(run):
            universe: Universe | None = replayed.record(run.as_of, Universe)
            if universe is None:
                raise DataError(f"{run.as_of}: {_name(replayed)} selected no universe")
            included, minimum = int(universe.included.sum()), self._config.day.min_universe_names
            if included < minimum:
                raise DataError(
                    f"{run.as_of}: {_name(replayed)} may hold {included} instruments; "
                    f"day.min_universe_names is {minimum}"
                )
            self._write(replayed, universe_rows)
            coverage[_name(replayed)] = {"included": included}
        return coverage

    def books(self, run: EngineRun) -> Coverage:
        """Write the books and every stage's decision; return what they hold."""
        coverage: Coverage = {}
        for replayed in self._replay(run):
            book: BookTarget | None = replayed.record(run.as_of, BookTarget)
            if book is None:
                raise DataError(f"{run.as_of}: {_name(replayed)} built no book")
            self._write(replayed, book_rows)
            self._write(replayed, stage_decisions)
            weights = np.abs(book.weights)
            coverage[_name(replayed)] = {
                "names": int((weights > 0).sum()),
                "gross": float(weights.sum()),
            }
        return coverage

    def finish(self, _run: EngineRun) -> Coverage:
        """Return nothing: the books were the last thing to write."""
        return {}

    def _panel(self) -> MarketPanel:
        panel = node_panel(self._config, self._stores)
        dataset = self._stores.historical.dataset(self._config.data.dataset)
        require_fitting(self._config, dataset, panel)
        return panel

    def _replay(self, run: EngineRun) -> list[_Replayed]:
        """Return what every sleeve's engines say of the day, from its data alone."""
        panel = self._panel().until(run.as_of)
        metadata = read_metadata(self._stores, panel)
        key = (run.run_id, metadata.fingerprint(panel))
        if key not in self._replayed:
            self._replayed.clear()
            with self._shared_outputs() as outputs:
                self._replayed[key] = [
                    self._replay_sleeve(run, panel, metadata, sleeve, outputs)
                    for sleeve in self._config.sleeves
                ]
        return self._replayed[key]

    @contextmanager
    def _shared_outputs(self) -> Iterator[OutputStore | None]:
        """Yield where the sleeves of a day find what an earlier one's engines made, if any shares.

        It lives as long as the replay: tomorrow's data are others, and so is every key.
        """
        if len(self._config.sleeves) < SHARED_FROM:
            yield None
            return
        cache = self._stores.settings.cache_dir
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="day-", dir=cache) as folder:
            yield OutputStore(Path(folder))

    def _replay_sleeve(
        self,
        run: EngineRun,
        panel: MarketPanel,
        metadata: NodeMetadata,
        sleeve: SleeveParams,
        outputs: OutputStore | None,
    ) -> _Replayed:
        calendar = MarketCalendar.of(self._config.market)
        start = self._config.sessions.start
        first = start if calendar.is_session(start) else calendar.next_session(start)
        row = int(np.searchsorted(panel.sessions, np.datetime64(first, "D")))
        identity = RunIdentity(
            strategy_id=run.strategy_id,
            sleeve_id=sleeve.sleeve_id,
            mode=Mode(self._config.mode.upper()),
            code_hash=code_hash(),
            config_hash=self._config.config_hash(sleeve),
            data_fingerprint=content_hash([metadata.fingerprint(panel), run.as_of]),
            seed=self._config.seed,
        )
        stores, config = self._stores, self._config
        register_run(stores, config, sleeve, identity)
        scenarios = visible_scenarios(config, sleeve, panel, run.as_of, stores)
        recorded = Recorded(delistings_at_close(metadata.delistings, panel), scenarios)
        table: Sequence[Stage] | None = None
        if outputs is not None and not sleeve.follows_members:
            data = identity.data_fingerprint
            sessions = SharedSessions(panel, row, len(panel) - 1, data, scenarios)
            table = SharedDay.of(outputs, sessions, config, sleeve).table()
        engines, heard = config.engines_of(sleeve), OrderSessions(panel)
        table = silent_between(table or PIPELINE, engines.portfolio, engines.risk, heard)
        node = wire_backtest(config, sleeve, panel, identity, table, recorded)
        heard.follower = node.sleeve
        try:
            with calm_collector():
                node.mirror.attach(node.engine.kernel.msgbus)
                node.feed.run(row, len(panel) - 1)
                node.mirror.require_same_books()
        finally:
            node.close()
        gc.collect()
        context = replace(node.mirror.run, run_id=day_run_id(run.run_id, sleeve.sleeve_id))
        return _Replayed(sleeve, node.mirror.of_last_session(context))

    def _write(self, replayed: _Replayed, of: Callable[[Mirror], Any]) -> None:
        batches: list[Batch] = list(of(replayed.mirror))
        if self._heart is not None:
            self._heart.require_held()
        self._stores.runtime.write(batches)


PHASES: Mapping[RunPhase, Callable[[DayRunner, EngineRun], Coverage | None]] = {
    RunPhase.WAITING_FOR_DATA: DayRunner.await_data,
    RunPhase.DATA_READY: DayRunner.signals,
    RunPhase.SIGNALS_DONE: DayRunner.universes,
    RunPhase.UNIVERSES_DONE: DayRunner.books,
    RunPhase.BOOKS_DONE: DayRunner.finish,
}
"""What is done in each phase before the run moves to the next."""


def _name(replayed: _Replayed) -> str:
    return replayed.sleeve.sleeve_id


def _told(run: EngineRun, failure: PrometheusError) -> dict[str, Any]:
    return {
        "phase": run.phase.value,
        "type": type(failure).__name__,
        "message": str(failure),
        "attempt": run.attempt,
    }
