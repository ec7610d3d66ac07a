"""What people list: the newest rows of a table, found by an index whatever they ask for.

1. Tables that span runs (orders, decisions, ...) are read in the order of an index that begins with
   what was asked; of modes that are rare, an index holds only those rows.
2. Tables of engine outputs are keyed by run, so a listing is of one run: the one asked for, else
   the newest that fits and has rows (`_run_of`).
3. Where rows of several portfolios or runs are wanted, each gives its newest rows by a statement of
   its own, and of those the newest are taken (`_newest`): no listing sorts more than it could show
   of each.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.blocks import Row
from persistence.database import Database
from persistence.tables import governance, operations, trading
from persistence.tables import runtime as tables
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.runs import day_run_id

MOST_SCOPES = 200
"""Portfolios, or runs, whose newest rows are put together at most."""
SESSIONS_OF_A_YEAR = 252
ALONE = ("mode", "engine_name", "market_id", "region", "phase", "status")
"""Filters that choose by a column of the same name."""
RARE = "mode <> 'BACKTEST'"
MOST_RUNS = 50
"""Runs that are asked for rows of a table before a listing is empty."""
MOST_RUNS_BY_NAME = 5
"""The same where only a name is asked for: a key goes by session first, so that a run without the
name is read from end to end."""


@dataclass(frozen=True)
class Filters:
    """What a `show` command may ask for; None is no restriction.

    portfolio_id : a portfolio id, a sleeve id, or a strategy id, which matches all its sleeves.
    entity_id : an instrument, or what else a row is about.
    """

    portfolio_id: str | None = None
    strategy_id: str | None = None
    run_id: str | None = None
    mode: str | None = None
    as_of: date | None = None
    limit: int = 50
    market_id: str | None = None
    entity_id: str | None = None
    engine_name: str | None = None
    region: str | None = None
    phase: str | None = None
    status: str | None = None


@dataclass(frozen=True)
class Listing:
    """A table that people list: which columns, and what orders and dates its rows.

    by : what its rows are found by
        "time": an index of the whole table; "run": the rows of one run; "small": few rows.
    scope : the column of the key between run and session, of tables by run
    """

    table: sa.Table
    columns: tuple[str, ...]
    newest_first: tuple[str, ...]
    as_of_column: str | None = None
    by: str = "time"
    scope: str | None = None
    heeds: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Work out which filters a listing heeds, from the columns that it has."""
        names = {name for name, column in self._choices().items() if column is not None}
        object.__setattr__(self, "heeds", frozenset(names))

    def column(self, name: str) -> sa.Column[Any]:
        """Return the column that a filter chooses by."""
        chosen = self._choices()[name]
        if chosen is None:
            raise ConfigError(f"--{name}: {self.table.name} has nothing to choose by it")
        return self.table.c[chosen]

    def _choices(self) -> dict[str, str | None]:
        has = self.table.c
        by_run = "run_id" if "run_id" in has else None
        of_strategy = next((name for name in ("strategy_id", "family") if name in has), by_run)
        through = None if self.by == "small" else by_run
        of_portfolio = next((n for n in ("portfolio_id", "sleeve_id") if n in has), through)
        # What no index of a table that spans runs begins with would be looked for in all its rows.
        spans = self.by == "time" and self.table is not tables.backtest_runs
        entity = () if spans else ("instrument_id", "entity_id")
        rest = () if spans else ("market_id", "region", "phase", "status")
        alone = ("mode", "engine_name")
        return {
            "portfolio_id": of_portfolio,
            "strategy_id": of_strategy,
            "run_id": by_run,
            "as_of": self.as_of_column,
            "entity_id": next((name for name in entity if name in has), None),
            **{name: name if name in has and name in (*alone, *rest) else None for name in ALONE},
        }


