"""Ingest and panel: CPU and memory of files to database, database to panel, and the cache.

Every case runs in a process of its own and reports its CPU seconds and peak memory. Rates count the
whole way: reading, quality gates, comparison with what is stored, and writing. PostgreSQL is
measured where PROMETHEUS_BENCH_PG_URL names an empty database. Example: python benchmarks/ingest.py
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

sys.path.insert(0, str(Path(__file__).parent))

from workload import SESSIONS, market

from adapters.files import FileSource
from adapters.source import Adjustment, DatasetInfo
from persistence import schema
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.histories import History
from persistence.panel_cache import load_panel
from persistence.revisions import Writer
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import BAR_FIELDS
from prometheus_nt.jobs.ingest import IngestOptions, ingest

INSTRUMENTS, WIDE = 200, 2000
ROWS = INSTRUMENTS * SESSIONS
PANEL_MB = 7 * WIDE * SESSIONS * 8 / 1e6
POSTGRES = os.environ.get("PROMETHEUS_BENCH_PG_URL")
INFO = DatasetInfo("benchmark", "csv", "US_EQ", Adjustment.AS_TRADED, False, "random", "nobody")

LIMITS = {
    "CSV to SQLite, us a row": 1e6 / 300_000,
    "one long Parquet file, us a row": 1e6 / 300_000,
    "again, nothing new, us a row": 1e6 / 300_000,
    "PostgreSQL wall / SQLite wall": 2.0,
    "two workers wall / one": 1.1,
    f"panel of {WIDE} from SQLite, CPU s": 10.0,
    f"panel of {WIDE} from cache, CPU s": 0.5,
    "peak memory of building / panel": 4.0,
}


def csv_files(folder: Path) -> dict[str, Any]:
    """Write the files that the other cases read; this is no measurement."""
    panel, tables = market(INSTRUMENTS), []
    (folder / "csv").mkdir()
    for column, name in enumerate(panel.instruments):
        close = panel.close[:, column]
        table = pa.table(
            {
                "Date": pa.array(panel.sessions),
                **{each.title(): getattr(panel, each)[:, column] for each in BAR_FIELDS},
                "Adj Close": close,
            }
        )
        symbol = name.removesuffix(".US")
        arrow_csv.write_csv(table, folder / "csv" / f"{symbol}.csv")
        tables.append(table.append_column("Symbol", pa.array([symbol] * len(table))))
    parquet.write_table(pa.concat_tables(tables), folder / "long.parquet")
    return {"cpu": 0.0, "wall": 0.0}


def ingested(folder: Path, source: str, target: str, workers: int = 1) -> dict[str, Any]:
    """Ingest files into a database, whose schema is made first."""
    database = Database.open(_url(folder, target))
    schema.upgrade(database, "historical")
    store = HistoricalStore(database)
    MarketCalendar.of("US_EQ")
    options = IngestOptions(workers=workers)
    return _measured(lambda: ingest(FileSource(folder / source, INFO), store, options=options))


def wide(folder: Path) -> dict[str, Any]:
    """Store a wide market without files; this is no measurement."""
    database = Database.open(_url(folder, "wide"))
    schema.upgrade(database, "historical")
    store, panel = HistoricalStore(database), market(WIDE)
    facts = {"source": "random", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    facts |= {"synthetic_bars": True, "description": "", "survivorship": ""}
    store.write_dataset({"dataset_id": "wide"} | facts)
    names = ("instrument_id", "symbol", "issuer_id", "name")
    facts = {"sector": None, "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    members = [dict.fromkeys(names, name) | facts for name in panel.instruments]
    store.write_instruments("wide", members)
    writer = Writer.of("random")
    for column, name in enumerate(panel.instruments):
        bars = {each: getattr(panel, each)[:, column] for each in BAR_FIELDS}
        bars |= {"trade_date": panel.sessions, "adjusted_close": bars["close"]}
        store.write_histories("wide", [History(name, bars)], writer)
    return {"cpu": 0.0, "wall": 0.0}


def loaded(folder: Path) -> dict[str, Any]:
    """Load the panel of the wide market: built the first time, from its file the second."""
    store = HistoricalStore(Database.open(_url(folder, "wide")))
    MarketCalendar.of("US_EQ")
    before = _peak_mb()
    found = _measured(lambda: load_panel(store, "wide", folder / "cache"))
    return found | {"grown_mb": _peak_mb() - before}


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "files": csv_files,
    "csv": lambda folder: ingested(folder, "csv", "csv"),
    "again": lambda folder: ingested(folder, "csv", "csv"),
    "two workers": lambda folder: ingested(folder, "csv", "two", 2),
    "parquet": lambda folder: ingested(folder, "long.parquet", "parquet"),
    "postgres": lambda folder: ingested(folder, "csv", "postgres"),
    "wide": wide,
    "build": loaded,
    "cache": loaded,
}


def main() -> None:
    """Run every case, print the ratios, and fail if one is worse than its limit."""
    print(f"{INSTRUMENTS} instruments x {SESSIONS} sessions; panel of {WIDE}: {PANEL_MB:.0f} MB")
    with tempfile.TemporaryDirectory() as name:
        cases = [case for case in CASES if case != "postgres" or POSTGRES]
        results = {case: _in_process(case, Path(name)) for case in cases}
    for case in cases:
        found = results[case]
        rate = f"{ROWS / found['cpu'] / 1e3:>8.0f} k rows/s" if found.get("rows") else ""
        print(f"{case:<14}{found['cpu']:>8.2f} s CPU{found['wall']:>8.2f} s{rate}")
    worse = False
    for label, value in _figures(results).items():
        verdict = "ok" if value <= LIMITS[label] else "WORSE THAN ITS LIMIT"
        worse |= value > LIMITS[label]
        print(f"{label:<36}{value:>8.3f}   limit {LIMITS[label]:.3f}   {verdict}")
    if not POSTGRES:
        print("PostgreSQL was not measured: set PROMETHEUS_BENCH_PG_URL")
    sys.exit(worse)


def _figures(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    per_row = {case: found["cpu"] / ROWS * 1e6 for case, found in results.items()}
    figures = {
        "CSV to SQLite, us a row": per_row["csv"],
        "one long Parquet file, us a row": per_row["parquet"],
        "again, nothing new, us a row": per_row["again"],
        "two workers wall / one": results["two workers"]["wall"] / results["csv"]["wall"],
        f"panel of {WIDE} from SQLite, CPU s": results["build"]["cpu"],
        f"panel of {WIDE} from cache, CPU s": results["cache"]["cpu"],
        "peak memory of building / panel": results["build"]["grown_mb"] / PANEL_MB,
    }
    if "postgres" in results:
        wall = results["postgres"]["wall"] / results["csv"]["wall"]
        figures["PostgreSQL wall / SQLite wall"] = wall
    return figures


def _url(folder: Path, target: str) -> str:
    if target == "postgres" and POSTGRES:
        return POSTGRES
    return f"sqlite:///{folder / f'{target}.db'}"


def _measured(work: Callable[[], Any]) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "rows": getattr(result, "rows_read", 0),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_process(case: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(CASES[sys.argv[1]](Path(sys.argv[2]))))
    else:
        main()
