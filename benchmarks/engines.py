"""What each engine costs per session, and the whole table against the venue alone.

Every engine runs daily over the benchmark's market; what it derives from the history once is
counted, spread over the sessions. The best of three whole runs stands: neighbours on a machine add
to CPU time and never take from it. Read the ratios. Example: python benchmarks/engines.py
"""

import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from workload import INSTRUMENTS, SESSIONS, market, node

from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import Params
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.wiring import wire_backtest

MAX_MS_PER_SESSION = 0.3
MAX_TABLE_TO_VENUE = 3.0
RUNS = 3


def main() -> None:
    """Print every engine's cost, and fail if one is above its limit."""
    config = node()
    engines = config.engines_of(config.sleeves[0])
    tables, venues = [], []
    with calm_collector():
        for _ in range(RUNS):
            panel = market()
            seconds, targets = run_table(panel, engines)
            tables.append(seconds)
            venues.append(venue_seconds(panel, targets))
    seconds = {name: min(table[name] for table in tables) for name in tables[0]}
    venue = min(venues)
    print(f"{INSTRUMENTS} instruments x {SESSIONS} sessions, every engine daily\n")
    print(f"{'engine':<14}{'CPU s':>8}{'ms a session':>14}")
    slow = []
    for name, spent in seconds.items():
        each = 1000.0 * spent / SESSIONS
        verdict = "" if each <= MAX_MS_PER_SESSION else "   WORSE THAN ITS LIMIT"
        slow += [name] if verdict else []
        print(f"{name:<14}{spent:>8.2f}{each:>14.3f}{verdict}")
    whole = sum(seconds.values())
    print(f"{'all':<14}{whole:>8.2f}\n{'venue alone':<14}{venue:>8.2f}")
    print(f"table CPU / venue CPU: {whole / venue:.2f}   limit {MAX_TABLE_TO_VENUE:.2f}")
    if slow or whole > MAX_TABLE_TO_VENUE * venue:
        sys.exit(1)


def run_table(
    panel: MarketPanel, engines: EnginesConfig
) -> tuple[dict[str, float], dict[Any, TargetPortfolio]]:
    """Return the CPU seconds of each stage, and the target of each session that has one."""
    seconds: dict[str, float] = defaultdict(float)
    previous: dict[str, Any] = {}
    targets = {}
    for session in panel.sessions.astype(object).tolist():
        made: dict[type, Any] = {MarketPanel: panel.until(session)}
        for stage in PIPELINE:
            if not set(stage.inputs) <= set(made):
                continue
            start = time.process_time()
            with suppress(InsufficientHistory):
                record = stage.run(made, getattr(engines, stage.name), previous.get(stage.name))
                made[stage.output] = previous[stage.name] = record
            seconds[stage.name] += time.process_time() - start
        if TargetPortfolio in made:
            targets[session] = made[TargetPortfolio]
    return dict(seconds), targets


def venue_seconds(panel: MarketPanel, targets: dict[Any, TargetPortfolio]) -> float:
    """Return the CPU seconds of the same node when its targets are known beforehand."""

    def recorded(view: MarketPanel, _params: Params) -> TargetPortfolio:
        if view.as_of not in targets:
            raise InsufficientHistory(view.as_of, 1, 0)
        return replace(targets[view.as_of], actions=())

    config = node()
    sleeve = config.sleeves[0]
    identity = RunIdentity("US_CORE_LONG_EQ", sleeve.sleeve_id, Mode.BACKTEST, "", "", "", 0)
    table = (Stage("risk", recorded, (MarketPanel,), TargetPortfolio),)
    start = time.process_time()
    wired = wire_backtest(config, sleeve, panel, identity, table)
    wired.feed.run(0, len(panel) - 1)
    return time.process_time() - start


if __name__ == "__main__":
    main()