def _by_run(
    table: sa.Table, columns: str, *, scope: str | None = None, dated: str | None = "as_of_date"
) -> Listing:
    """Return a listing of one run's rows in the reverse of their key."""
    keys = [column.name for column in table.primary_key if column.name != "run_id"]
    if table is tables.backtest_trades:
        keys = ["trade_date", "trade_id"]
    if table is trading.order_status_history:
        keys = ["session", "timestamp", "event_id"]
    return Listing(table, tuple(columns.split()), tuple(keys), dated, "run", scope)


def _small(table: sa.Table, columns: str, newest: str, dated: str | None = None) -> Listing:
    return Listing(table, tuple(columns.split()), tuple(newest.split()), dated, "small")


def _spanning(table: sa.Table, columns: str, newest: str, dated: str | None = None) -> Listing:
    return Listing(table, tuple(columns.split()), tuple(newest.split()), dated)


LISTINGS = {
    "runs": _spanning(
        tables.backtest_runs,
        "run_id strategy_id sleeve_id mode status start_date end_date dataset_id order_list_hash"
        " created_at metrics_json",
        "created_at run_id",
    ),
    "orders": _spanning(
        tables.orders,
        "timestamp portfolio_id instrument_id side order_type quantity filled_quantity status mode"
        " decision_id order_id",
        "timestamp order_id",
    ),
    "fills": _spanning(
        tables.fills,
        "timestamp portfolio_id order_id instrument_id side quantity price commission mode fill_id",
        "timestamp fill_id",
    ),
    "positions": _spanning(
        tables.positions_snapshots,
        "portfolio_id timestamp as_of_date instrument_id quantity avg_cost market_value"
        " unrealized_pnl mode run_id",
        "as_of_date run_id instrument_id",
        "as_of_date",
    ),
    "decisions": _spanning(
        tables.engine_decisions,
        "decision_id engine_name run_id strategy_id market_id as_of_date config_id input_refs"
        " output_refs",
        "as_of_date decision_id",
        "as_of_date",
    ),
    "trials": _small(
        operations.trials,
        "recorded_at family sleeve_id start_date end_date status sharpe_per_session observations"
        " run_id reason",
        "recorded_at trial_id",
    ),
    "risk-actions": _spanning(
        tables.risk_actions,
        "as_of_date strategy_id instrument_id action_type details_json decision_id mode run_id",
        "as_of_date run_id action_id",
        "as_of_date",
    ),
    "engine-runs": _small(
        operations.engine_runs,
        "run_id as_of_date region strategy_id mode phase phase_started_at phase_completed_at"
        " created_at updated_at error",
        "as_of_date run_id",
        "as_of_date",
    ),
    "equity": _by_run(
        tables.backtest_daily_equity,
        "run_id as_of_date equity drawdown cash gross_exposure net_exposure",
        dated="date",
    ),
    "trades": _by_run(
        tables.backtest_trades,
        "run_id as_of_date instrument_id side quantity price commission pnl sleeve_id",
        dated="trade_date",
    ),
    "executed-actions": Listing(
        tables.executed_actions,
        (
            *("run_id", "trade_date", "instrument_id", "side", "quantity", "price"),
            *("decision_price", "slippage_bps", "spread_cost", "impact_cost", "fees", "action_id"),
        ),
        ("trade_date", "action_id"),
        "trade_date",
        "run",
    ),
    "order-history": _by_run(
        trading.order_status_history,
        "timestamp session order_id status quantity filled_quantity reason mode run_id event_id",
        dated="session",
    ),
    "cash-flows": _by_run(
        tables.cash_flows,
        "run_id session kind instrument_id quantity amount",
        scope="portfolio_id",
        dated="session",
    ),
    "universe-members": _by_run(
        tables.universe_members,
        "run_id universe_id as_of_date entity_id included tier score reasons",
        scope="universe_id",
    ),
    "profiles": _by_run(
        tables.profiles, "run_id as_of_date instrument_id weak_profile risk_flags structured"
    ),
    "stability": _by_run(
        tables.stability_vectors,
        "run_id as_of_date entity_id overall_score vector_components",
        scope="entity_type",
    ),
    "soft-targets": _by_run(
        tables.soft_target_classes,
        "run_id as_of_date entity_id soft_target_class soft_target_score weak_profile instability"
        " high_fragility complacent_pricing",
        scope="entity_type",
    ),
    "fragility": _by_run(
        tables.fragility_measures,
        "run_id as_of_date entity_id fragility_class fragility_score drawdown_probability"
        " scenario_losses",
        scope="entity_type",
    ),
    "scores": _by_run(
        tables.instrument_scores,
        "run_id market_id as_of_date instrument_id horizon_days signal_label score expected_return"
        " confidence alpha_components",
        scope="market_id",
    ),
    "regimes": _by_run(
        tables.regimes,
        "run_id region as_of_date regime_label confidence probabilities change_risk",
        scope="region",
    ),
    "regime-transitions": _by_run(
        tables.regime_transitions,
        "run_id region as_of_date from_regime_label to_regime_label",
        scope="region",
    ),
    "targets": _by_run(
        tables.target_portfolios,
        "run_id portfolio_id as_of_date target_positions optimization_params",
        scope="portfolio_id",
    ),
    "book-targets": _by_run(
        tables.book_targets,
        "run_id book_id as_of_date region entity_id target_weight",
        scope="book_id",
    ),
    "risk-reports": _by_run(
        tables.portfolio_risk_reports,
        "run_id portfolio_id as_of_date portfolio_value net_exposure gross_exposure leverage"
        " risk_metrics scenario_pnl exposures_by_sector exposures_by_factor",
        scope="portfolio_id",
    ),
    "findings": _by_run(
        tables.run_findings, "run_id code severity message remedy evidence", dated=None
    ),
    "jobs": _small(
        governance.jobs,
        "job_id kind status progress message worker attempt created_at started_at completed_at"
        " error",
        "created_at job_id",
    ),
    "job-executions": _small(
        governance.job_executions,
        "job_id as_of_date market_id status attempt_number started_at completed_at next_attempt_at"
        " owner error_message error_details",
        "as_of_date job_id execution_id",
        "as_of_date",
    ),
    "alerts": _small(
        trading.alerts,
        "last_at severity rule subject message count first_at acknowledged_by resolved_at alert_id",
        "last_at alert_id",
    ),
    "proposals": _small(
        governance.meta_config_proposals,
        "proposal_id strategy_id status proposal_type target_component current_value"
        " proposed_value confidence_score expected_sharpe_improvement created_at rationale",
        "created_at proposal_id",
    ),
    "changes": _small(
        governance.config_change_log,
        "change_id proposal_id strategy_id change_type target_component previous_value new_value"
        " is_reverted applied_by applied_at",
        "applied_at change_id",
    ),
    "experiments": _small(
        governance.experiments,
        "experiment_id name strategy_id status created_at spec rationale",
        "created_at experiment_id",
    ),
    "experiment-results": _small(
        governance.experiment_results,
        "experiment_id arm run_id verdict created_at metrics",
        "created_at experiment_id arm run_id",
    ),
    "strategies": _small(
        governance.strategies, "strategy_id name metadata created_at updated_at", "strategy_id"
    ),
    "portfolios": _small(
        governance.portfolios,
        "portfolio_id strategy_id sleeve_id base_currency created_at updated_at",
        "portfolio_id",
    ),
    "engine-configs": _small(
        governance.engine_configs,
        "config_id engine_name version created_at created_by config_body",
        "created_at config_id",
    ),
    "models": _small(
        governance.models,
        "model_id code_hash engine_name type config_id created_at created_by",
        "created_at model_id",
    ),
}


