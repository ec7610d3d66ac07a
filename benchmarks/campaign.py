"""A campaign's two speeds on 500 instruments x 2,520 sessions, against plain Nautilus, as ratios.

Twenty-four variants of the workload differ in names, in how closely they trade and in what trading
costs. Every case runs in a process of its own; CPU seconds and their ratios are what counts. Name
sections to run those alone.
Example: python benchmarks/campaign.py screens growth
"""

import gc
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

CASE = "--case"
"""Says that this process is to run one case."""

GROWTH_RUNS = 50
TASKS = 40

LIMITS = {
    "24 screens, seconds": 3.0,
    "verified run CPU / plain Nautilus run CPU": 0.10,
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
            gc.collect()  # as a worker does after each run
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


SECTIONS: dict[str, tuple[str, ...]] = {
    "screens": ("outputs", "screens"),
    "verified": ("outputs", "screens", "verified", "plain"),
    "growth": ("growth",),
    "dispatch": ("dispatch",),
}
"""What may be asked for, and the cases that it needs, in order."""


def main(sections: list[str]) -> None:
    """Run the cases of some sections, print their figures, and fail if one is beyond its limit."""
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        sys.exit(f"{', '.join(unknown)}: no such section; there are {', '.join(SECTIONS)}")
    cases = dict.fromkeys(case for name in sections or SECTIONS for case in SECTIONS[name])
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            results[case] = found = _in_process(case, Path(name))
            print(f"{case:<10}{found['cpu']:>8.2f} CPU s{found['peak_mb']:>8.0f} MB", flush=True)
    if "plain" in results:
        _print_campaign(results)
    figures = _figures(results)
    for label, value in figures.items():
        verdict = "ok" if value <= LIMITS[label] else "WORSE THAN ITS LIMIT"
        print(f"{label:<44}{value:>10.3g}   limit {LIMITS[label]:g}   {verdict}")
    if any(value > LIMITS[label] for label, value in figures.items()):
        sys.exit(1)


def _print_campaign(results: dict[str, dict[str, Any]]) -> None:
    every, shared_mb = len(variants()), results["outputs"]["mb"]
    print(f"{every} variants; outputs of all engines {shared_mb:.0f} MB")
    whole = results["outputs"]["cpu"] + results["screens"]["cpu"]
    for kept in (every, every // 4):
        cost = whole + kept * results["verified"]["cpu"]
        times = every * results["plain"]["cpu"] / cost
        print(f"{every} plain runs / campaign that runs {kept}: {times:.1f} times the CPU")


def _figures(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    figures = {"peak MB of a worker": max(found["peak_mb"] for found in results.values())}
    if "screens" in results:
        figures["24 screens, seconds"] = results["screens"]["cpu"]
    if "plain" in results:
        run_cpu, plain_cpu = results["verified"]["cpu"], results["plain"]["cpu"]
        figures["verified run CPU / plain Nautilus run CPU"] = run_cpu / plain_cpu
        figures["gap of a run from its screen, bps a year"] = results["verified"]["gap_bps"]
    if "growth" in results:
        figures["growth over 50 runs, MB"] = results["growth"]["growth_mb"]
    if "dispatch" in results:
        figures["dispatch of a task, ms"] = results["dispatch"]["milliseconds"]
    return figures


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
    command = [sys.executable, __file__, CASE, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == [CASE]:
        result = CASES[sys.argv[2]](Path(sys.argv[3]))
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
    else:
        main(sys.argv[1:])
