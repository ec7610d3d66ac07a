"""What `prometheus show` costs over ten million rows: the slowest listing, as a ratio to its limit.

1. `_fill` writes one run by `_template`, then copies it inside the database under other names: runs
   of several strategies and sleeves, most of them backtests, and the days of each strategy.
2. `_measure` asks every listing for its newest rows by every filter that people use.

Example: python benchmarks/listings.py --rows 1000000 --url postgresql://user@host/empty_database
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from persistence import schema
from persistence.blocks import JsonText
from persistence.database import Database, upsert
from persistence.listings import LISTINGS, Filters, listing
from persistence.tables import governance, operations
from persistence.tables import runtime as tables
from persistence.tables.columns import written
from prometheus_nt.domain.calendar import MarketCalendar

MAX_MILLISECONDS = 50.0
ROWS = 10_000_000
ASKED_TIMES = 20

INSTRUMENTS = tuple(f"S{number:04d}.US" for number in range(200))
HELD, TRADED = INSTRUMENTS[:20], INSTRUMENTS[:50]
MARKET = ("US_EQ",)
SESSIONS = MarketCalendar.of("US_EQ").between(date(2022, 1, 3), date(2022, 12, 30)).tolist()
REBALANCES = SESSIONS[::21]
STRATEGIES = tuple(f"US_{name}_EQ" for name in ("CORE_LONG", "LONG_SHORT", "QUALITY", "TREND"))
SLEEVES = 12
"""Of a strategy, each run again and again."""
PAPER_EVERY = 100
"""Every so manieth run trades on paper."""
BEGAN = datetime(2024, 1, 2, tzinfo=UTC)

OF_A_SESSION = (
    (tables.positions_snapshots, SESSIONS, HELD),
    (tables.backtest_daily_equity, SESSIONS, MARKET),
    (tables.regimes, SESSIONS, MARKET),
    (tables.cash_flows, SESSIONS, MARKET),
    (operations.events, SESSIONS, MARKET),
    (tables.orders, REBALANCES, TRADED),
    (tables.fills, REBALANCES, TRADED),
    (tables.executed_actions, REBALANCES, TRADED),
    (tables.backtest_trades, REBALANCES, TRADED),
    (tables.book_targets, REBALANCES, TRADED),
    (tables.target_portfolios, REBALANCES, MARKET),
    (tables.portfolio_risk_reports, REBALANCES, MARKET),
    (tables.risk_actions, REBALANCES, HELD),
    (tables.regime_transitions, REBALANCES, MARKET),
    (tables.engine_decisions, REBALANCES, INSTRUMENTS[:9]),
)
OF_ENGINES = (
    tables.instrument_scores,
    tables.stability_vectors,
    tables.profiles,
    tables.soft_target_classes,
    tables.fragility_measures,
    tables.universe_members,
)
OF_A_RUN = (*OF_A_SESSION, *((table, REBALANCES, INSTRUMENTS) for table in OF_ENGINES))
OF_A_DAY = tuple((table, REBALANCES[-1:], INSTRUMENTS) for table in OF_ENGINES)
FEW = {
    operations.trials: 20_000,
    governance.jobs: 2_000,
    governance.meta_config_proposals: 1_000,
    governance.config_change_log: 1_000,
    governance.engine_configs: 1_000,
    governance.models: 1_000,
}
"""Tables that stay small, and how many rows they have here."""

TEMPLATE = "T"
OF_THE_RUN = ("run_id", "mode", "strategy_id", "sleeve_id", "portfolio_id", "book_id")
NAMED_BY_RUN = ("order_id", "fill_id", "action_id", "trade_id", "decision_id", "stream")
ENGINES = ("SLEEVE", *(stage.upper() for stage in ("profiles", "regime", "stability", "fragility")))
VALUES: dict[str, Any] = {
    "scenario_pnl": JsonText('{"covid": {"covered": 1.0, "pnl": -0.25}}'),
    "current_value": JsonText('{"value": 0.25}'),
    "proposed_value": JsonText('{"value": 0.5}'),
    "market_id": "US_EQ",
    "region": "US",
    "entity_type": "INSTRUMENT",
    "universe_id": "CORE_EQ_US",
    "horizon_days": 21,
    "kind": "DIVIDEND",
    "status": "PENDING",
}
DOCUMENT = JsonText('{"drawdown": 0.125, "momentum": 1.5, "trend": -0.25, "volatility": 0.1875}')


@dataclass(frozen=True)
class _Owner:
    """Whose rows a copy of the template is."""

    run_id: str
    mode: str
    strategy_id: str
    sleeve_id: str
    day: date | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the copying statement is given."""
        portfolio = f"{self.sleeve_id}_PORTFOLIO"
        of_books = {"portfolio_id": portfolio, "book_id": portfolio}
        return vars(self) | of_books | {"day": str(self.day)}


