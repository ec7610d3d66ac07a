"""Run a sleeve over recorded history, record it, and make its report.

1. `recorded_market` reads the panel and the benchmark of the configured dataset;
2. the run's identity says whether it was made before (`_identity`);
3. `wiring.wire_backtest` builds the node, the session feed drives it;
4. the mirror's rows, the decisions' outcomes, what became of them and the run folder are written
   (`record_run`);
5. only then is the run COMPLETED; until then it is visibly RUNNING, or FAILED.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from persistence.artifacts import RunFolder
from persistence.engine_outputs import OutputStore
from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import (
    ConfigError,
    DeterminismError,
    PrometheusError,
)
from prometheus_nt.domain.market import SimulatedReturns
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.backtest_market import (
    RecordedMarket,
    recorded_market,
    visible_scenarios,
)
from prometheus_nt.jobs.backtest_record import order_list_hash, record_run, run_manifest
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.meta_book import book_notes, followed_schedule, require_record
from prometheus_nt.jobs.observability import about_run
from prometheus_nt.jobs.panels import LoadPanel
from prometheus_nt.jobs.registry import register_run
from prometheus_nt.jobs.screen import Screened, ScreenMarket, run_screen
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.wiring import BacktestNode, Recorded, wire_backtest
from prometheus_nt.meta.member_books import BookSchedule
from strategies.catalog import SleeveParams, family

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunSummary:
    """What a finished run amounts to; `cached` if it had been made before."""

    run_id: str
    sleeve_id: str
    strategy_id: str
    start: date
    end: date
    metrics: dict[str, Any]
    order_list_hash: str
    report: Path
    cached: bool


def run_backtest(
    config: NodeConfig,
    stores: Stores,
    *,
    force: bool = False,
    progress: Progress | None = None,
    load: LoadPanel | None = None,
    outputs: OutputStore | None = None,
) -> list[RunSummary]:
    """Run every sleeve of a node; return their summaries in the order of the file.

    A run that was completed before, from the same code, configuration, data and seed, is not run
    again unless `force` is set or its benchmark was corrected; it then must reproduce its orders
    exactly.

    Parameters
    ----------
    load : function of the stores and a dataset
        Returns its panel; one that keeps it spares the next run what was derived for this one.
    outputs : OutputStore, optional
        Where engines find what they made before on the same things, and leave what they make.

    Raises
    ------
    PrometheusError
        If the data cannot support the run, or the run fails; the run is then marked FAILED.
    """
    market = recorded_market(config, stores, load)
    return [
        _logged_sleeve(config, market, stores, force, progress, _Asked(sleeve, outputs))
        for sleeve in config.sleeves
    ]


@dataclass(frozen=True)
class SleeveScreen:
    """What the screen of a sleeve found, the run that it stands for, and the benchmark's levels."""

    identity: RunIdentity
    facts: dict[str, Any]
    found: Screened
    benchmark: FloatArray | None


def screen_backtest(
    config: NodeConfig,
    stores: Stores,
    outputs: OutputStore,
    *,
    load: LoadPanel | None = None,
    kept: dict[str, ScreenMarket] | None = None,
) -> SleeveScreen:
    """Screen the first sleeve of a node on the sessions that its run would trade; write nothing.

    Parameters
    ----------
    kept : dict, optional
        Holds the market of the last screen, which the next one takes if nothing has changed.

    Raises
    ------
    PrometheusError
        Where the run would raise one.
    """
    market, sleeve = recorded_market(config, stores, load), config.sleeves[0]
    if sleeve.follows_members:
        raise ConfigError(f"screen: {sleeve.sleeve_id} has no engines to screen; backtest it")
    scenarios = visible_scenarios(config, sleeve, market.panel, market.end, stores)
    identity = _identity(config, sleeve, market, _made_from(scenarios, None))
    day = SharedDay.of(outputs, _sessions(market, scenarios), config, sleeve)
    kept = {} if kept is None else kept
    key = f"{market.metadata.fingerprint(market.panel)} {market.first} {market.last}"
    if key not in kept:
        kept.clear()
        kept[key] = ScreenMarket(
            market.panel, market.first, market.last, market.metadata.delistings
        )
    found = run_screen(config, sleeve, kept[key], day.targets())
    facts = _facts(config, sleeve, market)
    return SleeveScreen(identity, facts, found, market.benchmark_levels())


