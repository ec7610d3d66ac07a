"""A PostgreSQL server that lives as long as a benchmark, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDERS = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")


@contextmanager
def own_postgres() -> Iterator[str]:
    """Yield the URL of a new database; its server flushes to disk as one in use does."""
    # A socket path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    data, log = folder / "data", folder / "log"
    # PostgreSQL refuses to run as root.
    owner = "postgres" if os.getuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    try:
        _run("initdb", "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", owner=owner)
        _run("pg_ctl", "-D", data, "-w", "-o", options, "-l", log, "start", owner=owner)
        yield f"postgresql+psycopg2://bench@/postgres?host={folder}"
        _run("pg_ctl", "-D", data, "-m", "immediate", "stop", owner=owner)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str | Path, owner: str | None) -> None:
    identity = {} if owner is None else {"user": owner, "group": owner, "extra_groups": []}
    command = [str(_binaries() / program), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **identity)


def _binaries() -> Path:
    """Return the folder of PG_BIN, of what is on PATH, or of the newest server installed."""
    if "PG_BIN" in os.environ:
        return Path(os.environ["PG_BIN"])
    if on_path := shutil.which("pg_ctl"):
        return Path(on_path).parent
    installed = [path for folder in FOLDERS for path in Path(folder).glob("*/bin/pg_ctl")]
    if not installed:
        raise SystemExit("no PostgreSQL: install a server, or name its programs in PG_BIN")
    return max(installed).parent
