"""Answers of the runtime store to the questions an operator asks."""

from collections import defaultdict
from typing import Any

from persistence.runtime import Filters
from prometheus_nt.config import Settings
from prometheus_nt.jobs.stores import open_stores

__all__ = ["Filters", "listing"]


def listing(
    settings: Settings, what: str, filters: Filters, *, include_outcomes: bool = False
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of a listing, newest first.

    Parameters
    ----------
    include_outcomes : bool
        With decisions: add what is known of each one's outcome, by horizon in sessions.

    Raises
    ------
    ConfigError
        If there is no such listing.
    StoreError
        If the database is missing or not up to date.
    """
    with open_stores(settings) as stores:
        columns, rows = stores.runtime.listing(what, filters)
        if not include_outcomes or what != "decisions":
            return columns, rows
        known = stores.runtime.outcomes([row[0] for row in rows])
    outcomes: dict[str, dict[str, Any]] = defaultdict(dict)
    for outcome in known:
        outcomes[outcome["decision_id"]][f"{outcome['horizon_days']}_sessions"] = {
            "return": outcome["realized_return"],
            "drawdown": outcome["realized_drawdown"],
            "known_at": outcome["known_at"],
        }
    return (*columns, "outcomes"), [(*row, outcomes.get(row[0])) for row in rows]
