"""`db backup` and `db restore` at the command line, on either engine."""

import json
import shutil

import pytest
import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.tables.governance import strategies
from tests.contract.test_backup import NOW

pytestmark = pytest.mark.integration


@pytest.fixture(params=["sqlite", "postgres"])
def urls(request, monkeypatch, tmp_path):
    """Return the addresses of two databases of ours, as the environment says them."""
    if request.param == "sqlite":
        found = [f"sqlite:///{tmp_path / name}.db" for name in ("historical", "runtime")]
    elif shutil.which("pg_dump") is None:
        pytest.skip("no pg_dump: install the PostgreSQL client programs")
    else:
        new = request.getfixturevalue("postgres_url")
        found = [new("empty"), new("empty")]
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROMETHEUS_HISTORICAL_URL", found[0])
    monkeypatch.setenv("PROMETHEUS_RUNTIME_URL", found[1])
    return found


def _names(url):
    database = Database.open(url)
    with database.reader() as connection:
        found = connection.execute(sa.select(strategies.c.strategy_id)).scalars().all()
    database.close()
    return sorted(found)


def _add(url, name):
    database = Database.open(url)
    with database.writer() as connection:
        row = (name, name, None, None, NOW, NOW)
        upsert(connection, strategies, strategies.columns.keys(), [row])
    database.close()


def test_a_backup_brings_back_what_was_there_and_only_when_asked(prometheus, urls, tmp_path):
    _, runtime = urls
    assert prometheus("db", "upgrade")[0] == 0
    _add(runtime, "KEPT")

    code, out, err = prometheus("db", "backup", "--to", tmp_path / "copies", "--json")
    assert code == 0, err
    made = {row["database"]: row["file"] for row in json.loads(out)}
    _add(runtime, "LATER")
    refused, _, said = prometheus("db", "restore", made["runtime"])
    assert refused == 1 and "--force" in said
    assert _names(runtime) == ["KEPT", "LATER"]
    code, _, err = prometheus("db", "restore", made["runtime"], "--force")

    assert code == 0, err
    assert set(made) == {"historical", "runtime"}
    assert _names(runtime) == ["KEPT"]
    assert prometheus("db", "check")[0] == 0
