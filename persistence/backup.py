"""Copies of a database that can be put back: of SQLite one file, of PostgreSQL a dump.

Rules of a backup:

- It is taken while others read and write, and shows one moment of the database.
- A file has its name only when it is whole, checked and on the disk.
- Nothing is overwritten unless asked; a database in use is not replaced under its users.
- Databases only: run folders and scenario files are copied like any file, and their hashes are in
  the database.
"""

import hashlib
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, inspect, make_url

from persistence.database import BUSY_TIMEOUT_MS, Database
from persistence.schema import BRANCHES
from prometheus_nt.domain.errors import ConfigError, StoreError

SQLITE_MARK, POSTGRES_MARK = b"SQLite format 3\0", b"PGDMP"


@dataclass(frozen=True)
class Backup:
    """One file that holds a database."""

    name: str
    path: Path
    bytes: int
    sha256: str


def back_up(url: str, name: str, folder: Path) -> Backup:
    """Copy the database at `url` into `folder` as `<name>-<UTC time>`; return what was written.

    Raises
    ------
    StoreError
        If there is no such database, the copy is not whole, or `pg_dump` is needed and missing.
    """
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    target = folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}Z.{'db' if sqlite else 'dump'}"
    if target.exists():
        raise StoreError(f"{target}: exists already; wait a second, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        if sqlite:
            _copy_sqlite(_existing(parsed), staged)
        else:
            _run("pg_dump", parsed, "--format=custom", "--no-owner", f"--file={staged}")
        _put(staged, target)
    finally:
        staged.unlink(missing_ok=True)
    return Backup(name, target, target.stat().st_size, _sha256(target))


def restore(file: Path, urls: dict[str, str], *, force: bool = False) -> list[str]:
    """Put a backup in the place of the database whose schema it holds; return the schemas.

    Parameters
    ----------
    urls : address of the database of each schema
    force : bool
        Replace what is there.

    Raises
    ------
    ConfigError
        If the backup is of another engine than the database, or of none that we know.
    StoreError
        If there is a database already, somebody uses it, or the backup is damaged.
    """
    sqlite = _is_sqlite(file)
    held = _held_by_sqlite(file) if sqlite else _held_by_dump(file, urls)
    if not held:
        raise ConfigError(f"{file}: holds none of our schemas: {', '.join(BRANCHES)}")
    url = make_url(urls[held[0]])
    if (url.get_backend_name() == "sqlite") != sqlite:
        raise ConfigError(
            f"{file}: is of {'SQLite' if sqlite else 'PostgreSQL'}, the {held[0]} database is at "
            f"{url.render_as_string(hide_password=True)}; name one of the same kind"
        )
    if sqlite:
        _restore_sqlite(file, Path(url.database or ""), force)
    else:
        _restore_postgres(file, url, force)
    return held


def _existing(url: URL) -> Path:
    path = Path(url.database or "")
    if not path.exists():
        raise StoreError(f"{path}: no such database; run `prometheus db upgrade`")
    return path


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database page by page as of one moment, and check the copy."""
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as read,
            closing(sqlite3.connect(target)) as write,
        ):
            read.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            read.backup(write)
            # One file: a copy must not need a write-ahead log beside it.
            write.execute("PRAGMA journal_mode=DELETE")
            verdict = write.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as refused:
        raise StoreError(f"{source}: cannot be copied: {refused}") from refused
    if verdict != "ok":
        raise StoreError(f"{source}: the copy is damaged: {verdict}")


def _restore_sqlite(file: Path, target: Path, force: bool) -> None:
    if target.exists():
        if not force:
            raise StoreError(f"{target}: exists already; --force replaces it")
        _require_unused(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        _copy_sqlite(file, staged)
        _put(staged, target)
    finally:
        staged.unlink(missing_ok=True)


def _require_unused(path: Path) -> None:
    """Fold the write-ahead log into the file, which only the last user of a database can do."""
    with closing(sqlite3.connect(path, timeout=1.0)) as connection:
        try:
            mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        except sqlite3.DatabaseError as refused:
            if "not a database" in str(refused) or "malformed" in str(refused):
                return
            raise StoreError(f"{path}: is in use: {refused}; stop what uses it") from refused
    if mode != "delete":
        raise StoreError(f"{path}: is in use; stop what uses it")


def _restore_postgres(file: Path, url: URL, force: bool) -> None:
    database = Database.open(url.render_as_string(hide_password=False))
    try:
        with database.reader() as connection:
            tables = inspect(connection).get_table_names()
    finally:
        database.close()
    if tables and not force:
        raise StoreError(f"{database.safe_url}: has tables already; --force replaces them")
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    _run("pg_restore", url, *options, str(file))


def _is_sqlite(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(SQLITE_MARK))
    except OSError as unreadable:
        raise StoreError(f"{file}: cannot be read: {unreadable}") from unreadable
    if begins == SQLITE_MARK:
        return True
    if begins.startswith(POSTGRES_MARK):
        return False
    raise ConfigError(f"{file}: is no backup of ours: neither SQLite's nor PostgreSQL's")


def _held_by_sqlite(file: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            found = {row[0] for row in opened.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as damaged:
        raise StoreError(f"{file}: is damaged: {damaged}") from damaged
    return [branch for branch in BRANCHES if f"alembic_version_{branch}" in found]


def _held_by_dump(file: Path, urls: dict[str, str]) -> list[str]:
    listed = _run("pg_restore", None, "--list", str(file))
    held = [branch for branch in BRANCHES if f"alembic_version_{branch}" in listed]
    if len({urls[branch] for branch in held}) > 1:
        raise ConfigError(
            f"{file}: holds {' and '.join(held)} in one database, but they are configured apart"
        )
    return held


def _run(program: str, url: URL | None, *arguments: str) -> str:
    """Run a program of PostgreSQL; the password goes by its environment, never by its arguments."""
    binary = shutil.which(program)
    if binary is None:
        raise StoreError(f"{program}: is not installed; install the PostgreSQL client programs")
    command, secret = [binary, *arguments], {}
    if url is not None:
        plain = url.set(drivername="postgresql", password=None)
        command.insert(1, f"--dbname={plain.render_as_string(hide_password=False)}")
        secret = {} if url.password is None else {"PGPASSWORD": str(url.password)}
    path = f"{Path(binary).parent}{os.pathsep}{os.defpath}"
    done = subprocess.run(
        command, env={"PATH": path, **secret}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise StoreError(f"{program}: failed: {reason[-1] if reason else 'without a word'}")
    return done.stdout


def _put(staged: Path, target: Path) -> None:
    """Give a file its name once it is on the disk."""
    _sync(staged, os.O_RDWR)
    staged.replace(target)
    _sync(target.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
