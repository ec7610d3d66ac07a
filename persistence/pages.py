"""Pages of jobs, campaigns, trials, proposals and decisions, as people leaf through them.

Each is found by an index and leaves out the large documents of its rows.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence import events
from persistence.database import Database
from persistence.tables import governance
from persistence.tables import runtime as tables
from persistence.tables.campaigns import campaign_trials, campaigns
from persistence.tables.operations import trials
from prometheus_nt.domain.errors import StoreError

Record = dict[str, Any]

ENGINE = "META_ORCHESTRATOR"
"""The engine of the decisions about who goes on."""

MOST_REAL_FIRST = ("LIVE", "PAPER", "BACKTEST")

MOST_NAMES = 200
MOST_DECISIONS = 20

JOB_COLUMNS = tuple(column for column in governance.jobs.columns if column.name != "spec")

PROPOSAL_COLUMNS = tuple(
    column
    for column in governance.meta_config_proposals.columns
    if column.name not in ("metadata", "supporting_metrics", "open_change")
)

TRIAL_COLUMNS = (
    *("sleeve_id", "position", "strategy_id", "market_id", "settings", "status", "attempt"),
    *("run_id", "error", "message", "started_at", "ended_at", "seconds", "screen", "gap_bps"),
)


def page_of_jobs(
    database: Database, wanted: Mapping[str, str | None], offset: int, limit: int
) -> list[Record]:
    """Return jobs without their specs, newest first; `wanted` by column, None is any."""
    table = governance.jobs.c
    query = sa.select(*JOB_COLUMNS).order_by(table.created_at.desc(), table.job_id.desc())
    return _page(database, query.where(*_equal(table, wanted)), offset, limit)


def page_of_campaigns(database: Database, offset: int, limit: int) -> list[Record]:
    """Return campaigns, newest first, each with `counts` of its variants by their state."""
    columns = [column for column in campaigns.columns if column.name != "plan"]
    query = sa.select(*columns).order_by(
        campaigns.c.created_at.desc(), campaigns.c.campaign_id.desc()
    )
    found = _page(database, query, offset, limit)
    counts = _trial_counts(database, [row["campaign_id"] for row in found])
    return [{**row, "counts": counts.get(row["campaign_id"], {})} for row in found]


def campaign_row(database: Database, campaign_id: str) -> Record:
    """Return a campaign with its plan and the `counts` of its variants.

    Raises
    ------
    StoreError
        If there is none of this id.
    """
    query = sa.select(campaigns).where(campaigns.c.campaign_id == campaign_id)
    found = _page(database, query, 0, 1)
    if not found:
        raise StoreError(f"no campaign {campaign_id!r}; `prometheus campaign list` lists them")
    return {**found[0], "counts": _trial_counts(database, [campaign_id]).get(campaign_id, {})}


def page_of_variants(database: Database, campaign_id: str, offset: int, limit: int) -> list[Record]:
    """Return variants of a campaign in their order, without the nodes that they are."""
    table = campaign_trials.c
    query = sa.select(*(table[name] for name in TRIAL_COLUMNS)).order_by(table.position)
    return _page(database, query.where(table.campaign_id == campaign_id), offset, limit)


def seconds_of_variants(database: Database, campaign_id: str) -> float | None:
    """Return how long a run of a campaign takes on average; None until one was measured."""
    table = campaign_trials.c
    query = sa.select(sa.func.avg(table.seconds)).where(table.campaign_id == campaign_id)
    with database.reader() as connection:
        return connection.execute(query.where(table.status == "OK")).scalar()


def selections(
    database: Database,
    *,
    scope: str | None = None,
    strategy_id: str | None = None,
    as_of: date | None = None,
) -> list[Record]:
    """Return the newest decisions about who goes on, the newest session first.

    Parameters
    ----------
    scope : a campaign's id
    strategy_id : of the families that were judged
    as_of : only runs that end by it
    """
    table = tables.engine_decisions.c
    query = sa.select(tables.engine_decisions).where(table.engine_name == ENGINE)
    if scope is not None:
        query = query.where(table.run_id == scope[:96])
    if strategy_id is not None:
        query = query.where(table.strategy_id == strategy_id)
    if as_of is not None:
        query = query.where(table.as_of_date <= as_of)
    query = query.order_by(table.as_of_date.desc(), table.decision_id.desc())
    return _page(database, query, 0, MOST_DECISIONS)


def page_of_trials(database: Database, family: str | None, offset: int, limit: int) -> list[Record]:
    """Return trials of the ledger, the newest entry first."""
    query = sa.select(trials).order_by(trials.c.recorded_at.desc(), trials.c.trial_id)
    if family is not None:
        query = query.where(trials.c.family == family)
    return _page(database, query, offset, limit)


def ledger_counts(database: Database) -> tuple[dict[str, dict[str, int]], int, str]:
    """Return trials by family and state, and the number and hash of the sealed stream's end."""
    query = sa.select(trials.c.family, trials.c.status, sa.func.count())
    query = query.group_by(trials.c.family, trials.c.status)
    found: dict[str, dict[str, int]] = {}
    with database.reader() as connection:
        for family, status, count in connection.execute(query):
            found.setdefault(family, {})[status] = count
        return found, *events.position(connection, "trials")


