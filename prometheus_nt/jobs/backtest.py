"""Run a sleeve over recorded history, record it, and make its report.

1. `_load` reads the panel and the benchmark of the configured dataset;
2. the run's identity says whether it was made before (`_identity`);
3. `wiring.wire_backtest` builds the node, the session feed drives it;
4. the mirror's rows, the decisions' outcomes, what became of them and the run folder are written
   (`_record`);
5. only then is the run COMPLETED; until then it is visibly RUNNING, or FAILED.
"""

import gc
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.engine_outputs import OutputStore
from persistence.mirror import Mirror
from persistence.panel_cache import load_series, settled_revision
from persistence.run_rows import (
    artifact_rows,
    equity_rows,
    outcome_rows,
    run_rows,
    runner_decision,
)
from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    DeterminismError,
    PrometheusError,
)
from prometheus_nt.domain.market import SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.findings import record_findings
from prometheus_nt.jobs.identity import code_hash, git_commit, package_versions, platform_name
from prometheus_nt.jobs.index import INDEX, run_index
from prometheus_nt.jobs.meta_book import book_notes, followed_schedule, require_record
from prometheus_nt.jobs.metadata import NodeMetadata, metadata_notes, read_metadata
from prometheus_nt.jobs.observability import about_run
from prometheus_nt.jobs.outcomes import evaluate_run
from prometheus_nt.jobs.panels import LoadPanel, node_panel
from prometheus_nt.jobs.registry import register_run
from prometheus_nt.jobs.report import load_run_series, write_report
from prometheus_nt.jobs.run_tables import write_run_tables
from prometheus_nt.jobs.scenarios import simulated_returns
from prometheus_nt.jobs.screen import Screened, ScreenMarket, run_screen
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.wiring import BacktestNode, Recorded, wire_backtest
from prometheus_nt.meta.member_books import BookSchedule
from prometheus_nt.reporting.metrics import compute_metrics
from strategies.catalog import SleeveParams, family

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]

BENCHMARK_PATIENCE = 5
"""Sessions over which a benchmark's last level may stand in for a missing one."""


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


@dataclass(frozen=True)
class _Market:
    """The recorded market of a node, and the rows of it that are traded."""

    panel: MarketPanel
    revision: int
    benchmark: FloatArray | None
    first: int
    last: int
    metadata: NodeMetadata

    def benchmark_levels(self) -> FloatArray | None:
        """Return the benchmark on the traded sessions, (last - first + 1,)."""
        return None if self.benchmark is None else self.benchmark[self.first : self.last + 1]

    @property
    def benchmark_hash(self) -> str:
        """The content hash of the benchmark on the traded sessions, also of there being none."""
        return content_hash([self.benchmark_levels()])

    @property
    def start(self) -> date:
        session: date = self.panel.sessions[self.first].astype(object)
        return session

    @property
    def end(self) -> date:
        session: date = self.panel.sessions[self.last].astype(object)
        return session


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
    market = _load(config, stores, load)
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
    market, sleeve = _load(config, stores, load), config.sleeves[0]
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


def _sessions(market: "_Market", scenarios: Sequence[SimulatedReturns]) -> SharedSessions:
    fingerprint = market.metadata.fingerprint(market.panel)
    return SharedSessions(market.panel, market.first, market.last, fingerprint, scenarios)


def _load(config: NodeConfig, stores: Stores, load: LoadPanel | None) -> _Market:
    wanted = config.data.revision
    revision = settled_revision(stores.historical, config.data.dataset, wanted).revision
    panel = node_panel(config, stores, revision, load)
    require_fitting(config, stores.historical.dataset(config.data.dataset), panel)
    metadata = read_metadata(stores, panel)
    benchmark = None
    if config.data.benchmark is not None:
        dataset = config.data.benchmark_dataset or config.data.dataset
        same = dataset == config.data.dataset
        sessions, levels = load_series(
            stores.historical, dataset, config.data.benchmark, revision if same else None
        )
        benchmark = _aligned(panel, sessions, levels)
    first, last = _traded_rows(config, panel)
    return _Market(panel, revision, benchmark, first, last, metadata)


