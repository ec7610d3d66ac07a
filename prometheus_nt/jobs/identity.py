"""What code, packages and machine a run was made with."""

import ast
import hashlib
import platform
import subprocess
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
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


@cache
def engine_hash(module: str) -> str:
    """Return the content hash of a module and of every module of the project that it imports.

    It stays the same while anything else of the project changes.
    """
    state, names = hashlib.blake2b(digest_size=8), _with_imports(module)
    for name in sorted(names):
        state.update(name.encode())
        state.update(names[name])
    return state.hexdigest()


def _with_imports(module: str) -> dict[str, bytes]:
    """Return the source of a module and of what it imports of the project, by name."""
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in PACKAGES:
            continue
        spec = _spec(name)
        if spec is None:
            continue  # a function or a class of the module that is hashed
        source = Path(str(spec.origin)).read_bytes()
        found[name] = source
        waiting += _imported(source)
    return found


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:
        return None


def _imported(source: bytes) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