def main() -> None:
    """Fill a database, time every listing, and fail if one is slower than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--url", help="an empty database; by default a file that is thrown away")
    parser.add_argument("--keep", type=Path, help="the file to make, or to use again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.keep or Path(folder) / "runtime.db"
        ready = asked.keep is not None and path.exists()
        database = Database.open(asked.url or f"sqlite:///{path}")
        if not ready:
            _fill(database, asked.rows)
        worst = _report(database)
        database.close()
    if worst > MAX_MILLISECONDS:
        sys.exit(1)


def _fill(database: Database, rows: int) -> None:
    schema.upgrade(database, "runtime")
    begun = time.perf_counter()
    with database.writer() as connection:
        for table, sessions, names in OF_A_RUN:
            _template(connection, table, sessions, names)
    runs = rows // sum(len(sessions) * len(names) for _, sessions, names in OF_A_RUN) + 1
    owners = [_run(number) for number in range(runs)]
    for start in range(0, runs, 50):
        with database.writer() as connection:
            _copy(connection, OF_A_RUN, owners[start : start + 50])
    with database.writer() as connection:
        _copy(connection, OF_A_DAY, [_day(s, day) for s in STRATEGIES for day in SESSIONS[-60:]])
        _begun(connection, owners)
        _remove_template(connection)
        _few(connection)
    print(f"filled in {time.perf_counter() - begun:.0f} s")


def _run(number: int) -> _Owner:
    strategy = STRATEGIES[number % len(STRATEGIES)]
    sleeve = f"{strategy}_H{5 + number // len(STRATEGIES) % SLEEVES}"
    mode = "BACKTEST" if number % PAPER_EVERY else "PAPER"
    return _Owner(f"{sleeve}-{number:016x}", mode, strategy, sleeve)


def _day(strategy: str, day: date) -> _Owner:
    sleeve = f"{strategy}_H5"
    return _Owner(f"{strategy}-US-{day:%Y%m%d}:{sleeve}", "PAPER", strategy, sleeve, day)


def _template(
    connection: Connection, table: sa.Table, sessions: Sequence[date], names: Sequence[str]
) -> None:
    """Write the rows of one run."""
    columns = [table.c[name] for name in written(table)]
    rows = [
        tuple(_value(column, session, name, number) for column in columns)
        for number, (session, name) in enumerate((day, each) for day in sessions for each in names)
    ]
    upsert(connection, table, [column.name for column in columns], rows)


def _value(column: "sa.Column[Any]", session: date, name: str, number: int) -> Any:
    """Return a value of the column's kind; keys differ from row to row."""
    if column.name == "mode":
        return "BACKTEST"
    if column.name in OF_THE_RUN:
        return TEMPLATE
    if column.name in NAMED_BY_RUN:
        return TEMPLATE if column.name == "stream" else f"{number:06d}"
    if column.name == "engine_name":
        return ENGINES[number % len(ENGINES)]
    if column.name == "sequence":
        return number + 1
    return VALUES[column.name] if column.name in VALUES else _of_kind(column, session, name, number)


