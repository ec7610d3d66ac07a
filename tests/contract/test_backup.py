"""A backup put back in a new place is the same database; nothing is lost or overwritten unasked."""

import hashlib
import shutil
import sqlite3
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from persistence import backup, schema
from persistence.database import Database, upsert
from persistence.tables.governance import strategies
from persistence.tables.historical import HISTORICAL, markets
from persistence.tables.runtime import RUNTIME
from prometheus_nt.domain.errors import ConfigError, StoreError

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def needs_dump(database):
    if database.dialect == "postgresql" and shutil.which("pg_dump") is None:
        pytest.skip("no pg_dump: install the PostgreSQL client programs")
    return database


def _write(database, number=3):
    rows = [(f"S{row}", f"name {row}", None, {"n": row}, NOW, NOW) for row in range(number)]
    market = ("US_EQ", "US", "US", "America/New_York", None, None, NOW, NOW)
    with database.writer() as connection:
        upsert(connection, strategies, strategies.columns.keys(), rows)
        upsert(connection, markets, markets.columns.keys(), [market])


def _content(database):
    """Return rows and a hash of every table: two databases agree only if all of it does."""
    content = {}
    with database.reader() as connection:
        for table in (*RUNTIME.sorted_tables, *HISTORICAL.sorted_tables):
            query = sa.select(table).order_by(*table.primary_key)
            rows = [tuple(row) for row in connection.execute(query)]
            content[table.name] = len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()
    return content


def _new_place(request, database, tmp_path):
    if database.dialect == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'copy.db'}"
    return request.getfixturevalue("postgres_url")("empty")


def _url(database):
    return database._url.render_as_string(hide_password=False)


def test_a_backup_restored_in_a_new_place_holds_the_same_rows(needs_dump, request, tmp_path):
    _write(needs_dump)
    place = _new_place(request, needs_dump, tmp_path)

    made = backup.back_up(_url(needs_dump), "runtime", tmp_path / "backups")
    held = backup.restore(made.path, dict.fromkeys(schema.BRANCHES, place))

    copy = Database.open(place)
    assert held == list(schema.BRANCHES)
    assert _content(copy) == _content(needs_dump)
    assert _content(copy)["strategies"][0] == 3
    for branch in schema.BRANCHES:
        schema.check(copy, branch)
    copy.close()
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [made.path.name]


def test_what_is_there_is_replaced_only_when_asked(needs_dump, tmp_path):
    _write(needs_dump)
    made = backup.back_up(_url(needs_dump), "runtime", tmp_path / "backups")
    before = _content(needs_dump)
    _write(needs_dump, number=9)
    later = _content(needs_dump)
    needs_dump.close()
    urls = dict.fromkeys(schema.BRANCHES, _url(needs_dump))

    with pytest.raises(StoreError, match="already; --force replaces"):
        backup.restore(made.path, urls)
    assert _content(needs_dump) == later
    needs_dump.close()
    backup.restore(made.path, urls, force=True)

    assert _content(needs_dump) == before != later


def test_a_database_in_use_is_not_replaced_under_its_users(sqlite_database, tmp_path):
    _write(sqlite_database)
    made = backup.back_up(_url(sqlite_database), "runtime", tmp_path / "backups")
    urls = dict.fromkeys(schema.BRANCHES, _url(sqlite_database))

    with (
        sqlite_database.reader() as connection,
        pytest.raises(StoreError, match="is in use"),
    ):
        connection.execute(sa.select(strategies)).all()
        backup.restore(made.path, urls, force=True)

    assert _content(sqlite_database)["strategies"][0] == 3


def test_a_backup_is_of_one_moment_while_somebody_writes(sqlite_database, tmp_path):
    _write(sqlite_database)

    with sqlite_database.writer() as connection:
        connection.execute(sa.delete(strategies))
        made = backup.back_up(_url(sqlite_database), "runtime", tmp_path / "backups")

    with sqlite3.connect(made.path) as copy:
        assert copy.execute("SELECT count(*) FROM strategies").fetchone() == (3,)


def test_a_file_that_is_no_backup_is_refused_by_name(tmp_path):
    text, foreign, cut = tmp_path / "notes.txt", tmp_path / "foreign.db", tmp_path / "cut.db"
    text.write_text("not a database")
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE t (x)")
    cut.write_bytes(foreign.read_bytes()[:60])
    urls = dict.fromkeys(schema.BRANCHES, f"sqlite:///{tmp_path / 'new.db'}")

    with pytest.raises(ConfigError, match=r"notes\.txt: is no backup of ours"):
        backup.restore(text, urls)
    with pytest.raises(ConfigError, match=r"foreign\.db: holds none of our schemas"):
        backup.restore(foreign, urls)
    with pytest.raises(StoreError, match=r"cut\.db: is damaged"):
        backup.restore(cut, urls)
    assert not (tmp_path / "new.db").exists()


def test_a_backup_of_another_engine_is_refused(sqlite_database, tmp_path):
    made = backup.back_up(_url(sqlite_database), "runtime", tmp_path)
    urls = dict.fromkeys(schema.BRANCHES, "postgresql://user:secret@nowhere/db")

    with pytest.raises(ConfigError, match="is of SQLite") as refused:
        backup.restore(made.path, urls)

    assert "secret" not in str(refused.value)


def test_a_missing_program_of_postgresql_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(backup.shutil, "which", lambda name: None)

    with pytest.raises(StoreError, match="pg_dump: is not installed; install"):
        backup.back_up("postgresql://user@nowhere/db", "runtime", tmp_path)

    assert list(tmp_path.iterdir()) == []
