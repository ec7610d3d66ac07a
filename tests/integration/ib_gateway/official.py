"""The official client's decoder as an oracle: it must consume every message to its last field."""

import inspect
import logging
from collections.abc import Iterator
from typing import Any

from ibapi.decoder import Decoder
from ibapi.wrapper import EWrapper

logging.getLogger("ibapi").setLevel(logging.CRITICAL)


class Recorder(EWrapper):  # type: ignore[misc]
    """Writes down every callback as its name and its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []


def _recording(name: str) -> Any:
    def callback(self: Recorder, *args: Any) -> None:
        self.calls.append((name, args))

    return callback


for _name, _ in inspect.getmembers(EWrapper, inspect.isfunction):
    if not _name.startswith("_"):
        setattr(Recorder, _name, _recording(_name))


class _Counted(Iterator[bytes]):
    def __init__(self, fields: list[bytes]) -> None:
        self._fields = iter(fields)

    def __next__(self) -> bytes:
        return next(self._fields)

    def left(self) -> list[bytes]:
        return list(self._fields)


def consume(payload: bytes, version: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the callbacks of a payload; AssertionError if a field is left over or missing."""
    recorder = Recorder()
    decoder = Decoder(recorder, version)
    fields = payload.split(b"\0")[:-1]
    handle = decoder.msgId2handleInfo[int(fields[0])]
    if handle.processMeth is not None:
        counted = _Counted(fields)
        handle.processMeth(decoder, counted)
        assert counted.left() == [], f"{fields[0]!r}: fields left over"
    else:
        # Such messages are number, version and one field for each parameter but `self`.
        assert len(fields) - 2 == len(handle.wrapperParams) - 1, fields
        decoder.interpret(tuple(fields))
    return recorder.calls