def page_of_proposals(
    database: Database, wanted: Mapping[str, str | None], offset: int, limit: int
) -> list[Record]:
    """Return proposals without the node that they were tried on, newest first."""
    table = governance.meta_config_proposals.c
    query = sa.select(*PROPOSAL_COLUMNS).order_by(table.created_at.desc(), table.proposal_id)
    return _page(database, query.where(*_equal(table, wanted)), offset, limit)


def page_of_changes(
    database: Database, wanted: Mapping[str, Any], offset: int, limit: int
) -> list[Record]:
    """Return what was applied and reverted, newest first."""
    table = governance.config_change_log.c
    query = sa.select(governance.config_change_log).where(*_equal(table, wanted))
    return _page(database, query.order_by(table.applied_at.desc(), table.change_id), offset, limit)


def change_row(database: Database, change_id: str) -> Record:
    """Return an entry of the log of changes.

    Raises
    ------
    StoreError
        If there is none of this id.
    """
    log = governance.config_change_log
    found = _page(database, sa.select(log).where(log.c.change_id == change_id), 0, 1)
    if not found:
        raise StoreError(f"no change {change_id!r}; `prometheus show changes` lists them")
    return found[0]


def engine_settings(database: Database, as_of: date | None = None) -> list[Record]:
    """Return the newest settings of each engine; by `as_of`, those that had been used by then."""
    table = governance.engine_configs.c
    found: list[Record] = []
    with database.reader() as connection:
        for name in _distinct(connection, table.engine_name):
            query = sa.select(governance.engine_configs).where(table.engine_name == name)
            if as_of is not None:
                query = query.where(table.created_at < _end_of(as_of))
            newest = query.order_by(table.created_at.desc()).limit(1)
            found += [dict(row) for row in connection.execute(newest).mappings()]
    return found


def newest_decision(
    database: Database, engine: str, wanted: Mapping[str, str | None], as_of: date | None
) -> tuple[str, date] | None:
    """Return the run and the session of an engine's newest decision; one that trades goes first.

    Parameters
    ----------
    wanted : by column, such as run_id or strategy_id; None is any
    """
    table = tables.engine_decisions.c
    query = sa.select(table.mode, table.run_id, table.as_of_date)
    query = query.where(table.engine_name == engine, *_equal(table, wanted))
    if as_of is not None:
        query = query.where(table.as_of_date <= as_of)
    query = query.order_by(table.as_of_date.desc()).limit(MOST_DECISIONS)
    with database.reader() as connection:
        found = connection.execute(query).all()
    newest = [row for row in found if row.as_of_date == found[0].as_of_date]
    best = min(newest, key=lambda row: (MOST_REAL_FIRST.index(row.mode), row.run_id), default=None)
    return None if best is None else (best.run_id, best.as_of_date)


def equity_days(database: Database, run_id: str, as_of: date | None) -> list[Record]:
    """Return a run's daily equity up to a session, oldest first."""
    days = tables.backtest_daily_equity.c
    names = ("date", "equity_curve_value", "drawdown", "gross_exposure", "net_exposure")
    query = sa.select(*(days[name] for name in names)).where(days.run_id == run_id)
    if as_of is not None:
        query = query.where(days.date <= as_of)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query.order_by(days.date)).mappings()]


def equity_levels(database: Database, run_id: str) -> list[tuple[date, float]]:
    """Return the sessions of a run with its equity at each close, oldest first."""
    days = tables.backtest_daily_equity.c
    query = sa.select(days.date, days.equity_curve_value).where(days.run_id == run_id)
    with database.reader() as connection:
        return [(day, level) for day, level in connection.execute(query.order_by(days.date))]