def _sessions(market: RecordedMarket, scenarios: Sequence[SimulatedReturns]) -> SharedSessions:
    fingerprint = market.metadata.fingerprint(market.panel)
    return SharedSessions(market.panel, market.first, market.last, fingerprint, scenarios)


def _identity(
    config: NodeConfig,
    sleeve: SleeveParams,
    market: RecordedMarket,
    made_from: Sequence[str],
) -> RunIdentity:
    fingerprint = market.metadata.fingerprint(market.panel)
    return RunIdentity(
        strategy_id=family(sleeve).strategy_id,
        sleeve_id=sleeve.sleeve_id,
        mode=Mode.BACKTEST,
        code_hash=code_hash(),
        config_hash=config.config_hash(sleeve),
        data_fingerprint=content_hash([fingerprint, *made_from]) if made_from else fingerprint,
        seed=config.seed,
    )


def _made_from(scenarios: Sequence[SimulatedReturns], members: BookSchedule | None) -> list[str]:
    """Return the hashes of what a run's engines hear besides the panel."""
    return [
        *(one.spec_hash for one in scenarios),
        *(() if members is None else (members.digest,)),
    ]


@dataclass(frozen=True)
class _Asked:
    """A sleeve to be run, and where its engines find what was made before."""

    sleeve: SleeveParams
    outputs: OutputStore | None


@dataclass(frozen=True)
class _Run:
    """One sleeve's run before it begins."""

    sleeve: SleeveParams
    identity: RunIdentity
    scenarios: tuple[SimulatedReturns, ...]
    members: BookSchedule | None
    outputs: OutputStore | None


def _logged_sleeve(
    config: NodeConfig,
    market: RecordedMarket,
    stores: Stores,
    force: bool,
    progress: Progress | None,
    asked: _Asked,
) -> RunSummary:
    sleeve = asked.sleeve
    scenarios = visible_scenarios(config, sleeve, market.panel, market.end, stores)
    members = _members(config, sleeve, market, stores)
    identity = _identity(config, sleeve, market, _made_from(scenarios, members))
    run = _Run(sleeve, identity, scenarios, members, asked.outputs)
    run_id = run.identity.run_id
    with about_run(run_id):
        log.info("run=%s sessions=%s..%s began", run_id, market.start, market.end)
        try:
            summary = _run_sleeve(config, market, stores, force, progress, run)
        except PrometheusError as failure:
            log.exception("run=%s reason=%s failed", run_id, type(failure).__name__)
            raise
        done = "was recorded before" if summary.cached else "completed"
        log.info("run=%s fills=%s %s", run_id, summary.metrics.get("num_fills"), done)
        return summary


def _members(
    config: NodeConfig, sleeve: SleeveParams, market: RecordedMarket, stores: Stores
) -> BookSchedule | None:
    """Return what a sleeve follows that holds what a meta-portfolio's members hold."""
    if not sleeve.follows_members:
        return None
    schedule = followed_schedule(stores, config, sleeve, market.panel.instruments)
    require_record(schedule, market.start, market.end)
    return schedule