def listing(database: Database, name: str, filters: Filters) -> tuple[tuple[str, ...], list[Row]]:
    """Return the columns and the newest rows of a listing, newest first.

    Raises
    ------
    ConfigError
        If there is no such listing.
    """
    if name not in LISTINGS:
        raise ConfigError(f"show: unknown listing {name!r}; known: {', '.join(LISTINGS)}")
    spec = LISTINGS[name]
    with database.reader() as connection:
        queries = listing_queries(connection, spec, filters)
        found = [tuple(row) for query in queries for row in connection.execute(query)]
    return spec.columns, _newest(spec, found, filters.limit) if len(queries) > 1 else found


def listing_queries(
    connection: Connection, spec: Listing, filters: Filters
) -> "list[sa.Select[Any]]":
    """Return the statements of whose rows the newest answer; none where no run has what is asked.

    They differ in their values alone, so that they are compiled once: a union of them would be
    compiled anew for every number of portfolios.
    """
    if spec.by == "run":
        run_id = _run_of(connection, spec, filters)
        return [] if run_id is None else [_query(spec, _of_run(spec, filters, run_id), filters)]
    own = _conditions(spec, filters)
    scopes = _scopes(connection, spec, filters)
    return [_query(spec, [*scope, *own], filters) for scope in scopes]


