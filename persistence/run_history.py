"""What many runs recorded, read at once: for the search of similar runs and books."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from persistence.database import Database
from persistence.listings import Filters
from persistence.runtime import RuntimeStore
from persistence.tables import runtime as tables

FACTS = (
    "run_id",
    "strategy_id",
    "sleeve_id",
    "start_date",
    "end_date",
    "dataset_id",
    "config_json",
    "metrics_json",
    "order_list_hash",
    "created_at",
)


def completed_runs(store: RuntimeStore) -> list[dict[str, Any]]:
    """Return configuration and figures of every completed run, by id."""
    runs = tables.backtest_runs.c
    query = sa.select(*(runs[name] for name in FACTS)).where(runs.status == "COMPLETED")
    with store.database.reader() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda row: str(row["run_id"]))


def page_of_runs(
    database: Database, filters: Filters, offset: int, limit: int
) -> list[dict[str, Any]]:
    """Return the runs that fit, without their settings, newest first, from `offset` on.

    Parameters
    ----------
    filters : its strategy, sleeve (as `portfolio_id`), mode and status are heeded
    """
    runs = tables.backtest_runs.c
    wanted = (
        (runs.strategy_id, filters.strategy_id),
        (runs.sleeve_id, filters.portfolio_id),
        (runs.mode, filters.mode),
        (runs.status, filters.status),
    )
    columns = [column for column in runs if column.name != "config_json"]
    query = sa.select(*columns).order_by(runs.created_at.desc(), runs.run_id)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    if filters.mode not in (None, "BACKTEST"):
        # What SQLite needs to see to use the index of the few rows that no backtest wrote.
        query = query.where(sa.text("mode <> 'BACKTEST'"))
    with database.reader() as connection:
        page = connection.execute(query.offset(offset).limit(limit))
        return [dict(row) for row in page.mappings()]


def newest_completed(store: RuntimeStore, limit: int) -> list[dict[str, Any]]:
    """Return the facts of the newest completed runs, newest first."""
    runs = tables.backtest_runs.c
    query = (
        sa.select(*(runs[name] for name in FACTS))
        .where(runs.status == "COMPLETED")
        .order_by(runs.created_at.desc(), runs.run_id)
        .limit(limit)
    )
    with store.database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def runs_of_same_sessions(store: RuntimeStore, run: Mapping[str, Any], limit: int = 5) -> list[str]:
    """Return the ids of the other completed runs of a run's market and dates, newest first."""
    runs = tables.backtest_runs.c
    query = (
        sa.select(runs.run_id)
        .where(runs.status == "COMPLETED", runs.run_id != run["run_id"])
        .where(*(runs[name] == run[name] for name in ("market_id", "start_date", "end_date")))
        .order_by(runs.created_at.desc())
        .limit(limit)
    )
    with store.database.reader() as connection:
        return list(connection.execute(query).scalars())


def newest_books(store: RuntimeStore, earliest: date, as_of: date) -> list[dict[str, Any]]:
    """Return the newest target book of each run and portfolio, with its own risk report.

    A report between rebalances is of what was held, not of the target.

    Parameters
    ----------
    earliest, as_of : date
        Books decided before the one or after the other are left out.
    """
    targets, reports = tables.target_portfolios.c, tables.portfolio_risk_reports.c
    same = (
        (targets.run_id == reports.run_id)
        & (targets.portfolio_id == reports.portfolio_id)
        & (targets.as_of_date == reports.as_of_date)
    )
    query = (
        sa.select(
            targets.run_id,
            targets.portfolio_id,
            targets.as_of_date,
            targets.target_positions,
            reports.gross_exposure,
            reports.net_exposure,
            reports.risk_metrics,
            reports.exposures_by_sector,
        )
        .select_from(tables.target_portfolios.join(tables.portfolio_risk_reports, same))
        .where(targets.as_of_date >= earliest, targets.as_of_date <= as_of)
        .order_by(targets.run_id, targets.portfolio_id, targets.as_of_date)
    )
    with store.database.reader() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    rows = [row for row in rows if row["risk_metrics"].get("basis", "target") == "target"]
    newest = {(row["run_id"], row["portfolio_id"]): row for row in rows}
    return list(newest.values())
