"""What people list: found by an index whatever they ask for, newest first, of the run that fits."""

from datetime import UTC, date, datetime, timedelta
from itertools import combinations

import pytest
import sqlalchemy as sa

from persistence.database import upsert
from persistence.listings import LISTINGS, Filters, listing, listing_queries
from persistence.tables import columns, governance, operations
from persistence.tables import runtime as tables

FEW = {
    "engine_runs",
    "trials",
    "jobs",
    "job_executions",
    "alerts",
    "meta_config_proposals",
    "config_change_log",
    "experiments",
    "experiment_results",
    "strategies",
    "portfolios",
    "engine_configs",
    "models",
}
"""Tables that stay small: a row for a day, a trial, or a decision of a person."""
BEGAN = datetime(2024, 5, 1, tzinfo=UTC)
STRATEGY, SLEEVE = "US_CORE_LONG_EQ", "US_CORE_LONG_EQ_H21"
SESSIONS = [date(2024, 3, 4) + timedelta(days=day) for day in range(4)]
VALUES = {
    "run_id": f"{SLEEVE}-0",
    "mode": "BACKTEST",
    "strategy_id": STRATEGY,
    "sleeve_id": SLEEVE,
    "portfolio_id": f"{SLEEVE}_PORTFOLIO",
    "book_id": f"{SLEEVE}_PORTFOLIO",
    "market_id": "US_EQ",
    "region": "US",
    "entity_type": "INSTRUMENT",
    "universe_id": "CORE_EQ_US",
    "engine_name": "SLEEVE",
    "horizon_days": 21,
    "status": "PENDING",
}
ASKED = {
    "portfolio_id": (STRATEGY, SLEEVE, f"{SLEEVE}_PORTFOLIO"),
    "strategy_id": (STRATEGY,),
    "run_id": (f"{SLEEVE}-0",),
    "mode": ("BACKTEST", "PAPER"),
    "as_of": (SESSIONS[1],),
    "market_id": ("US_EQ",),
    "entity_id": ("A.US",),
    "engine_name": ("META_ORCHESTRATOR",),
    "region": ("US",),
    "phase": ("COMPLETED",),
    "status": ("COMPLETED",),
}


def _value(column, number, day):
    """Return a plain value of the column's kind; keys differ from row to row."""
    kind = column.type
    if column.name in VALUES:
        return VALUES[column.name]
    if column.name == "order_id" and column.foreign_keys:
        return f"{number}-{day}"
    if isinstance(kind, sa.Boolean):
        return True
    if isinstance(kind, sa.Integer | sa.Float):
        return day
    if isinstance(kind, sa.Date):
        return SESSIONS[day]
    if isinstance(kind, sa.JSON):
        return {"n": number}
    if isinstance(kind, sa.types.TypeDecorator):
        return BEGAN + timedelta(days=day)
    names = {"instrument_id": "AB"[number] + ".US", "entity_id": "AB"[number] + ".US"}
    return names.get(column.name, f"{number}-{day}")


def fill(connection, table, **changed):
    """Write two rows a session, the values of `changed` in each."""
    named = [table.c[name] for name in columns.written(table)]
    rows = [
        tuple(changed.get(one.name, _value(one, number, day)) for one in named)
        for number in range(2)
        for day in range(len(SESSIONS))
    ]
    upsert(connection, table, [one.name for one in named], rows)


@pytest.fixture
def filled(database):
    """Return a database with rows in every table that is listed, of one backtest and one day."""
    listed = {spec.table.name for spec in LISTINGS.values()}
    ordered = [table for table in tables.RUNTIME.sorted_tables if table.name in listed]
    with database.writer() as connection:
        for table in ordered:
            fill(connection, table)
        day = {"run_id": f"{STRATEGY}-US-20240305", "phase": "COMPLETED", "as_of_date": SESSIONS[1]}
        connection.execute(sa.delete(operations.engine_runs))
        connection.execute(sa.delete(governance.portfolios))
        fill(connection, operations.engine_runs, **day)
        fill(connection, governance.portfolios)
        span = {"start_date": SESSIONS[0], "end_date": SESSIONS[-1], "status": "COMPLETED"}
        fill(connection, tables.backtest_runs, **span)
    return database


def _plans(connection, query):
    """Return the steps by which the engine answers, a line each."""
    words = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    if connection.dialect.name == "postgresql":
        # Of a handful of rows reading all is cheapest; what matters is whether it can be avoided.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
    rows = connection.exec_driver_sql(f"{words} {text}")
    return [str(row[-1]) for row in rows]