Conditions = list[sa.ColumnElement[bool]]


def _query(spec: Listing, conditions: Conditions, filters: Filters) -> "sa.Select[Any]":
    columns = (spec.table.c[name] for name in spec.columns)
    newest = (spec.table.c[name].desc() for name in spec.newest_first)
    return sa.select(*columns).where(*conditions).order_by(*newest).limit(filters.limit)


def _newest(spec: Listing, rows: list[Row], limit: int) -> list[Row]:
    """Return the newest of rows that several statements found; what is not shown orders nothing."""
    places = [spec.columns.index(name) for name in spec.newest_first if name in spec.columns]
    rows.sort(key=lambda row: tuple(row[place] for place in places), reverse=True)
    return rows[:limit]


def _conditions(spec: Listing, filters: Filters) -> Conditions:
    """Return what the rows themselves must satisfy, apart from whose they are."""
    names = ("as_of", "market_id", "entity_id", "engine_name", "region", "phase", "status")
    found: Conditions = [
        spec.column(name) == getattr(filters, name)
        for name in names
        if name in spec.heeds and getattr(filters, name) is not None
    ]
    if filters.mode is not None and "mode" in spec.heeds:
        found.append(spec.column("mode") == filters.mode)
        if filters.mode != "BACKTEST" and spec.by == "time":
            # Written out, so that both engines see that the index of rare modes covers it.
            found.append(sa.text(RARE))  # type: ignore[arg-type]
    return found


def _scopes(connection: Connection, spec: Listing, filters: Filters) -> list[Conditions]:
    """Return whose rows are wanted, as alternatives; of each an index gives the newest."""
    own: Conditions = []
    if filters.strategy_id is not None and "strategy_id" in spec.heeds:
        own.append(spec.column("strategy_id") == filters.strategy_id)
    if filters.run_id is not None and "run_id" in spec.heeds:
        own.append(spec.table.c.run_id == filters.run_id)
    if spec.table is tables.positions_snapshots:
        return _scopes_of_positions(connection, filters, own)
    if filters.portfolio_id is None or "portfolio_id" not in spec.heeds:
        return [own]
    if "portfolio_id" in spec.table.c or "sleeve_id" in spec.table.c:
        return [[*own, condition] for condition in _of_portfolio(connection, spec, filters)]
    if _is_strategy(connection, filters.portfolio_id):
        return [[*own, spec.column("strategy_id") == filters.portfolio_id]]
    runs = _runs(connection, Filters(portfolio_id=filters.portfolio_id), MOST_SCOPES)
    return [[*own, spec.column("run_id") == run_id] for _, run_id in runs]


