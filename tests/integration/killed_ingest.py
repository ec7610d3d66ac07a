"""Kill ingests of a folder of CSV files at given moments; run by `test_ingest_crash.py`.

It forks, so it must be a program of its own that has started no thread.
"""

import os
import signal
import sys
import time
from pathlib import Path

from adapters.files import FileSource
from adapters.source import Adjustment, DatasetInfo
from persistence.database import Database
from persistence.historical import HistoricalStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs import ingest as job

INFO = DatasetInfo("files", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")


def ingest_folder(url: str, folder: Path) -> None:
    job.BATCH_ROWS = 1_000
    job.ingest(FileSource(folder, INFO), HistoricalStore(Database.open(url)))


def killed_after(seconds: float, url: str, folder: Path) -> bool:
    """Start an ingest, kill it after `seconds`, and tell whether that stopped it."""
    child = os.fork()
    if not child:
        ingest_folder(url, folder)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    files, *jobs = sys.argv[1:]
    MarketCalendar.of("US_EQ")
    stopped = [
        killed_after(float(seconds), url, Path(files))
        for seconds, url in (each.split("@", 1) for each in jobs)
    ]
    sys.stdout.write(str(sum(stopped)))
