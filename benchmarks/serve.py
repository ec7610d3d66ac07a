"""What the desk's readings cost at a million rows while a campaign writes: p95 of every endpoint.

1. A runtime database is filled as `benchmarks/listings.py` fills it, on SQLite or, with
   --postgresql, on a server of its own (`own_postgres`). Some backtests get a record that moves,
   and files as a run leaves them (`_recorded`).
2. `prometheus serve` runs in a process of its own. Every path is asked once (`_first_answers`).
3. Then every second a run is appended, and readers ask every GET path of the interface in turn,
   each with a pause between two questions as a panel that refreshes has. They begin at different
   moments. A listener hears of each run (`_listen`).

What the server itself costs is told by its processor time: on a machine that has other work, the
clock says more about that. Example: python benchmarks/serve.py --readers 50 --seconds 60
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))

from listings import (
    BEGAN,
    OF_A_RUN,
    SESSIONS,
    _copy,
    _fill,
    _remove_template,
    _run,
    _template,
    _write,
)
from postgres import own_postgres

from persistence import schema
from persistence.artifacts import RunFolder
from persistence.database import Database
from persistence.tables import runtime as tables
from prometheus_nt.jobs.report import FINDINGS, REPORT, write_benchmark

MOST_MILLISECONDS = 100.0
MOST_MEGABYTES = 200.0
MOST_SECONDS_TO_PAGE = 1.5
MOST_SECONDS_TO_HEAR = 1.0
PAUSE_SECONDS = 2.0
"""Of a reader between two questions: five panels that refresh every ten seconds."""

NAMES = {
    "strategy_id": "US_CORE_LONG_EQ",
    "portfolio_id": "US_CORE_LONG_EQ_H5",
    "market_id": "US_EQ",
    "entity_id": "S0007.US",
    "engine_name": "REGIME",
    "branch": "runtime",
    "table": "fills",
    "view_id": "root",
    "space_id": "stability",
    "job_id": "00000007",
    "proposal_id": "00000007",
    "trace_id": "US_CORE_LONG_EQ-US-20221230",
}
RECORDED = tuple(range(7, 27))
"""Runs that have a record of their own, and files."""
COMPARED = (2, 20)
"""How many of them are compared at once."""
REPORT_BYTES = 6_000_000
SKIPPED = ("/api/stream", "/logs")
"""What never ends, or is of something that the benchmark's database has none of."""


def main() -> None:
    """Fill, serve, ask, report; fail if a limit is passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=PAUSE_SECONDS)
    parser.add_argument("--keep", type=Path, help="the folder to make, or to use again")
    parser.add_argument("--postgresql", action="store_true", help="on a server of its own")
    asked = parser.parse_args()
    with ExitStack() as closed:
        home = asked.keep or Path(closed.enter_context(tempfile.TemporaryDirectory()))
        url = closed.enter_context(own_postgres()) if asked.postgresql else ""
        store = Store(home, url or f"sqlite:///{home / 'runtime.db'}")
        _prepare(store, asked.rows)
        with _served(store) as (address, server):
            page = _first_page(address)
            document = httpx.get(f"{address}/api/openapi.json", timeout=60).json()
            paths = [*paths_of(document, names_of(store)), *_comparisons()]
            first = _first_answers(address, paths)
            before = _processor_seconds(server.pid)
            taken, heard = _ask(store, address, paths, asked)
            spent = _processor_seconds(server.pid) - before
            megabytes = _megabytes(server.pid)
    worst = _report(taken, first)
    answers = sum(len(times) for times in taken.values())
    print(f"server: {1e3 * spent / answers:.1f} ms of processor time an answer")
    limits = {
        "p95 of the slowest, ms": (worst, MOST_MILLISECONDS),
        "server, MB": (megabytes, MOST_MEGABYTES),
        "first page, s": (page, MOST_SECONDS_TO_PAGE),
        "a run heard of after, s (p95)": (float(np.quantile(heard, 0.95)), MOST_SECONDS_TO_HEAR),
    }
    for name, (found, most) in limits.items():
        print(f"{name}: {found:.2f}, / limit {found / most:.2f}")
    sys.exit(0 if all(found <= most for found, most in limits.values()) else 1)


@dataclass(frozen=True)
class Store:
    """Where the rows are: the folder of all files, and the address of the runtime database."""

    home: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What tells a server of it."""
        return {"PROMETHEUS_HOME": str(self.home), "PROMETHEUS_RUNTIME_URL": self.url}