def _of_portfolio(connection: Connection, spec: Listing, filters: Filters) -> Conditions:
    asked = filters.portfolio_id or ""
    if _is_strategy(connection, asked):
        return [spec.column("strategy_id") == asked]
    if "portfolio_id" not in spec.table.c:
        return [spec.table.c.sleeve_id == asked.removesuffix("_PORTFOLIO")]
    return [spec.table.c.portfolio_id == name for name in (asked, f"{asked}_PORTFOLIO")]


def _scopes_of_positions(
    connection: Connection, filters: Filters, own: Conditions
) -> list[Conditions]:
    """Return one alternative per portfolio: the key begins with it.

    Positions of rare modes have an index of their own.
    """
    held = tables.positions_snapshots.c
    if filters.mode not in (None, "BACKTEST"):
        if filters.portfolio_id is None:
            return [own]
        return [[*own, held.portfolio_id.in_(_portfolios(connection, filters))]]
    if filters.run_id is not None:
        return [[*own, *_of_positions_run(connection, filters, filters.run_id)]]
    return [[*own, held.portfolio_id == name] for name in _portfolios(connection, filters)]


def _of_positions_run(connection: Connection, filters: Filters, run_id: str) -> Conditions:
    """Return the portfolio and the sessions of a run: with the run itself, a position's whole key.

    An index by run would cost a third of the writing of the table that has the most rows.
    """
    runs, days = tables.backtest_runs.c, tables.backtest_daily_equity.c
    held = tables.positions_snapshots.c
    query = sa.select(runs.portfolio_id, runs.mode).where(runs.run_id == run_id)
    found = connection.execute(query).first()
    if found is None or found[1] != "BACKTEST":
        return [held.mode.in_(("PAPER", "LIVE")), sa.text(RARE)]  # type: ignore[list-item]
    if filters.as_of is not None:
        return [held.portfolio_id == found[0]]
    sessions = sa.select(days.date).where(days.run_id == run_id).order_by(days.date.desc())
    newest = sessions.limit(max(filters.limit, SESSIONS_OF_A_YEAR))
    return [held.portfolio_id == found[0], held.as_of_date.in_(newest)]


def _portfolios(connection: Connection, filters: Filters) -> list[str]:
    """Return the portfolios with positions that are of the one, or of the strategy, asked for."""
    held, runs = tables.positions_snapshots.c, tables.backtest_runs.c
    asked = [name for name in (filters.portfolio_id, filters.strategy_id) if name is not None]
    strategies = [name for name in asked if _is_strategy(connection, name)]
    named = [name for name in asked if name not in strategies]
    if named:
        return [named[0], f"{named[0]}_PORTFOLIO"]
    every = _distinct(connection, held.portfolio_id)
    if not strategies:
        return every
    query = sa.select(runs.portfolio_id).where(runs.strategy_id.in_(strategies)).distinct()
    known = governance.portfolios.c
    registered = sa.select(known.portfolio_id).where(known.strategy_id.in_(strategies))
    theirs = set(connection.execute(sa.union(query, registered)).scalars())
    return [name for name in every if name in theirs]


def is_known(database: Database, name: str) -> bool:
    """Return whether a strategy, a sleeve or a portfolio of this name has ever begun a run."""
    runs, known = tables.backtest_runs.c, governance.portfolios.c
    columns = (runs.portfolio_id, runs.sleeve_id, known.portfolio_id)
    with database.reader() as connection:
        queries = (sa.select(column).where(column == name).limit(1) for column in columns)
        of_sleeve = any(connection.execute(query).first() is not None for query in queries)
        return of_sleeve or _is_strategy(connection, name)


def _is_strategy(connection: Connection, name: str) -> bool:
    columns = (governance.strategies.c.strategy_id, tables.backtest_runs.c.strategy_id)
    queries = (sa.select(column).where(column == name).limit(1) for column in columns)
    return any(connection.execute(query).first() is not None for query in queries)


def _distinct(connection: Connection, column: sa.Column[str]) -> list[str]:
    """Return the different values of a column that an index begins with, one seek for each."""
    values: list[str] = []
    query = sa.select(column).order_by(column).limit(1)
    found = connection.execute(query).scalar()
    while found is not None and len(values) < MOST_SCOPES:
        values.append(found)
        found = connection.execute(query.where(column > found)).scalar()
    return values


