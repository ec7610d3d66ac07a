"""The runtime store: what runs wrote, and the questions people ask of it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from persistence import events
from persistence.blocks import Row
from persistence.database import Database, upsert
from persistence.listings import LISTINGS, Filters, is_known, listing
from persistence.tables import columns, governance
from persistence.tables import runtime as tables
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.runs import RunIdentity

__all__ = ["LISTINGS", "Filters", "RuntimeStore"]


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
                    written += upsert(connection, table, columns.written(table), rows)
        return written

    def begin_run(self, identity: RunIdentity, facts: dict[str, Any]) -> None:
        """Record that a run has started; a crash leaves it visibly RUNNING, without metrics.

        The hash of its orders stays, if it had one: whoever makes the run again must find the same.
        """
        row = _begun(identity, facts)
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
        """Record how a run ended; without a hash of orders, the one it had stays."""
        ended = {"status": status, "metrics_json": metrics, "completed_at": datetime.now(UTC)}
        if order_list_hash is not None:
            ended["order_list_hash"] = order_list_hash
        runs = tables.backtest_runs
        changed = sa.update(runs).where(runs.c.run_id == run_id).values(ended)
        with self.database.writer() as connection:
            connection.execute(changed)

    def begin_trading(self, identity: RunIdentity, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Record that a run trades from now on; return the open runs of its sleeve beside it.

        Of two processes that begin at once only one finds none beside itself. If there is one,
        nothing is recorded.
        """
        runs = tables.backtest_runs
        with self.database.writer() as connection:
            mode = identity.mode.value
            events.lock(connection, f"trading {mode} {identity.sleeve_id}")
            query = _open_runs(identity.sleeve_id, mode).where(runs.c.run_id != identity.run_id)
            beside = [dict(row) for row in connection.execute(query).mappings()]
            if beside:
                return beside
            known = sa.update(runs).where(runs.c.run_id == identity.run_id)
            if connection.execute(known.values(status="RUNNING")).rowcount == 0:
                row = _begun(identity, facts)
                upsert(connection, runs, tuple(row), [tuple(row.values())])
        return []

    def open_runs(self, sleeve_id: str, mode: str) -> list[dict[str, Any]]:
        """Return the runs of a sleeve that trade or may trade on, the newest first."""
        with self.database.reader() as connection:
            found = connection.execute(_open_runs(sleeve_id, mode)).mappings()
            return [dict(row) for row in found]

    def set_metrics(self, run_id: str, metrics: dict[str, Any]) -> None:
        """Record the figures of a run that goes on."""
        this = tables.backtest_runs.c.run_id == run_id
        changed = sa.update(tables.backtest_runs).where(this).values(metrics_json=metrics)
        with self.database.writer() as connection:
            connection.execute(changed)

    def finish_trading(self, run_id: str, by: str, reason: str) -> None:
        """Record that a run that trades has ended for good; its own events say who and why."""
        now = datetime.now(UTC)
        ended = {"status": "FINISHED", "completed_at": now}
        this = tables.backtest_runs.c.run_id == run_id
        said = {"by": by, "reason": reason, "at": now.isoformat()}
        with self.database.durable_writer() as connection:
            connection.execute(sa.update(tables.backtest_runs).where(this).values(ended))
            events.append(connection, run_id, [("FINISHED", said)])

    def set_status(self, run_id: str, status: str) -> None:
        """Record whether a run that trades is RUNNING, STOPPED or HALTED."""
        this = tables.backtest_runs.c.run_id == run_id
        with self.database.writer() as connection:
            connection.execute(sa.update(tables.backtest_runs).where(this).values(status=status))

    def trading_runs(
        self, sleeve_id: str, mode: str, config_hash: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the runs of a sleeve that trade by these settings, or any, the newest first."""
        runs = tables.backtest_runs.c
        query = (
            sa.select(tables.backtest_runs)
            .where(runs.sleeve_id == sleeve_id, runs.mode == mode)
            .order_by(runs.created_at.desc())
        )
        if config_hash is not None:
            query = query.where(runs.config_hash == config_hash)
        with self.database.reader() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

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
        if (exactly := self.run(text)) is not None:
            return exactly
        runs = tables.backtest_runs.c
        query = sa.select(tables.backtest_runs).order_by(runs.created_at.desc()).limit(2)
        if text == "latest":
            query = query.where(runs.status == "COMPLETED").limit(1)
        else:
            query = query.where(runs.run_id.startswith(text, autoescape=True))
        with self.database.reader() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        if len(found) == 1:
            return found[0]
        problem = "no run" if not found else "more than one run"
        raise StoreError(f"{problem} matches {text!r}; `prometheus show runs` lists them")

    def newest_traded_run(self) -> dict[str, Any]:
        """Return the paper or live run that was begun last and has closed a session.

        Raises
        ------
        StoreError
            If there is none.
        """
        runs, days = tables.backtest_runs, tables.backtest_daily_equity.c
        closed = sa.exists().where(days.run_id == runs.c.run_id)
        # What SQLite needs to see to use the index of the few rows that no backtest wrote.
        query = sa.select(runs).where(sa.text("mode <> 'BACKTEST'"), closed)
        with self.database.reader() as connection:
            newest = query.order_by(runs.c.created_at.desc()).limit(1)
            row = connection.execute(newest).mappings().first()
        if row is None:
            raise StoreError("latest: no run has traded on paper or live; `prometheus paper` does")
        return dict(row)

    def sleeves(self) -> list[str]:
        """Return the sleeves that have ever begun a run, by name."""
        query = sa.select(tables.backtest_runs.c.sleeve_id).distinct().order_by("sleeve_id")
        with self.database.reader() as connection:
            return list(connection.execute(query).scalars())

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
        return listing(self.database, name, filters)

    def is_known(self, name: str) -> bool:
        """Return whether a strategy, a sleeve or a portfolio of this name has ever begun a run."""
        return is_known(self.database, name)

    def newest_configs(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return sleeve, run and resolved configuration of the newest run of every sleeve."""
        runs, sleeves = tables.backtest_runs.c, governance.portfolios.c.sleeve_id
        with self.database.reader() as connection:
            known = connection.execute(sa.select(sleeves).order_by(sleeves)).scalars().all()
            newest = (
                sa.select(runs.sleeve_id, runs.run_id, runs.config_json)
                .where(runs.sleeve_id == sleeve)
                .order_by(runs.created_at.desc())
                .limit(1)
                for sleeve in known
            )
            found = [connection.execute(query).first() for query in newest]
        return [tuple(row) for row in found if row is not None]

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

    def latest_target(
        self, run_id: str, as_of: date | None = None
    ) -> tuple[date, dict[str, float]]:
        """Return the session and the weights of a run's newest recorded target, up to `as_of`.

        Raises
        ------
        StoreError
            If the run recorded none.
        """
        table = tables.target_portfolios
        query = (
            sa.select(table.c.as_of_date, table.c.target_positions)
            .where(table.c.run_id == run_id)
            .where(sa.true() if as_of is None else table.c.as_of_date <= as_of)
            .order_by(table.c.as_of_date.desc())
            .limit(1)
        )
        with self.database.reader() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise StoreError(f"{run_id}: no target was recorded; `prometheus show runs` lists runs")
        return row[0], row[1]["weights"]

    def followed_targets(self, run_id: str) -> list[tuple[date, dict[str, float]]]:
        """Return the session and the weights of every target that a run followed, oldest first.

        What was recorded where it only tried again what it had not finished is left out, and so is
        what its engines asked for while no rebalance was due.
        """
        targets, decisions = tables.target_portfolios.c, tables.engine_decisions.c
        same = (targets.run_id == decisions.run_id) & (targets.as_of_date == decisions.as_of_date)
        query = (
            sa.select(targets.as_of_date, targets.target_positions, decisions.input_refs)
            .select_from(tables.target_portfolios.join(tables.engine_decisions, same))
            .where(targets.run_id == run_id, decisions.engine_name == "SLEEVE")
            .order_by(targets.as_of_date)
        )
        with self.database.reader() as connection:
            rows = connection.execute(query).all()
        return [(row[0], row[1]["weights"]) for row in rows if row[2].get("input_hashes")]

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """Return the files of a run."""
        query = sa.select(tables.artifacts).where(tables.artifacts.c.run_id == run_id)
        with self.database.reader() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _begun(identity: RunIdentity, facts: dict[str, Any]) -> dict[str, Any]:
    return {
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
        **facts,
    }


def _open_runs(sleeve_id: str, mode: str) -> sa.Select[Any]:
    runs = tables.backtest_runs.c
    return (
        sa.select(tables.backtest_runs)
        .where(runs.sleeve_id == sleeve_id, runs.mode == mode, runs.status != "FINISHED")
        .order_by(runs.created_at.desc())
    )
