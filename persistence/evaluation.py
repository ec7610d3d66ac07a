"""The rows that say how well a run's scores ranked what came after: read, written, read back."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from persistence.blocks import Row
from persistence.database import Database, upsert
from persistence.runtime import Filters, RuntimeStore
from persistence.tables import runtime as tables

OUTCOME_COLUMNS = ("decision_id", "horizon_days", "run_id", "known_at", "metadata")


def sleeve_decisions(database: Database, run_id: str, engine: str = "SLEEVE") -> dict[date, str]:
    """Return the ids of a run's decisions by session, oldest first: of its sleeve, or an engine."""
    decisions = tables.engine_decisions.c
    query = (
        sa.select(decisions.as_of_date, decisions.decision_id)
        .where(decisions.run_id == run_id, decisions.engine_name == engine)
        .order_by(decisions.as_of_date)
    )
    with database.reader() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def score_days(database: Database, run_id: str) -> Iterator[tuple[date, list[Row]]]:
    """Yield each session with the (instrument, score, components) rows stored on it."""
    scores = tables.instrument_scores.c
    query = (
        sa.select(scores.as_of_date, scores.instrument_id, scores.score, scores.alpha_components)
        .where(scores.run_id == run_id)
        .order_by(scores.as_of_date, scores.instrument_id)
    )
    with database.reader() as connection:
        for as_of, rows in groupby(connection.execute(query), key=itemgetter(0)):
            yield as_of, [tuple(row[1:]) for row in rows]


def universe_scores(database: Database, run_id: str) -> dict[date, dict[str, float]]:
    """Return the scores of the stored candidates of a run's universe by session."""
    members = tables.universe_members.c
    query = (
        sa.select(members.as_of_date, members.entity_id, members.score)
        .where(members.run_id == run_id, members.score.is_not(None))
        .order_by(members.as_of_date, members.entity_id)
    )
    with database.reader() as connection:
        return {
            as_of: {row[1]: row[2] for row in rows}
            for as_of, rows in groupby(connection.execute(query), key=itemgetter(0))
        }


def target_weights(database: Database, run_id: str) -> dict[date, dict[str, float]]:
    """Return the weights of a run's stored target portfolios by session."""
    targets = tables.target_portfolios.c
    query = sa.select(targets.as_of_date, targets.target_positions).where(targets.run_id == run_id)
    with database.reader() as connection:
        return {row[0]: row[1]["weights"] for row in connection.execute(query)}


def write_evaluations(database: Database, rows: Iterable[Row]) -> int:
    """Write `OUTCOME_COLUMNS` of outcomes; what is known of the book's own return stays."""
    with database.writer() as connection:
        return upsert(connection, tables.decision_outcomes, OUTCOME_COLUMNS, list(rows))


def write_target_outcomes(database: Database, rows: Iterable[Row]) -> int:
    """Write whole outcomes of decisions that no book of its own followed; pnl is unknown."""
    names = (*OUTCOME_COLUMNS, "realized_return", "realized_drawdown", "realized_vol")
    with database.writer() as connection:
        return upsert(connection, tables.decision_outcomes, names, list(rows))


def traded_runs(database: Database, strategies: Sequence[str]) -> list[str]:
    """Return the runs of strategies that no backtest made, oldest first."""
    runs = tables.backtest_runs.c
    query = (
        sa.select(runs.run_id)
        .where(runs.mode != "BACKTEST", sa.text("mode <> 'BACKTEST'"))
        .where(runs.strategy_id.in_(strategies))
        .order_by(runs.created_at)
    )
    with database.reader() as connection:
        return list(connection.execute(query).scalars())


def evaluations(database: Database, run_id: str) -> list[dict[str, Any]]:
    """Return the evaluated outcomes of a run's decisions, oldest decision first."""
    outcomes, decisions = tables.decision_outcomes, tables.engine_decisions
    query = (
        sa.select(outcomes.c.horizon_days, outcomes.c["metadata"], decisions.c.as_of_date)
        .join(decisions, decisions.c.decision_id == outcomes.c.decision_id)
        .where(outcomes.c.run_id == run_id, outcomes.c["metadata"].is_not(None))
        .order_by(decisions.c.as_of_date, outcomes.c.horizon_days)
    )
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def newest_runs(runtime: RuntimeStore, filters: Filters) -> list[dict[str, Any]]:
    """Return the run asked for, or the newest completed one of every sleeve that matches."""
    if filters.run_id is not None:
        return [runtime.find_run(filters.run_id)]
    runs = tables.backtest_runs.c
    conditions = [runs.status == "COMPLETED"]
    for column, wanted in ((runs.strategy_id, filters.strategy_id), (runs.mode, filters.mode)):
        if wanted is not None:
            conditions.append(column == wanted)
    if filters.portfolio_id is not None:
        columns = (runs.portfolio_id, runs.sleeve_id, runs.strategy_id)
        conditions.append(sa.or_(*(column == filters.portfolio_id for column in columns)))
    query = sa.select(tables.backtest_runs).where(*conditions).order_by(runs.created_at)
    with runtime.database.reader() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    newest = {row["sleeve_id"]: row for row in found}
    return [newest[sleeve_id] for sleeve_id in sorted(newest)]