def _run_of(connection: Connection, spec: Listing, filters: Filters) -> str | None:
    """Return the run whose rows are listed: the one asked for, else the newest that has rows."""
    if filters.run_id is not None:
        return filters.run_id
    by_name_alone = filters.entity_id is not None and filters.as_of is None
    most = MOST_RUNS_BY_NAME if by_name_alone and "entity_id" in spec.heeds else MOST_RUNS
    days, runs = _day_runs(connection, filters)[:most], _runs(connection, filters, most)
    # Of a session, its own day comes before backtests that only passed through it.
    fitting = days + runs if filters.as_of else sorted(days + runs, reverse=True)
    for _, run_id in fitting:
        query = sa.select(sa.literal(1)).select_from(spec.table)
        rows = query.where(*_of_run(spec, filters, run_id)).limit(1)
        if connection.execute(rows).first() is not None:
            return run_id
    return None


def _runs(connection: Connection, filters: Filters, most: int) -> list[tuple[datetime, str]]:
    """Return the newest runs that fit, from the table of runs, and when each began."""
    runs = tables.backtest_runs.c
    query = sa.select(runs.created_at, runs.run_id).order_by(runs.created_at.desc()).limit(most)
    wanted = (
        (runs.strategy_id, filters.strategy_id),
        (runs.mode, filters.mode),
        (runs.market_id, filters.market_id),
    )
    query = query.where(*(column == value for column, value in wanted if value is not None))
    if filters.as_of is not None:
        query = query.where(runs.start_date <= filters.as_of, runs.end_date >= filters.as_of)
    if filters.portfolio_id is not None:
        named = (filters.portfolio_id, f"{filters.portfolio_id}_PORTFOLIO")
        strategy = _is_strategy(connection, filters.portfolio_id)
        asked = runs.strategy_id == filters.portfolio_id if strategy else None
        query = query.where(runs.portfolio_id.in_(named) if asked is None else asked)
    return [(row[0], row[1]) for row in connection.execute(query)]


def _day_runs(connection: Connection, filters: Filters) -> list[tuple[datetime, str]]:
    """Return the runs of days that fit, newest first: one of each sleeve."""
    days = operations.engine_runs.c
    query = sa.select(days.created_at, days.run_id, days.strategy_id)
    query = query.order_by(days.as_of_date.desc()).limit(MOST_RUNS)
    wanted = (
        (days.as_of_date, filters.as_of),
        (days.mode, filters.mode),
        (days.strategy_id, filters.strategy_id),
    )
    query = query.where(*(column == value for column, value in wanted if value is not None))
    return [
        (began, day_run_id(run_id, sleeve_id))
        for began, run_id, strategy_id in connection.execute(query).all()
        for sleeve_id in _sleeves(connection, strategy_id, filters.portfolio_id)
    ]


def _sleeves(connection: Connection, strategy_id: str, asked: str | None) -> list[str]:
    """Return the sleeves of a strategy, or the one asked for."""
    known = governance.portfolios.c
    query = sa.select(known.sleeve_id).where(known.strategy_id == strategy_id)
    if asked not in (None, strategy_id):
        query = query.where((known.portfolio_id == asked) | (known.sleeve_id == asked))
    return sorted(set(connection.execute(query).scalars()))


def _of_run(spec: Listing, filters: Filters, run_id: str) -> Conditions:
    """Return the conditions of one run's rows; they begin like the key of the table."""
    table = spec.table
    found: Conditions = [table.c.run_id == run_id]
    if spec.scope is not None:
        scope = table.c[spec.scope]
        within = sa.select(sa.func.max(scope)).where(table.c.run_id == run_id)
        found.append(scope == within.scalar_subquery())
    return [*found, *_conditions(spec, filters)]
