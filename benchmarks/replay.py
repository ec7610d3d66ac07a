"""Sparse replay against full replay and against plain Nautilus, the mirror, and the panel cache.

Every case runs in a process of its own and reports its CPU seconds and peak memory. Read the
ratios: absolute times depend on the machine. Example: python benchmarks/replay.py
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from plain import run_plain
from workload import INSTRUMENTS, NAMES, SESSIONS, market, node, store_market

from persistence import schema
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from persistence.run_rows import run_rows
from persistence.runtime import RuntimeStore
from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.books import BookTarget, TargetPortfolio
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import Params, content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.engines.risk import RiskParams, apply_limits
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.wiring import BacktestNode, wire_backtest

Fill = tuple[int, int, int, float, float]

BOOK = "US_CORE_LONG_EQ_H21_PORTFOLIO"
NO_LIMITS = RiskParams(max_abs_weight_per_name=1.0)

LIMITS = {
    "venue CPU / plain Nautilus CPU": 1 / 6,
    "engines and venue / plain Nautilus": 0.35,
    "sparse peak MB": 600.0,
    "mirror CPU / sparse CPU": 0.20,
    "default rows CPU / sparse CPU": 0.40,
    "panel from cache, seconds": 0.2,
    "panel from SQLite, seconds": 4.0,
}


def build(
    replay: str,
    panel: MarketPanel,
    *,
    lean: bool = True,
    table: Sequence[Stage] | None = None,
    config: NodeConfig | None = None,
) -> BacktestNode:
    """Return the wired node of the workload; `table` replaces its engines, `config` the whole."""
    config = config or node(replay, lean=lean)
    sleeve = config.sleeves[0]
    identity = RunIdentity("US_CORE_LONG_EQ", sleeve.sleeve_id, Mode.BACKTEST, "", "", "", 0)
    return wire_backtest(config, sleeve, panel, identity, table)


def collect_fills(wired: BacktestNode, fills: list[Fill]) -> None:
    """Add every fill of a run to `fills`: (time, column, signed shares, price, commission)."""
    columns = {name: column for column, name in enumerate(wired.sleeve.ledger.instruments)}

    def on_event(event: Any) -> None:
        if type(event).__name__ == "OrderFilled":
            quantity = int(event.last_qty.as_decimal())
            price, fee = event.last_px.as_decimal(), event.commission.as_decimal()
            column = columns[event.instrument_id.value]
            signed = quantity if event.is_buy else -quantity
            fills.append((event.ts_event, column, signed, float(price), float(fee)))

    wired.engine.kernel.msgbus.subscribe("events.order.*", on_event)


def venue_alone(folder: Path) -> dict[str, Any]:
    """Run the node on the targets of the sparse run: what plain Nautilus runs on as well."""
    panel = market()
    targets = dict(np.load(folder / "targets.npz"))

    def recorded(view: MarketPanel, _params: Params) -> TargetPortfolio:
        row = str(len(view) - 1)
        if row not in targets:
            raise InsufficientHistory(view.as_of, 1, 0)
        book = BookTarget(view.as_of, BOOK, view.instruments, targets[row], None, ())
        return apply_limits(view, book, NO_LIMITS)

    return simulate("sparse", (Stage("risk", recorded, (MarketPanel,), TargetPortfolio),), panel)


def simulate(
    replay: str, table: Sequence[Stage] | None = None, panel: MarketPanel | None = None
) -> dict[str, Any]:
    """Run the node without a mirror."""
    panel = panel or market()
    fills: list[Fill] = []

    def run() -> None:
        wired = build(replay, panel, table=table)
        collect_fills(wired, fills)
        wired.feed.run(0, len(panel) - 1)

    return {"cpu": _cpu(run), "fills": len(fills), "fill_hash": content_hash([sorted(fills)])}


def mirrored(folder: Path, *, lean: bool) -> dict[str, Any]:
    """Run the node with the mirror attached, write its rows to SQLite, keep its targets."""
    panel = market()
    database = Database.open(f"sqlite:///{folder / f'runtime-{time.time_ns()}.db'}")
    schema.upgrade(database, "runtime")
    store = RuntimeStore(database)
    kept: list[BacktestNode] = []

    def run() -> None:
        wired = build("sparse", panel, lean=lean)
        wired.mirror.attach(wired.engine.kernel.msgbus)
        wired.feed.run(0, len(panel) - 1)
        store.write(run_rows(wired.mirror))
        kept.append(wired)

    seconds = _cpu(run)
    wired = kept[0]
    if lean:
        return {"cpu": seconds}
    rebalanced = [item.record.as_of for item in wired.mirror.decisions if item.inputs]
    weights = {
        str(np.searchsorted(panel.sessions, np.datetime64(as_of, "D"))): wired.mirror.stages[as_of][
            TargetPortfolio
        ].record.weights
        for as_of in rebalanced
    }
    np.savez(folder / "targets.npz", **weights)
    return {"cpu": seconds}


def plain(folder: Path) -> dict[str, Any]:
    """Run the plain strategy on the targets of the sparse run."""
    saved = np.load(folder / "targets.npz")
    targets = {int(name): saved[name] for name in saved.files}
    panel, config = market(), node()
    fills: list[Fill] = []
    seconds = _cpu(lambda: fills.extend(run_plain(panel, config, targets)))
    return {"cpu": seconds, "fills": len(fills), "fill_hash": content_hash([sorted(fills)])}


def panel_cache(folder: Path) -> dict[str, Any]:
    """Store the market, build its panel from SQLite, and load it from the cache."""
    source = market()
    database = Database.open(f"sqlite:///{folder / 'historical.db'}")
    schema.upgrade(database, "historical")
    store = HistoricalStore(database)
    store_market(store, source)
    cold = _wall(lambda: load_panel(store, "benchmark", folder / "cache"))
    warm = _wall(lambda: load_panel(store, "benchmark", folder / "cache"))
    return {"cpu": cold, "build_seconds": cold, "load_seconds": warm}


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "sparse": lambda _: simulate("sparse"),
    "mirrored": lambda folder: mirrored(folder, lean=True),
    "all rows": lambda folder: mirrored(folder, lean=False),
    "venue": venue_alone,
    "full": lambda _: simulate("full"),
    "plain": plain,
    "panel": panel_cache,
}


def main() -> None:
    """Run every case, print the ratios, and fail if one is worse than its limit."""
    print(f"{INSTRUMENTS} instruments x {SESSIONS} sessions, {NAMES} names a month, engines daily")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {case: _in_process(case, folder) for case in CASES}
        # The fastest of two is the one the neighbours disturbed least.
        for case in ("sparse", "mirrored", "all rows", "venue"):
            again = _in_process(case, folder)
            results[case] = min(results[case], again, key=lambda found: found["cpu"])
    _print_results(results)
    figures = _figures(results)
    for label, value in figures.items():
        verdict = "ok" if value <= LIMITS[label] else "WORSE THAN ITS LIMIT"
        print(f"{label:<34}{value:>10.3f}   limit {LIMITS[label]:.3f}   {verdict}")
    same = len({results[case]["fill_hash"] for case in ("sparse", "full", "venue", "plain")}) == 1
    print(f"identical fills in sparse, full, venue alone and plain: {same}")
    if not same or any(value > LIMITS[label] for label, value in figures.items()):
        sys.exit(1)


def _print_results(results: dict[str, dict[str, Any]]) -> None:
    base = results["sparse"]["cpu"]
    print(f"\n{'case':<12}{'CPU s':>8}{'x sparse':>10}{'peak MB':>9}{'fills':>8}")
    for case, found in results.items():
        fills = f"{found['fills']:,}" if "fills" in found else ""
        print(
            f"{case:<12}{found['cpu']:>8.2f}{found['cpu'] / base:>10.2f}"
            f"{found['peak_mb']:>9.0f}{fills:>8}"
        )
    print()


def _figures(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    sparse, plain_cpu = results["sparse"], results["plain"]["cpu"]
    return {
        "venue CPU / plain Nautilus CPU": results["venue"]["cpu"] / plain_cpu,
        "engines and venue / plain Nautilus": sparse["cpu"] / plain_cpu,
        "sparse peak MB": sparse["peak_mb"],
        "mirror CPU / sparse CPU": results["mirrored"]["cpu"] / sparse["cpu"] - 1.0,
        "default rows CPU / sparse CPU": results["all rows"]["cpu"] / sparse["cpu"] - 1.0,
        "panel from cache, seconds": results["panel"]["load_seconds"],
        "panel from SQLite, seconds": results["panel"]["build_seconds"],
    }


def _in_process(case: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _run_case(case: str, folder: Path) -> None:
    found = CASES[case](folder)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def _cpu(work: Callable[[], Any]) -> float:
    with calm_collector():
        start = time.process_time()
        work()
        return time.process_time() - start


def _wall(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _run_case(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
