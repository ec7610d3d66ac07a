"""The state of the stores as numbers, in the text that a Prometheus server reads."""

from collections.abc import Iterator

from persistence.metrics import Sample, dataset_counts, runtime_counts
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

FAMILIES = {
    "runs": ("prometheus_runs", ("status", "mode"), "Runs by status and mode."),
    "newest_run": (
        "prometheus_newest_run_timestamp_seconds",
        ("sleeve",),
        "When the newest run of a sleeve began.",
    ),
    "engine_runs": ("prometheus_engine_runs", ("region", "phase"), "Days by phase."),
    "engine_run_attempts": (
        "prometheus_engine_run_attempts",
        ("phase", "status"),
        "Attempts at phases of days; FAILED and ABANDONED are failures.",
    ),
    "trials": ("prometheus_trials", ("family", "status"), "Trials in the ledger."),
    "jobs": ("prometheus_jobs", ("kind", "status"), "Submitted jobs."),
    "job_executions": ("prometheus_job_executions", ("job", "status"), "Jobs of markets' days."),
    "last_session": (
        "prometheus_dataset_last_session_timestamp_seconds",
        ("dataset",),
        "Midnight UTC of the last session with a bar.",
    ),
    "instruments": ("prometheus_dataset_instruments", ("dataset",), "Instruments of a dataset."),
    "bars": ("prometheus_dataset_bars", ("dataset",), "Bars of a dataset."),
    "findings": (
        "prometheus_dataset_open_findings",
        ("dataset", "severity"),
        "Faults found in data and not resolved.",
    ),
}
"""Of each count: the metric's name, its labels, and what it is."""


def metrics_text(settings: Settings) -> str:
    """Return the metrics of both stores in the text exposition format, version 0.0.4.

    Raises
    ------
    StoreError
        If a database is missing or not up to date.
    """
    with open_stores(settings) as stores:
        return render(stores)


def render(stores: Stores) -> str:
    """Return the metrics of stores that are open already."""
    counts = runtime_counts(stores.runtime.database) | dataset_counts(stores.historical.database)
    lines = (line for name, samples in counts.items() for line in _family(name, samples))
    return "\n".join(lines) + "\n"


def _family(name: str, samples: list[Sample]) -> Iterator[str]:
    metric, labels, meaning = FAMILIES[name]
    yield f"# HELP {metric} {meaning}"
    yield f"# TYPE {metric} gauge"
    for values, number in samples:
        named = ",".join(
            f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True)
        )
        yield f"{metric}{{{named}}} {number:.15g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