def _of_kind(column: "sa.Column[Any]", session: date, name: str, number: int) -> Any:
    at = datetime.combine(session, datetime.min.time(), UTC) + timedelta(hours=21)
    by_kind: tuple[tuple[type, Any], ...] = (
        (sa.Boolean, number % 3 == 0),
        (sa.Integer, number),
        (sa.Float, number / 7.0),
        (sa.Date, session),
        (sa.JSON, DOCUMENT),
        (sa.types.TypeDecorator, at),
    )
    text = name if column.name in ("instrument_id", "entity_id") else f"V{number % 10}"
    return next((value for kind, value in by_kind if isinstance(column.type, kind)), text)


def _copy(connection: Connection, parts: Sequence[Any], owners: Sequence[_Owner]) -> None:
    """Copy the template's rows of these tables and sessions for each owner."""
    for table, sessions, _ in parts:
        names = written(table)
        mark = "stream" if table is operations.events else "run_id"
        chosen = ", ".join(_copied(name, moved=owners[0].day is not None) for name in names)
        quoted = ", ".join(f'"{name}"' for name in names)
        since = f" AND as_of_date >= '{sessions[0]}'" if owners[0].day is not None else ""
        statement = sa.text(
            f"INSERT INTO {table.name} ({quoted}) SELECT {chosen} FROM {table.name}"
            f" WHERE {mark} = '{TEMPLATE}'{since}"
        )
        connection.execute(statement, [owner.parameters for owner in owners])


def _copied(name: str, *, moved: bool) -> str:
    if name in OF_THE_RUN:
        return f"CAST(:{name} AS VARCHAR)"
    if name == "as_of_date" and moved:
        return ":day"
    if name == "stream":
        return "CAST(:run_id AS VARCHAR)"
    return f"CAST(:run_id AS VARCHAR) || ':' || {name}" if name in NAMED_BY_RUN else f'"{name}"'


def _begun(connection: Connection, owners: Sequence[_Owner]) -> None:
    """Write the rows of the runs, of the days and of the portfolios themselves."""
    facts = {"start_date": SESSIONS[0], "end_date": SESSIONS[-1], "status": "COMPLETED"}
    runs = [
        {**owner.parameters, **facts, "created_at": BEGAN + timedelta(minutes=number)}
        for number, owner in enumerate(owners)
    ]
    _write(connection, tables.backtest_runs, runs)
    days = [
        {"run_id": f"{strategy}-US-{day:%Y%m%d}", "strategy_id": strategy, "as_of_date": day}
        | {"mode": "PAPER", "phase": "COMPLETED", "created_at": BEGAN}
        for strategy in STRATEGIES
        for day in SESSIONS
    ]
    _write(connection, operations.engine_runs, days)
    _write(connection, governance.strategies, [{"strategy_id": name} for name in STRATEGIES])
    sleeves = {owner.sleeve_id: owner.parameters for owner in owners}
    _write(connection, governance.portfolios, list(sleeves.values()))


def _remove_template(connection: Connection) -> None:
    for table in (tables.fills, *(table for table, *_ in OF_A_RUN)):
        mark = "stream" if table is operations.events else "run_id"
        connection.execute(sa.delete(table).where(table.c[mark] == TEMPLATE))


def _few(connection: Connection) -> None:
    for table, count in FEW.items():
        keys = [column.name for column in table.primary_key]
        numbered = [
            table.c[name] for name in (*keys, "proposal_id", "config_id") if name in table.c
        ]
        given = [_numbered(table, numbered, number) for number in range(count)]
        _write(connection, table, given)


def _numbered(table: sa.Table, columns: Sequence["sa.Column[Any]"], number: int) -> dict[str, Any]:
    """Return what tells a row from the others of its table, in order of time."""
    row: dict[str, Any] = {
        column.name: number if isinstance(column.type, sa.Integer) else f"{number:08d}"
        for column in columns
    }
    times = ("recorded_at", "created_at", "applied_at")
    row |= {name: BEGAN + timedelta(minutes=number) for name in times if name in table.c}
    if table is governance.jobs:
        # A server that opens this database has a worker: nothing waits for it.
        row["status"] = "COMPLETED"
    if "open_change" in table.c:
        row["open_change"] = None
    if "strategy_id" in table.c:
        row["strategy_id"] = STRATEGIES[number % len(STRATEGIES)]
    return row


