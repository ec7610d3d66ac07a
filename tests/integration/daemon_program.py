"""The command line with jobs that only say that they began; run by `test_daemon.py`.

A process of its own, for a test to kill. Its jobs run in processes that import this file again. The
job `run_signals` takes very long while the home folder holds a file `slow`.
"""

import os
import time

from prometheus_nt.cli import main
from prometheus_nt.domain.daily_jobs import JobKind
from prometheus_nt.jobs import daily_work
from prometheus_nt.jobs.daily_work import Finding, Told


def begin(spec, _stores):
    home = spec.settings.home
    with (home / "begun.txt").open("a", encoding="utf-8") as file:
        file.write(f"{spec.job_id} {os.getpid()}\n")
    if spec.kind is JobKind.RUN_SIGNALS and (home / "slow").exists():
        time.sleep(600)
    return Told(Finding.DONE, "begun")


daily_work.WORK = dict.fromkeys(JobKind, begin)

if __name__ == "__main__":
    main()
