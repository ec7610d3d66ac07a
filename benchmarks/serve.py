"""What the desk's readings cost at a million rows while a campaign writes: p95 of every endpoint.

1. A runtime database is filled as `benchmarks/listings.py` fills it.
2. `prometheus serve` runs in a process of its own, while every second a run is appended.
3. Readers ask every GET path of the interface in turn, each with a pause between two questions as
   a panel that refreshes has. They begin at different moments.

Example: python benchmarks/serve.py --rows 1000000 --readers 50 --seconds 60
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from listings import OF_A_RUN, _copy, _fill, _run, _template

from persistence import schema
from persistence.database import Database

MOST_MILLISECONDS = 100.0
MOST_MEGABYTES = 200.0
MOST_SECONDS_TO_PAGE = 1.5
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
}
SKIPPED = ("/api/stream", "/{job_id}", "/{proposal_id}")
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
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = asked.keep or Path(folder)
        _prepare(home, asked.rows)
        with _served(home) as (address, server):
            first = _first_page(address)
            taken = _ask(home, address, asked)
            megabytes = _megabytes(server.pid)
    worst = _report(taken)
    print(f"server: {megabytes:.0f} MB, / limit {megabytes / MOST_MEGABYTES:.2f}")
    print(f"first page: {first:.2f} s, / limit {first / MOST_SECONDS_TO_PAGE:.2f}")
    within = (worst <= MOST_MILLISECONDS, megabytes <= MOST_MEGABYTES)
    sys.exit(0 if all(within) and first <= MOST_SECONDS_TO_PAGE else 1)


def _prepare(home: Path, rows: int) -> None:
    if (home / "runtime.db").exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    runtime, historical = (
        Database.open(f"sqlite:///{home / name}.db") for name in ("runtime", "historical")
    )
    _fill(runtime, rows)
    schema.upgrade(historical, "historical")
    runtime.close()
    historical.close()


@contextmanager
def _served(home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "prometheus_nt.cli", "serve", "--port", "0"]
    # A file: a pipe that nobody reads would fill, and then the server waits.
    with (home / "serve.log").open("w+") as said:
        server = subprocess.Popen(
            command, env={**os.environ, "PROMETHEUS_HOME": str(home)}, stderr=said, stdout=said
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


def _paths(address: str) -> list[str]:
    """Return every GET path of the interface with what it requires filled in."""
    document = httpx.get(f"{address}/api/openapi.json").json()
    found = []
    for path, methods in document["paths"].items():
        if "get" not in methods or any(part in path for part in SKIPPED):
            continue
        needed = [one for one in methods["get"].get("parameters", []) if one["required"]]
        if any(one["name"] not in NAMES for one in needed):
            continue
        query = "&".join(
            f"{one['name']}={NAMES[one['name']]}" for one in needed if one["in"] == "query"
        )
        found.append(re.sub(r"{(\w+)}", lambda name: NAMES[name[1]], path) + f"?{query}")
    return found


def _ask(home: Path, address: str, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Return the milliseconds of every answer, by path."""
    taken: dict[str, list[float]] = defaultdict(list)
    paths, ended = _paths(address), threading.Event()
    readers = [
        threading.Thread(target=_read, args=(address, paths, number, asked, ended, taken))
        for number in range(asked.readers)
    ]
    writer = threading.Thread(target=_write, args=(home, ended))
    for thread in (*readers, writer):
        thread.start()
    time.sleep(asked.seconds)
    ended.set()
    for thread in (*readers, writer):
        thread.join()
    return taken


def _read(
    address: str,
    paths: list[str],
    number: int,
    asked: argparse.Namespace,
    ended: threading.Event,
    taken: dict[str, list[float]],
) -> None:
    ended.wait(asked.pause * number / asked.readers)
    with httpx.Client(base_url=address, timeout=60) as client:
        while not ended.is_set():
            path = paths[number % len(paths)]
            begun = time.perf_counter()
            status = client.get(path).status_code
            taken[path if status == 200 else f"{status} {path}"].append(
                1e3 * (time.perf_counter() - begun)
            )
            number += 1
            ended.wait(asked.pause)


def _write(home: Path, ended: threading.Event) -> None:
    """Append a run every second, as a campaign's workers do between them."""
    database = Database.open(f"sqlite:///{home / 'runtime.db'}")
    with database.writer() as connection:
        for table, sessions, names in OF_A_RUN:
            _template(connection, table, sessions, names)
    number = int(time.time())
    while not ended.wait(1.0):
        number += 1
        with database.writer() as connection:
            _copy(connection, OF_A_RUN, [_run(number)])
    database.close()


def _megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return float(found[1]) / 1024 if found else float("nan")


def _report(taken: dict[str, list[float]]) -> float:
    print(f"{'path':<70}{'asked':>7}{'p50 ms':>9}{'p95 ms':>9}{'/ limit':>9}")
    worst = 0.0
    for path, times in sorted(taken.items()):
        half, most = np.quantile(times, [0.5, 0.95])
        worst = max(worst, most)
        print(f"{path:<70}{len(times):>7}{half:>9.1f}{most:>9.1f}{most / MOST_MILLISECONDS:>9.2f}")
    every = [value for times in taken.values() for value in times]
    print(f"\n{len(every)} answers, p95 of all {np.quantile(every, 0.95):.1f} ms")
    return worst


if __name__ == "__main__":
    main()
