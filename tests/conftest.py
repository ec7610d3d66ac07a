"""Databases for tests: SQLite files, and a throw-away PostgreSQL server where one is installed.

The server is the one of PROMETHEUS_TEST_PG_URL, else a cluster of our own from the binaries in
PG_BIN, on PATH or in the usual folders. Without any, tests on PostgreSQL are skipped with the
reason, which PROMETHEUS_REQUIRE_PG=1 turns into a failure.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

from persistence import schema
from persistence.database import Database

# The same examples every time: a check that fails by chance is not one that a change broke.
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

FOLDERS = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Return a database of both branches at their newest schema, on either engine."""
    yield from _opened(request, "migrated")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Return a database without a table, on either engine."""
    yield from _opened(request, "empty")


@pytest.fixture
def sqlite_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Return a migrated SQLite database, for tests that do not speak SQL themselves."""
    yield from _close(Database.open(_sqlite_url(request, "migrated")))


@pytest.fixture
def both_databases(request: pytest.FixtureRequest) -> Iterator[tuple[Database, Database]]:
    """Return a migrated database on SQLite and one on PostgreSQL."""
    sqlite = Database.open(_sqlite_url(request, "migrated"))
    new_url = request.getfixturevalue("postgres_url")
    postgres = Database.open(new_url("migrated"))
    yield sqlite, postgres
    sqlite.close()
    postgres.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """Yield the address of a server on which databases may be created."""
    given = os.environ.get("PROMETHEUS_TEST_PG_URL")
    if given:
        yield make_url(given)
        return
    binaries = _binaries()
    if binaries is None:
        reason = "no PostgreSQL: set PROMETHEUS_TEST_PG_URL or PG_BIN, or install a server"
        if os.environ.get("PROMETHEUS_REQUIRE_PG") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    for server in _cluster(binaries):
        yield server.url


@pytest.fixture
def stoppable_postgres() -> "Iterator[PostgresServer]":
    """Return a server that only this test uses."""
    binaries = _binaries()
    if binaries is None:
        reason = "no PostgreSQL server that may be stopped: set PG_BIN, or install one"
        if os.environ.get("PROMETHEUS_REQUIRE_PG") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield from _cluster(binaries)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: URL) -> Iterator[str]:
    name = f"template_{uuid.uuid4().hex[:8]}"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    _migrate(_text(postgres_server.set(database=name)))
    yield name
    _execute(postgres_server, f"DROP DATABASE {name}")


@pytest.fixture
def postgres_url(postgres_server: URL, postgres_template: str) -> Iterator[Callable[[str], str]]:
    """Return a function that makes a new database, `empty` or `migrated`."""
    made: list[str] = []

    def new(content: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = postgres_template if content == "migrated" else "template0"
        _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return _text(postgres_server.set(database=name))

    yield new
    for name in made:
        _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def _opened(request: pytest.FixtureRequest, content: str) -> Iterator[Database]:
    if request.param == "sqlite":
        url = _sqlite_url(request, content)
    else:
        url = request.getfixturevalue("postgres_url")(content)
    yield from _close(Database.open(url))


def _close(database: Database) -> Iterator[Database]:
    yield database
    database.close()


def _sqlite_url(request: pytest.FixtureRequest, content: str) -> str:
    path = request.getfixturevalue("tmp_path") / "test.db"
    if content == "migrated":
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


def _migrate(url: str) -> None:
    database = Database.open(url)
    for branch in schema.BRANCHES:
        schema.upgrade(database, branch)
    database.close()


def _binaries() -> Path | None:
    if "PG_BIN" in os.environ:
        return Path(os.environ["PG_BIN"])
    on_path = shutil.which("pg_ctl")
    if on_path:
        return Path(on_path).parent
    installed = [path for folder in FOLDERS for path in Path(folder).glob("*/bin/pg_ctl")]
    return max(installed).parent if installed else None


def _cluster(binaries: Path) -> "Iterator[PostgresServer]":
    # A socket path may have 107 bytes, so pytest's own folder would be too deep.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    owner = _unprivileged() if os.getuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    data = folder / "data"
    server = PostgresServer(binaries, folder, owner)
    try:
        init = ["initdb", "-D", data, "-U", "test", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        _run(binaries, init, owner)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class PostgresServer:
    """A server of our own, which a test may stop and start."""

    binaries: Path
    folder: Path
    owner: str | None

    @property
    def url(self) -> URL:
        where = {"host": str(self.folder)}
        return URL.create("postgresql", username="test", database="postgres", query=where)

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        options += " -c synchronous_commit=off -c full_page_writes=off"
        log = self.folder / "log"
        start = ["pg_ctl", "-D", self.folder / "data", "-w", "-o", options, "-l", log, "start"]
        _run(self.binaries, start, self.owner)

    def stop(self) -> None:
        """Stop as a crash would: nobody is asked, nothing is finished."""
        stop = ["pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop"]
        _run(self.binaries, stop, self.owner)


def _unprivileged() -> str:
    names = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    return "postgres" if "postgres" in names else "nobody"


def _run(binaries: Path, command: list[str | Path], owner: str | None) -> None:
    program = [str(binaries / command[0]), *map(str, command[1:])]
    identity = {} if owner is None else {"user": owner, "group": owner, "extra_groups": []}
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL, cwd="/", **identity)


def _execute(server: URL, statement: str) -> None:
    with closing(psycopg2.connect(_text(server))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _text(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
