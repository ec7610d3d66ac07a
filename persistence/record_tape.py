"""Records of one engine over many sessions in one file, read back without copying.

A file is a magic word, the arrays of every record one after the other, and an index: a document
per session that says which record it was, with a place in the file for each array. The length of
the index and the magic word again come last, so that a file that was cut is known as such.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

import numpy as np

from prometheus_nt.domain import books, market, profiles
from prometheus_nt.domain.errors import InsufficientHistory, StoreError
from prometheus_nt.domain.record import Record

MAGIC = b"PNTTAPE1"
ALIGNMENT = 64

Heard = Record | InsufficientHistory | None
"""What a stage made of a session: a record, too little history for one, or nothing at all."""

_TYPES = {
    name: found
    for module in (books, market, profiles)
    for name, found in vars(module).items()
    if isinstance(found, type) and found.__module__ == module.__name__
}


class RecordTape:
    """The records of one stage, one a session; their arrays are views of the mapped file.

    The file stays mapped, and open, as long as somebody holds the tape or one of those arrays.

    Raises
    ------
    StoreError
        If the file is not a whole tape.
    """

    def __init__(self, path: Path, instruments: tuple[str, ...]) -> None:
        self._instruments = instruments
        try:
            with path.open("rb") as file:
                self._buffer = mmap(file.fileno(), 0, access=ACCESS_READ)
        except (OSError, ValueError) as unreadable:
            raise StoreError(f"{path}: cannot be read: {unreadable}") from unreadable
        ending = self._buffer[-16:]
        length = int.from_bytes(ending[:8], "little")
        if ending[8:] != MAGIC or self._buffer[:8] != MAGIC or length > len(self._buffer):
            raise StoreError(f"{path}: is not a whole tape of records")
        index = self._buffer[-16 - length : -16]
        self._documents: Sequence[str] = json.loads(index)

    def __len__(self) -> int:
        return len(self._documents)

    def has(self, position: int) -> bool:
        """Return whether the session of this number, from 0, has a record."""
        return self._documents[position].startswith('{"record"')

    def at(self, position: int) -> Heard:
        """Return what was made of a session."""
        document = json.loads(self._documents[position])
        if isinstance(document, dict) and "shortage" in document:
            as_of, needed, available = document["shortage"]
            return InsufficientHistory(date.fromisoformat(as_of), needed, available)
        record: Heard = self._read(document)
        return record

    def _read(self, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        # A value that JSON does not know is a mapping of one word, which says how to read it.
        ((word, content),) = document.items()
        return _READERS[word](self, content)

    def _record(self, found: Any) -> Any:
        name, parts = found
        return _TYPES[name](**{part: self._read(value) for part, value in parts.items()})

    def _array(self, found: Any) -> np.ndarray:
        offset, dtype, shape = found
        return np.ndarray(shape, np.dtype(dtype), self._buffer, offset)


# Of no tape in particular: a tape that held its own readers would stay mapped after its last use.
_READERS: dict[str, Callable[[RecordTape, Any], Any]] = {
    "record": RecordTape._record,
    "array": RecordTape._array,
    "scalar": lambda tape, found: tape._array([*found, [1]])[0],
    "instruments": lambda tape, _: tape._instruments,
    "tuple": lambda tape, values: tuple(map(tape._read, values)),
    "named": lambda tape, found: _TYPES[found[0]](*map(tape._read, found[1])),
    "mapping": lambda tape, pairs: {key: tape._read(value) for key, value in pairs},
    "choice": lambda _, found: _TYPES[found[0]](found[1]),
    "date": lambda _, found: date.fromisoformat(found),
}


def write_tape(file: IO[bytes], records: Iterable[Heard], instruments: tuple[str, ...]) -> None:
    """Write what a stage made of consecutive sessions.

    Raises
    ------
    TypeError
        If a record holds something that cannot be read back.
    """
    writer = _Writer(file, instruments)
    file.write(MAGIC)
    documents = [json.dumps(writer.written(record)) for record in records]
    index = json.dumps(documents).encode()
    file.write(index)
    file.write(len(index).to_bytes(8, "little") + MAGIC)


class _Writer:
    """Writes the arrays of values to a file, and turns the rest into what JSON knows."""

    def __init__(self, file: IO[bytes], instruments: tuple[str, ...]) -> None:
        self._file, self._instruments = file, instruments
        # In this order: a choice may be a number too, and a number of numpy's a float.
        self._kinds: tuple[tuple[type, Callable[[Any], Any]], ...] = (
            (np.ndarray, self._array),
            (np.generic, lambda one: {"scalar": self._placed(np.asarray(one))[:2]}),
            (Enum, lambda one: {"choice": [type(one).__name__, one.value]}),
            (date, lambda one: {"date": one.isoformat()}),
            (tuple, self._tuple),
            (dict, lambda one: {"mapping": [[key, self.written(of)] for key, of in one.items()]}),
            (InsufficientHistory, _shortage),
        )

    def written(self, value: Any) -> Any:
        for kind, write in self._kinds:
            if isinstance(value, kind):
                return write(value)
        if is_dataclass(value):
            parts = {one.name: self.written(getattr(value, one.name)) for one in fields(value)}
            return {"record": [type(value).__name__, parts]}
        if value is None or isinstance(value, str | int | float):
            return value
        raise TypeError(f"a {type(value).__name__} has no place on a tape of records")

    def _array(self, array: np.ndarray) -> dict[str, Any]:
        return {"array": self._placed(array)}

    def _tuple(self, value: tuple[Any, ...]) -> dict[str, Any]:
        if value is self._instruments or value == self._instruments:
            return {"instruments": True}
        parts = [self.written(of) for of in value]
        # A named tuple is read back by its name.
        return (
            {"tuple": parts} if type(value) is tuple else {"named": [type(value).__name__, parts]}
        )

    def _placed(self, array: np.ndarray) -> list[Any]:
        """Write an array; return where it is, its type and its shape."""
        if array.dtype.hasobject:
            raise TypeError("an array of objects has no place on a tape of records")
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        offset = self._file.tell()
        self._file.write(np.ascontiguousarray(array).tobytes())
        return [offset, array.dtype.str, list(array.shape)]


def _shortage(found: InsufficientHistory) -> dict[str, Any]:
    return {"shortage": [found.as_of.isoformat(), found.needed, found.available]}
