"""Whatever revision a database has stopped at, an upgrade brings it on and keeps what it holds."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence import schema

EARLIER = [
    (branch, revision) for branch in schema.BRANCHES for revision in schema.revisions(branch)[:-1]
]
ALLOWED = {
    "frequency": "QUARTERLY",
    "statement_type": "IS",
    "adjustment": "AS_TRADED",
    "action_type": "SPLIT",
    "status": "PENDING",
    "mode": "BACKTEST",
}
"""Values of columns that a constraint, or the meaning of an index, restricts."""
OLD_ROWS = Path("tests/contract/runtime_0005.sql")


def _value(column, row):
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return bool(row)
    if isinstance(kind, sa.DateTime):
        return datetime(2024, 5, 1, tzinfo=UTC) + timedelta(days=row)
    if isinstance(kind, sa.Date):
        return date(2024, 5, 1) + timedelta(days=row)
    if isinstance(kind, sa.JSON):
        return {"row": row, "nested": {"known": None, "values": [1.5, "x"]}}
    if isinstance(kind, sa.LargeBinary):
        return bytes([row, 0, 255])
    if isinstance(kind, sa.Integer):
        return row + 1
    if isinstance(kind, sa.Float | sa.Numeric):
        return row + 0.1
    return ALLOWED.get(column.name, f"x{row}")


def _plain(value):
    return bytes(value) if isinstance(value, memoryview) else value


def _reflected(database, branch):
    """Return the tables of a branch as they are now, in the order of their foreign keys."""
    found = sa.MetaData()
    with database.reader() as connection:
        found.reflect(connection)
    return [table for table in found.sorted_tables if not table.name.startswith("alembic_version")]


def _fill(database, tables):
    """Write two rows in every table and return them, by table; no column is left empty."""
    written = {}
    for table in tables:
        stored = [each for each in table.columns if each.computed is None]
        rows = [{each.name: _value(each, row) for each in stored} for row in range(2)]
        with database.writer() as connection:
            connection.execute(sa.insert(table), rows)
        written[table.name] = _read(database, table)
    return written


def _read(database, table):
    query = sa.select(table).order_by(*table.primary_key)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


RECOUNTED = {"revision"}
"""Columns that an upgrade counts anew: what came before revisions were kept is one of them."""
VIEWS = {"prices_daily"}
"""Tables that became views: `test_revisions` upgrades one with its rows."""


@pytest.mark.parametrize(("branch", "revision"), EARLIER, ids=["-".join(each) for each in EARLIER])
def test_rows_of_every_earlier_revision_survive_the_way_to_the_newest(
    empty_database, branch, revision
):
    schema.upgrade(empty_database, branch, revision)
    before = _fill(empty_database, _reflected(empty_database, branch))

    schema.upgrade(empty_database, branch)

    schema.check(empty_database, branch)
    after = {table.name: table for table in _reflected(empty_database, branch)}
    assert before and set(before) - VIEWS <= set(after)
    for name, rows in before.items():
        if name in VIEWS:
            continue
        found = _read(empty_database, after[name])
        columns = [column for column in rows[0] if column not in RECOUNTED]
        kept = [{column: _plain(row[column]) for column in columns} for row in found]
        assert kept == [{column: row[column] for column in columns} for row in rows], name


def test_what_is_known_of_older_rows_is_filled_in(empty_database):
    schema.upgrade(empty_database, "runtime", "0005")
    with empty_database.writer() as connection:
        for statement in OLD_ROWS.read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)

    schema.upgrade(empty_database, "runtime")

    with empty_database.reader() as connection:
        (trade,) = connection.exec_driver_sql(
            "SELECT as_of_date, side, quantity, sleeve_id FROM backtest_trades"
        )
        (day,) = connection.exec_driver_sql("SELECT as_of_date, equity FROM backtest_daily_equity")
        (report,) = connection.exec_driver_sql("SELECT report_id FROM portfolio_risk_reports")
        (portfolio,) = connection.exec_driver_sql(
            "SELECT portfolio_id, strategy_id, sleeve_id, base_currency FROM portfolios"
        )
        target = sa.table("target_portfolios", sa.column("optimization_params", sa.JSON))
        snapshot = sa.table("backtest_trades", sa.column("config_snapshot", sa.JSON))
        (params,) = connection.execute(sa.select(target)).scalars()
        (config,) = connection.execute(sa.select(snapshot)).scalars()

    assert (str(trade[0]), *trade[1:]) == ("2024-05-02", "BUY", 7.0, "S_H21")
    assert (str(day[0]), day[1]) == ("2024-05-02", 1000.5)
    assert report[0] == "S_H21-1:2024-05-02"
    assert tuple(portfolio) == ("S_H21_PORTFOLIO", "S", "S_H21", "USD")
    assert (params, config) == ({"method": "score"}, {"config_hash": "cafe"})
