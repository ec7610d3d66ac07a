"""Answers of the stores to the questions an operator asks."""

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date
from typing import Any

from persistence.derived_store import LISTED, DerivedFilters
from persistence.runtime import LISTINGS, Filters
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.alpha import STORED, stored_alpha
from prometheus_nt.jobs.derive import derived_store
from prometheus_nt.jobs.known import FACT_LISTINGS
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

__all__ = ["Filters", "derived_listing", "listing", "require_heeded"]

ALPHA = "alpha"
EXECUTION_RISK = "execution-risk"
OF_RUNS = (*LISTINGS, ALPHA, EXECUTION_RISK)
OF_DATASETS = (*FACT_LISTINGS, *LISTED)
ALIASES = {
    "engine-decisions": "decisions",
    "positions-snapshots": "positions",
    "backtest-runs": "runs",
    "backtest-daily-equity": "equity",
    "backtest-trades": "trades",
    "portfolio-risk-reports": "risk-reports",
    "target-portfolios": "targets",
}
"""Other names of listings: those of their tables."""

FROM_DOCUMENT = {
    "runs": ("metrics_json", ("cumulative_return", "annualised_sharpe", "max_drawdown")),
    "risk-actions": ("details_json", ("original_weight", "adjusted_weight", "reason")),
}
"""Of listings: members of a document that have columns of their own."""


def require_heeded(
    what: str, filters: Filters, *, of_dataset: bool, include_outcomes: bool = False
) -> None:
    """Refuse an unknown listing, and every option that a listing would not heed.

    Parameters
    ----------
    of_dataset : bool
        Whether a dataset was named.

    Raises
    ------
    ConfigError
        Naming the option, and what it can be used with.
    """
    what = ALIASES.get(what, what)
    if what not in (*OF_RUNS, *OF_DATASETS):
        known = ", ".join((*OF_RUNS, *OF_DATASETS))
        raise ConfigError(f"show: unknown listing {what!r}; known: {known}")
    if of_dataset and what in OF_RUNS:
        raise ConfigError(
            f"--dataset: {what} are of runs; with it, show one of: {', '.join(OF_DATASETS)}"
        )
    if what in OF_DATASETS and filters != Filters(
        as_of=filters.as_of, limit=filters.limit, entity_id=filters.entity_id
    ):
        raise ConfigError(
            f"show {what}: they are of a dataset and no run; choose by --dataset alone"
        )
    if what == EXECUTION_RISK and filters != Filters(limit=filters.limit):
        raise ConfigError(f"show {what}: it lists every sleeve; leave the other options out")
    if include_outcomes and what != "decisions":
        raise ConfigError(f"--include-outcomes: {what} have none; show decisions with it")


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
        If there is no such mode, or the listing has no sessions to choose from by date.
    DataError
        With `alpha`: if no run has stored scores.
    StoreError
        If the database is missing or not up to date, no one run matches, or no run has the
        portfolio or strategy asked for.
    """
    what = ALIASES.get(what, what)
    if what in LISTED:
        raise ConfigError(f"show {what}: of which dataset? Name it with --dataset")
    _require_meaning(what, filters)
    with open_stores(settings) as stores:
        if what == ALPHA:
            return STORED, stored_alpha(stores, filters)
        filters = _of_known_runs(stores, filters)
        columns, rows = stores.runtime.listing(what, filters)
        if what in FROM_DOCUMENT:
            return _with_figures(columns, rows, *FROM_DOCUMENT[what])
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
        If an instrument is named, and the listing is not of one.
    StoreError
        If nothing is found; the error says what is stored.
    """
    if instrument_id is not None and "instrument_id" not in LISTED[what].table.c:
        raise ConfigError(f"--instrument-id: {what} are not of one instrument; leave it out")
    wanted = DerivedFilters(dataset_id, instrument_id, filters.as_of, filters.limit)
    with open_stores(settings) as stores:
        return derived_store(stores).listing(what, wanted)


def portfolio(
    settings: Settings, portfolio_id: str, as_of: date | None, limit: int
) -> dict[str, Any]:
    """Return the newest target of a portfolio, its largest weights first, and its risk report.

    Raises
    ------
    StoreError
        If no run of the portfolio recorded a target.
    """
    filters = Filters(portfolio_id=portfolio_id, as_of=as_of, limit=1)
    with open_stores(settings) as stores:
        filters = _of_known_runs(stores, filters)
        target = _documents(stores, "targets", filters)
        if not target:
            when = "" if as_of is None else f" on {as_of}"
            raise StoreError(f"{portfolio_id}: no target was recorded{when}; run it first")
        found = target[0]
        same = Filters(run_id=found["run_id"], as_of=found["as_of_date"], limit=1)
        report = _documents(stores, "risk-reports", same)
    weights = found["target_positions"]["weights"]
    largest = sorted(weights.items(), key=lambda item: -abs(item[1]))[:limit]
    return {
        "portfolio_id": found["portfolio_id"],
        "run_id": found["run_id"],
        "as_of_date": found["as_of_date"],
        "names": len(weights),
        "weights": dict(largest),
        "optimization_params": found["optimization_params"],
        "risk_report": report[0] if report else None,
    }


