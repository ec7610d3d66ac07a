"""Run folders: files that appear whole or not at all, each with its hash."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from persistence.arrow import pa, pq
from prometheus_nt.domain.errors import StoreError

SESSIONS_PER_GROUP = 252
"""Sessions in a row group of measures: a reader of one day need not read ten years."""


@dataclass(frozen=True)
class Artifact:
    """One file of a run."""

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None
    kind: str


class RunFolder:
    """The folder of one run.

    A file is written beside its place, flushed to disk and renamed: a reader, or a crash, never
    finds half a file.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self.path = root / run_id
        self.written: dict[str, Artifact] = {}

    def write_text(self, name: str, text: str, kind: str) -> Artifact:
        return self._write(name, text.encode(), kind, None)

    def write_json(self, name: str, document: Mapping[str, Any]) -> Artifact:
        text = json.dumps(document, indent=2, sort_keys=True, default=str, allow_nan=False)
        return self.write_text(name, text + "\n", "json")

    def write_yaml(self, name: str, document: Mapping[str, Any]) -> Artifact:
        return self.write_text(name, yaml.safe_dump(dict(document), sort_keys=False), "yaml")

    def write_table(self, name: str, columns: Mapping[str, Any]) -> Artifact:
        """Write columns (arrays or lists of one length) as Parquet."""
        table = pa.table({key: _arrow(values) for key, values in columns.items()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return self._write(name, sink.getvalue().to_pybytes(), "parquet", table.num_rows)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> Artifact:
        """Write named arrays as an uncompressed .npz: equal arrays, equal bytes."""
        sink = BytesIO()
        np.savez(sink, allow_pickle=False, **arrays)
        rows = max((len(array) for array in arrays.values()), default=0)
        return self._write(name, sink.getvalue(), "npz", rows)

    def write_measures(self, name: str, table: "pa.Table", session_rows: int) -> Artifact:
        """Write columns of numbers, and the texts that they are about, as small Parquet.

        `session_rows` rows belong to one session: a group of rows is a year of them.
        """
        numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=max(1, SESSIONS_PER_GROUP * session_rows),
            compression="zstd",
            use_dictionary=[name for name in table.column_names if name not in numbers],
            use_byte_stream_split=numbers,
        )
        return self._write(name, sink.getvalue().to_pybytes(), "parquet", table.num_rows)

    def read_arrays(self, name: str, sha256: str) -> dict[str, np.ndarray]:
        """Return the arrays of a .npz file, which must be the one with this hash."""
        path = self.path / name
        try:
            content = path.read_bytes()
        except OSError as unreadable:
            raise StoreError(f"{path}: cannot be read: {unreadable}") from unreadable
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(f"{path}: is not the file that was recorded; make it again")
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Return the columns of a Parquet file of this run."""
        path = self._existing(name)
        table = pq.read_table(path)
        return {
            column: table[column].to_numpy(zero_copy_only=False) for column in table.column_names
        }

    def read_json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._existing(name).read_text(encoding="utf-8"))
        return content

    def hash_of(self, name: str) -> str | None:
        """Return the SHA-256 of a file of this run as it is now; None if it is not there."""
        try:
            return hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None
        except OSError as unreadable:
            raise StoreError(f"{self.path / name}: cannot be read: {unreadable}") from unreadable

    def point_latest_here(self) -> None:
        """Make `latest` beside this folder lead to it; without symbolic links there is none."""
        link = self.path.parent / "latest"
        staged = self.path.parent / f".latest-{os.getpid()}"
        try:
            staged.symlink_to(self.path.name, target_is_directory=True)
            staged.replace(link)
        except OSError as refused:
            staged.unlink(missing_ok=True)
            raise StoreError(f"{link}: cannot be made: {refused}") from refused

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise StoreError(f"{path}: missing; run the backtest again with --force")
        return path

    def _write(self, name: str, content: bytes, kind: str, rows: int | None) -> Artifact:
        target = self.path / name
        staged = target.with_name(f".{name}-{os.getpid()}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(target)
        except OSError as refused:
            raise StoreError(f"{target}: cannot be written: {refused}") from refused
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(name, str(target), digest, len(content), rows, kind)
        self.written[name] = artifact
        return artifact


def _arrow(values: Any) -> "pa.Array":
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return pa.array(values)
    return pa.array(values.tolist() if isinstance(values, np.ndarray) else list(values))