def _run_sleeve(
    config: NodeConfig,
    market: RecordedMarket,
    stores: Stores,
    force: bool,
    progress: Progress | None,
    run: _Run,
) -> RunSummary:
    sleeve, identity = run.sleeve, run.identity
    before = stores.runtime.run(identity.run_id)
    # Also of a run that was made again and failed: it must still find the orders it once had.
    known_hash = before["order_list_hash"] if before else None
    completed_before = before is not None and before["status"] == "COMPLETED"
    if completed_before and not force and _shows_benchmark(identity.run_id, market, stores):
        return _summary(stores, identity.run_id, cached=True)
    register_run(stores, config, sleeve, identity)
    facts = _begin(config, sleeve, market, identity, stores)
    completed = False
    try:
        node = _wired(config, market, run)
        try:
            with calm_collector():
                _drive(node, market, sleeve.sleeve_id, progress)
                found_hash = order_list_hash(node.mirror)
                _require_same_orders(identity.run_id, known_hash, found_hash)
                notes = book_notes(run.members)
                manifest = run_manifest(identity, facts, market, stores, found_hash, notes)
                record_run(node, market, stores, identity, manifest)
            completed = True
        finally:
            node.close()
    except PrometheusError as failure:
        stores.trials.fail(identity, f"{type(failure).__name__}: {failure}")
        raise
    finally:
        if not completed:
            stores.runtime.end_run(identity.run_id, "FAILED")
    return _summary(stores, identity.run_id, cached=False)


def _wired(config: NodeConfig, market: RecordedMarket, run: _Run) -> BacktestNode:
    """Return the node; where outputs are shared, its engines read what was made before."""
    table: Sequence[Stage] | None = None
    if run.outputs is not None and run.members is None:
        sessions = _sessions(market, run.scenarios)
        table = SharedDay.of(run.outputs, sessions, config, run.sleeve).table()
    recorded = Recorded(market.metadata.delistings, run.scenarios, members=run.members)
    return wire_backtest(config, run.sleeve, market.panel, run.identity, table, recorded)


def _begin(
    config: NodeConfig,
    sleeve: SleeveParams,
    market: RecordedMarket,
    identity: RunIdentity,
    stores: Stores,
) -> dict[str, Any]:
    """Record that a run has started, in its table and in the ledger of trials; return its facts."""
    facts = _facts(config, sleeve, market)
    stores.runtime.begin_run(identity, facts)
    stores.trials.begin(identity, facts)
    return facts


def _shows_benchmark(run_id: str, market: RecordedMarket, stores: Stores) -> bool:
    """Return whether a run's figures compare it with the benchmark as it is stored now.

    A benchmark decides no order, so it is no part of what a run is.
    """
    manifest = RunFolder(stores.settings.runs_dir, run_id).path / "manifest.json"
    try:
        shown = json.loads(manifest.read_text(encoding="utf-8")).get("benchmark_hash")
    except (OSError, ValueError):
        return False
    return bool(shown == market.benchmark_hash)


def _require_same_orders(run_id: str, known: str | None, found: str) -> None:
    if known not in (None, found):
        raise DeterminismError(
            f"{run_id}: orders hash to {found}, before to {known}; the same code, configuration, "
            "data and seed must give the same orders"
        )


def _drive(
    node: BacktestNode, market: RecordedMarket, label: str, progress: Progress | None
) -> None:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, label)

    node.mirror.attach(node.engine.kernel.msgbus)
    node.feed.run(market.first, market.last, report)
    node.mirror.require_same_books()


def _facts(config: NodeConfig, sleeve: SleeveParams, market: RecordedMarket) -> dict[str, Any]:
    return {
        "portfolio_id": sleeve.portfolio_id,
        "market_id": config.market,
        "start_date": market.start,
        "end_date": market.end,
        "universe_id": config.engines_of(sleeve).universe.universe_id,
        "dataset_id": config.data.dataset,
        "config_json": config.resolved(sleeve),
    }


def _summary(stores: Stores, run_id: str, *, cached: bool) -> RunSummary:
    row = stores.runtime.find_run(run_id)
    return RunSummary(
        run_id=run_id,
        sleeve_id=row["sleeve_id"],
        strategy_id=row["strategy_id"],
        start=row["start_date"],
        end=row["end_date"],
        metrics=row["metrics_json"],
        order_list_hash=row["order_list_hash"],
        report=stores.settings.runs_dir / run_id / "report.html",
        cached=cached,
    )
