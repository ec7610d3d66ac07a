"""Answers of the stores to the questions an operator asks."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from persistence.derived_store import LISTED, DerivedFilters
from persistence.runtime import LISTINGS, Filters
from prometheus_nt.config import Settings
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.alpha import STORED, stored_alpha
from prometheus_nt.jobs.derive import derived_store
from prometheus_nt.jobs.known import FACT_LISTINGS
from prometheus_nt.jobs.stores import Stores, open_stores

__all__ = ["Filters", "listing"]

ALPHA = "alpha"
KNOWN = (*LISTINGS, ALPHA, *LISTED)

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
        If there is no such listing or mode, or the listing has no sessions to choose from by date.
    DataError
        With `alpha`: if no run has stored scores.
    StoreError
        If the database is missing or not up to date, no one run matches, or no run has the
        portfolio or strategy asked for.
    """
    if what not in KNOWN:
        raise ConfigError(f"show: unknown listing {what!r}; known: {', '.join(KNOWN)}")
    if what in LISTED:
        raise ConfigError(f"show {what}: of which dataset? Name it with --dataset")
    _require_meaning(what, filters)
    with open_stores(settings) as stores:
        if what == ALPHA:
            return STORED, stored_alpha(stores, filters)
        filters = _of_known_runs(stores, filters)
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


def derived_listing(
    settings: Settings, what: str, filters: Filters, dataset_id: str, instrument_id: str | None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of a dataset's derived data, the newest session first.

    Raises
    ------
    ConfigError
        If there is no such listing, or a filter would not be heeded.
    StoreError
        If nothing is found; the error says what is stored.
    """
    if what not in LISTED:
        raise ConfigError(
            f"--dataset, --instrument-id: {what} are of runs; with them, show one of: "
            f"{', '.join((*FACT_LISTINGS, *LISTED))}"
        )
    if instrument_id is not None and "instrument_id" not in LISTED[what].table.c:
        raise ConfigError(f"--instrument-id: {what} are not of one instrument; leave it out")
    wanted = DerivedFilters(dataset_id, instrument_id, filters.as_of, filters.limit)
    if filters != Filters(as_of=filters.as_of, limit=filters.limit):
        raise ConfigError(f"show {what}: derived data are of no run; choose by --dataset alone")
    with open_stores(settings) as stores:
        return derived_store(stores).listing(what, wanted)


def _require_meaning(what: str, filters: Filters) -> None:
    """Refuse a filter that could only find nothing, or that the listing would not heed."""
    if filters.mode is not None and filters.mode not in list(Mode):
        raise ConfigError(f"--mode: unknown mode {filters.mode!r}; known: {', '.join(Mode)}")
    dated = [name for name, spec in LISTINGS.items() if spec.as_of_column is not None]
    if filters.as_of is not None and what not in dated:
        raise ConfigError(
            f"--as-of: {filters.as_of} cannot choose among {what}; leave it out, or show one of: "
            f"{', '.join(dated)}"
        )


def _of_known_runs(stores: Stores, filters: Filters) -> Filters:
    """Return the filters with the whole id of the run asked for; refuse names no run has."""
    if filters.run_id is not None:
        run_id = stores.runtime.find_run(filters.run_id)["run_id"]
        filters = replace(filters, run_id=run_id)
    for option, name, asked in (
        (
            "--portfolio-id or --sleeve",
            filters.portfolio_id,
            Filters(portfolio_id=filters.portfolio_id),
        ),
        ("--strategy-id", filters.strategy_id, Filters(strategy_id=filters.strategy_id)),
    ):
        if name is not None and not stores.runtime.listing("runs", replace(asked, limit=1))[1]:
            raise StoreError(
                f"{option}: no run of {name!r} is recorded; `prometheus show runs` lists them"
            )
    return filters


def _with_figures(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Put the headline figures of each run before its last column; None while it has none."""
    at = columns.index("metrics_json")
    named = (*columns[:at], *FIGURES, *columns[at:])
    return named, [
        (*row[:at], *((row[at] or {}).get(figure) for figure in FIGURES), *row[at:]) for row in rows
    ]
