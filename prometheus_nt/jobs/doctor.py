"""Whether this machine has what the project needs, and what helps if not."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs.engine_outputs import output_store
from prometheus_nt.jobs.identity import package_versions
from prometheus_nt.jobs.stores import check_schemas
from prometheus_nt.settings import Settings

SAMPLE_MODULES = ("skfolio", "bokeh_sampledata", "arch")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `detail` holds the remedy where it is not well."""

    subject: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Return what was found, one finding a subject."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python,
        _packages,
        _sample_data,
        _home,
        _engine_outputs,
        _calendar,
        _databases,
    )
    return [check(settings) for check in checks]


def _python(_: Settings) -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, found if ok else f"{found}; install Python 3.11 or newer")


def _packages(_: Settings) -> Finding:
    versions = package_versions()
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        return Finding("packages", False, f"missing: {', '.join(absent)}; run `make setup`")
    return Finding("packages", True, ", ".join(f"{key} {value}" for key, value in versions.items()))


def _sample_data(_: Settings) -> Finding:
    absent = [name for name in SAMPLE_MODULES if find_spec(name) is None]
    if absent:
        remedy = "pip install 'prometheus-nt[sample]'"
        return Finding("sample data", False, f"missing: {', '.join(absent)}; {remedy}")
    return Finding("sample data", True, "installed")


def _home(settings: Settings) -> Finding:
    nearest = settings.home.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    ok = nearest.is_dir() and os.access(nearest, os.W_OK)
    remedy = "" if ok else "; not writable: set PROMETHEUS_HOME to a folder that is"
    return Finding("home", ok, f"{settings.home}{remedy}")


def _engine_outputs(settings: Settings) -> Finding:
    store = output_store(settings)
    used = f"{store.bytes_used() / 2**20:,.0f} MiB of at most {store.largest_bytes / 2**20:,.0f}"
    return Finding("engine outputs", True, f"{store.folder}: {used}; a cache, safe to remove")


def _calendar(_: Settings) -> Finding:
    calendar = MarketCalendar.of("US_EQ")
    first, last = (calendar.sessions[row].astype(object) for row in (0, -1))
    return Finding("calendar", True, f"US_EQ sessions {first} to {last}")


def _databases(settings: Settings) -> Finding:
    try:
        return Finding("databases", True, ", ".join(check_schemas(settings)))
    except PrometheusError as problem:
        return Finding("databases", False, str(problem))
