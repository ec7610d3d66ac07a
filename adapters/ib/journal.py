"""The journal of intents: what is to be sent is on the disk before it is on the wire.

Rules of the journal:

- One line a record: checksum, blank, JSON. On return of `write` the line is on the disk.
- An order's reference is written as an intent once; a second time is refused, in any process.
- A torn last line, which a crash leaves, is cut off; damage anywhere else is an error.
- One process holds the file for as long as it lives.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from prometheus_nt.domain.errors import ConfigError, StoreError, TradingHalted, VenueError

LONGEST_REFERENCE = 36
"""Characters of a Nautilus client order id, which an order reference becomes."""


def order_reference(plan: str, symbol: str, leg: int = 0, attempt: int = 0) -> str:
    """Return the reference of an order of a plan: the same for the same order, always.

    A reference that would be longer than `LONGEST_REFERENCE` has its plan replaced by a digest.
    """
    tail = f"-{symbol}-{leg}-{attempt}"
    if len(plan) + len(tail) <= LONGEST_REFERENCE:
        return plan + tail
    kept = hashlib.sha256(plan.encode()).hexdigest()[: LONGEST_REFERENCE - len(tail)]
    if len(kept) < 8:
        raise ConfigError(f"order reference of {symbol!r}: the symbol is too long, at most 20")
    return kept + tail


@dataclass(frozen=True)
class Intent:
    """An order that shall be sent.

    Attributes
    ----------
    ref : str
        Its reference, unique for ever.
    plan : str
        What it is part of; empty if it is part of nothing.
    instrument : str
        Id of the instrument inside.
    contract : int
        The broker's number of the instrument.
    side : int
        1 buys, -1 sells.
    kind, tif : str
        Order type and time in force in the broker's words.
    limit, stop : float or None
    order_id : int
        The client's number of it: valid for one client id, and not for ever.
    day : str
        The broker's day on which it was written: its lists forget the days before.
    written_ns : int
        Wall clock.
    strategy : str
        Who wants it.
    priority : str or None
        Of the Adaptive algorithm.
    """

    ref: str
    plan: str
    instrument: str
    contract: int
    side: int
    quantity: int
    kind: str
    tif: str
    limit: float | None
    stop: float | None
    account: str
    client_id: int
    order_id: int
    day: str
    written_ns: int
    strategy: str = ""
    priority: str | None = None


def journalled(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal that another process may be writing, oldest first.

    Raises
    ------
    StoreError
        If a line before the last is damaged.
    """
    return _whole_lines(path)[0] if path.exists() else []


class Journal:
    """Every intent of one account and client id, and what became of it.

    Parameters
    ----------
    path : Path
    account : str
    client_id : int

    Raises
    ------
    ConfigError
        If the file belongs to another account or client id.
    StoreError
        If another process holds it, or a line before the last is damaged.
    TradingHalted
        If it cannot be opened.
    """

    def __init__(self, path: Path, account: str, client_id: int) -> None:
        self.path = path
        self._file = _held(path)
        try:
            records, end = _whole_lines(path)
            os.ftruncate(self._file, end)
            self._end = end
            self._recall(records, {"kind": "identity", "account": account, "client_id": client_id})
        except BaseException:
            os.close(self._file)
            raise

    def _recall(self, records: list[dict[str, Any]], identity: dict[str, Any]) -> None:
        self._records = records
        self.intents: dict[str, Intent] = {}
        if not records:
            self.write(**identity)
        elif records[0] != identity:
            raise ConfigError(
                f"{self.path}: written for {records[0]}, not for {identity}; choose another folder"
            )
        for record in records:
            if record["kind"] == "intent":
                self.intents[record["ref"]] = Intent(**record["order"])

    def records(self, ref: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield what was written of an order, or of all, oldest first."""
        return (item for item in self._records if ref is None or item.get("ref") == ref)

    def intend(self, *intents: Intent) -> None:
        """Write intents; on return they are on the disk, all of them.

        Raises
        ------
        VenueError
            If a reference was written before: that order is never sent again.
        """
        for at, intent in enumerate(intents):
            self.require_new(intent.ref, intents[:at])
        self._append(*({"kind": "intent", "ref": i.ref, "order": asdict(i)} for i in intents))
        self.intents.update({intent.ref: intent for intent in intents})

    def require_new(self, ref: str, others: Sequence[Intent] = ()) -> None:
        """Raise VenueError if an order of this reference was written, or is among `others`."""
        if ref in self.intents or any(other.ref == ref for other in others):
            raise VenueError(
                f"order {ref}: was written before; it is looked up at the broker, never resent"
            )

    def note(self, kind: str, **fact: Any) -> None:
        """Write what the broker's lists would say again; a power cut may lose it, a kill may not.

        Raises
        ------
        TradingHalted
            If it cannot be written.
        """
        self._append({"kind": kind, **fact}, durable=False)

    def write(self, kind: str, **fact: Any) -> None:
        """Write what became of an order.

        Raises
        ------
        TradingHalted
            If it cannot be written: what is not recorded must not happen.
        """
        self._append({"kind": kind, **fact})

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)

    def _append(self, *records: dict[str, Any], durable: bool = True) -> None:
        data = b"".join(map(_line, records))
        try:
            at = self._end
            while data:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
            if durable:
                os.fsync(self._file)
        except OSError as refused:
            raise _halted(self.path, refused) from refused
        self._end = at
        self._records += records


def _line(record: dict[str, Any]) -> bytes:
    content = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(content), content)


def _held(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        _sync_folder(path.parent)
    except OSError as refused:
        raise _halted(path, refused) from refused
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as held:
        os.close(file)
        raise StoreError(
            f"{path}: another process trades this account with this client id; stop it first"
        ) from held
    return file


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file survive a power cut as well."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a file and the byte where the last whole one ends."""
    content = path.read_bytes()
    records: list[dict[str, Any]] = []
    end, torn = 0, False
    for line in content.splitlines(keepends=True):
        record = _read(line)
        if record is None:
            torn = True
            continue
        if torn:
            raise StoreError(f"{path}: damaged at byte {end}; restore a copy of the file")
        records.append(record)
        end += len(line)
    return records, end


def _read(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, None if the line is not whole."""
    mark, _, content = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or mark != b"%08x" % crc32(content):
        return None
    record: dict[str, Any] = json.loads(content)
    return record


def _halted(path: Path, refused: OSError) -> TradingHalted:
    return TradingHalted(
        f"{path}: cannot be written ({refused}), so no order may be sent; make room or mend the "
        "permissions, then start again"
    )
