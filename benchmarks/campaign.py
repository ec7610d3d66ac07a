"""A campaign's two speeds on 500 instruments x 2,520 sessions, against plain Nautilus, as ratios.

Twenty-four variants of the workload differ in names, in how closely they trade and in what trading
costs. Every case runs in a process of its own; CPU seconds and their ratios are what counts.
Example: python benchmarks/campaign.py
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from plain import run_plain
from replay import build
from workload import market, node

from persistence.engine_outputs import OutputStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.executor import new_executor
from prometheus_nt.jobs.screen import ScreenMarket, run_screen

NAMES, BANDS, SPREADS = (30, 40, 50, 60), (0.002, 0.005, 0.01), (2.5, 5.0)
VERIFIED = 3
"""Runs that are measured; each costs the same."""

GROWTH_RUNS = 50
TASKS = 40

LIMITS = {
    "24 screens, seconds": 3.0,
    "verified run CPU / plain Nautilus run CPU": 0.25,
    "gap of a run from its screen, bps a year": 1e-6,
    "peak MB of a worker": 1500.0,
    "growth over 50 runs, MB": 50.0,
    "dispatch of a task, ms": 50.0,
}


def variants() -> list[NodeConfig]:
    """Return the nodes of the campaign."""
    base = node().model_dump(mode="json", exclude_unset=True)
    return [
        NodeConfig.model_validate(
            base
            | {
                "engines": {"portfolio": {"max_names": names}},
                "execution": {
                    "replay": "sparse",
                    "planner": {"no_trade_band": band},
                    "quotes": {"half_spread_bps": spread},
                },
            }
        )
        for names, band, spread in product(NAMES, BANDS, SPREADS)
    ]


def shared(folder: Path, panel: MarketPanel, config: NodeConfig) -> SharedDay:
    """Return the day of a variant over the whole market."""
    sessions = SharedSessions(panel, 0, len(panel) - 1, panel.fingerprint)
    return SharedDay.of(OutputStore(folder / "outputs"), sessions, config, config.sleeves[0])


def outputs(folder: Path) -> dict[str, Any]:
    """Compute what the engines of all variants make, once."""
    panel, began = market(), time.process_time()
    for one in variants():
        shared(folder, panel, one).targets()
    seconds = time.process_time() - began
    return {"cpu": seconds, "mb": OutputStore(folder / "outputs").bytes_used() / 2**20}


def screens(folder: Path) -> dict[str, Any]:
    """Screen every variant on the outputs that are there."""
    panel = market()
    found = {}

    def work() -> None:
        recorded = ScreenMarket(panel, 0, len(panel) - 1)
        for number, one in enumerate(variants()):
            targets = shared(folder, panel, one).targets()
            found[str(number)] = run_screen(one, one.sleeves[0], recorded, targets).equity

    seconds = _cpu(work)
    np.savez(folder / "screens.npz", **found)
    return {"cpu": seconds}


def verified(folder: Path) -> dict[str, Any]:
    """Run a few variants event by event on the outputs that are there, mirror attached."""
    panel, every, gaps = market(), variants(), []
    curves = np.load(folder / "screens.npz")
    chosen = np.linspace(0, len(every) - 1, VERIFIED).astype(int).tolist()

    def work() -> None:
        for number in chosen:
            equity = _run(folder, panel, every[number])
            gaps.append(float(np.abs(curves[str(number)] / equity - 1.0).max()))

    seconds = _cpu(work)
    return {"cpu": seconds / len(chosen), "gap_bps": max(gaps) * 1e4 / (len(panel) / 252)}


def plain(folder: Path) -> dict[str, Any]:
    """Run the middle variant as plain Nautilus users do, on the same targets."""
    panel, config = market(), variants()[12]
    day, periods = shared(folder, panel, config).targets(), {}
    months = ScreenMarket(panel, 0, len(panel) - 1).periods("monthly")
    for row in range(len(panel)):
        if day.has(row) and int(months[row]) not in periods:
            periods[int(months[row])] = row
    targets = {row: day.at(row).weights for row in periods.values()}
    return {"cpu": _cpu(lambda: run_plain(panel, config, targets))}


def growth(_: Path) -> dict[str, Any]:
    """Make fifty small runs in one worker; return by how much it grew after the first ten."""
    panel, sizes = market(60, 378), []
    config = variants()[0]
    with tempfile.TemporaryDirectory() as name:
        for _number in range(GROWTH_RUNS):
            _run(Path(name), panel, config)
            sizes.append(_resident_mb())
    return {"cpu": 0.0, "growth_mb": sizes[-1] - sizes[9]}


def dispatch(_: Path) -> dict[str, Any]:
    """Hand out tasks that do nothing; return the milliseconds of one, workers started."""
    with_workers = new_executor(2)
    try:
        list(with_workers.as_completed([with_workers.submit(str, 0) for _ in range(2)]))
        began = time.perf_counter()
        handles = [with_workers.submit(str, number) for number in range(TASKS)]
        list(with_workers.as_completed(handles))
        each = (time.perf_counter() - began) / TASKS
    finally:
        with_workers.close()
    return {"cpu": 0.0, "milliseconds": each * 1e3}


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "outputs": outputs,
    "screens": screens,
    "verified": verified,
    "plain": plain,
    "growth": growth,
    "dispatch": dispatch,
}


def main() -> None:
    """Run every case, print the figures, and fail if one is worse than its limit."""
    with tempfile.TemporaryDirectory() as name:
        results = {case: _in_process(case, Path(name)) for case in CASES}
    every = len(variants())
    plain_cpu, run_cpu = results["plain"]["cpu"], results["verified"]["cpu"]
    whole = results["outputs"]["cpu"] + results["screens"]["cpu"]
    print(f"{every} variants; outputs of all engines {results['outputs']['mb']:.0f} MB")
    for case in ("outputs", "screens", "verified", "plain"):
        print(f"{case:<10}{results[case]['cpu']:>8.2f} CPU s{results[case]['peak_mb']:>8.0f} MB")
    for kept in (every, every // 4):
        times = every * plain_cpu / (whole + kept * run_cpu)
        print(f"{every} plain runs / campaign that runs {kept}: {times:.1f} times the CPU")
    figures = {
        "24 screens, seconds": results["screens"]["cpu"],
        "verified run CPU / plain Nautilus run CPU": run_cpu / plain_cpu,
        "gap of a run from its screen, bps a year": results["verified"]["gap_bps"],
        "peak MB of a worker": max(found["peak_mb"] for found in results.values()),
        "growth over 50 runs, MB": results["growth"]["growth_mb"],
        "dispatch of a task, ms": results["dispatch"]["milliseconds"],
    }
    for label, value in figures.items():
        verdict = "ok" if value <= LIMITS[label] else "WORSE THAN ITS LIMIT"
        print(f"{label:<44}{value:>10.3g}   limit {LIMITS[label]:g}   {verdict}")
    if any(value > LIMITS[label] for label, value in figures.items()):
        sys.exit(1)


def _run(folder: Path, panel: MarketPanel, config: NodeConfig) -> np.ndarray:
    """Run a variant with its mirror; return its equity after every close."""
    table = shared(folder, panel, config).table()
    wired = build("sparse", panel, table=table, config=config)
    wired.mirror.attach(wired.engine.kernel.msgbus)
    wired.feed.run(0, len(panel) - 1)
    equity = np.array([held.equity for held in wired.mirror.holdings])
    wired.close()
    return equity


def _cpu(work: Callable[[], Any]) -> float:
    with calm_collector():
        start = time.process_time()
        work()
        return time.process_time() - start


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _in_process(case: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        result = CASES[sys.argv[1]](Path(sys.argv[2]))
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
    else:
        main()
