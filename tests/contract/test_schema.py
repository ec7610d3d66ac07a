"""Both branches of the schema, on either engine, from nothing to head."""

import pytest
from sqlalchemy import inspect, text

from persistence import schema
from persistence.tables.historical import HISTORICAL
from prometheus_nt.domain.errors import ConfigError, StoreError


def test_an_upgrade_from_nothing_gives_the_schema_of_the_metadata(empty_database):
    schema.upgrade(empty_database, "historical")

    schema.check(empty_database, "historical")
    with empty_database.reader() as connection:
        assert set(HISTORICAL.tables) <= set(inspect(connection).get_table_names())


def test_both_branches_live_in_one_database(database):
    for branch in schema.BRANCHES:
        schema.check(database, branch)


def test_a_second_upgrade_changes_nothing(empty_database, capfd):
    schema.upgrade(empty_database, "historical")

    schema.upgrade(empty_database, "historical")

    schema.check(empty_database, "historical")
    assert capfd.readouterr() == ("", "")


def test_a_database_without_revisions_names_the_command(empty_database):
    with empty_database.writer() as connection:
        connection.execute(text("SELECT 1"))

    with pytest.raises(StoreError, match=r"is at nothing.*prometheus db upgrade"):
        schema.check(empty_database, "historical")


def test_a_foreign_column_is_named(database):
    with database.writer() as connection:
        connection.execute(text("ALTER TABLE markets ADD COLUMN surprise INTEGER"))

    with pytest.raises(StoreError, match=r"remove_column markets surprise"):
        schema.check(database, "historical")


def test_a_missing_table_is_named(database):
    with database.writer() as connection:
        connection.execute(text("DROP TABLE data_quality_events"))

    with pytest.raises(StoreError, match="add_table data_quality_events"):
        schema.check(database, "historical")


def test_an_unknown_branch_is_refused(database):
    with pytest.raises(ConfigError, match="known schemas: historical, runtime"):
        schema.upgrade(database, "future")


def test_a_migration_that_orphans_rows_is_rolled_back(sqlite_database):
    with (
        pytest.raises(StoreError, match="orphans a row"),
        sqlite_database.migration() as connection,
    ):
        connection.exec_driver_sql(
            "INSERT INTO dataset_instruments (dataset_id, instrument_id) VALUES ('x', 'y')"
        )

    with sqlite_database.reader() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM dataset_instruments")
        assert rows.scalar_one() == 0
