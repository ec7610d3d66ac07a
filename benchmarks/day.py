"""What a trading day of 500 instruments costs, from its data to its books.

A day of a node with every engine at the end of ten years of history, in a process that has never
seen the market: reading its panel, running its engines over the node's sessions, and writing the
day. Printed as a ratio to the limit, by phase. Example: python benchmarks/day.py

With --sleeves 2 or 3 the node has so many, of different horizons: each after the first finds what
the earlier ones' engines made. The limit is that of one sleeve, and is then only printed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from workload import INSTRUMENTS, SESSIONS, market, node, store_market

from persistence import schema
from persistence.database import Database
from persistence.engine_runs import EngineRun
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs.day import DayRunner, ensure_day
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

HORIZONS = (21, 63, 5)
"""Of the sleeves, the one of a node with one first."""

MAX_SECONDS = 15.0
"""Of processor time for a whole day."""


def main() -> None:
    """Print what the day costs, and fail if that is more than the limit."""
    sleeves = _asked()
    with tempfile.TemporaryDirectory() as folder:
        stores = _stores(Path(folder))
        source = market()
        store_market(stores.historical, source)
        as_of = source.sessions[-1].astype(object)
        del source
        spent = _day(stores, as_of, sleeves)
        stores.historical.database.close()
        stores.runtime.database.close()
    total = sum(spent.values())
    print(f"a day of {INSTRUMENTS} instruments after {SESSIONS} sessions, {sleeves} sleeves")
    for phase, seconds in spent.items():
        print(f"{phase:<20}{seconds / total:>6.2f} of it")
    print(f"CPU seconds / limit of {MAX_SECONDS:.0f}: {total / MAX_SECONDS:.2f}")
    if sleeves == 1 and total > MAX_SECONDS:
        sys.exit(1)


def _stores(folder: Path) -> Stores:
    databases = {name: Database.open(f"sqlite:///{folder}/{name}.db") for name in schema.BRANCHES}
    for name, database in databases.items():
        schema.upgrade(database, name)
    settings = Settings(folder / "home", "unused", "unused")
    historical, runtime = databases["historical"], databases["runtime"]
    return Stores(settings, HistoricalStore(historical), RuntimeStore(runtime))


def _asked() -> int:
    parser = argparse.ArgumentParser(description="What a trading day costs.")
    parser.add_argument("--sleeves", type=int, default=1, choices=range(1, 1 + len(HORIZONS)))
    return int(parser.parse_args().sleeves)


def _day(stores: Stores, as_of: object, sleeves: int) -> dict[str, float]:
    """Return the processor seconds of each phase that was reached."""
    every_engine = node(lean=False).model_dump(exclude_unset=True) | {"without": []}
    every_engine["sleeves"] = [
        {"horizon": horizon, "capital_usd": 10_000_000} for horizon in HORIZONS[:sleeves]
    ]
    config = NodeConfig.model_validate(every_engine)
    run = ensure_day(config, as_of, stores)
    spent: dict[str, float] = {}
    begun = time.process_time()

    def tell(moved: EngineRun) -> None:
        nonlocal begun
        now = time.process_time()
        spent[moved.phase.value], begun = now - begun, now

    done = DayRunner(config, stores, "benchmark").run_to_end(run, tell)
    if done.phase is not RunPhase.COMPLETED:
        sys.exit(f"the day stopped: {done.phase}, {done.error}")
    return spent


if __name__ == "__main__":
    main()