def require_fitting(config: NodeConfig, dataset: dict[str, Any], panel: MarketPanel) -> None:
    """Raise `ConfigError` for settings that this dataset and its panel cannot honour."""
    name = dataset["dataset_id"]
    if dataset["market_id"] != config.market:
        raise ConfigError(
            f"market: dataset {name!r} keeps the sessions of {dataset['market_id']}, "
            f"not of {config.market}"
        )
    for sleeve in config.sleeves:
        engines = config.engines_of(sleeve)
        universe = engines.universe
        if engines.risk.max_sector_weight is not None and not any(panel.sectors):
            raise ConfigError(
                f"engines.risk.max_sector_weight: dataset {name!r} knows no sector, so the cap "
                "would hold for the whole book; set it to null"
            )
        if universe.require_membership and config.data.index is None:
            raise ConfigError(
                "engines.universe.require_membership: of which index? set data.index to one that "
                f"dataset {name!r} keeps"
            )
        unknown = sorted(set(universe.exclude) - set(panel.instruments))
        if unknown:
            raise ConfigError(
                f"engines.universe.exclude: not in dataset {name!r}: {', '.join(unknown)}"
            )
        if universe.min_price is not None and dataset["adjustment"] == "TOTAL_RETURN":
            raise ConfigError(
                f"engines.universe.min_price: dataset {name!r} has adjusted closes only, so the "
                "price of the day is unknown; set it to null"
            )


def _traded_rows(config: NodeConfig, panel: MarketPanel) -> tuple[int, int]:
    calendar = MarketCalendar.of(config.market)
    begins, ends = panel.sessions[0].astype(object), panel.as_of
    start = config.sessions.start
    for field, day in (("start", start), ("end", config.sessions.end or ends)):
        calendar.require_covered(day, f"sessions.{field}")
    if not calendar.is_session(start):
        start = calendar.next_session(start)
    end = calendar.roll_back(config.sessions.end or ends)
    if end < start:
        raise ConfigError(
            f"sessions: {config.market} does not trade from {config.sessions.start} to "
            f"{config.sessions.end}; the next session is {start}"
        )
    if not begins <= start <= end <= ends:
        raise DataError(
            f"sessions: {start} to {end} is not inside dataset {config.data.dataset!r}, which has "
            f"{begins} to {ends}; change sessions.start or sessions.end"
        )
    rows = np.searchsorted(panel.sessions, np.array([start, end], dtype="datetime64[D]"))
    return int(rows[0]), int(rows[1])


def _aligned(panel: MarketPanel, sessions: np.ndarray, levels: FloatArray) -> FloatArray:
    aligned: FloatArray = np.full(len(panel), np.nan)
    rows = np.searchsorted(panel.sessions, sessions)
    inside = rows < len(panel)
    inside[inside] = panel.sessions[rows[inside]] == sessions[inside]
    aligned[rows[inside]] = levels[inside]
    for _ in range(BENCHMARK_PATIENCE):
        gap = np.flatnonzero(np.isnan(aligned[1:])) + 1
        aligned[gap] = aligned[gap - 1]
    return aligned


def visible_scenarios(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, end: date, stores: Stores
) -> tuple[SimulatedReturns, ...]:
    """Return the stored scenario sets that a sleeve's engines may see until `end`."""
    name = config.engines_of(sleeve).fragility.scenario_set
    if name is None:
        return ()
    return simulated_returns(stores, config.data.dataset, name, panel.instruments, end)


