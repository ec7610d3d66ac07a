"""What computing every derived table costs, and storing them as files.

Over the benchmark's market with eleven sectors. Example: python benchmarks/derive.py
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from workload import INSTRUMENTS, SESSIONS, market

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.engines.features import TABLES, correlation_panel, derive_table
from prometheus_nt.engines.numerics.returns import total_return_index

MAX_SECONDS = 3.0
"""CPU of all tables and of a correlation panel a month, one process."""

SECTORS = 11
MONTH = 21


def main() -> None:
    """Print the cost of each table, and fail if all of them are above the limit."""
    whole = market()
    sectors = tuple(f"S{column % SECTORS:02d}" for column in range(INSTRUMENTS))
    panel = replace(whole, sectors=sectors, _wall=None)
    index = _seconds(lambda: panel.derived(total_return_index))
    spent = {"prices": index}
    for name in TABLES:
        spent[name] = _seconds(lambda name=name: derive_table(panel, name))
    spent["correlations"] = _seconds(lambda: _correlations(panel))
    total = sum(spent.values())
    print(f"{INSTRUMENTS} instruments x {SESSIONS} sessions\n")
    print(f"{'table':<14}{'CPU s':>8}{'x prices':>10}")
    for name, seconds in {**spent, "all": total}.items():
        print(f"{name:<14}{seconds:>8.2f}{seconds / index:>10.1f}")
    print(f"all / limit of {MAX_SECONDS:.0f} s: {total / MAX_SECONDS:.2f}")
    if total > MAX_SECONDS:
        sys.exit(1)


def _correlations(panel: MarketPanel) -> None:
    for row in range(63, len(panel), MONTH):
        correlation_panel(panel.until(panel.sessions[row].astype(object)), 63)


def _seconds(work: object) -> float:
    start = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - start


if __name__ == "__main__":
    main()
