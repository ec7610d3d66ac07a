"""What code, packages and machine a run was made with."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("prometheus_nt", "strategies", "adapters", "persistence")

DEPENDENCIES = (
    "nautilus_trader",
    "numpy",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "pydantic",
    "exchange_calendars",
    "plotly",
)


@cache
def code_hash() -> str:
    """Return the content hash of every source file of the project's packages."""
    state = hashlib.blake2b(digest_size=8)
    for package in PACKAGES:
        root = Path(import_module(package).__path__[0])
        for file in sorted(root.rglob("*.py")):
            state.update(f"{package}/{file.relative_to(root).as_posix()}".encode())
            state.update(file.read_bytes())
    return state.hexdigest()


def package_versions() -> dict[str, str | None]:
    """Return the versions of what determines results; None where a package is absent."""
    return {name: _version(name) for name in DEPENDENCIES}


def git_commit() -> str | None:
    """Return the commit of the checkout the code runs from, with `+` if it is changed; or None."""
    root = Path(import_module(PACKAGES[0]).__path__[0]).parent
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+" if _git(root, "status", "--porcelain") else "")


def platform_name() -> str:
    """Return the interpreter and the machine, in words."""
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
