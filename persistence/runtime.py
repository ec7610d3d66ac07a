"""The runtime store: what runs wrote, and the questions people ask of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.rows import Row
from persistence.tables import operations
from persistence.tables import runtime as tables
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.runs import RunIdentity


@dataclass(frozen=True)
class Filters:
    """What a `show` command may ask for; None is no restriction.

    portfolio_id : a portfolio id, a sleeve id, or a strategy id, which matches all its sleeves.
    """

    portfolio_id: str | None = None
    strategy_id: str | None = None
    run_id: str | None = None
    mode: str | None = None
    as_of: date | None = None
    limit: int = 50


@dataclass(frozen=True)
class Listing:
    """A table that people list: which columns, and what orders and dates its rows."""

    table: sa.Table
    columns: tuple[str, ...]
    newest_first: tuple[str, ...]
    as_of_column: str | None = None


LISTINGS = {
    "runs": Listing(
        tables.backtest_runs,
        (
            "run_id",
            "strategy_id",
            "sleeve_id",
            "mode",
            "status",
            "start_date",
            "end_date",
            "dataset_id",
            "order_list_hash",
            "created_at",
            "metrics_json",
        ),
        ("created_at", "run_id"),
    ),
    "orders": Listing(
        tables.orders,
        (
            "timestamp",
            "portfolio_id",
            "instrument_id",
            "side",
            "order_type",
            "quantity",
            "filled_quantity",
            "status",
            "mode",
            "decision_id",
            "order_id",
        ),
        ("timestamp", "order_id"),
    ),
    "fills": Listing(
        tables.fills,
        (
            "timestamp",
            "portfolio_id",
            "order_id",
            "instrument_id",
            "side",
            "quantity",
            "price",
            "commission",
            "mode",
        ),
        ("timestamp", "fill_id"),
    ),
    "positions": Listing(
        tables.positions_snapshots,
        (
            "portfolio_id",
            "timestamp",
            "as_of_date",
            "instrument_id",
            "quantity",
            "avg_cost",
            "market_value",
            "unrealized_pnl",
            "mode",
        ),
        ("as_of_date", "run_id", "instrument_id"),
        "as_of_date",
    ),
    "decisions": Listing(
        tables.engine_decisions,
        (
            "decision_id",
            "engine_name",
            "run_id",
            "strategy_id",
            "market_id",
            "as_of_date",
            "config_id",
            "input_refs",
            "output_refs",
        ),
        ("as_of_date", "decision_id"),
        "as_of_date",
    ),
    "trials": Listing(
        operations.trials,
        (
            "recorded_at",
            "family",
            "sleeve_id",
            "start_date",
            "end_date",
            "status",
            "sharpe_per_session",
            "observations",
            "run_id",
            "reason",
        ),
        ("recorded_at", "trial_id"),
    ),
    "risk-actions": Listing(
        tables.risk_actions,
        ("as_of_date", "strategy_id", "instrument_id", "action_type", "details_json", "run_id"),
        ("as_of_date", "action_id"),
        "as_of_date",
    ),
}


class RuntimeStore:
    """Reads and writes the runtime database.

    Every write is an upsert on a natural key: writing a run twice leaves one copy of it.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, batches: Iterable[tuple[sa.Table, Sequence[Row]]]) -> int:
        """Write rows table by table, a transaction each, so that other writers get their turn."""
        written = 0
        for table, rows in batches:
            if rows:
                with self.database.writer() as connection:
                    written += upsert(connection, table, table.columns.keys(), rows)
        return written

    def begin_run(self, identity: RunIdentity, facts: dict[str, Any]) -> None:
        """Record that a run has started; a crash leaves it visibly RUNNING, without metrics."""
        row = {
            "run_id": identity.run_id,
            "mode": identity.mode.value,
            "strategy_id": identity.strategy_id,
            "sleeve_id": identity.sleeve_id,
            "data_fingerprint": identity.data_fingerprint,
            "config_hash": identity.config_hash,
            "code_hash": identity.code_hash,
            "status": "RUNNING",
            "created_at": datetime.now(UTC),
            "completed_at": None,
            "metrics_json": None,
            "order_list_hash": None,
            **facts,
        }
        with self.database.writer() as connection:
            upsert(connection, tables.backtest_runs, tuple(row), [tuple(row.values())])

    def end_run(
        self,
        run_id: str,
        status: str,
        *,
        metrics: dict[str, Any] | None = None,
        order_list_hash: str | None = None,
    ) -> None:
        """Record how a run ended."""
        changed = (
            sa.update(tables.backtest_runs)
            .where(tables.backtest_runs.c.run_id == run_id)
            .values(
                status=status,
                metrics_json=metrics,
                order_list_hash=order_list_hash,
                completed_at=datetime.now(UTC),
            )
        )
        with self.database.writer() as connection:
            connection.execute(changed)

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return the row of a run, or None."""
        query = sa.select(tables.backtest_runs).where(tables.backtest_runs.c.run_id == run_id)
        with self.database.reader() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)

    def find_run(self, text: str) -> dict[str, Any]:
        """Return the one run whose id is or begins with `text`; `latest` is the newest finished.

        Raises
        ------
        StoreError
            If there is none, or more than one.
        """
        runs = tables.backtest_runs.c
        query = sa.select(tables.backtest_runs).order_by(runs.created_at.desc()).limit(2)
        if text == "latest":
            query = query.where(runs.status == "COMPLETED").limit(1)
        else:
            query = query.where(runs.run_id.startswith(text, autoescape=True))
        with self.database.reader() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        exact = [row for row in found if row["run_id"] == text]
        if exact or len(found) == 1:
            return (exact or found)[0]
        problem = "no run" if not found else "more than one run"
        raise StoreError(f"{problem} matches {text!r}; `prometheus show runs` lists them")

    def newest_run(self, sleeve_id: str, config_hash: str) -> dict[str, Any]:
        """Return the newest finished run of a sleeve with this configuration.

        Raises
        ------
        StoreError
            If there is none.
        """
        runs = tables.backtest_runs.c
        query = (
            sa.select(tables.backtest_runs)
            .where(runs.sleeve_id == sleeve_id, runs.config_hash == config_hash)
            .where(runs.status == "COMPLETED")
            .order_by(runs.created_at.desc())
            .limit(1)
        )
        with self.database.reader() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise StoreError(
                f"{sleeve_id}: no finished run with this configuration; backtest it first"
            )
        return dict(row)

    def listing(self, name: str, filters: Filters) -> tuple[tuple[str, ...], list[Row]]:
        """Return the columns and the newest rows of a listing, newest first."""
        if name not in LISTINGS:
            raise ConfigError(f"show: unknown listing {name!r}; known: {', '.join(LISTINGS)}")
        spec = LISTINGS[name]
        query = sa.select(*(spec.table.c[column] for column in spec.columns))
        query = query.where(*_conditions(spec, filters)).limit(filters.limit)
        query = query.order_by(*(spec.table.c[column].desc() for column in spec.newest_first))
        with self.database.reader() as connection:
            return spec.columns, [tuple(row) for row in connection.execute(query)]

    def outcomes(self, decision_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the known outcomes of decisions, by decision and horizon."""
        table = tables.decision_outcomes
        query = (
            sa.select(table)
            .where(table.c.decision_id.in_(decision_ids))
            .order_by(table.c.decision_id, table.c.horizon_days)
        )
        with self.database.reader() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def latest_target(self, run_id: str) -> tuple[date, dict[str, float]]:
        """Return the session and the weights of a run's newest recorded target.

        Raises
        ------
        StoreError
            If the run recorded none.
        """
        table = tables.target_portfolios
        query = (
            sa.select(table.c.as_of_date, table.c.target_positions)
            .where(table.c.run_id == run_id)
            .order_by(table.c.as_of_date.desc())
            .limit(1)
        )
        with self.database.reader() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise StoreError(f"{run_id}: no target was recorded; `prometheus show runs` lists runs")
        return row[0], row[1]["weights"]

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """Return the files of a run."""
        query = sa.select(tables.artifacts).where(tables.artifacts.c.run_id == run_id)
        with self.database.reader() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _conditions(spec: Listing, filters: Filters) -> list[sa.ColumnElement[bool]]:
    columns = spec.table.c
    family = "family" if "family" in columns else "strategy_id"
    found = [
        columns[name] == value
        for name, value in (
            (family, filters.strategy_id),
            ("run_id", filters.run_id),
            ("mode", filters.mode),
        )
        if value is not None and name in columns
    ]
    if filters.as_of is not None and spec.as_of_column is not None:
        found.append(columns[spec.as_of_column] == filters.as_of)
    if filters.portfolio_id is not None:
        found.append(_matches_portfolio(columns, filters.portfolio_id))
    return found


def _matches_portfolio(columns: Any, portfolio_id: str) -> sa.ColumnElement[bool]:
    choices = [columns["family" if "family" in columns else "strategy_id"] == portfolio_id]
    if "portfolio_id" in columns:
        ids = (portfolio_id, f"{portfolio_id}_PORTFOLIO")
        choices.append(columns["portfolio_id"].in_(ids))
    elif "run_id" in columns:
        runs = tables.backtest_runs.c
        of_sleeve = (runs.sleeve_id == portfolio_id) | (runs.portfolio_id == portfolio_id)
        choices.append(columns["run_id"].in_(sa.select(runs.run_id).where(of_sleeve)))
    return sa.or_(*choices)