def _prepare(store: Store, rows: int) -> None:
    if not store.url.startswith("sqlite") or not (store.home / "runtime.db").exists():
        store.home.mkdir(parents=True, exist_ok=True)
        with closing(Database.open(store.url)) as runtime:
            _fill(runtime, rows)
            if not store.url.startswith("sqlite"):
                _let_analyze(runtime)
    with closing(Database.open(f"sqlite:///{store.home / 'historical.db'}")) as historical:
        schema.upgrade(historical, "historical")
    with closing(Database.open(store.url)) as runtime:
        schema.upgrade(runtime, "runtime")
        for number in RECORDED:
            _recorded(store.home, runtime, number)


def _let_analyze(database: Database) -> None:
    """Have a server look at its tables at once, which it does by itself within a minute."""
    with database.writer() as connection:
        connection.exec_driver_sql("ANALYZE")


def _recorded(home: Path, database: Database, number: int) -> None:
    """Give a run a record that moves, and the files that are read of one."""
    owner, draw = _run(number), np.random.default_rng(number)
    levels = 1e6 * np.cumprod(1.0 + draw.normal(0.0005, 0.01, len(SESSIONS)))
    run = {**owner.parameters, "status": "COMPLETED", "created_at": BEGAN}
    run |= {"start_date": SESSIONS[0], "end_date": SESSIONS[-1]}
    config = {"config_json": {"sleeve": {"capital_usd": 1e6}}}
    days = [
        {**owner.parameters, "date": day, "equity_curve_value": float(level)}
        for day, level in zip(SESSIONS, levels, strict=True)
    ]
    with database.writer() as connection:
        _write(connection, tables.backtest_runs, [run | config])
        _write(connection, tables.backtest_daily_equity, days)
    folder = RunFolder(home / "runs", owner.run_id)
    folder.write_json("manifest.json", {"notes": [], "benchmark": "SPY.US"})
    folder.write_json(FINDINGS, {"findings": []})
    folder.write_text(REPORT, "x" * REPORT_BYTES, "html")
    write_benchmark(folder, np.array(SESSIONS, "datetime64[D]"), levels)


def _comparisons() -> list[str]:
    named = [f"run_id={_run(number).run_id}" for number in RECORDED]
    return [f"/api/compare?{'&'.join(named[:count])}" for count in COMPARED]


@contextmanager
def _served(store: Store) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "prometheus_nt.cli", "serve", "--port", "0"]
    home = store.home
    # A file: a pipe that nobody reads would fill, and then the server waits.
    with (home / "serve.log").open("w+") as said:
        server = subprocess.Popen(
            command, env={**os.environ, **store.environment}, stderr=said, stdout=said
        )
        try:
            yield _address(home / "serve.log", server), server
        finally:
            server.terminate()
            server.wait()


def _address(said: Path, server: "subprocess.Popen[bytes]") -> str:
    while server.poll() is None:
        found = re.search(r"http://[\d.]+:\d+", said.read_text())
        if found:
            return found.group()
        time.sleep(0.05)
    raise SystemExit(f"the server ended before it listened: {said.read_text()}")


def _first_page(address: str) -> float:
    """Return the seconds until the page and what it needs at once have been read."""
    begun = time.perf_counter()
    with httpx.Client(base_url=address, timeout=60) as client:
        page = client.get("/").text
        for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            client.get(path)
        for path in ("/api/options", "/api/status/overview"):
            client.get(path)
    return time.perf_counter() - begun