def decision_figures(
    database: Database, run_id: str, engine: str, window: tuple[date, date]
) -> list[Record]:
    """Return what came of an engine's decisions, by horizon and regime at the decision.

    Parameters
    ----------
    window : first and last session of decisions; what became known after the last is left out

    Returns
    -------
    list of horizon_days, regime (None without a label), decisions, and means of realized_return,
    realized_vol and realized_drawdown
    """
    made, came = tables.engine_decisions.c, tables.decision_outcomes.c
    region = sa.select(sa.func.max(tables.regimes.c.region)).where(
        tables.regimes.c.run_id == run_id
    )
    label = (
        sa.select(sa.func.max(tables.regimes.c.regime_label))
        .where(tables.regimes.c.run_id == made.run_id)
        .where(tables.regimes.c.region == region.scalar_subquery())
        .where(tables.regimes.c.as_of_date == made.as_of_date)
        .scalar_subquery()
    )
    each = (
        sa.select(
            came.horizon_days,
            label.label("regime"),
            came.realized_return,
            came.realized_vol,
            came.realized_drawdown,
        )
        .join_from(
            tables.engine_decisions,
            tables.decision_outcomes,
            made.decision_id == came.decision_id,
        )
        .where(made.run_id == run_id, made.engine_name == engine)
        .where(made.as_of_date.between(*window), came.known_at <= window[1])
        .subquery()
    )
    means = (
        sa.func.avg(each.c[name]).label(name)
        for name in ("realized_return", "realized_vol", "realized_drawdown")
    )
    query = sa.select(each.c.horizon_days, each.c.regime, sa.func.count().label("decisions"))
    query = query.add_columns(*means).group_by(each.c.horizon_days, each.c.regime)
    return _page(database, query.order_by(each.c.horizon_days, each.c.regime), 0, MOST_NAMES)


def finished_run_ids(database: Database, strategy_id: str, limit: int) -> list[str]:
    """Return the newest finished backtests of a strategy, newest first."""
    runs = tables.backtest_runs.c
    query = (
        sa.select(runs.run_id)
        .where(runs.strategy_id == strategy_id)
        .where(runs.status == "COMPLETED", runs.mode == "BACKTEST")
        .order_by(runs.created_at.desc(), runs.run_id)
        .limit(limit)
    )
    with database.reader() as connection:
        return list(connection.execute(query).scalars())


def run_facts(database: Database, run_ids: list[str]) -> list[Record]:
    """Return the figures of runs, and how many findings veto each."""
    runs, found = tables.backtest_runs.c, tables.run_findings.c
    vetoes = (
        sa.select(sa.func.count())
        .where(found.run_id == runs.run_id, found.severity == "VETO")
        .scalar_subquery()
    )
    query = sa.select(runs.run_id, runs.metrics_json, vetoes.label("vetoes"))
    return _page(database, query.where(runs.run_id.in_(run_ids)), 0, max(len(run_ids), 1))


def waiting_work(database: Database) -> Record:
    """Return open_proposals, waiting_jobs, running, and since when the oldest job could begin."""
    jobs, proposals = governance.jobs.c, governance.meta_config_proposals.c
    now = datetime.now(UTC)
    count = sa.select(sa.func.count())
    waiting = (jobs.status == "PENDING", jobs.not_before <= now)
    with database.reader() as connection:
        return {
            "open_proposals": connection.execute(
                count.where(proposals.status.in_(("PENDING", "APPROVED")))
            ).scalar_one(),
            "waiting_jobs": connection.execute(count.where(jobs.status == "PENDING")).scalar_one(),
            "running": connection.execute(count.where(jobs.status == "RUNNING")).scalar_one(),
            "oldest": connection.execute(
                sa.select(sa.func.min(jobs.not_before)).where(*waiting)
            ).scalar(),
        }


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def _trial_counts(database: Database, campaign_ids: list[str]) -> dict[str, dict[str, int]]:
    table = campaign_trials.c
    query = sa.select(table.campaign_id, table.status, sa.func.count())
    query = query.where(table.campaign_id.in_(campaign_ids))
    found: dict[str, dict[str, int]] = {}
    with database.reader() as connection:
        for campaign_id, status, count in connection.execute(
            query.group_by(table.campaign_id, table.status)
        ):
            found.setdefault(campaign_id, {})[status] = count
    return found


def _equal(
    table: "sa.sql.base.ReadOnlyColumnCollection[str, Any]", wanted: Mapping[str, Any]
) -> list["sa.ColumnElement[bool]"]:
    return [table[name] == value for name, value in wanted.items() if value is not None]


def _distinct(connection: Connection, column: "sa.Column[Any]") -> list[str]:
    """Return the values of a column that an index begins with, one seek for each."""
    values: list[str] = []
    query = sa.select(column).order_by(column).limit(1)
    found = connection.execute(query).scalar()
    while found is not None and len(values) < MOST_NAMES:
        values.append(found)
        found = connection.execute(query.where(column > found)).scalar()
    return values


def _page(database: Database, query: "sa.Select[Any]", offset: int, limit: int) -> list[Record]:
    with database.reader() as connection:
        page = connection.execute(query.offset(offset).limit(limit))
        return [dict(row) for row in page.mappings()]