def _identity(
    config: NodeConfig,
    sleeve: SleeveParams,
    market: _Market,
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
    market: _Market,
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
    config: NodeConfig, sleeve: SleeveParams, market: _Market, stores: Stores
) -> BookSchedule | None:
    """Return what a sleeve follows that holds what a meta-portfolio's members hold."""
    if not sleeve.follows_members:
        return None
    schedule = followed_schedule(stores, config, sleeve, market.panel.instruments)
    require_record(schedule, market.start, market.end)
    return schedule


def _run_sleeve(
    config: NodeConfig,
    market: _Market,
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
                found_hash = _order_list_hash(node.mirror)
                _require_same_orders(identity.run_id, known_hash, found_hash)
                manifest = _manifest(identity, facts, market, stores, found_hash)
                manifest["notes"] += book_notes(run.members)
                _record(node, market, stores, identity, _with_metadata(manifest, market))
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


def _wired(config: NodeConfig, market: _Market, run: _Run) -> BacktestNode:
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
    market: _Market,
    identity: RunIdentity,
    stores: Stores,
) -> dict[str, Any]:
    """Record that a run has started, in its table and in the ledger of trials; return its facts."""
    facts = _facts(config, sleeve, market)
    stores.runtime.begin_run(identity, facts)
    stores.trials.begin(identity, facts)
    return facts


def _shows_benchmark(run_id: str, market: _Market, stores: Stores) -> bool:
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


def _drive(node: BacktestNode, market: _Market, label: str, progress: Progress | None) -> None:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, label)

    node.mirror.attach(node.engine.kernel.msgbus)
    node.feed.run(market.first, market.last, report)
    node.mirror.require_same_books()


@contextmanager
def calm_collector() -> Iterator[None]:
    """Collect garbage rarely: a run makes millions of objects that all live until its end.

    Scanning them over and over costs a tenth of a run and frees nothing.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _order_list_hash(mirror: Mirror) -> str:
    """Return the hash of every order and fill: what, when, how much and at what price.

    Identifiers that Nautilus draws at random are left out.
    """
    orders = [
        (o.ts_ns, o.column, o.side, o.order_type, o.quantity, o.limit_price, o.stop_price, o.status)
        for o in mirror.orders.values()
    ]
    fills = [
        (f.ts_ns, f.order.column, f.order.side, f.quantity, f.price, f.commission)
        for f in mirror.fills
    ]
    return content_hash([mirror.ledger.instruments, orders, fills])


def _facts(config: NodeConfig, sleeve: SleeveParams, market: _Market) -> dict[str, Any]:
    return {
        "portfolio_id": sleeve.portfolio_id,
        "market_id": config.market,
        "start_date": market.start,
        "end_date": market.end,
        "universe_id": config.engines_of(sleeve).universe.universe_id,
        "dataset_id": config.data.dataset,
        "config_json": config.resolved(sleeve),
    }


def _record(
    node: BacktestNode,
    market: _Market,
    stores: Stores,
    identity: RunIdentity,
    manifest: dict[str, Any],
) -> None:
    mirror, runtime = node.mirror, stores.runtime
    run_id = mirror.run.run_id
    runtime.write(run_rows(mirror))
    folder = RunFolder(stores.settings.runs_dir, run_id)
    write_run_tables(
        folder, mirror, node.feed.units, market.benchmark_levels(), market.panel.sectors
    )
    folder.write_yaml("config.resolved.yaml", manifest["config"])
    folder.write_json("manifest.json", manifest)
    series = load_run_series(folder)
    metrics = compute_metrics(series)
    folder.write_json("statistics.json", metrics)
    findings = record_findings(stores, folder, series, market.panel)
    write_report(folder, series, metrics, findings)
    folder.write_text(INDEX, run_index(manifest, metrics, folder), "markdown")
    runtime.write([equity_rows(mirror)])
    runtime.write(outcome_rows(mirror))
    runtime.write([runner_decision(mirror, manifest, metrics)])
    runtime.write([artifact_rows(mirror.run, folder.written.values())])
    evaluate_run(stores, run_id, market.panel)
    stores.trials.complete(identity, series.returns)
    folder.point_latest_here()
    # The last thing of all: a completed run is not made again, so nothing of it may be missing.
    runtime.end_run(
        run_id, "COMPLETED", metrics=metrics, order_list_hash=manifest["order_list_hash"]
    )


def _manifest(
    identity: RunIdentity,
    facts: dict[str, Any],
    market: _Market,
    stores: Stores,
    order_list_hash: str,
) -> dict[str, Any]:
    config = facts["config_json"]
    dataset = stores.historical.dataset(facts["dataset_id"])
    return {
        "run_id": identity.run_id,
        "strategy_id": identity.strategy_id,
        "sleeve_id": identity.sleeve_id,
        "mode": identity.mode.value,
        "start": facts["start_date"],
        "end": facts["end_date"],
        "starting_capital": config["sleeve"]["capital_usd"],
        "benchmark": config["data"]["benchmark"],
        "benchmark_hash": market.benchmark_hash,
        "dataset": facts["dataset_id"],
        "seed": identity.seed,
        "code_hash": identity.code_hash,
        "git_commit": git_commit(),
        "config_hash": identity.config_hash,
        "data_fingerprint": identity.data_fingerprint,
        "data_revision": market.revision,
        "order_list_hash": order_list_hash,
        "packages": package_versions(),
        "platform": platform_name(),
        "config": config,
        "notes": _notes(config, dataset, _benchmark_name(config["data"], stores)),
    }


def _with_metadata(manifest: dict[str, Any], market: _Market) -> dict[str, Any]:
    """Return the manifest with where the instruments' metadata come from, and what to note."""
    noted = metadata_notes(market.metadata, market.panel, market.first, market.last)
    return manifest | {
        "metadata": market.metadata.document(),
        "notes": [*manifest["notes"], *noted],
    }


