"""How far days have come, as their runs say: what is asked without running one."""

from persistence.engine_runs import EngineRun, EngineRunStore, RunFilters
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

__all__ = ["RunFilters", "list_days", "reason_unfinished"]


def list_days(settings: Settings, filters: RunFilters) -> list[EngineRun]:
    """Return the days asked for, newest first.

    Raises
    ------
    ConfigError
        If there is no such region or phase.
    """
    if filters.region is not None and filters.region not in REGIONS:
        raise ConfigError(
            f"--region: unknown region {filters.region!r}; known: {', '.join(REGIONS)}"
        )
    with open_stores(settings) as stores:
        return EngineRunStore(stores.runtime.database).listing(filters)


def reason_unfinished(run: EngineRun, dataset_id: str | None = None) -> str | None:
    """Return why a day is no further, and what tells more of its dataset; None if nothing is."""
    if run.error is not None:
        return str(run.error["message"])
    if run.owner is not None:
        until = f"{run.lease_until:%Y-%m-%d %H:%M:%S} UTC"
        return f"{run.owner} works on it; if it does no more, run the day again after {until}"
    if run.phase is RunPhase.WAITING_FOR_DATA and dataset_id is not None:
        told_by = f"`prometheus data status {dataset_id} --as-of {run.as_of}`"
        return f"waits for its data; {told_by} tells how much there is"
    return None