def _write(connection: Connection, table: sa.Table, given: Sequence[dict[str, Any]]) -> None:
    """Write rows of which only some columns matter."""
    columns = [table.c[name] for name in written(table)]
    rows = [
        tuple(row.get(column.name, _value(column, SESSIONS[-1], "S", number)) for column in columns)
        for number, row in enumerate(given)
    ]
    upsert(connection, table, [column.name for column in columns], rows)


def _asked(owner: _Owner) -> dict[str, dict[str, Any]]:
    """Return what people ask for, by a name for it."""
    portfolio, session = f"{owner.sleeve_id}_PORTFOLIO", REBALANCES[5]
    return {
        "nothing": {},
        "session": {"as_of": session},
        "run": {"run_id": owner.run_id},
        "strategy": {"strategy_id": owner.strategy_id},
        "portfolio": {"portfolio_id": portfolio},
        "sleeve": {"portfolio_id": owner.sleeve_id},
        "all sleeves": {"portfolio_id": owner.strategy_id},
        "mode": {"mode": "PAPER"},
        "session, strategy": {"as_of": session, "strategy_id": owner.strategy_id},
        "session, run": {"as_of": session, "run_id": owner.run_id},
        "session, portfolio": {"as_of": session, "portfolio_id": portfolio},
        "mode, strategy": {"mode": "BACKTEST", "strategy_id": owner.strategy_id},
        "name": {"entity_id": INSTRUMENTS[7]},
        "a name nobody has": {"entity_id": "NOBODY.US"},
        "name, run": {"entity_id": INSTRUMENTS[7], "run_id": owner.run_id},
        "engine": {"engine_name": ENGINES[2]},
        "engine, strategy": {"engine_name": ENGINES[2], "strategy_id": owner.strategy_id},
        "status": {"status": "COMPLETED"},
        "a strategy nobody has": {"strategy_id": "NOBODY"},
        "a session long ago": {"as_of": date(2001, 3, 5)},
    }


def _measure(database: Database) -> Iterator[tuple[str, str, float]]:
    """Yield listing, question and the milliseconds that 95 of 100 answers stay under.

    SQLite answers in this process, from pages that memory holds: its processor time is what an
    idle machine would take, whatever else this one does. A server is timed by the clock.
    """
    clock = time.process_time if database.dialect == "sqlite" else time.perf_counter
    for name, spec in LISTINGS.items():
        for question, asked in _asked(_run(7)).items():
            if not set(asked) <= spec.heeds:
                continue
            taken = []
            for _ in range(ASKED_TIMES):
                begun = clock()
                listing(database, name, Filters(**asked, limit=50))
                taken.append(1e3 * (clock() - begun))
            yield name, question, float(np.quantile(taken, 0.95))


def _report(database: Database) -> float:
    """Print the slowest question of every listing; return its milliseconds."""
    with database.reader() as connection:
        tables_ = sorted({spec.table.name for spec in LISTINGS.values()} | {"events"})
        rows = {name: connection.execute(_count(name)).scalar_one() for name in tables_}
    print(f"{sum(rows.values()):,} rows on {database.dialect}\n")
    print(f"{'listing':<20}{'rows':>12}{'p95 ms':>9}{'/ limit':>9}  slowest question")
    slowest: dict[str, tuple[float, str]] = {}
    for name, question, taken in _measure(database):
        slowest[name] = max(slowest.get(name, (0.0, "")), (taken, question))
    for name, (taken, question) in slowest.items():
        of = rows[LISTINGS[name].table.name]
        print(f"{name:<20}{of:>12,}{taken:>9.1f}{taken / MAX_MILLISECONDS:>9.2f}  {question}")
    worst = max(taken for taken, _ in slowest.values())
    print(f"\nslowest p95 / limit of {MAX_MILLISECONDS:.0f} ms: {worst / MAX_MILLISECONDS:.2f}")
    return worst


def _count(name: str) -> "sa.Select[Any]":
    return sa.select(sa.func.count()).select_from(tables.RUNTIME.tables[name])


if __name__ == "__main__":
    main()