def _benchmark_name(data: dict[str, Any], stores: Stores) -> str | None:
    dataset = data["benchmark_dataset"] or data["dataset"]
    known = stores.historical.instruments(dataset)
    names = {row["instrument_id"]: row["name"] for row in known}
    return names.get(data["benchmark"])


def _benchmark_note(data: dict[str, Any], name: str | None) -> str:
    if name is None:
        return "Benchmark: none was configured."
    return (
        f"Benchmark: {data['benchmark']} ({name}), measured on its stored closes: a price index "
        "leaves out the dividends that the strategy's own returns contain."
    )


def _notes(
    config: dict[str, Any], dataset: dict[str, Any], benchmark_name: str | None
) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    execution = config["execution"]
    quotes, fees, financing = execution["quotes"], execution["fees"], execution["financing"]
    bars = (
        "Open, high and low are not observed: they repeat the close, so an order fills at the "
        "close of the session after its decision."
        if dataset["synthetic_bars"]
        else "Open, high, low, close and volume are as traded."
    )
    impact = (
        "no market impact is charged"
        if quotes["impact_coefficient"] == 0
        else f"market impact {quotes['impact_coefficient']} x volatility x sqrt(participation)"
    )
    return [
        f"Data: {dataset['dataset_id']}. {dataset['description']}",
        f"Survivorship: {dataset['survivorship'].removeprefix('Survivorship-')}",
        f"Bars: {bars}",
        "Timing: decided after a close, filled at the opening quotes of the next session.",
        f"Costs: half spread {quotes['half_spread_bps']} bps, {impact}, commission "
        f"{fees['per_share_usd']} USD per share with a minimum of {fees['minimum_usd']} USD and a "
        f"cap of {fees['cap_fraction']:.1%} of the trade.",
        f"Financing: short shares cost {financing['borrow_fee_annual']:.2%} a year of their value, "
        f"borrowed cash {financing['debit_rate_annual']:.2%}; free cash earns "
        f"{financing['credit_rate_annual']:.2%}, the proceeds of short sales nothing.",
        _benchmark_note(config["data"], benchmark_name),
    ]


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
