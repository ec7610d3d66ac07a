"""Prove that what was recorded for ever is still what was recorded."""

from typing import Any

from persistence import events
from persistence.trials import STREAM
from prometheus_nt.jobs.stores import Stores

COLUMNS = ("stream", "state", "entry", "finding")


def check_streams(stores: Stores) -> tuple[list[tuple[Any, ...]], bool]:
    """Return a row per sealed stream and per trial gone or altered, and whether all is well."""
    with stores.runtime.database.reader() as connection:
        found = [(name, events.verify(connection, name)) for name in events.streams(connection)]
    rows: list[tuple[Any, ...]] = [
        (name, "ok", None, None)
        if breach is None
        else (name, "BROKEN", breach.sequence, breach.reason)
        for name, breach in found
    ]
    gone = [
        (STREAM, "REMOVED", None, f"trial {trial_id} was counted and is no longer in the table")
        for trial_id in stores.trials.missing()
    ]
    gone += [
        (STREAM, "ALTERED", None, f"trial {trial_id} is not in the table as it was sealed")
        for trial_id in stores.trials.altered()
    ]
    return rows + gone, not gone and all(breach is None for _, breach in found)
