"""What many runs recorded, read at once: for the search of similar runs and books."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from persistence.database import Database
from persistence.listings import Filters
from persistence.runtime import RuntimeStore
from persistence.tables import runtime as tables
from prometheus_nt.domain.market import RegimeLabel
from prometheus_nt.engines.regime import FEATURES

FACTS = (
    "run_id",
    "strategy_id",
    "sleeve_id",
    "start_date",
    "end_date",
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


def recorded_environments(store: RuntimeStore) -> dict[str, dict[str, float | None]]:
    """Return, per run, the share of its sessions in each regime and the mean of each feature.

    Named `share_<label>` and `mean_<feature>`, in lower case. A run without the regime engine is
    absent.
    """
    regimes = tables.regimes.c
    shares = [
        sa.func.avg(sa.case((regimes.regime_label == label.value, 1.0), else_=0.0)).label(
            f"share_{label.value.lower()}"
        )
        for label in RegimeLabel
    ]
    means = [
        sa.func.avg(regimes.features[name].as_float()).label(f"mean_{name}") for name in FEATURES
    ]
    query = sa.select(regimes.run_id, *shares, *means).group_by(regimes.run_id)
    with store.database.reader() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return {
        row.pop("run_id"): {
            name: None if value is None else float(value) for name, value in row.items()
        }
        for row in rows
    }


def mean_universe_sizes(store: RuntimeStore) -> dict[str, float]:
    """Return how many instruments the universe of each run held on average."""
    members = tables.universe_members.c
    included = sa.func.sum(sa.case((members.included, 1), else_=0))
    query = sa.select(members.run_id, included, sa.func.count(sa.distinct(members.as_of_date)))
    with store.database.reader() as connection:
        rows = connection.execute(query.group_by(members.run_id)).all()
    return {run_id: float(total) / float(sessions) for run_id, total, sessions in rows}


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
