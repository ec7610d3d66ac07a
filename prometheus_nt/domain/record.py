"""Records: frozen facts about one session, and the settings that tune an engine."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SessionArray = npt.NDArray[np.datetime64]


@runtime_checkable
class Record(Protocol):
    """A fact that used nothing newer than the close of session `as_of`."""

    @property
    def as_of(self) -> date: ...


class Params(BaseModel):
    """Settings of one engine: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """Return the content hash of the settings."""
        return content_hash([type(self).__name__, self.model_dump_json()])


@dataclass(frozen=True)
class Lineage:
    """What a record was made from, so that any decision can be traced to what it saw."""

    engine: str
    params_hash: str
    input_hashes: tuple[str, ...]


def content_hash(parts: Iterable[object]) -> str:
    """Return a 16-digit hash of plain values, arrays and records, stable across processes."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        _absorb(state, part)
    return state.hexdigest()


def record_hash(record: Record) -> str:
    """Return the content hash of a record: equal records, equal hashes."""
    fingerprint = getattr(record, "fingerprint", None)
    if isinstance(fingerprint, str):
        return content_hash([fingerprint, record.as_of])
    return content_hash([record])


def _absorb(state: "hashlib.blake2b", part: object) -> None:
    match part:
        case np.ndarray() if not part.dtype.hasobject:
            state.update(f"{part.dtype}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        case dict():
            state.update(b"mapping")
            _absorb_all(state, [item for key in sorted(part) for item in (key, part[key])])
        case tuple() | list():
            _absorb_all(state, part)
        case None | str() | bytes() | int() | float() | date() | Decimal() | Enum() | np.generic():
            state.update(repr(part).encode() + b"\x1f")
        case _ if is_dataclass(part):
            state.update(type(part).__name__.encode())
            names = [field.name for field in fields(part) if not field.name.startswith("_")]
            _absorb_all(state, [getattr(part, name) for name in names])
        case _:
            # The repr of anything else may hold an address, or an order that chance decides.
            raise TypeError(f"a {type(part).__name__} has no content hash")


def _absorb_all(state: "hashlib.blake2b", parts: Sequence[object]) -> None:
    state.update(f"[{len(parts)}]".encode())
    for part in parts:
        _absorb(state, part)