def paths_of(document: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Return every GET path of an interface whose required parameters have names, filled in."""
    found = []
    for path, methods in document["paths"].items():
        if "get" not in methods or any(part in path for part in SKIPPED):
            continue
        needed = [one for one in methods["get"].get("parameters", []) if one["required"]]
        if any(one["name"] not in names for one in needed) or path == "/api/compare":
            continue
        query = "&".join(
            f"{one['name']}={names[one['name']]}" for one in needed if one["in"] == "query"
        )
        found.append(re.sub(r"{(\w+)}", lambda name: names[name[1]], path) + f"?{query}")
    return found


def names_of(store: Store) -> dict[str, str]:
    """Return a name for each parameter that the benchmark's database has something of."""
    with closing(Database.open(store.url)) as database:
        return NAMES | traded_in(database)


def traded_in(database: Database) -> dict[str, str]:
    """Return the names of a run, and of something that it traded."""
    run_id, fills = _run(7).run_id, tables.fills.c
    query = sa.select(fills.fill_id, fills.order_id).where(fills.run_id == run_id).limit(1)
    with database.reader() as connection:
        fill_id, order_id = connection.execute(query).one()
    return {"run_id": run_id, "fill_id": fill_id, "order_id": order_id}


def _first_answers(address: str, paths: list[str]) -> dict[str, float]:
    """Return the milliseconds of the first answer to each path, one after the other."""
    taken: dict[str, list[float]] = defaultdict(list)
    with closing(_connected(address)) as connection:
        for path in paths:
            _ask_once(connection, path, taken)
    return {path: times[0] for path, times in taken.items()}


def _ask(
    store: Store, address: str, paths: list[str], asked: argparse.Namespace
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the milliseconds of every answer by path, and the seconds until a run was heard of."""
    taken: dict[str, list[float]] = defaultdict(list)
    ended, heard = threading.Event(), []
    database = Database.open(store.url)
    with database.writer() as connection:
        for table, sessions, names in OF_A_RUN:
            _template(connection, table, sessions, names)
    threads = [
        threading.Thread(target=_read, args=(address, paths, number, asked, ended, taken))
        for number in range(asked.readers)
    ]
    threads.append(threading.Thread(target=_listen, args=(address, ended, heard)))
    threads.append(threading.Thread(target=_append, args=(database, ended)))
    for thread in threads:
        thread.start()
    time.sleep(asked.seconds)
    ended.set()
    for thread in threads:
        thread.join()
    with database.writer() as connection:
        _remove_template(connection)
    database.close()
    return taken, heard


def _read(
    address: str,
    paths: list[str],
    number: int,
    asked: argparse.Namespace,
    ended: threading.Event,
    taken: dict[str, list[float]],
) -> None:
    ended.wait(asked.pause * number / asked.readers)
    with closing(_connected(address)) as connection:
        while not ended.is_set():
            _ask_once(connection, paths[number % len(paths)], taken)
            number += 1
            ended.wait(asked.pause)


def _connected(address: str) -> HTTPConnection:
    # Of all clients the cheapest: fifty of them share the machine with the server.
    return HTTPConnection(address.removeprefix("http://"), timeout=60)


def _ask_once(connection: HTTPConnection, path: str, taken: dict[str, list[float]]) -> None:
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    milliseconds = 1e3 * (time.perf_counter() - begun)
    taken[path if answer.status == 200 else f"{answer.status} {path}"].append(milliseconds)


def _listen(address: str, ended: threading.Event, heard: list[float]) -> None:
    """Note the seconds from each run's commit, at most, to the event that tells of it."""
    with closing(_connected(address)) as connection:
        connection.request("GET", "/api/stream?topics=runs")
        stream = connection.getresponse()
        while not ended.is_set():
            line = stream.readline()
            if line.startswith(b"data: "):
                created = datetime.fromisoformat(json.loads(line[6:])["created_at"])
                heard.append((datetime.now(UTC) - created).total_seconds())


def _append(database: Database, ended: threading.Event) -> None:
    """Append a run every second, as a campaign's workers do between them."""
    number = int(time.time())
    while not ended.wait(1.0):
        number += 1
        with database.writer() as connection:
            owner = _run(number)
            _copy(connection, OF_A_RUN, [owner])
            began = {**owner.parameters, "status": "COMPLETED", "created_at": datetime.now(UTC)}
            span = {"start_date": SESSIONS[0], "end_date": SESSIONS[-1]}
            _write(connection, tables.backtest_runs, [began | span])


def _processor_seconds(process: int) -> float:
    spent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return float(found[1]) / 1024 if found else float("nan")


def _report(taken: dict[str, list[float]], first: dict[str, float]) -> float:
    columns = ("asked", "p50 ms", "p95 ms", "/ limit", "first ms")
    print(f"{'path':<70}" + "".join(f"{name:>9}" for name in columns))
    worst = 0.0
    for path, times in sorted(taken.items()):
        half, most = np.quantile(times, [0.5, 0.95])
        worst = max(worst, most)
        told = f"{path:<70}{len(times):>9}{half:>9.1f}{most:>9.1f}{most / MOST_MILLISECONDS:>9.2f}"
        print(f"{told}{first.get(path, float('nan')):>9.1f}")
    every = [value for times in taken.values() for value in times]
    print(f"\n{len(every)} answers, p95 of all {np.quantile(every, 0.95):.1f} ms")
    return worst


if __name__ == "__main__":
    main()