def _scans(plan):
    """Return the tables that a step reads from end to end, without an index or a limit on it."""
    found = []
    for line in plan:
        words = line.replace("->", "").split()
        if words[:1] == ["SCAN"] and "USING" not in words and words[1] in tables.RUNTIME.tables:
            found.append(words[1])
        if words[:2] == ["Seq", "Scan"]:
            found.append(words[3])
    return [name for name in found if name not in FEW]


def _combinations(spec):
    names = sorted(name for name in ASKED if name in spec.heeds)
    for size in range(min(len(names), 3) + 1):
        for chosen in combinations(names, size):
            yield from _asked(chosen)
    yield from _asked(tuple(names))


def _asked(chosen):
    if not chosen:
        yield {}
        return
    first, *rest = chosen
    for value in ASKED[first]:
        for others in _asked(tuple(rest)):
            yield {first: value, **others}


def test_no_listing_reads_a_large_table_from_end_to_end(filled):
    for name, spec in LISTINGS.items():
        with filled.reader() as connection:
            for asked in _combinations(spec):
                queries = listing_queries(connection, spec, Filters(**asked, limit=50))
                # Several differ in their values alone.
                plan = _plans(connection, queries[0]) if queries else []

                assert not _scans(plan), (name, asked, plan)


def test_rows_of_a_rare_mode_are_found_by_an_index_of_them_alone(filled):
    for name in ("orders", "fills", "positions", "decisions", "risk-actions", "runs"):
        spec = LISTINGS[name]
        with filled.reader() as connection:
            (query,) = listing_queries(connection, spec, Filters(mode="PAPER"))
            plan = _plans(connection, query)

        assert any(f"ix_{spec.table.name}_traded" in line for line in plan), (name, plan)


def test_every_listing_finds_its_rows_the_newest_first(filled):
    for name, spec in LISTINGS.items():
        names, rows = listing(filled, name, Filters(limit=3))
        _, every = listing(filled, name, Filters(limit=100))

        assert 0 < len(rows) <= 3 and rows == every[: len(rows)], name
        shown = [name for name in spec.newest_first if name in names]
        keys = [tuple(row[names.index(name)] for name in shown) for row in every]
        assert keys == sorted(keys, reverse=True), name


def test_a_listing_of_what_engines_measured_is_of_the_newest_run_that_has_rows(filled):
    newer, empty = BEGAN + timedelta(days=40), BEGAN + timedelta(days=80)
    with filled.writer() as connection:
        fill(connection, tables.backtest_runs, run_id="newer", created_at=newer)
        fill(connection, tables.backtest_runs, run_id="empty", created_at=empty)
        fill(connection, tables.instrument_scores, run_id="newer")

    names, rows = listing(filled, "scores", Filters())
    _, older = listing(filled, "scores", Filters(run_id=f"{SLEEVE}-0"))

    run = names.index("run_id")
    assert {row[run] for row in rows} == {"newer"}
    assert {row[run] for row in older} == {f"{SLEEVE}-0"}


def test_of_a_session_its_own_day_comes_before_backtests_that_passed_through_it(filled):
    with filled.writer() as connection:
        fill(connection, tables.instrument_scores, run_id=f"{STRATEGY}-US-20240305:{SLEEVE}")

    names, rows = listing(filled, "scores", Filters(as_of=SESSIONS[1], strategy_id=STRATEGY))
    _, other = listing(filled, "scores", Filters(as_of=SESSIONS[2]))

    assert {row[names.index("run_id")] for row in rows} == {f"{STRATEGY}-US-20240305:{SLEEVE}"}
    assert {row[names.index("as_of_date")] for row in rows} == {SESSIONS[1]}
    assert {row[names.index("run_id")] for row in other} == {f"{SLEEVE}-0"}


def test_positions_of_several_portfolios_are_put_together_newest_first(filled):
    later = SESSIONS[-1] + timedelta(days=7)
    with filled.writer() as connection:
        fill(connection, tables.positions_snapshots, portfolio_id="OTHER", run_id="other")
        row = dict(portfolio_id="OTHER", run_id="other", as_of_date=later)
        fill(connection, tables.positions_snapshots, **row)

    names, rows = listing(filled, "positions", Filters(limit=3))
    _, ours = listing(filled, "positions", Filters(portfolio_id=SLEEVE, limit=100))
    _, by_run = listing(filled, "positions", Filters(run_id=f"{SLEEVE}-0", limit=100))

    assert [row[names.index("as_of_date")] for row in rows] == [later, later, SESSIONS[-1]]
    assert {row[0] for row in ours} == {f"{SLEEVE}_PORTFOLIO"}
    assert by_run == ours
