"""What is imported where it is not needed costs each server its memory and each command its start.

Each question is asked of a process of its own: this one has imported everything by now.
"""

import subprocess
import sys

import pytest

HEAVY = ("nautilus_trader", "pandas", "ib_async", "exchange_calendars", "skfolio", "ray", "httpx")

REPORT = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


def heavy_after(module):
    """Return which of `HEAVY` a fresh process holds after importing a module."""
    asked = [sys.executable, "-c", REPORT, module, *HEAVY]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "prometheus_nt.cli",
        "prometheus_nt.jobs.days",
        "prometheus_nt.jobs.queue",
        "prometheus_nt.jobs.show",
        "prometheus_nt.jobs.worker",
        "prometheus_nt.monitoring.app",
        "prometheus_nt.monitoring.server",
    ],
)
def test_who_only_asks_or_submits_holds_no_heavy_package(module):
    assert heavy_after(module) == []


def test_the_work_itself_is_what_brings_nautilus():
    assert "nautilus_trader" in heavy_after("prometheus_nt.jobs.kind_work")
