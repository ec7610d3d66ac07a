"""Answers of the runtime store to the questions an operator asks."""

from collections import defaultdict
from typing import Any

from persistence.runtime import LISTINGS, Filters
from prometheus_nt.config import Settings
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.alpha import STORED, stored_alpha
from prometheus_nt.jobs.stores import open_stores

__all__ = ["Filters", "listing"]

ALPHA = "alpha"
KNOWN = (*LISTINGS, ALPHA)

FIGURES = ("cumulative_return", "annualised_sharpe", "max_drawdown")


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
    DataError
        With `alpha`: if no run has stored scores.
    StoreError
        If the database is missing or not up to date.
    """
    if what not in KNOWN:
        raise ConfigError(f"show: unknown listing {what!r}; known: {', '.join(KNOWN)}")
    with open_stores(settings) as stores:
        if what == ALPHA:
            return STORED, stored_alpha(stores, filters)
        columns, rows = stores.runtime.listing(what, filters)
        if what == "runs":
            return _with_figures(columns, rows)
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


def _with_figures(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Put the headline figures of each run before its last column; None while it has none."""
    at = columns.index("metrics_json")
    named = (*columns[:at], *FIGURES, *columns[at:])
    return named, [
        (*row[:at], *((row[at] or {}).get(figure) for figure in FIGURES), *row[at:]) for row in rows
    ]
