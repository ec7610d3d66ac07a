"""What the simulator remembers over its own restarts: a file of one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_nt.domain.errors import ConfigError, StoreError


class Journal:
    """Appends facts to a file and reads them back; without a path it remembers nothing.

    Parameters
    ----------
    path : Path or None
    identity : str
        Of the accounts and the prices; a journal of others is refused.

    Raises
    ------
    ConfigError
        If the file was written for other accounts or prices.
    StoreError
        If a line other than a torn last one cannot be read.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path = path
        self._facts = [] if path is None or not path.exists() else list(_read(path))
        if self._facts and self._facts[0] != {"kind": "identity", "value": identity}:
            raise ConfigError(
                f"{path}: the journal is of other accounts or prices; choose another folder"
            )
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
            if not self._facts:
                self.write("identity", value=identity)

    def facts(self) -> list[dict[str, Any]]:
        """Return what was written before this start, oldest first."""
        return self._facts[1:]

    def write(self, kind: str, **fact: Any) -> None:
        """Append a fact; a killed process loses none that was written."""
        if self._file is not None:
            self._file.write(json.dumps({"kind": kind, **fact}) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as unreadable:
            raise StoreError(f"{path}: line {number}: {unreadable}; delete the file") from None


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        path.write_bytes(content[:whole])