def execution_status(
    settings: Settings, portfolio_id: str, mode: str | None, limits: tuple[int, int]
) -> dict[str, Any]:
    """Return the newest orders and fills of a portfolio, and how many orders are in each state.

    Parameters
    ----------
    limits : how many orders, and how many fills; the states are counted among those orders
    """
    orders, fills = limits
    with open_stores(settings) as stores:
        filters = _of_known_runs(stores, Filters(portfolio_id=portfolio_id, mode=_mode(mode)))
        newest = _documents(stores, "orders", replace(filters, limit=orders))
        filled = _documents(stores, "fills", replace(filters, limit=fills))
    states = Counter(order["status"] for order in newest)
    return {"states": dict(states), "orders": newest, "fills": filled}


def execution_risk(settings: Settings) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the limits that each sleeve's newest run puts between its orders and the venue."""
    with open_stores(settings) as stores:
        runs = stores.runtime.newest_configs()
    gates = {sleeve: config.get("gate") or {} for sleeve, _, config in runs}
    names = sorted({name for gate in gates.values() for name in gate})
    rows = [
        (sleeve, run_id, *(gates[sleeve].get(name) for name in names)) for sleeve, run_id, _ in runs
    ]
    return ("sleeve_id", "run_id", *names), rows


def _documents(stores: Stores, what: str, filters: Filters) -> list[dict[str, Any]]:
    columns, rows = stores.runtime.listing(what, filters)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _mode(mode: str | None) -> str | None:
    if mode is not None and mode not in list(Mode):
        raise ConfigError(f"--mode: unknown mode {mode!r}; known: {', '.join(Mode)}")
    return mode


OPTIONS = {
    "as_of": "--as-of",
    "entity_id": "--instrument-id",
    "market_id": "--market-id",
    "engine_name": "--engine-name",
    "region": "--region",
    "phase": "--phase",
    "status": "--status",
    "mode": "--mode",
    "run_id": "--run-id",
    "portfolio_id": "--portfolio-id",
    "strategy_id": "--strategy-id",
}
BY_RUN_ALONE = ("mode", "market_id", "portfolio_id", "strategy_id", "run_id")
"""Filters that choose the run of a listing by run, whatever columns its rows have."""


def _require_meaning(what: str, filters: Filters) -> None:
    """Refuse a filter that could only find nothing, or that the listing would not heed."""
    _mode(filters.mode)
    if what == ALPHA:
        return
    for name, option in OPTIONS.items():
        asked = getattr(filters, name)
        if asked is None or _heeds(what, name):
            continue
        others = ", ".join(other for other in LISTINGS if _heeds(other, name))
        raise ConfigError(
            f"{option}: {asked} cannot choose among {what}; leave it out, or show one of: {others}"
        )


def _heeds(what: str, name: str) -> bool:
    spec = LISTINGS[what]
    return name in spec.heeds or (spec.by == "run" and name in BY_RUN_ALONE)


def _of_known_runs(stores: Stores, filters: Filters) -> Filters:
    """Return the filters with the whole id of the run asked for; refuse names no run has."""
    if filters.run_id is not None and not _is_whole(filters.run_id):
        run_id = stores.runtime.find_run(filters.run_id)["run_id"]
        filters = replace(filters, run_id=run_id)
    for option, name in (
        ("--portfolio-id or --sleeve", filters.portfolio_id),
        ("--strategy-id", filters.strategy_id),
    ):
        if name is not None and not stores.runtime.is_known(name):
            raise StoreError(
                f"{option}: no run of {name!r} is recorded; `prometheus show runs` lists them"
            )
    return filters


def _is_whole(run_id: str) -> bool:
    """Return whether an id is of a day's sleeve or of a scan, which are not in the list of runs."""
    return ":" in run_id or run_id.startswith("scan-")


def _with_figures(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]], document: str, names: tuple[str, ...]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Put members of a document of each row before it; None while it has none."""
    at = columns.index(document)
    named = (*columns[:at], *names, *columns[at:])
    return named, [
        (*row[:at], *((row[at] or {}).get(name) for name in names), *row[at:]) for row in rows
    ]
